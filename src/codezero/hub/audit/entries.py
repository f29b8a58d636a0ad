"""What an entry is, and the one form of it that is hashed and exported: JSON after RFC 8785.

    {"action":...,"actor":{...},"address":...,"at":...,"before":...,"details":{...},"id":...,"number":...,"organization":...,"outcome":...,
     "request":...,"source":...,"target":{...},"version":1}

`before` is the hash of the entry before, `START` for the first one; the hash of an entry is SHA-256 over the form's bytes.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

from codezero.hub.storage.tables import AuditEntry

VERSION: Final = 1
START: Final = hashlib.sha256(b"codezero audit").digest()

_LONGEST_TEXT: Final = 1000
_LONGEST_LABEL: Final = 64
_MOST_PARTS: Final = 200
_DEEPEST: Final = 6
# What JSON's readers agree upon (RFC 8785 3.2.2.3).
_LARGEST_NUMBER: Final = 2**53 - 1
# Neither has a place in a text, and PostgreSQL refuses the first.
_NO_CHARACTER: Final = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be told. `actor` and `target` say `kind`, `id` and `name`; `outcome` is `ok`, or what became of it instead (`denied`, `failed`).

    `source` is the id that a Teamspace gave to an event it reports, so that nothing is told twice. Without `at` it is now.
    No secret belongs here: an entry stays for as long as the organization says, and people read it.
    """

    actor: Mapping[str, Any]
    action: str
    target: Mapping[str, Any]
    outcome: str = "ok"
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    address: str | None = None
    request: str | None = None
    source: str | None = None
    at: datetime | None = None


def row_of(entry: Entry, *, organization: str, number: int, entry_id: str, before: bytes) -> AuditEntry:
    """The row that keeps `entry`, with its hash. Texts are cut to what is kept of them."""
    row = AuditEntry(
        organization_id=organization,
        number=number,
        id=entry_id,
        at=entry.at or datetime.now(UTC),
        action=_label(entry.action),
        actor=_kept(entry.actor),
        target=_kept(entry.target),
        outcome=_label(entry.outcome)[:16],
        details=_kept(entry.details),
        address=_label(entry.address) if entry.address else None,
        request=_label(entry.request) if entry.request else None,
        source=_label(entry.source) if entry.source else None,
        before_hash=before,
    )
    row.hash = hash_of(content(row))
    return row


def content(row: AuditEntry) -> dict[str, Any]:
    """What of a row is hashed."""
    return {
        "version": VERSION,
        "organization": row.organization_id,
        "number": row.number,
        "id": row.id,
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "action": row.action,
        "actor": row.actor,
        "target": row.target,
        "outcome": row.outcome,
        "details": row.details,
        "address": row.address,
        "request": row.request,
        "source": row.source,
        "before": row.before_hash.hex(),
    }


def hash_of(told: Mapping[str, Any]) -> bytes:
    """The hash of an entry's content."""
    return hashlib.sha256(canonical(told)).digest()


def canonical(value: object) -> bytes:
    """`value` as JSON in the one form of RFC 8785. Raises `ValueError` for what has none: fractions, numbers beyond 2^53, names that are no texts."""
    text = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _ordered(value: object) -> object:
    match value:
        case None | bool() | str():
            return value
        case int() if abs(value) <= _LARGEST_NUMBER:
            return value
        case Mapping():
            named = cast("Mapping[object, object]", value)
            if not all(isinstance(name, str) for name in named):
                raise ValueError("names in an audit are texts")
            # RFC 8785 orders names as JavaScript does: by UTF-16 code units.
            names = sorted(cast("Mapping[str, object]", value), key=lambda name: name.encode("utf-16-be"))
            return {name: _ordered(named[name]) for name in names}
        case list() | tuple():
            return [_ordered(part) for part in cast("list[object]", value)]
        case _:
            raise ValueError(f"an audit holds no {type(value).__name__} such as this one")


def _kept(value: Mapping[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", _cut(value, _DEEPEST))


def _cut(value: object, depth: int) -> object:
    """What is kept of `value`: texts without what is no character, of bounded length, number and depth; else as it is."""
    match value:
        case str():
            # A member of an enumeration, too, is kept as the text it is.
            return _NO_CHARACTER.sub("\ufffd", str(value))[:_LONGEST_TEXT]
        case Mapping() if depth:
            parts = list(cast("Mapping[str, object]", value).items())[:_MOST_PARTS]
            return {cast("str", _cut(name, 1)): _cut(part, depth - 1) for name, part in parts}
        case list() | tuple() if depth:
            return [_cut(part, depth - 1) for part in cast("list[object]", value)[:_MOST_PARTS]]
        case Mapping() | list() | tuple():
            return "..."
        case _:
            return value


def _label(text: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", text)[:_LONGEST_LABEL]
