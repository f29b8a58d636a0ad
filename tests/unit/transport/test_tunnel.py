"""Tunnels over real TLS on loopback, on both event loops."""

import asyncio
import hashlib
import random
import socket
from typing import Any

import pytest

from codezero.kit import certificates
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.testing.tunnels import SERVER_NAME, Echo, Recorder, TunnelServer, echo, identities, refuse, until
from codezero.transport import tls, tunnel
from codezero.transport.tunnel import ALPN, ClientTunnel, Timing, TunnelStream
from codezero.wire import open_header, yamux
from codezero.wire.control import Farewell, TunnelHello
from codezero.wire.mux import Limits
from codezero.wire.open_header import OpenHeader, StreamKind

ORDERS = OpenHeader(StreamKind.CONSUME, "shop/orders:80", "trace-1")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Relay:
    """A TCP proxy that can fall silent or cut, as networks do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.silent = False

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]
        async with asyncio.TaskGroup() as group:
            self._tasks.add(group.create_task(self._carry(reader, far_writer)))
            self._tasks.add(group.create_task(self._carry(far_reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self.silent:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await until(lambda: all(task.done() for task in self._tasks))


# --- Coming together ------------------------------------------------------------------------------------------------------------------------


async def test_laptop_and_system_agree_on_a_session() -> None:
    """Both sides know whose tunnel it is before any stream is opened."""
    async with TunnelServer() as server, server.tunnel() as (client, system):
        hello, peer = server.hellos[0]

        assert client.session == system.session
        assert hello == TunnelHello((1,), "test", None)
        assert peer.uris == (identities().device,)
        assert system.peer.certificate is not None
        assert certificates.uris_of(system.peer.certificate) == (identities().device,)
        assert system.peer.address == "127.0.0.1"
        assert client.streams == system.streams == 0


async def test_reconnecting_keeps_the_session() -> None:
    """Names and serves of a session survive a cut."""
    async with TunnelServer() as server:
        async with server.tunnel() as (client, _):
            session = client.session
        async with server.tunnel() as (other, _):
            assert other.session != session
        again = await server.connect(session=session)
        again.abandon()

        assert again.session == session


async def test_laptop_without_certificate_is_sent_away() -> None:
    """The door on the same port takes clients without certificates; the tunnel never does."""
    async with TunnelServer() as server:
        with pytest.raises(CodezeroError, match="no certificate") as raised:
            await server.connect(identities().nobody())

        assert raised.value.problem is problems.BAD_IDENTITY
        assert server.hellos == []


async def test_certificate_of_another_authority_is_refused() -> None:
    """A device of another installation must not get as far as a hello."""
    async with TunnelServer() as server:
        with pytest.raises(CodezeroError) as raised:
            await server.connect(identities().stranger())

        assert raised.value.problem is problems.BAD_IDENTITY
        assert raised.value.fix
        assert server.hellos == []


async def test_laptop_does_not_talk_to_an_impostor() -> None:
    """The Teamspace proves itself too: authority and name."""
    async with TunnelServer() as server:
        for context, name in ((identities().misled(), SERVER_NAME), (identities().client(), "other.example.test")):
            with pytest.raises(CodezeroError) as raised:
                await server.connect(context, server_name=name)
            assert raised.value.problem is problems.BAD_IDENTITY


async def test_nobody_listening_is_unreachable() -> None:
    """The commonest failure has its own error, with the next step."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = TunnelServer()
        with pytest.raises(CodezeroError) as raised:
            await server.connect(port=unused.getsockname()[1])

    assert raised.value.problem is problems.UNREACHABLE
    assert raised.value.fix


async def test_refusal_of_the_system_reaches_the_laptop() -> None:
    """A revoked device is told so, not just cut off."""
    async with TunnelServer() as server:
        server.refusal = CodezeroError(problems.FORBIDDEN, "the device was revoked")
        with pytest.raises(CodezeroError, match="revoked") as raised:
            await server.connect()

        assert raised.value.problem is problems.FORBIDDEN


async def test_versions_too_far_apart_are_named() -> None:
    """Neither side guesses."""
    context = identities().client()
    context.set_alpn_protocols([ALPN])
    made: list[ClientTunnel] = []

    def newer(connection: tls.TlsConnection) -> ClientTunnel:
        hello = TunnelHello((7, 8), "future")
        made.append(ClientTunnel(connection, hello=hello, acceptor=refuse, timing=None, limits=None))
        return made[0]

    async with TunnelServer() as server:
        await tls.connect("127.0.0.1", server.listener.port, context=context, server_name=SERVER_NAME, factory=newer)
        cause = await made[0].closed

        assert cause.problem is problems.VERSIONS
        assert "[7, 8]" in cause.detail
        assert server.hellos == []


async def test_port_that_speaks_something_else_is_named() -> None:
    """Without the agreed protocol the bytes would be misread."""

    class Door(asyncio.Protocol):
        pass

    listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers={"": lambda _: Door()})
    with pytest.raises(CodezeroError) as raised:
        await TunnelServer().connect(port=listener.port)
    listener.close()

    assert raised.value.problem is problems.VERSIONS


# --- Streams --------------------------------------------------------------------------------------------------------------------------------


async def test_stream_carries_bytes_both_ways() -> None:
    """Reader and writer of asyncio work on a stream as on a socket."""
    async with TunnelServer() as server, server.tunnel() as (client, _):
        reader, writer = await client.open_stream(ORDERS)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await until(lambda: client.streams == 0)


async def test_system_opens_streams_towards_the_laptop() -> None:
    """Variants are served over the same connection."""
    seen: list[OpenHeader] = []

    def accept(header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        seen.append(header)
        assert stream.get_extra_info("header") == header
        return Echo()

    async with TunnelServer() as server, server.tunnel(acceptor=accept) as (_, system):
        header = OpenHeader(StreamKind.SERVE, "route-1")
        reader, writer = await system.open_stream(header)
        writer.write(b"request")
        assert await reader.readexactly(7) == b"request"
        assert seen == [header]
        writer.close()


async def test_header_and_first_bytes_arrive_together_and_in_pieces() -> None:
    """The header may be split anywhere, and what follows it belongs to the owner."""
    recorders: list[Recorder] = []

    def accept(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        recorders.append(Recorder())
        return recorders[-1]

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        encoded = open_header.encode(ORDERS) + b"first bytes"
        for cut in range(1, len(encoded)):
            raw = client._mux.open_stream(Nobody())  # pyright: ignore[reportPrivateUsage]
            raw.write(encoded[:cut])
            await asyncio.sleep(0)
            raw.write(encoded[cut:])
        await until(lambda: len(recorders) == len(encoded) - 1)
        await until(lambda: all(recorder.data == b"first bytes" for recorder in recorders))


class Nobody:
    """Owner of a stream written by hand."""

    def received(self, data: memoryview) -> None: ...

    def finished(self) -> None: ...

    def was_reset(self) -> None: ...

    def finish_sent(self) -> None: ...

    def ended(self) -> None: ...

    def writable(self) -> None: ...


async def test_owner_that_pauses_at_once_gets_the_first_bytes_later() -> None:
    """The System dials before it reads; data that came with the header waits."""

    class Late(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.stream.pause_reading()

    late: list[Late] = []

    def accept(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        late.append(Late())
        return late[-1]

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        _, writer = await client.open_stream(ORDERS)
        writer.write(b"first ")
        writer.write(b"bytes")
        writer.write_eof()
        await until(lambda: late and late[0].stream._stream.holds_data)  # pyright: ignore[reportPrivateUsage]
        assert late[0].data == b""
        late[0].stream.resume_reading()
        await until(lambda: late[0].ended)

        assert late[0].data == b"first bytes"
        writer.close()


async def test_half_close_in_both_orders() -> None:
    """Request, end, answer, end; and the server's side first."""
    recorders: list[Recorder] = []

    def accept(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        recorders.append(Recorder())
        return recorders[-1]

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        for first, second in ((0, 1), (1, 0)):
            mine = Recorder()
            client.open(ORDERS, mine)
            await until(lambda: recorders)
            ends = [mine, recorders.pop()]
            ends[first].stream.write(b"question")
            ends[first].stream.write_eof()
            await until(lambda: ends[second].ended)  # noqa: B023
            ends[second].stream.write(b"answer")
            ends[second].stream.write_eof()
            assert [await end.lost for end in ends] == [None, None]
            assert ends[second].data == b"question"
            assert ends[first].data == b"answer"
        assert client.streams == 0


async def test_large_random_payloads_arrive_byte_for_byte() -> None:
    """Many sizes of writes, both ways at once, several streams, digests compared."""
    async with TunnelServer() as server, server.tunnel() as (client, _):

        async def one(seed: int) -> None:
            source = random.Random(seed)
            reader, writer = await client.open_stream(ORDERS)
            sent, received = hashlib.sha256(), hashlib.sha256()

            async def send() -> None:
                for _ in range(60):
                    piece = source.randbytes(source.choice([1, 100, 4095, 16_384, 70_000, 300_000]))
                    sent.update(piece)
                    writer.write(piece)
                    await writer.drain()
                writer.write_eof()

            async def receive() -> None:
                while piece := await reader.read(100_000):
                    received.update(piece)

            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                group.create_task(receive())
            assert sent.digest() == received.digest()
            writer.close()
            await writer.wait_closed()

        async with asyncio.TaskGroup() as group:
            for seed in range(4):
                group.create_task(one(seed))


async def test_thousand_streams_at_once() -> None:
    """The default limit is reached, each stream gets its own bytes, and all places are free again."""
    async with TunnelServer() as server, server.tunnel() as (client, system):
        pairs = [await client.open_stream(ORDERS) for _ in range(1000)]
        for number, (_, writer) in enumerate(pairs):
            writer.write(number.to_bytes(4, "big") * 100)
        for number, (reader, _) in enumerate(pairs):
            assert await reader.readexactly(400) == number.to_bytes(4, "big") * 100
        assert client.streams == system.streams == 1000
        with pytest.raises(CodezeroError) as raised:
            client.open(ORDERS, Recorder())
        assert raised.value.problem is problems.TOO_MANY_STREAMS
        for _, writer in pairs:
            writer.write_eof()
        for reader, writer in pairs:
            assert await reader.read() == b""
            writer.close()
        await until(lambda: client.streams == system.streams == 0)


async def test_peer_that_opens_too_many_streams_is_told_for_each() -> None:
    """The acceptor's own limit holds whatever the opener believes."""
    async with TunnelServer(limits=Limits(streams=2)) as server, server.tunnel() as (client, _):
        kept = [Recorder(), Recorder()]
        for recorder in kept:
            client.open(ORDERS, recorder)
        refused = Recorder()
        client.open(ORDERS, refused)
        reason = await refused.lost

        assert isinstance(reason, CodezeroError)
        assert reason.problem is problems.TOO_MANY_STREAMS
        assert not any(recorder.lost.done() for recorder in kept)


async def test_stalled_reader_does_not_slow_its_neighbour() -> None:
    """One application that stops reading must not stop the others of the laptop."""
    stalled: list[TunnelStream] = []

    def accept(header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        if header.target == "stall":
            stalled.append(stream)
            stream.pause_reading()
            return Recorder()
        return Echo()

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        _, stuck = await client.open_stream(OpenHeader(StreamKind.CONSUME, "stall"))
        stuck.write(bytes(4_000_000))
        reader, writer = await client.open_stream(ORDERS)
        for _ in range(20):
            writer.write(b"x" * 200_000)
            assert await reader.readexactly(200_000) == b"x" * 200_000
        assert stuck.transport.get_write_buffer_size() > 3_000_000
        assert stalled
        writer.close()


async def test_writer_is_paused_and_resumed() -> None:
    """Back-pressure reaches whoever writes into a stream."""

    class Source(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def pause_writing(self) -> None:
            self.calls.append("pause")

        def resume_writing(self) -> None:
            self.calls.append("resume")

    streams: list[TunnelStream] = []

    def accept(_header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        streams.append(stream)
        stream.pause_reading()
        return Recorder()

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        source = Source()
        stream = client.open(ORDERS, source)
        for _ in range(3):
            stream.write(bytes(400_000))
        assert source.calls == ["pause"]
        await until(lambda: streams)
        streams[0].resume_reading()
        await until(lambda: source.calls == ["pause", "resume"])


# --- Ends -----------------------------------------------------------------------------------------------------------------------------------


async def test_refused_stream_says_why() -> None:
    """`curl` fails at once, and status can say that the service does not exist."""
    async with TunnelServer(acceptor=refuse) as server, server.tunnel() as (client, _):
        recorder = Recorder()
        client.open(ORDERS, recorder)
        reason = await recorder.lost

        assert isinstance(reason, CodezeroError)
        assert reason.problem is problems.SERVICE_UNKNOWN
        assert reason.detail == "nothing is called shop/orders:80"


async def test_reset_with_a_reason_and_without() -> None:
    """A reset is an error to the reader, with the reason where there is one."""
    streams: list[TunnelStream] = []

    def accept(_header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        streams.append(stream)
        return Recorder()

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        first, second = Recorder(), Recorder()
        client.open(ORDERS, first)
        client.open(ORDERS, second)
        await until(lambda: len(streams) == 2)
        streams[0].reset(CodezeroError(problems.NO_ENDPOINT, "no pod is ready"))
        streams[1].abort()
        reason = await first.lost

        assert isinstance(reason, CodezeroError)
        assert (reason.problem, reason.detail) == (problems.NO_ENDPOINT, "no pod is ready")
        assert isinstance(await second.lost, ConnectionResetError)


async def test_bad_open_header_ends_the_stream_only() -> None:
    """A newer laptop may ask for kinds this System does not know."""
    async with TunnelServer() as server, server.tunnel() as (client, _):
        for junk in (b"\xff\xff junk", b"\x00\x01\xc1", b"\x00\x00"):
            raw = Recorder()
            stream = TunnelStream(client, client._mux.open_stream(Nobody()), protocol=raw)  # pyright: ignore[reportPrivateUsage]
            raw.connection_made(stream)
            stream.write(junk)
            reason = await raw.lost
            assert isinstance(reason, CodezeroError)
            assert reason.problem is problems.PROTOCOL
        reader, writer = await client.open_stream(ORDERS)
        writer.write(b"fine")
        assert await reader.readexactly(4) == b"fine"
        writer.close()


async def test_defect_of_an_owner_ends_its_stream_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug in one feature must not cut everybody's tunnel."""

    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("defect")

    def accept(header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        if header.target == "raise":
            raise RuntimeError("defect")
        return Broken() if header.target == "break" else Echo()

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        for target in ("raise", "break"):
            recorder = Recorder()
            client.open(OpenHeader(StreamKind.CONSUME, target), recorder).write(b"x")
            reason = await recorder.lost
            assert isinstance(reason, CodezeroError)
            assert reason.problem is problems.INTERNAL
        reader, writer = await client.open_stream(ORDERS)
        writer.write(b"fine")
        assert await reader.readexactly(4) == b"fine"
        writer.close()


async def test_close_sends_everything_and_then_refuses_more() -> None:
    """As with TCP: what was written arrives; data for a closed stream is answered by a reset."""
    recorders: list[Recorder] = []

    def accept(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        recorders.append(Recorder())
        return recorders[-1]

    async with TunnelServer(acceptor=accept) as server, server.tunnel() as (client, _):
        mine = Recorder()
        stream = client.open(ORDERS, mine)
        stream.write(bytes(1_000_000))
        stream.close()
        stream.write(b"ignored")
        assert await mine.lost is None
        await until(lambda: recorders and recorders[0].ended)
        assert len(recorders[0].data) == 1_000_000
        recorders[0].stream.write(b"late")

        assert isinstance(await recorders[0].lost, ConnectionResetError)
        await until(lambda: client.streams == 0)


async def test_closed_stream_whose_peer_never_ends_is_given_up() -> None:
    """A peer that keeps half a stream open must not keep its place for good."""
    timing = Timing(heartbeat=0.02, orphan=0.05)
    async with (
        TunnelServer(acceptor=lambda _header, _stream: Recorder()) as server,
        server.tunnel(timing=timing) as (client, _),
    ):
        stream = client.open(ORDERS, Recorder())
        stream.close()
        await until(lambda: client.streams == 0)


async def test_farewell_ends_streams_and_says_why() -> None:
    """A System that stops tells its laptops to come back."""
    async with TunnelServer() as server, server.tunnel() as (client, system):
        mine = Recorder()
        client.open(ORDERS, mine)
        await until(lambda: system.streams == 1)
        await system.close(Farewell(problems.TUNNEL_DOWN.code, "the System is restarting", retry=True))
        cause = await client.closed

        assert cause.detail == "the System is restarting"
        assert client.farewell is not None
        assert client.farewell.retry
        assert await mine.lost is cause
        assert client.is_closed
        with pytest.raises(CodezeroError) as raised:
            client.open(ORDERS, Recorder())
        assert raised.value.problem is problems.TUNNEL_DOWN


async def test_cut_connection_ends_both_sides() -> None:
    """A reset of the TCP connection is known at once."""
    async with (
        TunnelServer() as server,
        Relay(server.listener.port) as relay,
        server.tunnel(port=relay.port) as (client, system),
    ):
        mine = Recorder()
        client.open(ORDERS, mine)
        relay.cut()
        causes = [await client.closed, await system.closed]
        assert [cause.problem for cause in causes] == [problems.TUNNEL_DOWN] * 2
        assert isinstance(await mine.lost, CodezeroError)


async def test_silent_peer_is_dead() -> None:
    """A network that swallows packets says nothing; only silence tells."""
    timing = Timing(heartbeat=0.1, dead=1.0)
    async with (
        TunnelServer(timing=timing) as server,
        Relay(server.listener.port) as relay,
        server.tunnel(port=relay.port, timing=timing) as (client, system),
    ):
        relay.silent = True
        causes = [await client.closed, await system.closed]

    assert [cause.problem for cause in causes] == [problems.TUNNEL_DOWN] * 2
    # The other side may see the first one's end instead of finding out by itself.
    assert any("nothing was heard" in cause.detail for cause in causes)


async def test_heartbeats_keep_an_idle_tunnel_alive() -> None:
    """Nothing to carry is not silence."""
    timing = Timing(heartbeat=0.02, dead=5.0)
    async with TunnelServer(timing=timing) as server, server.tunnel(timing=timing) as (client, system):
        heard = client.last_heard, system.last_heard
        sent = client.bytes_sent
        await until(lambda: client.last_heard > heard[0] and system.last_heard > heard[1] and client.bytes_sent > sent)

        assert not client.is_closed
        assert not system.is_closed


async def test_protocol_violation_ends_the_tunnel_with_a_reason() -> None:
    """Both sides learn what was wrong, for the report that follows."""
    async with TunnelServer() as server, server.tunnel() as (client, system):
        client._connection.send([yamux.encode(yamux.DATA, 0, 99, 1)])  # pyright: ignore[reportPrivateUsage]
        causes = [await system.closed, await client.closed]

        assert [cause.problem for cause in causes] == [problems.PROTOCOL] * 2
        assert "stream 99" in causes[1].detail


async def test_streams_before_the_hello_are_a_violation() -> None:
    """Nobody uses a tunnel that was not agreed on."""

    class Hasty(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, tls.TlsConnection)
            header = open_header.encode(OpenHeader(StreamKind.CONTROL))
            other = open_header.encode(ORDERS)
            transport.write(yamux.encode(yamux.DATA, yamux.SYN, 1, len(header)) + header)
            transport.write(yamux.encode(yamux.DATA, yamux.SYN, 3, len(other)) + other)
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(None)

    context = identities().client()
    context.set_alpn_protocols([ALPN])
    hasty = Hasty()
    async with TunnelServer() as server:
        await tls.connect(
            "127.0.0.1", server.listener.port, context=context, server_name=SERVER_NAME, factory=lambda _: hasty
        )
        await hasty.lost

        assert server.hellos == []


async def test_hostile_control_messages_end_the_tunnel_only() -> None:
    """Whatever the control stream says, the process goes on."""
    async with TunnelServer() as server:
        for junk in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x00"):
            async with server.tunnel() as (client, system):
                control_stream = client._mux.streams[1]  # pyright: ignore[reportPrivateUsage]
                control_stream.write(junk)
                assert (await system.closed).problem is problems.PROTOCOL
        async with server.tunnel() as (client, system):
            await client.close(Farewell("x" * 900, "bye", retry=False))
            assert (await system.closed).problem.code == "x" * 900


async def test_cancelled_connecting_leaves_nothing() -> None:
    """A Daemon that stops while it connects must not leak a connection."""
    async with TunnelServer() as server, Relay(server.listener.port) as relay:
        relay.silent = True
        connecting = asyncio.ensure_future(server.connect(port=relay.port))
        await until(lambda: server.listener.unproven == 1)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await until(lambda: server.listener.unproven == 0)


async def test_acceptor_default_is_used() -> None:
    """The double's own acceptor answers, so that the tests above prove something."""
    async with TunnelServer(acceptor=echo) as server, server.tunnel() as (client, system):
        reader, writer = await client.open_stream(ORDERS)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        assert client.bytes_sent > 0
        assert system.bytes_received >= client.bytes_sent - 1000
        writer.close()


async def test_session_ids_are_ulids() -> None:
    """Messages elsewhere rely on the form."""
    async with TunnelServer() as server:
        wanted = SessionId(new_ulid())
        client = await server.connect(session=wanted)
        assert client.session == wanted
        client.abandon()


def test_application_protocol_is_stable() -> None:
    """Old laptops look for it."""
    assert tunnel.ALPN == "codezero-tunnel/1"
