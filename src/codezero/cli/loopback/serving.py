"""A port for pages: HTTP/1.1 and WebSockets by uvicorn's protocols, on loopback, for the programs of one user."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncGenerator
from typing import Final, cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from codezero.cli.loopback import peers
from codezero.kit.http_connection import MAX_HEAD, BoundedConnection, end_all
from codezero.model import problems
from codezero.model.problems import CodezeroError

ADDRESS: Final = "127.0.0.1"
MAX_CONNECTIONS: Final = 64
# Programs of other users are let connect up to so many connections in all.
MOST_OF_OTHERS: Final = 8
CLOSE_SECONDS: Final = 1.0  # for answers under way at the end


class _Connection(BoundedConnection):
    """Knows the user of whoever has connected (`state["peer_user"]`)."""

    max_connections = MAX_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A program has connected."""
        user = peers.user_of(transport.get_extra_info("socket"))
        self.app_state = {**self.app_state, "peer_user": user}
        super().connection_made(transport)
        is_own = user is None or user in cast("frozenset[int]", self.app_state["users"])
        if not is_own and len(self.connections) > MOST_OF_OTHERS:
            # They are told why they are refused, as long as that takes no room from the page; not even until the loop has closed this one.
            self.connections.discard(self)
            transport.abort()


def bind(port: int) -> socket.socket:
    """A socket on loopback, port 0 for any; raises `CodezeroError` (BAD_REQUEST) where it cannot be had."""
    try:
        return socket.create_server((ADDRESS, port))
    except OSError as error:
        raise CodezeroError(
            problems.BAD_REQUEST, f"port {port} cannot be had: {error.strerror}", fix="czctl ui, which takes a free one"
        ) from None


@contextlib.asynccontextmanager
async def serve(
    app: ASGIApp, listener: socket.socket, *, users: frozenset[int], max_message: int
) -> AsyncGenerator[None]:
    """Answer on a bound socket, which is owned, for as long as the block lasts; `users` are those whose programs it is for, `max_message` bounds what a WebSocket says."""
    config = Config(
        app,
        http=_Connection,
        ws=WebSocketsSansIOProtocol,
        lifespan="off",
        log_config=None,
        # Its lines would show what is asked, and stand between what people read.
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD,
        ws_max_size=max_message,
        ws_per_message_deflate=False,
    )
    config.load()
    state = ServerState()
    listener.setblocking(False)
    server = await asyncio.get_running_loop().create_server(
        functools.partial(_Connection, config, state, {"users": users}), sock=listener
    )
    try:
        yield
    finally:
        await end_all(server, state, seconds=CLOSE_SECONDS)
        for connection in tuple(state.connections):
            connection.transport.abort()
