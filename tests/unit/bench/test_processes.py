"""What is counted of processes, and that nobody is left out in silence."""

import os
import signal
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
    assert processes.megabytes_alone([os.getpid()]) == pytest.approx(own, rel=0.1)


def test_what_is_shared_within_an_end_counts_once() -> None:
    """A child with 50 MB of its parent's, of which it changes nothing."""
    script = "import os, time; held = b'x' * 50_000_000; os.fork(); print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        both = {int(parent.stdout.readline()) for _ in range(2)}
        try:
            assert processes.megabytes(both) > 100
            assert 50 < processes.megabytes_alone(both) < 90
        finally:
            for one in both:
                os.kill(one, signal.SIGKILL)


@pytest.mark.parametrize("count", [processes.megabytes, processes.megabytes_alone, processes.seconds])
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
