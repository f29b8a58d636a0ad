"""The way to the Hub's stream of events: one WebSocket of the page, one to the Hub, text both ways, and both end together.

The page says who it is by a ticket in its first message, which it got by the console, so that nothing of czctl's is sent here.
"""

import asyncio
import contextlib
from typing import Any, Final, cast

from starlette.types import Receive, Send
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from codezero.cli import hub_socket
from codezero.cli.loopback.asking import Asked
from codezero.cli.ui.hub_passage import HubPassage
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError

PATH: Final = "/api/v1/events"
# A page that takes nothing for so long is gone.
SEND_SECONDS: Final = 30.0
MAX_FROM_HUB: Final = 64 * 1024
MAX_FROM_PAGE: Final = 8 * 1024

_NORMAL: Final = 1000
_WENT_AWAY: Final = 1001
_HUB_LOST: Final = 1014  # bad gateway


class HubEvents:
    """Passes WebSockets on to the Hub that czctl knows."""

    def __init__(self, hub: HubPassage) -> None:
        self._hub = hub

    async def pass_on(self, asked: Asked) -> None:
        """Until one end goes; raises `CodezeroError` where the Hub gives no stream."""
        if asked.target != PATH:
            raise CodezeroError(problems.NOT_FOUND, f"there is no stream at {asked.path[:200]}")
        stream = await hub_socket.connected(await self._hub.endpoint(), PATH, max_size=MAX_FROM_HUB, max_queue=16)
        try:
            await asked.receive()
            try:
                await asked.send({"type": "websocket.accept"})
            except OSError:
                # The page has left meanwhile.
                return
            await _pass_both_ways(stream, asked.receive, asked.send)
        finally:
            await stream.close()


class _EndedError(Exception):
    """One end has gone; the code by which the page's is to be closed, if it is not that one."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def _pass_both_ways(stream: ClientConnection, receive: Receive, send: Send) -> None:
    try:
        async with task_group("events") as tasks:
            tasks.start_service("up", _up(stream, receive))
            await _down(stream, send)
    except* _EndedError as ends:
        end = cast("_EndedError", ends.exceptions[0])
        if end.code is not None:
            # The page may go in the same moment.
            with contextlib.suppress(OSError):
                await send({"type": "websocket.close", "code": end.code, "reason": end.reason})


async def _down(stream: ClientConnection, send: Send) -> None:
    while True:
        try:
            message = await stream.recv()
        except ConnectionClosed as closed:
            came = closed.rcvd
            raise _EndedError(_NORMAL if came is None else _code(came.code), came.reason if came else "") from None
        if not isinstance(message, str):
            raise _EndedError(_HUB_LOST)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "websocket.send", "text": message})
        except OSError:
            raise _EndedError(None) from None


async def _up(stream: ClientConnection, receive: Receive) -> None:
    while True:
        message: dict[str, Any] = dict(await receive())
        if message["type"] == "websocket.disconnect":
            raise _EndedError(None)
        text = message.get("text")
        if text is None:
            raise _EndedError(1003)
        try:
            await stream.send(text)
        except ConnectionClosed:
            # Why, is told on the way down.
            await stream.wait_closed()
            return await asyncio.get_running_loop().create_future()


def _code(code: int) -> int:
    """What may be said to the page (RFC 6455, 7.4): some codes stand for what was never said."""
    return (
        code
        if code in (1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014) or 3000 <= code < 5000
        else _WENT_AWAY
    )
