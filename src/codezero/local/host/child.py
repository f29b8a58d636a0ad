"""A helper process of ours: started with a fixed environment, watched by a pidfd, so no signal handler or watcher thread is involved."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

# Whoever started us may have set anything; helper programs see only this (T07).
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/dev/null"}
_PROGRAM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/run/current-system/sw/bin")


def program(name: str) -> str | None:
    """The absolute path of a system program, from the folders only root can write."""
    for folder in _PROGRAM_FOLDERS:
        path = Path(folder, name)
        if os.access(path, os.X_OK) and path.is_file():
            return str(path)
    return None


class Child:
    """A running child process; who starts it must see to its end by `wait`."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        before_exec: Callable[[], None] | None = None,
        new_session: bool = True,
    ) -> None:
        # Popen, not asyncio's subprocess: its child watchers differ by version and loop, and need threads where they lack pidfds.
        self._process = subprocess.Popen(
            list(arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            env=ENVIRONMENT,
            cwd="/",
            preexec_fn=before_exec,  # noqa: PLW1509 - we have one thread
            start_new_session=new_session,
        )
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, as far as this loop has seen."""
        return not self._ended.done()

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        if not self._ended.done():
            self._ended.set_result(status)

    async def wait(self) -> int:
        """Its exit status, or minus the number of the signal that ended it."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        if self.is_running:
            signal.pidfd_send_signal(self._pidfd, number)

    async def end(self, *, grace: float) -> int:
        """Ask it to end by SIGTERM, end it by force after `grace` seconds; gives its exit status."""
        if grace > 0:
            self._quietly(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    return await self.wait()
            except TimeoutError:
                pass
        self._quietly(signal.SIGKILL)
        return await self.wait()

    def _quietly(self, number: signal.Signals) -> None:
        try:
            self.send(number)
        except ProcessLookupError:
            # It ended between our look and the signal.
            return


def describe(status: int) -> str:
    """How a process ended, for people: `exit status 3`, `signal SIGKILL`."""
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
