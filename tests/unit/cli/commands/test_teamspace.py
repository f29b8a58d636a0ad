"""`czctl teamspace repair`: a real process against an API server of the sandbox, with a service that was led through a Router."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codezero.model.services import ServiceRef
from codezero.testing.czctl import Czctl, Ended
from codezero.testing.serving import ServingCluster, serving_cluster

ORDERS = ServiceRef("shop", "orders")


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServingCluster]:
    """A cluster in which `shop/orders` is served, and nothing of ours is alive."""
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("shop")
        cluster.add_service(ORDERS)
        cluster.serve(ORDERS, cluster.route(ORDERS))
        await cluster.drive(cluster.reconciler(), ORDERS, lambda: cluster.is_active(ORDERS))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield cluster


async def czctl_process(*arguments: str) -> Ended:
    return await python("-m", "codezero.cli", *arguments)


async def python(*arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_repair_puts_back_what_was_served(cluster: ServingCluster) -> None:
    assert cluster.selector(ORDERS) != {"app": "orders"}

    ended = await czctl_process("teamspace", "repair", "--yes")
    again = await czctl_process("teamspace", "repair", "--yes")

    assert (ended.code, ended.err) == (0, "")
    assert "put back Service shop/orders: app=orders\ndelete Serve shop/orders\n" in ended.out
    assert cluster.selector(ORDERS) == {"app": "orders"}
    assert cluster.is_gone(ORDERS)
    assert (again.code, again.out, again.err) == (0, "", "nothing to put back\n")


async def test_a_dry_run_changes_nothing(cluster: ServingCluster) -> None:
    before = cluster.selector(ORDERS)

    ended = await czctl_process("teamspace", "repair", "--dry-run")
    view = (await czctl_process("teamspace", "repair", "--dry-run", "-o", "json")).json()

    assert ended.code == 0
    assert "would put back Service shop/orders: app=orders\n" in ended.out
    assert view["dry_run"] is True
    assert "delete Serve shop/orders" in view["done"]
    assert cluster.selector(ORDERS) == before


async def test_a_script_says_that_it_means_it(cluster: ServingCluster) -> None:
    before = cluster.selector(ORDERS)

    ended = await czctl_process("teamspace", "repair")

    assert (ended.code, ended.out) == (2, "")
    assert "fix:  look with --dry-run, then add --yes" in ended.err
    assert cluster.selector(ORDERS) == before


async def test_what_cannot_be_put_back_is_told_and_the_rest_is_done(cluster: ServingCluster) -> None:
    """Somebody has deleted everything that knew the selector."""
    for serve in cluster.store.list("serves.codezero.io", "shop"):
        cluster.store.patch(
            "serves.codezero.io", "shop", serve.content["metadata"]["name"], {"metadata": {"finalizers": []}}
        )
        cluster.store.delete("serves.codezero.io", "shop", serve.content["metadata"]["name"])
    for service in cluster.store.list("services", "shop"):
        if service.content["metadata"]["name"] != "orders":
            cluster.store.delete("services", "shop", service.content["metadata"]["name"])

    ended = await czctl_process("teamspace", "repair", "--yes", "-o", "json")

    assert ended.code == 9
    assert "shop/orders" in ended.json()["failed"][0]
    assert ended.problem()["code"] == "CZ-GENERAL-007"


def test_a_cluster_that_does_not_answer_is_unreachable(czctl: Czctl, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )

    ended = czctl("teamspace", "repair", "--kubeconfig", str(file), "--yes")

    assert (ended.code, ended.out) == (8, "")
    assert "[CZ-CLUSTER-002]" in ended.err
    assert "secret" not in ended.err


def test_without_a_kubeconfig_nothing_is_tried(czctl: Czctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)

    ended = czctl("teamspace", "repair", "--dry-run")

    assert ended.code == 3
    assert "[CZ-CLUSTER-001]" in ended.err


async def test_what_speaks_to_clusters_may_not_be_installed() -> None:
    """A laptop needs none of it."""
    program = "import sys; sys.modules['lightkube'] = None; from codezero.cli.main import main; main()"

    ended = await python("-c", program, "teamspace", "repair")

    assert (ended.code, ended.out) == (3, "")
    assert "pip install 'codezero[teamspace]'" in ended.err


@pytest.mark.parametrize("verb", ["list", "select", "create", "remove", "rotate", "suspend", "resume"])
def test_verbs_of_the_hub_are_found_by_the_other_noun_too(czctl: Czctl, verb: str) -> None:
    """As `czctl space`; only where the cluster has no such verb, and not shown twice."""
    assert czctl("teamspace", verb, "--help").code == 0
    assert f"\n  {verb} " not in czctl("teamspace", "--help").out
