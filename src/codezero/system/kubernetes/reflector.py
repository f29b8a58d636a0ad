"""A collection of Kubernetes objects, kept in step with the API server through everything that can go wrong with a watch.

One request at a time: a list (streamed where the server offers it, in pages otherwise), then a watch from the list's version, resumed for as long as
the server remembers. Anything unexpected counts as a failure and is followed by a growing, jittered pause, also a watch that ends early and a
version that is forgotten again and again: no fault makes a hot loop. Only a watch that stood for a while ends a series of failures.
Source: Kubernetes API concepts, "Efficient detection of changes" and "Streaming lists".
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Generic, Protocol

import msgspec

from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.watched import Watched
from codezero.system.kubernetes.client import ApiError
from codezero.system.kubernetes.objects import (
    Bookmark,
    BookmarkAnnotations,
    Kind,
    ObjectList,
    Resource,
    Status,
    WatchEvent,
)

Key = tuple[str, str]  # namespace (empty for cluster-wide objects) and name

MAX_LINE = 16 * 1024 * 1024
MAX_RETRY_AFTER = 300.0
# Answers to a watch that mean: this version or this way of asking will not work, ask for everything again.
_START_OVER = frozenset({400, 410, 422, 504})

_list_decoder = msgspec.json.Decoder(ObjectList)
_event_decoder = msgspec.json.Decoder(WatchEvent)
_bookmark_decoder = msgspec.json.Decoder(Bookmark)
_status_decoder = msgspec.json.Decoder(Status)


class Api(Protocol):
    """What a reflector asks of the API server; `client.ApiClient` is one."""

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """The body of an answer."""
        ...

    def watch(
        self, path: str, parameters: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The body of an answer, piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long, in seconds. `page` counts objects.

    `silence` is how long a watch may be mute: API servers send a bookmark each minute. `settled` is how long a watch
    must stand to end a series of failures; after a silence it must also say something. `initial` is how long a streamed list may take.
    """

    page: int = 500
    watch: float = 240.0
    watch_jitter: float = 60.0
    silence: float = 150.0
    settled: float = 5.0
    initial: float = 60.0
    first_delay: float = 0.4
    most_delay: float = 30.0


@dataclass(frozen=True, slots=True)
class ReflectorStatus:
    """Whether the whole collection has been seen once, and since when (UNIX seconds) changes may be missing; None while following."""

    synced: bool = False
    stale_since: float | None = None


@dataclass(slots=True)
class Counters:
    """What a reflector has done so far, for metrics. `failures` counts by cause."""

    lists: int = 0
    pages: int = 0
    watches: int = 0
    events: int = 0
    undecodable: int = 0
    failures: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(eq=False)
class _FollowError(Exception):
    """Why following ended. `kind` is one of a few words, for metrics; with `start_over` the version we have is of no use any more."""

    kind: str
    detail: str = ""
    start_over: bool = True
    silent: bool = False
    absent: bool = False
    retry_after: float | None = None


class Reflector(Generic[Kind]):
    """Mirrors one collection and tells each difference once: `changed(old, new)`, None where there was or is nothing.

    After an interruption only what is different is told. Run it in a task; `changed` is called in that task and must not raise.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource[Kind],
        changed: Callable[[Kind | None, Kind | None], None],
        *,
        timing: Timing | None = None,
        streamed_list: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wall_clock: Callable[[], float] = time.time,
        source: random.Random | None = None,
    ) -> None:
        self.resource = resource
        self.counters = Counters()
        self.status = Watched(ReflectorStatus())
        self._api = api
        self._changed = changed
        self._timing = timing or Timing()
        self._sleep = sleep
        self._wall_clock = wall_clock
        self._random = source or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._backoff = Backoff(first=self._timing.first_delay, most=self._timing.most_delay, source=self._random)
        self._decoder = msgspec.json.Decoder(resource.kind)
        self._objects: dict[Key, Kind] = {}
        self._version: str | None = None
        self._streamed_list = streamed_list  # whether the server offers it
        self._trust_stream = True  # whether to try it next time
        self._stood = False  # the watch has stood for long enough
        self._must_hear = False  # after a silence that is not enough
        self._settled = False  # both are well
        self._failures_in_a_row = 0
        self._current_at = wall_clock()
        self._log = get_logger("reflector", resource=resource.name)

    @property
    def objects(self) -> Mapping[Key, Kind]:
        """What the cluster has, by namespace and name."""
        return self._objects

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        while True:
            pause = await self._follow_once()
            if pause is not None:
                await self._sleep(pause)

    async def _follow_once(self) -> float | None:
        """List if needed, then watch until the watch ends; how long to pause before the next time."""
        self._stood = self._settled = False
        try:
            await self._follow()
        except _FollowError as failure:
            return self._fail(failure)
        return None

    async def _follow(self) -> None:
        streamed_list = self._version is None and self._streamed_list and self._trust_stream
        try:
            if self._version is None and not streamed_list:
                await self._list()
            await self._watch()
        except ApiError as error:
            # 400 and 422 are the answers of servers whose switch for streamed lists is off.
            if streamed_list and error.status in {400, 422}:
                self._streamed_list = False
                return
            if error.is_missing and self.resource.optional:
                self._be_absent()
                raise _FollowError("absent", absent=True) from error
            raise _failure_of(error) from error
        except msgspec.DecodeError as error:
            self.counters.undecodable += 1
            raise _FollowError("undecodable", str(error)) from error
        if not self._settled:
            raise _FollowError("ended early", start_over=False)

    def _fail(self, failure: _FollowError) -> float:
        if failure.start_over:
            self._version = None
        # A connection that stood until it broke was current until then; a mute one was not.
        if self._settled and not failure.silent:
            self._current_at = self._wall_clock()
        self._must_hear = self._must_hear or failure.silent
        self._trust_stream = False
        self.counters.failures[failure.kind] = self.counters.failures.get(failure.kind, 0) + 1
        # Decorrelated delays also shrink by chance; the floor keeps a long series slow.
        floor = self._timing.first_delay * 1.6 ** min(self._failures_in_a_row, 20)
        pause = max(self._backoff.next(), min(floor, self._timing.most_delay / 2))
        self._failures_in_a_row += 1
        if failure.retry_after is not None:
            pause = max(pause, min(failure.retry_after, MAX_RETRY_AFTER) * self._random.uniform(1.0, 1.1))
        if failure.absent:
            self._log.debug("the cluster has no such resource", pause=round(pause, 1))
            return pause
        log = self._log.warning if self.status.value.stale_since is None else self._log.debug
        log("cannot follow the cluster", cause=failure.kind, detail=failure.detail, pause=round(pause, 1))
        self._tell(stale_since=self._current_at)
        return pause

    def _be_absent(self) -> None:
        """The cluster does not know this kind of object, so there is none; asking again costs a request now and then."""
        self._complete(set(), "")
        self.status.set(ReflectorStatus(True, None))

    def _tell(self, *, stale_since: float | None) -> None:
        self.status.set(ReflectorStatus(self.status.value.synced, stale_since))

    def _stand(self) -> None:
        self._stood = True
        self._settle()

    def _settle(self) -> None:
        if self._settled or self._must_hear or not self._stood:
            return
        self._settled = True
        self._trust_stream = True
        self._backoff.reset()
        self._failures_in_a_row = 0
        self._current_at = self._wall_clock()
        if self.status.value.stale_since is not None:
            self._log.info("follows the cluster again")
            self._tell(stale_since=None)

    # --- lists ----------------------------------------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        self.counters.lists += 1
        seen: set[Key] = set()
        parameters = {"limit": str(self._timing.page)}
        while True:
            self.counters.pages += 1
            page = _list_decoder.decode(await self._api.get(self.resource.path, parameters))
            for raw in page.items or ():
                self._take_listed(raw, seen)
            if not page.metadata.continue_:
                break
            parameters["continue"] = page.metadata.continue_
        self._complete(seen, page.metadata.resource_version)

    def _take_listed(self, raw: msgspec.Raw, seen: set[Key]) -> None:
        try:
            item = self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            self.counters.undecodable += 1
            self._log.warning("an object has an unexpected form and is left out", cause=str(error))
            return
        seen.add(self._put(item))

    def _complete(self, seen: set[Key], version: str) -> None:
        for key in self._objects.keys() - seen:
            self._remove(key)
        self._version = version
        self._current_at = self._wall_clock()
        self.status.set(ReflectorStatus(True, self.status.value.stale_since))

    def _put(self, item: Kind) -> Key:
        key = (item.metadata.namespace, item.metadata.name)
        old = self._objects.get(key)
        if (
            old is None
            or old.metadata.resource_version != item.metadata.resource_version
            or old.metadata.uid != item.metadata.uid
        ):
            self._objects[key] = item
            self._changed(old, item)
        return key

    def _remove(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is not None:
            self._changed(old, None)

    # --- watches --------------------------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        timing = self._timing
        streamed_list = self._version is None
        lasts = timing.watch + self._random.uniform(0, timing.watch_jitter)
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(lasts))),
        }
        if streamed_list:
            self.counters.lists += 1
            parameters |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        else:
            self.counters.watches += 1
            parameters["resourceVersion"] = self._version or ""
        async with (
            self._api.watch(self.resource.path, parameters, silence=timing.silence) as chunks,
            aclosing(_lines(chunks)) as lines,
        ):
            if streamed_list:
                await self._take_initial(lines)
            settling = asyncio.get_running_loop().call_later(timing.settled, self._stand)
            try:
                async for line in lines:
                    self._take(line)
            finally:
                settling.cancel()

    async def _take_initial(self, lines: AsyncIterator[bytes]) -> None:
        seen: set[Key] = set()
        try:
            async with asyncio.timeout(self._timing.initial):
                async for line in lines:
                    event = _event_decoder.decode(line)
                    if event.type == "BOOKMARK":
                        bookmark = _bookmark_decoder.decode(event.object).metadata
                        if (bookmark.annotations or BookmarkAnnotations()).initial_events_end == "true":
                            self._complete(seen, bookmark.resource_version)
                            return
                    else:
                        self._take_initial_event(event, seen)
        except TimeoutError:
            raise _FollowError("streamed list did not end") from None
        raise _FollowError("streamed list was cut")

    def _take_initial_event(self, event: WatchEvent, seen: set[Key]) -> None:
        match event.type:
            # What changes while the list is sent comes in between.
            case "ADDED" | "MODIFIED":
                self._take_listed(event.object, seen)
            case "DELETED":
                item = self._decoder.decode(event.object)
                key = (item.metadata.namespace, item.metadata.name)
                seen.discard(key)
                self._remove(key)
            case "ERROR":
                raise _error_of(event)
            case _:
                raise _FollowError("unknown kind of event")

    def _take(self, line: bytes) -> None:
        event = _event_decoder.decode(line)
        match event.type:
            case "ADDED" | "MODIFIED":
                item = self._decoder.decode(event.object)
                self._put(item)
                self._version = item.metadata.resource_version
            case "DELETED":
                item = self._decoder.decode(event.object)
                self._remove((item.metadata.namespace, item.metadata.name))
                self._version = item.metadata.resource_version
            case "BOOKMARK":
                self._version = _bookmark_decoder.decode(event.object).metadata.resource_version
            case "ERROR":
                raise _error_of(event)
            case _:
                raise _FollowError("unknown kind of event")
        self.counters.events += 1
        self._current_at = self._wall_clock()
        self._must_hear = False
        self._settle()


def _failure_of(error: ApiError) -> _FollowError:
    if error.silent:
        kind = "silence"
    elif error.status is None:
        kind = "connection"
    else:
        kind = f"HTTP {error.status}"
    return _FollowError(
        kind,
        str(error),
        start_over=error.silent or error.is_expired or error.status in _START_OVER,
        silent=error.silent,
        retry_after=error.retry_after,
    )


def _error_of(event: WatchEvent) -> _FollowError:
    status = _status_decoder.decode(event.object)
    asked = status.details.retry_after_seconds if status.details else None
    return _FollowError(f"event {status.code}", f"{status.reason} {status.message}"[:300], retry_after=asked)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines of a watch; ends with it, and raises when the last line was cut."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > MAX_LINE:
            raise _FollowError("a line is too long")
    if rest.strip():
        raise msgspec.DecodeError("the last line was cut")
