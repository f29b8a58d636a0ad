"""Watches over HTTP: one JSON line for each event, bookmarks in between, and the faults that tests ask for."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from codezero.sandbox.api import errors, tables
from codezero.sandbox.api.documents import JsonObject, encode
from codezero.sandbox.api.exchange import Exchange
from codezero.sandbox.api.faults import Fault, Faults
from codezero.sandbox.api.kinds import ResourceType
from codezero.sandbox.api.storage import Event, Stored
from codezero.sandbox.api.watches import Watch

BOOKMARK_SECONDS = 30.0
_MOST_EVENTS = 100
_TIMEOUT_SECONDS = (1800, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """What the client asked for."""

    shape: str = ""
    include: str = "Metadata"
    has_bookmarks: bool = False
    marks_initial: bool = False
    seconds: int | None = None


class WatchStream:
    """Sends what a watch sees to one client until the time is up, the client leaves, or it falls behind."""

    def __init__(
        self,
        exchange: Exchange,
        kind: ResourceType,
        watch: Watch,
        settings: WatchSettings,
        *,
        faults: Faults,
        bookmark_seconds: float,
    ) -> None:
        self._exchange = exchange
        self._kind = kind
        self._watch = watch
        self._settings = settings
        self._faults = faults
        self._bookmark_seconds = bookmark_seconds
        self._has_sent_columns = False

    async def run(self) -> None:
        """Send until the end."""
        ends: list[Callable[[], None]] = [
            self._watch.close,
            self._exchange.connection.on_lost(self._watch.wake),
            self._faults.wake_on_change(self._watch.wake),
        ]
        try:
            await self._exchange.start_stream()
            await self._send_all()
        finally:
            for end in ends:
                end()

    async def _send_all(self) -> None:
        seconds = self._settings.seconds or random.randint(*_TIMEOUT_SECONDS)  # noqa: S311 - spreads load, hides nothing
        deadline = time.monotonic() + seconds
        bookmark_due = time.monotonic() + self._bookmark_seconds
        marks_initial = self._settings.marks_initial
        initial = self._watch.initial_count
        while not self._exchange.connection.lost.is_set():
            fault = self._faults.strike(self._kind.plural, "watch")
            if fault is not None:
                await self._misbehave(fault)
                return
            events = self._watch.take(_MOST_EVENTS)
            initial -= len(events)
            lines = [self._line(event) for event in events]
            if marks_initial and initial <= 0:
                marks_initial = False
                lines.insert(len(events) + initial, self._bookmark(self._watch.started_at, is_initial_end=True))
            now = time.monotonic()
            is_over = now >= deadline or (self._watch.is_closed and not events)
            if (
                self._settings.has_bookmarks
                and not events
                and (now >= bookmark_due or is_over)
                and not self._watch.is_behind
            ):
                bookmark_due = now + self._bookmark_seconds
                lines.append(self._bookmark(self._watch.revision))
            if lines:
                await self._exchange.send(b"".join(lines))
            if is_over and not events:
                await self._exchange.end_stream()
                return
            if not events:
                await self._wait(min(deadline, bookmark_due) - now)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._watch.wait()
        except TimeoutError:
            pass  # time for a bookmark, or for the end

    def _line(self, event: Event) -> bytes:
        return b'{"type":"%b","object":%b}\n' % (event.type.encode(), self._object(event.stored))

    def _object(self, stored: Stored) -> bytes:
        if self._settings.shape == "Table":
            headers, self._has_sent_columns = not self._has_sent_columns, True
            metadata: JsonObject = {"resourceVersion": str(stored.revision)}
            return encode(
                tables.table(
                    self._kind, [stored.content], include=self._settings.include, metadata=metadata, headers=headers
                )
            )
        return stored_bytes(self._kind, stored, self._settings.shape)

    def _bookmark(self, revision: int, *, is_initial_end: bool = False) -> bytes:
        metadata: JsonObject = {"resourceVersion": str(revision), "creationTimestamp": None}
        if is_initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        if self._settings.shape == "Table":
            content = tables.table(self._kind, [], metadata=metadata, headers=False)
        else:
            content = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        return encode({"type": "BOOKMARK", "object": content}) + b"\n"

    async def _misbehave(self, fault: Fault) -> None:
        match fault.kind:
            case "eof":
                await self._exchange.end_stream()
            case "stream-410":
                await self._exchange.send(error_line(errors.expired("too old resource version: fault")))
                await self._exchange.end_stream()
            case "cut-json":
                await self._exchange.send(b'{"type":"MODIFIED","object":{"kind":"' + self._kind.kind.encode())
                await self._exchange.cut()
            case "silence":
                await self._exchange.connection.lost.wait()
            case "rst" | "http-410" | "429" | "500":
                # The last three cannot be said any more once a watch runs: an abrupt end stands for them.
                await self._exchange.reset()


def error_line(error: errors.ApiError) -> bytes:
    """The event that tells a watching client of a failure."""
    return encode({"type": "ERROR", "object": error.status()}) + b"\n"


def stored_bytes(kind: ResourceType, stored: Stored, shape: str = "") -> bytes:
    """The JSON of an object under the version of `kind`; only its metadata for that shape."""
    if shape.startswith("PartialObjectMetadata"):
        return encode(
            {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": stored.content["metadata"]}
        )
    if stored.content["apiVersion"] != kind.api_version:
        return encode(stored.content | {"apiVersion": kind.api_version})
    return stored.raw
