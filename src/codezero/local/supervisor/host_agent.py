"""Does for the Daemon what it wishes of the machine (`wire.host_api`): checks it, journals it, does it, and undoes all of it at the end.

The Supervisor runs one; a Daemon started by hand runs its own in its process.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, assert_never

from codezero.kit import logs
from codezero.kit.backoff import Backoff
from codezero.kit.tasks import task_group
from codezero.local.host import detect, hosts_file, resolv_conf
from codezero.local.host.capture import CaptureTable, Ports
from codezero.local.host.contest import Contest
from codezero.local.host.detect import AUTO, Capture, Names, Setup
from codezero.local.host.journal import Journal
from codezero.local.host.managed_file import ManagedFile
from codezero.local.host.undo import undo_locked
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import is_label
from codezero.wire.host_api import (
    PART,
    VIRTUAL_NETWORK,
    Alive,
    ChangeCapture,
    DaemonReady,
    Done,
    HostMode,
    HostWarning,
    PublishNames,
    Stop,
    ToDaemon,
    ToSupervisor,
)
from codezero.wire.local_api import DEFAULT_STATE_FOLDER

POLL_SECONDS = 1.0
MAX_CAPTURED = 100_000
MAX_NAMES = 200_000
_RESOLVED_SERVERS = Path("/run/systemd/resolve/resolv.conf")
_RESOLVED_STUBS = frozenset({"127.0.0.53", "127.0.0.54"})
_NETWORK = IPv4Network(VIRTUAL_NETWORK)
# The first 256 addresses of the range are ours (DNS).
_RESERVED = IPv4Network((_NETWORK.network_address, 24))
# Names a hosts file must not redirect, whoever asks (T13).
_RESERVED_NAMES = frozenset(
    {
        "localhost", "localhost.localdomain", "broadcasthost", "wpad", "isatap",
        "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters",
    }
)  # fmt: skip

_log = logs.get_logger("host")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Where the machine's files are and how to change them. `capture` and `names` are a way of `host.detect` or `auto`."""

    state_folder: Path = Path(DEFAULT_STATE_FOLDER)
    capture: str = AUTO
    names: str = AUTO
    resolv_conf: Path = Path(resolv_conf.DEFAULT_PATH)
    hosts: Path = Path(hosts_file.DEFAULT_PATH)


class HostAgent:
    """Applies wishes to this machine; made by `host_agent`, which undoes all of them when its block ends.

    `predecessor` is the process that was in charge before and died without ending in order, or None.
    """

    def __init__(
        self,
        settings: HostSettings,
        setup: Setup,
        *,
        journal: Journal,
        predecessor: int | None,
        table: CaptureTable | None,
        notify: Callable[[ToDaemon], None],
    ) -> None:
        self._settings = settings
        self._setup = setup
        self.predecessor = predecessor
        self._table = table
        self._notify = notify
        self._lock = asyncio.Lock()
        self._resolver = ManagedFile(settings.resolv_conf, strip=resolv_conf.strip, journal=journal)
        self._hosts = ManagedFile(settings.hosts, strip=hosts_file.strip, journal=journal)
        self._ready = False
        self._entries: tuple[tuple[str, str], ...] = ()
        self._parts: list[tuple[str, str]] = []
        self._next_part = 0
        self._skipped = ""
        self._watches = {
            file.path: _Watch()
            for way, file in ((Names.RESOLV_CONF, self._resolver), (Names.HOSTS, self._hosts))
            if way is setup.names
        }
        self._upstreams = self._find_upstreams()
        self._upstreams_seen: Signature | None = None

    @property
    def mode(self) -> HostMode:
        """How this machine is set up, for the Daemon."""
        return HostMode(capture=self._setup.capture, names=self._setup.names, upstreams=self._upstreams)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Which ways had to be passed over, and why, for people."""
        return self._setup.remarks

    def greeting(self) -> tuple[ToDaemon, ...]:
        """What a Daemon is told first: the mode, and a warning where a better one was not possible."""
        if not self._setup.remarks:
            return (self.mode,)
        return (self.mode, HostWarning("host-setup", "; ".join(self._setup.remarks)))

    async def handle(self, message: ToSupervisor) -> tuple[ToDaemon, ...]:
        """Do what the message asks and give the answers; a wish that fails is answered by `Done` with its problem, and changes nothing."""
        match message:
            case DaemonReady():
                return await self._answered(0, self._daemon_ready(message))
            case ChangeCapture():
                return await self._answered(message.number, self._change_capture(message))
            case PublishNames():
                return await self._publish_names(message)
            case Alive() | Stop():
                return ()
            case _:
                assert_never(message)

    async def daemon_gone(self) -> None:
        """Capture nothing until the next Daemon is ready. Its names stay for the moment: they refuse, and come back with it."""
        self._parts, self._next_part = [], 0
        if self._table is None:
            return
        async with self._lock:
            try:
                await self._table.clear()
            except CodezeroError as error:
                _log.warning("capture could not be cleared", error=str(error))

    async def watch(self) -> None:
        """Follow and answer what others do to the files and the table, until cancelled."""
        async with task_group("host") as tasks:
            if self._table is not None:
                tasks.start_service("capture", self._keep_table(self._table))
            while True:
                await asyncio.sleep(POLL_SECONDS)
                await self._poll()

    async def close(self) -> None:
        """Take everything back: names first, then capture. Idempotent. Raises `CodezeroError` when a file could not be put back."""
        try:
            self._resolver.undo()
        finally:
            try:
                self._hosts.undo()
            finally:
                if self._table is not None:
                    await self._table.close()

    # --- wishes ------------------------------------------------------------------------------------------------------------------------

    async def _answered(self, number: int, work: Coroutine[Any, Any, None]) -> tuple[ToDaemon, ...]:
        async with self._lock:
            try:
                await work
            except CodezeroError as error:
                _log.warning("a change of the machine failed", error=str(error))
                return (Done(number, str(error)[:1000]),)
        return (Done(number),)

    async def _daemon_ready(self, message: DaemonReady) -> None:
        if self._table is not None:
            await self._table.listen_at(Ports(message.capture_port, message.dns_port))
        self._ready = True
        if self._setup.names is Names.RESOLV_CONF:
            self._resolver.apply(resolv_conf.insert)

    async def _change_capture(self, message: ChangeCapture) -> None:
        _check_pairs(message.add)
        _check_pairs(message.remove)
        if self._table is None:
            return
        if len(self._table.captured) + len(message.add) > MAX_CAPTURED:
            raise CodezeroError(problems.TOO_LARGE, f"at most {MAX_CAPTURED} ports can be captured")
        await self._table.change(
            add=message.add, remove=message.remove, reset=message.reset, datagrams=message.datagrams
        )

    async def _publish_names(self, message: PublishNames) -> tuple[ToDaemon, ...]:
        if message.part == 0:
            self._parts, self._next_part = [], 0
        problem = self._problem_of_part(message)
        if problem is not None:
            self._parts, self._next_part = [], -1
            return (Done(message.number, problem),)
        self._parts += message.entries
        self._next_part += 1
        if not message.last:
            return ()
        entries, self._parts, self._next_part = tuple(self._parts), [], -1
        return await self._answered(message.number, self._replace_names(entries))

    def _problem_of_part(self, message: PublishNames) -> str | None:
        if self._setup.names is not Names.HOSTS:
            return f"names are not published by the hosts file here, but by {self._setup.names}"
        if message.part != self._next_part:
            return f"part {message.part} of the names came where part {self._next_part} was due"
        if len(message.entries) > PART or len(self._parts) + len(message.entries) > MAX_NAMES:
            return f"at most {MAX_NAMES} names can be published, {PART} in one part"
        for name, address in message.entries:
            if not all(map(is_label, name.split("."))):
                return f"{name!r} is not a host name"
            if not _is_virtual(address):
                return f"{address} is not a virtual address of a service"
        return None

    async def _replace_names(self, entries: tuple[tuple[str, str], ...]) -> None:
        refused = _RESERVED_NAMES | {socket.gethostname().lower(), socket.gethostname().partition(".")[0].lower()}
        allowed = tuple(entry for entry in entries if entry[0] not in refused)
        self._hosts.apply(lambda original: hosts_file.insert(original, allowed))
        self._entries = allowed
        skipped = sorted({name for name, _ in entries} & refused)
        text = f"these names belong to the machine and are not published: {', '.join(skipped[:5])}" if skipped else ""
        if text != self._skipped:
            self._skipped = text
            self._notify(HostWarning("names-skipped", text))

    # --- what others do ----------------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        async with self._lock:
            try:
                if self._setup.names is Names.RESOLV_CONF and self._ready:
                    self._follow(self._resolver, resolv_conf.insert)
                elif self._setup.names is Names.HOSTS and self._entries:
                    entries = self._entries
                    self._follow(self._hosts, lambda original: hosts_file.insert(original, entries))
                self._follow_upstreams()
            except CodezeroError as error:
                # The file may be on its way to somewhere else; the next round looks again.
                _log.warning("a file of the machine could not be followed", error=str(error))

    def _follow(self, file: ManagedFile, insert: Callable[[bytes], bytes]) -> None:
        watch = self._watches[file.path]
        now = asyncio.get_running_loop().time()
        signature = _signature(file.watched())
        if signature == watch.trusted or watch.contest.is_paused(now):
            return
        if watch.trusted is not None and not file.is_ours() and not watch.contest.may_insist(now):
            self._warn_contested(file.path, contested=True)
            return
        written = file.apply(insert)
        # Trusted is only what was looked at before a reading found it right: no write of others in between can be missed.
        watch.trusted = _UNSETTLED if written else signature
        if written:
            _log.info("a rewrite by others was adopted", path=str(file.path))
        self._warn_contested(file.path, contested=False)

    def _warn_contested(self, path: Path, *, contested: bool) -> None:
        watch = self._watches[path]
        if watch.warned == contested:
            return
        watch.warned = contested
        text = f"another program keeps rewriting {path}, so names of services may not resolve" if contested else ""
        self._notify(HostWarning(f"{path.name}-contested", text, "czctl restart" if contested else None))

    def _follow_upstreams(self) -> None:
        signature = _signature((*self._resolver.watched(), _RESOLVED_SERVERS))
        if signature == self._upstreams_seen:
            return
        self._upstreams_seen = signature
        upstreams = self._find_upstreams()
        if upstreams != self._upstreams:
            self._upstreams = upstreams
            self._notify(self.mode)

    def _find_upstreams(self) -> tuple[str, ...]:
        """The machine's own servers. Where systemd-resolved stands before them, those behind it: it may read our server from resolv.conf."""
        found = resolv_conf.servers(self._resolver.original())
        if found and not _RESOLVED_STUBS.issuperset(found):
            return found
        try:
            return resolv_conf.servers(_RESOLVED_SERVERS.read_bytes()) or found
        except OSError:
            return found

    async def _keep_table(self, table: CaptureTable) -> None:
        backoff = Backoff(first=0.05, most=10)
        while True:
            how = await table.lost()
            _log.warning("nft ended; packet capture is made again", how=how)
            while True:
                async with self._lock:
                    try:
                        await table.restore()
                        break
                    except CodezeroError as error:
                        self._notify(HostWarning("capture-lost", f"services are not reachable: {error}", error.fix))
                await asyncio.sleep(backoff.next())
            self._notify(HostWarning("capture-lost", ""))


Signature = tuple[tuple[int, ...] | None, ...]

_UNSETTLED: Signature = ()


class _Watch:
    """What is known of a file that we hold: `trusted` is its signature when it was last found right, None before the first look."""

    def __init__(self) -> None:
        self.trusted: Signature | None = None
        self.contest = Contest()
        self.warned = False


def _signature(paths: Iterable[Path]) -> Signature:
    return tuple(_stat(path) for path in paths)


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _is_virtual(address: str) -> bool:
    try:
        parsed = IPv4Address(address)
    except ValueError:
        return False
    return parsed in _NETWORK and parsed not in _RESERVED


def _check_pairs(pairs: tuple[tuple[str, int], ...]) -> None:
    if len(pairs) > PART:
        raise CodezeroError(problems.TOO_LARGE, f"at most {PART} ports can be changed in one message")
    for address, _ in pairs:
        if not _is_virtual(address):
            raise CodezeroError(problems.BAD_REQUEST, f"{address} is not a virtual address of a service")


@asynccontextmanager
async def host_agent(settings: HostSettings, *, notify: Callable[[ToDaemon], None]) -> AsyncGenerator[HostAgent, None]:
    """Take charge of this machine: undo what an earlier run left, find the possible ways, and undo everything when the block ends.

    `notify` gets what the Daemon should be told unasked. Raises `CodezeroError` when another process is in charge, or a wished way is impossible.
    """
    journal = Journal(settings.state_folder)
    with journal.locked() as predecessor:
        leftovers = undo_locked(journal, resolv_conf_path=settings.resolv_conf, hosts_path=settings.hosts)
        if leftovers:
            _log.info("changes of an earlier run were undone", files=leftovers)
        table, obstacle = await _start_table(settings.capture)
        try:
            facts = detect.gather(resolv_conf=settings.resolv_conf, hosts=settings.hosts, nftables_obstacle=obstacle)
            setup = detect.choose(facts, capture=settings.capture, names=settings.names)
            agent = HostAgent(settings, setup, journal=journal, predecessor=predecessor, table=table, notify=notify)
        except BaseException:
            if table is not None:
                await table.close()
            raise
        try:
            yield agent
        finally:
            await agent.close()


async def _start_table(wish: str) -> tuple[CaptureTable | None, str | None]:
    """The table, or why there is none; it is tried, because nothing else tells for sure."""
    if wish == Capture.LISTENERS:
        return None, None
    table = CaptureTable()
    try:
        await table.start()
    except CodezeroError as error:
        return None, error.detail
    return table, None
