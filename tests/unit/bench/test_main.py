"""What becomes of a run: written as it comes, and shown only when it is whole."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench import __main__ as main
from bench.report import Run
from bench.results import Result

WHOLE: dict[str, Any] = {"revision": "v0-12-g0123abc", "rounds": 5, "parts": list(main.PARTS)}
FACTS = {"cores": 2, "processor": "one", "kernel": "6", "python": "3.11", "baselines": "0123", "versions": {}}


def test_a_whole_run_of_a_commit_may_be_shown() -> None:
    assert main.unfit(Run(WHOLE, (), {})) == []


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ({"revision": "0123abc-dirty"}, {}),
        ({"revision": "an unknown revision"}, {}),
        ({"rounds": 4}, {}),
        ({"parts": ["path"]}, {}),
        ({}, {"times": "no room"}),
    ],
)
def test_any_other_run_is_refused(facts: dict[str, Any], missing: dict[str, str]) -> None:
    assert main.unfit(Run({**WHOLE, **facts}, (), missing))


def test_a_failure_names_no_folder_of_the_machine() -> None:
    assert main.plain(RuntimeError(f"no {main.ROOT}/bench/lab.py\nin {Path.home()}/x")) == "no bench/lab.py in ~/x"


def test_what_was_found_before_an_interrupt_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def names(_rounds: int) -> Iterator[Result]:
        yield Result(part="names", subject="codezero", measure="one", unit="ms", rounds=(1.0,))
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "OUTPUT", tmp_path)
    monkeypatch.setattr(main.importlib, "import_module", lambda _name: SimpleNamespace(measure=names))
    monkeypatch.setattr(main.machine, "facts", lambda: {**FACTS, "revision": "0123abc"})

    with pytest.raises(KeyboardInterrupt):
        main._measure(["names", "times"], 1)

    written = Run.read(tmp_path / "results.json")
    assert [one.measure for one in written.results] == ["one"]
    assert set(written.missing) == {"names", "times"}
