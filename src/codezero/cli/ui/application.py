"""The whole console as one ASGI application: guard, the GUI's files, and the three ways behind it."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp

from codezero.cli.hub_client import connect
from codezero.cli.loopback import agent_passage
from codezero.cli.loopback.agent_passage import AgentPassage
from codezero.cli.loopback.asking import Asked
from codezero.cli.loopback.threads import Threads
from codezero.cli.ui import hub_passage
from codezero.cli.ui.console_api import ConsoleApi
from codezero.cli.ui.entry import Entry
from codezero.cli.ui.guard import Guard
from codezero.cli.ui.hub_events import HubEvents
from codezero.cli.ui.hub_passage import HubPassage
from codezero.gui.files import PREFIX, Site, Where
from codezero.model import problems
from codezero.model.problems import CodezeroError

_ABOUT: Final = f"{PREFIX}app.json"
_CONSOLE: Final = "/console/"
_HUB_THREADS: Final = 16


class OwnThreads:
    """The console's threads, until `close`: a Hub that does not answer must not keep the agent from being stopped."""

    def __init__(self) -> None:
        self.hub = Threads("hub", _HUB_THREADS)
        self.agent = Threads("agent", 1)

    def close(self) -> None:
        """Begin nothing any more."""
        self.hub.close()
        self.agent.close()


def application(
    *, port: int, entry: Entry, users: frozenset[int], socket_path: Path, threads: OwnThreads, gui: Path | None = None
) -> ASGIApp:
    """The console at `http://127.0.0.1:<port>` for the programs of `users`. `gui` is the folder of the GUI, if not the one that was built into us."""
    agent = AgentPassage(socket_path)
    hub = HubPassage(threads.hub)
    console = ConsoleApi(entry, hub, threads.agent)

    async def answer(asked: Asked) -> None:
        if asked.path.startswith(f"{agent_passage.PREFIX}/"):
            await agent.pass_on(asked)
        elif asked.path.startswith(hub_passage.PREFIX):
            await hub.pass_on(asked)
        elif asked.path.startswith(_CONSOLE):
            await console.answer(asked)
        else:
            await _answer_file(asked, gui)

    return Guard(answer, HubEvents(hub).pass_on, port=port, entry=entry, users=users)


async def _answer_file(asked: Asked, folder: Path | None) -> None:
    if asked.path == "/":
        await asked.answer(302, headers={"location": PREFIX})
        return
    # Asked each time: the user may sign in at a Hub while the console runs.
    where = Where("console", _hub() if asked.path == _ABOUT else None)
    site = Site(where) if folder is None else Site(where, folder)
    if not site.is_built and asked.path != _ABOUT:
        raise CodezeroError(problems.NOT_FOUND, "this installation has no GUI in it", fix="make gui")
    answer = site.answer(
        unquote(asked.path),
        method=asked.method,
        encodings=asked.headers.get("accept-encoding", ""),
        known=asked.headers.get("if-none-match", ""),
    )
    await asked.answer(answer.status, answer.body, {name.lower(): value for name, value in answer.headers.items()})


def _hub() -> str | None:
    """The Hub that czctl asks; None without one, also where that cannot be told: the page says so when it asks the Hub."""
    try:
        return connect().context.url
    except CodezeroError:
        return None
