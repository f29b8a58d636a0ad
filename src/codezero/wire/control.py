"""Messages of a tunnel's control stream: what yamux itself has no words for.

Framing: unsigned 32-bit big-endian length, then msgpack. Stream ids are those of yamux on this connection.
"""

from typing import Annotated

import msgspec

from codezero.model.ids import SessionId

TUNNEL_VERSIONS = (1,)
MAX_CONTROL_MESSAGE = 16 * 1024
HEARTBEAT_SECONDS = 1.0
# DESIGN 4 promises the truth within 5 s of a silent cut; noticing and telling take their part of it.
DEAD_SECONDS = 4.5
AWAY_SECONDS = 15.0

_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class ControlMessage(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """Base of all control messages."""


class TunnelHello(ControlMessage, frozen=True):
    """First message of the laptop. `session` is None the first time, else the session to resume."""

    versions: tuple[int, ...]
    release: _Text
    session: SessionId | None = None


class TunnelWelcome(ControlMessage, frozen=True):
    """First message of the System: the session of this tunnel and the limit of parallel streams each side may open."""

    version: int
    release: _Text
    session: SessionId
    max_streams: int


class Farewell(ControlMessage, frozen=True):
    """The sender closes the tunnel, and why; with `retry` the laptop should reconnect."""

    code: _Text
    detail: _Text
    retry: bool


class StreamEnded(ControlMessage, frozen=True):
    """Why the sender reset or refused that stream; sent before the reset itself."""

    stream: int
    code: _Text
    detail: _Text


class Heartbeat(ControlMessage, frozen=True):
    """Sent each second by both sides, also over an idle tunnel."""


Control = TunnelHello | TunnelWelcome | Farewell | StreamEnded | Heartbeat
