"""The Serve objects as the cluster has them now: which routes are followed, and the plan that comes of them.

A route is followed when the System sealed it for exactly this Service, it has not expired, and what it says can be understood; what is wrong with
any other is told. One object made by hand hides nothing else. Use it from the event loop's thread only.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import msgspec

from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.ids import SessionId
from codezero.model.problems import CodezeroError
from codezero.model.serve import Serve, Variant, condition_parts, precedence
from codezero.model.services import Protocol, ServicePort, ServiceRef, is_label
from codezero.model.variants import Serving, ServingState, VariantState, VariantView
from codezero.routing.compile import ServedPort, compile_plan, ports_with_conditions
from codezero.routing.plan import Address, RoutePlan
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, texts
from codezero.system.kubernetes.objects import ServeResource
from codezero.system.serving import naming
from codezero.wire.serve_resource import (
    API_VERSION,
    FINALIZER,
    PLURAL,
    Route,
    RouteStatus,
    ServeStatus,
    is_sealed,
    is_selector_sealed,
)

COALESCE_SECONDS: Final = 0.02
MOST_TRIES: Final = 12
LEAST_KEY: Final = 32
_log = get_logger("serves")


@dataclass(frozen=True, slots=True)
class ServedRoute:
    """One entry of `spec.routes`: the route and its variant where they are followed, else the problem. `name` is its id, or its place."""

    name: str
    route: Route | None
    variant: Variant | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ServeObject:
    """A Serve object, read. `routes` are all its entries; `followed` only those that count now (expiry aside).

    `service_uid` is the uid of the living Service, `owner_uid` that of the Service for which the object was made.
    """

    ref: ServiceRef
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    service_uid: str | None
    owner_uid: str | None
    routes: tuple[ServedRoute, ...]
    status: ServeStatus
    # The routes that are sealed and valid, in order of precedence; also expired ones.
    followed: tuple[tuple[Route, Variant], ...] = field(init=False)
    _statuses: Mapping[str, RouteStatus] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = [(one.route, one.variant) for one in self.routes if one.route is not None and one.variant is not None]
        # Once for each version of the object: connections ask for it.
        object.__setattr__(self, "followed", tuple(sorted(found, key=lambda pair: precedence(pair[1]))))
        object.__setattr__(self, "_statuses", {one.id: one for one in self.status.routes})

    @property
    def is_held(self) -> bool:
        """Whether it stays until we let go of it."""
        return FINALIZER in self.finalizers

    def route_status(self, route_id: str) -> RouteStatus:
        """How a route is."""
        return self._statuses.get(route_id) or RouteStatus(route_id)


def read_key(content: bytes | None) -> bytes | None:
    """The key of seals that a file holds, at least 32 bytes in hexadecimal digits; None where it does not."""
    try:
        key = bytes.fromhex((content or b"").decode("ascii").strip())
    except ValueError:
        return None
    return key if len(key) >= LEAST_KEY else None


def path_of(ref: ServiceRef) -> str:
    """Where the Serve object of a service is in the API."""
    return f"/apis/{API_VERSION}/namespaces/{ref.namespace}/{PLURAL}/{ref.name}"


def read_serve(resource: ServeResource, *, service_uid: str | None, key: bytes | None) -> ServeObject:
    """The object that `resource` is, its routes judged by the uid of the living Service and the System's seal key."""
    metadata = resource.metadata
    ref = ServiceRef(metadata.namespace, metadata.name)
    owner_uid = next((one.uid for one in metadata.owner_references or () if one.kind == "Service"), None)
    return ServeObject(
        ref,
        metadata.uid,
        metadata.resource_version,
        metadata.generation,
        metadata.deletion_timestamp is not None,
        metadata.finalizers or (),
        metadata.annotations or {},
        service_uid,
        owner_uid,
        _read_routes(resource.spec, ref, service_uid=service_uid, key=key),
        _trusted(read_status(resource.status), service_uid=owner_uid or service_uid or "", key=key),
    )


def _trusted(status: ServeStatus, *, service_uid: str, key: bytes | None) -> ServeStatus:
    """`status` without a record that is not the System's; before there is a key nobody acts on one."""
    selector = texts(as_object(status.original).get("selector"))
    if key is None or is_selector_sealed(status, selector, service_uid=service_uid, key=key):
        return status
    return msgspec.structs.replace(status, original=None, origin_selector=None, selector_seal="")


def read_status(content: object) -> ServeStatus:
    """The status that `content` is. What is not understood is left out and the rest kept: the original selector must survive."""
    document = as_object(content)
    try:
        return msgspec.convert(document, ServeStatus)
    except msgspec.ValidationError:
        return msgspec.convert({name: value for name, value in document.items() if _fits(name, value)}, ServeStatus)


def _fits(name: str, value: object) -> bool:
    try:
        msgspec.convert({name: value}, ServeStatus)
    except msgspec.ValidationError:
        return False
    return True


def _read_routes(
    content: object, ref: ServiceRef, *, service_uid: str | None, key: bytes | None
) -> tuple[ServedRoute, ...]:
    spec = as_object(content)
    seen: set[str] = set()
    found: list[ServedRoute] = []
    for number, entry in enumerate(as_list(spec.get("routes"))):
        one = _read_route(entry, f"route {number}", ref, service_uid=service_uid, key=key)
        if one.route is not None and one.name in seen:
            one = ServedRoute(one.name, None, None, f"{problems.FORGED.code}: its id is there twice")
        seen.add(one.name)
        found.append(one)
    if spec.get("service") != ref.name:
        reason = f"{problems.BAD_SERVE.code}: spec.service has to be {ref.name}, the object's own name"
        return tuple(ServedRoute(one.name, None, None, one.problem or reason) for one in found)
    return tuple(found)


def _read_route(
    content: object, name: str, ref: ServiceRef, *, service_uid: str | None, key: bytes | None
) -> ServedRoute:
    # No longer than an id, by which statuses are told apart.
    name = as_text(as_object(content).get("id"))[:26] or name
    try:
        route = msgspec.convert(content, Route)
    except msgspec.ValidationError as error:
        return ServedRoute(name, None, None, f"{problems.BAD_SERVE.code}: {error}"[:500])
    if key is None or service_uid is None or not is_sealed(route, service_uid=service_uid, key=key):
        return ServedRoute(name, None, None, f"{problems.FORGED.code}: the System did not make it for this Service")
    try:
        return ServedRoute(name, route, route.variant(ref))
    except CodezeroError as error:
        return ServedRoute(name, None, None, str(error)[:500])


class Serves:
    """The live set of Serve objects. `changed` is for a reflector of `objects.SERVES`; everything else is for those who ask."""

    def __init__(
        self,
        inventory: Inventory,
        api: ApiClient | None = None,
        *,
        clock: Callable[[], float] = time.time,
        coalesce: float = COALESCE_SECONDS,
    ) -> None:
        """Without an `api` nothing can be written."""
        self._inventory = inventory
        self._api = api
        self._clock = clock
        self._coalesce = coalesce
        self._key: bytes | None = None
        self._resources: dict[ServiceRef, ServeResource] = {}
        self._objects: dict[ServiceRef, ServeObject] = {}
        self._by_hash: dict[tuple[str, str], ServiceRef] = {}
        # By what connections and tunnels ask for, so that none of them costs a look at all that is served.
        self._variants: dict[str, tuple[ServiceRef, Route]] = {}
        self._sessions: dict[str, set[ServiceRef]] = {}
        self._subscriptions: set[Subscription] = set()
        self._subscriptions_of: dict[ServiceRef, set[Subscription]] = {}
        inventory.attach(self)

    @property
    def key(self) -> bytes | None:
        """The key of seals."""
        return self._key

    def set_key(self, key: bytes | None) -> None:
        """Judge seals by this key; without one no route is followed."""
        if key != self._key:
            self._key = key
            for ref in tuple(self._resources):
                self._judge(ref)

    # --- what others tell -----------------------------------------------------------------------------------------------------------------

    def changed(self, old: ServeResource | None, new: ServeResource | None) -> None:
        """A Serve object came, changed or went."""
        resource = new or old
        if resource is None or not is_label(resource.metadata.namespace) or not is_label(resource.metadata.name):
            return
        ref = ServiceRef(resource.metadata.namespace, resource.metadata.name)
        if new is None:
            self._resources.pop(ref, None)
            self._by_hash.pop((ref.namespace, naming.hash_of(ref)), None)
        else:
            self._resources[ref] = new
            self._by_hash[ref.namespace, naming.hash_of(ref)] = ref
        self._judge(ref)

    def touched(self, ref: ServiceRef) -> None:
        """A Service, or what is behind it, changed: perhaps that of a Serve object, or one of ours."""
        served = self.served_by(ref)
        found = None if served is None else self._objects.get(served)
        if found is None:
            return
        if found.service_uid != self._inventory.uid_of(found.ref):
            self._judge(found.ref)
            return
        self._tell(found.ref)

    def served_by(self, ref: ServiceRef) -> ServiceRef | None:
        """The served service that `ref` is, or that the origin or Router Service `ref` belongs to."""
        for prefix in (naming.ORIGIN_PREFIX, naming.ROUTER_PREFIX):
            if ref.name.startswith(prefix):
                return self._by_hash.get((ref.namespace, ref.name.removeprefix(prefix)))
        return ref if ref in self._resources else None

    # --- what others ask ------------------------------------------------------------------------------------------------------------------

    def get(self, ref: ServiceRef) -> ServeObject | None:
        """The Serve object of a service."""
        return self._objects.get(ref)

    def refs(self) -> tuple[ServiceRef, ...]:
        """All services that have a Serve object, sorted."""
        return tuple(sorted(self._objects))

    def variant(self, variant_id: str) -> tuple[ServiceRef, Route, RouteStatus] | None:
        """The route of that id (a ULID in upper case), if it is sealed, valid, not expired, and its Service there."""
        ref, route = self._variants.get(variant_id, (None, None))
        found = None if ref is None else self._objects.get(ref)
        if found is None or route is None or found.deleting or route.expires <= self._clock():
            return None
        return found.ref, route, found.route_status(variant_id)

    def routes_of_session(self, session: SessionId) -> tuple[tuple[ServiceRef, Route, RouteStatus], ...]:
        """The routes that lead to a laptop's session."""
        return tuple(
            (found.ref, route, found.route_status(route.id))
            for found in (self._objects[ref] for ref in self._sessions.get(session, ()))
            for route, _ in found.followed
            if route.session == session
        )

    def by_router(self, namespace: str, account_name: str) -> ServiceRef | None:
        """The service whose Router has that ServiceAccount."""
        if not account_name.startswith(naming.ROUTER_PREFIX):
            return None
        return self._by_hash.get((namespace, account_name.removeprefix(naming.ROUTER_PREFIX)))

    def plan(self, ref: ServiceRef) -> tuple[int, RoutePlan] | None:
        """The revision (generation of the Serve object) and the plan for Routers; None before there is an origin to fall back to."""
        found = self._objects.get(ref)
        address = self._inventory.cluster_address(naming.origin_of(ref))
        if found is None or found.status.original is None or address is None:
            return None
        now = self._clock()
        variants = () if found.deleting else tuple(one for route, one in found.followed if route.expires > now)
        holders = {
            one.id: address_of for one in found.status.routes if (address_of := _parse_address(one.holder)) is not None
        }
        looked_into = {*found.status.looked_into, *ports_with_conditions(variants)}
        ports = served_ports(found.status.original, found.status.targets, looked_into)
        return found.generation, compile_plan(Serve(ref, variants), origin=address, ports=ports, holders=holders)

    def serving(self, ref: ServiceRef) -> Serving | None:
        """How a service fares, for the catalog."""
        found = self._objects.get(ref)
        if found is None:
            return None
        status = found.status
        now = self._clock()
        variants = tuple(
            view_of(route, variant, found.route_status(route.id))
            for route, variant in found.followed
            if route.expires > now and not found.deleting
        )
        if not variants and status.original is None:
            refused = next((one.problem for one in found.routes if one.problem), "")
            return Serving(ServingState.REFUSED, (), refused) if refused else None
        state = ServingState.PREPARING
        if status.state in set(ServingState):
            state = ServingState(status.state)
        if state is ServingState.CONTESTED and found.generation > status.observed_generation:
            # Somebody serves again, which is tried again; what was said before is about another time.
            return Serving(ServingState.PREPARING, variants, "being tried again")
        return Serving(ServingState.RESTORING if found.deleting else state, variants, status.message)

    @property
    def is_known(self) -> bool:
        """Whether all Serve objects were seen once."""
        return self._inventory.serves_synced

    def orphans(self) -> frozenset[ServiceRef]:
        """Services for which something of ours is left although they have no Serve object. Looks at all of a namespace that has such things."""
        lost: dict[str, set[str]] = {}
        for ours in self._inventory.ours():
            short = ours.name.removeprefix(naming.ORIGIN_PREFIX).removeprefix(naming.ROUTER_PREFIX)
            if short != ours.name and self.served_by(ours) is None:
                lost.setdefault(ours.namespace, set()).add(short)
        return frozenset(
            one
            for namespace, hashes in lost.items()
            for one in self._inventory.refs_of(namespace)
            if naming.hash_of(one) in hashes
        )

    @contextmanager
    def subscribe(self, only: ServiceRef | None = None) -> Generator["Subscription", None, None]:
        """Changes of Serve objects, of their Services and of what we made for them, from now on, for as long as the block lasts.

        `only` one service's where it is given: a Router is not woken by all others.
        """
        subscription = Subscription(self._coalesce)
        those = self._subscriptions if only is None else self._subscriptions_of.setdefault(only, set())
        those.add(subscription)
        try:
            yield subscription
        finally:
            those.discard(subscription)
            if only is not None and not those and self._subscriptions_of.get(only) is those:
                del self._subscriptions_of[only]

    # --- what is written ------------------------------------------------------------------------------------------------------------------

    async def update_status(self, ref: ServiceRef, change: Callable[[ServeStatus], ServeStatus]) -> ServeStatus | None:
        """Change the status of a service's Serve object; the status afterwards, None when there is no object any more.

        `change` may be called again, on a newer status, when somebody else wrote in between; what it leaves as it is costs no write. Raises
        `ApiError`.
        """
        if self._api is None:
            raise RuntimeError("these Serve objects can only be read")
        path = path_of(ref)
        for attempt in range(MOST_TRIES):
            try:
                content: Json = msgspec.json.decode(await self._api.get(path, {}))
                before = read_status(content.get("status"))
                after = change(before)
                if after == before:
                    return after
                content["status"] = msgspec.to_builtins(after)
                await self._api.replace(f"{path}/status", content)
            except ApiError as error:
                if error.is_missing:
                    return None
                if error.status != 409 or attempt == MOST_TRIES - 1:
                    raise
                await asyncio.sleep(random.uniform(0.0, 0.02 * 2 ** min(attempt, 5)))  # noqa: S311 - spreads writers
            else:
                return after
        return None

    async def routers_applied(self, ref: ServiceRef, revision: int) -> None:
        """All Routers of the service that are known have applied that revision of its plan."""
        found = self._objects.get(ref)
        known = () if found is None or found.generation > revision else tuple(route.id for route, _ in found.followed)

        def change(status: ServeStatus) -> ServeStatus:
            config = msgspec.structs.replace(
                status.router_config, revision=max(revision, status.router_config.revision)
            )
            routes = with_routes(status.routes, known, lambda one: msgspec.structs.replace(one, applied=True))
            return msgspec.structs.replace(status, router_config=config, routes=routes)

        await self.update_status(ref, change)

    # --- inside ---------------------------------------------------------------------------------------------------------------------------

    def _judge(self, ref: ServiceRef) -> None:
        before = self._objects.pop(ref, None)
        for route, _ in before.followed if before is not None else ():
            if self._variants.get(route.id, (None, None))[0] == ref:
                del self._variants[route.id]
            there = self._sessions.get(route.session, set())
            there.discard(ref)
            if not there:
                self._sessions.pop(route.session, None)
        resource = self._resources.get(ref)
        if resource is not None:
            found = read_serve(resource, service_uid=self._inventory.uid_of(ref), key=self._key)
            self._objects[ref] = found
            for route, _ in found.followed:
                self._variants[route.id] = ref, route
                self._sessions.setdefault(route.session, set()).add(ref)
        self._inventory.serving_changed(ref)
        self._tell(ref)

    def _tell(self, ref: ServiceRef) -> None:
        for subscription in (*self._subscriptions, *self._subscriptions_of.get(ref, ())):
            subscription.mark(ref)


class Subscription:
    """The services whose serving changed since they were last asked for; made by `Serves.subscribe`."""

    def __init__(self, coalesce: float) -> None:
        self._coalesce = coalesce
        self._refs: set[ServiceRef] = set()
        self._changed = asyncio.Event()

    async def next(self) -> frozenset[ServiceRef]:
        """Wait for a change and a moment longer for more; the services that changed, each told once."""
        await self._changed.wait()
        await asyncio.sleep(self._coalesce)
        self._changed.clear()
        refs, self._refs = frozenset(self._refs), set()
        return refs

    def mark(self, ref: ServiceRef) -> None:
        """Note that this service changed."""
        self._refs.add(ref)
        self._changed.set()


def view_of(route: Route, variant: Variant, status: RouteStatus) -> VariantView:
    """A route as others see it."""
    state = VariantState.PENDING
    if not status.holder:
        state = VariantState.AWAY if status.away_since is not None else VariantState.PENDING
    elif status.applied:
        state = VariantState.ACTIVE
    return VariantView(
        route.id,
        route.user,
        route.user_name,
        route.device,
        SessionId(route.session),
        condition_parts(variant.condition),
        variant.ports,
        route.since,
        route.expires,
        state,
        route.mirror,
    )


def with_routes(
    routes: tuple[RouteStatus, ...], ids: Sequence[str], change: Callable[[RouteStatus], RouteStatus]
) -> tuple[RouteStatus, ...]:
    """`routes` with those of `ids` changed; those that are missing are made first."""
    known = {one.id: one for one in routes}
    for route_id in ids:
        known[route_id] = change(known.get(route_id, RouteStatus(route_id)))
    return tuple(known.values())


def served_ports(
    original: Json, targets: Mapping[str, int] | None, looked_into: Collection[int] | None = None
) -> tuple[ServedPort, ...]:
    """The TCP ports of a Service's spec and the number behind each; `targets` says what named ones mean, else their own number does.

    `looked_into` are the ports on which requests are told apart; None: all.
    """
    found: list[ServedPort] = []
    for entry in as_list(original.get("ports")):
        port = as_object(entry)
        number = port.get("port")
        if port.get("protocol", "TCP") != "TCP" or not isinstance(number, int):
            continue
        shown = ServicePort(
            number, Protocol.TCP, as_text(port.get("name")) or None, as_text(port.get("appProtocol")) or None
        )
        found.append(ServedPort(shown, target_of(port, targets), looked_into is None or number in looked_into))
    return tuple(found)


def target_of(port: Json, targets: Mapping[str, int] | None) -> int:
    """The number on which Routers listen for an entry of a Service's `spec.ports`."""
    number: int = port["port"]
    target = port.get("targetPort")
    if isinstance(target, int) and target > 0:
        return target
    return (targets or {}).get(target, number) if isinstance(target, str) else number


def _parse_address(text: str) -> Address | None:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()):
        return None
    return Address(host, int(port))
