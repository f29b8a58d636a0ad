"""Process 1 of the sandbox: owns the control socket, starts the runtime, collects orphans. When it ends, the kernel ends everything else.

Standard library only and nearly without state, so that it does not fail. Started by `control` as

    unshare --mount --net --pid --fork --kill-child ... python -I -m codezero.sandbox.keeper --state FOLDER --report FD [--lifeline FD] ...

`--lifeline` is the reading end of a pipe: when the other end is closed, because whoever holds it has ended, the sandbox ends.
"""

import argparse
import contextlib
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from codezero.sandbox import files, layout

# The runtime's own way down, pods and all, is a little shorter.
STOP_DEADLINE = 8.0


def main() -> None:
    """Keep the sandbox until it is told to stop, its runtime ends, or its lifeline is cut."""
    arguments, rest = _parser().parse_known_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As containers have it: a thousand streams are two thousand descriptors.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files.prepare_machine(arguments.state)
    control = _listen(arguments.state)
    socket.sethostname(layout.NODE_NAME)
    command = [
        sys.executable,
        "-I",
        "-m",
        "codezero.sandbox.runtime",
        f"--state={arguments.state}",
        f"--control={control.fileno()}",
        f"--report={arguments.report}",
        *rest,
    ]
    runtime = subprocess.Popen(command, pass_fds=(control.fileno(), arguments.report), start_new_session=True)
    os.close(arguments.report)
    sys.exit(_keep(runtime, arguments.lifeline))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="codezero.sandbox.keeper", allow_abbrev=False)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--report", type=int, required=True)
    parser.add_argument("--lifeline", type=int)
    return parser


def _listen(state: Path) -> socket.socket:
    """The control socket. Who connects learns the keeper's process id from the kernel: the peer is whoever called listen(2)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY)
    try:
        # Through the descriptor, because socket paths have at most 107 bytes and home folders may have more.
        path = f"/proc/self/fd/{folder}/control.sock"
        Path(path).unlink(missing_ok=True)
        listener.bind(path)
    finally:
        os.close(folder)
    listener.listen(64)
    return listener


def _keep(runtime: subprocess.Popen[bytes], lifeline: int | None) -> int:
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    with selectors.DefaultSelector() as selector:
        selector.register(woken, selectors.EVENT_READ)
        if lifeline is not None:
            selector.register(lifeline, selectors.EVENT_READ)
        stop_at: float | None = None
        while True:
            ready = selector.select(None if stop_at is None else max(0.0, stop_at - time.monotonic()))
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)
            if _collect(runtime.pid) or (stop_at is not None and time.monotonic() >= stop_at):
                return 0 if told else 1
            cut = any(key.fd == lifeline for key, _ in ready)
            if cut:
                selector.unregister(lifeline)  # type: ignore[arg-type]
            if (told or cut) and stop_at is None:
                stop_at = time.monotonic() + STOP_DEADLINE
                with contextlib.suppress(ProcessLookupError):
                    os.kill(runtime.pid, signal.SIGTERM)


def _collect(runtime: int) -> bool:
    """Collect every child that has ended, orphans too; true when the runtime is among them."""
    ended = False
    with contextlib.suppress(ChildProcessError):
        while (process := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            ended = ended or process == runtime
    return ended


if __name__ == "__main__":
    main()
