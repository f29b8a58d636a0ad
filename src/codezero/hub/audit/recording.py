"""Adds entries: numbered without gaps, in the transaction of what they tell, so that neither is there without the other."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.audit import entries
from codezero.hub.audit.entries import Entry
from codezero.hub.storage.tables import AuditEntry, AuditHead
from codezero.model.ids import new_ulid


async def record(session: AsyncSession, organization: str, entry: Entry) -> AuditEntry | None:
    """Add `entry` to the audit of `organization`; None where its `source` has been told already."""
    head = await head_of(session, organization)
    if entry.source is not None and await _is_told(session, organization, entry.source):
        return None
    row = entries.row_of(
        entry, organization=organization, number=head.number + 1, entry_id=new_ulid(), before=head.hash
    )
    session.add(row)
    head.number, head.hash = row.number, row.hash
    await session.flush()
    return row


async def head_of(session: AsyncSession, organization: str) -> AuditHead:
    """Where the audit ends, locked until the transaction does."""
    head = await session.get(AuditHead, organization, with_for_update=True)
    if head is None:
        head = AuditHead(
            organization_id=organization, number=0, hash=entries.START, cut_number=0, cut_hash=entries.START
        )
        session.add(head)
        await session.flush()
    return head


async def _is_told(session: AsyncSession, organization: str, source: str) -> bool:
    known = select(AuditEntry.number).where(AuditEntry.organization_id == organization, AuditEntry.source == source)
    return await session.scalar(known) is not None
