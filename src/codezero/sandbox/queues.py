"""A queue of keys, each in it at most once: what controllers work through. It cannot grow beyond the number of things there are."""

import asyncio
from typing import Generic, TypeVar

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Keys of things that changed, in the order in which they first did. For one event loop."""

    def __init__(self) -> None:
        self._keys: dict[K, None] = {}
        self._filled = asyncio.Event()

    def add(self, key: K) -> None:
        """Have `key` looked at; nothing happens when it waits already."""
        self._keys[key] = None
        self._filled.set()

    async def take(self) -> K:
        """The key that waits longest, once there is one."""
        await self._filled.wait()
        key = next(iter(self._keys))
        self._discard(key)
        return key

    async def take_all(self) -> list[K]:
        """All keys that wait, once there is one."""
        await self._filled.wait()
        keys = list(self._keys)
        self._keys.clear()
        self._filled.clear()
        return keys

    def _discard(self, key: K) -> None:
        del self._keys[key]
        if not self._keys:
            self._filled.clear()
