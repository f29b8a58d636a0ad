"""Records for those who read traces: whole for who keeps up, counted for who does not."""

import pytest

from codezero.local.daemon import traces as traces_module
from codezero.local.daemon.traces import MAX_READERS, Traces
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.wire.local_api import TraceLine
from codezero.wire.tracing import Direction, MirrorRecord, TraceRecord


def record(number: int = 0) -> TraceRecord:
    return TraceRecord(float(number), Direction.SERVE, ServiceRef("shop", "orders"), 80, "http")


async def test_wanted_by_the_first_and_until_the_last() -> None:
    told: list[bool] = []
    traces = Traces(wanted=told.append)
    assert not traces.are_wanted
    first, second = traces.read(), traces.read()
    traces.forget(first)
    assert traces.are_wanted
    traces.forget(second)
    traces.forget(second)

    assert told == [True, False]
    assert not traces.are_wanted


async def test_each_reader_gets_each_record() -> None:
    traces = Traces()
    readers = [traces.read(), traces.read()]
    traces.put([record(1), record(2)], dropped=4)
    traces.put([], dropped=5)
    traces.put([])
    traces.close()

    for reader in readers:
        lines = [await reader.next() for _ in range(4)]
        assert lines == [TraceLine(record(1), dropped=4), TraceLine(record(2)), TraceLine(dropped=5), None]


async def test_a_slow_reader_is_told_how_much_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces_module, "MAX_WAITING", 3)
    traces = Traces()
    reader = traces.read()
    traces.put([record(0)], dropped=10)
    traces.put([record(number) for number in range(1, 6)])

    lines = [await reader.next() for _ in range(3)]
    assert lines == [TraceLine(record(3), dropped=13), TraceLine(record(4)), TraceLine(record(5))]


async def test_mirrored_requests_are_told_and_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces_module, "MAX_WAITING", 1)
    traces = Traces()
    readers = [traces.read(), traces.read()]
    mirrored = MirrorRecord(1.0, ServiceRef("shop", "orders"), 80, "v", "GET", "/", 1.0, 2.0, ())
    traces.put([record()])
    traces.put_mirrored(mirrored)
    traces.put_mirrored(mirrored)

    assert [await reader.next() for reader in readers] == [TraceLine(mirror=mirrored, dropped=2)] * 2


async def test_readers_are_bounded() -> None:
    traces = Traces()
    for _ in range(MAX_READERS):
        traces.read()
    with pytest.raises(CodezeroError) as caught:
        traces.read()
    assert caught.value.problem is problems.TOO_LARGE
