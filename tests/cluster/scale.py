"""10,000 Services, and 5,000 changes of them at 500 a second: all of it is followed, in little memory and few requests.

What of the cluster is not needed meanwhile is stopped, so that the API server has what there is of two cores; etcd of a slab does not wait for its disk. How
long everything takes, with our System and without it, is printed and asserted nowhere. Minutes long, so it is run by itself, on a slab of its own:
`make test-k8s K8S_TESTS=tests/cluster/scale.py PYTEST_ARGS=-rP`.
"""

import contextlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from tests.cluster.lab import ClusterLab

from codezero.testing.crowd import BURST
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import kubectl, replicas_of
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(1500)]

SPACES, EACH, CHANGES, RATE = 8, 1250, 5000, 500
NAMESPACES = [f"crowd{number}" for number in range(SPACES)]
MOST_MEMORY = 250 * 1024 * 1024
# They, and kube-proxy, would do the same work beside the System on the only node, which is not what this is about.
BYSTANDERS = ("kube-scheduler", "kube-controller-manager")
SYSTEMS = ("-n", "codezero", "-l", "app.kubernetes.io/name=system")
_TICKS = 100

Offer = tuple[frozenset[int], int, int]


@pytest.fixture
def crowd(sandbox: ClusterLab) -> Iterator[None]:
    """10,000 Services with an endpoint each in eight namespaces. They go with the slab: to delete them takes the API server far longer than to make them."""
    for name in NAMESPACES:
        kubectl(sandbox, "create", "namespace", name)
    with without(sandbox, "kube-proxy"):
        made = give(sandbox, "make")
        print(f"{made['orders']} objects made in {made['seconds']:.0f} s")
        yield


@contextlib.contextmanager
def without(lab: ClusterLab, *components: str) -> Generator[None]:
    """Components of the node are away as long as the block lasts."""
    for name in components:
        lab.slab.stop_component(name)
    try:
        yield
    finally:
        for name in reversed(components):
            lab.slab.start_component(name)


def give(lab: ClusterLab, what: str, *options: str) -> dict[str, float]:
    """Orders to the API server; what `codezero.testing.crowd` tells of them."""
    command = ["python", "-m", "codezero.testing.crowd", what, "--namespaces", str(SPACES), "--each", str(EACH)]
    ended = lab.run("cluster", [*command, *options], check=False, timeout=900)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def storm(lab: ClusterLab, number: int) -> tuple[dict[str, float], str]:
    """5,000 changes; what is told of them, and of the seconds of processor time that went where."""
    before, machine = spent(lab), busy()
    told = give(
        lab,
        "change",
        "--changes",
        str(CHANGES),
        "--rate",
        str(RATE),
        "--round",
        str(number),
        "--last",
        str(last(number)),
    )
    after = spent(lab)
    most = ", ".join(f"{name} {seconds / _TICKS:.1f}" for name, seconds in (after - before).most_common(5))
    return told, (
        f"{CHANGES} changes in {told['seconds']:.1f} s, the quickest {BURST} in {told['burst']:.1f} s, each answered in {told['median'] * 1000:.0f} ms (median; at most {told['slowest'] * 1000:.0f}); "
        f"seconds of processor time: {most}; of the whole machine {(busy() - machine) / _TICKS:.1f}"
    )


def last(number: int) -> int:
    """The port that the last change of a storm opens."""
    return 4242 + number


def spent(lab: ClusterLab) -> Counter[str]:
    """The processor time of the node's programs so far, in ticks."""
    found: Counter[str] = Counter()
    for line in lab.slab.run(["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null"], check=False).splitlines():
        if told := re.fullmatch(r"\d+ \((.*)\) \S (.*)", line):
            fields = told[2].split()
            found[told[1]] += int(fields[10]) + int(fields[11])
    return found


def busy() -> int:
    """The time that this machine's processors were not idle, in ticks."""
    user, nice, system, _idle, _waiting, *interrupts = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return user + nice + system + sum(interrupts)


def systems(lab: ClusterLab) -> dict[str, dict[str, float]]:
    """The metrics of each System by its pod, and its resident memory in bytes."""
    found: dict[str, dict[str, float]] = {}
    for pod in lab.get("pods", *SYSTEMS):
        page = lab.run("cluster", ["curl", "-sS", f"http://{pod['status']['podIP']}:8802/metrics"]).stdout
        lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
        found[pod["metadata"]["name"]] = {name: float(value) for name, _, value in lines}
    return found


def on_laptop(laptop: Laptop) -> dict[str, Offer]:
    """What the catalog of the laptop says of the crowd: ports, ready endpoints, all endpoints."""
    view = json.loads(laptop.czctl("services", "list", "-n", "crowd*", "-o", "json").stdout)
    return {
        f"{one['ref']['namespace']}/{one['ref']['name']}": (
            frozenset(port["port"] for port in one["ports"]),
            one["ready"],
            one["total"],
        )
        for one in view["services"]
    }


def in_cluster(lab: ClusterLab) -> dict[str, Offer]:
    """What the cluster says of it."""

    def told(kind: str, field: str) -> dict[str, list[str]]:
        columns = f"custom-columns=:metadata.namespace,:metadata.name,:{field}"
        lines = kubectl(lab, "get", kind, "-A", "-o", columns, "--no-headers", timeout=200).splitlines()
        words = (line.split() for line in lines)
        return {f"{space}/{name}": values.split(",") for space, name, values in words if space in NAMESPACES}

    ready = told("endpointslices", "endpoints[*].conditions.ready")
    ports = told("services", "spec.ports[*].port")
    return {
        name: (frozenset(map(int, found)), ready[name].count("true"), len(ready[name])) for name, found in ports.items()
    }


def test_ten_thousand_services_change_and_the_catalog_follows(
    sandbox: ClusterLab, serving1: Laptop, crowd: None, record_property: Callable[[str, object], None]
) -> None:
    eventually(lambda: len(on_laptop(serving1)) == SPACES * EACH, within=120)
    before = systems(sandbox)
    command = ("python", "-m", "codezero.testing.offered", f"{NAMESPACES[0]}/s0", str(last(0)))
    looking = serving1.popen(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with without(sandbox, *BYSTANDERS):
        told, report = storm(sandbox, 0)
        seen_at = float(looking.communicate("\n", timeout=120)[0])
    after = systems(sandbox)
    report = f"with our System: {report}; the last was on the laptop {seen_at - told['ended_at']:.2f} s later"
    record_property("scale", report)
    print(report)
    for name, one in after.items():
        asked = {key: value - before[name].get(key, 0) for key, value in one.items()}
        lists = {key: value for key, value in asked.items() if "lists_total" in key}
        print(
            name,
            f"{one['process_resident_memory_bytes'] / 1024**2:.0f} MiB,",
            *(
                f"{word} {sum(value for key, value in asked.items() if f'{word}_total' in key):.0f}"
                for word in ("lists", "watches", "events")
            ),
        )
        assert one["process_resident_memory_bytes"] < MOST_MEMORY, (name, one)
        # A list anew is what a hot loop would make; a watch that lost its place may need one.
        assert sum(lists.values()) <= len(lists), lists

    assert after.keys() == before.keys()
    assert on_laptop(serving1) == in_cluster(sandbox)

    replicas = replicas_of(sandbox, "system")
    kubectl(sandbox, "scale", "deployment/system", "-n", "codezero", "--replicas=0")
    eventually(lambda: not sandbox.get("pods", *SYSTEMS), within=120)
    with without(sandbox, *BYSTANDERS):
        print("without it:", storm(sandbox, 1)[1])
    kubectl(sandbox, "scale", "deployment/system", "-n", "codezero", f"--replicas={replicas}")
    sandbox.wait_for_pods("codezero")
