"""The outermost layer of the Hub's port: whether it is ready, who may bring requests, how long a body takes, and one line of log for each.

What a request looks like is judged by the API's guard, behind it. No line holds a query, a body or a header: there may be secrets in all of them.
"""

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from ipaddress import IPv4Network, IPv6Network
from typing import Final, cast

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from codezero.kit import logs
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

BODY_SECONDS: Final = 30.0
_UNMATCHED: Final = "(none)"

_log = logs.get_logger("requests")


class Readiness:
    """Why the Hub cannot answer at the moment; None when it can."""

    def __init__(self) -> None:
        self.reason: str | None = "starting"


class Counters:
    """Requests by what they asked for and how they ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "codezero_hub_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "codezero_hub_request_seconds", "How long answers took", ["method", "route"], registry=registry
        )

    def count(self, scope: Scope, *, status: int, seconds: float) -> None:
        """A request has ended. Only routes are told, never what stood in their places."""
        method, route = _method(scope), _route(scope)
        self._requests.labels(method, route, str(status)).inc()
        if scope["type"] == "http":
            self._seconds.labels(method, route).observe(seconds)


@dataclass(frozen=True, slots=True)
class Openness:
    """Who may ask: a port without TLS is for loopback and `proxies` alone."""

    proxies: Sequence[IPv4Network | IPv6Network]
    has_tls: bool

    def check(self, scope: Scope) -> None:
        """Raise `CodezeroError` (FORBIDDEN) for a request that is not to be answered."""
        if not self.has_tls and not self._is_near(_address(scope)):
            raise CodezeroError(
                problems.FORBIDDEN, "the Hub has no TLS here, and this address is none of its trusted proxies"
            )

    def _is_near(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return found.is_loopback or any(found in network for network in self.proxies)


class Door:
    """An ASGI application around `app`."""

    def __init__(self, app: ASGIApp, *, openness: Openness, readiness: Readiness, counters: Counters) -> None:
        self._app = app
        if openness.proxies:
            trusted = [str(network) for network in openness.proxies]
            self._app = cast("ASGIApp", ProxyHeadersMiddleware(cast("object", app), trusted_hosts=trusted))  # type: ignore[arg-type]
        self._openness = openness
        self._readiness = readiness
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "http" and scope["path"] in {"/healthz", "/readyz"}:
            await self._probed(scope, send)
            return
        began = time.monotonic()
        answer = _Answer(send)
        try:
            self._openness.check(scope)
            waiting = receive if scope["type"] == "websocket" else _Body(receive).receive
            await self._app(scope, waiting, answer.send)
        except CodezeroError as error:
            await answer.problem(scope, error)
        except Exception as error:  # noqa: BLE001 - the edge of one request
            _log.error("request failed", method=_method(scope), route=_route(scope), exc_info=error)
            await answer.problem(scope, CodezeroError(problems.INTERNAL, "the request failed; see the Hub's log"))
        finally:
            seconds = time.monotonic() - began
            self._counters.count(scope, status=answer.status, seconds=seconds)
            _log.info(
                "answered",
                method=_method(scope),
                route=_route(scope),
                status=answer.status,
                seconds=round(seconds, 4),
                address=_address(scope),
                request=scope.get("state", {}).get("request_id"),
            )

    async def _probed(self, scope: Scope, send: Send) -> None:
        reason = self._readiness.reason if scope["path"] == "/readyz" else None
        content = f"{reason or 'ok'}\n".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 503 if reason else 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class _Answer:
    """What is answered, watched on its way out. `status` is 499 where whoever asked was gone before there was an answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_accepted = False
        self.status = 499

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                # By it whoever asks knows whether their clock is right, which certificates and proofs depend on.
                date = (b"date", formatdate(usegmt=True).encode())
                message = {**message, "headers": [*message.get("headers", ()), date]}
            case "websocket.accept":
                self._is_accepted = True
                self.status = 101
            case "websocket.close":
                self.status = self.status if self._is_accepted else 403
            case _:
                pass
        await self._send(message)

    async def problem(self, scope: Scope, error: CodezeroError) -> None:
        if scope["type"] == "websocket":
            if self._is_accepted or self.status == 499:
                await self.send({"type": "websocket.close", "code": 1011 if self._is_accepted else 1008})
            return
        if self.status != 499:
            # The head has gone out, so all that can be told is that the rest does not come.
            raise ConnectionAbortedError
        content = problem_json.encode(error)
        headers = [
            (b"content-type", problem_json.CONTENT_TYPE.encode()),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await self.send({"type": "http.response.start", "status": error.problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": content})


class _Body:
    """A request's body, bounded in time. What comes after it (that the client leaves) may take as long as it likes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise CodezeroError(problems.TIMED_OUT, f"the body did not come within {BODY_SECONDS:g} s") from None
        self._is_complete = not message.get("more_body", False)
        return message


def _method(scope: Scope) -> str:
    method: str = scope.get("method", "WEBSOCKET")
    return method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"} else "OTHER"


def _route(scope: Scope) -> str:
    """The path as the route was written, with names instead of ids; whoever asks decides about everything else."""
    return getattr(scope.get("route"), "path", None) or _UNMATCHED


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
