"""Carries out the Orchestrator's orders: writes routes into Serve objects, or says why not. Any replica may; the API server keeps them apart.

Whether a route may be is decided on the very version of the object that is then written: when somebody wrote in between, everything is decided again.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import Variant, condition_from_parts, condition_parts, conflicts, refuse_conflicts
from codezero.model.services import ServiceRef
from codezero.model.variants import VariantState, VariantView
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.serving import manifests, naming, observing, preflight
from codezero.system.serving.enabled import EnabledNamespaces
from codezero.system.serving.preflight import Surroundings
from codezero.system.serving.serves import ServeObject, Serves, path_of, view_of
from codezero.system.serving.steps import ENDED, RESTART
from codezero.system.serving.telling import timestamp
from codezero.wire.coordination import EndVariants, OrderDone, PutVariant
from codezero.wire.serve_resource import (
    API_VERSION,
    FINALIZER,
    KIND,
    PLURAL,
    Route,
    RouteCondition,
    RoutePort,
    RouteStatus,
    sealed,
)

LONGEST_SECONDS: Final = 8 * 3600.0
MOST_ROUTES: Final = 500
MOST_TRIES: Final = 12
MOST_TEXT: Final = 1000
# A Serve object remembers so many ended routes.
_REMEMBERED: Final = 50

_log = get_logger("orders")


@dataclass(frozen=True, slots=True)
class _Now:
    """A served Service as it is at this moment: its spec as its team wants it, and the Serve object, if there is one."""

    service: Json
    spec: Json
    content: Json | None
    serve: ServeObject | None
    around: Surroundings


class Orders:
    """Carries out orders through `api`; `namespace` is our own. What is not in an `enabled` namespace is not served."""

    def __init__(
        self,
        api: ApiClient,
        serves: Serves,
        *,
        namespace: str,
        enabled: EnabledNamespaces,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._serves = serves
        self._namespace = namespace
        self._enabled = enabled
        self._clock = clock

    async def execute(self, order: PutVariant | EndVariants) -> OrderDone:
        """What became of the order; never raises for what can be told."""
        try:
            for attempt in range(MOST_TRIES):
                try:
                    return await self._once(order)
                except ApiError as error:
                    if error.status != 409:
                        raise
                    await asyncio.sleep(random.uniform(0.0, 0.02 * 2 ** min(attempt, 5)))  # noqa: S311 - spreads writers
            raise CodezeroError(
                problems.SERVE_FAILED, f"the Serve object of {order.service} changes all the time", fix="try again"
            )
        except CodezeroError as error:
            return OrderDone(order.order, error.problem.code, error.detail[:MOST_TEXT], error.fix)
        except ApiError as error:
            _log.warning("order not carried out", service=str(order.service), reason=str(error))
            detail = f"the Kubernetes API refused or did not answer: {error}"
            return OrderDone(order.order, problems.SERVE_FAILED.code, detail[:MOST_TEXT], "try again in a moment")

    async def _once(self, order: PutVariant | EndVariants) -> OrderDone:
        match order:
            case PutVariant():
                return await self._put(order)
            case EndVariants():
                return await self._end(order)

    # --- put ------------------------------------------------------------------------------------------------------------------------------

    async def _put(self, order: PutVariant) -> OrderDone:
        self._enabled.refuse(order.service)
        key = self._serves.key
        if key is None:
            raise CodezeroError(
                problems.SERVE_FAILED,
                "the System has no key to seal routes with",
                fix="an administrator adds seal.key to Secret codezero-identity",
            )
        now = await self._look(order.service, key)
        view = self._checked(order, now)
        wanted = _variant(view, order.service)
        present = self._present(now)
        in_the_way = conflicts([one for _, one in present], wanted)
        if not order.takeover:
            refuse_conflicts([one for _, one in present], wanted)
        taken = {one.variant_id for one in in_the_way}
        same = [route for route, one in present if _replaces(wanted, one)]
        if same:
            # It stays the same variant: what knows its id, and its age, goes on.
            view = replace(view, variant_id=same[0].id, since=same[0].since)
        gone = taken | {route.id for route in same[1:]}
        route = sealed(_route(view), service_uid=as_text(at(now.service, "metadata", "uid")), key=key)
        done = OrderDone(
            order.order,
            effects=tuple(one[:MOST_TEXT] for one in self._effects(order, now)),
            variant=view,
            taken=tuple(
                view_of(route, one, _status_of(now.serve, route.id)) for route, one in present if route.id in taken
            ),
        )
        if not order.preview:
            await self._write(order, now, route, gone)
            _log.info("variant put", service=str(order.service), variant=route.id, taken=len(taken))
        return done

    async def _look(self, ref: ServiceRef, key: bytes) -> _Now:
        service = await observing.find(self._api, observing.service_path(ref))
        content = await observing.find(self._api, path_of(ref))
        serve = None if content is None else observing.serve_of(content, service, key=key)
        around, _ = await observing.surroundings(self._api, ref)
        spec = preflight.refuse(ref, observing.own_spec(ref, service, serve), around, own_namespace=self._namespace)
        assert service is not None
        uid = at(service, "metadata", "uid")
        is_going = at(service, "metadata", "deletionTimestamp") is not None
        if is_going or (serve is not None and (serve.deleting or serve.owner_uid not in {None, uid})):
            raise CodezeroError(
                problems.SERVE_FAILED, f"{ref} is just being put back or deleted", fix="try again in a moment"
            )
        return _Now(service, spec, content, serve, around)

    def _checked(self, order: PutVariant, now: _Now) -> VariantView:
        view, moment = order.variant, self._clock()
        condition = condition_from_parts(view.condition)
        if not view.ports:
            raise CodezeroError(problems.BAD_SERVE, "no port is named")
        preflight.refuse_variant(order.service, now.spec, ports=view.ports, condition=condition, mirror=view.mirror)
        if view.expires <= moment:
            raise CodezeroError(problems.BAD_SERVE, "it would have expired already", fix="choose a later end")
        if len(at_routes(now.content)) >= MOST_ROUTES:
            raise CodezeroError(problems.BAD_SERVE, f"{order.service} has {MOST_ROUTES} variants already")
        return replace(
            view,
            condition=condition_parts(condition),
            expires=min(view.expires, moment + LONGEST_SECONDS),
            state=VariantState.PENDING,
        )

    def _present(self, now: _Now) -> list[tuple[Route, Variant]]:
        moment = self._clock()
        return [] if now.serve is None else [pair for pair in now.serve.followed if pair[0].expires > moment]

    @staticmethod
    def _effects(order: PutVariant, now: _Now) -> tuple[str, ...]:
        is_switched = naming.is_switched(texts(at(now.service, "spec", "selector")), order.service)
        found = preflight.effects(order.service, now.spec, now.around, is_switched=is_switched or order.restart)
        if order.restart:
            names = [
                as_text(at(one, "metadata", "name")) for one in preflight.makers_of(now.spec, now.around.deployments)
            ]
            found = (*found, f"restarts {', '.join(names)}" if names else "there is no Deployment to restart")
        return found

    async def _write(self, order: PutVariant, now: _Now, route: Route, gone: set[str]) -> None:
        ref = order.service
        uid = as_text(at(now.service, "metadata", "uid"))
        content = now.content or {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
        }
        kept = [one for one in at_routes(content) if _id_of(one) not in {*gone, route.id}]
        metadata = _with_ended(as_object(content["metadata"]), gone)
        metadata["labels"] = {**as_object(metadata.get("labels")), **manifests.labels_of(ref)}
        metadata["finalizers"] = [*(one for one in as_list(metadata.get("finalizers")) if one != FINALIZER), FINALIZER]
        if not manifests.owned_by(content, uid):
            metadata["ownerReferences"] = [*as_list(metadata.get("ownerReferences")), manifests.owner_of(ref, uid)]
        if order.restart:
            moment = timestamp(self._clock())
            metadata["annotations"] = {**as_object(metadata.get("annotations")), RESTART: moment}
        routes = [*kept, msgspec.to_builtins(route)]
        changed = {**content, "metadata": metadata, "spec": {"service": ref.name, "routes": routes}}
        if now.content is None:
            await self._api.create(f"/apis/{API_VERSION}/namespaces/{ref.namespace}/{PLURAL}", changed)
        else:
            await self._api.replace(path_of(ref), changed)

    # --- end ------------------------------------------------------------------------------------------------------------------------------

    async def _end(self, order: EndVariants) -> OrderDone:
        ref = order.service
        content = await observing.find(self._api, path_of(ref))
        if content is None:
            return OrderDone(order.order)
        service = await observing.find(self._api, observing.service_path(ref))
        serve = observing.serve_of(content, service, key=self._serves.key)
        ids = set(order.variants)
        ended = tuple(
            view_of(route, one, serve.route_status(route.id)) for route, one in serve.followed if route.id in ids
        )
        kept = [one for one in at_routes(content) if _id_of(one) not in ids]
        if len(kept) < len(at_routes(content)):
            metadata = _with_ended(as_object(content["metadata"]), ids)
            spec = {**as_object(content.get("spec")), "routes": kept}
            await self._api.replace(path_of(ref), {**content, "metadata": metadata, "spec": spec})
            _log.info("variants ended", service=str(ref), variants=len(ended), reason=order.reason)
        return OrderDone(order.order, ended=ended)


def at_routes(content: Json | None) -> list[Json]:
    """The entries of `spec.routes` of a Serve object, whatever they are."""
    return as_list(at(content, "spec", "routes"))


def _id_of(entry: object) -> str:
    return as_text(as_object(entry).get("id"))


def _with_ended(metadata: Json, ids: Iterable[str]) -> Json:
    annotations = texts(metadata.get("annotations"))
    remembered = [*annotations.get(ENDED, "").split(), *sorted(ids)][-_REMEMBERED:]
    if not remembered:
        return dict(metadata)
    return {**metadata, "annotations": {**annotations, ENDED: " ".join(remembered)}}


def _replaces(wanted: Variant, present: Variant) -> bool:
    return (
        present.user == wanted.user
        and present.condition == wanted.condition
        and (present.mirror is None) == (wanted.mirror is None)
    )


def _status_of(serve: ServeObject | None, route_id: str) -> RouteStatus:
    return RouteStatus(route_id) if serve is None else serve.route_status(route_id)


def _variant(view: VariantView, service: ServiceRef) -> Variant:
    return _route(view).variant(service)


def _route(view: VariantView) -> Route:
    first, *others = (RouteCondition(part.kind, part.key, part.value) for part in view.condition)
    return Route(
        user=view.user,
        condition=first,
        ports=tuple(RoutePort(pair.local, pair.remote, pair.host) for pair in view.ports),
        id=view.variant_id,
        also=tuple(others),
        user_name=view.user_name,
        device=view.device,
        session=view.session,
        since=view.since,
        expires=view.expires,
        mirror=view.mirror,
    )
