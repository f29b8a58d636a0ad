"""Frame headers of yamux: twelve bytes, big-endian, the same for every frame.

Source: https://github.com/hashicorp/yamux/blob/master/spec.md (version 0). Plain integers, not enums: they are compared per frame.
"""

import struct
from enum import IntEnum
from typing import Final

from codezero.model import problems
from codezero.model.problems import CodezeroError

VERSION: Final = 0
HEADER_SIZE: Final = 12
INITIAL_WINDOW: Final = 256 * 1024
MOST_WINDOW: Final = 0xFFFF_FFFF  # what the length field can say

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8
_STREAM_FLAGS: Final = SYN | ACK | FIN | RST

_LAYOUT: Final = struct.Struct("!HHII")  # version and type as one number: the version is 0
_pack = _LAYOUT.pack
_unpack_from = _LAYOUT.unpack_from


class GoAwayCode(IntEnum):
    """Why a side ends the session."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


Header = tuple[int, int, int, int]
"""Type, flags, stream, length: the size of the payload of data, the credit of a window update, the value of a ping, the code of a go-away."""


def encode(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The twelve bytes of a header."""
    return _pack(kind, flags, stream, length)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> Header:
    """The header at `offset`, of which all twelve bytes must be there; raises `CodezeroError` for one that the specification does not know."""
    header: Header = _unpack_from(data, offset)
    kind, flags, stream, _ = header
    if kind > WINDOW_UPDATE or flags > _STREAM_FLAGS or not stream:
        _check_rare(kind, flags, stream)
    return header


def _check_rare(kind: int, flags: int, stream: int) -> None:
    version = kind >> 8
    if version != VERSION:
        raise violation(f"frame of version {version}; only {VERSION} is known")
    if kind <= WINDOW_UPDATE:
        if flags > _STREAM_FLAGS:
            raise violation(f"frame with unknown flags {flags:#06x}")
        raise violation("stream frame for stream 0, which is the session")
    if kind > GO_AWAY:
        raise violation(f"frame of unknown type {kind}")
    if stream != 0:
        raise violation(f"session frame for stream {stream}")
    if flags not in ((SYN, ACK) if kind == PING else (0,)):
        raise violation(f"session frame of type {kind} with flags {flags:#06x}")


def violation(detail: str) -> CodezeroError:
    """The one error for bytes that the protocol does not allow."""
    return CodezeroError(problems.PROTOCOL, f"tunnel: {detail}")
