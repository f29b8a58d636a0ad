"""The System in two replicas: laptops on different ones serve the same service, and a replica that dies takes nobody's traffic along."""

import json
import time
from collections.abc import Iterator

import pytest

from codezero.local.supervisor.brake import FAILURES, WINDOW_SECONDS
from codezero.model.services import ServiceRef
from codezero.sandbox.control import Sandbox
from codezero.system.serving import naming
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import (
    Answer,
    address_of,
    application,
    ask,
    kubectl,
    nobody_notices,
    put_back,
    replicas_of,
)
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.contract, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

HTTP = "peers/http"
BLUE, GREEN = ("-H", "x-team: blue"), ("-H", "x-team: green")


@pytest.fixture
def url(sandbox: Sandbox, peers: None) -> str:
    return f"http://{address_of(sandbox, 'http')}:8080/hello"


@pytest.fixture
def replicas(sandbox: Sandbox) -> Iterator[None]:
    """Two Systems while the test runs."""
    before = replicas_of(sandbox, "system")
    _scale(sandbox, 2)
    yield
    _scale(sandbox, before)
    put_back(sandbox, "http")


@pytest.fixture
def dev1(replicas: None, serving1: Laptop) -> Iterator[Laptop]:
    with application(serving1, "http", 9001):
        yield serving1


@pytest.fixture
def dev2(replicas: None, serving2: Laptop) -> Iterator[Laptop]:
    with application(serving2, "http", 9001):
        yield serving2


def _scale(sandbox: Sandbox, replicas: int) -> None:
    kubectl(sandbox, "scale", "deployment", "system", "-n", "codezero", f"--replicas={replicas}")
    eventually(lambda: len(systems(sandbox)) == replicas, within=60)


def systems(sandbox: Sandbox) -> dict[str, str]:
    """The System's pods that are ready, by their addresses."""
    return {
        one.address: one.name
        for one in sandbox.status().pods
        if one.namespace == "codezero" and one.name.startswith("system-") and one.ready
    }


def holders(sandbox: Sandbox) -> dict[str, str]:
    """The host that holds the laptop, by the value of the condition it serves."""
    found = json.loads(kubectl(sandbox, "get", "serve", "http", "-n", "peers", "-o", "json"))
    held = {one["id"]: one.get("holder", "") for one in found["status"].get("routes", ())}
    return {
        one["condition"]["value"]: host
        for one in found["spec"]["routes"]
        if (host := held.get(one["id"], "").rpartition(":")[0])
    }


def answers(sandbox: Sandbox, url: str, who: tuple[str, str]) -> Answer | None:
    try:
        return ask(sandbox, url, *who)
    except AssertionError:
        return None


def reaches(sandbox: Sandbox, url: str, who: tuple[str, str], laptop: str) -> bool:
    found = answers(sandbox, url, who)
    return found is not None and found.where == laptop


def apart(sandbox: Sandbox, laptop: Laptop) -> dict[str, str]:
    """The holders once both laptops are on different replicas; `laptop` connects anew until they are."""
    for tries in range(10):
        found = eventually(lambda: len(now := holders(sandbox)) == 2 and now, within=60)
        assert isinstance(found, dict)
        if len(set(found.values())) == 2:
            return found
        if tries and tries % (FAILURES - 2) == 0:
            # More of them in a minute would be a crash loop, after which the Supervisor gives up.
            time.sleep(WINDOW_SECONDS)
        # Its agent starts again, and with it the tunnel; what it serves stays.
        before = laptop.processes("codezero.local.daemon.main")
        laptop.kill("codezero.local.daemon.main")
        eventually(lambda: laptop.processes("codezero.local.daemon.main") not in ([], before), within=60)  # noqa: B023
        eventually(laptop.is_connected, within=60)
    raise AssertionError("both laptops always come to the same replica")


def test_a_replica_that_dies_takes_only_its_own_laptops_along_and_not_for_long(
    sandbox: Sandbox, dev1: Laptop, dev2: Laptop, url: str
) -> None:
    with nobody_notices(sandbox, url):
        dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")
        dev2.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:green")
        where = apart(sandbox, dev2)
        assert eventually(lambda: reaches(sandbox, url, BLUE, "laptop"), within=30)
        assert eventually(lambda: reaches(sandbox, url, GREEN, "laptop2"), within=30)

        for who, laptop, other, elsewhere in (
            ("blue", "laptop", GREEN, "laptop2"),
            ("green", "laptop2", BLUE, "laptop"),
        ):
            where = holders(sandbox)
            assert len(where) == 2
            alone = len(set(where.values())) == 2
            sandbox.kill(systems(sandbox)[where[who]], namespace="codezero")
            # Whoever cannot reach the laptop now is answered all the same.
            found = ask(sandbox, url, "-H", f"x-team: {who}")
            assert found.where == laptop or found.fallback is not None
            if alone:
                assert ask(sandbox, url, *other).where == elsewhere
            assert eventually(lambda: reaches(sandbox, url, ("-H", f"x-team: {who}"), laptop), within=60)  # noqa: B023
            assert eventually(lambda: reaches(sandbox, url, other, elsewhere), within=60)  # noqa: B023
            eventually(lambda: len(systems(sandbox)) == 2, within=60)


def test_the_replica_that_leads_may_die_while_a_service_is_rewired(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    """The other one takes the lease over and ends what was begun."""
    put_back(sandbox, "http")
    with nobody_notices(sandbox, url):
        dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")
        assert eventually(lambda: reaches(sandbox, url, BLUE, "laptop"), within=60)
        leader = json.loads(kubectl(sandbox, "get", "lease", "codezero-system", "-n", "codezero", "-o", "json"))
        sandbox.kill(leader["spec"]["holderIdentity"], namespace="codezero")
        kubectl(sandbox, "delete", "serve", "http", "-n", "peers", "--timeout=90s", timeout=120)
        ours = naming.origin_of(ServiceRef.parse(HTTP)).name
        assert ours not in kubectl(sandbox, "get", "services", "-n", "peers", "-o", "name")
