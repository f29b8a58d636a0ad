"""The byte path as pictures: a mark for each candidate, and a small one for each round. Readable on light and dark ground."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from bench import candidates
from bench.results import Result

mpl.use("svg")

from matplotlib import pyplot as plt

_OURS, _DIRECT, _OTHER, _TEXT = "#2f81f7", "#57ab5a", "#8b949e", "#848d97"
_STYLE: dict[Any, Any] = {
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
# By file: what the darker and the paler mark are, whether the axis is logarithmic, and for each panel its title and the measures shown in it.
_PICTURES: dict[str, tuple[str, bool, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "bulk": (
        "up, paler down",
        False,
        (
            ("1 stream, MB/s", ("bulk up, 1 stream", "bulk down, 1 stream")),
            ("16 streams, MB/s", ("bulk up, 16 streams", "bulk down, 16 streams")),
        ),
    ),
    "latency": (
        "p50, paler p99",
        True,
        (
            ("100 bytes there and back, ms", ("ping p50", "ping p99")),
            ("connect and request, ms", ("connect and request p50", "connect and request p99")),
        ),
    ),
    "requests": (
        "",
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
    files: list[Path] = []
    for name, (marks, logarithmic, panels) in _PICTURES.items():
        first = panels[0][1][0]
        subjects = list(dict.fromkeys(subject for subject, measure in found if measure == first))
        if not subjects:
            continue
        with mpl.rc_context(_STYLE):
            size = (11, 0.4 * len(subjects) + 1.2)
            figure, axes = plt.subplots(1, len(panels), sharey=True, figsize=size, layout="constrained")
            for axis, (title, measures) in zip(axes, panels, strict=True):
                rows = [[found.get((subject, measure)) for measure in measures] for subject in subjects]
                _panel(axis, f"{title}: {marks}" if marks else title, rows, logarithmic)
            axes[0].set_yticks(range(len(subjects)), subjects)
            axes[0].invert_yaxis()
            file = folder / f"{name}.svg"
            figure.savefig(file, transparent=True, metadata={"Date": None})
            plt.close(figure)
        files.append(file)
    return files


def _panel(
    axis: Any,  # noqa: ANN401 - has no types
    title: str,
    rows: Sequence[Sequence[Result | None]],
    logarithmic: bool,
) -> None:
    height = 0.8 / len(rows[0])
    for place, several in enumerate(rows):
        for number, one in enumerate(several):
            if one is None:
                continue
            at = place + (number - (len(several) - 1) / 2) * height
            color, strength = _color(one.subject), 1.0 if number == 0 else 0.5
            if logarithmic:  # where a bar would have no beginning
                axis.plot([one.median], [at], "o", color=color, alpha=strength)
            else:
                axis.barh(at, one.median, height * 0.9, color=color, alpha=strength)
            axis.plot(one.rounds, [at] * len(one.rounds), "|", color=_TEXT, markersize=5)
            axis.annotate(
                _short(one.median), (max(one.rounds), at), (6, 0), textcoords="offset points", va="center", fontsize=8
            )
    axis.set_title(title, fontsize=10, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)
    if logarithmic:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    axis.margins(x=0.12)


def _color(subject: str) -> str:
    if subject.startswith("codezero"):
        return _OURS
    return _DIRECT if subject in {candidates.DIRECT, candidates.DIRECT_TLS} else _OTHER


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
