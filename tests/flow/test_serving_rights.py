"""The rights of a Teamspace's System are enough for all that a leading System does, and the API server enforces them here (T24)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from codezero.deploy import access
from codezero.model.services import ServiceRef
from codezero.sandbox.cluster import TEAMSPACE_VALUES
from codezero.system.kubernetes.client import ApiError, from_kubeconfig
from codezero.testing.serving import SERVES, TEAM, Json, ServingCluster, serving_cluster

ORDERS = ServiceRef("shop", "orders")
COLLECTIONS = {
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles.rbac.authorization.k8s.io",
    "ClusterRoleBinding": "clusterrolebindings.rbac.authorization.k8s.io",
    "Role": "roles.rbac.authorization.k8s.io",
    "RoleBinding": "rolebindings.rbac.authorization.k8s.io",
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    """Its client is the System's own ServiceAccount."""
    async with serving_cluster(tmp_path) as cluster:
        for namespace in ("shop", "codezero"):
            cluster.add_namespace(namespace)
        for one in access.objects(TEAMSPACE_VALUES, "codezero"):
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
