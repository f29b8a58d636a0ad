"""`czctl ui` as a process, for tests: its address, and requests to it as its page, or anybody, sends them."""

import http.client
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from codezero.testing.czctl import PageProcess

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The content as values."""
        return msgspec.json.decode(self.content)

    @property
    def code(self) -> str:
        """The code of a problem."""
        return self.json()["code"]


@dataclass
class ConsoleProcess(PageProcess):
    """A console, and what its page knows of it."""

    command = "ui"

    cookie: str = ""

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def host(self) -> str:
        """What a request names it."""
        return f"127.0.0.1:{self.port}"

    @property
    def origin(self) -> str:
        """The origin of its page."""
        return f"http://{self.host}"

    @property
    def code(self) -> str:
        """Its one-time code."""
        return urlsplit(self.address).fragment.removeprefix("code=")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as its user does; its exit code."""
        self.process.send_signal(number)
        return self.ended()[0]

    def sign_in(self, code: str | None = None) -> Answered:
        """Use the code, as the page does."""
        answered = self.ask("POST", "/console/session", {"code": self.code if code is None else code})
        if answered.status == 204:
            self.cookie = answered.headers["set-cookie"].partition(";")[0]
        return answered

    def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str | None] | None = None
    ) -> Answered:
        """A request as its page sends it; `headers` come in place of those, and None leaves one out."""
        connection, response = self.open(method, path, body, headers=headers)
        try:
            return Answered(response.status, _lower(response), response.read())
        finally:
            connection.close()

    def open(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str | None] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """As `ask`, with an answer that is yet to be read; both are to be closed."""
        content = None if body is None else msgspec.json.encode(body)
        told: dict[str, str | None] = {
            "Origin": self.origin,
            "Sec-Fetch-Site": "same-origin",
            "X-Codezero-CSRF": "console",
            "Cookie": self.cookie or None,
            "Content-Type": None if content is None else "application/json",
            **(headers or {}),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        sent = {name: value for name, value in told.items() if value is not None}
        connection.request(method, path, content, sent)
        return connection, connection.getresponse()

    def raw(self, content: bytes) -> bytes:
        """All that comes back to some bytes, until the console closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), _SECONDS) as connection:
            connection.sendall(content)
            received = b""
            while piece := connection.recv(65536):
                received += piece
            return received


def _lower(response: http.client.HTTPResponse) -> Mapping[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
