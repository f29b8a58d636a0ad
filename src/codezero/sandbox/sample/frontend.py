"""`frontend`: the page, and the way from the browser to `core` (`/api`) and `sockets` (`/sockets`)."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from codezero.kit.tasks import task_group
from codezero.sandbox.sample.propagation import PropagationMiddleware, carried_headers, propagating_client
from codezero.sandbox.sample.serving import MAX_MESSAGE, Listener, health_routes, main, plain_listener
from codezero.sandbox.sample.settings import Settings

PAGE = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # The page may ask the cluster by name instead (`?l=1`), from a laptop that consumes it.
    "connect-src 'self' http://sample-project-core.sample-project:3000 ws://sample-project-sockets.sample-project:8999"
)
# RFC 9110, 7.6.1, and those about one connection or body, or set anew by this server.
NOT_FORWARDED = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding upgrade host content-length date".split()
)
TRY_AGAIN_LATER = 1013

RawHeaders = list[tuple[bytes, bytes]]


def make(settings: Settings) -> tuple[Starlette, Sequence[Listener]]:
    """The application and where it listens."""
    app = Starlette(
        routes=[
            Route("/api", api),
            WebSocketRoute("/sockets", sockets),
            *health_routes(),
            Mount("/", _Page(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(PropagationMiddleware)],
        lifespan=_client,
    )
    app.state.settings = settings
    return app, [plain_listener(settings)]


async def api(request: Request) -> Response:
    """What `core` answers, passed on as it comes."""
    client: httpx2.AsyncClient = request.app.state.client
    settings: Settings = request.app.state.settings
    asked = client.build_request("GET", f"{settings.core_url}/api", headers=_forwarded(request.headers.raw))
    try:
        answer = await client.send(asked, stream=True)
    except httpx2.HTTPError as failure:
        return JSONResponse({"error": f"core did not answer: {failure or type(failure).__name__}"}, status_code=502)
    response = StreamingResponse(answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose))
    response.raw_headers = _forwarded(answer.headers.raw)
    return response


async def sockets(websocket: WebSocket) -> None:
    """Joins the browser's WebSocket to one of `sockets`, both ways, until either end closes."""
    settings: Settings = websocket.app.state.settings
    await websocket.accept()
    try:
        async with (
            connect(
                f"{settings.sockets_url}/sockets",
                additional_headers=carried_headers(),
                max_size=MAX_MESSAGE,
                open_timeout=5,
                close_timeout=1,
                proxy=None,
            ) as upstream,
            task_group("sockets") as tasks,
        ):
            down = tasks.start("down", _down(upstream, websocket))
            await _up(websocket, upstream)
            down.cancel()
    except (OSError, TimeoutError, InvalidHandshake):
        with suppress(WebSocketDisconnect):
            await websocket.close(TRY_AGAIN_LATER, "sockets did not answer")


async def _up(websocket: WebSocket, upstream: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while (event := await websocket.receive())["type"] != "websocket.disconnect":
            text: str | None = event.get("text")
            await upstream.send(event.get("bytes") or b"" if text is None else text)


async def _down(upstream: ClientConnection, websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        try:
            while True:
                message = await upstream.recv()
                await (websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message))
        except ConnectionClosed:
            await websocket.close(TRY_AGAIN_LATER, "sockets went away")


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    kept = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in kept if name == b"connection" for word in value.split(b",")}
    return [(name, value) for name, value in kept if name not in NOT_FORWARDED and name not in named]


@asynccontextmanager
async def _client(app: Starlette) -> AsyncGenerator[None, None]:
    async with propagating_client(timeout=10) as client:
        app.state.client = client
        yield


class _Page(StaticFiles):
    """The page's files, with headers that let it load nothing else."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 - Starlette's own signature
        response = super().file_response(*args, **kwargs)
        headers = MutableHeaders(raw=response.raw_headers)
        headers["content-security-policy"] = POLICY
        headers["x-content-type-options"] = "nosniff"
        headers["referrer-policy"] = "no-referrer"
        headers["cache-control"] = "no-cache"
        return response


if __name__ == "__main__":
    main("frontend", make)
