"""What is asked, ordered, answered and told about variants: without sockets, with a clock by hand."""

from dataclasses import replace

import msgspec
import pytest

from codezero.model import problems
from codezero.model.access import Decision, Effect, Operation, Policy, PolicyRule, Wanted, act_of, allow_all
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import Activity, ActivityKind
from codezero.model.variants import ConditionPart, Mirror, PortPair, Serving, ServingState, VariantView
from codezero.orchestrator import links
from codezero.orchestrator.admission import Admission
from codezero.orchestrator.board import Board
from codezero.orchestrator.fanout import Subscriber
from codezero.orchestrator.links import SystemLink
from codezero.orchestrator.orders import MAX_ORDERS_OF_A_LAPTOP, ORDER_SECONDS, Asker
from codezero.orchestrator.serving import Owner
from codezero.orchestrator.variants import CATALOG_LAG_SECONDS, RETRY_SECONDS, Variants
from codezero.wire import policy_file
from codezero.wire.coordination import (
    CatalogReport,
    EndVariants,
    OrderDone,
    PutVariant,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    ToSystem,
)

ORGANIZATION = new_ulid()
ORDERS = ServiceRef("shop", "orders")
CART = ServiceRef("shop", "cart")
HEADER = (ConditionPart("header", "x-team", "blue"),)
PORTS = (PortPair(80, 3000),)
DECODER: msgspec.msgpack.Decoder[ToSystem] = msgspec.msgpack.Decoder(ToSystem)


class Desk:
    """One Orchestrator's variants, a System that does nothing by itself, and some laptops."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.now = 1000.0
        self.board = Board()
        self.admission = Admission()
        self.admission.read(policy_file.encode(policy or allow_all(ORGANIZATION)))
        self.variants = Variants(self.board, self.admission, clock=lambda: 1e9 + self.now, steady=lambda: self.now)
        self.link = self.joined(0)
        self.watching = self.laptop("watching")

    def joined(self, number: int) -> SystemLink:
        link = SystemLink(number)
        self.board.system_joined(number)
        self.variants.link_joined(link)
        self.report(number=number)
        return link

    def leaves(self, number: int) -> None:
        self.board.system_left(number, at=self.now)
        self.variants.link_left(number)

    def report(self, *views: VariantView, ref: ServiceRef = ORDERS, number: int = 0) -> None:
        served = {ref: Serving(ServingState.ACTIVE, views)} if views else {}
        services = tuple(
            Service(each, ServiceKind.CLUSTER_IP, (ServicePort(80),), serving=served.get(each))
            for each in (ORDERS, CART)
        )
        self.board.catalog_reported(number, CatalogReport(upserts=services, reset=True), at=self.now)

    def laptop(self, name: str, *, user: str | None = None) -> Owner:
        return Owner(Device("hub", ORGANIZATION, user or new_ulid(), new_ulid()), SessionId(new_ulid()), name)

    def subscriber(self, owner: Owner) -> Subscriber:
        view = self.board.join_view(self.admission.viewer(owner.device))
        self.board.arrived(owner.session, owner.device, owner.name, at=0.0)
        return Subscriber(owner.session, owner.device, view, catalog=None, activity=0)

    def serve(self, owner: Owner, number: int = 1, **wish: object) -> Subscriber:
        subscriber = self.subscriber(owner)
        fields: dict[str, object] = {"condition": HEADER, "ports": PORTS, **wish}
        self.variants.serve(Asker(subscriber, number), owner, ServeWanted(number, ORDERS, **fields))  # type: ignore[arg-type]
        return subscriber

    def end(self, owner: Owner, *ids: str) -> Subscriber:
        subscriber = self.subscriber(owner)
        self.variants.end(Asker(subscriber, 1), owner, ServeEnding(1, ORDERS, ids))
        return subscriber

    def order(self, link: SystemLink | None = None) -> PutVariant | EndVariants:
        frame = (link or self.link).due()
        assert frame is not None
        message = DECODER.decode(frame[4:])
        assert isinstance(message, PutVariant | EndVariants)
        return message

    def idle(self, link: SystemLink | None = None) -> bool:
        return (link or self.link).due() is None

    def put(self, owner: Owner, **wish: object) -> VariantView:
        self.serve(owner, **wish)
        order = self.order()
        assert isinstance(order, PutVariant)
        self.variants.done(0, OrderDone(order.order, variant=order.variant))
        return order.variant

    def told(self) -> list[Activity]:
        view = self.board.join_view(self.admission.viewer(self.watching.device))
        parts = self.board.catch_up_activity(view, self.watching.session, 0)
        return [each for part in parts for each in part.activities if each.variant]


def one(subscriber: Subscriber) -> ServeAnswer:
    (answer,) = subscriber.serve_answers
    return answer


def test_the_answer_is_the_systems() -> None:
    """With its code, its advice and its effects; a refusal is no activity."""
    desk = Desk()
    asking = desk.serve(desk.laptop("anna"), 42)
    order = desk.order()
    desk.variants.done(0, OrderDone(order.order, "CZ-SERVE-004", "it is headless", "serve another", ("x",)))

    assert one(asking) == ServeAnswer(42, "CZ-SERVE-004", "it is headless", "serve another", ("x",))
    assert desk.told() == []


def test_a_variant_may_be_ended_before_the_catalog_shows_it() -> None:
    """Whoever serves and ends at once must not be told that there is no such thing."""
    desk = Desk()
    anna = desk.laptop("anna")
    variant = desk.put(anna)
    desk.end(anna, variant.variant_id)

    order = desk.order()
    assert isinstance(order, EndVariants)
    assert order.variants == (variant.variant_id,)
    desk.variants.done(0, OrderDone(order.order, ended=(variant,)))
    assert one(desk.end(anna, variant.variant_id)).code == problems.SERVE_UNKNOWN.code


def test_what_the_catalog_never_shows_is_forgotten() -> None:
    """It ended in a way nobody told us of."""
    desk = Desk()
    variant = desk.put(desk.laptop("anna"))
    desk.now += CATALOG_LAG_SECONDS - 1
    desk.variants.look()
    assert desk.variants.placed(variant.variant_id) is not None
    desk.now += 1
    desk.variants.look()

    assert desk.variants.placed(variant.variant_id) is None


def test_a_changed_variant_is_no_news_for_the_team() -> None:
    """It keeps its id; only its owner asked."""
    desk = Desk()
    anna = desk.laptop("anna")
    before = desk.put(anna)
    desk.serve(anna, expires=1e9 + 2000)
    order = desk.order()
    assert isinstance(order, PutVariant)
    desk.variants.done(0, OrderDone(order.order, variant=replace(order.variant, variant_id=before.variant_id)))

    assert [each.kind for each in desk.told()] == [ActivityKind.SERVED]


def test_an_end_is_told_once() -> None:
    """Also when two orders and a System say it."""
    desk = Desk()
    anna = desk.laptop("anna")
    variant = desk.put(anna)
    for _ in range(2):
        desk.end(anna, variant.variant_id)
    for _ in range(2):
        desk.variants.done(0, OrderDone(desk.order().order, ended=(variant,)))

    assert [each.kind for each in desk.told()] == [ActivityKind.SERVED, ActivityKind.UNSERVED]


def test_a_variant_of_an_ended_session_is_ended_until_it_is_gone() -> None:
    """A refusal or a lost answer is tried again, and not every second."""
    desk = Desk()
    anna = desk.laptop("anna")
    variant = desk.put(anna)
    desk.report(variant)
    desk.variants.session_over(anna.session, "its laptop has left")
    first = desk.order()
    assert isinstance(first, EndVariants)
    assert (first.service, first.variants, first.reason) == (ORDERS, (variant.variant_id,), "its laptop has left")
    for _ in range(5):
        desk.variants.look()
    assert desk.idle()
    desk.variants.done(0, OrderDone(first.order, problems.SERVE_FAILED.code, "the API server is away"))
    desk.variants.look()
    assert desk.idle()
    desk.now += RETRY_SECONDS
    desk.variants.look()
    second = desk.order()
    desk.variants.done(0, OrderDone(second.order, ended=(variant,)))
    desk.report()
    desk.now += RETRY_SECONDS
    desk.variants.look()

    assert desk.idle()
    told = desk.told()[-1]
    assert (told.kind, told.session, told.detail) == (
        ActivityKind.UNSERVED,
        anna.session,
        "anna: header x-team:blue, port 80: its laptop has left",
    )


def test_a_session_that_came_back_keeps_its_variants() -> None:
    """Nothing is ended twice, and nothing afterwards."""
    desk = Desk()
    anna = desk.laptop("anna")
    variant = desk.put(anna)
    desk.report(variant)
    desk.leaves(0)
    desk.variants.session_over(anna.session, "its laptop has left")
    desk.variants.session_stands(anna.session)
    link = desk.joined(1)
    desk.report(variant, number=1)
    desk.variants.look()

    assert desk.variants.placed(variant.variant_id) is not None
    assert desk.idle(link)


def test_an_end_that_was_lost_with_its_system_is_ordered_of_the_next() -> None:
    """At once: that System cannot have failed at it yet."""
    desk = Desk()
    anna = desk.laptop("anna")
    variant = desk.put(anna)
    desk.report(variant)
    desk.variants.session_over(anna.session, "its laptop has left")
    lost = desk.order()
    desk.leaves(0)
    link = desk.joined(1)
    desk.report(variant, number=1)
    desk.variants.look()
    again = desk.order(link)

    assert isinstance(lost, EndVariants)
    assert isinstance(again, EndVariants)
    assert again.variants == lost.variants == (variant.variant_id,)


def test_variants_of_hidden_services_are_not_there() -> None:
    """T38: not even as something one may not end; their owner may end them all the same."""
    desk = Desk()
    anna, ben = desk.laptop("anna"), desk.laptop("ben")
    variant = desk.put(anna)
    hidden = PolicyRule(Effect.DENY, (Operation.CONSUME,), services=("orders",))
    desk.admission.read(policy_file.encode(Policy(ORGANIZATION, (*allow_all(ORGANIZATION).rules, hidden))))

    assert one(desk.end(ben, variant.variant_id)) == one(desk.end(ben, new_ulid()))
    assert not desk.end(anna, variant.variant_id).serve_answers
    assert isinstance(desk.order(), EndVariants)


def test_a_session_nobody_knows_is_left_alone() -> None:
    """After a restart of ours its laptop may come back; the System has a rule for those that do not."""
    desk = Desk()
    before = desk.put(desk.laptop("anna"))
    again = Desk()
    again.report(before)
    again.variants.look()

    assert again.idle()


def test_a_variant_that_changes_its_session_survives_the_end_of_the_old_one() -> None:
    """A user who goes on with another laptop: the catalog that lags must not end what was just moved."""
    desk = Desk()
    anna = desk.laptop("anna")
    first = desk.put(anna)
    desk.report(first)
    desk.variants.look()
    other = desk.laptop("anna", user=anna.device.user)
    desk.serve(other)
    order = desk.order()
    assert isinstance(order, PutVariant)
    desk.variants.session_over(anna.session, "its laptop has left")
    assert desk.idle()
    moved = replace(order.variant, variant_id=first.variant_id)
    desk.variants.done(0, OrderDone(order.order, variant=moved))
    desk.variants.look()
    assert desk.idle()
    desk.report(moved)
    desk.variants.look()

    assert desk.idle()


def test_nothing_ends_before_the_policy_has_been_read() -> None:
    """The catalog may come first after a restart; then nobody has decided anything yet."""
    desk = Desk()
    variant = desk.put(desk.laptop("anna"))
    again = Desk()
    again.admission = Admission()
    again.variants = Variants(again.board, again.admission, clock=lambda: 0.0, steady=lambda: 0.0)
    again.variants.link_joined(again.link)
    again.report(variant)
    again.variants.look()
    assert again.idle()
    again.admission.read(None)
    again.variants.look()

    assert isinstance(again.order(), EndVariants)


@pytest.mark.parametrize(("operation", "told"), [(Operation.SERVE, "serve-header"), (Operation.CONSUME, "consume")])
def test_who_may_no_longer_serve_does_not(operation: Operation, told: str) -> None:
    """T41: of several on one service only those it is about; seeing the service is a part of it."""
    desk = Desk()
    anna, ben = desk.laptop("anna"), desk.laptop("ben")
    variants = [desk.put(each) for each in (anna, ben)]
    made_by_hand = replace(variants[0], variant_id="x", device="laptop")
    desk.report(*variants, made_by_hand)
    rules = (
        *allow_all(ORGANIZATION).rules,
        PolicyRule(Effect.DENY, (operation,), users=(anna.device.user,), name="not anna"),
    )
    desk.admission.read(policy_file.encode(Policy(ORGANIZATION, rules)))
    desk.variants.look()
    order = desk.order()

    assert isinstance(order, EndVariants)
    assert order.variants == (variants[0].variant_id,)
    assert order.reason == f"rule not anna denies {told} of shop/orders"
    assert desk.idle()
    desk.variants.done(0, OrderDone(order.order, ended=(variants[0],)))
    assert desk.told()[-1].kind is ActivityKind.TERMINATED


def test_many_ends_are_few_orders() -> None:
    """A policy that forbids everything: each order has a bound, and all go."""
    desk = Desk()
    anna = desk.laptop("anna")
    variant = desk.put(anna)
    many = [replace(variant, variant_id=new_ulid()) for _ in range(250)]
    desk.report(*many)
    desk.variants.session_over(anna.session, "over")
    found: list[EndVariants] = []
    while (frame := desk.link.due()) is not None:
        order = DECODER.decode(frame[4:])
        assert isinstance(order, EndVariants)
        found.append(order)

    assert [len(order.variants) for order in found] == [100, 100, 51]


def test_a_link_that_is_full_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and what the Teamspace itself wants is tried again."""
    monkeypatch.setattr(links, "MAX_WAITING", 1)
    desk = Desk()
    anna, ben = desk.laptop("anna"), desk.laptop("ben")
    variant = desk.put(anna)
    desk.serve(ben)
    assert one(desk.serve(ben)).code == problems.SERVE_FAILED.code
    desk.variants.session_over(anna.session, "its laptop has left")
    assert isinstance(desk.order(), PutVariant)
    desk.variants.look()
    order = desk.order()

    assert isinstance(order, EndVariants)
    assert order.variants == (variant.variant_id,)


def test_orders_that_nobody_answers_are_given_up() -> None:
    """Once; a late refusal is no news."""
    desk = Desk()
    asking = desk.serve(desk.laptop("anna"))
    order = desk.order()
    desk.now += ORDER_SECONDS
    for _ in range(3):
        desk.variants.look()
    desk.variants.done(0, OrderDone(order.order, "CZ-SERVE-004", "late"))

    assert one(asking).code == problems.SERVE_FAILED.code
    assert desk.told() == []
    assert desk.variants.orders == 0


def test_wishes_under_way_take_room_too() -> None:
    """Or a user could fill a service up by asking quickly; previews take none."""
    desk = Desk()
    anna = desk.laptop("anna")
    for number in range(32):
        desk.serve(anna, condition=(ConditionPart("header", "x-n", str(number)),), preview=number >= 8)
    also_anna = desk.laptop("anna", user=anna.device.user)
    answers = [
        desk.serve(also_anna, condition=(ConditionPart("header", "x-m", str(number)),)).serve_answers
        for number in range(32)
    ]
    third = desk.laptop("anna", user=anna.device.user)

    assert not any(answers)
    assert "you have 40 variants" in one(desk.serve(third)).detail


def test_a_serve_waits_for_the_end_of_the_variant_whose_id_it_would_keep() -> None:
    """A System carries out many orders at a time: the end that was asked for first could end the new serve."""
    desk = Desk()
    anna = desk.laptop("anna")
    old = desk.put(anna)
    desk.report(old)
    desk.end(anna, old.variant_id)
    end = desk.order()
    asking = desk.serve(anna, 2)
    other = desk.serve(desk.laptop("otto"), condition=(ConditionPart("user"),))
    assert isinstance(desk.order(), PutVariant), "nobody else waits"
    assert desk.idle()

    desk.variants.done(0, OrderDone(end.order, ended=(old,)))
    put = desk.order()
    assert isinstance(put, PutVariant)
    desk.variants.done(0, OrderDone(put.order, variant=put.variant))
    assert one(asking).variant == put.variant
    assert not other.serve_answers


def test_ends_and_serves_of_a_user_keep_their_order() -> None:
    desk = Desk()
    anna = desk.laptop("anna")
    old = desk.put(anna)
    desk.report(old)
    desk.serve(anna, 2, ports=(PortPair(80, 4000),))
    change = desk.order()
    ending = desk.end(anna, old.variant_id)
    again = desk.serve(anna, 3)
    assert desk.idle()

    desk.variants.done(0, OrderDone(change.order, variant=old))
    end = desk.order()
    assert isinstance(end, EndVariants)
    assert desk.idle(), "the serve after it waits on"
    desk.variants.done(0, OrderDone(end.order, ended=(old,)))
    assert one(ending).ended == (old,)
    assert isinstance(desk.order(), PutVariant)
    assert not again.serve_answers


@pytest.mark.parametrize("how", ["lost", "late"])
def test_what_waits_for_an_end_is_asked_for_when_that_was_given_up(how: str) -> None:
    desk = Desk()
    anna = desk.laptop("anna")
    old = desk.put(anna)
    desk.report(old)
    link, next_link = desk.link, desk.joined(1)
    desk.end(anna, old.variant_id)
    desk.order()
    asking = desk.serve(anna, 2)
    if how == "lost":
        desk.report(old, number=1)
        desk.leaves(0)
        link = next_link
    else:
        desk.now += ORDER_SECONDS
        desk.variants.look()

    assert isinstance(desk.order(link), PutVariant)
    assert not asking.serve_answers


def test_a_laptop_that_is_gone_gets_nothing_that_it_waited_for() -> None:
    desk = Desk()
    anna = desk.laptop("anna")
    old = desk.put(anna)
    desk.report(old)
    desk.end(anna, old.variant_id)
    end = desk.order()
    desk.serve(anna, 2).end()

    desk.variants.done(0, OrderDone(end.order, ended=(old,)))
    assert desk.idle()


def test_what_waits_has_a_bound_for_each_laptop() -> None:
    desk = Desk()
    anna = desk.laptop("anna")
    old = desk.put(anna)
    desk.report(old)
    desk.end(anna, old.variant_id)
    desk.order()
    asking = [desk.serve(anna, number) for number in range(MAX_ORDERS_OF_A_LAPTOP + 1)]

    assert not any(each.serve_answers for each in asking[:-1])
    assert one(asking[-1]).code == problems.SERVE_FAILED.code


def test_looking_costs_nothing_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.report(desk.put(desk.laptop("anna")))
    desk.variants.look()
    decided: list[Wanted] = []
    decide = desk.admission.decide

    def counted(device: Device, wanted: Wanted, service: ServiceRef) -> Decision:
        decided.append(wanted)
        return decide(device, wanted, service)

    monkeypatch.setattr(desk.admission, "decide", counted)
    desk.variants.look()
    assert decided == []
    desk.admission.read(policy_file.encode(allow_all(ORGANIZATION, (Operation.CONSUME, Operation.SERVE))))
    desk.variants.look()
    assert [act_of(wanted).operation for wanted in decided] == [Operation.SERVE_HEADER]


def test_an_end_that_had_to_wait_is_not_forgotten() -> None:
    """For a wish of the same user that was refused in the end, or for a System to come."""
    desk = Desk()
    anna = desk.laptop("anna")
    old = desk.put(anna)
    desk.report(old)
    desk.serve(desk.laptop("anna again", user=anna.device.user), condition=(ConditionPart("user"),))
    put = desk.order()
    desk.variants.session_over(anna.session, "its laptop has left")
    desk.variants.look()
    assert desk.idle()
    desk.variants.done(0, OrderDone(put.order, "CZ-SERVE-004", "no"))
    desk.variants.look()
    end = desk.order()
    assert isinstance(end, EndVariants)
    assert end.variants == (old.variant_id,)


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("mirror", [None, *Mirror])
def test_copies_of_others_requests_need_the_permission_to_serve(mirror: Mirror | None, preview: bool) -> None:
    """A mirror answers nothing, and reads as much as a serve."""
    desk = Desk(allow_all(ORGANIZATION, (Operation.CONSUME, Operation.TAKEOVER, Operation.TERMINATE)))
    asking = desk.serve(desk.laptop("anna"), mirror=mirror, preview=preview)

    assert one(asking).code == problems.FORBIDDEN.code
    assert desk.idle()
