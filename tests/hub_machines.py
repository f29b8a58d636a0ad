"""A machine at the relay of a Hub, for tests of the Hub: it says what `codezero.wire.paired` lets it say, and what it does not."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
from tests.hub_api import Asker
from websockets.asyncio.client import ClientConnection, connect

from codezero.model.ids import new_ulid
from codezero.wire.paired import (
    RELAY_PATH,
    Alive,
    Ask,
    Farewell,
    Head,
    Hello,
    Piece,
    ToMachine,
    Welcome,
    ask_path,
)

PROOF = "aGVhZGVy.Y2xhaW1z.c2lnbmF0dXJl"
STATUS = {"method": "GET", "target": "/agent/v1/status", "proof": PROOF}
EVENTS = {"method": "GET", "target": "/agent/v1/events", "proof": PROOF}
JSON = "application/json"
_DECODER: msgspec.msgpack.Decoder[ToMachine] = msgspec.msgpack.Decoder(ToMachine)


def token_of(asker: Asker) -> str:
    return asker.headers["authorization"].removeprefix("Bearer ")


@dataclass
class Machine:
    """A machine of `user`, by its WebSocket."""

    user: Asker
    socket: ClientConnection
    id: str = field(default_factory=new_ulid)
    name: str = "laptop"

    async def say(self, *messages: Any) -> None:
        for message in messages:
            await self.socket.send(message if isinstance(message, str) else msgspec.msgpack.encode(message))

    async def hello(self, **changed: Any) -> "Machine":
        given = {"versions": (1,), "token": token_of(self.user), "machine": self.id, "name": self.name, **changed}
        await self.say(Hello(**given))
        return self

    async def hear(self, kind: type[Any] | None = None) -> Any:
        """The next message, which is one of `kind`; signs of life are left out."""
        async with asyncio.timeout(30):
            while True:
                content = await self.socket.recv()
                assert isinstance(content, bytes)
                message = _DECODER.decode(content)
                if isinstance(message, Alive):
                    continue
                assert kind is None or isinstance(message, kind), message
                return message

    async def farewell(self) -> tuple[str, bool]:
        """How the Hub ends it, and that it does: the code, and whether another try is worth it."""
        told: Farewell = await self.hear(Farewell)
        async with asyncio.timeout(30):
            await self.socket.wait_closed()
        return told.code, told.retry

    async def answer(self, content: bytes = b"{}", *, status: int = 200, kind: str = JSON) -> Ask:
        """Answer the next question, whole; it."""
        asked: Ask = await self.hear(Ask)
        await self.say(Head(asked.id, status, kind), Piece(asked.id, content, is_last=True))
        return asked


@asynccontextmanager
async def unknown_machine(url: str, user: Asker, **options: Any) -> AsyncGenerator[Machine, None]:
    """A machine that has connected to the Hub at `url` and has not said anything."""
    own = {name: options.pop(name) for name in ("id", "name") if name in options}
    address = f"ws{url.removeprefix('http')}{RELAY_PATH}"
    async with connect(address, proxy=None, compression=None, max_size=2**21, **options) as socket:
        yield Machine(user, socket, **own)


@asynccontextmanager
async def machine(url: str, user: Asker, **options: Any) -> AsyncGenerator[Machine, None]:
    """A machine of `user` that the Hub at `url` has taken."""
    async with unknown_machine(url, user, **options) as made:
        await made.hello()
        await made.hear(Welcome)
        yield made


@dataclass(frozen=True)
class Page:
    """A page of `user` at the Hub of `url`."""

    url: str
    user: Asker
    client: httpx2.AsyncClient

    async def ask(
        self, machine: str, asked: Any = STATUS, *, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        return await self.client.post(ask_path(machine), json=asked, headers={**self.user.headers, **(headers or {})})

    def stream(self, machine: str, asked: Any = EVENTS) -> Any:
        """An answer that is read while it comes: a context."""
        return self.client.stream("POST", ask_path(machine), json=asked, headers=dict(self.user.headers))

    async def machines(self) -> list[dict[str, Any]]:
        answer = await self.client.get("/api/v1/machines", headers=dict(self.user.headers))
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def page(url: str, user: Asker) -> AsyncGenerator[Page, None]:
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        yield Page(url, user, client)
