"""Packet capture by nftables: connections to consumed (virtual address, port) pairs go to one listener of the Daemon.

The table `inet codezero` belongs to a child, `nft -i`, whose netlink socket owns it (`flags owner`, Linux 5.12): nobody else can change it, a
`flush ruleset` of others passes it by, and the kernel removes it when the child ends, however it ends. So there is nothing to undo.
"""

import asyncio
import errno
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from codezero.local.host.child import Child, describe, program
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.host_api import DNS_ADDRESS, VIRTUAL_NETWORK

TABLE = "inet codezero"
_ANSWER_SECONDS = 10.0
_PREDECESSOR_SECONDS = 2.0
_OUTPUT_LIMIT = 4 * 1024 * 1024
_MARK = "codezero_mark_"
_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h

Pair = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the Daemon listens on 127.0.0.1."""

    capture: int
    dns: int


def original_destination(connection: socket.socket) -> Pair:
    """Address and port that the peer of a captured connection dialled; for one that was not captured, those of our own end."""
    try:
        # struct sockaddr_in: family, port and address in network order, padding.
        raw = connection.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
            raise
        address, port = connection.getsockname()[:2]
        return str(address), int(port)
    port, packed = struct.unpack("!2xH4s8x", raw)
    return socket.inet_ntoa(packed), port


class NftError(Exception):
    """nft refused a command; the text is its own, and nothing of the command was done."""


class Nft:
    """A running `nft -i`: commands in, their errors out. One line is one transaction."""

    def __init__(self, child: Child, reader: asyncio.StreamReader, transport: asyncio.WriteTransport) -> None:
        self.child = child
        self._reader = reader
        self._transport = transport
        self._number = 0
        self._printed: list[str] = []
        self._caret_is_due = False
        self._lock = asyncio.Lock()

    @staticmethod
    async def start() -> "Nft":
        """Start it; raises `CodezeroError` where nft is not installed."""
        path = program("nft")
        if path is None:
            raise CodezeroError(problems.HOST_CHANGE_FAILED, "nft is not installed", fix="sudo apt install nftables")
        commands_out, commands_in = os.pipe()
        answers_out, answers_in = os.pipe()
        try:
            # Errors and our marks in one pipe keep their order.
            child = Child([path, "-i"], stdin=commands_out, stdout=answers_in, stderr=subprocess.STDOUT)
        except OSError:
            os.close(commands_in)
            os.close(answers_out)
            raise
        finally:
            os.close(commands_out)
            os.close(answers_in)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_OUTPUT_LIMIT)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers_out, "rb", 0))
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(commands_in, "wb", 0))
        return Nft(child, reader, transport)

    async def run(self, command: str) -> None:
        """Do one line of commands, as one transaction; raises `NftError` with nothing done, or `CodezeroError` when nft itself is gone."""
        async with self._lock:
            self._number += 1
            # A word nft does not know comes back in its error: all that is printed before belongs to the command.
            self._transport.write(f"{command}\n{_MARK}{self._number}\n".encode())
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    printed = await self._answer(self._number)
            except (TimeoutError, ValueError, EOFError, OSError) as error:
                self.child.send(signal.SIGKILL)
                raise CodezeroError(
                    problems.HOST_CHANGE_FAILED, f"nft does not answer ({type(error).__name__})", fix="czctl restart"
                ) from error
        if printed:
            raise NftError(_first_error(printed))

    async def _answer(self, number: int) -> list[str]:
        """What was printed for the command of that number. Who waited for an earlier one may have been cancelled; its answer is passed over."""
        while True:
            line = await self._line()
            if self._caret_is_due:
                # nft points at the mark with a caret below it.
                self._caret_is_due = False
                continue
            if not line.startswith(_MARK):
                self._printed.append(line)
                continue
            self._caret_is_due = True
            printed, self._printed = self._printed[:-1], []  # without the mark's own error message
            if line == f"{_MARK}{number}":
                return printed

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1].decode("utf-8", "replace")

    async def close(self) -> None:
        """End it; the kernel removes the table with it."""
        self._transport.close()
        await self.child.end(grace=0)


class CaptureTable:
    """Our table, and what should be in it. It lasts until `close`, or until its nft ends; then `restore` makes it again."""

    def __init__(self) -> None:
        self._nft: Nft | None = None
        self._ports: Ports | None = None
        self._captured: set[Pair] = set()
        self._datagrams: set[Pair] = set()

    @property
    def captured(self) -> frozenset[Pair]:
        """The TCP pairs captured now."""
        return frozenset(self._captured)

    async def start(self) -> None:
        """Make the table; raises `CodezeroError` saying why this machine cannot have it."""
        nft = await Nft.start()
        try:
            await _create(nft, TABLE_COMMANDS)
        except NftError as error:
            await nft.close()
            raise CodezeroError(
                problems.HOST_CHANGE_FAILED, f"nft: {error}", fix="use --capture listeners, or see `nft list ruleset`"
            ) from error
        except BaseException:
            await nft.close()
            raise
        self._nft = nft

    async def lost(self) -> str:
        """Wait until the table is gone because its nft ended; says how it ended."""
        assert self._nft is not None
        return describe(await self._nft.child.wait())

    async def restore(self) -> None:
        """Make the table again as it was, after it was lost; raises `CodezeroError`."""
        await self.close()
        await self.start()
        if self._ports is not None:
            await self._run(_port_commands(self._ports))
        for name, pairs in (("captured", self._captured), ("datagrams", self._datagrams)):
            await self._run(_element_commands("add", name, pairs))

    async def listen_at(self, ports: Ports) -> None:
        """Send captured connections and DNS to these ports from now on; raises `CodezeroError`, with everything as before."""
        await self._run(_port_commands(ports))
        self._ports = ports

    async def change(
        self, *, add: Iterable[Pair], remove: Iterable[Pair], reset: bool = False, datagrams: bool = False
    ) -> None:
        """Capture `add` and no longer `remove` (`reset`: nor anything else), as one transaction; `datagrams`: the UDP pairs let through."""
        current = self._datagrams if datagrams else self._captured
        name = "datagrams" if datagrams else "captured"
        wanted = (set[Pair]() if reset else current - set(remove)) | set(add)
        removals = _element_commands("delete", name, current - wanted)
        additions = _element_commands("add", name, wanted - current)
        await self._run([*removals, *additions])
        current.clear()
        current.update(wanted)

    async def clear(self) -> None:
        """Capture nothing, and send nothing to the Daemon's ports: it is gone."""
        await self._run(
            [f"flush set {TABLE} {name}" for name in ("captured", "datagrams", "ours")] + [_FLUSH_TO_DAEMON]
        )
        self._captured.clear()
        self._datagrams.clear()
        self._ports = None

    async def close(self) -> None:
        """Remove the table; idempotent."""
        if self._nft is not None:
            nft, self._nft = self._nft, None
            await nft.close()

    async def _run(self, commands: list[str]) -> None:
        if not commands:
            return
        if self._nft is None:
            raise CodezeroError(problems.HOST_CHANGE_FAILED, "packet capture is not running", fix="czctl restart")
        try:
            await self._nft.run("; ".join(commands))
        except NftError as error:
            raise CodezeroError(problems.HOST_CHANGE_FAILED, f"nft: {error}", fix="czctl restart") from error


_FLUSH_TO_DAEMON = f"flush chain {TABLE} to_daemon"

# The owner's table is empty of addresses until the Daemon is ready; then an unused address or port refuses as it should.
TABLE_COMMANDS = (
    f"create table {TABLE} {{ flags owner; }}",
    f"add set {TABLE} captured {{ type ipv4_addr . inet_service; }}",
    f"add set {TABLE} datagrams {{ type ipv4_addr . inet_service; }}",
    f"add set {TABLE} ours {{ type inet_service; }}",
    f"add chain {TABLE} to_daemon {{ type nat hook output priority -100; policy accept; }}",
    # T09: with route_localnet (kube-proxy sets it) the kernel lets neighbours and containers reach loopback.
    f"add chain {TABLE} arriving {{ type filter hook prerouting priority -300; policy accept; }}",
    f'add rule {TABLE} arriving iifname != "lo" ip daddr {VIRTUAL_NETWORK} drop',
    f'add rule {TABLE} arriving iifname != "lo" ip saddr {VIRTUAL_NETWORK} drop',
    f"add chain {TABLE} arrived {{ type filter hook input priority 0; policy accept; }}",
    f'add rule {TABLE} arrived iifname != "lo" ip daddr {VIRTUAL_NETWORK} drop',
    f'add rule {TABLE} arrived iifname != "lo" ip daddr 127.0.0.0/8 meta l4proto {{ tcp, udp }} th dport @ours drop',
    f"add rule {TABLE} arrived meta nfproto != ipv4 accept",
    f"add rule {TABLE} arrived ip daddr != {VIRTUAL_NETWORK} accept",
    # Pings are answered, and errors about our own datagrams arrive.
    f"add rule {TABLE} arrived meta l4proto icmp accept",
    f"add rule {TABLE} arrived ip daddr . udp dport @datagrams accept",
    # Refused where it arrives, not where it is sent: there the sender of a datagram would get EPERM instead of ECONNREFUSED.
    f"add rule {TABLE} arrived meta l4proto tcp reject with tcp reset",
    f"add rule {TABLE} arrived ip daddr {VIRTUAL_NETWORK} reject with icmp type port-unreachable",
)


async def _create(nft: Nft, commands: tuple[str, ...]) -> None:
    """Make the table; the one of a Supervisor that was just killed may take a moment to go."""
    deadline = asyncio.get_running_loop().time() + _PREDECESSOR_SECONDS
    while True:
        try:
            return await nft.run("; ".join(commands))
        except NftError as error:
            if "File exists" not in str(error) or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.05)


def _port_commands(ports: Ports) -> list[str]:
    dns = f"dnat ip to 127.0.0.1:{ports.dns}"
    return [
        _FLUSH_TO_DAEMON,
        f"add rule {TABLE} to_daemon ip daddr {DNS_ADDRESS} udp dport 53 {dns}",
        f"add rule {TABLE} to_daemon ip daddr {DNS_ADDRESS} tcp dport 53 {dns}",
        f"add rule {TABLE} to_daemon ip daddr . tcp dport @captured dnat ip to 127.0.0.1:{ports.capture}",
        f"flush set {TABLE} ours",
        f"add element {TABLE} ours {{ {', '.join(map(str, sorted({ports.capture, ports.dns})))} }}",
    ]


def _element_commands(verb: str, name: str, pairs: Iterable[Pair]) -> list[str]:
    elements = ", ".join(f"{address} . {port}" for address, port in sorted(pairs))
    return [f"{verb} element {TABLE} {name} {{ {elements} }}"] if elements else []


def _first_error(lines: list[str]) -> str:
    """The message of nft without the echo of the command, which can be long."""
    return next((line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")), lines[0])[:300]
