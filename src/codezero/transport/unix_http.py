"""One HTTP/1.1 request over a UNIX socket: as much of HTTP as the Daemon's local API speaks, strictly, and light to import.

Not `http.client`: it loads `email` and `ssl`, a quarter of the time `czctl status` may take, and its time limit begins anew with every byte.
"""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

MAX_HEAD: Final = 16 * 1024
MAX_CONTENT: Final = 64 * 1024 * 1024

_PIECE: Final = 256 * 1024
_RETRY_SECONDS: Final = 0.02
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?")


class AnswerError(Exception):
    """What came back is not an answer in HTTP/1.1 with a length or in chunks."""


class Exchange:
    """A request and its answer on a connection of their own. Use as a context manager, which closes the connection.

    Everything raises `TimeoutError` when `deadline` seconds (None: any time) have gone since the start, `EOFError` when the other end stops in
    the middle, `AnswerError`, and the `OSError` of the socket.
    """

    def __init__(self, path: Path, *, deadline: float | None) -> None:
        self._until = time.monotonic() + deadline if deadline is not None else None
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def request(self, method: str, target: str, *, host: str, body: bytes | None = None) -> int:
        """Send the request, `body` being JSON; gives the status of the answer, whose content can be read then."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept: application/json", "Connection: close"]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        elif method in ("PUT", "POST"):
            lines.append("Content-Length: 0")
        self._limit()
        try:
            self._socket.sendall("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (body or b""))
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a request by its head answers without reading the body. The answer says why.
            pass
        status, self._headers = self._head()
        return status

    def content(self) -> bytes:
        """The whole content of the answer."""
        content = bytearray()
        for piece in self.pieces():
            content += piece
            if len(content) > MAX_CONTENT:
                raise AnswerError(f"the answer has more than {MAX_CONTENT} bytes")
        return bytes(content)

    def pieces(self) -> Iterator[bytes]:
        """The content of the answer, as it comes."""
        coding, length = self._headers.get(b"transfer-encoding"), self._headers.get(b"content-length")
        if coding == b"chunked" and length is None:
            yield from self._chunks()
        elif coding is None and length is not None and _LENGTH.fullmatch(length):
            yield from self._bytes(int(length))
        else:
            raise AnswerError("the answer has neither a length nor chunks")

    def _connect(self, path: Path) -> None:
        while True:
            self._limit()
            try:
                self._socket.connect(str(path))
            except BlockingIOError:
                # The queue of connections is full: whoever listens does not accept at the moment.
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > MAX_HEAD:
                raise AnswerError(f"the head of the answer has more than {MAX_HEAD} bytes")
            self._receive()
        first, *lines = bytes(self._received[:end]).split(b"\r\n")
        del self._received[: end + 4]
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise AnswerError("the answer is not HTTP/1.1")
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if not colon or (name in headers and name in (b"content-length", b"transfer-encoding")):
                raise AnswerError("the head of the answer is malformed")
            headers[name] = value.strip(b" \t")
        return int(match[1]), headers

    def _chunks(self) -> Iterator[bytes]:
        while True:
            match = _CHUNK.fullmatch(self._line())
            if match is None:
                raise AnswerError("a chunk of the answer is malformed")
            length = int(match[1], 16)
            if length == 0:
                break
            yield from self._bytes(length)
            if self._line():
                raise AnswerError("a chunk of the answer is longer than it says")
        while self._line():
            pass

    def _bytes(self, length: int) -> Iterator[bytes]:
        while length:
            if not self._received:
                self._receive()
            piece = bytes(self._received[:length])
            del self._received[:length]
            length -= len(piece)
            yield piece

    def _line(self) -> bytes:
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > MAX_HEAD:
                raise AnswerError("a line of the answer is too long")
            self._receive()
        line = bytes(self._received[:end])
        del self._received[: end + 2]
        return line

    def _receive(self) -> None:
        self._limit()
        piece = self._socket.recv(_PIECE)
        if not piece:
            raise EOFError("the connection ended in the middle of the answer")
        self._received += piece

    def _limit(self) -> None:
        """Give the next operation what is left of the time."""
        if self._until is None:
            return
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
