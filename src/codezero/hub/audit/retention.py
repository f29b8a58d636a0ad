"""Lets go of what is older than an organization keeps: from the beginning on, leaving the hash that what stays goes on from."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.audit import recording
from codezero.hub.audit.entries import Entry
from codezero.hub.context import Hub
from codezero.hub.storage.tables import AuditEntry, Organization
from codezero.kit import logs
from codezero.model.problems import CodezeroError

DEFAULT_DAYS: Final = 365
_SETTING: Final = "audit_days"
_EVERY: Final = 24 * 3600.0

_log = logs.get_logger("audit")


async def retain(session: AsyncSession, hub: Hub, organization: str, *, since: datetime) -> int:
    """Let go of all entries before the first one that is not older than `since`; how many they were. That they went is an entry of its own."""
    head = await recording.head_of(session, organization)
    own = AuditEntry.organization_id == organization
    first = await session.scalar(select(func.min(AuditEntry.number)).where(own, AuditEntry.at >= since))
    cut = head.number if first is None else first - 1
    if cut <= head.cut_number:
        return 0
    last = await session.get_one(AuditEntry, (organization, cut))
    gone = cut - head.cut_number
    # First the cut, for the database lets nothing else go.
    head.cut_number, head.cut_hash = cut, last.hash
    await session.flush()
    session.expunge(last)
    await session.execute(delete(AuditEntry).where(own, AuditEntry.number <= cut))
    entry = Entry(
        {"kind": "hub", "id": hub.authorities.install, "name": "Hub"},
        "audit.retain",
        {"kind": "audit", "id": organization},
        details={"up_to": cut, "hash": last.hash.hex()},
        at=hub.clock(),
    )
    await recording.record(session, organization, entry)
    return gone


async def keep_retained(hub: Hub) -> None:
    """Let go of what is too old, each day, for as long as the Hub runs."""
    while True:
        try:
            await retain_all(hub)
        except (CodezeroError, SQLAlchemyError, OSError) as error:
            _log.warning("the audit's retention has to wait", error=type(error).__name__)
        await asyncio.sleep(_EVERY)


async def retain_all(hub: Hub) -> None:
    """Let go of what is too old in each organization, by its setting `audit_days`; also where the organization is no more."""
    async with hub.database.reading() as session:
        organizations = (await session.execute(select(Organization.id, Organization.settings))).all()
    for organization, settings in organizations:
        since = hub.clock() - timedelta(days=settings.get(_SETTING, DEFAULT_DAYS))

        async def work(session: AsyncSession, organization: str = organization, since: datetime = since) -> int:
            return await retain(session, hub, organization, since=since)

        if gone := await hub.database.run(work):
            _log.info("entries of an audit were let go", organization=organization, entries=gone)
