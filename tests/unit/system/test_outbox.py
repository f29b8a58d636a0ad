"""What the Orchestrator is told about laptops: newest states, few refusals, bounded."""

import asyncio

import msgspec

from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.variants import VariantView
from codezero.system.outbox import KEPT_ENDS, KEPT_RECORDS, KEPT_REFUSALS, REFUSAL_BURST, Outbox
from codezero.wire.coordination import StreamRefused, TraceReport, TunnelReport, VariantEnded
from codezero.wire.tracing import Direction, TraceRecord

DEVICE = Device("hub", new_ulid(), new_ulid(), new_ulid())
ALICE, BOB = SessionId("ALICE"), SessionId("BOB")
ORDERS = ServiceRef("shop", "orders")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_newest_state_of_a_tunnel_is_told_once() -> None:
    """A tunnel that flapped while the Orchestrator was away."""
    outbox = Outbox()
    for _ in range(100):
        outbox.tunnel_up(ALICE, DEVICE)
        outbox.tunnel_down(ALICE)

    assert await outbox.take() == [TunnelReport(ALICE, str(DEVICE), False)]


async def test_a_new_orchestrator_is_told_all_that_stand() -> None:
    """And not about those that went before it came."""
    outbox = Outbox()
    outbox.tunnel_up(ALICE, DEVICE)
    outbox.tunnel_up(BOB, DEVICE)
    await outbox.take()
    outbox.tunnel_down(BOB)
    outbox.begin()

    assert await outbox.take() == [TunnelReport(ALICE, str(DEVICE), True)]


async def test_taking_waits_for_something_to_tell() -> None:
    """No hot loop."""
    outbox = Outbox()
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.tunnel_up(ALICE, DEVICE)

    assert len(await asyncio.wait_for(taking, 5)) == 1


async def test_refusals_of_a_laptop_are_limited_and_come_back() -> None:
    """A script that tries for ever must not push out what others did."""
    clock = Clock()
    outbox = Outbox(steady=clock)
    outbox.tunnel_up(ALICE, DEVICE)
    outbox.tunnel_up(BOB, DEVICE)
    for _ in range(1000):
        outbox.stream_refused(ALICE, ORDERS, "CZ", "no")
    outbox.stream_refused(BOB, ORDERS, "CZ", "no")
    told = [each for each in await outbox.take() if isinstance(each, StreamRefused)]
    assert [each.session for each in told] == [ALICE] * REFUSAL_BURST + [BOB]

    clock.now += 3
    for _ in range(1000):
        outbox.stream_refused(ALICE, ORDERS, "CZ", "no")
    assert len(await outbox.take()) == 3


async def test_refusals_are_bounded_in_all() -> None:
    """While the Orchestrator is away, with many laptops."""
    outbox = Outbox()
    for number in range(KEPT_REFUSALS * 3):
        outbox.stream_refused(SessionId(str(number)), None, "CZ", "x" * 5000)

    told = await outbox.take()
    assert len(told) == KEPT_REFUSALS
    assert all(isinstance(each, StreamRefused) and len(each.detail) == 1000 for each in told)
    assert not outbox._allowance


def record(number: int) -> TraceRecord:
    return TraceRecord(float(number), Direction.SERVE, ORDERS, 80, "http")


async def test_traces_are_kept_only_while_somebody_wants_them() -> None:
    """A busy service must not fill the memory of a System that nobody asks."""
    outbox = Outbox()
    outbox.traced([record(1)], 0)
    outbox.want_traces(on=True)
    outbox.traced([record(2)], 3)
    outbox.traced([], 0)

    assert await outbox.take() == [TraceReport((record(2),), 3)]
    outbox.traced([record(4)], 0)
    outbox.want_traces(on=False)
    outbox.stream_refused(ALICE, None, "CODE", "so that there is something to take")
    assert [type(one) for one in await outbox.take()] == [StreamRefused]


async def test_traces_are_bounded_and_what_is_dropped_is_counted() -> None:
    outbox = Outbox()
    outbox.want_traces(on=True)
    outbox.traced([record(number) for number in range(KEPT_RECORDS + 50)], 7)
    reports = [one for one in await outbox.take() if isinstance(one, TraceReport)]

    assert sum(len(one.records) for one in reports) == KEPT_RECORDS
    assert sum(one.dropped for one in reports) == 57
    assert max(len(one.records) for one in reports) <= 200


async def test_a_new_connection_has_not_asked_for_traces() -> None:
    outbox = Outbox()
    outbox.want_traces(on=True)
    outbox.begin()
    outbox.traced([record(1)], 0)
    outbox.stream_refused(ALICE, None, "CODE", "so that there is something to take")

    assert [type(one) for one in await outbox.take()] == [StreamRefused]


async def test_ends_wait_for_the_orchestrator() -> None:
    """Ends that happen while it is away are told when it is back; the oldest are forgotten first."""
    outbox = Outbox()
    view = VariantView("ID", "USER", "Ann", "device", ALICE, (), (), 0, 0.0)
    for number in range(KEPT_ENDS + 1):
        outbox.variant_ended(ORDERS, view, str(number))
    outbox.begin()
    ends = await outbox.take()

    assert len(ends) == KEPT_ENDS
    assert ends[0] == VariantEnded(ORDERS, view, "1")


def test_requests_that_variants_answered_are_counted_those_of_the_origin_are_not() -> None:
    outbox = Outbox()
    outbox.count([record(1), record(2), msgspec.structs.replace(record(3), fallback="laptop away")])

    ((variant, requests),) = outbox.take_counts()

    assert (variant, requests) == (record(1).variant, 2)
    assert outbox.take_counts() == ()
