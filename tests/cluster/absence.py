"""The API server is away for ten minutes (R12): who is served and who consumes goes on, also those who connect anew meanwhile, and nothing of ours has to be mended afterwards.

It takes what it takes, so it is run by itself: `make test-k8s K8S_TESTS=tests/cluster/absence.py PYTEST_ARGS=-rP`. `test_disturbances.py` has the short story.
"""

import time

import pytest
from tests.cluster.lab import ClusterLab
from tests.cluster.test_disturbances import CONDITION, consumes, reaches_the_laptop, served, urls, watched

from codezero.testing.laptop import Laptop
from codezero.testing.waiting import eventually

__all__ = ["served", "urls"]  # fixtures

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(1500)]

AWAY_SECONDS = 600
LOOK_SECONDS = 20


def test_ten_minutes_without_an_api_server(sandbox: ClusterLab, served: Laptop, urls: tuple[str, str]) -> None:
    eventually(lambda: reaches_the_laptop(sandbox, urls))
    before = {name: one["restarts"] for name, one in pods(sandbox).items()}
    with watched(sandbox, urls) as reports:
        sandbox.slab.stop_component("kube-apiserver")
        began = time.monotonic()
        try:
            looks = 0
            while time.monotonic() - began < AWAY_SECONDS:
                assert reaches_the_laptop(sandbox, urls), f"{time.monotonic() - began:.0f} s without an API server"
                assert consumes(served), f"{time.monotonic() - began:.0f} s without an API server"
                looks += 1
                if looks == 3:
                    # The tunnel does not come from anything that the API server would have to be asked for.
                    served.kill("codezero.local.daemon.main")
                    assert eventually(served.is_connected, within=60)
                    assert eventually(lambda: reaches_the_laptop(sandbox, urls), within=60)
                time.sleep(LOOK_SECONDS)
            refused = served.czctl("serve", "peers/pair", "9001:8090", *CONDITION, check=False, timeout=120)
            assert refused.returncode != 0
            assert "CZ-" in refused.stderr
            assert any(one["code"] == "CLUSTER_NOT_SEEN" for one in served.status()["warnings"])
        finally:
            sandbox.slab.start_component("kube-apiserver")
        print(f"{looks} looks in {time.monotonic() - began:.0f} s")
        assert eventually(
            lambda: sandbox.run("cluster", ["kubectl", "get", "--raw", "/readyz"], check=False).returncode == 0,
            within=60,
        )
        assert eventually(
            lambda: served.czctl("serve", "peers/pair", "9001:8090", *CONDITION, check=False).returncode == 0, within=90
        )
        assert eventually(
            lambda: not any(one["code"] == "CLUSTER_NOT_SEEN" for one in served.status()["warnings"]), within=60
        )
        assert reaches_the_laptop(sandbox, urls)
    found = reports()
    print({name: (one["requests"], one["failed"]) for name, one in found.items()})

    assert found["ours"]["failed"] <= found["control"]["failed"], [one["failures"] for one in found.values()]
    assert list(found["ours"]["answers"]) == ["origin"]
    # A probe must not have ended what works: the same pods, none started anew.
    assert {name: one["restarts"] for name, one in pods(sandbox).items()} == before


def pods(lab: ClusterLab) -> dict[str, dict[str, int]]:
    """Ours, with how often their containers were started anew."""
    return {
        pod["metadata"]["name"]: {"restarts": sum(one["restartCount"] for one in pod["status"]["containerStatuses"])}
        for pod in lab.get("pods", "-n", "codezero")
    }
