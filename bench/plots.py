"""The byte path as pictures: one bar for each candidate, and a dot for each round. Readable on light and dark ground."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from bench import candidates
from bench.results import Result

mpl.use("svg")

from matplotlib import pyplot as plt

_OURS, _LIMIT, _OTHER, _TEXT = "#2f81f7", "#57ab5a", "#8b949e", "#848d97"
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "codezero",  # the same run gives the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
}
# By file: whether the axis is logarithmic, and for each panel its title and the measures shown in it, the first as the solid bar.
_PICTURES: dict[str, tuple[bool, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "bulk": (
        False,
        (
            ("1 stream, MB/s: up and, paler, down", ("bulk up, 1 stream", "bulk down, 1 stream")),
            ("16 streams, MB/s: up and, paler, down", ("bulk up, 16 streams", "bulk down, 16 streams")),
        ),
    ),
    "latency": (
        True,
        (
            ("100 bytes and back, ms: p50 and, paler, p99", ("ping p50", "ping p99")),
            ("connect, ask, answer, ms: p50 and p99", ("connect and request p50", "connect and request p99")),
        ),
    ),
    "requests": (
        False,
        (
            ("HTTP/1.1 requests/s, 64 connections", ("requests/s",)),
            ("new connections/s, 16 clients", ("connections/s",)),
        ),
    ),
}


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """The pictures as SVG files in a folder; none where the byte path was not measured."""
    found = {(one.subject, one.measure): one for one in results if one.part == "path"}
    subjects = list(dict.fromkeys(subject for subject, _ in found))
    files: list[Path] = []
    for name, (logarithmic, panels) in _PICTURES.items():
        if not any((subject, panels[0][1][0]) in found for subject in subjects):
            continue
        with mpl.rc_context(_STYLE):
            figure, axes = plt.subplots(1, len(panels), figsize=(11, 0.45 * len(subjects) + 1.2), layout="constrained")
            for axis, (title, measures) in zip(axes, panels, strict=True):
                named = [one for one in subjects if (one, measures[0]) in found]
                _panel(axis, title, [[found[one, measure] for measure in measures] for one in named], logarithmic)
            file = folder / f"{name}.svg"
            figure.savefig(file, transparent=True, metadata={"Date": None})
            plt.close(figure)
        files.append(file)
    return files


def _panel(axis: Any, title: str, rows: Sequence[Sequence[Result]], logarithmic: bool) -> None:  # noqa: ANN401 - has no types
    height = 0.8 / len(rows[0])
    for place, several in enumerate(rows):
        for number, one in enumerate(several):
            at = place + (number - (len(several) - 1) / 2) * height
            axis.barh(at, one.median, height * 0.9, color=_color(one.subject), alpha=1.0 if number == 0 else 0.5)
            axis.plot(one.rounds, [at] * len(one.rounds), ".", color=_TEXT, markersize=3)
            axis.annotate(f" {_short(one.median)}", (one.median, at), va="center", fontsize=7)
    axis.set_yticks(range(len(rows)), [several[0].subject for several in rows])
    axis.invert_yaxis()
    axis.set_title(title, fontsize=10, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)
    axis.margins(x=0.12)
    if logarithmic:
        axis.set_xscale("log")


def _color(subject: str) -> str:
    if subject.startswith("codezero"):
        return _OURS
    return _LIMIT if subject in {candidates.DIRECT, candidates.DIRECT_TLS} else _OTHER


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
