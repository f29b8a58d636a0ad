"""`czctl ui` as a process, for tests: its address, and requests to it as its page, or anybody, sends them."""

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

CZCTL = Path(sys.executable).with_name("czctl")
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
class ConsoleProcess:
    """A console with the settings of `environment`. A context manager, which ends it."""

    environment: Mapping[str, str]
    options: Sequence[str] = ("--no-open",)
    prefix: Sequence[str] = ()
    address: str = ""
    cookie: str = ""
    said: str = ""
    process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*self.prefix, CZCTL, "ui", *self.options],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise AssertionError(self.process.communicate()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if not self.said:
            self.process.communicate()

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
        """End it as its user does; its exit code. What it had said is in `said`."""
        self.process.send_signal(number)
        _, self.said = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode

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
