"""Several Hubs on one PostgreSQL: whichever is asked, killed or replaced, nothing that was answered is lost or done twice."""

import asyncio
import json
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.hub_databases import PostgresServer
from websockets.asyncio.client import connect

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser
from codezero.testing.hub_process import HubProcess
from codezero.testing.teamspace import free_port
from codezero.testing.waiting import eventually

# Whose answer never came: the request may have been done or not.
LOST = (problems.HUB_UNREACHABLE, problems.UNDER_WAY)


@pytest.fixture
def replicas(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[list[HubProcess]]:
    """Two that never ran; the database is empty and there is no master key."""
    database = postgres_server.new_database(empty=True)
    variables = {
        "CODEZERO_HUB_DATABASE_URL": postgres_server.url(database),
        "CODEZERO_HUB_MASTER_KEY_FILE": str(tmp_path / "master.key"),
    }
    public = free_port()
    made = [
        HubProcess(tmp_path / name, port=port, public_port=public, variables=variables)
        for name, port in (("first", public), ("second", free_port()))
    ]
    yield made
    for replica in made:
        replica.close()
    postgres_server.drop(database)


def start(replicas: list[HubProcess]) -> None:
    """All at once."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(HubProcess.start, replicas))


def organization_of(browser: Browser) -> str:
    return browser.ask("GET", "/organizations")["items"][0]["id"]


def names(browser: Browser, path: str) -> list[str]:
    """Of everything in a list, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = browser.ask("GET", f"{path}?limit=100{cursor}")
        found += [item["name"] for item in page["items"]]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def test_two_that_start_at_once_on_nothing_are_one_hub(replicas: list[HubProcess]) -> None:
    """Both would make tables, master key and authorities; a cluster starts its replicas together."""
    start(replicas)
    owner = replicas[0].owner()
    first, second = (replica.endpoint.request("GET", "/.well-known/jwks.json").content for replica in replicas)

    assert first == second
    assert json.loads(first)["keys"]
    assert organization_of(owner) == organization_of(owner.elsewhere(replicas[1].endpoint))


async def test_what_one_changes_the_other_tells(replicas: list[HubProcess]) -> None:
    """A page is open at whichever replica the balancer chose."""
    await asyncio.to_thread(start, replicas)
    owner = await asyncio.to_thread(replicas[0].owner)
    organization = await asyncio.to_thread(organization_of, owner)
    ticket = (await asyncio.to_thread(owner.ask, "POST", "/events/tickets"))["ticket"]
    url = f"{replicas[1].url.replace('http', 'ws')}/api/v1/events"
    async with connect(url) as events:
        await events.send(json.dumps({"ticket": ticket}))
        first = json.loads(await asyncio.wait_for(events.recv(), 10))
        await asyncio.to_thread(
            owner.ask, "POST", f"/organizations/{organization}/service-accounts", {"name": "staging"}
        )
        async with asyncio.timeout(10):
            while (told := json.loads(await events.recv())).get("kind") != "member":
                pass

    assert first == {"type": "snapshot"}
    assert told["organization"] == organization


class Writers:
    """Who makes spaces at whatever replica answers, sends again what got no answer, and keeps what was answered."""

    def __init__(self, replicas: list[HubProcess], owner: Browser, path: str, *, wanted: int) -> None:
        self.done: list[str] = []
        self.unknown: list[str] = []
        self._browsers = [owner.elsewhere(replica.endpoint) for replica in replicas]
        self._path = path
        self._left = iter(range(wanted))
        self._lock = threading.Lock()

    def work(self, at: int) -> None:
        while True:
            with self._lock:
                number = next(self._left, None)
            if number is None:
                return
            self._write(f"service-{number:04}", at + number)

    def _write(self, name: str, at: int) -> None:
        key, body = str(uuid.uuid4()), {"name": name, "role": "ci"}

        def sent() -> bool:
            nonlocal at
            at += 1
            try:
                made = self._browsers[at % len(self._browsers)].ask("POST", self._path, body, key=key)
            except CodezeroError as error:
                assert error.problem in LOST, f"{name}: {error}"
                if error.problem is problems.UNDER_WAY:
                    # Whoever did it was killed; it is done or not, and nobody does it again.
                    self.unknown.append(name)
                    return True
                return False
            assert made["name"] == name
            self.done.append(name)
            return True

        eventually(sent, within=60, pause=0.05)


@pytest.mark.timeout(300)
def test_either_is_killed_under_load_and_no_write_is_lost_or_done_twice(replicas: list[HubProcess]) -> None:
    start(replicas)
    owner = replicas[0].owner()
    path = f"/organizations/{organization_of(owner)}/service-accounts"
    writers = Writers(replicas, owner, path, wanted=300)
    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(writers.work, at) for at in range(4)]
        for victim, after in ((replicas[0], 60), (replicas[1], 140), (replicas[0], 220)):
            eventually(lambda after=after: len(writers.done) >= after, within=60)
            victim.stop(signal.SIGKILL)
            victim.start()
        for each in working:
            each.result()
    there = names(owner.elsewhere(replicas[1].endpoint), path)

    assert len(there) == len(set(there)), "something was done twice"
    assert set(writers.done) <= set(there), "something that was answered is lost"
    assert set(there) <= set(writers.done) | set(writers.unknown)
    assert len(writers.unknown) <= 3 * 4
    audit = replicas[1].run("verify-audit")
    assert audit.returncode == 0, audit.stderr


@pytest.mark.timeout(300)
def test_they_are_replaced_one_after_the_other_and_nobody_notices(replicas: list[HubProcess]) -> None:
    """An upgrade: each gets its SIGTERM while the other answers; whoever is asked at that moment still answers."""
    start(replicas)
    owner = replicas[0].owner()
    path = f"/organizations/{organization_of(owner)}/service-accounts"
    writers = Writers(replicas, owner, path, wanted=200)
    with ThreadPoolExecutor(3) as threads:
        working = [threads.submit(writers.work, at) for at in range(3)]
        for replica, after in ((replicas[0], 40), (replicas[1], 100)):
            eventually(lambda after=after: len(writers.done) >= after, within=60)
            assert replica.stop() == 0
            replica.start()
        for each in working:
            each.result()

    assert writers.unknown == [], "a request under way was cut off"
    assert sorted(names(owner, path)) == sorted(writers.done)
    assert len(writers.done) == 200


@pytest.mark.timeout(300)
def test_a_thousand_writes_at_once_on_sqlite_lose_nothing(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path / "data").start()
    try:
        owner = hub.owner()
        path = f"/organizations/{organization_of(owner)}/service-accounts"
        writers = Writers([hub], owner, path, wanted=1000)
        with ThreadPoolExecutor(16) as threads:
            for each in [threads.submit(writers.work, at) for at in range(16)]:
                each.result()
        there = names(owner, path)
    finally:
        hub.close()

    assert len(there) == 1000
    assert sorted(there) == sorted(writers.done)
