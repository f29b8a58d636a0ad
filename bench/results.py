"""What every part of the bench yields."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


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


def of_part(part: str, found: Mapping[tuple[str, str, str], Sequence[float]]) -> Iterator[Result]:
    """What a part has gathered by subject, measure and unit."""
    for (subject, what, unit), values in found.items():
        yield Result(part=part, subject=subject, measure=what, unit=unit, rounds=tuple(values))


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """The items in the order of a round: each round begins with the next one, so that nobody always has the same turn."""
    first = number % len(items) if items else 0
    return [*items[first:], *items[:first]]


def quantile(values: Sequence[float], share: int) -> float:
    """The value that `share` percent stay below."""
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]
