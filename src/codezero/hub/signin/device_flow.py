"""Signing in czctl where there is no browser (RFC 8628): it shows a short code, which a person types into a browser elsewhere.

Whoever is made to type somebody else's code gives them their account. So there is no link that holds the code, the page shows which machine asks, from
where and since when, and an organization may turn the whole way off (T32).
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import history, one_time, proofs, sign_ins
from codezero.hub.signin.attempts import DEVICE_CODES, USER_CODE, network
from codezero.hub.signin.authorization import named
from codezero.hub.signin.proofs import Proof
from codezero.hub.signin.refusals import OAuthError, kept, refused
from codezero.hub.signin.sign_ins import Granted
from codezero.hub.signin.tokens import CLIENT
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import Membership, OneTimeCode, Organization, User
from codezero.model import problems
from codezero.model.problems import CodezeroError

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
LIFETIME: Final = timedelta(minutes=10)
INTERVAL: Final = 5
# What a network makes of an interval that was kept.
_LEEWAY: Final = 1.0
# Without vowels no words, and nothing that looks like something else (RFC 8628, 6.1).
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH: Final = 8

_PENDING: Final = "pending"
_APPROVED: Final = "approved"
_DENIED: Final = "denied"


@dataclass(frozen=True, slots=True, repr=False)
class Codes:
    """What czctl gets: one code to come back with, and one to show."""

    device_code: str
    user_code: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The machine that waits for an answer: what it calls itself, from where it asks, and since when."""

    device_name: str
    address: str | None
    asked_at: datetime


async def begin(hub: Hub, *, client: str, device_name: str | None, visitor: Visitor) -> Codes:
    """Codes for a machine that wants to be signed in."""
    if client != CLIENT:
        raise OAuthError("invalid_client", "the program that asks for a sign-in is not known here")
    hub.attempts.count(DEVICE_CODES, hub.clock(), network(visitor.address))
    user_code = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    data = {"device_name": named(device_name), "address": visitor.address, "state": _PENDING, "interval": INTERVAL}

    async def work(session: AsyncSession) -> str:
        return await one_time.make(session, hub, one_time.DEVICE, lifetime=LIFETIME, second=user_code, data=data)

    device_code = await hub.database.run(work)
    return Codes(device_code, f"{user_code[: _LENGTH // 2]}-{user_code[_LENGTH // 2 :]}")


async def waiting(hub: Hub, user: User, user_code: str, visitor: Visitor) -> Waiting:
    """Who waits for the answer to `user_code`; raises `CodezeroError` (SIGN_IN_REFUSED, TOO_MANY_REQUESTS, FORBIDDEN where an organization forbids it)."""
    _count(hub, user, visitor)

    async def work(session: AsyncSession) -> Waiting | CodezeroError:
        row = await _pending(session, hub, user, user_code)
        if isinstance(row, CodezeroError):
            return row
        return Waiting(row.data["device_name"], row.data["address"], row.created_at)

    return await kept(hub, work)


async def answer(hub: Hub, user: User, user_code: str, visitor: Visitor, *, approves: bool) -> None:
    """Let the machine in, or not; raises as `waiting` does."""
    _count(hub, user, visitor)

    async def work(session: AsyncSession) -> CodezeroError | None:
        row = await _pending(session, hub, user, user_code)
        if isinstance(row, CodezeroError):
            return row
        row.data = {**row.data, "state": _APPROVED if approves else _DENIED}
        row.user_id = user.id
        await history.tell(
            session,
            hub,
            user,
            "signin.device-code",
            visitor,
            outcome="ok" if approves else history.REFUSED,
            device_name=row.data["device_name"],
            asked_from=row.data["address"],
        )
        return None

    await kept(hub, work)


async def exchange(hub: Hub, *, device_code: str, proof: Proof, device_name: str | None, visitor: Visitor) -> Granted:
    """Tokens, once a person has answered; raises `OAuthError` with RFC 8628's words (authorization_pending, slow_down, access_denied, expired_token)."""

    async def work(session: AsyncSession) -> Granted | CodezeroError:
        row = await one_time.find(session, hub, one_time.DEVICE, device_code)
        if row is None or row.used_at is not None:
            return OAuthError("invalid_grant", "the device code is wrong or was used before")
        now = hub.clock()
        if now >= row.expires_at:
            return OAuthError("expired_token", "nobody typed the code in time")
        if row.data["state"] == _PENDING:
            return _asked_again(row, now)
        if not await proofs.is_first_use(session, hub, proof):
            return proofs.used_before()
        row.used_at = now
        if row.data["state"] == _DENIED:
            return OAuthError("access_denied", "the sign-in was declined in the browser")
        user = await session.get_one(User, row.user_id)
        if user.disabled_at is not None:
            return OAuthError("invalid_grant", "the device code is worth nothing any more")
        name = named(device_name) if device_name else row.data["device_name"]
        return await sign_ins.start(session, hub, user, proof, device_name=name, how="device", visitor=visitor)

    return await kept(hub, work)


def _asked_again(row: OneTimeCode, now: datetime) -> OAuthError:
    data: dict[str, Any] = {**row.data, "asked": now.timestamp()}
    asked = row.data.get("asked")
    is_early = asked is not None and now.timestamp() - asked < row.data["interval"] - _LEEWAY
    if is_early:
        data["interval"] += INTERVAL
    row.data = data
    if is_early:
        return OAuthError("slow_down", f"ask again in {data['interval']} seconds, not earlier")
    return OAuthError("authorization_pending", "nobody has typed the code yet")


async def _pending(session: AsyncSession, hub: Hub, user: User, user_code: str) -> OneTimeCode | CodezeroError:
    typed = "".join(letter for letter in user_code.upper()[:40] if letter.isalpha())
    row = await one_time.find_second(session, hub, one_time.DEVICE, typed)
    if row is None or not one_time.is_good(row, hub) or row.data["state"] != _PENDING:
        return refused(
            "the code is wrong, has expired, or was answered before",
            fix="type the code that `czctl auth login` shows on your own machine; it is good for ten minutes",
        )
    forbidding = await session.scalars(
        select(Organization)
        .join(Membership, Membership.organization_id == Organization.id)
        .where(Membership.user_id == user.id, Organization.deleted_at.is_(None))
    )
    for organization in forbidding:
        if organization.settings.get("device_flow") is False:
            return CodezeroError(
                problems.FORBIDDEN,
                f"the organization {organization.name} does not allow sign-ins by a typed code",
                fix="run `czctl auth login` on a machine with a browser",
            )
    return row


def _count(hub: Hub, user: User, visitor: Visitor) -> None:
    hub.attempts.count(USER_CODE, hub.clock(), "person", user.id)
    hub.attempts.count(USER_CODE, hub.clock(), "address", network(visitor.address))
