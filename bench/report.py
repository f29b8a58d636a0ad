"""A run as people read it: Markdown, and the raw numbers as JSON."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import candidates, goals, path
from bench.goals import Verdict
from bench.results import Result

# The figures of the byte path, as they are put side by side: a title with the columns, each a measure and its heading.
_MEMORY = f"{path.IDLE_STREAMS:,} idle streams"
_SIDE_BY_SIDE: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Bulk, MB/s, and CPU seconds of both ends per GB",
        (
            ("bulk up, 1 stream", "up, 1 stream"),
            ("bulk down, 1 stream", "down, 1 stream"),
            ("bulk up, 16 streams", "up, 16 streams"),
            ("bulk down, 16 streams", "down, 16 streams"),
            ("CPU per GB up", "CPU up"),
            ("CPU per GB down", "CPU down"),
        ),
    ),
    (
        "Latency, ms, new connections and HTTP/1.1 requests a second, and CPU microseconds of both ends per request",
        (
            ("ping p50", "ping p50"),
            ("ping p99", "p99"),
            ("connect and request p50", "connect and request p50"),
            ("connect and request p99", "p99"),
            ("connections/s", "connections/s"),
            ("requests/s", "requests/s"),
            ("CPU per request", "CPU per request"),
        ),
    ),
    (
        f"Memory, MB, as on a machine of its own: {path.FRESH} (once), {path.AFTER_LOAD}, and with {_MEMORY}",
        (
            (f"memory of the laptop's end, {path.FRESH}", "laptop's end, fresh"),
            (f"memory of the laptop's end, {path.AFTER_LOAD}", "after load"),
            (f"memory of the laptop's end, {_MEMORY}", f"{path.IDLE_STREAMS:,} streams"),
            (f"memory of the cluster's end, {path.FRESH}", "cluster's end, fresh"),
            (f"memory of the cluster's end, {path.AFTER_LOAD}", "after load"),
            (f"memory of the cluster's end, {_MEMORY}", f"{path.IDLE_STREAMS:,} streams"),
        ),
    ),
)
_SUMMARY = (
    ("bulk up, 1 stream", "bulk up, MB/s"),
    ("bulk down, 1 stream", "down"),
    ("CPU per GB up", "CPU s/GB up"),
    ("CPU per GB down", "down"),
    ("ping p50", "ping p50, ms"),
    ("connect and request p50", "connect and request p50, ms"),
    ("connections/s", "connections/s"),
    ("requests/s", "HTTP requests/s"),
)
_NOT_IN_SUMMARY = ("p99", path.FRESH, path.AFTER_LOAD)
_LESS_IS_BETTER = ("CPU", "ping", "connect and request", "memory")
_TITLES = {
    "path": "The byte path",
    "router": "Served services, for those who meet no condition",
    "names": "Names",
    "catalog": "The live picture, at 10,000 services and 2,000 laptops",
    "scale": "A thousand laptops, measured and simulated",
    "times": "Waiting times",
}
_VERDICTS = {
    Verdict.GOAL: "goal",
    Verdict.FLOOR: "floor",
    Verdict.MISSED: "**missed**",
    Verdict.NONE: "-",
    Verdict.UNKNOWN: "not measured",
}


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run found: facts about the machine, the results, and what could not be measured, with the reason."""

    facts: Mapping[str, Any]
    results: tuple[Result, ...]
    missing: Mapping[str, str]

    def write(self, file: Path) -> None:
        """As JSON."""
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @staticmethod
    def read(file: Path) -> "Run":
        """What `write` wrote."""
        content = json.loads(file.read_text())
        results = tuple(Result(**{**one, "rounds": tuple(one["rounds"])}) for one in content["results"])
        return Run(content["facts"], results, content["missing"])


def whole(run: Run) -> str:
    """Everything as Markdown."""
    parts = dict.fromkeys(one.part for one in run.results)
    count = int(run.facts["rounds"])
    pieces = [_head(run), _goals(run.results, count)]
    for part in parts:
        results = [one for one in run.results if one.part == part]
        pieces.append(f"### {_TITLES.get(part, part)}\n")
        pieces += _path(results, count) if part == "path" else [_any(results, count)]
    return "\n".join(pieces)


def summary(run: Run) -> str:
    """The goals, the heart of the byte path, and what others do better there."""
    results = [one for one in run.results if one.part == "path"]
    pieces = [_head(run), _side_by_side(results, _SUMMARY), _goals(run.results, int(run.facts["rounds"]))]
    losses = _losses([one for one in results if not one.measure.endswith(_NOT_IN_SUMMARY)])
    title = f"Where other tunnels are ahead of us, without 99th percentiles, and of memory with {_MEMORY} alone"
    return "\n".join([*pieces, f"{title}:\n\n{losses}"])


def _head(run: Run) -> str:
    facts = run.facts
    lines = [
        f"Measured at {facts['revision']} on {facts['cores']} cores ({facts['processor']}), Linux {facts['kernel']}, Python {facts['python']}: "
        f"medians of {facts['rounds']} rounds, load {facts['load_before']} before and {facts['load_after']} after. "
        f"Baselines `{facts['baselines']}`: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}.",
        *(f"**Not measured:** {name}: {why}." for name, why in run.missing.items()),
    ]
    return "\n\n".join(lines) + "\n"


def _goals(results: Sequence[Result], count: int) -> str:
    lines: list[tuple[str, ...]] = []
    for row in goals.rows(results):
        goal = row.goal
        unit = f" {goal.unit}" if goal.unit else ""
        value, spread, floor, wanted = "-", "-", "-", "-"
        if row.rounds:
            value, spread = f"{_number(row.median)}{unit}", _spread(row.rounds, count)
        if goal.floor is not None and goal.goal is not None:
            sign = "at least" if goal.goal > goal.floor else "at most"
            floor, wanted = f"{sign} {goal.floor:g}{unit}", f"{goal.goal:g}{unit}"
        lines.append((goal.what, value, spread, floor, wanted, _VERDICTS[row.verdict]))
    return _table(("", "median", "rounds", "floor", "goal", "holds"), lines)


def _path(results: Sequence[Result], count: int) -> list[str]:
    pieces: list[str] = []
    shown: set[tuple[str, str]] = set()
    for title, columns in _SIDE_BY_SIDE:
        pieces.append(f"{title}:\n\n{_side_by_side(results, columns)}")
        shown |= {(one.subject, one.measure) for one in results if one.measure in dict(columns)}
    rest = [one for one in results if (one.subject, one.measure) not in shown]
    pieces.append(f"The Daemon alone, a long link, and beside readers that do not read:\n\n{_list(rest, count)}")
    return [*pieces, f"Where others are ahead of us:\n\n{_losses(results)}"]


def _any(results: Sequence[Result], count: int) -> str:
    measures = dict.fromkeys(one.measure for one in results)
    subjects = {one.subject for one in results}
    if len(subjects) > 1 and len(measures) <= 8 and len(results) > len(measures):
        units = {one.measure: one.unit for one in results}
        return _side_by_side(results, [(name, f"{name}, {units[name]}") for name in measures])
    return _list(results, count)


def _side_by_side(results: Sequence[Result], columns: Sequence[tuple[str, str]]) -> str:
    """A row for each subject, a column for each measure."""
    cells = {(one.subject, one.measure): _number(one.median) for one in results}
    subjects = dict.fromkeys(one.subject for one in results if one.measure in dict(columns))
    lines = [(name, *(cells.get((name, measure), "-") for measure, _ in columns)) for name in subjects]
    return _table(("", *(heading for _, heading in columns)), lines)


def _list(results: Iterable[Result], count: int) -> str:
    lines = [
        (one.subject, one.measure, f"{_number(one.median)} {one.unit}", _spread(one.rounds, count)) for one in results
    ]
    return _table(("", "", "median", "rounds"), lines)


def _losses(results: Sequence[Result]) -> str:
    """Each figure in which a tunnel of others beats ours, and by how much: the median of the rounds' ratios, as with the goals."""
    direct = {candidates.DIRECT, candidates.DIRECT_TLS}
    lines: list[tuple[str, str, str]] = []
    # Memory last: its first figure is taken before anything else.
    own = sorted((one for one in results if one.subject == candidates.CONSUME), key=lambda one: one.unit == "MB")
    for ours in own:
        ahead = [
            f"{other.subject} {_number(factor)}x"
            for other in results
            if other.measure == ours.measure
            and other.subject not in direct
            and not other.subject.startswith("codezero")
            and (factor := _ahead(other, ours)) > 1
        ]
        if ahead:
            lines.append((ours.measure, f"{_number(ours.median)} {ours.unit}", ", ".join(ahead)))
    return _table(("", "codezero, consume", "ahead, by"), lines)


def _ahead(other: Result, ours: Result) -> float:
    """By how many times another is better, in the median round."""
    pairs = list(zip(other.rounds, ours.rounds, strict=False))
    if ours.measure.startswith(_LESS_IS_BETTER):
        pairs = [(mine, theirs) for theirs, mine in pairs]
    return statistics.median(better / worse for better, worse in pairs)


def _spread(rounds: Sequence[float], count: int) -> str:
    """From the lowest to the highest of a run of so many rounds; says so where there are fewer values than that."""
    if len(rounds) == 1:
        return "" if count == 1 else "once"
    fewer = f" ({len(rounds)} of {count} rounds)" if len(rounds) < count else ""
    return f"{_number(min(rounds))} to {_number(max(rounds))}{fewer}"


def _number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    numbers = ["---", *("---:" for _ in heads[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, numbers, *lines))
