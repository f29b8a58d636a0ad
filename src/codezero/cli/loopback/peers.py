"""Whose program is at the other end of a connection over loopback (Linux): a console is its user's, and every user of a machine can connect to its loopback."""

import ipaddress
import socket
import struct
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
# The table is read in pieces while it changes, so that an entry may be missed.
_READINGS: Final = 3
NOBODY: Final = -1


def user_of(connection: socket.socket | None) -> int | None:
    """The user id of whoever opened the socket at the other end; `NOBODY` where there is no such socket, None where this system does not tell."""
    if connection is None:
        return NOBODY
    try:
        theirs, ours = connection.getpeername(), connection.getsockname()
    except OSError:
        return NOBODY
    wanted = {(_hex(theirs, mapped=mapped), _hex(ours, mapped=mapped)) for mapped in (False, True)}
    for _ in range(_READINGS):
        try:
            lines = [line.split() for table in _TABLES if table.exists() for line in table.read_text().splitlines()[1:]]
        except OSError:
            return None
        if not lines:
            return None
        for fields in lines:
            # sl, local, remote, state, queues, timer, retransmits, uid
            if (fields[1], fields[2]) in wanted:
                return int(fields[7])
    return NOBODY


def _hex(address: tuple[str, int], *, mapped: bool) -> str:
    """An address as those tables have it: words of four bytes in the order of this machine."""
    packed = ipaddress.IPv4Address(address[0]).packed
    if mapped:
        packed = b"\0" * 10 + b"\xff\xff" + packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{struct.unpack('=I', word)[0]:08X}" for word in words) + f":{address[1]:04X}"
