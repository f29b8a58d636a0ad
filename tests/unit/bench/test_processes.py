"""What is counted of processes, and that nobody is left out in silence."""

import os
import subprocess
import sys

import pytest
from bench import processes


def ended() -> int:
    """The id of a process that has ended and been waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as running:
        running.wait()
    return running.pid


def test_memory_is_that_of_all_together() -> None:
    own = processes.megabytes([os.getpid()])

    assert own > 1
    assert 0 < processes.megabytes_shared([os.getpid()]) <= own * 1.05


@pytest.mark.parametrize("count", [processes.megabytes, processes.megabytes_shared, processes.seconds])
def test_who_has_ended_is_not_counted_as_nothing(count: object) -> None:
    assert callable(count)
    with pytest.raises(processes.GoneError):
        count([os.getpid(), ended()])


def test_nobody_has_no_memory() -> None:
    with pytest.raises(processes.GoneError):
        processes.megabytes([])


def test_processes_are_found_by_what_they_run() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "a-word"], stdin=subprocess.PIPE) as running:
        assert processes.named(os.getpid(), "a-word") == {running.pid}
