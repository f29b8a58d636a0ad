"""Bringing the picture to many: one encoding, no queues, everybody at their own pace."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest

from codezero.kit.tasks import task_group
from codezero.model.access import Effect, Operation, PolicyRule, RuleSight
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.orchestrator.admission import Viewer
from codezero.orchestrator.board import Board
from codezero.orchestrator.fanout import KEPT_FRAMES, MAX_ANSWERS, MAX_TRACED, TRACED_AT_ONCE, Fanout, Subscriber
from codezero.wire.coordination import (
    CatalogDelta,
    CatalogReport,
    CatalogSnapshot,
    ConsumeDecisions,
    ServeAnswer,
    ToDaemon,
    Traced,
)
from codezero.wire.tracing import Direction, TraceRecord

ORGANIZATION = new_ulid()
EVERYTHING = Viewer(ORGANIZATION, RuleSight((PolicyRule(Effect.ALLOW, (Operation.CONSUME,)),)))
DECODER: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)


def service(number: int, ready: int = 1) -> Service:
    return Service(ServiceRef("shop", f"s{number}"), ServiceKind.CLUSTER_IP, (ServicePort(80),), ready=ready)


def subscriber(board: Board, *, viewer: Viewer = EVERYTHING) -> Subscriber:
    device = Device("hub", ORGANIZATION, new_ulid(), new_ulid())
    session = SessionId(new_ulid())
    board.arrived(session, device, "laptop", at=0.0)
    return Subscriber(session, device, board.join_view(viewer), catalog=None, activity=0)


def whole_catalog(board: Board, count: int) -> None:
    board.system_joined(0)
    board.catalog_reported(0, CatalogReport(upserts=tuple(map(service, range(count))), reset=True), at=0.0)


def messages_of(frames: list[bytes] | tuple[bytes, ...]) -> list[ToDaemon]:
    return [DECODER.decode(frame[4:]) for frame in frames]


def test_those_who_see_alike_share_the_bytes() -> None:
    """2,000 laptops cost one encoding."""
    board = Board()
    fanout = Fanout(board)
    whole_catalog(board, 500)
    laptops = [subscriber(board) for _ in range(2000)]
    fanout.publish()
    first = [fanout.due(laptop) for laptop in laptops]
    board.catalog_reported(0, CatalogReport(upserts=(service(0, 2),)), at=0.0)
    fanout.publish()
    second = [fanout.due(laptop) for laptop in laptops]

    for frames in (first, second):
        assert len({id(frame) for each in frames for frame in each}) == len(frames[0])
    (delta,) = messages_of(list(second[0]))
    assert isinstance(delta, CatalogDelta)
    assert delta.upserts == (service(0, 2),)
    assert [list(fanout.due(laptop)) for laptop in laptops[:5]] == [[]] * 5


def test_a_laptop_that_was_busy_gets_each_service_once() -> None:
    """Its memory here is a number, however much happens."""
    board = Board()
    fanout = Fanout(board)
    whole_catalog(board, 100)
    busy = subscriber(board)
    fanout.publish()
    fanout.due(busy)
    for round_ in range(2, 300):
        board.catalog_reported(0, CatalogReport(upserts=(service(round_ % 7, round_),)), at=0.0)
        fanout.publish()

    (delta,) = messages_of(list(fanout.due(busy)))
    assert isinstance(delta, CatalogDelta)
    assert sorted(each.ref.name for each in delta.upserts) == [f"s{number}" for number in range(7)]


def test_a_new_answer_replaces_the_old_one() -> None:
    """A laptop that changes its mind faster than it reads wants to know about its last question."""
    board = Board()
    laptop = subscriber(board)
    for number in range(10):
        laptop.answer(ConsumeDecisions(number, ()))

    told = [each for each in messages_of(list(Fanout(board).due(laptop))) if isinstance(each, ConsumeDecisions)]
    assert told == [ConsumeDecisions(9, ())]


def test_kept_encodings_are_bounded() -> None:
    """Also when everybody is at another place."""
    board = Board()
    fanout = Fanout(board)
    whole_catalog(board, 10)
    laptops = [subscriber(board) for _ in range(2 * KEPT_FRAMES)]
    for number, laptop in enumerate(laptops):
        board.catalog_reported(0, CatalogReport(upserts=(service(0, number),)), at=0.0)
        fanout.publish()
        fanout.due(laptop)
    board.catalog_reported(0, CatalogReport(upserts=(service(1, 5),)), at=0.0)
    fanout.publish()
    for laptop in laptops:
        messages = messages_of(list(fanout.due(laptop)))
        assert any(isinstance(each, CatalogDelta | CatalogSnapshot) for each in messages)

    assert len(fanout._frames) <= KEPT_FRAMES


def test_nothing_is_due_twice() -> None:
    """Cursors move with what is handed out."""
    board = Board()
    fanout = Fanout(board)
    whole_catalog(board, 3)
    laptop = subscriber(board)
    fanout.publish()

    assert fanout.due(laptop)
    assert not fanout.due(laptop)
    fanout.publish()
    assert not fanout.due(laptop)


def record(number: int) -> TraceRecord:
    return TraceRecord(float(number), Direction.SERVE, ServiceRef("shop", "orders"), 80, "http", path="/" + "x" * 299)


def test_each_answer_to_a_serve_is_sent() -> None:
    """Unlike decisions, of which the newest says everything."""
    board = Board()
    fanout, laptop = Fanout(board), subscriber(board)
    fanout.due(laptop)
    for number in range(5):
        laptop.answer_serve(ServeAnswer(number))

    assert messages_of(list(fanout.due(laptop))) == [ServeAnswer(number) for number in range(5)]
    assert not fanout.due(laptop)


def test_requests_are_told_in_parts_with_what_is_missing() -> None:
    """In order; a message stays small, and the hole is told first."""
    board = Board()
    fanout, laptop = Fanout(board), subscriber(board)
    fanout.due(laptop)
    laptop.trace([record(number) for number in range(MAX_TRACED + 5)], dropped=2)
    parts: list[Traced] = []
    while frames := fanout.due(laptop):
        assert all(len(frame) < 200_000 for frame in frames)
        parts += [message for message in messages_of(list(frames)) if isinstance(message, Traced)]

    assert [each for part in parts for each in part.records] == [record(number) for number in range(MAX_TRACED)]
    assert [part.dropped for part in parts] == [7, *[0] * (MAX_TRACED // TRACED_AT_ONCE - 1)]


async def test_one_who_takes_no_answers_waits_for_room() -> None:
    """It may not fill our memory with questions; its end lets it go."""
    board = Board()
    fanout, laptop = Fanout(board), subscriber(board)
    await laptop.room()
    for number in range(MAX_ANSWERS):
        laptop.answer_serve(ServeAnswer(number))
    waiting = asyncio.ensure_future(laptop.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    fanout.due(laptop)
    await asyncio.wait_for(waiting, 10)
    for number in range(MAX_ANSWERS):
        laptop.answer_serve(ServeAnswer(number))
    leaving = asyncio.ensure_future(laptop.room())
    await asyncio.sleep(0)
    assert not leaving.done()
    laptop.end()

    await asyncio.wait_for(leaving, 10)


class LostStream:
    """A connection that is lost with the first message."""

    writer = SimpleNamespace(transport=SimpleNamespace(set_write_buffer_limits=lambda **_: None))

    async def send_frames(self, _frames: object, *, within: float) -> None:
        raise EOFError("the connection is lost")


async def test_one_whose_connection_is_lost_waits_for_nothing() -> None:
    """Its receiver hears of the loss only when it goes on receiving."""
    board = Board()
    fanout, laptop = Fanout(board), subscriber(board)
    for number in range(MAX_ANSWERS):
        laptop.answer_serve(ServeAnswer(number))
    with pytest.raises(EOFError):
        await fanout.feed(laptop, LostStream())  # type: ignore[arg-type]
    for number in range(MAX_ANSWERS):
        laptop.answer_serve(ServeAnswer(number))

    await asyncio.wait_for(laptop.room(), 10)


class Taker:
    """A connection that writes down what is written to it; `waiting` bytes of it are not taken yet."""

    def __init__(self, *, waiting: int = 0) -> None:
        self.waiting = waiting
        self.written: list[bytes] = []
        self.sent: list[bytes] = []
        self.writer = SimpleNamespace(
            transport=SimpleNamespace(set_write_buffer_limits=lambda **_: None),
            writelines=self.written.extend,
            is_closing=lambda: False,
        )

    async def send_frames(self, frames: tuple[bytes, ...], *, within: float) -> None:
        self.sent += frames


async def fed(fanout: Fanout, laptop: Subscriber, taker: Taker, holds: Callable[[], bool]) -> None:
    """Feed until `holds`."""
    async with asyncio.timeout(10), task_group("test") as tasks:
        running = [tasks.start("fan-out", fanout.run()), tasks.start("feed", fanout.feed(laptop, taker))]  # type: ignore[arg-type]
        while not holds():
            await asyncio.sleep(0.001)
        for task in running:
            task.cancel()


async def test_one_who_is_idle_is_written_to_at_once() -> None:
    """Waking a task for each of 2,000 laptops would cost more than their messages."""
    board = Board()
    whole_catalog(board, 3)
    fanout, laptop, taker = Fanout(board), subscriber(board), Taker()

    def told() -> list[CatalogDelta]:
        return [each for each in messages_of(taker.written) if isinstance(each, CatalogDelta)]

    def changed() -> bool:
        if laptop.idle is not None and laptop.catalog is not None:
            board.catalog_reported(0, CatalogReport(upserts=(service(0, 2),)), at=0.0)
            fanout.changed()
        return bool(told())

    await fed(fanout, laptop, taker, changed)

    assert [delta.upserts for delta in told()] == [(service(0, 2),)]


@pytest.mark.parametrize(("waiting", "services"), [(1, 3), (0, 3000)])
async def test_one_who_lags_or_is_due_much_is_written_to_by_its_own_task(waiting: int, services: int) -> None:
    """Which waits until there is room, so that nobody's messages pile up here."""
    board = Board()
    fanout, laptop, taker = Fanout(board), subscriber(board), Taker(waiting=waiting)

    def known() -> bool:
        if laptop.idle is not None and not board.catalog_known:
            whole_catalog(board, services)
            fanout.changed()
        return any(isinstance(each, CatalogSnapshot) and each.last for each in messages_of(taker.sent))

    await fed(fanout, laptop, taker, known)

    assert not taker.written
