"""Who holds a port of this machine, for messages that name the process (R21)."""

import socket
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"


def holder_of(address: str, port: int, *, datagrams: bool = False) -> str:
    """The process that listens at a port in a way that keeps us from `address`, as `name (pid 12)`.

    A Daemon with cut rights sees few processes' files; for others the text says how to find out.
    """
    inodes = set(_inodes(address, port, datagrams=datagrams))
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, inodes):
            try:
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
            except OSError:
                break
    return f"another process (`sudo ss -Hln{'u' if datagrams else 't'}p sport = :{port}` names it)"


def _inodes(address: str, port: int, *, datagrams: bool) -> Iterator[str]:
    """The sockets bound to the port at `address` or at any address. Source: proc(5), /proc/net/tcp."""
    exact = socket.inet_aton(address)[::-1].hex().upper()
    protocol = "udp" if datagrams else "tcp"
    for name, addresses in ((protocol, {exact, "0" * 8}), (f"{protocol}6", {"0" * 32})):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, _, local_port = fields[1].partition(":")
            if local in addresses and int(local_port, 16) == port and (datagrams or fields[3] == _LISTEN):
                yield fields[9]


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(
            str(link.readlink()) in {f"socket:[{inode}]" for inode in inodes} for link in (process / "fd").iterdir()
        )
    except OSError:
        return False  # it ended, or belongs to somebody whose files we may not see
