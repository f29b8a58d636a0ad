"""Reads an organization's audit: what fits, newest first and page by page; or all of it, oldest first, as lines that outsiders can verify."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.audit import entries
from codezero.hub.audit.pseudonyms import Pseudonyms
from codezero.hub.context import Hub
from codezero.hub.storage.tables import AuditEntry, AuditHead
from codezero.wire import audit_lines
from codezero.wire.audit_lines import CHECKPOINT, CHECKPOINT_TYPE

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """What entries have to be. `action` is one (`member.role`), or the first word of several (`member`); `actor` and `target` are ids; `until` itself is left out."""

    action: str | None = None
    actor: str | None = None
    target: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(
    session: AsyncSession, organization: str, wanted: Filter | None = None, *, below: int | None = None, limit: int = 50
) -> Sequence[AuditEntry]:
    """At most `limit` entries that fit, newest first, with numbers below `below`."""
    wanted = wanted or Filter()
    query = select(AuditEntry).where(AuditEntry.organization_id == organization)
    if wanted.action is not None:
        begins_so = AuditEntry.action.startswith(f"{wanted.action}.", autoescape=True)
        query = query.where((AuditEntry.action == wanted.action) | begins_so)
    if wanted.actor is not None:
        query = query.where(AuditEntry.actor["id"].as_string() == wanted.actor)
    if wanted.target is not None:
        query = query.where(AuditEntry.target["id"].as_string() == wanted.target)
    if wanted.outcome is not None:
        query = query.where(AuditEntry.outcome == wanted.outcome)
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    if below is not None:
        query = query.where(AuditEntry.number < below)
    return (await session.scalars(query.order_by(AuditEntry.number.desc()).limit(limit))).all()


def shown(row: AuditEntry, pseudonyms: Pseudonyms | None = None) -> dict[str, Any]:
    """An entry as it is exported; with `pseudonyms`, without what says who people are, and so without hashes."""
    return entries.line(row) if pseudonyms is None else pseudonyms.entry(entries.content(row))


async def export(
    hub: Hub, organization: str, *, after: int = 0, pseudonymous: bool = False
) -> AsyncGenerator[bytes, None]:
    """The entries behind number `after`, a line each, and at the end a signed checkpoint of where they end.

    Whoever was cut off goes on behind the last number they have. What is added meanwhile comes with the next export.
    """
    pseudonyms = Pseudonyms(hub.sealer, organization) if pseudonymous else None
    async with hub.database.reading() as session:
        head = await session.get(AuditHead, organization)
    if head is None:
        return
    while after < head.number:
        async with hub.database.reading() as session:
            rows = (await session.scalars(_next(organization, after).where(AuditEntry.number <= head.number))).all()
        if not rows:
            break
        yield b"".join(audit_lines.canonical(shown(row, pseudonyms)) + b"\n" for row in rows)
        after = rows[-1].number
    if not pseudonymous:
        yield audit_lines.canonical({CHECKPOINT: checkpoint(hub, head)}) + b"\n"


def checkpoint(hub: Hub, head: AuditHead) -> str:
    """A JWS by the Hub's audit key: which hash the last entry had, and when. Whoever keeps it notices when the Hub's own database was rewritten."""
    claims = {
        "iss": hub.authorities.issuer,
        "iat": int(hub.clock().timestamp()),
        "organization": head.organization_id,
        "number": head.number,
        "hash": head.hash.hex(),
    }
    return hub.authorities.sign_audit(claims, typ=CHECKPOINT_TYPE)


def _next(organization: str, after: int) -> Any:  # noqa: ANN401 - SQLAlchemy's type of a query
    query = select(AuditEntry).where(AuditEntry.organization_id == organization, AuditEntry.number > after)
    return query.order_by(AuditEntry.number).limit(_AT_ONCE)
