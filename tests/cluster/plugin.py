"""Runs the acceptance suite before a real Kubernetes: `pytest -p tests.cluster.plugin tests/cluster tests/lab`, or `make test-k8s`.

Of `tests/lab` those marked `contract` are run: what a user sees must be the same in the sandbox and in a cluster. The cluster is a one-node Kubernetes
out of a folder of binaries (`K8S_BIN`; see README.md here), shut up in namespaces of its own.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import binaries
from tests.cluster.lab import ClusterLab
from tests.cluster.slab import Slab
from tests.cluster.snapshot import Snapshot, snapshot

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.waiting import eventually

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "src/codezero/sandbox/sample/manifests"
USERS = ("dev1", "dev2")
_LAB = ROOT / "tests" / "lab"
_LAST = "test_uninstall.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the sandbox alone."""
    kept = [one for one in items if _LAB not in one.path.parents or one.get_closest_marker("contract")]
    config.hook.pytest_deselected(items=[one for one in items if one not in kept])
    # What takes the Teamspace away comes last.
    items[:] = sorted(kept, key=lambda one: one.path.name == _LAST)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A machine that cannot run this says so at once, instead of test by test."""
    lacking = binaries.lacking()
    if lacking:
        pytest.exit(f"no real Kubernetes can be started here: {lacking}", returncode=2)


@pytest.fixture(scope="session")
def slab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slab]:
    """A Kubernetes with the images of this tree: one that runs already (`K8S_SLAB`, its folder of state), else a fresh one."""
    if running := os.environ.get("K8S_SLAB"):
        yield Slab.find(Path(running))
        return
    with Slab.start(
        binaries=binaries.programs(), images=binaries.archives(), state=tmp_path_factory.mktemp("slab")
    ) as running:
        binaries.load_images(running, ROOT)
        yield running


@pytest.fixture(scope="session")
def bare(slab: Slab, state_home: Path) -> Iterator[ClusterLab]:
    """The lab before a Kubernetes without a Teamspace."""
    with ClusterLab(Sandbox.up(name="k8s", cluster=False, tied=True), slab) as lab:
        if os.environ.get("K8S_SLAB"):
            # The Teamspace of an earlier run, whose keys went with that run's laptops.
            lab.run(layout.CLUSTER, ["czctl", "teamspace", "uninstall", "--yes"], check=False, timeout=300)
        yield lab


@pytest.fixture(scope="session")
def before(bare: ClusterLab) -> Snapshot:
    """All that is in the cluster, the sample project among it, before the Teamspace is."""
    apply_sample(bare)
    return snapshot(bare)


@pytest.fixture(scope="session")
def cluster_lab(bare: ClusterLab, before: Snapshot) -> ClusterLab:
    """The lab with sample project and Teamspace, installed as an administrator would."""
    install(bare)
    return bare


def install(lab: ClusterLab, *options: str) -> None:
    """`czctl teamspace install`, for two developers, with a load balancer that takes its time."""
    access = [one for user in USERS for one in ("--access", f"{user}={lab.access_file(user)}")]
    command = ["czctl", "teamspace", "install", "--name", "lab", *access, *options]
    running = lab.popen(layout.CLUSTER, [*command, "--serve-namespace", "*"])
    try:
        # Clouds take minutes for this; here it is the test.
        eventually(lambda: lab.get("services", "-n", "codezero", "--field-selector", "metadata.name=codezero"))
        lab.balance("codezero", "codezero")
        assert running.wait(timeout=300) == 0
    finally:
        running.kill()
        running.wait()


def apply_sample(lab: ClusterLab) -> None:
    """`kubectl apply -k` of the sample project."""
    lab.kubectl("apply", "-k", str(SAMPLE))
    for one in lab.get("services", "-n", layout.SAMPLE_NAMESPACE):
        if one["spec"]["type"] == "LoadBalancer":
            lab.balance(one["metadata"]["name"], layout.SAMPLE_NAMESPACE)
    lab.wait_for_pods(layout.SAMPLE_NAMESPACE)
