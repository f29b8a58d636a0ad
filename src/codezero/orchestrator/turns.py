"""Whose wish has to wait for another one: a System carries out many orders at a time, in no order.

A variant that is served again keeps its id, so the end that was asked for first could end the serve that was asked for after it. What one user wants of
one service is therefore ordered one after the other where it could matter.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from codezero.model import problems
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.orchestrator.board import Placed
from codezero.orchestrator.orders import MAX_ORDERS_OF_A_LAPTOP, Asker, Order, Orders
from codezero.orchestrator.serving import Owner
from codezero.wire.coordination import EndVariants, PutVariant, ServeEnding, ServeWanted


@dataclass(frozen=True, slots=True)
class Wish:
    """What a laptop wants. `owner` is whose variant it becomes."""

    asker: Asker
    owner: Owner
    wanted: ServeWanted | ServeEnding

    @property
    def device(self) -> Device:
        """The laptop."""
        return self.asker.subscriber.device


class Turns:
    """The wishes that wait. `placed` finds a variant by its id."""

    def __init__(self, orders: Orders, placed: Callable[[str], Placed | None]) -> None:
        self._orders = orders
        self._placed = placed
        self._waiting: dict[ServiceRef, list[Wish]] = {}
        self._of: Counter[Device] = Counter()

    def waits(self, wish: Wish) -> bool:
        """Whether `wish` has to wait, and then does until `next_of`; raises `CodezeroError` when too much waits."""
        service, device = wish.wanted.service, wish.device
        if not any(self._comes_first(order, wish) for order in self._orders.about(service)) and all(
            other.device.user != device.user for other in self._waiting.get(service, ())
        ):
            return False
        if self._of[device] >= MAX_ORDERS_OF_A_LAPTOP:
            raise CodezeroError(
                problems.SERVE_FAILED,
                f"{MAX_ORDERS_OF_A_LAPTOP} wishes of this laptop wait already",
                fix="wait a moment and try again",
            )
        self._waiting.setdefault(service, []).append(wish)
        self._of[device] += 1
        return True

    def next_of(self, service: ServiceRef) -> list[Wish]:
        """An order about `service` is done: what waited for that or others, oldest first, to be tried again."""
        waiting = self._waiting.pop(service, [])
        for wish in waiting:
            self._of[wish.device] -= 1
            if not self._of[wish.device]:
                del self._of[wish.device]
        return [wish for wish in waiting if not wish.asker.subscriber.ended]

    def _comes_first(self, order: Order, wish: Wish) -> bool:
        user = wish.device.user
        match order.message, wish.wanted:
            case EndVariants(variants=ids), ServeWanted(preview=False):
                return any(placed.view.user == user for placed in map(self._placed, ids) if placed is not None)
            case PutVariant(preview=False, variant=view), ServeEnding():
                return view.user == user
            case _:
                return False
