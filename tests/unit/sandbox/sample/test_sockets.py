import socket
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from codezero.sandbox.sample.serving import MAX_MESSAGE
from codezero.sandbox.sample.sockets import QUEUE_LENGTH, Member
from codezero.testing.sample_parts import RunningPart, SampleParts


def joined(sockets: RunningPart, **options: object) -> connect:
    return connect(f"ws://127.0.0.1:{sockets.port}", proxy=None, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPart]:
    parts = SampleParts(tmp_path_factory.mktemp("sockets"))
    yield parts.start("sockets")
    parts.stop()


async def heard_until(client: ClientConnection, beginning: str) -> str:
    """The first message that begins so; what comes before it does not matter."""
    async for message in client:
        if str(message).startswith(beginning):
            return str(message)
    raise AssertionError(f"never heard {beginning!r}")


async def test_sockets_greets_echoes_and_reminds(parts: SampleParts) -> None:
    """A server that speaks unasked shows that a connection is alive in both directions."""
    sockets = parts.start("sockets", SP_SOCKET_INTERVAL="50")

    async with joined(sockets) as client:
        assert "sockets-pod" in str(await client.recv())
        await heard_until(client, "You connected")
        await client.send("hello")
        assert await heard_until(client, "Received") == "Received: hello"
        assert "'hello'" in await heard_until(client, "Your last message")


async def test_a_broadcast_reaches_the_others(sockets: RunningPart) -> None:
    """In the original it reached nobody."""

    async with joined(sockets) as sender, joined(sockets) as first, joined(sockets) as second:
        for client in (sender, first, second):
            await heard_until(client, "Hello")
        await sender.send("broadcast: news")
        assert await sender.recv() == "Received: broadcast: news"
        assert await first.recv() == await second.recv() == "Broadcast: news"


async def test_a_broadcast_survives_clients_that_vanish(sockets: RunningPart) -> None:
    """A laptop that loses its network must not take the room down."""

    async with joined(sockets) as sender, joined(sockets) as other:
        async with joined(sockets) as vanishing:
            vanishing.transport.abort()
        for number in range(50):
            await sender.send(f"broadcast: {number}")
            assert await heard_until(other, "Broadcast") == f"Broadcast: {number}"
            await heard_until(sender, "Received")


async def test_a_client_that_does_not_read_keeps_nobody_waiting(sockets: RunningPart) -> None:
    """One sleeping browser tab must not stop the others, nor fill the memory."""
    text = "x" * 10_000

    async with joined(sockets) as sender, joined(sockets) as other, joined(sockets, max_queue=1, close_timeout=0.1):
        for _ in range(300):
            await sender.send(f"broadcast: {text}")
            assert await heard_until(other, "Broadcast") == f"Broadcast: {text}"
            await heard_until(sender, "Received")


async def test_a_slow_client_loses_the_oldest_messages() -> None:
    """What is new is worth more than what is old."""
    member = Member()

    for number in range(QUEUE_LENGTH + 2):
        member.tell(str(number))

    assert await member.next() == "2"


async def test_a_message_too_large_closes_its_connection_only(sockets: RunningPart) -> None:
    """A limit nobody enforces is no limit."""

    async with joined(sockets) as other:
        async with joined(sockets) as client:
            await client.send("x" * (MAX_MESSAGE + 1))
            with pytest.raises(ConnectionClosed) as closed:
                await heard_until(client, "Received")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        await other.send("still here")
        await heard_until(other, "Received")


UPGRADE = b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


@pytest.mark.parametrize(
    "frames",
    [
        b"\xff" * 100,
        b"\x81\x05hello",  # not masked
        b"\x81\x83\x00\x00\x00\x00\xff\xfe\xfd",  # text that is not UTF-8
        b"\x80\x80\x00\x00\x00\x00",  # continues nothing
        b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",  # eight exbibytes to come
        b"\x88\x81\x00\x00\x00\x00\x00",  # a close code of one byte
    ],
)
def test_bad_frames_end_their_connection_only(sockets: RunningPart, frames: bytes) -> None:
    """The tunnel may carry anything."""
    with socket.create_connection(("127.0.0.1", sockets.port), timeout=15) as client:
        client.sendall(UPGRADE)
        assert b" 101 " in client.recv(65536)
        client.sendall(frames)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass

    assert sockets.get("/healthz").status_code == 200


async def test_sockets_ends_with_clients_connected(parts: SampleParts) -> None:
    """A rollout tells the clients instead of waiting for them."""
    sockets = parts.start("sockets")

    async with joined(sockets) as client:
        await heard_until(client, "Hello")
        code = sockets.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()

    assert code == 0
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
