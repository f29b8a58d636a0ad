"""The next step of leading a Service through its Router, or of putting it back; pure.

Level-triggered: one look at the objects says what to do next, whatever happened before and whoever did it. Each step is one write with a
precondition, so a step that was decided on something old fails and is decided again. The order is what keeps the team's traffic whole:

1. the Service's own spec is recorded in the Serve object, before anything is changed;
2. the origin Service leads to the same pods; its endpoints have to equal the Service's;
3. the Router has to be ready on all ports, seen through a Service that selects it as the switched one will;
4. only then the selector is switched. Whenever no Router is ready, it is switched back.

The switched selector is recognised by its values. Any other selector is the team's, and becomes the one that is put back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from codezero.model.services import ServiceRef
from codezero.model.variants import ServingState
from codezero.system.kubernetes.client import FIELD_MANAGER
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.serving import manifests, naming, policies, preflight
from codezero.system.serving.manifests import RouterSettings, Served, Trust
from codezero.system.serving.preflight import Surroundings
from codezero.system.serving.serves import ServeObject, path_of
from codezero.wire.serve_resource import FINALIZER, GROUP, Condition, RouteStatus, ServeStatus

# After the first, second and third time somebody put the selector back.
REAPPLY_SECONDS: Final = (2.0, 10.0, 60.0)
CONTESTED_REVERSALS: Final = 3
CONTESTED_WITHIN: Final = 600.0
QUIET_SECONDS: Final = 1800.0
AWAY_SECONDS: Final = 1800.0
LOOK_AGAIN_SECONDS: Final = 2.0

# Annotations of Serve objects: routes that an order ended, so that nobody is told twice; and that the pods are to be restarted once their Service
# leads to its Router, with the moment of the wish as its value.
ENDED: Final = f"{GROUP}/ended-by-order"
RESTART: Final = f"{GROUP}/restart"
RESTARTED: Final = "kubectl.kubernetes.io/restartedAt"

VALID: Final = "Valid"
SWITCHED: Final = "Switched"

_UNKNOWN: Final = "nobody knows the Service's own selector any more; apply the Service's manifest again"

_CORE = "/api/v1/namespaces"
_APPS = "/apis/apps/v1/namespaces"
_NETWORKING = "/apis/networking.k8s.io/v1/namespaces"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The ready endpoints of a Service: for each address the ports it has there, as name and number."""

    ready: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict[str, frozenset[tuple[str, int]]])

    def with_ports(self, names: frozenset[str]) -> frozenset[str]:
        """The addresses that are ready on all ports of these names."""
        return frozenset(address for address, ports in self.ready.items() if names <= {name for name, _ in ports})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is now. `serve` None: the object is gone, and only residue of it may be left.

    `content` is the Serve object as JSON. `guards` are the NetworkPolicies of ours, `around` what others have there. `refusal` is why the Service
    cannot be served, if it cannot.
    """

    ref: ServiceRef
    serve: ServeObject | None
    content: Json
    service: Json | None
    origin: Json | None = None
    account: Json | None = None
    router: Json | None = None
    deployment: Json | None = None
    guards: tuple[Json, ...] = ()
    own_endpoints: Endpoints = Endpoints()
    origin_endpoints: Endpoints = Endpoints()
    router_endpoints: Endpoints = Endpoints()
    refusal: str | None = None
    around: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the API. `what` names it for people and logs."""

    what: str
    verb: Literal["create", "replace", "patch", "merge", "delete"]
    path: str
    body: object = None
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes, or until the moment `until` (UNIX seconds)."""

    why: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is left of it."""


Step = Write | Wait | Gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The moment, the settings, and since when the team's pods have been seen to have their traffic back (None: not yet)."""

    now: float
    settings: RouterSettings
    trust: Trust | None
    back_since: float | None = None


def next_step(seen: Seen, about: Circumstances) -> Step:
    """What to do next."""
    serve = seen.serve
    if serve is None:
        return _restore(seen, about)
    if is_lost(seen):
        return _clean_up(seen, about)
    if serve.deleting or not _has_routes(serve, about.now):
        return _unserved(seen, serve, about)
    if seen.refusal is not None:
        return _restore(seen, about)
    if not serve.is_held or serve.owner_uid is None:
        return _hold(seen, serve)
    return _prepare(seen, serve, about)


def is_lost(seen: Seen) -> bool:
    """Whether the Service that was served is gone; one of its name that was made anew is another one."""
    if seen.service is None:
        return True
    owner = None if seen.serve is None else seen.serve.owner_uid
    return owner is not None and owner != at(seen.service, "metadata", "uid")


def is_back(seen: Seen) -> bool:
    """Whether the Service leads to the team's own pods, and its slices show it."""
    own, routers = seen.own_endpoints.ready.keys(), seen.router_endpoints.ready.keys()
    if _is_marked(seen) or own & routers:
        return False
    # Where the team pointed it elsewhere meanwhile, the origin's pods are not what it should show.
    same = seen.origin is not None and texts(at(seen.origin, "spec", "selector")) == _selector(seen.service)
    return not same or own >= seen.origin_endpoints.ready.keys()


def is_switched(seen: Seen) -> bool:
    """Whether the Service leads to its Router."""
    return naming.is_switched(_selector(seen.service), seen.ref)


def ending_routes(serve: ServeObject, now: float) -> Iterator[tuple[str, str]]:
    """The ids of routes whose time is over, each with the reason."""
    for route, _ in serve.followed:
        status = serve.route_status(route.id)
        away_since = None if status.holder else (status.away_since or route.since / 1000)
        if route.expires <= now:
            yield route.id, "it has expired"
        elif away_since is not None and away_since + AWAY_SECONDS <= now:
            yield route.id, f"its laptop was away for {AWAY_SECONDS / 60:.0f} minutes"


def next_end(serve: ServeObject) -> float | None:
    """When the next route's time is over."""
    ends: list[float] = []
    for route, _ in serve.followed:
        status = serve.route_status(route.id)
        ends.append(route.expires)
        if not status.holder:
            ends.append((status.away_since or route.since / 1000) + AWAY_SECONDS)
    return min(ends, default=None)


def without_routes(serve: ServeObject, content: Json, ids: frozenset[str]) -> Write:
    """The write that removes routes from a Serve object."""
    routes = [one for one in as_list(at(content, "spec", "routes")) if as_object(one).get("id") not in ids]
    return _json_patch(
        "end routes",
        path_of(serve.ref),
        serve.resource_version,
        [{"op": "add", "path": "/spec/routes", "value": routes}],
    )


# --- towards the Router -----------------------------------------------------------------------------------------------------------------------


def _prepare(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    journal = _journal(seen, serve, about)
    if journal is not None:
        return journal
    assert seen.service is not None
    served = _served(seen, serve)
    if about.trust is None:
        return _wait(seen, serve, about, "waiting for the System's identity")
    if serve.status.state == ServingState.CONTESTED:
        return _contested(seen, serve, about)
    if _is_marked(seen) and not is_switched(seen):
        # Half a switched selector leads to nobody.
        return _point(seen, "mend the selector", served.selector)
    if is_switched(seen) and (seen.origin is None or not _router_fits(seen, served)):
        # At once, and told afterwards: nobody answers meanwhile.
        return _point(seen, "switch the Service back", served.selector)
    return _objects(seen, serve, served, about, about.trust) or _switch(seen, serve, served, about)


def _journal(seen: Seen, serve: ServeObject, about: Circumstances) -> Step | None:
    """Record what the team wants before anything else, and whether somebody put its selector back."""
    status = serve.status
    spec = as_object(as_object(seen.service).get("spec"))
    selector, switched = _selector(seen.service), is_switched(seen)
    marked = naming.bears_ours(selector, seen.ref)
    known = texts(as_object(status.original).get("selector"))
    if marked and not known:
        # The record was lost, but not the origin Service, which has the selector too.
        known = texts(at(seen.origin, "spec", "selector")) if seen.origin and manifests.is_ours(seen.origin) else {}
        if not known:
            return _wait(seen, serve, about, _UNKNOWN)
    wanted = {**spec, "selector": naming.own_selector(selector, seen.ref, known)} if marked else spec
    left = _is(status, SWITCHED) and not switched
    reversed_now = left and (marked or not _is_ours_to_say(seen))
    if status.original == wanted and not left:
        return None
    targets = manifests.targets_of(wanted, status.targets or {}, _numbers(seen))
    changed = msgspec.structs.replace(
        status, original=wanted, origin_selector=texts(wanted.get("selector")), targets=targets
    )
    state, message = ServingState.PREPARING, "being prepared"
    if reversed_now:
        recent = tuple(one for one in status.reversals if one > about.now - QUIET_SECONDS)
        changed = msgspec.structs.replace(changed, reversals=(*recent, about.now))
        fights = sum(one > about.now - CONTESTED_WITHIN for one in changed.reversals)
        message = f"{_last_writer(seen)} changed the Service's selector; it is switched again in a moment"
        if fights >= CONTESTED_REVERSALS:
            state = ServingState.CONTESTED
            message = (
                f"{_last_writer(seen)} changed the Service's selector {fights} times in {CONTESTED_WITHIN / 60:.0f} minutes, so its traffic stays "
                f"with its own pods; end that, then serve again"
            )
    elif status.state == ServingState.CONTESTED and serve.generation == status.observed_generation:
        state, message = ServingState.CONTESTED, status.message
    elif status.state == ServingState.CONTESTED:
        changed = msgspec.structs.replace(changed, reversals=())
    elif left:
        message = "the Router is not ready"
    elif status.state == ServingState.ACTIVE:
        state, message = ServingState.ACTIVE, status.message
    return _tell(seen, serve, about, state, message, status=changed, switched=False if left else None)


def _contested(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    status = serve.status
    quiet_at = max(status.reversals, default=about.now) + QUIET_SECONDS
    if serve.generation > status.observed_generation or about.now >= quiet_at:
        fresh = msgspec.structs.replace(status, reversals=())
        return _tell(seen, serve, about, ServingState.PREPARING, "tried again", status=fresh)
    if _is_marked(seen):
        return _point(seen, "leave the Service to its team", texts(as_object(status.original).get("selector")))
    return Wait(status.message, quiet_at)


def _objects(seen: Seen, serve: ServeObject, served: Served, about: Circumstances, trust: Trust) -> Step | None:
    """The origin Service and the Router, in the order in which each needs the other."""
    core, apps = f"{_CORE}/{seen.ref.namespace}", f"{_APPS}/{seen.ref.namespace}"
    step = _put(seen, about, f"{core}/services", seen.origin, manifests.origin_service(served))
    if step is not None:
        return step
    address = as_text(at(seen.origin, "spec", "clusterIP"))
    if not address or address == "None":
        return _wait(seen, serve, about, "waiting for the address of the origin Service")
    deployment = manifests.router_deployment(served, origin=address, settings=about.settings, trust=trust)
    return (
        _put(seen, about, f"{core}/serviceaccounts", seen.account, manifests.router_account(served))
        or _put_guards(seen, served, about)
        or _put(seen, about, f"{core}/services", seen.router, manifests.router_service(served))
        or _put(seen, about, f"{apps}/deployments", seen.deployment, deployment)
    )


def _put_guards(seen: Seen, served: Served, about: Circumstances) -> Step | None:
    path = f"{_NETWORKING}/{seen.ref.namespace}/networkpolicies"
    existing = {as_text(at(one, "metadata", "name")): one for one in seen.guards}
    pods = preflight.pods_of(served.original, seen.around)
    wanted = policies.allowances(served, seen.around.network_policies, pods, system=about.settings.system)
    for policy in wanted:
        step = _put(seen, about, path, existing.pop(policy["metadata"]["name"], None), policy)
        if step is not None:
            return step
    for name in sorted(existing):
        return _delete("delete NetworkPolicy", f"{path}/{name}", existing[name])
    return None


def _put(seen: Seen, about: Circumstances, path: str, existing: Json | None, wanted: Json) -> Step | None:
    kind, name, serve = wanted["kind"], wanted["metadata"]["name"], seen.serve
    assert serve is not None
    if existing is None:
        return Write(f"create {kind} {name}", "create", path, wanted)
    if at(existing, "metadata", "deletionTimestamp") is not None:
        return _wait(seen, serve, about, f"waiting until the old {kind} {name} is gone")
    if not manifests.is_ours(existing):
        return _wait(seen, serve, about, f"{kind} {name} is somebody else's; delete it or give it another name")
    if not manifests.owned_by(existing, as_text(at(seen.service, "metadata", "uid"))):
        # Of the Service that had this name before.
        return _delete(f"delete old {kind}", f"{path}/{name}", existing)
    if kind == "ServiceAccount" or manifests.same_content(existing, wanted):
        return None
    return Write(f"update {kind} {name}", "replace", f"{path}/{name}", _updated(existing, wanted))


def _updated(existing: Json, wanted: Json) -> Json:
    """`wanted` as the next version of `existing`: what the cluster gave it, and what others added beside ours, stays."""
    metadata = {**existing["metadata"]}
    for name in ("labels", "annotations"):
        metadata[name] = {**as_object(metadata.get(name)), **wanted["metadata"][name]}
    updated = {**existing, **wanted, "metadata": metadata}
    if wanted["kind"] == "Service":
        given = {name: value for name, value in existing["spec"].items() if name in {"clusterIP", "clusterIPs"}}
        updated["spec"] = {**wanted["spec"], **given}
    return updated


def _switch(seen: Seen, serve: ServeObject, served: Served, about: Circumstances) -> Step:
    status = serve.status
    if is_switched(seen):
        if _selector(seen.service) != served.switched:
            return _point(seen, "correct the selector", served.switched)
        if not _shows_routers(seen):
            return _tell_or_wait(
                seen, serve, about, ServingState.PREPARING, "waiting until the Service shows its Router", switched=True
            )
        if status.state != ServingState.ACTIVE and status.router_config.revision < serve.generation:
            return _tell_or_wait(
                seen, serve, about, ServingState.PREPARING, "waiting until the Router knows the routes", switched=True
            )
        return (
            _told(seen, serve, about, ServingState.ACTIVE, "", switched=True)
            or _restart(seen, serve, served)
            or Wait("")
        )
    recent = [one for one in status.reversals if one > about.now - QUIET_SECONDS]
    if recent:
        again_at = recent[-1] + REAPPLY_SECONDS[min(len(recent), len(REAPPLY_SECONDS)) - 1]
        if about.now < again_at:
            return Wait(status.message, again_at)
    if seen.origin_endpoints.ready != seen.own_endpoints.ready:
        return _wait(seen, serve, about, "waiting until the origin Service leads to the same pods")
    if not _router_fits(seen, served) or not _is_rolled_out(seen.deployment):
        return _wait(seen, serve, about, _trouble(seen.deployment) or "waiting until a Router is ready")
    return _point(seen, "switch the Service to its Router", served.switched)


def _restart(seen: Seen, serve: ServeObject, served: Served) -> Step | None:
    """Restart the pods whose connections were opened before: only now, or the new ones would stay with the pods as well."""
    moment = serve.annotations.get(RESTART)
    if moment is None:
        return None
    for deployment in preflight.makers_of(served.original, seen.around.deployments):
        if texts(at(deployment, "spec", "template", "metadata", "annotations")).get(RESTARTED) != moment:
            name = as_text(at(deployment, "metadata", "name"))
            return Write(
                f"restart Deployment {name}",
                "merge",
                f"{_APPS}/{seen.ref.namespace}/deployments/{name}",
                {"spec": {"template": {"metadata": {"annotations": {RESTARTED: moment}}}}},
            )
    return _json_patch(
        "note the restart",
        path_of(serve.ref),
        serve.resource_version,
        [{"op": "remove", "path": f"/metadata/annotations/{RESTART.replace('/', '~1')}"}],
    )


def _router_fits(seen: Seen, served: Served) -> bool:
    """Whether a Router is ready that listens where the Service's ports lead."""
    names = frozenset(as_text(as_object(port).get("name")) for port in as_list(served.original.get("ports")))
    if not seen.router_endpoints.with_ports(names):
        return False
    containers = as_list(at(seen.deployment, "spec", "template", "spec", "containers"))
    listens = {
        as_object(port).get("containerPort") for one in containers for port in as_list(as_object(one).get("ports"))
    }
    return all(port.target in listens for port in served.ports)


def _is_rolled_out(deployment: Json | None) -> bool:
    """Whether no pod of an older template is left, which would listen elsewhere."""
    status = as_object(as_object(deployment).get("status"))
    generation = at(deployment, "metadata", "generation")
    return (
        status.get("observedGeneration") == generation
        and status.get("updatedReplicas", 0) == status.get("replicas", 0)
        and status.get("readyReplicas", 0) > 0
    )


def _trouble(deployment: Json | None) -> str | None:
    """Why there are no pods, in the cluster's words: quotas and admission speak here."""
    for condition in map(as_object, as_list(at(deployment, "status", "conditions"))):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return f"the cluster makes no Router: {as_text(condition.get('message'))}"[:1000]
    return None


def _shows_routers(seen: Seen) -> bool:
    own = seen.own_endpoints.ready.keys()
    return bool(own) and own <= seen.router_endpoints.ready.keys()


# --- and back ---------------------------------------------------------------------------------------------------------------------------------


def _unserved(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    """No route is left, or the object is to go. The Router lingers, so that the next serve switches nothing."""
    if serve.deleting or serve.status.original is None or not is_switched(seen) or seen.refusal is not None:
        return _restore(seen, about)
    since = serve.status.unserved_since
    if since is None:
        fresh = msgspec.structs.replace(serve.status, unserved_since=about.now)
        return _tell(
            seen, serve, about, ServingState.ACTIVE, "nobody serves it; the Router stays for a while", status=fresh
        )
    if about.now < since + about.settings.linger:
        if not seen.router_endpoints.ready:
            return _restore(seen, about)
        return Wait("the Router stays for a while", since + about.settings.linger)
    return _restore(seen, about)


def _restore(seen: Seen, about: Circumstances) -> Step:
    serve = seen.serve
    if _is_marked(seen):
        if serve is not None and serve.status.state != ServingState.RESTORING:
            return _tell(seen, serve, about, ServingState.RESTORING, "the Service is being put back", switched=False)
        return _switch_back(seen)
    if seen.deployment is not None or seen.router is not None or seen.origin is not None:
        was_switched = serve is None or _condition(serve.status, SWITCHED) is not None
        if was_switched and not is_back(seen):
            return Wait("waiting until the Service shows its own pods", about.now + LOOK_AGAIN_SECONDS)
        if was_switched and seen.deployment is not None:
            # Connections through the Router may end by themselves.
            gone_at = (about.back_since if about.back_since is not None else about.now) + about.settings.drain
            if about.now < gone_at:
                return Wait("the Router drains", gone_at)
    return _clean_up(seen, about)


def _switch_back(seen: Seen) -> Step:
    recorded = {} if seen.serve is None else texts(as_object(seen.serve.status.original).get("selector"))
    known = recorded or texts(at(seen.origin, "spec", "selector"))
    if not known:
        return Wait(_UNKNOWN)
    return _point(seen, "switch the Service back", naming.own_selector(_selector(seen.service), seen.ref, known))


def _clean_up(seen: Seen, about: Circumstances) -> Step:
    """Remove what is ours, the Router first, and let go of the Serve object at last."""
    namespace, serve = seen.ref.namespace, seen.serve
    name = naming.router_of(seen.ref).name
    for what, path, existing in (
        ("Deployment", f"{_APPS}/{namespace}/deployments/{name}", seen.deployment),
        ("Service", f"{_CORE}/{namespace}/services/{name}", seen.router),
        ("ServiceAccount", f"{_CORE}/{namespace}/serviceaccounts/{name}", seen.account),
        *(
            ("NetworkPolicy", f"{_NETWORKING}/{namespace}/networkpolicies/{at(one, 'metadata', 'name')}", one)
            for one in seen.guards
        ),
        ("Service", f"{_CORE}/{namespace}/services/{naming.origin_of(seen.ref).name}", seen.origin),
    ):
        if (
            existing is not None
            and manifests.is_ours(existing)
            and at(existing, "metadata", "deletionTimestamp") is None
        ):
            return _delete(f"delete {what}", path, existing)
    if serve is None:
        return Gone()
    if serve.deleting:
        return _release(seen, serve) if serve.is_held else Wait("others hold the Serve object")
    if is_lost(seen) and serve.owner_uid is not None:
        return _delete_serve(serve)
    if seen.refusal is not None or any(one.problem for one in serve.routes):
        return _rest(seen, serve, about)
    # Of the version seen: a route that came in the meantime is not lost.
    return _delete_serve(serve) if serve.is_held else Wait("there is no route")


def _rest(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    """Nothing of ours is there, and the object says why."""
    if serve.is_held:
        return _release(seen, serve)
    message = seen.refusal or next((one.problem for one in serve.routes if one.problem), "")
    status = msgspec.structs.replace(
        serve.status, original=None, origin_selector=None, targets=None, unserved_since=None, reversals=()
    )
    step = _told(seen, serve, about, ServingState.REFUSED, message, status=status, forget_switch=True)
    return step or Wait(message)


def _delete_serve(serve: ServeObject) -> Write:
    return Write(
        "delete the Serve object",
        "delete",
        path_of(serve.ref),
        uid=serve.uid,
        resource_version=serve.resource_version,
    )


# --- single writes ----------------------------------------------------------------------------------------------------------------------------


def _point(seen: Seen, what: str, selector: dict[str, str]) -> Write:
    """Change the Service's selector, if it still is as seen."""
    assert seen.service is not None
    path = f"{_CORE}/{seen.ref.namespace}/services/{seen.ref.name}"
    return _json_patch(
        what,
        path,
        as_text(at(seen.service, "metadata", "resourceVersion")),
        [
            {"op": "test", "path": "/metadata/uid", "value": at(seen.service, "metadata", "uid")},
            {"op": "test", "path": "/spec/selector", "value": at(seen.service, "spec", "selector")},
            {"op": "replace", "path": "/spec/selector", "value": selector},
        ],
    )


def _json_patch(what: str, path: str, version: str, operations: list[Json]) -> Write:
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    return Write(what, "patch", path, [test, *operations])


def _hold(seen: Seen, serve: ServeObject) -> Write:
    finalizers = [*(one for one in serve.finalizers if one != FINALIZER), FINALIZER]
    uid = as_text(at(seen.service, "metadata", "uid"))
    owners = [*as_list(at(seen.content, "metadata", "ownerReferences"))]
    if serve.owner_uid is None:
        owners.append(manifests.owner_of(serve.ref, uid))
    return _json_patch(
        "hold the Serve object",
        path_of(serve.ref),
        serve.resource_version,
        [
            {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
            {"op": "add", "path": "/metadata/ownerReferences", "value": owners},
        ],
    )


def _release(_seen: Seen, serve: ServeObject) -> Write:
    rest = [one for one in serve.finalizers if one != FINALIZER]
    return _json_patch(
        "let go of the Serve object",
        path_of(serve.ref),
        serve.resource_version,
        [{"op": "add", "path": "/metadata/finalizers", "value": rest}],
    )


def _delete(what: str, path: str, existing: Json) -> Write:
    return Write(what, "delete", path, uid=as_text(at(existing, "metadata", "uid")) or None)


# --- the status -------------------------------------------------------------------------------------------------------------------------------


def _wait(seen: Seen, serve: ServeObject, about: Circumstances, message: str) -> Step:
    return _tell_or_wait(seen, serve, about, ServingState.PREPARING, message)


def _tell_or_wait(
    seen: Seen,
    serve: ServeObject,
    about: Circumstances,
    state: ServingState,
    message: str,
    *,
    switched: bool | None = None,
) -> Step:
    step = _told(seen, serve, about, state, message, switched=switched)
    # Not all that is waited for is followed: the state of a Deployment is only read.
    return step or Wait(message, about.now + LOOK_AGAIN_SECONDS)


def _tell(
    seen: Seen,
    serve: ServeObject,
    about: Circumstances,
    state: ServingState,
    message: str,
    *,
    status: ServeStatus | None = None,
    switched: bool | None = None,
) -> Step:
    step = _told(seen, serve, about, state, message, status=status, switched=switched)
    return step or Wait(message, about.now + LOOK_AGAIN_SECONDS)


def _told(
    seen: Seen,
    serve: ServeObject,
    about: Circumstances,
    state: ServingState,
    message: str,
    *,
    status: ServeStatus | None = None,
    switched: bool | None = None,
    forget_switch: bool = False,
) -> Write | None:
    """The write that makes the status say so; None when it does."""
    fresh = msgspec.structs.replace(
        serve.status if status is None else status,
        state=state,
        message=message,
        observed_generation=serve.generation,
        routes=_route_statuses(serve),
    )
    if _has_routes(serve, about.now):
        fresh = msgspec.structs.replace(fresh, unserved_since=None)
    problem = next((one.problem for one in serve.routes if one.problem), "")
    fresh = _with_condition(
        fresh, serve, about.now, VALID, value=not problem, reason="Problem" if problem else "AllRoutes", message=problem
    )
    if switched is not None:
        reason = "Router" if switched else "OwnPods"
        fresh = _with_condition(fresh, serve, about.now, SWITCHED, value=switched, reason=reason)
    if forget_switch:
        kept = tuple(one for one in fresh.conditions if one.type != SWITCHED)
        fresh = msgspec.structs.replace(fresh, conditions=kept)
    if fresh == serve.status:
        return None
    body = {**seen.content, "status": msgspec.to_builtins(fresh)}
    return Write(f"say {state}", "replace", f"{path_of(serve.ref)}/status", body)


def _route_statuses(serve: ServeObject) -> tuple[RouteStatus, ...]:
    found: dict[str, RouteStatus] = {}
    for one in serve.routes:
        known = any(status.id == one.name for status in serve.status.routes)
        # Of two entries with one id the first may be good.
        if (one.problem or known) and one.name not in found:
            found[one.name] = msgspec.structs.replace(serve.route_status(one.name), problem=one.problem)
    return tuple(found.values())


def _with_condition(
    status: ServeStatus, serve: ServeObject, now: float, kind: str, *, value: bool, reason: str, message: str = ""
) -> ServeStatus:
    before = _condition(status, kind)
    text = "True" if value else "False"
    if before is not None and (before.status, before.reason, before.message) == (text, reason, message):
        return status
    since = before.last_transition_time if before is not None and before.status == text else timestamp(now)
    fresh = Condition(kind, text, reason, message, since, serve.generation)
    others = tuple(one for one in status.conditions if one.type != kind)
    return msgspec.structs.replace(status, conditions=tuple(sorted((*others, fresh), key=lambda one: one.type)))


def timestamp(moment: float) -> str:
    """UNIX seconds as Kubernetes writes times."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(status: ServeStatus, kind: str) -> Condition | None:
    return next((one for one in status.conditions if one.type == kind), None)


def _is(status: ServeStatus, kind: str) -> bool:
    condition = _condition(status, kind)
    return condition is not None and condition.status == "True"


# --- what is seen -----------------------------------------------------------------------------------------------------------------------------


def _has_routes(serve: ServeObject, now: float) -> bool:
    return any(route.expires > now for route, _ in serve.followed)


def _served(seen: Seen, serve: ServeObject) -> Served:
    uid = as_text(at(seen.service, "metadata", "uid"))
    return Served(seen.ref, uid, as_object(serve.status.original), serve.status.targets or {})


def _is_marked(seen: Seen) -> bool:
    return naming.bears_ours(_selector(seen.service), seen.ref)


def _selector(service: Json | None) -> dict[str, str]:
    return texts(at(service, "spec", "selector"))


def _numbers(seen: Seen) -> dict[str, int]:
    """The number behind each of the Service's ports by its name, as its pods have them; the origin's while the Service leads to Routers."""
    endpoints = seen.origin_endpoints if is_switched(seen) else seen.own_endpoints
    found: dict[str, int] = {}
    for ports in endpoints.ready.values():
        for name, number in ports:
            found[name] = min(number, found.get(name, number))
    return found


def _last_writer(seen: Seen) -> str:
    """The field manager that last wrote the selector, if it was not us."""
    others = [one for one in _writers(seen) if one[1] != FIELD_MANAGER]
    return max(others, default=("", "somebody"))[1] or "somebody"


def _is_ours_to_say(seen: Seen) -> bool:
    """Whether the selector is as we wrote it last: whoever changes a field takes it over (managedFields)."""
    return any(manager == FIELD_MANAGER for _, manager in _writers(seen))


def _writers(seen: Seen) -> list[tuple[str, str]]:
    return [
        (as_text(as_object(entry).get("time")), as_text(as_object(entry).get("manager")))
        for entry in as_list(at(seen.service, "metadata", "managedFields"))
        if as_object(at(entry, "fieldsV1", "f:spec")).get("f:selector") is not None
    ]
