"""Sign-ins of devices (czctl): each a family of refresh tokens that end together, bound to the key of one device; thirty days at most.

czctl makes a new key for each sign-in. So where one is ended, its device is revoked with it, and what it has open at Teamspaces ends as well: whoever signs
out everywhere because a laptop is gone means all of it. One that runs out takes nothing with it: the Daemon goes on, and czctl has to sign in.
"""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import devices
from codezero.hub.context import Hub
from codezero.hub.signin import history, tokens
from codezero.hub.signin.proofs import Proof
from codezero.hub.signin.tokens import AccessToken
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import BrowserSession, Device, RefreshToken, SignIn, User
from codezero.model.problems import CodezeroError

LIFETIME: Final = timedelta(days=30)
REFRESH_PREFIX: Final = "cz_refresh_"

SIGNED_OUT: Final = "signed-out"
REUSED: Final = "reused"
PASSWORD_CHANGED: Final = "password-changed"  # noqa: S105 - why it ended
CODE_REUSED: Final = "code-reused"


@dataclass(frozen=True, slots=True, repr=False)
class Granted:
    """What the token endpoint answers. Both tokens are secrets."""

    access_token: str
    refresh_token: str
    expires_in: int
    device: str
    user: User
    sign_in: str


async def start(
    session: AsyncSession, hub: Hub, user: User, proof: Proof, *, device_name: str, how: str, visitor: Visitor
) -> Granted | CodezeroError:
    """A sign-in of `user` at the device that holds the proven key, which becomes theirs where it is nobody's yet."""
    device = await devices.register(
        session,
        hub,
        user=user.id,
        jwk=proof.jwk,
        thumbprint=proof.thumbprint,
        name=device_name,
        address=visitor.address,
    )
    if isinstance(device, CodezeroError):
        return device
    now = hub.clock()
    row = SignIn(user_id=user.id, device_id=device.id, created_at=now, expires_at=now + LIFETIME)
    session.add(row)
    await session.flush()
    await history.tell(
        session, hub, user, f"signin.{how}", visitor, target={"kind": "device", "id": device.id, "name": device.name}
    )
    return await grant(session, hub, row, user)


async def grant(session: AsyncSession, hub: Hub, row: SignIn, user: User) -> Granted:
    """Fresh tokens of a sign-in."""
    token = REFRESH_PREFIX + secrets.token_urlsafe(32)
    session.add(RefreshToken(sign_in_id=row.id, token_hash=hub.sealer.hash(token), created_at=hub.clock()))
    await session.flush()
    return Granted(
        access_token=tokens.issue(hub, AccessToken(user.id, row.device_id, row.id)),
        refresh_token=token,
        expires_in=int(tokens.LIFETIME.total_seconds()),
        device=row.device_id,
        user=user,
        sign_in=row.id,
    )


async def find(session: AsyncSession, hub: Hub, token: AccessToken) -> tuple[SignIn, User, Device] | None:
    """The sign-in that a token speaks for, with its user and device, where all of them still are."""
    row = await session.get(SignIn, token.sign_in)
    if row is None or (row.user_id, row.device_id) != (token.user, token.device) or not is_open(row, hub):
        return None
    user, device = await session.get(User, row.user_id), await session.get(Device, row.device_id)
    if user is None or user.disabled_at is not None or device is None or device.revoked_at is not None:
        return None
    return row, user, device


def is_open(row: SignIn, hub: Hub) -> bool:
    """Whether it has neither ended nor expired."""
    return row.ended_at is None and hub.clock() < row.expires_at


async def end(session: AsyncSession, hub: Hub, row: SignIn, *, why: str) -> None:
    """End a sign-in, and its device where it has no other one; its tokens are worth nothing from then on."""
    if row.ended_at is not None:
        return
    now = hub.clock()
    row.ended_at, row.ended_as = now, why
    others = select(SignIn.id).where(
        SignIn.device_id == row.device_id, SignIn.ended_at.is_(None), SignIn.expires_at > now, SignIn.id != row.id
    )
    if await session.scalar(others.limit(1)) is None:
        await devices.revoke(session, hub, row.device_id, by=row.user_id)
    await history.signed_out(session, hub, row.user_id)


async def end_all(
    session: AsyncSession,
    hub: Hub,
    user: str,
    *,
    why: str,
    except_session: str | None = None,
    except_sign_in: str | None = None,
) -> int:
    """End all sessions and sign-ins of a user but those named; how many they were."""
    now = hub.clock()
    ended = 0
    rows = await session.scalars(select(SignIn).where(SignIn.user_id == user, SignIn.ended_at.is_(None)))
    for row in rows.all():
        if row.id != except_sign_in:
            await end(session, hub, row, why=why)
            ended += 1
    sessions = select(BrowserSession).where(BrowserSession.user_id == user, BrowserSession.ended_at.is_(None))
    for browser in await session.scalars(sessions):
        if browser.id != except_session:
            browser.ended_at = now
            ended += 1
    await history.signed_out(session, hub, user)
    return ended


async def supersede(session: AsyncSession, hub: Hub, row: SignIn) -> None:
    """From now on none of the sign-in's tokens is unused."""
    await session.execute(
        update(RefreshToken)
        .where(RefreshToken.sign_in_id == row.id, RefreshToken.used_at.is_(None))
        .values(used_at=hub.clock())
    )


async def tidy(session: AsyncSession, hub: Hub) -> None:
    """Forget the tokens of sign-ins that are over, and browsers that were signed in; the audit knows of both."""
    now = hub.clock()
    over = select(SignIn.id).where((SignIn.ended_at.is_not(None)) | (SignIn.expires_at < now))
    await session.execute(delete(RefreshToken).where(RefreshToken.sign_in_id.in_(over)))
    await session.execute(
        delete(BrowserSession).where((BrowserSession.ended_at.is_not(None)) | (BrowserSession.expires_at < now))
    )
