"""What is told in the audit of each organization that a person is in: that they came, that somebody tried, that it ended."""

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, organizations
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.signals import Changed
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import User

REFUSED: Final = "denied"


async def tell(
    session: AsyncSession,
    hub: Hub,
    user: User,
    action: str,
    visitor: Visitor,
    *,
    outcome: str = "ok",
    target: dict[str, Any] | None = None,
    **details: str | int | None,
) -> None:
    """Record `action` of `user`, in the transaction of what it tells. Somebody without an organization has nobody to tell."""
    who = {"kind": user.kind, "id": user.id, "name": user.name}
    for organization, _ in await organizations.of_user(session, user.id):
        entry = Entry(
            actor=who,
            action=action,
            target=target or who,
            outcome=outcome,
            details={name: value for name, value in details.items() if value is not None},
            address=visitor.address,
            request=visitor.request,
            at=hub.clock(),
        )
        await audit.record(session, organization.id, entry)


async def signed_out(session: AsyncSession, hub: Hub, user: str) -> None:
    """Let those who stream something to `user` look again whether they still are who they were. No Teamspace has to know: certificates are the device's."""
    for organization, _ in await organizations.of_user(session, user):
        hub.signals.tell(session, Changed("user", organization=organization.id, id=user))
