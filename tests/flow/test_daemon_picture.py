"""The laptop's copy of the live picture, told by an Orchestrator that says what the test wants: whole, in parts, again, and wrong."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codezero.kit.tasks import task_group
from codezero.local.daemon import picture as picture_module
from codezero.local.daemon.consumption import Consumption
from codezero.local.daemon.picture import Picture
from codezero.model import problems
from codezero.model.addresses import AddressPlan
from codezero.model.consume import parse_rules
from codezero.model.ids import Device, SessionId
from codezero.model.problems import CodezeroError
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import Presence, PresenceState
from codezero.testing.tunnels import TunnelServer, until
from codezero.transport import messages
from codezero.transport.messages import MessageStream
from codezero.transport.tunnel import TunnelStream
from codezero.wire.coordination import (
    CatalogDelta,
    CatalogSnapshot,
    ConsumeAssertion,
    ConsumeDecisions,
    DaemonHello,
    FromDaemon,
    Goodbye,
    Leave,
    Ping,
    PresenceChanged,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    ToDaemon,
    TraceWanted,
    Welcome,
)
from codezero.wire.open_header import OpenHeader, StreamKind

EPOCH = "epoch-1"
SESSION = SessionId("01HZZZZZZZZZZZZZZZZZZZZZZY")
DEVICE = Device("hub.test", "01HZZZZZZZZZZZZZZZZZZZZZZA", "01HZZZZZZZZZZZZZZZZZZZZZZB", "01HZZZZZZZZZZZZZZZZZZZZZZC")
FROM_DAEMON: msgspec.msgpack.Decoder[FromDaemon] = msgspec.msgpack.Decoder(FromDaemon)


def service(name: str, *, ready: int = 1) -> Service:
    return Service(ServiceRef("shop", name), ServiceKind.CLUSTER_IP, (ServicePort(80),), ready, 1)


def snapshot(*names: str, revision: int = 1, part: int = 0, last: bool = True) -> CatalogSnapshot:
    return CatalogSnapshot(revision, part, last, tuple(service(name) for name in names))


@dataclass
class Orchestrator:
    """Takes one conversation after the other."""

    conversations: asyncio.Queue[MessageStream[ToDaemon, FromDaemon]] = field(default_factory=asyncio.Queue)

    def accept(self, header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        assert header.kind is StreamKind.ORCHESTRATOR
        reader = asyncio.StreamReader()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.conversations.put_nowait(MessageStream(reader, writer, FROM_DAEMON))

        return asyncio.StreamReaderProtocol(reader, connected)

    async def greet(self, *, epoch: str = EPOCH) -> tuple[MessageStream[ToDaemon, FromDaemon], DaemonHello]:
        """The next conversation, after the greetings."""
        async with asyncio.timeout(20):
            stream = await self.conversations.get()
            hello = await stream.receive()
            assert isinstance(hello, DaemonHello)
            await stream.send(Welcome(1, "test", SESSION, epoch))
            return stream, hello


@dataclass
class Laptop:
    orchestrator: Orchestrator
    picture: Picture
    consumption: Consumption
    changed: list[str]

    @property
    def names(self) -> set[str]:
        return {ref.name for ref in self.consumption.catalog}


@asynccontextmanager
async def laptop_at_work() -> AsyncGenerator[Laptop, None]:
    orchestrator = Orchestrator()
    consumption = Consumption(AddressPlan("x"), parse_rules(["*"]))
    changed: list[str] = []
    picture = Picture(consumption, name="laptop", changed=changed.append)
    async with TunnelServer(acceptor=orchestrator.accept) as server, task_group("test") as tasks:
        tunnel = await server.connect()
        following = tasks.start("picture", picture.follow(tunnel))
        try:
            yield Laptop(orchestrator, picture, consumption, changed)
        finally:
            following.cancel()
            tunnel.abandon()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_module, "MOST_DELAY", 0.05)
    monkeypatch.setattr(picture_module, "REFUSED_DELAY", 0.05)


@pytest.fixture
async def laptop() -> AsyncGenerator[Laptop, None]:
    async with laptop_at_work() as found:
        yield found


async def test_snapshot_in_parts_is_seen_when_it_is_whole(laptop: Laptop) -> None:
    """Half a catalog would withdraw the names of the other half."""
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a", "b", last=False))
    await stream.send(Ping())
    await until(lambda: laptop.picture.is_connected)
    assert not laptop.names
    await stream.send(snapshot("c", part=1))
    await until(lambda: laptop.names == {"a", "b", "c"})
    assert laptop.picture.is_complete


async def test_deltas_change_the_copy(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a", "b"))
    await stream.send(CatalogDelta(7, (service("c"),), (ServiceRef("shop", "a"),), stale_since=5.0))
    await until(lambda: laptop.names == {"b", "c"})

    assert laptop.picture.view().revision == 7
    assert laptop.picture.stale_since == 5.0


async def test_return_says_what_it_has_and_keeps_it_meanwhile(laptop: Laptop) -> None:
    """An interruption must not cost every laptop the whole catalog, nor its names."""
    stream, hello = await laptop.orchestrator.greet()
    assert (hello.epoch, hello.revision) == (None, 0)
    await stream.send(snapshot("a", revision=41))
    await until(lambda: laptop.names)
    stream.abort()

    await until(lambda: not laptop.picture.is_connected)
    assert laptop.names == {"a"}
    assert laptop.picture.stale_since is not None
    stream, hello = await laptop.orchestrator.greet()
    assert (hello.epoch, hello.revision) == (EPOCH, 41)
    await stream.send(CatalogDelta(42, (service("b"),)))
    await until(lambda: laptop.names == {"a", "b"})
    assert laptop.picture.stale_since is None


async def test_another_orchestrator_begins_anew(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a", "b", revision=41))
    await until(lambda: laptop.names)
    stream.abort()
    stream, _ = await laptop.orchestrator.greet(epoch="epoch-2")
    await stream.send(snapshot("b", "c", revision=2))
    await until(lambda: laptop.names == {"b", "c"})
    stream.abort()
    _, hello = await laptop.orchestrator.greet(epoch="epoch-2")

    assert (hello.epoch, hello.revision) == ("epoch-2", 2)


async def test_snapshot_that_broke_off_is_forgotten(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a"))
    await until(lambda: laptop.names)
    await stream.send(snapshot("x", revision=9, last=False))
    stream.close()
    stream, hello = await laptop.orchestrator.greet()

    assert hello.revision == 1
    assert laptop.names == {"a"}


async def test_what_is_wanted_is_asked_once_and_again_when_it_changes(laptop: Laptop) -> None:
    """One question at a time: what changes meanwhile goes into the next."""
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a"))
    first = await stream.receive(within=10)
    assert isinstance(first, ConsumeAssertion)
    assert [ref.name for ref in first.services] == ["a"]
    for number in range(20):
        await stream.send(CatalogDelta(2 + number, (service(f"s{number}"),)))
    await stream.send(CatalogDelta(99, (service("a", ready=0),)))
    await until(lambda: laptop.picture.view().revision == 99)
    await stream.send(ConsumeDecisions(first.number - 1, ((ServiceRef("shop", "a"), "stale"),)))
    await stream.send(ConsumeDecisions(first.number))
    second = await stream.receive(within=10)

    assert isinstance(second, ConsumeAssertion)
    assert len(second.services) == 21
    assert second.number > first.number
    assert laptop.consumption.placements[ServiceRef("shop", "a")].reason is None


async def test_changed_policy_is_told_under_the_same_number(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a"))
    asked = await stream.receive(within=10)
    assert isinstance(asked, ConsumeAssertion)
    await stream.send(ConsumeDecisions(asked.number))
    await until(lambda: laptop.consumption.placements[ServiceRef("shop", "a")].names)
    await stream.send(ConsumeDecisions(asked.number, ((ServiceRef("shop", "a"), "no more"),)))

    await until(lambda: laptop.consumption.placements[ServiceRef("shop", "a")].reason == "no more")


async def test_presences_come_change_and_go(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    mine = Presence(SESSION, DEVICE, "laptop", PresenceState.ONLINE, 1.0)
    other = Presence(SessionId("other"), DEVICE, "other", PresenceState.ONLINE, 2.0)
    await stream.send(PresenceChanged((mine, other), reset=True))
    await until(lambda: len(laptop.picture.presences) == 2)
    await stream.send(PresenceChanged((replace(other, state=PresenceState.GONE),)))
    await until(lambda: list(laptop.picture.presences) == [SESSION])


async def test_leaving_is_told(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    leaving = asyncio.ensure_future(laptop.picture.leave())
    assert await stream.receive(within=10) == Leave()
    stream.close()
    await leaving


async def test_goodbye_is_shown_with_its_reason(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    await stream.send(Goodbye(problems.VERSIONS.code, "too old", retry=False))
    await until(lambda: laptop.picture.cause)

    assert laptop.picture.cause.problem is problems.VERSIONS
    assert laptop.picture.cause.detail == "too old"
    await laptop.orchestrator.greet()


WANTED = ServeWanted(0, ServiceRef("shop", "a"), (), ())


async def test_orders_are_answered_each_by_its_number(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    serving = asyncio.ensure_future(laptop.picture.order(WANTED))
    wanted = await stream.receive(within=10)
    ending = asyncio.ensure_future(laptop.picture.order(ServeEnding(0, WANTED.service, ("x",), "done")))
    ended = await stream.receive(within=10)
    assert isinstance(wanted, ServeWanted)
    assert isinstance(ended, ServeEnding)
    assert (ended.variants, ended.reason) == (("x",), "done")
    await stream.send(ServeAnswer(999, effects=("nobody asked",)))
    await stream.send(ServeAnswer(ended.number, effects=("ended",)))
    await stream.send(ServeAnswer(wanted.number, effects=("served",)))

    assert (await serving).effects == ("served",)
    assert (await ending).effects == ("ended",)


async def test_refused_order_says_what_the_teamspace_says(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    serving = asyncio.ensure_future(laptop.picture.order(WANTED))
    wanted = await stream.receive(within=10)
    assert isinstance(wanted, ServeWanted)
    await stream.send(ServeAnswer(wanted.number, problems.CONDITION_TAKEN.code, "bob serves it", "ask bob"))

    with pytest.raises(CodezeroError) as caught:
        await serving
    error = caught.value
    assert (error.problem, error.detail, error.fix) == (problems.CONDITION_TAKEN, "bob serves it", "ask bob")


async def test_a_connection_that_is_handed_over_is_waited_for(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    stream.abort()
    await until(lambda: not laptop.picture.is_connected)
    waiting = asyncio.ensure_future(laptop.picture.until_connected())

    await laptop.orchestrator.greet()
    await waiting
    assert laptop.picture.is_connected


async def test_a_connection_that_never_was_is_not_waited_for(laptop: Laptop) -> None:
    with pytest.raises(CodezeroError) as caught:
        await laptop.picture.until_connected()
    assert caught.value.problem is problems.TUNNEL_DOWN


async def test_order_without_an_answer_is_a_clear_error(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not connected, lost in between, and never answered: each said as it is."""
    with pytest.raises(CodezeroError) as caught:
        await laptop.picture.order(WANTED)
    assert caught.value.problem is problems.TUNNEL_DOWN

    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    serving = asyncio.ensure_future(laptop.picture.order(WANTED))
    await stream.receive(within=10)
    stream.abort()
    with pytest.raises(CodezeroError) as caught:
        await serving
    assert caught.value.problem is problems.TUNNEL_DOWN
    assert "may still be done" in caught.value.detail

    monkeypatch.setattr(picture_module, "ORDER_SECONDS", 0.05)
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    with pytest.raises(CodezeroError) as caught:
        await laptop.picture.order(WANTED)
    assert caught.value.problem is problems.TIMED_OUT


async def test_wish_for_traces_outlives_connections(laptop: Laptop) -> None:
    stream, _ = await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)
    laptop.picture.want_traces(True)
    assert await stream.receive(within=10) == TraceWanted(on=True)
    stream.abort()
    stream, _ = await laptop.orchestrator.greet()
    assert await stream.receive(within=10) == TraceWanted(on=True)
    laptop.picture.want_traces(False)
    assert await stream.receive(within=10) == TraceWanted(on=False)
    stream.abort()
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a"))

    assert isinstance(await stream.receive(within=10), ConsumeAssertion)


WRONG: dict[str, Callable[[], bytes]] = {
    "rubbish": lambda: b"\xff" * 64,
    "an endless message": lambda: b"\x7f\xff\xff\xff",
    "an empty message": lambda: bytes(4),
    "not msgpack": lambda: b"\0\0\0\1\xc1",
    "an unknown message": lambda: messages.frame({"is": "Surprise"}),
    "a message for others": lambda: messages.frame(Leave()),
    "a second welcome": lambda: messages.frame(Welcome(1, "x", SESSION, EPOCH)),
    "a snapshot without its beginning": lambda: messages.frame(snapshot("x", part=3)),
    "a field of another type": lambda: messages.frame({"is": "CatalogDelta", "revision": "x"}),
    "deep nesting": lambda: (5001).to_bytes(4, "big") + b"\x91" * 5000 + b"\0",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_wrong_messages_end_the_conversation_and_not_the_daemon(
    laptop: Laptop, wrong: Callable[[], bytes]
) -> None:
    """A broken or hostile Orchestrator costs the picture, never names, tunnel or process; the copy stays as it was."""
    stream, _ = await laptop.orchestrator.greet()
    await stream.send(snapshot("a"))
    await until(lambda: laptop.names == {"a"})
    stream.writer.write(wrong())
    stream, hello = await laptop.orchestrator.greet()

    assert laptop.names == {"a"}
    assert hello.revision == 1


@pytest.mark.parametrize(
    "first", [Ping(), snapshot("a"), Goodbye("CZ-X", "no", retry=True), Welcome(9, "x", SESSION, EPOCH)]
)
async def test_wrong_greetings_are_not_taken(laptop: Laptop, first: ToDaemon) -> None:
    stream = await laptop.orchestrator.conversations.get()
    await stream.receive(within=10)
    await stream.send(first)
    await laptop.orchestrator.greet()
    await until(lambda: laptop.picture.is_connected)

    assert not laptop.names


async def test_silent_orchestrator_is_given_up(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_module, "SILENT_SECONDS", 0.1)
    for _ in range(2):
        await laptop.orchestrator.greet()


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.booleans()), max_size=6
    )
)
@settings(max_examples=15, deadline=None)
def test_copy_equals_the_truth(changes: list[tuple[set[str], set[str], bool]]) -> None:
    """Whatever the mixture of deltas, snapshots and interruptions."""

    async def run() -> None:
        async with laptop_at_work() as laptop:
            truth: set[str] = set()
            revision = 1
            stream, _ = await laptop.orchestrator.greet()
            await stream.send(snapshot())
            for add, remove, interrupted in changes:
                revision += 1
                if interrupted:
                    stream.abort()
                    stream, _ = await laptop.orchestrator.greet()
                    truth = set(add)
                    await stream.send(snapshot(*sorted(truth), revision=revision))
                else:
                    truth = (truth - remove) | add
                    await stream.send(
                        CatalogDelta(
                            revision,
                            tuple(map(service, sorted(add))),
                            tuple(ServiceRef("shop", name) for name in sorted(remove - add)),
                        )
                    )
            await until(lambda: laptop.names == truth and laptop.picture.view().revision == revision)

    asyncio.run(run())
