"""What this laptop serves in a Teamspace, held against the catalog, which is the truth about it. Decides only; time reaches it as a value.

A variant is ours when the catalog shows it for our device and session. One of ours that a current catalog lacks has ended; one that we know nothing
of is a stranger, to be ended. Both judgements allow for messages that overtake each other: an answer may come before the catalog tells the same,
and the other way round.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from codezero.local.daemon.reaching import curl_to
from codezero.local.daemon.state import SavedServe, SavedServes, ServeWish
from codezero.model import problems
from codezero.model.ids import SessionId, is_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import Variant, condition_from_parts, precedence
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Activity, ActivityKind
from codezero.model.variants import ConditionPart, Mirror, PortPair, ServingState, VariantState, VariantView
from codezero.wire.local_api import HealthWarning, ServedVariant, Severity

# How long an answer may be ahead of the catalog, and an end that we asked for.
GRACE_SECONDS = 60.0
# How long a serve without an answer may still come true.
WISH_SECONDS = 120.0
# How long status tells that a serve has ended, unless the service is served again or the user ends it too.
NOTICE_SECONDS = 600.0

SERVE_ENDED = "SERVE_ENDED"
SERVE_CONTESTED = "SERVE_CONTESTED"
SERVE_REFUSED = "SERVE_REFUSED"
SERVE_AWAY = "SERVE_AWAY"
SERVE_NOT_ANSWERING = "SERVE_NOT_ANSWERING"
MIRROR_NOT_COMPARED = "MIRROR_NOT_COMPARED"

_TARGET = re.compile(r"([0-9A-Z]{26}):([1-9][0-9]{0,4})")
_ENDS = {
    ActivityKind.TAKEN_OVER: "it was taken over",
    ActivityKind.TERMINATED: "it was terminated",
    ActivityKind.EXPIRED: "it has expired",
    ActivityKind.UNSERVED: "it was ended",
}
_MOST_REMEMBERED = 200


@dataclass(slots=True)
class Held:
    """A variant of this laptop.

    `known_at` is when we were told of it last, UNIX seconds; `seen` whether the catalog has shown it, `agreed` whether it shows it as we were told.
    `troubles` says for each port of the service why the local process could not be reached last; `not_compared` are ports of a mirror that got
    copies by HTTP/2.
    """

    service: ServiceRef
    variant: VariantView
    known_at: float
    seen: bool = False
    agreed: bool = False
    requests: int = 0
    failed: int = 0
    troubles: dict[int, str] = field(default_factory=dict[int, str])
    not_compared: set[int] = field(default_factory=set[int])

    @property
    def condition(self) -> str:
        """Its condition, for people."""
        return _condition_text(self.variant)


@dataclass(frozen=True, slots=True)
class Notice:
    """A variant that ended without our doing: why, where somebody said so, and when we noticed."""

    service: ServiceRef
    condition: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a look at the catalog brought: variants that have ended, strangers to end, and whether anything changed that is shown or kept."""

    ended: tuple[Held, ...] = ()
    strangers: tuple[tuple[ServiceRef, str], ...] = ()
    changed: bool = False


class Serving:
    """The variants of one laptop, `device` (a SPIFFE id), in one Teamspace."""

    def __init__(self, saved: SavedServes) -> None:
        self._teamspace = saved.teamspace
        self._device = saved.device
        self._held = {one.variant.variant_id: Held(one.service, one.variant, 0.0, one.seen) for one in saved.serves}
        self._wishes = list(saved.wishes)
        # Services whose variants in the catalog include some of our device: the only ones to look at besides those we hold variants of.
        self._showing: set[ServiceRef] = set()
        self._ending: dict[str, float] = {}
        # Ended without our doing a moment ago, and when.
        self._lost: dict[str, tuple[Held, float]] = {}
        self._notices: dict[str, Notice] = {}
        self._ends: dict[str, str] = {}

    @property
    def held(self) -> Mapping[str, Held]:
        """The variants by their ids."""
        return self._held

    @property
    def device(self) -> str:
        """Whose variants these are."""
        return self._device

    @property
    def local_ports(self) -> frozenset[int]:
        """The ports of this machine that answer for variants."""
        return frozenset(port.local for held in self._held.values() for port in held.variant.ports if port.host is None)

    def saved(self) -> SavedServes:
        """What to keep on disk."""
        return SavedServes(
            self._teamspace,
            self._device,
            tuple(SavedServe(one.service, one.variant, one.seen) for one in self._held.values()),
            tuple(self._wishes),
        )

    def of(self, service: ServiceRef) -> tuple[str, ...]:
        """The ids of the variants of that service."""
        return tuple(key for key, held in self._held.items() if held.service == service)

    # --- What the user does -------------------------------------------------------------------------------------------------------------

    def wish(self, wish: ServeWish) -> None:
        """A serve is about to be asked for; whatever variant comes of it is ours, answer or not."""
        self._wishes.append(wish)
        self.dismiss(wish.service)

    def withdraw(self, wish: ServeWish) -> bool:
        """Nothing will come of it; tells whether anything could."""
        if wish not in self._wishes:
            return False
        self._wishes.remove(wish)
        return True

    def withdraw_all(self, service: ServiceRef | None = None) -> bool:
        """The user wants nothing of that service, or of any, any longer: what still comes of it is a stranger. Tells whether there were wishes."""
        before = len(self._wishes)
        self._wishes = [] if service is None else [one for one in self._wishes if one.service != service]
        self._lost = (
            {} if service is None else {key: one for key, one in self._lost.items() if one[0].service != service}
        )
        return len(self._wishes) < before

    def hold(self, service: ServiceRef, variant: VariantView, *, at: float) -> None:
        """The Teamspace has answered: this variant is ours, as it stands there."""
        held = self._held.setdefault(variant.variant_id, Held(service, variant, at))
        # The one that is there already: its streams know it.
        held.variant, held.known_at, held.agreed = variant, at, False
        held.troubles.clear()
        self._ending.pop(variant.variant_id, None)
        self.dismiss(service)

    def expect_end(self, ids: Iterable[str], *, at: float) -> None:
        """We are about to end these, so nobody is to be told that they have ended."""
        self._ending.update((key, at) for key in ids)

    def forget_end(self, ids: Iterable[str]) -> None:
        """The Teamspace may not have heard that these are to end: what it shows of them is a stranger at once."""
        for key in ids:
            self._ending.pop(key, None)

    def release(self, ids: Iterable[str], *, at: float) -> tuple[Held, ...]:
        """These are over, because we say so; gives those that were ours."""
        ids = tuple(ids)
        self.expect_end(ids, at=at)
        released = tuple(held for key in ids if (held := self._held.pop(key, None)) is not None)
        for held in released:
            self.dismiss(held.service)
        return released

    def dismiss(self, service: ServiceRef | None = None) -> bool:
        """The user has seen that serves of that service, or of any, have ended; tells whether there was anything to see."""
        before = len(self._notices)
        self._notices = (
            {} if service is None else {key: one for key, one in self._notices.items() if one.service != service}
        )
        return len(self._notices) < before

    # --- What the Teamspace says --------------------------------------------------------------------------------------------------------

    def note_catalog(self, upserts: Iterable[Service], removes: Iterable[ServiceRef]) -> None:
        """What changed in the catalog."""
        self._showing.difference_update(removes)
        for service in upserts:
            variants = service.serving.variants if service.serving is not None else ()
            if any(one.device == self._device for one in variants):
                self._showing.add(service.ref)
            else:
                self._showing.discard(service.ref)

    def reconcile(
        self, catalog: Mapping[ServiceRef, Service], *, session: SessionId, at: float, connected_at: float = 0.0
    ) -> Reconciled:
        """Compare with a catalog that is complete and, but for changes on their way, current; it is followed since `connected_at`."""
        changed = False
        ended: list[Held] = []
        self._wishes = [one for one in self._wishes if at - one.at < WISH_SECONDS]
        self._ending = {key: when for key, when in self._ending.items() if at - when < GRACE_SECONDS}
        self._lost = {key: (one, when) for key, (one, when) in self._lost.items() if at - when < GRACE_SECONDS}
        for key, held in tuple(self._held.items()):
            shown = _variant_in(catalog.get(held.service), key)
            if shown is not None and shown.device == self._device and shown.session == session:
                changed |= _take(held, shown, at=at)
            elif self._is_over(held, shown, held.service in catalog, waited=at - max(held.known_at, connected_at)):
                del self._held[key]
                changed = True
                if key not in self._ending:
                    ended.append(held)
                    self._lost[key] = held, at
                    self._notice(held, shown, at=at)
        strangers: list[tuple[ServiceRef, str]] = []
        for ref in self._showing:
            for shown in _variants_of(catalog.get(ref)):
                if shown.device != self._device or shown.session != session or shown.variant_id in self._held:
                    continue
                if self._was_wished(ref, shown):
                    self._held[shown.variant_id] = Held(ref, shown, at, seen=True, agreed=True)
                    changed = True
                elif (lost := self._lost.pop(shown.variant_id, None)) is not None:
                    # Another System tells the catalog now, and knew less for a moment.
                    self._held[shown.variant_id] = lost[0]
                    self._notices.pop(shown.variant_id, None)
                    _take(lost[0], shown, at=at)
                    changed = True
                # What is asked for at this moment may become of that very variant, which keeps its id: it must not be ended meanwhile.
                elif shown.variant_id not in self._ending and not self._may_be_wished(ref, shown):
                    self._ending[shown.variant_id] = at
                    strangers.append((ref, shown.variant_id))
        return Reconciled(tuple(ended), tuple(strangers), changed)

    def happened(self, activity: Activity) -> bool:
        """Something happened in the Teamspace; tells whether it explains an end that status shows."""
        if activity.kind not in _ENDS or not activity.variant:
            return False
        self._ends[activity.variant] = reason = activity.detail or _ENDS[activity.kind]
        if len(self._ends) > _MOST_REMEMBERED:
            del self._ends[next(iter(self._ends))]
        notice = self._notices.get(activity.variant)
        if notice is None or notice.reason == reason:
            return False
        self._notices[activity.variant] = replace(notice, reason=reason)
        return True

    # --- What is shown ------------------------------------------------------------------------------------------------------------------

    def destination(self, target: str) -> tuple[Held, PortPair]:
        """Where a stream that the System opened for `target` goes; raises `CodezeroError` unless this laptop declared exactly that."""
        match = _TARGET.fullmatch(target)
        if match is None or not is_ulid(match[1]) or int(match[2]) > 65535:
            raise CodezeroError(problems.BAD_REQUEST, f"{target[:100]!r} is not a port of a variant")
        held = self._held.get(match[1])
        if held is None:
            raise CodezeroError(problems.SERVE_UNKNOWN, f"this laptop has no variant {match[1]}")
        pair = next((one for one in held.variant.ports if one.remote == int(match[2])), None)
        if pair is None:
            raise CodezeroError(problems.PORT_NOT_SERVED, f"variant {match[1]} does not serve port {match[2]}")
        return held, pair

    def view(self, catalog: Mapping[ServiceRef, Service]) -> tuple[ServedVariant, ...]:
        """Everything served, by service and then by precedence."""
        ordered = sorted(self._held.values(), key=lambda one: (one.service, _precedence(one)))
        return tuple(served_view(one, catalog) for one in ordered)

    def is_settled(self, variant_id: str, catalog: Mapping[ServiceRef, Service]) -> bool:
        """Whether there is nothing more to wait for: the variant answers, has ended, or cannot be put in place."""
        held = self._held.get(variant_id)
        if held is None:
            return True
        # A catalog that does not know of this serve yet says nothing about it, also not that its service is contested.
        serving = _serving_state(catalog.get(held.service))
        return held.agreed and (
            held.variant.state is VariantState.ACTIVE or serving in {ServingState.CONTESTED, ServingState.REFUSED}
        )

    def warnings(self, catalog: Mapping[ServiceRef, Service] | None, *, at: float) -> tuple[HealthWarning, ...]:
        """What is wrong with what is served, and what has ended lately; `catalog` None is one that may be old."""
        found: list[HealthWarning] = []
        if catalog is not None:
            for ref in sorted({one.service for one in self._held.values()}):
                found += _service_warnings(ref, catalog.get(ref))
        for held in sorted(self._held.values(), key=lambda one: (one.service, one.variant.variant_id)):
            found += _trouble_warnings(held)
            found += _not_compared_warnings(held)
            if catalog is not None and held.agreed and held.variant.state is VariantState.AWAY:
                found.append(_away_warning(held))
        self._notices = {key: one for key, one in self._notices.items() if at - one.at < NOTICE_SECONDS}
        return (*found, *(_notice_warning(one) for one in self._notices.values()))

    # --- Small things -------------------------------------------------------------------------------------------------------------------

    def _is_over(self, held: Held, shown: VariantView | None, is_visible: bool, *, waited: float) -> bool:
        if held.variant.variant_id in self._ending:
            return True
        if shown is None and not is_visible and not held.seen:
            # A service that we may serve and not see.
            return False
        return held.seen or waited >= GRACE_SECONDS

    def _notice(self, held: Held, shown: VariantView | None, *, at: float) -> None:
        reason = self._ends.get(held.variant.variant_id, "")
        if shown is not None:
            same_device = shown.device == self._device
            reason = "this laptop's session is a new one" if same_device else "another laptop serves it now"
        self._notices[held.variant.variant_id] = Notice(held.service, held.condition, at, reason)

    def _may_be_wished(self, ref: ServiceRef, shown: VariantView) -> bool:
        condition = frozenset(shown.condition)
        return any(
            wish.service == ref
            and frozenset(wish.condition) == condition
            and (wish.mirror is None) == (shown.mirror is None)
            for wish in self._wishes
        )

    def _was_wished(self, ref: ServiceRef, shown: VariantView) -> bool:
        for wish in self._wishes:
            if wish.service == ref and _is_same(shown, wish.condition, wish.ports, wish.mirror):
                self._wishes.remove(wish)
                return True
        return False


def served_view(held: Held, catalog: Mapping[ServiceRef, Service]) -> ServedVariant:
    """The variant as the local API shows it."""
    service = catalog.get(held.service)
    serving = service.serving if service is not None and held.agreed else None
    state = held.variant.state if held.agreed else VariantState.PENDING
    return ServedVariant(
        held.service,
        held.variant,
        state,
        serving.state if serving is not None else ServingState.PREPARING,
        serving.detail if serving is not None else "",
        curl_to(held.service, held.variant, service),
        held.requests,
        held.failed,
    )


def _take(held: Held, shown: VariantView, *, at: float) -> bool:
    """Go on with the variant as the catalog shows it, unless that is older than what we were told; tells whether anything changed."""
    before = (held.variant, held.seen, held.agreed)
    held.seen = True
    told = held.variant
    is_same = _is_same(shown, told.condition, told.ports, told.mirror) and abs(shown.expires - told.expires) < 1
    if is_same or held.agreed or at - held.known_at >= GRACE_SECONDS:
        held.variant = shown
        held.agreed = True
    return before != (held.variant, held.seen, held.agreed)


def _is_same(
    shown: VariantView, condition: tuple[ConditionPart, ...], ports: tuple[PortPair, ...], mirror: Mirror | None
) -> bool:
    return (frozenset(shown.condition), frozenset(shown.ports), shown.mirror) == (
        frozenset(condition),
        frozenset(ports),
        mirror,
    )


def _variants_of(service: Service | None) -> tuple[VariantView, ...]:
    return service.serving.variants if service is not None and service.serving is not None else ()


def _variant_in(service: Service | None, variant_id: str) -> VariantView | None:
    return next((one for one in _variants_of(service) if one.variant_id == variant_id), None)


def _serving_state(service: Service | None) -> ServingState | None:
    return service.serving.state if service is not None and service.serving is not None else None


def _precedence(held: Held) -> tuple[int, int, int, int, str]:
    one = held.variant
    try:
        condition = condition_from_parts(one.condition)
    except CodezeroError:  # of a later release
        return (0, 0, 0, one.since, one.variant_id)
    return precedence(
        Variant(
            one.variant_id, held.service, one.user, one.user_name, condition, one.ports, one.since, mirror=one.mirror
        )
    )


def _condition_text(variant: VariantView) -> str:
    try:
        return str(condition_from_parts(variant.condition))
    except CodezeroError:
        return "a condition of a later release"


def _service_warnings(ref: ServiceRef, service: Service | None) -> Collection[HealthWarning]:
    if service is None or service.serving is None:
        return ()
    detail = f": {service.serving.detail}" if service.serving.detail else ""
    match service.serving.state:
        case ServingState.CONTESTED:
            text = f"{ref} is served, and its traffic stays with the team's pods, as somebody keeps writing its selector{detail}"
            fix = f"stop who writes it, or czctl serve end {ref}"
            return (HealthWarning(SERVE_CONTESTED, Severity.WARNING, text, fix),)
        case ServingState.REFUSED:
            text = f"{ref} cannot be served{detail}"
            return (HealthWarning(SERVE_REFUSED, Severity.ERROR, text, f"czctl serve end {ref}"),)
        case _:
            return ()


def _trouble_warnings(held: Held) -> Collection[HealthWarning]:
    return [
        HealthWarning(
            SERVE_NOT_ANSWERING,
            Severity.WARNING,
            f"{held.service}:{remote} is served, and {trouble}; {_instead(held)}",
            f"start the program that should listen there, or czctl serve end {held.service}",
        )
        for remote, trouble in sorted(held.troubles.items())
    ]


def _not_compared_warnings(held: Held) -> Collection[HealthWarning]:
    return [
        HealthWarning(
            MIRROR_NOT_COMPARED,
            Severity.WARNING,
            f"{held.service}:{remote} is mirrored, and gets requests by HTTP/2 (gRPC); your process gets the copies, but answers are not compared",
            "ask by HTTP/1.1 to have answers compared",
        )
        for remote in sorted(held.not_compared)
    ]


def _away_warning(held: Held) -> HealthWarning:
    text = f"the Teamspace does not reach this laptop for {held.service} ({held.condition}); {_instead(held)}"
    return HealthWarning(SERVE_AWAY, Severity.WARNING, text, "it is tried again by itself; see czctl status")


def _instead(held: Held) -> str:
    return "copies are lost" if held.variant.mirror is not None else "the team's pods answer instead"


def _notice_warning(notice: Notice) -> HealthWarning:
    why = f": {notice.reason}" if notice.reason else ""
    return HealthWarning(
        SERVE_ENDED,
        Severity.WARNING,
        f"{notice.service} ({notice.condition}) is no longer served by this laptop{why}",
        f"serve it again, or czctl serve end {notice.service}",
    )
