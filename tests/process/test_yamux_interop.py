"""Our yamux against an independent implementation (`@chainsafe/libp2p-yamux`), over plain TCP on loopback, in both roles."""

import asyncio
import hashlib
import json
import random
import subprocess
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests import node_peers

from codezero.testing.tunnels import until
from codezero.wire.mux import Limits, Mux, MuxStream, Role
from codezero.wire.yamux import GoAwayCode

pytestmark = pytest.mark.node

SOURCE = Path(__file__).parent / "yamux_peer"


@pytest.fixture(scope="module")
def peer_folder() -> Path:
    return node_peers.installed(SOURCE)


class Echo:
    """Owner of a stream that sends back what comes."""

    def __init__(self, stream: MuxStream) -> None:
        self.stream = stream
        self.events: list[str] = []

    def received(self, data: memoryview) -> None:
        self.stream.write(bytes(data))

    def finished(self) -> None:
        self.events.append("finished")
        self.stream.finish()

    def was_reset(self) -> None:
        self.events.append("reset")

    def finish_sent(self) -> None:
        self.events.append("finish sent")

    def ended(self) -> None:
        self.events.append("ended")

    def writable(self) -> None:
        self.events.append("writable")


class Collector(Echo):
    """Owner of a stream of ours that keeps what comes back."""

    def __init__(self) -> None:
        self.events = []
        self.size = 0
        self.digest = hashlib.sha256()

    def received(self, data: memoryview) -> None:
        self.size += len(data)
        self.digest.update(data)

    def finished(self) -> None:
        self.events.append("finished")


class Session(asyncio.Protocol):
    """Drives a mux over a TCP connection."""

    def __init__(self, role: Role, limits: Limits | None) -> None:
        self.mux = Mux(role, self, limits=limits)
        self.echoes: dict[int, Echo] = {}
        self.going_away_code: int | None = None
        self.lost = False
        self._paused = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.mux.measure(time.monotonic())

    def data_received(self, data: bytes) -> None:
        self.mux.receive(data, time.monotonic())

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def output_ready(self) -> None:
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        while not self._paused and self.mux.has_output:
            self.transport.writelines(self.mux.take(256 * 1024))

    def stream_opened(self, stream: MuxStream) -> None:
        stream.owner = self.echoes[stream.id] = Echo(stream)

    def stream_refused(self, stream_id: int) -> None:
        pass

    def going_away(self, code: int) -> None:
        self.going_away_code = code

    def open(self) -> tuple[MuxStream, Collector]:
        collector = Collector()
        return self.mux.open_stream(collector), collector


class Peer:
    """The other implementation's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._input, self._output = process.stdin, process.stdout
        self.events: list[dict[str, Any]] = []

    async def line(self) -> dict[str, Any]:
        async with asyncio.timeout(60):
            return cast("dict[str, Any]", json.loads(await self._output.readline()))

    async def do(self, act: str, **options: int) -> dict[str, Any]:
        """Have the peer do something; events that come before its answer are kept."""
        self._input.write(json.dumps({"act": act, **options}).encode() + b"\n")
        while "event" in (line := await self.line()):
            self.events.append(line)
        return line

    async def event(self, name: str) -> dict[str, Any]:
        while True:
            for event in self.events:
                if event.get("event") == name:
                    self.events.remove(event)
                    return event
            self.events.append(await self.line())


@pytest.fixture
def meet(peer_folder: Path) -> Callable[..., Any]:
    """A session of ours in the role given, and the peer at its other end in the other."""

    @asynccontextmanager
    async def meeting(role: Role, limits: Limits | None = None) -> AsyncGenerator[tuple[Session, Peer], None]:
        loop = asyncio.get_running_loop()
        sessions: list[Session] = []

        def session() -> Session:
            sessions.append(Session(role, limits))
            return sessions[-1]

        async def start(*arguments: str) -> Peer:
            return Peer(
                await asyncio.create_subprocess_exec(
                    "node", "peer.mjs", *arguments, cwd=peer_folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            )

        server = None
        if role is Role.CLIENT:
            peer = await start("server")
            await loop.create_connection(session, "127.0.0.1", (await peer.line())["port"])
        else:
            server = await loop.create_server(session, "127.0.0.1", 0)
            peer = await start("client", str(server.sockets[0].getsockname()[1]))
        try:
            assert (await peer.line()) == {"event": "connected"}
            await until(lambda: sessions)
            yield sessions[0], peer
        finally:
            if server is not None:
                server.close()
            for one in sessions:
                one.transport.abort()
            if peer.process.returncode is None:
                peer.process.kill()
            await peer.process.communicate()

    return meeting


both_roles = pytest.mark.parametrize("role", [Role.CLIENT, Role.SERVER], ids=["we are client", "we are server"])


@both_roles
async def test_streams_of_ours_are_echoed_with_half_close(role: Role, meet: Callable[..., Any]) -> None:
    """Bytes, end, bytes back, end: several streams at once."""
    async with meet(role) as (session, peer):
        expected: list[tuple[bytes, Collector]] = []
        for number in range(50):
            stream, collector = session.open()
            payload = random.Random(number).randbytes(number * 1000)
            stream.write(payload)
            stream.finish()
            expected.append((hashlib.sha256(payload).digest(), collector))
        await until(lambda: not session.mux.streams, within=30)

        for digest, collector in expected:
            assert collector.digest.digest() == digest
            assert "reset" not in collector.events
        assert peer


@both_roles
async def test_streams_of_the_peer_are_echoed_with_half_close(role: Role, meet: Callable[..., Any]) -> None:
    """The same from the other side, one after the other and large enough to need window updates both ways."""
    async with meet(role) as (session, peer):
        for size, piece in ((0, 1), (1, 1), (100_000, 777), (8_000_000, 65_536)):
            answer = await peer.do("transfer", size=size, piece=piece)
            assert answer == {"act": "transfer", "count": size, "same": True}
        await until(lambda: not session.mux.streams)

        assert all(echo.events[-1] == "ended" for echo in session.echoes.values())


@both_roles
async def test_large_transfer_uses_window_updates_both_ways(role: Role, meet: Callable[..., Any]) -> None:
    """Many times the window, byte for byte; both sides' windows grow and neither is overrun."""
    payload = random.Random(7).randbytes(1 << 20) * 48
    async with meet(role) as (session, _):
        stream, collector = session.open()
        for start in range(0, len(payload), 300_000):
            stream.write(payload[start : start + 300_000])
        stream.finish()
        await until(lambda: not session.mux.streams, within=60)

        assert collector.size == len(payload)
        assert collector.digest.digest() == hashlib.sha256(payload).digest()


@both_roles
async def test_resets_are_understood_both_ways(role: Role, meet: Callable[..., Any]) -> None:
    """Ours ends their stream with an error, theirs ours; the session goes on."""
    async with meet(role) as (session, peer):
        stream, _ = session.open()
        stream.write(b"some bytes")
        await until(lambda: not session.mux.has_output)
        stream.reset()
        broken = await peer.event("broken")
        assert (broken["stream"], broken["status"]) == (stream.id, "reset")

        answer = await peer.do("reset")
        await until(lambda: "reset" in session.echoes[answer["stream"]].events)

        assert (await peer.do("transfer", size=1000))["same"]


@both_roles
async def test_pings_are_answered_both_ways(role: Role, meet: Callable[..., Any]) -> None:
    """Both sides measure the round trip."""
    async with meet(role) as (session, peer):
        await until(lambda: session.mux.round_trip is not None)
        assert (await peer.do("ping"))["milliseconds"] >= 0


@both_roles
async def test_peer_that_goes_away_is_understood(role: Role, meet: Callable[..., Any]) -> None:
    """It says so with the code for a normal end, then closes."""
    async with meet(role) as (session, peer):
        await peer.do("close")
        await until(lambda: session.going_away_code is not None and session.lost)

        assert session.going_away_code == GoAwayCode.NORMAL


@both_roles
async def test_our_going_away_is_understood(role: Role, meet: Callable[..., Any]) -> None:
    """The peer ends its side in order."""
    async with meet(role) as (session, peer):
        session.mux.go_away()
        await peer.event("sink ended")
        await until(lambda: session.lost)


@both_roles
async def test_streams_beyond_our_limit_are_refused_and_the_others_work(role: Role, meet: Callable[..., Any]) -> None:
    """The peer takes the refusal for what it is."""
    async with meet(role, Limits(streams=3)) as (session, peer):
        answer = await peer.do("open", size=5)
        assert answer["act"] == "open"
        await until(lambda: len(session.mux.streams) == 3)
        await peer.do("ping")

        stream, collector = session.open()
        stream.write(b"still works")
        stream.finish()
        await until(lambda: collector.size == 11)


@both_roles
async def test_stalled_stream_leaves_the_others_alone(role: Role, meet: Callable[..., Any]) -> None:
    """The peer's sender waits for our credit on one stream and goes on with the next."""
    async with meet(role) as (session, peer):
        stalled, collector = session.open()
        stalled.pause()
        payload = bytes(1 << 20)
        stalled.write(payload)
        stalled.finish()
        assert (await peer.do("transfer", size=2_000_000))["same"]
        assert collector.size == 0
        stalled.resume(time.monotonic())
        await until(lambda: collector.size == len(payload) and not session.mux.streams)


def test_lock_file_names_no_registry() -> None:
    """The packages come from whatever registry npm is set up for."""
    assert '"resolved"' not in (SOURCE / "package-lock.json").read_text()
