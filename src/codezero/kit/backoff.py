"""Delays between attempts: decorrelated jitter, so that many clients do not return at once.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import random


class Backoff:
    """Growing, jittered delays in seconds between `first` and `most`."""

    def __init__(self, *, first: float = 0.2, most: float = 30.0, source: random.Random | None = None) -> None:
        self._first = first
        self._most = most
        self._random = source or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._last = first

    def next(self) -> float:
        """How long to wait before the next attempt."""
        self._last = min(self._most, self._random.uniform(self._first, self._last * 3))
        return self._last

    def reset(self) -> None:
        """Begin again with short delays, after something worked."""
        self._last = self._first
