"""The outermost layer of the local API: who asks, and whether the request has the one form we take (security.md 5).

Decided on the connection and on the raw scope, before any routing and before a body is read. A web page cannot speak to a UNIX socket; whatever makes
a request look like one of a browser comes from something that forwards to us, and is refused.
"""

import asyncio
import re
import socket
import struct
from typing import cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codezero.kit import logs
from codezero.kit.http_connection import BoundedConnection
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json
from codezero.wire.local_api import HOST, MAX_BODY

MAX_CONNECTIONS = 64
BODY_SECONDS = 30.0

SECURITY_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

_METHODS = frozenset({"GET", "PUT", "POST", "DELETE"})
_METHODS_WITH_BODY = frozenset({"PUT", "POST"})
_TARGET = re.compile(rb"/[a-z0-9/-]{1,100}")
_LENGTH = re.compile(rb"[0-9]{1,12}")
# Only browsers send them, or proxies between a browser and us.
_FOREIGN = frozenset(
    {b"origin", b"referer", b"x-forwarded-for", b"x-forwarded-host", b"forwarded", b"cookie", b"upgrade"}
)
_UNKNOWN_USER = -1

_log = logs.get_logger("api")


class PeerProtocol(BoundedConnection):
    """HTTP/1.1 that knows the user id of the peer (`state["peer_user"]`)."""

    max_connections = MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A program has connected."""
        self.app_state = {**self.app_state, "peer_user": _user_of(transport.get_extra_info("socket"))}
        super().connection_made(transport)


class Guard:
    """An ASGI application around `app` that lets through requests of the owner and of root, in our one form."""

    def __init__(self, app: ASGIApp, *, owner: int) -> None:
        self._app = app
        self._users = frozenset({owner, 0})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        try:
            self._check(scope)
        except CodezeroError as error:
            _log.warning("request refused", user=_peer_user(scope), reason=error.detail)
            await send_problem(error, send)
            return
        await self._app(scope, _Body(receive).receive, _with_headers(send))

    def _check(self, scope: Scope) -> None:
        if scope["type"] != "http":
            raise _bad("only HTTP requests are taken")
        user = _peer_user(scope)
        if user not in self._users:
            raise CodezeroError(
                problems.NOT_YOURS,
                f"this Daemon belongs to another user than you (user id {user})",
                fix="ask its user, or use sudo",
            )
        method: str = scope["method"]
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if method not in _METHODS:
            raise _bad(f"method {method[:20]!r} is not one of {', '.join(sorted(_METHODS))}")
        if not _TARGET.fullmatch(scope["raw_path"]) or scope["query_string"]:
            raise _bad("the target is not a plain path")
        if [value for name, value in headers if name == b"host"] != [HOST.encode()]:
            raise _bad(f"the Host is not {HOST}")
        for name, _ in headers:
            if name in _FOREIGN or name.startswith((b"sec-", b"access-control-")):
                raise _bad(f"the header {name.decode('latin-1')} has no place here: this API is not for web pages")
        _check_body(method, headers)


def _check_body(method: str, headers: list[tuple[bytes, bytes]]) -> None:
    values = {
        wanted: [value for name, value in headers if name == wanted]
        for wanted in (b"content-length", b"content-type", b"transfer-encoding", b"content-encoding")
    }
    if values[b"transfer-encoding"] or values[b"content-encoding"]:
        raise _bad("a body is sent as it is, with its length")
    lengths = values[b"content-length"] or [b"0"]
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise _bad("the content length is not a number")
    length = int(lengths[0])
    if length > MAX_BODY:
        raise CodezeroError(problems.TOO_LARGE, f"a body of {length} bytes; at most {MAX_BODY} are taken")
    if length and method not in _METHODS_WITH_BODY:
        raise _bad(f"a {method} has no body")
    if length and values[b"content-type"] != [b"application/json"]:
        raise _bad("the content type of the body is not application/json")


async def send_problem(error: CodezeroError, send: Send) -> None:
    """Answer with the problem, and end the connection."""
    content = problem_json.encode(error)
    headers = [
        (b"content-type", problem_json.CONTENT_TYPE.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": error.problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class _Body:
    """A request's body, bounded in size and time. What comes after it (the client's leaving) may take as long as it likes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        self._size = 0
        self._is_complete = False

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise CodezeroError(problems.TIMED_OUT, f"the body did not come within {BODY_SECONDS:g} s") from None
        self._size += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._size > MAX_BODY:
            raise CodezeroError(problems.TOO_LARGE, f"the body has more than {MAX_BODY} bytes")
        return message


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
        await send(message)

    return send_with_headers


def _peer_user(scope: Scope) -> int:
    return cast("int", scope.get("state", {}).get("peer_user", _UNKNOWN_USER))


def _user_of(connection: socket.socket | None) -> int:
    """The user id at the other end of a UNIX socket, as of its connecting. Source: unix(7), SO_PEERCRED."""
    if connection is None or connection.family != socket.AF_UNIX:
        return _UNKNOWN_USER
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _process, user, _group = struct.unpack("3i", packed)
    return user


def _bad(detail: str) -> CodezeroError:
    return CodezeroError(problems.BAD_REQUEST, detail)
