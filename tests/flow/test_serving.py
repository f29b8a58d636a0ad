"""A served Service through what happens to it in a team's hands: manifests applied again, ports added, Services made anew, objects written by hand."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.model import problems
from codezero.model.services import ServiceRef
from codezero.sandbox.api import Options
from codezero.system.kubernetes.client import ApiError
from codezero.system.serving import naming
from codezero.system.serving.reconciler import Reconciler
from codezero.system.serving.repair import repair
from codezero.testing.serving import SERVES, TEAM, Json, ServingCluster, serving_cluster
from codezero.wire.serve_resource import RouteCondition

ORDERS = ServiceRef("shop", "orders")
OWN = {"app": "orders"}
ROUTER = naming.switched(OWN, ORDERS)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("shop")
        cluster.add_service(ORDERS)
        await cluster.settle_pods(ORDERS)
        yield cluster


async def active(cluster: ServingCluster, *routes: Any) -> Reconciler:
    """Serve `shop/orders`, and the System that does."""
    reconciler = cluster.reconciler()
    cluster.serve(ORDERS, *(routes or (cluster.route(ORDERS),)))
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    assert cluster.selector(ORDERS) == ROUTER
    return reconciler


async def rest(cluster: ServingCluster, reconciler: Reconciler, turns: int = 8) -> None:
    """Let everything happen that happens without time passing."""
    for _ in range(turns):
        await reconciler.settle(ORDERS)
        await cluster.catch_up()
        cluster.apply_plans(ORDERS)


def condition(cluster: ServingCluster, kind: str) -> str | None:
    found = {one["type"]: one["status"] for one in cluster.status(ORDERS).get("conditions", ())}
    return found.get(kind)


def events(cluster: ServingCluster) -> list[str]:
    return [
        one.content["message"]
        for one in cluster.store.list("events", "shop")
        if one.content["reason"] == "RouteRefused"
    ]


def told_to_its_team(cluster: ServingCluster) -> list[tuple[str, str]]:
    """The Events of the served Service, as `kubectl describe service` shows them."""
    uid = cluster.service(ORDERS)["metadata"]["uid"]
    found = [one.content for one in cluster.store.list("events", "shop")]
    return sorted((one["type"], one["reason"]) for one in found if one["involvedObject"]["uid"] == uid)


# --- what the team of a Service sees of it --------------------------------------------------------------------------------------------------


async def test_the_events_of_a_service_tell_when_it_is_served_and_when_no_more(cluster: ServingCluster) -> None:
    """Its team may never have heard of Serve objects; once each, whatever is looked at again, and by whichever System."""
    reconciler = await active(cluster)
    await rest(cluster, reconciler)
    during = told_to_its_team(cluster)
    other = cluster.reconciler()
    await rest(cluster, other)
    again = told_to_its_team(cluster)
    cluster.store.delete(SERVES, "shop", "orders")
    await cluster.drive(other, ORDERS, lambda: cluster.store.find(SERVES, "shop", "orders") is None)
    await rest(cluster, other)

    assert during == again == [("Normal", "Served")]
    assert told_to_its_team(cluster) == [("Normal", "ServeEnded"), ("Normal", "Served")]


# --- somebody else writes the Service -------------------------------------------------------------------------------------------------------


async def test_who_applies_the_manifest_each_second_is_let_have_it(cluster: ServingCluster) -> None:
    """The team's traffic is worth more than a serve; the owner is told who fights."""
    reconciler = await active(cluster)

    for _ in range(60):
        cluster.apply(ORDERS)
        await rest(cluster, reconciler, turns=2)
        cluster.now += 1
        if cluster.status(ORDERS)["state"] == "contested":
            break

    assert cluster.status(ORDERS)["state"] == "contested"
    assert "kubectl-client-side-apply" in cluster.status(ORDERS)["message"]
    for _ in range(20):
        cluster.apply(ORDERS)
        await rest(cluster, reconciler, turns=1)
        cluster.now += 1
        assert cluster.selector(ORDERS) == OWN
    assert cluster.ended == []


@pytest.mark.parametrize("by", ["a new route", "30 minutes of quiet"])
async def test_a_contested_service_is_tried_again(cluster: ServingCluster, by: str) -> None:
    route = cluster.route(ORDERS)
    reconciler = await active(cluster, route)
    cluster.hold(ORDERS, route)
    while cluster.status(ORDERS)["state"] != "contested":
        cluster.apply(ORDERS)
        await rest(cluster, reconciler, turns=2)
        cluster.now += 1

    if by == "a new route":
        cluster.set_routes(ORDERS, route, cluster.route(ORDERS, condition=RouteCondition("user")))
        await rest(cluster, reconciler)
    else:
        await rest(cluster, reconciler)
        assert cluster.selector(ORDERS) == OWN
        cluster.now += 1801
        await rest(cluster, reconciler)

    assert cluster.is_active(ORDERS)
    assert "reversals" not in cluster.status(ORDERS)


async def test_a_reversal_is_undone_after_a_pause_that_grows(cluster: ServingCluster) -> None:
    """2, then 10 s: a deployment that applies all manifests twice is no fight."""
    reconciler = await active(cluster)
    pauses: list[float] = []
    for _ in range(2):
        cluster.apply(ORDERS)
        begun = cluster.now
        await cluster.drive(reconciler, ORDERS, lambda: cluster.selector(ORDERS) == ROUTER)
        pauses.append(cluster.now - begun)
        await rest(cluster, reconciler)

    assert pauses == [2, 10]
    assert cluster.is_active(ORDERS)


async def test_who_deploys_again_and_again_keeps_the_serve(cluster: ServingCluster) -> None:
    """A loop of editing, building and applying (`skaffold dev`): each time the serve is back after two seconds."""
    reconciler = await active(cluster)
    pauses: list[float] = []
    for _ in range(12):
        cluster.now += 45
        await rest(cluster, reconciler, turns=1)
        cluster.apply(ORDERS)
        begun = cluster.now
        await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
        pauses.append(cluster.now - begun)

    assert max(pauses) <= 3
    assert cluster.ended == []


async def test_what_the_team_changes_is_what_is_put_back(cluster: ServingCluster) -> None:
    """A Service that was moved to other pods while it was served must not come back to the old ones."""
    reconciler = await active(cluster)
    cluster.add_deployment("shop", "orders-next", {"app": "orders-next"})
    cluster.store.patch("services", "shop", "orders", {"spec": {"selector": {"app": "orders-next"}}}, options=TEAM)

    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    origin = naming.origin_of(ORDERS)
    assert cluster.selector(origin) == {"app": "orders-next"}
    assert cluster.status(ORDERS)["original"]["selector"] == {"app": "orders-next"}
    cluster.store.delete(SERVES, "shop", "orders")
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))

    assert cluster.selector(ORDERS) == {"app": "orders-next"}


@pytest.mark.parametrize("then", ["served on", "ended", "repaired"])
async def test_a_switched_selector_that_somebody_edits_is_mended(cluster: ServingCluster, then: str) -> None:
    """Half a selector of ours leads to nobody, and must never become what is put back."""
    reconciler = await active(cluster)
    cluster.store.patch("services", "shop", "orders", {"spec": {"selector": {"pod": "x"}}}, options=TEAM)
    assert cluster.selector(ORDERS) == {**ROUTER, "pod": "x"}
    if then == "repaired":
        await repair(cluster.api, dry_run=False)
    elif then == "ended":
        cluster.store.delete(SERVES, "shop", "orders")
        await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))
    else:
        await reconciler.settle(ORDERS)
        assert cluster.status(ORDERS)["original"]["selector"] == {**OWN, "pod": "x"}

    assert cluster.selector(ORDERS) == {**OWN, "pod": "x"}


@pytest.mark.parametrize("applied", [True, False], ids=["whole manifest", "ports alone"])
async def test_a_port_that_is_added_leads_to_the_pods_until_routers_have_it(
    cluster: ServingCluster, *, applied: bool
) -> None:
    reconciler = await active(cluster)
    ports = [
        {"name": "web", "port": 80, "targetPort": "http"},
        {"name": "admin", "port": 81, "targetPort": 9090},
    ]
    if applied:
        cluster.apply(ORDERS, ports=ports)
    else:
        cluster.store.patch("services", "shop", "orders", {"spec": {"ports": ports}}, options=TEAM)
    await reconciler.settle(ORDERS)

    assert cluster.selector(ORDERS) == OWN, "no Router listens on 9090 yet"
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    listening = cluster.deployment(ORDERS)["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert [(one["containerPort"], one.get("name")) for one in listening] == [(9090, None), (8080, "http")]
    assert [port["port"] for port in cluster.service(naming.origin_of(ORDERS))["spec"]["ports"]] == [80, 81]
    cluster.store.delete(SERVES, "shop", "orders")
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))
    assert [port["port"] for port in cluster.service(ORDERS)["spec"]["ports"]] == [80, 81]


async def test_routes_travel_without_touching_the_router(cluster: ServingCluster) -> None:
    """A Deployment that changed with each route would restart Routers under everybody's requests."""
    reconciler = await active(cluster)
    before = cluster.deployment(ORDERS)["metadata"]["resourceVersion"]
    generation = cluster.deployment(ORDERS)["metadata"]["generation"]

    cluster.set_routes(ORDERS, cluster.route(ORDERS), cluster.route(ORDERS, condition=RouteCondition("user")))
    await rest(cluster, reconciler)

    assert cluster.is_active(ORDERS)
    assert cluster.deployment(ORDERS)["metadata"]["generation"] == generation
    assert cluster.deployment(ORDERS)["metadata"]["resourceVersion"] == before


# --- Routers ---------------------------------------------------------------------------------------------------------------------------------


async def test_an_older_definition_of_serve_objects_is_told_and_asked_for_nothing_all_the_time(
    cluster: ServingCluster,
) -> None:
    """It drops what it does not know, so the same would be written again and again."""
    definition = cluster.store.get("customresourcedefinitions.apiextensions.k8s.io", "", SERVES).copy()
    (version,) = definition["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["selectorSeal"]
    cluster.store.update("customresourcedefinitions.apiextensions.k8s.io", "", definition)
    reconciler = cluster.reconciler()
    cluster.serve(ORDERS, cluster.route(ORDERS))
    with pytest.raises(ApiError, match="definition of Serve objects"):
        await reconciler.settle(ORDERS)

    assert cluster.selector(ORDERS) == OWN


async def test_without_a_router_the_service_leads_to_its_own_pods(cluster: ServingCluster) -> None:
    """Nodes die; that is no fight, and it is switched again when a Router is there."""
    reconciler = await active(cluster)
    for pod in cluster.store.list("pods", "shop"):
        if pod.content["metadata"]["labels"]["app"] != "orders":
            cluster.store.delete("pods", "shop", pod.name)
    await cluster.catch_up(pods=0)
    await reconciler.settle(ORDERS)

    assert cluster.selector(ORDERS) == OWN
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    assert "reversals" not in cluster.status(ORDERS)


async def test_a_lost_origin_is_not_relied_on(cluster: ServingCluster) -> None:
    """Routers fall back to its address, which a new one does not have."""
    reconciler = await active(cluster)
    cluster.store.delete("services", "shop", naming.origin_of(ORDERS).name)
    await reconciler.settle(ORDERS)

    assert cluster.selector(ORDERS) == OWN
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    address = cluster.service(naming.origin_of(ORDERS))["spec"]["clusterIP"]
    environment = cluster.deployment(ORDERS)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert address in next(one["value"] for one in environment if one["name"] == "CODEZERO_PLAN")


async def test_the_router_stays_for_the_next_serve(cluster: ServingCluster) -> None:
    """Repeated serves switch nothing, so no connection is torn."""
    reconciler = await active(cluster)
    version = cluster.service(ORDERS)["metadata"]["resourceVersion"]
    cluster.set_routes(ORDERS)
    await rest(cluster, reconciler)
    cluster.now += cluster.settings.linger - 1
    await rest(cluster, reconciler)
    assert cluster.status(ORDERS)["unservedSince"]
    cluster.set_routes(ORDERS, cluster.route(ORDERS))
    await rest(cluster, reconciler)

    assert cluster.is_active(ORDERS)
    assert cluster.service(ORDERS)["metadata"]["resourceVersion"] == version
    assert "unservedSince" not in cluster.status(ORDERS)


async def test_after_a_while_everything_is_put_back(cluster: ServingCluster) -> None:
    reconciler = await active(cluster)
    cluster.set_routes(ORDERS)
    await rest(cluster, reconciler)
    begun = cluster.now
    await cluster.drive(reconciler, ORDERS, lambda: cluster.selector(ORDERS) == OWN)

    assert cluster.now - begun == cluster.settings.linger
    assert cluster.ours("shop") != [], "connections through the Router may end by themselves"
    begun = cluster.now
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))
    assert cluster.now - begun >= cluster.settings.drain


async def test_pods_restart_after_the_switch_where_that_was_asked_for(cluster: ServingCluster) -> None:
    """Before it, new connections would stay with the pods as the old ones did."""
    seen: list[Json] = []
    moment = "2027-01-01T00:00:00Z"
    cluster.store.listen(
        lambda event: seen.append(dict(cluster.selector(ORDERS))) if event.stored.name == "orders" else None,
        "deployments.apps",
    )
    reconciler = cluster.reconciler()
    cluster.serve(ORDERS, cluster.route(ORDERS), annotations={"codezero.io/restart": moment})
    await cluster.settle_pods(ORDERS)
    seen.clear()
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    await rest(cluster, reconciler)

    template = cluster.store.get("deployments.apps", "shop", "orders").content["spec"]["template"]
    assert template["metadata"]["annotations"] == {"kubectl.kubernetes.io/restartedAt": moment}
    assert seen[0] == ROUTER
    assert cluster.store.get(SERVES, "shop", "orders").content["metadata"]["annotations"] == {}


# --- the end of Services, and of time --------------------------------------------------------------------------------------------------------


async def test_a_service_made_anew_is_another_one(cluster: ServingCluster) -> None:
    """Nothing is re-pointed to an application that nobody asked about."""
    route = cluster.route(ORDERS)
    reconciler = await active(cluster, route)
    cluster.store.delete("services", "shop", "orders")
    cluster.store.create("services", "shop", cluster.manifest(ORDERS), TEAM)
    version = cluster.service(ORDERS)["metadata"]["resourceVersion"]
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))

    assert cluster.service(ORDERS)["metadata"]["resourceVersion"] == version
    assert cluster.ended == [(route.id, "its Service was deleted")]


async def test_nothing_is_left_of_a_deleted_service(cluster: ServingCluster) -> None:
    route = cluster.route(ORDERS)
    reconciler = await active(cluster, route)
    cluster.store.delete("services", "shop", "orders")
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))

    assert cluster.ended == [(route.id, "its Service was deleted")]


async def test_a_namespace_can_be_deleted(cluster: ServingCluster) -> None:
    """The finalizer must not hold it for ever."""
    reconciler = await active(cluster)
    cluster.store.delete("namespaces", "", "shop")
    for _ in range(20):
        await reconciler.settle(ORDERS)
        await cluster.catch_up()
        cluster.now += 1

    assert cluster.store.find("namespaces", "", "shop") is None


async def test_deleting_the_object_ends_its_variants(cluster: ServingCluster) -> None:
    route = cluster.route(ORDERS)
    reconciler = await active(cluster, route)
    cluster.store.delete(SERVES, "shop", "orders")
    await reconciler.settle(ORDERS)

    assert cluster.ended == [(route.id, "its Serve object was deleted")]


async def test_removing_a_route_by_hand_ends_it(cluster: ServingCluster) -> None:
    route, other = cluster.route(ORDERS), cluster.route(ORDERS, condition=RouteCondition("user"))
    reconciler = await active(cluster, route, other)
    cluster.set_routes(ORDERS, other)
    await reconciler.settle(ORDERS)

    assert cluster.ended == [(route.id, "its route was removed")]


async def test_routes_expire(cluster: ServingCluster) -> None:
    route, other = (
        cluster.route(ORDERS, expires=cluster.now + 500),
        cluster.route(ORDERS, condition=RouteCondition("user")),
    )
    reconciler = await active(cluster, route, other)
    cluster.now += 500
    await rest(cluster, reconciler)

    assert cluster.ended == [(route.id, "it has expired")]
    routes = cluster.store.get(SERVES, "shop", "orders").content["spec"]["routes"]
    assert [one["id"] for one in routes] == [other.id]


async def test_a_laptop_that_stays_away_loses_its_route(cluster: ServingCluster) -> None:
    away, back, here = (cluster.route(ORDERS, condition=RouteCondition("header", "x-n", str(n))) for n in range(3))
    reconciler = await active(cluster, away, back, here)
    holder = "10.0.0.7:8801"
    statuses = [
        {"id": away.id, "awaySince": cluster.now},
        {"id": back.id, "awaySince": cluster.now + 100},
        {"id": here.id, "holder": holder},
    ]
    cluster.store.patch(SERVES, "shop", "orders", {"status": {"routes": statuses}}, subresource="status")
    cluster.now += 1800
    await rest(cluster, reconciler)

    assert cluster.ended == [(away.id, "its laptop was away for 30 minutes")]


# --- objects by hand -------------------------------------------------------------------------------------------------------------------------


async def test_a_route_by_hand_rewires_nothing(cluster: ServingCluster) -> None:
    """T25: who may write Serve objects gets no requests by it, and learns why."""
    forged = msgspec.structs.replace(cluster.route(ORDERS), expires=cluster.now + 10**6)
    bare = {"user": forged.user, "condition": {"type": "default"}, "ports": [{"localPort": 1, "remotePort": 80}]}
    before = cluster.service(ORDERS)["metadata"]["resourceVersion"]
    cluster.serve(ORDERS, forged, bare, finalizers=[], ownerReferences=[])
    reconciler = cluster.reconciler()
    await rest(cluster, reconciler)

    assert cluster.ours("shop") == []
    assert cluster.service(ORDERS)["metadata"]["resourceVersion"] == before
    status = cluster.status(ORDERS)
    assert status["state"] == "refused"
    assert [one["id"] for one in status["routes"]] == [forged.id, "route 1"]
    assert all(problems.FORGED.code in one["problem"] for one in status["routes"])
    assert condition(cluster, "Valid") == "False"
    assert told_to_its_team(cluster) == [("Warning", "ServeRefused")]
    assert len(events(cluster)) == 2
    await rest(cluster, reconciler)
    assert len(events(cluster)) == 2, "told once"
    assert cluster.store.find(SERVES, "shop", "orders") is not None, "it is theirs"


async def test_a_route_by_hand_beside_a_good_one_changes_nothing_for_it(cluster: ServingCluster) -> None:
    good = cluster.route(ORDERS)
    reconciler = await active(cluster, good)
    forged = msgspec.structs.replace(cluster.route(ORDERS), condition=RouteCondition("default"))
    cluster.set_routes(ORDERS, good, forged)
    await rest(cluster, reconciler)

    assert cluster.is_active(ORDERS)
    assert condition(cluster, "Valid") == "False"
    wrong = {one["id"]: "problem" in one for one in cluster.status(ORDERS)["routes"]}
    assert wrong == {good.id: False, forged.id: True}
    assert cluster.ended == []


async def test_an_object_for_no_service_is_left_to_its_maker(cluster: ServingCluster) -> None:
    route = msgspec.to_builtins(cluster.route(ORDERS))
    nowhere = ServiceRef("shop", "nowhere")
    content = {
        "apiVersion": "codezero.io/v1beta1",
        "kind": "Serve",
        "metadata": {"name": "nowhere"},
        "spec": {"service": "nowhere", "routes": [{**route, "ports": [{"localPort": 1, "remotePort": 80}]}]},
    }
    cluster.store.create(SERVES, "shop", content)
    await cluster.reconciler().settle(nowhere)

    assert cluster.status(nowhere)["state"] == "refused"


async def test_a_service_that_cannot_be_served_is_not(cluster: ServingCluster) -> None:
    """The order checked it; it may have changed since."""
    cluster.store.patch("services", "shop", "orders", {"spec": {"internalTrafficPolicy": "Local"}}, options=TEAM)
    cluster.serve(ORDERS, cluster.route(ORDERS))
    reconciler = cluster.reconciler()
    await rest(cluster, reconciler)

    assert cluster.status(ORDERS)["state"] == "refused"
    assert "internalTrafficPolicy" in cluster.status(ORDERS)["message"]
    assert cluster.ours("shop") == []


async def test_a_served_service_that_becomes_unservable_is_put_back(cluster: ServingCluster) -> None:
    reconciler = await active(cluster)
    cluster.store.patch("services", "shop", "orders", {"spec": {"internalTrafficPolicy": "Local"}}, options=TEAM)
    await cluster.drive(reconciler, ORDERS, lambda: not cluster.ours("shop"))
    await rest(cluster, reconciler)

    assert cluster.selector(ORDERS) == OWN
    assert cluster.status(ORDERS)["state"] == "refused"


async def test_what_bears_our_name_and_is_not_ours_is_left_alone(cluster: ServingCluster) -> None:
    name = naming.origin_of(ORDERS).name
    cluster.store.create("services", "shop", {"metadata": {"name": name}, "spec": {"ports": [{"port": 1}]}}, TEAM)
    cluster.serve(ORDERS, cluster.route(ORDERS))
    await rest(cluster, cluster.reconciler())

    assert cluster.selector(ORDERS) == OWN
    assert "somebody else's" in cluster.status(ORDERS)["message"]
    assert cluster.service(ServiceRef("shop", name))["spec"]["ports"][0]["port"] == 1


async def test_a_lost_record_comes_from_the_origin(cluster: ServingCluster) -> None:
    """Somebody deleted the object and its finalizer; the Service still leads to its Router."""
    reconciler = await active(cluster)
    cluster.store.patch(SERVES, "shop", "orders", {"metadata": {"finalizers": []}})
    cluster.store.delete(SERVES, "shop", "orders")
    await cluster.drive(cluster.reconciler(), ORDERS, lambda: cluster.is_gone(ORDERS))

    assert cluster.selector(ORDERS) == OWN
    reconciler = await active(cluster)
    cluster.store.patch(SERVES, "shop", "orders", {"status": None}, subresource="status")
    await rest(cluster, reconciler)
    assert cluster.status(ORDERS)["original"]["selector"] == OWN


async def test_policies_let_the_router_stand_where_the_pods_do(cluster: ServingCluster) -> None:
    """Additional ones: what the team allows stays as it is."""
    callers = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": "http"}]}
    policy = {"podSelector": {"matchLabels": OWN}, "policyTypes": ["Ingress"], "ingress": [callers]}
    cluster.store.create(
        "networkpolicies.networking.k8s.io", "shop", {"metadata": {"name": "orders"}, "spec": policy}, TEAM
    )
    reconciler = await active(cluster)

    made = {
        one.name: one.content["spec"]
        for one in cluster.store.list("networkpolicies.networking.k8s.io", "shop")
        if one.name != "orders"
    }
    router = naming.router_of(ORDERS).name
    assert made[router]["podSelector"]["matchLabels"] == OWN
    assert made[f"{router}-callers"]["ingress"] == [
        {**callers, "ports": [{"port": "http", "protocol": "TCP"}]}
    ] or made[f"{router}-callers"]["ingress"] == [callers]
    cluster.store.delete("networkpolicies.networking.k8s.io", "shop", "orders")
    await rest(cluster, reconciler)
    assert [one.name for one in cluster.store.list("networkpolicies.networking.k8s.io", "shop")] == []


async def test_who_fights_by_server_side_apply_is_named(cluster: ServingCluster) -> None:
    reconciler = await active(cluster)
    manifest = {"apiVersion": "v1", "kind": "Service", **cluster.manifest(ORDERS)}
    cluster.store.patch(
        "services",
        "shop",
        "orders",
        manifest,
        patch_kind="apply",
        options=Options(manager="argocd-controller"),
        force=True,
    )
    await reconciler.settle(ORDERS)

    assert "argocd-controller" in cluster.status(ORDERS)["message"]
