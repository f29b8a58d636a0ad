"""The outermost layer of the API: whether a request has the one form we take, decided on the raw scope before any routing (ecosystem.md 3: frameworks were wrong about Host).

It knows nobody and no route. It bounds sizes and numbers (times are bounded by the port), reads JSON more strictly than the library behind it, gives each request an id, and each
answer the headers that keep browsers from doing with it what it is not meant for.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codezero.hub.api.limits import Limits
from codezero.hub.signin.attempts import network
from codezero.kit import logs
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

MAX_BODY: Final = 1024 * 1024
MAX_FORM: Final = 64 * 1024
MAX_QUERY: Final = 4096
MAX_PATH: Final = 2048
MAX_DEPTH: Final = 32

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_TARGET: Final = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)+")
_QUERY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?)(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Of a path: an escaped slash, backslash or NUL means one thing to us and another to whatever stands before us. Of both: a NUL has no place in any text.
_ESCAPES: Final = re.compile(rb"%(?:2[fF]|5[cC]|00)")
_NUL: Final = b"%00"

_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")

_log = logs.get_logger("api")


@dataclass(frozen=True, slots=True)
class _Request:
    """What is known of a request before anybody looks at what it wants."""

    id: str
    address: str
    receive: Receive
    send: Send


class Guard:
    """An ASGI application around `app` that lets in requests for `public_url` alone (and by loopback names, where it is plain HTTP)."""

    def __init__(self, app: ASGIApp, *, public_url: str, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        url = urlsplit(public_url)
        host = (url.hostname or "").lower()
        own = f"[{host}]" if ":" in host else host
        self._hosts = frozenset({own}) if url.scheme == "https" else _LOOPBACK | {own}
        self._headers = (*_HEADERS, _HSTS) if url.scheme == "https" else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request = _Request(new_ulid(), address_of(scope), receive, self._sending(scope, send))
        state = scope.setdefault("state", {})
        state["request_id"] = request.id
        with structlog.contextvars.bound_contextvars(request=request.id):
            try:
                await self._let_in(scope, request)
            except CodezeroError as error:
                _log.debug("request refused", reason=error.detail)
                await send_problem(error, scope, self._with_headers(request.id, send))

    async def _let_in(self, scope: Scope, request: _Request) -> None:
        if seconds := self._limits.address.take(network(request.address)):
            raise TooManyError("this address", seconds)
        self._check_head(scope)
        if scope["type"] == "websocket":
            await self._app(scope, request.receive, self._with_headers(request.id, request.send))
            return
        body = await _body(scope, request.receive)
        receive = _given(body, request.receive)
        await self._app(scope, receive, self._with_headers(request.id, request.send))

    def _check_head(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["type"] == "http" and scope["method"] not in _METHODS:
            raise CodezeroError(problems.METHOD_UNKNOWN, f"there is no method {scope['method'][:20]!r} here")
        hosts = [value for name, value in headers if name == b"host"]
        match = _HOST.fullmatch(hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else None
        if match is None or match[1] not in self._hosts:
            raise CodezeroError(
                problems.BAD_REQUEST,
                "the Host of the request is not this Hub's",
                fix="use the Hub's public URL; whoever runs it sets CODEZERO_HUB_PUBLIC_URL",
            )
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        if len(path) > MAX_PATH or not _TARGET.fullmatch(path) or _ESCAPES.search(path):
            raise CodezeroError(problems.BAD_REQUEST, "the path of the request is not one of ours")
        query: bytes = scope["query_string"]
        if len(query) > MAX_QUERY or not _QUERY.fullmatch(query) or _NUL in query:
            raise CodezeroError(
                problems.BAD_REQUEST, "the query of the request is too long, or has characters without escapes"
            )

    def _sending(self, scope: Scope, send: Send) -> Send:
        address = address_of(scope)

        async def sending(message: Message) -> None:
            # Whoever tries tokens does so more slowly than whoever has one.
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._limits.address.take(network(address), cost=self._limits.refused_cost)
            await send(message)

        return sending

    def _with_headers(self, request_id: str, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                given += [(name, value) for name, value in self._headers if name not in names]
                message = {**message, "headers": [*given, (b"x-request-id", request_id.encode())]}
            await send(message)

        return sending


class TooManyError(CodezeroError):
    """Too many requests; the next one is taken in `seconds`."""

    def __init__(self, whose: str, seconds: float) -> None:
        self.seconds = max(1, int(seconds + 0.999))
        super().__init__(
            problems.TOO_MANY_REQUESTS,
            f"there were too many requests from {whose}",
            fix=f"try again in {self.seconds} s",
        )


def address_of(scope: Scope) -> str:
    """The address a request came from, as the server that runs this says."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def headers_of(error: CodezeroError) -> dict[str, str]:
    """The headers that belong to the answer to `error`."""
    if isinstance(error, TooManyError):
        return {"retry-after": str(error.seconds)}
    match error.problem.status:
        case 401:
            return {"www-authenticate": 'Bearer realm="codezero"'}
        case 429 | 503:
            return {"retry-after": "2"}
        case _:
            return {}


async def send_problem(error: CodezeroError, scope: Scope, send: Send) -> None:
    """Answer with the problem; a WebSocket is refused with it where the server can do that."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.problem.code})
            return
        kind = "websocket.http.response"
    content = problem_json.encode(error)
    headers = {
        "content-type": problem_json.CONTENT_TYPE,
        "content-length": str(len(content)),
        **headers_of(error),
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": error.problem.status, "headers": encoded})
    await send({"type": f"{kind}.body", "body": content})


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, which is small: so that its size and its form are judged in one place."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
        raise CodezeroError(problems.BAD_REQUEST, "a body is sent as it is, not compressed")
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1 or (lengths and not _LENGTH.fullmatch(lengths[0])):
        raise CodezeroError(problems.BAD_REQUEST, "the content length is not a number")
    kinds = [value.split(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
    is_form = b"application/x-www-form-urlencoded" in kinds
    limit = MAX_FORM if is_form else MAX_BODY
    if lengths and int(lengths[0]) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CodezeroError(problems.BAD_REQUEST, "the body ended early")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            break
    body = b"".join(parts)
    if body and any(kind == b"application/json" or kind.endswith(b"+json") for kind in kinds):
        check_json(body)
    return body


def check_json(body: bytes) -> None:
    """Raise `CodezeroError` (BAD_REQUEST) for JSON that two readers could read differently, or that only means to be work: a name given twice, NaN, deep nesting, text that is none."""
    try:
        content = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
        level: list[Any] = [content]
        for _ in range(MAX_DEPTH):
            level = [part for value in level for part in _parts(value)]
            if not level:
                return
    except (ValueError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, _JsonError) else ""
        raise CodezeroError(problems.BAD_REQUEST, f"the body is not the JSON we take{reason}") from None
    raise CodezeroError(problems.BAD_REQUEST, f"the body is nested more than {MAX_DEPTH} levels deep")


class _JsonError(ValueError):
    """What is wrong, without what was sent."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _JsonError("a name is given twice in one object")
    return found


def _no_constant(_: str) -> None:
    raise _JsonError("numbers are finite")


def _parts(value: Any) -> list[Any]:  # noqa: ANN401 - what JSON can be
    match value:
        case dict():
            return [*value.keys(), *value.values()]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType, reportUnknownMemberType]
        case list():
            return value  # pyright: ignore[reportUnknownVariableType]
        case str():
            if "\0" in value or not _is_text(value):
                raise _JsonError("a text holds what is no character")
            return []
        case _:
            return []


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _given(body: bytes, receive: Receive) -> Receive:
    """`receive` of an application whose body is here already."""
    rest = [body]

    async def receiving() -> Message:
        if rest:
            return {"type": "http.request", "body": rest.pop(), "more_body": False}
        return await receive()

    return receiving


def _too_large(limit: int) -> CodezeroError:
    return CodezeroError(problems.TOO_LARGE, f"the body has more than {limit} bytes")
