"""Child processes whose end can be awaited on any event loop, without threads and without touching anybody else's children."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO


class CommandError(RuntimeError):
    """A helper program failed; the message has its command and what it said."""


class Process:
    """A running child. Whoever starts it waits for it: nobody else collects it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        output: int | IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._child = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=tuple(descriptors),
            start_new_session=True,
        )
        self._descriptor = os.pidfd_open(self._child.pid)
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._descriptor, self._collect)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.done()

    async def wait(self) -> int:
        """The exit code, once it has ended; minus the signal's number when a signal ended it."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self.running:
            try:
                signal.pidfd_send_signal(self._descriptor, number)
            except ProcessLookupError:
                pass  # it has ended and is about to be collected

    def _collect(self) -> None:
        code = self._child.wait()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        if not self._ended.done():
            self._ended.set_result(code)


async def run(
    command: Sequence[str], *, given: str = "", deadline: float = 30.0, environment: Mapping[str, str] | None = None
) -> str:
    """Run a helper program to its end with `given` as its input; what it printed. Raises `CommandError` when it fails."""
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    source = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        _write(source, given.encode())
        os.lseek(source, 0, os.SEEK_SET)
        process = Process(command, stdin=source, output=output, environment=environment)
        try:
            async with asyncio.timeout(deadline):
                code = await process.wait()
        except BaseException:
            process.send(signal.SIGKILL)
            await process.wait()
            raise
        printed = _content(output)
    finally:
        os.close(output)
        os.close(source)
    if code != 0:
        raise CommandError(f"{' '.join(command[:6])} failed ({code}): {printed.strip()[-800:]}")
    return printed


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _content(descriptor: int) -> str:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    return os.pread(descriptor, size, 0).decode(errors="replace")
