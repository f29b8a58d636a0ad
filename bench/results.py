"""What every part of the bench yields."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure of one subject, a value for each round.

    `part` names the module that measured it, `subject` who was measured ("codezero, consume", "nginx stream, mTLS"), `measure` what ("bulk up, 1
    stream"), `unit` in what the values are.
    """

    part: str
    subject: str
    measure: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.rounds)
