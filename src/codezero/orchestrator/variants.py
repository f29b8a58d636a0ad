"""What laptops want to serve and to end: asks the policy, orders it from a System, answers, and tells the team.

What is served stands in the Serve objects alone, and comes back in the catalog; here is only what has been asked for and not answered, and
what has been answered and is not in the catalog yet. Endings that the Teamspace itself wants (a session is over, the policy changed) are
looked for again and again until the catalog agrees, so that no lost order leaves a variant behind.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from codezero.kit.logs import get_logger
from codezero.model import access, problems
from codezero.model.access import TERMINATE, Act
from codezero.model.ids import Device, SessionId
from codezero.model.problems import CodezeroError
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import ActivityKind
from codezero.model.variants import VariantView
from codezero.orchestrator import serving
from codezero.orchestrator.admission import Admission
from codezero.orchestrator.board import Board, Placed
from codezero.orchestrator.links import SystemLink
from codezero.orchestrator.orders import ORDER_SECONDS, Asker, Order, Orders
from codezero.orchestrator.printable import printable
from codezero.orchestrator.serving import Owner
from codezero.orchestrator.turns import Turns, Wish
from codezero.wire.coordination import (
    EndVariants,
    OrderDone,
    PutVariant,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    VariantEnded,
)

MAX_ENDED_AT_ONCE: Final = 100
MAX_REASON: Final = 500
# How long the catalog may take to show what a System has done.
CATALOG_LAG_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 10.0
# Clocks of System and Orchestrator differ a little.
EXPIRY_SLACK_SECONDS: Final = 5.0
REMEMBERED_ENDS: Final = 4000
REMEMBERED_SESSIONS: Final = 10_000
# An answer has to fit in a message.
MOST_EFFECTS: Final = 50
MOST_VIEWS: Final = 100

_log = get_logger("variants")


@dataclass(frozen=True, slots=True)
class _Fresh:
    placed: Placed
    since: float


class Variants:
    """The Orchestrator's part of serving. `clock` gives UNIX time, `steady` a time that never jumps."""

    def __init__(
        self, board: Board, admission: Admission, *, clock: Callable[[], float], steady: Callable[[], float]
    ) -> None:
        self._board = board
        self._admission = admission
        self._clock = clock
        self._steady = steady
        self._links: dict[int, SystemLink] = {}
        self._orders = Orders()
        self._turns = Turns(self._orders, self.placed)
        self._fresh: dict[str, _Fresh] = {}
        self._tried: dict[str, float] = {}
        # Oldest first, so that the oldest are forgotten.
        self._told_ends: dict[str, None] = {}
        self._sessions_over: dict[SessionId, str] = {}
        self._over = 0
        self._looked: tuple[int, ...] = ()

    @property
    def orders(self) -> int:
        """How many orders wait for a System's answer."""
        return len(self._orders)

    def placed(self, variant_id: str) -> Placed | None:
        """The variant of that id, also one that the catalog does not show yet; None where there is none."""
        fresh = self._fresh.get(variant_id)
        return self._board.variants.get(variant_id) if fresh is None else fresh.placed

    # --- Systems --------------------------------------------------------------------------------------------------------------------

    def link_joined(self, link: SystemLink) -> None:
        """A System may be given orders."""
        self._links[link.number] = link

    def link_left(self, number: int) -> None:
        """A System is gone; what it was asked and has not answered has failed, as far as anybody can tell."""
        self._links.pop(number, None)
        for order in self._orders.lost(number):
            self._give_up(order, "the System went away before it answered")
            self._go_on(order.message.service)

    def done(self, link: int, done: OrderDone) -> None:
        """A System answers an order."""
        found = self._orders.answered(done.order, link)
        if found is None:
            _log.debug("answer to no order", link=link, order=done.order)
            return
        order, waits = found
        self._tell_done(order, done, waits=waits)
        self._go_on(order.message.service)

    def _tell_done(self, order: Order, done: OrderDone, *, waits: bool) -> None:
        if waits and order.asker is not None:
            order.asker.subscriber.answer_serve(_answer(order.asker.number, done))
        if done.code:
            if order.asker is None:
                _log.warning("variants not ended", code=done.code, reason=done.detail)
            return
        match order.message:
            case PutVariant(preview=True):
                pass
            case PutVariant():
                self._put(order, order.message, done)
            case EndVariants():
                self._ended(order, order.message, done)

    def ended(self, message: VariantEnded) -> None:
        """A System tells that a variant ended without an order."""
        view = message.variant
        expired = view.expires <= self._clock() + EXPIRY_SLACK_SECONDS
        kind = ActivityKind.EXPIRED if expired else ActivityKind.UNSERVED
        self._tell_end(kind, Placed(message.service, view), f"{_of(view)}: {message.reason}", by=None)

    # --- laptops --------------------------------------------------------------------------------------------------------------------

    def serve(self, asker: Asker, owner: Owner, wanted: ServeWanted) -> None:
        """A laptop wants to serve; it is answered now or when the System has."""
        try:
            if not self._turns.waits(Wish(asker, owner, wanted)):
                self._order_put(asker, owner, wanted)
        except CodezeroError as error:
            asker.subscriber.answer_serve(_refusal(asker.number, error))

    def refuse(self, asker: Asker, error: CodezeroError) -> None:
        """Answer a wish that is not even looked at."""
        asker.subscriber.answer_serve(_refusal(asker.number, error))

    def end(self, asker: Asker, owner: Owner, ending: ServeEnding) -> None:
        """A laptop wants variants to end; it is answered now or when the System has."""
        try:
            if not self._turns.waits(Wish(asker, owner, ending)):
                self._order_end(asker, ending)
        except CodezeroError as error:
            asker.subscriber.answer_serve(_refusal(asker.number, error))

    def session_stands(self, session: SessionId) -> None:
        """A laptop is there with that session."""
        self._sessions_over.pop(session, None)

    def terminate(self, variant_id: str, reason: str) -> bool:
        """End a variant by a decision from outside the Teamspace; whether there is one. Raises `CodezeroError` where no System can be told."""
        placed = self.placed(variant_id)
        if placed is None:
            return False
        text = printable(reason, most=MAX_REASON)
        end = EndVariants(self._orders.number(), placed.service, (variant_id,), text)
        self._send(end, None, told_as=ActivityKind.TERMINATED)
        return True

    def session_over(self, session: SessionId, reason: str) -> None:
        """A session has ended, and its variants with it."""
        self._sessions_over[session] = reason
        self._over += 1
        if len(self._sessions_over) > REMEMBERED_SESSIONS:
            del self._sessions_over[next(iter(self._sessions_over))]
        if self._board.has_variants_of(session) or any(
            fresh.placed.view.session == session for fresh in self._fresh.values()
        ):
            self.look()

    def _go_on(self, service: ServiceRef) -> None:
        for wish in self._turns.next_of(service):
            if isinstance(wish.wanted, ServeWanted):
                self.serve(wish.asker, wish.owner, wish.wanted)
            else:
                self.end(wish.asker, wish.owner, wish.wanted)

    # --- time -----------------------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Give up what takes too long, and end what must not be there."""
        now = self._steady()
        for order in self._orders.overdue(now):
            self._give_up(order, f"the System has not answered for {ORDER_SECONDS:.0f} s")
            self._go_on(order.message.service)
        for variant_id, fresh in list(self._fresh.items()):
            shown = self._board.variants.get(variant_id)
            if now >= fresh.since + CATALOG_LAG_SECONDS or (
                shown is not None and _same_lease(shown.view, fresh.placed.view)
            ):
                del self._fresh[variant_id]
        # Nothing else can make a variant unwanted, and looking at all of them each second would cost the more the more there are.
        seen = (self._board.variants_version, self._admission.version, self._over)
        if seen != self._looked or self._fresh:
            self._looked = seen if self._end_unwanted(now) else ()

    # --- serving --------------------------------------------------------------------------------------------------------------------

    def _order_put(self, asker: Asker, owner: Owner, wanted: ServeWanted) -> None:
        service = self._seen(owner.device, wanted.service)
        view = serving.variant_of(wanted, service, owner, now=self._clock())
        self._require(owner.device, access.acts_of(view), wanted.service)
        existing = list(self._existing(wanted.service))
        serving.check_room(existing, view)
        takeover = wanted.takeover and self._may_take_over(owner.device, wanted.service, existing, view)
        number = self._orders.number()
        put = PutVariant(number, wanted.service, view, takeover, wanted.preview, wanted.restart)
        self._send(put, asker)

    def _may_take_over(
        self, device: Device, service: ServiceRef, existing: list[VariantView], wanted: VariantView
    ) -> bool:
        decision = self._admission.decide_all(device, access.takeover_of(access.acts_of(wanted)), service)
        if not decision.allowed:
            for other in serving.in_the_way(service, existing, wanted)[:1]:
                raise CodezeroError(
                    problems.FORBIDDEN,
                    f"{other.user_name} already serves {service} for {other.condition}, "
                    f"and you may not take that over: {decision.reason}",
                    fix="choose another condition",
                )
        # Nobody is in the way as far as is known here; should the System know better, it refuses.
        return decision.allowed

    def _seen(self, device: Device, ref: ServiceRef) -> Service:
        viewer = self._admission.viewer(device)
        if viewer.closed is not None:
            closed = problems.NO_POLICY if self._admission.policy is None else problems.FORBIDDEN
            raise CodezeroError(closed, viewer.closed)
        if not self._board.catalog_known:
            raise CodezeroError(problems.TUNNEL_DOWN, "no System has reported yet", fix="try again in a moment")
        service = self._board.service(ref)
        if service is None or not viewer.sees(ref):
            # One answer for both: what a laptop may not see is not there (T38).
            raise CodezeroError(problems.SERVICE_UNKNOWN, f"there is no service {ref}", fix="czctl services")
        return service

    def _require(self, device: Device, acts: tuple[Act, ...], service: ServiceRef) -> None:
        decision = self._admission.decide_all(device, acts, service)
        if not decision.allowed:
            raise CodezeroError(
                problems.FORBIDDEN,
                f"{acts[0].operation} of {service} is not allowed: {decision.reason}",
                fix="ask who keeps the Teamspace's policy",
            )

    def _existing(self, service: ServiceRef) -> Iterator[VariantView]:
        for fresh in self._fresh.values():
            if fresh.placed.service == service:
                yield fresh.placed.view
        shown = self._board.service(service)
        for view in shown.serving.variants if shown is not None and shown.serving is not None else ():
            if view.variant_id not in self._fresh:
                yield view
        for order in self._orders.about(service):
            if isinstance(order.message, PutVariant) and not order.message.preview:
                yield order.message.variant

    def _put(self, order: Order, put: PutVariant, done: OrderDone) -> None:
        placed = Placed(put.service, done.variant or put.variant)
        self._fresh[placed.view.variant_id] = _Fresh(placed, self._steady())
        by = _actor(order)
        for view in done.taken[:MOST_VIEWS]:
            detail = f"{put.variant.user_name} took over from {_of(view)}"
            self._tell_end(ActivityKind.TAKEN_OVER, Placed(put.service, view), detail, by=by)
        if placed.view.variant_id == put.variant.variant_id:
            # Otherwise a variant of before has changed, which is no news for the team.
            self._board.happened(ActivityKind.SERVED, placed, at=self._clock(), detail=_of(placed.view), by=by)

    # --- ending ---------------------------------------------------------------------------------------------------------------------

    def _order_end(self, asker: Asker, ending: ServeEnding) -> None:
        device = asker.subscriber.device
        ids = tuple(dict.fromkeys(ending.variants))
        if not 0 < len(ids) <= MAX_ENDED_AT_ONCE:
            raise CodezeroError(
                problems.BAD_SERVE, f"{len(ids)} variants are named; from 1 to {MAX_ENDED_AT_ONCE} can be"
            )
        sees = self._admission.viewer(device).sees(ending.service)
        found: list[VariantView] = []
        for variant_id in ids:
            placed = self.placed(variant_id)
            if placed is not None and placed.service == ending.service and (sees or placed.view.user == device.user):
                found.append(placed.view)
        if not found:
            raise CodezeroError(problems.SERVE_UNKNOWN, f"nobody serves {ending.service} as that", fix="czctl who")
        for view in found:
            if view.user != device.user:
                self._require(device, (TERMINATE,), ending.service)
        reason = printable(ending.reason, most=MAX_REASON)
        wanted = tuple(view.variant_id for view in found)
        self._send(EndVariants(self._orders.number(), ending.service, wanted, reason), asker)

    def _ended(self, order: Order, end: EndVariants, done: OrderDone) -> None:
        by = _actor(order)
        for view in done.ended[:MAX_ENDED_AT_ONCE]:
            kind = order.told_as
            if by is not None and view.user != by[1].user:
                kind = ActivityKind.TERMINATED
            detail = f"{_of(view)}: {end.reason}" if end.reason else _of(view)
            self._tell_end(kind, Placed(end.service, view), detail, by=by)

    def _tell_end(
        self, kind: ActivityKind, placed: Placed, detail: str, *, by: tuple[SessionId, Device] | None
    ) -> None:
        variant_id = placed.view.variant_id
        self._fresh.pop(variant_id, None)
        if variant_id in self._told_ends:
            return  # each System may tell it
        self._told_ends[variant_id] = None
        if len(self._told_ends) > REMEMBERED_ENDS:
            del self._told_ends[next(iter(self._told_ends))]
        self._board.happened(kind, placed, at=self._clock(), detail=detail, by=by)

    def _end_unwanted(self, now: float) -> bool:
        """Order the end of what must not be there; whether there is nothing to come back to."""
        ending = {variant_id for order in self._orders.open for variant_id in _ids_ended(order)}
        # A variant that its user puts at this moment may be about to belong to another session.
        putting = {
            (order.message.service, order.message.variant.user)
            for order in self._orders.open
            if isinstance(order.message, PutVariant)
        }
        wanted: dict[tuple[ServiceRef, ActivityKind, str], list[str]] = {}
        tried: dict[str, float] = {}
        is_done = True
        for placed in self._all():
            variant_id = placed.view.variant_id
            before = self._tried.get(variant_id)
            if before is not None:
                tried[variant_id] = before
            waits = before is not None and now < before + RETRY_SECONDS
            if waits or variant_id in ending or (placed.service, placed.view.user) in putting:
                is_done = False
                continue
            why = self._why_to_end(placed)
            if why is not None:
                wanted.setdefault((placed.service, *why), []).append(variant_id)
        self._tried = tried
        try:
            for (service, kind, reason), ids in wanted.items():
                for first in range(0, len(ids), MAX_ENDED_AT_ONCE):
                    part = tuple(ids[first : first + MAX_ENDED_AT_ONCE])
                    self._send(EndVariants(self._orders.number(), service, part, reason), None, told_as=kind)
                    self._tried |= dict.fromkeys(part, now)
        except CodezeroError as error:
            _log.debug("variants wait for their end", reason=error.detail)
        return is_done and not wanted

    def _why_to_end(self, placed: Placed) -> tuple[ActivityKind, str] | None:
        over = self._sessions_over.get(placed.view.session)
        if over is not None:
            return ActivityKind.UNSERVED, over
        if not self._admission.is_read:
            return None
        try:
            device = Device.parse(placed.view.device)
        except CodezeroError:
            return None  # made by hand; the System does not follow it
        decision = self._admission.decide_all(device, access.acts_of(placed.view), placed.service)
        return None if decision.allowed else (ActivityKind.TERMINATED, decision.reason[:MAX_REASON])

    # --- orders ---------------------------------------------------------------------------------------------------------------------

    def _send(
        self,
        message: PutVariant | EndVariants,
        asker: Asker | None,
        *,
        told_as: ActivityKind = ActivityKind.UNSERVED,
    ) -> None:
        self._orders.check_room(None if asker is None else asker.subscriber.device)
        primary = self._board.primary
        link = None if primary is None else self._links.get(primary)
        if link is None:
            raise CodezeroError(
                problems.TUNNEL_DOWN,
                "no System of the Teamspace is connected at the moment, so nothing was changed",
                fix="try again in a moment",
            )
        if not link.tell(message):
            raise CodezeroError(
                problems.SERVE_FAILED, "the System takes no orders at the moment", fix="try again in a moment"
            )
        self._orders.add(Order(link.number, message, self._steady() + ORDER_SECONDS, asker, told_as))

    def _give_up(self, order: Order, reason: str) -> None:
        if order.asker is None:
            for variant_id in _ids_ended(order):
                self._tried.pop(variant_id, None)
            return
        error = CodezeroError(
            problems.SERVE_FAILED, f"{reason}; it may still be done", fix="czctl serve list, and try again"
        )
        order.asker.subscriber.answer_serve(_refusal(order.asker.number, error))

    def _all(self) -> Iterator[Placed]:
        for fresh in self._fresh.values():
            yield fresh.placed
        for variant_id, placed in self._board.variants.items():
            if variant_id not in self._fresh:
                yield placed


def _ids_ended(order: Order) -> tuple[str, ...]:
    return order.message.variants if isinstance(order.message, EndVariants) else ()


def _actor(order: Order) -> tuple[SessionId, Device] | None:
    if order.asker is None:
        return None
    return order.asker.subscriber.session, order.asker.subscriber.device


def _of(view: VariantView) -> str:
    return f"{view.user_name}: {serving.described(view.condition, view.ports)}"


def _same_lease(one: VariantView, other: VariantView) -> bool:
    return (one.session, one.expires, one.ports) == (other.session, other.expires, other.ports)


def _answer(number: int, done: OrderDone) -> ServeAnswer:
    return ServeAnswer(
        number,
        done.code,
        done.detail,
        done.fix,
        done.effects[:MOST_EFFECTS],
        done.variant,
        done.taken[:MOST_VIEWS],
        done.ended[:MOST_VIEWS],
    )


def _refusal(number: int, error: CodezeroError) -> ServeAnswer:
    return ServeAnswer(number, error.problem.code, error.detail[:1000], error.fix)
