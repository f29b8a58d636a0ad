"""Repair needs nothing but the API, and says what it cannot do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codezero.model.services import ServiceRef
from codezero.system.serving import naming, repair
from codezero.testing.serving import ServingCluster, serving_cluster

ORDERS = ServiceRef("shop", "orders")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("shop")
        cluster.add_service(ORDERS)
        await cluster.settle_pods(ORDERS)
        yield cluster


async def active(cluster: ServingCluster) -> None:
    cluster.serve(ORDERS, cluster.route(ORDERS))
    await cluster.drive(cluster.reconciler(), ORDERS, lambda: cluster.is_active(ORDERS))


async def test_looking_changes_nothing(cluster: ServingCluster) -> None:
    await active(cluster)
    revision = cluster.store.storage.revision
    found = await repair.repair(cluster.api, dry_run=True)

    assert cluster.store.storage.revision == revision
    assert found[0] == "put back Service shop/orders: app=orders"
    assert "delete Serve shop/orders" in found
    assert any(line.startswith("delete PodDisruptionBudget shop/") for line in found)
    assert len(found) == 7


async def test_the_origin_knows_what_a_lost_object_knew(cluster: ServingCluster) -> None:
    await active(cluster)
    cluster.store.patch("serves.codezero.io", "shop", "orders", {"metadata": {"finalizers": []}})
    cluster.store.delete("serves.codezero.io", "shop", "orders")
    await repair.repair(cluster.api, dry_run=False)

    assert cluster.selector(ORDERS) == {"app": "orders"}
    assert cluster.ours("shop") == []


@pytest.mark.parametrize("origin", [True, False], ids=["beside the origin", "alone"])
async def test_a_record_that_nothing_confirms_is_told(cluster: ServingCluster, *, origin: bool) -> None:
    """Repair has no key to know the System's records by, so it asks whoever runs it to look."""
    await active(cluster)
    original = {"original": {"selector": {"app": "evil"}}}
    cluster.store.patch("serves.codezero.io", "shop", "orders", {"status": original}, subresource="status")
    if not origin:
        cluster.store.delete("services", "shop", naming.origin_of(ORDERS).name)
    done = await repair.repair(cluster.api, dry_run=False)

    assert cluster.selector(ORDERS) == {"app": "orders" if origin else "evil"}
    assert "compare with its manifest" in done[0]
    assert "app=evil" in done[0]


async def test_a_selector_that_nobody_knows_is_told(cluster: ServingCluster) -> None:
    """An empty one would lead to every pod of the namespace, or to none."""
    switched = naming.switched({"app": "x"}, ORDERS)
    cluster.store.patch("services", "shop", "orders", {"spec": {"selector": switched}})
    done = await repair.repair(cluster.api, dry_run=False)

    assert done == ["cannot put back Service shop/orders: nobody knows its selector; apply its manifest"]
    assert cluster.selector(ORDERS) == switched


async def test_what_others_made_stays(cluster: ServingCluster) -> None:
    labels = {"app.kubernetes.io/managed-by": "Helm", naming.SERVICE: "x"}
    cluster.store.create("configmaps", "shop", {"metadata": {"name": "c", "labels": labels}})
    service = {"metadata": {"name": "s", "labels": labels}, "spec": {"ports": [{"port": 80}]}}
    cluster.store.create("services", "shop", service)

    assert await repair.repair(cluster.api, dry_run=False) == []
    assert cluster.store.find("services", "shop", "s") is not None


def test_a_kubeconfig_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["repair", "--dry-run", "--kubeconfig", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        repair.main()

    assert "CZ-CLUSTER-001" in capsys.readouterr().err
