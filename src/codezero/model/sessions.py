"""Who is connected to a Teamspace, and what they consume."""

from dataclasses import dataclass
from enum import StrEnum

from codezero.model.ids import Device, SessionId
from codezero.model.services import ServiceRef


class PresenceState(StrEnum):
    """How a connected laptop is doing: `online`, `away` (silent for 15 s, session kept), `gone` (ended)."""

    ONLINE = "online"
    AWAY = "away"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Presence:
    """A laptop as its team sees it. `since` is UNIX time in seconds; `consumes` is sorted.

    `name` is what the laptop calls itself, `user_name` its user; they are for people and prove nothing.
    """

    session: SessionId
    device: Device
    name: str
    state: PresenceState
    since: float
    consumes: tuple[ServiceRef, ...] = ()
    user_name: str = ""


class ActivityKind(StrEnum):
    """What happened."""

    JOINED = "joined"
    LEFT = "left"
    AWAY = "away"
    RETURNED = "returned"
    CONSUMED = "consumed"
    RELEASED = "released"
    REFUSED = "refused"
    SERVED = "served"
    UNSERVED = "unserved"
    TAKEN_OVER = "taken-over"
    TERMINATED = "terminated"
    EXPIRED = "expired"
    CONTESTED = "contested"


@dataclass(frozen=True, slots=True)
class Activity:
    """One thing that happened in a Teamspace. `at` is UNIX time in seconds; `detail` is for people.

    `session` and `device` say who did it. Where it is about a variant, `variant` is its id and `user` the ULID of its owner, who is told even
    when somebody else did it.
    """

    at: float
    kind: ActivityKind
    session: SessionId
    device: Device
    service: ServiceRef | None = None
    detail: str = ""
    variant: str = ""
    user: str = ""
