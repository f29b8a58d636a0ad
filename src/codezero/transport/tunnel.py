"""A tunnel: one TLS connection between a laptop and a System that carries streams opened by either side.

Each stream is an asyncio transport and its owner an asyncio protocol, so whatever works on a TCP connection works on a stream. The bytes of a read
go through the mux into the protocols' `data_received` and all that they write leaves in one piece at the end of the loop's turn: no task, no lock
and no await in between.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from codezero.kit import logs
from codezero.model import problems
from codezero.model.ids import SessionId
from codezero.model.problems import CodezeroError, Problem
from codezero.transport import tls
from codezero.transport.tls import Buffer, Peer, TlsConnection, ViewProtocol
from codezero.wire import control, open_header, yamux
from codezero.wire.control import Farewell, Heartbeat, StreamEnded, TunnelHello, TunnelWelcome
from codezero.wire.mux import NOBODY, Limits, Mux, MuxStream, Role
from codezero.wire.open_header import OpenHeader, StreamKind

ALPN: Final = "codezero-tunnel/1"

# Bulk bytes encrypted in one turn of the loop, and again as many in the kernel: whatever is written next waits behind them. So a turn is as large as
# the link carries in about ten milliseconds. The least keeps the price per byte bearable, more than the most makes it no smaller.
_LEAST_TURN: Final = 32 * 1024
_MOST_TURN: Final = 256 * 1024
_LONG_TURN_SECONDS: Final = 0.02
_SHORT_TURN_SECONDS: Final = 0.01
_STREAM_HIGH: Final = 256 * 1024
_STREAM_LOW: Final = 64 * 1024
_CONTROL_BACKLOG: Final = 64 * 1024  # control messages waiting for a peer that gives no credit
_CONNECT_SECONDS: Final = 10.0

_log = logs.get_logger("tunnel")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(control.Control)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds: between heartbeats; of silence until a tunnel counts as dead; that a stream closed here waits for the peer's end."""

    heartbeat: float = control.HEARTBEAT_SECONDS
    dead: float = control.DEAD_SECONDS
    orphan: float = 60.0


Acceptor = Callable[[OpenHeader, "TunnelStream"], asyncio.Protocol]
"""Gives an incoming stream its owner, at once; one that has to wait for something pauses reading. Raises `CodezeroError` to refuse."""


class TunnelStream(asyncio.Transport):
    """One stream of a tunnel. All of asyncio's transport, `write_eof` and half-close included; and `reset`.

    `get_extra_info` knows `tunnel`, `stream_id`, `header` and `peer`. The owner's `connection_lost` gets None after an orderly end, the
    `CodezeroError` that the peer or the tunnel's end gave as the reason, or ConnectionResetError for a reset without one.
    """

    __slots__ = (
        "_closing",
        "_header",
        "_high",
        "_loop",
        "_lost",
        "_low",
        "_opening",
        "_orphaned",
        "_protocol",
        "_reading_paused",
        "_reason",
        "_stream",
        "_tunnel",
        "_writing_paused",
    )

    def __init__(
        self,
        tunnel: "Tunnel",
        stream: MuxStream,
        *,
        header: OpenHeader | None = None,
        protocol: asyncio.Protocol | None,
    ) -> None:
        super().__init__()
        self._tunnel = tunnel
        self._stream = stream
        self._header = header
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._opening = bytearray()  # an incoming stream's open header, while incomplete
        self._reading_paused = False
        self._writing_paused = False
        self._closing = False
        self._orphaned = False
        self._lost = False
        self._reason: CodezeroError | None = None
        self._high = _STREAM_HIGH
        self._low = _STREAM_LOW
        stream.owner = self

    @property
    def tunnel(self) -> "Tunnel":
        """The tunnel it belongs to."""
        return self._tunnel

    @property
    def stream_id(self) -> int:
        """Its number on this tunnel, never used twice."""
        return self._stream.id

    @property
    def header(self) -> OpenHeader | None:
        """What it was opened for; None until that has arrived."""
        return self._header

    # --- For the owner ------------------------------------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Send bytes. Those of `bytes` are not copied."""
        if self._closing:
            return
        self._stream.write(data if isinstance(data, bytes) else bytes(data))
        if self._stream.waiting_size > self._high and not self._writing_paused:
            self._writing_paused = True
            self._stream.notify_below(self._low)
            if self._protocol is not None:
                self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Streams close each direction on its own."""
        return True

    def write_eof(self) -> None:
        """Send no more after what is written; go on receiving."""
        self._stream.finish()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def close(self) -> None:
        """Send what is written, then end both directions. What the peer still sends is dropped, and after the end it is told so."""
        if self._closing:
            return
        self._closing = True
        self._reading_paused = False
        self._stream.finish()
        self._stream.resume(time.monotonic())

    def abort(self) -> None:
        """End both directions at once, without a reason."""
        self._stream.reset()
        self._lose(None)

    def reset(self, error: CodezeroError) -> None:
        """End both directions at once; the peer is told why."""
        if not self._stream.closed and self._stream.announced:
            self._tunnel.tell_stream_ended(self._stream.id, error)
        self._stream.reset()
        self._lose(error)

    def pause_reading(self) -> None:
        """Deliver no more. The peer may send what its window allows; other streams do not notice."""
        if not self._closing:
            self._reading_paused = True
            self._stream.pause()

    def resume_reading(self) -> None:
        """Deliver again."""
        if not self._reading_paused:
            return
        self._reading_paused = False
        if self._stream.holds_data:
            # Owners do not expect data from inside of this call.
            self._loop.call_soon(self._resume)
        else:
            self._stream.resume(time.monotonic())

    def is_reading(self) -> bool:
        """Whether bytes are delivered."""
        return not self._reading_paused and not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to pause and resume the owner's writing, in bytes waiting for credit or their turn."""
        if high is None:
            high = _STREAM_HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._high, self._low = high, low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks (low, high)."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes written and not sent yet."""
        return self._stream.waiting_size

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the stream another owner, which must be an `asyncio.Protocol`."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("a stream's owner has to be an asyncio.Protocol")
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The owner."""
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's signature
        """`tunnel`, `stream_id`, `header`, `peer`."""
        match name:
            case "tunnel":
                return self._tunnel
            case "stream_id":
                return self._stream.id
            case "header":
                return self._header
            case "peer":
                return self._tunnel.peer
            case _:
                return default

    # --- Called by the machine ----------------------------------------------------------------------------------------------------------

    def received(self, data: memoryview) -> None:
        """Bytes from the peer."""
        if self._closing:
            if self._orphaned:
                # As TCP does for data after the close: the peer must not believe that anybody read it.
                self._stream.reset()
                self._tunnel.disown(self._stream)
        elif self._protocol is None:
            self._receive_header(data)
        else:
            try:
                self._protocol.data_received(bytes(data))
            except Exception as error:  # noqa: BLE001 - an owner's defect ends its own stream, not the tunnel
                self._owner_failed(error)

    def finished(self) -> None:
        """The peer sends no more."""
        if self._protocol is None:
            self.reset(CodezeroError(problems.PROTOCOL, "the stream ended within its open header"))
        elif not self._closing:
            try:
                stays_open = self._protocol.eof_received()
            except Exception as error:  # noqa: BLE001 - an owner's defect ends its own stream, not the tunnel
                self._owner_failed(error)
                return
            if not stays_open:
                self.close()

    def was_reset(self) -> None:
        """The peer ended both directions."""
        self._lose(self._reason or ConnectionResetError("the stream was reset by the peer"))

    def finish_sent(self) -> None:
        """All written has left, and the end with it."""
        if self._closing and not self._lost:
            self._orphaned = True
            self._tunnel.orphan(self._stream)
            self._lose(None)

    def ended(self) -> None:
        """Both sides have finished."""
        self._lose(None)

    def writable(self) -> None:
        """The owner may write again."""
        self._writing_paused = False
        if self._protocol is not None and not self._lost:
            self._protocol.resume_writing()

    def ended_by_peer(self, reason: CodezeroError) -> None:
        """Why the reset comes that is about to come."""
        self._reason = reason

    def tunnel_ended(self, cause: CodezeroError) -> None:
        """The tunnel is gone, and the stream with it."""
        self._lose(cause)

    def _receive_header(self, data: memoryview) -> None:
        self._opening += data
        try:
            decoded = open_header.decode(self._opening)
            if decoded is None:
                return
            self._header, size = decoded
            protocol = self._tunnel.accept(self._header, self)
        except CodezeroError as error:
            self.reset(error)
            return
        if self._lost:
            return
        taken = len(data) - (len(self._opening) - size)
        self._opening.clear()
        self._protocol = protocol
        protocol.connection_made(self)
        rest = data[taken:]
        if not rest or self._closing:
            return
        if self._reading_paused:
            self._stream.push_back(rest)
        else:
            self.received(rest)

    def _owner_failed(self, error: Exception) -> None:
        _log.error("owner of a stream failed", stream=self._stream.id, exc_info=error)
        self.reset(CodezeroError(problems.INTERNAL, "the owner of the stream failed"))

    def _resume(self) -> None:
        if not self._reading_paused and not self._closing:
            self._stream.resume(time.monotonic())

    def _lose(self, cause: Exception | None) -> None:
        self._closing = True
        self._tunnel.disown(self._stream)
        if not self._lost:
            self._lost = True
            if self._protocol is not None:
                self._loop.call_soon(self._protocol.connection_lost, cause)


class _ControlStream:
    """Owner of the control stream: cuts its bytes into messages."""

    def __init__(self, tunnel: "Tunnel", stream: MuxStream, *, incoming: bool) -> None:
        self._tunnel = tunnel
        self._stream = stream
        self._buffer = bytearray()
        self._header_expected = incoming

    def send(self, message: control.Control) -> None:
        """Send a message, ahead of all streams' data."""
        self.send_encoded(_encode(message))

    def send_encoded(self, message: bytes) -> None:
        """Send a message made by `_encode`; dropped for a peer that has left very many of them unread."""
        if self._stream.waiting_size <= _CONTROL_BACKLOG:
            self._stream.write(message)

    def received(self, data: memoryview) -> None:
        """Bytes from the peer."""
        buffer = self._buffer
        buffer += data
        if self._header_expected:
            decoded = open_header.decode(buffer)
            if decoded is None:
                return
            header, size = decoded
            if header.kind is not StreamKind.CONTROL:
                raise yamux.violation(f"first stream is of kind {header.kind}, not control")
            del buffer[:size]
            self._header_expected = False
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > control.MAX_CONTROL_MESSAGE:
                raise yamux.violation(f"control message of {size} bytes")
            if len(buffer) < 4 + size:
                return
            message = buffer[4 : 4 + size]
            del buffer[: 4 + size]
            try:
                decoded_message = _decoder.decode(message)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise yamux.violation(f"control message cannot be read: {error}") from None
            self._tunnel.control_received(decoded_message)

    def finished(self) -> None:
        """The peer ends the control stream."""
        raise yamux.violation("the control stream ended")

    def was_reset(self) -> None:
        """The peer resets the control stream."""
        raise yamux.violation("the control stream was reset")

    def finish_sent(self) -> None:
        """Never: we do not end it."""

    def ended(self) -> None:
        """Never: we do not end it."""

    def writable(self) -> None:
        """Nobody waits for it."""


class Tunnel(ViewProtocol):
    """One end of a tunnel; made by `connect_tunnel` and `ServerTunnel.start`.

    `closed` is a future with the cause of the end as its result. `last_heard` is the time (`time.monotonic`) of the newest bytes from the peer. `peer` and
    `session` say whose tunnel it is.
    """

    def __init__(
        self, connection: TlsConnection, role: Role, *, acceptor: Acceptor, timing: Timing | None, limits: Limits | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.peer: Peer = connection.peer
        self.closed: asyncio.Future[CodezeroError] = self._loop.create_future()
        self.last_heard = time.monotonic()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.farewell: Farewell | None = None
        self._welcome: TunnelWelcome | None = None
        self._connection = connection
        self._acceptor = acceptor
        self._timing = timing or Timing()
        self._mux = Mux(role, self, limits=limits)
        self._control: _ControlStream | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._writing_paused = False
        self._paused_at = 0.0
        self._turn = _MOST_TURN
        self._flush_scheduled = False
        self._silent_ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._orphans: dict[MuxStream, float] = {}

    @property
    def session(self) -> SessionId:
        """The session this tunnel belongs to."""
        assert self._welcome is not None
        return self._welcome.session

    @property
    def welcome(self) -> TunnelWelcome:
        """What the System said at the beginning."""
        assert self._welcome is not None
        return self._welcome

    @property
    def streams(self) -> int:
        """How many streams it carries, the control stream left out."""
        return max(0, len(self._mux.streams) - 1)

    def carries(self, kind: StreamKind) -> bool:
        """Whether a stream of that kind is open."""
        owners = (stream.owner for stream in self._mux.streams.values())
        return any(
            isinstance(owner, TunnelStream) and owner.header is not None and owner.header.kind is kind
            for owner in owners
        )

    @property
    def round_trip(self) -> float | None:
        """Seconds to the peer and back, as measured last."""
        return self._mux.round_trip

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.closed.done()

    def open(self, header: OpenHeader, protocol: asyncio.Protocol) -> TunnelStream:
        """A new stream owned by `protocol`, whose `connection_made` is called before this returns; data can be written at once.

        Raises `CodezeroError`: `problems.TUNNEL_DOWN`, `problems.TOO_MANY_STREAMS`.
        """
        if self._welcome is None or self.closed.done():
            raise CodezeroError(problems.TUNNEL_DOWN, "the tunnel to the Teamspace is closed")
        stream = TunnelStream(
            self,
            self._mux.open_stream(NOBODY, most=self._welcome.max_streams),
            header=header,
            protocol=protocol,
        )
        stream.write(open_header.encode(header))
        protocol.connection_made(stream)
        return stream

    async def open_stream(
        self, header: OpenHeader, *, limit: int = 256 * 1024
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new stream as asyncio's pair of reader (with a buffer of `limit`) and writer. Raises as `open` does."""
        reader = asyncio.StreamReader(limit=limit, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        stream = self.open(header, protocol)
        return reader, asyncio.StreamWriter(stream, protocol, reader, self._loop)

    async def close(self, farewell: Farewell) -> None:
        """End the tunnel and all its streams, and tell the peer why. Returns when the connection is gone."""
        self._end_with(farewell, CodezeroError(problems.TUNNEL_DOWN, farewell.detail))
        try:
            await asyncio.wait_for(asyncio.shield(self._gone), tls.CLOSE_SECONDS + 1)
        except TimeoutError:
            self._connection.abort()

    # --- Called by the TLS connection ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands."""
        # Paused as soon as the kernel does not take all: what waits should wait in the streams, where it can be overtaken.
        self._connection.set_write_buffer_limits(high=0)
        self._connection.limit_unsent(self._turn)
        self._mux.measure(time.monotonic())
        self._timer = self._loop.call_later(self._timing.heartbeat, self._tick)

    def data_received(self, data: Buffer) -> None:
        """Bytes from the peer."""
        now = time.monotonic()
        self.last_heard = now
        self._silent_ticks = 0
        self.bytes_received += len(data)
        if self.closed.done():
            return
        try:
            self._mux.receive(data, now)
        except CodezeroError as error:
            _log.warning("tunnel broken off", peer=self.peer.address, reason=error.detail)
            self._end_with(Farewell(error.problem.code, error.detail[:1000], retry=True), error)

    def eof_received(self) -> bool:
        """The peer closes the connection."""
        return False

    def pause_writing(self) -> None:
        """The connection takes no more for now."""
        self._writing_paused = True
        self._paused_at = time.monotonic()

    def resume_writing(self) -> None:
        """The connection takes bytes again."""
        self._writing_paused = False
        self._fit_turn(time.monotonic() - self._paused_at)
        self._schedule()

    def _fit_turn(self, seconds: float) -> None:
        """Adapt the turn to the link, which took `seconds` for one."""
        turn = self._turn
        if seconds > _LONG_TURN_SECONDS:
            turn = max(_LEAST_TURN, turn // 2)
        elif seconds < _SHORT_TURN_SECONDS:
            turn = min(_MOST_TURN, turn * 2)
        if turn != self._turn:
            self._turn = turn
            self._connection.limit_unsent(turn)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end(self._cause_of(exc))
        if not self._gone.done():
            self._gone.set_result(None)

    def _cause_of(self, exc: Exception | None) -> CodezeroError:
        if self._welcome is not None:
            why = str(exc) if exc is not None else "closed by the peer"
            return CodezeroError(problems.TUNNEL_DOWN, f"the tunnel to the Teamspace was cut: {why}")
        return _connect_error(exc, f"{self.peer.address}")

    def abandon(self) -> None:
        """Close at once, without a word."""
        self._end(CodezeroError(problems.TUNNEL_DOWN, "the tunnel was given up"))
        self._connection.abort()

    # --- Called by the machine ----------------------------------------------------------------------------------------------------------

    def output_ready(self) -> None:
        """There are bytes to send."""
        self._schedule()

    def stream_opened(self, stream: MuxStream) -> None:
        """The peer opened a stream."""
        if self._welcome is None:
            raise yamux.violation("stream opened before the tunnel was agreed on")
        TunnelStream(self, stream, protocol=None)

    def stream_refused(self, stream_id: int) -> None:
        """The peer opened one stream too many."""
        most = self._mux.limits.streams
        self.tell_stream_ended(
            stream_id, CodezeroError(problems.TOO_MANY_STREAMS, f"the tunnel carries {most} streams, its limit")
        )

    def going_away(self, code: int) -> None:
        """The peer takes no more streams; a farewell says why, or the connection ends."""

    def _schedule(self) -> None:
        if not self._flush_scheduled and not self._writing_paused:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._writing_paused or self.closed.done():
            return
        self._send(self._mux.take(self._turn))
        if self._mux.has_output:
            self._schedule()

    def _send(self, buffers: list[bytes | memoryview]) -> None:
        self.bytes_sent += sum(map(len, buffers))
        self._connection.send(buffers)

    # --- Called by streams --------------------------------------------------------------------------------------------------------------

    def accept(self, header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        """The owner of an incoming stream; raises `CodezeroError` when it is refused."""
        try:
            return self._acceptor(header, stream)
        except CodezeroError:
            raise
        except Exception as error:
            _log.error("acceptor failed", stream=stream.stream_id, exc_info=error)
            raise CodezeroError(problems.INTERNAL, "the stream could not be taken because of a defect") from error

    def tell_stream_ended(self, stream_id: int, error: CodezeroError) -> None:
        """Tell the peer why the reset comes that it is about to get."""
        if self._control is not None and not self.closed.done():
            self._control.send(StreamEnded(stream_id, error.problem.code, error.detail[:1000]))

    def orphan(self, stream: MuxStream) -> None:
        """Nobody owns the stream any more; it waits for the peer's end, not for ever."""
        self._orphans[stream] = time.monotonic()

    def disown(self, stream: MuxStream) -> None:
        """The stream is gone."""
        if stream.closed:
            self._orphans.pop(stream, None)

    # --- Control ------------------------------------------------------------------------------------------------------------------------

    def control_received(self, message: control.Control) -> None:
        """A message on the control stream."""
        match message:
            case Heartbeat():
                pass
            case StreamEnded():
                stream = self._mux.streams.get(message.stream)
                if stream is not None and isinstance(stream.owner, TunnelStream):
                    stream.owner.ended_by_peer(_error(message.code, message.detail))
            case Farewell():
                self.farewell = message
                self._end(_error(message.code, message.detail))
                self._connection.close()
            case TunnelHello() | TunnelWelcome():
                self._agreement_received(message)

    def _agreement_received(self, message: TunnelHello | TunnelWelcome) -> None:
        raise yamux.violation(f"unexpected {type(message).__name__}")

    def _agreed(self, welcome: TunnelWelcome) -> None:
        self._welcome = welcome
        limits = self._mux.limits
        self._mux.limits = replace(limits, streams=min(limits.streams, welcome.max_streams))

    def _tick(self) -> None:
        timing = self._timing
        now = time.monotonic()
        self._silent_ticks += 1
        silent = now - self.last_heard
        # Two ticks: after a pause of this process itself, what came meanwhile is read before the peer is judged.
        if silent >= timing.dead and self._silent_ticks > 1:
            self._end(CodezeroError(problems.TUNNEL_DOWN, f"nothing was heard from the other end for {silent:.1f} s"))
            self._connection.abort()
            return
        if self._control is not None:
            self._control.send_encoded(_HEARTBEAT)
        self._mux.tick(now)
        if self._mux.is_worn_out:
            farewell = Farewell(problems.TUNNEL_DOWN.code, "the tunnel has used up its stream ids", retry=True)
            self._end_with(farewell, CodezeroError(problems.TUNNEL_DOWN, farewell.detail))
            return
        for stream, since in tuple(self._orphans.items()):
            if now - since < timing.orphan:
                break
            del self._orphans[stream]
            stream.reset()
        until_dead = max(timing.dead - silent, timing.heartbeat / 20)
        self._timer = self._loop.call_later(min(timing.heartbeat, until_dead), self._tick)

    def _end_with(self, farewell: Farewell, cause: CodezeroError) -> None:
        if self.closed.done():
            return
        if self._control is not None:
            self._control.send(farewell)
        self._mux.go_away()
        self._send(self._mux.take(0))
        self._end(cause)
        self._connection.close()

    def _end(self, cause: CodezeroError) -> None:
        if self.closed.done():
            return
        self.closed.set_result(cause)
        if self._timer is not None:
            self._timer.cancel()
        self._orphans.clear()
        for owner in self._mux.close():
            if isinstance(owner, TunnelStream):
                owner.tunnel_ended(cause)


class ServerTunnel(Tunnel):
    """The System's end of a tunnel."""

    def __init__(
        self,
        connection: TlsConnection,
        *,
        welcome: Callable[[TunnelHello, Peer], TunnelWelcome],
        acceptor: Acceptor,
        established: Callable[["ServerTunnel"], None] | None = None,
        timing: Timing | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(connection, Role.SERVER, acceptor=acceptor, timing=timing, limits=limits)
        self._decide = welcome
        self._established = established

    @classmethod
    def start(
        cls,
        connection: TlsConnection,
        *,
        welcome: Callable[[TunnelHello, Peer], TunnelWelcome],
        acceptor: Acceptor,
        established: Callable[["ServerTunnel"], None] | None = None,
        timing: Timing | None = None,
        limits: Limits | None = None,
    ) -> "ServerTunnel":
        """The tunnel over a connection that a listener took: to be returned by the listener's handler for `ALPN`.

        `welcome` answers the laptop's hello, or raises `CodezeroError` to send it away. `established` is called with the tunnel once it can carry
        streams. A laptop that showed no certificate is sent away before either.
        """
        return cls(
            connection, welcome=welcome, acceptor=acceptor, established=established, timing=timing, limits=limits
        )

    def stream_opened(self, stream: MuxStream) -> None:
        """The peer opened a stream; its first is the control stream."""
        if self._control is not None:
            super().stream_opened(stream)
            return
        stream.urgent = True
        self._control = _ControlStream(self, stream, incoming=True)
        stream.owner = self._control

    def _agreement_received(self, message: TunnelHello | TunnelWelcome) -> None:
        if self._welcome is not None or not isinstance(message, TunnelHello):
            super()._agreement_received(message)
            return
        assert self._control is not None
        try:
            welcome = self._answer(message)
        except CodezeroError as error:
            self._end_with(Farewell(error.problem.code, error.detail[:1000], retry=False), error)
            return
        self._connection.accept()
        self._agreed(welcome)
        self._control.send(welcome)
        if self._established is not None:
            self._established(self)

    def _answer(self, hello: TunnelHello) -> TunnelWelcome:
        if self.peer.certificate is None:
            raise CodezeroError(problems.BAD_IDENTITY, "the laptop showed no certificate")
        if not set(hello.versions) & set(control.TUNNEL_VERSIONS):
            raise CodezeroError(
                problems.VERSIONS,
                f"the laptop speaks tunnel versions {list(hello.versions)[:10]}, the Teamspace {list(control.TUNNEL_VERSIONS)}",
            )
        return self._decide(hello, self.peer)


class ClientTunnel(Tunnel):
    """The laptop's end of a tunnel; made by `connect_tunnel`."""

    def __init__(
        self,
        connection: TlsConnection,
        *,
        hello: TunnelHello,
        acceptor: Acceptor,
        timing: Timing | None,
        limits: Limits | None,
    ) -> None:
        super().__init__(connection, Role.CLIENT, acceptor=acceptor, timing=timing, limits=limits)
        self.agreed: asyncio.Future[None] = self._loop.create_future()
        self._hello = hello

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS stands: open the control stream and introduce ourselves."""
        stream = self._mux.open_stream(NOBODY, urgent=True)
        self._control = _ControlStream(self, stream, incoming=False)
        stream.owner = self._control
        stream.write(open_header.encode(OpenHeader(StreamKind.CONTROL)))
        self._control.send(self._hello)
        super().connection_made(transport)

    def _agreement_received(self, message: TunnelHello | TunnelWelcome) -> None:
        if self._welcome is not None or not isinstance(message, TunnelWelcome):
            super()._agreement_received(message)
            return
        if message.version not in self._hello.versions or message.max_streams < 1:
            raise yamux.violation(f"welcome to version {message.version} with {message.max_streams} streams")
        self._agreed(message)
        if not self.agreed.done():
            self.agreed.set_result(None)


async def connect_tunnel(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext,
    server_name: str,
    release: str,
    acceptor: Acceptor,
    session: SessionId | None = None,
    timing: Timing | None = None,
    limits: Limits | None = None,
) -> ClientTunnel:
    """A tunnel to the System at `host:port`, ready to carry streams; the caller closes it.

    `context` comes from `certificates.client_context` and gets the tunnel's application protocol. `session` is the one to resume.
    Raises `CodezeroError`: `problems.UNREACHABLE`, `problems.BAD_IDENTITY`, `problems.VERSIONS`, or what the System said in its farewell.
    """
    context.set_alpn_protocols([ALPN])
    hello = TunnelHello(control.TUNNEL_VERSIONS, release, session)
    where = f"{host}:{port}"
    made: list[ClientTunnel] = []

    def factory(connection: TlsConnection) -> ClientTunnel:
        made.append(ClientTunnel(connection, hello=hello, acceptor=acceptor, timing=timing, limits=limits))
        return made[0]

    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await tls.connect(host, port, context=context, server_name=server_name, factory=factory)
            if connection.application_protocol != ALPN:
                connection.abort()
                raise CodezeroError(
                    problems.VERSIONS,
                    f"{where} does not speak {ALPN}",
                    fix="check the address of the Teamspace, or upgrade it",
                )
            tunnel = made[0]
            await asyncio.wait((tunnel.agreed, tunnel.closed), return_when=asyncio.FIRST_COMPLETED)
    except (OSError, TimeoutError) as error:
        if made:
            made[0].abandon()
        raise _connect_error(error, where) from error
    except asyncio.CancelledError:
        if made:
            made[0].abandon()
        raise
    if not tunnel.agreed.done():
        raise tunnel.closed.result()
    return tunnel


def _connect_error(error: Exception | None, where: str) -> CodezeroError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CodezeroError(
            problems.BAD_IDENTITY,
            f"the certificate of {where} is not that of the Teamspace: {error.verify_message}",
            fix="download the Teamspace's access file again",
        )
    if isinstance(error, ssl.SSLError):
        return CodezeroError(
            problems.BAD_IDENTITY,
            f"{where} did not accept this machine's certificate, or does not speak TLS: {error.reason or error}",
            fix="download the Teamspace's access file again",
        )
    if isinstance(error, TimeoutError):
        why = "no answer in time"
    else:
        why = str(error) if error is not None else "closed by the other end"
    return CodezeroError(
        problems.UNREACHABLE,
        f"no tunnel to {where}: {why}",
        fix="check the network and the address of the Teamspace, then run `czctl status`",
    )


def _encode(message: control.Control) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


_HEARTBEAT: Final = _encode(Heartbeat())


def _error(code: str, detail: str) -> CodezeroError:
    problem = problems.ALL.get(code) or Problem(code, "Refused by the other end", detail)
    return CodezeroError(problem, detail)
