"""HTTP/1.1 by uvicorn's protocol, with the patience that uvicorn has none of: a head comes in time, and there are only so many connections at once."""

import asyncio
from typing import Any, ClassVar, Final, Protocol, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

MAX_HEAD: Final = 16 * 1024
HEAD_SECONDS: Final = 5.0


class BoundedConnection(H11Protocol):
    """One connection; further ones than `max_connections` (WebSockets count, too) are told to come later."""

    max_connections: ClassVar[int] = 64

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            transport.close()
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self._is_between_requests():
            self._wait_for_head()
        super().data_received(data)
        if not self._is_between_requests():
            self.head_came()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The head was one that asks for a WebSocket."""
        self.head_came()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def head_came(self) -> None:
        """A whole head is here; called again for each request."""
        self._stop_waiting()

    def _is_between_requests(self) -> bool:
        cycle = cast("Any", self.cycle)
        return cycle is None or cycle.response_complete

    def _wait_for_head(self) -> None:
        # The deadline stands from the first byte on; more bytes do not move it.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_too_late)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_late(self) -> None:
        self._head_timer = None
        if self.conn.our_state is h11.IDLE and not self.transport.is_closing():
            self.transport.abort()


class _Listener(Protocol):
    def close(self) -> None: ...


async def end_all(listener: _Listener, state: ServerState, *, seconds: float) -> None:
    """Take no more connections, and end those of `state`: answers under way have `seconds` to come to their own end."""
    listener.close()
    for connection in tuple(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(tuple(state.tasks), timeout=seconds)
    for task in tuple(state.tasks):
        task.cancel()
