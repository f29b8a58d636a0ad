"""A WebSocket to a Hub over TLS: it is believed by its authority, and nobody else is."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from codezero.cli import hub_context
from codezero.cli.hub_context import HubContext
from codezero.cli.loopback.asking import Asked
from codezero.cli.loopback.threads import Threads
from codezero.cli.ui.hub_events import HubEvents
from codezero.cli.ui.hub_passage import HubPassage
from codezero.kit.certificates import Authority
from codezero.model import problems
from codezero.model.problems import CodezeroError

CLOSE = 4401


class Page:
    """A page with one thing to say, and what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Any]] = []
        self._says: list[Mapping[str, Any]] = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "hello"},
        ]

    async def receive(self) -> Any:
        return self._says.pop(0) if self._says else await _forever()

    async def send(self, message: Any) -> None:
        self.told.append(message)

    @property
    def asked(self) -> Asked:
        return Asked("GET", "/api/v1/events", "/api/v1/events", {}, b"", self.receive, self.send)


async def _forever() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def a_hub(folder: Path, seen: list[Mapping[str, str]]) -> AsyncIterator[tuple[str, str]]:
    """A Hub that says back what it heard and ends; its address and its authority."""
    authority = Authority.create("test", path_length=0)
    credentials = authority.issue("hub", addresses=["127.0.0.1"], server=True)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(credentials.certificate_pem)
    key.write_text(credentials.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        await connection.send(f"heard {await connection.recv()!r}")
        await connection.close(CLOSE, "over")

    async with serve(answer, "127.0.0.1", 0, ssl=context) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"https://127.0.0.1:{port}", authority.certificate_pem


async def passed(url: str, ca: str | None) -> Page:
    page, threads = Page(), Threads("hub", 1)
    hub_context.save(HubContext(url, ca))
    try:
        await HubEvents(HubPassage(threads)).pass_on(page.asked)
    finally:
        threads.close()
    return page


async def test_both_ways_and_to_the_end_that_the_hub_gave(tmp_path: Path) -> None:
    seen: list[Mapping[str, str]] = []
    async with a_hub(tmp_path, seen) as (url, ca):
        page = await passed(url, ca)

    assert page.told == [
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "heard 'hello'"},
        {"type": "websocket.close", "code": CLOSE, "reason": "over"},
    ]
    (headers,) = seen
    assert not headers.keys() & {"origin", "cookie", "authorization", "x-codezero-csrf"}


@pytest.mark.parametrize("ca", [None, "other"])
async def test_who_cannot_prove_to_be_the_hub_is_told_nothing(tmp_path: Path, ca: str | None) -> None:
    seen: list[Mapping[str, str]] = []
    async with a_hub(tmp_path, seen) as (url, _):
        with pytest.raises(CodezeroError) as refused:
            await passed(url, Authority.create("other").certificate_pem if ca else None)

    assert refused.value.problem is problems.HUB_NOT_BELIEVED
    assert "nothing was sent" in refused.value.detail
    assert not seen
