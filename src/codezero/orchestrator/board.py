"""The shared picture: what the Teamspace offers, who is there, what they consume, what happened. Pure: messages in, new picture out.

The catalog is that of one System at a time, the longest connected one that sees its cluster; the others stand by. Laptops for which the same
rules speak share a `View`. A view counts its own revisions, and only changes it shows make a new one, so what a laptop may not see leaves no
trace in what it gets (T38).

A reader keeps cursors and asks to catch up. Nothing is queued for anybody: what a slow reader missed is worked out when it can take more.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

from codezero.model.ids import Device, SessionId
from codezero.model.problems import CodezeroError
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Activity, ActivityKind, Presence, PresenceState
from codezero.model.variants import Serving, ServingState, VariantView
from codezero.orchestrator.admission import Viewer
from codezero.orchestrator.ledger import Ledger
from codezero.orchestrator.printable import printable
from codezero.orchestrator.serving import variant_weight
from codezero.wire.coordination import (
    SNAPSHOT_PART,
    ActivityHappened,
    CatalogDelta,
    CatalogReport,
    CatalogSnapshot,
    PresenceChanged,
)

KEPT_ACTIVITIES: Final = 1000
KEPT_REVISIONS: Final = 4096  # of each view, for readers that return
KEPT_VIEWS: Final = 16  # without readers, for those that return
# Presence is for people: of a laptop that consumes everything, so many services are shown.
SHOWN_CONSUMES: Final = 200
# More changes than this in one assertion are told as one activity.
TOLD_CHANGES: Final = 20
MAX_DETAIL: Final = 500
# A part of a picture is about this many bytes at most, so that a slow reader never holds more.
PART_WEIGHT: Final = 128 * 1024
# A revision tells its view: views are numbered in the upper bits, so that cursors of two views are never taken for one another.
_REVISIONS_OF_A_VIEW: Final = 1 << 32

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(eq=False, slots=True)
class View:
    """The catalog as some laptops see it; made by `Board.join_view`."""

    viewer: Viewer
    revision: int
    # Revision of the view → revision of the ledger that it covers; oldest first.
    marks: dict[int, int]
    stale_since: float | None
    readers: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A variant, and the service it is of."""

    service: ServiceRef
    view: VariantView


@dataclass(frozen=True, slots=True)
class Changes(Generic[Key, Item]):
    """What came or changed, and what went; with `reset` all there is."""

    upserts: tuple[Item, ...]
    removes: tuple[Key, ...]
    reset: bool


@dataclass(slots=True)
class _Report:
    """What one System says about the cluster."""

    services: dict[ServiceRef, Service] = field(default_factory=dict[ServiceRef, Service])
    # A full report on its way; it counts when it is complete.
    incoming: dict[ServiceRef, Service] | None = None
    complete: bool = False
    stale_since: float | None = None

    def apply(self, message: CatalogReport) -> None:
        if message.reset:
            self.incoming = {}
        target = self.services if self.incoming is None else self.incoming
        for service in message.upserts:
            target[service.ref] = service
        for ref in message.removes:
            target.pop(ref, None)
        if message.complete and self.incoming is not None:
            self.services, self.incoming, self.complete = self.incoming, None, True
        self.stale_since = message.stale_since


Told = Callable[[Activity, Presence | None], None]


class Board:
    """The picture of one Teamspace. `at` is UNIX time in seconds, for people to read.

    `told` hears each activity, and how its laptop was at that moment, as far as it was known.
    """

    def __init__(self, told: Told | None = None) -> None:
        self._told = told
        self._reports: dict[int, _Report] = {}
        self._primary: int | None = None
        self._catalog: Ledger[ServiceRef, Service] = Ledger()
        self._catalog_known = False
        self._stale_since: float | None = None
        self._presence: Ledger[SessionId, Presence] = Ledger()
        # Of each laptop, oldest first.
        self._sessions_of: dict[Device, list[SessionId]] = {}
        self._gone: dict[SessionId, Presence] = {}
        self._activities: deque[tuple[int, Activity]] = deque(maxlen=KEPT_ACTIVITIES)
        self._activity_number = 0
        self._views: dict[Viewer, View] = {}
        self._next_view = 0
        # What the catalog says about serving, up to that revision of it.
        self._serving: dict[ServiceRef, Serving] = {}
        self._variants: dict[str, Placed] = {}
        self._serving_sessions: Counter[SessionId] = Counter()
        self._variants_version = 0
        self._followed = 0

    # --- Systems --------------------------------------------------------------------------------------------------------------------

    def system_joined(self, link: int) -> None:
        """A System begins to report over that link."""
        self._reports[link] = _Report()

    def system_left(self, link: int, *, at: float) -> None:
        """The System of that link is gone; without another the catalog stays, marked stale."""
        del self._reports[link]
        self._choose(at)

    def catalog_reported(self, link: int, message: CatalogReport, *, at: float) -> None:
        """A System tells what the cluster has."""
        report = self._reports[link]
        whole_before = report.incoming is None and not message.reset
        report.apply(message)
        if link == self._primary and whole_before:
            for service in message.upserts:
                self._catalog.set(service.ref, service)
            for ref in message.removes:
                self._catalog.remove(ref)
        elif link == self._primary and report.incoming is None:
            self._catalog.replace(report.services)
        self._choose(at)

    @property
    def services(self) -> int:
        """How many services the catalog has."""
        return len(self._catalog)

    @property
    def catalog_known(self) -> bool:
        """Whether any System has reported a whole catalog yet."""
        return self._catalog_known

    @property
    def stale_since(self) -> float | None:
        """Since when (UNIX seconds) nobody sees the cluster."""
        return self._stale_since

    @property
    def primary(self) -> int | None:
        """The link of the System whose catalog is shown; None without one."""
        return self._primary

    def service(self, ref: ServiceRef) -> Service | None:
        """A service of the catalog; None where there is none of that name."""
        return self._catalog.values.get(ref)

    @property
    def variants(self) -> Mapping[str, Placed]:
        """All variants in the catalog, by id."""
        return self._variants

    @property
    def variants_version(self) -> int:
        """A number that changes whenever `variants` may have."""
        return self._variants_version

    def has_variants_of(self, session: SessionId) -> bool:
        """Whether the catalog has any variant of that session."""
        return session in self._serving_sessions

    def _choose(self, at: float) -> None:
        known_before = self._catalog_known
        whole = {link: report for link, report in self._reports.items() if report.complete}
        fresh = [link for link, report in whole.items() if report.stale_since is None]
        if self._primary not in whole or (self._primary not in fresh and fresh):
            self._primary = next(iter(fresh), next(iter(whole), None))
            if self._primary is not None:
                self._catalog.replace(whole[self._primary].services)
                self._catalog_known = True
        if self._primary is not None:
            self._stale_since = whole[self._primary].stale_since
        elif self._catalog_known and self._stale_since is None:
            self._stale_since = at
        for ref in self._follow_serving():
            if known_before:
                self._note_contested(ref, at=at)

    def _follow_serving(self) -> list[ServiceRef]:
        """Take over what the catalog says about serving; gives the services that have become contested."""
        values = self._catalog.values
        if self._catalog.knows(self._followed):
            changed = [ref for ref, _ in self._catalog.since(self._followed)]
        else:
            changed = list({*self._serving, *values})
        self._followed = self._catalog.revision
        contested: list[ServiceRef] = []
        for ref in changed:
            service = values.get(ref)
            before, now = self._serving.pop(ref, None), None if service is None else service.serving
            for view in () if before is None else before.variants:
                placed = self._variants.get(view.variant_id)
                if placed is not None and placed.service == ref:
                    del self._variants[view.variant_id]
            self._count_sessions(before, now)
            if now is None:
                continue
            self._serving[ref] = now
            for view in now.variants:
                self._variants.setdefault(view.variant_id, Placed(ref, view))
            was = None if before is None else before.state
            if now.state is ServingState.CONTESTED and was is not ServingState.CONTESTED:
                contested.append(ref)
        return contested

    def _count_sessions(self, before: Serving | None, now: Serving | None) -> None:
        if before == now:
            return
        self._variants_version += 1
        self._serving_sessions.update(view.session for view in (() if now is None else now.variants))
        for view in () if before is None else before.variants:
            self._serving_sessions[view.session] -= 1
            if not self._serving_sessions[view.session]:
                del self._serving_sessions[view.session]

    def _note_contested(self, ref: ServiceRef, *, at: float) -> None:
        serving = self._serving[ref]
        owners = {view.user: view for view in reversed(serving.variants)}
        for view in list(owners.values())[:TOLD_CHANGES]:
            self.happened(ActivityKind.CONTESTED, Placed(ref, view), at=at, detail=serving.detail)

    # --- laptops --------------------------------------------------------------------------------------------------------------------

    def device_of(self, session: SessionId) -> Device | None:
        """Whose session it is; None where there is no such session."""
        presence = self._presence.values.get(session)
        return None if presence is None else presence.device

    def sessions_of(self, device: Device) -> tuple[SessionId, ...]:
        """The sessions of a laptop, oldest first."""
        return tuple(self._sessions_of.get(device, ()))

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._presence)

    def arrived(
        self,
        session: SessionId,
        device: Device,
        name: str,
        *,
        at: float,
        user_name: str = "",
        again: bool = False,
    ) -> None:
        """A laptop begins or resumes its session; `again` when it was here before this board was, and only its return is new."""
        presence = self._presence.values.get(session)
        if presence is None:
            self._gone.pop(session, None)
            if not again:
                self._note(ActivityKind.JOINED, session, device, at=at)
            presence = Presence(session, device, name, PresenceState.ONLINE, at)
            self._sessions_of.setdefault(device, []).append(session)
        elif presence.state is PresenceState.AWAY:
            self._note(ActivityKind.RETURNED, session, device, at=at)
        self._presence.set(session, replace(presence, name=name, user_name=user_name, state=PresenceState.ONLINE))

    def is_heard(self, session: SessionId, *, at: float) -> None:
        """A laptop that was thought lost is there."""
        presence = self._presence.values[session]
        self.arrived(session, presence.device, presence.name, user_name=presence.user_name, at=at)

    def went_away(self, session: SessionId, *, at: float) -> None:
        """A laptop has been silent for too long."""
        presence = self._presence.values[session]
        self._note(ActivityKind.AWAY, session, presence.device, at=at)
        self._presence.set(session, replace(presence, state=PresenceState.AWAY))

    def left(self, session: SessionId, *, at: float) -> None:
        """A session is over; an unknown one is no mistake."""
        presence = self._presence.values.get(session)
        if presence is not None:
            self._note(ActivityKind.LEFT, session, presence.device, at=at)
            self._gone[session] = replace(presence, state=PresenceState.GONE, consumes=())
            self._presence.remove(session)
            sessions = self._sessions_of[presence.device]
            sessions.remove(session)
            if not sessions:
                del self._sessions_of[presence.device]

    def consumes(self, session: SessionId, services: Iterable[ServiceRef], *, at: float) -> None:
        """What a laptop consumes now: asserted by it, admitted by the policy."""
        presence = self._presence.values[session]
        before, now = frozenset(presence.consumes), frozenset(services)
        changes = [
            *((ActivityKind.CONSUMED, ref) for ref in sorted(now - before)),
            *((ActivityKind.RELEASED, ref) for ref in sorted(before - now)),
        ]
        if len(changes) <= TOLD_CHANGES:
            for kind, ref in changes:
                self._note(kind, session, presence.device, at=at, service=ref)
        else:
            detail = f"consumes {len(now)} services now"
            self._note(ActivityKind.CONSUMED, session, presence.device, at=at, detail=detail)
        # One object for each service, however many laptops consume it.
        known = self._catalog.values
        shared = (known[ref].ref if ref in known else ref for ref in sorted(now))
        self._presence.set(session, replace(presence, consumes=tuple(shared)))

    def refused(self, session: SessionId, service: ServiceRef | None, detail: str, *, at: float) -> None:
        """The System refused a laptop's stream; an unknown session is ignored."""
        device = self.device_of(session)
        if device is not None:
            self._note(ActivityKind.REFUSED, session, device, at=at, service=service, detail=detail[:1000])

    def happened(
        self,
        kind: ActivityKind,
        placed: Placed,
        *,
        at: float,
        detail: str,
        by: tuple[SessionId, Device] | None = None,
    ) -> None:
        """Something happened to a variant: done `by` that laptop, or by nobody but time and the Teamspace itself."""
        view = placed.view
        try:
            session, device = by or (view.session, Device.parse(view.device))
        except CodezeroError:
            return  # made by hand: it is nobody's
        text = printable(detail, most=MAX_DETAIL)
        self._note(
            kind, session, device, at=at, service=placed.service, detail=text, variant=view.variant_id, user=view.user
        )

    def _note(
        self,
        kind: ActivityKind,
        session: SessionId,
        device: Device,
        *,
        at: float,
        service: ServiceRef | None = None,
        detail: str = "",
        variant: str = "",
        user: str = "",
    ) -> None:
        self._activity_number += 1
        activity = Activity(at, kind, session, device, service, detail, variant, user)
        self._activities.append((self._activity_number, activity))
        if self._told is not None:
            self._told(activity, self._presence.values.get(session))

    # --- a reader who sees everything -------------------------------------------------------------------------------------------------

    @property
    def catalog_revision(self) -> int:
        """Where such a reader is after `catalog_since`."""
        return self._catalog.revision

    def catalog_since(self, revision: int | None) -> Changes[ServiceRef, Service]:
        """All that leads from `revision` of the catalog to what it is now."""
        return _changes(self._catalog, revision)

    def presence_since(self, revision: int | None) -> Changes[SessionId, Presence]:
        """All that leads from `revision` of the presences to what they are now."""
        return _changes(self._presence, revision)

    # --- readers --------------------------------------------------------------------------------------------------------------------

    def join_view(self, viewer: Viewer) -> View:
        """The view of those for whom `viewer` decides; to be given back by `leave_view`."""
        view = self._views.pop(viewer, None)
        if view is None:
            # Never 0, which is what a reader without anything says.
            revision = self._next_view * _REVISIONS_OF_A_VIEW + 1
            self._next_view += 1
            view = View(viewer, revision, {revision: self._catalog.revision}, self._stale_since)
        self._views[viewer] = view  # the last joined is the last to be forgotten
        view.readers += 1
        return view

    def leave_view(self, view: View) -> None:
        """A reader is gone."""
        view.readers -= 1
        idle = [viewer for viewer, other in self._views.items() if other.readers == 0]
        for viewer in idle[: max(0, len(idle) - KEPT_VIEWS)]:
            del self._views[viewer]

    @property
    def views(self) -> int:
        """How many different views there are."""
        return len(self._views)

    def advance(self) -> None:
        """Give each view that shows a change a new revision; to be called before readers catch up, once for many changes."""
        for view in self._views.values():
            self._advance(view)
        if len(self._gone) > KEPT_ACTIVITIES:
            # Readers that lag further behind get all presences anew.
            for session in list(self._gone)[: -KEPT_ACTIVITIES // 2]:
                del self._gone[session]

    def _advance(self, view: View) -> None:
        covered = view.marks[view.revision]
        if not self._catalog.knows(covered):
            view.marks.clear()
            changed = True
        else:
            changed = any(view.viewer.sees(ref) for ref, _ in self._catalog.since(covered))
        if changed or view.stale_since != self._stale_since:
            view.revision += 1
            view.stale_since = self._stale_since
        view.marks[view.revision] = self._catalog.revision
        if len(view.marks) > KEPT_REVISIONS:
            del view.marks[next(iter(view.marks))]

    def catch_up_catalog(self, view: View, revision: int | None) -> Sequence[CatalogSnapshot | CatalogDelta]:
        """What leads from `revision` of the view to its newest; nothing while no System has told the whole catalog.

        All messages but the last carry a revision from which the rest can be asked for again.
        """
        if not self._catalog_known or revision == view.revision:
            return ()
        covered = None if revision is None else view.marks.get(revision)
        if revision is None or covered is None or not self._catalog.knows(covered):
            return self._snapshot(view)
        changes = [(ref, service) for ref, service in self._catalog.since(covered) if view.viewer.sees(ref)]
        if len(changes) > SNAPSHOT_PART and len(changes) * 2 > len(self._catalog):
            return self._snapshot(view)
        return list(_deltas(view, revision, changes))

    def _snapshot(self, view: View) -> Sequence[CatalogSnapshot]:
        seen = [service for ref, service in self._catalog.values.items() if view.viewer.sees(ref)]
        parts = list(parts_of(seen, weight=service_weight, most=SNAPSHOT_PART)) or [()]
        closed = view.viewer.closed
        return [
            CatalogSnapshot(view.revision, number, number == len(parts) - 1, part, view.stale_since, closed)
            for number, part in enumerate(parts)
        ]

    @property
    def presence_revision(self) -> int:
        """Where a reader is after `catch_up_presence`."""
        return self._presence.revision

    def catch_up_presence(self, view: View, revision: int | None) -> Sequence[PresenceChanged]:
        """What leads from `revision` to the presences now, as the view shows them."""
        if revision == self._presence.revision:
            return ()
        changes: list[Presence] | None = None
        if revision is not None and self._presence.knows(revision):
            changes = []
            for session, presence in self._presence.since(revision):
                told = presence or self._gone.get(session)
                if told is None:
                    changes = None
                    break
                changes.append(told)
        reset = changes is None
        shown = [
            _as_seen(presence, view.viewer)
            for presence in (self._presence.values.values() if changes is None else changes)
            if presence.device.organization == view.viewer.organization
        ]
        parts = list(parts_of(shown, weight=presence_weight, most=1000))
        if reset and not parts:
            parts = [()]
        return [PresenceChanged(part, reset=reset and number == 0) for number, part in enumerate(parts)]

    @property
    def activity_number(self) -> int:
        """Where a reader is after `catch_up_activity`."""
        return self._activity_number

    def catch_up_activity(
        self, view: View, session: SessionId, number: int, *, until: int | None = None
    ) -> Sequence[ActivityHappened]:
        """What happened after `number` and up to `until`, as the view shows it; what concerns the laptop itself is always shown to it."""
        if number == self._activity_number:
            return ()
        news: list[Activity] = []
        for position, activity in reversed(self._activities):
            if position <= number:
                break
            if until is not None and position > until:
                continue
            if activity.device.organization == view.viewer.organization and (
                activity.service is None or self._concerns(activity, session) or view.viewer.sees(activity.service)
            ):
                news.append(activity)
        news.reverse()
        return [ActivityHappened(part) for part in parts_of(news, weight=_activity_weight, most=500)]

    def concerns_alone(self, view: View, session: SessionId, number: int) -> bool:
        """Whether `session` gets other activities after `number` than other readers of its view."""
        for position, activity in reversed(self._activities):
            if position <= number:
                return False
            if (
                activity.service is not None
                and self._concerns(activity, session)
                and not view.viewer.sees(activity.service)
            ):
                return True
        return False

    def _concerns(self, activity: Activity, session: SessionId) -> bool:
        if activity.session == session:
            return True
        device = self.device_of(session)
        return device is not None and activity.user == device.user


def _changes(ledger: Ledger[Key, Item], revision: int | None) -> Changes[Key, Item]:
    if revision is None or not ledger.knows(revision):
        return Changes(tuple(ledger.values.values()), (), reset=True)
    found = list(ledger.since(revision))
    upserts = tuple(value for _, value in found if value is not None)
    return Changes(upserts, tuple(key for key, value in found if value is None), reset=False)


def service_weight(service: Service) -> int:
    """About how many bytes a service takes in a message, rather more than less."""
    served = 0
    if service.serving is not None:
        served = 100 + 4 * len(service.serving.detail) + sum(map(variant_weight, service.serving.variants))
    return 500 + 100 * len(service.ports) + 80 * len(service.pods) + served


def presence_weight(presence: Presence) -> int:
    """About how many bytes a presence takes in a message."""
    return 500 + 100 * len(presence.consumes)


def _activity_weight(activity: Activity) -> int:
    return 500 + len(activity.detail)


def _as_seen(presence: Presence, viewer: Viewer) -> Presence:
    if not presence.consumes:
        return presence
    shown: list[ServiceRef] = []
    for ref in presence.consumes:
        if viewer.sees(ref):
            shown.append(ref)
            if len(shown) == SHOWN_CONSUMES:
                break
    return replace(presence, consumes=tuple(shown))


def _deltas(view: View, revision: int, changes: Sequence[tuple[ServiceRef, Service | None]]) -> Iterator[CatalogDelta]:
    def weight(change: tuple[ServiceRef, Service | None]) -> int:
        return 150 if change[1] is None else service_weight(change[1])

    parts = list(parts_of(changes, weight=weight, most=SNAPSHOT_PART)) or [()]
    for number, part in enumerate(parts):
        yield CatalogDelta(
            view.revision if number == len(parts) - 1 else revision,
            tuple(service for _, service in part if service is not None),
            tuple(ref for ref, service in part if service is None),
            view.stale_since,
        )


def parts_of(items: Iterable[Item], *, weight: Callable[[Item], int], most: int) -> Iterator[tuple[Item, ...]]:
    """`items` in parts, each of which fits well into a message."""
    part: list[Item] = []
    heavy = 0
    for item in items:
        if part and (len(part) == most or heavy + weight(item) > PART_WEIGHT):
            yield tuple(part)
            part, heavy = [], 0
        part.append(item)
        heavy += weight(item)
    if part:
        yield tuple(part)
