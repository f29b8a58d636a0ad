"""A map that knows what changed since a revision. Memory is bounded by its entries and a number of remembered removals."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

KEPT_REMOVALS = 10_000


class Ledger(Generic[Key, Value]):
    """Keys with values, each with the revision of its last change; a removed key is remembered for a while.

    Every change makes a new `revision`. A reader that knows a revision asks for `since`: each key that changed after it, once.
    """

    def __init__(self, *, kept_removals: int = KEPT_REMOVALS) -> None:
        self._values: dict[Key, Value] = {}
        # Ordered by last change, oldest first. A key that is not in `_values` is a removal.
        self._changed: dict[Key, int] = {}
        self._removals: dict[Key, int] = {}
        self._kept_removals = kept_removals
        self._floor = 0
        self.revision = 0

    @property
    def values(self) -> Mapping[Key, Value]:
        """What the map holds now."""
        return self._values

    def __len__(self) -> int:
        return len(self._values)

    def set(self, key: Key, value: Value) -> bool:
        """Store a value; an equal one is no change. Tells whether it was one."""
        if key in self._values and self._values[key] == value:
            return False
        self._values[key] = value
        self._removals.pop(key, None)
        self._touch(key)
        return True

    def remove(self, key: Key) -> bool:
        """Remove a key; tells whether it was there."""
        if key not in self._values:
            return False
        del self._values[key]
        self._touch(key)
        self._removals.pop(key, None)
        self._removals[key] = self.revision
        if len(self._removals) > self._kept_removals:
            oldest = next(iter(self._removals))
            self._floor = self._removals.pop(oldest)
            del self._changed[oldest]
        return True

    def replace(self, values: Mapping[Key, Value]) -> None:
        """Make the map hold exactly `values`, by the fewest changes."""
        for key in [key for key in self._values if key not in values]:
            self.remove(key)
        for key, value in values.items():
            self.set(key, value)

    def knows(self, revision: int) -> bool:
        """Whether `since` can answer for that revision."""
        return self._floor <= revision <= self.revision

    def since(self, revision: int) -> Iterator[tuple[Key, Value | None]]:
        """Keys changed after `revision`, newest first, with their value now, None for removed ones. Ask `knows` first."""
        for key in reversed(self._changed):
            if self._changed[key] <= revision:
                return
            yield key, self._values.get(key)

    def _touch(self, key: Key) -> None:
        self.revision += 1
        self._changed.pop(key, None)
        self._changed[key] = self.revision
