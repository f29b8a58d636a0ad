"""A request that the guard has let in, and the ways to answer it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.types import Receive, Send

from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

T = TypeVar("T")

JSON = "application/json"


class LeftError(Exception):
    """The page does not wait for the answer any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: `target` is its path and query as they came, `headers` have lower-case names, `body` is whole. `receive` and `send` are ASGI's."""

    method: str
    path: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    receive: Receive
    send: Send

    def body_as(self, kind: type[T]) -> T:
        """The body as a value; raises `CodezeroError` (BAD_REQUEST) where it is none."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CodezeroError(problems.BAD_REQUEST, f"the body cannot be read: {error}") from None

    async def answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer whole."""
        told = dict(headers or {})
        if status not in (204, 304):
            told.setdefault("content-length", str(len(content)))
        await self.begin(status, told)
        await self.more(content, is_last=True)

    async def answer_json(self, value: object) -> None:
        """Answer with a value."""
        await self.answer(200, msgspec.json.encode(value), {"content-type": JSON})

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer, which `more` goes on with."""
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": encoded})

    async def more(self, content: bytes, *, is_last: bool = False) -> None:
        """Send a piece of the answer; returns when there is room for another one."""
        await self.send({"type": "http.response.body", "body": content, "more_body": not is_last})

    @asynccontextmanager
    async def present(self) -> AsyncGenerator[None]:
        """A block that ends, in peace, when the page leaves."""
        try:
            async with task_group("answer") as tasks:
                tasks.start_service("leaving", self._left())
                yield
        except* LeftError:
            pass

    async def _left(self) -> None:
        # The body has been read: all that can come is the end.
        while (await self.receive())["type"] != "http.disconnect":
            continue
        raise LeftError


async def send_problem(error: CodezeroError, send: Send, *, is_websocket: bool = False) -> None:
    """Answer with the problem, and end the connection; a WebSocket is refused with it."""
    kind = "websocket.http.response" if is_websocket else "http.response"
    content = problem_json.encode(error)
    headers = [
        (b"content-type", problem_json.CONTENT_TYPE.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": f"{kind}.start", "status": error.problem.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": content})
