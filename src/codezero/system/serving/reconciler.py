"""Does the steps that `rewiring` decides, for all Serve objects at once, one task for each; only the leading System runs it.

Every decision is made on objects fetched for it, never on a mirror that may lag; mirrors only say when to look. A write that fails because somebody
wrote first is no failure: the next look decides again.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.model.services import ServiceRef
from codezero.model.variants import ServingState, VariantView
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_object, as_text, at
from codezero.system.serving import naming, observing, preflight, rewiring
from codezero.system.serving.enabled import EnabledNamespaces
from codezero.system.serving.manifests import RouterSettings, Trust
from codezero.system.serving.seen import Seen, is_back, is_lost
from codezero.system.serving.serves import Serves, path_of, view_of
from codezero.system.serving.steps import (
    ENDED,
    LOOK_AGAIN_SECONDS,
    Circumstances,
    Gone,
    Step,
    Wait,
    Write,
    without_routes,
)
from codezero.system.serving.telling import timestamp
from codezero.wire.serve_resource import API_VERSION, KIND

RESYNC_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.2
CONFLICT_SECONDS: Final = 0.01
# More writes at once than a whole serve takes mean that the API keeps no promise; then a pause.
MOST_STEPS: Final = 60

# What happens to the requests of a Service, in the words of its team.
_ENDED: Final = "ended"
_STATE_EVENTS: Final = {
    str(ServingState.ACTIVE): (
        *("Normal", "Served"),
        "requests that meet a condition go to laptops, all others to its own pods",
    ),
    str(ServingState.CONTESTED): ("Warning", "ServeContested", "all requests go to its own pods"),
    str(ServingState.REFUSED): ("Warning", "ServeRefused", "it cannot be served"),
    _ENDED: ("Normal", "ServeEnded", "it is as its team made it"),
}

Ended = Callable[[ServiceRef, VariantView, str], None]

_log = get_logger("rewiring")


class Reconciler:
    """Keeps every served Service as its Serve object wants it, while `run` runs; remembers nothing that it needs."""

    def __init__(
        self,
        api: ApiClient,
        inventory: Inventory,
        serves: Serves,
        *,
        settings: RouterSettings,
        namespace: str,
        enabled: EnabledNamespaces,
        trust: Callable[[], Trust | None],
        ended: Ended,
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`namespace` is our own, `trust` whom Routers believe; `ended` hears of variants that end without an order, with the reason.

        Only in `enabled` namespaces it has the rights to look closer, and to write; Serve objects of others stay as they are.
        Nothing is written unless this System `leads` right then: what it has seen before a long pause another may have gone on from.
        """
        self._api = api
        self._inventory = inventory
        self._serves = serves
        self._settings = settings
        self._namespace = namespace
        self._enabled = enabled
        self._trust = trust
        self._ended = ended
        self._leads = leads
        self._clock = clock
        self._wakes: dict[ServiceRef, asyncio.Event] = {}
        self._back_since: dict[ServiceRef, float] = {}
        self._followed: dict[ServiceRef, dict[str, VariantView]] = {}
        self._reasons: dict[str, str] = {}
        self._told: dict[ServiceRef, frozenset[str]] = {}
        self._states: dict[ServiceRef, str] = {}
        self._left_alone: set[ServiceRef] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while not self._knows_enough():  # noqa: ASYNC110 - three things that are told in three ways, once
            await asyncio.sleep(LOOK_SECONDS)
        async with task_group("rewiring") as tasks:
            with self._serves.subscribe() as subscription:
                tasks.start_service("look at all", self._look_at_all(tasks))
                while True:
                    for ref in await subscription.next():
                        self._wake(ref, tasks)

    async def _look_at_all(self, tasks: Tasks) -> None:
        """At first and now and then, also at what is left of objects that are gone; no event has to."""
        while True:
            for ref in {*self._serves.refs(), *self._serves.orphans()}:
                self._wake(ref, tasks)
            await asyncio.sleep(RESYNC_SECONDS)

    def _knows_enough(self) -> bool:
        return self._serves.key is not None and self._serves.is_known and self._inventory.is_synced

    def _wake(self, ref: ServiceRef, tasks: Tasks) -> None:
        if ref.namespace not in self._enabled:
            if ref not in self._left_alone:
                self._left_alone.add(ref)
                _log.warning("left alone: nothing may be served in its namespace", service=str(ref))
            return
        wake = self._wakes.get(ref)
        if wake is None:
            wake = self._wakes[ref] = asyncio.Event()
            tasks.start(str(ref), self._keep(ref, wake))
        wake.set()

    async def _keep(self, ref: ServiceRef, wake: asyncio.Event) -> None:
        backoff = Backoff(first=0.5, most=30.0)
        try:
            while True:
                wake.clear()
                try:
                    step = await self.settle(ref)
                except ApiError as error:
                    _log.warning("rewiring waits", service=str(ref), reason=str(error))
                    step = Wait("the API did not answer", self._clock() + backoff.next())
                except Exception:  # noqa: BLE001 - the edge of a task, logged
                    # Whatever somebody wrote into one object must not keep the others from being looked after.
                    _log.exception("rewiring failed", service=str(ref))
                    step = Wait("a defect", self._clock() + backoff.next())
                else:
                    backoff.reset()
                if isinstance(step, Gone) and not wake.is_set():
                    return
                await self._pause(step, wake)
        finally:
            del self._wakes[ref]

    async def _pause(self, step: Step, wake: asyncio.Event) -> None:
        until = step.until if isinstance(step, Wait) else None
        seconds = RESYNC_SECONDS if until is None else min(RESYNC_SECONDS, max(0.0, until - self._clock()))
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            pass  # time to look again

    async def settle(self, ref: ServiceRef) -> Wait | Gone:
        """Step by step as far as it goes now; what it waits for then. Raises `ApiError`."""
        for _ in range(MOST_STEPS):
            step = await self.step(ref)
            if not isinstance(step, Write):
                return step
        _log.error("rewiring does not come to an end", service=str(ref))
        return Wait("too many writes", self._clock() + 10.0)

    async def step(self, ref: ServiceRef) -> Step:
        """Look, and do the next step; what it was. Raises `ApiError`."""
        seen = await self.observe(ref)
        now = self._clock()
        self._note_ended(seen, now)
        await self._tell_problems(seen)
        step = self._decide(seen, now)
        await self._tell_state(seen, ended=isinstance(step, Gone))
        if isinstance(step, Write):
            if not self._leads():
                return Wait("another System may lead by now", now + LOOK_AGAIN_SECONDS)
            await self._try(ref, step)
        return step

    async def _try(self, ref: ServiceRef, write: Write) -> None:
        try:
            await self._do(write)
        except ApiError as error:
            if error.status in {404, 409} or (write.verb == "patch" and error.is_conflict):
                _log.debug("somebody wrote first", service=str(ref), step=write.what, reason=str(error))
                await asyncio.sleep(CONFLICT_SECONDS)
                return
            if error.status is not None and error.status < 500:
                await self._say(ref, f"the cluster refused to {write.what}: {error}"[:1000])
            raise
        _log.info("rewiring", service=str(ref), step=write.what)

    async def _say(self, ref: ServiceRef, message: str) -> None:
        await self._serves.update_status(ref, lambda status: msgspec.structs.replace(status, message=message))

    def _decide(self, seen: Seen, now: float) -> Step:
        if is_back(seen):
            self._back_since.setdefault(seen.ref, now)
        else:
            self._back_since.pop(seen.ref, None)
        serve = seen.serve
        if serve is not None and not serve.deleting and not is_lost(seen):
            ending = dict(rewiring.ending_routes(serve, now))
            if ending:
                self._reasons |= ending
                return without_routes(serve, seen.content, frozenset(ending))
        about = Circumstances(
            now=now,
            settings=self._settings,
            trust=self._trust(),
            key=self._serves.key or b"",
            back_since=self._back_since.get(seen.ref),
        )
        step = rewiring.next_step(seen, about)
        if isinstance(step, Gone):
            for memory in (self._back_since, self._followed, self._told):
                memory.pop(seen.ref, None)
        if isinstance(step, Wait) and serve is not None:
            ends = (one for one in (step.until, rewiring.next_end(serve)) if one is not None)
            return Wait(step.why, min(ends, default=None))
        return step

    # --- looking --------------------------------------------------------------------------------------------------------------------------

    async def observe(self, ref: ServiceRef) -> Seen:
        """Everything that decides about a service, as it is now. Raises `ApiError`."""
        core, apps = f"/api/v1/namespaces/{ref.namespace}", f"/apis/apps/v1/namespaces/{ref.namespace}"
        origin, router = naming.origin_of(ref).name, naming.router_of(ref).name
        content = await self._find(path_of(ref))
        service = await self._find(f"{core}/services/{ref.name}")
        serve = None if content is None else observing.serve_of(content, service, key=self._serves.key)
        endpoints = await observing.endpoints(self._api, ref.namespace, (ref.name, origin, router))
        around, guards = await observing.surroundings(self._api, ref)
        spec = observing.own_spec(ref, service, serve)
        return Seen(
            ref=ref,
            serve=serve,
            content=content or {},
            service=service,
            origin=await self._find(f"{core}/services/{origin}"),
            account=await self._find(f"{core}/serviceaccounts/{router}"),
            router=await self._find(f"{core}/services/{router}"),
            deployment=await self._find(f"{apps}/deployments/{router}"),
            budget=await self._find(f"/apis/policy/v1/namespaces/{ref.namespace}/poddisruptionbudgets/{router}"),
            guards=guards,
            own_endpoints=endpoints[ref.name],
            origin_endpoints=endpoints[origin],
            router_endpoints=endpoints[router],
            refusal=preflight.refusal(ref, spec, around, own_namespace=self._namespace),
            around=around,
        )

    async def _find(self, path: str) -> Json | None:
        return await observing.find(self._api, path)

    # --- doing ----------------------------------------------------------------------------------------------------------------------------

    async def _do(self, write: Write) -> None:
        match write.verb:
            case "create":
                await self._api.create(write.path, as_object(write.body))
            case "replace":
                body = as_object(write.body)
                after = msgspec.json.decode(await self._api.replace(write.path, body))
                if at(after, "metadata", "resourceVersion") == at(body, "metadata", "resourceVersion"):
                    # It would be written again for ever.
                    raise ApiError(
                        "the cluster does not keep what this System writes: its definition of Serve objects may be older; apply that of this release"
                    )
            case "patch":
                await self._api.patch(write.path, write.body, kind="json")
            case "merge":
                await self._api.patch(write.path, write.body, kind="merge")
            case "delete":
                await self._api.delete(write.path, uid=write.uid, resource_version=write.resource_version)

    def _note_ended(self, seen: Seen, now: float) -> None:
        """Tell about variants that are followed no more, except those that an order ended."""
        serve = seen.serve
        followed: dict[str, VariantView] = {}
        if serve is not None and not serve.deleting and not is_lost(seen):
            followed = {
                route.id: view_of(route, variant, serve.route_status(route.id))
                for route, variant in serve.followed
                if route.expires > now or route.id not in self._reasons
            }
        before = self._followed.get(seen.ref, {})
        ordered = () if serve is None else serve.annotations.get(ENDED, "").split()
        for route_id in before.keys() - followed.keys():
            reason = self._reasons.pop(route_id, None) or _reason(seen)
            if route_id not in ordered:
                self._ended(seen.ref, before[route_id], reason)
        self._followed[seen.ref] = followed

    async def _tell_problems(self, seen: Seen) -> None:
        """An Event for each route that is not followed, once; people look there first."""
        serve = seen.serve
        if serve is None:
            return
        wrong = frozenset(f"{one.name}: {one.problem}" for one in serve.routes if one.problem)
        known = self._told.get(seen.ref) or frozenset(
            f"{one.id}: {one.problem}" for one in serve.status.routes if one.problem
        )
        self._told[seen.ref] = wrong
        about = {"apiVersion": API_VERSION, "kind": KIND, "name": seen.ref.name, "uid": serve.uid}
        for message in sorted(wrong - known):
            await self._tell_event(seen.ref, about, "Warning", "RouteRefused", message)

    async def _tell_state(self, seen: Seen, *, ended: bool) -> None:
        """An Event of the Service when its requests go another way: there its team looks, and may never have heard of Serve objects."""
        serve, service = seen.serve, seen.service
        is_new = seen.ref not in self._states
        before = self._states.pop(seen.ref, "")
        state = _ENDED if ended else "" if serve is None else str(serve.status.state)
        # States between two of these are none that anybody has to know of.
        known = state if state in _STATE_EVENTS else before
        if not ended:
            self._states[seen.ref] = known
        # A System that leads from now on tells nothing that the last one may have told.
        if service is None or known == before or (is_new and known) or (ended and not before):
            return
        kind, reason, message = _STATE_EVENTS[known]
        if serve is not None and serve.status.message:
            message = serve.status.message
        about = {"apiVersion": "v1", "kind": "Service", "name": seen.ref.name}
        await self._tell_event(
            seen.ref, {**about, "uid": as_text(at(service, "metadata", "uid"))}, kind, reason, message
        )

    async def _tell_event(self, ref: ServiceRef, about: Json, kind: str, reason: str, message: str) -> None:
        event = _event({**about, "namespace": ref.namespace}, kind, reason, message, self._clock())
        try:
            await self._api.create(f"/api/v1/namespaces/{ref.namespace}/events", event)
        except ApiError as error:
            _log.warning("an event could not be written", service=str(ref), reason=str(error))


def _reason(seen: Seen) -> str:
    if is_lost(seen):
        return "its Service was deleted"
    if seen.serve is None or seen.serve.deleting:
        return "its Serve object was deleted"
    return "its route was removed"


def _event(about: Json, kind: str, reason: str, message: str, now: float) -> Json:
    moment = timestamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{about['name']}.", "namespace": about["namespace"]},
        "involvedObject": about,
        "type": kind,
        "reason": reason,
        "message": message[:1000],
        "source": {"component": "codezero-system"},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
