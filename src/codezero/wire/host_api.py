"""Messages between Daemon and Supervisor over a socket pair: the few things the Supervisor does for the Daemon, and their heartbeat.

The Daemon states what it wants of the machine; the Supervisor (root) checks it, journals it, does it. Each message is
one `SOCK_SEQPACKET` packet up to `MAX_PACKET`, at most `PART` entries each. A file name, command or
address outside our range cannot be said in these messages.
"""

from typing import Annotated

import msgspec

MAX_PACKET = 128 * 1024
PART = 400  # entries in one part; as many of the longest names fit one packet

# DESIGN 7: one virtual address per service; .0.0-.0.255 are reserved for us.
VIRTUAL_NETWORK = "127.72.0.0/14"
DNS_ADDRESS = "127.72.0.53"

_Address = Annotated[str, msgspec.Meta(pattern=r"\A127\.7[2-5]\.[0-9]{1,3}\.[0-9]{1,3}\Z")]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_HostName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")]


class HostMessage(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """Base of all messages of this channel."""


class HostMode(HostMessage, frozen=True):
    """The Supervisor's first message: how the machine will be set up. Sent again when `upstreams` change.

    In `nftables` capture the Daemon listens on privileged ports of 127.0.0.1 and tells them by `DaemonReady`; in `listeners` capture it binds
    each virtual address and port itself, and DNS at `DNS_ADDRESS`:53. `upstreams` are the machine's own name servers, in order, `address` or
    `address#port`. In `resolv.conf` mode the Daemon answers names by DNS; in `hosts` mode it sends `PublishNames`.
    """

    capture: Annotated[str, msgspec.Meta(pattern=r"\A(nftables|listeners)\Z")]
    names: Annotated[str, msgspec.Meta(pattern=r"\A(resolv\.conf|hosts|none)\Z")]
    upstreams: tuple[str, ...] = ()


class DaemonReady(HostMessage, frozen=True):
    """The Daemon listens: captured TCP connections at `capture_port`, DNS (UDP and TCP) at `dns_port`, both of 127.0.0.1. Answered by `Done` 0.

    From now on names are wanted: the Supervisor points the machine's resolver at us.
    """

    capture_port: _Port
    dns_port: _Port


class ChangeCapture(HostMessage, frozen=True):
    """(virtual address, port) pairs to capture from now on, and no longer; with `reset` all earlier ones go first. Answered by `Done`.

    `datagrams` speaks of UDP ports, which the Daemon binds itself: they are let through instead of being rejected.
    """

    number: int
    add: tuple[tuple[_Address, _Port], ...] = ()
    remove: tuple[tuple[_Address, _Port], ...] = ()
    reset: bool = False
    datagrams: bool = False


class PublishNames(HostMessage, frozen=True):
    """All names to publish in `hosts` mode, each with its address; replaces those before when the part with `last` is in. Answered by `Done`."""

    number: int
    entries: tuple[tuple[_HostName, _Address], ...]
    part: int = 0
    last: bool = True


class Alive(HostMessage, frozen=True):
    """The Daemon's heartbeat, each second; silent for 10 s means it hangs and is replaced."""


class Stop(HostMessage, frozen=True):
    """The Daemon asks the Supervisor to end everything and put the machine back (`czctl stop`)."""


class Done(HostMessage, frozen=True):
    """The request of that number is in place, or failed: `problem` then says why and the machine is as before."""

    number: int
    problem: str | None = None


class HostWarning(HostMessage, frozen=True):
    """Something about the machine that the user should know (somebody rewrote resolv.conf, ...). Empty `text` clears the code."""

    code: str
    text: str
    fix: str | None = None


ToSupervisor = DaemonReady | ChangeCapture | PublishNames | Alive | Stop
ToDaemon = HostMode | Done | HostWarning
