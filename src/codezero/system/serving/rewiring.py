"""The next step of leading a Service through its Router, or of putting it back; pure.

Level-triggered: one look at the objects says what to do next, whatever happened before and whoever did it. Each step is one write with a
precondition, so a step that was decided on something old fails and is decided again. The order is what keeps the team's traffic whole:

1. the Service's own spec is recorded in the Serve object, before anything is changed;
2. the origin Service leads to the same pods; its endpoints have to equal the Service's;
3. the Router has to be ready on all ports, seen through a Service that selects it as the switched one will;
4. only then the selector is switched. Whenever no Router is ready, it is switched back.

The switched selector is recognised by its values. Any other selector is the team's, and becomes the one that is put back.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import msgspec

from codezero.model.variants import ServingState
from codezero.routing.compile import ports_with_conditions
from codezero.system.kubernetes.documents import Json, as_object, as_text, at, texts
from codezero.system.serving import manifests, naming, policies, preflight
from codezero.system.serving.manifests import Served, Trust
from codezero.system.serving.seen import (
    Seen,
    has_routes,
    is_back,
    is_lost,
    is_marked,
    is_ours_to_say,
    is_rolled_out,
    is_switched,
    last_writer,
    numbers_of,
    router_fits,
    selector_of,
    served_of,
    shows_routers,
    trouble_of,
)
from codezero.system.serving.serves import ServeObject, path_of
from codezero.system.serving.steps import (
    APPS,
    CORE,
    LOOK_AGAIN_SECONDS,
    NETWORKING,
    POLICY,
    RESTART,
    RESTARTED,
    Circumstances,
    Gone,
    Step,
    Wait,
    Write,
    delete,
    delete_serve,
    hold,
    json_patch,
    point,
    release,
)
from codezero.system.serving.telling import SWITCHED, condition_of, is_so, lasts, tell, told, wait
from codezero.wire.serve_resource import selector_seal

# Who puts the selector back that soon after each of our writes answers them; who lets it stand for longer has written for a reason of their own.
FIGHT_SECONDS: Final = 30.0
# After the first and second time in a fight.
REAPPLY_SECONDS: Final = (2.0, 10.0)
CONTESTED_REVERSALS: Final = 3
QUIET_SECONDS: Final = 1800.0
AWAY_SECONDS: Final = 1800.0

_UNKNOWN: Final = "nobody knows the Service's own selector any more; apply the Service's manifest again"


def next_step(seen: Seen, about: Circumstances) -> Step:
    """What to do next."""
    serve = seen.serve
    if serve is None:
        return _restore(seen, about)
    if is_lost(seen):
        # One made anew from a copy of the switched one, as backups and `kubectl replace --force` do, must not lead to a Router that goes.
        return _restore(seen, about) if is_marked(seen) else _clean_up(seen, about)
    if serve.deleting or not has_routes(serve, about.now):
        return _unserved(seen, serve, about)
    if seen.refusal is not None:
        return _restore(seen, about)
    if not serve.is_held or serve.owner_uid is None:
        return hold(seen, serve)
    return _prepare(seen, serve, about)


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


# --- towards the Router -----------------------------------------------------------------------------------------------------------------------


def _prepare(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    known = texts(as_object(serve.status.original).get("selector"))
    if is_switched(seen) and known and not _carries(seen, serve, known):
        # At once, and told afterwards: nobody answers meanwhile. It waits for no record either, which a cluster may not take.
        return point(seen, "switch the Service back", known)
    journal = _journal(seen, serve, about)
    if journal is not None:
        return journal
    assert seen.service is not None
    served = served_of(seen, serve)
    if serve.status.state == ServingState.CONTESTED:
        return _contested(seen, serve, about)
    if is_marked(seen) and not is_switched(seen):
        # Half a switched selector leads to nobody.
        return point(seen, "mend the selector", served.selector)
    if about.trust is None:
        return wait(seen, serve, about, "waiting for the System's identity")
    return _objects(seen, serve, served, about, about.trust) or _switch(seen, serve, served, about)


def _carries(seen: Seen, serve: ServeObject, selector: dict[str, str]) -> bool:
    """Whether the Router takes what the switched Service, as it is now, sends it, and has somewhere to lead it."""
    spec = as_object(as_object(seen.service).get("spec"))
    served = replace(served_of(seen, serve), original={**spec, "selector": selector})
    return seen.origin is not None and router_fits(seen, served)


def _journal(seen: Seen, serve: ServeObject, about: Circumstances) -> Step | None:
    """Record what the team wants before anything else, and whether somebody put its selector back."""
    status = serve.status
    spec = as_object(as_object(seen.service).get("spec"))
    selector, switched = selector_of(seen.service), is_switched(seen)
    marked = naming.bears_ours(selector, seen.ref)
    known = texts(as_object(status.original).get("selector"))
    if marked and not known:
        # The record was lost, but not the origin Service, which has the selector too.
        known = texts(at(seen.origin, "spec", "selector")) if seen.origin and manifests.is_ours(seen.origin) else {}
        if not known:
            return wait(seen, serve, about, _UNKNOWN)
    wanted = {**spec, "selector": naming.own_selector(selector, seen.ref, known)} if marked else spec
    left = is_so(status, SWITCHED) and not switched
    reversed_now = left and (marked or not is_ours_to_say(seen))
    # It only grows while there is a Router: to look, or not to look any more, takes new listeners, hence new pods.
    told_apart = ports_with_conditions(variant for _, variant in serve.followed)
    looked_into = tuple(sorted({*status.looked_into, *told_apart}))
    if status.original == wanted and not left and looked_into == status.looked_into:
        return None
    targets = manifests.targets_of(wanted, status.targets or {}, numbers_of(seen))
    own = texts(wanted.get("selector"))
    seal = selector_seal(own, service_uid=serve.owner_uid or "", key=about.key)
    changed = msgspec.structs.replace(status, original=wanted, origin_selector=own, selector_seal=seal, targets=targets)
    changed = msgspec.structs.replace(changed, looked_into=looked_into)
    state, message = ServingState.PREPARING, "being prepared"
    if reversed_now:
        is_answer = lasts(status, SWITCHED, about.now) < FIGHT_SECONDS
        before = tuple(one for one in status.reversals if is_answer and one > about.now - QUIET_SECONDS)
        changed = msgspec.structs.replace(changed, reversals=(*before, about.now))
        fights = len(changed.reversals)
        pause = _reapply_after(fights)
        message = f"{last_writer(seen)} changed the Service's selector; it is switched again after {pause:.0f} s"
        if fights >= CONTESTED_REVERSALS:
            state = ServingState.CONTESTED
            message = (
                f"{last_writer(seen)} puts the Service's selector back within {FIGHT_SECONDS:.0f} s whenever it is switched, so its traffic stays "
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
    return tell(seen, serve, about, state, message, status=changed, switched=False if left else None)


def _reapply_after(reversals: int) -> float:
    return REAPPLY_SECONDS[min(reversals, len(REAPPLY_SECONDS)) - 1]


def _contested(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    status = serve.status
    quiet_at = max(status.reversals, default=about.now) + QUIET_SECONDS
    if serve.generation > status.observed_generation or about.now >= quiet_at:
        fresh = msgspec.structs.replace(status, reversals=())
        return tell(seen, serve, about, ServingState.PREPARING, "tried again", status=fresh)
    if is_marked(seen):
        return point(seen, "leave the Service to its team", texts(as_object(status.original).get("selector")))
    return Wait(status.message, quiet_at)


def _objects(seen: Seen, serve: ServeObject, served: Served, about: Circumstances, trust: Trust) -> Step | None:
    """The origin Service and the Router, in the order in which each needs the other."""
    core, apps = f"{CORE}/{seen.ref.namespace}", f"{APPS}/{seen.ref.namespace}"
    step = _put(seen, about, f"{core}/services", seen.origin, manifests.origin_service(served))
    if step is not None:
        return step
    address = as_text(at(seen.origin, "spec", "clusterIP"))
    if not address or address == "None":
        return wait(seen, serve, about, "waiting for the address of the origin Service")
    deployment = manifests.router_deployment(served, origin=address, settings=about.settings, trust=trust)
    return (
        _put(seen, about, f"{core}/serviceaccounts", seen.account, manifests.router_account(served))
        or _put_guards(seen, served, about)
        or _put(seen, about, f"{core}/services", seen.router, manifests.router_service(served))
        or _put(seen, about, f"{apps}/deployments", seen.deployment, deployment)
        or _put(
            seen,
            about,
            f"{POLICY}/{seen.ref.namespace}/poddisruptionbudgets",
            seen.budget,
            manifests.router_budget(served),
        )
    )


def _put_guards(seen: Seen, served: Served, about: Circumstances) -> Step | None:
    path = f"{NETWORKING}/{seen.ref.namespace}/networkpolicies"
    existing = {as_text(at(one, "metadata", "name")): one for one in seen.guards}
    pods = preflight.pods_of(served.original, seen.around)
    wanted = policies.allowances(served, seen.around.network_policies, pods, system=about.settings.system)
    for policy in wanted:
        step = _put(seen, about, path, existing.pop(policy["metadata"]["name"], None), policy)
        if step is not None:
            return step
    for name in sorted(existing):
        return delete("delete NetworkPolicy", f"{path}/{name}", existing[name])
    return None


def _put(seen: Seen, about: Circumstances, path: str, existing: Json | None, wanted: Json) -> Step | None:
    kind, name, serve = wanted["kind"], wanted["metadata"]["name"], seen.serve
    assert serve is not None
    if existing is None:
        return Write(f"create {kind} {name}", "create", path, wanted)
    if at(existing, "metadata", "deletionTimestamp") is not None:
        return wait(seen, serve, about, f"waiting until the old {kind} {name} is gone")
    if not manifests.is_ours(existing):
        return wait(seen, serve, about, f"{kind} {name} is somebody else's; delete it or give it another name")
    if not manifests.owned_by(existing, as_text(at(seen.service, "metadata", "uid"))):
        # Of the Service that had this name before.
        return delete(f"delete old {kind}", f"{path}/{name}", existing)
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
        if selector_of(seen.service) != served.switched:
            return point(seen, "correct the selector", served.switched)
        if not shows_routers(seen):
            return tell(
                seen, serve, about, ServingState.PREPARING, "waiting until the Service shows its Router", switched=True
            )
        if status.state != ServingState.ACTIVE and status.router_config.revision < serve.generation:
            return tell(
                seen, serve, about, ServingState.PREPARING, "waiting until the Router knows the routes", switched=True
            )
        return (
            told(seen, serve, about, ServingState.ACTIVE, "", switched=True)
            or _restart(seen, serve, served)
            or Wait("")
        )
    recent = [one for one in status.reversals if one > about.now - QUIET_SECONDS]
    if recent:
        again_at = recent[-1] + _reapply_after(len(recent))
        if about.now < again_at:
            return Wait(status.message, again_at)
    if seen.origin_endpoints.ready != seen.own_endpoints.ready:
        return wait(seen, serve, about, "waiting until the origin Service leads to the same pods")
    if not router_fits(seen, served) or not is_rolled_out(seen.deployment):
        return wait(seen, serve, about, trouble_of(seen.deployment) or "waiting until a Router is ready")
    return point(seen, "switch the Service to its Router", served.switched)


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
                f"{APPS}/{seen.ref.namespace}/deployments/{name}",
                {"spec": {"template": {"metadata": {"annotations": {RESTARTED: moment}}}}},
            )
    return json_patch(
        "note the restart",
        path_of(serve.ref),
        serve.resource_version,
        [{"op": "remove", "path": f"/metadata/annotations/{RESTART.replace('/', '~1')}"}],
    )


# --- and back ---------------------------------------------------------------------------------------------------------------------------------


def _unserved(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    """No route is left, or the object is to go. The Router lingers, so that the next serve switches nothing."""
    if serve.deleting or seen.refusal is not None or not _may_linger(seen, serve):
        return _restore(seen, about)
    since = serve.status.unserved_since
    if since is None:
        fresh = msgspec.structs.replace(serve.status, unserved_since=about.now)
        return tell(
            seen, serve, about, ServingState.ACTIVE, "nobody serves it; the Router stays for a while", status=fresh
        )
    if about.now < since + about.settings.linger:
        return Wait("the Router stays for a while", since + about.settings.linger)
    return _restore(seen, about)


def _may_linger(seen: Seen, serve: ServeObject) -> bool:
    """Whether the Router still carries what the team wants carried. Nothing is mended for nobody: otherwise the Service is put back."""
    served = served_of(seen, serve)
    spec = as_object(as_object(seen.service).get("spec"))
    return (
        bool(served.selector)
        and {**spec, "selector": served.selector} == serve.status.original
        and selector_of(seen.service) == served.switched
        and seen.origin is not None
        and at(seen.origin, "metadata", "deletionTimestamp") is None
        and manifests.same_content(seen.origin, manifests.origin_service(served))
        and router_fits(seen, served)
    )


def _restore(seen: Seen, about: Circumstances) -> Step:
    serve = seen.serve
    if is_marked(seen):
        if serve is not None and serve.status.state != ServingState.RESTORING:
            return tell(seen, serve, about, ServingState.RESTORING, "the Service is being put back", switched=False)
        return _switch_back(seen)
    if seen.deployment is not None or seen.router is not None or seen.origin is not None:
        was_switched = serve is None or condition_of(serve.status, SWITCHED) is not None
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
    return point(seen, "switch the Service back", naming.own_selector(selector_of(seen.service), seen.ref, known))


def _clean_up(seen: Seen, about: Circumstances) -> Step:
    """Remove what is ours, the Router first, and let go of the Serve object at last."""
    namespace, serve = seen.ref.namespace, seen.serve
    name = naming.router_of(seen.ref).name
    for what, path, existing in (
        ("Deployment", f"{APPS}/{namespace}/deployments/{name}", seen.deployment),
        ("PodDisruptionBudget", f"{POLICY}/{namespace}/poddisruptionbudgets/{name}", seen.budget),
        ("Service", f"{CORE}/{namespace}/services/{name}", seen.router),
        ("ServiceAccount", f"{CORE}/{namespace}/serviceaccounts/{name}", seen.account),
        *(
            ("NetworkPolicy", f"{NETWORKING}/{namespace}/networkpolicies/{at(one, 'metadata', 'name')}", one)
            for one in seen.guards
        ),
        ("Service", f"{CORE}/{namespace}/services/{naming.origin_of(seen.ref).name}", seen.origin),
    ):
        if (
            existing is not None
            and manifests.is_ours(existing)
            and at(existing, "metadata", "deletionTimestamp") is None
        ):
            return delete(f"delete {what}", path, existing)
    if serve is None:
        return Gone()
    if serve.deleting:
        return release(serve) if serve.is_held else Wait("others hold the Serve object")
    if is_lost(seen) and serve.owner_uid is not None:
        return delete_serve(serve)
    if seen.refusal is not None or any(one.problem for one in serve.routes):
        return _rest(seen, serve, about)
    return delete_serve(serve) if serve.is_held else Wait("there is no route")


def _rest(seen: Seen, serve: ServeObject, about: Circumstances) -> Step:
    """Nothing of ours is there, and the object says why."""
    if serve.is_held:
        return release(serve)
    message = seen.refusal or next((one.problem for one in serve.routes if one.problem), "")
    status = msgspec.structs.replace(
        serve.status,
        original=None,
        origin_selector=None,
        selector_seal="",
        targets=None,
        unserved_since=None,
        reversals=(),
    )
    step = told(seen, serve, about, ServingState.REFUSED, message, status=status, forget_switch=True)
    return step or Wait(message)
