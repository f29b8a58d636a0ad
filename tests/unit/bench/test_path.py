"""Which figures the byte path yields: those that the goals ask for."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from bench import candidates, goals, path
from bench.candidates import Candidate
from bench.load import Latency, Load, Moved


class InstantLoad:
    """A load that measures at once."""

    def requests(self, _address: str, _seconds: int) -> float:
        return 20000.0

    def bulk(self, _direction: str, streams: int, _seconds: float) -> Moved:
        return Moved(rate=100.0 * streams, gigabytes=2.0)

    def ping(self, _seconds: float) -> Latency:
        return Latency(p50=1.0, p99=2.0)

    def connect(self, _seconds: float) -> Latency:
        return Latency(p50=3.0, p99=4.0)

    def connections(self, _seconds: float) -> float:
        return 5000.0

    @contextmanager
    def idle(self, _streams: int) -> Generator[None]:
        yield


def test_the_figures_that_goals_ask_for_are_measured() -> None:
    """A goal whose figure had another name would only be seen after minutes of measuring."""
    load = cast("Load", cast("Any", InstantLoad()))
    ours = lambda: {os.getpid()}  # noqa: E731 - so short
    candidate = Candidate(load, "127.0.0.1:1", "laptop", ours, ours, ours, holds_streams=True)

    measured = {what for what, _, _ in path._figures(candidate)}
    far = {what for trip in (0, 2 * path.LONG_MILLISECONDS) for what, _, _ in path._long_figures(candidate, trip)}

    keys = [key for goal in goals.ALL for key in (goal.of, goal.against) if key is not None and key.part == "path"]
    asked = {key.measure for key in keys if key.subject != path.LONG_LINK and "alone" not in key.measure}
    assert {one for one in asked if "stalled" not in one} <= measured
    assert {key.measure for key in keys if key.subject == path.LONG_LINK} <= far
    assert {key.subject for key in keys} <= {*candidates.ALL, path.LONG_LINK}
