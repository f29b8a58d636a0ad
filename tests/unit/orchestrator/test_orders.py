"""Orders under way: each is answered once, whoever is late, gone or confused."""

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from codezero.model import problems
from codezero.model.access import Effect, Operation, PolicyRule, RuleSight
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.orchestrator import orders as module
from codezero.orchestrator.admission import Viewer
from codezero.orchestrator.board import Board
from codezero.orchestrator.fanout import Subscriber
from codezero.orchestrator.orders import ORDER_SECONDS, REMEMBERED_SECONDS, Asker, Order, Orders
from codezero.wire.coordination import EndVariants

ORGANIZATION = new_ulid()
EVERYTHING = Viewer(ORGANIZATION, RuleSight((PolicyRule(Effect.ALLOW, (Operation.CONSUME,)),)))


def subscriber() -> Subscriber:
    device = Device("hub", ORGANIZATION, new_ulid(), new_ulid())
    return Subscriber(SessionId(new_ulid()), device, Board().join_view(EVERYTHING), catalog=None, activity=0)


def sent(orders: Orders, *, link: int = 0, now: float = 0.0, asker: Asker | None = None) -> Order:
    message = EndVariants(orders.number(), ServiceRef("shop", "orders"), ("x",))
    order = Order(link, message, now + ORDER_SECONDS, asker)
    orders.add(order)
    return order


class OrdersMachine(RuleBasedStateMachine):
    """Orders are sent over links that answer, answer wrongly, are silent or go."""

    def __init__(self) -> None:
        super().__init__()
        self.orders = Orders()
        self.now = 0.0
        self.laptops = [subscriber() for _ in range(2)]
        self.waiting: dict[int, Order] = {}
        self.all: list[Order] = []

    @rule(link=st.integers(0, 2), laptop=st.integers(0, 2))
    def order(self, link: int, laptop: int) -> None:
        asker = Asker(self.laptops[laptop], len(self.all)) if laptop < 2 else None
        order = sent(self.orders, link=link, now=self.now, asker=asker)
        self.waiting[order.message.order] = order
        self.all.append(order)

    @rule(number=st.integers(-1, 40), link=st.integers(0, 2))
    def answer(self, number: int, link: int) -> None:
        found = self.orders.answered(number, link)
        if found is None:
            assert number not in self.waiting or self.waiting[number].link != link
            return
        order, waits = found
        assert (order.message.order, order.link) == (number, link)
        assert waits == (self.waiting.pop(number, None) is not None)
        assert self.orders.answered(number, link) is None

    @rule(link=st.integers(0, 2))
    def lose(self, link: int) -> None:
        lost = self.orders.lost(link)
        self._answered(lost)
        assert not any(order.link == link for order in self.waiting.values())

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._answered(self.orders.overdue(self.now))
        assert all(self.now < order.due for order in self.waiting.values())

    def _answered(self, answered: Sequence[Order]) -> None:
        for order in answered:
            assert self.waiting.pop(order.message.order) is order

    @invariant()
    def those_that_wait_are_open(self) -> None:
        assert list(self.orders.open) == list(self.waiting.values())
        assert len(self.orders) == len(self.waiting)


TestOrders = OrdersMachine.TestCase
TestOrders.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_laptop_has_a_bound_of_its_own() -> None:
    """And gets its room back with the answers."""
    orders, greedy, modest = Orders(), subscriber(), subscriber()
    waiting = [sent(orders, asker=Asker(greedy, number)) for number in range(module.MAX_ORDERS_OF_A_LAPTOP)]
    with pytest.raises(CodezeroError) as caught:
        orders.check_room(greedy.device)
    assert caught.value.problem is problems.SERVE_FAILED
    orders.check_room(modest.device)
    orders.check_room(None)
    assert orders.answered(waiting[0].message.order, 0) is not None

    orders.check_room(greedy.device)


def test_all_together_have_a_bound_too() -> None:
    """Those that were given up count as long as they are remembered."""
    orders = Orders()
    for _ in range(module.MAX_ORDERS):
        sent(orders)
    assert len(orders.overdue(ORDER_SECONDS)) == module.MAX_ORDERS
    for device in (None, subscriber().device):
        with pytest.raises(CodezeroError):
            orders.check_room(device)
    orders.overdue(ORDER_SECONDS + REMEMBERED_SECONDS)

    orders.check_room(None)


def test_a_late_answer_is_known_for_a_while() -> None:
    """What was done is told, though nobody waits for it."""
    orders = Orders()
    first, second = sent(orders), sent(orders)
    assert orders.overdue(ORDER_SECONDS) == (first, second)
    assert orders.answered(first.message.order, 0) == (first, False)
    orders.overdue(ORDER_SECONDS + REMEMBERED_SECONDS)

    assert orders.answered(second.message.order, 0) is None
