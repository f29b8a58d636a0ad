"""Mirrored requests through a real tunnel to a real local process, compared with what a scripted Router says that the origin answered."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
import uvloop

from codezero.kit.tasks import task_group
from codezero.local.daemon import mirroring, served_streams
from codezero.local.daemon.served_streams import ServedStreams
from codezero.local.daemon.serving import MIRROR_NOT_COMPARED, Serving
from codezero.local.daemon.state import SavedServes
from codezero.local.daemon.traces import Reader, Traces
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.testing.teamspace import free_port
from codezero.testing.tunnels import Recorder, TunnelServer, until
from codezero.transport.tunnel import ServerTunnel
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED
from codezero.wire.tracing import MirrorRecord

ORDERS = ServiceRef("shop", "orders")
EMPTY = b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 18\r\n\r\n{"where":"laptop"}'


@dataclass
class Local:
    """A local process that writes down what it is asked; `answer` says what it answers, None that it does not."""

    port: int
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0
    answer: Callable[[bytes], bytes | None] = lambda _: ANSWER


@asynccontextmanager
async def local_process() -> AsyncGenerator[Local]:
    local = Local(0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        local.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                request = head + (await reader.readexactly(int(length[1])) if length else b"")
                local.asked.append(request)
                answer = local.answer(request)
                if answer is not None:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        local.port = server.sockets[0].getsockname()[1]
        yield local


@dataclass
class Laptop:
    """What serves, the System's end of its tunnel, and who reads its traces."""

    serving: Serving
    streams: ServedStreams
    system: ServerTunnel
    traces: Traces
    reader: Reader | None = None
    changes: list[None] = field(default_factory=list)

    def mirror(self, port: int, mirror: Mirror = Mirror.SAFE) -> str:
        view = VariantView(
            new_ulid(),
            new_ulid(),
            "alice",
            "device",
            SessionId("s"),
            (ConditionPart("default"),),
            (PortPair(80, port),),
            1,
            2.0,
            mirror=mirror,
        )
        self.serving.hold(ORDERS, view, at=1.0)
        return view.variant_id

    async def ask(self, variant_id: str, *requests: bytes) -> Recorder:
        """Send the requests by one stream, one after the other's answer."""
        recorder = self.open(variant_id)
        for number, request in enumerate(requests, 1):
            recorder.stream.write(request)
            await until(lambda number=number: recorder.data == CONNECTED + EMPTY * number)
        return recorder

    def open(self, variant_id: str) -> Recorder:
        recorder = Recorder()
        self.system.open(OpenHeader(StreamKind.SERVE, f"{variant_id}:80"), recorder)
        return recorder

    def read(self) -> Reader:
        self.reader = self.traces.read()
        return self.reader

    async def told(self) -> MirrorRecord:
        assert self.reader is not None
        async with asyncio.timeout(10):
            line = await self.reader.next()
        assert line is not None
        assert line.mirror is not None
        return line.mirror


@asynccontextmanager
async def laptop_at_work() -> AsyncGenerator[Laptop]:
    async with task_group("test") as tasks, AsyncExitStack() as stack:
        serving, traces = Serving(SavedServes(new_ulid(), "device")), Traces()
        changes: list[None] = []
        streams = ServedStreams(serving, tasks, traces=traces, changed=lambda: changes.append(None))
        server = await stack.enter_async_context(TunnelServer())
        _, system = await stack.enter_async_context(server.tunnel(acceptor=streams.accept))
        yield Laptop(serving, streams, system, traces, changes=changes)


@pytest.fixture
async def laptop() -> AsyncGenerator[Laptop]:
    async with laptop_at_work() as found:
        yield found


@pytest.fixture
async def local() -> AsyncGenerator[Local]:
    async with local_process() as found:
        yield found


def copy(copy_id: str, method: str = "GET", *, body: bytes = b"", target: str = "/a?secret=1") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    head = f"{method} {target} HTTP/1.1\r\nhost: orders.shop\r\nx-codezero-mirror: {copy_id}\r\n{length}\r\n"
    return head.encode() + body


def origin(copy_id: str, body: bytes = b'{"where":"pod"}', *, status: int = 200) -> bytes:
    told = b"date: now\r\ncontent-type: application/json\r\n\r\n" + body
    head = (
        f"POST /.codezero/mirror/{copy_id} HTTP/1.1\r\nhost: codezero\r\nx-codezero-mirror-status: {status}\r\n"
        f"x-codezero-mirror-milliseconds: 7\r\nx-codezero-mirror-bytes: {len(body)}\r\n"
        f"content-length: {len(told)}\r\n\r\n"
    )
    return head.encode() + told


@pytest.mark.parametrize("origin_first", [False, True])
async def test_answers_are_compared_whichever_comes_first(laptop: Laptop, local: Local, origin_first: bool) -> None:
    laptop.read()
    variant, copy_id = laptop.mirror(local.port), str(uuid4())
    said = [copy(copy_id), origin(copy_id)]
    for one in reversed(said) if origin_first else said:
        (await laptop.ask(variant, one)).stream.write_eof()
    record = await laptop.told()

    assert (record.service, record.port, record.variant, record.method, record.path) == (
        *(ORDERS, 80, variant, "GET", "/a"),
    )
    assert record.origin_milliseconds == 7
    assert record.variant_milliseconds > 0
    assert [(one.what, one.origin, one.variant) for one in record.differences] == [("body where", '"pod"', '"laptop"')]
    assert local.asked == [b"GET /a?secret=1 HTTP/1.1\r\nhost: orders.shop\r\n\r\n"]
    assert laptop.streams.mirroring.waiting == 0
    await until(lambda: laptop.streams.count == 0)


async def test_equal_answers_are_told_too(laptop: Laptop, local: Local) -> None:
    laptop.read()
    copy_id = str(uuid4())
    await laptop.ask(laptop.mirror(local.port), origin(copy_id, b'{"where": "laptop"}'), copy(copy_id))
    assert (await laptop.told()).differences == ()


async def test_copies_of_one_stream_share_a_connection(laptop: Laptop, local: Local) -> None:
    recorder = await laptop.ask(laptop.mirror(local.port), *(copy(str(uuid4())) for _ in range(20)))
    assert (len(local.asked), local.connections) == (20, 1)
    recorder.stream.write_eof()
    async with asyncio.timeout(10):
        assert await recorder.lost is None


async def test_process_that_closes_after_each_answer_is_dialled_anew(laptop: Laptop, local: Local) -> None:
    laptop.read()
    local.answer = lambda _: ANSWER.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    ids = [str(uuid4()) for _ in range(3)]
    await laptop.ask(laptop.mirror(local.port), *(one for key in ids for one in (copy(key), origin(key))))
    assert local.connections == 3
    assert [(await laptop.told()).differences[0].what for _ in ids] == ["body where"] * 3


async def test_other_methods_are_put_only_to_a_mirror_of_all(laptop: Laptop, local: Local) -> None:
    """The Router decides it; should somebody else hold it, this laptop's process is not written to."""
    posted = copy(str(uuid4()), "POST", body=b"hello")
    safe = laptop.mirror(local.port)
    await laptop.ask(safe, posted)
    assert local.asked == []
    assert laptop.serving.held[safe].failed == 1

    await laptop.ask(laptop.mirror(local.port, Mirror.ALL), posted)
    assert [one.endswith(b"\r\n\r\nhello") for one in local.asked] == [True]


async def test_nothing_is_kept_while_nobody_reads(laptop: Laptop, local: Local) -> None:
    variant, copy_id = laptop.mirror(local.port), str(uuid4())
    await laptop.ask(variant, copy(copy_id), origin(str(uuid4())))
    assert len(local.asked) == 1
    assert laptop.streams.mirroring.waiting == 0

    reader = laptop.read()
    await laptop.ask(variant, copy(str(uuid4())), origin(str(uuid4())))
    assert laptop.streams.mirroring.waiting == 2
    laptop.traces.forget(reader)
    await laptop.ask(variant, copy(str(uuid4())))
    assert laptop.streams.mirroring.waiting == 0


async def test_local_process_that_answers_nothing_is_told_and_holds_up_nobody(
    laptop: Laptop, local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "ANSWER_SECONDS", 1.0)
    laptop.read()
    local.answer = lambda request: None if b"/stalls" in request else ANSWER
    variant, copy_id = laptop.mirror(local.port), str(uuid4())
    stalled = laptop.open(variant)
    stalled.stream.write(copy(copy_id, target="/stalls"))
    await until(lambda: local.asked)
    other = await laptop.ask(variant, copy(str(uuid4())), origin(copy_id))
    assert stalled.data == CONNECTED
    record = await laptop.told()

    assert [(one.what, one.origin, one.variant) for one in record.differences] == [
        ("status", "200", "no answer within 1 s")
    ]
    await until(lambda: stalled.data == CONNECTED + EMPTY)
    assert laptop.serving.held[variant].failed == 1
    assert not other.lost.done()


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "status"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{", "body"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "status"),
    ],
)
async def test_answer_that_is_none_is_told(laptop: Laptop, said: bytes, what: str) -> None:
    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    laptop.read()
    copy_id = str(uuid4())
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        variant = laptop.mirror(server.sockets[0].getsockname()[1])
        await laptop.ask(variant, copy(copy_id), origin(copy_id))
        record = await laptop.told()

    assert [one.what for one in record.differences] == [what]
    assert "broke off" in record.differences[0].variant


async def test_nobody_listening_refuses_the_stream(laptop: Laptop) -> None:
    recorder = laptop.open(laptop.mirror(free_port()))
    async with asyncio.timeout(10):
        error = await recorder.lost

    assert isinstance(error, CodezeroError)
    assert error.problem is problems.DIAL_FAILED
    assert not recorder.data


async def test_answer_of_any_length_is_compared_within_bounds(laptop: Laptop, local: Local) -> None:
    laptop.read()
    size = 3_000_000
    local.answer = lambda _: (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)
    )
    copy_id = str(uuid4())
    await laptop.ask(laptop.mirror(local.port), copy(copy_id), origin(copy_id, bytes(1 << 16)))
    [difference] = (await laptop.told()).differences

    assert (difference.what, difference.origin, difference.variant) == ("body", "65536 bytes", "3000000 bytes")


async def test_http2_goes_to_the_process_as_it_is_and_is_told(laptop: Laptop) -> None:
    said = mirroring.HTTP2_PREFACE + bytes(range(256)) * 1000
    got = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.readexactly(len(said)))
        writer.write(b"settings")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        variant = laptop.mirror(server.sockets[0].getsockname()[1])
        for _ in range(2):
            recorder = laptop.open(variant)
            for begin in (0, 3, 20, 1000):
                recorder.stream.write(said[begin : {0: 3, 3: 20, 20: 1000}.get(begin)])
                await asyncio.sleep(0)
            recorder.stream.write_eof()
            await recorder.lost
            assert recorder.data == CONNECTED + b"settings"

    assert got == said * 2
    assert len(laptop.changes) == 1
    assert [one.code for one in laptop.serving.warnings(None, at=1.0)] == [MIRROR_NOT_COMPARED]


async def test_what_is_no_http_ends_the_stream(laptop: Laptop, local: Local) -> None:
    recorder = laptop.open(laptop.mirror(local.port))
    recorder.stream.write(b"\x16\x03\x01 hello\r\n\r\n")
    async with asyncio.timeout(10):
        error = await recorder.lost

    assert isinstance(error, CodezeroError)
    assert error.problem is problems.BAD_REQUEST
    assert local.asked == []


async def test_one_mirror_leaves_room_for_others(laptop: Laptop, local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_streams, "MAX_MIRRORED_TO_PORT", 2)
    monkeypatch.setattr(served_streams, "MAX_MIRRORED", 3)
    variants = [laptop.mirror(local.port) for _ in range(3)]

    async def is_taken(variant: str) -> bool:
        recorder = laptop.open(variant)
        await until(lambda: recorder.data or recorder.lost.done())
        if recorder.lost.done():
            error = recorder.lost.result()
            assert isinstance(error, CodezeroError)
            assert error.problem is problems.TOO_MANY_STREAMS
        return bool(recorder.data)

    assert [await is_taken(variants[0]) for _ in range(3)] == [True, True, False]
    assert [await is_taken(variant) for variant in variants[1:]] == [True, False]


async def test_streams_of_an_ended_mirror_end(laptop: Laptop, local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_streams, "DRAIN_SECONDS", 0.0)
    local.answer = lambda _: None
    variant = laptop.mirror(local.port)
    recorder = laptop.open(variant)
    recorder.stream.write(copy(str(uuid4())))
    await until(lambda: local.asked)
    laptop.serving.release((variant,), at=2.0)
    laptop.streams.end(variant)
    async with asyncio.timeout(10):
        assert isinstance(await recorder.lost, CodezeroError)
    await until(lambda: laptop.streams.count == 0)


def test_on_the_loop_that_the_daemon_has() -> None:
    """uvloop's streams and transports are its own."""

    async def run() -> None:
        async with laptop_at_work() as laptop, local_process() as local:
            laptop.read()
            ids = [str(uuid4()) for _ in range(20)]
            variant = laptop.mirror(local.port)
            await laptop.ask(variant, *(one for key in ids for one in (copy(key), origin(key))))
            for _ in ids:
                assert [one.what for one in (await laptop.told()).differences] == ["body where"]
            assert local.connections == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
