"""Envoy's access log on its way to the follower: lines come by a pipe and go on as datagrams. Envoy never waits: what nobody takes is dropped."""

import asyncio
import fcntl
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from codezero.router.records import DROPPED_PREFIX

_READ: Final = 1 << 20
# A queue of datagrams holds few of them, so lines travel together; one that is longer than this is dropped.
_DATAGRAM: Final = 16 * 1024


class LineForwarder:
    """Passes whole lines on to the socket at `path`; those that nobody takes are counted (`dropped`), and the count is told later."""

    def __init__(self, path: Path) -> None:
        self.dropped = 0
        self._untold = 0
        self._path = str(path)
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def take(self, data: bytes) -> None:
        """Take what Envoy wrote."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _DATAGRAM:
            self._rest = b""
            self._drop(1)
        fitting = [line for line in lines if len(line) <= _DATAGRAM]
        self._drop(len(lines) - len(fitting))
        batch: list[bytes] = []
        size = 0
        for line in fitting:
            if size + len(line) > _DATAGRAM and batch:
                self._send(batch)
                batch, size = [], 0
            batch.append(line)
            size += len(line) + 1
        if batch:
            self._send(batch)

    def forget_half(self) -> None:
        """Envoy died within a line."""
        self._rest = b""

    def close(self) -> None:
        """Pass on no more."""
        self._socket.close()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _send(self, lines: Sequence[bytes]) -> None:
        told = self._untold
        note = [DROPPED_PREFIX + str(told).encode()] if told else []
        try:
            self._socket.sendto(b"\n".join([*note, *lines]), self._path)
        except OSError:
            self._drop(len(lines))
        else:
            self._untold -= told


class LinePipe:
    """A pipe whose lines go to `forwarder`. It outlives each Envoy that writes to `entrance`."""

    def __init__(self, forwarder: LineForwarder) -> None:
        self._forwarder = forwarder
        self._exit, self.entrance = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._exit, False)
        with suppress(OSError):  # no more than a pipe's usual size then
            fcntl.fcntl(self._exit, fcntl.F_SETPIPE_SZ, _READ)
        asyncio.get_running_loop().add_reader(self._exit, self._copy)

    def begin_anew(self) -> None:
        """The one who wrote is dead: take what is left, and forget half a line."""
        self._copy()
        self._forwarder.forget_half()

    def close(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._exit)
        os.close(self._exit)
        os.close(self.entrance)

    def _copy(self) -> None:
        with suppress(BlockingIOError):
            self._forwarder.take(os.read(self._exit, _READ))
