"""10,000 Services, and 5,000 changes of them as fast as a real API server takes them: all of it is followed, in little memory and few requests.

How long it takes is printed, and asserted nowhere. Minutes long, so it is run by itself: `make test-k8s PYTEST_ARGS="-rP tests/cluster/scale.py"`.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.lab import ClusterLab

from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import kubectl
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(900)]

WRITERS, LIVE, CHANGES = 8, 1250, 625
NAMESPACES = [f"churn{number}" for number in range(WRITERS)]
MOST_MEMORY = 250 * 1024 * 1024


@pytest.fixture
def crowd(sandbox: ClusterLab) -> Iterator[None]:
    """10,000 Services in eight namespaces, gone afterwards."""
    # It would program 10,000 services on the only node, which is not what this is about.
    sandbox.slab.stop_component("kube-proxy")
    for name in NAMESPACES:
        kubectl(sandbox, "create", "namespace", name)
    churn(sandbox, 0)
    yield
    for name in NAMESPACES:
        kubectl(sandbox, "delete", "namespace", name, "--wait=false")
    eventually(lambda: not set(NAMESPACES) & names(sandbox, "namespaces"), within=400, pause=2)
    sandbox.slab.start_component("kube-proxy")


def churn(lab: ClusterLab, changes: int) -> float:
    """Make that many changes in each namespace, side by side, until `LIVE` Services are left in each; how long it took, in seconds."""
    began = time.monotonic()
    command = ["python", "-m", "codezero.testing.churn", "--changes", str(changes), "--live", str(LIVE), "--namespace"]
    running = [lab.popen("cluster", [*command, name], stdout=subprocess.DEVNULL) for name in NAMESPACES]
    assert [one.wait(timeout=400) for one in running] == [0] * WRITERS
    return time.monotonic() - began


def names(lab: ClusterLab, kind: str) -> set[str]:
    return {one.rpartition("/")[2] for one in kubectl(lab, "get", kind, "-o", "name").split()}


def systems(lab: ClusterLab) -> dict[str, dict[str, float]]:
    """The metrics of each System by its pod, and its resident memory in bytes."""
    found: dict[str, dict[str, float]] = {}
    for pod in lab.get("pods", "-n", "codezero", "-l", "app.kubernetes.io/name=system"):
        page = lab.run("cluster", ["curl", "-sS", f"http://{pod['status']['podIP']}:8802/metrics"]).stdout
        lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        found[pod["metadata"]["name"]] = {name: float(value) for name, _, value in lines}
    return found


def seen(laptop: Laptop) -> set[tuple[str, str]]:
    """The services in the catalog of the laptop."""
    view = json.loads(laptop.czctl("services", "list", "-o", "json").stdout)
    return {(one["ref"]["namespace"], one["ref"]["name"]) for one in view["services"]}


def expected(lab: ClusterLab) -> set[tuple[str, str]]:
    found = kubectl(
        lab, "get", "services", "-A", "-o", "custom-columns=:metadata.namespace,:metadata.name", "--no-headers"
    )
    return {(line.split()[0], line.split()[1]) for line in found.splitlines()}


def test_ten_thousand_services_change_and_the_catalog_follows(
    sandbox: ClusterLab, serving1: Laptop, crowd: None, record_property: Callable[[str, object], None]
) -> None:
    before = systems(sandbox)
    seconds = churn(sandbox, CHANGES)
    kubectl(sandbox, "create", "service", "clusterip", "last", "-n", NAMESPACES[0], "--tcp=80")
    began = time.monotonic()
    eventually(lambda: (NAMESPACES[0], "last") in seen(serving1), within=60)
    late = time.monotonic() - began
    after = systems(sandbox)
    told = f"{WRITERS * CHANGES} changes in {seconds:.1f} s; the last was on the laptop {late:.2f} s later"
    record_property("scale", told)
    print(told, {name: one.get("process_resident_memory_bytes") for name, one in after.items()})
    in_cluster = {(namespace, name) for namespace, name in expected(sandbox) if namespace in NAMESPACES}
    on_laptop = {(namespace, name) for namespace, name in seen(serving1) if namespace in NAMESPACES}

    assert len(in_cluster) == WRITERS * LIVE + 1
    assert on_laptop == in_cluster
    assert after.keys() == before.keys()
    for name, one in after.items():
        assert one["process_resident_memory_bytes"] < MOST_MEMORY, (name, one)
        asked = {key: value - before[name].get(key, 0) for key, value in one.items() if "lists_total" in key}
        # A list anew is what a hot loop would make; a watch that lost its place may need one.
        assert sum(asked.values()) <= len(asked), asked
