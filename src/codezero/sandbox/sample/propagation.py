"""Carries the headers that choose variants from a request to the requests made because of it.

Which variant answers is decided per hop by headers, so every service between the caller and the variant must pass them on: `x-c6o-*`, W3C
`baggage`, and the trace context (`traceparent`, `tracestate`). `PropagationMiddleware` keeps those of the current request; a client made by
`propagating_client` adds them to each request it sends meanwhile. Both may be used by any ASGI application.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "x-c6o-"
NAMES = frozenset({"baggage", "traceparent", "tracestate"})

Headers = tuple[tuple[str, str], ...]

_carried: ContextVar[Headers] = ContextVar("carried_headers", default=())


def to_carry(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Those of `headers` that the next hop must see, names in lower case.

    A header that came several times is joined to one (RFC 9110, 5.3); several `traceparent` are none (W3C Trace Context, 3.2).
    """
    values: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name.startswith(PREFIX) or name in NAMES:
            values.setdefault(name, []).append(raw_value.decode("latin-1"))
    if len(values.get("traceparent", [])) > 1:
        del values["traceparent"]
    return tuple((name, ", ".join(lines)) for name, lines in values.items())


def carried_headers() -> Headers:
    """The headers that requests made for the current one have to carry; none outside a request."""
    return _carried.get()


class PropagationMiddleware:
    """Keeps the headers to carry for as long as the application handles a request or a WebSocket."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle one connection of the ASGI server."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        token = _carried.set(to_carry(scope["headers"]))
        try:
            await self._app(scope, receive, send)
        finally:
            _carried.reset(token)


def propagating_client(*, timeout: float = 5.0) -> httpx2.AsyncClient:
    """An HTTP client that adds the carried headers to its requests, save those the caller sets itself; the caller closes it."""
    return httpx2.AsyncClient(timeout=timeout, event_hooks={"request": [add_carried_headers]})


async def add_carried_headers(request: httpx2.Request) -> None:
    """Add the carried headers to `request`: a request hook for clients made elsewhere."""
    missing = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in carried_headers()
        if name not in request.headers
    ]
    request.headers.update(httpx2.Headers(missing))
