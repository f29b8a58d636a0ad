"""TLS connections and the listener that strangers reach."""

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from codezero.kit.certificates import Authority, client_context, server_context
from codezero.testing.tunnels import SERVER_NAME, identities, until
from codezero.transport import tls
from codezero.transport.tls import TlsConnection, TlsListener, UnprovenLimits, ViewProtocol


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Recorder(asyncio.Protocol):
    """Owner of a connection that writes down what happens."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.calls: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection = cast("TlsConnection", transport)
        self.connection.accept()

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return False

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Stranger(Recorder):
    """Owner on the server's side that never finds its peer proven."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection = cast("TlsConnection", transport)


async def listening(
    made: list[Recorder], kind: Callable[[], Recorder] = Recorder, limits: UnprovenLimits | None = None
) -> TlsListener:
    def handler(_connection: TlsConnection) -> Recorder:
        made.append(kind())
        return made[-1]

    return await tls.listen("127.0.0.1", 0, identities().server(), handlers={"": handler}, limits=limits)


async def connected(listener: TlsListener, context: ssl.SSLContext | None = None) -> Recorder:
    recorder = Recorder()
    await tls.connect(
        "127.0.0.1",
        listener.port,
        context=context or identities().client(),
        server_name=SERVER_NAME,
        factory=lambda _: recorder,
    )
    return recorder


async def test_bytes_arrive_in_order_and_in_full_before_the_goodbye() -> None:
    """Closing sends what is written first."""
    made: list[Recorder] = []
    listener = await listening(made)
    client = await connected(listener)
    payload = bytes(range(256)) * 8192
    for start in range(0, len(payload), 300_001):
        client.connection.write(payload[start : start + 300_001])
    client.connection.close()
    assert client.connection.is_closing()
    await until(lambda: made and made[0].lost.done())
    listener.close()

    assert made[0].data == payload
    assert made[0].calls == ["eof"]
    assert made[0].lost.result() is None
    assert await client.lost is None


async def test_mixed_buffers_are_sent_in_order() -> None:
    """Small ones share a record, large ones do not, and none overtakes another."""
    made: list[Recorder] = []
    listener = await listening(made)
    client = await connected(listener)
    pieces = [bytes([number]) * size for number, size in enumerate([1, 5000, 12, 12, 70_000, 3, 16_384, 4096, 4095])]
    client.connection.write(b"written before ")
    client.connection.send(pieces)
    client.connection.writelines([bytearray(b"and "), memoryview(b"after")])
    await until(lambda: made and made[0].data.endswith(b"after"))
    client.connection.close()
    listener.close()

    assert made[0].data == b"written before " + b"".join(pieces) + b"and after"


async def test_owners_of_views_get_views() -> None:
    """The tunnel copies nothing it does not keep."""
    seen: list[type] = []

    class Views(ViewProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast("TlsConnection", transport).accept()

        def data_received(self, data: bytes | bytearray | memoryview) -> None:
            seen.append(type(data))

    listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers={"": lambda _: Views()})
    client = await connected(listener)
    client.connection.write(b"x")
    await until(lambda: seen)
    client.connection.close()
    listener.close()

    assert seen == [memoryview]


async def test_streams_of_asyncio_work_on_a_connection() -> None:
    """The CONNECT door is written with reader and writer."""

    def handler(connection: TlsConnection) -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection.accept()
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        return asyncio.StreamReaderProtocol(reader, serve)

    listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers={"": handler})
    context = identities().nobody()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context, server_hostname=SERVER_NAME)
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    listener.close()


async def test_back_pressure_reaches_the_writer_and_ends() -> None:
    """A peer that does not read must not fill the memory."""
    made: list[Recorder] = []
    listener = await listening(made)
    client = await connected(listener)
    await until(lambda: made)
    made[0].connection.pause_reading()
    assert not made[0].connection.is_reading()
    while "pause" not in client.calls:
        client.connection.send([bytes(256 * 1024)])
    made[0].connection.resume_reading()
    await until(lambda: "resume" in client.calls)
    client.connection.abort()
    listener.close()


async def test_application_protocol_chooses_the_handler() -> None:
    """Tunnel and door share the one exposed port."""
    chosen: list[str] = []

    def handler(name: str) -> Callable[[TlsConnection], Recorder]:
        def handle(_connection: TlsConnection) -> Recorder:
            chosen.append(name)
            return Recorder()

        return handle

    names = ("first/1", "http/1.1", "")
    listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers={name: handler(name) for name in names})
    for offered in (["first/1"], ["http/1.1"], [], ["h2"]):
        context = identities().client()
        if offered:
            context.set_alpn_protocols(offered)
        client = await connected(listener, context)
        await until(lambda: len(chosen) == 1)
        client.connection.close()
        assert chosen.pop() == (offered[0] if offered and offered[0] in names else "")
    listener.close()


async def test_protocol_without_a_handler_is_refused() -> None:
    """A port that serves tunnels only has nothing to say to a browser."""
    listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers={"first/1": lambda _: Recorder()})
    client = await connected(listener)
    await client.lost
    listener.close()


async def test_listener_takes_a_new_certificate_while_it_runs() -> None:
    """In-cluster certificates last an hour; tunnels should not have to."""
    made: list[Recorder] = []
    listener = await listening(made)
    before = await connected(listener)
    authority = Authority.create("next")
    listener.use(server_context(authority.issue("system", dns=[SERVER_NAME], server=True)))
    with pytest.raises(ssl.SSLCertVerificationError):
        await connected(listener)
    after = await connected(listener, client_context(roots=authority.certificate_pem))
    before.connection.write(b"still here")
    await until(lambda: made[0].data == b"still here")
    for one in (before, after):
        one.connection.close()
    listener.close()


async def test_plain_text_is_refused() -> None:
    """Somebody will point a browser at it."""
    made: list[Recorder] = []
    listener = await listening(made)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    listener.close()

    # An alert at most, and no owner ever.
    assert not answer or answer[0] == 21
    assert made == []


async def test_old_tls_is_refused() -> None:
    """TLS 1.3 only."""
    listener = await listening([])
    context = identities().client()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await connected(listener, context)
    listener.close()


# --- Strangers (T16) ------------------------------------------------------------------------------------------------------------------------


async def test_stranger_that_says_nothing_is_dropped() -> None:
    """Slow handshakes must not collect."""
    listener = await listening([], limits=UnprovenLimits(seconds=0.1))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    assert await reader.read() == b""
    writer.close()
    await until(lambda: listener.unproven == 0)
    listener.close()


async def test_handshake_alone_proves_nothing() -> None:
    """The deadline runs until the owner has seen the first message."""
    made: list[Recorder] = []
    listener = await listening(made, Stranger, UnprovenLimits(seconds=0.6))
    client = await connected(listener)
    await until(lambda: made)
    assert listener.unproven == 1
    await client.lost
    cause = await made[0].lost
    listener.close()

    assert isinstance(cause, TimeoutError)
    assert listener.unproven == 0


async def test_stranger_that_talks_too_much_is_dropped() -> None:
    """Before a peer is known it gets little memory."""
    made: list[Recorder] = []
    listener = await listening(made, Stranger, UnprovenLimits(size=10_000))
    client = await connected(listener)
    client.connection.write(bytes(50_000))
    await client.lost
    listener.close()

    assert len(made[0].data) <= 10_000


async def test_proven_peer_has_no_limits_any_more() -> None:
    """The limits are for strangers."""
    made: list[Recorder] = []
    listener = await listening(made, limits=UnprovenLimits(size=10_000))
    client = await connected(listener)
    await until(lambda: made and listener.unproven == 0)
    client.connection.write(bytes(1_000_000))
    await until(lambda: len(made[0].data) == 1_000_000)
    client.connection.close()
    listener.close()


@pytest.mark.parametrize("limits", [UnprovenLimits(per_address=5), UnprovenLimits(in_all=5)])
async def test_held_handshakes_do_not_keep_others_out(limits: UnprovenLimits) -> None:
    """Whoever holds connections open loses the oldest; a real laptop gets through, also from the same address."""
    made: list[Recorder] = []
    listener = await listening(made, limits=limits)
    held = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(20)]
    await until(lambda: listener.unproven == 5)
    client = await connected(listener)
    client.connection.write(b"through")
    await until(lambda: made and made[0].data == b"through")
    assert listener.unproven <= 5
    for _, writer in held:
        writer.close()
    client.connection.close()
    await until(lambda: listener.unproven == 0)
    listener.close()


async def test_damaged_ciphertext_ends_the_connection() -> None:
    """Records that do not decrypt are an attack or a fault; either way nothing after them counts."""
    made: list[Recorder] = []
    listener = await listening(made)
    client = await connected(listener)
    await until(lambda: made)
    os.write(client.connection.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
    cause = await made[0].lost
    await client.lost
    listener.close()

    assert isinstance(cause, ssl.SSLError)
    assert made[0].data == b""


async def test_connection_cut_without_goodbye_is_told_apart() -> None:
    """A truncated answer must not look like a whole one."""
    made: list[Recorder] = []
    listener = await listening(made)
    client = await connected(listener)
    client.connection.write(b"half an ans")
    await until(lambda: made and made[0].data)
    client.connection.abort()
    cause = await made[0].lost
    listener.close()

    assert isinstance(cause, ConnectionError)
