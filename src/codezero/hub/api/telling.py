"""Tells the audit what was done over the API where no other part of the Hub does."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.organizations import Member


async def tell(
    session: AsyncSession,
    hub: Hub,
    member: Member,
    action: str,
    target: Mapping[str, Any],
    **details: Any,  # noqa: ANN401 - what JSON can be
) -> None:
    """Record `action` of `member`, in the transaction of what it tells."""
    entry = Entry(
        actor={"kind": member.kind, "id": member.user, "name": member.name},
        action=action,
        target=target,
        details=details,
        address=member.address,
        request=member.request,
        at=hub.clock(),
    )
    await audit.record(session, member.organization, entry)
