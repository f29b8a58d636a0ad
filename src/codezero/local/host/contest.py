"""How often we insist when somebody else keeps rewriting a file: three times in a minute, then a long pause and a warning (R19)."""

from collections import deque

_INSISTENCE = 3
_WINDOW_SECONDS = 60.0
_PAUSE_SECONDS = 300.0


class Contest:
    """Counts reversals by others. Times are seconds of any monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._reversals: deque[float] = deque()
        self._paused_until: float | None = None

    def is_paused(self, now: float) -> bool:
        """Whether we let the others have it for the moment."""
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
            self._reversals.clear()
        return self._paused_until is not None

    def may_insist(self, now: float) -> bool:
        """Note that somebody undid our change; whether we make it again."""
        if self.is_paused(now):
            return False
        while self._reversals and self._reversals[0] <= now - _WINDOW_SECONDS:
            self._reversals.popleft()
        if len(self._reversals) >= _INSISTENCE:
            self._paused_until = now + _PAUSE_SECONDS
            return False
        self._reversals.append(now)
        return True
