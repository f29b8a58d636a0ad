"""Writes through the client against a real API server: what is preconditioned on something old does not happen."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from codezero.system.kubernetes.client import ApiError
from codezero.testing.serving import Json, ServingCluster, serving_cluster

COLLECTION = "/api/v1/namespaces/shop/configmaps"
PATH = f"{COLLECTION}/settings"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("shop")
        yield cluster


async def created(cluster: ServingCluster) -> Json:
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
    return msgspec.json.decode(await cluster.api.create(COLLECTION, content))


def data(cluster: ServingCluster) -> Json:
    return cluster.store.get("configmaps", "shop", "settings").content["data"]


async def test_what_is_there_is_not_created_again(cluster: ServingCluster) -> None:
    await created(cluster)
    with pytest.raises(ApiError) as caught:
        await created(cluster)

    assert caught.value.is_conflict
    managers = cluster.store.get("configmaps", "shop", "settings").content["metadata"]["managedFields"]
    assert [one["manager"] for one in managers] == ["codezero-system"]


async def test_an_old_version_replaces_nothing(cluster: ServingCluster) -> None:
    old = await created(cluster)
    await cluster.api.patch(PATH, {"data": {"a": "2"}}, kind="merge")
    with pytest.raises(ApiError) as caught:
        await cluster.api.replace(PATH, {**old, "data": {"a": "3"}})

    assert caught.value.is_conflict
    assert data(cluster) == {"a": "2"}


async def test_a_patch_that_tests_for_what_is_gone_changes_nothing(cluster: ServingCluster) -> None:
    await created(cluster)
    operations = [{"op": "test", "path": "/data/a", "value": "0"}, {"op": "replace", "path": "/data/a", "value": "2"}]
    with pytest.raises(ApiError) as caught:
        await cluster.api.patch(PATH, operations, kind="json")

    assert caught.value.is_conflict
    assert data(cluster) == {"a": "1"}
    operations[0]["value"] = "1"
    await cluster.api.patch(PATH, operations, kind="json")
    assert data(cluster) == {"a": "2"}


async def test_applying_takes_fields_over(cluster: ServingCluster) -> None:
    await created(cluster)
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "4"}}
    await cluster.api.patch(PATH, content, kind="apply")

    assert data(cluster) == {"a": "4"}


async def test_only_the_very_object_is_deleted(cluster: ServingCluster) -> None:
    """One of the same name that was made since is another one."""
    content = await created(cluster)
    uid, version = content["metadata"]["uid"], content["metadata"]["resourceVersion"]
    for conditions in ({"uid": "another"}, {"uid": uid, "resource_version": "1"}):
        with pytest.raises(ApiError) as caught:
            await cluster.api.delete(PATH, **conditions)
        assert caught.value.status == 409
    await cluster.api.delete(PATH, uid=uid, resource_version=version)

    with pytest.raises(ApiError) as caught:
        await cluster.api.delete(PATH)
    assert caught.value.is_missing


async def test_a_refusal_carries_the_servers_words(cluster: ServingCluster) -> None:
    with pytest.raises(ApiError, match="Not A Name") as caught:
        await cluster.api.create(
            COLLECTION, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not A Name"}}
        )

    assert caught.value.status == 422
