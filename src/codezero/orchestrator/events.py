"""What belongs into the Hub's audit: kept here until the Hub has it for good, also while it is away for hours, and told in the order in which it happened.

Kept in memory, as everything here: an Orchestrator that ends while the Hub is away takes with it what that has not heard.
"""

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from codezero.model.ids import new_ulid
from codezero.model.services import ServiceRef
from codezero.model.sessions import Activity, ActivityKind, Presence
from codezero.orchestrator.board import Placed
from codezero.wire.hub_channel import MAX_CONSUMED, MAX_EVENTS, Event

# Some 10 MB; a day of a busy Teamspace.
KEPT_EVENTS: Final = 20_000
# Requests to variants are counted, and told once in a while and at the end of a variant.
COUNTED_SECONDS: Final = 300.0
MAX_COUNTED: Final = 10_000
MAX_DETAIL: Final = 900

REQUESTS: Final = "serve.requests"
LOST: Final = "events.lost"

# Comings and goings of the network are none of the audit's.
_ACTIONS: Final = {
    ActivityKind.JOINED: "session.begin",
    ActivityKind.LEFT: "session.end",
    ActivityKind.CONSUMED: "consume.begin",
    ActivityKind.RELEASED: "consume.end",
    ActivityKind.REFUSED: "stream.refuse",
    ActivityKind.SERVED: "serve.begin",
    ActivityKind.UNSERVED: "serve.end",
    ActivityKind.EXPIRED: "serve.expire",
    ActivityKind.TAKEN_OVER: "serve.takeover",
    ActivityKind.TERMINATED: "serve.terminate",
    ActivityKind.CONTESTED: "serve.contest",
}
_ENDS: Final = frozenset(
    {ActivityKind.UNSERVED, ActivityKind.EXPIRED, ActivityKind.TAKEN_OVER, ActivityKind.TERMINATED}
)


class Events:
    """The events that the Hub has not acknowledged. `epoch` is new for each such list; `clock` gives UNIX time, `steady` one that never jumps."""

    def __init__(
        self,
        *,
        kept: int = KEPT_EVENTS,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = new_ulid()
        self._kept = kept
        self._clock = clock
        self._steady = steady
        self._numbers = itertools.count(1)
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._sent = 0
        self._requests: Counter[str] = Counter()
        self._counted: dict[str, tuple[ServiceRef, str]] = {}
        self._counted_at = steady()
        self._wake = asyncio.Event()
        self._all_taken = asyncio.Event()
        self._all_taken.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """How many events were dropped for want of room, and nobody has been told yet."""
        return self._lost

    def happened(self, activity: Activity, presence: Presence | None) -> None:
        """Keep what `activity` means for the audit."""
        action = _ACTIONS.get(activity.kind)
        if action is None:
            return
        if activity.kind in _ENDS and activity.variant:
            self._tell_requests(activity.variant)
        detail = activity.detail
        # Not in words: of each service the Hub tells only those who may see it (T38).
        consumed = presence.consumes if activity.kind is ActivityKind.LEFT and presence is not None else ()
        if len(consumed) > MAX_CONSUMED:
            detail = f"consumed {len(consumed) - MAX_CONSUMED} more services"
        self._keep(
            Event(
                new_ulid(),
                0,
                activity.at,
                action,
                user=activity.device.user,
                device=activity.device.device,
                session=activity.session,
                service=activity.service,
                variant=activity.variant,
                owner=activity.user,
                detail=detail[:MAX_DETAIL],
                consumed=consumed[:MAX_CONSUMED],
            )
        )

    def counted(self, variant: str, requests: int, placed: Placed | None) -> None:
        """So many more requests went to a variant instead of the service's own pods; `placed` is what is known of it."""
        if requests > 0 and (variant in self._requests or len(self._requests) < MAX_COUNTED):
            self._requests[variant] += requests
            if placed is not None:
                self._counted[variant] = placed.service, placed.view.user

    def begin(self) -> None:
        """A new channel: all that is not acknowledged is sent again."""
        self._sent = 0
        self._wake.set()

    def due(self) -> Sequence[Event]:
        """The next events to send, which count as sent; none where there are none."""
        if self._steady() >= self._counted_at + COUNTED_SECONDS:
            self.tell_counted()
        if self._lost:
            lost, self._lost = self._lost, 0
            detail = f"{lost} events were dropped: the Hub was away for too long"
            self._keep(Event(new_ulid(), 0, self._clock(), LOST, detail=detail, count=lost))
        part = tuple(itertools.islice((one for one in self._waiting if one.number > self._sent), MAX_EVENTS))
        if part:
            self._sent = part[-1].number
        return part

    def acknowledged(self, upto: int) -> None:
        """The Hub keeps events up to that number for good; numbers that were not sent are believed by nobody."""
        while self._waiting and self._waiting[0].number <= min(upto, self._sent):
            self._waiting.popleft()
        if not self._waiting:
            self._all_taken.set()

    async def all_taken(self) -> None:
        """Until the Hub has all that was told."""
        await self._all_taken.wait()

    async def wait(self, seconds: float) -> None:
        """Until there may be more to send, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def tell_counted(self) -> None:
        """Tell now how many requests variants have answered."""
        self._counted_at = self._steady()
        for variant in list(self._requests):
            self._tell_requests(variant)

    def _tell_requests(self, variant: str) -> None:
        requests = self._requests.pop(variant, 0)
        service, owner = self._counted.pop(variant, (None, ""))
        if requests:
            told = Event(
                new_ulid(), 0, self._clock(), REQUESTS, service=service, variant=variant, owner=owner, count=requests
            )
            self._keep(told)

    def _keep(self, event: Event) -> None:
        if len(self._waiting) >= self._kept:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(msgspec.structs.replace(event, number=next(self._numbers)))
        self._all_taken.clear()
        self._wake.set()
