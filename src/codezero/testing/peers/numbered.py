"""A stream of bytes of any length in which every position is known: one random block over and over, each time with its number.

Making and checking it costs little more than copying, so gigabytes are cheap; a lost, doubled or moved byte is found where it is.
"""

import random
import socket
from collections.abc import Iterator

from codezero.testing.peers.verdict import BrokenError

BLOCK = 1 << 18
_NUMBER = 8


def send(connection: socket.socket, *, length: int, seed: int) -> None:
    """Send `length` bytes of stream `seed`."""
    for block in _blocks(length, seed):
        connection.sendall(block)


def receive(connection: socket.socket, *, length: int, seed: int) -> None:
    """Read `length` bytes; raises `BrokenError` where they are not those of stream `seed`."""
    position = 0
    for block in _blocks(length, seed):
        expected = bytes(block)
        offset = 0
        while offset < len(expected):
            data = connection.recv(len(expected) - offset)
            if not data:
                raise BrokenError(f"the stream ended at byte {position} of {length}")
            if data != expected[offset : offset + len(data)]:
                raise BrokenError(f"the stream differs between bytes {position} and {position + len(data)}")
            offset += len(data)
            position += len(data)


def _blocks(length: int, seed: int) -> Iterator[memoryview]:
    """The blocks of the stream; each is valid until the next is asked for."""
    block = bytearray(random.Random(seed).randbytes(BLOCK))
    for number in range((length + BLOCK - 1) // BLOCK):
        block[:_NUMBER] = number.to_bytes(_NUMBER, "big")
        yield memoryview(block)[: min(BLOCK, length - number * BLOCK)]
