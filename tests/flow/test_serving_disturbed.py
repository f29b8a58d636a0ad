"""Whatever somebody does by hand to a served Service or to what we made for it: when all has come to rest the team's traffic has a way to its pods.

Each disturbance meets a service that is served, one whose Router lingers after the last serve, and one that is being put back.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from codezero.model.services import ServiceRef
from codezero.system.serving import naming
from codezero.testing.serving import SERVES, ServingCluster, serving_cluster

# As long as names can be.
ORDERS = ServiceRef("shop", "o" * 63)
OWN = {"app": ORDERS.name}
ORIGIN, ROUTER = naming.origin_of(ORDERS).name, naming.router_of(ORDERS).name

Disturbance = Callable[[ServingCluster], Any]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("shop")
        cluster.add_service(ORDERS)
        await cluster.settle_pods(ORDERS)
        yield cluster


def delete(resource: str, name: str) -> Disturbance:
    return lambda cluster: cluster.store.delete(resource, "shop", name)


def patch(resource: str, name: str, content: dict[str, Any], **options: Any) -> Disturbance:
    return lambda cluster: cluster.store.patch(resource, "shop", name, content, **options)


def in_turn(*disturbances: Disturbance) -> Disturbance:
    def all_of_them(cluster: ServingCluster) -> None:
        for one in disturbances:
            one(cluster)

    return all_of_them


def port(**changes: Any) -> dict[str, Any]:
    return {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP", **changes}


def made_anew(cluster: ServingCluster) -> None:
    """`kubectl replace --force` with what `kubectl get -o yaml` said."""
    content = cluster.service(ORDERS)
    spec = {name: value for name, value in content["spec"].items() if name not in {"clusterIP", "clusterIPs"}}
    cluster.store.delete("services", "shop", ORDERS.name)
    cluster.store.create("services", "shop", {"metadata": {"name": ORDERS.name}, "spec": spec})


def without_object(cluster: ServingCluster) -> None:
    """Somebody who has no patience strips the finalizer."""
    cluster.store.patch(SERVES, "shop", ORDERS.name, {"metadata": {"finalizers": []}})
    if cluster.store.find(SERVES, "shop", ORDERS.name) is not None:
        cluster.store.delete(SERVES, "shop", ORDERS.name)


NO_ORIGIN = delete("services", ORIGIN)
DISTURBANCES: dict[str, Disturbance] = {
    "no origin": NO_ORIGIN,
    "no Router Service": delete("services", ROUTER),
    "no Deployment": delete("deployments.apps", ROUTER),
    "no ServiceAccount": delete("serviceaccounts", ROUTER),
    "no Serve object": without_object,
    "no Serve object, no Router": in_turn(without_object, delete("deployments.apps", ROUTER)),
    "no object of ours but the Serve object": in_turn(
        NO_ORIGIN, delete("services", ROUTER), delete("deployments.apps", ROUTER), delete("serviceaccounts", ROUTER)
    ),
    "no Router pods wanted": patch("deployments.apps", ROUTER, {"spec": {"replicas": 0}}),
    "origin turned": patch("services", ORIGIN, {"spec": {"selector": {"app": "evil"}}}),
    "target port changed": patch("services", ORDERS.name, {"spec": {"ports": [port(targetPort=9090)]}}),
    "port renamed": patch("services", ORDERS.name, {"spec": {"ports": [port(name="www")]}}),
    "port added": patch(
        "services", ORDERS.name, {"spec": {"ports": [port(), port(name="admin", port=81, targetPort=8081)]}}
    ),
    "scaled to zero": patch("deployments.apps", ORDERS.name, {"spec": {"replicas": 0}}),
    "scaled to five": patch("deployments.apps", ORDERS.name, {"spec": {"replicas": 5}}),
    "record forged": patch(
        SERVES, ORDERS.name, {"status": {"original": {"selector": {"app": "evil"}}}}, subresource="status"
    ),
    "record forged, Router gone": in_turn(
        patch(SERVES, ORDERS.name, {"status": {"original": {"selector": {"app": "evil"}}}}, subresource="status"),
        delete("deployments.apps", ROUTER),
    ),
    "made anew from its copy": made_anew,
    "without the ports' health": patch("services", ORDERS.name, {"spec": {"publishNotReadyAddresses": True}}),
}


async def rest(cluster: ServingCluster) -> None:
    """Let a System that has just started work for some minutes."""
    reconciler = cluster.reconciler()
    for _ in range(25):
        await reconciler.settle(ORDERS)
        await cluster.catch_up()
        cluster.apply_plans(ORDERS)
        cluster.now += 6


def has_a_way(cluster: ServingCluster) -> None:
    """The Service leads to its own pods, or to Routers that are ready and lead there."""
    selector = cluster.selector(ORDERS)
    if selector != OWN:
        assert selector == naming.switched(OWN, ORDERS)
        assert cluster.endpoints(naming.router_of(ORDERS))
        origin = cluster.store.find("services", "shop", ORIGIN)
        assert origin is not None
        assert origin.content["spec"]["selector"] == OWN
        assert origin.content["spec"]["ports"] == cluster.service(ORDERS)["spec"]["ports"]
        return
    assert cluster.endpoints(ORDERS) == {
        pod.content["status"]["podIP"]
        for pod in cluster.store.list("pods", "shop")
        if OWN.items() <= pod.content["metadata"]["labels"].items()
    }


@pytest.mark.parametrize("phase", ["served", "lingering", "being put back"])
@pytest.mark.parametrize("what", DISTURBANCES)
async def test_the_teams_traffic_has_a_way(cluster: ServingCluster, what: str, phase: str) -> None:
    route = cluster.route(ORDERS)
    cluster.settings = type(cluster.settings)(image="router", linger=1e6, drain=5.0)
    reconciler = cluster.reconciler()
    cluster.serve(ORDERS, route)
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    cluster.hold(ORDERS, route)
    if phase == "lingering":
        cluster.set_routes(ORDERS)
        await reconciler.settle(ORDERS)
        assert cluster.selector(ORDERS) != OWN
    if phase == "being put back":
        cluster.store.delete(SERVES, "shop", ORDERS.name)
        await reconciler.step(ORDERS)
    DISTURBANCES[what](cluster)
    await rest(cluster)

    has_a_way(cluster)
    if what == "scaled to zero":
        patch("deployments.apps", ORDERS.name, {"spec": {"replicas": 2}})(cluster)
        await rest(cluster)
        has_a_way(cluster)
        assert cluster.endpoints(naming.origin_of(ORDERS)) or cluster.endpoints(ORDERS)
