"""One run of the Daemon: started confined, listened to, and ended when it falls silent."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.local.host.child import Child, describe
from codezero.local.supervisor.channel import Channel, supervisor_channel
from codezero.local.supervisor.confinement import confined
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.host_api import ToDaemon, ToSupervisor

# How long the Daemon may be silent, in checks of one second; a check only counts when our own loop ran, so being suspended is no silence.
SILENT_CHECKS = 10
SILENT_CHECKS_AT_START = 30
GRACE_SECONDS = 5.0
_KEPT_LINES = 100
_KEPT_LINE_LENGTH = 500

_log = logs.get_logger("supervisor")

Handle = Callable[[ToSupervisor], Awaitable[tuple[ToDaemon, ...]]]


@dataclass(frozen=True, slots=True)
class DaemonCommand:
    """How to start the Daemon; the descriptors of channel and API socket are added."""

    arguments: Sequence[str]
    api_socket: socket.socket
    writable: Path
    read_only_inside: Path


class DaemonProcess:
    """A started Daemon. Use `run` once."""

    def __init__(self, command: DaemonCommand) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, output_in = os.pipe()
        self._output = output
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            self._child = Child(
                [
                    *command.arguments,
                    *("--supervisor-fd", str(theirs.fileno())),
                    *("--socket-fd", str(command.api_socket.fileno())),
                ],
                stdout=subprocess.DEVNULL,
                stderr=output_in,
                pass_fds=(theirs.fileno(), command.api_socket.fileno()),
                before_exec=confined(writable=command.writable, read_only_inside=command.read_only_inside),
            )
        except (OSError, subprocess.SubprocessError) as error:
            ours.close()
            os.close(output)
            raise CodezeroError(
                problems.HOST_CHANGE_FAILED,
                f"the Daemon could not be started with fewer rights: {error}",
                fix="run the Supervisor as root, outside of a container without CAP_SETPCAP",
            ) from error
        finally:
            theirs.close()
            os.close(output_in)
        self._channel: Channel[ToSupervisor] = supervisor_channel(ours)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines it printed."""
        return tuple(self._lines)

    def send(self, message: ToDaemon) -> None:
        """Tell it something; a Daemon that does not read will be found silent."""
        try:
            self._channel.send(message)
        except OSError as error:
            _log.debug("the Daemon could not be told", error=str(error))

    async def run(self, *, greeting: Sequence[ToDaemon], handle: Handle, stop: asyncio.Event) -> str:
        """Serve it until it ends, or until `stop`; gives how it ended. It has ended when this returns."""
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def end(how: str) -> None:
            if not ended.done():
                ended.set_result(how)

        asyncio.get_running_loop().add_reader(self._output, self._copy_output)
        try:
            for message in greeting:
                self.send(message)
            async with task_group("daemon") as tasks:
                tasks.start_service("exit", _then_never(self._exit(end)))
                tasks.start_service("messages", _then_never(self._converse(handle, end)))
                tasks.start_service("stop", _then_never(self._stopped(stop, end)))
                how = await ended
                # Messages are still answered meanwhile: it withdraws its names.
                await self._child.end(grace=GRACE_SECONDS if stop.is_set() else 0)
            return how
        finally:
            await self._child.end(grace=0)
            self._copy_output()
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
            self._channel.close()

    async def _exit(self, end: Callable[[str], None]) -> None:
        end(describe(await self._child.wait()))

    async def _stopped(self, stop: asyncio.Event, end: Callable[[str], None]) -> None:
        await stop.wait()
        end("stopped")

    async def _converse(self, handle: Handle, end: Callable[[str], None]) -> None:
        async def answer(message: ToSupervisor) -> None:
            for answer in await handle(message):
                self.send(answer)

        end(await conversation(self._channel, answer))

    def _copy_output(self) -> None:
        """Pass on what it printed, and keep the end of it."""
        try:
            os.set_blocking(self._output, False)
            printed = os.read(self._output, 65536)
        except BlockingIOError:
            return
        if not printed:
            asyncio.get_running_loop().remove_reader(self._output)
            return
        for line in printed.decode("utf-8", "replace").splitlines():
            self._lines.append(line[:_KEPT_LINE_LENGTH])
        try:
            sys.stderr.write(printed.decode("utf-8", "replace"))
            sys.stderr.flush()
        except OSError:
            # Our own log has nobody left to read it; that is no reason to end the Daemon.
            return


async def conversation(
    channel: Channel[ToSupervisor], answer: Callable[[ToSupervisor], Awaitable[None]], *, check_seconds: float = 1.0
) -> str:
    """Let each message be answered until the Daemon ends, falls silent, or breaks the protocol; gives which."""
    silent, allowed = 0, SILENT_CHECKS_AT_START
    async with task_group("conversation") as tasks:
        receiving = tasks.start("receive", _received(channel))
        try:
            while True:
                # One receiving goes on over all checks: cancelled by a time limit, it could lose the very message that had just come.
                await asyncio.wait((receiving,), timeout=check_seconds)
                if not receiving.done():
                    silent += 1
                    if silent >= allowed:
                        return f"silent for {silent} seconds"
                    continue
                message = receiving.result()
                if isinstance(message, CodezeroError):
                    return f"broke the protocol: {message.detail}"
                if message is None:
                    # Its exit status says more, if it is about to come.
                    await asyncio.sleep(0.2)
                    return "closed its channel"
                silent, allowed = 0, SILENT_CHECKS
                await answer(message)
                receiving = tasks.start("receive", _received(channel))
        finally:
            receiving.cancel()


async def _received(channel: Channel[ToSupervisor]) -> ToSupervisor | CodezeroError | None:
    """The next message, or what is wrong with it: raised in a task it would end the group."""
    try:
        return await channel.receive()
    except CodezeroError as error:
        return error


async def _then_never(work: Awaitable[None]) -> None:
    await work
    await asyncio.Event().wait()
