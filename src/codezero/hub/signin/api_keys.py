"""API keys: `cz_key_<ulid>_<secret>`, for machines. The key is shown once; what is kept is a keyed hash, so that whoever reads the database has none (T34).

The last eight digits are a checksum, so that scanners of source code know one when they see it, and a key that was cut off is told as such.
"""

import hmac
import re
import secrets
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, changes
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.signals import Changed
from codezero.hub.signin.attempts import TOLD
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import ApiKey, Device, Organization, User
from codezero.model.ids import new_ulid
from codezero.model.roles import Permission

PREFIX: Final = "cz_key_"
_KEY: Final = re.compile(r"cz_key_([0-7][0-9A-HJKMNP-TV-Z]{25})_([0-9a-f]{64})([0-9a-f]{8})", re.ASCII)
_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, repr=False)
class NewKey:
    """A key that was made. `key` is a secret, and nobody can tell it again."""

    row: ApiKey
    key: str


def make(
    session: AsyncSession,
    hub: Hub,
    *,
    organization: str,
    account: str,
    name: str,
    created_by: str,
    scopes: Iterable[Permission] = (),
    expires_at: datetime | None = None,
) -> NewKey:
    """A key of the service account `account`; whether whoever makes it may do so was asked before."""
    key_id = new_ulid()
    body = f"{PREFIX}{key_id}_{secrets.token_hex(32)}"
    key = f"{body}{_checksum(body)}"
    row = ApiKey(
        id=key_id,
        organization_id=organization,
        user_id=account,
        name=name,
        secret_hash=hub.sealer.hash(key),
        scopes=sorted(scopes),
        created_by=created_by,
        created_at=hub.clock(),
        expires_at=expires_at,
    )
    session.add(row)
    hub.signals.tell(session, Changed("apikey", organization=organization, id=key_id))
    return NewKey(row, key)


async def revoke(session: AsyncSession, hub: Hub, row: ApiKey) -> Sequence[Device]:
    """The key is worth nothing from now on, and what is open by it ends; the devices that end with it."""
    ended: list[Device] = []
    if row.revoked_at is None:
        row.revoked_at = hub.clock()
        # Which machine came with which key is not kept: those with another one of the account sign in anew.
        own = select(Device).where(Device.user_id == row.user_id, Device.revoked_at.is_(None))
        for device in await session.scalars(own):
            device.revoked_at = row.revoked_at
            ended.append(device)
        await changes.tell(session, hub, "apikey", organization=row.organization_id, what=row.id)
    return ended


def is_key(text: str) -> bool:
    """Whether it has the form of a key."""
    match = _KEY.fullmatch(text)
    return match is not None and hmac.compare_digest(_checksum(text[: -len(match[3])]), match[3])


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """A key that was shown, with the account it speaks for; `ended_as` says why it is worth nothing any more."""

    row: ApiKey
    account: User
    ended_as: str | None

    def is_worth_noting(self, hub: Hub) -> bool:
        """Whether something is to be written about this use; each minute at most."""
        if self.ended_as is not None:
            return hub.attempts.is_left(TOLD, hub.clock(), self.row.id)
        return self.row.last_used_at is None or hub.clock() - self.row.last_used_at >= _NOTED_EVERY


async def find(session: AsyncSession, hub: Hub, key: str, *, organization: str | None = None) -> Found | None:
    """The key, where its secret is right (and it belongs to `organization`, where that is said)."""
    match = _KEY.fullmatch(key)
    row = None if match is None or not is_key(key) else await session.get(ApiKey, match[1])
    # The same work for ids that are none.
    expected = hub.sealer.hash("") if row is None else row.secret_hash
    if not hmac.compare_digest(hub.sealer.hash(key), expected) or row is None:
        return None
    if organization is not None and organization != row.organization_id:
        return None
    account = await session.get_one(User, row.user_id)
    tenant = await session.get_one(Organization, row.organization_id)
    return Found(row, account, _ended(row, account, tenant, hub.clock()))


async def note(session: AsyncSession, hub: Hub, found: Found, visitor: Visitor) -> None:
    """Keep that the key was used, and tell the audit of its first use, and of a use after its end."""
    row = await session.get_one(ApiKey, found.row.id)
    if found.ended_as is not None:
        await _tell(session, hub, found, visitor, action="apikey.use", outcome="denied")
        return
    if row.last_used_at is None:
        await _tell(session, hub, found, visitor, action="apikey.use", outcome="ok")
    row.last_used_at = hub.clock()


def _ended(row: ApiKey, account: User, organization: Organization, now: datetime) -> str | None:
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at is not None and now >= row.expires_at:
        return "expired"
    if organization.deleted_at is not None:
        return "organization deleted"
    return "account disabled" if account.disabled_at is not None else None


async def _tell(session: AsyncSession, hub: Hub, found: Found, visitor: Visitor, *, action: str, outcome: str) -> None:
    row, account = found.row, found.account
    await audit.record(
        session,
        row.organization_id,
        Entry(
            actor={"kind": account.kind, "id": account.id, "name": account.name},
            action=action,
            target={"kind": "apikey", "id": row.id, "name": row.name},
            outcome=outcome,
            details={} if found.ended_as is None else {"reason": found.ended_as},
            address=visitor.address,
            request=visitor.request,
            at=hub.clock(),
        ),
    )


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
