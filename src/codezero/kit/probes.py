"""A small plain-HTTP port for those who watch a process: `/healthz`, `/readyz`, `/metrics`. It shows states and numbers, no data."""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from codezero.kit import http_head
from codezero.kit.http_head import Head, HeadError, HeadProtocol

MAX_CONNECTIONS: Final = 64


class Probes:
    """Answers probes. `unready` gives the reason why the process cannot serve yet, None when it can; `metrics` the page for Prometheus."""

    def __init__(self, *, unready: Callable[[], str | None], metrics: Callable[[], bytes]) -> None:
        self._unready = unready
        self._metrics = metrics
        self._connections = 0

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Listen; the caller closes the server. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return await asyncio.get_running_loop().create_server(self._connected, host, port, family=family)

    def _connected(self) -> asyncio.Protocol:
        if self._connections >= MAX_CONNECTIONS:
            return _Full()
        self._connections += 1
        return HeadProtocol(self._handle, _refuse, lost=self._gone)

    def _gone(self) -> None:
        self._connections -= 1

    def _handle(self, transport: asyncio.Transport, head: Head, _rest: bytes) -> None:
        transport.write(self.answer(head))
        transport.close()

    def answer(self, head: Head) -> bytes:
        """The answer to a request."""
        if head.method != "GET":
            return http_head.answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n", headers=(("Allow", "GET"),))
        match head.target:
            case "/healthz":
                return http_head.answer(HTTPStatus.OK, b"ok\n")
            case "/readyz":
                reason = self._unready()
                if reason is not None:
                    return http_head.answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode())
                return http_head.answer(HTTPStatus.OK, b"ready\n")
            case "/metrics":
                return http_head.answer(
                    HTTPStatus.OK, self._metrics(), content_type="text/plain; version=0.0.4; charset=utf-8"
                )
            case _:
                return http_head.answer(HTTPStatus.NOT_FOUND, b"/healthz, /readyz, /metrics\n")


class _Full(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


def _refuse(transport: asyncio.Transport, error: HeadError) -> None:
    transport.write(http_head.answer(error.status, f"{error.reason}\n".encode("ascii", "replace")))
    transport.close()
