"""What is good once and not for long: codes, links, and the ids of proofs. All replicas of a Hub know which were used."""

import secrets
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.storage.tables import OneTimeCode
from codezero.model.ids import new_ulid

FIRST_OWNER: Final = "first-owner"
AUTHORIZATION: Final = "authorization"
DEVICE: Final = "device"
OIDC: Final = "oidc"
PASSWORD: Final = "password"  # noqa: S105 - a kind of code
PROOF: Final = "proof"

# How long a used or expired one is still known, to tell the second use from one that never was.
_KEPT: Final = timedelta(days=1)


async def make(
    session: AsyncSession,
    hub: Hub,
    kind: str,
    *,
    lifetime: timedelta,
    user: str | None = None,
    second: str | None = None,
    data: dict[str, Any] | None = None,
) -> str:
    """A fresh code. `second` is another way to find it, for people to type."""
    code = secrets.token_urlsafe(32)
    now = hub.clock()
    session.add(
        OneTimeCode(
            kind=kind,
            code_hash=_hash(hub, kind, code),
            second_hash=None if second is None else _hash(hub, kind, second),
            user_id=user,
            data=data or {},
            created_at=now,
            expires_at=now + lifetime,
        )
    )
    return code


async def find(session: AsyncSession, hub: Hub, kind: str, code: str) -> OneTimeCode | None:
    """The row of a code, used and expired ones as well."""
    return await session.scalar(select(OneTimeCode).where(OneTimeCode.code_hash == _hash(hub, kind, code)))


async def find_second(session: AsyncSession, hub: Hub, kind: str, second: str) -> OneTimeCode | None:
    """The row of a code by what people type."""
    return await session.scalar(select(OneTimeCode).where(OneTimeCode.second_hash == _hash(hub, kind, second)))


def is_good(row: OneTimeCode | None, hub: Hub) -> bool:
    """Whether it was not used and has not expired."""
    return row is not None and row.used_at is None and hub.clock() < row.expires_at


async def take(session: AsyncSession, hub: Hub, kind: str, code: str) -> OneTimeCode | None:
    """Use a code; None where it is none, was used, or has expired."""
    row = await find(session, hub, kind, code)
    if row is None or not is_good(row, hub):
        return None
    row.used_at = hub.clock()
    return row


async def is_first_use(session: AsyncSession, hub: Hub, kind: str, value: str, *, lifetime: timedelta) -> bool:
    """Remember `value` for `lifetime`; false where it is remembered already."""
    now = hub.clock()
    insert = postgresql.insert if hub.database.is_postgresql else sqlite.insert
    done = await session.execute(
        insert(OneTimeCode)
        .values(
            id=new_ulid(),
            kind=kind,
            code_hash=_hash(hub, kind, value),
            data={},
            created_at=now,
            expires_at=now + lifetime,
            used_at=now,
        )
        .on_conflict_do_nothing(index_elements=["code_hash"])
        .returning(OneTimeCode.id)
    )
    return done.scalar_one_or_none() is not None


async def tidy(session: AsyncSession, hub: Hub) -> None:
    """Forget what nobody can use any more."""
    now = hub.clock()
    await session.execute(
        delete(OneTimeCode).where(
            (OneTimeCode.expires_at < now - _KEPT) | ((OneTimeCode.kind == PROOF) & (OneTimeCode.expires_at < now))
        )
    )


def _hash(hub: Hub, kind: str, code: str) -> bytes:
    return hub.sealer.hash(f"{kind} {code}")
