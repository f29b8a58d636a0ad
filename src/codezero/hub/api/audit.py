"""The audit of an organization: read, exported for those who keep it elsewhere, and verified."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.api import listing, operations, telling
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import TheActing, TheHub, needs
from codezero.hub.api.shapes import AuditEntry, AuditVerified, Listed
from codezero.hub.audit import reading, verifying
from codezero.hub.organizations import Member
from codezero.hub.storage import tables
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

PATH = "/organizations/{organization}/audit"

Word = Annotated[str | None, Query(max_length=64)]
Moment = Annotated[datetime | None, Query()]

routes = operations.router("audit")


@routes.get(PATH, openapi_extra=needs(Permission.AUDIT_READ))
async def entries(  # noqa: PLR0917 - what a query says
    acting: TheActing,
    page: ThePage,
    action: Word = None,
    actor: Word = None,
    target: Word = None,
    outcome: Word = None,
    since: Moment = None,
    until: Moment = None,
) -> Listed[AuditEntry]:
    """What was done, the latest first. `action` is one (`member.role`) or the first word of several (`member`); `actor` and `target` are ids."""
    wanted = reading.Filter(action, actor, target, outcome, _utc(since), _utc(until))

    async def work(session: AsyncSession, member: Member) -> Listed[AuditEntry]:
        async def read(after: str | None, limit: int) -> Sequence[tables.AuditEntry]:
            below = None if after is None else listing.number(after)
            return await reading.page(session, member.organization, wanted, below=below, limit=limit)

        shown, following = await listing.entries(page, read, lambda row: str(row.number))
        return Listed(items=[AuditEntry.model_validate(row) for row in shown], next=following)

    return await acting.look(work)


@routes.get(
    PATH + "/export",
    openapi_extra=needs(Permission.AUDIT_READ),
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
async def export(
    acting: TheActing,
    hub: TheHub,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only entries behind this number.")] = 0,
    pseudonymous: Annotated[bool, Query(description="Without what says who people are.")] = False,
) -> StreamingResponse:
    """All entries, oldest first, one JSON object a line, and a signed checkpoint at the end."""

    async def work(session: AsyncSession, member: Member) -> None:
        target = {"kind": "audit", "id": member.organization}
        await telling.tell(session, hub, member, "audit.export", target, after=after, pseudonymous=pseudonymous)

    await acting.change(work)
    lines = reading.export(hub, acting.organization, after=after, pseudonymous=pseudonymous)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@routes.post(PATH + "/verify", openapi_extra=needs(Permission.AUDIT_READ))
async def verify(acting: TheActing) -> AuditVerified:
    """Whether no entry was changed, left out or added since it was written."""

    async def work(session: AsyncSession, member: Member) -> verifying.Verification:
        return await verifying.verify(session, member.organization)

    found = await acting.look(work)
    return AuditVerified(
        ok=found.is_whole,
        first=found.first,
        last=found.last,
        entries=0 if found.first is None else found.last - found.first + 1,
        broken=found.broken,
        reason=found.why,
    )


def _utc(moment: datetime | None) -> datetime | None:
    """A time without a zone is UTC's."""
    try:
        return moment if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise CodezeroError(problems.NOT_VALID, "query.since, query.until: no such time in UTC") from None
