"""Handshakes that a gate refuses or holds, and connections whose directions end one by one."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from codezero.testing.tunnels import SERVER_NAME, identities, until
from codezero.transport import tls
from codezero.transport.tls import TlsConnection, TlsListener, UnprovenLimits


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Side(asyncio.Protocol):
    """Owner of a connection that keeps what comes; with `half` it lets its peer end its own direction alone."""

    def __init__(self, *, half: bool = False) -> None:
        self.half = half
        self.data = bytearray()
        self.made = False
        self.ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True
        self.connection = cast("TlsConnection", transport)
        self.connection.accept()
        if self.half:
            self.connection.allow_half_close()

    def data_received(self, data: bytes) -> None:
        assert not self.ended
        self.data += data

    def eof_received(self) -> bool:
        assert not self.ended
        self.ended = True
        return self.half

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class HeldNames:
    """A gate that knows some names and holds those in `slow`."""

    def __init__(self, *known: str | None, slow: tuple[str, ...] = ()) -> None:
        self.known = {*known, *slow}
        self.slow = slow
        self.asked: list[str | None] = []
        self.held: list[tuple[TlsConnection, Side]] = []

    def knows(self, server_name: str | None) -> bool:
        self.asked.append(server_name)
        return server_name in self.known

    def hold(self, connection: TlsConnection) -> asyncio.Protocol | None:
        if connection.server_name not in self.slow:
            return None
        side = Side()
        self.held.append((connection, side))
        return side


async def gated(
    gate: tls.Gate,
    made: list[Side] | None = None,
    *,
    context: ssl.SSLContext | None = None,
    limits: UnprovenLimits | None = None,
) -> TlsListener:
    def handler(_connection: TlsConnection) -> Side:
        side = Side()
        if made is not None:
            made.append(side)
        return side

    handlers = {"": handler, "spoken/1": handler}
    return await tls.listen(
        "127.0.0.1", 0, context or identities().server(), handlers=handlers, gate=gate, limits=limits
    )


async def connect(listener: TlsListener, name: str | None = SERVER_NAME, *, alpn: tuple[str, ...] = ()) -> Side:
    context = identities().client()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    context.check_hostname = False
    side = Side()
    await tls.connect("127.0.0.1", listener.port, context=context, server_name=name or "", factory=lambda _: side)
    return side


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_known_name_passes_and_is_told_to_the_owner() -> None:
    """A gate changes nothing for those it does not hold."""
    made: list[Side] = []
    gate = HeldNames(SERVER_NAME)
    listener = await gated(gate, made)
    client = await connect(listener)
    client.connection.write(b"hello")
    await until(lambda: made and made[0].data == b"hello")

    assert gate.asked == [SERVER_NAME]
    assert made[0].connection.server_name == SERVER_NAME
    client.connection.close()
    listener.close()


@pytest.mark.parametrize("name", ["other.example.test", SERVER_NAME.upper(), f"{SERVER_NAME}.", "x" * 60])
async def test_an_unknown_name_is_refused_by_name(name: str) -> None:
    """The client hears in the handshake that nobody has that name here."""
    listener = await gated(HeldNames(SERVER_NAME))
    with pytest.raises(ssl.SSLError) as caught:
        await connect(listener, name)
    await until(lambda: listener.unproven == 0)
    listener.close()

    assert caught.value.reason == "TLSV1_UNRECOGNIZED_NAME"


async def test_a_client_that_asks_for_no_name_is_asked_about_too() -> None:
    """Leaving the name out is no way around the gate."""
    gate = HeldNames(SERVER_NAME)
    listener = await gated(gate)
    context = identities().client()
    context.check_hostname = False
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", listener.port, ssl=context, server_hostname="127.0.0.1")
    listener.close()

    assert gate.asked == [None]


async def test_a_held_client_has_no_connection_until_it_is_let_through() -> None:
    """It may give up and ask somebody else meanwhile, and nothing was promised to it."""
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate)
    connecting = asyncio.ensure_future(connect(listener))
    await until(lambda: gate.held)
    connection, owner = gate.held[0]
    await turns()
    assert not connecting.done()
    assert not owner.made
    connection.let_through()
    client = await connecting
    client.connection.write(b"now")
    await until(lambda: owner.data == b"now")
    connection.let_through()  # once more is no mistake
    client.connection.close()
    await until(owner.lost.done)
    listener.close()

    assert gate.asked == [SERVER_NAME]
    assert owner.lost.result() is None


async def test_letting_through_at_once_is_fine() -> None:
    """A gate that turns out to know already, from inside of being asked."""

    class AtOnce(HeldNames):
        def hold(self, connection: TlsConnection) -> asyncio.Protocol | None:
            owner = super().hold(connection)
            connection.let_through()
            return owner

    gate = AtOnce(slow=(SERVER_NAME,))
    listener = await gated(gate)
    client = await connect(listener)
    client.connection.close()
    await until(lambda: gate.held[0][1].made)
    listener.close()


async def test_an_aborted_hold_is_a_failed_handshake_in_no_time() -> None:
    """That is what a Router needs to ask the origin within the same request."""
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate)
    connecting = asyncio.ensure_future(connect(listener))
    await until(lambda: gate.held)
    gate.held[0][0].abort()
    with pytest.raises(ConnectionError):
        await connecting
    await until(gate.held[0][1].lost.done)
    listener.close()

    assert not gate.held[0][1].made
    assert listener.unproven == 0


async def test_a_held_client_that_gives_up_is_told_to_the_owner() -> None:
    """Or what was begun for it would be kept for nobody."""
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate)
    connecting = asyncio.ensure_future(connect(listener))
    await until(lambda: gate.held)
    connecting.cancel()
    await until(gate.held[0][1].lost.done)
    await until(lambda: listener.unproven == 0)
    gate.held[0][0].let_through()  # too late, and no mistake
    listener.close()

    assert not gate.held[0][1].made


async def test_a_held_client_is_dropped_when_its_time_is_up() -> None:
    """T16: a gate that never answers makes nobody wait for ever."""
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate, limits=UnprovenLimits(seconds=0.05))
    with pytest.raises(ConnectionError):
        await connect(listener)
    await until(gate.held[0][1].lost.done)
    listener.close()

    assert isinstance(gate.held[0][1].lost.result(), TimeoutError)


@pytest.mark.parametrize("garbage", [b"\x17\x03\x03\x00\x20" + bytes(32), b"GET / HTTP/1.1\r\n\r\n", bytes(70_000)])
async def test_a_held_client_that_sends_more_gets_nothing_for_it(garbage: bytes) -> None:
    """Neither the held flight nor more room than any stranger has."""
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(first_message())
    await until(lambda: gate.held)
    writer.write(garbage)
    with pytest.raises(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
        raise ConnectionResetError  # an end is as good as a reset
    await until(gate.held[0][1].lost.done)
    writer.close()
    listener.close()

    assert not gate.held[0][1].made


async def test_a_first_message_in_pieces_is_asked_about_once_it_is_whole() -> None:
    """A slow network splits it where it likes."""
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate)
    _reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    message = first_message()
    writer.write(message[:40])
    await until(lambda: listener.unproven)
    await turns()
    assert gate.asked == []
    writer.write(message[40:])
    await until(lambda: gate.held)
    writer.close()
    await until(gate.held[0][1].lost.done)
    listener.close()

    assert gate.asked == [SERVER_NAME]


async def test_the_gate_is_asked_once_where_the_client_has_to_ask_again() -> None:
    """A HelloRetryRequest is held as all else is; the second first message opens nothing anew."""
    context = identities().server()
    context.set_ecdh_curve("secp384r1")  # of which no client sends a share at first
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate, context=context)
    connecting = asyncio.ensure_future(connect(listener))
    await until(lambda: gate.held)
    await turns()
    assert not connecting.done()
    gate.held[0][0].let_through()
    client = await connecting
    client.connection.write(b"at last")
    await until(lambda: gate.held[0][1].data == b"at last")
    client.connection.close()
    listener.close()

    assert len(gate.held) == 1
    assert gate.asked == [SERVER_NAME]


async def test_another_name_in_the_second_first_message_is_refused() -> None:
    """What the gate decided about is what is connected to."""
    context = identities().server()
    context.set_ecdh_curve("secp384r1")
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate, context=context)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = identities().client().wrap_bio(incoming, outgoing, server_hostname=SERVER_NAME)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    writer.write(outgoing.read())
    await until(lambda: gate.held)
    gate.held[0][0].let_through()
    incoming.write(await reader.read(65536))
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    again = outgoing.read()
    assert SERVER_NAME.encode() in again
    writer.write(again.replace(SERVER_NAME.encode(), SERVER_NAME.encode().replace(b"space", b"other")))
    answer = await asyncio.wait_for(reader.read(65536), 10)
    writer.close()
    await until(gate.held[0][1].lost.done)
    listener.close()

    # An alert (RFC 8446, 6): fatal, illegal_parameter.
    assert answer[-7:] == b"\x15\x03\x03\x00\x02\x02\x2f"


async def test_a_held_name_keeps_its_owner_whatever_protocol_is_agreed_on() -> None:
    """No application protocol leads past the gate's owner to another handler."""
    made: list[Side] = []
    gate = HeldNames(slow=(SERVER_NAME,))
    listener = await gated(gate, made)
    connecting = asyncio.ensure_future(connect(listener, alpn=("spoken/1",)))
    await until(lambda: gate.held)
    gate.held[0][0].let_through()
    client = await connecting
    await until(lambda: gate.held[0][1].made)
    client.connection.close()
    listener.close()

    assert made == []
    assert gate.held[0][0].application_protocol == "spoken/1"


async def pair(*, halves: tuple[bool, bool] = (True, True)) -> tuple[Side, Side, Callable[[], None]]:
    """Both ends of a connection, and how to stop listening."""
    made: list[Side] = []

    def handler(_: TlsConnection) -> Side:
        made.append(Side(half=halves[1]))
        return made[-1]

    listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers={"": handler})
    client = Side(half=halves[0])
    await tls.connect(
        "127.0.0.1",
        listener.port,
        context=identities().client(),
        server_name=SERVER_NAME,
        factory=lambda _: client,
    )
    await until(lambda: made and made[0].made)
    return client, made[0], listener.close


@pytest.mark.parametrize("first", ["client", "server"])
async def test_each_direction_ends_on_its_own(first: str) -> None:
    """Protocols that say all they have and then listen, as many line-based ones do."""
    client, server, stop = await pair()
    one, other = (client, server) if first == "client" else (server, client)
    one.connection.write(b"q" * 300_000)
    one.connection.write_eof()
    await until(lambda: other.ended)
    assert len(other.data) == 300_000
    for _ in range(3):
        other.connection.write(b"a" * 100_000)
        await turns()
    await until(lambda: len(one.data) == 300_000)
    assert not one.lost.done()
    assert not one.ended
    other.connection.write_eof()
    await until(one.lost.done)
    await until(other.lost.done)
    stop()

    assert (one.lost.result(), other.lost.result()) == (None, None)
    assert one.ended


async def test_the_socket_s_end_after_the_goodbye_ends_no_answer() -> None:
    """Envoy may close its sending side behind its goodbye."""
    client, server, stop = await pair()
    client.connection.write_eof()
    assert client.connection._socket is not None
    client.connection._socket.write_eof()
    await until(lambda: server.ended)
    await turns()
    server.connection.pause_reading()
    server.connection.resume_reading()
    server.connection.write(b"still here" * 1000)
    server.connection.close()
    await until(client.lost.done)
    await until(server.lost.done)
    stop()

    assert client.data == b"still here" * 1000
    assert server.lost.result() is None


async def test_without_leave_a_goodbye_ends_both_directions() -> None:
    """The door and the Daemon's local ends go on as they were."""
    client, server, stop = await pair(halves=(True, False))
    assert not server.connection.can_write_eof()
    client.connection.write_eof()
    await until(client.lost.done)
    await until(server.lost.done)
    stop()

    assert (client.lost.result(), server.lost.result()) == (None, None)


async def test_a_cut_after_the_own_goodbye_is_told_apart() -> None:
    """Half an answer must not look like a whole one."""
    client, server, stop = await pair()
    client.connection.write_eof()
    await until(lambda: server.ended)
    server.connection.write(b"half")
    await until(lambda: client.data == b"half")
    server.connection.abort()
    await until(client.lost.done)
    stop()

    assert isinstance(client.lost.result(), ConnectionError)


async def test_nothing_is_written_twice_after_the_end() -> None:
    """Ending again is no mistake."""
    client, server, stop = await pair()
    client.connection.write_eof()
    client.connection.write_eof()
    await until(lambda: server.ended)
    server.connection.close()
    await until(client.lost.done)
    stop()

    assert client.lost.result() is None


def first_message(name: str = SERVER_NAME) -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        identities().client().wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
