"""Starts, stops and elevates the agent: which Supervisor to run, as whom, and how to wait for it.

The installed one (`/usr/local/bin/codezero/czsupervisor`) is preferred: it runs root-owned code. Without it the Supervisor runs from the
environment czctl runs from, by sudo or polkit where czctl is not root.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from codezero.cli.console import say
from codezero.cli.context import RUN_FOLDER_VARIABLE, STATE_FOLDER_VARIABLE, Places
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.local_client import LocalClient

INSTALLED_SUPERVISOR = Path("/usr/local/bin/codezero/czsupervisor")
INSTALLED_CZCTL = Path("/usr/local/bin/codezero/czctl")
LOG_NAME = "agent.log"
START_SECONDS = 20.0
STOP_SECONDS = 15.0
# A person waits; to ask takes the Daemon well under a millisecond. Soon enough that nobody sees it, seldom enough not to slow down what is waited for.
_ASK_AGAIN_SECONDS = 0.01


def supervisor_command(places: Places, *, capture: str, names: str, log_level: str) -> list[str]:
    """The command line of the Supervisor for the user who runs czctl."""
    program = (
        [str(INSTALLED_SUPERVISOR)] if INSTALLED_SUPERVISOR.exists() else [*_python(), "codezero.local.supervisor.main"]
    )
    return [
        *program,
        *("--run-folder", str(places.run), "--state-folder", str(places.state)),
        *("--owner", str(_owner()), "--capture", capture, "--names", names),
        *("--log-level", log_level, "--log-file", str(places.state / LOG_NAME)),
    ]


def cleanup_command(places: Places) -> list[str]:
    """The command line that runs `czctl cleanup` again, as root."""
    program = [str(INSTALLED_CZCTL)] if INSTALLED_CZCTL.exists() else [*_python(), "codezero.cli"]
    variables = (f"{RUN_FOLDER_VARIABLE}={places.run}", f"{STATE_FOLDER_VARIABLE}={places.state}")
    return ["/usr/bin/env", *variables, *program, "cleanup"]


def elevated(command: Sequence[str]) -> list[str]:
    """`command` as root: as it is for root, else by sudo (which may ask for a password now) or polkit."""
    if os.geteuid() == 0:
        return list(command)
    if sudo := shutil.which("sudo"):
        if subprocess.run([sudo, "--validate"], check=False).returncode != 0:
            raise _needs_root("sudo did not let you")
        return [sudo, "--non-interactive", "--", *command]
    if pkexec := shutil.which("pkexec"):
        return [pkexec, *command]
    raise _needs_root("there is neither sudo nor pkexec")


def launch(places: Places, command: Sequence[str], client: LocalClient) -> None:
    """Run the Supervisor detached and wait until the Daemon answers."""
    process = subprocess.Popen(
        elevated(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def is_up() -> bool:
        code = process.poll()
        # Another `czctl start` may have been first; then it is that one's agent that we wait for.
        if code not in (None, 0, problems.ALREADY_RUNNING.exit_code):
            raise CodezeroError(
                problems.NOT_RUNNING,
                f"the Supervisor ended with {code} at its start{_last_words(places)}",
                fix=f"look into {places.state / LOG_NAME}, or run the Daemon by hand: czdaemon --foreground --log-level debug",
            )
        return answers(client)

    wait_until(
        is_up, seconds=START_SECONDS, what="the Daemon did not start", fix=f"look into {places.state / LOG_NAME}"
    )


def answers(client: LocalClient) -> bool:
    """Whether the Daemon answers; errors other than its absence are raised."""
    try:
        client.status()
    except CodezeroError as error:
        if error.problem in (problems.NOT_RUNNING, problems.TIMED_OUT):
            return False
        raise
    return True


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str, fix: str) -> None:
    """Poll `condition`; raises `CodezeroError` when it does not come true in time."""
    deadline = time.monotonic() + seconds
    told = False
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            raise CodezeroError(problems.TIMED_OUT, f"{what} within {seconds:.0f} s", fix=fix)
        if not told and left < seconds - 2:
            say("waiting ...")
            told = True
        time.sleep(_ASK_AGAIN_SECONDS)


def _python() -> list[str]:
    return [sys.executable, "-m"]


def _owner() -> int:
    """The user behind sudo, so that the socket belongs to the person."""
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():
        return int(os.environ["SUDO_UID"])
    return os.getuid()


def _needs_root(reason: str) -> CodezeroError:
    return CodezeroError(
        problems.NEEDS_ROOT,
        f"this needs root, and {reason}",
        fix="run it as root, or install once: sudo czctl daemon install",
    )


def _last_words(places: Places) -> str:
    try:
        lines = (places.state / LOG_NAME).read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f": {lines[-1][:300]}" if lines else ""
