"""Joins tunnel streams to sockets: bytes, back-pressure, half-close and resets pass both ways. And the form of datagrams on a stream.

A pair of protocols that write into each other's transport; no task and no await per chunk. A reset (RST) of one side becomes a reset of the other,
so an application sees ECONNRESET where it would without a tunnel.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from codezero.kit.tasks import Tasks
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.tunnel import TunnelStream

READ_SIZE: Final = 64 * 1024
_SOCKET_HIGH: Final = 256 * 1024
_SOCKET_LOW: Final = 64 * 1024
_LINGER_RESET: Final = struct.pack("ii", 1, 0)

MOST_DATAGRAM: Final = 0xFFFF
_LATE_DATAGRAMS: Final = 256
_LATE_SIZE: Final = 256 * 1024

Opener = Callable[[asyncio.Transport, asyncio.Protocol], TunnelStream]
"""Opens the stream for a socket that has connected, owned by the protocol given. Raises `CodezeroError` when there is none."""

SocketFactory = Callable[[], asyncio.BaseProtocol]
Dial = Callable[[SocketFactory], Awaitable[Any]]
"""Connects a socket and gives it the protocol that the factory makes, as `loop.create_connection` does, within a time that it bounds itself.

Raises OSError (TimeoutError is one) or `CodezeroError`.
"""


class _Buffer(threading.local):
    """One read buffer per thread: its loop fills it and empties it within one call."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))


_buffer = _Buffer()


class StreamSide(asyncio.Protocol):
    """Owner of the stream: what comes from the tunnel goes to the socket."""

    def __init__(self) -> None:
        self._stream: TunnelStream | None = None
        self._socket: SocketSide | None = None

    def join(self, socket_side: "SocketSide") -> None:
        """Name the other side."""
        self._socket = socket_side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        assert isinstance(transport, TunnelStream)
        self._stream = transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the tunnel."""
        assert self._socket is not None
        self._socket.write(data)

    def eof_received(self) -> bool:
        """The tunnel's side sends no more."""
        assert self._socket is not None
        self._socket.write_eof()
        return True

    def pause_writing(self) -> None:
        """The tunnel takes no more for now."""
        if self._socket is not None:
            self._socket.pause_reading()

    def resume_writing(self) -> None:
        """The tunnel takes bytes again."""
        if self._socket is not None:
            self._socket.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended. Nothing here holds what held it, so all of it is freed at once."""
        side, self._socket, self._stream = self._socket, None, None
        if side is not None:
            side.stream_ended(exc)


class SocketSide(asyncio.BufferedProtocol):
    """Owner of the socket: what comes from it goes to the tunnel. Works on TCP and UNIX sockets."""

    def __init__(self, attach: "Callable[[asyncio.Transport, SocketSide], TunnelStream | None]") -> None:
        """`attach` gives the stream once the socket is connected; None when there is none any more."""
        self._attach = attach
        self._view = _buffer.view
        self._transport: asyncio.Transport | None = None
        self._stream: TunnelStream | None = None
        self._stream_ended = False
        self._finished = False  # the socket sends no more
        self._paused = False

    # --- The socket's protocol ----------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transports do not derive from it
        self._transport = transport
        transport.set_write_buffer_limits(high=_SOCKET_HIGH, low=_SOCKET_LOW)
        self._stream = self._attach(transport, self)
        if self._stream is None:
            self._stream_ended = True
            reset_socket(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the socket."""
        if self._stream is not None:
            self._stream.write(bytes(self._view[:nbytes]))

    def eof_received(self) -> bool:
        """The socket sends no more."""
        self._finished = True
        if self._stream is not None:
            self._stream.write_eof()
        return True

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self._stream is not None:
            self._stream.pause_reading()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        if self._stream is not None:
            self._stream.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; where the stream is not, it was reset."""
        stream, self._stream, self._transport = self._stream, None, None
        if stream is not None and not self._stream_ended:
            self._stream_ended = True
            stream.abort()

    # --- For the stream's side ----------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send to the socket."""
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        """Send no more to the socket."""
        if self._transport is not None and not self._transport.is_closing():
            # A socket that was reset a moment ago raises here, on asyncio's loop; that it is lost is told separately.
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def pause_reading(self) -> None:
        """Read no more from the socket."""
        if self._transport is not None and not (self._paused or self._finished or self._transport.is_closing()):
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again. Not after the socket's end, which would be reported a second time."""
        if self._transport is not None and self._paused and not (self._finished or self._transport.is_closing()):
            self._paused = False
            self._transport.resume_reading()

    def stream_ended(self, exc: Exception | None) -> None:
        """The stream is gone: in order, or by a reset that the socket's peer is to see."""
        if self._stream_ended:
            return
        self._stream_ended = True
        if self._transport is not None:
            if exc is None:
                self._transport.close()
            else:
                reset_socket(self._transport)


def accepted(opener: Opener, *, refused: Callable[[CodezeroError], None] | None = None) -> SocketSide:
    """The owner of a socket that connected to us: opens a stream and joins both.

    Where `opener` raises, the socket is reset and `refused` told why.
    """

    def attach(transport: asyncio.Transport, side: SocketSide) -> TunnelStream | None:
        stream_side = StreamSide()
        stream_side.join(side)
        try:
            return opener(transport, stream_side)
        except CodezeroError as error:
            if refused is not None:
                refused(error)
            return None

    return SocketSide(attach)


def dialled(dial: Dial, *, tasks: Tasks) -> asyncio.Protocol:
    """The owner of an incoming stream, for an acceptor to return: connects a socket, then joins both.

    The stream's bytes wait until then. Where `dial` fails, the stream is reset with the reason.
    """
    return _Dialling(dial, tasks=tasks)


class _Dialling(StreamSide):
    """A stream's owner whose socket is not there yet."""

    def __init__(self, dial: Dial, *, tasks: Tasks) -> None:
        super().__init__()
        self._dial = dial
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._stream is not None
        if not self._tasks.is_open:
            self._stream.reset(CodezeroError(problems.TUNNEL_DOWN, "this end is being stopped"))
            return
        self._stream.pause_reading()
        self._task = self._tasks.start(f"dial-{self._stream.stream_id}", self._connect(self._stream))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    async def _connect(self, stream: TunnelStream) -> None:
        try:
            await self._dial(lambda: SocketSide(self._attach))
        except OSError as error:
            why = error.strerror or str(error) or "no answer in time"
            stream.reset(CodezeroError(problems.DIAL_FAILED, f"connecting failed: {why}"))
        except CodezeroError as error:
            stream.reset(error)
        finally:
            self._task = None

    def _attach(self, transport: asyncio.Transport, side: SocketSide) -> TunnelStream | None:
        stream = self._stream
        if stream is None or stream.is_closing():
            return None
        self.join(side)
        stream.resume_reading()
        return stream


def reset_socket(transport: asyncio.Transport) -> None:
    """Close a socket so that its peer sees a reset, not an end."""
    handle = transport.get_extra_info("socket")
    if handle is not None and handle.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    transport.abort()


class DatagramStream(asyncio.Protocol):
    """Owner of a stream that carries datagrams, each behind its 16-bit length.

    What the stream cannot take at once waits, at most 256 datagrams or 256 KiB; beyond that the oldest is dropped, as a late datagram is worth less
    than a new one. `dropped` counts them.
    """

    def __init__(self, received: Callable[[bytes], None], ended: Callable[[Exception | None], None]) -> None:
        """`received` gets each datagram; `ended` is called once, as `connection_lost`."""
        self.dropped = 0
        self._received = received
        self._ended = ended
        self._stream: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._paused = False
        self._late: deque[bytes] = deque()
        self._late_size = 0

    def send(self, datagram: bytes) -> None:
        """Send a datagram of at most 65,535 bytes, or drop the oldest that waits."""
        if len(datagram) > MOST_DATAGRAM:
            raise ValueError(f"datagram of {len(datagram)} bytes")
        if self._stream is not None and not self._paused:
            self._stream.write(_framed(datagram))
            return
        self._late.append(datagram)
        self._late_size += len(datagram)
        while len(self._late) > _LATE_DATAGRAMS or self._late_size > _LATE_SIZE:
            self._late_size -= len(self._late.popleft())
            self.dropped += 1

    def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            self._stream.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        transport = cast("asyncio.Transport", transport)
        self._stream = transport
        # A long queue in the stream could not be dropped from.
        transport.set_write_buffer_limits(high=64 * 1024, low=16 * 1024)
        self._send_late()

    def data_received(self, data: bytes) -> None:
        """Bytes from the tunnel."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 2:
            end = start + 2 + int.from_bytes(buffer[start : start + 2], "big")
            if end > len(buffer):
                break
            self._received(bytes(buffer[start + 2 : end]))
            start = end
        del buffer[:start]

    def pause_writing(self) -> None:
        """The stream takes no more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """The stream takes bytes again."""
        self._paused = False
        self._send_late()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended."""
        self._stream = None
        self._late.clear()
        self._ended(exc)

    def _send_late(self) -> None:
        while self._late and not self._paused and self._stream is not None:
            datagram = self._late.popleft()
            self._late_size -= len(datagram)
            self._stream.write(_framed(datagram))


def _framed(datagram: bytes) -> bytes:
    return len(datagram).to_bytes(2, "big") + datagram
