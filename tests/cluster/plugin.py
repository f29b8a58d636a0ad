"""Runs the acceptance suite before a real Kubernetes: `pytest -p tests.cluster.plugin tests/cluster tests/lab`, or `make test-k8s`.

Of `tests/lab` those marked `contract` are run: what a user sees must be the same in the sandbox and in a cluster. The cluster is the one that `KUBECONFIG`
leads to, or a one-node Kubernetes out of a folder of binaries (`K8S_BIN`), shut up in namespaces of its own. README.md here tells of both.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import binaries, outside
from tests.cluster.base import KubernetesLab
from tests.cluster.lab import ClusterLab
from tests.cluster.outside import OutsideLab
from tests.cluster.slab import Slab
from tests.cluster.snapshot import Snapshot, snapshot

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.waiting import eventually

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "src/codezero/sandbox/sample/manifests"
USERS = ("dev1", "dev2")
_HERE = Path(__file__).parent
_LAB = ROOT / "tests" / "lab"
_LAST = "test_uninstall.py"
# They start a Kubernetes of their own, or take the one they have apart.
_OF_THE_NODE = {"test_slab.py", "test_rights.py", "test_disturbances.py", "scale.py", "absence.py"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the sandbox alone, and what a cluster of somebody else is not for."""
    if outside.wanted():
        for one in items:
            if one.path.parent == _HERE and one.path.name in _OF_THE_NODE:
                one.add_marker(pytest.mark.skip(reason="expected: needs the node"))
    kept = [one for one in items if _LAB not in one.path.parents or one.get_closest_marker("contract")]
    config.hook.pytest_deselected(items=[one for one in items if one not in kept])
    # What takes the Teamspace away comes last.
    items[:] = sorted(kept, key=lambda one: one.path.name == _LAST)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A machine that cannot run this says so at once, instead of test by test."""
    if outside.wanted():
        if hindrance := outside.hindrance():
            pytest.exit(hindrance, returncode=2)
        return
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
def bare(request: pytest.FixtureRequest, state_home: Path) -> Iterator[KubernetesLab]:
    """The lab before a Kubernetes without a Teamspace."""
    network = lambda: Sandbox.up(name="k8s", cluster=False, tied=True)  # noqa: E731
    if outside.wanted():
        with OutsideLab(network()) as lab:
            yield lab
        return
    slab: Slab = request.getfixturevalue("slab")
    with ClusterLab(network(), slab) as lab:
        if os.environ.get("K8S_SLAB"):
            # What an earlier run left: its Teamspace, whose keys went with that run's laptops, and the peers.
            lab.kubectl("delete", "namespace", "peers", "--ignore-not-found", timeout=300)
            lab.run(layout.CLUSTER, ["czctl", "teamspace", "uninstall", "--yes"], check=False, timeout=300)
        yield lab


@pytest.fixture(scope="session")
def before(bare: KubernetesLab) -> Snapshot:
    """All that is in the cluster, the sample project among it, before the Teamspace is."""
    apply_sample(bare)
    return snapshot(bare)


@pytest.fixture(scope="session")
def cluster_lab(bare: KubernetesLab, before: Snapshot) -> KubernetesLab:
    """The lab with sample project and Teamspace, installed as an administrator would."""
    install(bare)
    return bare


def install(lab: KubernetesLab, *options: str) -> None:
    """`czctl teamspace install`, for two developers, with a load balancer that takes its time."""
    access = [one for user in USERS for one in ("--access", f"{user}={lab.issued_file(user)}")]
    command = ["czctl", "teamspace", "install", "--name", "lab", *access, *lab.install_options(), *options]
    running = lab.popen(layout.CLUSTER, [*command, "--serve-namespace", "*"])
    try:
        # Clouds take minutes for this; here it is the test.
        eventually(lambda: lab.get("services", "-n", "codezero", "--field-selector", "metadata.name=codezero"))
        lab.balance("codezero", "codezero")
        assert running.wait(timeout=300) == 0
    finally:
        running.kill()
        running.wait()
    for user in USERS:
        lab.hand_over(user)


def apply_sample(lab: KubernetesLab) -> None:
    """`kubectl apply -k` of the sample project, with its images called what they are called in this cluster."""
    lab.kubectl("apply", "-f", "-", input=lab.kubectl("kustomize", str(SAMPLE)))
    for one in lab.get("services", "-n", layout.SAMPLE_NAMESPACE):
        if one["spec"]["type"] == "LoadBalancer":
            lab.balance(one["metadata"]["name"], layout.SAMPLE_NAMESPACE)
    lab.wait_for_pods(layout.SAMPLE_NAMESPACE)
