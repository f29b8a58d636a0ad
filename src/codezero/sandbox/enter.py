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
    signal.SIGINT,
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
    terminal = _terminal()
    if terminal is not None and not os.isatty(0):
        # Not for the command to read from, so it stays with those who share it: an interrupt reaches all of them.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        terminal = None
    # Only children are in the process namespace.
    child = os.fork()
    if child == 0:
        _run(arguments.place, arguments.folder, arguments.command, terminal)
    sys.exit(_wait(child, terminal))


def _run(place: str, folder: str, command: list[str], terminal: int | None) -> None:
    try:
        # What Python ignores, and what was ignored for this program, are not for the command to inherit.
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        namespaces.die_with_parent()
        if terminal is not None:
            # A group that the command's own namespace has a number for: shells with job control want to go back to it.
            os.setpgid(0, 0)
            _hand_over(terminal, os.getpid())
        namespaces.enter_file(layout.network_file(place), namespaces.NEW_NETWORK)
        if place in layout.LAPTOPS:
            own = (layout.host_name_file(place), layout.mounts_file(place))
            host_name, mounts = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in own)
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


def _terminal() -> int | None:
    """The terminal, where this program has it to itself."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if os.tcgetpgrp(terminal) == os.getpgrp():
        return terminal
    os.close(terminal)
    return None


def _hand_over(terminal: int, group: int) -> None:
    """Make a process group the one that the terminal is for."""
    # Who is not in the foreground may do so only with this signal ignored.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(terminal, group)
    except OSError:
        pass  # the terminal or the group is gone
    finally:
        signal.signal(signal.SIGTTOU, before)


def _wait(child: int, terminal: int | None) -> int:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass

    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if terminal is not None:
            _hand_over(terminal, os.getpgrp())
        if os.WIFSTOPPED(status):
            os.kill(os.getpid(), signal.SIGSTOP)
            if terminal is not None:
                _hand_over(terminal, child)
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
