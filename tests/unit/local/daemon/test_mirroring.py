"""What Routers send to a mirror is read strictly: neither they nor the local process can do more than be compared."""

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.local.daemon.mirroring import HTTP2_PREFACE, Inbox, Local, Mirroring, origin_answer
from codezero.local.daemon.serving import Held
from codezero.local.daemon.traces import Traces
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import Request
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.routing.envoy import MIRRORED_BYTES

PAIR = PortPair(80, 3000)
COPY_ID = "00000000-0000-0000-0000-000000000001"


class Paused(asyncio.ReadTransport):
    """What an inbox holds back, and whether it does."""

    is_paused = False

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


def held(mirror: Mirror = Mirror.ALL) -> Held:
    view = VariantView(
        new_ulid(), new_ulid(), "alice", "d", SessionId("s"), (ConditionPart("user"),), (PAIR,), 1, 2.0, mirror=mirror
    )
    return Held(ServiceRef("shop", "orders"), view, 0.0)


def notice(status: str = "200", milliseconds: str = "5", length: str = "3") -> Request:
    headers = {
        "x-codezero-mirror-status": status,
        "x-codezero-mirror-milliseconds": milliseconds,
        "x-codezero-mirror-bytes": length,
    }
    return Request("POST", "/", tuple(headers.items()))


def test_origins_answer_is_read() -> None:
    answer = origin_answer(notice(length="12"), b"Date: now\r\nx: a:b\r\n\r\nabc\r\n\r\n")
    assert answer is not None
    assert (answer.status, answer.milliseconds, answer.length) == (200, 5.0, 12)
    assert answer.headers == (("date", "now"), ("x", "a:b"))
    assert answer.body == b"abc\r\n\r\n"
    bare = origin_answer(notice(), b"\r\nabc")
    assert bare is not None
    assert (bare.headers, bare.body) == ((), b"abc")


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (notice(status="-1"), b"\r\n"),
        (notice(status="0200"), b"\r\n"),
        (notice(milliseconds="1.5"), b"\r\n"),
        (notice(milliseconds="9" * 400), b"\r\n"),
        (notice(length="²"), b"\r\n"),
        (notice(length="2"), b"\r\nabc"),
        (notice(), b"no end"),
        (notice(length=str(1 << 30)), b"\r\n" + bytes((1 << 16) + 1)),
        (Request("POST", "/"), b"\r\n"),
        (Request("POST", "/", notice().headers * 2), b"\r\n"),
    ],
)
def test_what_no_router_tells_is_not_read(request_: Request, body: bytes) -> None:
    assert origin_answer(request_, body) is None


async def test_http2_is_known_by_its_preface_however_it_arrives() -> None:
    for said, expected in (
        (HTTP2_PREFACE + b"x", True),
        (HTTP2_PREFACE, True),
        (HTTP2_PREFACE[:-1], False),
        (b"PRINT / HTTP/1.1\r\n\r\n", False),
        (b"", False),
    ):
        inbox = Inbox()
        reading = asyncio.ensure_future(inbox.protocol())
        for byte in said:
            inbox.put(bytes([byte]), Paused())
            await asyncio.sleep(0)
        inbox.end()
        is_http2, first = await reading
        assert (is_http2, first + inbox.take()) == (expected, said)


async def test_stream_is_held_back_while_nobody_reads() -> None:
    inbox, stream = Inbox(), Paused()
    for _ in range(10):
        inbox.put(bytes(100_000), stream)
    assert stream.is_paused
    assert len(await inbox.read()) == 1_000_000
    assert not stream.is_paused
    inbox.end()
    assert await inbox.read() == await inbox.read() == b""


async def talk(said: bytes, *, answer: bytes = b"", mirror: Mirror = Mirror.ALL) -> tuple[bytes, bytes]:
    """What the Router gets for `said`, and what the local process was asked, which answers `answer` and ends."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        theirs.setblocking(False)
        traces, inbox, sent = Traces(), Inbox(), bytearray()
        traces.read()
        inbox.put(said, Paused())
        inbox.end()
        try:
            _, first = await inbox.protocol()
            await Mirroring(traces).talk(held(mirror), PAIR, inbox, first, send=sent.extend, local=Local(ours, gone))
        except CodezeroError as error:
            assert error.problem in (problems.BAD_REQUEST, problems.TOO_LARGE)
        return bytes(sent), await received(theirs)


async def gone() -> socket.socket:
    raise CodezeroError(problems.DIAL_FAILED, "gone")


async def received(connection: socket.socket) -> bytes:
    """All that the other end said before it closed."""
    loop, found = asyncio.get_running_loop(), bytearray()
    with contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(connection, 1 << 16):
            found += data
    return bytes(found)


def copy_of(method: str = "GET", *lines: str, body: str = "", target: str = "/a?b") -> bytes:
    head = (f"{method} {target} HTTP/1.1", "host: Orders.Shop:80", f"x-codezero-mirror: {COPY_ID}", *lines, "", body)
    return "\r\n".join(head).encode("latin-1")


EMPTY = b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


async def test_copy_is_put_as_it_was_asked() -> None:
    lines = ("X-Case: a", "x-case: b", "connection: close, x-hop", "x-hop: 1", "te: trailers", "content-length: 5")
    sent, asked = await talk(copy_of("POST", *lines, "expect: 100-continue", body="hello"), answer=OK)

    expected = b"POST /a?b HTTP/1.1\r\nhost: Orders.Shop:80\r\nX-Case: a\r\nx-case: b\r\ncontent-length: 5\r\n\r\nhello"
    assert asked == expected
    # What asked to be closed is told so.
    assert sent.startswith(b"HTTP/1.1 200")


async def test_body_in_chunks_keeps_its_trailers() -> None:
    sent, asked = await talk(
        copy_of("POST", "transfer-encoding: chunked", body="3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"), answer=OK
    )
    assert asked.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
    assert sent == EMPTY


@pytest.mark.parametrize("mirror", list(Mirror))
@pytest.mark.parametrize(
    ("method", "lines", "allowed"),
    [
        ("GET", (), Mirror.SAFE),
        ("HEAD", (), Mirror.SAFE),
        ("POST", ("content-length: 0",), Mirror.ALL),
        ("DELETE", (), Mirror.ALL),
        ("get", (), Mirror.ALL),
        ("GET", ("upgrade: websocket",), None),
        ("CONNECT", (), None),
        ("GET", (f"x-codezero-mirror: {COPY_ID}",), None),
    ],
)
async def test_only_what_the_mirror_copies_is_put(
    mirror: Mirror, method: str, lines: tuple[str, ...], allowed: Mirror | None
) -> None:
    """The Router decides which methods are copied, and the laptop makes sure: whoever holds the Router cannot write by a safe mirror."""
    _, asked = await talk(copy_of(method, *lines), answer=OK, mirror=mirror)
    assert bool(asked) is (allowed is not None and (mirror is Mirror.ALL or allowed is Mirror.SAFE))


@pytest.mark.parametrize("mark", ["", "x-codezero-mirror: 1", "x-codezero-mirror: " + "g" * 36])
async def test_what_is_no_copy_is_not_put(mark: str) -> None:
    said = f"GET / HTTP/1.1\r\nhost: a\r\n{mark}\r\n\r\n" if mark else "GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    sent, asked = await talk(said.encode(), answer=OK)
    assert (sent, asked) == (EMPTY, b"")


async def test_copy_that_is_too_long_ends_the_stream() -> None:
    size = MIRRORED_BYTES + 1
    sent, asked = await talk(copy_of("POST", f"content-length: {size}", body="x" * size), answer=OK)
    assert (sent, asked) == (b"", b"")


PIECES = [
    *(b"GET", b"POST", b"HEAD", b"CONNECT", b" ", b"/", b"/.codezero/mirror/", COPY_ID.encode(), b" HTTP/1.1\r\n"),
    *(
        b"host: a\r\n",
        b"x-codezero-mirror: ",
        b"content-length: ",
        b"3",
        b"99999999999",
        b"transfer-encoding: chunked\r\n",
    ),
    *(b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"upgrade: h2c\r\n", b"\xff\x00", b"connection: \xff,close\r\n"),
    *(b"expect: 100-continue\r\n", b"x-codezero-mirror-status: 200\r\n", HTTP2_PREFACE, copy_of(), copy_of("CONNECT")),
    *(copy_of("POST", "content-length: 3", body="abc"), copy_of("POST", target=f"/.codezero/mirror/{COPY_ID}")),
]
ANSWERS = [
    *(
        OK,
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 101 x\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 100 C\r\n\r\n",
    ),
    *(
        b"content-length: 3\r\n\r\nabc",
        b"transfer-encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"\xff",
        b"\r\n",
        b"SSH-2.0\r\n",
    ),
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=12), st.lists(st.sampled_from(ANSWERS)))
def test_whatever_is_said_by_either_side_is_borne(said: list[bytes], answered: list[bytes]) -> None:
    sent, _ = asyncio.run(talk(b"".join(said), answer=b"".join(answered)))
    assert not sent.replace(EMPTY, b"").replace(EMPTY[:-2] + b"connection: close\r\n\r\n", b"").strip(EMPTY)
