"""Devices: machines that people sign in at, known by a key that never leaves them."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, changes, organizations
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.storage.tables import Device, Membership, Organization, SignIn, User
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import PERMISSIONS, Permission, Role

REVOKED: Final = "device-revoked"
# Teamspaces are told for so long; by then each has heard of it, or its bundle has expired.
REVOKED_FOR: Final = timedelta(hours=50)
# Those at work, and those that Teamspaces are told of: a bundle has little room. Programs have one for each run, for a day.
MOST_OF_A_PERSON: Final = 100
MOST_OF_A_PROGRAM: Final = 1000
_SEEN_EVERY: Final = timedelta(minutes=1)
_LONGEST_NAME: Final = 200


async def register(
    session: AsyncSession,
    hub: Hub,
    *,
    user: str,
    jwk: dict[str, Any],
    thumbprint: str,
    name: str,
    address: str | None = None,
) -> Device | CodezeroError:
    """The device with a key that was proven to be held: the one that is known, or a new one of `user`.

    An error (SIGN_IN_REFUSED) where the key is revoked, or another person's, or the user has too many devices; returned, so that what was noted beside
    it is kept.
    """
    now = hub.clock()
    device = await session.scalar(select(Device).where(Device.thumbprint == thumbprint))
    if device is None:
        full = await _too_many(session, user, now)
        if full is not None:
            return full
        device = Device(
            user_id=user,
            name=_name(name),
            thumbprint=thumbprint,
            public_jwk=jwk,
            created_at=now,
            last_seen_at=now,
            last_address=address,
        )
        session.add(device)
        await session.flush()
        await _told(session, hub, device, "device.register", address=address)
        return device
    if device.revoked_at is not None or device.user_id != user:
        why = "was revoked" if device.revoked_at is not None else "belongs to somebody else"
        return CodezeroError(
            problems.SIGN_IN_REFUSED,
            f"the key of this machine {why}",
            fix="sign in with a new one: `czctl auth logout`, then `czctl auth login`",
        )
    seen(hub, device, address)
    return device


def certified(device: Device, until: datetime) -> None:
    """Note that the device was given something by which Teamspaces may have something open until then."""
    if device.certified_until is None or device.certified_until < until:
        device.certified_until = until


def to_be_told(now: datetime) -> ColumnElement[bool]:
    """Of which revoked devices Teamspaces are told: those by which something may be open."""
    return (Device.revoked_at >= now - REVOKED_FOR) & (Device.certified_until >= now)


async def forget_expired(session: AsyncSession, user: str, now: datetime) -> None:
    """Forget the devices of a service account by which nothing can be open any more. Revoked ones stay: their keys are taken no more."""
    expired = delete(Device).where(
        Device.user_id == user, Device.revoked_at.is_(None), Device.certified_until < now, ~_has_sign_in()
    )
    await session.execute(expired)


async def _too_many(session: AsyncSession, user: str, now: datetime) -> CodezeroError | None:
    account = await session.get_one(User, user)
    most = MOST_OF_A_PROGRAM if account.kind == "service" else MOST_OF_A_PERSON
    at_work = Device.revoked_at.is_(None) & (Device.certified_until >= now)
    is_signed_in = _has_sign_in(SignIn.ended_at.is_(None), SignIn.expires_at > now)
    counted = select(func.count()).where(Device.user_id == user, at_work | to_be_told(now) | is_signed_in)
    if (await session.scalar(counted) or 0) < most:
        return None
    return CodezeroError(
        problems.SIGN_IN_REFUSED,
        f"{account.name} has {most} devices at work, or revoked a moment ago, and cannot have more",
        fix="sign out where you work no longer, use another service account, or wait until certificates have expired",
    )


def _has_sign_in(*kind: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(SignIn.id).where(SignIn.device_id == Device.id, *kind).exists()


def seen(hub: Hub, device: Device, address: str | None) -> None:
    """Note that the device was here; each minute at most, and whenever it comes from somewhere else."""
    now = hub.clock()
    if now - device.last_seen_at >= _SEEN_EVERY or address != device.last_address:
        device.last_seen_at, device.last_address = now, address


async def of_user(session: AsyncSession, user: str, *, after: str | None = None, limit: int = 50) -> Sequence[Device]:
    """At most `limit` devices of a user that are not revoked, in the order of their ids, those behind `after`."""
    query = select(Device).where(Device.user_id == user, Device.revoked_at.is_(None))
    if after is not None:
        query = query.where(Device.id > after)
    return (await session.scalars(query.order_by(Device.id).limit(limit))).all()


async def of_organization(
    session: AsyncSession, acting: Member, *, after: str | None = None, limit: int = 50
) -> Sequence[tuple[Device, User]]:
    """At most `limit` devices of the organization's members that are not revoked, in the order of their ids, those behind `after`."""
    acting.need(Permission.DEVICES_READ)
    query = (
        select(Device, User)
        .join(User, User.id == Device.user_id)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.organization_id == acting.organization, Device.revoked_at.is_(None))
    )
    if after is not None:
        query = query.where(Device.id > after)
    found = await session.execute(query.order_by(Device.id).limit(limit))
    return [(device, user) for device, user in found]


async def revoke(
    session: AsyncSession,
    hub: Hub,
    device: str,
    *,
    by: str,
    scopes: Collection[Permission] = (),
    address: str | None = None,
    request: str | None = None,
) -> Device:
    """The device's key, certificates and sign-ins are worth nothing from now on, and what is open by them ends.

    `by` is its owner, or somebody who manages devices (with no more than `scopes`, where given) and holds what its owner holds, in all organizations
    that its owner is in: the device is worth nothing in any of them. Raises `CodezeroError`: NOT_FOUND for who does so in none, else ROLE_FORBIDS.
    """
    row = await session.get(Device, device)
    if row is None:
        raise _not_found()
    if row.user_id != by or scopes:
        await _check_revoker(session, row, by, scopes)
    if row.revoked_at is not None:
        return row
    now = hub.clock()
    row.revoked_at = now
    for sign_in in await session.scalars(select(SignIn).where(SignIn.device_id == row.id, SignIn.ended_at.is_(None))):
        sign_in.ended_at, sign_in.ended_as = now, REVOKED
    await _told(session, hub, row, "device.revoke", by=by, address=address, request=request)
    await changes.tell_all_of(session, hub, "device", user=row.user_id, what=row.id)
    return row


async def _check_revoker(session: AsyncSession, device: Device, by: str, scopes: Collection[Permission]) -> None:
    theirs = (
        select(Membership)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(Membership.user_id == device.user_id, Organization.deleted_at.is_(None))
    )
    may: list[bool] = []
    is_seen = False
    for row in (await session.scalars(theirs)).all():
        try:
            acting = await organizations.member(session, row.organization_id, by, scopes=scopes)
        except CodezeroError:
            may.append(False)
            continue
        is_seen = is_seen or Permission.DEVICES_READ in acting.permissions
        may.append(
            Permission.DEVICES_MANAGE in acting.permissions and PERMISSIONS[Role(row.role)] <= acting.permissions
        )
    if not is_seen:
        raise _not_found()
    if not all(may):
        raise CodezeroError(
            problems.ROLE_FORBIDS,
            "a device is revoked by its owner, or by somebody who may do so in all organizations that its owner is in",
            fix="remove its owner from the organization instead, or ask them to revoke it",
        )


async def _told(
    session: AsyncSession,
    hub: Hub,
    device: Device,
    action: str,
    *,
    by: str | None = None,
    address: str | None = None,
    request: str | None = None,
) -> None:
    """Tell the audit of each organization that the device's owner is in."""
    actor = await session.get_one(User, by or device.user_id)
    found = (
        select(Membership.organization_id)
        .join(Organization, Organization.id == Membership.organization_id)
        .where(Membership.user_id == device.user_id, Organization.deleted_at.is_(None))
        .order_by(Membership.organization_id)
    )
    for organization in (await session.scalars(found)).all():
        entry = Entry(
            {"kind": actor.kind, "id": actor.id, "name": actor.name},
            action,
            {"kind": "device", "id": device.id, "name": device.name, "user": device.user_id},
            address=address,
            request=request,
            at=hub.clock(),
        )
        await audit.record(session, organization, entry)


def _not_found() -> CodezeroError:
    return CodezeroError(problems.NOT_FOUND, "there is no such device", fix="see `czctl device list`")


def _name(text: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in text).strip()[:_LONGEST_NAME] or "unnamed"
