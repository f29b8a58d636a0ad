"""`sockets`: a WebSocket server that greets, echoes, reminds, and passes `broadcast:` messages to everybody else connected."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from codezero.kit.tasks import task_group
from codezero.sandbox.sample.propagation import PropagationMiddleware
from codezero.sandbox.sample.serving import Listener, health_routes, main, plain_listener
from codezero.sandbox.sample.settings import Settings

BROADCAST = "broadcast:"
QUEUE_LENGTH = 32


class Member:
    """One connected client and the messages on their way to it; a client that reads too slowly loses the oldest."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[str] = asyncio.Queue(QUEUE_LENGTH)
        self._last_message: str | None = None
        self._last_heard = time.monotonic()

    def tell(self, text: str) -> None:
        """Put `text` into the queue to this client."""
        if self._waiting.full():
            self._waiting.get_nowait()
        self._waiting.put_nowait(text)

    async def next(self) -> str:
        """The next message to send to this client."""
        return await self._waiting.get()

    def heard(self, message: str) -> None:
        """Note that the client said `message`."""
        self._last_message = message[:100]
        self._last_heard = time.monotonic()

    def reminder(self) -> str:
        """What to say to a client that has not said anything for a while."""
        silent = f"{time.monotonic() - self._last_heard:.0f} s ago"
        if self._last_message is None:
            return f"You connected {silent} and have said nothing yet."
        return f"Your last message was {self._last_message!r}, {silent}."


class Room:
    """Everybody connected to this process."""

    def __init__(self) -> None:
        self._members: set[Member] = set()

    def enter(self) -> Member:
        """A new member of the room."""
        member = Member()
        self._members.add(member)
        return member

    def leave(self, member: Member) -> None:
        """Forget `member`."""
        self._members.discard(member)

    def broadcast(self, text: str, *, sender: Member) -> None:
        """Tell `text` to everybody but `sender`."""
        for member in self._members - {sender}:
            member.tell(text)


def make(settings: Settings) -> tuple[Starlette, Sequence[Listener]]:
    """The application and where it listens."""
    room = Room()

    async def conversation(websocket: WebSocket) -> None:
        await websocket.accept()
        member = room.enter()
        member.tell(f"Hello from sockets at {settings.where}. Start a message with {BROADCAST!r} to reach the others.")
        try:
            async with task_group("conversation") as tasks:
                sending = tasks.start("sending", _send(websocket, member))
                tasks.start_service("reminding", _remind(member, settings.nag_interval))
                await _listen(websocket, member, room)
                sending.cancel()
        finally:
            room.leave(member)

    app = Starlette(
        routes=[WebSocketRoute("/", conversation), WebSocketRoute("/sockets", conversation), *health_routes()],
        middleware=[Middleware(PropagationMiddleware)],
    )
    return app, [plain_listener(settings)]


async def _listen(websocket: WebSocket, member: Member, room: Room) -> None:
    while (event := await websocket.receive())["type"] != "websocket.disconnect":
        text = event.get("text")
        message = f"{len(event.get('bytes') or b'')} bytes" if text is None else str(text)
        member.heard(message)
        member.tell(f"Received: {message}")
        if message.startswith(BROADCAST):
            room.broadcast(f"Broadcast: {message.removeprefix(BROADCAST).strip()}", sender=member)


async def _send(websocket: WebSocket, member: Member) -> None:
    # The client may be gone already; the listening side learns of it and ends the conversation.
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await member.next())


async def _remind(member: Member, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        member.tell(member.reminder())


if __name__ == "__main__":
    main("sockets", make)
