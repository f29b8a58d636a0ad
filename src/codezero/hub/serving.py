"""The Hub's port: HTTP/1.1 and WebSockets by uvicorn's protocols, on a socket bound here, over our own TLS 1.3 or behind a proxy that is trusted.

uvicorn's server is left out: it knows no deadline for a head, no limit for strangers, and no certificate that changes.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from codezero.kit import logs
from codezero.kit.http_connection import MAX_HEAD, BoundedConnection, end_all
from codezero.kit.mounted import MountedFiles
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport import tls
from codezero.transport.tls import TlsConnection, TlsListener
from codezero.wire import paired
from codezero.wire.hub_channel import CHANNEL_PATH_END, MAX_MESSAGE

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

# Each Teamspace and each page that looks holds one.
MAX_CONNECTIONS: Final = 4096
# Requests under way when the Hub is told to end.
STOP_SECONDS: Final = 10.0
# What a stranger may send into a WebSocket before it is looked at; the channel of a Teamspace, which is opened by a proof, takes whole catalogs.
_MAX_STRANGERS_MESSAGE: Final = 8192
_KEEP_ALIVE_SECONDS: Final = 30

_log = logs.get_logger("port")


class Port:
    """Takes connections of a bound socket for as long as `open` lasts."""

    def __init__(self, app: ASGIApp) -> None:
        # Its own log lines would show queries; what it has to say is said by the door.
        config = Config(
            app,
            http=_Connection,
            ws=_WebSocket,
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            ws_max_size=_MAX_STRANGERS_MESSAGE,
            # Strangers could send what grows when it is unpacked.
            ws_per_message_deflate=False,
        )
        config.load()
        self._state = ServerState()
        self._connection = functools.partial(_Connection, config, self._state, {})

    @property
    def connections(self) -> int:
        """Connections that stand, WebSockets among them."""
        return len(self._state.connections)

    @asynccontextmanager
    async def open(
        self, sock: socket.socket, *, certificate_file: Path | None, key_file: Path | None
    ) -> AsyncGenerator[None]:
        """Take connections while in the block; owns the socket. Leaving it lets requests under way end, and tells WebSockets to come again.

        Raises `CodezeroError` (BAD_REQUEST) where the certificate cannot be used at the start; one that goes bad later leaves the one before in use.
        """
        if certificate_file is None or key_file is None:
            server = await asyncio.get_running_loop().create_server(self._connection, sock=sock, backlog=1024)
            try:
                yield
            finally:
                await self._end(server)
            return
        handlers = {"http/1.1": self._over_tls, "": self._over_tls}
        context = tls_context(certificate_file, key_file)
        listener = await tls.listen(None, 0, context, handlers=handlers, sock=sock)
        try:
            async with task_group("port") as tasks:
                tasks.start_service("certificate", _follow(listener, certificate_file, key_file))
                yield
        finally:
            await self._end(listener)

    def _over_tls(self, _connection: TlsConnection) -> "_Connection":
        return self._connection()

    async def _end(self, listener: asyncio.Server | TlsListener) -> None:
        # WebSockets' tasks end when the other side has answered the farewell.
        await end_all(listener, self._state, seconds=STOP_SECONDS)
        for connection in tuple(self._state.connections):
            connection.transport.abort()


class _WebSocket(WebSocketsSansIOProtocol):
    """Takes little of strangers; what a Teamspace has to say from the moment that its channel is accepted, and a machine once it was answered."""

    async def send(self, message: "ASGISendEvent") -> None:
        """As of uvicorn."""
        if message["type"] == "websocket.accept" and self.scope["path"].endswith(CHANNEL_PATH_END):
            self.conn.max_message_size = MAX_MESSAGE
        if message["type"] == "websocket.send" and self.scope["path"] == paired.RELAY_PATH:
            self.conn.max_message_size = paired.MAX_SAID
        await super().send(message)


class _Connection(BoundedConnection):
    max_connections = MAX_CONNECTIONS

    def head_came(self) -> None:
        """A stranger who has sent a whole head is none to our TLS."""
        super().head_came()
        if isinstance(self.transport, TlsConnection):
            self.transport.accept()


def tls_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """TLS 1.3 with the certificate of these files; raises `CodezeroError` (BAD_REQUEST)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate_file, key_file, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not readable"
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"the certificate {certificate_file} with the key {key_file} cannot be used: {reason}",
            fix="both are PEM, the certificate first and those it hangs on after it, and the key has no password",
        ) from None
    return context


async def _follow(listener: TlsListener, certificate_file: Path, key_file: Path) -> None:
    files = MountedFiles(Path("/"), (str(certificate_file), str(key_file)))
    is_first = True
    async for _content in files.changes():
        if is_first:
            is_first = False
            continue
        try:
            listener.use(tls_context(certificate_file, key_file))
        except CodezeroError as error:
            _log.warning("the certificate before stays in use", reason=error.detail)
        else:
            _log.info("certificate exchanged")
