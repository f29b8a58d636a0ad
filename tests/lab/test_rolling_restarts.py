"""Two Systems and two Orchestrators are rolled while a laptop consumes, another serves, and 200 requests a second go on: nobody notices."""

import json
from collections.abc import Iterator

import pytest

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, kubectl, nobody_notices, put_back
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(400)]

SERVICE = "peers/http"
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")
BLUE = ("-H", "x-team: blue")
PARTS = ("system", "orchestrator")


@pytest.fixture
def url(sandbox: Sandbox, peers: None) -> str:
    return f"http://{address_of(sandbox, 'http')}:8080/hello"


@pytest.fixture(scope="module")
def replicas(sandbox: Sandbox) -> Iterator[None]:
    """Two of each while these tests run."""
    before = {part: _spec(sandbox, part)["replicas"] for part in PARTS}
    for part in PARTS:
        kubectl(sandbox, "scale", "deployment", part, "-n", "codezero", "--replicas=2")
    for part in PARTS:
        _rolled_out(sandbox, part)
    yield
    put_back(sandbox, "http")
    for part in PARTS:
        kubectl(sandbox, "scale", "deployment", part, "-n", "codezero", f"--replicas={before[part]}")
        _rolled_out(sandbox, part)


@pytest.fixture
def served(replicas: None, serving1: Laptop) -> Iterator[Laptop]:
    with application(serving1, "http", 9001):
        serving1.serve(SERVICE, "9001:8080", *CONDITION)
        yield serving1


@pytest.fixture
def consuming2(replicas: None, serving2: Laptop) -> Laptop:
    serving2.consume("*.peers")
    eventually(lambda: serving2.consumed()["peers/http"]["state"] == "enabled")
    return serving2


def _spec(sandbox: Sandbox, part: str) -> dict[str, int]:
    found = kubectl(sandbox, "get", "deployment", part, "-n", "codezero", "-o", "json")
    spec: dict[str, int] = json.loads(found)["spec"]
    return spec


def _rolled_out(sandbox: Sandbox, part: str) -> None:
    kubectl(sandbox, "rollout", "status", "deployment", part, "-n", "codezero", "--timeout=120s", timeout=150)


def pods(sandbox: Sandbox, part: str) -> set[str]:
    found = [one.name for one in sandbox.status().pods if one.namespace == "codezero"]
    return {name for name in found if name.startswith(f"{part}-")}


def reaches_the_laptop(sandbox: Sandbox, url: str) -> bool:
    try:
        return ask(sandbox, url, *BLUE).where == "laptop"
    except AssertionError:
        return False


def consumes(laptop: Laptop) -> bool:
    found = laptop.curl("http://http.peers:8080/hello", check=False)
    return found.returncode == 0 and json.loads(found.stdout)["where"].startswith("http-")


def is_whole(laptop: Laptop) -> bool:
    return laptop.is_connected() and laptop.status()["orchestrator"]["connected"]


@pytest.mark.parametrize("part", PARTS)
def test_a_rolling_restart_goes_unnoticed(
    sandbox: Sandbox, served: Laptop, consuming2: Laptop, url: str, part: str
) -> None:
    """Sessions stay the same, and names and serves work when it is over."""
    assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)
    before = pods(sandbox, part)
    assert len(before) == 2
    sessions = [laptop.status()["tunnel"]["session"] for laptop in (served, consuming2)]
    with nobody_notices(sandbox, url):
        kubectl(sandbox, "rollout", "restart", "deployment", part, "-n", "codezero")
        _rolled_out(sandbox, part)
        eventually(lambda: not before & pods(sandbox, part), within=90)
        assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)
        assert eventually(lambda: consumes(consuming2), within=60)

    for laptop, session in zip((served, consuming2), sessions, strict=True):
        assert eventually(lambda: is_whole(laptop), within=60)  # noqa: B023
        assert laptop.status()["tunnel"]["session"] == session
    assert len(served.serves()) == 1
    assert consuming2.address_of("http.peers") is not None
