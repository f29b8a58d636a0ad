"""In what two answers to one request differ, told so that a person sees it at a glance. Pure.

Both answers are a stranger's bytes: everything told is short and printable. Nothing is told of a value that may be a credential, only that it differs.
"""

import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

from codezero.wire.tracing import MirrorDifference

MAX_TEXT = 300
MAX_HEADERS = 16
MAX_PATHS = 8
# A body that is packed is unpacked up to here.
MAX_UNPACKED = 1 << 18

NOT_SHOWN = "(not shown)"

# Of the connection (RFC 9110, 7.6.1), of the moment, of the way, or of the one exchange: they differ between equal answers.
_IGNORED = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("date", "expires", "age", "server", "via", "alt-svc", "server-timing", "x-runtime", "x-response-time"),
        *("request-id", "x-request-id", "x-correlation-id", "x-amzn-trace-id", "traceresponse"),
        *("traceparent", "tracestate", "b3"),
    }
)
_IGNORED_PREFIXES = ("x-envoy-", "x-codezero-", "x-b3-")
# An author is no secret.
_SECRET = re.compile(
    r"auth(?!or(?!i))|cookie|token|secret|passw|credential|session|signature|(?:api|private)[-_]?key|csrf|xsrf",
    re.IGNORECASE,
)
_UNPACKED_BY = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_BEFORE, _EXCERPT = 16, 60
_DEEPEST = 50
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: `headers` with names in lower case, `body` as much of it as is known, `length` that of all of it.

    `trouble` says why there is none (status 0), or why it has no end.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    length: int = 0
    milliseconds: float = 0.0
    trouble: str = ""

    @property
    def size(self) -> int:
        """About how much memory it takes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers) + 500


def differences(origin: Answer, variant: Answer) -> tuple[MirrorDifference, ...]:
    """In what `variant` differs from `origin`: status, headers by name, body; a side that has nothing there is told as an empty text."""
    if not variant.status:
        return (_difference("status", str(origin.status), variant.trouble or "no answer"),)
    found = [*_header_differences(origin, variant)]
    if origin.status != variant.status:
        found.insert(0, _difference("status", str(origin.status), str(variant.status)))
    if variant.trouble:
        found.append(_difference("body", f"{origin.length} bytes", variant.trouble))
    else:
        found += _body_differences(origin, variant)
    return tuple(found)


def shown(text: str) -> str:
    """`text` without characters that could do something to a terminal, shortened."""
    # Cut before and after: a stranger's text may be long, and an escape is longer than its character.
    text = text[: MAX_TEXT + 1]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _difference(what: str, origin: str, variant: str) -> MirrorDifference:
    return MirrorDifference(shown(what), shown(origin), shown(variant))


# Headers -------------------------------------------------------------------------------------------------------------------------------


def _header_differences(origin: Answer, variant: Answer) -> Iterator[MirrorDifference]:
    ours, theirs = _lines(origin), _lines(variant)
    differing = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    # An answer to HEAD has its length here alone; of others the body tells.
    if origin.length or variant.length or not ("content-length" in ours and "content-length" in theirs):
        differing = [name for name in differing if name != "content-length"]
    for name in differing[:MAX_HEADERS]:
        one, other = (_value(name, lines.get(name)) for lines in (ours, theirs))
        yield _difference(f"header {name}", one, other)
    if len(differing) > MAX_HEADERS:
        yield _difference(f"{len(differing) - MAX_HEADERS} more headers", "", "")


def _lines(answer: Answer) -> dict[str, list[str]]:
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in answer.headers:
        if name == "set-cookie":
            lines[name].append(_without_value(value))
        elif name not in _IGNORED and not name.startswith(_IGNORED_PREFIXES):
            lines[name].append(value.strip(" \t"))
    return dict(lines)


def _without_value(cookie: str) -> str:
    """A cookie's name and attributes: each answer may set another value and another end."""
    first, *attributes = cookie.split(";")
    kept = (one.strip() for one in attributes if one.strip()[:8].lower() != "expires=")
    return ";".join((first.partition("=")[0].strip(), *kept))


def _value(name: str, lines: list[str] | None) -> str:
    if lines is None:
        return ""
    return NOT_SHOWN if _SECRET.search(name) else ", ".join(lines)


# Bodies --------------------------------------------------------------------------------------------------------------------------------


def _body_differences(origin: Answer, variant: Answer) -> Iterator[MirrorDifference]:
    if origin.length == variant.length and origin.body == variant.body:
        return
    ours, theirs = _unpacked(origin), _unpacked(variant)
    if ours.is_whole and theirs.is_whole:
        if ours.data == theirs.data:
            return
        found = _json_differences(ours.data, theirs.data)
        if found is not None:
            yield from found
            return
    yield from _byte_differences(ours, theirs)


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    length: int | None

    @property
    def is_whole(self) -> bool:
        return self.length == len(self.data)

    @property
    def size(self) -> str:
        return f"{self.length} bytes" if self.length is not None else f"more than {len(self.data)} bytes"


def _unpacked(answer: Answer) -> _Body:
    """The body without its gzip or deflate: two of them pack equal content into unequal bytes."""
    as_sent = _Body(answer.body, answer.length)
    encodings = [value.strip().lower() for name, value in answer.headers if name == "content-encoding"]
    bits = _UNPACKED_BY.get(encodings[0]) if len(encodings) == 1 else None
    if bits is None:
        return as_sent
    unpacker = zlib.decompressobj(bits)
    try:
        data = unpacker.decompress(answer.body, MAX_UNPACKED)
    except zlib.error:
        return as_sent
    return _Body(data, len(data) if unpacker.eof else None)


def _byte_differences(ours: _Body, theirs: _Body) -> Iterator[MirrorDifference]:
    at = _alike(ours.data, theirs.data)
    shorter, longer = sorted((ours, theirs), key=lambda body: len(body.data))
    if at < len(shorter.data) or (shorter.is_whole and at < len(longer.data)):
        yield _difference("body", _excerpt(ours, at), _excerpt(theirs, at))
    elif None not in (ours.length, theirs.length) and ours.length != theirs.length:
        # Alike as far as both are known.
        yield _difference("body", ours.size, theirs.size)


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _excerpt(body: _Body, at: int) -> str:
    begin = max(0, at - _BEFORE)
    text = body.data[begin : at + _EXCERPT].decode("utf-8", "backslashreplace")
    return f"at byte {at} of {body.size}: {'…' if begin else ''}{text}"


# JSON ----------------------------------------------------------------------------------------------------------------------------------


def _json_differences(origin: bytes, variant: bytes) -> list[MirrorDifference] | None:
    """In what two documents differ; None where they are none with parts."""
    if not all(data.lstrip(b" \t\r\n")[:1] in (b"{", b"[") for data in (origin, variant)):
        return None
    try:
        # A NaN would differ from itself.
        ours, theirs = (json.loads(data, parse_constant=str) for data in (origin, variant))
        found = list(islice(_paths(ours, theirs, "", depth=0), MAX_PATHS + 1))
    except (ValueError, RecursionError):
        return None
    told = [_difference(f"body {path}".rstrip(), one, other) for path, one, other in found[:MAX_PATHS]]
    return [*told, *([_difference("more of body", "", "")] if len(found) > MAX_PATHS else ())]


def _paths(origin: object, variant: object, path: str, *, depth: int) -> Iterator[tuple[str, str, str]]:
    """Where two documents differ, and what stands there."""
    if depth < _DEEPEST and isinstance(origin, dict) and isinstance(variant, dict):
        ours, theirs = cast("dict[str, object]", origin), cast("dict[str, object]", variant)
        for name in dict.fromkeys((*ours, *theirs)):
            below = f"{path}.{_step(name)}" if path else _step(name)
            if name not in ours or name not in theirs:
                yield below, _member(ours, name), _member(theirs, name)
            elif _SECRET.search(name) and ours[name] != theirs[name]:
                yield below, NOT_SHOWN, NOT_SHOWN
            else:
                yield from _paths(ours[name], theirs[name], below, depth=depth + 1)
    elif depth < _DEEPEST and isinstance(origin, list) and isinstance(variant, list):
        ours, theirs = cast("list[object]", origin), cast("list[object]", variant)
        if len(ours) != len(theirs):
            yield path, f"{len(ours)} entries", f"{len(theirs)} entries"
        for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _paths(one, other, f"{path}[{number}]", depth=depth + 1)
    elif isinstance(origin, bool) is not isinstance(variant, bool) or origin != variant:
        yield path, _text(cast("object", origin)), _text(variant)


def _step(name: str) -> str:
    # An empty name, or one with dots, would be read as something else.
    return name[:_LONGEST_NAME] if name and "." not in name else json.dumps(name[:_LONGEST_NAME], ensure_ascii=False)


def _member(among: dict[str, object], name: str) -> str:
    if name not in among:
        return ""
    return NOT_SHOWN if _SECRET.search(name) else _text(among[name])


def _text(document: object) -> str:
    # A whole tree may stand on one side and nothing on the other; its names may be those of secrets.
    if isinstance(document, dict):
        return f"an object of {len(cast('dict[str, object]', document))}"
    if isinstance(document, list):
        return f"{len(cast('list[object]', document))} entries"
    return json.dumps(document, ensure_ascii=False)
