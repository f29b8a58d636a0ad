"""Devices: known by their key, one person's, and worth nothing once revoked."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.hub_databases import HubClock

from codezero.hub import devices, organizations
from codezero.hub.context import Hub
from codezero.hub.storage.tables import AuditEntry, Device, SignIn, Space, User
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.roles import Permission, Role


async def a_person(hub: Hub) -> User:
    user = User(kind="person", email=f"{new_ulid()}@shop.test".lower(), name="Somebody", created_at=hub.clock())
    async with hub.database.transaction() as session:
        session.add(user)
    return user


async def an_organization(hub: Hub, owner: User, **members: Any) -> str:
    async with hub.database.transaction() as session:
        organization = await organizations.create(session, hub, "Shop", owner=owner)
        for role, user in members.items():
            await organizations.join(session, hub, organization.id, user, Role(role))
    return organization.id


async def registered(hub: Hub, user: User, thumbprint: str, **settings: Any) -> Device | CodezeroError:
    async with hub.database.transaction() as session:
        return await devices.register(
            session, hub, user=user.id, jwk={"kty": "EC"}, thumbprint=thumbprint, name="laptop", **settings
        )


async def a_device(hub: Hub, user: User) -> Device:
    device = await registered(hub, user, new_ulid())
    assert isinstance(device, Device)
    return device


async def revoked(hub: Hub, device: Device, by: User, **settings: Any) -> Device:
    async with hub.database.transaction() as session:
        return await devices.revoke(session, hub, device.id, by=by.id, **settings)


async def refused(problem: Problem, work: Any) -> None:
    with pytest.raises(CodezeroError) as raised:
        await work
    assert raised.value.problem is problem


async def test_a_key_is_one_device_of_one_person(hub: Hub) -> None:
    pia, paul = await a_person(hub), await a_person(hub)
    first, again = await registered(hub, pia, "T"), await registered(hub, pia, "T")
    stranger = await registered(hub, paul, "T")

    assert isinstance(first, Device)
    assert isinstance(again, Device)
    assert first.id == again.id
    assert isinstance(stranger, CodezeroError)
    assert stranger.problem is problems.SIGN_IN_REFUSED


async def test_what_is_revoked_does_not_come_back(hub: Hub) -> None:
    pia = await a_person(hub)
    organization = await an_organization(hub, pia)
    device = await a_device(hub, pia)
    async with hub.database.transaction() as session:
        now = hub.clock()
        sign_in = SignIn(user_id=pia.id, device_id=device.id, created_at=now, expires_at=now + timedelta(days=1))
        space = Space(
            organization_id=organization, name="demo", state="certified", created_by=pia.id, created_at=now, serial=3
        )
        session.add_all([sign_in, space])
    heard = hub.signals.changes()
    await revoked(hub, device, pia, address="192.0.2.7")
    await revoked(hub, device, pia)

    told = await anext(heard)
    assert told is not None
    assert (told.kind, told.organization, told.id) == ("device", organization, device.id)
    again = await registered(hub, pia, device.thumbprint)
    assert isinstance(again, CodezeroError)
    assert again.problem is problems.SIGN_IN_REFUSED
    async with hub.database.reading() as session:
        assert (await session.get_one(SignIn, sign_in.id)).ended_as == devices.REVOKED
        assert (await session.get_one(Space, space.id)).serial == 4
        assert await devices.of_user(session, pia.id) == []
        rows = (await session.scalars(select(AuditEntry).where(AuditEntry.action.startswith("device.")))).all()
    assert [row.action for row in rows] == ["device.register", "device.revoke"]
    assert rows[1].address == "192.0.2.7"


async def test_others_are_revoked_by_who_manages_them_and_holds_what_they_hold(hub: Hub) -> None:
    olga, admin, paul, viewer = [await a_person(hub) for _ in range(4)]
    await an_organization(hub, olga, admin=admin, developer=paul, viewer=viewer)
    elsewhere = await a_person(hub)
    await an_organization(hub, elsewhere)
    of_owner, of_developer = await a_device(hub, olga), await a_device(hub, paul)

    for who in (elsewhere, viewer, paul):
        await refused(problems.NOT_FOUND, revoked(hub, of_owner, who))
    await refused(problems.ROLE_FORBIDS, revoked(hub, of_owner, admin))
    await refused(
        problems.ROLE_FORBIDS,
        revoked(hub, of_developer, admin, scopes={Permission.DEVICES_READ, Permission.DEVICES_MANAGE}),
    )
    await refused(problems.NOT_FOUND, revoked(hub, Device(id=new_ulid()), olga))
    assert (await revoked(hub, of_developer, admin)).revoked_at is not None
    assert (await revoked(hub, of_owner, olga)).revoked_at is not None


async def test_an_admin_of_one_organization_ends_nobodys_work_in_another(hub: Hub) -> None:
    olga, other, paul = [await a_person(hub) for _ in range(3)]
    await an_organization(hub, olga, developer=paul)
    await an_organization(hub, other, developer=paul)
    device = await a_device(hub, paul)

    await refused(problems.ROLE_FORBIDS, revoked(hub, device, olga))
    assert (await revoked(hub, device, paul)).revoked_at is not None


async def test_a_device_is_seen_once_a_minute_and_wherever_it_goes(hub: Hub, hub_clock: HubClock) -> None:
    pia = await a_person(hub)
    first = await registered(hub, pia, "T", address="192.0.2.1")
    assert isinstance(first, Device)
    hub_clock.advance(timedelta(seconds=10))
    again = await registered(hub, pia, "T", address="192.0.2.1")
    moved = await registered(hub, pia, "T", address="192.0.2.2")
    hub_clock.advance(timedelta(minutes=2))
    later = await registered(hub, pia, "T", address="192.0.2.2")

    assert isinstance(again, Device)
    assert isinstance(moved, Device)
    assert isinstance(later, Device)
    assert again.last_seen_at == first.last_seen_at < moved.last_seen_at < later.last_seen_at
    assert (again.last_address, moved.last_address) == ("192.0.2.1", "192.0.2.2")


async def test_an_organization_sees_the_devices_of_its_members(hub: Hub) -> None:
    olga, paul, stranger = [await a_person(hub) for _ in range(3)]
    organization = await an_organization(hub, olga, viewer=paul)
    own = [await a_device(hub, olga), await a_device(hub, paul), await a_device(hub, paul)]
    await a_device(hub, stranger)
    await revoked(hub, own[2], paul)

    async with hub.database.reading() as session:
        acting = await organizations.member(session, organization, olga.id)
        found = await devices.of_organization(session, acting)
        paged = [await devices.of_organization(session, acting, after=own[0].id, limit=1)]
        viewer = await organizations.member(session, organization, paul.id)
        with pytest.raises(CodezeroError) as raised:
            await devices.of_organization(session, viewer)
    assert raised.value.problem is problems.ROLE_FORBIDS
    assert [(device.id, user.id) for device, user in found] == [(own[0].id, olga.id), (own[1].id, paul.id)]
    assert [[device.id for device, _ in page] for page in paged] == [[own[1].id]]


async def test_a_person_has_so_many_devices_at_work(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """T41: each one that is revoked takes room in bundles; those that cannot do anything any more do not count."""
    monkeypatch.setattr(devices, "MOST_OF_A_PERSON", 3)
    pia, now = await a_person(hub), hub.clock()
    idle, certified, stolen, signed_in = [await a_device(hub, pia) for _ in range(4)]
    async with hub.database.transaction() as session:
        for device in (certified, stolen):
            (await session.get_one(Device, device.id)).certified_until = now + timedelta(hours=1)
        (await session.get_one(Device, stolen.id)).revoked_at = now
        session.add(SignIn(user_id=pia.id, device_id=signed_in.id, created_at=now, expires_at=now + timedelta(hours=1)))

    full = await registered(hub, pia, "T")
    assert isinstance(full, CodezeroError)
    assert full.problem is problems.SIGN_IN_REFUSED
    assert "3 devices" in full.detail
    assert isinstance(await registered(hub, pia, idle.thumbprint), Device)
    async with hub.database.transaction() as session:
        (await session.get_one(Device, certified.id)).certified_until = now - timedelta(hours=1)
    assert isinstance(await registered(hub, pia, "T"), Device)
