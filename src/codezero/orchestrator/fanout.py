"""Brings the picture to 2,000 laptops: each change is encoded once for all that see it alike, and nobody has a queue.

A subscriber is a set of cursors. What changes right after a change was told is gathered, then everyone who can take more catches up from where it is; who is
still busy with the last message will catch up later, with each service at most once, or with a fresh snapshot where that is shorter.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from codezero.kit.logs import get_logger
from codezero.model.ids import Device, SessionId
from codezero.model.problems import CodezeroError
from codezero.orchestrator.board import Board, View
from codezero.transport import messages
from codezero.transport.messages import MessageStream
from codezero.wire.coordination import ConsumeDecisions, Message, Ping, ServeAnswer, Traced
from codezero.wire.tracing import TraceRecord

# A change after a quiet time is told almost at once: what belongs to it comes together with it.
SOON_SECONDS: Final = 0.005
# From one publication to the next, and the longer the more laptops there are: each change costs each of them a message, and when all come back
# at once after a restart each of them is a change.
GATHER_SECONDS: Final = 0.05
GATHER_SECONDS_EACH: Final = 0.0001
PING_SECONDS: Final = 5.0
WRITE_HIGH: Final = 64 * 1024
TOLD_AT_ONCE: Final = 64  # laptops in one turn of the loop
WRITTEN_AT_ONCE: Final = 16 * 1024
# Different ways to catch up kept between two changes; those who lag far behind rarely share theirs.
KEPT_FRAMES: Final = 256
# A laptop that takes no single message (at most some 100 KB) for so long is dropped; it resumes when it can.
SEND_SECONDS: Final = 30.0
# A laptop that asks faster than it takes answers is not heard until it has taken some.
MAX_ANSWERS: Final = 64
# Requests that a laptop has not been told of yet; more are counted only. A message carries a part of them.
MAX_TRACED: Final = 1000
TRACED_AT_ONCE: Final = 200

_log = get_logger("fanout")
_PING = messages.frame(Ping())


@dataclass(eq=False, slots=True)
class Subscriber:
    """A connected laptop: its view, how far it is, and the answers it waits for. `catalog` and `presence` are None before the first picture."""

    session: SessionId
    device: Device
    view: View
    catalog: int | None
    activity: int
    presence: int | None = None
    answers: dict[int, ConsumeDecisions] = field(default_factory=dict[int, ConsumeDecisions])
    serve_answers: deque[ServeAnswer] = field(default_factory=deque[ServeAnswer])
    traced: deque[TraceRecord] = field(default_factory=deque[TraceRecord])
    untold: int = 0
    ended: bool = False
    # Its connection while its task has nothing to send, and what is due and too large to be written by others.
    idle: MessageStream[Any, Any] | None = None
    held: Sequence[bytes] = ()
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when answers have been taken, and at the end.
    taken: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, decisions: ConsumeDecisions) -> None:
        """Tell the laptop; a newer answer replaces one that is not sent yet, and all older ones."""
        self.answers.clear()
        self.answers[decisions.number] = decisions
        self.wake.set()

    def answer_serve(self, answer: ServeAnswer) -> None:
        """Tell the laptop what became of its wish; each such answer is sent."""
        self.serve_answers.append(answer)
        self.wake.set()

    def trace(self, records: Sequence[TraceRecord], *, dropped: int = 0) -> None:
        """Tell the laptop of requests; those it has no room for are counted only."""
        fitting = records[: MAX_TRACED - len(self.traced)]
        self.traced.extend(fitting)
        self.untold += dropped + len(records) - len(fitting)
        self.wake.set()

    def forget_traces(self) -> None:
        """The laptop wants no requests any longer."""
        self.traced.clear()
        self.untold = 0

    async def room(self) -> None:
        """Wait until the laptop has taken its answers, or will take no more."""
        while len(self.serve_answers) >= MAX_ANSWERS and not self.ended:
            self.taken.clear()
            await self.taken.wait()

    def end(self) -> None:
        """The laptop takes nothing any longer."""
        self.ended = True
        self.taken.set()


class Fanout:
    """Keeps subscribers up to date with a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._subscribers: set[Subscriber] = set()
        self._dirty = asyncio.Event()
        self._frames: dict[tuple[Any, ...], Sequence[bytes]] = {}
        # Where everybody goes until the next publication, so that those who were at one place share the way.
        self._presence = board.presence_revision
        self._activity = board.activity_number

    @property
    def subscribers(self) -> frozenset[Subscriber]:
        """Who is connected now."""
        return frozenset(self._subscribers)

    def show(self, board: Board) -> None:
        """Show another board from now on, while nobody looks at the one of before."""
        self._board = board
        self._frames.clear()
        self._presence = board.presence_revision
        self._activity = board.activity_number

    def changed(self) -> None:
        """The board changed; subscribers hear of it soon."""
        self._dirty.set()

    async def run(self) -> None:
        """Pass changes on, until cancelled."""
        loop = asyncio.get_running_loop()
        published = float("-inf")
        while True:
            await self._dirty.wait()
            due = published + GATHER_SECONDS + GATHER_SECONDS_EACH * len(self._subscribers)
            await asyncio.sleep(max(SOON_SECONDS, due - loop.time()))
            self._dirty.clear()
            self._move_on()
            for number, subscriber in enumerate(tuple(self._subscribers), 1):
                try:
                    self._tell(subscriber)
                except Exception as error:  # noqa: BLE001 - what cannot be told to one must not end it for all
                    _log.error("a laptop cannot be told of a change", exc_info=error)
                    subscriber.wake.set()  # its own task meets the same, and ends its connection alone
                if number % TOLD_AT_ONCE == 0:
                    # What is written leaves at the end of the turn; the first shall not wait for the last.
                    await asyncio.sleep(0)
            published = loop.time()

    def publish(self) -> None:
        """Let everybody catch up with the board as it is now."""
        self._move_on()
        for subscriber in self._subscribers:
            self._tell(subscriber)

    def _move_on(self) -> None:
        self._board.advance()
        self._frames.clear()
        self._presence = self._board.presence_revision
        self._activity = self._board.activity_number

    def _tell(self, subscriber: Subscriber) -> None:
        """Write to who is idle and has room, which is nearly everybody: to wake its task costs more than the message. Others catch up themselves."""
        stream = subscriber.idle
        if stream is None or subscriber.wake.is_set() or stream.waiting or stream.writer.is_closing():
            subscriber.wake.set()
            return
        frames = self.due(subscriber)
        if sum(map(len, frames)) <= WRITTEN_AT_ONCE:
            stream.writer.writelines(frames)
        else:
            subscriber.held = frames
            subscriber.wake.set()

    async def feed(self, subscriber: Subscriber, stream: MessageStream[Any, Any]) -> None:
        """Keep one laptop up to date until its connection ends; raises `EOFError` or `CodezeroError` when it does."""
        self._subscribers.add(subscriber)
        stream.writer.transport.set_write_buffer_limits(high=WRITE_HIGH)
        try:
            self.changed()
            while True:
                frames = subscriber.held or self.due(subscriber)
                subscriber.held = ()
                for frame in frames:
                    await stream.send_frames((frame,), within=SEND_SECONDS)
                    # The connection encrypts at the end of the turn; a whole picture at once would stay in its buffers for good.
                    await asyncio.sleep(0)
                if not frames:
                    await self._wait(subscriber, stream)
        finally:
            self._subscribers.discard(subscriber)
            subscriber.end()

    async def _wait(self, subscriber: Subscriber, stream: MessageStream[Any, Any]) -> None:
        subscriber.idle = stream
        try:
            async with asyncio.timeout(PING_SECONDS):
                await subscriber.wake.wait()
        except TimeoutError:
            await stream.send_frames((_PING,), within=SEND_SECONDS)
        else:
            subscriber.wake.clear()
        finally:
            subscriber.idle = None

    def due(self, subscriber: Subscriber) -> Sequence[bytes]:
        """What the laptop has to get now; its cursors move on, so the caller sends all of it or ends the connection."""
        view, board = subscriber.view, self._board
        frames: list[bytes] = [self._frame(answer) for answer in subscriber.answers.values()]
        subscriber.answers.clear()
        frames += [self._frame(answer) for answer in subscriber.serve_answers]
        subscriber.serve_answers.clear()
        subscriber.taken.set()
        frames += self._traced(subscriber)
        if board.catalog_known and subscriber.catalog != view.revision:
            frames += self._shared(
                ("catalog", view, subscriber.catalog, view.revision),
                lambda: board.catch_up_catalog(view, subscriber.catalog),
            )
            subscriber.catalog = view.revision
        if subscriber.presence != self._presence:
            frames += self._shared(
                ("presence", view, subscriber.presence, self._presence),
                lambda: board.catch_up_presence(view, subscriber.presence),
            )
            subscriber.presence = self._presence
        if subscriber.activity < self._activity:
            alone = board.concerns_alone(view, subscriber.session, subscriber.activity)
            frames += self._shared(
                ("activity", view, subscriber.activity, self._activity, subscriber.session if alone else None),
                lambda: board.catch_up_activity(view, subscriber.session, subscriber.activity, until=self._activity),
            )
            subscriber.activity = self._activity
        return frames

    def _traced(self, subscriber: Subscriber) -> Sequence[bytes]:
        waiting, untold = subscriber.traced, subscriber.untold
        if not waiting and not untold:
            return ()
        part = tuple(waiting.popleft() for _ in range(min(len(waiting), TRACED_AT_ONCE)))
        subscriber.untold = 0
        return (self._frame(Traced(part, untold)),)

    def _shared(self, key: tuple[Any, ...], make: Callable[[], Iterable[Message]]) -> Sequence[bytes]:
        frames = self._frames.get(key)
        if frames is None:
            if len(self._frames) >= KEPT_FRAMES:
                del self._frames[next(iter(self._frames))]
            frames = self._frames[key] = [self._frame(message) for message in make()]
        return frames

    def _frame(self, message: Message) -> bytes:
        try:
            return messages.frame(message)
        except CodezeroError as error:
            _log.error("message left out", kind=type(message).__name__, reason=error.detail)
            return _PING
