"""What changed, told to those who listen on `/v1/events`: newest state, never a backlog."""

import asyncio
import time
from collections import deque

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.sessions import Activity
from codezero.wire.local_api import Event

MAX_WAITING = 64
MAX_LISTENERS = 32


class Listener:
    """The events one client has not read yet: changes of the same thing as one, and at most `MAX_WAITING`, then a gap."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._has_gap = False
        self._is_over = False
        self._there = asyncio.Event()

    def put(self, event: Event) -> None:
        """Add an event."""
        if event.activity is None and any(one.what == event.what and one.activity is None for one in self._waiting):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self._has_gap = True
        self._waiting.append(event)
        self._there.set()

    def end(self) -> None:
        """There will be no more."""
        self._is_over = True
        self._there.set()

    async def next(self) -> Event | None:
        """The next event; one with `gap` when some were dropped before it; None at the end."""
        while not self._waiting:
            if self._is_over:
                return None
            self._there.clear()
            await self._there.wait()
        event = self._waiting.popleft()
        if self._has_gap:
            self._has_gap = False
            return Event(event.what, event.at, event.activity, gap=True)
        return event


class Events:
    """Tells all listeners."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def publish(self, what: str, activity: Activity | None = None) -> None:
        """Something changed: `status`, `services`, `consume`, `serve`, `presence` or `activity`."""
        if self._listeners:
            event = Event(what, time.time(), activity)
            for listener in self._listeners:
                listener.put(event)

    def listen(self) -> Listener:
        """A new listener, to be given to `forget`; raises `CodezeroError` when there are too many."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise CodezeroError(problems.TOO_LARGE, f"{MAX_LISTENERS} programs follow the events already")
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """It has gone."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """Tell all listeners that there will be no more."""
        for listener in self._listeners:
            listener.end()
