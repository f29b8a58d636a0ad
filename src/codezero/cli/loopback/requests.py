"""The form of a request that comes over loopback, looked at before anything is done with it, and the answer's way back.

Raises `CodezeroError` for what is out of form; whose request it is, each process decides itself.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.types import Message, Receive, Send

from codezero.cli.loopback.asking import JSON, send_problem
from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_BODY: Final = 1024 * 1024
BODY_SECONDS: Final = 30.0
MAX_PATH: Final = 2048
MAX_QUERY: Final = 4096
READING: Final = frozenset({"GET", "HEAD"})
# Of whatever stands between a browser and us: nothing should.
FORWARDED: Final = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
# On every answer, unless it has its own.
HEADERS: Final[Mapping[bytes, bytes]] = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}

_TARGET: Final = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)+")
_QUERY: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
# What two readers may read in two ways, where a path is passed on: escapes that hide a separator, a dot or a NUL, and segments that go up.
_AMBIGUOUS: Final = re.compile(rb"%(?:2[fFeE]|5[cC]|00|25)|//|/\.{1,2}(?:/|$)")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")


class GoneError(Exception):
    """Whoever asked left before all of the request was there."""


class Sending:
    """ASGI's `send` with headers for every answer that has none of those names itself; knows whether an answer has begun."""

    def __init__(self, send: Send, headers: Mapping[bytes, bytes] = HEADERS) -> None:
        self.headers = headers
        self._send = send
        self._has_begun = False

    async def send(self, message: Message) -> None:
        """As ASGI's."""
        if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            self._has_begun = True
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            names = {name for name, _ in given}
            given += [(name, value) for name, value in self.headers.items() if name not in names]
            message = {**message, "headers": given}
        await self._send(message)

    async def problem(self, error: CodezeroError, *, is_websocket: bool = False) -> None:
        """Answer with the problem where nothing was answered yet; else raises it."""
        if not self._has_begun:
            await send_problem(error, self.send, is_websocket=is_websocket)
        elif not is_websocket:
            # What was begun cannot be taken back: the page sees that the answer is cut, and not that it has ended.
            raise error


def headers_of(given: Sequence[tuple[bytes, bytes]], *, once: frozenset[str]) -> Mapping[str, str]:
    """The headers by lower-case name; each of `once` is there once at most."""
    found: dict[str, str] = {}
    for name, value in ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in given):
        if name in found and name in once:
            raise CodezeroError(problems.BAD_REQUEST, f"the header {name} is given twice")
        found[name] = f"{found[name]}; {value}" if name in found else value
    return found


def check_target(path: bytes, query: bytes, *, is_api: bool = True) -> None:
    """Whether path and query are written as ours are, where they are to be passed on or compared (`is_api`)."""
    if len(path) > MAX_PATH or not path.startswith(b"/"):
        raise CodezeroError(problems.BAD_REQUEST, "the target of the request is no path")
    if not is_api:
        # An address within the GUI, which its own page makes sense of.
        return
    if not _TARGET.fullmatch(path) or _AMBIGUOUS.search(path):
        raise CodezeroError(problems.BAD_REQUEST, "the path of the request is not one of ours")
    if len(query) > MAX_QUERY or not _QUERY.fullmatch(query) or b"%00" in query:
        raise CodezeroError(
            problems.BAD_REQUEST, "the query of the request is too long, or has characters without escapes"
        )


def check_body(method: str, headers: Mapping[str, str]) -> None:
    """Whether there may be a body of that length and type."""
    if "transfer-encoding" in headers or "content-encoding" in headers:
        raise CodezeroError(problems.BAD_REQUEST, "a body is sent as it is, with its length")
    text = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(text.encode("latin-1")):
        raise CodezeroError(problems.BAD_REQUEST, "the content length is not a number")
    length = int(text)
    if length > MAX_BODY:
        raise CodezeroError(problems.TOO_LARGE, f"a body of {length} bytes; at most {MAX_BODY} are taken")
    if length and method in READING:
        raise CodezeroError(problems.BAD_REQUEST, f"a {method} has no body")
    if length and headers.get("content-type") != JSON:
        raise CodezeroError(problems.BAD_REQUEST, f"the content type of the body is not {JSON}")


async def body_of(receive: Receive) -> bytes:
    """The whole body; its length was looked at before, and HTTP lets no more come."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise CodezeroError(problems.TIMED_OUT, f"the body did not come within {BODY_SECONDS:g} s") from None
