"""A yamux session and its streams as a machine without I/O: bytes in by `Mux.receive`, buffers out by `Mux.take`, owners called in between.

Not obvious at first: there are no event objects and no queue of incoming bytes. Payload reaches the stream's owner as a view into the caller's
read buffer, in the pieces in which it came; only what arrives for a paused stream is copied and kept, at most a window of it.

An ACK goes with the first frame that a stream has to send anyway; those of streams that stay silent go together, before the opener has to wait for them.
Out go, in this order: control frames and the frames of urgent streams as they were made, new streams and those with little to send, the others
in turn, one frame each.
Time (seconds, monotonic) comes in as a value. Every rule of the protocol a peer can break raises `CodezeroError` (`problems.PROTOCOL`).

Sources: the yamux specification; window growth as in rust-yamux 0.13 (a window used up within two round trips is doubled, out of a budget).
"""

# MuxStream and Mux are one machine in two classes.
# pyright: reportPrivateUsage=false

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import yamux
from codezero.wire.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_SIZE,
    INITIAL_WINDOW,
    MOST_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    GoAwayCode,
)

Buffer = bytes | memoryview

_MOST_ID: Final = 0xFFFF_FFFF
_WORN_OUT_ID: Final = 0xFFFF_0000
_LEAST_FRAME: Final = 16 * 1024 - 2 * HEADER_SIZE  # about a TLS record
_LITTLE: Final = 4 * 1024  # a stream with no more to send is asking or answering, not transferring
_MOST_STEP: Final = 1024 * 1024
_FEW_ROUND_TRIPS: Final = 4
_MANY_ROUND_TRIPS: Final = 64
_FRESH_ROUND_TRIP: Final = 0.1  # under load the round trip is measured at most this often
_MOST_PENDING: Final = 65536  # answers, or resets, that a peer can have us keep in mind by not reading


class Role(Enum):
    """Which stream ids a side gives out: the connecting side odd ones, the accepting side even ones."""

    CLIENT = 1
    SERVER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one session may use. Sizes in bytes.

    `streams` may be open at once from the peer's side: a thousand for services, and room for our own. `unacknowledged` streams of ours are sent
    ahead of the peer's ACK, further ones wait.
    A stream's window starts at 256 KiB and grows to at most `window`; all growth together stays below `window_budget`.
    `frame` is the most payload of one frame, and so the length of a stream's turn.
    """

    streams: int = 1024
    unacknowledged: int = 256
    window: int = 32 * 1024 * 1024
    window_budget: int = 64 * 1024 * 1024
    frame: int = 64 * 1024


class StreamOwner(Protocol):
    """What a stream calls. The calls come from inside `receive`, `take` or `resume`; they may use the machine but not call those three."""

    def received(self, data: memoryview) -> None:
        """Bytes from the peer. The view is valid during the call only."""

    def finished(self) -> None:
        """The peer sends no more; everything before was delivered."""

    def was_reset(self) -> None:
        """The peer ended the stream at once. The last call."""

    def finish_sent(self) -> None:
        """Our finish left while the peer may still send."""

    def ended(self) -> None:
        """Both sides have finished. The last call."""

    def writable(self) -> None:
        """No more than the mark given to `notify_below` still waits to be sent. Called once per mark."""


class SessionOwner(Protocol):
    """What a session calls, from inside of its methods."""

    def output_ready(self) -> None:
        """There is something to `take` again; called once until `take` has returned everything."""

    def stream_opened(self, stream: "MuxStream") -> None:
        """The peer opened a stream: set its `owner`, or reset it."""

    def stream_refused(self, stream_id: int) -> None:
        """A stream of the peer's is about to be reset because it has too many."""

    def going_away(self, code: int) -> None:
        """The peer takes no more streams; those open go on."""


class _Nobody:
    """Owner of a stream between its making and the setting of `owner`, and of one that nobody owns any more: ignores everything."""

    def received(self, data: memoryview) -> None: ...

    def finished(self) -> None: ...

    def was_reset(self) -> None: ...

    def finish_sent(self) -> None: ...

    def ended(self) -> None: ...

    def writable(self) -> None: ...


NOBODY: Final[StreamOwner] = _Nobody()


class MuxStream:
    """One stream of a session. `id` is its number on the wire, `owner` who is called; nothing works once it is closed, and nothing fails.

    Fields with an underscore belong to this module.
    """

    __slots__ = (
        "_announced",
        "_consumed",
        "_finish_received",
        "_finish_sent",
        "_finish_wanted",
        "_finished",
        "_granted_at",
        "_held",
        "_mark",
        "_mux",
        "_paused",
        "_queued",
        "_receive_window",
        "_send_window",
        "_step",
        "_waiting",
        "_window",
        "closed",
        "id",
        "mine",
        "owner",
        "urgent",
        "waiting_size",
    )

    def __init__(
        self, mux: "Mux", number: int, *, mine: bool, urgent: bool = False, owner: StreamOwner = NOBODY
    ) -> None:
        self.id = number
        self.mine = mine
        self.owner = owner
        self.urgent = urgent
        self.closed = False
        self.waiting_size = 0  # bytes written and not yet taken
        self._mux = mux
        self._waiting: deque[Buffer] = deque()
        self._announced = not mine  # whether the peer knows of the stream
        self._queued = False  # whether it stands in the session's line of streams with something to send
        self._send_window = INITIAL_WINDOW
        self._mark: int | None = None
        self._finish_wanted = False
        self._finish_sent = False
        self._finish_received = False  # on the wire
        self._finished = False  # told to the owner
        # What the peer may hold us to: _receive_window (it may still send) + what of a frame still arrives + held + _consumed == _window.
        self._window = INITIAL_WINDOW
        self._step = INITIAL_WINDOW // 2  # so much consumed is worth a message that gives it back
        self._receive_window = INITIAL_WINDOW
        self._consumed = 0
        self._granted_at: float | None = None
        self._paused = False
        self._held: deque[bytes] = deque()

    @property
    def announced(self) -> bool:
        """Whether the peer has been told of the stream."""
        return self._announced

    @property
    def holds_data(self) -> bool:
        """Whether bytes or an end wait for `resume`."""
        return bool(self._held) or (self._finish_received and not self._finished)

    @property
    def window(self) -> int:
        """How many bytes the peer may send ahead of us, in the state it was last told."""
        return self._window

    def write(self, data: Buffer) -> None:
        """Queue bytes for the peer. `data` is kept, not copied: it must not change."""
        if self.closed or self._finish_wanted or not data:
            return
        self._waiting.append(data)
        self.waiting_size += len(data)
        if not self._queued and self._send_window > 0:
            self._mux._stream_ready(self)

    def finish(self) -> None:
        """Send no more after what is queued."""
        if self.closed or self._finish_wanted:
            return
        self._finish_wanted = True
        if not self._queued:
            self._mux._stream_ready(self)

    def reset(self) -> None:
        """End the stream at once in both directions; queued and held bytes are dropped. The owner is not called any more."""
        if not self.closed:
            self._mux._reset(self)

    def pause(self) -> None:
        """Deliver nothing until `resume`. The peer may send what its window allows, then it has to wait; other streams do not notice."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Deliver again, beginning with what was held, and give the peer its credit back."""
        self._paused = False
        held = self._held
        while held and not self._paused and not self.closed:
            data = held.popleft()
            self.owner.received(memoryview(data))
            self._consumed += len(data)
            if self._consumed >= self._step:
                self._mux._give_credit(self, now)
        if self._finish_received:
            self._mux._deliver_finish(self)

    def push_back(self, data: memoryview) -> None:
        """From inside of `received`, with the stream paused: keep the last part of its bytes, which were not taken, for `resume`."""
        self._held.append(bytes(data))
        self._consumed -= len(data)  # all of them are about to be counted

    def notify_below(self, mark: int) -> None:
        """Call `owner.writable` once no more than `mark` bytes wait."""
        self._mark = mark


class Mux:
    """One yamux session. `streams` are those not fully closed, by id."""

    def __init__(self, role: Role, owner: SessionOwner, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.streams: dict[int, MuxStream] = {}
        self.closed = False
        self.peer_goes_away = False
        self.round_trip: float | None = None  # seconds, the newest measurement
        self._owner = owner
        self._next_id = role.value
        self._peer_parity = role.value % 2 ^ 1
        self._last_peer_id = 0
        self._mine = 0  # open streams by who opened them, urgent ones left out
        self._theirs = 0
        self._unacknowledged: set[int] = set()
        self._unopened: deque[MuxStream] = deque()
        self._to_acknowledge: dict[int, None] = {}  # streams of the peer's
        self._going_away = False
        self._budget = self.limits.window_budget

        self._control: list[Buffer] = []
        # Streams with something to send: those that have just begun and those with little, which go first, and the others, which take turns.
        self._fresh: deque[MuxStream] = deque()
        self._ready: deque[MuxStream] = deque()
        self._told = False  # whether the owner knows that there is output

        self._header = bytearray()  # a header of which only a part came so far
        self._payload_left: int = 0
        self._payload_stream: MuxStream | None = None
        self._now = 0.0

        self._ping = 0
        self._ping_sent_at: float | None = None  # the one ping under way
        self._measured_at = float("-inf")
        self._received_since_ping = False
        # Streams we reset, with the credit the peer may have used before it knew: those before the ping under way, and those after it. A ping's
        # answer comes after everything sent before it, so it proves that nothing more can come.
        self._reset_before_ping: dict[int, int] = {}
        self._reset_after_ping: dict[int, int] = {}

    @property
    def is_worn_out(self) -> bool:
        """Whether nearly all stream ids of either side are used up, after weeks of heavy use: time for a new session."""
        return max(self._next_id, self._last_peer_id) > _WORN_OUT_ID

    # --- Streams ------------------------------------------------------------------------------------------------------------------------

    def open_stream(self, owner: StreamOwner, *, urgent: bool = False, most: int | None = None) -> MuxStream:
        """A new stream of ours. It reaches the peer with the first bytes written, or by itself at the next `take`.

        An urgent stream's bytes go with the control frames, in order with them. Raises `CodezeroError` (`problems.TOO_MANY_STREAMS`) when `most`
        streams of ours are open, and `problems.TUNNEL_DOWN` once either side goes away.
        """
        if self.closed or self.peer_goes_away or self._going_away:
            raise CodezeroError(problems.TUNNEL_DOWN, "the tunnel is closing and takes no new streams")
        if most is not None and self._mine >= most and not urgent:
            raise CodezeroError(problems.TOO_MANY_STREAMS, f"the tunnel already carries {most} streams from this side")
        if self._next_id > _MOST_ID:
            raise CodezeroError(problems.TUNNEL_DOWN, "the tunnel has used up its stream ids and is being rebuilt")
        stream = MuxStream(self, self._next_id, mine=True, urgent=urgent, owner=owner)
        self._next_id += 2
        self.streams[stream.id] = stream
        if not urgent:
            self._mine += 1
        if len(self._unacknowledged) < self.limits.unacknowledged:
            self._unacknowledged.add(stream.id)
            self._stream_ready(stream)
        else:
            stream._queued = True  # stands in this line instead of the other
            self._unopened.append(stream)
        return stream

    # --- Bytes out ----------------------------------------------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._control or self._fresh or self._ready)

    def take(self, most: int) -> list[Buffer]:
        """Buffers to write next, in order: all control frames, then up to about `most` bytes of the streams' data, in turn.

        Streams that have just begun or have little to send go first with up to half of it, so that requests overtake transfers.
        """
        out = self._control
        self._control = []
        fresh, ready = self._fresh, self._ready
        # Short frames keep the last in line from waiting long where the link is slow, and so `most` small; on a fast one they only cost.
        frame = min(self.limits.frame, max(_LEAST_FRAME, most // 4))
        half = most // 2
        while most > 0:
            if fresh and (most > half or not ready):
                stream = fresh.popleft()
            elif ready:
                stream = ready.popleft()
            else:
                break
            stream._queued = False
            if stream.closed:
                continue
            most -= self._take_frame(stream, out, frame) + HEADER_SIZE
            # With nothing left its end, where it has one, was in this frame's company.
            if stream.waiting_size and stream._send_window > 0 and not stream._queued:
                stream._queued = True
                ready.append(stream)
        if not (fresh or ready or self._control):
            self._told = False
        return out

    def _can_send(self, stream: MuxStream) -> bool:
        if stream.closed:
            return False
        if stream.waiting_size:
            return stream._send_window > 0
        return not stream._announced or (stream._finish_wanted and not stream._finish_sent)

    def _take_frame(self, stream: MuxStream, out: list[Buffer], most: int) -> int:
        """Append the stream's next frame and, behind its last byte, the finish; return the payload's size."""
        size = min(most, stream._send_window, stream.waiting_size)
        flags = self._ack_of(stream)
        if not stream._announced:
            stream._announced = True
            flags = SYN
        if size:
            out.append(yamux.encode(DATA, flags, stream.id, size))
            if size == stream.waiting_size:
                out.extend(stream._waiting)
                stream._waiting.clear()
            else:
                _move(stream._waiting, out, size)
            stream.waiting_size -= size
            stream._send_window -= size
        elif flags == SYN:
            out.append(yamux.encode(WINDOW_UPDATE, SYN, stream.id, 0))
        if stream._finish_wanted and not stream._finish_sent and not stream.waiting_size:
            # In a frame of its own: some implementations end a stream before they read the payload of the frame that says so.
            out.append(yamux.encode(WINDOW_UPDATE, FIN if size else FIN | flags & ACK, stream.id, 0))
            stream._finish_sent = True
            if stream._finished:
                self._forget(stream).ended()
            else:
                stream.owner.finish_sent()
        elif stream._mark is not None and stream.waiting_size <= stream._mark:
            stream._mark = None
            stream.owner.writable()
        return size

    def _stream_ready(self, stream: MuxStream) -> None:
        if stream.urgent:
            while self._can_send(stream):
                self._take_frame(stream, self._control, self.limits.frame)
            if self._control:
                self._tell()
        elif self._can_send(stream):
            stream._queued = True
            # A stream that the peer does not know of always goes to the same line: ids have to reach it in order.
            is_fresh = not stream._announced or stream.waiting_size <= _LITTLE
            (self._fresh if is_fresh else self._ready).append(stream)
            if not self._told:
                self._told = True
                self._owner.output_ready()

    def _send_control(self, kind: int, flags: int, stream: int, length: int) -> None:
        self._control.append(yamux.encode(kind, flags, stream, length))
        self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._owner.output_ready()

    # --- Bytes in -----------------------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Take in the next bytes of the connection. Raises `CodezeroError` when they break the protocol; the session is over then."""
        self._now = now
        try:
            self._parse(memoryview(data))
        except CodezeroError:
            self.go_away(GoAwayCode.PROTOCOL_ERROR)
            self.closed = True
            raise

    def _parse(self, view: memoryview) -> None:
        position = 0
        end = len(view)
        while position < end and not self.closed:
            if self._payload_left:
                begin = position
                position = min(begin + self._payload_left, end)
                self._payload_left -= position - begin
                self._deliver(view[begin:position], position - begin)
                continue
            if not self._header and end - position >= HEADER_SIZE:
                kind, flags, stream, length = yamux.decode(view, position)
                position += HEADER_SIZE
            else:
                missing = HEADER_SIZE - len(self._header)
                self._header += view[position : position + missing]
                position += missing
                if len(self._header) < HEADER_SIZE:
                    return
                kind, flags, stream, length = yamux.decode(self._header)
                self._header.clear()
            if kind <= WINDOW_UPDATE:
                self._stream_frame(kind, flags, stream, length)
            elif kind == PING:
                self._ping_frame(flags, length)
            else:
                self.peer_goes_away = True
                self._owner.going_away(length)
        if len(self._control) > _MOST_PENDING:
            raise yamux.violation("the peer keeps us answering and does not read the answers")
        if len(self._reset_after_ping) + len(self._reset_before_ping) > _MOST_PENDING:
            raise yamux.violation("the peer has streams reset and answers no ping")

    def _deliver(self, data: memoryview, size: int) -> None:
        stream = self._payload_stream
        if stream is None or stream.closed:
            return
        if stream._paused:
            stream._held.append(bytes(data))
        else:
            stream.owner.received(data)
            stream._consumed += size
            if stream._consumed >= stream._step:
                self._give_credit(stream, self._now)
        if stream._finish_received and not self._payload_left:
            self._deliver_finish(stream)

    def _stream_frame(self, kind: int, flags: int, number: int, length: int) -> None:
        if flags & SYN:
            self._accept(number)
        stream = self.streams.get(number)
        if stream is None or not stream._announced:
            self._frame_for_closed(kind, flags, number, length)
            return
        if flags & ACK:
            if not stream.mine:
                raise yamux.violation(f"acknowledgement of stream {number}, which the peer opened itself")
            self._acknowledged(number)
        if kind == WINDOW_UPDATE:
            if length:
                self._add_credit(stream, length)
        elif length:
            self._begin_payload(stream, length)
        if flags & RST:
            # A payload in the same frame would have to be skipped: nobody sends that.
            if self._payload_left:
                raise yamux.violation(f"data in the frame that resets stream {number}")
            self._forget(stream).was_reset()
        elif flags & FIN:
            if stream._finish_received:
                raise yamux.violation(f"second end of stream {number}")
            stream._finish_received = True
            self._deliver_finish(stream)

    def _accept(self, number: int) -> None:
        if number % 2 != self._peer_parity:
            raise yamux.violation(f"the peer opened stream {number}, an id of this side")
        # Rising ids prove without memory that none is used twice.
        if number <= self._last_peer_id:
            raise yamux.violation(f"the peer opened stream {number} after {self._last_peer_id}; ids must rise")
        self._last_peer_id = number
        if self._going_away or self._theirs >= self.limits.streams:
            if not self._going_away:
                self._owner.stream_refused(number)
            self._remember_reset(number, INITIAL_WINDOW)
            self._send_control(WINDOW_UPDATE, RST, number, 0)
            return
        stream = MuxStream(self, number, mine=False)
        self.streams[number] = stream
        self._theirs += 1
        self._owner.stream_opened(stream)
        if stream.urgent:
            self._theirs -= 1
        if not stream.closed:
            self._to_acknowledge[number] = None
            # Long before the peer, whose limit is ours, has to wait for one.
            if len(self._to_acknowledge) * 4 >= self.limits.unacknowledged:
                self._acknowledge()

    def _ack_of(self, stream: MuxStream) -> int:
        """The flag that a frame of the stream has to carry, once."""
        if not stream.mine and stream.id in self._to_acknowledge:
            del self._to_acknowledge[stream.id]
            return ACK
        return 0

    def _acknowledge(self) -> None:
        for number in self._to_acknowledge:
            self._send_control(WINDOW_UPDATE, ACK, number, 0)
        self._to_acknowledge.clear()

    def _begin_payload(self, stream: MuxStream, length: int) -> None:
        if stream._finish_received:
            raise yamux.violation(f"data on stream {stream.id} after its end")
        if length > stream._receive_window:
            raise yamux.violation(f"{length} bytes on stream {stream.id}, whose window is {stream._receive_window}")
        stream._receive_window -= length
        if stream._granted_at is None:
            stream._granted_at = self._now
        if not stream.urgent:
            self._received_since_ping = True
        self._payload_left = length
        self._payload_stream = stream

    def _frame_for_closed(self, kind: int, flags: int, number: int, length: int) -> None:
        """Frames that were under way when a stream ended: allowed for streams that existed, data only after a reset of ours."""
        mine = number % 2 != self._peer_parity
        if (number >= self._next_id) if mine else (number > self._last_peer_id):
            raise yamux.violation(f"frame for stream {number}, which was never opened")
        if mine and number in self.streams:
            raise yamux.violation(f"frame for stream {number}, of which the peer cannot know yet")
        if flags & ACK and mine:
            self._acknowledged(number)
        if kind == WINDOW_UPDATE or not length:
            return
        credit_of = self._reset_after_ping if number in self._reset_after_ping else self._reset_before_ping
        if length > credit_of.get(number, 0):
            raise yamux.violation(f"{length} bytes for stream {number}, which is closed")
        credit_of[number] -= length
        self._payload_left = length
        self._payload_stream = None

    def _add_credit(self, stream: MuxStream, credit: int) -> None:
        stream._send_window += credit
        if stream._send_window > MOST_WINDOW:
            raise yamux.violation(f"window of stream {stream.id} grows beyond {MOST_WINDOW}")
        if not stream._queued:
            self._stream_ready(stream)

    def _acknowledged(self, number: int) -> None:
        self._unacknowledged.discard(number)
        while self._unopened and len(self._unacknowledged) < self.limits.unacknowledged:
            stream = self._unopened.popleft()
            if stream.closed:
                continue
            stream._queued = False
            self._unacknowledged.add(stream.id)
            self._stream_ready(stream)

    def _deliver_finish(self, stream: MuxStream) -> None:
        """Tell the owner that the peer has finished, once all before it is delivered."""
        arriving = self._payload_left and self._payload_stream is stream
        if stream._finished or stream._paused or stream._held or arriving or stream.closed:
            return
        stream._finished = True
        stream.owner.finished()
        if stream._finish_sent and not stream.closed:
            self._forget(stream).ended()

    # --- Windows ------------------------------------------------------------------------------------------------------------------------

    def _give_credit(self, stream: MuxStream, now: float) -> None:
        if stream._finish_received or stream.closed:
            return
        change = self._fitting_change(stream, now)
        stream._window += change
        # Half of a large window would leave the link idle for as long as the credit for it travels.
        stream._step = min(stream._window // 2, _MOST_STEP)
        self._budget -= change
        credit = stream._consumed + change
        stream._consumed = 0
        stream._granted_at = now
        stream._receive_window += credit
        if credit:
            self._send_control(WINDOW_UPDATE, self._ack_of(stream), stream.id, credit)

    def _fitting_change(self, stream: MuxStream, now: float) -> int:
        """By how much the stream's window should grow, or shrink: `_consumed` of it was used since the last grant."""
        if now - self._measured_at > _FRESH_ROUND_TRIP:
            self.measure(now)
        if self.round_trip is None or stream._granted_at is None:
            return 0
        window = stream._window
        # How many round trips a whole window would take at this pace.
        pace = (now - stream._granted_at) / max(self.round_trip, 1e-6) * window / stream._consumed
        if pace < _FEW_ROUND_TRIPS:
            # Never more than half of what it has and what is free: the next may be the one that needs it.
            own = window - INITIAL_WINDOW
            return max(0, min(window, self.limits.window - window, (self._budget + own) // 2 - own))
        if pace > _MANY_ROUND_TRIPS and window > INITIAL_WINDOW:
            # Far more than it needs: give back, so that others may grow.
            return -min(window - INITIAL_WINDOW, stream._consumed)
        return 0

    # --- The session --------------------------------------------------------------------------------------------------------------------

    def measure(self, now: float) -> None:
        """Send a ping to measure the round trip, unless one is under way."""
        if self._ping_sent_at is not None or self.closed:
            return
        self._ping = (self._ping + 1) & 0xFFFF_FFFF
        self._ping_sent_at = now
        self._received_since_ping = False
        self._reset_before_ping, self._reset_after_ping = self._reset_after_ping, {}
        self._send_control(PING, SYN, 0, self._ping)

    def tick(self, now: float) -> None:
        """To be called about every second: acknowledges what is left, measures the round trip where there was traffic, and so forgets closed streams."""
        self._acknowledge()
        if self._received_since_ping or self._reset_after_ping:
            self.measure(now)

    def _ping_frame(self, flags: int, value: int) -> None:
        if flags == SYN:
            self._send_control(PING, ACK, 0, value)
            return
        if self._ping_sent_at is None or value != self._ping:
            raise yamux.violation(f"answer to a ping {value} that was not sent")
        self.round_trip = max(self._now - self._ping_sent_at, 0.0)
        self._measured_at = self._now
        self._ping_sent_at = None
        self._reset_before_ping = {}

    def go_away(self, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Take no more streams from the peer and open none; those open go on."""
        if not self._going_away and not self.closed:
            self._going_away = True
            self._send_control(GO_AWAY, 0, 0, code)

    def close(self) -> list[StreamOwner]:
        """End the session without a word to the peer; returns the owners of the streams that were open. They are not called any more."""
        self.closed = True
        owners = [self._forget(stream) for stream in list(self.streams.values())]
        self._control.clear()
        self._fresh.clear()
        self._ready.clear()
        self._unopened.clear()
        return owners

    def _reset(self, stream: MuxStream) -> None:
        announced = stream._announced
        credit = 0 if stream._finish_received else stream._receive_window
        self._forget(stream)
        if announced:
            self._remember_reset(stream.id, credit)
            self._send_control(WINDOW_UPDATE, RST, stream.id, 0)

    def _remember_reset(self, number: int, credit: int) -> None:
        self._reset_after_ping[number] = credit

    def _forget(self, stream: MuxStream) -> StreamOwner:
        """Close the stream and let go of its owner, which is returned: an owner that holds its stream is freed without the collector of cycles."""
        owner, stream.owner = stream.owner, NOBODY
        if self.streams.pop(stream.id, None) is None:
            return owner
        stream.closed = True
        if not stream.urgent:
            if stream.mine:
                self._mine -= 1
            else:
                self._theirs -= 1
        self._budget += stream._window - INITIAL_WINDOW
        stream._waiting.clear()
        stream._held.clear()
        stream.waiting_size = 0
        if stream.mine:
            self._acknowledged(stream.id)
        else:
            self._to_acknowledge.pop(stream.id, None)
        return owner


def _move(source: deque[Buffer], target: list[Buffer], size: int) -> None:
    """Move `size` bytes from the front of `source` to the end of `target` without copying."""
    while size:
        piece = source[0]
        if len(piece) <= size:
            target.append(source.popleft())
            size -= len(piece)
        else:
            view = memoryview(piece)
            target.append(view[:size])
            source[0] = view[size:]
            return
