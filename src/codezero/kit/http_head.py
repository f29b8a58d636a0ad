"""One HTTP/1.1 request head, read strictly: for doors that are no web servers.

Stricter than RFC 9112 allows to be: CRLF line ends only, no folded lines, no empty line before the request, no body.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

import h11

HEAD_LIMIT: Final = 16 * 1024
HEAD_SECONDS: Final = 5.0

_END: Final = b"\r\n\r\n"


class HeadError(ValueError):
    """A head that is refused, with the HTTP status that says why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Head:
    """A request head: method and target as sent, headers with lower-case names in the order sent."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> tuple[str, ...]:
        """All values of the header `name` (lower case)."""
        return tuple(value for other, value in self.headers if other == name)


def parse(data: bytes) -> Head:
    """The head that `data` (up to and with its empty line) is; raises `HeadError`."""
    lines = data[: -len(_END)].split(b"\r\n")
    for line in lines:
        if not line or line[:1] in b" \t" or b"\r" in line or b"\n" in line or b"\0" in line:
            raise HeadError(HTTPStatus.BAD_REQUEST, "the request has malformed lines")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(data) + 1)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HeadError(HTTPStatus.BAD_REQUEST, f"the request cannot be read: {error}") from None
    if not isinstance(event, h11.Request):
        raise HeadError(HTTPStatus.BAD_REQUEST, "the request cannot be read")
    if event.http_version != b"1.1":
        raise HeadError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here")
    try:
        headers = tuple((name.decode("ascii"), value.decode("ascii")) for name, value in event.headers)
        head = Head(event.method.decode("ascii"), event.target.decode("ascii"), headers)
    except UnicodeDecodeError:
        raise HeadError(HTTPStatus.BAD_REQUEST, "the request has bytes other than ASCII") from None
    if head.values("transfer-encoding") or any(value != "0" for value in head.values("content-length")):
        raise HeadError(HTTPStatus.BAD_REQUEST, "requests have no body here")
    return head


def answer(
    status: HTTPStatus,
    body: bytes = b"",
    *,
    content_type: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A whole answer, after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode("ascii") + _END + body


class HeadProtocol(asyncio.Protocol):
    """Waits for one request head, pauses the connection, and hands it on with the bytes that came after the head.

    `handle` gets the transport, paused, and may give it to another protocol; `refuse` gets it when no good head came. Both own it then.
    """

    def __init__(
        self,
        handle: Callable[[asyncio.Transport, Head, bytes], None],
        refuse: Callable[[asyncio.Transport, HeadError], None],
        *,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """`lost` hears that the connection ended, whoever ended it, as long as this is its protocol."""
        self._handle = handle
        self._refuse = refuse
        self._lost = lost
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        # uvloop's transports only look like asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._too_late)

    def data_received(self, data: bytes) -> None:
        """Part of a head, or bytes after it that came before reading was paused."""
        assert self._transport is not None
        if self._done:
            return
        searched = max(0, len(self._received) - len(_END) + 1)
        self._received += data
        end = self._received.find(_END, searched, HEAD_LIMIT)
        if end < 0:
            if len(self._received) >= HEAD_LIMIT:
                self._fail(
                    HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has {HEAD_LIMIT} bytes at most")
                )
            return
        try:
            head = parse(bytes(self._received[: end + len(_END)]))
        except HeadError as error:
            self._fail(error)
            return
        rest = bytes(self._received[end + len(_END) :])
        self._finish()
        self._transport.pause_reading()
        self._handle(self._transport, head, rest)

    def eof_received(self) -> bool:
        """The peer will say no more."""
        return self._done

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._finish()
        if self._lost is not None:
            self._lost()

    def _too_late(self) -> None:
        self._fail(HeadError(HTTPStatus.REQUEST_TIMEOUT, f"no request came within {HEAD_SECONDS:g} s"))

    def _fail(self, error: HeadError) -> None:
        assert self._transport is not None
        self._finish()
        self._refuse(self._transport, error)

    def _finish(self) -> None:
        self._done = True
        self._received.clear()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
