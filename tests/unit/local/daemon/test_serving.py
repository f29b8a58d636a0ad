"""What a laptop serves against what the catalog says: whose word counts, when messages overtake each other, and what the user is told."""

from dataclasses import replace

import pytest

from codezero.local.daemon import serving as serving_module
from codezero.local.daemon.serving import Serving
from codezero.local.daemon.state import SavedServes, ServeWish
from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import Activity, ActivityKind
from codezero.model.variants import (
    ConditionPart,
    Mirror,
    PortPair,
    ServingState,
    VariantState,
    VariantView,
)
from codezero.model.variants import Serving as Served

TEAMSPACE = new_ulid()
SESSION = SessionId(new_ulid())
DEVICE = Device("hub.test", new_ulid(), new_ulid(), new_ulid())
ORDERS = ServiceRef("shop", "orders")
USER = (ConditionPart("user"),)


def variant(*, port: int = 3000, condition: tuple[ConditionPart, ...] = USER, **changes: object) -> VariantView:
    view = VariantView(
        new_ulid(), DEVICE.user, "alice", str(DEVICE), SESSION, condition, (PortPair(80, port),), 1000, 9000.0
    )
    return replace(view, **changes)


def catalog(
    *variants: VariantView, state: ServingState = ServingState.ACTIVE, detail: str = ""
) -> dict[ServiceRef, Service]:
    serving = Served(state, variants, detail) if variants else None
    return {ORDERS: Service(ORDERS, ServiceKind.CLUSTER_IP, (ServicePort(80),), 1, 1, serving=serving)}


class Laptop:
    """A registry, and the catalog it is told."""

    def __init__(self, saved: SavedServes | None = None) -> None:
        self.serving = Serving(saved or SavedServes(TEAMSPACE, str(DEVICE)))
        self.known: dict[ServiceRef, Service] = {}

    def sees(
        self, known: dict[ServiceRef, Service], *, at: float = 100.0, since: float = 0.0
    ) -> serving_module.Reconciled:
        self.serving.note_catalog(known.values(), [ref for ref in self.known if ref not in known])
        self.known = known
        return self.serving.reconcile(known, session=SESSION, at=at, connected_at=since)

    @property
    def ids(self) -> set[str]:
        return set(self.serving.held)

    def warnings(self, *, at: float = 100.0) -> list[tuple[str, str]]:
        return [(one.code, one.text) for one in self.serving.warnings(self.known, at=at)]


def test_an_answer_ahead_of_the_catalog_stands() -> None:
    """The System answers before its report has gone through the Orchestrator."""
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)

    assert not laptop.sees(catalog(), at=101.0).ended
    assert laptop.ids == {view.variant_id}
    assert not laptop.serving.is_settled(view.variant_id, laptop.known)
    laptop.sees(catalog(replace(view, state=VariantState.ACTIVE)), at=102.0)
    assert laptop.serving.is_settled(view.variant_id, laptop.known)
    # Seen once, its absence is an end at once.
    (ended,) = laptop.sees(catalog(), at=103.0).ended
    assert ended.variant.variant_id == view.variant_id
    assert not laptop.ids


def test_an_answer_that_the_catalog_never_confirms_is_given_up() -> None:
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)

    assert not laptop.sees(catalog(), at=159.0).ended
    assert laptop.sees(catalog(), at=161.0).ended


def test_time_without_a_connection_is_no_time_to_confirm() -> None:
    """After an interruption the copy is old until the first message: a variant must not be given up, and then be ended as a stranger."""
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)

    assert not laptop.sees(catalog(), at=501.0, since=500.0).ended
    laptop.sees(catalog(view), at=502.0, since=500.0)
    assert laptop.ids == {view.variant_id}


def test_a_service_that_is_not_visible_says_nothing() -> None:
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)

    assert not laptop.sees({}, at=1000.0).ended
    laptop.sees(catalog(view), at=1001.0)
    assert laptop.sees({}, at=1002.0).ended


def test_an_older_report_does_not_undo_a_change() -> None:
    """A variant that changed keeps its id: the catalog shows its old ports for a moment."""
    laptop = Laptop()
    old = variant(state=VariantState.ACTIVE)
    laptop.serving.hold(ORDERS, old, at=100.0)
    laptop.sees(catalog(old))
    new = replace(old, ports=(PortPair(80, 4000),))
    laptop.serving.hold(ORDERS, new, at=110.0)
    laptop.sees(catalog(old), at=111.0)

    target = f"{old.variant_id}:80"
    assert laptop.serving.destination(target)[1].local == 4000
    assert not laptop.serving.is_settled(old.variant_id, laptop.known)
    assert laptop.serving.view(laptop.known)[0].state is VariantState.PENDING
    laptop.sees(catalog(replace(new, state=VariantState.ACTIVE)), at=112.0)
    assert laptop.serving.is_settled(old.variant_id, laptop.known)


def test_strangers_of_ours_are_ended_once_and_again_when_it_did_not_help() -> None:
    laptop, stranger = Laptop(), variant()

    assert laptop.sees(catalog(stranger), at=100.0).strangers == ((ORDERS, stranger.variant_id),)
    assert laptop.sees(catalog(stranger), at=101.0).strangers == ()
    assert laptop.sees(catalog(stranger), at=161.0).strangers == ((ORDERS, stranger.variant_id),)


@pytest.mark.parametrize(
    "change", [{"device": str(replace(DEVICE, device=new_ulid()))}, {"session": SessionId(new_ulid())}]
)
def test_what_is_not_of_this_session_and_device_is_left_alone(change: dict[str, str]) -> None:
    laptop = Laptop()

    assert laptop.sees(catalog(variant(**change))).strangers == ()
    assert not laptop.ids


def test_what_was_asked_for_before_the_daemon_died_is_ours() -> None:
    """`kill -9` between the order and its answer: the variant goes on, without anybody asking again."""
    laptop, view = Laptop(), variant()
    laptop.serving.wish(ServeWish(ORDERS, view.condition, view.ports, None, 100.0))

    again = Laptop(laptop.serving.saved())
    found = again.sees(catalog(view), at=105.0)

    assert (found.strangers, found.changed, again.ids) == ((), True, {view.variant_id})
    assert again.serving.destination(f"{view.variant_id}:80")[1] == PortPair(80, 3000)
    assert not again.serving.saved().wishes


@pytest.mark.parametrize(
    ("other", "at"),
    [
        (variant(condition=(ConditionPart("default"),)), 105.0),
        (variant(mirror=Mirror.SAFE), 105.0),
        (variant(), 500.0),
    ],
)
def test_only_what_was_asked_for_is_taken_over(other: VariantView, at: float) -> None:
    laptop = Laptop()
    laptop.serving.wish(ServeWish(ORDERS, USER, (PortPair(80, 3000),), None, 100.0))

    assert laptop.sees(catalog(other), at=at).strangers


def test_serves_survive_the_daemon() -> None:
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.sees(catalog(view))

    again = Laptop(laptop.serving.saved())

    assert again.serving.destination(f"{view.variant_id}:80")[1].local == 3000
    assert not again.sees(catalog(view), at=10_000.0, since=9_999.0).strangers
    assert again.sees(catalog(), at=10_001.0, since=9_999.0).ended


def test_ends_of_others_are_told_with_who_and_why_whatever_comes_first() -> None:
    for activity_first in (True, False):
        laptop, view = Laptop(), variant()
        laptop.serving.hold(ORDERS, view, at=100.0)
        laptop.sees(catalog(view))
        happened = Activity(
            101.0, ActivityKind.TAKEN_OVER, SESSION, DEVICE, ORDERS, "bob took over from alice", view.variant_id
        )
        if activity_first:
            assert not laptop.serving.happened(happened)
            laptop.sees(catalog(), at=101.0)
        else:
            laptop.sees(catalog(), at=101.0)
            assert laptop.warnings(at=101.0)[0][1].endswith("is no longer served by this laptop")
            assert laptop.serving.happened(happened)

        ((code, text),) = laptop.warnings(at=101.0)
        assert code == "SERVE_ENDED"
        assert "shop/orders" in text
        assert text.endswith("bob took over from alice")
        assert laptop.warnings(at=702.0) == []


def test_notice_of_an_end_goes_when_the_service_is_served_again() -> None:
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.sees(catalog(view))
    laptop.sees(catalog())
    assert laptop.warnings()
    laptop.serving.wish(ServeWish(ORDERS, USER, view.ports, None, 102.0))

    assert not laptop.warnings()


def test_own_ends_are_no_news() -> None:
    """Whether the catalog tells it before or after the answer."""
    laptop, first, second = Laptop(), variant(), variant()
    laptop.serving.hold(ORDERS, first, at=100.0)
    laptop.serving.hold(ORDERS, second, at=100.0)
    laptop.sees(catalog(first, second))
    laptop.serving.expect_end((first.variant_id,), at=101.0)
    assert not laptop.sees(catalog(second), at=101.0).ended
    laptop.serving.release((first.variant_id,), at=101.0)
    laptop.serving.release((second.variant_id,), at=102.0)

    found = laptop.sees(catalog(second), at=102.0)
    assert (found.ended, found.strangers) == ((), ())
    assert not laptop.warnings()
    assert not laptop.ids


def test_moved_to_another_laptop_of_the_user() -> None:
    """The same condition served anew elsewhere keeps its id and is no longer ours."""
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.sees(catalog(view))
    laptop.sees(catalog(replace(view, device=str(replace(DEVICE, device=new_ulid())), session=SessionId("x"))))

    assert not laptop.ids
    assert "another laptop" in laptop.warnings()[0][1]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("{id}:81", problems.PORT_NOT_SERVED),
        ("{id}:3000", problems.PORT_NOT_SERVED),
        ("{other}:80", problems.SERVE_UNKNOWN),
        ("{id}", problems.BAD_REQUEST),
        ("{id}:", problems.BAD_REQUEST),
        ("{id}:080", problems.BAD_REQUEST),
        ("{id}:80 ", problems.BAD_REQUEST),
        ("{id}:99999", problems.BAD_REQUEST),
        ("{lower}:80", problems.BAD_REQUEST),
        ("shop/orders:80", problems.BAD_REQUEST),
        ("127.0.0.1:22", problems.BAD_REQUEST),
        ("{id}:80\n", problems.BAD_REQUEST),
        ("{id}:٨٠", problems.BAD_REQUEST),
        ("", problems.BAD_REQUEST),
    ],
)
def test_streams_reach_only_what_was_declared(target: str, problem: problems.Problem) -> None:
    """Whoever holds the System holds no way to other ports of the laptop (T18, T20)."""
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    text = target.format(id=view.variant_id, other=new_ulid(), lower=view.variant_id.lower())

    with pytest.raises(CodezeroError) as caught:
        laptop.serving.destination(text)
    assert caught.value.problem is problem


def test_what_goes_wrong_is_told_with_the_next_step() -> None:
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.serving.held[view.variant_id].troubles[80] = "port 3000 of this laptop cannot be reached: Connection refused"
    laptop.sees(
        catalog(replace(view, state=VariantState.AWAY), state=ServingState.CONTESTED, detail="argo-cd writes it")
    )

    codes = dict(laptop.warnings())
    assert set(codes) == {"SERVE_CONTESTED", "SERVE_AWAY", "SERVE_NOT_ANSWERING"}
    assert "argo-cd writes it" in codes["SERVE_CONTESTED"]
    assert "port 3000" in codes["SERVE_NOT_ANSWERING"]
    assert all(one.fix for one in laptop.serving.warnings(laptop.known, at=100.0))
    # With an old catalog only what we know ourselves is told.
    assert [one.code for one in laptop.serving.warnings(None, at=100.0)] == ["SERVE_NOT_ANSWERING"]


def test_views_are_in_order_of_precedence() -> None:
    laptop = Laptop()
    by_user = variant(since=1)
    by_header = variant(condition=(ConditionPart("header", "x-a", "b"),), since=5)
    for view in (by_user, by_header):
        laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.sees(catalog(by_user, by_header))

    shown = laptop.serving.view(laptop.known)
    assert [one.variant.variant_id for one in shown] == [by_header.variant_id, by_user.variant_id]
    assert shown[1].curl == f"curl -H 'x-c6o-userid: {DEVICE.user}' http://orders.shop:80/"
    assert laptop.serving.local_ports == {3000}


def test_a_variant_that_is_asked_for_again_is_no_stranger() -> None:
    """It keeps its id, and the order to end the old one could end the new one: when it was reset while the Teamspace was away, for one."""
    laptop, old = Laptop(), variant()
    laptop.serving.hold(ORDERS, old, at=100.0)
    laptop.sees(catalog(old))
    laptop.serving.release([old.variant_id], at=110.0)
    again = ServeWish(ORDERS, USER, (PortPair(80, 4000),), None, 200.0)
    laptop.serving.wish(again)

    assert laptop.sees(catalog(old), at=201.0).strangers == ()
    assert not laptop.ids, "whoever asked for port 4000 did not ask for this"
    other = variant(condition=(ConditionPart("header", "x", "1"),))
    assert laptop.sees(catalog(old, other), at=202.0).strangers == ((ORDERS, other.variant_id),)
    laptop.serving.withdraw(again)
    assert laptop.sees(catalog(old), at=203.0).strangers == ((ORDERS, old.variant_id),)


def test_what_comes_of_a_wish_that_is_given_up_is_a_stranger() -> None:
    laptop, late = Laptop(), variant()
    laptop.serving.wish(ServeWish(ORDERS, USER, late.ports, None, 100.0))

    assert not laptop.serving.withdraw_all(ServiceRef("shop", "cart"))
    assert laptop.serving.withdraw_all(ORDERS)
    assert laptop.sees(catalog(late)).strangers == ((ORDERS, late.variant_id),)


def test_an_end_that_nobody_heard_is_told_as_soon_as_it_shows() -> None:
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.sees(catalog(view))
    laptop.serving.release([view.variant_id], at=110.0)
    laptop.serving.forget_end([view.variant_id])

    assert laptop.sees(catalog(view), at=111.0).strangers == ((ORDERS, view.variant_id),)


def test_a_catalog_that_knows_less_for_a_moment_costs_no_variant() -> None:
    """As when one System goes and the next one's watch lags: what comes back is the same variant, and not a stranger to be ended."""
    laptop, view = Laptop(), variant()
    laptop.serving.hold(ORDERS, view, at=100.0)
    laptop.sees(catalog(view), at=101.0)
    assert laptop.sees(catalog(), at=102.0).ended
    assert [code for code, _ in laptop.warnings()] == ["SERVE_ENDED"]

    assert laptop.sees(catalog(view), at=103.0).strangers == ()
    assert laptop.ids == {view.variant_id}
    assert laptop.warnings() == []
    # Unless the user wants nothing of it any longer.
    laptop.sees(catalog(), at=104.0)
    laptop.serving.withdraw_all()
    assert laptop.sees(catalog(view), at=105.0).strangers == ((ORDERS, view.variant_id),)
