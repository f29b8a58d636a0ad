"""The files of the GUI, read once into memory, and the answer to each request below `/ui/`.

Whatever is asked for is looked up among the files that were there at the start: no path of a request ever reaches the disk. A page address of the GUI
has no file, and gets the page itself, which shows what the address means. Whoever serves this decides who may ask (the Hub: anybody, for there is
nothing secret in it) and passes on the answer as it is.
"""

import gzip
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import msgspec

from codezero import __version__

PREFIX: Final = "/ui/"
# Stands in the page where each answer has a nonce of its own.
NONCE: Final = b"__CSP_NONCE__"
# Of a machine that somebody's browser runs on: its port is its own.
LOOPBACK: Final = "http://127.0.0.1:*"

_BUILT: Final = Path(__file__).parent / "built"
_INDEX: Final = "index.html"
_ASSETS: Final = "assets/"
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_UNKNOWN_TYPE: Final = "application/octet-stream"
_COMPRESSED_ALREADY: Final = frozenset({"image/png", "image/webp", "font/woff2"})
# Below it, the header of a gzip member costs more than it saves on the way.
_WORTH_COMPRESSING: Final = 1024
_NEVER_CHANGES: Final = "public, max-age=31536000, immutable"
_ASK_EACH_TIME: Final = "no-cache"
_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), usb=()",
    # With `no-referrer` browsers would not say where a form comes from, either.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Where:
    """Where the page runs: what it is told at `/ui/app.json`. `hub` is the Hub's public URL, where one is known."""

    served_by: Literal["hub", "console"]
    hub: str | None
    release: str = __version__


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as HTTP has it. To HEAD it goes without its body; what Content-Length says holds all the same."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class File:
    """A file that is served. `compressed` is left out where it would not be smaller; `is_immutable` where its name changes with its content."""

    content: bytes
    media_type: str
    etag: str
    compressed: bytes | None
    is_immutable: bool


class Site:
    """The GUI of one place. `folder` is that of the build; without it, what was built into this package."""

    def __init__(self, where: Where, folder: Path = _BUILT) -> None:
        # The page of a Hub reaches the machine that it is paired with (ADR 17); the console is on that machine itself.
        self._reaches = (LOOPBACK,) if where.served_by == "hub" else ()
        self._about = msgspec.json.encode(where)
        self._files = _read(folder)

    @property
    def is_built(self) -> bool:
        """Whether there is a GUI to serve; where there is none, every answer but `app.json` is 404."""
        return _INDEX in self._files

    def answer(self, path: str, *, method: str = "GET", encodings: str = "", known: str = "") -> Answer:
        """The answer for `path`, decoded and without its query; `encodings` is its Accept-Encoding, `known` its If-None-Match."""
        if method not in {"GET", "HEAD"}:
            return _plain(405, {"Allow": "GET, HEAD"})
        if path == PREFIX.rstrip("/"):
            return _plain(308, {"Location": PREFIX})
        if not path.startswith(PREFIX):
            return _plain(404)
        name = path.removeprefix(PREFIX)
        answer = self._of(name, encodings, known)
        return answer if method == "GET" else Answer(answer.status, answer.headers)

    def _of(self, name: str, encodings: str, known: str) -> Answer:
        if name == "app.json":
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
            return _whole(headers, self._about)
        if name in self._files and name != _INDEX:
            return _file(self._files[name], encodings, known)
        if not self.is_built or name.startswith(_ASSETS):
            return _plain(404)
        return _page(self._files[_INDEX].content, self._reaches)


def policy(nonce: str | None = None, reaches: Iterable[str] = ()) -> str:
    """What the page may do. Programs and styles are ours alone, by their files; nothing is loaded from, sent to (but to what it `reaches`) or shown in other places.

    `nonce` lets in the style elements that Mantine makes: its variables and what depends on the width of the screen. It writes them by innerHTML, which
    is why a policy of Trusted Types by the name `default` is let in: that of gui/src, which takes text without any markup and nothing else.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'" if nonce is None else f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self' data:",
            "font-src 'self'",
            " ".join(("connect-src 'self'", *reaches)),
            "manifest-src 'self'",
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types default",
        )
    )


def _page(content: bytes, reaches: Iterable[str]) -> Answer:
    """The page with a nonce for this answer alone, which is why no browser keeps it."""
    nonce = secrets.token_urlsafe(16) if NONCE in content else None
    headers = {
        "Content-Type": _MEDIA_TYPES[".html"],
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy(nonce, reaches),
    }
    return _whole(headers, content if nonce is None else content.replace(NONCE, nonce.encode()))


def _file(file: File, encodings: str, known: str) -> Answer:
    is_compressed = file.compressed is not None and _takes_gzip(encodings)
    etag = f'"{file.etag}-gzip"' if is_compressed else f'"{file.etag}"'
    headers = {"Cache-Control": _NEVER_CHANGES if file.is_immutable else _ASK_EACH_TIME, "ETag": etag}
    if file.compressed is not None:
        headers["Vary"] = "Accept-Encoding"
    if _is_known(etag, known):
        return Answer(304, {**_HEADERS, **headers})
    headers["Content-Type"] = file.media_type
    # A picture that is opened by itself is a page, too.
    headers["Content-Security-Policy"] = policy()
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    return _whole(headers, file.compressed if is_compressed and file.compressed is not None else file.content)


def _whole(headers: Mapping[str, str], body: bytes) -> Answer:
    defaults = {**_HEADERS, "Content-Security-Policy": policy()}
    return Answer(200, {**defaults, **headers, "Content-Length": str(len(body))}, body)


def _plain(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that is no file of the GUI."""
    texts = {308: "", 404: "There is no such file.\n", 405: "Files are only read.\n"}
    body = texts[status].encode()
    given = {"Content-Type": _MEDIA_TYPES[".txt"], "Cache-Control": "no-store", "Content-Security-Policy": policy()}
    return Answer(status, {**_HEADERS, **given, **(headers or {}), "Content-Length": str(len(body))}, body)


def _takes_gzip(encodings: str) -> bool:
    """Whether `gzip` is among them, and not only to say that it is not wanted."""
    for part in encodings.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if name == "gzip":
            weights = [value for value in parameters if value.startswith("q=")]
            return not any(weight.removeprefix("q=").strip("0.") == "" for weight in weights)
    return False


def _is_known(etag: str, known: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return etag in tags or "*" in tags


@cache
def _read(folder: Path) -> Mapping[str, File]:
    """The files in `folder` by their paths; none where it does not exist. What is hidden, or is a link, is no part of the build."""
    names = {path.relative_to(folder).as_posix(): path for path in _regular(folder)}
    return {name: _made(name, path.read_bytes()) for name, path in sorted(names.items())}


def _regular(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        if (
            path.is_file()
            and not path.is_symlink()
            and not any(part[0] == "." for part in path.relative_to(folder).parts)
        ):
            yield path


def _made(name: str, content: bytes) -> File:
    media_type = _MEDIA_TYPES.get(Path(name).suffix, _UNKNOWN_TYPE)
    compressed = None
    if len(content) >= _WORTH_COMPRESSING and media_type not in _COMPRESSED_ALREADY:
        # Without the time: replicas of a Hub give the same bytes for the same tag.
        smaller = gzip.compress(content, 9, mtime=0)
        compressed = smaller if len(smaller) < len(content) else None
    return File(
        content,
        media_type,
        hashlib.sha256(content).hexdigest()[:32],
        compressed,
        is_immutable=name.startswith(_ASSETS),
    )
