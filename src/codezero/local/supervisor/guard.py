"""Watches over the Supervisor where no service manager does: when it dies without having ended itself, the guard becomes the next Supervisor.

Imports next to nothing: it only waits. The Supervisor ends its guard before it ends itself, and starts a new one when the guard dies.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Sequence

ARGUMENT = "--watch-over"
REVIVED = "--revived"


def main(arguments: Sequence[str]) -> int:
    """Wait for the end of the process behind the pidfd `arguments[0]`, then become the rest of the arguments."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pidfd, command = int(arguments[0]), list(arguments[1:])
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    print("codezero: the Supervisor died; it is started again", file=sys.stderr)
    os.execv(command[0], with_revival(command, time.clock_gettime(time.CLOCK_BOOTTIME)))  # noqa: S606 - the command that started us


def with_revival(command: list[str], now: float) -> list[str]:
    """The command with this revival added to those it lists, so that a Supervisor that always dies is found out."""
    if REVIVED in command:
        at = command.index(REVIVED) + 1
        return [*command[:at], f"{command[at]},{now:.1f}", *command[at + 1 :]]
    return [*command, REVIVED, f"{now:.1f}"]
