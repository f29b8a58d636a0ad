"""An application's socket and a service's socket, joined by a tunnel: as if there were none."""

import asyncio
import gc
import hashlib
import os
import random
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.tunnels import Recorder, TunnelServer, until
from codezero.transport import splice
from codezero.transport.splice import DatagramStream, SocketFactory
from codezero.transport.tunnel import ServerTunnel, TunnelStream
from codezero.wire.mux import MuxStream
from codezero.wire.open_header import OpenHeader, StreamKind

ORDERS = OpenHeader(StreamKind.CONSUME, "shop/orders:80")

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Route:
    """Application socket → laptop's splice → tunnel → System's splice → service."""

    def __init__(self, port: int, system: ServerTunnel) -> None:
        self.port = port
        self.system = system
        self.refused: list[CodezeroError] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def path_to(service: Connected | None, *, dial: splice.Dial | None = None) -> AsyncGenerator[Route, None]:
    """A whole path to `service`, or to whatever `dial` connects."""
    loop = asyncio.get_running_loop()
    backend = await asyncio.start_server(service, "127.0.0.1", 0) if service is not None else None

    async def dial_backend(factory: SocketFactory) -> None:
        assert backend is not None
        await loop.create_connection(factory, *backend.sockets[0].getsockname())

    def acceptor(tasks: Tasks) -> Callable[[OpenHeader, TunnelStream], asyncio.Protocol]:
        return lambda _header, _stream: splice.dialled(dial or dial_backend, tasks=tasks)

    async with task_group("system") as tasks, TunnelServer(acceptor=acceptor(tasks)) as server:
        async with server.tunnel() as (client, system):
            refused: list[CodezeroError] = []
            front = await loop.create_server(
                lambda: splice.accepted(lambda _socket, owner: client.open(ORDERS, owner), refused=refused.append),
                "127.0.0.1",
                0,
            )
            path = Route(front.sockets[0].getsockname()[1], system)
            path.refused = refused
            yield path
            front.close()
        if backend is not None:
            backend.close()
        await until(lambda: not system.streams)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()


async def test_bytes_pass_both_ways_and_ends_too() -> None:
    """Half-close of either side reaches the other, and both sockets are closed in order."""
    async with path_to(echo) as path:
        reader, writer = await path.connect()
        writer.write(b"question")
        assert await reader.readexactly(8) == b"question"
        writer.write(b" and the rest")
        writer.write_eof()
        assert await reader.read() == b" and the rest"
        writer.close()
        await writer.wait_closed()
        await until(lambda: path.system.streams == 0)


async def test_ended_connections_leave_nothing_to_the_collector() -> None:
    """Thousands a second come and go; what only the collector of cycles frees grows until it looks."""
    kinds = (splice.SocketSide, splice.StreamSide, TunnelStream, MuxStream)

    def alive() -> int:
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    async with path_to(echo) as path:
        gc.collect()
        before = alive()
        gc.disable()
        try:
            for number in range(20):
                reader, writer = await path.connect()
                writer.write(b"question")
                await reader.readexactly(8)
                if number % 2:
                    writer.transport.abort()
                else:
                    writer.close()
            await until(lambda: path.system.streams == 0 and alive() == before)
        finally:
            gc.enable()


async def test_service_that_speaks_first() -> None:
    """Databases greet before they are asked."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.close()

    async with path_to(greet) as path:
        reader, writer = await path.connect()
        assert await reader.read() == b"220 ready\r\n"
        writer.close()


async def test_megabytes_arrive_byte_for_byte_under_back_pressure() -> None:
    """A reader that dawdles slows the writer at the other end and loses nothing."""
    payload = random.Random(1).randbytes(24_000_000)

    async with path_to(echo) as path:
        reader, writer = await path.connect()
        received = hashlib.sha256()

        async def send() -> None:
            for start in range(0, len(payload), 1_000_003):
                writer.write(payload[start : start + 1_000_003])
                await writer.drain()
            writer.write_eof()

        async def receive() -> None:
            while data := await reader.read(50_000):
                received.update(data)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            group.create_task(receive())
        writer.close()

        assert received.digest() == hashlib.sha256(payload).digest()


async def test_service_that_stops_reading_stops_the_application() -> None:
    """Memory in between is bounded: windows and socket buffers, not the whole upload."""
    go_on = asyncio.Event()
    total = 0

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        await go_on.wait()
        while data := await reader.read(1 << 20):
            total += len(data)
        writer.close()

    async with path_to(stall) as path:
        reader, writer = await path.connect()
        piece = bytes(1 << 20)
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                while sent < 200 << 20:
                    writer.write(piece)
                    sent += len(piece)
                    await writer.drain()
        assert sent < 100 << 20
        go_on.set()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

        assert total == sent


async def test_reset_by_the_service_is_a_reset_to_the_application() -> None:
    """Clients tell an error from an end, and retry."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        splice.reset_socket(writer.transport)  # pyright: ignore[reportArgumentType]

    async with path_to(reset) as path:
        reader, writer = await path.connect()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await until(lambda: path.system.streams == 0)


async def test_reset_by_the_application_is_a_reset_to_the_service() -> None:
    """A cancelled query should be seen as such."""
    seen: list[Exception] = []

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(10)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            seen.append(error)
        writer.close()

    async with path_to(watch) as path:
        _, writer = await path.connect()
        writer.write(b"x")
        await until(lambda: path.system.streams == 1)
        splice.reset_socket(writer.transport)  # pyright: ignore[reportArgumentType]
        await until(lambda: seen)

        assert isinstance(seen[0], ConnectionResetError)


async def test_application_that_leaves_early_stops_the_service() -> None:
    """`head -1` on a log stream: the service must learn that nobody reads."""
    stopped = asyncio.Event()

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(10_000))
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            stopped.set()
        writer.close()

    async with path_to(pour) as path:
        reader, writer = await path.connect()
        await reader.readexactly(10_000)
        writer.close()
        async with asyncio.timeout(10):
            await stopped.wait()


async def test_failed_dial_resets_with_the_reason() -> None:
    """The application sees a refusal, status sees why."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()

        async def dial(factory: SocketFactory) -> None:
            await asyncio.get_running_loop().create_connection(factory, *address)

        async with path_to(None, dial=dial) as path:
            reader, writer = await path.connect()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        (ConnectionRefusedError(111, "Connection refused"), problems.DIAL_FAILED),
        (TimeoutError(), problems.DIAL_FAILED),
        (CodezeroError(problems.NO_ENDPOINT, "no pod is ready"), problems.NO_ENDPOINT),
    ],
)
async def test_each_failure_to_dial_has_its_reason(failure: Exception, problem: problems.Problem) -> None:
    """The activity list names what went wrong."""

    async def dial(_factory: SocketFactory) -> None:
        raise failure

    async with task_group("system") as tasks:
        server = TunnelServer(acceptor=lambda _header, _stream: splice.dialled(dial, tasks=tasks))
        async with server, server.tunnel() as (client, _):
            recorder = Recorder()
            client.open(ORDERS, recorder)
            reason = await recorder.lost

            assert isinstance(reason, CodezeroError)
            assert reason.problem is problem


async def test_bytes_sent_before_the_dial_ends_are_kept() -> None:
    """A request is on its way before the pod is connected, the end included."""
    loop = asyncio.get_running_loop()
    may_connect = asyncio.Event()
    backend = await asyncio.start_server(echo, "127.0.0.1", 0)

    async def dial(factory: SocketFactory) -> None:
        await may_connect.wait()
        await loop.create_connection(factory, *backend.sockets[0].getsockname())

    async with path_to(None, dial=dial) as path:
        reader, writer = await path.connect()
        writer.write(b"early")
        writer.write_eof()
        await until(lambda: path.system.streams == 1)
        may_connect.set()
        assert await reader.read() == b"early"
        writer.close()
    backend.close()


async def test_application_that_leaves_during_the_dial_cancels_it() -> None:
    """Impatient clients must not leave connections to pods behind."""
    cancelled = asyncio.Event()

    async def dial(_factory: SocketFactory) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with path_to(None, dial=dial) as path:
        _, writer = await path.connect()
        await until(lambda: path.system.streams == 1)
        splice.reset_socket(writer.transport)  # pyright: ignore[reportArgumentType]
        async with asyncio.timeout(10):
            await cancelled.wait()


async def test_unix_sockets_can_be_joined(tmp_path: Path) -> None:
    """The sandbox and tests use them."""
    address = str(tmp_path / "service.sock")
    backend = await asyncio.start_unix_server(echo, address)

    async def dial(factory: SocketFactory) -> None:
        await asyncio.get_running_loop().create_unix_connection(factory, address)

    async with path_to(None, dial=dial) as path:
        reader, writer = await path.connect()
        writer.write(b"through")
        writer.write_eof()
        assert await reader.read() == b"through"
        writer.close()
    backend.close()


async def test_application_is_refused_when_no_stream_can_be_opened() -> None:
    """Without a tunnel the connection fails at once instead of hanging."""

    def opener(_socket: asyncio.Transport, _owner: asyncio.Protocol) -> TunnelStream:
        raise CodezeroError(problems.TUNNEL_DOWN, "no tunnel")

    refused: list[CodezeroError] = []
    front = await asyncio.get_running_loop().create_server(
        lambda: splice.accepted(opener, refused=refused.append), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    front.close()

    assert [error.problem for error in refused] == [problems.TUNNEL_DOWN]


async def test_loss_of_the_tunnel_resets_the_application() -> None:
    """A truncated answer must not look complete."""
    never = asyncio.Event()

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await never.wait()
        writer.close()

    async with path_to(hold) as path:
        reader, writer = await path.connect()
        assert await reader.readexactly(4) == b"half"
        path.system.abandon()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        never.set()


# --- Datagrams ------------------------------------------------------------------------------------------------------------------------------


async def test_datagrams_keep_their_borders() -> None:
    """Empty, largest and many small ones, split over reads as they come."""
    received: list[bytes] = []
    ends: list[Exception | None] = []

    def accept(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        return DatagramStream(received.append, ends.append)

    datagrams = [b"", b"x", os.urandom(65_535), *(bytes([number]) * number for number in range(200))]
    server = TunnelServer(acceptor=accept)
    async with server, server.tunnel() as (client, _):
        mine = DatagramStream(received.append, ends.append)
        mine.send(b"before it was open")
        client.open(OpenHeader(StreamKind.DATAGRAMS, "shop/dns:53"), mine)
        for datagram in datagrams:
            mine.send(datagram)
            await asyncio.sleep(0)
        await until(lambda: len(received) == len(datagrams) + 1)
        mine.close()
        await until(lambda: ends == [None, None])

    assert received == [b"before it was open", *datagrams]
    assert mine.dropped == 0


async def test_late_datagrams_are_dropped_oldest_first() -> None:
    """A queue of stale answers helps nobody; the newest matters."""
    received: list[bytes] = []
    streams: list[TunnelStream] = []

    def accept(_header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        stream.pause_reading()
        streams.append(stream)
        return DatagramStream(received.append, lambda _cause: None)

    server = TunnelServer(acceptor=accept)
    async with server, server.tunnel() as (client, _):
        mine = DatagramStream(received.append, lambda _cause: None)
        client.open(OpenHeader(StreamKind.DATAGRAMS, "shop/dns:53"), mine)
        await until(lambda: streams)
        count = 3000
        for number in range(count):
            mine.send(number.to_bytes(4, "big") * 250)
        assert mine.dropped > 0
        streams[0].resume_reading()
        await until(lambda: len(received) == count - mine.dropped)
        numbers = [int.from_bytes(datagram[:4], "big") for datagram in received]

    assert numbers == sorted(numbers)
    assert numbers[-256:] == list(range(count - 256, count))


def test_too_large_datagram_is_refused() -> None:
    """Its length would not fit into the prefix."""
    with pytest.raises(ValueError, match="65536"):
        DatagramStream(lambda _: None, lambda _: None).send(bytes(65_536))
