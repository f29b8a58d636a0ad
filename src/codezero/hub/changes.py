"""What a change in an organization sets off, said in one place: Teamspaces whose bundle it changes get a new one, and all who wait are told."""

from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signals import Changed
from codezero.hub.storage.tables import Membership, Organization, Space

# What of an organization is in the bundles of its Teamspaces: who is in it and as what, what was revoked, what is allowed.
_IN_BUNDLES: Final = frozenset({"member", "user", "device", "apikey", "organization", "policy", "space"})


async def tell(
    session: AsyncSession, hub: Hub, kind: str, *, organization: str, space: str | None = None, what: str | None = None
) -> None:
    """Something of `kind` of an organization changed (of one of its Teamspaces, where `space` is said): told when the transaction is committed."""
    if kind in _IN_BUNDLES:
        concerned = update(Space).where(Space.organization_id == organization)
        if space is not None:
            concerned = concerned.where(Space.id == space)
        # A Teamspace never takes an older bundle for a newer one.
        await session.execute(concerned.values(serial=Space.serial + 1))
    hub.signals.tell(session, Changed(kind, organization=organization, space=space, id=what))


async def tell_all_of(session: AsyncSession, hub: Hub, kind: str, *, user: str, what: str | None = None) -> None:
    """The same for each organization that `user` is in: of the `user` themselves, or of a `device` of theirs."""
    organizations = (
        select(Membership.organization_id)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(Membership.user_id == user, Organization.deleted_at.is_(None))
        .order_by(Membership.organization_id)
    )
    for organization in (await session.scalars(organizations)).all():
        await tell(session, hub, kind, organization=organization, what=what)
