"""What people do with their own account: their password, and the list of where they are signed in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.signin import browser, history, passwords, sign_ins
from codezero.hub.signin.attempts import PASSWORD_HERE, network
from codezero.hub.signin.callers import Caller
from codezero.hub.signin.refusals import kept, refused
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import BrowserSession, Device, SignIn, User
from codezero.model import problems
from codezero.model.problems import CodezeroError

_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody is signed in: a browser or a device."""

    id: str
    kind: Literal["browser", "device"]
    name: str
    address: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    is_this: bool


def add_person(session: AsyncSession, hub: Hub, *, email: str, name: str, password_hash: str | None) -> User:
    """A new person; the database refuses an address that somebody has already."""
    user = User(
        kind=organizations.PERSON,
        email=organizations.normal_email(email),
        name=_name(name),
        password_hash=password_hash,
        created_at=hub.clock(),
    )
    session.add(user)
    return user


async def change_password(hub: Hub, caller: Caller, *, present: str | None, new: str, visitor: Visitor) -> None:
    """Give `caller` a new password, and end all their other sessions and sign-ins; raises `CodezeroError` where `present` is not their password.

    Who came by an identity provider alone has none, and sets the first one in a browser where they have just signed in.
    """
    passwords.check(new)
    async with hub.database.reading() as session:
        hashed = (await session.get_one(User, caller.user)).password_hash
    if hashed is None and caller.session is None:
        raise refused("the first password is set in a browser", fix="sign in to the Hub's pages")
    hub.attempts.count(PASSWORD_HERE, hub.clock(), "change", caller.user, network(visitor.address))
    is_right = hashed is None or await hub.passwords.matches(present or "", hashed)
    fresh = await hub.passwords.hash(new) if is_right else None

    async def work(session: AsyncSession) -> CodezeroError | None:
        user = await session.get_one(User, caller.user)
        if fresh is None or user.password_hash != hashed:
            await history.tell(session, hub, user, "password.change", visitor, outcome=history.REFUSED)
            return refused("the present password is wrong")
        user.password_hash = fresh
        await sign_ins.end_all(
            session,
            hub,
            user.id,
            why=sign_ins.PASSWORD_CHANGED,
            except_session=caller.session,
            except_sign_in=caller.sign_in,
        )
        await history.tell(session, hub, user, "password.change", visitor)
        return None

    await kept(hub, work)


async def places(hub: Hub, caller: Caller) -> list[Place]:
    """Where `caller` is signed in now, the latest first."""
    now = hub.clock()
    async with hub.database.reading() as session:
        browsers = await session.scalars(
            select(BrowserSession).where(
                BrowserSession.user_id == caller.user,
                BrowserSession.ended_at.is_(None),
                BrowserSession.expires_at > now,
                BrowserSession.last_used_at > now - browser.IDLE,
            )
        )
        devices = await session.execute(
            select(SignIn, Device)
            .join(Device, Device.id == SignIn.device_id)
            .where(
                SignIn.user_id == caller.user,
                SignIn.ended_at.is_(None),
                SignIn.expires_at > now,
                Device.revoked_at.is_(None),
            )
        )
        found = [_browser(row, caller) for row in browsers]
        found += [_device(row, device, caller) for row, device in devices]
    return sorted(found, key=lambda place: (place.last_used_at, place.id), reverse=True)


async def end(hub: Hub, caller: Caller, place: str, visitor: Visitor) -> None:
    """End one of the caller's own sessions or sign-ins; raises `CodezeroError` (NOT_FOUND) for any other."""

    async def work(session: AsyncSession) -> CodezeroError | None:
        user = await session.get_one(User, caller.user)
        row = await session.get(SignIn, place)
        if row is not None and row.user_id == caller.user and row.ended_at is None:
            await sign_ins.end(session, hub, row, why=sign_ins.SIGNED_OUT)
        else:
            opened = await session.get(BrowserSession, place)
            if opened is None or opened.user_id != caller.user or opened.ended_at is not None:
                return CodezeroError(problems.NOT_FOUND, "there is no such session or sign-in of yours")
            opened.ended_at = hub.clock()
            await history.signed_out(session, hub, user.id)
        await history.tell(session, hub, user, "signin.end", visitor, target={"kind": "session", "id": place})
        return None

    await kept(hub, work)


async def end_everywhere(hub: Hub, caller: Caller, visitor: Visitor) -> int:
    """Sign out everywhere, here as well; how many sessions and sign-ins that were."""

    async def work(session: AsyncSession) -> int:
        user = await session.get_one(User, caller.user)
        ended = await sign_ins.end_all(session, hub, user.id, why=sign_ins.SIGNED_OUT)
        await history.tell(session, hub, user, "signin.end-all", visitor, ended=ended)
        return ended

    return await hub.database.run(work)


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise CodezeroError(problems.NOT_VALID, f"a name has 1 to {_LONGEST_NAME} characters that can be seen")
    return name


def _browser(row: BrowserSession, caller: Caller) -> Place:
    return Place(
        id=row.id,
        kind="browser",
        name=row.agent or "a browser",
        address=row.address,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=min(row.expires_at, row.last_used_at + browser.IDLE),
        is_this=row.id == caller.session,
    )


def _device(row: SignIn, device: Device, caller: Caller) -> Place:
    return Place(
        id=row.id,
        kind="device",
        name=device.name,
        address=device.last_address,
        created_at=row.created_at,
        last_used_at=device.last_seen_at,
        expires_at=row.expires_at,
        is_this=row.id == caller.sign_in,
    )
