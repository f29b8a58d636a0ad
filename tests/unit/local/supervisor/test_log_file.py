"""The log never grows without end and never ends the process (R38)."""

import io
from pathlib import Path

from codezero.local.supervisor.log_file import Forgiving, LogFile


def test_a_log_keeps_the_newest_lines_within_twice_its_size(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "agent.log", max_size=1000)
    for number in range(500):
        log.write(f"line {number}\n")
    kept = (tmp_path / "agent.log").read_text()
    assert kept.endswith("line 499\n")
    assert {path.name for path in tmp_path.iterdir()} == {"agent.log", "agent.log.1"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    assert (tmp_path / "agent.log").stat().st_mode & 0o777 == 0o600


def test_a_restart_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for line in ("one\n", "two\n"):
        LogFile(tmp_path / "agent.log").write(line)
    assert (tmp_path / "agent.log").read_text() == "one\ntwo\n"


def test_a_line_that_cannot_be_written_is_lost_and_the_next_one_tried(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "missing" / "agent.log")
    assert log.write("lost\n") == 5
    (tmp_path / "missing").mkdir()
    log.write("kept\n")
    assert (tmp_path / "missing" / "agent.log").read_text() == "kept\n"


def test_a_full_disk_and_a_closed_terminal_are_forgiven() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        stream = Forgiving(io.TextIOWrapper(full, write_through=True))
        assert stream.write("line\n") == 5
        stream.flush()
    closed = io.StringIO()
    closed.close()
    assert Forgiving(closed).write("late") == 4
    Forgiving(closed).flush()
