"""One look decides one step, and every gate before the switch holds by itself."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.ids import TeamspaceId, new_ulid
from codezero.model.services import ServiceRef
from codezero.system.kubernetes.objects import ServeResource
from codezero.system.serving import manifests, naming, preflight, rewiring
from codezero.system.serving.manifests import RouterSettings, Served, Trust
from codezero.system.serving.seen import Endpoints, Seen
from codezero.system.serving.serves import ServeObject, Serves, read_serve
from codezero.system.serving.steps import Circumstances, Gone, Step, Wait, Write, without_routes
from codezero.system.serving.telling import timestamp
from codezero.testing.kubernetes import FilledInventory, service_json
from codezero.wire.serve_resource import (
    Condition,
    Route,
    RouteCondition,
    RoutePort,
    RouterConfig,
    ServeStatus,
    sealed,
    selector_seal,
)

Json = dict[str, Any]

ORDERS = ServiceRef("shop", "orders")
OWN = {"app": "orders"}
ROUTER = naming.switched(OWN, ORDERS)
KEY, UID, NOW = b"k" * 32, "service-uid", 1_800_000_000.0
TRUST = Trust(TeamspaceId(new_ulid()), "PEM")
SETTINGS = RouterSettings(image="router", drain=30.0, linger=100.0)
SPEC: Json = {"selector": OWN, "ports": [{"name": "web", "port": 80, "targetPort": "http"}], "clusterIP": "10.96.0.9"}
SERVED = Served(ORDERS, UID, SPEC, {"http": 8080}, frozenset({80}))
PODS = Endpoints({"10.0.0.1": frozenset({("web", 8080)}), "10.0.0.2": frozenset({("web", 8080)})})
ROUTERS = Endpoints({"10.0.0.9": frozenset({("web", 8080)})})
ABOUT = Circumstances(now=NOW, settings=SETTINGS, trust=TRUST, key=KEY)
RECORDED = ServeStatus(
    state="preparing",
    observed_generation=1,
    original=SPEC,
    origin_selector=OWN,
    selector_seal=selector_seal(OWN, service_uid=UID, key=KEY),
    targets={"http": 8080},
    looked_into=(80,),
    router_config=RouterConfig(1),
)
SWITCHED = (Condition("Switched", "True", "Router", "", "2027-01-15T08:00:00Z", 1),)


def a_route(**changes: Any) -> Route:
    content: Json = {
        "user": new_ulid(),
        "condition": RouteCondition("default"),
        "ports": (RoutePort(3000, 80),),
        "id": new_ulid(),
        "since": int(NOW * 1000),
        "expires": NOW + 1000,
        **changes,
    }
    return sealed(Route(**content), service_uid=UID, key=KEY)


def serve_object(*routes: Route, status: ServeStatus = RECORDED, **metadata: Any) -> ServeObject:
    content = {
        "metadata": {
            "name": "orders",
            "namespace": "shop",
            "uid": "serve-uid",
            "resourceVersion": "7",
            "generation": 1,
            "finalizers": ["codezero.io/restore"],
            "ownerReferences": [{"kind": "Service", "uid": UID}],
            **metadata,
        },
        "spec": {"service": "orders", "routes": routes},
        "status": status,
    }
    resource = msgspec.json.decode(msgspec.json.encode(content), type=ServeResource)
    return read_serve(resource, service_uid=UID, key=KEY)


def stored(content: Json, **metadata: Any) -> Json:
    return {**content, "metadata": {**content["metadata"], "uid": f"{content['kind']}-uid", **metadata}}


def service(selector: Json, **spec: Any) -> Json:
    metadata = {"name": "orders", "namespace": "shop", "uid": UID, "resourceVersion": "5"}
    return {"kind": "Service", "metadata": metadata, "spec": {**SPEC, "selector": selector, **spec}}


def ready(*, selector: Json = OWN, status: ServeStatus = RECORDED, routes: int = 1, **changes: Any) -> Seen:
    """Everything is there, and the next step is the switch."""
    origin = stored(manifests.origin_service(SERVED))
    origin["spec"] = {**origin["spec"], "clusterIP": "10.96.0.50"}
    deployment = stored(
        manifests.router_deployment(SERVED, origin="10.96.0.50", settings=SETTINGS, trust=TRUST), generation=1
    )
    deployment["status"] = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}
    seen = Seen(
        ref=ORDERS,
        serve=serve_object(
            *(a_route(condition=RouteCondition("header", "x", str(n))) for n in range(routes)), status=status
        ),
        content={"metadata": {"name": "orders", "resourceVersion": "7"}},
        service=service(selector),
        origin=origin,
        account=stored(manifests.router_account(SERVED)),
        router=stored(manifests.router_service(SERVED)),
        deployment=deployment,
        budget=stored(manifests.router_budget(SERVED)),
        own_endpoints=ROUTERS if selector == ROUTER else PODS,
        origin_endpoints=PODS,
        router_endpoints=ROUTERS,
    )
    return replace(seen, **changes)


def step(seen: Seen, **about: Any) -> Step:
    return rewiring.next_step(seen, replace(ABOUT, **about))


def told(found: Step) -> ServeStatus:
    """The status that a step writes."""
    assert isinstance(found, Write), found
    assert found.path.endswith("/status")
    assert isinstance(found.body, dict)
    return msgspec.convert(found.body["status"], ServeStatus)


def selector_of(found: Step) -> Json:
    """The selector that a step points the Service by."""
    assert isinstance(found, Write), found
    assert found.path == "/api/v1/namespaces/shop/services/orders"
    assert isinstance(found.body, list)
    operations = {(one["op"], one["path"]): one["value"] for one in found.body}
    # Nothing is pointed by a decision on something old.
    assert operations["test", "/metadata/resourceVersion"] == "5"
    assert operations["test", "/metadata/uid"] == UID
    assert ("test", "/spec/selector") in operations
    return operations["replace", "/spec/selector"]


# --- there -----------------------------------------------------------------------------------------------------------------------------------


def test_before_anything_the_teams_spec_is_recorded() -> None:
    bare = Seen(
        ref=ORDERS,
        serve=serve_object(a_route(), status=ServeStatus()),
        content={},
        service=service(OWN),
        own_endpoints=PODS,
    )
    status = told(step(bare))

    assert (status.original, status.origin_selector, status.targets) == (SPEC, OWN, {"http": 8080})
    assert status.state == "preparing"


def test_an_object_is_held_before_anything_is_changed() -> None:
    """Else it could go while the Service leads to a Router, and with it the record."""
    found = step(ready(serve=serve_object(a_route(), finalizers=[])))

    assert isinstance(found, Write)
    assert found.what == "hold the Serve object"


def test_with_everything_in_place_the_service_is_switched() -> None:
    assert selector_of(step(ready())) == ROUTER


OTHERS = Endpoints({"10.0.0.1": frozenset({("web", 8080)})})
ELSEWHERE = Endpoints({address: frozenset({("web", 9999)}) for address in PODS.ready})


@pytest.mark.parametrize("origin", [Endpoints(), OTHERS, ELSEWHERE])
def test_not_before_the_origin_leads_to_the_same_pods(origin: Endpoints) -> None:
    """Same addresses, same ports: what falls back must arrive where it did."""
    assert "origin" in told(step(ready(origin_endpoints=origin))).message


@pytest.mark.parametrize("routers", [Endpoints(), Endpoints({"10.0.0.9": frozenset({("other", 1)})})])
def test_not_before_a_router_is_ready_on_all_ports(routers: Endpoints) -> None:
    assert "Router" in told(step(ready(router_endpoints=routers))).message


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"observedGeneration": 0, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
        {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 2},
        {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2},
    ],
)
def test_not_while_routers_of_an_older_template_are_left(status: Json) -> None:
    """They listen on other ports, and a slice does not show that."""
    seen = ready()
    assert seen.deployment is not None
    found = told(step(replace(seen, deployment={**seen.deployment, "status": status})))

    assert "Router" in found.message


def test_why_the_cluster_makes_no_router_is_told() -> None:
    seen = ready(router_endpoints=Endpoints())
    words = 'pods "cz-router-{0}-x7z2p" is forbidden: failed quota: team: must specify limits.cpu for: router'
    assert seen.deployment is not None
    found: list[str] = []
    # Each pod that the cluster does not make has another name, and to tell that again would be a write each.
    for number in ("5c6f", "7d88"):
        failure = {"type": "ReplicaFailure", "status": "True", "message": words.format(number)}
        status = {**seen.deployment["status"], "conditions": [failure]}
        found.append(told(step(replace(seen, deployment={**seen.deployment, "status": status}))).message)

    assert found[0] == found[1]
    assert "pods is forbidden: failed quota: team: must specify limits.cpu for: router; an administrator" in found[0]
    assert "router.resources" in found[0]


def test_what_to_do_is_told_however_much_the_cluster_says() -> None:
    seen = ready(router_endpoints=Endpoints())
    failure = {"type": "ReplicaFailure", "status": "True", "message": "no, and " * 1000}
    assert seen.deployment is not None
    status = {**seen.deployment["status"], "conditions": [failure]}
    message = told(step(replace(seen, deployment={**seen.deployment, "status": status}))).message

    assert len(message) < 1000
    assert "router.resources" in message


def test_that_router_pods_do_not_come_up_is_told_with_where_to_look() -> None:
    """An image that cannot be pulled says nothing else."""
    seen = ready(router_endpoints=Endpoints())
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    assert seen.deployment is not None
    status = {**seen.deployment["status"], "conditions": [late]}
    found = told(step(replace(seen, deployment={**seen.deployment, "status": status})))

    assert f"kubectl describe pods -l codezero.io/service={naming.hash_of(ORDERS)}" in found.message


def test_not_without_knowing_whom_routers_believe() -> None:
    assert "identity" in told(step(ready(), trust=None)).message


def test_not_while_a_reversal_is_fresh() -> None:
    status = msgspec.structs.replace(RECORDED, reversals=(NOW - 1,))

    assert step(ready(status=status)) == Wait("", NOW + 1)
    assert selector_of(step(ready(status=status), now=NOW + 1)) == ROUTER


def test_a_switched_service_is_active_when_routers_know_its_routes() -> None:
    status = told(step(ready(selector=ROUTER)))
    assert status.state == "active"
    assert {one.type: one.status for one in status.conditions} == {"Switched": "True", "Valid": "True"}

    unknown = msgspec.structs.replace(RECORDED, router_config=RouterConfig(0))
    assert told(step(ready(selector=ROUTER, status=unknown))).state == "preparing"
    # Newcomers do not make it less so for those who are there.
    active = msgspec.structs.replace(unknown, state="active")
    assert told(step(ready(selector=ROUTER, status=active))).state == "active"


@pytest.mark.parametrize(
    "missing",
    [{"router_endpoints": Endpoints()}, {"origin": None}, {"deployment": None}],
    ids=["routers", "origin", "deployment"],
)
def test_a_switched_service_without_what_it_leads_to_is_switched_back_at_once(missing: Json) -> None:
    status = msgspec.structs.replace(RECORDED, state="active", conditions=SWITCHED)

    assert selector_of(step(ready(selector=ROUTER, status=status, **missing))) == OWN


def test_switching_back_waits_for_no_record() -> None:
    """A cluster whose definition of Serve objects is older takes no new one, and the team's traffic must not stay with a Router that is gone."""
    status = msgspec.structs.replace(RECORDED, state="active", conditions=SWITCHED)
    changed = service(ROUTER, ports=[{"name": "web", "port": 80, "targetPort": 9090}])

    assert selector_of(step(ready(selector=ROUTER, status=status, router_endpoints=Endpoints()))) == OWN
    assert selector_of(step(ready(selector=ROUTER, status=status, service=changed))) == OWN


@pytest.mark.parametrize(("manager", "reversals"), [("codezero-system", ()), ("helm", (NOW,))])
def test_who_put_the_selector_back_is_known_by_its_owner(manager: str, reversals: tuple[float, ...]) -> None:
    """What we did ourselves is no fight."""
    status = msgspec.structs.replace(RECORDED, state="active", conditions=SWITCHED)
    own = service(OWN)
    own["metadata"]["managedFields"] = [{"manager": manager, "fieldsV1": {"f:spec": {"f:selector": {"f:app": {}}}}}]
    first = told(step(ready(status=status, service=own)))

    assert first.reversals == reversals
    assert ("helm" in first.message) == bool(reversals)
    assert ("after 2 s" in first.message) == bool(reversals)
    assert {one.type: one.status for one in first.conditions}["Switched"] == "False"


@pytest.mark.parametrize(
    ("stood", "counted"),
    [(0, 3), (rewiring.FIGHT_SECONDS - 1, 3), (rewiring.FIGHT_SECONDS, 1), (86400, 1)],
)
def test_who_lets_the_switched_selector_stand_for_a_while_does_not_fight(stood: float, counted: int) -> None:
    """A deployment writes all manifests, whatever it finds; a controller answers our write."""
    since = timestamp(NOW - stood)
    switched = (replace_time(SWITCHED[0], since),)
    before = (NOW - stood - 20, NOW - stood - 2)
    status = msgspec.structs.replace(RECORDED, state="active", conditions=switched, reversals=before)
    own = service(OWN)
    own["metadata"]["managedFields"] = [{"manager": "helm", "fieldsV1": {"f:spec": {"f:selector": {"f:app": {}}}}}]
    first = told(step(ready(status=status, service=own)))

    assert len(first.reversals) == counted
    assert first.reversals[-1] == NOW
    assert (first.state == "contested") == (counted == 3)
    assert ("after 2 s" in first.message) == (counted == 1)


@pytest.mark.parametrize("since", ["", "yesterday", "2027-01-15T08:00:00", "2099-01-01T00:00:00Z"])
def test_a_moment_that_nobody_can_read_is_no_peace(since: str) -> None:
    """Whoever may write the status must not keep the two of us writing for ever."""
    switched = (replace_time(SWITCHED[0], since),)
    status = msgspec.structs.replace(RECORDED, state="active", conditions=switched, reversals=(NOW - 20, NOW - 10))
    own = service(OWN)
    own["metadata"]["managedFields"] = [{"manager": "helm", "fieldsV1": {"f:spec": {"f:selector": {"f:app": {}}}}}]

    assert told(step(ready(status=status, service=own))).state == "contested"


def replace_time(condition: Condition, moment: str) -> Condition:
    return msgspec.structs.replace(condition, last_transition_time=moment)


def test_a_selector_with_a_key_too_few_is_corrected() -> None:
    spec = {**SPEC, "selector": {"app": "orders", "tier": "x"}}
    seal = selector_seal(spec["selector"], service_uid=UID, key=KEY)
    status = msgspec.structs.replace(RECORDED, original=spec, selector_seal=seal)
    seen = ready(selector=ROUTER, status=status)
    served = Served(ORDERS, UID, spec, {"http": 8080}, frozenset({80}))
    assert seen.origin is not None
    assert seen.deployment is not None
    origin = stored(manifests.origin_service(served))
    origin["spec"]["clusterIP"] = "10.96.0.50"
    fixed = manifests.router_deployment(served, origin="10.96.0.50", settings=SETTINGS, trust=TRUST)
    deployment = {**stored(fixed, generation=1), "status": seen.deployment["status"]}
    seen = replace(seen, origin=origin, router=stored(manifests.router_service(served)), deployment=deployment)

    assert selector_of(step(seen)) == naming.switched(spec["selector"], ORDERS)


# --- and back --------------------------------------------------------------------------------------------------------------------------------

GOING = {"deletionTimestamp": "2027-01-01T00:00:00Z"}


def going(status: ServeStatus = RECORDED) -> ServeObject:
    return serve_object(a_route(), status=status, **GOING)


def test_first_the_record_then_the_selector() -> None:
    status = msgspec.structs.replace(RECORDED, state="active", conditions=SWITCHED)
    first = told(step(ready(selector=ROUTER, serve=going(status))))

    assert first.state == "restoring"
    assert selector_of(step(ready(selector=ROUTER, serve=going(first)))) == OWN


def test_nothing_is_removed_before_slices_show_the_teams_pods() -> None:
    status = msgspec.structs.replace(RECORDED, state="restoring", conditions=SWITCHED)

    assert isinstance(step(ready(serve=going(status), own_endpoints=ROUTERS), back_since=NOW - 1000), Wait)


def test_a_name_instead_of_pods_is_waited_for_in_vain() -> None:
    """Kubernetes leaves the slices of a Service that becomes an ExternalName as they are."""
    status = msgspec.structs.replace(RECORDED, state="restoring", conditions=SWITCHED)
    renamed = service(OWN, type="ExternalName", externalName="orders.example.com")
    found = step(ready(serve=going(status), service=renamed, own_endpoints=ROUTERS), back_since=NOW - 30)

    assert isinstance(found, Write)
    assert found.what == "delete Deployment"


def test_the_router_drains_before_it_goes() -> None:
    status = msgspec.structs.replace(RECORDED, state="restoring", conditions=SWITCHED)
    seen = ready(serve=going(status))

    assert step(seen, back_since=NOW - 29) == Wait("the Router drains", NOW + 1)
    found = step(seen, back_since=NOW - 30)
    assert isinstance(found, Write)
    assert (found.what, found.uid) == ("delete Deployment", "Deployment-uid")


def test_what_was_never_switched_needs_no_draining() -> None:
    found = step(ready(serve=going()))

    assert isinstance(found, Write)
    assert found.what == "delete Deployment"


def test_the_object_goes_last() -> None:
    nothing = {"origin": None, "account": None, "router": None, "deployment": None, "budget": None}
    found = step(ready(serve=going(), **nothing))

    assert isinstance(found, Write)
    assert found.what == "let go of the Serve object"
    assert step(ready(serve=None, **nothing)) == Gone()


def test_without_any_record_nothing_is_pointed_at_random() -> None:
    """An empty selector would be worse than a Router that knows its origin."""
    nothing = {"origin": None, "account": None, "router": None, "deployment": None, "budget": None}

    assert isinstance(step(ready(selector=ROUTER, serve=None, **nothing)), Wait)
    lost = msgspec.structs.replace(RECORDED, original=None, state="restoring")
    assert isinstance(step(ready(selector=ROUTER, serve=going(lost), **nothing)), Wait)


def test_what_is_not_ours_is_not_deleted() -> None:
    theirs = {"kind": "Service", "metadata": {"name": naming.origin_of(ORDERS).name, "uid": "x"}, "spec": {}}
    nothing = {"origin": theirs, "account": None, "router": None, "deployment": None, "budget": None}
    found = step(ready(serve=going(), **nothing))

    assert isinstance(found, Write)
    assert found.what == "let go of the Serve object"


def test_a_record_that_the_system_did_not_make_is_not_put_back() -> None:
    """T25: who may write a status may not choose by it where the team's traffic goes. The origin Service knows it too."""
    forged = {**SPEC, "selector": {"app": "evil"}}
    for status in (
        msgspec.structs.replace(RECORDED, original=forged, state="restoring", conditions=SWITCHED),
        msgspec.structs.replace(RECORDED, selector_seal="", state="restoring", conditions=SWITCHED),
    ):
        assert selector_of(step(ready(selector=ROUTER, serve=going(status)))) == OWN
        active = msgspec.structs.replace(status, state="active")
        written = told(step(ready(selector=ROUTER, status=active)))
        assert (written.original, written.selector_seal) == (SPEC, RECORDED.selector_seal)
    alone = {"origin": None, "account": None, "router": None, "deployment": None, "budget": None}
    status = msgspec.structs.replace(RECORDED, original=forged, state="restoring", conditions=SWITCHED)
    assert isinstance(step(ready(selector=ROUTER, serve=going(status), **alone)), Wait)


def test_a_namesake_made_from_a_copy_of_the_switched_service_is_pointed_back() -> None:
    """As backups and `kubectl replace --force` do: the object is that of another, the selector is ours."""
    status = msgspec.structs.replace(RECORDED, state="restoring", conditions=SWITCHED)
    seal = selector_seal(OWN, service_uid="before", key=KEY)
    seen = ready(
        selector=ROUTER,
        serve=serve_object(
            a_route(),
            status=msgspec.structs.replace(status, selector_seal=seal),
            ownerReferences=[{"kind": "Service", "uid": "before"}],
        ),
    )

    assert selector_of(step(seen)) == OWN
    assert selector_of(step(replace(seen, origin=None, deployment=None, router_endpoints=Endpoints()))) == OWN


# --- lingering --------------------------------------------------------------------------------------------------------------------------------

UNSERVED = msgspec.structs.replace(RECORDED, state="active", conditions=SWITCHED, unserved_since=NOW - 1)


def test_a_router_lingers_for_the_next_serve() -> None:
    assert step(ready(selector=ROUTER, status=UNSERVED, routes=0)) == Wait("the Router stays for a while", NOW + 99)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": None},
        {"origin": {**stored(manifests.origin_service(SERVED)), "spec": {"selector": {"app": "x"}}}},
        {"router_endpoints": Endpoints()},
        {"deployment": None},
        {"service": service(ROUTER, ports=[{"name": "web", "port": 80, "targetPort": 9090}])},
        {"service": service(ROUTER, ports=[{"name": "www", "port": 80, "targetPort": "http"}])},
        {"service": service({**ROUTER, "tier": "x"})},
    ],
    ids=["no origin", "origin turned", "no router", "no deployment", "target port", "port renamed", "selector"],
)
def test_a_router_that_nobody_uses_goes_at_once_when_it_no_longer_fits(change: Json) -> None:
    """Nobody would mend it for half an hour, and all the team's traffic goes through it."""
    for since in (NOW - 1, None):
        status = msgspec.structs.replace(UNSERVED, unserved_since=since)
        first = told(step(ready(selector=ROUTER, status=status, routes=0, **change)))
        assert first.state == "restoring"
        found = selector_of(step(ready(selector=ROUTER, status=first, routes=0, **change)))
        assert found["app"] == "orders"


# --- time ------------------------------------------------------------------------------------------------------------------------------------


def test_routes_end_by_time_with_a_reason() -> None:
    expired, never_there, here = a_route(expires=NOW), a_route(since=int(NOW * 1000) - 1_800_000), a_route()
    found = dict(rewiring.ending_routes(serve_object(expired, never_there, here), NOW))

    assert found == {expired.id: "it has expired", never_there.id: "its laptop was away for 30 minutes"}
    assert rewiring.next_end(serve_object(here)) == NOW + 1000
    assert rewiring.next_end(serve_object()) is None


def test_ending_leaves_other_entries_as_they_are() -> None:
    """Also those that nobody understands."""
    content = {"spec": {"routes": [{"id": "a"}, "garbage", {"id": "b"}]}}
    found = without_routes(serve_object(), content, frozenset({"a"}))

    assert isinstance(found.body, list)
    assert found.body[-1]["value"] == ["garbage", {"id": "b"}]
    assert found.body[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}


# --- anything ---------------------------------------------------------------------------------------------------------------------------------

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 70000)
    | st.sampled_from(["", "a", "TCP", "http", "active", "contested"])
)
_KEYS = [
    "routes",
    "id",
    "service",
    "ports",
    "port",
    "targetPort",
    "name",
    "protocol",
    "selector",
    "app",
    "original",
    "state",
    "conditions",
    "type",
    "status",
    "targets",
    "reversals",
    "routerConfig",
    "revision",
    "unservedSince",
    "user",
]
_anything = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(spec=_anything, status=_anything, service_spec=_anything, deleting=st.booleans())
def test_whatever_somebody_writes_is_borne(
    spec: object, status: object, service_spec: object, *, deleting: bool
) -> None:
    """One object that nobody can read must not stop a System."""
    metadata = {
        "name": "orders",
        "namespace": "shop",
        "uid": "u",
        "resourceVersion": "7",
        **(GOING if deleting else {}),
    }
    resource = msgspec.json.decode(
        msgspec.json.encode({"metadata": metadata, "spec": spec, "status": status}), type=ServeResource
    )
    spec_of = service_spec if isinstance(service_spec, dict) else {}
    seen = ready(serve=read_serve(resource, service_uid=UID, key=KEY), service={**service(OWN), "spec": spec_of})
    good = read_serve(resource, service_uid=UID, key=KEY)
    good = replace(good, routes=serve_object(a_route()).routes, finalizers=("codezero.io/restore",), owner_uid=UID)
    bare = {"origin": None, "deployment": None, "router": None}
    for found in (seen, replace(seen, **bare), replace(seen, serve=good), replace(seen, serve=good, **bare)):
        assert isinstance(step(found), Write | Wait | Gone)
    assert preflight.refusal(ORDERS, spec_of, preflight.Surroundings(), own_namespace="codezero") is not False
    inventory = FilledInventory().synced()
    serves = Serves(inventory, clock=lambda: NOW)
    serves.changed(None, resource)
    inventory.put(service_json(naming.origin_of(ORDERS).name))
    serves.plan(ORDERS)
    serves.serving(ORDERS)
