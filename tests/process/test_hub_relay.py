"""The relay of Hub processes: a real machine and its page at different replicas, and either replica killed, told to end, or started again."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.hub_api import Asker
from tests.hub_databases import PostgresServer
from tests.hub_machines import Machine as RelayedMachine
from tests.hub_machines import Page, machine, page
from tests.process.test_czctl_hub import Machine
from websockets.exceptions import ConnectionClosed

from codezero.cli.paired.process import Running
from codezero.model import problems
from codezero.sandbox.browser import Browser
from codezero.testing.hub_process import HubProcess
from codezero.testing.paired_process import paired
from codezero.testing.scripted_daemon import Raw, ScriptedDaemon, in_chunks
from codezero.testing.teamspace import free_port
from codezero.testing.views import CONSUME, STATUS
from codezero.testing.waiting import eventually
from codezero.wire.paired import Ask, Head, More, Piece, Stop, ask_path

NDJSON = "application/x-ndjson"
EVENT = b'{"what":"status","at":1.0}\n'
# A replica counts as gone after 15 s, and the machines here have two cores.
GONE_SECONDS = 90


class Replicas:
    """Two Hub processes on one PostgreSQL, and who is signed in at both: the same person in a browser and at a machine."""

    def __init__(self, folder: Path, database: str) -> None:
        public = free_port()
        variables = {
            "CODEZERO_HUB_DATABASE_URL": database,
            "CODEZERO_HUB_MASTER_KEY_FILE": str(folder / "master.key"),
        }
        self.first, self.second = (
            HubProcess(folder / name, port=port, public_port=public, variables=variables)
            for name, port in (("first", public), ("second", free_port()))
        )
        with ThreadPoolExecutor() as threads:
            list(threads.map(HubProcess.start, (self.first, self.second)))
        self.browser: Browser = self.first.owner()
        # pytest's own folders are too long for socket paths.
        self.home = Path(tempfile.mkdtemp(prefix="cz-"))
        (self.home / "run").mkdir()
        self.laptop = Machine(self.home, self.first, {})
        self.laptop.login()

    @property
    def user(self) -> Asker:
        return Asker("", {"authorization": f"Bearer {self.laptop.kept()['access_token']}"})

    @property
    def elsewhere(self) -> Browser:
        """The browser at the second."""
        return self.browser.elsewhere(self.second.endpoint)

    def process(self) -> Running | None:
        """The machine's process that answers pages, if it runs."""
        try:
            told = msgspec.json.decode((self.laptop.folder / "paired-process.json").read_bytes(), type=Running)
            os.kill(told.pid, 0)
        except (OSError, ValueError):
            return None
        return told

    def relay_stands(self) -> bool:
        told = self.process()
        return told is not None and told.relay_stands

    def close(self) -> None:
        if (told := self.process()) is not None:
            os.kill(told.pid, signal.SIGTERM)
            eventually(lambda: self.process() is None)
        shutil.rmtree(self.home, ignore_errors=True)
        for each in (self.first, self.second):
            each.close()


@pytest.fixture
def replicas(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Replicas]:
    database = postgres_server.new_database(empty=True)
    made = Replicas(tmp_path, postgres_server.url(database))
    yield made
    made.close()
    postgres_server.drop(database)


@asynccontextmanager
async def apart(replicas: Replicas) -> AsyncGenerator[tuple[RelayedMachine, Page]]:
    """A machine at the first, its page at the second."""
    async with machine(replicas.first.url, replicas.user) as laptop, page(replicas.second.url, replicas.user) as pages:
        yield laptop, pages


async def streamed(at: Page, laptop: RelayedMachine, stack: AsyncExitStack) -> tuple[httpx2.Response, int]:
    opening = asyncio.ensure_future(stack.enter_async_context(at.stream(laptop.id)))
    question: Ask = await laptop.hear(Ask)
    await laptop.say(Head(question.id, 200, NDJSON), Piece(question.id, EVENT))
    answer = await opening
    assert await laptop.hear() == More(question.id)
    return answer, question.id


async def whole(answer: httpx2.Response) -> bytes:
    return b"".join([part async for part in answer.aiter_raw()])


async def answered(at: Page, laptop: RelayedMachine) -> Any:
    """What the page gets from the machine, asked until it is reached."""

    async def asked() -> httpx2.Response:
        while (answer := await at.ask(laptop.id)).status_code == problems.MACHINE_AWAY.status:
            await asyncio.sleep(0.2)
        return answer

    async with asyncio.timeout(GONE_SECONDS):
        task = asyncio.ensure_future(asked())
        await laptop.answer(b'"here"')
        return (await task).json()


@pytest.mark.timeout(300)
def test_a_real_machine_is_reached_through_whichever_replica(replicas: Replicas) -> None:
    replies = {
        "GET /v1/status": STATUS,
        "GET /v1/consume": CONSUME,
        "PUT /v1/consume": CONSUME,
        "GET /v1/events": Raw(in_chunks(EVENT, end=False), hold=True),
    }
    with ScriptedDaemon(replicas.home / "run", dict(replies)) as daemon:
        asks = paired(replicas.laptop.environment())
        eventually(replicas.relay_stands)
        elsewhere = replicas.elsewhere

        def ask(method: str, target: str, body: object = None) -> Any:
            return elsewhere.ask(
                "POST",
                ask_path(asks.machine).removeprefix("/api/v1"),
                msgspec.to_builtins(asks.asked(method, target, body)),
            )

        changed = ask("PUT", "/agent/v1/consume", {"rules": ["*.shop"]})
        (listed,) = elsewhere.ask("GET", "/machines")
        asyncio.run(
            _reads_one_event(replicas, asks.machine, msgspec.to_builtins(asks.asked("GET", "/agent/v1/events")))
        )
        log = replicas.second.log.read_text()
        (told,) = [line for line in log.splitlines() if "passed to a machine" in line]
        replicas.browser.ask("POST", "/auth/sign-out-everywhere")
        eventually(lambda: not replicas.relay_stands(), within=30)

    assert changed == msgspec.json.decode(msgspec.json.encode(CONSUME))
    assert daemon.lines()[:1] == ["PUT /v1/consume"]
    assert "GET /v1/events" in daemon.lines()
    assert listed["machine"] == asks.machine
    said = msgspec.json.decode(told)
    assert (said["machine"], said["method"], said["target"]) == (asks.machine, "PUT", "/agent/v1/consume")
    assert said["request"]
    assert "shop" not in told


async def _reads_one_event(replicas: Replicas, machine_id: str, asked: dict[str, Any]) -> None:
    async with page(replicas.second.url, replicas.user) as pages, pages.stream(machine_id, asked) as answer:
        assert answer.status_code == 200
        assert answer.headers["x-codezero-answered-by"] == "machine"
        first = await anext(answer.aiter_raw())
    assert first == EVENT


@pytest.mark.timeout(300)
async def test_the_machines_replica_is_killed(replicas: Replicas) -> None:
    """The page's answer is cut; the machine comes to the other one and is reached there, then across again."""
    async with apart(replicas) as (laptop, pages), AsyncExitStack() as stack:
        answer, _ = await streamed(pages, laptop, stack)
        await asyncio.to_thread(replicas.first.stop, signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            await laptop.hear()
        async with machine(replicas.second.url, replicas.user, id=laptop.id) as moved:
            assert await answered(pages, moved) == "here"
        async with asyncio.timeout(GONE_SECONDS):
            with pytest.raises(httpx2.RemoteProtocolError):
                await whole(answer)
    await asyncio.to_thread(replicas.first.start)
    async with apart(replicas) as (laptop, pages):
        assert await answered(pages, laptop) == "here"


@pytest.mark.timeout(300)
async def test_the_pages_replica_is_killed(replicas: Replicas) -> None:
    """The machine is told to stop, though the page could not say so."""
    async with apart(replicas) as (laptop, pages), AsyncExitStack() as stack:
        _, number = await streamed(pages, laptop, stack)
        await asyncio.to_thread(replicas.second.stop, signal.SIGKILL)

        async def stopped() -> Any:
            while True:
                try:
                    return await laptop.hear()
                except TimeoutError:
                    continue

        async with asyncio.timeout(GONE_SECONDS):
            assert await stopped() == Stop(number)
        await asyncio.to_thread(replicas.second.start)
        async with page(replicas.second.url, replicas.user) as again:
            assert await answered(again, laptop) == "here"


@pytest.mark.timeout(300)
async def test_the_machines_replica_is_told_to_end(replicas: Replicas) -> None:
    """An upgrade: nobody waits for what does not come."""
    async with apart(replicas) as (laptop, pages), AsyncExitStack() as stack:
        answer, _ = await streamed(pages, laptop, stack)
        assert await asyncio.to_thread(replicas.first.stop) == 0
        assert await laptop.farewell() == (problems.MACHINE_AWAY.code, True)
        async with asyncio.timeout(10):
            with pytest.raises(httpx2.RemoteProtocolError):
                await whole(answer)
        assert await pages.machines() == []
        refused = await pages.ask(laptop.id)

    assert refused.json()["code"] == problems.MACHINE_AWAY.code


@pytest.mark.timeout(300)
async def test_the_pages_replica_is_told_to_end(replicas: Replicas) -> None:
    """It waits for no stream to come to its end, for none does."""
    async with apart(replicas) as (laptop, pages), AsyncExitStack() as stack:
        answer, number = await streamed(pages, laptop, stack)
        assert await asyncio.to_thread(replicas.second.stop) == 0
        with pytest.raises(httpx2.RemoteProtocolError):
            await whole(answer)
        assert await laptop.hear() == Stop(number)
    assert "the answer of a machine was cut" in replicas.second.log.read_text()
