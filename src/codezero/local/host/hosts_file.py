"""Our block in the hosts file, between markers people know; everything outside it is theirs and stays byte for byte.

Edits inside the block are discarded with it. A block whose markers were damaged is recognised by its notes and by addresses of our range.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network

from codezero.wire.host_api import VIRTUAL_NETWORK

DEFAULT_PATH = "/etc/hosts"

_FENCE = b"###\n"
_BEGIN = b"# CODEZERO\n"
_NOTE = b"# Do not edit: Codezero writes this block and removes it when it stops.\n"
_OPEN_LINE_NOTE = b"# The line before this block had no end.\n"
_END = b"# /CODEZERO\n"
# glibc reads lines of any length, others stop at 1,024 bytes.
_LINE_LIMIT = 900
_RANGE = tuple(
    f"127.{second}.".encode() for second in range(72, 72 + IPv4Network(VIRTUAL_NETWORK).num_addresses // 65536)
)


def insert(original: bytes, entries: Iterable[tuple[str, str]]) -> bytes:
    """The file with our block of (name, address) `entries` at its end; without entries the file without a block."""
    original = strip(original)
    lines = [*_entry_lines(entries)]
    if not lines:
        return original
    open_line = bool(original) and not original.endswith(b"\n")
    before = [b"\n"] if open_line else []
    notes = [_NOTE, _OPEN_LINE_NOTE] if open_line else [_NOTE]
    return b"".join([original, *before, _FENCE, _BEGIN, *notes, *lines, _END, _FENCE])


def strip(content: bytes) -> bytes:
    """The file without our blocks, whole or damaged; exactly the original where the block is as we wrote it."""
    lines = _lines(content)
    ours = [False] * len(lines)
    open_lines: set[int] = set()
    for begin, end in _blocks(lines):
        for index in range(begin, end):
            ours[index] = True
            if lines[index] == _OPEN_LINE_NOTE:
                open_lines.add(begin - 1)
    kept: list[bytes] = []
    for index, line in enumerate(lines):
        if not ours[index]:
            # What was added below the block must not grow into the line above it.
            alone = index in open_lines and all(ours[index + 1 :])
            kept.append(line.removesuffix(b"\n") if alone else line)
    return b"".join(kept)


def _blocks(lines: list[bytes]) -> Iterable[tuple[int, int]]:
    """Where our blocks begin and end (exclusive), fences included."""
    index = 0
    while index < len(lines):
        if _is(lines[index], _BEGIN):
            end = _end_of_block(lines, index)
        elif _is(lines[index], _END):
            end = index + 1
        else:
            index += 1
            continue
        begin = index
        if _is(lines[index], _END):
            while begin and _is_written_by_us(lines[begin - 1]):
                begin -= 1
        if begin and _is(lines[begin - 1], _FENCE):
            begin -= 1
        if end < len(lines) and _is(lines[end], _FENCE) and _is(lines[end - 1], _END):
            end += 1
        yield begin, end
        index = end


def _end_of_block(lines: list[bytes], begin: int) -> int:
    for index in range(begin + 1, len(lines)):
        if _is(lines[index], _END):
            return index + 1
        if _is(lines[index], _BEGIN):
            break
    end = begin + 1
    while end < len(lines) and _is_written_by_us(lines[end]):
        end += 1
    return end


def _is(line: bytes, marker: bytes) -> bool:
    """Whether the line is that marker, also after an editor changed the line ends."""
    return line.rstrip() == marker.rstrip()


def _is_written_by_us(line: bytes) -> bool:
    return _is(line, _NOTE) or _is(line, _OPEN_LINE_NOTE) or line.startswith(_RANGE)


def _entry_lines(entries: Iterable[tuple[str, str]]) -> Iterable[bytes]:
    names: dict[str, list[str]] = {}
    for name, address in entries:
        names.setdefault(address, []).append(name)
    for address, all_names in names.items():
        line = address
        for name in all_names:
            if len(line) + 1 + len(name) > _LINE_LIMIT:
                yield f"{line}\n".encode()
                line = address
            line += f" {name}"
        yield f"{line}\n".encode()


def _lines(content: bytes) -> list[bytes]:
    parts = content.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
