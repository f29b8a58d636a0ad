"""How many requests one may make: buckets that fill with time, for each address and for each caller.

Kept in memory by each replica of the Hub: a limit is there to keep one from taking all, not to count. Sign-ins have stricter ones of their own.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# The one that was idle longest is forgotten; it would be full again anyway.
MAX_KEYS: Final = 20_000


class Buckets:
    """A bucket for each key: `burst` at once, `rate` a second in the long run."""

    def __init__(self, *, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, *, cost: float = 1.0) -> float:
        """Take `cost` out of the bucket of `key`: 0 where it was there, else the seconds until it will be. An empty one is not emptied further."""
        now = self._clock()
        level, at = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        missing = cost - level
        self._levels[key] = (level if missing > 0 else level - cost, now)
        self._levels.move_to_end(key)
        if len(self._levels) > MAX_KEYS:
            self._levels.popitem(last=False)
        return missing / self._rate if missing > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process. `refused_cost` is what a request counts for whose sign-in was refused."""

    address: Buckets = field(default_factory=lambda: Buckets(rate=200, burst=4000))
    caller: Buckets = field(default_factory=lambda: Buckets(rate=100, burst=2000))
    refused_cost: float = 20.0
