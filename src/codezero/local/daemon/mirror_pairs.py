"""Pairs the two answers to a mirrored request, which come in either order and sometimes alone. Pure; time reaches it as a value."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from codezero.local.daemon.mirror_compare import Answer

MAX_WAITING = 500
MAX_BYTES = 16 << 20
WAIT_SECONDS = 60.0

Key = tuple[str, int, str]
"""Variant, port of its service, and id of the copy: what one Router says tells nothing about the requests of another."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Copy:
    """What the local process was asked, and its answer. `at` is UNIX seconds of the copy's arrival."""

    at: float
    method: str
    path: str
    answer: Answer


class Pairs:
    """Sides that wait for their counterparts: no longer, no more and no larger than the bounds above, the oldest are forgotten first."""

    def __init__(self) -> None:
        self._copies: OrderedDict[Key, Copy] = OrderedDict()
        self._origins: OrderedDict[Key, Answer] = OrderedDict()
        self._since: OrderedDict[Key, float] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._since)

    @property
    def size(self) -> int:
        """About how many bytes wait."""
        return self._bytes

    def copied(self, key: Key, copy: Copy, *, now: float) -> tuple[Answer, Copy] | None:
        """The local process has answered; the pair when the origin's answer is known."""
        origin = self._take(key, self._origins)
        if origin is not None:
            return origin, copy
        self._keep(key, self._copies, copy, copy.answer.size, now)
        return None

    def answered(self, key: Key, origin: Answer, *, now: float) -> tuple[Answer, Copy] | None:
        """The origin has answered; the pair when the local process has, too."""
        copy = self._take(key, self._copies)
        if copy is not None:
            return origin, copy
        self._keep(key, self._origins, origin, origin.size, now)
        return None

    def forget_old(self, *, now: float) -> None:
        """Forget what has waited too long."""
        while self._since and now - next(iter(self._since.values())) >= WAIT_SECONDS:
            self._forget(next(iter(self._since)))

    def clear(self) -> None:
        """Forget everything."""
        for waiting in (self._copies, self._origins, self._since):
            waiting.clear()
        self._bytes = 0

    def _take(self, key: Key, among: OrderedDict[Key, S]) -> S | None:
        found = among.get(key)
        if found is not None:
            self._forget(key)
        return found

    def _keep(self, key: Key, among: OrderedDict[Key, S], side: S, size: int, now: float) -> None:
        self.forget_old(now=now)
        # Told twice: the first one counts.
        if key in self._since:
            return
        among[key] = side
        self._since[key] = now
        self._bytes += size
        while len(self._since) > MAX_WAITING or self._bytes > MAX_BYTES:
            self._forget(next(iter(self._since)))

    def _forget(self, key: Key) -> None:
        del self._since[key]
        copy, origin = self._copies.pop(key, None), self._origins.pop(key, None)
        self._bytes -= (copy.answer.size if copy else 0) + (origin.size if origin else 0)
