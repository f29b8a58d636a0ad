"""What the byte path and all around it should reach: floors and goals as data, and what a run says about each.

A ratio is computed within the run, round by round, and the median of those is what counts: what disturbs a round disturbs both sides of it.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench import router
from bench.candidates import CONSUME, ENVOY, NGINX, SSHUTTLE
from bench.path import IDLE_STREAMS, LONG_LINK, LONG_MILLISECONDS, READERS
from bench.results import Result

DIRECT, ROUTER, PLAIN = "direct", "served", "envoy"  # the Services of `bench.router`


@dataclass(frozen=True, slots=True)
class Key:
    """A figure. A subject of None stands for the one there is."""

    part: str
    subject: str | None
    measure: str

    def find(self, results: Sequence[Result]) -> Result | None:
        """It, where it was measured."""
        return next((one for one in results if self._is(one)), None)

    def _is(self, result: Result) -> bool:
        same = (result.part, result.measure) == (self.part, self.measure)
        return same and self.subject in {None, result.subject}


class Comparison(StrEnum):
    """What is made of a figure: the figure itself, how many times that of another it is, or how much is added to that of another."""

    ALONE = "alone"
    RATIO = "ratio"
    ADDED = "added"


class Verdict(StrEnum):
    """How far it reaches."""

    GOAL = "goal"
    FLOOR = "floor"
    MISSED = "missed"
    NONE = "nothing asked"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A row of the table of goals. Where the floor is below the goal, more is better; a row beside the goals has neither."""

    what: str
    of: Key
    against: Key | None = None
    comparison: Comparison
    unit: str = ""
    floor: float | None = None
    goal: float | None = None

    def rounds(self, results: Sequence[Result]) -> tuple[float, ...]:
        """The value in each round; none where it was not measured."""
        ours = self.of.find(results)
        if ours is None:
            return ()
        if self.against is None:
            return ours.rounds
        other = self.against.find(results)
        if other is None:
            return ()
        pairs = zip(ours.rounds, other.rounds, strict=False)
        if self.comparison is Comparison.ADDED:
            return tuple(mine - theirs for mine, theirs in pairs)
        return tuple(mine / theirs for mine, theirs in pairs)

    def judge(self, value: float) -> Verdict:
        """Goal, floor, or neither."""
        if self.goal is None or self.floor is None:
            return Verdict.NONE
        sign = 1 if self.goal > self.floor else -1
        if sign * value >= sign * self.goal:
            return Verdict.GOAL
        return Verdict.FLOOR if sign * value >= sign * self.floor else Verdict.MISSED


@dataclass(frozen=True, slots=True)
class Row:
    """A goal, what came of it in each round, and the verdict on the median."""

    goal: Goal
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value that counts."""
        return statistics.median(self.rounds)

    @property
    def verdict(self) -> Verdict:
        """What the median reaches."""
        return self.goal.judge(self.median) if self.rounds else Verdict.UNKNOWN


def rows(results: Sequence[Result]) -> list[Row]:
    """All goals, and what belongs beside them where it was measured."""
    asked = [Row(goal, goal.rounds(results)) for goal in ALL]
    beside = [Row(goal, goal.rounds(results)) for goal in BESIDE]
    return [*asked, *(row for row in beside if row.rounds)]


def _path(subject: str, measure: str) -> Key:
    return Key("path", subject, measure)


def _router(service: str, measure: str) -> Key:
    return Key("router", router.SUBJECTS[service], measure)


def _bulk() -> Iterator[Goal]:
    for streams, floor, goal in (("1 stream", 0.7, 1.0), ("16 streams", 0.5, 0.8)):
        for direction in ("up", "down"):
            measure = f"bulk {direction}, {streams}"
            yield Goal(
                what=f"{measure}, against nginx",
                of=_path(CONSUME, measure),
                against=_path(NGINX, measure),
                comparison=Comparison.RATIO,
                floor=floor,
                goal=goal,
            )


def _long_link() -> Iterator[Goal]:
    far = 2 * LONG_MILLISECONDS
    for direction in ("up", "down"):
        measure = f"bulk {direction}, 1 stream"
        yield Goal(
            what=f"{measure}, at {far} ms round trip against local, through the same proxy",
            of=_path(LONG_LINK, f"{measure}, {far} ms"),
            against=_path(LONG_LINK, f"{measure}, 0 ms"),
            comparison=Comparison.RATIO,
            floor=0.5,
            goal=0.8,
        )


def _sshuttle() -> Iterator[Goal]:
    for direction in ("up", "down"):
        measure = f"bulk {direction}, 1 stream"
        yield Goal(
            what=f"{measure}, against sshuttle",
            of=_path(CONSUME, measure),
            against=_path(SSHUTTLE, measure),
            comparison=Comparison.RATIO,
            floor=10,
            goal=15,
        )


ALL: tuple[Goal, ...] = (
    *_bulk(),
    Goal(
        what="ping p50, against nginx",
        of=_path(CONSUME, "ping p50"),
        against=_path(NGINX, "ping p50"),
        comparison=Comparison.RATIO,
        floor=1.6,
        goal=1.2,
    ),
    Goal(
        what="HTTP requests/s, against the Envoy tunnel",
        of=_path(CONSUME, "requests/s"),
        against=_path(ENVOY, "requests/s"),
        comparison=Comparison.RATIO,
        floor=0.9,
        goal=1.2,
    ),
    Goal(
        what="new connections/s, against the Envoy tunnel",
        of=_path(CONSUME, "connections/s"),
        against=_path(ENVOY, "connections/s"),
        comparison=Comparison.RATIO,
        floor=1.3,
        goal=1.6,
    ),
    Goal(
        what=f"Daemon alone, resident, with {IDLE_STREAMS:,} idle streams",
        of=_path(CONSUME, f"Daemon, resident, {IDLE_STREAMS:,} idle streams"),
        comparison=Comparison.ALONE,
        unit="MB",
        floor=100,
        goal=60,
    ),
    Goal(
        what=f"a stream beside {READERS} stalled ones, against alone",
        of=_path(CONSUME, f"bulk down, 1 stream, beside {READERS} stalled"),
        against=_path(CONSUME, "bulk down, 1 stream, alone"),
        comparison=Comparison.RATIO,
        floor=0.9,
        goal=0.98,
    ),
    *_long_link(),
    *_sshuttle(),
    Goal(
        what="served through the Router (Python application), no condition met: added p50",
        of=_router(ROUTER, "request p50"),
        against=_router(DIRECT, "request p50"),
        comparison=Comparison.ADDED,
        unit="ms",
        floor=0.6,
        goal=0.3,
    ),
    Goal(
        what="served through the Router (Python application), no condition met: requests/s, against direct",
        of=_router(ROUTER, "requests/s"),
        against=_router(DIRECT, "requests/s"),
        comparison=Comparison.RATIO,
        floor=0.4,
        goal=0.6,
    ),
    Goal(
        what="DNS answer p99",
        of=Key("names", None, "DNS answer p99"),
        comparison=Comparison.ALONE,
        unit="ms",
        floor=5,
        goal=1,
    ),
    Goal(
        what="catalog change to 2,000 clients p99",
        of=Key("catalog", None, "change to 2,000 clients p99"),
        comparison=Comparison.ALONE,
        unit="s",
        floor=1,
        goal=0.3,
    ),
    Goal(
        what="System with 10,000 services, no laptop connected, resident",
        of=Key("catalog", None, "System, 10,000 services"),
        comparison=Comparison.ALONE,
        unit="MB",
        floor=250,
        goal=120,
    ),
)


def _beside() -> Iterator[Goal]:
    far = 2 * LONG_MILLISECONDS
    for direction in ("up", "down"):
        measure = f"bulk {direction}, 1 stream"
        yield Goal(
            what=f"{measure}, at {far} ms round trip against local, without a proxy",
            of=_path(LONG_LINK, f"{measure}, {far} ms"),
            against=_path(CONSUME, measure),
            comparison=Comparison.RATIO,
        )
    static = router.BACKENDS["static"][0]
    for name, service in (
        ("served through the Router (static answer), no condition met", ROUTER),
        ("through a plain Envoy (static answer)", PLAIN),
    ):
        yield Goal(
            what=f"{name}: added p50",
            of=_router(service, f"request p50{static}"),
            against=_router(DIRECT, f"request p50{static}"),
            comparison=Comparison.ADDED,
            unit="ms",
        )
        yield Goal(
            what=f"{name}: requests/s, against direct",
            of=_router(service, f"requests/s{static}"),
            against=_router(DIRECT, f"requests/s{static}"),
            comparison=Comparison.RATIO,
        )
    yield Goal(
        what="System with 10,000 services and 2,000 tunnels, resident",
        of=Key("catalog", None, "System, 10,000 services and 2,000 tunnels"),
        comparison=Comparison.ALONE,
        unit="MB",
    )


# What nobody asked for, and the goals say too little without.
BESIDE: tuple[Goal, ...] = tuple(_beside())
