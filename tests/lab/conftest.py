"""One sandbox for all lab tests: a cluster, and two laptops whose agents tests start, stop, kill and cut off.

`laptop` and `laptop2` give a laptop with no agent; `consuming` with an agent that consumes the sample project; `with_peers` consumes the protocol
peers too; `both` gives both laptops, connected at the same time.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout
from codezero.sandbox.control import Hub, Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

PEERS = Path(__file__).parent / "manifests" / "peers.yaml"
RULES = ("*.sample-project",)


def start(
    *, name: str, sample: bool = True, tied: bool = True, hub: Hub | None = None, teamspace: bool = True
) -> Sandbox:
    """A sandbox, or a skip that names what the machine lacks."""
    try:
        return Sandbox.up(name=name, sample=sample, tied=tied, hub=hub, teamspace=teamspace)
    except CodezeroError as error:
        if error.problem is problems.SANDBOX_UNSUPPORTED:
            pytest.skip(f"{error.detail}; {error.fix}")
        raise


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest, state_home: Path) -> Iterator[Sandbox]:
    """The sandbox, or what takes its place: a lab before a real Kubernetes (`tests/cluster`)."""
    if request.config.pluginmanager.hasplugin("tests.cluster.plugin"):
        yield request.getfixturevalue("cluster_lab")
        return
    with start(name=f"lab-{os.getpid()}") as running:
        yield running


@pytest.fixture
def laptop(sandbox: Sandbox) -> Iterator[Laptop]:
    found = Laptop(sandbox)
    found.stop()
    yield found
    sandbox.mend()
    found.stop()


@pytest.fixture
def laptop2(sandbox: Sandbox) -> Iterator[Laptop]:
    found = Laptop(sandbox, layout.LAPTOP2)
    found.stop()
    yield found
    sandbox.mend()
    found.stop()


@pytest.fixture
def both(sandbox: Sandbox) -> Iterator[tuple[Laptop, Laptop]]:
    first, second = _started(sandbox), _started(sandbox, layout.LAPTOP2)
    for each in (first, second):
        each.consume(*RULES, primary_namespace=SAMPLE)
        eventually(each.core_answers)
    yield first, second
    sandbox.mend()
    first.czctl("reset", check=False)
    # Other tests know one laptop alone.
    second.stop()


@pytest.fixture
def consuming(sandbox: Sandbox) -> Iterator[Laptop]:
    found = _started(sandbox)
    found.consume(*RULES, primary_namespace=SAMPLE)
    eventually(found.core_answers)
    yield found
    sandbox.mend()


@pytest.fixture
def with_peers(sandbox: Sandbox, peers: None) -> Iterator[Laptop]:
    found = _started(sandbox)
    found.consume(*RULES, "*.peers", primary_namespace=SAMPLE)
    eventually(lambda: found.consumed()["peers/http"]["state"] == "enabled")
    yield found
    sandbox.mend()


@pytest.fixture(scope="session")
def peers(sandbox: Sandbox) -> None:
    sandbox.run("cluster", ["kubectl", "apply", "-f", "-"], input=PEERS.read_text())

    def ready() -> bool:
        pods = [pod for pod in sandbox.status().pods if pod.namespace == "peers"]
        return len(pods) > 5 and all(pod.ready for pod in pods if not pod.name.startswith("unready"))

    eventually(ready, within=60)


def _started(sandbox: Sandbox, place: str = layout.LAPTOP) -> Laptop:
    found = Laptop(sandbox, place)
    if not found.is_connected():
        found.stop()
        found.start()
    return found


@pytest.fixture
def serving1(sandbox: Sandbox) -> Iterator[Laptop]:
    """dev1's laptop with an agent that consumes and serves nothing yet; whatever a test serves ends with it."""
    yield from _serving(sandbox, "laptop", "dev1")


@pytest.fixture
def serving2(sandbox: Sandbox) -> Iterator[Laptop]:
    """The same for dev2 on the second laptop."""
    yield from _serving(sandbox, "laptop2", "dev2")


def _serving(sandbox: Sandbox, place: str, user: str) -> Iterator[Laptop]:
    found = Laptop(sandbox, place)
    if not found.is_connected():
        found.stop()
        found.start(user=user)
    found.czctl("reset")
    yield found
    sandbox.mend()
    found.czctl("reset", check=False)
