"""Keeps the Daemon healthy and the machine restorable: starts it, restarts it, brakes a crash loop, undoes everything at the end."""

import asyncio
import os
import signal
import socket
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from codezero import __version__
from codezero.kit import logs
from codezero.kit.backoff import Backoff
from codezero.kit.service_manager import ServiceManager
from codezero.kit.tasks import task_group
from codezero.local.host.child import Child, describe
from codezero.local.host.journal import JOURNAL_FOLDER
from codezero.local.host.programs import command
from codezero.local.supervisor import guard, report
from codezero.local.supervisor.brake import FAILURES, Brake
from codezero.local.supervisor.daemon_process import DaemonCommand, DaemonProcess, Handle
from codezero.local.supervisor.host_agent import HostAgent, HostSettings, host_agent
from codezero.local.supervisor.report import CrashReport, SupervisorState
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.host_api import Alive, DaemonReady, Stop, ToDaemon, ToSupervisor
from codezero.wire.local_api import DEFAULT_RUN_FOLDER, SOCKET_NAME

_BACKLOG = 128

_log = logs.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """`owner` is the user id that may use the Daemon's API. `restart` is the command that starts this Supervisor again, for its guard, or None.

    `revived` lists when guards had to (seconds of CLOCK_BOOTTIME). `daemon` is another program to start as the Daemon, for tests.
    """

    owner: int
    run_folder: Path = Path(DEFAULT_RUN_FOLDER)
    host: HostSettings = field(default_factory=HostSettings)
    log_level: str = "info"
    restart: tuple[str, ...] | None = None
    revived: tuple[float, ...] = ()
    daemon: tuple[str, ...] | None = None


class Supervisor:
    """One run of the Supervisor; see `run`."""

    def __init__(self, settings: SupervisorSettings, manager: ServiceManager) -> None:
        self._settings = settings
        self._manager = manager
        self._stop = asyncio.Event()
        self._daemon: DaemonProcess | None = None
        self._guard: Child | None = None
        self._state = SupervisorState(
            pid=os.getpid(), release=__version__, started=time.time(), phase="starting", restarts=0
        )

    async def run(self) -> None:
        """Run until stopped; the machine is then as before. Raises `CodezeroError`: ALREADY_RUNNING, CRASH_LOOP and others."""
        settings = self._settings
        _prepare_run_folder(settings.run_folder)
        earlier = report.read_state(settings.run_folder)
        async with host_agent(settings.host, notify=self._tell) as agent:
            # What an earlier run left is undone by now.
            if settings.revived and (agent.predecessor is None or (earlier and earlier.phase == "stopping")):
                _log.info("the Supervisor was stopped meanwhile, so it is not started again")
                report.forget_state(settings.run_folder)
                return
            _refuse_endless_revival(settings.revived)
            self._remember(capture=agent.mode.capture, names=agent.mode.names, remarks=agent.remarks)
            with _ApiSocket(settings) as api_socket:
                try:
                    await self._supervise(agent, api_socket)
                    self._remember(phase="stopping", daemon=None)
                except CodezeroError:
                    self._remember(phase="failed", daemon=None, guard=None)
                    # An end on purpose: the guard must not start it all over.
                    await self._end_guard()
                    raise
                finally:
                    # Before the socket goes: that it is gone tells `czctl stop` that all is done.
                    await agent.close()
        await self._end_guard()
        report.forget_state(settings.run_folder)
        self._manager.notify("STOPPING=1")

    async def _supervise(self, agent: HostAgent, api_socket: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        async with task_group("supervisor") as tasks:
            tasks.start_service("host", agent.watch())
            if self._settings.restart is not None:
                tasks.start_service("guard", self._keep_guard(self._settings.restart))
            if self._manager.watchdog_seconds is not None:
                tasks.start_service("watchdog", self._feed_watchdog(self._manager.watchdog_seconds / 3))
            await self._keep_daemon(agent, api_socket)

    # --- the Daemon --------------------------------------------------------------------------------------------------------------------

    async def _keep_daemon(self, agent: HostAgent, api_socket: socket.socket) -> None:
        brake = Brake()
        backoff = Backoff(first=0.1, most=1.5)
        while True:
            how, lines = await self._run_daemon(agent, api_socket)
            if self._stop.is_set():
                return
            await agent.daemon_gone()
            is_too_much = brake.failed(asyncio.get_running_loop().time())
            failures = len(brake.failures)
            _log.error("the Daemon ended", how=how, failures=failures)
            self._remember(daemon=None, restarts=self._state.restarts + 1, last_end=how)
            self._report(CrashReport(at=time.time(), how=how, failures=failures, release=__version__, output=lines))
            if is_too_much:
                raise CodezeroError(
                    problems.CRASH_LOOP,
                    f"the Daemon failed {failures} times in a minute, the last time: {how}; the machine was put back",
                    fix=f"see {self._settings.host.state_folder / report.CRASH_FILE}, then czctl start",
                )
            if await self._stops_within(backoff.next()):
                return

    async def _run_daemon(self, agent: HostAgent, api_socket: socket.socket) -> tuple[str, tuple[str, ...]]:
        settings = self._settings
        state_folder = settings.host.state_folder
        daemon = DaemonProcess(
            DaemonCommand(
                [
                    *(settings.daemon or command("czdaemon")),
                    *("--run-folder", str(settings.run_folder)),
                    *("--state-folder", str(state_folder)),
                    *("--owner", str(settings.owner)),
                    *("--log-level", settings.log_level),
                ],
                api_socket,
                writable=state_folder,
                read_only_inside=state_folder / JOURNAL_FOLDER,
            )
        )
        self._daemon = daemon
        self._remember(daemon=daemon.pid)
        _log.info("the Daemon is started", pid=daemon.pid)
        try:
            how = await daemon.run(greeting=agent.greeting(), handle=self._handler(agent), stop=self._stop)
        finally:
            self._daemon = None
        return how, daemon.last_lines

    def _handler(self, agent: HostAgent) -> Handle:
        async def handle(message: ToSupervisor) -> tuple[ToDaemon, ...]:
            match message:
                case Stop():
                    _log.info("the Daemon was asked to stop everything")
                    self._stop.set()
                case DaemonReady():
                    answers = await agent.handle(message)
                    self._remember(phase="running")
                    self._manager.notify("READY=1")
                    return answers
                case Alive():
                    pass
                case _:
                    return await agent.handle(message)
            return ()

        return handle

    def _tell(self, message: ToDaemon) -> None:
        if self._daemon is not None:
            self._daemon.send(message)

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    # --- who watches over us -----------------------------------------------------------------------------------------------------------

    async def _keep_guard(self, restart: tuple[str, ...]) -> None:
        brake = Brake()
        while True:
            pidfd = os.pidfd_open(os.getpid())
            try:
                self._guard = Child([*command("czsupervisor"), guard.ARGUMENT, str(pidfd), *restart], pass_fds=(pidfd,))
            finally:
                os.close(pidfd)
            self._remember(guard=self._guard.pid)
            how = describe(await self._guard.wait())
            _log.warning("the guard ended; another one is started", how=how)
            if brake.failed(asyncio.get_running_loop().time()):
                _log.error("the guard keeps ending; the next one is started in a minute")
                await asyncio.sleep(60)

    async def _end_guard(self) -> None:
        if self._guard is not None:
            await self._guard.end(grace=0)
            self._guard = None

    async def _feed_watchdog(self, seconds: float) -> None:
        while True:
            self._manager.notify("WATCHDOG=1")
            await asyncio.sleep(seconds)

    def _remember(self, **changes: object) -> None:
        """Write what changed to the state file; it informs people, so failing to write it is no reason to stop."""
        self._state = msgspec.structs.replace(self._state, **changes)
        try:
            report.write_state(self._settings.run_folder, self._state)
        except OSError as error:
            _log.warning("the state file could not be written", error=str(error))

    def _report(self, crash: CrashReport) -> None:
        try:
            report.write_crash(self._settings.host.state_folder, crash)
        except OSError as error:
            _log.warning("the crash report could not be written", error=str(error))


class _ApiSocket:
    """The Daemon's API socket: bound here, kept over the Daemon's restarts, gone with us. No moment in which others can use it (T03)."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self._path = settings.run_folder / SOCKET_NAME
        self._owner = settings.owner
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> socket.socket:
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._socket.bind(str(self._path))
            os.chown(self._path, self._owner, -1, follow_symlinks=False)
        except OSError as error:
            self._socket.close()
            raise CodezeroError(
                problems.HOST_CHANGE_FAILED,
                f"{self._path} could not be made for uid {self._owner}: {error.strerror or error}",
                fix="choose a shorter --run-folder or another --owner",
            ) from error
        finally:
            os.umask(before)
        self._socket.listen(_BACKLOG)
        return self._socket

    def __exit__(self, *_exception: object) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()


def _prepare_run_folder(folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o022:
        raise CodezeroError(
            problems.UNSAFE_INSTALL,
            f"{folder} must be a folder of uid {os.geteuid()} that nobody else can write",
            fix=f"sudo rm -r {folder}",
        )
    folder.chmod(0o755)


def _refuse_endless_revival(revived: tuple[float, ...]) -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    if len([at for at in revived if at > now - 60]) >= FAILURES:
        raise CodezeroError(
            problems.CRASH_LOOP,
            f"the Supervisor died {FAILURES} times in a minute; the machine was put back",
            fix="czctl start",
        )
