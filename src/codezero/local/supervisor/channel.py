"""One end of the socket pair between Supervisor and Daemon: messages of `wire.host_api`, one SOCK_SEQPACKET packet each."""

import asyncio
import socket
from typing import Generic, TypeVar

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import host_api
from codezero.wire.host_api import MAX_PACKET, HostMessage

In = TypeVar("In", bound=HostMessage)

_encoder = msgspec.msgpack.Encoder()


class Channel(Generic[In]):
    """Sends any message and receives those of the other side; it owns the socket."""

    def __init__(self, end: socket.socket, decoder: "msgspec.msgpack.Decoder[In]") -> None:
        end.setblocking(False)
        self._socket = end
        self._decoder = decoder

    def send(self, message: HostMessage) -> None:
        """Send at once; raises OSError when the other side is gone, or does not read (BlockingIOError)."""
        self._socket.send(_encoder.encode(message), socket.MSG_NOSIGNAL)

    async def receive(self) -> In | None:
        """The next message, None at the end; raises `CodezeroError` PROTOCOL for a packet that is none."""
        try:
            packet = await asyncio.get_running_loop().sock_recv(self._socket, MAX_PACKET + 1)
        except ConnectionError:
            return None
        if not packet:
            return None
        if len(packet) > MAX_PACKET:
            raise CodezeroError(problems.PROTOCOL, f"a message of the Daemon has more than {MAX_PACKET} bytes")
        try:
            return self._decoder.decode(packet)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CodezeroError(problems.PROTOCOL, f"a message of the Daemon cannot be read: {error}") from None

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def supervisor_channel(end: socket.socket) -> Channel[host_api.ToSupervisor]:
    """The Supervisor's end."""
    return Channel(end, msgspec.msgpack.Decoder(host_api.ToSupervisor))


def daemon_channel(end: socket.socket) -> Channel[host_api.ToDaemon]:
    """The Daemon's end."""
    return Channel(end, msgspec.msgpack.Decoder(host_api.ToDaemon))
