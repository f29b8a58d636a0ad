"""The local API's door, by raw bytes on its UNIX socket: what is let in, and how long it waits."""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from codezero.kit import http_connection
from codezero.local.daemon import api, guard
from codezero.local.daemon.events import Events
from codezero.local.daemon.guard import MAX_CONNECTIONS, Guard
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import HOST, MAX_BODY

GOOD = f"GET /v1/status HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


class Inside:
    """What lies behind the guard: counts who came through, and reads bodies."""

    def __init__(self) -> None:
        self.requests = 0
        self.bodies: list[bytes] = []
        self.failures: list[CodezeroError] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        body = b""
        try:
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        except CodezeroError as error:
            self.failures.append(error)
            await guard.send_problem(error, send)
            return
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def inside() -> Inside:
    return Inside()


@pytest.fixture
async def path(tmp_path: Path, inside: Inside) -> AsyncGenerator[Path, None]:
    async for found in serving(tmp_path, Guard(inside, owner=os.getuid())):
        yield found


async def serving(folder: Path, app: api.ASGIApp) -> AsyncGenerator[Path, None]:
    place = folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place))
        async with api.serve(app, listener):
            yield place


async def answer_to(path: Path, request: bytes) -> bytes:
    """What comes back: one whole answer, or all until the other end closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"\r\n\r\n")
            lengths = [line.partition(b":")[2] for line in answer.split(b"\r\n") if line.startswith(b"content-length:")]
            return answer + await (reader.readexactly(int(lengths[0])) if lengths else reader.read())
    except asyncio.IncompleteReadError as error:
        return answer + error.partial
    finally:
        writer.close()


async def test_a_plain_request_is_let_in(path: Path, inside: Inside) -> None:
    answer = await answer_to(path, GOOD)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"cache-control: no-store" in answer
    assert b"x-content-type-options: nosniff" in answer
    assert inside.requests == 1


HOSTS = [
    "", "localhost", "127.0.0.1", "127.0.0.1:8700", "[::1]", "[::1]:80", "daemon.codezero:80", "daemon.codezero.", "DAEMON.CODEZERO",
    "daemon.codezero.evil.example", "evil.example", "xdaemon.codezero", "daemon.codezero@evil.example", "evil.example#daemon.codezero",
    "daemon.codezero, evil.example", "daemon.codezero evil.example", "daemon%2ecodezero", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
async def test_other_hosts_are_refused(path: Path, inside: Inside, host: str) -> None:
    """A page that rebinds its name to us, through whatever forwards to the socket, still names itself (T01)."""
    answer = await answer_to(path, f"GET /v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 400")
    assert inside.requests == 0


FOREIGN = [
    "Origin: null", "Origin: http://daemon.codezero", "Origin: https://evil.example", "origin: x", "Origin:", "Referer: http://daemon.codezero/",
    "Referer:", "REFERER: https://hub.example", "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-WebSocket-Key: x", "Cookie: a=b",
    "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: daemon.codezero", "Forwarded: for=1", "Access-Control-Request-Method: PUT",
    "Upgrade: websocket\r\nConnection: upgrade", "Upgrade: h2c\r\nConnection: upgrade", "Host: daemon.codezero",
]  # fmt: skip


@pytest.mark.parametrize("header", FOREIGN)
async def test_marks_of_browsers_and_proxies_are_refused(path: Path, inside: Inside, header: str) -> None:
    answer = await answer_to(path, GOOD[:-2] + header.encode() + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400")
    assert inside.requests == 0


TARGETS = [
    "http://daemon.codezero/v1/status", "http://evil.example/v1/status", "//evil.example/v1/status", "*", "daemon.codezero:80", "v1/status", "/",
    "/v1/status?x=1", "/v1/status?", "/v1/status#x", "/v1/%73tatus", "/v1/../v1/status", "/v1/status%00", "/v1\\status", "/V1/STATUS",
    "/v1/status;x", "/" + "a" * 200,
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
async def test_other_forms_of_target_are_refused(path: Path, inside: Inside, target: str) -> None:
    """What has two readings is not read at all."""
    answer = await answer_to(path, f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    expected = 1 if target == "/v1/status?" and inside.requests else 0

    assert answer.startswith(b"HTTP/1.1 400") or (expected and answer.startswith(b"HTTP/1.1 200"))
    assert inside.requests == expected


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "X"])
async def test_other_methods_are_refused(path: Path, inside: Inside, method: str) -> None:
    answer = await answer_to(path, f"{method} /v1/status HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 400")
    assert inside.requests == 0


BODIES = {
    "no type": "Content-Length: 2\r\n\r\n{}",
    "form": "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}",
    "text": "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    "two types": "Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    "chunked": "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "both lengths": "Content-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": "Content-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "negative": "Content-Type: application/json\r\nContent-Length: -2\r\n\r\n{}",
    "hexadecimal": "Content-Type: application/json\r\nContent-Length: 0x2\r\n\r\n{}",
    "packed": "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("rest", BODIES.values(), ids=BODIES.keys())
async def test_other_bodies_are_refused(path: Path, inside: Inside, rest: str) -> None:
    """Types that a page can send without asking first are among them."""
    answer = await answer_to(path, f"PUT /v1/consume HTTP/1.1\r\nHost: {HOST}\r\n{rest}".encode())

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert not inside.bodies


async def test_body_of_a_get_is_refused(path: Path, inside: Inside) -> None:
    answer = await answer_to(path, GOOD[:-2] + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    assert answer.startswith(b"HTTP/1.1 400")
    assert inside.requests == 0


async def test_too_large_a_body_is_refused_before_it_comes(path: Path, inside: Inside) -> None:
    answer = await answer_to(
        path,
        f"PUT /v1/consume HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {MAX_BODY + 1}\r\n\r\n".encode(),
    )

    assert answer.startswith(b"HTTP/1.1 413")
    assert inside.requests == 0


async def test_endless_head_is_cut(path: Path, inside: Inside) -> None:
    answer = await answer_to(path, GOOD[:-2] + b"X: " + b"x" * 100_000)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert inside.requests == 0


async def test_head_that_does_not_come_is_not_waited_for(
    path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it trickles: uvicorn alone keeps such a connection for ever."""
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.2)
    _, writer = await asyncio.open_unix_connection(path)

    async def trickle() -> None:
        for byte in GOOD[:-1] * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.03)

    with pytest.raises((ConnectionError, BrokenPipeError)):
        async with asyncio.timeout(20):
            await trickle()
    writer.close()
    assert inside.requests == 0


async def test_silent_connection_is_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.1)
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_second_head_on_a_connection_has_a_deadline_too(
    path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(GOOD)
    assert b"200" in await reader.readuntil(b"ok")
    writer.write(b"GET /v1/")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    assert inside.requests == 1


async def test_body_that_does_not_come_is_not_waited_for(
    path: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.1)
    answer = await answer_to(
        path,
        f"PUT /v1/consume HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{".encode(),
    )

    assert b"CZ-GENERAL-005" in answer
    assert not inside.bodies


async def test_connections_are_limited(path: Path, inside: Inside) -> None:
    held = [await asyncio.open_unix_connection(path) for _ in range(MAX_CONNECTIONS)]
    try:
        for _, writer in held:
            writer.write(b"G")
        answer = await answer_to(path, GOOD)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 503")
    finally:
        for _, writer in held:
            writer.close()
    assert inside.requests == 0


async def test_requests_in_a_row_on_one_connection(path: Path, inside: Inside) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(GOOD * 5)
    for _ in range(5):
        assert b"HTTP/1.1 200" in await reader.readuntil(b"ok")
    writer.close()
    assert inside.requests == 5


@pytest.mark.root
async def test_other_users_are_refused(inside: Inside) -> None:
    """The kernel says who connects; the file's mode is only the first fence (T03)."""
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        await check_other_user(Path(folder), inside)


async def check_other_user(folder: Path, inside: Inside) -> None:
    async for place in serving(folder, Guard(inside, owner=1000)):
        place.chmod(0o666)
        script = f"""
import os, socket
os.setgid(1234); os.setuid(1234)
s = socket.socket(socket.AF_UNIX); s.connect({str(place)!r}); s.sendall({GOOD!r})
while data := s.recv(65536): print(data.decode())
"""
        python = Path("/usr/bin/python3")
        process = await asyncio.create_subprocess_exec(
            str(python), "-I", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        printed, errors = await process.communicate()

        assert b"403" in printed, errors
        assert b"CZ-AGENT-003" in printed
        assert inside.requests == 0
        assert (await answer_to(place, GOOD)).startswith(b"HTTP/1.1 200"), "root is let in"


async def test_events_are_newest_state_and_tell_gaps() -> None:
    """A client that reads slowly gets the newest, and knows that it missed something."""
    events = Events()
    listener = events.listen()
    for _ in range(10):
        events.publish("services")
    events.publish("status")
    assert [(await listener.next()).what for _ in range(2)] == ["services", "status"]

    for number in range(200):
        events.publish("activity", number)  # type: ignore[arg-type]
    first = await listener.next()
    assert first.gap
    assert not (await listener.next()).gap


async def test_listeners_end_with_the_daemon_and_are_limited() -> None:
    events = Events()
    listeners = [events.listen() for _ in range(32)]
    with pytest.raises(CodezeroError):
        events.listen()
    events.close()
    assert await listeners[0].next() is None
    events.forget(listeners[0])
    events.listen()
