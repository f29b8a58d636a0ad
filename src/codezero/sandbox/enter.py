"""Runs a command inside a place of the sandbox: `python -I -m codezero.sandbox.enter --keeper PID --place laptop -- COMMAND...`.

The command lives in the sandbox's process namespace, so it ends with the sandbox; it ends with this program too. Signals are passed on, and
the command's exit status is ours.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from codezero.sandbox import layout, namespaces

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
_EVERYTHING = (
    namespaces.NEW_MOUNTS
    | namespaces.NEW_NETWORK
    | namespaces.NEW_PROCESSES
    | namespaces.NEW_IPC
    | namespaces.NEW_HOST_NAME
)


def main() -> None:
    """Enter, run, pass on."""
    parser = argparse.ArgumentParser(prog="codezero.sandbox.enter", allow_abbrev=False)
    parser.add_argument("--keeper", type=int, required=True)
    parser.add_argument("--place", required=True, choices=layout.PLACES)
    parser.add_argument("--folder", default="/")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    kinds = _EVERYTHING
    if not namespaces.same("self", arguments.keeper, "user"):
        kinds |= namespaces.NEW_USER
    keeper = os.pidfd_open(arguments.keeper)
    namespaces.enter(keeper, kinds)
    os.close(keeper)
    # Only children are in the process namespace.
    child = os.fork()
    if child == 0:
        _run(arguments.place, arguments.folder, arguments.command)
    sys.exit(_wait(child))


_LAPTOP_FILES = (layout.LAPTOP_HOST_NAME, layout.LAPTOP_MOUNTS)


def _run(place: str, folder: str, command: list[str]) -> None:
    try:
        namespaces.die_with_parent()
        namespaces.enter_file(layout.network_file(place), namespaces.NEW_NETWORK)
        if place == layout.LAPTOP:
            host_name, mounts = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in _LAPTOP_FILES)
            namespaces.enter(host_name, namespaces.NEW_HOST_NAME)
            namespaces.enter(mounts, namespaces.NEW_MOUNTS)
        try:
            os.chdir(folder)
        except OSError:
            os.chdir("/")
        home = Path(os.environ.get("HOME", "/"))
        if home.is_relative_to("/var/home"):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - exactly what was asked for
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


def _wait(child: int) -> int:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    # A terminal interrupts the whole foreground group, so the command has that one already.
    signal.signal(signal.SIGINT, signal.SIG_IGN if _in_foreground() else pass_on)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            os.kill(os.getpid(), signal.SIGSTOP)
            os.kill(child, signal.SIGCONT)
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
