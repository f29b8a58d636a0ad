"""start, stop, restart, cleanup: the life of this machine's agent."""

import os
import subprocess
from pathlib import Path

import click

from codezero.cli import agent, hub_context
from codezero.cli.console import say
from codezero.cli.context import Places, client, places
from codezero.local.host import undo
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.local_client import LocalClient
from codezero.wire import access_file
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.local_api import StatusView, TunnelState

_CONNECT_SECONDS = 10.0
_CLEANUP_ASKS_SECONDS = 3.0  # then the agent is ended without its Daemon
_REFUSED = "TEAMSPACE_REFUSED"
_AWAY = (
    problems.HUB_UNREACHABLE,
    problems.HUB_NOT_BELIEVED,
    problems.DATABASE_BUSY,
    problems.TIMED_OUT,
    problems.INTERNAL,
    problems.TOO_MANY_REQUESTS,
)

capture_option = click.option(
    "--capture",
    type=click.Choice(["auto", "nftables", "listeners"]),
    default="auto",
    show_default=True,
    help="How connections to consumed services are caught.",
)
names_option = click.option(
    "--names",
    type=click.Choice(["auto", "resolv.conf", "hosts", "none"]),
    default="auto",
    show_default=True,
    help="How names of consumed services become known to this machine.",
)
log_level_option = click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)


@click.command()
@click.option(
    "--teamspace",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Connect to the Teamspace of this access file, in place of the one selected at the Hub.",
)
@capture_option
@names_option
@log_level_option
def start(file: Path | None, capture: str, names: str, log_level: str) -> None:
    """Connect this machine to its Teamspace.

    \b
    Needs root for names, addresses and packet capture; asks sudo for it unless installed
    (czctl daemon install). The Teamspace is the one selected at the Hub (czctl space select);
    where the Hub does not answer, or there is none, that of the last start.
    \b
    Examples:
      czctl start
      czctl start --teamspace shop.json
    """
    start_agent(file, capture=capture, names=names, log_level=log_level)


def start_agent(
    file: Path | None = None, *, capture: str = "auto", names: str = "auto", log_level: str = "info"
) -> None:
    """What `czctl start` does."""
    asked, daemon = places(), client()
    runs = agent.answers(daemon)
    access = _read_access(file) if file is not None else _selected_access(daemon.status() if runs else None)
    if runs:
        say("already running")
    else:
        agent.launch(asked, agent.supervisor_command(asked, capture=capture, names=names, log_level=log_level), daemon)
        say("started")
    if access is not None:
        daemon.select_teamspace(access)
    elif not _is_own(daemon.status()):
        daemon.forget_teamspace()
        say("left the Teamspace of last time, where this machine was as somebody else than is signed in now")
    _answer_pages()
    _await_tunnel(daemon)


@click.command()
def stop() -> None:
    """Disconnect and put the machine back as it was."""
    stop_agent()


def stop_agent() -> None:
    """What `czctl stop` does."""
    from codezero.cli.paired import process

    try:
        # First: what pages ask of the agent ends with them.
        process.end()
    except CodezeroError as error:
        say(f"warning: {error.detail}; {error.fix or ''}")
    if not _stop(places(), client()):
        say("not running")


@click.command()
@capture_option
@names_option
@log_level_option
def restart(capture: str, names: str, log_level: str) -> None:
    """Stop and start; does nothing when the agent is not running. An agent that hangs is ended as by `czctl cleanup`."""
    asked, daemon = places(), client()
    try:
        if not _stop(asked, daemon):
            say("not running")
            return
    except CodezeroError as error:
        _refuse_unless_it_hangs(error)
        _clean_up_as_root(asked)
    agent.launch(asked, agent.supervisor_command(asked, capture=capture, names=names, log_level=log_level), daemon)
    say("started")
    _await_tunnel(daemon)


@click.command()
def cleanup() -> None:
    """Undo all changes to this machine, also after a crash; stops the agent first if it runs.

    Works offline, with an agent that hangs or is of another release, and can be repeated.
    """
    asked = places()
    try:
        _stop(asked, client(deadline=_CLEANUP_ASKS_SECONDS))
    except CodezeroError as error:
        _refuse_unless_it_hangs(error)
    if os.geteuid() != 0:
        _clean_up_as_root(asked)
        return
    undone = undo.undo(state_folder=asked.state)
    for path in undone:
        say(f"put back: {path}")
    say("this machine is as it was" if undone else "nothing to undo")


def _answer_pages() -> None:
    """Let the pages that are paired find this machine; without them the agent is as good."""
    from codezero.cli.paired import process, state

    if not state.path().exists() or process.is_of_sudo():
        return
    try:
        present = state.load()
        if present is not None and present.pairings:
            process.ensure()
    except CodezeroError as error:
        say(f"warning: paired pages are not answered: {error.detail}")


def _read_access(file: Path) -> TeamspaceAccess:
    try:
        with file.open("rb") as opened:
            content = opened.read(access_file.MAX_SIZE + 1)
    except OSError as error:
        raise CodezeroError(
            problems.BAD_REQUEST, f"{file}: {error.strerror}", fix="give the path of a Teamspace access file"
        ) from None
    return access_file.decode(content)


def _selected_access(now: StatusView | None) -> TeamspaceAccess | None:
    """A fresh access to the Teamspace that is selected at the Hub; None without a Hub, where it is not needed, and where the Hub does not answer."""
    if not _knows_hub():
        return None
    from codezero.cli import joining_teamspace
    from codezero.cli.hub_client import connect

    hub = connect()
    if not hub.is_signed_in:
        say(f"note: not signed in to {hub.context.url}; next: czctl auth login")
        return None
    try:
        selected = joining_teamspace.selected(hub)
        if selected is None:
            say("note: no Teamspace is selected; next: czctl space select NAME")
            return None
        organization, space = selected
        if now is not None and joining_teamspace.is_there(now, hub, space):
            return None
        return joining_teamspace.access(hub, organization, space, now=now)
    except CodezeroError as error:
        # The certificate of last time lasts for a day: a Hub that is away stops nobody.
        if error.problem not in _AWAY:
            raise
        say(f"warning: {error.detail}; going on with what is known from last time")
        return None


def _is_own(now: StatusView) -> bool:
    """Whether the agent is nowhere as somebody else: the certificate of last time is of whoever was signed in then."""
    if now.hub is None or now.teamspace is None or hub_context.says_who_asks():
        return True
    known = hub_context.load()
    if known is None or known.user is None:
        return True
    return (known.url, known.user.id) == (now.hub.url, now.teamspace.user_id)


def _knows_hub() -> bool:
    """Whether there is a Hub to ask, before anything is loaded that asks one."""
    if os.environ.get(hub_context.HUB_VARIABLE):
        return True
    return (hub_context.folder() / hub_context.CONTEXT_FILE).exists()


def _await_tunnel(daemon: LocalClient) -> None:
    """Wait until the tunnel stands; a Teamspace that does not answer is told, and the agent keeps trying."""

    def is_settled() -> bool:
        now = daemon.status()
        is_refused = any(one.code == _REFUSED for one in now.warnings)
        return is_refused or now.tunnel.state is not TunnelState.CONNECTING

    try:
        agent.wait_until(is_settled, seconds=_CONNECT_SECONDS, what="the Teamspace did not answer", fix="czctl status")
    except CodezeroError:
        now = daemon.status()
        say(f"warning: not connected yet: {now.tunnel.cause or 'still trying'}; `czctl status` tells more")
        return
    _tell(daemon.status())


def _tell(now: StatusView) -> None:
    if now.teamspace is None:
        say("no Teamspace selected; next: czctl auth login --hub URL, or: czctl start --teamspace FILE")
        return
    if now.tunnel.state is not TunnelState.CONNECTED:
        say(f"warning: not connected: {now.tunnel.cause or 'still trying'}; `czctl status` tells more")
        return
    say(f"connected to {now.teamspace.name} as {now.teamspace.user}")
    if now.consumed == 0:
        say("next: czctl services list, then: echo '*.NAMESPACE' | czctl consume apply")


def _stop(asked: Places, daemon: LocalClient) -> bool:
    """Stop the agent and wait for its end; false when it did not run."""
    if not _is_asked_to_stop(asked, daemon):
        return False
    agent.wait_until(
        lambda: not asked.socket.exists(),
        seconds=agent.STOP_SECONDS,
        what="the agent did not end",
        fix="czctl cleanup",
    )
    say("stopped")
    return True


def _refuse_unless_it_hangs(error: CodezeroError) -> None:
    if error.problem is problems.NOT_YOURS:
        raise error
    say(f"warning: {error.detail}; it is ended without being asked")


def _clean_up_as_root(asked: Places) -> None:
    ended = subprocess.run(agent.elevated(agent.cleanup_command(asked)), check=False)
    if ended.returncode != 0:
        raise click.exceptions.Exit(ended.returncode)


def _is_asked_to_stop(asked: Places, daemon: LocalClient) -> bool:
    """Whether a Daemon took the request. One that dies over it is followed by another: the socket is the Supervisor's, and stays."""
    for _ in range(2):
        try:
            daemon.shutdown()
        except CodezeroError as error:
            if error.problem is problems.VERSIONS:
                return True  # a Daemon of another release, whose answer we cannot read, but which has taken the request
            if error.problem is not problems.NOT_RUNNING:
                raise
        else:
            return True
        if not asked.socket.exists():
            return False
    say("what ran here has died and may have left changes; `czctl cleanup` undoes them")
    return False
