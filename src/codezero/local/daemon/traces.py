"""Records of requests and connections for those who read `/v1/traces`; costs nothing while nobody does."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import TraceLine
from codezero.wire.tracing import MirrorRecord, TraceRecord

MAX_WAITING = 1000
MAX_READERS = 16


class Reader:
    """The lines one client has not read yet; at most `MAX_WAITING`, after that the oldest are dropped and counted."""

    def __init__(self) -> None:
        self._waiting: deque[TraceLine] = deque()
        self._dropped = 0
        self._is_over = False
        self._there = asyncio.Event()

    def put(self, line: TraceLine) -> None:
        """Add a line."""
        if len(self._waiting) >= MAX_WAITING:
            oldest = self._waiting.popleft()
            self._dropped += oldest.dropped + (oldest.record is not None or oldest.mirror is not None)
        self._waiting.append(line)
        self._there.set()

    def end(self) -> None:
        """There will be no more."""
        self._is_over = True
        self._there.set()

    async def next(self) -> TraceLine | None:
        """The next line, which counts what was dropped before it; None at the end."""
        while not self._waiting:
            if self._is_over:
                return None
            self._there.clear()
            await self._there.wait()
        line = self._waiting.popleft()
        if self._dropped:
            line = msgspec.structs.replace(line, dropped=line.dropped + self._dropped)
            self._dropped = 0
        return line


class Traces:
    """Tells all readers; `wanted` is called when the first comes and when the last goes."""

    def __init__(self, *, wanted: Callable[[bool], None] = lambda _: None) -> None:
        self._wanted = wanted
        self._readers: set[Reader] = set()

    @property
    def are_wanted(self) -> bool:
        """Whether anybody reads."""
        return bool(self._readers)

    def put(self, records: Iterable[TraceRecord], *, dropped: int = 0) -> None:
        """Tell these records; `dropped` more are not known."""
        lines = [TraceLine(record) for record in records]
        if dropped:
            lines = (
                [msgspec.structs.replace(lines[0], dropped=dropped), *lines[1:]]
                if lines
                else [TraceLine(dropped=dropped)]
            )
        for reader in self._readers:
            for line in lines:
                reader.put(line)

    def put_mirrored(self, record: MirrorRecord) -> None:
        """Tell how the answers to a mirrored request differ."""
        line = TraceLine(mirror=record)
        for reader in self._readers:
            reader.put(line)

    def read(self) -> Reader:
        """A new reader, to be given to `forget`; raises `CodezeroError` when there are too many."""
        if len(self._readers) >= MAX_READERS:
            raise CodezeroError(problems.TOO_LARGE, f"{MAX_READERS} programs read the traces already")
        reader = Reader()
        self._readers.add(reader)
        if len(self._readers) == 1:
            self._wanted(True)
        return reader

    def forget(self, reader: Reader) -> None:
        """It has gone."""
        if reader in self._readers:
            self._readers.discard(reader)
            if not self._readers:
                self._wanted(False)

    def close(self) -> None:
        """Tell all readers that there will be no more."""
        for reader in self._readers:
            reader.end()
