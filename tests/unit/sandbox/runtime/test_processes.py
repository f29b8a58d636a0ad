import signal
import sys

import pytest

from codezero.sandbox import processes
from codezero.sandbox.processes import CommandError, Process


async def test_what_a_command_prints_comes_back() -> None:
    assert await processes.run(["cat"], given="x" * 200_000) == "x" * 200_000


async def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(CommandError, match=r"failed \(3\).*because"):
        await processes.run([sys.executable, "-c", "import sys; print('because', file=sys.stderr); sys.exit(3)"])


async def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(TimeoutError):
        await processes.run(["sleep", "100"], deadline=0.05)


async def test_the_end_of_a_process_is_heard_by_all_who_wait() -> None:
    process = Process(["sleep", "100"])
    assert process.running
    process.send(signal.SIGKILL)

    assert [await process.wait(), await process.wait()] == [-signal.SIGKILL] * 2
    assert not process.running
    process.send(signal.SIGKILL)
