"""Members of an organization, and accounts for machines, which are members too."""

from collections.abc import Sequence

from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.api import document, listing, operations, versions
from codezero.hub.api.listing import Page, ThePage
from codezero.hub.api.permissions import Acting, TheActing, TheHub, needs
from codezero.hub.api.shapes import Listed, Member, MemberChange, ServiceAccount, ServiceAccountMade
from codezero.hub.api.versions import TheVersion
from codezero.hub.organizations import PERSON, SERVICE
from codezero.hub.storage.tables import Membership, User
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission, Role

routes = operations.router("members")


@routes.get("/organizations/{organization}/members", openapi_extra=needs(Permission.MEMBERS_READ))
async def members(acting: TheActing, page: ThePage) -> Listed[Member]:
    """Who is in the organization, people and service accounts."""
    shown, following = await _page(acting, page, kind=None)
    return Listed(items=[_told(row, user) for row, user in shown], next=following)


@routes.get("/organizations/{organization}/members/{user}", openapi_extra=needs(Permission.ORGANIZATION_READ))
async def show(user: str, acting: TheActing, response: Response) -> Member:
    """One member; oneself without `members.read`, too."""

    async def work(session: AsyncSession, member: organizations.Member) -> Member:
        row, found = await organizations.get_member(session, member, user)
        versions.tag(response, row.version)
        return _told(row, found)

    return await acting.look(work)


@routes.patch(
    "/organizations/{organization}/members/{user}",
    openapi_extra=needs(Permission.MEMBERS_MANAGE),
    responses=document.raises(409),
)
async def change(user: str, body: MemberChange, acting: TheActing, version: TheVersion, response: Response) -> Member:
    """Make a member something else. Nobody gives or takes more than they hold, and an owner stays."""

    async def work(session: AsyncSession, member: organizations.Member) -> Member:
        row = await organizations.change_role(session, acting.hub, member, user, body.role, version=version)
        versions.tag(response, row.version)
        return _told(row, await session.get_one(User, user))

    return await acting.change(work)


@routes.delete(
    "/organizations/{organization}/members/{user}",
    status_code=204,
    openapi_extra=needs(Permission.ORGANIZATION_READ),
    responses=document.raises(409),
)
async def remove(user: str, acting: TheActing, version: TheVersion, hub: TheHub) -> None:
    """Take a member out of the organization (`members.manage`); everybody may leave by themselves."""

    async def work(session: AsyncSession, member: organizations.Member) -> None:
        if user != member.user:
            member.need(Permission.MEMBERS_MANAGE)
        await organizations.remove_member(session, hub, member, user, version=version)

    await acting.change(work)


@routes.get("/organizations/{organization}/service-accounts", openapi_extra=needs(Permission.API_KEYS_READ))
async def service_accounts(acting: TheActing, page: ThePage) -> Listed[ServiceAccount]:
    """The accounts for machines."""
    shown, following = await _page(acting, page, kind=SERVICE)
    return Listed(items=[_account(row, user) for row, user in shown], next=following)


@routes.post(
    "/organizations/{organization}/service-accounts",
    status_code=201,
    openapi_extra=needs(Permission.API_KEYS_MANAGE),
)
async def create_service_account(body: ServiceAccountMade, acting: TheActing, hub: TheHub) -> ServiceAccount:
    """Make an account for machines."""

    async def work(session: AsyncSession, member: organizations.Member) -> ServiceAccount:
        return _account(*await organizations.create_service_account(session, hub, member, body.name, body.role))

    return await acting.change(work)


@routes.delete(
    "/organizations/{organization}/service-accounts/{account}",
    status_code=204,
    openapi_extra=needs(Permission.API_KEYS_MANAGE),
)
async def remove_service_account(account: str, acting: TheActing, hub: TheHub) -> None:
    """End an account for machines, with all of its keys."""

    async def work(session: AsyncSession, member: organizations.Member) -> None:
        row = await session.get(Membership, (member.organization, account))
        if row is None or (await session.get_one(User, account)).kind != SERVICE:
            raise CodezeroError(problems.NOT_FOUND, "there is no such service account")
        await organizations.remove_member(session, hub, member, account)

    await acting.change(work)


async def _page(
    acting: Acting, page: Page, *, kind: str | None
) -> tuple[Sequence[tuple[Membership, User]], str | None]:
    async def work(
        session: AsyncSession, member: organizations.Member
    ) -> tuple[Sequence[tuple[Membership, User]], str | None]:
        async def read(after: str | None, limit: int) -> Sequence[tuple[Membership, User]]:
            return await organizations.members(session, member, kind=kind, after=after, limit=limit)

        return await listing.entries(page, read, lambda entry: entry[1].id)

    return await acting.look(work)


def _told(row: Membership, user: User) -> Member:
    return Member(
        user=user.id,
        kind=SERVICE if user.kind == SERVICE else PERSON,
        name=user.name,
        email=user.email,
        role=Role(row.role),
        created_at=row.created_at,
        version=row.version,
    )


def _account(row: Membership, user: User) -> ServiceAccount:
    return ServiceAccount(id=user.id, name=user.name, role=Role(row.role), created_at=row.created_at)
