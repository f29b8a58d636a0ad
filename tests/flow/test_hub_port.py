"""The Hub's port over real sockets: its TLS, how long it waits for strangers, and how it ends."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codezero.hub import serving
from codezero.hub.serving import Port
from codezero.kit import http_connection
from codezero.kit.certificates import Authority
from codezero.model.problems import CodezeroError
from codezero.transport import listening

AUTHORITY = Authority.create("a company's")


@dataclass
class Behind:
    """An application that answers when it is told to."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    began: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.began += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await receive()
            return
        if scope["path"] == "/slow":
            await self.go_on.wait()
        body = scope["scheme"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path

    def write(self) -> int:
        """Put a fresh certificate there; its serial number."""
        leaf = AUTHORITY.issue("hub", dns=["localhost"], addresses=["127.0.0.1"], server=True)
        self.certificate.write_text(leaf.certificate_pem)
        self.key.write_text(leaf.key_pem)
        return leaf.chain[0].serial_number


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path / "tls.crt", tmp_path / "tls.key")
    made.write()
    return made


@contextlib.asynccontextmanager
async def opened(app: Behind, files: Files | None = None) -> AsyncGenerator[int]:
    sock = listening.bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    certificate, key = (files.certificate, files.key) if files else (None, None)
    async with Port(app).open(sock, certificate_file=certificate, key_file=key):
        yield port


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.certificate_pem)


async def serial(port: int) -> int:
    _reader, writer = await asyncio.open_connection("localhost", port, ssl=client_context())
    found = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    return int(found["serialNumber"], 16)


async def test_requests_and_websockets_over_tls(files: Files) -> None:
    async with opened(Behind(), files) as port, httpx2.AsyncClient(verify=client_context()) as client:
        first = await client.get(f"https://localhost:{port}/")
        second = await client.get(f"https://localhost:{port}/")
        async with connect(f"wss://localhost:{port}/", ssl=client_context()) as socket:
            await socket.send("hello")

    assert (first.text, second.text) == ("https", "https")


async def test_old_tls_is_refused(files: Files) -> None:
    """Everything that speaks to a Hub knows 1.3; whoever has an old inspecting proxy sets it before a Hub on loopback."""
    old = client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with opened(Behind(), files) as port:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("localhost", port, ssl=old)


async def test_a_renewed_certificate_is_used_at_once_and_no_connection_ends(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(Behind(), files) as port, httpx2.AsyncClient(verify=client_context()) as client:
        before = await serial(port)
        async with connect(f"wss://localhost:{port}/", ssl=client_context()) as socket:
            await client.get(f"https://localhost:{port}/")
            files.key.write_text("half a key")
            await asyncio.sleep(1.2)
            during = await serial(port)
            renewed = files.write()
            async with asyncio.timeout(10):
                while await serial(port) != renewed:
                    await asyncio.sleep(0.05)
            answer = await client.get(f"https://localhost:{port}/")
            await socket.ping()

    assert before == during != renewed
    assert answer.status_code == 200


def test_a_certificate_that_cannot_be_used_is_told(files: Files) -> None:
    with pytest.raises(CodezeroError) as missing:
        serving.tls_context(files.certificate, files.key.with_name("none"))
    assert "No such file" in missing.value.detail
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cret"),
    )
    files.key.write_bytes(encrypted)
    with pytest.raises(CodezeroError) as locked:
        serving.tls_context(files.certificate, files.key)

    assert locked.value.fix is not None
    assert "no password" in locked.value.fix


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_half_a_head_is_waited_for_only_so_long(
    files: Files, monkeypatch: pytest.MonkeyPatch, is_encrypted: bool
) -> None:
    """Five hundred of them would else be all there is (uvicorn alone keeps them for good)."""
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.2)
    context = client_context() if is_encrypted else None
    async with opened(Behind(), files if is_encrypted else None) as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_there_are_only_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving._Connection, "max_connections", 2)
    async with opened(Behind()) as port, httpx2.AsyncClient() as client:
        async with connect(f"ws://127.0.0.1:{port}/"), connect(f"ws://127.0.0.1:{port}/"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{port}/")
        assert refused.value.response.status_code == 503

        async with asyncio.timeout(5):
            while (await client.get(f"http://127.0.0.1:{port}/")).status_code != 200:
                await asyncio.sleep(0.02)


async def test_at_the_end_answers_under_way_are_given_and_websockets_told_to_come_again() -> None:
    """A rolling restart: nobody loses an answer, and whoever holds a WebSocket knows at once to look for another Hub."""
    app = Behind()
    async with httpx2.AsyncClient() as client, contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(opened(app))
        socket = await connect(f"ws://127.0.0.1:{port}/")
        slow = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/slow"))
        async with asyncio.timeout(5):
            while app.began < 2:
                await asyncio.sleep(0.01)
        ending = asyncio.create_task(stack.aclose())
        with pytest.raises(ConnectionClosed) as told:
            await asyncio.wait_for(socket.recv(), 5)
        with pytest.raises(httpx2.ConnectError):
            await httpx2.AsyncClient().get(f"http://127.0.0.1:{port}/")
        app.go_on.set()
        answer = await slow
        await ending

    assert told.value.rcvd is not None
    assert told.value.rcvd.code == 1012
    assert answer.text == "http"
