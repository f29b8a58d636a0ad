"""Proofs are good once, also for a process that begins anew, and pages ask so often and no more."""

from pathlib import Path

import pytest

from codezero.cli.paired import used
from codezero.cli.paired.used import BURST, BusyError, Used
from codezero.model.problems import CodezeroError
from codezero.wire.paired import LEEWAY_SECONDS

NOW = 1_790_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def code(memory: Used, name: str, *, page: str = "page", at: int = NOW) -> str:
    try:
        memory.take(page, name, at)
    except CodezeroError as error:
        return error.problem.code
    return ""


def test_once_for_each_page(clock: Clock) -> None:
    memory = Used(clock=clock)

    assert [code(memory, "x" * 16) for _ in range(3)] == ["", "CZ-PAIR-001", "CZ-PAIR-001"]
    assert code(memory, "x" * 16, page="another") == ""
    assert code(memory, "y" * 16) == ""


@pytest.mark.parametrize("name", ["with a space and more", "a line\nand one more", "é" * 20, "\ud800" * 16, "\0" * 16])
def test_any_text_is_remembered_over_a_new_beginning(clock: Clock, name: str) -> None:
    assert code(Used(clock=clock), name) == ""
    assert code(Used(clock=clock), name) == "CZ-PAIR-001"


@pytest.mark.parametrize("at", [NOW - LEEWAY_SECONDS, NOW, NOW + LEEWAY_SECONDS])
def test_it_is_remembered_for_as_long_as_the_proof_is_good(clock: Clock, at: int) -> None:
    assert code(Used(clock=clock), "x" * 16, at=at) == ""

    clock.now = at + LEEWAY_SECONDS
    assert code(Used(clock=clock), "x" * 16, at=at) == "CZ-PAIR-001"


def test_a_line_that_was_cut_spoils_no_other(clock: Clock, run_folder: Path) -> None:
    code(Used(clock=clock), "x" * 16)
    file = run_folder / "config" / "codezero" / used.FILE
    with file.open("ab") as opened:
        opened.write(b"\xff\xfe 17900")

    memory = Used(clock=clock)

    assert code(memory, "x" * 16) == "CZ-PAIR-001"
    assert code(memory, "y" * 16) == ""
    assert file.stat().st_mode & 0o777 == 0o600


def test_memory_and_file_are_bounded(clock: Clock, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(used, "MOST", 50)
    monkeypatch.setattr(used, "_MOST_LINES", 100)
    memory = Used(clock=clock)

    answers = [code(memory, f"{number:016}") for number in range(60)]
    assert answers == [""] * 50 + ["CZ-HUB-008"] * 10
    assert code(memory, "x" * 16, page="another") == "", "another page is not held up by it"
    clock.now += 2 * LEEWAY_SECONDS + 5
    for number in range(1000):
        clock.now += 10
        assert code(memory, f"later {number:016}", at=int(clock.now)) == ""
    file = run_folder / "config" / "codezero" / used.FILE
    assert len(file.read_bytes().splitlines()) <= 100


def test_a_proof_is_remembered_also_where_the_file_is_written_anew_for_it(
    clock: Clock, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(used, "_MOST_LINES", 10)
    memory = Used(clock=clock)
    names = [f"{number:016}" for number in range(100)]

    assert {code(memory, name) for name in names} == {""}
    assert {code(memory, name) for name in names} == {"CZ-PAIR-001"}
    assert {code(Used(clock=clock), name) for name in names} == {"CZ-PAIR-001"}


def test_a_file_that_cannot_be_written_anew_is_tried_again(
    clock: Clock, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(used, "_MOST_LINES", 10)
    memory = Used(clock=clock)
    assert [code(memory, f"{number:016}") for number in range(10)] == [""] * 10
    file = run_folder / "config" / "codezero" / used.FILE
    file.unlink()
    file.mkdir()

    assert "" not in {code(memory, "x" * 16), code(memory, "y" * 16)}
    file.rmdir()

    assert [code(memory, "x" * 16), code(memory, "x" * 16)] == ["", "CZ-PAIR-001"]
    memory.close()


def test_a_page_asks_so_often_and_no_more(clock: Clock) -> None:
    memory = Used(clock=clock)

    for _ in range(BURST):
        memory.count("page")
    with pytest.raises(BusyError) as busy:
        memory.count("page")
    memory.count("another")
    clock.now += busy.value.seconds
    memory.count("page")
    clock.now -= 3600
    with pytest.raises(BusyError):
        for _ in range(BURST):
            memory.count("page")
