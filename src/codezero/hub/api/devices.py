"""Devices: one's own, and those of an organization's members."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from codezero.hub import devices
from codezero.hub.api import document, listing, operations
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import Need, TheActing, TheCaller, TheHub, needs
from codezero.hub.api.shapes import Device, Listed
from codezero.hub.organizations import PERSON, Member
from codezero.hub.storage import tables
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

routes = operations.router("devices")


@routes.get("/devices", openapi_extra=needs(Need.SIGN_IN))
async def own(hub: TheHub, caller: TheCaller, page: ThePage) -> Listed[Device]:
    """One's own devices."""
    async with hub.database.reading() as session:

        async def read(after: str | None, limit: int) -> Sequence[tables.Device]:
            return await devices.of_user(session, caller.user, after=after, limit=limit)

        shown, following = await listing.entries(page, read, lambda row: row.id)
    return Listed(items=[_told(row) for row in shown], next=following)


@routes.get("/organizations/{organization}/devices", openapi_extra=needs(Permission.DEVICES_READ))
async def of_organization(acting: TheActing, page: ThePage) -> Listed[Device]:
    """The devices of all members."""

    async def work(session: AsyncSession, member: Member) -> Listed[Device]:
        async def read(after: str | None, limit: int) -> Sequence[tuple[tables.Device, tables.User]]:
            return await devices.of_organization(session, member, after=after, limit=limit)

        shown, following = await listing.entries(page, read, lambda entry: entry[0].id)
        return Listed(items=[_told(row) for row, _ in shown], next=following)

    return await acting.look(work)


@routes.delete("/devices/{device}", status_code=204, openapi_extra=needs(Need.SIGN_IN), responses=document.raises(403))
async def revoke(device: str, hub: TheHub, caller: TheCaller, request: Request) -> None:
    """Revoke a device, one's own or one of somebody whose role one may take: its sign-ins end, and what is open by them."""
    if caller.kind != PERSON:
        raise CodezeroError(problems.ROLE_FORBIDS, "devices are revoked by people, not with an API key")

    async def work(session: AsyncSession) -> None:
        await devices.revoke(
            session, hub, device, by=caller.user, address=caller.address, request=request.state.request_id
        )

    await hub.database.run(work)


def _told(row: tables.Device) -> Device:
    return Device(
        id=row.id,
        user=row.user_id,
        name=row.name,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        revoked_at=row.revoked_at,
    )
