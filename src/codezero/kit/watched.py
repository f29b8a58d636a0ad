"""A value one can watch: the newest state, never a backlog."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """Holds a value; any number of tasks may wait for changes. Set it from the event loop's thread only."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        """The newest value."""
        return self._value

    def set(self, value: T) -> None:
        """Replace the value and wake those who watch; an equal value wakes nobody."""
        if value != self._value:
            self._value = value
            self._wake()

    def touch(self) -> None:
        """Wake those who watch because the value changed inside."""
        self._wake()

    def _wake(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self) -> AsyncIterator[T]:
        """The value now, then again after each change; changes that come while the caller is busy are seen as one."""
        seen = -1
        while True:
            while seen == self._version:
                await self._changed.wait()
            seen = self._version
            yield self._value
