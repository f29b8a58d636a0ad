"""What the console does itself, below `/console`: letting its page in, and what czctl does for its user where the local API takes keys, or is not there.

POST  /console/session       {"code": ...} -> 204 with the cookie
GET   /console/teamspace     SelectedView                              (what is selected on this machine)
POST  /console/teamspace     {"organization": id, "space": id} -> StatusView, or 204 where no agent runs   (as `czctl space select`)
POST  /console/agent/start   204                                        (as `czctl start`, where that asks for no password)
POST  /console/agent/stop    204                                        (as `czctl stop`)
"""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final

import msgspec

from codezero.cli import hub_context
from codezero.cli.commands import agent as agent_commands
from codezero.cli.hub_context import Named
from codezero.cli.loopback import selecting
from codezero.cli.loopback.asking import Asked
from codezero.cli.loopback.selecting import Selection
from codezero.cli.loopback.threads import Threads
from codezero.cli.ui.entry import Entry
from codezero.cli.ui.guard import SESSION_PATH
from codezero.cli.ui.hub_passage import HubPassage
from codezero.model import problems
from codezero.model.problems import CodezeroError

_SUDO_SECONDS: Final = 5.0


class _Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, msgspec.Meta(max_length=200)]


class SelectedView(msgspec.Struct, frozen=True):
    """What is selected on this machine."""

    organization: Named | None = None
    space: Named | None = None


class ConsoleApi:
    """Answers below `/console`."""

    def __init__(self, entry: Entry, hub: HubPassage, turn: Threads) -> None:
        """`turn` is one thread: starts, stops and moves of the one agent come one after the other."""
        self._entry = entry
        self._hub = hub
        self._turn = turn
        self._routes: Final[Mapping[tuple[str, str], Callable[[Asked], Awaitable[None]]]] = {
            ("POST", SESSION_PATH): self._let_in,
            ("GET", "/console/teamspace"): self._selected,
            ("POST", "/console/teamspace"): self._select,
            ("POST", "/console/agent/start"): self._start,
            ("POST", "/console/agent/stop"): self._stop,
        }

    async def answer(self, asked: Asked) -> None:
        """Do it; raises `CodezeroError`."""
        handler = self._routes.get((asked.method, asked.target))
        if handler is None:
            raise CodezeroError(problems.NOT_FOUND, f"the console has no {asked.method} {asked.path[:200]}")
        await handler(asked)

    async def _let_in(self, asked: Asked) -> None:
        cookie = self._entry.use(asked.body_as(_Code).code)
        await asked.answer(204, headers={"set-cookie": cookie})

    async def _selected(self, asked: Asked) -> None:
        known = hub_context.load()
        await asked.answer_json(SelectedView(known.organization, known.space) if known is not None else SelectedView())

    async def _select(self, asked: Asked) -> None:
        wanted = asked.body_as(Selection)
        status = await self._turn.run(lambda: selecting.select(self._hub.client(), wanted))
        if status is None:
            await asked.answer(204)
        else:
            await asked.answer_json(status)

    async def _start(self, asked: Asked) -> None:
        await self._turn.run(_start)
        await asked.answer(204)

    async def _stop(self, asked: Asked) -> None:
        await self._turn.run(agent_commands.stop_agent)
        await asked.answer(204)


def _start() -> None:
    if not _is_root_without_asking():
        raise CodezeroError(
            problems.NEEDS_ROOT,
            "to start the agent takes root on this machine, which asks for your password in a terminal",
            fix="czctl start",
        )
    agent_commands.start_agent()


def _is_root_without_asking() -> bool:
    """Whether what needs root can be done without asking anybody: nobody looks at this process's terminal now."""
    if os.geteuid() == 0:
        return True
    sudo = shutil.which("sudo")
    if sudo is None:
        return False
    try:
        asked = subprocess.run(
            [sudo, "--non-interactive", "--validate"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SUDO_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
