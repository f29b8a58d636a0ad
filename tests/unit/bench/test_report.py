"""A run as text."""

from pathlib import Path

from bench import report
from bench.candidates import CONSUME, DIRECT, NGINX
from bench.report import Run
from bench.results import Result

FACTS = {
    "revision": "abc",
    "cores": 2,
    "processor": "one",
    "kernel": "6",
    "python": "3.11",
    "rounds": 2,
    "load_before": "0.1",
    "load_after": "1.2",
    "baselines": "0123",
    "versions": {"nginx": "1.22"},
}


def bulk(subject: str, *rounds: float) -> Result:
    return Result(part="path", subject=subject, measure="bulk up, 1 stream", unit="MB/s", rounds=rounds)


def run(*results: Result, **missing: str) -> Run:
    return Run(FACTS, results, missing)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The documents are made from the raw numbers, not from a run of their own."""
    before = run(bulk(CONSUME, 1.5, 2.5), catalog="no room")

    before.write(tmp_path / "results.json")

    assert Run.read(tmp_path / "results.json") == before


def test_losses_are_told_beside_goals() -> None:
    text = report.whole(run(bulk(CONSUME, 400, 600), bulk(NGINX, 800, 800), bulk(DIRECT, 2000, 2000)))

    assert "| bulk up, 1 stream, against nginx | 0.625 | 0.5 to 0.75 | at least 0.7 | 1 | **missed** |" in text
    assert f"| bulk up, 1 stream | 500 MB/s | {NGINX} 1.67x |" in text


def test_how_far_ahead_others_are_is_the_median_of_the_ratios_of_rounds() -> None:
    """By medians nginx would be behind here; in most rounds it is ahead."""
    text = report.whole(run(bulk(CONSUME, 100, 500, 600), bulk(NGINX, 110, 550, 200)))

    assert f"| bulk up, 1 stream | 500 MB/s | {NGINX} 1.1x |" in text


def test_fewer_values_than_rounds_are_told() -> None:
    text = report.whole(
        Run(
            {**FACTS, "rounds": 3},
            (
                Result(part="names", subject="codezero", measure="all", unit="ms", rounds=(1, 2, 3)),
                Result(part="names", subject="codezero", measure="fewer", unit="ms", rounds=(1, 2)),
                Result(part="names", subject="codezero", measure="single", unit="ms", rounds=(1,)),
            ),
            {},
        )
    )

    assert "| codezero | all | 2 ms | 1 to 3 |" in text
    assert "| codezero | fewer | 1.5 ms | 1 to 2 (2 of 3 rounds) |" in text
    assert "| codezero | single | 1 ms | once |" in text


def test_what_could_not_be_measured_is_said_first() -> None:
    text = report.whole(run(bulk(CONSUME, 400), router="Envoy is not installed"))

    assert "**Not measured:** router: Envoy is not installed." in text.split("| ---")[0]
