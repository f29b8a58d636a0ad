"""Orders that Systems have been given and not answered yet. Pure: time is a value, seconds of a steady clock.

Each order is answered to whoever asked for it exactly once: by the System, when the System is gone, or after `ORDER_SECONDS`. An order that
was given up is remembered for a while, so that a late answer is still told to the team: what was done has been done.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from codezero.model import problems
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.sessions import ActivityKind
from codezero.orchestrator.fanout import Subscriber
from codezero.wire.coordination import EndVariants, PutVariant

ORDER_SECONDS: Final = 10.0
REMEMBERED_SECONDS: Final = 300.0
MAX_ORDERS_OF_A_LAPTOP: Final = 32
MAX_ORDERS: Final = 2000


@dataclass(frozen=True, slots=True)
class Asker:
    """The laptop that waits for an answer, and the number of its request."""

    subscriber: Subscriber
    number: int


@dataclass(frozen=True, slots=True)
class Order:
    """What was sent over which link, and by when an answer is due. Without an `asker` it is ours; `told_as` is how the end is told then."""

    link: int
    message: PutVariant | EndVariants
    due: float
    asker: Asker | None = None
    told_as: ActivityKind = ActivityKind.UNSERVED


class Orders:
    """The orders under way."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, Order] = {}
        self._given_up: dict[int, Order] = {}
        self._of: Counter[Device] = Counter()
        self._about: dict[ServiceRef, dict[int, Order]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> tuple[Order, ...]:
        """Those without an answer, oldest first."""
        return tuple(self._open.values())

    def about(self, service: ServiceRef) -> Iterable[Order]:
        """Those about that service without an answer, oldest first."""
        return self._about[service].values() if service in self._about else ()

    def number(self) -> int:
        """A number no order had before."""
        return next(self._numbers)

    def check_room(self, device: Device | None) -> None:
        """Raises `CodezeroError` when one more order, for `device` where it is a laptop's, would be too many."""
        if device is not None and self._of[device] >= MAX_ORDERS_OF_A_LAPTOP:
            raise CodezeroError(
                problems.SERVE_FAILED,
                f"this laptop waits for {MAX_ORDERS_OF_A_LAPTOP} answers already",
                fix="wait a moment and try again",
            )
        if len(self._open) + len(self._given_up) >= MAX_ORDERS:
            raise CodezeroError(
                problems.SERVE_FAILED,
                f"the Teamspace has {MAX_ORDERS} orders under way already",
                fix="wait a moment and try again",
            )

    def add(self, order: Order) -> None:
        """An order has been sent."""
        self._open[order.message.order] = order
        self._about[order.message.service][order.message.order] = order
        if order.asker is not None:
            self._of[order.asker.subscriber.device] += 1

    def answered(self, number: int, link: int) -> tuple[Order, bool] | None:
        """The order a System answers over `link`, and whether its asker still waits; None where there is no such order, or not any longer."""
        order = self._open.get(number) or self._given_up.get(number)
        if order is None or order.link != link:
            return None
        waits = number in self._open
        self._forget(number)
        return order, waits

    def lost(self, link: int) -> tuple[Order, ...]:
        """The System of `link` is gone: those it has not answered, which now count as answered."""
        for number in [number for number, order in self._given_up.items() if order.link == link]:
            del self._given_up[number]
        lost = [order for order in self._open.values() if order.link == link]
        for order in lost:
            self._forget(order.message.order)
        return tuple(lost)

    def overdue(self, now: float) -> tuple[Order, ...]:
        """Those that should have been answered by `now`, each once."""
        late: list[Order] = []
        for number, order in list(self._open.items()):
            if now < order.due:
                break  # all wait equally long, so the others are younger
            self._forget(number)
            self._given_up[number] = order
            late.append(order)
        for number, order in list(self._given_up.items()):
            if now < order.due + REMEMBERED_SECONDS:
                break
            del self._given_up[number]
        return tuple(late)

    def _forget(self, number: int) -> None:
        self._given_up.pop(number, None)
        order = self._open.pop(number, None)
        if order is None:
            return
        about = self._about[order.message.service]
        del about[number]
        if not about:
            del self._about[order.message.service]
        if order.asker is not None:
            device = order.asker.subscriber.device
            self._of[device] -= 1
            if not self._of[device]:
                del self._of[device]
