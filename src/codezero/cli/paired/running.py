"""The process in the background as it runs: from its lock to its end, which comes when there is nobody to answer any more."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Final, TextIO, cast

import msgspec

from codezero import __version__
from codezero.cli import hub_context
from codezero.cli.context import places
from codezero.cli.loopback import serving
from codezero.cli.loopback.agent_passage import AgentPassage
from codezero.cli.loopback.threads import Threads
from codezero.cli.paired import process, state
from codezero.cli.paired.desk import Desk
from codezero.cli.paired.gate import Gate
from codezero.cli.paired.process import Running
from codezero.cli.paired.relay import Relay
from codezero.cli.paired.state import Live
from codezero.cli.paired.used import Used
from codezero.kit import logs
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.local.supervisor.log_file import LogFile
from codezero.model.problems import CodezeroError

_MAX_LOG: Final = 256 * 1024
# Pairings end by time, too, and somebody may change the file.
_LOOK_SECONDS: Final = 2.0
_MAX_MESSAGE: Final = 1024  # of WebSockets, of which there are none

_log = get_logger("paired")


def main() -> int:
    """Answer pages until none is paired, or somebody ends it; its exit code."""
    if process.is_of_sudo():
        return 2
    os.umask(0o077)
    with process.held() as is_ours:
        if not is_ours:
            return 0
        sys.stderr = cast("TextIO", LogFile(hub_context.folder() / process.LOG, max_size=_MAX_LOG))
        logs.configure()
        try:
            asyncio.run(_Process().run())
        except CodezeroError as error:
            _log.error("ended", reason=error.detail, fix=error.fix)
            return error.problem.exit_code
        except Exception:  # noqa: BLE001 - the edge of the process
            _log.exception("ended by a defect")
            return 1
    return 0


class _Process:
    """All that is in it."""

    def __init__(self) -> None:
        self._live = Live()
        self._changes = (asyncio.Event(), asyncio.Event())
        self._ending = asyncio.Event()
        self._told: Running | None = None
        self._broken: str | None = None

    async def run(self) -> None:
        """Until its end."""
        if not self._live.now.is_needed:
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._change)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        used = Used()
        agent, hub = Threads("agent", 1), Threads("hub", 1)
        try:
            with _bound(self._live.now.port) as listener:
                port = listener.getsockname()[1]
                state.change(lambda present: (msgspec.structs.replace(present, port=port), None))
                desk = Desk(self._live, used, AgentPassage(places().socket), agent, port=port, changed=self._change)
                # Root can do all that the user can, whether it is asked or not; some forward connections as root.
                users = frozenset({os.geteuid(), 0})
                gate = Gate(desk, self._live, port=port, users=users)
                async with serving.serve(gate, listener, users=users, max_message=_MAX_MESSAGE):
                    await self._answer(desk, hub, port)
        finally:
            used.close()
            agent.close()
            hub.close()
        _log.info("ended", reason="it was asked to" if self._ending.is_set() else "no page is paired")

    async def _answer(self, desk: Desk, hub: Threads, port: int) -> None:
        own, relays = self._changes
        relay = Relay(desk, self._live, hub, changed=relays, tell=lambda: self._tell(port, relay))
        async with task_group("paired") as tasks:
            self._tell(port, relay)
            _log.info("answers pages", port=port, release=__version__)
            tasks.start_service("relay", relay.run())
            while not self._ending.is_set() and self._is_needed():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await own.wait()
                own.clear()
                desk.ended()

    def _is_needed(self) -> bool:
        """Whether there is anybody to answer; so it seems where the file cannot be used, until its user has put that right."""
        try:
            is_needed, self._broken = self._live.now.is_needed, None
        except CodezeroError as error:
            if error.detail != self._broken:
                _log.error("no page is answered", reason=error.detail, fix=error.fix)
                self._broken = error.detail
                self._change()
            return True
        return is_needed

    def _tell(self, port: int, relay: Relay) -> None:
        now = Running(os.getpid(), __version__, port, relay.stands, relay.reason)
        if now != self._told:
            process.tell(now)
            self._told = now

    def _change(self) -> None:
        for event in self._changes:
            event.set()

    def _end(self) -> None:
        self._ending.set()
        self._change()


def _bound(port: int) -> socket.socket:
    """A socket at the port of before; at another one where somebody has it."""
    if port:
        try:
            return serving.bind(port)
        except CodezeroError:
            _log.warning("another program has the port of before, so there is another one", port=port)
    return serving.bind(0)
