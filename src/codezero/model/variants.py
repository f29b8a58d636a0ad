"""How a served service looks to its team: its variants, whose they are, and how they fare. Plain values, as they travel."""

from dataclasses import dataclass
from enum import StrEnum

from codezero.model.ids import SessionId


class Mirror(StrEnum):
    """Which requests a mirror copies: `safe` methods (RFC 9110, 9.2.1: GET, HEAD, OPTIONS, TRACE) or `all`."""

    SAFE = "safe"
    ALL = "all"


class ServingState(StrEnum):
    """How the rewiring of a service stands.

    `preparing` until its Router has its traffic; `active`; `contested` when somebody else keeps writing its selector, so that its traffic stays
    with the team's pods; `restoring` on the way back; `refused` when it cannot be served, with the reason.
    """

    PREPARING = "preparing"
    ACTIVE = "active"
    CONTESTED = "contested"
    RESTORING = "restoring"
    REFUSED = "refused"


class VariantState(StrEnum):
    """`pending` until Routers know it; `active`; `away` while its laptop is, and the service's own pods answer instead."""

    PENDING = "pending"
    ACTIVE = "active"
    AWAY = "away"


@dataclass(frozen=True, slots=True, order=True)
class ConditionPart:
    """One predicate of a condition as flags and the Serve resource spell it: its kind, and key and value where the kind has them."""

    kind: str
    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class PortPair:
    """Requests to `remote`, a port of the service, go to `local` of `host`; host None means the laptop itself (127.0.0.1 or ::1)."""

    remote: int
    local: int
    host: str | None = None


@dataclass(frozen=True, slots=True)
class VariantView:
    """A variant as others see it.

    `variant_id` and `user` are ULIDs, `device` is a SPIFFE id; `condition` is all of its parts; `since` is in milliseconds of UNIX time,
    `expires` in seconds.
    """

    variant_id: str
    user: str
    user_name: str
    device: str
    session: SessionId
    condition: tuple[ConditionPart, ...]
    ports: tuple[PortPair, ...]
    since: int
    expires: float
    state: VariantState = VariantState.PENDING
    mirror: Mirror | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """How a served service fares, and its variants in order of precedence. `detail` is for people, empty when all is well."""

    state: ServingState
    variants: tuple[VariantView, ...] = ()
    detail: str = ""
