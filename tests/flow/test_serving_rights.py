"""The rights of a Teamspace's System are enough for all that a leading System does, and the API server enforces them here (T24)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
import yaml

from codezero.deploy import access
from codezero.deploy.values import Serving, Values
from codezero.kit.tasks import task_group
from codezero.model.services import ServiceRef
from codezero.system.cluster import ClusterFollower
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.client import ApiError, from_kubeconfig
from codezero.system.serving.enabled import EnabledNamespaces
from codezero.system.serving.reconciler import Reconciler
from codezero.system.serving.serves import Serves
from codezero.testing.kubernetes import until
from codezero.testing.serving import SEAL_KEY, SERVES, TEAM, Json, ServingCluster, serving_cluster

ORDERS, BILLS = ServiceRef("shop", "orders"), ServiceRef("payments", "bills")
COLLECTIONS = {
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles.rbac.authorization.k8s.io",
    "ClusterRoleBinding": "clusterrolebindings.rbac.authorization.k8s.io",
    "Role": "roles.rbac.authorization.k8s.io",
    "RoleBinding": "rolebindings.rbac.authorization.k8s.io",
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    """Its client is the System's own ServiceAccount, which may serve in one namespace."""
    async with serving_cluster(tmp_path) as cluster:
        for namespace in ("shop", "payments", "codezero"):
            cluster.add_namespace(namespace)
        for one in access.objects(Values(serve=Serving(("shop",))), "codezero"):
            cluster.store.create(COLLECTIONS[one["kind"]], one["metadata"].get("namespace", ""), one)
        admin = cluster.api
        config: Json = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"][0]["user"]["token"], _ = cluster.server.tokens.issue("codezero", "system")
        own = tmp_path / "system"
        own.write_text(yaml.safe_dump(config))
        cluster.api = from_kubeconfig(own)
        try:
            yield cluster
        finally:
            await cluster.api.close()
            cluster.api = admin


async def test_a_whole_life_needs_no_other_rights(cluster: ServingCluster) -> None:
    """With policies that guard the pods, a restart, a route by hand that is told about, and the team's manifest in between."""
    cluster.add_service(ORDERS)
    await cluster.settle_pods(ORDERS)
    policy = {"podSelector": {"matchLabels": {"app": "orders"}}, "policyTypes": ["Ingress"], "ingress": [{}]}
    cluster.store.create(
        "networkpolicies.networking.k8s.io", "shop", {"metadata": {"name": "orders"}, "spec": policy}, TEAM
    )
    reconciler = cluster.reconciler()
    by_hand = {
        "user": "01J0000000000000000000000A",
        "condition": {"type": "default"},
        "ports": [{"localPort": 1, "remotePort": 80}],
    }
    restart = {"codezero.io/restart": "2027-01-01T00:00:00Z"}
    cluster.serve(ORDERS, cluster.route(ORDERS), by_hand, annotations=restart)
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    cluster.store.patch("networkpolicies.networking.k8s.io", "shop", "orders", {"spec": {"ingress": []}})
    cluster.apply(ORDERS)
    await cluster.drive(reconciler, ORDERS, lambda: cluster.selector(ORDERS) == {"app": "orders"})
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    cluster.store.delete(SERVES, "shop", "orders")
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_gone(ORDERS))

    assert cluster.selector(ORDERS) == {"app": "orders"}
    assert "RouteRefused" in [one.content["reason"] for one in cluster.store.list("events", "shop")]
    with pytest.raises(ApiError) as refused:
        await cluster.api.get("/api/v1/namespaces/shop/secrets", {})
    assert refused.value.status == 403


async def test_a_serve_object_where_nothing_may_be_served_is_left_alone(cluster: ServingCluster) -> None:
    """There is no right even to look around it; the others are looked after as ever."""
    for ref in (BILLS, ORDERS):
        cluster.add_service(ref)
        await cluster.settle_pods(ref)
        cluster.serve(ref, cluster.route(ref))
    inventory = Inventory()
    serves = Serves(inventory, cluster.api, clock=cluster.clock)
    serves.set_key(SEAL_KEY)
    reconciler = Reconciler(
        cluster.api,
        inventory,
        serves,
        settings=cluster.settings,
        namespace="codezero",
        enabled=EnabledNamespaces(frozenset({"shop"})),
        trust=lambda: cluster.trust,
        ended=lambda *_: None,
        clock=cluster.clock,
    )
    with structlog.testing.capture_logs() as logged:
        async with task_group("test") as tasks:
            tasks.start_service("cluster", ClusterFollower(cluster.api, inventory, serves=serves).run())
            tasks.start_service("rewiring", reconciler.run())
            await until(lambda: cluster.status(ORDERS).get("state") == "preparing")
            cluster.store.patch(SERVES, "payments", "bills", {"metadata": {"labels": {"x": "y"}}})
            await until(lambda: bool(cluster.ours("shop")))

    told = [(one["event"], one["service"]) for one in logged if one["log_level"] == "warning"]
    assert told == [("left alone: nothing may be served in its namespace", str(BILLS))]
    assert cluster.status(BILLS) == {}
    assert cluster.ours("payments") == []
