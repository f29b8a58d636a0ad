"""Messages between Daemon and Supervisor over a socket pair: the few things the Supervisor does for the Daemon, and their heartbeat.

The Daemon states what it wants of the machine, whole and declarative; the Supervisor (root) checks it, journals it, does it. Each message is
one `SOCK_SEQPACKET` packet up to `MAX_PACKET`, or several `WantCapture`/`WantNames` parts numbered by `part` with `last`. A file name, command or
address outside our range cannot be said in these messages.
"""

from typing import Annotated

import msgspec

MAX_PACKET = 128 * 1024
PART = 2000  # entries in one part

# DESIGN 7: one virtual address per service; .0.0-.0.255 are reserved for us.
VIRTUAL_NETWORK = "127.72.0.0/14"
DNS_ADDRESS = "127.72.0.53"

_Address = Annotated[str, msgspec.Meta(pattern=r"\A127\.7[2-5]\.[0-9]{1,3}\.[0-9]{1,3}\Z")]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_HostName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")]


class HostMessage(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """Base of all messages of this channel."""


class DaemonReady(HostMessage, frozen=True):
    """The Daemon listens: TCP connections for captured addresses at `capture_port`, DNS at `dns_port` (both on 127.0.0.1, privileged)."""

    capture_port: _Port
    dns_port: _Port


class WantCapture(HostMessage, frozen=True):
    """All (virtual address, port) pairs to capture, TCP; replaces the set before when the last part is in."""

    number: int
    entries: tuple[tuple[_Address, _Port], ...]
    part: int = 0
    last: bool = True


class WantNames(HostMessage, frozen=True):
    """All names to publish with their address; `search` is the primary namespace's search domain.

    In `hosts` mode they become the hosts block; in `resolv.conf` mode only whether there are any, and `search`, matter.
    """

    number: int
    entries: tuple[tuple[_HostName, _Address], ...]
    part: int = 0
    last: bool = True


class Alive(HostMessage, frozen=True):
    """The Daemon's heartbeat, each second; silent for 10 s means it hangs and is replaced."""


class Stop(HostMessage, frozen=True):
    """The Daemon asks the Supervisor to end everything and put the machine back (`czctl stop`)."""


class HostMode(HostMessage, frozen=True):
    """The Supervisor's answer to `DaemonReady`: how the machine is set up. `upstreams` are the machine's own name servers (address or address#port)."""

    capture: Annotated[str, msgspec.Meta(pattern=r"\A(nftables|listeners)\Z")]
    names: Annotated[str, msgspec.Meta(pattern=r"\A(resolv\.conf|hosts|none)\Z")]
    upstreams: tuple[str, ...]
    search: tuple[str, ...] = ()


class Done(HostMessage, frozen=True):
    """A want of that number is in place, or failed: `problem` then says why and the machine is as before."""

    number: int
    problem: str | None = None


class HostWarning(HostMessage, frozen=True):
    """Something about the machine that the user should know (somebody rewrote resolv.conf, ...). Empty `text` clears the code."""

    code: str
    text: str
    fix: str | None = None


ToSupervisor = DaemonReady | WantCapture | WantNames | Alive | Stop
ToDaemon = HostMode | Done | HostWarning
