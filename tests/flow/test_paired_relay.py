"""A machine and a Hub that is evil (T37): whatever it passes on or makes up, the agent does what pages have signed, and nothing else."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from codezero.cli.loopback.agent_passage import AgentPassage
from codezero.cli.loopback.threads import Threads
from codezero.cli.paired import state, used
from codezero.cli.paired.desk import Desk
from codezero.cli.paired.gate import Gate
from codezero.cli.paired.relay import Relay
from codezero.cli.paired.state import Live, Offer, Pairing
from codezero.cli.paired.used import Used
from codezero.kit.backoff import Backoff
from codezero.kit.tasks import task_group
from codezero.testing.forged_proofs import forged
from codezero.testing.kubernetes import until
from codezero.testing.paired_page import PairedPage
from codezero.testing.scripted_daemon import Raw, ScriptedDaemon, in_chunks, with_length
from codezero.testing.views import CONSUME, SERVICES, STATUS
from codezero.wire.paired import (
    ALLOWED,
    MAX_MESSAGE,
    MAX_PIECE,
    MOST_AT_ONCE,
    PAIRINGS,
    RELAY_PATH,
    SCHEME,
    Alive,
    Ask,
    Broken,
    Farewell,
    FromMachine,
    Head,
    Hello,
    More,
    Piece,
    Stop,
    ToMachine,
    Welcome,
)

SECONDS: Final = 60.0
_DECODER: Final[msgspec.msgpack.Decoder[FromMachine]] = msgspec.msgpack.Decoder(FromMachine)


@dataclass
class Connection:
    """One connection of the machine, as the Hub has it."""

    socket: ServerConnection
    hello: Hello
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _last: int = 0

    async def say(self, message: ToMachine | bytes | str) -> None:
        await self.socket.send(message if isinstance(message, bytes | str) else msgspec.msgpack.encode(message))

    async def hear(self) -> FromMachine:
        """What the machine says next, apart from that it is there."""
        while True:
            async with asyncio.timeout(SECONDS):
                content = await self.socket.recv()
            assert isinstance(content, bytes)
            message = _DECODER.decode(content)
            if not isinstance(message, Alive):
                return message

    async def begin(self, method: str, target: str, proof: str, body: bytes = b"") -> int:
        self._last += 1
        await self.say(Ask(self._last, method, target, proof, body))
        return self._last

    async def answer(self, number: int) -> tuple[int, bytes]:
        """Status and content of the answer to a question, when nothing else is asked."""
        head = await self.hear()
        assert isinstance(head, Head), head
        assert head.id == number
        content = b""
        while True:
            piece = await self.hear()
            assert isinstance(piece, Piece), piece
            assert piece.id == number
            content += piece.content
            if piece.is_last:
                return head.status, content
            await self.say(More(number))

    async def ask(self, method: str, target: str, proof: str, body: bytes = b"") -> tuple[int, Any]:
        status, content = await self.answer(await self.begin(method, target, proof, body))
        return status, msgspec.json.decode(content) if content else None

    async def ask_as(self, page: PairedPage, method: str, target: str, body: object = None) -> tuple[int, Any]:
        asked = page.asked(method, target, body)
        return await self.ask(method, target, asked.proof, asked.body.encode())


class EvilHub:
    """Takes the machine's connections, one after the other, and does with them what a test does."""

    def __init__(self) -> None:
        self.url = ""
        self._come: asyncio.Queue[Connection] = asyncio.Queue()

    async def take(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.path == RELAY_PATH
        try:
            content = await socket.recv()
            assert isinstance(content, bytes)
            hello = _DECODER.decode(content)
            assert isinstance(hello, Hello)
            connection = Connection(socket, hello)
            await self._come.put(connection)
            await socket.wait_closed()
            connection.ended.set()
        except ConnectionClosed:
            pass

    async def greeted(self) -> Connection:
        """The machine's next connection, by which it was not greeted yet."""
        async with asyncio.timeout(SECONDS):
            return await self._come.get()

    async def connection(self) -> Connection:
        """The machine's next connection, welcome."""
        connection = await self.greeted()
        await connection.say(Welcome(1))
        return connection


@dataclass
class World:
    """A machine, its agent, a page that is paired with it, and the Hub."""

    hub: EvilHub
    daemon: ScriptedDaemon
    desk: Desk
    relay: Relay
    page: PairedPage
    changed: asyncio.Event

    def change(self) -> None:
        self.changed.set()
        self.desk.ended()


@pytest.fixture
async def world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("m")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setenv("CODEZERO_TOKEN", "a-token-of-the-user")
    hub = EvilHub()
    replies = {
        "GET /v1/status": STATUS,
        "GET /v1/services": SERVICES,
        "GET /v1/consume": CONSUME,
        "PUT /v1/consume": CONSUME,
        "POST /v1/reset": CONSUME,
        "GET /v1/events": Raw(in_chunks(b'{"what":"status"}\n', end=False), hold=True),
    }
    async with serve(hub.take, "127.0.0.1", 0, max_queue=None) as server:
        hub.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        monkeypatch.setenv("CODEZERO_HUB", hub.url)
        page = PairedPage(hub.url, "", 0)
        pairing = Pairing(page.id, page.public, page.name, hub.url, acts=True, created_at=0.0, expires_at=9e9)
        page.machine = state.change(lambda present: (state.pair(present, pairing), present.machine))
        with ScriptedDaemon(folder, dict(replies)) as daemon:
            live, changed = Live(), asyncio.Event()
            turn, threads = Threads("turn", 1), Threads("hub", 1)
            desk = Desk(live, Used(), AgentPassage(daemon.socket_path), turn, port=1, changed=lambda: made.change())
            backoff = Backoff(first=0.01, most=0.02)
            relay = Relay(desk, live, threads, changed=changed, tell=lambda: None, backoff=backoff)
            made = World(hub, daemon, desk, relay, page, changed)
            async with task_group("world") as tasks:
                tasks.start_service("relay", relay.run())
                yield made
            turn.close()
            threads.close()


@pytest.fixture
async def connection(world: World) -> Connection:
    return await world.hub.connection()


# --- as it is meant ------------------------------------------------------------------------------------------------------------------------


async def test_a_machine_says_who_it_is_and_answers_its_page(world: World, connection: Connection) -> None:
    status, services = await connection.ask_as(world.page, "GET", "/agent/v1/services")

    assert connection.hello.token == "a-token-of-the-user"
    assert (connection.hello.machine, connection.hello.name) == (world.page.machine, socket.gethostname())
    assert (status, msgspec.json.encode(services)) == (200, msgspec.json.encode(SERVICES))
    assert world.relay.stands
    told = await connection.ask_as(world.page, "GET", PAIRINGS)
    assert (told[0], told[1]["relays"], told[1]["pairings"][0]["id"]) == (200, True, world.page.id)


async def test_a_stream_comes_as_it_is_told_until_the_page_leaves(world: World, connection: Connection) -> None:
    asked = world.page.asked("GET", "/agent/v1/events")
    number = await connection.begin("GET", "/agent/v1/events", asked.proof)

    head, piece = await connection.hear(), await connection.hear()
    await connection.say(Stop(number))

    assert head == Head(number, 200, "application/x-ndjson")
    assert piece == Piece(number, b'{"what":"status"}\n')
    # It speaks to one client at a time.
    assert (await connection.ask_as(world.page, "GET", "/agent/v1/consume"))[0] == 200
    await connection.say(Stop(number))
    assert (await connection.ask_as(world.page, "GET", "/agent/v1/consume"))[0] == 200


async def test_no_piece_comes_before_the_one_before_it_was_taken(world: World, connection: Connection) -> None:
    content = b"[" + b" " * (3 * MAX_PIECE) + b"]"
    world.daemon.replies["GET /v1/services"] = Raw(with_length(content))
    number = await connection.begin("GET", "/agent/v1/services", world.page.proof("GET", "/agent/v1/services"))
    assert isinstance(await connection.hear(), Head)
    first = await connection.hear()
    other = await connection.begin("GET", PAIRINGS, world.page.proof("GET", PAIRINGS))
    for _ in range(5):
        await connection.say(Alive())
    between = [await connection.hear(), await connection.hear()]
    await connection.say(More(number))

    assert isinstance(first, Piece)
    assert 0 < len(first.content) <= MAX_PIECE
    assert [one.id for one in between if isinstance(one, Head | Piece)] == [other, other]
    received = first.content
    is_last = False
    while not is_last:
        piece = await connection.hear()
        assert isinstance(piece, Piece)
        received, is_last = received + piece.content, piece.is_last
        if not is_last:
            await connection.say(More(number))
    assert received == content


async def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole(world: World, connection: Connection) -> None:
    world.daemon.replies["GET /v1/services"] = Raw(with_length(b"[" * 100)[:-50])
    await connection.begin("GET", "/agent/v1/services", world.page.proof("GET", "/agent/v1/services"))
    assert isinstance(await connection.hear(), Head)
    first, last = await connection.hear(), await connection.hear()

    assert first == Piece(1, b"[" * 50)
    assert last == Broken(1)
    assert (await connection.ask_as(world.page, "GET", "/agent/v1/consume"))[0] == 200


async def test_a_page_is_paired_through_the_hub_and_ends_itself(world: World, connection: Connection) -> None:
    new = PairedPage(world.hub.url, world.page.machine, 0, "the code", name="Another")
    offer = Offer(new.code, new.origin, acts=False, expires_at=9e9)
    state.change(lambda present: (msgspec.structs.replace(present, offer=offer), None))

    wrong = await connection.ask_as(
        new, "POST", PAIRINGS, PairedPage(new.origin, new.machine, 0, "no", key=new.key).wanted()
    )
    made = await connection.ask_as(new, "POST", PAIRINGS, new.wanted())
    again = await connection.ask_as(new, "POST", PAIRINGS, new.wanted())
    changed = await connection.ask_as(new, "PUT", "/agent/v1/consume", {"rules": []})
    ended = await connection.ask_as(new, "POST", f"{PAIRINGS}/revoke", {"id": new.id})
    after = await connection.ask_as(new, "GET", PAIRINGS)

    assert (wrong[0], wrong[1]["code"]) == (403, "CZ-PAIR-003")
    assert (made[0], made[1]["pairing"]["acts"]) == (200, False)
    assert (again[0], changed[0], ended, after[0]) == (403, 403, (204, None), 401)
    assert not world.daemon.requests


async def test_what_a_page_hears_ends_with_its_pairing_and_with_the_last_one_the_connection(
    world: World, connection: Connection
) -> None:
    number = await connection.begin("GET", "/agent/v1/events", world.page.proof("GET", "/agent/v1/events"))
    assert isinstance(await connection.hear(), Head)
    assert isinstance(await connection.hear(), Piece)
    await connection.say(More(number))

    state.change(lambda present: (present.without(frozenset((world.page.id,))), None))
    world.change()

    async with asyncio.timeout(SECONDS):
        await connection.ended.wait()
    await until(lambda: world.relay.reason == f"no page of {world.hub.url} is paired")
    assert not world.relay.stands


async def test_switched_off_there_is_no_connection(world: World, connection: Connection) -> None:
    state.change(lambda present: (msgspec.structs.replace(present, relays=False), None))
    world.change()

    async with asyncio.timeout(SECONDS):
        await connection.ended.wait()
    await until(lambda: world.relay.reason == "switched off: czctl pair --relay")
    state.change(lambda present: (msgspec.structs.replace(present, relays=True), None))
    world.change()
    assert (await (await world.hub.connection()).ask_as(world.page, "GET", "/agent/v1/consume"))[0] == 200


@pytest.mark.parametrize("turns", range(4))
async def test_it_ends_also_where_it_is_ended_while_its_connection_ends(world: World, turns: int) -> None:
    """The last pairing goes, and the process with it."""
    changed = asyncio.Event()
    threads = Threads("hub", 1)
    await world.hub.connection()
    desk = world.desk
    other = Relay(desk, Live(), threads, changed=changed, tell=lambda: None)
    async with asyncio.timeout(SECONDS), task_group("other") as tasks:
        tasks.start_service("relay", other.run())
        await world.hub.connection()
        await until(lambda: other.stands)
        state.change(lambda present: (present.without(frozenset((world.page.id,))), None))
        changed.set()
        for _ in range(turns):
            await asyncio.sleep(0)
    threads.close()


# --- forged --------------------------------------------------------------------------------------------------------------------------------


async def test_of_many_forged_requests_none_comes_to_the_agent(world: World) -> None:
    """More than a machine listens to by one connection: it comes back, and listens again."""
    body = b'{"rules":["*.shop"]}'
    made = [one for one in forged(world.page, "PUT", "/agent/v1/consume", body) if one.proof.isascii()]
    refused: dict[str, int] = {}
    for part in (made[:50], made[50:]):
        connection = await world.hub.connection()
        for one in part:
            # Beyond what the protocol takes: that is another test.
            proof = one.proof[:2048]
            refused[one.why] = (await connection.ask(one.method, one.target, proof, one.body))[0]
        await connection.socket.close()

    assert len(refused) > 80
    assert set(refused.values()) <= {400, 401, 403}, refused
    assert not world.daemon.requests
    connection = await world.hub.connection()
    assert (await connection.ask_as(world.page, "PUT", "/agent/v1/consume", body))[0] == 200, "the right one is done"
    assert world.daemon.lines() == ["PUT /v1/consume"]


async def test_a_proof_is_good_once(world: World, connection: Connection) -> None:
    asked = world.page.asked("POST", "/agent/v1/reset")

    first = await connection.ask("POST", "/agent/v1/reset", asked.proof)
    again = [(await connection.ask("POST", "/agent/v1/reset", asked.proof))[1]["code"] for _ in range(3)]
    await connection.socket.close()
    other = await world.hub.connection()
    later = (await other.ask("POST", "/agent/v1/reset", asked.proof))[1]["code"]

    assert first[0] == 200
    assert {*again, later} == {"CZ-PAIR-001"}
    assert world.daemon.lines() == ["POST /v1/reset"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", "/agent/v1/teamspace"),
        ("POST", "/agent/v1/shutdown"),
        ("POST", "/console/agent/stop"),
        ("POST", "/console/agent/start"),
        ("POST", "/console/session"),
        ("GET", "/console/teamspace"),
        ("GET", "/api/v1/auth/me"),
        ("GET", "/agent/v1/status?x=1"),
        ("get", "/agent/v1/status"),
        ("DELETE", "/agent/v1/consume"),
        ("CONNECT", "/agent/v1/status"),
        ("GET", "/agent/v1/../v1/status"),
        ("GET", "/agent//v1/status"),
        ("GET", "/agent/v1/%73tatus"),
        ("GET", "//evil.example/agent/v1/status"),
        ("GET", "http://127.0.0.1/agent/v1/status"),
        ("GET", "/agent/v1/status\r\nx: y"),
        ("GET", "/agent/v1/stätus"),
        ("GET", "agent/v1/status"),
        ("GET", ""),
        ("", "/agent/v1/status"),
    ],
)
async def test_what_is_not_on_the_list_is_not_done_though_the_page_has_signed_it(
    world: World, connection: Connection, method: str, target: str
) -> None:
    """As a program in the page would (T02)."""
    assert (method, target) not in ALLOWED

    status, told = await connection.ask(method, target, world.page.proof(method, target))

    assert (status, told["code"]) in {(403, "CZ-PAIR-002"), (400, "CZ-GENERAL-002")}
    assert not world.daemon.requests


@pytest.mark.parametrize(("method", "target"), [("GET", "/agent/v1/status"), ("DELETE", "/agent/v1/teamspace")])
async def test_what_has_no_body_is_given_none_that_could_be_another_request(
    world: World, connection: Connection, method: str, target: str
) -> None:
    body = b"POST /v1/shutdown HTTP/1.1\r\nHost: daemon.codezero\r\n\r\n"

    status, told = await connection.ask(method, target, world.page.proof(method, target, body), body)

    assert (status, told["code"]) == (400, "CZ-GENERAL-002")
    assert not world.daemon.requests


async def test_a_page_of_another_hub_gets_nothing_through_this_one(world: World, connection: Connection) -> None:
    other = PairedPage("https://other.example.org", world.page.machine, 0)
    pairing = Pairing(other.id, other.public, "Other", other.origin, acts=True, created_at=0.0, expires_at=9e9)
    state.change(lambda present: (state.pair(present, pairing), None))

    asked = await connection.ask_as(other, "GET", "/agent/v1/consume")
    revoked = await connection.ask_as(world.page, "POST", f"{PAIRINGS}/revoke", {"id": other.id})

    assert (asked[0], asked[1]["code"]) == (401, "CZ-PAIR-001")
    assert revoked[0] == 404
    assert not world.daemon.requests


async def test_a_flood_of_a_page_is_slowed_down_by_either_way(
    world: World, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow this machine is.
    monkeypatch.setattr(used, "A_SECOND", 0)
    answers = [(await connection.ask_as(world.page, "GET", PAIRINGS))[0] for _ in range(used.BURST + 5)]
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        told.append(message)

    headers = {
        "host": "127.0.0.1:1",
        "origin": world.page.origin,
        "authorization": f"{SCHEME} {world.page.proof('GET', PAIRINGS)}",
    }
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "raw_path": PAIRINGS.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await Gate(world.desk, Live(), port=1, users=frozenset())(scope, receive, send)

    assert answers == [200] * used.BURST + [429] * 5
    assert told[0]["status"] == 429
    assert dict(told[0]["headers"])[b"retry-after"] == b"1"


# --- no messages of the protocol -----------------------------------------------------------------------------------------------------------

ASK = Ask(1, "GET", "/agent/v1/status", "x")
NONSENSE: dict[str, tuple[ToMachine | bytes | str, ...]] = {
    "text": ("hello",),
    "an empty message": (b"",),
    "no msgpack": (b"\xc1",),
    "a number": (msgspec.msgpack.encode(1),),
    "a list": (msgspec.msgpack.encode([1, 2]),),
    "a verb that there is not": (msgspec.msgpack.encode({"type": "run", "program": "id"}),),
    "no verb": (msgspec.msgpack.encode({"id": 1}),),
    "a verb of the machine's": (msgspec.msgpack.encode(Head(1, 200, "x")),),
    "a part of a message": (msgspec.msgpack.encode(ASK)[:-3],),
    "a message and more": (msgspec.msgpack.encode(ASK) + b"x",),
    "a field of another kind": (
        msgspec.msgpack.encode({"type": "ask", "id": "1", "method": 1, "target": [], "proof": 0}),
    ),
    "a long method": (Ask(1, "G" * 11, "/agent/v1/status", "x"),),
    "a long target": (Ask(1, "GET", "/" * 3000, "x"),),
    "a long proof": (Ask(1, "GET", "/agent/v1/status", "x" * 3000),),
    "a huge message": (Ask(1, "PUT", "/agent/v1/consume", "x", bytes(MAX_MESSAGE)),),
    "deep": (b"\x91" * 100_000,),
    "a huge number": (msgspec.msgpack.encode({"type": "more", "id": 2**64 - 1}),),
    "below zero": (Ask(-5, "GET", "/agent/v1/status", "x"),),
    "a second welcome": (Welcome(1),),
    "a number used twice": (ASK, ASK),
    "a number of before": (Ask(9, "GET", "/agent/v1/status", "x"), Ask(3, "GET", "/agent/v1/status", "x")),
    "more of nothing": (More(1),),
    "an end of nothing": (Stop(7),),
}


@pytest.mark.parametrize("messages", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_ends_the_connection_and_nothing_else(
    world: World, connection: Connection, messages: tuple[ToMachine | bytes | str, ...]
) -> None:
    for message in messages:
        await connection.say(message)

    async with asyncio.timeout(SECONDS):
        await connection.ended.wait()
    again = await world.hub.connection()
    assert (await again.ask_as(world.page, "GET", "/agent/v1/consume"))[0] == 200
    assert world.daemon.lines() == ["GET /v1/consume"]


@pytest.mark.parametrize(
    "greeting",
    [Welcome(2), Alive(), ASK, More(1), b"\xc1", "text", Farewell("CZ-HUB-012", "go away")],
    ids=["another version", "alive", "a question", "more", "no msgpack", "text", "a farewell"],
)
async def test_without_a_welcome_nothing_is_answered_and_it_is_tried_again(
    world: World, greeting: ToMachine | bytes | str
) -> None:
    connection = await world.hub.greeted()
    await connection.say(greeting)

    async with asyncio.timeout(SECONDS):
        await connection.ended.wait()
    assert not world.relay.stands
    assert not world.daemon.requests
    await world.hub.connection()


async def test_a_hub_that_says_goodbye_for_good_is_left_alone_until_something_changes(
    world: World, connection: Connection
) -> None:
    await connection.say(Farewell("CZ-PAIR-006", "switched off \x1b[2J", retry=False))

    await until(lambda: world.relay.reason == "the Hub ended it: switched off \N{REPLACEMENT CHARACTER}[2J")
    world.change()
    await world.hub.connection()


async def test_more_questions_at_once_than_are_agreed_end_the_connection(world: World, connection: Connection) -> None:
    for _ in range(MOST_AT_ONCE):
        await connection.begin("GET", "/agent/v1/events", world.page.proof("GET", "/agent/v1/events"))
    assert isinstance(await connection.hear(), Head)
    assert not connection.ended.is_set()
    await connection.begin("GET", "/agent/v1/events", world.page.proof("GET", "/agent/v1/events"))

    async with asyncio.timeout(SECONDS):
        await connection.ended.wait()
    again = await world.hub.connection()
    assert (await again.ask_as(world.page, "GET", PAIRINGS))[0] == 200


async def test_questions_that_are_stopped_at_once_make_room_for_others(world: World, connection: Connection) -> None:
    for _ in range(2 * MOST_AT_ONCE):
        number = await connection.begin("GET", PAIRINGS, "x")
        await connection.say(Stop(number))

    number = await connection.begin("GET", PAIRINGS, world.page.proof("GET", PAIRINGS))
    heard = [await connection.hear()]
    while not (isinstance(heard[-1], Piece) and heard[-1].id == number):
        heard.append(await connection.hear())
    assert heard[-2] == Head(number, 200, "application/json")


async def test_a_flood_of_what_nobody_has_signed_ends_the_connection(world: World, connection: Connection) -> None:
    answered = 0
    with pytest.raises(ConnectionClosed):
        for _ in range(1000):
            await connection.ask("GET", "/agent/v1/status", "x")
            answered += 1

    assert 90 < answered < 500
    assert not world.daemon.requests
    assert (await (await world.hub.connection()).ask_as(world.page, "GET", "/agent/v1/consume"))[0] == 200


async def test_keys_that_anybody_makes_are_remembered_nowhere(world: World, connection: Connection) -> None:
    """To sign with a key of one's own is no proof of anything: it must not fill memory or disk."""
    offer = Offer("the code", world.hub.url, acts=True, expires_at=9e9)
    state.change(lambda present: (msgspec.structs.replace(present, offer=offer), None))
    kept = used_file()
    answers: list[str] = []
    for _ in range(20):
        new = PairedPage(world.hub.url, world.page.machine, 0, "a guess")
        answers.append((await connection.ask_as(new, "POST", PAIRINGS, new.wanted()))[1]["code"])

    assert set(answers) == {"CZ-PAIR-003"}
    assert used_file() == kept
    present = state.load()
    assert present is not None
    assert present.offer is None, "five wrong ones have closed it"


def used_file() -> bytes:
    return state.path().with_name(used.FILE).read_bytes()


@pytest.mark.parametrize("seed", range(8))
async def test_any_sequence_of_broken_messages_leaves_agent_and_machine_as_they_were(world: World, seed: int) -> None:
    """Valid messages with octets exchanged, cut, doubled, and any octets at all (T37)."""
    chance = random.Random(seed)
    seen = world.page.asked("PUT", "/agent/v1/consume", {"rules": ["*.shop"]})
    good = [
        msgspec.msgpack.encode(message)
        for message in (
            Welcome(1),
            Alive(),
            More(1),
            Stop(1),
            Ask(1, "GET", "/agent/v1/status", seen.proof),
            Ask(2, "POST", "/agent/v1/reset", seen.proof, seen.body.encode()),
            Farewell("CZ-HUB-012", "x"),
        )
    ]
    for _ in range(12):
        connection = await world.hub.connection()
        try:
            for _ in range(40):
                await connection.say(_broken(chance, chance.choice(good)))
        except ConnectionClosed:
            continue
        # What it said is not read, so there is no end that both sides say.
        connection.socket.transport.abort()

    assert not world.daemon.requests
    connection = await world.hub.connection()
    assert (await connection.ask("PUT", "/agent/v1/consume", seen.proof, seen.body.encode()))[0] == 200


def _broken(chance: random.Random, content: bytes) -> bytes:
    octets = bytearray(content)
    match chance.randrange(5):
        case 0:
            for _ in range(chance.randint(1, 4)):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
        case 1:
            del octets[chance.randrange(len(octets)) :]
        case 2:
            octets += octets[: chance.randrange(len(octets))]
        case 3:
            octets = bytearray(chance.randbytes(chance.randint(0, 200)))
        case _:
            at = chance.randrange(len(octets))
            octets[at:at] = chance.randbytes(chance.randint(1, 8))
    return bytes(octets)
