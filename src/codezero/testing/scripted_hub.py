"""A Hub whose answers are scripted, on loopback, for tests of its clients."""

import http.server
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from codezero.model.problems import CodezeroError
from codezero.wire import problem_json


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came: header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as values."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Slowly:
    """An answer that comes in pieces, with a pause before each; without its end where it is `cut`."""

    pieces: Sequence[bytes]
    pause: float = 0.0
    cut: bool = False
    kind: str = "application/x-ndjson"


Reply = object | CodezeroError | Callable[[Asked], object]


@dataclass
class ScriptedHub:
    """Answers `METHOD /path` with what `replies` has: a value (200), an error, or what a function makes of the request. Use as a context manager."""

    replies: dict[str, Reply] = field(default_factory=dict[str, Reply])
    asked: list[Asked] = field(default_factory=list[Asked])
    url: str = ""

    def __enter__(self) -> Self:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def requests(self, method: str, path: str) -> list[Asked]:
        """Those that came for one thing."""
        return [one for one in self.asked if (one.method, one.path) == (method, path)]

    def answer(self, asked: Asked) -> tuple[int, str, bytes | Slowly]:
        """Status, content type and content for a request."""
        self.asked.append(asked)
        found = self.replies.get(f"{asked.method} {asked.path}")
        value: object = found(asked) if callable(found) else found
        if value is None:
            return 404, "application/json", b'{"detail": "not scripted"}'
        if isinstance(value, CodezeroError):
            return value.problem.status, problem_json.CONTENT_TYPE, problem_json.encode(value)
        if isinstance(value, Slowly):
            return 200, value.kind, value
        if isinstance(value, bytes):
            return 200, "application/x-ndjson", value
        if isinstance(value, OAuthRefusal):
            return 400, "application/json", msgspec.json.encode({"error": value.error, "error_description": value.text})
        return 200, "application/json", msgspec.json.encode(value)


@dataclass(frozen=True, slots=True)
class OAuthRefusal:
    """A refusal of the token endpoint."""

    error: str
    text: str = "refused"


def _handler(hub: ScriptedHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def _any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, kind, content = hub.answer(Asked(self.command, parts.path, parts.query, headers, body))
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("ETag", '"7"')
            if isinstance(content, Slowly):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for piece in content.pieces:
                    time.sleep(content.pause)
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                if not content.cut:
                    self.wfile.write(b"0\r\n\r\n")
                return
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - http.server's names

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
            pass

    return Handler
