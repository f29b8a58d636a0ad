"""TLS over TCP for all our own connections: OpenSSL over memory buffers, large reads, one write per turn of the loop.

Faster than asyncio's own TLS (about a third less CPU per byte) and stricter: whoever connects has five seconds and 64 KiB to prove itself.
`TlsConnection` is an asyncio transport; its owner is an asyncio protocol chosen by the application protocol that both sides agreed on (ALPN).

A `Gate` decides by the server name that a client asks for: it refuses in the handshake, or holds the handshake until it knows more. Until then
the server's first flight stays in OpenSSL's output buffer, so that the client has no connection yet.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from codezero.kit import certificates, logs

Buffer = bytes | bytearray | memoryview

READ_SIZE: Final = 512 * 1024
_RECORD: Final = 16 * 1024  # the most plaintext of one TLS record (RFC 8446, 5.1)
_JOIN_BELOW: Final = 4 * 1024  # smaller buffers share a record; larger ones are cheaper uncopied
_WRITE_HIGH: Final = 256 * 1024
_WRITE_LOW: Final = 64 * 1024
CLOSE_SECONDS: Final = 5.0
_BACKLOG: Final = 1024

_log = logs.get_logger("tls")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: its certificate (DER; None when it showed none), the URI names in it, its address for logs."""

    certificate: bytes | None
    uris: tuple[str, ...]
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprovenLimits:
    """What strangers get: seconds to finish TLS and their first message, bytes until then, connections at once per address and in all.

    Where there are more, the oldest is dropped: whoever means it is through in milliseconds, also when all come from one address.
    """

    seconds: float = 5.0
    size: int = 64 * 1024
    per_address: int = 256
    in_all: int = 1024


class ViewProtocol(asyncio.Protocol):
    """A protocol whose `data_received` takes a memoryview that is valid during the call only; others get bytes of their own."""

    def data_received(self, data: Buffer) -> None:
        """Bytes from the peer."""


ProtocolFactory = Callable[["TlsConnection"], asyncio.BaseProtocol]


class Gate(Protocol):
    """Decides about handshakes by the server name the client asks for. It is asked from inside of them, so it answers at once."""

    def knows(self, server_name: str | None) -> bool:
        """Whether the handshake may go on; else it is refused with the alert `unrecognized_name`. No call back into the connection."""
        ...

    def hold(self, connection: "TlsConnection") -> asyncio.Protocol | None:
        """The owner of a connection whose handshake has to wait for `TlsConnection.let_through`; None where it need not.

        Asked once, when the client's first message is in and `server_name` is known. An owner given here hears `connection_lost` in any
        case, `connection_made` only once the handshake is done.
        """
        ...


class _NamedEnd(ssl.SSLObject):
    """The server's end of a connection that remembers which server name was asked for."""

    heard = False
    asked: str | None = None


class _Buffers(threading.local):
    """Read buffers shared by all connections of a thread, whose loop fills and empties them within one call."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(READ_SIZE))
        # OpenSSL keeps at most one record back, which adds to what one read brings.
        self.plain = memoryview(bytearray(READ_SIZE + 2 * _RECORD))


_buffers = _Buffers()


class TlsConnection(asyncio.Transport, asyncio.BufferedProtocol):
    """One TLS connection: a protocol towards the socket, a transport towards its owner.

    `peer` and `application_protocol` are known once the owner's `connection_made` is called.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        factory: ProtocolFactory,
        *,
        server_name: str | None = None,
        unproven: "UnprovenConnections | None" = None,
        limits: UnprovenLimits | None = None,
        failed: Callable[[Exception], None] | None = None,
        gate: Gate | None = None,
    ) -> None:
        """A connection for one socket. Without `server_name` it is the server's end. `failed` hears why there is no owner."""
        super().__init__()
        self.peer = Peer(None, (), "unknown")
        self.application_protocol: str | None = None
        self._context = context
        self._factory = factory
        self._unproven = unproven
        self._limits = limits or UnprovenLimits()
        self._failed = failed
        self._gate = gate
        self._holder: asyncio.Protocol | None = None
        self._held = False
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._cipher = _buffers.cipher
        self._plain = _buffers.plain
        self._socket: asyncio.Transport | None = None
        self._protocol: asyncio.BaseProtocol | None = None
        self._takes_views = False
        self._proven = False
        self._unproven_left = self._limits.size
        self._deadline: asyncio.TimerHandle | None = None
        self._closing = False
        self._half_close = False
        self._finished = False  # we send no more
        self._peer_finished = False
        self._socket_ended = False
        self._cause: Exception | None = None
        self._queue: list[Buffer] = []
        self._flush_scheduled = False

    # --- Towards the socket -------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected: start the handshake and the clock."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from it
        self._socket = transport
        transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        address = transport.get_extra_info("peername")
        self.peer = Peer(None, (), str(address[0]) if address else "unknown")
        self._deadline = self._loop.call_later(self._limits.seconds, self._too_late)
        if self._unproven is not None:
            self._unproven.enter(self)
        if not self._closing:
            self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next ciphertext goes; for a stranger no more than what it may still say."""
        return self._cipher if self._proven else self._cipher[: self._unproven_left]

    def buffer_updated(self, nbytes: int) -> None:
        """Ciphertext has come."""
        if self._closing or self._peer_finished:
            return  # nobody is left to read it: the peer has not heard of our goodbye yet, or goes on after its own
        self._incoming.write(self._cipher[:nbytes])
        if self._protocol is not None or self._handshake():
            self._decrypt()
        if not self._proven:
            self._unproven_left -= nbytes
            if self._unproven_left <= 0:
                self._fail(ConnectionAbortedError(f"{self._limits.size} bytes came and the peer has not proven itself"))

    def eof_received(self) -> bool:
        """The socket ended: after our own goodbye as it should, else without TLS saying so."""
        self._socket_ended = True
        if self._closing:
            return False
        if self._peer_finished:
            return True  # it said so, and may still be written to
        self._fail(ConnectionAbortedError("the peer closed the connection"))
        return False

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._closing = True
        self._leave_unproven()
        cause = self._cause or exc
        owner = self._protocol or self._holder
        # What held this connection and what it held are freed without the collector of cycles.
        self._socket = self._protocol = self._holder = None
        if owner is not None:
            owner.connection_lost(cause)
        elif self._failed is not None:
            self._failed(cause or ConnectionAbortedError("the connection was closed"))
        self._queue.clear()

    def _handshake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._gate is not None:
                self._ask_gate()
            if not self._held:
                self._send_ciphertext()
            return False
        except ssl.SSLError as error:
            self._fail_with_alert(error)
            return False
        self._send_ciphertext()
        self._established()
        return not self._closing

    def _ask_gate(self) -> None:
        # Without the whole first message there is no name yet. With it the gate is asked once, also where a HelloRetryRequest (RFC 8446, 4.1.4)
        # makes the client send another: that request is held like everything else.
        if self._gate is not None and isinstance(self._tls, _NamedEnd) and self._tls.heard:
            gate, self._gate = self._gate, None
            self._held = True
            self._holder = gate.hold(self)
            self._held = self._held and self._holder is not None

    def _established(self) -> None:
        certificate = self._tls.getpeercert(binary_form=True)
        try:
            uris = certificates.uris_of(certificate) if certificate is not None else ()
        except ValueError as error:
            self._fail(ConnectionAbortedError(f"the peer's certificate cannot be read: {error}"))
            return
        self.peer = Peer(certificate, uris, self.peer.address)
        self.application_protocol = self._tls.selected_alpn_protocol()
        protocol = self._holder or self._factory(self)
        if self._unproven is None:
            self.accept()
        self.set_protocol(protocol)
        protocol.connection_made(self)

    def _decrypt(self) -> None:
        read = self._tls.read
        plain = self._plain
        size = 0
        ended = False
        try:
            # Only where something is left: to be told by OpenSSL that nothing is costs more than a small record.
            while self._incoming.pending:
                count = read(_RECORD, plain[size : size + _RECORD])  # pyright: ignore[reportArgumentType] - typeshed wants a bytearray
                if not isinstance(count, int) or not count:
                    ended = True
                    break
                size += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True  # told in this way where our own goodbye is out already
        except ssl.SSLError as error:
            # What came before the broken record is genuine, and is all that will come.
            if size:
                self._deliver(plain[:size])
            self._fail_with_alert(error)
            return
        if size:
            self._deliver(plain[:size])
        if self._outgoing.pending:
            self._send_ciphertext()
        if ended and not self._closing:
            self._peer_ended()

    def _peer_ended(self) -> None:
        assert isinstance(self._protocol, asyncio.Protocol)
        self._peer_finished = self._half_close
        stays_open = self._protocol.eof_received()
        if not (stays_open and self._half_close):
            self.close()
        elif self._finished and not self._closing:
            self._close_socket()

    def _deliver(self, data: memoryview) -> None:
        assert isinstance(self._protocol, asyncio.Protocol)
        if self._takes_views:
            self._protocol.data_received(data)  # pyright: ignore[reportArgumentType] - a ViewProtocol
        else:
            self._protocol.data_received(bytes(data))

    def _too_late(self) -> None:
        self._fail(TimeoutError(f"the peer did not prove itself within {self._limits.seconds:g} s"))

    def _fail(self, cause: Exception) -> None:
        self._cause = self._cause or cause
        self.abort()

    def _fail_with_alert(self, cause: ssl.SSLError) -> None:
        """Let the alert out that tells the peer why; not behind a first flight that is held."""
        if self._held:
            self._fail(cause)
            return
        self._cause = self._cause or cause
        self._send_ciphertext()
        self._close_socket()

    def _close_socket(self) -> None:
        """End our side and read on until the peer's end: closing with bytes unread would be a reset, which destroys what is on its way."""
        self._closing = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._socket is None or self._socket.is_closing():
            return
        if self._socket_ended:
            self._socket.close()
            return
        self._deadline = self._loop.call_later(CLOSE_SECONDS, self._socket.abort)
        try:
            self._socket.write_eof()
            self._socket.resume_reading()
        except (OSError, RuntimeError):
            self._socket.abort()

    def _leave_unproven(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._unproven is not None:
            self._unproven.leave(self)

    # --- Towards the owner --------------------------------------------------------------------------------------------------------------

    @property
    def server_name(self) -> str | None:
        """The name the client asked for, on the server's end of a connection with a gate; None where it asked for none."""
        return self._tls.asked if isinstance(self._tls, _NamedEnd) else None

    def let_through(self) -> None:
        """Go on with a handshake that a gate holds."""
        if self._held and not self._closing:
            self._held = False
            self._send_ciphertext()

    def allow_half_close(self) -> None:
        """Let each direction end on its own, as TLS 1.3 can (RFC 8446, 6.1): an owner whose `eof_received` returns true may go on writing."""
        self._half_close = True

    def accept(self) -> None:
        """The peer has proven itself with its first message: no deadline and no limits any more. The server's owner has to call it."""
        self._proven = True
        self._leave_unproven()

    def send(self, buffers: Iterable[Buffer]) -> None:
        """Encrypt and send at once, behind everything written before; for owners that collect their output themselves."""
        if self._closing:
            return
        try:
            if self._queue:
                queued, self._queue = self._queue, []
                self._encrypt(queued)
            self._encrypt(buffers)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._send_ciphertext()

    def write(self, data: Buffer) -> None:
        """Send, together with all else written in this turn of the loop."""
        if self._closing or not data:
            return
        self._queue.append(data if isinstance(data, bytes) else bytes(data))
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """`write` for several buffers."""
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        """TLS connections of ours end in both directions at once, unless their owner allows otherwise."""
        return self._half_close

    def write_eof(self) -> None:
        """Send what is queued and say that no more comes; the peer's side stays open."""
        if self._closing or self._finished:
            return
        self.send(())
        if self._closing:
            return
        self._finished = True
        self._say_goodbye()
        if self._peer_finished:
            self._close_socket()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def close(self) -> None:
        """Send what is queued, say goodbye, close."""
        if self._closing or self._socket is None:
            return
        self.send(())
        if self._closing:
            return
        if self._protocol is not None:
            self._say_goodbye()
        self._close_socket()

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        self._closing = True
        self._leave_unproven()
        if self._socket is not None:
            self._socket.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another owner."""
        self._protocol = protocol
        self._takes_views = isinstance(protocol, ViewProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The owner."""
        assert self._protocol is not None
        return self._protocol

    def pause_reading(self) -> None:
        """Read no more from the socket; what was read already is still delivered."""
        if self._socket is not None and not (self._closing or self._socket_ended):
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Read again; not after the socket's end, which would be told a second time."""
        if self._socket is not None and not (self._closing or self._socket_ended):
            self._socket.resume_reading()

    def is_reading(self) -> bool:
        """Whether bytes are read."""
        return self._socket is not None and not self._closing and self._socket.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to pause and resume the owner's writing, counted in ciphertext."""
        if self._socket is not None:
            self._socket.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks (low, high)."""
        return self._socket.get_write_buffer_limits() if self._socket is not None else (0, 0)

    def get_write_buffer_size(self) -> int:
        """Ciphertext that the socket has not taken yet."""
        return self._socket.get_write_buffer_size() if self._socket is not None else 0

    def limit_unsent(self, size: int) -> None:
        """Keep at most about `size` bytes in the kernel that are not on their way yet: what is written next waits behind them."""
        handle = self.get_extra_info("socket")
        if handle is not None and not self._closing and handle.family in (socket.AF_INET, socket.AF_INET6):
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, size)

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's signature
        """As asyncio: `sslcontext`, `ssl_object`, `peercert`, `peername`, `sockname`, `socket`; and `peer`."""
        match name:
            case "peer":
                return self.peer
            case "sslcontext":
                return self._context
            case "ssl_object":
                return self._tls
            case "peercert":
                return self._tls.getpeercert() if self._protocol is not None else default
            case _:
                return self._socket.get_extra_info(name, default) if self._socket is not None else default

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # wants the peer's goodbye, which nobody waits for
            self._tls.unwrap()
        self._send_ciphertext()

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._queue and not self._closing:
            self.send(())

    def _encrypt(self, buffers: Iterable[Buffer]) -> None:
        small: list[Buffer] = []
        for buffer in buffers:
            if len(buffer) < _JOIN_BELOW:
                small.append(buffer)
                continue
            if small:
                self._encrypt_one(b"".join(small))
                small.clear()
            self._encrypt_one(buffer)
        if small:
            self._encrypt_one(b"".join(small))

    def _encrypt_one(self, data: Buffer) -> None:
        size = len(data)
        done = self._tls.write(data)
        if done < size:
            # OpenSSL takes one record at a time.
            view = memoryview(data)
            write = self._tls.write
            while done < size:
                done += write(view[done : done + _RECORD])

    def _send_ciphertext(self) -> None:
        ciphertext = self._outgoing.read()
        if ciphertext and self._socket is not None:
            self._socket.write(ciphertext)


class UnprovenConnections:
    """The connections of a listener whose peers have not proven themselves yet; drops the oldest beyond the limits (T16)."""

    def __init__(self, limits: UnprovenLimits) -> None:
        self._limits = limits
        self._all: dict[TlsConnection, str] = {}
        self._by_address: dict[str, dict[TlsConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: TlsConnection) -> None:
        """Count a new connection."""
        address = connection.peer.address
        same = self._by_address.get(address)
        if same is not None and len(same) >= self._limits.per_address:
            next(iter(same)).abort()
        elif len(self._all) >= self._limits.in_all:
            next(iter(self._all)).abort()
        self._all[connection] = address
        self._by_address.setdefault(address, {})[connection] = None

    def leave(self, connection: TlsConnection) -> None:
        """Count it no more."""
        address = self._all.pop(connection, None)
        if address is not None:
            same = self._by_address[address]
            del same[connection]
            if not same:
                del self._by_address[address]


class TlsListener:
    """A listening TLS port; made by `listen`. Closing it leaves the connections it made alone."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        handlers: Mapping[str, ProtocolFactory],
        limits: UnprovenLimits,
        gate: Gate | None = None,
    ) -> None:
        self._handlers = dict(handlers)
        self._gate = gate
        self._limits = limits
        self._unproven = UnprovenConnections(limits)
        self._server: asyncio.Server | None = None
        self._context = context
        self.use(context)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def unproven(self) -> int:
        """Connections whose peers have not proven themselves yet."""
        return len(self._unproven)

    def use(self, context: ssl.SSLContext) -> None:
        """Take this context for connections from now on, for example with a new certificate; it gets the application protocols."""
        context.set_alpn_protocols([name for name in self._handlers if name])
        context.num_tickets = 0  # nobody resumes a TLS session of ours
        if self._gate is not None:
            context.sslobject_class = _NamedEnd
            context.sni_callback = self._hear_name
        self._context = context

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def start(self, host: str | None, port: int, sock: socket.socket | None) -> None:
        """Listen, on `sock` where it is given."""
        loop = asyncio.get_running_loop()
        if sock is not None:
            self._server = await loop.create_server(self._accept, sock=sock, backlog=_BACKLOG)
        else:
            self._server = await loop.create_server(self._accept, host, port, backlog=_BACKLOG)

    def _accept(self) -> TlsConnection:
        return TlsConnection(
            self._context,
            self._owner,
            unproven=self._unproven,
            limits=self._limits,
            failed=self._refused,
            gate=self._gate,
        )

    def _hear_name(self, end: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        assert isinstance(end, _NamedEnd)
        assert self._gate is not None
        if end.heard:
            # The first message again, after a HelloRetryRequest: the gate has decided about its name, so it must be the same.
            return None if name == end.asked else ssl.AlertDescription.ALERT_DESCRIPTION_ILLEGAL_PARAMETER
        end.heard, end.asked = True, name
        return None if self._gate.knows(name) else ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    def _owner(self, connection: TlsConnection) -> asyncio.BaseProtocol:
        handler = self._handlers.get(connection.application_protocol or "")
        if handler is None:
            connection.abort()
            return asyncio.Protocol()
        return handler(connection)

    def _refused(self, error: Exception) -> None:
        _log.debug("connection refused", reason=str(error))


async def listen(
    host: str | None,
    port: int,
    context: ssl.SSLContext,
    *,
    handlers: Mapping[str, ProtocolFactory],
    limits: UnprovenLimits | None = None,
    sock: socket.socket | None = None,
    gate: Gate | None = None,
) -> TlsListener:
    """Listen for TLS connections and hand each to the handler of its application protocol (ALPN).

    Peers that ask for none get the handler `""`, or are refused where there is none. Each owner has to call `TlsConnection.accept` when it has
    the peer's first message and finds it good. With `sock` the socket given is used, and `host` and `port` are not. A `gate` decides first,
    and gives those connections their owner that it holds.
    """
    listener = TlsListener(context, handlers=handlers, limits=limits or UnprovenLimits(), gate=gate)
    await listener.start(host, port, sock)
    return listener


async def connect(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext,
    server_name: str,
    factory: ProtocolFactory,
    limits: UnprovenLimits | None = None,
) -> TlsConnection:
    """A TLS connection whose handshake is done; its owner comes from `factory`.

    Raises OSError (`ssl.SSLError` is one) when there is no connection, and TimeoutError after the handshake's 5 s.
    """
    loop = asyncio.get_running_loop()
    established: asyncio.Future[None] = loop.create_future()
    # Whoever is cancelled while the socket connects asks for the outcome no more; asyncio would report it as forgotten.
    established.add_done_callback(lambda done: done.cancelled() or done.exception())

    def made(connection: TlsConnection) -> asyncio.BaseProtocol:
        if not established.done():
            established.set_result(None)
        return factory(connection)

    def failed(error: Exception) -> None:
        if not established.done():
            established.set_exception(error)

    _transport, connection = await loop.create_connection(
        lambda: TlsConnection(context, made, server_name=server_name, limits=limits, failed=failed), host, port
    )
    try:
        await established
    except BaseException:
        connection.abort()
        raise
    return connection
