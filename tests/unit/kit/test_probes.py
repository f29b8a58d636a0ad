"""The port for probes, over real connections."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from codezero.kit import http_head
from codezero.kit.probes import MAX_CONNECTIONS, Probes


class Watched:
    unready: str | None = None

    def __init__(self) -> None:
        self.probes = Probes(unready=lambda: self.unready, metrics=lambda: b"things 1\n")


@pytest.fixture
async def watched() -> AsyncIterator[tuple[Watched, int]]:
    made = Watched()
    server = await made.probes.listen("127.0.0.1", 0)
    yield made, server.sockets[0].getsockname()[1]
    server.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n".encode()


async def test_a_process_says_how_it_is(watched: tuple[Watched, int]) -> None:
    """Alive at once; ready when it is, with the reason why not."""
    made, port = watched
    made.unready = "waiting for an identity"

    assert (await ask(port, get("/healthz"))).startswith(b"HTTP/1.1 200 ")
    assert b"503 Service Unavailable" in (answer := await ask(port, get("/readyz")))
    assert answer.endswith(b"waiting for an identity\n")
    made.unready = None
    assert (await ask(port, get("/readyz"))).startswith(b"HTTP/1.1 200 ")
    assert (await ask(port, get("/metrics"))).endswith(b"things 1\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 404),
        (get("/healthz/"), 404),
        (get("/../metrics"), 404),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 505),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsmuggled!", 400),
        (b"X: y\r\n" * 10_000, 431),
    ],
)
async def test_everything_else_is_refused(watched: tuple[Watched, int], request_: bytes, status: int) -> None:
    """The port is open to the whole pod network."""
    assert (await ask(watched[1], request_)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_connections_that_say_nothing_are_ended(
    watched: tuple[Watched, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And there is a limit for them, which never keeps out the next one for long."""
    monkeypatch.setattr(http_head, "HEAD_SECONDS", 0.2)
    _, port = watched
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 5)]
    answers = await asyncio.wait_for(asyncio.gather(*(ended(reader) for reader, _ in silent)), 20)
    for _, writer in silent:
        writer.close()

    assert sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers) == MAX_CONNECTIONS
    assert answers.count(b"") == 5
    assert (await ask(port, get("/healthz"))).startswith(b"HTTP/1.1 200 ")


async def ended(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
