"""Teamspaces of an organization: made, joined, suspended, removed; and how laptops and programs get in."""

from collections.abc import Sequence

from fastapi import Response
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.api import document, listing, operations, versions
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import TheActing, TheHub, needs
from codezero.hub.api.shapes import Access, AccessAsked, DoorToken, Invited, Listed, Space, SpaceNamed
from codezero.hub.api.versions import TheVersion
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.spaces import access as ways
from codezero.hub.spaces import teamspaces
from codezero.hub.storage import tables
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

PATH = "/organizations/{organization}/spaces"
ONE = PATH + "/{space}"

routes = operations.router("spaces")


@routes.get(PATH, openapi_extra=needs(Permission.SPACES_READ))
async def spaces(acting: TheActing, hub: TheHub, page: ThePage) -> Listed[Space]:
    """The organization's Teamspaces."""

    async def work(session: AsyncSession, member: Member) -> Listed[Space]:
        async def read(after: str | None, limit: int) -> Sequence[tables.Space]:
            return await teamspaces.of_organization(session, member, after=after, limit=limit)

        shown, following = await listing.entries(page, read, lambda row: row.id)
        return Listed(items=[_told(hub, row) for row in shown], next=following)

    return await acting.look(work)


@routes.post(PATH, status_code=201, openapi_extra=needs(Permission.SPACES_MANAGE), responses=document.raises(409))
async def create(body: SpaceNamed, acting: TheActing, hub: TheHub) -> Invited:
    """Make a Teamspace that a cluster may join, with the policy of new Teamspaces. The join token is told once."""

    async def work(session: AsyncSession, member: Member) -> Invited:
        return _invited(hub, await teamspaces.create(session, hub, member, body.name))

    return await acting.change(work)


@routes.get(ONE, openapi_extra=needs(Permission.SPACES_READ))
async def show(space: str, acting: TheActing, hub: TheHub, response: Response) -> Space:
    """One Teamspace."""

    async def work(session: AsyncSession, member: Member) -> tables.Space:
        return await teamspaces.get(session, member, space)

    return _tagged(hub, response, await acting.look(work))


@routes.patch(ONE, openapi_extra=needs(Permission.SPACES_MANAGE), responses=document.raises(409))
async def rename(space: str, body: SpaceNamed, acting: TheActing, version: TheVersion, response: Response) -> Space:
    """Call it something else."""
    hub = acting.hub

    async def work(session: AsyncSession, member: Member) -> tables.Space:
        return await teamspaces.rename(session, hub, member, space, body.name, version=version)

    return _tagged(hub, response, await acting.change(work))


@routes.delete(ONE, status_code=204, openapi_extra=needs(Permission.SPACES_MANAGE))
async def remove(space: str, acting: TheActing, version: TheVersion, hub: TheHub) -> None:
    """Remove it from the Hub: its cluster is believed no more, and what is open there ends."""

    async def work(session: AsyncSession, member: Member) -> None:
        await teamspaces.remove(session, hub, member, space, version=version)

    await acting.change(work)


@routes.post(ONE + "/join-token", status_code=201, openapi_extra=needs(Permission.SPACES_MANAGE))
async def invite(space: str, acting: TheActing, hub: TheHub) -> Invited:
    """Another join token, told once; the one before is good no more. A cluster that joins by it takes the place of one that is there."""

    async def work(session: AsyncSession, member: Member) -> Invited:
        return _invited(hub, await teamspaces.invite(session, hub, member, space))

    return await acting.change(work)


@routes.post(ONE + "/suspend", openapi_extra=needs(Permission.SPACES_MANAGE))
async def suspend(space: str, acting: TheActing, hub: TheHub, response: Response) -> Space:
    """Let nobody consume or serve there for now; what is open ends."""

    async def work(session: AsyncSession, member: Member) -> tables.Space:
        return await teamspaces.suspend(session, hub, member, space)

    return _tagged(hub, response, await acting.change(work))


@routes.post(ONE + "/resume", openapi_extra=needs(Permission.SPACES_MANAGE))
async def resume(space: str, acting: TheActing, hub: TheHub, response: Response) -> Space:
    """Let everybody use a suspended Teamspace again."""

    async def work(session: AsyncSession, member: Member) -> tables.Space:
        return await teamspaces.resume(session, hub, member, space)

    return _tagged(hub, response, await acting.change(work))


@routes.post(ONE + "/rotate", openapi_extra=needs(Permission.SPACES_MANAGE), responses=document.raises(409))
async def rotate(space: str, acting: TheActing, hub: TheHub, response: Response) -> Space:
    """Have its cluster make itself another key; the present one is believed no more when it has. Open streams stay."""

    async def work(session: AsyncSession, member: Member) -> tables.Space:
        return await teamspaces.rotate(session, hub, member, space)

    return _tagged(hub, response, await acting.change(work))


@routes.post(ONE + "/access", openapi_extra=needs(Permission.SPACES_CONNECT), responses=document.raises(409))
async def access(space: str, body: AccessAsked, acting: TheActing, hub: TheHub) -> Access:
    """A certificate for the device that asks, by its own key, and where the Teamspace is. A machine with an API key brings a key of its own, too."""
    device, api_key = acting.caller.device, acting.caller.api_key
    if device is None and api_key is None:
        raise CodezeroError(
            problems.ROLE_FORBIDS,
            "only a signed-in device or a machine with an API key gets a certificate",
            fix="czctl auth login, on the machine that needs it",
        )

    async def work(session: AsyncSession, member: Member) -> ways.Access:
        if device is not None:
            return await ways.access(session, hub, member, space, device=device, csr=body.csr)
        return await ways.access_by_key(session, hub, member, space, api_key=str(api_key), csr=body.csr)

    return Access.model_validate(await acting.change(work))


@routes.post(ONE + "/token", openapi_extra=needs(Permission.SPACES_CONNECT), responses=document.raises(409))
async def token(space: str, acting: TheActing, hub: TheHub) -> DoorToken:
    """A token for the Teamspace's CONNECT door, for a device or an API key."""
    speaker = acting.caller.device or acting.caller.api_key
    if speaker is None:
        raise CodezeroError(
            problems.ROLE_FORBIDS, "a token is for a signed-in device or an API key", fix="czctl auth login"
        )

    async def work(session: AsyncSession, member: Member) -> ways.Token:
        return await ways.token(session, hub, member, space, speaker=speaker)

    return DoorToken.model_validate(await acting.change(work))


def _tagged(hub: Hub, response: Response, row: tables.Space) -> Space:
    versions.tag(response, row.version)
    return _told(hub, row)


def _told(hub: Hub, row: tables.Space) -> Space:
    now = hub.clock()
    return Space(
        id=row.id,
        name=row.name,
        state=teamspaces.state_of(row, now).value,
        connected=teamspaces.is_connected(row, now),
        rotating=row.rotate_at is not None,
        host=row.host,
        port=row.port,
        release=row.release,
        fingerprint=row.fingerprint,
        policy_version=row.policy_number,
        created_at=row.created_at,
        certified_at=row.certified_at,
        seen_at=row.seen_at,
        version=row.version,
    )


def _invited(hub: Hub, made: teamspaces.Invited) -> Invited:
    return Invited(
        **_told(hub, made.space).model_dump(),
        join_token=made.token,
        join_expires_at=made.expires_at,
        install_command=teamspaces.install_command(hub),
    )
