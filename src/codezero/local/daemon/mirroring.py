"""Copies of requests that mirrors get: put to the local process, whose answer goes nowhere but into the comparison with the origin's.

The Router sends both over HTTP/1.1, a connection of its own for each that is under way: a copy, marked by an id, and what the origin answered to the
request of that id (`routing.envoy`). It throws answers to copies away, so each gets an empty one, once the local process has answered; a local
process that stalls thereby holds back no more copies than the Router has under way at once.
"""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from codezero.kit import logs
from codezero.local.daemon.mirror_compare import Answer, differences, shown
from codezero.local.daemon.mirror_pairs import Copy, Key, Pairs
from codezero.local.daemon.serving import Held
from codezero.local.daemon.traces import Traces
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import Request, copies
from codezero.model.variants import PortPair
from codezero.routing.envoy import (
    MIRROR_BYTES,
    MIRROR_HEADER,
    MIRROR_MILLISECONDS,
    MIRROR_PATH,
    MIRROR_STATUS,
    MIRRORED_ANSWER_BYTES,
    MIRRORED_BYTES,
)
from codezero.wire.tracing import MirrorRecord

# How long the local process may take for all of its answer; the Router waits for twice as long.
ANSWER_SECONDS = 30.0
# How long a request of the Router may take to arrive, and the next one to begin.
REQUEST_SECONDS = 60.0
# Programs close connections that nobody used for two seconds and more; a copy that crosses such an end would be told as a difference.
KEPT_SECONDS = 1.0
MAX_HEAD = 1 << 20
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Reach = Callable[[], Awaitable[socket.socket]]
"""A new connection to the local process. Raises `CodezeroError`."""

_WAITING_HIGH = 256 * 1024
_READ = 64 * 1024
_ID = re.compile(r"[0-9a-f-]{36}")
_NUMBER = re.compile(r"[0-9]{1,15}")
_STATUS = re.compile(r"[1-9][0-9]{2}")
# Of the connection that the copy came by, of the Router, or to be answered before the body, which is there already.
_NOT_FORWARDED = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "expect", MIRROR_HEADER}
)
_log = logs.get_logger("mirror")


class Inbox:
    """What has come by a stream and was not read yet; the stream is held back while that is much."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ended = False
        self._there = asyncio.Event()
        self._held_back: asyncio.ReadTransport | None = None

    @property
    def is_ended(self) -> bool:
        """Whether there will be no more."""
        return self._ended

    def put(self, data: bytes, stream: asyncio.ReadTransport) -> None:
        """Bytes have come."""
        self._bytes += data
        self._there.set()
        if len(self._bytes) > _WAITING_HIGH and self._held_back is None:
            self._held_back = stream
            stream.pause_reading()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._there.set()

    def take(self) -> bytes:
        """All that is there, perhaps nothing."""
        taken = bytes(self._bytes)
        self._bytes.clear()
        if not self._ended:
            self._there.clear()
        if self._held_back is not None:
            self._held_back.resume_reading()
            self._held_back = None
        return taken

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        await self._there.wait()
        return self.take()

    async def protocol(self) -> tuple[bool, bytes]:
        """Whether this is HTTP/2, and what was read to know it."""
        first = await self.read()
        while HTTP2_PREFACE.startswith(first) and len(first) < len(HTTP2_PREFACE) and not self._ended:
            first += await self.read()
        return first.startswith(HTTP2_PREFACE), first


@dataclass(slots=True)
class Arrived:
    """A request of the Router, whole."""

    head: h11.Request
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])

    @property
    def request(self) -> Request:
        """As conditions see it."""
        return Request(self.head.method.decode(), self.head.target.decode("latin-1"), _texts(self.head.headers))


class Mirroring:
    """Puts copies to local processes, and tells those who read `traces` how their answers differ. Keeps nothing while nobody reads."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._pairs = Pairs()
        self._forgetting: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many answers wait for their counterparts."""
        return len(self._pairs)

    async def talk(
        self, held: Held, pair: PortPair, inbox: Inbox, first: bytes, *, send: Callable[[bytes], None], local: "Local"
    ) -> None:
        """Take requests of the Router from a stream until its end; raises `CodezeroError` for what no Router sends."""
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            if first:
                server.receive_data(first)
            while (arrived := await _next(server, inbox)) is not None:
                await self._take(held, pair, arrived, local)
                send(_empty_answer(server))
                if server.our_state is not h11.DONE or server.their_state is not h11.DONE:
                    return
                server.start_next_cycle()
        except TimeoutError:
            return
        except h11.ProtocolError as error:
            raise CodezeroError(problems.BAD_REQUEST, f"a copy cannot be read: {error}") from None
        finally:
            local.close()

    async def _take(self, held: Held, pair: PortPair, arrived: Arrived, local: "Local") -> None:
        request, ids = (
            arrived.request,
            [value for name, value in arrived.head.headers if name == MIRROR_HEADER.encode()],
        )
        if len(ids) == 1 and _ID.fullmatch(copy_id := ids[0].decode("latin-1")) and _may_ask(held, request):
            await self._ask(held, (held.variant.variant_id, pair.remote, copy_id), arrived, local)
        elif not ids and request.method == "POST" and request.target.startswith(MIRROR_PATH):
            self._origin_answered(held, pair, request, bytes(arrived.body))
        else:
            # The Router copies what was agreed on and nothing else; this is somebody else, or a defect.
            held.failed += 1
            _log.warning("a request is no copy that this mirror takes", service=str(held.service), port=pair.remote)

    async def _ask(self, held: Held, key: Key, arrived: Arrived, local: "Local") -> None:
        at, is_wanted = time.time(), self._is_wanted()
        try:
            answer = await local.ask(arrived, keep=is_wanted)
        except CodezeroError as error:
            answer = Answer(0, trouble=error.detail)
        else:
            held.failed += bool(answer.trouble)
        if is_wanted and self._is_wanted():
            request = arrived.request
            copy = Copy(at, shown(request.method), shown(_path(request.target)), answer)
            self._tell(held, key, self._pairs.copied(key, copy, now=time.monotonic()))

    def _origin_answered(self, held: Held, pair: PortPair, request: Request, body: bytes) -> None:
        copy_id = request.target.removeprefix(MIRROR_PATH)
        answer = origin_answer(request, body) if _ID.fullmatch(copy_id) and self._is_wanted() else None
        if answer is not None:
            key = (held.variant.variant_id, pair.remote, copy_id)
            self._tell(held, key, self._pairs.answered(key, answer, now=time.monotonic()))

    def _is_wanted(self) -> bool:
        if not self._traces.are_wanted:
            self._pairs.clear()
        return self._traces.are_wanted

    def _tell(self, held: Held, key: Key, pair: tuple[Answer, Copy] | None) -> None:
        if pair is None:
            self._forget_later()
            return
        origin, copy = pair
        variant, port, _ = key
        record = MirrorRecord(
            copy.at,
            held.service,
            port,
            variant,
            copy.method,
            copy.path,
            origin.milliseconds,
            copy.answer.milliseconds,
            differences(origin, copy.answer),
        )
        self._traces.put_mirrored(record)

    def _forget_later(self) -> None:
        if self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        self._is_wanted()
        self._pairs.forget_old(now=time.monotonic())
        if len(self._pairs):
            self._forget_later()


@dataclass(slots=True)
class _Link:
    """A connection to the local process on which nothing is under way."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h11.Connection
    since: float


@dataclass(slots=True)
class _Said:
    """What the local process has said so far."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    length: int = 0

    def answer(self, began: float, trouble: str = "") -> Answer:
        milliseconds = round((time.monotonic() - began) * 1000, 3)
        return Answer(self.status, self.headers, bytes(self.body), self.length, milliseconds, trouble)


class Local:
    """The local process as the copies of one stream are put to it, one after the other: by one connection where it keeps that open."""

    def __init__(self, connection: socket.socket, reach: Reach) -> None:
        self._reach = reach
        self._dialled: socket.socket | None = connection
        self._link: _Link | None = None

    def close(self) -> None:
        """Close what is open."""
        if self._dialled is not None:
            self._dialled.close()
            self._dialled = None
        if self._link is not None:
            self._link.writer.close()
            self._link = None

    def release(self) -> socket.socket:
        """The connection as it was given, for another use; only while nothing was asked."""
        connection, self._dialled = self._dialled, None
        assert connection is not None
        return connection

    async def ask(self, arrived: Arrived, *, keep: bool) -> Answer:
        """The answer to a copy, whose headers and body are kept only when asked for; what went wrong is its `trouble`.

        Raises `CodezeroError` when there is no connection.
        """
        said, began = _Said(), time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                link = await self._connected()
                began = time.monotonic()
                try:
                    await _exchange(link, arrived, said, keep=keep)
                except BaseException:
                    link.writer.transport.abort()
                    raise
        except TimeoutError:
            return said.answer(began, f"no{' end of its' if said.status else ''} answer within {ANSWER_SECONDS:g} s")
        except (OSError, h11.RemoteProtocolError) as error:
            return said.answer(began, f"its answer broke off: {error}")
        except h11.LocalProtocolError as error:
            return said.answer(began, f"it cannot be asked this: {error}")
        self._keep(link)
        return said.answer(began)

    async def _connected(self) -> _Link:
        link, self._link = self._link, None
        if link is not None:
            if time.monotonic() - link.since < KEPT_SECONDS and not link.reader.at_eof():
                return link
            link.writer.close()
        connection, self._dialled = self._dialled or await self._reach(), None
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise
        return _Link(reader, writer, h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD), 0.0)

    def _keep(self, link: _Link) -> None:
        state = link.state
        if state.our_state is h11.DONE and state.their_state is h11.DONE and not state.trailing_data[0]:
            state.start_next_cycle()
            link.since = time.monotonic()
            self._link = link
        else:
            link.writer.close()


def origin_answer(request: Request, body: bytes) -> Answer | None:
    """What the Router tells by `request` and its `body` about the origin's answer; None when it cannot be read."""
    told = [request.lines(name) for name in (MIRROR_STATUS, MIRROR_MILLISECONDS, MIRROR_BYTES)]
    if any(len(values) != 1 for values in told):
        return None
    (status,), (milliseconds,), (length,) = told
    if not (_STATUS.fullmatch(status) and _NUMBER.fullmatch(milliseconds) and _NUMBER.fullmatch(length)):
        return None
    head, end, shown_body = body.partition(b"\r\n" if body.startswith(b"\r\n") else b"\r\n\r\n")
    if not end or len(shown_body) > int(length) or len(shown_body) > MIRRORED_ANSWER_BYTES:
        return None
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n") if line)
    headers = tuple((name.lower(), value.strip(" \t")) for name, _, value in lines)
    return Answer(int(status), headers, shown_body, int(length), float(milliseconds))


async def _next(server: h11.Connection, inbox: Inbox) -> Arrived | None:
    """The next request; None when no more come. Raises TimeoutError, h11.RemoteProtocolError, and `CodezeroError` for one that is too long."""
    arrived: Arrived | None = None
    async with asyncio.timeout(REQUEST_SECONDS):
        while True:
            match server.next_event():
                case h11.NEED_DATA:
                    server.receive_data(await inbox.read())
                case h11.Request() as head:
                    arrived = Arrived(head)
                case h11.Data(data=data) if arrived is not None:
                    arrived.body += data
                    if len(arrived.body) > MIRRORED_BYTES:
                        raise CodezeroError(problems.TOO_LARGE, f"a copy has {MIRRORED_BYTES} bytes at most")
                case h11.EndOfMessage(headers=headers):
                    if arrived is not None:
                        arrived.trailers = list(headers)
                    return arrived
                case _:
                    return None


def _empty_answer(server: h11.Connection) -> bytes:
    head = h11.Response(status_code=200, headers=[("content-length", "0")])
    return (server.send(head) or b"") + (server.send(h11.EndOfMessage()) or b"")


async def _exchange(link: _Link, arrived: Arrived, said: _Said, *, keep: bool) -> None:
    """Ask, and note the answer as it comes."""
    head = arrived.head
    named = {
        one.strip().lower()
        for name, value in head.headers
        if name == b"connection"
        for one in value.decode("latin-1").split(",")
    }
    # Letter case of names and their order stay as they came.
    headers = [line for line in head.headers.raw_items() if line[0].decode().lower() not in _NOT_FORWARDED | named]
    state, writer = link.state, link.writer
    events: list[h11.Event] = [h11.Request(method=head.method, target=head.target, headers=headers)]
    if arrived.body:
        events.append(h11.Data(data=bytes(arrived.body)))
    events.append(h11.EndOfMessage(headers=arrived.trailers))
    # Not waited for: some answer without reading.
    writer.write(b"".join(state.send(event) or b"" for event in events))
    room = MIRRORED_ANSWER_BYTES
    while True:
        match state.next_event():
            case h11.NEED_DATA:
                state.receive_data(await link.reader.read(_READ))
            case h11.Response(status_code=status, headers=lines):
                said.status = status
                if keep:
                    said.headers = _that_fit(_texts(lines))
            case h11.Data(data=data):
                said.length += len(data)
                if keep and room > 0:
                    said.body += data[:room]
                    room = MIRRORED_ANSWER_BYTES - len(said.body)
            case h11.InformationalResponse():
                pass
            case h11.EndOfMessage():
                return
            case _:
                raise h11.RemoteProtocolError("it ended the connection or changed the protocol")


def _may_ask(held: Held, request: Request) -> bool:
    """Whether the mirror takes such a request. The Router decides this; a process of the user's is worth a second look."""
    mirror = held.variant.mirror
    return mirror is not None and request.method != "CONNECT" and copies(mirror, request)


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _that_fit(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The lines that the Router would tell of the origin's answer: one that no longer fits is left out."""
    room, kept = MIRRORED_ANSWER_BYTES, list[tuple[str, str]]()
    for name, value in headers:
        size = len(name) + len(value) + 4
        if size <= room:
            room -= size
            kept.append((name, value))
    return tuple(kept)


def _path(target: str) -> str:
    """Without the query, as in all traces."""
    return target.partition("?")[0] if target.startswith("/") else urlsplit(target).path
