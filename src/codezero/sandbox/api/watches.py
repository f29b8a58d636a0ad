"""Following a resource: what matches now, then every change of it, in order, as the selection sees it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from codezero.sandbox.api import errors
from codezero.sandbox.api.selectors import Selection
from codezero.sandbox.api.storage import Event, Storage, Stored

# One who falls behind this far is cut off; it resumes or lists again, as with any API server.
MAXIMUM_BACKLOG = 20_000


class Watch:
    """The changes of a resource since a version. Made by `Store.watch`; `close` it, or use it as a context manager.

    Iterating gives events one by one and ends when the watch is closed or has fallen behind (`is_behind`).
    """

    def __init__(self, storage: Storage, resource: str, *, selection: Selection, since: int | None) -> None:
        self._selection = selection
        self._pending: deque[Event] = deque()
        self._changed = asyncio.Event()
        self.is_behind = False
        self.is_closed = False
        # The version up to which everything that matters has been handed out or is pending.
        self.revision = storage.revision
        self._storage = storage
        self._end: Callable[[], None] = self._changed.clear
        if since is None:
            now = storage.each(resource, selection.namespace)
            self._pending.extend(
                Event("ADDED", resource, stored) for stored in now if selection.matches(stored.content)
            )
        else:
            if since > storage.revision:
                raise errors.too_new(since, storage.revision)
            if since < storage.oldest(resource):
                raise errors.expired(f"too old resource version: {since} ({storage.oldest(resource)})")
            for event in storage.since(resource, since):
                self._hear(event)
        # How many events tell of what was there already, and the version that this was the state of.
        self.initial_count = len(self._pending) if since is None else 0
        self.started_at = storage.revision
        if self._pending:
            self._changed.set()
        self._end = storage.listen(self._hear, resource)

    def _hear(self, event: Event) -> None:
        seen = as_seen(event, self._selection)
        if seen is None:
            return
        if len(self._pending) >= MAXIMUM_BACKLOG:
            self.is_behind = True
            self.close()
            return
        self._pending.append(seen)
        self._changed.set()

    def take(self, most: int = 100) -> list[Event]:
        """Up to `most` events that have come, without waiting."""
        taken = [self._pending.popleft() for _ in range(min(most, len(self._pending)))]
        if not self._pending:
            self._changed.clear()
            self.revision = self._storage.revision
        return taken

    def wake(self) -> None:
        """Let a `wait` in progress return, though nothing happened to the resource."""
        self._changed.set()

    async def wait(self) -> None:
        """Return when there may be something to take, or the watch was closed or woken."""
        await self._changed.wait()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            for event in self.take():
                yield event
            if self.is_closed and not self._pending:
                return
            if not self._pending:
                await self.wait()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more; what has come can still be taken."""
        self.is_closed = True
        self._end()
        self._changed.set()


def as_seen(event: Event, selection: Selection) -> Event | None:
    """How somebody who looks through `selection` sees a write: things come into view and leave it. None: not at all."""
    if selection.is_everything:
        return event
    is_in = event.type != "DELETED" and selection.matches(event.stored.content)
    was_in = event.before is not None and selection.matches(event.before.content)
    if is_in and was_in:
        return event
    if is_in:
        return replace(event, type="ADDED")
    if was_in:
        return replace(event, type="DELETED", stored=_last_seen(event))
    return None


def _last_seen(event: Event) -> Stored:
    """The state that was last in view, under the version in which it left."""
    if event.type == "DELETED" or event.before is None:
        return event.stored
    content = event.before.copy()
    content["metadata"]["resourceVersion"] = str(event.revision)
    return Stored.of(event.revision, content)
