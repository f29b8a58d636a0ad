"""Invitations: made by members, accepted by whoever has the link."""

from collections.abc import Sequence
from urllib.parse import urlencode

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from codezero.hub import organizations
from codezero.hub.api import document, listing, operations
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import Need, TheActing, TheHub, needs
from codezero.hub.api.shapes import (
    Invitation,
    InvitationAccepted,
    InvitationAnswer,
    InvitationMade,
    Joined,
    Listed,
)
from codezero.hub.organizations import Member
from codezero.hub.signin import callers, invited
from codezero.hub.storage import tables
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission, Role

routes = operations.router("invitations")


@routes.get("/organizations/{organization}/invitations", openapi_extra=needs(Permission.MEMBERS_READ))
async def invitations(acting: TheActing, hub: TheHub, page: ThePage) -> Listed[Invitation]:
    """The invitations that are open."""

    async def work(session: AsyncSession, member: Member) -> Listed[Invitation]:
        async def read(after: str | None, limit: int) -> Sequence[tables.Invitation]:
            return await organizations.invitations(session, hub, member, after=after, limit=limit)

        shown, following = await listing.entries(page, read, lambda row: row.id)
        return Listed(items=[_told(row) for row in shown], next=following)

    return await acting.look(work)


@routes.post(
    "/organizations/{organization}/invitations",
    status_code=201,
    openapi_extra=needs(Permission.MEMBERS_MANAGE),
    responses=document.raises(409),
)
async def invite(body: InvitationMade, acting: TheActing, hub: TheHub) -> InvitationAnswer:
    """Invite an e-mail address. The Hub sends no mail: the link in the answer, told once, is for whoever is invited."""

    async def work(session: AsyncSession, member: Member) -> InvitationAnswer:
        made = await organizations.invite(session, hub, member, body.email, body.role)
        link = f"{hub.public_url}/invitation?{urlencode({'token': made.token})}"
        return InvitationAnswer(**_told(made.row).model_dump(), link=link, token=made.token)

    return await acting.change(work)


@routes.delete(
    "/organizations/{organization}/invitations/{invitation}",
    status_code=204,
    openapi_extra=needs(Permission.MEMBERS_MANAGE),
)
async def withdraw(invitation: str, acting: TheActing, hub: TheHub) -> None:
    """Withdraw an invitation."""

    async def work(session: AsyncSession, member: Member) -> None:
        await organizations.withdraw(session, hub, member, invitation)

    await acting.change(work)


@routes.post("/invitations/accept", openapi_extra=needs(Need.NOTHING), responses=document.raises(401, 403, 404, 409))
async def accept(body: InvitationAccepted, hub: TheHub, request: Request) -> Joined:
    """Accept an invitation: as whoever is signed in, or as somebody new with a name and a password."""
    token, visitor = body.token.get_secret_value(), callers.visitor_of(request.scope)
    shown = callers.credentials(request.scope)
    if shown.authorization is not None or shown.cookie is not None:
        caller = await callers.caller(hub, request.scope)
        accepted = await invited.accept(hub, token, visitor, user=caller.user)
    elif body.name is not None and body.password is not None:
        password = body.password.get_secret_value()
        accepted = await invited.sign_up(hub, token, visitor, name=body.name, password=password)
    else:
        raise CodezeroError(
            problems.NOT_VALID,
            "body.name, body.password: both are needed of somebody who is not signed in",
            fix="sign in first, where you have an account",
        )
    return Joined(organization=accepted.organization, user=accepted.user, role=Role(accepted.role))


def _told(row: tables.Invitation) -> Invitation:
    return Invitation(
        id=row.id,
        email=row.email,
        role=Role(row.role),
        invited_by=row.invited_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
