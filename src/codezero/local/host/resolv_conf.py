"""Our name server in resolv.conf: first, with the machine's own servers behind it, so that a dead Daemon costs milliseconds.

Format and limits: resolv.conf(5) of glibc. Lines of others that cannot stand as they are get a prefix and come back unchanged.
"""

from codezero.wire.host_api import DNS_ADDRESS

DEFAULT_PATH = "/etc/resolv.conf"

_HEAD = b"# Codezero answers the names of consumed services; `czctl stop` or `czctl cleanup` puts this file back.\n"
_OURS = b"nameserver " + DNS_ADDRESS.encode()
_KEPT = b"#codezero-kept "
_TAIL = b"# Codezero: the next line is ours\n"
_TAIL_AFTER_OPEN_LINE = b"# Codezero: the next line is ours, and the line above had no end\n"
# glibc reads three servers; one of them is ours.
_SERVERS_BESIDE_OURS = 2


def insert(original: bytes) -> bytes:
    """The file with our server in front; a server above glibc's limit and `rotate` (which would ask others for our names) are set aside."""
    original = strip(original)
    lines: list[bytes] = []
    options: list[bytes] = []
    servers = 0
    for line in _lines(original):
        words = line.split()
        keyword = words[0] if words and line[:1] not in b" \t" else b""
        if keyword == b"nameserver":
            servers += 1
        if keyword == b"options" and b"rotate" in words:
            options += [word for word in words[1:] if word != b"rotate" and not word.startswith(b"timeout:")]
            lines.append(_KEPT + line)
        elif keyword == b"nameserver" and servers > _SERVERS_BESIDE_OURS:
            lines.append(_KEPT + line)
        else:
            lines.append(line)
    body = b"".join(lines)
    tail = _TAIL
    if body and not body.endswith(b"\n"):
        body, tail = body + b"\n", _TAIL_AFTER_OPEN_LINE
    return _HEAD + _OURS + b"\n" + body + tail + b" ".join([b"options", *options, b"timeout:1"]) + b"\n"


def strip(content: bytes) -> bytes:
    """The file without our lines, wherever they stand; exactly the original if nobody edited it since."""
    kept: list[bytes] = []
    skip_options = False
    open_line: int | None = None
    for line in map(_unkept, _lines(content)):
        if skip_options and line.startswith(b"options "):
            skip_options = False
            continue
        skip_options = line in (_TAIL, _TAIL_AFTER_OPEN_LINE)
        if line == _TAIL_AFTER_OPEN_LINE:
            open_line = len(kept)
        if not skip_options and line != _HEAD and line.split() != _OURS.split():
            kept.append(line)
    # What was added below must not grow into the line above.
    if kept and open_line == len(kept):
        kept[-1] = kept[-1].removesuffix(b"\n")
    return b"".join(kept)


def _unkept(line: bytes) -> bytes:
    while line.startswith(_KEPT):
        line = line.removeprefix(_KEPT)
    return line


def servers(content: bytes) -> tuple[str, ...]:
    """The name servers that `content` lists, in order and all of them, without ours and without duplicates."""
    found: list[str] = []
    for line in _lines(strip(content)):
        words = line.split()
        if len(words) >= 2 and words[0] == b"nameserver" and line[:1] not in b" \t":
            address = words[1].decode("ascii", "replace")
            if address not in found:
                found.append(address)
    return tuple(found)


def _lines(content: bytes) -> list[bytes]:
    """Lines with their ends; bytes.splitlines would also split at a lone carriage return, which resolv.conf does not."""
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
