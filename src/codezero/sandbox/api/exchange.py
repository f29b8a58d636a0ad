"""One HTTP request and the ways to answer it, on top of ASGI and the connection it came by."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import parse_qsl

from codezero.sandbox.api import documents, errors, protobuf
from codezero.sandbox.api.documents import DocumentError, JsonObject, JsonValue, encode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
BODY_LIMIT = 3 * 1024 * 1024
CONNECTION = "codezero.connection"


class Connection(Protocol):
    """The TCP connection a request came by."""

    certificate: bytes | None
    lost: asyncio.Event
    transport: asyncio.Transport

    def on_lost(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the connection ends; the result takes that back."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """The form an answer is wanted in: plain objects, a table, or metadata alone; as JSON or YAML."""

    shape: str = ""
    media_type: str = JSON


class Exchange:
    """A request with its answer."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.connection: Connection = scope[CONNECTION]
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self._header_lines: list[tuple[bytes, bytes]] = scope["headers"]
        self._query_string: bytes = scope["query_string"]
        self._receive = receive
        self._send = send
        self.warnings: list[str] = []
        self.is_started = False

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters; of repeated ones the last."""
        try:
            return dict(parse_qsl(self._query_string.decode("ascii"), keep_blank_values=True, max_num_fields=100))
        except (ValueError, UnicodeDecodeError):
            raise errors.bad_request("the query cannot be read") from None

    def header_values(self, name: str) -> list[str]:
        """All values of a header that may come more than once."""
        return [value.decode("latin-1") for key, value in self._header_lines if key == name.encode()]

    def flag(self, name: str) -> bool:
        """Whether a parameter is set to true."""
        value = self.query.get(name, "")
        if value.lower() not in {"", "true", "false", "1", "0"}:
            raise errors.bad_request(f"{name} must be true or false")
        return value.lower() in {"true", "1"}

    def number(self, name: str) -> int | None:
        """A parameter that is a whole number of 0 or more."""
        value = self.query.get(name, "")
        if not value:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > 18:
            raise errors.bad_request(f"{name} must be a whole number")
        return int(value)

    async def body(self) -> bytes:
        """The whole body; raises `ApiError` 413 for one over the limit."""
        declared = self.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > BODY_LIMIT:
            raise errors.too_large(BODY_LIMIT)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise errors.bad_request("the client went away")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > BODY_LIMIT:
                raise errors.too_large(BODY_LIMIT)
            if not message.get("more_body"):
                return b"".join(parts)

    async def document(self, *, is_optional: bool = False) -> JsonValue:
        """The body as a document; None for an empty one that `is_optional`."""
        given = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await self.body()
        if is_optional and not body.strip():
            return None
        try:
            if "yaml" in given:
                return documents.decode_yaml(body)
            if given == protobuf.MEDIA_TYPE:
                return protobuf.decode(body)
            if given in {"", "*/*"} or given.endswith("json"):
                return documents.decode(body)
        except DocumentError as error:
            raise errors.bad_request(f"the body of the request cannot be read: {error}") from None
        raise errors.unsupported_media_type(given, (JSON, "application/yaml"))

    async def json_object(self) -> JsonObject:
        """The body as an object."""
        document = await self.document()
        if not documents.is_object(document):
            raise errors.bad_request("the body of the request must be an object")
        return document

    def form(self) -> Form:
        """What the client wants the answer to look like; raises `ApiError` 406 where we can do none of it."""
        accept = self.headers.get("accept") or "*/*"
        for wish in accept.split(","):
            media_type, _, parameters = wish.strip().partition(";")
            pairs = (part.strip().partition("=") for part in parameters.split(";") if part)
            values = {name: value for name, _, value in pairs}
            shape = values.get("as", "")
            if media_type in {JSON, "*/*", "application/*"} and shape in {
                "",
                "Table",
                "PartialObjectMetadata",
                "PartialObjectMetadataList",
            }:
                if not shape or values.get("v") == "v1":
                    return Form(shape)
            elif media_type in {"application/yaml", "text/yaml"} and not shape:
                return Form("", "application/yaml")
        raise errors.ApiError(
            406, "NotAcceptable", "only the following media types are accepted: application/json, application/yaml"
        )

    async def answer(
        self, content: bytes, *, status: int = 200, media_type: str = JSON, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Answer with a whole body."""
        lines = [("content-type", media_type), ("content-length", str(len(content))), *headers]
        await self._start(status, lines)
        await self._send({"type": "http.response.body", "body": content})

    async def answer_object(self, content: object, *, status: int = 200) -> None:
        """Answer with a document."""
        await self.answer(encode(content), status=status)

    async def refuse(self, error: errors.ApiError) -> None:
        """Answer with a failure."""
        await self.answer(encode(error.status()), status=error.code, headers=error.headers.items())

    async def start_stream(self, media_type: str = JSON) -> None:
        """Begin an answer that is sent in pieces."""
        await self._start(200, [("content-type", media_type), ("cache-control", "no-cache, private")])

    async def send(self, content: bytes) -> None:
        """Send a piece; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end_stream(self) -> None:
        """End an answer that was sent in pieces."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.is_started = True
        warned = [("warning", f'299 - "{_quotable(warning)}"') for warning in self.warnings[:20]]
        lines = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in (*headers, *warned)]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def cut(self) -> None:
        """Close the connection after what was sent, without ending the answer."""
        self.connection.transport.close()
        await self.connection.lost.wait()

    async def reset(self) -> None:
        """Abort the connection: the client sees a reset."""
        given: socket.socket = self.connection.transport.get_extra_info("socket")
        # A duplicate, because event loops hand out stand-ins for their sockets; options belong to the connection itself.
        with socket.socket(fileno=os.dup(given.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.transport.abort()
        await self.connection.lost.wait()


def _quotable(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in '"\\' else "'" for letter in text)[:200]
