"""A Daemon's local API that says what a test scripted: whole views, problems, or any bytes at all. Real UNIX socket, no Daemon behind it."""

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from codezero.model.problems import CodezeroError
from codezero.wire import problem_json
from codezero.wire.local_api import SOCKET_NAME

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: `line` is method and path, headers have lower-case names."""

    line: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as values."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes to send as they are; afterwards the connection is closed, or with `hold` kept open until the client goes.

    With `before_body` they are sent, and the connection closed, before the body of the request is read.
    """

    content: bytes
    hold: bool = False
    before_body: bool = False


SILENCE = Raw(b"", hold=True)
Reply = msgspec.Struct | CodezeroError | Raw


@dataclass
class ScriptedDaemon:
    """Answers on `run_folder`'s socket as `replies` say: "GET /v1/status" to a view, a problem, or `Raw`. A context manager.

    A list of replies is used up one by one, and its last for ever. What is not scripted is 404.
    """

    run_folder: Path
    replies: dict[str, Reply | Sequence[Reply]] = field(default_factory=dict[str, Reply | Sequence[Reply]])
    requests: list[Request] = field(default_factory=list[Request])

    def __post_init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def socket_path(self) -> Path:
        """Where it listens."""
        return self.run_folder / SOCKET_NAME

    def __enter__(self) -> Self:
        self._listener.bind(str(self.socket_path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket_path.unlink(missing_ok=True)
        # Wakes accept(), which closing alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def lines(self) -> list[str]:
        """Method and path of each request so far."""
        return [request.line for request in self.requests]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                try:
                    self._answer(connection)
                except OSError:
                    continue  # the client has gone; its test says whether it should have

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while _HEAD_END not in received:
            if not (piece := connection.recv(65536)):
                return
            received += piece
        head, _, body = received.partition(_HEAD_END)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        line = first.removesuffix(" HTTP/1.1")
        reply = self._next_reply(line)
        if isinstance(reply, Raw) and reply.before_body:
            connection.sendall(reply.content)
            return
        while len(body) < int(headers.get("content-length", "0")):
            body += connection.recv(65536)
        self.requests.append(Request(line, headers, body))
        connection.sendall(_encoded(reply))
        if isinstance(reply, Raw) and reply.hold:
            connection.recv(1)

    def _next_reply(self, line: str) -> Reply:
        scripted = self.replies.get(line)
        if scripted is None:
            return Raw(with_length(b"{}", status=404))
        if not isinstance(scripted, Sequence):
            return scripted
        asked_before = self.lines().count(line)
        return scripted[min(asked_before, len(scripted) - 1)]


def with_length(content: bytes, *, status: int = 200, kind: str = "application/json") -> bytes:
    """A whole answer with a length."""
    head = f"HTTP/1.1 {status} So\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}"
    return head.encode() + _HEAD_END + content


def in_chunks(*pieces: bytes, end: bool = True) -> bytes:
    """An answer in chunks, without the last one unless `end`."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked" + _HEAD_END
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


def _encoded(reply: Reply) -> bytes:
    match reply:
        case Raw():
            return reply.content
        case CodezeroError():
            return with_length(problem_json.encode(reply), status=reply.problem.status, kind=problem_json.CONTENT_TYPE)
        case _:
            return with_length(msgspec.json.encode(reply))
