"""Streams that the System opens towards a laptop, through a real tunnel to real sockets: only where was declared, and told at once when not there."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop

from codezero.kit.tasks import task_group
from codezero.local.daemon import served_streams
from codezero.local.daemon.served_streams import ServedStreams, check_ports
from codezero.local.daemon.serving import Serving
from codezero.local.daemon.state import SavedServes
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, PortPair, VariantView
from codezero.testing.teamspace import echo_server, free_port
from codezero.testing.tunnels import Recorder, TunnelServer, until
from codezero.transport.tunnel import ServerTunnel
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED

ORDERS = ServiceRef("shop", "orders")


@dataclass
class Laptop:
    """What serves, and the System's end of its tunnel."""

    serving: Serving
    streams: ServedStreams
    system: ServerTunnel
    changes: list[None] = field(default_factory=list)

    def serve(self, *ports: PortPair) -> str:
        view = VariantView(
            new_ulid(), new_ulid(), "alice", "device", SessionId("s"), (ConditionPart("user"),), ports, 1, 2.0
        )
        self.serving.hold(ORDERS, view, at=1.0)
        return view.variant_id

    def open(self, target: str, *, kind: StreamKind = StreamKind.SERVE) -> Recorder:
        recorder = Recorder()
        self.system.open(OpenHeader(kind, target), recorder)
        return recorder

    async def refusal(self, target: str, *, kind: StreamKind = StreamKind.SERVE) -> CodezeroError:
        """Why a stream ends."""
        recorder = self.open(target, kind=kind)
        async with asyncio.timeout(10):
            error = await recorder.lost
        assert isinstance(error, CodezeroError), error
        assert not recorder.data
        return error


@asynccontextmanager
async def laptop_at_work() -> AsyncGenerator[Laptop, None]:
    async with task_group("test") as tasks, AsyncExitStack() as stack:
        serving = Serving(SavedServes(new_ulid(), "device"))
        changes: list[None] = []
        streams = ServedStreams(serving, tasks, changed=lambda: changes.append(None))
        server = await stack.enter_async_context(TunnelServer())
        _, system = await stack.enter_async_context(server.tunnel(acceptor=streams.accept))
        yield Laptop(serving, streams, system, changes)


@pytest.fixture
async def laptop() -> AsyncGenerator[Laptop, None]:
    async with laptop_at_work() as found:
        yield found


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_local_process_answers_on_either_loopback(laptop: Laptop, address: str) -> None:
    """Development servers listen on the one or on the other; the byte that says so comes first."""
    async with echo_server(b"welcome", address=address) as port:
        recorder = laptop.open(f"{laptop.serve(PortPair(80, port))}:80")
        recorder.stream.write(b"hello")
        recorder.stream.write_eof()
        async with asyncio.timeout(10):
            assert await recorder.lost is None

    assert recorder.data == CONNECTED + b"welcomehello"


async def test_what_the_system_sends_waits_for_the_local_process(laptop: Laptop) -> None:
    """Also a request with its end, sent before anything was connected."""
    async with echo_server() as port:
        key = laptop.serve(PortPair(80, port))
        recorders = [laptop.open(f"{key}:80") for _ in range(50)]
        for number, recorder in enumerate(recorders):
            recorder.stream.write(bytes([number]) * 1000)
            recorder.stream.write_eof()
        async with asyncio.timeout(20):
            await asyncio.gather(*(recorder.lost for recorder in recorders))

    assert [bytes(recorder.data) for recorder in recorders] == [
        CONNECTED + bytes([number]) * 1000 for number in range(50)
    ]
    assert laptop.serving.held[key].requests == 50
    assert laptop.streams.count == 0


async def test_nobody_listening_is_told_at_once_and_shown(laptop: Laptop) -> None:
    port = free_port()
    key = laptop.serve(PortPair(80, port))

    error = await laptop.refusal(f"{key}:80")

    held = laptop.serving.held[key]
    assert error.problem is problems.DIAL_FAILED
    assert (held.requests, held.failed) == (1, 1)
    assert f"port {port} of this laptop" in held.troubles[80]
    assert "refused" in held.troubles[80]
    await laptop.refusal(f"{key}:80")
    assert len(laptop.changes) == 1  # told once, not per request

    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with server:
        recorder = laptop.open(f"{key}:80")
        await until(lambda: recorder.data == CONNECTED)
    assert not held.troubles
    assert len(laptop.changes) == 2


@pytest.mark.parametrize(
    ("port", "problem"),
    [("81", problems.PORT_NOT_SERVED), ("22", problems.PORT_NOT_SERVED), ("80/..", problems.BAD_REQUEST)],
)
async def test_ports_that_were_not_declared_are_refused(laptop: Laptop, port: str, problem: problems.Problem) -> None:
    """Also while something listens there: who holds the System gets no farther than what is served (T18, T20)."""
    async with echo_server() as listening:
        key = laptop.serve(PortPair(80, listening))
        assert (await laptop.refusal(f"{key}:{port}")).problem is problem
        assert (await laptop.refusal(f"{key}:{listening}")).problem is problems.PORT_NOT_SERVED
        assert (await laptop.refusal(f"{new_ulid()}:80")).problem is problems.SERVE_UNKNOWN
        assert (await laptop.refusal(f"127.0.0.1:{listening}")).problem is problems.BAD_REQUEST
        assert (await laptop.refusal("", kind=StreamKind.ORCHESTRATOR)).problem is problems.STREAM_KIND_UNKNOWN
        assert (await laptop.refusal("shop/orders:80", kind=StreamKind.CONSUME)).problem is problems.STREAM_KIND_UNKNOWN
    assert laptop.serving.held[key].requests == 0


async def test_too_many_streams_leave_room_for_others(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_streams, "MAX_STREAMS", 3)
    async with echo_server() as port:
        key = laptop.serve(PortPair(80, port))
        several = [laptop.open(f"{key}:80") for _ in range(3)]
        await until(lambda: all(one.data == CONNECTED for one in several))

        assert (await laptop.refusal(f"{key}:80")).problem is problems.TOO_MANY_STREAMS
        several[0].stream.write_eof()
        await several[0].lost
        await until(lambda: laptop.streams.count == 2)
        once_more = laptop.open(f"{key}:80")
        await until(lambda: once_more.data == CONNECTED)


async def test_streams_of_an_ended_variant_end_after_a_moment(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_streams, "DRAIN_SECONDS", 0.0)
    async with echo_server() as port:
        ended, goes_on = laptop.serve(PortPair(80, port)), laptop.serve(PortPair(80, port))
        over, other = laptop.open(f"{ended}:80"), laptop.open(f"{goes_on}:80")
        await until(lambda: over.data == other.data == CONNECTED)
        laptop.serving.release((ended,), at=2.0)
        laptop.streams.end(ended)
        async with asyncio.timeout(10):
            error = await over.lost

        assert isinstance(error, CodezeroError)
        assert error.problem is problems.SERVE_UNKNOWN
        assert (await laptop.refusal(f"{ended}:80")).problem is problems.SERVE_UNKNOWN
        other.stream.write(b"x")
        await until(lambda: other.data == CONNECTED + b"x")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9"])
async def test_declared_hosts_are_dialled(laptop: Laptop, host: str) -> None:
    async with echo_server(address="127.9.9.9" if host == "127.9.9.9" else "127.0.0.1") as port:
        recorder = laptop.open(f"{laptop.serve(PortPair(80, port, host))}:80")
        await until(lambda: recorder.data == CONNECTED)


async def test_names_that_lead_to_metadata_are_not_dialled(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may resolve to another address each time, so addresses are judged where they are dialled."""

    async def resolved(_host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    key = laptop.serve(PortPair(80, 80, "metadata.example"))

    error = await laptop.refusal(f"{key}:80")
    assert error.problem is problems.DIAL_FAILED
    assert "169.254.169.254" in error.detail


async def test_name_without_an_address_is_told(laptop: Laptop) -> None:
    key = laptop.serve(PortPair(80, 80, "nowhere.invalid"))

    error = await laptop.refusal(f"{key}:80")
    assert error.problem is problems.DIAL_FAILED
    assert "nowhere.invalid" in error.detail


async def test_local_process_that_does_not_take_connections_is_not_waited_for(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs with a full backlog answers no SYN at all."""
    monkeypatch.setattr(served_streams, "DIAL_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        key = laptop.serve(PortPair(80, port))

        error = await laptop.refusal(f"{key}:80")
        assert error.problem is problems.DIAL_FAILED
        assert "no answer" in laptop.serving.held[key].troubles[80]


async def test_reset_of_the_local_process_is_a_reset_of_the_stream(laptop: Laptop) -> None:
    def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4)
        )
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        recorder = laptop.open(f"{laptop.serve(PortPair(80, server.sockets[0].getsockname()[1]))}:80")
        assert isinstance(await recorder.lost, Exception)


async def test_system_that_goes_in_the_middle_of_dialling_leaves_nothing(laptop: Laptop) -> None:
    async with echo_server() as port:
        key = laptop.serve(PortPair(80, port))
        laptop.open(f"{key}:80").stream.abort()
        recorder = laptop.open(f"{key}:80")
        await until(lambda: recorder.data == CONNECTED)
        await until(lambda: laptop.streams.count == 1)
    assert laptop.serving.held[key].failed == 0


def test_on_the_loop_that_the_daemon_has() -> None:
    """uvloop connects, resolves and reports errors in ways of its own."""

    async def run() -> None:
        async with laptop_at_work() as laptop, echo_server(b"welcome") as port, echo_server(address="::1") as other:
            pairs = (
                PortPair(80, port),
                PortPair(81, other),
                PortPair(82, port, "localhost"),
                PortPair(83, free_port()),
            )
            key = laptop.serve(*pairs)
            for number, said in ((80, b"welcome"), (81, b""), (82, b"welcome")):
                recorder = laptop.open(f"{key}:{number}")
                recorder.stream.write(b"x")
                recorder.stream.write_eof()
                async with asyncio.timeout(10):
                    assert await recorder.lost is None
                assert recorder.data == CONNECTED + said + b"x"
            assert (await laptop.refusal(f"{key}:83")).problem is problems.DIAL_FAILED
            assert "Connection refused" in laptop.serving.held[key].troubles[83]
            assert laptop.streams.count == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize(
    "ports",
    [
        (PortPair(80, 3000), PortPair(80, 3001)),
        (PortPair(0, 3000),),
        (PortPair(80, 65536),),
        (PortPair(80, 80, "169.254.169.254"),),
        (PortPair(80, 80, "::ffff:169.254.169.254"),),
        (PortPair(80, 80, "fe80::1"),),
        (PortPair(80, 80, "fd00:ec2::254"),),
        (PortPair(80, 80, "0.0.0.0"),),
        (PortPair(80, 80, "224.0.0.1"),),
        (PortPair(80, 80, "127.72.1.1"),),
        (PortPair(80, 80, "-o option"),),
        (PortPair(80, 80, "a/b"),),
        (PortPair(80, 80, ""),),
        (PortPair(80, 80, "x" * 300),),
    ],
)
def test_ports_that_cannot_be_served_are_refused_before_anything_is_asked(ports: tuple[PortPair, ...]) -> None:
    with pytest.raises(CodezeroError) as caught:
        check_ports(ports)
    assert caught.value.problem is problems.BAD_SERVE


@pytest.mark.parametrize(
    "host", [None, "localhost", "db.internal", "my_container", "192.168.1.5", "fd12::5", "10.0.0.1"]
)
def test_ports_that_can_be_served(host: str | None) -> None:
    check_ports((PortPair(80, 3000, host), PortPair(81, 3000, host)))
