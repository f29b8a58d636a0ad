"""What a Teamspace is told about access: members, what was taken away from whom, and its policy. See `model.access.Bundle`.

A bundle holds for a day, so that a Teamspace whose Hub is away goes on, and one that was cut off on purpose does not go on for ever (R05).
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import devices
from codezero.hub.context import Hub
from codezero.hub.storage.tables import ApiKey, Device, Membership, Organization, PolicyVersion, Space, User
from codezero.kit.logs import get_logger
from codezero.model import cedar, problems
from codezero.model.access import Bundle, Member
from codezero.model.cedar import PolicySet
from codezero.model.problems import CodezeroError
from codezero.wire import policy_file

HOLDS_FOR: Final = timedelta(hours=24)
# Serials go on growing where a Hub was put back from a backup: they are seconds since then, or one more than the last.
_BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
# A Hub has as many Teamspaces at work, or fewer.
MOST_COMPILED: Final = 100

_NOTHING: Final = cedar.compiled({"templates": {}, "staticPolicies": {}, "templateLinks": []})
# Versions never change; by their times they differ from those of a database that was put back.
_compiled: Final[OrderedDict[tuple[str, int, datetime], PolicySet]] = OrderedDict()

_log = get_logger("policy")


async def bundle(hub: Hub, session: AsyncSession, space: str, *, also_removed: bool = False) -> bytes:
    """The content of `policy.json` for the Teamspace `space`, newer than all before. Raises `CodezeroError` (NOT_FOUND).

    With `also_removed` for one that is no more, too: it lets nobody do anything. Nor does one that would be more than a Teamspace can keep: to go on
    with what held before would be to let in whoever was kept out since.
    """
    return await present(hub, session, await next_serial(hub, session, space, also_removed=also_removed))


async def next_serial(hub: Hub, session: AsyncSession, space: str, *, also_removed: bool = False) -> Space:
    """The Teamspace with a serial that no bundle had; raises `CodezeroError` (NOT_FOUND).

    It may be committed before `present` reads: whatever changes a bundle counts the serial on in its own transaction (`changes.tell`), so that of two
    states of the database the later one has the greater serial.
    """
    found = await session.scalar(select(Space).where(Space.id == space).with_for_update())
    if found is None or (found.removed_at is not None and not also_removed):
        raise CodezeroError(problems.NOT_FOUND, f"there is no Teamspace {space}")
    # Before anything is read: whoever has the greater serial has seen what the other has.
    found.serial = max(found.serial + 1, int((hub.clock() - _BEGINNING).total_seconds()))
    await session.flush()
    return found


async def present(hub: Hub, session: AsyncSession, space: Space) -> bytes:
    """As `bundle`, of the serial that `space` has in this transaction, which may be one that only reads."""
    return _encoded(await of_space(session, space, hub.clock()))


async def next_end(hub: Hub, session: AsyncSession, organization: str) -> datetime | None:
    """When the next API key expires: a bundle from then on says so."""
    keys = select(func.min(ApiKey.expires_at)).where(
        ApiKey.organization_id == organization, ApiKey.revoked_at.is_(None), ApiKey.expires_at > hub.clock()
    )
    return await session.scalar(keys)


def _encoded(held: Bundle) -> bytes:
    content = policy_file.encode(held)
    if len(content) <= policy_file.MAX_SIZE:
        return content
    _log.error(
        "members, policies and what was revoked are more than a Teamspace can keep: closed",
        code=problems.BUNDLE_TOO_LARGE.code,
        space=held.space,
        size=len(content),
        most=policy_file.MAX_SIZE,
    )
    return policy_file.encode(replace(held, members={}, policies=_NOTHING, revoked=frozenset(), suspended=True))


async def of_space(session: AsyncSession, space: Space, now: datetime) -> Bundle:
    """What holds for a Teamspace at this moment."""
    organization = await session.get_one(Organization, space.organization_id)
    members = await session.execute(
        select(User, Membership.role)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.organization_id == space.organization_id, User.disabled_at.is_(None))
        .order_by(User.id)
    )
    opa_url = organization.settings.get("opa")
    return Bundle(
        organization=space.organization_id,
        space=space.id,
        serial=space.serial,
        issued_at=now.timestamp(),
        expires_at=(now + HOLDS_FOR).timestamp(),
        members={user.id: Member(user.name, user.email or "", user.kind, role) for user, role in members},
        policies=await _policies(session, space),
        revoked=await _revoked(session, space.organization_id, now),
        suspended=space.state in {"suspended", "removed"} or organization.deleted_at is not None,
        opa_url=opa_url if isinstance(opa_url, str) and opa_url else None,
    )


async def _policies(session: AsyncSession, space: Space) -> PolicySet:
    in_force = (
        PolicyVersion.space_id == space.id,
        PolicyVersion.organization_id == space.organization_id,
        PolicyVersion.number == space.policy_number,
    )
    made_at = await session.scalar(select(PolicyVersion.created_at).where(*in_force))
    if made_at is None:
        return _NOTHING
    key = (space.id, space.policy_number, made_at)
    found = _compiled.get(key)
    if found is None:
        content = (await session.scalars(select(PolicyVersion.compiled).where(*in_force))).one()
        found = await asyncio.to_thread(cedar.compiled, content)
    _compiled[key] = found
    _compiled.move_to_end(key)
    while len(_compiled) > MOST_COMPILED:
        _compiled.popitem(last=False)
    return found


async def _revoked(session: AsyncSession, organization: str, now: datetime) -> frozenset[str]:
    since = now - devices.REVOKED_FOR
    machines = await session.scalars(
        select(Device.id)
        .join(Membership, Membership.user_id == Device.user_id)
        .where(Membership.organization_id == organization, devices.to_be_told(now))
    )
    keys = await session.scalars(
        select(ApiKey.id).where(
            ApiKey.organization_id == organization,
            ApiKey.last_used_at.is_not(None),
            (ApiKey.revoked_at >= since) | ((ApiKey.expires_at <= now) & (ApiKey.expires_at >= since)),
        )
    )
    return frozenset([*machines, *keys])
