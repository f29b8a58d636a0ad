"""The local API over its UNIX socket: endpoints of `wire.local_api` on Starlette, behind the guard, served by uvicorn's HTTP/1.1 protocol.

uvicorn's own server is left out: it would poll, catch signals, and open the socket to everybody.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from codezero.kit import logs
from codezero.kit.http_connection import MAX_HEAD, end_all
from codezero.local.daemon.events import Events, Listener
from codezero.local.daemon.guard import Guard, PeerProtocol, send_problem
from codezero.local.daemon.traces import Reader, Traces
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import access_file
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.local_api import (
    ActivityView,
    ConsumeChange,
    ConsumeView,
    PresenceView,
    PrimaryNamespaceChange,
    ServeChange,
    ServeEnd,
    ServeResult,
    ServesView,
    ServicesView,
    StatusView,
)

T = TypeVar("T")
BACKLOG = 128
CLOSE_SECONDS = 1.0  # for answers under way when the Daemon ends
_log = logs.get_logger("api")


class Agent(Protocol):
    """What the API speaks for. Each raises `CodezeroError`."""

    events: Events
    traces: Traces

    def status(self) -> StatusView:
        """How everything is."""
        ...

    async def select_teamspace(self, access: TeamspaceAccess) -> None:
        """Connect to that Teamspace instead of the one before."""
        ...

    async def forget_teamspace(self) -> None:
        """Leave the Teamspace."""
        ...

    def services(self) -> ServicesView:
        """The catalog."""
        ...

    def consume(self) -> ConsumeView:
        """The rules and what they let in."""
        ...

    async def change_consume(self, change: ConsumeChange) -> ConsumeView:
        """Change the rules; what they let in is in place when this returns, unless it takes long."""
        ...

    def test_consume(self, change: ConsumeChange) -> ConsumeView:
        """What a change would let in."""
        ...

    async def select_primary_namespace(self, namespace: str | None) -> ConsumeView:
        """Choose whose services answer to bare names."""
        ...

    def serves(self) -> ServesView:
        """What this laptop serves."""
        ...

    async def serve(self, change: ServeChange) -> ServeResult:
        """Serve a service, or tell what that would do; the variant answers when this returns, unless it takes long."""
        ...

    async def end_serve(self, change: ServeEnd) -> ServeResult:
        """End variants of a service."""
        ...

    async def reset(self) -> ConsumeView:
        """End everything the user consumes and serves."""
        ...

    def presence(self) -> PresenceView:
        """Who is connected."""
        ...

    def activity(self) -> ActivityView:
        """What happened."""
        ...

    async def shut_down(self) -> None:
        """Stop, and put the machine back."""
        ...


def application(agent: Agent, *, owner: int) -> ASGIApp:
    """The whole API of `agent` as an ASGI application, for requests of user id `owner` and of root."""

    async def status(_request: Request) -> Response:
        return _json(agent.status())

    async def select_teamspace(request: Request) -> Response:
        await agent.select_teamspace(access_file.decode(await request.body()))
        return _json(agent.status())

    async def forget_teamspace(_request: Request) -> Response:
        await agent.forget_teamspace()
        return _json(agent.status())

    async def services(_request: Request) -> Response:
        return _json(agent.services())

    async def consume(_request: Request) -> Response:
        return _json(agent.consume())

    async def change_consume(request: Request) -> Response:
        return _json(await agent.change_consume(_decoded(await request.body(), ConsumeChange)))

    async def test_consume(request: Request) -> Response:
        return _json(agent.test_consume(_decoded(await request.body(), ConsumeChange)))

    async def primary_namespace(request: Request) -> Response:
        change = _decoded(await request.body(), PrimaryNamespaceChange)
        return _json(await agent.select_primary_namespace(change.namespace))

    async def presence(_request: Request) -> Response:
        return _json(agent.presence())

    async def activity(_request: Request) -> Response:
        return _json(agent.activity())

    async def events(_request: Request) -> Response:
        return StreamingResponse(_lines(agent.events, agent.events.listen()), media_type="application/x-ndjson")

    async def serves(_request: Request) -> Response:
        return _json(agent.serves())

    async def serve(request: Request) -> Response:
        return _json(await agent.serve(_decoded(await request.body(), ServeChange)))

    async def end_serve(request: Request) -> Response:
        return _json(await agent.end_serve(_decoded(await request.body(), ServeEnd)))

    async def traces(_request: Request) -> Response:
        return StreamingResponse(_traces(agent.traces, agent.traces.read()), media_type="application/x-ndjson")

    async def reset(_request: Request) -> Response:
        return _json(await agent.reset())

    async def shut_down(_request: Request) -> Response:
        # Answered first: afterwards nobody is left to answer.
        return _json(agent.status(), background=BackgroundTask(agent.shut_down))

    routes = [
        _route("/v1/status", GET=status),
        _route("/v1/teamspace", PUT=select_teamspace, DELETE=forget_teamspace),
        _route("/v1/services", GET=services),
        _route("/v1/consume", GET=consume, PUT=change_consume),
        _route("/v1/consume/test", POST=test_consume),
        _route("/v1/primary-namespace", PUT=primary_namespace),
        _route("/v1/serve", GET=serves, POST=serve),
        _route("/v1/serve/end", POST=end_serve),
        _route("/v1/traces", GET=traces),
        _route("/v1/presence", GET=presence),
        _route("/v1/activity", GET=activity),
        _route("/v1/events", GET=events),
        _route("/v1/reset", POST=reset),
        _route("/v1/shutdown", POST=shut_down),
    ]
    return Guard(_Answering(Router(routes, redirect_slashes=False)), owner=owner)


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, listener: socket.socket) -> AsyncGenerator[None, None]:
    """Answer on a bound UNIX socket for as long as the block lasts."""
    config = Config(
        app,
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    server = await loop.create_unix_server(
        lambda: PeerProtocol(config, state, {}, loop), sock=listener, backlog=BACKLOG
    )
    try:
        yield
    finally:
        await end_all(server, state, seconds=CLOSE_SECONDS)


Endpoint = Callable[[Request], Awaitable[Response]]


def _route(path: str, **methods: Endpoint) -> Route:
    async def endpoint(request: Request) -> Response:
        handler = methods.get(request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            raise CodezeroError(problems.BAD_REQUEST, f"{path} takes {allowed}, not {request.method}")
        return await handler(request)

    return Route(path, endpoint, methods=["GET", "PUT", "POST", "DELETE"])


class _Answering:
    """Turns what endpoints raise into problem documents; the edge of each request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return
        except HTTPException:
            await send_problem(CodezeroError(problems.NOT_FOUND, f"there is nothing at {scope['path']}"), send)
        except CodezeroError as error:
            await send_problem(error, send)
        except Exception as error:  # noqa: BLE001 - the edge of one request
            _log.error("request failed", path=scope["path"], exc_info=error)
            await send_problem(CodezeroError(problems.INTERNAL, "the request failed; see the Daemon's log"), send)


def _json(value: object, *, background: BackgroundTask | None = None) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", background=background)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodezeroError(problems.BAD_REQUEST, f"the body cannot be read: {error}") from None


async def _lines(events: Events, listener: Listener) -> AsyncGenerator[bytes, None]:
    try:
        while (event := await listener.next()) is not None:
            yield msgspec.json.encode(event) + b"\n"
    finally:
        events.forget(listener)


async def _traces(traces: Traces, reader: Reader) -> AsyncGenerator[bytes, None]:
    try:
        while (line := await reader.next()) is not None:
            yield msgspec.json.encode(line) + b"\n"
    finally:
        traces.forget(reader)
