"""What a Teamspace tells about itself: gathered as it comes over the channel, and kept in the database now and then, for all replicas of the Hub."""

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signals import Changed
from codezero.hub.storage.tables import Picture, Space
from codezero.model import problems
from codezero.model.ids import SessionId
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.wire.hub_channel import CatalogTold, Event, PresenceTold

# A Teamspace that says more is not believed.
MAX_SERVICES: Final = 50_000
MAX_PRESENCES: Final = 20_000
KEPT_EVENTS: Final = 500
# Of JSON, all pictures of a Teamspace together: three times a catalog of 10,000 services with 5,000 laptops.
MAX_BYTES: Final = 32 * 1024 * 1024
# The larger a picture is the rarer it is written.
LEAST_SECONDS: Final = 1.0
SECONDS_A_MEGABYTE: Final = 5.0


class Kind(StrEnum):
    """What a picture shows: `catalog` (services, with who serves them), `presence` (laptops, with what they consume), `activity` (what happened last)."""

    CATALOG = "catalog"
    PRESENCE = "presence"
    ACTIVITY = "activity"


class Shown(msgspec.Struct, frozen=True):
    """A picture: when it was written, since when the Teamspace has not seen its cluster (UNIX seconds), and its items."""

    at: datetime | None
    items: list[dict[str, Any]]
    stale_since: float | None = None


class _Content(msgspec.Struct):
    items: list[dict[str, Any]]
    stale_since: float | None = None


async def shown(session: AsyncSession, organization: str, space: str, kind: Kind) -> Shown:
    """What the Teamspace told last; nothing where it never has."""
    row = await session.scalar(
        select(Picture).where(
            Picture.space_id == space, Picture.organization_id == organization, Picture.kind == kind.value
        )
    )
    if row is None:
        return Shown(None, [])
    content = msgspec.json.decode(row.content, type=_Content)
    return Shown(row.at, content.items, content.stale_since)


K = TypeVar("K")


class _Items(Generic[K]):
    """Items of a picture as JSON, and how many bytes they have."""

    def __init__(self) -> None:
        self.held: dict[K, msgspec.Raw] = {}
        self.size = 0

    def put(self, key: K, item: object) -> None:
        self.drop(key)
        encoded = msgspec.json.encode(item)
        self.held[key] = msgspec.Raw(encoded)
        self.size += len(encoded)

    def drop(self, key: K) -> None:
        before = self.held.pop(key, None)
        if before is not None:
            self.size -= len(before)


class Live:
    """What one Teamspace has told over its channel. `steady` is a clock that never jumps."""

    def __init__(self, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._services = _Items[ServiceRef]()
        self._incoming: _Items[ServiceRef] | None = None
        self._stale_since: float | None = None
        self._presences = _Items[SessionId]()
        self._arriving: _Items[SessionId] | None = None
        self._events: deque[msgspec.Raw] = deque()
        self._events_size = 0
        self._changed: set[Kind] = set()
        self._due: dict[Kind, float] = {}

    def catalog(self, told: CatalogTold) -> None:
        """Services came, changed or went. Raises `CodezeroError` (PROTOCOL) where there are more than a cluster has."""
        if told.reset:
            self._incoming = _Items()
        target = self._services if self._incoming is None else self._incoming
        for service in told.upserts:
            target.put(service.ref, service)
        for ref in told.removes:
            target.drop(ref)
        if len(target.held) > MAX_SERVICES:
            raise CodezeroError(problems.PROTOCOL, f"the Teamspace tells of more than {MAX_SERVICES} services")
        self._check_size()
        if told.last and self._incoming is not None:
            self._services, self._incoming = self._incoming, None
        self._stale_since = told.stale_since
        if self._incoming is None:
            self._changed.add(Kind.CATALOG)

    def presence(self, told: PresenceTold) -> None:
        """Laptops came, changed or went. Raises `CodezeroError` (PROTOCOL) where there are more than a Teamspace takes."""
        if told.reset:
            self._arriving = _Items()
        target = self._presences if self._arriving is None else self._arriving
        for presence in told.upserts:
            target.put(presence.session, presence)
        for session in told.removes:
            target.drop(session)
        if len(target.held) > MAX_PRESENCES:
            raise CodezeroError(problems.PROTOCOL, f"the Teamspace tells of more than {MAX_PRESENCES} laptops")
        self._check_size()
        if told.last and self._arriving is not None:
            self._presences, self._arriving = self._arriving, None
        if self._arriving is None:
            self._changed.add(Kind.PRESENCE)

    def happened(self, events: tuple[Event, ...]) -> None:
        """Something happened. Raises `CodezeroError` (PROTOCOL) where that is more than the Hub keeps."""
        for event in events[-KEPT_EVENTS:]:
            encoded = msgspec.json.encode(event)
            self._events.append(msgspec.Raw(encoded))
            self._events_size += len(encoded)
        while len(self._events) > KEPT_EVENTS:
            self._events_size -= len(self._events.popleft())
        self._check_size()
        self._changed.add(Kind.ACTIVITY)

    @property
    def due(self) -> tuple[Kind, ...]:
        """What has changed and may be written now."""
        now = self._steady()
        return tuple(sorted(kind for kind in self._changed if now >= self._due.get(kind, 0.0)))

    def take(self, kind: Kind) -> bytes:
        """The picture as JSON, which counts as written."""
        match kind:
            case Kind.CATALOG:
                items = [self._services.held[ref] for ref in sorted(self._services.held)]
            case Kind.PRESENCE:
                items = list(self._presences.held.values())
            case Kind.ACTIVITY:
                items = list(self._events)
        stale = self._stale_since if kind is Kind.CATALOG else None
        content = msgspec.json.encode({"items": items, "stale_since": stale})
        self._changed.discard(kind)
        self._due[kind] = self._steady() + LEAST_SECONDS + SECONDS_A_MEGABYTE * len(content) / 1e6
        return content

    def _check_size(self) -> None:
        """Of a picture that comes anew, and the one of before, the larger counts: one of them goes."""
        services = max(self._services.size, 0 if self._incoming is None else self._incoming.size)
        presences = max(self._presences.size, 0 if self._arriving is None else self._arriving.size)
        size = services + presences + self._events_size
        if size > MAX_BYTES:
            raise CodezeroError(problems.PROTOCOL, f"the Teamspace tells {size} bytes; at most {MAX_BYTES} are kept")


async def keep(session: AsyncSession, hub: Hub, space: Space, kind: Kind, content: bytes) -> None:
    """Write a picture, and tell those who look."""
    row = await session.get(Picture, (space.id, kind.value))
    if row is None:
        row = Picture(space_id=space.id, kind=kind.value, organization_id=space.organization_id)
        session.add(row)
    row.content, row.at = content, hub.clock()
    hub.signals.tell(session, Changed("picture", space.organization_id, space.id, kind.value))
