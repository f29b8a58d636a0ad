"""API keys of an organization's service accounts; each is told once (T34)."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.api import listing, operations, telling
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import TheActing, TheHub, needs
from codezero.hub.api.shapes import ApiKey, ApiKeyAnswer, ApiKeyMade, Listed
from codezero.hub.organizations import SERVICE, Member
from codezero.hub.signin import api_keys
from codezero.hub.storage import tables
from codezero.hub.storage.tables import Membership, User
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission, Role

routes = operations.router("apikeys")


@routes.get("/organizations/{organization}/apikeys", openapi_extra=needs(Permission.API_KEYS_READ))
async def keys(acting: TheActing, page: ThePage) -> Listed[ApiKey]:
    """The keys that are good; what makes them keys is kept nowhere."""

    async def work(session: AsyncSession, member: Member) -> Listed[ApiKey]:
        async def read(after: str | None, limit: int) -> Sequence[tables.ApiKey]:
            query = select(tables.ApiKey).where(
                tables.ApiKey.organization_id == member.organization, tables.ApiKey.revoked_at.is_(None)
            )
            if after is not None:
                query = query.where(tables.ApiKey.id > after)
            return (await session.scalars(query.order_by(tables.ApiKey.id).limit(limit))).all()

        shown, following = await listing.entries(page, read, lambda row: row.id)
        return Listed(items=[_told(row) for row in shown], next=following)

    return await acting.look(work)


@routes.post("/organizations/{organization}/apikeys", status_code=201, openapi_extra=needs(Permission.API_KEYS_MANAGE))
async def create(body: ApiKeyMade, acting: TheActing, hub: TheHub) -> ApiKeyAnswer:
    """Make a key, which is told in the answer and never again. Nobody makes one that could do more than they may."""
    if body.service_account is not None and body.role is not None:
        raise CodezeroError(problems.NOT_VALID, "body.role: is that of the service account, and not said beside it")

    async def work(session: AsyncSession, member: Member) -> ApiKeyAnswer:
        if body.service_account is not None:
            account, role = await _account(session, member, body.service_account)
        else:
            role = body.role or Role.CI
            organizations.check_key(member, role, body.scopes)
            _, account = await organizations.create_service_account(session, hub, member, body.name, role)
        organizations.check_key(member, role, body.scopes)
        expires_at = None if body.expires_in is None else hub.clock() + timedelta(seconds=body.expires_in)
        made = api_keys.make(
            session,
            hub,
            organization=member.organization,
            account=account.id,
            name=body.name,
            created_by=member.user,
            scopes=body.scopes,
            expires_at=expires_at,
        )
        await session.flush()
        target = {"kind": "apikey", "id": made.row.id, "name": made.row.name}
        await telling.tell(
            session, hub, member, "apikey.create", target, service_account=account.id, scopes=list(made.row.scopes)
        )
        return ApiKeyAnswer(**_told(made.row).model_dump(), key=made.key)

    return await acting.change(work)


@routes.delete(
    "/organizations/{organization}/apikeys/{key}", status_code=204, openapi_extra=needs(Permission.API_KEYS_MANAGE)
)
async def revoke(key: str, acting: TheActing, hub: TheHub) -> None:
    """Revoke a key; what is open by it ends. Nobody takes one that may do more than they may."""

    async def work(session: AsyncSession, member: Member) -> None:
        await organizations.revoke_key(session, hub, member, key)

    await acting.change(work)


async def _account(session: AsyncSession, member: Member, account: str) -> tuple[User, Role]:
    row = await session.get(Membership, (member.organization, account))
    user = None if row is None else await session.get_one(User, account)
    if row is None or user is None or user.kind != SERVICE:
        raise CodezeroError(problems.NOT_FOUND, "there is no such service account")
    return user, Role(row.role)


def _told(row: tables.ApiKey) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        service_account=row.user_id,
        scopes=row.scopes,
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
