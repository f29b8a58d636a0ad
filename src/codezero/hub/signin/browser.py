"""Signed-in browsers: a cookie that only this host gets back, and a token of its own for what changes something.

    __Host-codezero=...; Path=/; Secure; HttpOnly; SameSite=Lax

Lax, because a link from czctl, a mail or a chat has to find the session. `Secure` also on loopback without TLS, which Chromium counts as safe (156 was
asked); there alone, other ports of the same address get the cookie as well, for browsers know no ports: a Hub on loopback is for one person's machine.
The token is worked out from the cookie, so pages can show it at any time.
"""

import asyncio
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import history, passwords
from codezero.hub.signin.attempts import ADDRESS, PASSWORD_ACCOUNT, PASSWORD_HERE, network
from codezero.hub.signin.refusals import kept, refused
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import BrowserSession, User
from codezero.kit import logs
from codezero.model.problems import CodezeroError
from codezero.transport.signed import encoded

COOKIE: Final = "__Host-codezero"
LIFETIME: Final = timedelta(days=7)
IDLE: Final = timedelta(hours=24)
# More than a hash and the audit take, so that nobody learns from the time which addresses are known.
REFUSED_AFTER: Final = 0.5
_NOTED_EVERY: Final = timedelta(minutes=1)
_LONGEST_COOKIE: Final = 128

_log = logs.get_logger("sign-in")


@dataclass(frozen=True, slots=True, repr=False)
class Opened:
    """A session that began. `cookie` and `csrf` are secrets of the browser."""

    user: User
    cookie: str
    csrf: str


def set_cookie(cookie: str) -> str:
    """The `Set-Cookie` of a session that began."""
    return f"{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={int(LIFETIME.total_seconds())}"


def clear_cookie() -> str:
    """The `Set-Cookie` of one that ended."""
    return f"{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"


def csrf_of(hub: Hub, cookie: str) -> str:
    """The token that changes by the browser with this cookie carry."""
    return encoded(hub.sealer.hash(f"csrf {cookie}"))


def is_csrf(hub: Hub, row: BrowserSession, token: str) -> bool:
    """Whether it is the token of this session."""
    return hmac.compare_digest(hub.sealer.hash(token), row.csrf_hash)


async def sign_in(hub: Hub, email: str, password: str, visitor: Visitor) -> Opened:
    """Open a session for whoever knows the password; raises `CodezeroError` (SIGN_IN_REFUSED, the same whatever was wrong, or TOO_MANY_REQUESTS)."""
    email = email.strip().lower()
    _count(hub, email, visitor)
    loop = asyncio.get_running_loop()
    answered_at = loop.time() + REFUSED_AFTER

    async def look(session: AsyncSession) -> tuple[str, str | None] | None:
        row = await by_email(session, email)
        return None if row is None else (row.id, row.password_hash if row.disabled_at is None else None)

    found = await hub.database.run(look)
    user_id, hashed = found or (None, None)
    is_right = await hub.passwords.matches(password, hashed)
    fresh = await hub.passwords.hash(password) if is_right and hashed and passwords.is_outdated(hashed) else None

    async def work(session: AsyncSession) -> Opened | CodezeroError:
        user = None if user_id is None else await session.get(User, user_id)
        # It may have been changed, or the user disabled, while the hash was worked out.
        if user is None or not is_right or user.password_hash != hashed or user.disabled_at is not None:
            if user is not None:
                await history.tell(session, hub, user, "signin.password", visitor, outcome=history.REFUSED)
            # Without the address that was typed: it may be anybody's, or the password in the wrong field.
            _log.warning("a sign-in was refused", address=visitor.address)
            return refused("the e-mail address or the password is wrong")
        if fresh is not None:
            user.password_hash = fresh
        opened = open_session(session, hub, user, visitor)
        await history.tell(session, hub, user, "signin.password", visitor)
        return opened

    try:
        opened = await kept(hub, work)
    except CodezeroError:
        # Telling the audit takes time as well, and strangers have none.
        await asyncio.sleep(answered_at - loop.time())
        raise
    hub.attempts.forget(PASSWORD_HERE, email, network(visitor.address))
    return opened


def open_session(session: AsyncSession, hub: Hub, user: User, visitor: Visitor) -> Opened:
    """A session of `user`, who has shown who they are."""
    cookie = secrets.token_urlsafe(32)
    csrf = csrf_of(hub, cookie)
    now = hub.clock()
    session.add(
        BrowserSession(
            user_id=user.id,
            cookie_hash=hub.sealer.hash(cookie),
            csrf_hash=hub.sealer.hash(csrf),
            created_at=now,
            last_used_at=now,
            expires_at=now + LIFETIME,
            address=visitor.address,
            agent=visitor.agent,
        )
    )
    return Opened(user, cookie, csrf)


async def current(hub: Hub, cookie: str) -> tuple[BrowserSession, User] | None:
    """The session of a cookie and its user, where both still are."""
    if not cookie or len(cookie) > _LONGEST_COOKIE:
        return None
    now = hub.clock()
    async with hub.database.reading() as session:
        row = await session.scalar(select(BrowserSession).where(BrowserSession.cookie_hash == hub.sealer.hash(cookie)))
        if row is None or row.ended_at is not None or now >= row.expires_at or now >= row.last_used_at + IDLE:
            return None
        user = await session.get_one(User, row.user_id)
    if user.disabled_at is not None:
        return None
    if now - row.last_used_at >= _NOTED_EVERY:
        await hub.database.run(lambda session: _note(session, hub, row.id))
    return row, user


async def end(hub: Hub, row_id: str, visitor: Visitor) -> None:
    """End a session."""

    async def work(session: AsyncSession) -> None:
        row = await session.get_one(BrowserSession, row_id)
        if row.ended_at is None:
            row.ended_at = hub.clock()
            await history.signed_out(session, hub, row.user_id)
            user = await session.get_one(User, row.user_id)
            await history.tell(session, hub, user, "signin.end", visitor, target={"kind": "session", "id": row.id})

    await hub.database.run(work)


async def by_email(session: AsyncSession, email: str) -> User | None:
    """The person with this address."""
    return await session.scalar(select(User).where(User.email == email, User.kind == "person"))


async def _note(session: AsyncSession, hub: Hub, row_id: str) -> None:
    row = await session.get_one(BrowserSession, row_id)
    row.last_used_at = hub.clock()


def _count(hub: Hub, email: str, visitor: Visitor) -> None:
    now, here = hub.clock(), network(visitor.address)
    hub.attempts.count(ADDRESS, now, here)
    hub.attempts.count(PASSWORD_HERE, now, email, here)
    hub.attempts.count(PASSWORD_ACCOUNT, now, email)
