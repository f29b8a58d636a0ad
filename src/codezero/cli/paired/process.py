"""The one process in the background: whether it runs, how to start and to end it. A lock that it holds says that it does, and the kernel takes it back."""

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from codezero import __version__
from codezero.cli import hub_context, private_files
from codezero.cli.context import RUN_FOLDER_VARIABLE, STATE_FOLDER_VARIABLE, places
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    import subprocess

LOG: Final = "paired.log"
_LOCK_FILE: Final = "paired-process.lock"
_FILE: Final = "paired-process.json"
START_SECONDS: Final = 20.0
END_SECONDS: Final = 5.0
# Whoever looks whether it runs holds its lock for a moment.
_LOCK_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.02


class Running(msgspec.Struct, frozen=True):
    """The process, as it tells of itself. `relay_reason` says why pages do not come through the Hub, empty where they do."""

    pid: int
    release: str
    port: int
    relay_stands: bool = False
    relay_reason: str = ""


def is_of_sudo() -> bool:
    """Whether this is root by sudo: what browsers send is for no root, and the files would be root's."""
    return os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0"


def found() -> Running | None:
    """The process that runs and is ready; None where there is none."""
    return _told() if _is_held() else None


def ensure() -> Running:
    """The process, started where it does not run, and anew where it is of another release. Raises `CodezeroError`."""
    there = found()
    if there is not None and there.release == __version__:
        nudge()
        return there
    if there is not None:
        end()
    started = _start()
    deadline = time.monotonic() + START_SECONDS
    while (now := found()) is None:
        # One that finds another one to be there ends with 0.
        if started.poll() not in (None, 0) or time.monotonic() > deadline:
            log = hub_context.folder() / LOG
            raise CodezeroError(
                problems.NOT_RUNNING, "the process that answers paired pages did not start", fix=f"look into {log}"
            )
        time.sleep(_AGAIN_SECONDS)
    return now


def nudge() -> None:
    """Let it see at once that its state has changed; it would by itself soon."""
    _signal(signal.SIGHUP)


def end() -> bool:
    """End it and wait for its end; false where it did not run."""
    if not _is_held():
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(number)
        if _wait(lambda: not _is_held(), END_SECONDS):
            return True
    raise CodezeroError(
        problems.TIMED_OUT,
        "the process that answers paired pages did not end",
        fix="end it yourself: ps -ef | grep paired",
    )


@contextlib.contextmanager
def held() -> Generator[bool]:
    """Be that process for a block; false where another one is."""
    with _lock_file() as descriptor:
        is_ours = _wait(lambda: _is_taken(descriptor, fcntl.LOCK_EX), _LOCK_SECONDS)
        try:
            if is_ours:
                _path().unlink(missing_ok=True)
            yield is_ours
        finally:
            if is_ours:
                _path().unlink(missing_ok=True)


def tell(now: Running) -> None:
    """Tell of this process, which is that one."""
    private_files.write(_path(), msgspec.json.encode(now), replace=True)


def _start() -> "subprocess.Popen[bytes]":
    import subprocess  # here, because `czctl status` looks and starts nothing

    where = places()
    environment = {
        **os.environ,
        RUN_FOLDER_VARIABLE: str(where.run.absolute()),
        STATE_FOLDER_VARIABLE: str(where.state.absolute()),
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "codezero.cli.paired"],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _signal(number: signal.Signals) -> None:
    there = found()
    if there is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(there.pid, number)


def _is_held() -> bool:
    if not (hub_context.folder() / _LOCK_FILE).exists():
        return False
    with _lock_file() as descriptor:
        return not _is_taken(descriptor, fcntl.LOCK_SH)


def _told() -> Running | None:
    try:
        return msgspec.json.decode(_path().read_bytes(), type=Running)
    except (OSError, ValueError):
        return None


def _is_taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_AGAIN_SECONDS)
    return True


@contextlib.contextmanager
def _lock_file() -> Generator[int]:
    folder = hub_context.folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{folder / _LOCK_FILE} cannot be made: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _path() -> Path:
    return hub_context.folder() / _FILE
