"""The outermost layer of the console: whether a request comes from its own page in its user's browser, decided on the raw scope before any routing (security.md 5).

Pages of other origins can make a browser send requests to loopback, by their own name after a rebinding (T01) or across origins (T36); programs of other
users of the machine can connect. Each check stands alone: no answer of any kind is given to a request that fails one of them.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from codezero.cli import errors
from codezero.cli.console import say
from codezero.cli.ui.asking import JSON, Asked, send_problem
from codezero.cli.ui.entry import Entry
from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_BODY: Final = 1024 * 1024
BODY_SECONDS: Final = 30.0
MAX_PATH: Final = 2048
MAX_QUERY: Final = 4096

SESSION_PATH: Final = "/console/session"
CSRF: Final = "x-codezero-csrf"
CSRF_VALUE: Final = "console"

_APIS: Final = (b"/agent/", b"/api/", b"/console/")
_READING: Final = frozenset({"GET", "HEAD"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_TARGET: Final = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)+")
_QUERY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
# What two readers may read in two ways, where a path is passed on: escapes that hide a separator, a dot or a NUL, and segments that go up.
_AMBIGUOUS: Final = re.compile(rb"%(?:2[fFeE]|5[cC]|00|25)|//|/\.{1,2}(?:/|$)")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
# Of whatever stands between a browser and us: nothing should.
_FORWARDED: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
_ONCE: Final = frozenset(
    {"host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "content-length", "content-type", CSRF}
)

_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

Application = Callable[[Asked], Awaitable[None]]


class Guard:
    """An ASGI application that gives `pages` and `streams` (WebSockets) what comes from the page at `http://127.0.0.1:<port>`, and from nobody else.

    `users` are the ids of those whose programs may connect; what cannot be told of a connection (`None`) is not held against it.
    """

    def __init__(
        self, pages: Application, streams: Application, *, port: int, entry: Entry, users: frozenset[int]
    ) -> None:
        self._pages = pages
        self._streams = streams
        self._host = f"127.0.0.1:{port}"
        self._origin = f"http://{self._host}"
        self._entry = entry
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on; the edge of each request."""
        is_websocket = scope["type"] == "websocket"
        sending = _Sending(send)
        try:
            headers = self._check(scope)
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            asked = Asked(
                "GET" if is_websocket else scope["method"],
                scope["raw_path"].decode("ascii"),
                target.decode("ascii"),
                headers,
                b"" if is_websocket else await _body(receive),
                receive,
                sending.send,
            )
            await (self._streams if is_websocket else self._pages)(asked)
        except CodezeroError as error:
            await sending.problem(error, is_websocket=is_websocket)
        except _GoneError:
            return
        except Exception as error:  # noqa: BLE001 - the edge of one request
            told = errors.from_defect(error)
            say(f"a request failed: {told.detail}; {told.fix or ''}")
            await sending.problem(
                CodezeroError(problems.INTERNAL, "the request failed; the terminal of `czctl ui` says more"),
                is_websocket=is_websocket,
            )

    def _check(self, scope: Scope) -> Mapping[str, str]:
        """The headers of a request that is let in; raises `CodezeroError`."""
        is_websocket = scope["type"] == "websocket"
        user = scope.get("state", {}).get("peer_user")
        if user is not None and user not in self._users:
            raise _foreign(f"this console belongs to another user than whoever asks (user id {user})")
        method = "GET" if is_websocket else scope["method"]
        if method not in _METHODS:
            raise CodezeroError(problems.METHOD_UNKNOWN, f"there is no method {method[:20]!r} here")
        path: bytes = scope["raw_path"]
        is_api = path.startswith(_APIS)
        _check_target(path, scope["query_string"], is_api=is_api)
        headers = _headers(scope["headers"])
        if headers.get("host") != self._host:
            raise _foreign(f"the Host of the request is not {self._host}")
        origin = headers.get("origin")
        if origin != self._origin and (origin is not None or is_websocket):
            raise _foreign("the request comes from a page of another origin")
        for name in _FORWARDED & headers.keys():
            raise _foreign(f"the header {name} has no place here: nothing stands between the browser and this console")
        text = path.decode("ascii")
        if not is_websocket:
            _check_fetch(headers, is_api=is_api)
            _check_body(method, headers)
            if not is_api:
                if method not in _READING:
                    raise CodezeroError(problems.METHOD_UNKNOWN, f"{text[:100]} is only read")
                return headers
            if headers.get(CSRF) != CSRF_VALUE:
                raise _foreign(f"the header {CSRF} is missing, which only the console's own page can send")
        if text != SESSION_PATH:
            self._entry.check(headers.get("cookie", ""))
        return headers


class _GoneError(Exception):
    """Whoever asked left before all of the request was there."""


class _Sending:
    """ASGI's `send` with our headers; knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            self._has_begun = True
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            names = {name for name, _ in given}
            given += [(name, value) for name, value in _HEADERS if name not in names]
            message = {**message, "headers": given}
        await self._send(message)

    async def problem(self, error: CodezeroError, *, is_websocket: bool) -> None:
        if not self._has_begun:
            await send_problem(error, self.send, is_websocket=is_websocket)
        elif not is_websocket:
            # What was begun cannot be taken back: the page sees that the answer is cut, and not that it has ended.
            raise error


def _headers(given: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in given):
        if name in found and name in _ONCE:
            raise CodezeroError(problems.BAD_REQUEST, f"the header {name} is given twice")
        found[name] = f"{found[name]}; {value}" if name in found else value
    return found


def _check_target(path: bytes, query: bytes, *, is_api: bool) -> None:
    if len(path) > MAX_PATH or not path.startswith(b"/"):
        raise CodezeroError(problems.BAD_REQUEST, "the target of the request is no path")
    if not is_api:
        # An address within the GUI, which its own page makes sense of.
        return
    if not _TARGET.fullmatch(path) or _AMBIGUOUS.search(path):
        raise CodezeroError(problems.BAD_REQUEST, "the path of the request is not one of ours")
    if len(query) > MAX_QUERY or not _QUERY.fullmatch(query) or b"%00" in query:
        raise CodezeroError(
            problems.BAD_REQUEST, "the query of the request is too long, or has characters without escapes"
        )


def _check_fetch(headers: Mapping[str, str], *, is_api: bool) -> None:
    """What browsers say about why they ask. WebSockets say it in different ways, and always name their origin."""
    site = headers.get("sec-fetch-site", "same-origin")
    if site == "same-origin":
        return
    if not is_api:
        # An address typed; or a link, such as the file that `czctl ui` opens: a page of its own, which holds no secret and cannot be framed.
        is_page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
        if site == "none" or is_page:
            return
    raise _foreign(f"the request comes from another site (Sec-Fetch-Site: {site[:40]})")


def _check_body(method: str, headers: Mapping[str, str]) -> None:
    if "transfer-encoding" in headers or "content-encoding" in headers:
        raise CodezeroError(problems.BAD_REQUEST, "a body is sent as it is, with its length")
    text = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(text.encode("latin-1")):
        raise CodezeroError(problems.BAD_REQUEST, "the content length is not a number")
    length = int(text)
    if length > MAX_BODY:
        raise CodezeroError(problems.TOO_LARGE, f"a body of {length} bytes; at most {MAX_BODY} are taken")
    if length and method in _READING:
        raise CodezeroError(problems.BAD_REQUEST, f"a {method} has no body")
    if length and headers.get("content-type") != JSON:
        raise CodezeroError(problems.BAD_REQUEST, f"the content type of the body is not {JSON}")


async def _body(receive: Receive) -> bytes:
    """The whole body; its length was looked at before, and HTTP lets no more come."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneError
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise CodezeroError(problems.TIMED_OUT, f"the body did not come within {BODY_SECONDS:g} s") from None


def _foreign(detail: str) -> CodezeroError:
    return CodezeroError(
        problems.CONSOLE_FOREIGN, detail, fix="open the address that czctl ui printed, on this machine: czctl ui"
    )
