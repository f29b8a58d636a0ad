"""Requests are told to who owns the variant and wants to know, and to nobody else."""

from codezero.model.access import Effect, Operation, PolicyRule, RuleSight
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.variants import VariantView
from codezero.orchestrator.admission import Viewer
from codezero.orchestrator.board import Board, Placed
from codezero.orchestrator.fanout import MAX_TRACED, Subscriber
from codezero.orchestrator.traces import Traces
from codezero.wire.coordination import TraceReport
from codezero.wire.tracing import Direction, TraceRecord

ORGANIZATION = new_ulid()
ORDERS = ServiceRef("shop", "orders")
VIEWER = Viewer(ORGANIZATION, RuleSight((PolicyRule(Effect.ALLOW, (Operation.CONSUME,)),)))


def laptop(user: str) -> Subscriber:
    device = Device("hub", ORGANIZATION, user, new_ulid())
    return Subscriber(SessionId(new_ulid()), device, Board().join_view(VIEWER), catalog=None, activity=0)


def placed(user: str) -> Placed:
    device = str(Device("hub", ORGANIZATION, user, new_ulid()))
    return Placed(ORDERS, VariantView(new_ulid(), user, "x", device, SessionId(new_ulid()), (), (), 0, 0.0))


def record(variant: str, service: ServiceRef = ORDERS) -> TraceRecord:
    return TraceRecord(1.0, Direction.SERVE, service, 80, "http", variant=variant)


def test_a_record_goes_to_the_laptops_of_its_owner() -> None:
    """Those that want it; a record of a variant nobody knows, or of another service, goes nowhere."""
    anna, also_anna, silent_anna, ben = laptop("A"), laptop("A"), laptop("A"), laptop("B")
    of_anna, of_chris = placed("A"), placed("C")
    traces = Traces({each.view.variant_id: each for each in (of_anna, of_chris)}.get)
    for each in (anna, also_anna, ben):
        traces.want(each, on=True)
    mine = record(of_anna.view.variant_id)
    forged = record(of_anna.view.variant_id, ServiceRef("shop", "cart"))
    traces.reported(TraceReport((mine, forged, record(of_chris.view.variant_id), record(new_ulid()))))

    assert list(anna.traced) == list(also_anna.traced) == [mine]
    assert not silent_anna.traced
    assert not ben.traced
    assert (anna.untold, ben.untold) == (0, 0)


def test_what_was_left_out_is_told_to_all_who_may_miss_it() -> None:
    """Nobody should take a list with holes for a whole one; a negative number is none."""
    anna = laptop("A")
    traces = Traces({}.get)
    traces.want(anna, on=True)
    traces.reported(TraceReport((), dropped=7))
    traces.reported(TraceReport((), dropped=-7))

    assert anna.untold == 7


def test_one_who_lags_misses_some_and_is_told_how_many() -> None:
    """Memory has a bound."""
    anna, of_anna = laptop("A"), placed("A")
    traces = Traces({of_anna.view.variant_id: of_anna}.get)
    traces.want(anna, on=True)
    for _ in range(3):
        traces.reported(TraceReport((record(of_anna.view.variant_id),) * (MAX_TRACED - 1)))

    assert len(anna.traced) == MAX_TRACED
    assert anna.untold == 2 * MAX_TRACED - 3


def test_who_wants_none_any_longer_keeps_none() -> None:
    """Not even those on their way; wishing twice is wishing once."""
    anna, of_anna = laptop("A"), placed("A")
    traces = Traces({of_anna.view.variant_id: of_anna}.get)
    for _ in range(2):
        traces.want(anna, on=True)
    traces.reported(TraceReport((record(of_anna.view.variant_id),), dropped=1))
    assert (traces.are_wanted, len(traces)) == (True, 1)
    traces.want(anna, on=False)
    traces.reported(TraceReport((record(of_anna.view.variant_id),), dropped=1))

    assert (traces.are_wanted, len(anna.traced), anna.untold) == (False, 0, 0)
