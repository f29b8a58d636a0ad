"""Child processes that are to run always: started again when they die, and gone when this process is."""

import asyncio
import ctypes
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from codezero.kit.logs import get_logger

_GRACE_SECONDS: Final = 5.0
_DEATHS, _WINDOW_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 5, 10.0, 0.125, 1.0
_PR_SET_PDEATHSIG: Final = 1

# Loaded before any fork: the child then only makes system calls.
_libc = ctypes.CDLL(None, use_errno=True)
_log = get_logger("router")


class Restarts:
    """How long to wait before a child is started again: not at all, until it died five times in ten seconds."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> float:
        """Note a death at `now` (seconds of any monotonic clock); the pause before the next start."""
        self._deaths.append(now)
        while self._deaths[0] <= now - _WINDOW_SECONDS:
            self._deaths.popleft()
        beyond = len(self._deaths) - _DEATHS
        return 0.0 if beyond < 0 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(beyond, 10))


class Child:
    """Runs `command`. It writes to the descriptor `output` where there is one; `died` is called after each of its deaths, which are counted."""

    def __init__(
        self, name: str, command: Sequence[str], *, output: int | None = None, died: Callable[[], None] = lambda: None
    ) -> None:
        self.deaths = 0
        self._command = command
        self._output = output
        self._died = died
        self._restarts = Restarts()
        self._log = _log.bind(child=name)

    async def keep(self) -> None:
        """Until cancelled; the child is then asked to end, and made to some seconds later."""
        while True:
            await self._run_once()
            self.deaths += 1
            pause = self._restarts.died(asyncio.get_running_loop().time())
            self._log.error("child is started again", seconds=pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._output,
                preexec_fn=_dies_with(os.getpid()),
            )
        except OSError as error:
            # No reason to end: the other child goes on, and a machine without room has some again.
            self._log.error("child cannot be started", reason=str(error))
            return
        self._log.info("child runs", pid=process.pid)
        try:
            self._log.error("child died", status=await process.wait())
        finally:
            await _end(process)
            self._died()


async def _end(process: asyncio.subprocess.Process) -> None:
    for ask in (process.terminate, process.kill):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await process.wait()


def _dies_with(parent: int) -> Callable[[], None]:
    """A function for the child before exec: it does not outlive whoever starts it again."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            # It died before we had asked to die with it.
            os._exit(1)

    return prepare
