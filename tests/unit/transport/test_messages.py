"""Messages over byte streams: whole, bounded, and never trusting a length."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.ids import SessionId
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.transport import messages
from codezero.transport.messages import MessageStream
from codezero.wire import coordination
from codezero.wire.coordination import CatalogReport, Ping, TunnelReport

DECODER: msgspec.msgpack.Decoder[coordination.FromSystem] = msgspec.msgpack.Decoder(coordination.FromSystem)


class Pipe:
    """Two ends of one TCP connection on loopback."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __aenter__(self) -> "Pipe":
        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.accepted.put((reader, writer))

        self.server = await asyncio.start_server(keep, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        self.reader, self.writer = await asyncio.open_connection(host, port)
        self.peer_reader, self.peer_writer = await self.accepted.get()
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in (self.writer, self.peer_writer):
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass
        self.server.close()
        await self.server.wait_closed()

    def stream(self, **options: int) -> MessageStream[object, coordination.FromSystem]:
        return MessageStream(self.reader, self.writer, DECODER, **options)


def reading(data: bytes, *, end: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    if end:
        reader.feed_eof()
    return reader


async def receive_all(data: bytes, *, limit: int = coordination.MAX_MESSAGE) -> list[coordination.FromSystem]:
    async with Pipe() as pipe:
        stream: MessageStream[object, coordination.FromSystem] = MessageStream(
            reading(data), pipe.writer, DECODER, limit=limit
        )
        received: list[coordination.FromSystem] = []
        while True:
            try:
                received.append(await stream.receive())
            except EOFError as error:
                if str(error) != "the peer ended":
                    raise
                return received


async def test_messages_arrive_whole_and_in_order() -> None:
    """A report of many services spans many packets; the receiver sees one message each."""
    services = tuple(
        Service(
            ServiceRef("shop", f"orders-{number}"), ServiceKind.CLUSTER_IP, (ServicePort(80, Protocol.TCP, "http"),)
        )
        for number in range(5000)
    )
    async with Pipe() as pipe:
        sender = pipe.stream()
        receiver: MessageStream[object, coordination.FromSystem] = MessageStream(
            pipe.peer_reader, pipe.peer_writer, DECODER
        )

        await asyncio.gather(*(sender.send(message) for message in (CatalogReport(upserts=services), Ping())))

        assert await receiver.receive(within=10) == CatalogReport(upserts=services)
        assert await receiver.receive(within=10) == Ping()


async def test_a_missed_deadline_loses_no_bytes() -> None:
    """A deadline in the middle of a message must not make its rest look like a length."""
    data = messages.frame(TunnelReport(SessionId("S"), "device", True))
    async with Pipe() as pipe:
        reader = reading(data[:7], end=False)
        stream: MessageStream[object, coordination.FromSystem] = MessageStream(reader, pipe.writer, DECODER)
        with pytest.raises(CodezeroError) as caught:
            await stream.receive(within=0.01)
        assert caught.value.problem is problems.TIMED_OUT

        reader.feed_data(data[7:])

        assert await stream.receive() == TunnelReport(SessionId("S"), "device", True)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"\0\0\0\0", 100),
        (b"\xff\xff\xff\xff", 100),
        (b"\0\0\0\x65" + bytes(101), 100),
        (b"\0\0\0\x01\xc1", 100),
        (b"\0\0\0\x01\x90", 100),
        (b"\0\0\0\x05\x81\xa2is\xc0", 100),
        (messages.frame({"is": "Unknown"}), 100),
        (messages.frame({"is": "TunnelReport", "session": 5, "device": "x", "up": True}), 100),
        (messages.frame({"is": "TunnelReport", "session": "s", "device": "x" * 500, "up": True}), 1000),
        (messages.frame({"is": "Ping"}) + b"\0\0\0\x02\x90\x90", 100),
        (b"\0\x01\x00\x00" + b"\x91" * 65536, 100_000),
        (b"\0\x01\x00\x09" + b"\x82\xa2is\xa4Ping\xa1" + b"\x91" * 65536, 100_000),
    ],
    ids=str,
)
async def test_bad_bytes_are_a_protocol_error(data: bytes, limit: int) -> None:
    """Nothing a peer sends may raise anything else, or be kept beyond the limit."""
    with pytest.raises(CodezeroError) as caught:
        await receive_all(data, limit=limit)

    assert caught.value.problem is problems.PROTOCOL


@given(st.binary(max_size=300))
def test_arbitrary_bytes_end_in_a_protocol_error_or_the_end(data: bytes) -> None:
    """The connection's task handles these two and nothing else."""

    async def attempt() -> None:
        try:
            await receive_all(data)
        except CodezeroError as error:
            assert error.problem is problems.PROTOCOL
        except EOFError:
            pass

    asyncio.run(attempt())


async def test_the_end_within_a_message_is_told_from_the_end() -> None:
    """A cut connection and a farewell read differently in the log."""
    with pytest.raises(EOFError, match="within"):
        await receive_all(messages.frame(Ping())[:-1])
    with pytest.raises(EOFError, match="within"):
        await receive_all(b"\0\0")

    assert await receive_all(b"") == []


async def test_unknown_fields_are_ignored() -> None:
    """Versions differ: a newer peer may say more."""
    newer = messages.frame({"is": "TunnelReport", "session": "s", "device": "d", "up": False, "why": ["new"]})

    assert await receive_all(newer) == [TunnelReport(SessionId("s"), "d", False)]


async def test_a_peer_that_does_not_read_misses_the_deadline() -> None:
    """The sender is told instead of waiting for ever or keeping everything."""
    async with Pipe() as pipe:
        stream = pipe.stream()
        report = CatalogReport(
            removes=tuple(ServiceRef("namespace", f"service-{number:050}") for number in range(40_000))
        )

        async def send_for_ever() -> None:
            while True:
                await stream.send(report, within=0.05)

        def send_much() -> None:
            while True:
                stream.send_nowait(report)

        with pytest.raises(CodezeroError) as late:
            await send_for_ever()
        with pytest.raises(CodezeroError) as full:
            send_much()
        assert late.value.problem is problems.TIMED_OUT
        assert full.value.problem is problems.TOO_LARGE
        stream.abort()


async def test_a_message_above_the_limit_is_not_sent() -> None:
    """A message the other end would refuse must fail where it is made."""
    async with Pipe() as pipe:
        with pytest.raises(CodezeroError) as caught:
            await pipe.stream(limit=20).send(TunnelReport(SessionId("x" * 40), "device", True))

        assert caught.value.problem is problems.TOO_LARGE


async def test_sending_on_a_closed_connection_is_the_end() -> None:
    """One error for a lost connection, whichever direction notices."""
    async with Pipe() as pipe:
        stream = pipe.stream()
        stream.close()

        with pytest.raises(EOFError):
            await stream.send(Ping())
        with pytest.raises(EOFError):
            stream.send_nowait(Ping())


def test_a_message_that_came_whole_is_bounded_as_well() -> None:
    content = msgspec.msgpack.encode(Ping())
    assert messages.decoded(content, DECODER, limit=len(content)) == Ping()
    with pytest.raises(CodezeroError, match=f"at most {len(content) - 1} are allowed") as refused:
        messages.decoded(content, DECODER, limit=len(content) - 1)
    assert refused.value.problem is problems.PROTOCOL
