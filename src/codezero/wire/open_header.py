"""What the opener of a tunnel stream says first: a length-prefixed header; data may follow at once, so a new stream costs one round trip.

Layout: unsigned 16-bit big-endian length, then msgpack of `OpenHeader`. The length is at most `MAX_HEADER`.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_HEADER = 1024


class StreamKind(StrEnum):
    """What a stream carries.

    `control`: the tunnel's control messages, opened once by the laptop. `consume`: bytes to a service's port (`target` is a catalog id).
    `datagrams`: the same for UDP, each datagram prefixed by its 16-bit length. `orchestrator`: coordination messages, forwarded.
    `serve`: opened by the System towards the laptop (`target` is a route id).
    """

    CONTROL = "control"
    CONSUME = "consume"
    DATAGRAMS = "datagrams"
    ORCHESTRATOR = "orchestrator"
    SERVE = "serve"


class OpenHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """Kind, target and trace id of a stream. `target` is empty for control and orchestrator streams."""

    kind: StreamKind
    target: Annotated[str, msgspec.Meta(max_length=300)] = ""
    trace: Annotated[str, msgspec.Meta(max_length=64)] = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(OpenHeader)


def encode(header: OpenHeader) -> bytes:
    """The bytes to write first on a stream."""
    body = _encoder.encode(header)
    if len(body) > MAX_HEADER:
        raise ValueError(f"open header of {len(body)} bytes")
    return len(body).to_bytes(2, "big") + body


def decode(data: bytes | bytearray | memoryview) -> tuple[OpenHeader, int] | None:
    """The header at the start of `data` and how many bytes it took; None while incomplete. Raises `CodezeroError` when it can never be one."""
    if len(data) < 2:
        return None
    length = int.from_bytes(data[:2], "big")
    if not 0 < length <= MAX_HEADER:
        raise CodezeroError(problems.PROTOCOL, f"open header of {length} bytes; at most {MAX_HEADER} are allowed")
    if len(data) < 2 + length:
        return None
    try:
        return _decoder.decode(data[2 : 2 + length]), 2 + length
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodezeroError(problems.PROTOCOL, f"open header cannot be read: {error}") from None
