"""Organizations: made by people, seen by their members."""

from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.api import document, listing, operations, versions
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import Need, TheActing, TheCaller, TheHub, needs
from codezero.hub.api.shapes import Listed, Organization, OrganizationChange, OrganizationMade
from codezero.hub.api.versions import TheVersion
from codezero.hub.organizations import Member
from codezero.hub.storage import tables
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission, Role

routes = operations.router("organizations")


@routes.get("/organizations", openapi_extra=needs(Need.SIGN_IN))
async def of_caller(hub: TheHub, caller: TheCaller, page: ThePage) -> Listed[Organization]:
    """The organizations that whoever asks is in."""
    async with hub.database.reading() as session:
        found = await organizations.of_user(session, caller.user)
    mine = [(row, role) for row, role in found if caller.organization in {None, row.id}]

    async def read(after: str | None, limit: int) -> list[tuple[tables.Organization, Role]]:
        return [(row, role) for row, role in mine if after is None or row.id > after][:limit]

    shown, following = await listing.entries(page, read, lambda entry: entry[0].id)
    return Listed(items=[_told(row, role) for row, role in shown], next=following)


@routes.post("/organizations", status_code=201, openapi_extra=needs(Need.SIGN_IN), responses=document.raises(403))
async def create(body: OrganizationMade, hub: TheHub, caller: TheCaller, response: Response) -> Organization:
    """Make an organization, as its owner."""
    if caller.kind != organizations.PERSON:
        raise CodezeroError(problems.ROLE_FORBIDS, "an organization is made by a person, not with an API key")

    async def work(session: AsyncSession) -> tables.Organization:
        owner = await session.get_one(tables.User, caller.user)
        return await organizations.create(session, hub, body.name, owner=owner, address=caller.address)

    made = await hub.database.run(work)
    versions.tag(response, made.version)
    response.headers["location"] = f"{operations.PREFIX}/organizations/{made.id}"
    return _told(made, Role.OWNER)


@routes.get("/organizations/{organization}", openapi_extra=needs(Permission.ORGANIZATION_READ))
async def show(acting: TheActing, response: Response) -> Organization:
    """One organization."""

    async def work(session: AsyncSession, member: Member) -> Organization:
        row = await organizations.get(session, member)
        versions.tag(response, row.version)
        return _told(row, member.role)

    return await acting.look(work)


@routes.patch("/organizations/{organization}", openapi_extra=needs(Permission.ORGANIZATION_MANAGE))
async def change(
    body: OrganizationChange, acting: TheActing, version: TheVersion, hub: TheHub, response: Response
) -> Organization:
    """Change its name or settings. A setting of null goes back to its default."""
    settings = body.settings.model_dump(exclude_unset=True) if body.settings is not None else {}

    async def work(session: AsyncSession, member: Member) -> Organization:
        row = await organizations.get(session, member)
        organizations.check_version(version, row.version)
        if body.name is not None and body.name != row.name:
            row = await organizations.rename(session, hub, member, body.name)
        if settings:
            row = await organizations.configure(session, hub, member, settings)
        versions.tag(response, row.version)
        return _told(row, member.role)

    return await acting.change(work)


@routes.delete("/organizations/{organization}", status_code=204, openapi_extra=needs(Permission.ORGANIZATION_DELETE))
async def remove(acting: TheActing, version: TheVersion, hub: TheHub) -> None:
    """End the organization and all that is in it: Teamspaces, service accounts, keys and invitations. Its audit stays."""

    async def work(session: AsyncSession, member: Member) -> None:
        await organizations.remove_organization(session, hub, member, version=version)

    await acting.change(work)


def _told(row: tables.Organization, role: Role) -> Organization:
    return Organization(
        id=row.id, name=row.name, role=role, settings=row.settings, created_at=row.created_at, version=row.version
    )
