"""The API server itself: TLS, connections, start and stop."""

import asyncio
import functools
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from codezero.sandbox.api.application import Application, PodLogs
from codezero.sandbox.api.authentication import Tokens
from codezero.sandbox.api.exchange import CONNECTION, Receive, Send
from codezero.sandbox.api.faults import Faults, Requests
from codezero.sandbox.api.rbac import User
from codezero.sandbox.api.store import Store
from codezero.sandbox.api.streams import BOOKMARK_SECONDS

_STOP_SECONDS = 2.0


class ApiServer:
    """Serves a store as a Kubernetes API over TLS.

    `tls` should ask for client certificates without demanding them (`kit.certificates.server_context(..., client_roots=…, require_client=False)`):
    the common name becomes the user, organizations the groups; `system:masters` may do everything. `tokens` are further bearer tokens and whom
    they stand for. `pod_logs` serves `kubectl logs`.
    """

    def __init__(
        self,
        store: Store,
        *,
        tls: ssl.SSLContext,
        tokens: Mapping[str, User] | None = None,
        pod_logs: PodLogs | None = None,
        bookmark_seconds: float = BOOKMARK_SECONDS,
    ) -> None:
        self._tls = tls
        self.tokens = Tokens(store, tokens or {})
        self._application = Application(store, self.tokens, pod_logs=pod_logs, bookmark_seconds=bookmark_seconds)

    @property
    def faults(self) -> Faults:
        """The fault switch."""
        return self._application.faults

    @property
    def requests(self) -> Requests:
        """The request counter."""
        return self._application.requests

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncGenerator[int]:
        """Serve while the block runs; gives the port (useful with port 0). Leaving ends all connections."""
        config = uvicorn.Config(
            self._application,
            http=_ClientConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=True,
        )
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            functools.partial(_ClientConnection, config, state, {}), host, port, ssl=self._tls, backlog=1024
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await _end_connections(state)

    async def serve(self, host: str, port: int) -> None:
        """Serve until cancelled."""
        async with self.listening(host, port):
            await asyncio.Event().wait()


async def _end_connections(state: ServerState) -> None:
    for task in tuple(state.tasks):
        task.cancel()
    lost = [connection.lost.wait() for connection in state.connections if isinstance(connection, _ClientConnection)]
    for connection in tuple(state.connections):
        connection.transport.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await asyncio.gather(*lost)
    except TimeoutError:
        for connection in tuple(state.connections):
            connection.transport.abort()


class _ClientConnection(H11Protocol):
    """A connection that requests can ask about: who is at the other end, and is it still there."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.certificate: bytes | None = None
        self.lost = asyncio.Event()
        self._callbacks: dict[object, Callable[[], None]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        session: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self.certificate = session.getpeercert(binary_form=True) if session is not None else None
        application: Any = self.app

        async def with_connection(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            await application({**scope, CONNECTION: self}, receive, send)

        self.app = with_connection  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
        for callback in tuple(self._callbacks.values()):
            callback()

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the connection ends; the result takes that back."""
        key = object()
        self._callbacks[key] = callback

        def end() -> None:
            self._callbacks.pop(key, None)

        return end
