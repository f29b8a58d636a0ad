"""What an entry says, and how it is kept: texts of bounded length, and the hash of its one form (`wire.audit_lines`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

from codezero.hub.storage.tables import AuditEntry
from codezero.wire import audit_lines

START: Final = bytes.fromhex(audit_lines.START)

_LONGEST_TEXT: Final = 1000
_LONGEST_LABEL: Final = 64
_MOST_PARTS: Final = 200
_DEEPEST: Final = 6
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
    row.hash = bytes.fromhex(audit_lines.hash_of(content(row)))
    return row


def content(row: AuditEntry) -> dict[str, Any]:
    """What of a row is hashed."""
    return {
        "version": audit_lines.VERSION,
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


def line(row: AuditEntry) -> dict[str, Any]:
    """A row as it is exported: its content and its hash."""
    return {**content(row), "hash": row.hash.hex()}


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
