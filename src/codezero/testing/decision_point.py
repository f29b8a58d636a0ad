"""A policy decision point (OPA) on loopback that says what a test wants."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


def answered(content: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


YES, NO = answered(b'{"result": true}'), answered(b'{"result": false}')


@dataclass
class DecisionPoint:
    """A decision point on loopback: says what `answer` is, and keeps what it was asked."""

    url: str = ""
    answer: bytes = YES
    asked: list[Any] = field(default_factory=list[Any])
    heads: list[str] = field(default_factory=list[str])
    # Until set it says nothing.
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length"))
            body = await reader.readexactly(int(length.split(":")[1]))
            self.heads.append(head)
            self.asked.append(json.loads(body))
            await self.may_answer.wait()
            writer.write(self.answer)
            await writer.drain()
        except (OSError, EOFError):
            pass  # it was given up
        finally:
            writer.close()


@asynccontextmanager
async def decision_point() -> AsyncGenerator[DecisionPoint]:
    """One that runs inside the block."""
    made = DecisionPoint()
    made.may_answer.set()
    server = await asyncio.start_server(made.speak, "127.0.0.1", 0)
    made.url = f"http://localhost:{server.sockets[0].getsockname()[1]}/v1/data/codezero/allow"
    try:
        yield made
    finally:
        made.may_answer.set()
        server.close()
