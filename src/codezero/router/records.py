"""What Envoy's access log tells, on its way to the System: lines come as datagrams and leave as records, in batches.

Bounded: when nobody takes them, the oldest records go and are counted.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from codezero.model.problems import CodezeroError
from codezero.routing.plan import RoutePlan
from codezero.wire.router import MAX_RECORDS, AccessRecords
from codezero.wire.tracing import TraceRecord

BATCH_SECONDS: Final = 0.2
KEPT: Final = 2000
# Several whole lines may share a datagram.
MAX_DATAGRAM: Final = 64 * 1024
# How the keeper tells of lines that nobody took.
DROPPED_PREFIX: Final = b"#dropped "
_AT_ONCE: Final = 64

Reading = Callable[[bytes, RoutePlan], TraceRecord | None]


class AccessLog:
    """Collects records. `plan` gives the plan by which lines are understood, `read` understands one."""

    def __init__(self, *, plan: Callable[[], RoutePlan], read: Reading, kept: int = KEPT) -> None:
        self.taken = 0
        self.dropped = 0
        self._plan = plan
        self._read = read
        self._kept = kept
        self._records: deque[TraceRecord] = deque()
        self._untold = 0
        self._waiting = asyncio.Event()

    def listen(self, path: Path) -> "AccessSocket":
        """Take datagrams at `path` until the socket is closed. Raises OSError."""
        return AccessSocket(path, self.take)

    def take(self, datagram: bytes) -> None:
        """Take lines."""
        for line in datagram.split(b"\n"):
            if line.startswith(DROPPED_PREFIX):
                self._drop(_number(line.removeprefix(DROPPED_PREFIX)))
            elif line:
                self._take_line(line)

    async def batch(self) -> AccessRecords:
        """What there is to tell, once there is something."""
        while not self._records and not self._untold:
            self._waiting.clear()
            await self._waiting.wait()
        records = tuple(self._records.popleft() for _ in range(min(MAX_RECORDS, len(self._records))))
        dropped, self._untold = self._untold, 0
        return AccessRecords(records, dropped)

    def give_back(self, batch: AccessRecords) -> None:
        """The batch could not be told."""
        self._records.extendleft(reversed(batch.records))
        self._untold += batch.dropped
        self._bound()

    def _take_line(self, line: bytes) -> None:
        record = self._read(line, self._plan())
        if record is None:
            return
        try:
            # One record that the System cannot read would cost the whole stream.
            msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=TraceRecord)
        except (msgspec.DecodeError, ValueError, OverflowError, CodezeroError):
            self._drop(1)
            return
        self.taken += 1
        self._records.append(record)
        self._bound()
        self._waiting.set()

    def _bound(self) -> None:
        while len(self._records) > self._kept:
            self._records.popleft()
            self._drop(1)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count
        if self._untold:
            self._waiting.set()


class AccessSocket:
    """A datagram socket in the file system; what is left of an earlier one makes way."""

    def __init__(self, path: Path, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            path.chmod(0o600)
            asyncio.get_running_loop().add_reader(self._socket, self._receive)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        # Not all there is: others have a turn too.
        for _ in range(_AT_ONCE):
            try:
                datagram = self._socket.recv(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            self._take(datagram)


def _number(text: bytes) -> int:
    return min(int(text), 1_000_000_000) if text.isdigit() and len(text) < 12 else 0
