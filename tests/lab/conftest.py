"""One sandbox for all lab tests: a cluster, and a laptop whose agent tests start, stop, kill and cut off.

`laptop` gives the laptop with no agent; `consuming` with an agent that consumes the sample project; `with_peers` consumes the protocol peers too.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

PEERS = Path(__file__).parent / "manifests" / "peers.yaml"
RULES = ("*.sample-project",)


def start(*, name: str, sample: bool = True, tied: bool = True) -> Sandbox:
    """A sandbox, or a skip that names what the machine lacks."""
    try:
        return Sandbox.up(name=name, sample=sample, tied=tied)
    except CodezeroError as error:
        if error.problem is problems.SANDBOX_UNSUPPORTED:
            pytest.skip(f"{error.detail}; {error.fix}")
        raise


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sandboxes of tests are not those of the person who runs them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def sandbox(state_home: Path) -> Iterator[Sandbox]:
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


def _started(sandbox: Sandbox) -> Laptop:
    found = Laptop(sandbox)
    if not found.is_connected():
        found.stop()
        found.start()
    return found
