"""Identifiers: ULIDs for what we make, SPIFFE ids for who speaks.

A SPIFFE id is compared and parsed strictly: no escapes, no dots, no empty segment, no normalisation (a lesson of CVE-2021-27099).
"""

import re
from dataclasses import dataclass
from typing import NewType

from codezero.model import problems
from codezero.model.problems import CodezeroError

TeamspaceId = NewType("TeamspaceId", str)
SessionId = NewType("SessionId", str)

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_DEVICE = re.compile(r"spiffe://([a-z0-9][a-z0-9.-]{0,252})/org/([^/]+)/user/([^/]+)/device/([^/]+)")
_WORKLOAD = re.compile(
    r"spiffe://([^/]+)\.codezero/(?:(system|orchestrator)|(router)/([a-z0-9-]{1,63}/[a-z0-9-]{1,63}))"
)


def new_ulid() -> str:
    """A fresh ULID: 26 characters, upper case, sortable by time of making."""
    from ulid import ULID  # here, because czctl reads ids and makes none: the library would cost it 20 ms

    return str(ULID())


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID in its canonical upper-case form."""
    return _ULID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Device:
    """A laptop of a user of an organization, known to one installation (the Hub's trust domain)."""

    install: str
    organization: str
    user: str
    device: str

    def __str__(self) -> str:
        return f"spiffe://{self.install}/org/{self.organization}/user/{self.user}/device/{self.device}"

    @staticmethod
    def parse(text: str) -> "Device":
        """The device that `text` names; raises `CodezeroError` for anything that is not exactly such an id."""
        match = _DEVICE.fullmatch(text)
        if match is None or not all(is_ulid(part) for part in match.groups()[1:]):
            raise CodezeroError(problems.BAD_IDENTITY, f"{text[:200]!r} is not the id of a device")
        return Device(*match.groups())


@dataclass(frozen=True, slots=True)
class Workload:
    """A part of ours inside the cluster of one Teamspace: `system`, `orchestrator`, or the `router` of one service (`namespace/name`)."""

    teamspace: TeamspaceId
    role: str
    service: str | None = None

    def __str__(self) -> str:
        service = f"/{self.service}" if self.service is not None else ""
        return f"spiffe://{self.teamspace.lower()}.codezero/{self.role}{service}"

    @staticmethod
    def parse(text: str) -> "Workload":
        """The workload that `text` names; raises `CodezeroError` for anything that is not exactly such an id."""
        match = _WORKLOAD.fullmatch(text)
        if match is None or text != text.replace(match[1], match[1].lower()) or not is_ulid(match[1].upper()):
            raise CodezeroError(problems.BAD_IDENTITY, f"{text[:200]!r} is not the id of a part of a Teamspace")
        return Workload(TeamspaceId(match[1].upper()), match[2] or match[3], match[4])
