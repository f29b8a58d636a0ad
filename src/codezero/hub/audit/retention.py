"""Lets go of what is older than an organization keeps: from the beginning on, leaving the hash that what stays goes on from.

What is gone is gone, so a clock that is wrong must not decide it: the clock is believed as far as the audit and the time since the start explain it.
"""

import asyncio
import time
from collections.abc import Callable
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
_DAY: Final = timedelta(days=1)
# For so long the audit has to have gone on behind a leap in time before the leap is believed.
_LEAP_BELIEVED_AFTER: Final = timedelta(days=7)

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


class Believed:
    """The time by which entries are too old: the clock's, and no later than what was done before and the time since explain.

    `known` is when the Hub certainly was; from then on time goes on as fast as the machine counts it, whatever its clock is set to.
    """

    def __init__(self, clock: Callable[[], datetime], known: datetime, steady: Callable[[], float]) -> None:
        """Use `since_now`."""
        self._clock = clock
        self._known = known
        self._steady = steady
        self._began = steady()

    @staticmethod
    async def since_now(hub: Hub, steady: Callable[[], float] | None = None) -> "Believed":
        """What is believed by a Hub that starts now. `steady` counts seconds, also those that the machine sleeps."""
        async with hub.database.reading() as session:
            newest = await session.scalar(select(func.max(AuditEntry.at)))
            settled = None
            if newest is not None:
                # What was written by a wrong clock explains nothing; whoever sets it right within a week has lost nothing.
                behind = AuditEntry.at <= newest - _LEAP_BELIEVED_AFTER
                settled = await session.scalar(select(func.max(AuditEntry.at)).where(behind))
        known = newest or hub.clock() if settled is None else settled + _LEAP_BELIEVED_AFTER
        return Believed(hub.clock, known + _DAY, steady or _steady)

    def now(self) -> datetime:
        """The time."""
        return min(self._clock(), self._known + timedelta(seconds=self._steady() - self._began))


def _steady() -> float:
    # Where there is no such clock, the other one goes on while the machine sleeps.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def keep_retained(hub: Hub) -> None:
    """Let go of what is too old, each day, for as long as the Hub runs."""
    believed: Believed | None = None
    while True:
        try:
            believed = believed or await Believed.since_now(hub)
            await retain_all(hub, believed)
        except (CodezeroError, SQLAlchemyError, OSError) as error:
            _log.warning("the audit's retention has to wait", error=type(error).__name__)
        await asyncio.sleep(_EVERY)


async def retain_all(hub: Hub, believed: Believed) -> None:
    """Let go of what is too old in each organization, by its setting `audit_days`; also where the organization is no more."""
    now = believed.now()
    if hub.clock() - now > _DAY:
        _log.warning(
            "the clock is later than the audit explains: audits are kept as if it was earlier",
            clock=hub.clock().isoformat(),
            believed=now.isoformat(),
        )
    async with hub.database.reading() as session:
        organizations = (await session.execute(select(Organization.id, Organization.settings))).all()
    for organization, settings in organizations:
        since = now - timedelta(days=settings.get(_SETTING, DEFAULT_DAYS))

        async def work(session: AsyncSession, organization: str = organization, since: datetime = since) -> int:
            return await retain(session, hub, organization, since=since)

        if gone := await hub.database.run(work):
            _log.info("entries of an audit were let go", organization=organization, entries=gone)
