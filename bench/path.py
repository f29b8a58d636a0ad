"""The byte path: what a stream through us costs beside the same stream through others, in rounds that go through all of them in turn."""

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from bench import candidates, lab, processes
from bench.candidates import Candidate
from bench.lab import Lab
from bench.results import Result, of_part, rotated

from codezero.sandbox import layout

PART = Path(__file__).stem
BULK_SECONDS = 0.4
LATENCY_SECONDS = 0.3
CONNECTIONS_SECONDS = 0.4
HTTP_SECONDS = 2
IDLE_STREAMS = 1000
READERS = 64
STALLED_SECONDS = 0.8
FRESH, AFTER_LOAD = "freshly started", "after a round's load"
WARM_UP_SECONDS = 0.2
LONG_LINK = "codezero, consume, through a delay proxy"
LONG_MILLISECONDS = 20
LONG_SECONDS = 2.0

Figure = tuple[str, str, float]
"""What was measured, its unit, and a value."""


class IncompleteError(Exception):
    """Some candidates could not be measured; says which, and why."""


def measure(rounds: int) -> Iterator[Result]:
    """In a lab of its own; raises `IncompleteError` behind the results where a candidate is missing among them."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    missing: dict[str, str] = {}
    with lab.lab() as place, contextlib.ExitStack() as stack:
        running: dict[str, Candidate] = {}
        for name, start in candidates.ALL.items():
            with _named(name, missing):
                candidate = stack.enter_context(start(place))
                candidate.load.until_answered()
                running[name] = candidate
        for name, candidate in running.items():
            with _named(name, missing):
                if candidate.holds_streams:
                    for what, unit, value in _memory(candidate, FRESH):
                        found[name, what, unit].append(value)
        for name, candidate in running.items():
            if name not in missing:
                with _named(name, missing):
                    for direction in ("up", "down"):
                        candidate.load.bulk(direction, 1, WARM_UP_SECONDS)
        with _named(LONG_LINK, missing):
            set_delay, far = _far_laptop(place, stack)
        for number in range(rounds):
            for name, candidate in rotated(list(running.items()), number):
                if name not in missing:
                    _tell(number, name)
                    with _named(name, missing):
                        for what, unit, value in _figures(candidate):
                            found[name, what, unit].append(value)
            if LONG_LINK not in missing:
                _tell(number, LONG_LINK)
                with _named(LONG_LINK, missing):
                    for milliseconds in (0, LONG_MILLISECONDS):
                        set_delay(milliseconds)
                        time.sleep(1.5)  # until the tunnel has measured the round trip anew
                        for what, unit, value in _long_figures(far, 2 * milliseconds):
                            found[LONG_LINK, what, unit].append(value)
            if candidates.CONSUME not in missing:
                with _named(candidates.CONSUME, missing):
                    alone, beside = running[candidates.CONSUME].load.stalled(READERS, STALLED_SECONDS)
                    found[candidates.CONSUME, "bulk down, 1 stream, alone", "MB/s"].append(alone)
                    found[candidates.CONSUME, f"bulk down, 1 stream, beside {READERS} stalled", "MB/s"].append(beside)
    yield from of_part(PART, found)
    if missing:
        raise IncompleteError("; ".join(f"{name}: {why}" for name, why in missing.items()))


def _figures(candidate: Candidate) -> Iterator[Figure]:
    """All that is measured of one candidate in one round."""
    load = candidate.load
    ends = candidate.laptop_end() | candidate.cluster_end()
    for streams in (1,) if candidate.slow else (1, 16):
        for direction in ("up", "down"):
            before = processes.seconds(ends)
            moved = load.bulk(direction, streams, BULK_SECONDS)
            yield f"bulk {direction}, {_count(streams)}", "MB/s", moved.rate
            if ends and streams == 1:
                yield f"CPU per GB {direction}", "s", (processes.seconds(ends) - before) / moved.gigabytes
    for what, latency in (
        ("ping", load.ping(LATENCY_SECONDS)),
        ("connect and request", load.connect(LATENCY_SECONDS)),
    ):
        yield f"{what} p50", "ms", latency.p50
        yield f"{what} p99", "ms", latency.p99
    yield "connections/s", "1/s", load.connections(CONNECTIONS_SECONDS)
    if candidate.http is not None:
        before = processes.seconds(ends)
        rate = load.requests(candidate.http, HTTP_SECONDS)
        yield "requests/s", "1/s", rate
        if ends:
            yield "CPU per request", "us", (processes.seconds(ends) - before) / (rate * HTTP_SECONDS) * 1e6
    if candidate.holds_streams:
        yield from _memory(candidate, AFTER_LOAD)
        with load.idle(IDLE_STREAMS):
            yield from _memory(candidate, f"{IDLE_STREAMS:,} idle streams")


def _memory(candidate: Candidate, when: str) -> Iterator[Figure]:
    for name, end in (("laptop's end", candidate.laptop_end), ("cluster's end", candidate.cluster_end)):
        yield f"memory of the {name}, {when}", "MB", processes.megabytes_alone(end())
    if candidate.daemon is not None:
        yield f"Daemon, resident, {when}", "MB", processes.megabytes(candidate.daemon())


def _long_figures(candidate: Candidate, round_trip: int) -> Iterator[Figure]:
    for direction in ("up", "down"):
        moved = candidate.load.bulk(direction, 1, LONG_SECONDS)
        yield f"bulk {direction}, 1 stream, {round_trip} ms", "MB/s", moved.rate
    latency = candidate.load.connect(LATENCY_SECONDS)
    yield f"connect and request p50, {round_trip} ms", "ms", latency.p50


def _far_laptop(place: Lab, stack: contextlib.ExitStack) -> tuple[Callable[[float], None], Candidate]:
    """The second laptop, whose tunnel is as long as the function says."""
    set_delay = stack.enter_context(place.long_link())
    address = place.consumed(layout.LAPTOP2)
    far = Candidate(place.load(layout.LAPTOP2, f"{address}:7000"), None, layout.LAPTOP2)
    far.load.until_answered()
    return set_delay, far


def _count(streams: int) -> str:
    return "1 stream" if streams == 1 else f"{streams} streams"


@contextlib.contextmanager
def _named(name: str, missing: dict[str, str]) -> Generator[None]:
    """A failure in the block is `name`'s, told at once, and the others go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of whatever kind
        missing[name] = " ".join(str(error).split()) or type(error).__name__
        print(f"NOT MEASURED: {name}: {missing[name]}", file=sys.stderr, flush=True)


def _tell(number: int, name: str) -> None:
    print(f"{PART}, round {number + 1}: {name}", file=sys.stderr, flush=True)
