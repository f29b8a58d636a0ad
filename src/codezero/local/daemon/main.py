"""`czdaemon`: the process. Started by the Supervisor, or by hand with `--foreground` to look for trouble."""

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import uvloop

from codezero import __version__
from codezero.kit import logs, memory
from codezero.local.daemon import daemon, host_client
from codezero.local.daemon.host_client import HostClient, SupervisorLostError
from codezero.local.daemon.settings import DaemonSettings
from codezero.local.daemon.state import StateFolder
from codezero.local.supervisor.host_agent import HostSettings
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import DEFAULT_RUN_FOLDER, DEFAULT_STATE_FOLDER

SUPERVISOR_LOST = 3
FILES_WANTED = 65_536

_log = logs.get_logger("daemon")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until told to stop; exits with 0, with the exit code of the problem, or with 3 when the Supervisor is gone."""
    settings = _parse(arguments)
    logs.configure(level=settings.log_level, json=not sys.stderr.isatty())
    _limit()
    memory.settle()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except CodezeroError as error:
        _log.error("the Daemon cannot run", reason=error.detail, code=error.problem.code, fix=error.fix)
        sys.exit(error.problem.exit_code)
    except SupervisorLostError:
        _log.error("the Supervisor does not say how the machine is set up, so the Daemon ends")
        sys.exit(SUPERVISOR_LOST)


async def run(settings: DaemonSettings) -> None:
    """Run the Daemon until SIGTERM, SIGINT, or a request to stop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        state = StateFolder(settings.state_folder)
    except OSError as error:
        raise CodezeroError(
            problems.NEEDS_ROOT, f"the state folder {settings.state_folder} cannot be used: {error.strerror}"
        ) from None
    async with _host(settings, stopping) as host, _socket(settings) as listener:
        running = daemon.running(
            host, state, listener=listener, owner=settings.owner, is_supervised=not settings.foreground
        )
        async with running:
            _log.info("the Daemon runs", release=__version__, capture=host.mode.capture, names=host.mode.names)
            await stopping.wait()
            _log.info("the Daemon ends")


@contextlib.asynccontextmanager
async def _host(settings: DaemonSettings, stopping: asyncio.Event) -> AsyncGenerator[HostClient, None]:
    if settings.supervisor_descriptor is not None:
        channel = socket.socket(fileno=settings.supervisor_descriptor)
        async with host_client.supervised(channel, lost=_supervisor_lost) as supervisor:
            yield supervisor
    else:
        if os.geteuid() != 0:
            raise CodezeroError(
                problems.NEEDS_ROOT,
                "names, addresses and packet capture can be changed by root only",
                fix="sudo czdaemon --foreground",
            )
        wishes = HostSettings(settings.state_folder, settings.capture, settings.names)
        async with host_client.unsupervised(wishes, stopping) as own:
            yield own


@contextlib.asynccontextmanager
async def _socket(settings: DaemonSettings) -> AsyncGenerator[socket.socket, None]:
    """The API socket: the Supervisor's, or one bound here, which only this machine's one agent does (the host lock is held)."""
    if settings.socket_descriptor is not None:
        with socket.socket(fileno=settings.socket_descriptor) as listener:
            yield listener
        return
    path = settings.socket_path
    try:
        listener = _bound(path, settings.owner)
    except OSError as error:
        raise CodezeroError(problems.NEEDS_ROOT, f"the socket {path} cannot be made: {error.strerror}") from None
    try:
        with listener:
            yield listener
    finally:
        path.unlink(missing_ok=True)


def _bound(path: Path, owner: int) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Closed to others from its first moment: there is no time between bind and chmod.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        os.chown(path, owner, -1, follow_symlinks=False)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _supervisor_lost() -> None:
    """End at once, without a word to the Teamspace: the next Daemon goes on with this one's session."""
    _log.error("the Supervisor is gone, and nobody could undo what the Daemon does, so it ends")
    os._exit(SUPERVISOR_LOST)


def _limit() -> None:
    """Many sockets, and no memory image on disk: it would hold the device's key."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_WANTED, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _parse(arguments: Sequence[str] | None) -> DaemonSettings:
    parser = argparse.ArgumentParser(prog="czdaemon", description="The laptop's agent of Codezero.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"czdaemon {__version__}")
    parser.add_argument(
        "--foreground", action="store_true", help="run by hand, without Supervisor; undoes all at its end"
    )
    parser.add_argument("--supervisor-fd", type=int, metavar="N", help="channel to the Supervisor, which passes it")
    parser.add_argument("--socket-fd", type=int, metavar="N", help="bound API socket, which the Supervisor passes")
    parser.add_argument("--run-folder", type=Path, default=Path(DEFAULT_RUN_FOLDER), help="where the API socket is")
    parser.add_argument(
        "--state-folder", type=Path, default=Path(DEFAULT_STATE_FOLDER), help="rules, addresses, Teamspace"
    )
    parser.add_argument("--owner", type=int, metavar="UID", help="user who may use the API, besides root")
    parser.add_argument(
        "--capture", choices=("auto", "nftables", "listeners"), default="auto", help="with --foreground"
    )
    parser.add_argument(
        "--names", choices=("auto", "resolv.conf", "hosts", "none"), default="auto", help="with --foreground"
    )
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info")
    given = parser.parse_args(arguments)
    passed = (given.supervisor_fd is not None, given.socket_fd is not None)
    if given.foreground == any(passed) or any(passed) != all(passed):
        parser.error("give --foreground to run it by hand; the Supervisor gives --supervisor-fd and --socket-fd")
    return DaemonSettings(
        owner=given.owner if given.owner is not None else int(os.environ.get("SUDO_UID", os.getuid())),
        run_folder=given.run_folder,
        state_folder=given.state_folder,
        foreground=given.foreground,
        supervisor_descriptor=given.supervisor_fd,
        socket_descriptor=given.socket_fd,
        capture=given.capture,
        names=given.names,
        log_level=given.log_level,
    )


if __name__ == "__main__":
    main()
