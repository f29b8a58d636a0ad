"""People who come by an invitation: as whoever is signed in, or as somebody new."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.signin import accounts, browser, history, passwords
from codezero.hub.signin.attempts import ADDRESS, network
from codezero.hub.signin.browser import Opened
from codezero.hub.signin.refusals import kept
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import Invitation, Organization, User
from codezero.model import problems
from codezero.model.problems import CodezeroError

PATH: Final = "/invitation"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an invitation says to whoever holds its token. `is_known`: somebody with the address is here already."""

    organization: str
    email: str
    role: str
    is_known: bool


@dataclass(frozen=True, slots=True, repr=False)
class Accepted:
    """An invitation that was accepted; `opened` is the session of somebody new with a browser."""

    organization: str
    user: str
    role: str
    opened: Opened | None


async def look(hub: Hub, token: str, visitor: Visitor) -> Seen:
    """The open invitation with this token; raises `CodezeroError` (NOT_FOUND)."""
    hub.attempts.count(ADDRESS, hub.clock(), network(visitor.address))
    async with hub.database.reading() as session:
        row = await organizations.find_invitation(session, hub, token)
        if row is None:
            raise _no_invitation()
        organization = await session.get_one(Organization, row.organization_id)
        return Seen(organization.name, row.email, row.role, await browser.by_email(session, row.email) is not None)


async def accept(hub: Hub, token: str, visitor: Visitor, *, user: str) -> Accepted:
    """`user`, who is signed in, becomes a member; raises `CodezeroError` (NOT_FOUND, ROLE_FORBIDS for another's invitation, ALREADY_THERE)."""

    async def work(session: AsyncSession) -> Accepted | CodezeroError:
        row = await organizations.find_invitation(session, hub, token)
        if row is None:
            return _no_invitation()
        return await _accepted(session, hub, row, await session.get_one(User, user), None)

    hub.attempts.count(ADDRESS, hub.clock(), network(visitor.address))
    return await kept(hub, work)


async def sign_up(
    hub: Hub, token: str, visitor: Visitor, *, name: str, password: str, is_browser: bool = False
) -> Accepted:
    """Somebody new becomes a member, and is signed in where they come with a browser; raises as `accept` does, and BAD_REQUEST for a password that is none.

    Whoever holds the token got it at the address, or from somebody who could invite it: that is how the address is known to be theirs.
    """
    passwords.check(password)
    await look(hub, token, visitor)
    hashed = await hub.passwords.hash(password)

    async def work(session: AsyncSession) -> Accepted | CodezeroError:
        row = await organizations.find_invitation(session, hub, token)
        if row is None:
            return _no_invitation()
        if await browser.by_email(session, row.email) is not None:
            return CodezeroError(
                problems.ALREADY_THERE,
                f"{row.email} is known here already",
                fix="sign in, and accept the invitation then",
            )
        person = accounts.add_person(session, hub, email=row.email, name=name, password_hash=hashed)
        await session.flush()
        opened = browser.open_session(session, hub, person, visitor) if is_browser else None
        accepted = await _accepted(session, hub, row, person, opened)
        await history.tell(session, hub, person, "signin.invitation", visitor)
        return accepted

    return await kept(hub, work)


async def _accepted(session: AsyncSession, hub: Hub, row: Invitation, user: User, opened: Opened | None) -> Accepted:
    membership = await organizations.accept_invitation(session, hub, row, user)
    return Accepted(membership.organization_id, user.id, membership.role, opened)


def _no_invitation() -> CodezeroError:
    return CodezeroError(
        problems.NOT_FOUND, "there is no such invitation that is open", fix="ask whoever invited you for a new one"
    )
