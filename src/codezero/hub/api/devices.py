"""Devices: one's own, and those of an organization's members."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from codezero.hub import devices, organizations
from codezero.hub.api import document, guard, listing, operations
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import Need, TheActing, TheCaller, TheHub, needs
from codezero.hub.api.shapes import Access, CertificateAsked, Device, Listed
from codezero.hub.organizations import PERSON, Member
from codezero.hub.signin import proofs
from codezero.hub.spaces import access as spaces
from codezero.hub.storage import tables
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission
from codezero.wire.hub_channel import PROOF_SCHEME

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


@routes.post(
    "/devices/{device}/certificate", openapi_extra=needs(Need.NOTHING), responses=document.raises(401, 403, 409)
)
async def certificate(device: str, body: CertificateAsked, hub: TheHub, request: Request) -> Access:
    """The device's next certificate for a Teamspace. Its key shows who asks, by a proof in `Authorization`, so that nobody has to sign in anew."""
    shown = request.headers.getlist("authorization")
    scheme, _, text = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    proof = proofs.read(hub, text if scheme == PROOF_SCHEME else "", method="POST", path=request.url.path)

    async def work(session: AsyncSession) -> spaces.Access:
        row = await session.get(tables.Device, device)
        user = None if row is None else await session.get(tables.User, row.user_id)
        is_good = (
            row is not None
            and row.thumbprint == proof.thumbprint
            and row.revoked_at is None
            and user is not None
            and user.disabled_at is None
        )
        if is_good and user is not None and user.kind != PERSON:
            # The key may have ended.
            raise CodezeroError(
                problems.SIGN_IN_REFUSED,
                "a machine with an API key gets its next certificate by that key",
                fix="czctl start",
            )
        if row is None or not is_good:
            raise CodezeroError(
                problems.SIGN_IN_REFUSED, "the device is not known by this key, or was revoked", fix="czctl auth login"
            )
        if not await proofs.is_first_use(session, hub, proof):
            raise proofs.used_before()
        devices.seen(hub, row, guard.address_of(request.scope))
        space = await session.scalar(
            select(tables.Space)
            .join(tables.Membership, tables.Membership.organization_id == tables.Space.organization_id)
            .where(tables.Space.id == body.space, tables.Membership.user_id == row.user_id)
        )
        if space is None:
            raise CodezeroError(problems.NOT_FOUND, "there is no such Teamspace", fix="see `czctl space list`")
        acting = await organizations.member(
            session,
            space.organization_id,
            row.user_id,
            address=guard.address_of(request.scope),
            request=request.state.request_id,
        )
        return await spaces.access(session, hub, acting, space.id, device=row.id, csr=body.csr)

    return Access.model_validate(await hub.database.run(work))


def _told(row: tables.Device) -> Device:
    return Device(
        id=row.id,
        user=row.user_id,
        name=row.name,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        revoked_at=row.revoked_at,
    )
