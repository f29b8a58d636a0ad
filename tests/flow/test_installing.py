"""Installing before an API server that fails: what has become of the keys outside the cluster when nobody knows what has become of the Secret in it."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from codezero.deploy.identity import Issuers
from codezero.system.installing.applying import Installer, Wish
from codezero.system.installing.kinds import Ref
from codezero.system.kubernetes.client import ApiError
from codezero.testing.serving import Json, ServingCluster, serving_cluster

ISSUERS = Issuers.create("shop")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        yield cluster


@pytest.mark.parametrize(
    ("status", "is_done", "kept"),
    [
        (None, True, True),
        # The server has given up waiting for its own storage, which may have it all the same.
        (500, True, True),
        (504, True, True),
        (403, False, False),
        (409, False, False),
    ],
)
async def test_keys_are_forgotten_only_where_the_secret_is_surely_not_there(
    cluster: ServingCluster, status: int | None, is_done: bool, kept: bool
) -> None:
    """Without them nobody could ever be given access."""
    real, keys = cluster.api, set[str]()

    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def create(self, path: str, body: Json) -> bytes:
            if is_done:
                await real.create(path, body)
            raise ApiError("etcdserver: request timed out", status=status)

    failing: Any = Failing()
    installer = Installer(failing, namespace="codezero")
    wish = Wish("shop", {}, ISSUERS, None, keep=lambda: keys.add("kept"), forget=keys.clear)

    with pytest.raises(ApiError):
        await installer.identify(wish, await installer.present(), dry_run=False)

    assert (cluster.store.find("secrets", "codezero", "codezero-identity") is not None) == is_done
    assert bool(keys) == kept


async def test_a_policy_comes_before_the_identity(cluster: ServingCluster) -> None:
    """An identity without a policy is refused later on as one that has lost it, so an interruption must not leave one behind."""
    real = cluster.api

    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def create(self, path: str, body: Json) -> bytes:
            raise ApiError("quota exceeded", status=403)

    failing: Any = Failing()
    installer = Installer(failing, namespace="codezero")

    with pytest.raises(ApiError):
        await installer.identify(
            Wish("shop", {}, ISSUERS, ISSUERS.default_policy()), await installer.present(), dry_run=False
        )

    assert cluster.store.find("secrets", "codezero", "codezero-identity") is None
    assert cluster.store.find("configmaps", "codezero", "codezero-policy") is not None


async def test_a_moment_in_which_the_server_is_overloaded_hides_nothing(cluster: ServingCluster) -> None:
    """What is taken for a kind that the cluster has not would be left behind, and nobody would ever know."""
    installer = Installer(cluster.api, namespace="codezero")
    await installer.identify(Wish("shop", {}, ISSUERS, None), await installer.present(), dry_run=False)
    real, overloaded = cluster.api, True

    class Overloaded:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
            if overloaded and path == "/api/v1":
                raise ApiError("too many requests are being handled", status=503)
            return await real.get(path, parameters)

    api: Any = Overloaded()
    later, identity = Installer(api, namespace="codezero"), Ref("v1", "Secret", "codezero-identity", "codezero")

    with pytest.raises(ApiError):
        await later.delete(identity)
    overloaded = False

    assert await later.delete(identity)
    assert cluster.store.find("secrets", "codezero", "codezero-identity") is None
