"""The guard's one decision: what to run when the Supervisor died."""

import subprocess
import sys

from codezero.local.supervisor.guard import with_revival


def test_each_revival_is_added_so_that_endless_dying_is_found_out() -> None:
    once = with_revival(["python", "-m", "supervisor", "--owner", "1"], 10.0)
    assert once == ["python", "-m", "supervisor", "--owner", "1", "--revived", "10.0"]
    assert with_revival(once, 12.34)[-2:] == ["--revived", "10.0,12.3"]


def test_the_guard_stays_small() -> None:
    """It runs for as long as the laptop does, only to wait."""
    script = "import sys, codezero.local.supervisor.guard; print(sorted({'asyncio', 'msgspec', 'structlog', 'socket'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_supervisor_stays_light() -> None:
    """Few lines as root: none of what parses the network's bytes is even loaded."""
    script = (
        "import sys, codezero.local.supervisor.command_line; "
        "print(sorted({'starlette', 'uvicorn', 'uvloop', 'dns', 'cryptography', 'yaml', 'click', 'h11'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
