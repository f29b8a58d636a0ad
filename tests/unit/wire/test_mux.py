"""The yamux session: streams, windows, order of output, and peers that do not keep to the protocol."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import yamux
from codezero.wire.mux import NOBODY, Limits, Mux, MuxStream, Role
from codezero.wire.yamux import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE


class FrameHeader(NamedTuple):
    """A header with names for its parts."""

    type: int
    flags: int
    stream: int
    length: int


@dataclass
class Recorder:
    """Owner of a stream that writes down what happens."""

    data: bytearray = field(default_factory=bytearray)
    events: list[str] = field(default_factory=list)
    on_data: Callable[[], None] = lambda: None

    def received(self, data: memoryview) -> None:
        assert not {"finished", "reset", "ended"} & set(self.events), "data after the end"
        self.data += data
        self.on_data()

    def finished(self) -> None:
        self.events.append("finished")

    def was_reset(self) -> None:
        self.events.append("reset")

    def finish_sent(self) -> None:
        self.events.append("finish sent")

    def ended(self) -> None:
        self.events.append("ended")

    def writable(self) -> None:
        self.events.append("writable")


class Side:
    """One end of a session, with the owners of its streams."""

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        self.mux = Mux(role, self, limits=limits)
        self.owners: dict[int, Recorder] = {}
        self.ready = 0
        self.refused: list[int] = []
        self.farewells: list[int] = []

    def output_ready(self) -> None:
        self.ready += 1

    def stream_opened(self, stream: MuxStream) -> None:
        stream.owner = self.owners[stream.id] = Recorder()

    def stream_refused(self, stream_id: int) -> None:
        self.refused.append(stream_id)

    def going_away(self, code: int) -> None:
        self.farewells.append(code)

    def open(self, *, most: int | None = None) -> tuple[MuxStream, Recorder]:
        owner = Recorder()
        stream = self.mux.open_stream(owner, most=most)
        self.owners[stream.id] = owner
        return stream, owner

    def output(self, most: int = 1 << 30) -> bytes:
        return b"".join(self.mux.take(most))

    def frames(self, most: int = 1 << 30) -> list[FrameHeader]:
        return parse(self.output(most))


def parse(data: bytes) -> list[FrameHeader]:
    frames: list[FrameHeader] = []
    position = 0
    while position < len(data):
        header = FrameHeader(*yamux.decode(data, position))
        frames.append(header)
        position += 12 + (header.length if header.type == DATA else 0)
    return frames


def pair(limits: Limits | None = None) -> tuple[Side, Side]:
    return Side(Role.CLIENT, limits), Side(Role.SERVER, limits)


def exchange(left: Side, right: Side, now: float = 0.0) -> None:
    """Carry bytes both ways until both have nothing to say."""
    while left.mux.has_output or right.mux.has_output:
        right.mux.receive(left.output(), now)
        left.mux.receive(right.output(), now)


def accepted(server: Side, number: int = 1) -> MuxStream:
    """A stream that a peer opened by hand."""
    server.mux.receive(yamux.encode(WINDOW_UPDATE, SYN, number, 0), 0.0)
    server.output()
    return server.mux.streams[number]


def violates(side: Side, data: bytes, reason: str) -> None:
    with pytest.raises(CodezeroError, match=reason) as raised:
        side.mux.receive(data, 0.0)
    assert raised.value.problem is problems.PROTOCOL
    assert parse(side.output())[-1] == FrameHeader(GO_AWAY, 0, 0, 1)


# --- Streams --------------------------------------------------------------------------------------------------------------------------------


def test_bytes_arrive_with_the_first_frame() -> None:
    """A new stream costs one round trip because nothing waits for the acknowledgement."""
    client, server = pair()
    stream, _ = client.open()
    stream.write(b"hello")
    server.mux.receive(client.output(), 0.0)

    assert server.owners[1].data == b"hello"


def test_acknowledgement_goes_with_the_answer() -> None:
    """A message of its own would cost both ends as much as the answer."""
    client, server = pair()
    stream, _ = client.open()
    stream.write(b"hello")
    server.mux.receive(client.output(), 0.0)

    assert server.frames() == []
    server.mux.streams[1].write(b"hello yourself")
    server.mux.streams[1].finish()
    assert server.frames() == [FrameHeader(DATA, ACK, 1, 14), FrameHeader(WINDOW_UPDATE, FIN, 1, 0)]


def test_stream_that_is_only_ended_is_acknowledged_by_that() -> None:
    """There is no other frame of it."""
    client, server = pair()
    client.open()
    server.mux.receive(client.output(), 0.0)
    server.mux.streams[1].finish()

    assert server.frames() == [FrameHeader(WINDOW_UPDATE, ACK | FIN, 1, 0)]


def test_silent_streams_are_acknowledged_before_the_opener_has_to_wait() -> None:
    """A thousand connections that wait for something must not keep new ones out."""
    client, server = pair(Limits(unacknowledged=8))
    for _ in range(100):
        client.open()
    exchange(client, server)

    assert len(server.mux.streams) == 100


def test_acknowledgements_left_over_go_with_the_next_tick() -> None:
    """A peer of another kind may wait for each."""
    client, server = pair()
    client.open()
    server.mux.receive(client.output(), 0.0)
    server.mux.tick(1.0)

    assert FrameHeader(WINDOW_UPDATE, ACK, 1, 0) in server.frames()
    server.mux.tick(2.0)
    assert not any(frame.flags == ACK and frame.stream == 1 for frame in server.frames())


def test_either_side_opens_streams() -> None:
    """Variants are served by streams that the System opens."""
    client, server = pair()
    mine, _ = client.open()
    yours, _ = server.open()
    yours.write(b"request")
    exchange(client, server)

    assert (mine.id, yours.id) == (1, 2)
    assert client.owners[2].data == b"request"


def test_half_close_keeps_the_other_direction() -> None:
    """Protocols send a request, close, and read the answer."""
    client, server = pair()
    stream, owner = client.open()
    stream.write(b"question")
    stream.finish()
    exchange(client, server)
    assert server.owners[1].events == ["finished"]
    server.mux.streams[1].write(b"answer")
    server.mux.streams[1].finish()
    exchange(client, server)

    assert owner.data == b"answer"
    assert owner.events == ["finish sent", "finished", "ended"]
    assert server.owners[1].events == ["finished", "ended"]
    assert not client.mux.streams
    assert not server.mux.streams


def test_finish_comes_after_all_data() -> None:
    """An end that overtakes data would cut answers short."""
    client, server = pair()
    stream, _ = client.open()
    stream.write(bytes(3 * INITIAL_WINDOW))
    stream.finish()
    exchange(client, server)

    assert len(server.owners[1].data) == 3 * INITIAL_WINDOW
    assert server.owners[1].events == ["finished"]


def test_finish_in_a_frame_with_data_comes_after_the_data() -> None:
    """Other implementations put both in one frame, and it may come in pieces."""
    server = Side(Role.SERVER)
    accepted(server)
    server.mux.receive(yamux.encode(DATA, FIN, 1, 6) + b"abc", 0.0)
    assert server.owners[1].events == []
    server.mux.receive(b"def", 0.0)

    assert server.owners[1].data == b"abcdef"
    assert server.owners[1].events == ["finished"]


def test_our_finish_does_not_end_a_stream_whose_last_payload_is_arriving() -> None:
    """Both ends at once, with the peer's last frame half read."""
    server = Side(Role.SERVER)
    accepted(server)
    server.mux.receive(yamux.encode(DATA, FIN, 1, 6) + b"abc", 0.0)
    server.mux.streams[1].finish()
    server.output()
    assert server.owners[1].events == ["finish sent"]
    server.owners[1].events.clear()
    server.mux.receive(b"def", 0.0)

    assert server.owners[1].data == b"abcdef"
    assert server.owners[1].events == ["finished", "ended"]


def test_reset_drops_what_waits_and_reaches_the_peer() -> None:
    """An aborted transfer must not go on in the background."""
    client, server = pair()
    stream, owner = client.open()
    stream.write(b"first")
    exchange(client, server)
    stream.write(bytes(100_000))
    stream.reset()
    stream.write(b"nothing")
    stream.finish()
    exchange(client, server)

    assert server.owners[1].data == b"first"
    assert server.owners[1].events == ["reset"]
    assert owner.events == []
    assert not client.mux.streams
    assert not server.mux.streams


def test_stream_reset_before_it_was_announced_never_reaches_the_peer() -> None:
    """The peer would take a reset of a stream it does not know for a violation."""
    client, server = pair()
    stream, _ = client.open()
    stream.write(b"x")
    stream.reset()
    second, _ = client.open()
    exchange(client, server)

    assert list(server.owners) == [second.id]


def test_data_under_way_at_a_reset_is_skipped() -> None:
    """The peer learns of a reset a moment later; that is no violation."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    server.mux.streams[1].write(bytes(1000))
    under_way = server.output()
    stream.reset()
    client.mux.receive(under_way, 0.0)
    exchange(client, server)
    other, owner = client.open()
    exchange(client, server)
    server.mux.streams[other.id].write(b"still fine")
    exchange(client, server)

    assert owner.data == b"still fine"


def test_owner_may_reset_its_stream_while_bytes_arrive() -> None:
    """The rest of a frame that has begun belongs to nobody then."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    recorder = server.owners[1]
    recorder.on_data = server.mux.streams[1].reset
    other, _ = client.open()
    stream.write(b"a" * 100)
    other.write(b"b" * 100)
    data = client.output()
    for position in range(0, len(data), 10):
        server.mux.receive(data[position : position + 10], 0.0)

    assert len(recorder.data) < 100
    assert server.owners[3].data == b"b" * 100


# --- Order of output ------------------------------------------------------------------------------------------------------------------------


def test_control_frames_go_before_data() -> None:
    """A heartbeat behind megabytes of bulk would look like a dead tunnel."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    stream.write(bytes(200_000))
    client.mux.measure(0.0)
    client.mux.receive(yamux.encode(PING, SYN, 0, 7), 0.0)

    assert [frame.type for frame in client.frames()][:3] == [PING, PING, DATA]


def test_urgent_stream_goes_before_data_and_in_order_with_resets() -> None:
    """The reason of a reset is sent on the control stream and has to arrive before the reset."""
    client, server = pair()
    control = client.mux.open_stream(NOBODY, urgent=True)
    stream, _ = client.open()
    exchange(client, server)
    stream.write(bytes(100_000))
    other, _ = client.open()
    other.write(b"x")
    exchange_frames = client.frames(most=1)
    assert exchange_frames[0].type == DATA
    control.write(b"why")
    stream.reset()
    frames = client.frames()

    assert [(frame.type, frame.stream, frame.flags) for frame in frames[:2]] == [
        (DATA, control.id, 0),
        (WINDOW_UPDATE, stream.id, RST),
    ]


def test_streams_take_turns() -> None:
    """One bulk transfer must not keep another waiting for more than a frame."""
    client, server = pair(Limits(frame=1000))
    first, _ = client.open()
    second, _ = client.open()
    exchange(client, server)
    first.write(bytes(10_000))
    second.write(bytes(10_000))

    assert [frame.stream for frame in client.frames(most=4000)] == [first.id, second.id, first.id, second.id]


def test_requests_overtake_transfers() -> None:
    """A small request behind sixteen uploads would wait for a frame of each."""
    client, server = pair()
    transfers = [client.open()[0] for _ in range(16)]
    idle, _ = client.open()
    exchange(client, server)
    for transfer in transfers:
        transfer.write(bytes(200_000))
    idle.write(b"request")
    new, _ = client.open()
    new.write(b"header and request")

    assert [frame.stream for frame in client.frames(most=100_000)][:2] == [idle.id, new.id]


def test_many_requests_do_not_starve_transfers() -> None:
    """Half of each turn stays for those that have more to send."""
    client, server = pair()
    transfer, _ = client.open()
    chatty = [client.open()[0] for _ in range(50)]
    exchange(client, server)
    transfer.write(bytes(200_000))
    for stream in chatty:
        stream.write(bytes(4000))

    assert transfer.id in [frame.stream for frame in client.frames(most=50_000)]


def test_new_streams_reach_the_peer_in_the_order_of_their_ids() -> None:
    """However much each has to send: the peer takes falling ids for reused ones."""
    client, server = pair(Limits(unacknowledged=3))
    for number in range(9):
        stream, _ = client.open()
        stream.write(bytes(1 + number % 2 * 100_000))
    exchange(client, server)

    assert list(server.owners) == list(range(1, 18, 2))


def test_take_returns_about_what_was_asked_for_and_says_whether_there_is_more() -> None:
    """A turn of the loop encrypts a bounded amount."""
    client, _ = pair()
    stream, _ = client.open()
    stream.write(bytes(INITIAL_WINDOW))

    assert len(client.output(most=100_000)) <= 100_000 + 64 * 1024
    assert client.mux.has_output
    client.output()
    assert not client.mux.has_output


def test_buffers_are_passed_on_without_copying() -> None:
    """The byte path pays for encryption only."""
    client, _ = pair()
    stream, _ = client.open()
    data = bytes(50_000)
    stream.write(data)

    assert any(buffer is data for buffer in client.mux.take(1 << 20))


def test_output_is_announced_once() -> None:
    """One write per turn, however many streams have something to say."""
    client, server = pair()
    for _ in range(3):
        stream, _ = client.open()
        stream.write(b"x")
    assert client.ready == 1
    exchange(client, server)
    stream, _ = client.open()

    assert client.ready == 2


def test_writer_hears_when_little_is_left_to_send() -> None:
    """Back-pressure needs an end, told once."""
    client, server = pair()
    stream, owner = client.open()
    stream.write(bytes(INITIAL_WINDOW))
    stream.notify_below(100_000)
    server.mux.receive(client.output(most=100_000), 0.0)
    assert owner.events == []
    exchange(client, server)

    assert owner.events == ["writable"]


# --- Windows --------------------------------------------------------------------------------------------------------------------------------


def test_paused_stream_stops_its_sender_and_no_other() -> None:
    """One reader that stops must not stop the tunnel (head-of-line trap)."""
    client, server = pair()
    stalled, _ = client.open()
    fast, _ = client.open()
    exchange(client, server)
    server.mux.streams[stalled.id].pause()
    stalled.write(bytes(2 * INITIAL_WINDOW))
    fast.write(b"f" * 3_000_000)
    exchange(client, server)

    assert server.owners[stalled.id].data == b""
    assert stalled.waiting_size == INITIAL_WINDOW
    assert len(server.owners[fast.id].data) == 3_000_000


def test_resumed_stream_delivers_everything_in_order() -> None:
    """What was held while paused comes first, then the rest, then the end."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    server.mux.streams[1].pause()
    payload = bytes(range(256)) * 4096
    stream.write(payload)
    stream.finish()
    exchange(client, server)
    server.mux.streams[1].resume(0.0)
    exchange(client, server)

    assert server.owners[1].data == payload
    assert server.owners[1].events == ["finished"]


def test_owner_may_pause_again_while_resuming() -> None:
    """A socket that fills up after the first piece stops the rest."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    held = server.mux.streams[1]
    held.pause()
    for _ in range(3):
        stream.write(b"x" * 10)
        exchange(client, server)
    server.owners[1].on_data = held.pause
    held.resume(0.0)

    assert len(server.owners[1].data) == 10
    assert held.holds_data


def test_window_grows_with_the_bandwidth_delay_product() -> None:
    """256 KiB per round trip would be 6 MB/s at 40 ms."""
    client, server = pair(Limits(window=4 * 1024 * 1024))
    stream, _ = client.open()
    exchange(client, server)
    stream.write(bytes(64 * 1024 * 1024))
    now = 0.0
    server.mux.measure(now)
    for _ in range(12):
        now += 0.02
        server.mux.receive(client.output(), now)
        now += 0.02
        client.mux.receive(server.output(), now)

    assert server.mux.streams[1].window == 4 * 1024 * 1024


def test_window_of_a_slow_transfer_does_not_grow() -> None:
    """Windows are memory that a stalled reader may come to hold."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    now = 0.0
    for _ in range(20):
        server.mux.measure(now)
        now += 0.01
        exchange(client, server, now)
        now += 1.0
        stream.write(bytes(100_000))
        exchange(client, server, now)

    assert server.mux.streams[1].window == INITIAL_WINDOW


def test_two_transfers_leave_room_for_a_third() -> None:
    """Windows that have grown come back only when they are used, so the first streams must not take everything."""
    limits = Limits(window=4 * 1024 * 1024, window_budget=4 * 1024 * 1024)
    client, server = pair(limits)
    server.mux.measure(0.0)
    now, windows = 0.0, list[int]()
    for _ in range(3):
        stream = client.open()[0]
        stream.write(bytes(64 * 1024 * 1024))
        for _ in range(60):
            now += 0.05
            server.mux.receive(client.output(), now)
            now += 0.05
            client.mux.receive(server.output(), now)
        windows.append(server.mux.streams[stream.id].window)

    assert windows[0] > windows[1] > windows[2] >= 2 * INITIAL_WINDOW


def test_credit_of_a_large_window_comes_back_by_the_megabyte() -> None:
    """Half of it would leave a long link idle for as long as the credit travels."""
    client, server = pair()
    stream = client.open()[0]
    server.mux.measure(0.0)
    now = 0.0
    while server.mux.streams.get(stream.id) is None or server.mux.streams[stream.id].window < 16 * 1024 * 1024:
        stream.write(bytes(max(0, (1 << 25) - stream.waiting_size)))
        now += 0.02
        server.mux.receive(client.output(), now)
        now += 0.02
        client.mux.receive(server.output(), now)
    exchange(client, server, now)
    stream.write(bytes(3 << 20))
    server.mux.receive(client.output(), now)

    given = [frame.length for frame in server.frames() if frame.type == WINDOW_UPDATE and frame.stream == stream.id]
    assert given, "three megabytes were consumed and nothing came back"
    assert sum(given) >= 1 << 20


def test_growth_of_all_windows_stays_within_the_budget() -> None:
    """A thousand fast streams must not take a thousand times the most memory."""
    limits = Limits(window=4 * 1024 * 1024, window_budget=1024 * 1024)
    client, server = pair(limits)
    streams = [client.open()[0] for _ in range(8)]
    exchange(client, server)
    for stream in streams:
        stream.write(bytes(8 * 1024 * 1024))
    now = 0.0
    server.mux.measure(now)
    for _ in range(12):
        now += 0.02
        server.mux.receive(client.output(), now)
        now += 0.02
        client.mux.receive(server.output(), now)
    windows = [server.mux.streams[stream.id].window for stream in streams]
    growth = sum(windows) - 8 * INITIAL_WINDOW
    assert limits.window_budget * 0.75 < growth <= limits.window_budget
    assert min(windows) > INITIAL_WINDOW, "the first took all, so that a later one stays slow"
    for stream in streams:
        stream.reset()
    exchange(client, server)

    assert server.mux._budget == limits.window_budget  # pyright: ignore[reportPrivateUsage]


# --- Limits ---------------------------------------------------------------------------------------------------------------------------------


def test_streams_beyond_the_limit_are_refused_and_the_others_go_on() -> None:
    """A laptop that opens sockets without end harms itself only."""
    client, server = pair(Limits(streams=2))
    streams = [client.open()[0] for _ in range(3)]
    for stream in streams:
        stream.write(b"x")
    exchange(client, server)

    assert server.refused == [5]
    assert client.owners[5].events == ["reset"]
    assert [bytes(server.owners[number].data) for number in (1, 3)] == [b"x", b"x"]


def test_own_limit_is_known_before_the_peer_is_asked() -> None:
    """The opener knows how many streams the peer takes."""
    client, _ = pair()
    first, _ = client.open(most=1)
    with pytest.raises(CodezeroError) as raised:
        client.open(most=1)
    assert raised.value.problem is problems.TOO_MANY_STREAMS
    first.reset()

    client.open(most=1)


def test_unacknowledged_streams_wait_their_turn() -> None:
    """The specification asks openers not to run far ahead of a peer that does not accept."""
    client, server = pair(Limits(unacknowledged=2))
    for _ in range(5):
        stream, _ = client.open()
        stream.write(b"x")
    frames = client.output()
    assert {frame.stream for frame in parse(frames)} == {1, 3}
    server.mux.receive(frames, 0.0)
    client.mux.receive(server.output(), 0.0)
    exchange(client, server)

    assert [bytes(owner.data) for owner in server.owners.values()] == [b"x"] * 5


def test_no_streams_after_a_go_away_and_those_open_go_on() -> None:
    """A System that drains lets transfers end."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    server.mux.go_away()
    exchange(client, server)
    assert client.farewells == [0]
    with pytest.raises(CodezeroError) as raised:
        client.open()
    stream.write(b"end")
    exchange(client, server)

    assert raised.value.problem is problems.TUNNEL_DOWN
    assert server.owners[1].data == b"end"


def test_streams_that_cross_our_go_away_are_refused() -> None:
    """The peer opened them before it knew."""
    client, server = pair()
    server.mux.go_away()
    _, owner = client.open()
    server.mux.receive(client.output(), 0.0)
    client.mux.receive(server.output(), 0.0)

    assert owner.events == ["reset"]


def test_ping_is_answered_and_measured() -> None:
    """Windows grow by the round trip."""
    client, server = pair()
    client.mux.measure(10.0)
    server.mux.receive(client.output(), 10.5)
    client.mux.receive(server.output(), 11.0)

    assert client.mux.round_trip == 1.0


def test_idle_session_says_nothing() -> None:
    """An idle tunnel costs next to nothing: pings follow traffic only."""
    client, server = pair()
    stream, _ = client.open()
    stream.write(b"x")
    exchange(client, server)
    for now in (1.0, 2.0, 3.0):
        server.mux.tick(now)
        exchange(client, server, now)
    server.mux.tick(4.0)

    assert not server.mux.has_output


# --- Peers that break the protocol ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (yamux.encode(DATA, 0, 1, INITIAL_WINDOW + 1), "window is 262144"),
        (yamux.encode(DATA, 0, 3, 0), "never opened"),
        (yamux.encode(DATA, 0, 2, 0), "never opened"),
        (yamux.encode(WINDOW_UPDATE, SYN, 2, 0), "id of this side"),
        (yamux.encode(WINDOW_UPDATE, SYN, 1, 0), "ids must rise"),
        (yamux.encode(WINDOW_UPDATE, SYN, 5, 0) + yamux.encode(DATA, SYN, 3, 0), "ids must rise"),
        (yamux.encode(WINDOW_UPDATE, 0, 1, 2**32 - 1), "grows beyond"),
        (yamux.encode(WINDOW_UPDATE, ACK, 1, 0), "acknowledgement"),
        (yamux.encode(WINDOW_UPDATE, FIN, 1, 0) * 2, "second end"),
        (yamux.encode(WINDOW_UPDATE, FIN, 1, 0) + yamux.encode(DATA, 0, 1, 1), "after its end"),
        (yamux.encode(DATA, RST, 1, 5), "resets"),
        (yamux.encode(WINDOW_UPDATE, RST, 1, 0) + yamux.encode(DATA, 0, 1, 1), "which is closed"),
        (yamux.encode(PING, ACK, 0, 99), "was not sent"),
        (b"GET / HTTP/1.1\r\n", "version 71"),
    ],
)
def test_violation_ends_the_session(data: bytes, reason: str) -> None:
    """Each rule by itself: going on would corrupt streams or memory."""
    server = Side(Role.SERVER)
    accepted(server)
    violates(server, data, reason)


def test_data_beyond_the_window_of_a_reset_stream_is_a_violation() -> None:
    """Tolerance for what was under way is bounded by the credit that was given."""
    server = Side(Role.SERVER)
    accepted(server).reset()
    server.mux.receive(yamux.encode(DATA, 0, 1, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), 0.0)
    server.output()
    violates(server, yamux.encode(DATA, 0, 1, 1), "which is closed")


def test_data_long_after_a_reset_is_a_violation() -> None:
    """The answer to a ping proves that the peer knows of the reset, so the memory of it is short."""
    client, server = pair()
    stream, _ = client.open()
    exchange(client, server)
    stream.reset()
    for now in (1.0, 2.0):
        client.mux.tick(now)
        exchange(client, server, now)
    violates(client, yamux.encode(DATA, 0, 1, 1), "which is closed")


def test_peer_that_makes_us_answer_and_does_not_read_is_cut_off() -> None:
    """Answers wait in memory while the peer's socket is full."""
    server = Side(Role.SERVER)
    pings = yamux.encode(PING, SYN, 0, 1) * 10_000
    with pytest.raises(CodezeroError, match="does not read"):
        for _ in range(20):
            server.mux.receive(pings, 0.0)


def test_streams_opened_and_reset_at_once_leave_nothing_behind() -> None:
    """HTTP/2's rapid reset, in yamux: what is gone before it was answered is not answered."""
    server = Side(Role.SERVER)
    for number in range(1, 200_000, 2):
        server.mux.receive(yamux.encode(DATA, SYN, number, 0) + yamux.encode(WINDOW_UPDATE, RST, number, 0), 0.0)

    assert not server.mux.streams
    assert server.output() == b""


def test_peer_that_opens_and_resets_without_end_is_cut_off() -> None:
    """Each stream that stood for a moment is an answer of ours that nobody reads."""
    server = Side(Role.SERVER)
    many = 512
    with pytest.raises(CodezeroError, match="does not read"):
        for first in range(1, 400_000, 2 * many):
            numbers = range(first, first + 2 * many, 2)
            server.mux.receive(b"".join(yamux.encode(DATA, SYN, number, 0) for number in numbers), 0.0)
            server.mux.receive(b"".join(yamux.encode(WINDOW_UPDATE, RST, number, 0) for number in numbers), 0.0)

    assert server.mux.closed


def test_stalled_reader_holds_at_most_its_window() -> None:
    """Strict windows are what bounds memory against a peer that sends regardless."""
    server = Side(Role.SERVER)
    accepted(server).pause()
    server.mux.receive(yamux.encode(DATA, 0, 1, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), 0.0)
    violates(server, yamux.encode(DATA, 0, 1, 1), "window is 0")


# --- Against oracles ------------------------------------------------------------------------------------------------------------------------

_frame = st.builds(
    lambda kind, flags, number, length, payload: yamux.encode(kind, flags, number, length) + payload,
    st.integers(0, 4),
    st.sampled_from([0, SYN, ACK, FIN, RST, SYN | FIN, SYN | RST, ACK | RST, ACK | FIN, 16]),
    st.integers(0, 6),
    st.sampled_from([0, 1, 2, 5, 100, INITIAL_WINDOW, INITIAL_WINDOW + 1, 2**32 - 1]),
    st.binary(max_size=6),
)


@given(st.lists(st.one_of(_frame, st.binary(max_size=30)), max_size=40), st.sampled_from(Role), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_the_protocol_error(parts: list[bytes], role: Role, step: int) -> None:
    """The bytes come from the internet, in pieces of any size."""
    side = Side(role, Limits(streams=2))
    for _ in range(2):
        stream, _ = side.open()
        stream.write(b"something")
        stream.finish()
    side.output()
    data = b"".join(parts)
    try:
        for position in range(0, len(data), step):
            side.mux.receive(data[position : position + step], 0.0)
            side.output()
    except CodezeroError as error:
        assert error.problem is problems.PROTOCOL
        assert side.mux.closed


_act = st.one_of(
    st.tuples(st.just("open"), st.booleans(), st.just(0)),
    st.tuples(st.just("write"), st.integers(0, 20), st.integers(1, 200_000)),
    st.tuples(st.just("finish"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("pause"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("resume"), st.integers(0, 20), st.just(0)),
    st.tuples(st.just("carry"), st.booleans(), st.integers(1, 100_000)),
)


@given(st.lists(_act, max_size=60), st.integers(1, 70_000), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_interleaved_streams_are_like_pipes(acts: list[tuple[str, int, int]], step: int, random: object) -> None:
    """The oracle is one byte string per direction of each stream: all that was written arrives, in order, then the end."""
    client, server = pair(Limits(frame=5000, window=1024 * 1024))
    sides = {Role.CLIENT: client, Role.SERVER: server}
    wire = {Role.CLIENT: bytearray(), Role.SERVER: bytearray()}
    written: dict[tuple[Role, int], bytearray] = {}
    ends: list[tuple[Role, MuxStream]] = []
    finished: set[tuple[Role, int]] = set()
    now = 0.0

    def carry(role: Role, size: int) -> None:
        wire[role] += sides[role].output(most=size)
        other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
        piece = bytes(wire[role][:step])
        del wire[role][:step]
        if piece:
            sides[other].mux.receive(piece, now)
            known = {(role, stream.id) for role, stream in ends}
            ends.extend((other, s) for s in sides[other].mux.streams.values() if (other, s.id) not in known)

    for number, (name, which, size) in enumerate(acts):
        now += 0.01
        if name == "open":
            role = Role.CLIENT if which else Role.SERVER
            ends.append((role, sides[role].open()[0]))
        elif name == "carry":
            carry(Role.CLIENT if which else Role.SERVER, size)
        elif ends:
            role, stream = ends[which % len(ends)]
            if name == "write" and (role, stream.id) not in finished:
                payload = number.to_bytes(4, "big") * (size // 4 + 1)
                written.setdefault((role, stream.id), bytearray()).extend(payload)
                stream.write(payload)
            elif name == "finish":
                finished.add((role, stream.id))
                stream.finish()
            elif name == "pause":
                stream.pause()
            elif name == "resume":
                stream.resume(now)
    for _, stream in ends:
        stream.resume(now)
    while any(wire.values()) or client.mux.has_output or server.mux.has_output:
        now += 0.001
        for role in Role:
            carry(role, 1 << 20)
        for _, stream in ends:
            stream.resume(now)

    for role, side in sides.items():
        other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
        for number, owner in side.owners.items():
            assert owner.data == written.get((other, number), b"")
            assert ("finished" in owner.events) == ((other, number) in finished)
        assert all(
            ((Role.CLIENT, number) in finished and (Role.SERVER, number) in finished)
            == (number not in side.mux.streams)
            for number in side.owners
        )
