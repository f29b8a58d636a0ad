"""The way down to a System: bounded, in order, and no backlog of changes of mind."""

import msgspec

from codezero.model.services import ServiceRef
from codezero.orchestrator.links import MAX_WAITING, SystemLink
from codezero.wire.coordination import EndVariants, ToSystem, TraceWanted

DECODER: msgspec.msgpack.Decoder[ToSystem] = msgspec.msgpack.Decoder(ToSystem)


def all_due(link: SystemLink) -> list[ToSystem]:
    found: list[ToSystem] = []
    while (frame := link.due()) is not None:
        found.append(DECODER.decode(frame[4:]))
    return found


def end(number: int) -> EndVariants:
    return EndVariants(number, ServiceRef("shop", "orders"), ("x",))


def test_orders_go_down_in_order() -> None:
    """An end before the next serve must not overtake it."""
    link = SystemLink(0)
    assert all(link.tell(end(number)) for number in range(5))

    assert all_due(link) == [end(number) for number in range(5)]
    assert all_due(link) == []


def test_a_system_that_does_not_read_gets_no_more() -> None:
    """Whoever asks is told, instead of memory that grows."""
    link = SystemLink(0)
    assert all(link.tell(end(number)) for number in range(MAX_WAITING))

    assert not link.tell(end(0))
    assert len(all_due(link)) == MAX_WAITING
    assert link.tell(end(0))


def test_only_the_last_word_about_traces_is_sent() -> None:
    """However often laptops change their minds; nothing is no news to one that has just come."""
    link = SystemLink(0)
    for _ in range(1000):
        link.want_traces(True)
        link.want_traces(False)
    assert all_due(link) == []
    link.want_traces(True)
    assert all_due(link) == [TraceWanted(True)]
    link.want_traces(False)
    assert all_due(link) == [TraceWanted(False)]

    assert all_due(SystemLink(1, traced=True)) == [TraceWanted(True)]
