from typing import Any

import msgspec

from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.sessions import Activity, ActivityKind, Presence, PresenceState
from codezero.model.variants import VariantView
from codezero.orchestrator.board import Placed
from codezero.orchestrator.events import COUNTED_SECONDS, LOST, REQUESTS, Events
from codezero.wire.hub_channel import MAX_CONSUMED, MAX_EVENTS, MAX_MESSAGE
from codezero.wire.hub_channel import Events as EventsTold

ANN = Device("install.test", new_ulid(), new_ulid(), new_ulid())
SESSION = SessionId(new_ulid())
ORDERS, CARTS = ServiceRef("shop", "orders"), ServiceRef("shop", "carts")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def activity(kind: ActivityKind, **fields: Any) -> Activity:
    return Activity(**{"at": 5.0, "kind": kind, "session": SESSION, "device": ANN, **fields})


def placed(variant: str) -> Placed:
    view = VariantView(variant, ANN.user, "Ann", str(ANN), SESSION, (), (), 0, 0.0)
    return Placed(ORDERS, view)


def test_what_happened_is_told_in_order_until_it_is_acknowledged() -> None:
    events = Events()
    for kind in (ActivityKind.JOINED, ActivityKind.CONSUMED, ActivityKind.AWAY, ActivityKind.RELEASED):
        events.happened(activity(kind, service=ORDERS), None)
    events.begin()

    first = events.due()

    assert [one.action for one in first] == ["session.begin", "consume.begin", "consume.end"]
    assert [one.number for one in first] == [1, 2, 3]
    assert (first[1].user, first[1].device, first[1].service) == (ANN.user, ANN.device, ORDERS)
    assert list(events.due()) == []
    events.acknowledged(2)
    assert len(events) == 1
    events.begin()
    assert [one.id for one in events.due()] == [first[2].id], "the same again after a loss, by the same id"


def test_only_what_was_sent_can_be_acknowledged() -> None:
    """A Hub that acknowledges what it cannot have has lost it."""
    events = Events()
    events.happened(activity(ActivityKind.JOINED), None)
    events.acknowledged(10**9)
    assert len(events) == 1


def test_a_message_holds_a_bounded_number() -> None:
    events = Events()
    for _ in range(MAX_EVENTS + 1):
        events.happened(activity(ActivityKind.CONSUMED, service=ORDERS), None)

    assert [len(events.due()), len(events.due()), len(events.due())] == [MAX_EVENTS, 1, 0]


def test_too_many_push_out_the_oldest_and_that_is_told() -> None:
    events = Events(kept=3)
    for _ in range(5):
        events.happened(activity(ActivityKind.CONSUMED, service=ORDERS), None)
    assert events.lost == 2

    told = events.due()

    assert len(events) == 3
    assert [(one.action, one.count) for one in told if one.action == LOST] == [(LOST, 2)]
    events.acknowledged(told[-1].number)
    assert [(one.action, one.count) for one in events.due()] == [(LOST, 1)], "room was made for saying so"


def test_the_end_of_a_session_says_what_it_consumed() -> None:
    events = Events()
    presence = Presence(SESSION, ANN, "laptop", PresenceState.ONLINE, 0.0, (CARTS, ORDERS))
    events.happened(activity(ActivityKind.LEFT), presence)

    (told,) = events.due()

    assert (told.action, told.detail, told.consumed) == ("session.end", "", (CARTS, ORDERS))


def test_the_longest_events_fit_into_a_message() -> None:
    events = Events()
    many = tuple(ServiceRef("n" * 63, f"{number:063}") for number in range(200))
    presence = Presence(SESSION, ANN, "laptop", PresenceState.ONLINE, 0.0, many)
    for _ in range(MAX_EVENTS):
        events.happened(activity(ActivityKind.LEFT, detail="x" * 2000), presence)

    told = EventsTold(tuple(events.due()))

    assert told.events[0].consumed == many[:MAX_CONSUMED]
    assert told.events[0].detail == f"consumed {200 - MAX_CONSUMED} more services"
    encoded = msgspec.msgpack.encode(told)
    assert len(encoded) < MAX_MESSAGE
    assert msgspec.msgpack.decode(encoded, type=EventsTold) == told


def test_requests_of_others_that_a_variant_answered_are_counted_once_in_a_while_and_at_its_end() -> None:
    clock = Clock()
    events = Events(steady=clock)
    for _ in range(3):
        events.counted("one", 4, placed("one"))
    events.counted("two", 1, None)
    events.counted("one", -5, placed("one"))
    assert list(events.due()) == []

    events.happened(activity(ActivityKind.UNSERVED, service=ORDERS, variant="one", user=ANN.user), None)
    counted, ended = events.due()
    clock.now += COUNTED_SECONDS
    (later,) = events.due()

    assert (counted.action, counted.variant, counted.count) == (REQUESTS, "one", 12)
    assert (counted.service, counted.owner, counted.user) == (ORDERS, ANN.user, "")
    assert ended.action == "serve.end"
    assert (later.action, later.variant, later.count, later.service) == (REQUESTS, "two", 1, None)
    clock.now += COUNTED_SECONDS
    assert list(events.due()) == []
