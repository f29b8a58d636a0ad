"""What happens to clusters all the time, under 200 requests a second of people who do not use the tool: none of them fails because of us.

Each story is told twice: with a Service that somebody serves, and with one of which we know nothing. What fails without us is not ours.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from tests.cluster.lab import ClusterLab

from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, kubectl, load
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(600)]

BLUE = ("-H", "x-team: blue")
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")


@pytest.fixture
def served(sandbox: ClusterLab, serving1: Laptop, peers: None) -> Iterator[Laptop]:
    """dev1 consumes everything and serves `peers/http` for `x-team: blue`."""
    with application(serving1, "http", 9001):
        # What the story before has restarted may still be on its way.
        eventually(serving1.is_connected, within=60)
        serving1.consume("*.peers")
        serving1.serve("peers/http", "9001:8080", *CONDITION)
        yield serving1


@pytest.fixture
def urls(sandbox: ClusterLab, peers: None) -> tuple[str, str]:
    """Of the served Service and of another; asked for while there is an API server to ask."""
    return f"http://{address_of(sandbox, 'http')}:8080/hello", f"http://{address_of(sandbox, 'pair')}:8090/hello"


@contextlib.contextmanager
def watched(lab: ClusterLab, urls: tuple[str, str]) -> Generator[Callable[[], dict[str, Any]]]:
    """Ask the served Service and one that is not, side by side; afterwards the difference in failures can be asked for."""
    with load(lab, urls[0]) as ours, load(lab, urls[1]) as control:
        yield lambda: {"ours": ours, "control": control}


def reaches_the_laptop(lab: ClusterLab, urls: tuple[str, str]) -> bool:
    try:
        return ask(lab, urls[0], *BLUE).where == "laptop"
    except AssertionError:
        return False


def consumes(laptop: Laptop) -> bool:
    return laptop.curl("http://pair.peers:8090/", check=False).returncode == 0


def restarted(lab: ClusterLab, what: str) -> None:
    """Restart it, and return when it is whole again."""
    namespace, _, name = what.rpartition("/")
    if namespace:
        kubectl(lab, "rollout", "restart", f"deployment/{name}", "-n", namespace)
        kubectl(lab, "rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=180s", timeout=200)
    else:
        lab.slab.restart(name)
        eventually(lambda: lab.run("cluster", ["kubectl", "get", "--raw", "/readyz"], check=False).returncode == 0)


def router(lab: ClusterLab) -> str:
    return kubectl(
        lab, "get", "deployments", "-n", "peers", "-o", "name", "-l", "app.kubernetes.io/managed-by=codezero"
    )


@pytest.mark.parametrize(
    "what",
    ["codezero/system", "codezero/orchestrator", "router", "kubelet", "containerd", "kube-proxy", "kube-apiserver"],
)
def test_a_restart_costs_nobody_a_request(
    sandbox: ClusterLab, served: Laptop, urls: tuple[str, str], what: str
) -> None:
    eventually(lambda: reaches_the_laptop(sandbox, urls))
    session = served.status()["tunnel"].get("session")
    target = f"peers/{router(sandbox).strip().rpartition('/')[2]}" if what == "router" else what
    with watched(sandbox, urls) as reports:
        restarted(sandbox, target)
        assert eventually(lambda: reaches_the_laptop(sandbox, urls), within=90)
        assert eventually(lambda: consumes(served), within=90)
    found = reports()

    assert found["ours"]["failed"] <= found["control"]["failed"], [one["failures"] for one in found.values()]
    assert list(found["ours"]["answers"]) == ["origin"]
    assert served.status()["tunnel"].get("session") == session


def test_the_api_server_is_away_and_traffic_goes_on(sandbox: ClusterLab, served: Laptop, urls: tuple[str, str]) -> None:
    """R12: what is served and consumed stays so; orders are refused with a reason, and work again afterwards."""
    eventually(lambda: reaches_the_laptop(sandbox, urls))
    with watched(sandbox, urls) as reports:
        sandbox.slab.stop_component("kube-apiserver")
        try:
            assert eventually(
                lambda: any(one["code"] == "CLUSTER_NOT_SEEN" for one in served.status()["warnings"]), within=120
            )
            assert reaches_the_laptop(sandbox, urls)
            assert consumes(served)
            refused = served.czctl("serve", "peers/pair", "9001:8090", *CONDITION, check=False, timeout=120)
            assert refused.returncode != 0
            assert "CZ-" in refused.stderr
        finally:
            sandbox.slab.start_component("kube-apiserver")
        eventually(
            lambda: sandbox.run("cluster", ["kubectl", "get", "--raw", "/readyz"], check=False).returncode == 0,
            within=60,
        )
        assert eventually(
            lambda: served.czctl("serve", "peers/pair", "9001:8090", *CONDITION, check=False).returncode == 0, within=90
        )
        assert reaches_the_laptop(sandbox, urls)
    found = reports()

    assert found["ours"]["failed"] <= found["control"]["failed"], [one["failures"] for one in found.values()]
