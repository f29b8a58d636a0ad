"""When to stop starting something again: five failures in a minute."""

from collections import deque

FAILURES = 5
WINDOW_SECONDS = 60.0


class Brake:
    """Counts failures. Times are seconds of any monotonic clock, given by the caller; `earlier` are those of a run before."""

    def __init__(self, earlier: tuple[float, ...] = ()) -> None:
        self._failures: deque[float] = deque(earlier)

    def failed(self, now: float) -> bool:
        """Note a failure; whether it was one too many."""
        self._failures.append(now)
        while self._failures and self._failures[0] <= now - WINDOW_SECONDS:
            self._failures.popleft()
        return len(self._failures) >= FAILURES

    @property
    def failures(self) -> tuple[float, ...]:
        """The failures that still count."""
        return tuple(self._failures)
