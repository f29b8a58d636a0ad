"""The Hub's outermost layer: who may ask at all, what is logged, and that nothing secret is."""

import asyncio
import ipaddress
import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from starlette.types import Message, Receive, Scope, Send

from codezero.hub import door
from codezero.hub.door import Counters, Door, Openness, Readiness
from codezero.kit import logs

PROXY = ipaddress.ip_network("10.0.0.0/8")


class Asked:
    """A door with an application behind it, and what went through and out."""

    def __init__(self, *, has_tls: bool = True, proxies: tuple[Any, ...] = (), fails: Exception | None = None) -> None:
        self.registry = CollectorRegistry()
        self.readiness = Readiness()
        self.scopes: list[Scope] = []
        self.sent: list[Message] = []
        self._fails = fails
        self.is_silent = False
        openness = Openness(proxies, has_tls)
        self._door = Door(self._app, openness=openness, readiness=self.readiness, counters=Counters(self.registry))

    async def __call__(
        self,
        path: str = "/api",
        *,
        kind: str = "http",
        client: str = "192.0.2.1",
        **headers: str,
    ) -> int:
        self.sent.clear()
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope: Scope = {
            "type": kind,
            "method": "GET",
            "path": path,
            "scheme": "http",
            "query_string": b"token=s3cret",
            "headers": given,
            "client": (client, 1),
        }
        if kind == "websocket":
            del scope["method"]
        await self._door(scope, self._receive, self._send)
        return self.sent[0].get("status", 0)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        scope["route"] = type("Route", (), {"path": "/api/{thing}"})
        if self._fails is not None:
            raise self._fails
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def _receive(self) -> Message:
        if self.is_silent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"s3cret", "more_body": False}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    logs.configure(json=True)
    return lambda: capsys.readouterr().err


async def test_a_request_goes_through_and_is_told_without_its_secrets(log: Callable[[], str]) -> None:
    """Links for invitations and sign-in have their secret in the query, sign-ins in the body, everybody else in a header."""
    asked = Asked()

    assert await asked("/api/s3cret", authorization="Bearer s3cret", cookie="s3cret") == 204

    told = log()
    line = json.loads(told)
    assert (line["event"], line["method"], line["route"], line["status"]) == ("answered", "GET", "/api/{thing}", 204)
    assert line["address"] == "192.0.2.1"
    assert "s3cret" not in told
    metrics = generate_latest(asked.registry).decode()
    assert 'codezero_hub_requests_total{method="GET",route="/api/{thing}",status="204"} 1.0' in metrics
    assert "s3cret" not in metrics


async def test_answers_tell_the_time() -> None:
    """A laptop whose clock is wrong could else not be told so."""
    asked = Asked()
    await asked()

    told = dict(asked.sent[0]["headers"])[b"date"].decode()
    assert abs(parsedate_to_datetime(told).timestamp() - time.time()) < 60


async def test_websockets_are_told_too(log: Callable[[], str]) -> None:
    await Asked()("/api", kind="websocket")

    assert json.loads(log())["status"] == 101


async def test_without_tls_only_loopback_and_proxies_are_answered() -> None:
    asked = Asked(has_tls=False, proxies=(PROXY,))

    assert await asked(client="192.0.2.1") == 403
    assert await asked(client="unix") == 403
    assert await asked(client="10.1.2.3") == 204
    assert await asked(client="127.0.0.1") == 204
    assert await asked(client="::1") == 204


async def test_a_trusted_proxy_says_who_asks_and_nobody_else_does() -> None:
    """Limits and audit are by address: a stranger must not choose theirs."""
    asked = Asked(proxies=(PROXY,))
    forwarded = {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https"}

    await asked(client="10.1.2.3", **forwarded)
    await asked(client="192.0.2.1", **forwarded)
    untrusting = Asked()
    await untrusting(client="10.1.2.3", **forwarded)

    assert [(scope["client"][0], scope["scheme"]) for scope in asked.scopes] == [
        ("203.0.113.9", "https"),
        ("192.0.2.1", "http"),
    ]
    assert untrusting.scopes[0]["client"][0] == "10.1.2.3"


async def test_probes_are_answered_to_everybody() -> None:
    """The kubelet asks by address, from an address that nobody knows before."""
    asked = Asked(has_tls=False)

    assert await asked("/healthz") == 200
    assert await asked("/readyz") == 503
    asked.readiness.reason = None
    assert await asked("/readyz") == 200
    assert not asked.scopes


async def test_a_defect_is_told_in_the_log_and_not_outside(log: Callable[[], str]) -> None:
    asked = Asked(fails=RuntimeError("s3cret thing"))

    assert await asked() == 500
    assert b"CZ-GENERAL-001" in asked.sent[1]["body"]
    assert b"thing" not in asked.sent[1]["body"]
    assert "request failed" in log()


async def test_a_body_that_does_not_come_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_SECONDS", 0.01)
    asked = Asked()
    asked.is_silent = True

    assert await asked() == 504
    assert b"CZ-GENERAL-005" in asked.sent[1]["body"]
