"""What WebSockets of the API share: bounds for strangers whose first message says who they are, the codes they are closed with, and binary messages."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Generator
from typing import Final, cast

from fastapi import WebSocket
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect, WebSocketState

from codezero.hub.api import guard
from codezero.hub.context import Hub
from codezero.hub.signin import callers
from codezero.hub.signin.attempts import network
from codezero.hub.signin.callers import Caller
from codezero.model import problems
from codezero.model.problems import CodezeroError

FIRST_MESSAGE_SECONDS: Final = 10.0
# The other end takes nothing for so long: it is gone.
SEND_SECONDS: Final = 30.0
# Of those who have not said yet who they are: from one network, and in all.
MOST_STRANGERS: Final = 64
MOST_STRANGERS_IN_ALL: Final = 512

# RFC 6455 leaves 4000 to 4999 to applications: HTTP's statuses, as far as they fit.
NOT_TAKEN: Final = 4400
NOT_SIGNED_IN: Final = 4401
TOO_MANY: Final = 4429


@contextlib.contextmanager
def stranger(websocket: WebSocket) -> Generator[None]:
    """One more who has not said who they are; raises `CodezeroError` (TOO_MANY_REQUESTS) where there are many already."""
    strangers = cast("Counter[str]", websocket.app.state.strangers)
    where = network(guard.address_of(websocket.scope))
    if strangers[where] >= MOST_STRANGERS or strangers.total() >= MOST_STRANGERS_IN_ALL:
        raise CodezeroError(
            problems.TOO_MANY_REQUESTS, "many streams were opened by somebody who has not said yet who they are"
        )
    strangers[where] += 1
    try:
        yield
    finally:
        strangers[where] -= 1
        if not strangers[where]:
            del strangers[where]


async def by_token(hub: Hub, scope: Scope, token: str) -> Caller | None:
    """Who shows `token` in a message; None where it is good for nobody. Headers are not looked at."""
    try:
        authorization = f"Bearer {token}".encode("latin-1")
        return await callers.caller(hub, {**scope, "headers": [(b"authorization", authorization)]})
    except (CodezeroError, UnicodeEncodeError):
        return None


class Messages:
    """The binary messages of a WebSocket, for those who know nothing of such: EOFError says that the other side has gone.

    With `send_seconds` one that takes nothing for so long has gone as well.
    """

    def __init__(self, websocket: WebSocket, *, send_seconds: float | None = None) -> None:
        self._websocket = websocket
        self._send_seconds = send_seconds

    @property
    def is_accepted(self) -> bool:
        """Whether it is a WebSocket yet: before that, it is refused as a request is."""
        return self._websocket.application_state is not WebSocketState.CONNECTING

    async def receive(self) -> bytes:
        """The next message. Raises `CodezeroError` (PROTOCOL) for one of text."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise EOFError("the other side has left")
        content = message.get("bytes")
        if content is None:
            raise CodezeroError(problems.PROTOCOL, "text came instead of a message")
        return cast("bytes", content)

    async def send(self, content: bytes) -> None:
        """Send a message."""
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._websocket.send_bytes(content)
        except (WebSocketDisconnect, RuntimeError, OSError):
            # Starlette's word for a connection that has closed is any of these, and a timeout is an OSError.
            raise EOFError("the other side has left") from None

    async def close(self) -> None:
        """End it, where the other side has not."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
            await self._websocket.close()
