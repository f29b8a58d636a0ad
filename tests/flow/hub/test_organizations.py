"""Organizations and their members: nobody outside learns anything (T29), nobody gives more than they hold (T30), and all of it is in the audit."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.hub_api import api_of
from tests.hub_databases import HubClock

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.signin import api_keys
from codezero.hub.storage.tables import ApiKey, AuditEntry, Invitation, Membership, Organization, Space, User
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.roles import PERMISSIONS, Permission, Role

T = TypeVar("T")


async def a_person(hub: Hub, name: str) -> User:
    user = User(kind="person", email=f"{name.lower()}@shop.test", name=name, created_at=hub.clock())
    async with hub.database.transaction() as session:
        session.add(user)
    return user


async def an_organization(hub: Hub, *, name: str = "Shop", **people: Role) -> tuple[str, dict[str, User]]:
    """An organization that Olga owns, with `people` in it."""
    users = {who: await a_person(hub, f"{who}-{new_ulid()}") for who in ("olga", *people)}
    async with hub.database.transaction() as session:
        organization = await organizations.create(session, hub, name, owner=users["olga"])
        for who, role in people.items():
            await organizations.join(session, hub, organization.id, users[who], role)
    return organization.id, users


async def as_member(
    hub: Hub,
    organization: str,
    user: User,
    work: Callable[[AsyncSession, Member], Awaitable[T]],
    **settings: Any,
) -> T:
    async def done(session: AsyncSession) -> T:
        return await work(session, await organizations.member(session, organization, user.id, **settings))

    return await hub.database.run(done)


async def refused(problem: Problem, work: Awaitable[Any]) -> None:
    with pytest.raises(CodezeroError) as raised:
        await work
    assert raised.value.problem is problem


async def role_of(hub: Hub, organization: str, user: User) -> str | None:
    async with hub.database.reading() as session:
        row = await session.get(Membership, (organization, user.id))
        return row.role if row else None


async def actions(hub: Hub, organization: str) -> list[str]:
    async with hub.database.reading() as session:
        query = select(AuditEntry.action).where(AuditEntry.organization_id == organization)
        return list(await session.scalars(query.order_by(AuditEntry.number)))


async def test_whoever_makes_an_organization_owns_it(hub: Hub) -> None:
    organization, users = await an_organization(hub, name="  The \n Shop ")

    async with hub.database.reading() as session:
        ((row, role),) = await organizations.of_user(session, users["olga"].id)
    assert (row.id, row.name, role) == (organization, "The Shop", Role.OWNER)
    assert await actions(hub, organization) == ["organization.create"]


async def test_who_is_no_member_is_told_what_somebody_is_told_of_nothing(hub: Hub) -> None:
    organization, users = await an_organization(hub, gone=Role.ADMIN, disabled=Role.OWNER)
    stranger = await a_person(hub, "Stranger")

    async def leave(session: AsyncSession, acting: Member) -> None:
        await organizations.remove_member(session, hub, acting, acting.user)

    await as_member(hub, organization, users["gone"], leave)
    async with hub.database.transaction() as session:
        (await session.get_one(User, users["disabled"].id)).disabled_at = hub.clock()
    messages = set()
    for user, where in (
        (stranger, organization),
        (users["gone"], organization),
        (users["disabled"], organization),
        (users["olga"], new_ulid()),
        (users["olga"], "' OR 1=1 --"),
    ):
        async with hub.database.reading() as session:
            with pytest.raises(CodezeroError) as raised:
                await organizations.member(session, where, user.id)
        assert raised.value.problem is problems.NOT_FOUND
        messages.add(str(raised.value))
    assert len(messages) == 1


async def test_what_belongs_to_another_organization_is_not_found(hub: Hub) -> None:
    mine, users = await an_organization(hub)
    theirs, others = await an_organization(hub, paul=Role.VIEWER)
    invited = await as_member(
        hub, theirs, others["olga"], lambda s, m: organizations.invite(s, hub, m, "x@shop.test", Role.VIEWER)
    )
    for work in (
        lambda s, m: organizations.get_member(s, m, others["paul"].id),
        lambda s, m: organizations.change_role(s, hub, m, others["paul"].id, Role.ADMIN),
        lambda s, m: organizations.remove_member(s, hub, m, others["paul"].id),
        lambda s, m: organizations.withdraw(s, hub, m, invited.row.id),
    ):
        await refused(problems.NOT_FOUND, as_member(hub, mine, users["olga"], work))
    members = await as_member(hub, mine, users["olga"], organizations.members)
    assert [user.id for _, user in members] == [users["olga"].id]
    assert await as_member(hub, mine, users["olga"], lambda s, m: organizations.invitations(s, hub, m)) == []
    assert await role_of(hub, theirs, others["paul"]) == "viewer"


@pytest.mark.parametrize("giver", list(Role))
async def test_nobody_gives_or_takes_more_than_they_hold(hub: Hub, giver: Role) -> None:
    """By none of the ways there are: role, invitation, service account."""
    everybody = {role.value: role for role in Role}
    organization, users = await an_organization(hub, giver=giver, target=Role.VIEWER, **everybody)
    olga, who, target = users["olga"], users["giver"], users["target"]
    for role in Role:
        may = Permission.MEMBERS_MANAGE in PERMISSIONS[giver] and PERMISSIONS[role] <= PERMISSIONS[giver]

        async def tried(work: Callable[[AsyncSession, Member], Awaitable[Any]], may: bool = may) -> None:
            if may:
                await as_member(hub, organization, who, work)
            else:
                await refused(problems.ROLE_FORBIDS, as_member(hub, organization, who, work))

        def made(role: Role) -> Callable[[AsyncSession, Member], Awaitable[Any]]:
            return lambda s, m: organizations.change_role(s, hub, m, target.id, role)

        await as_member(hub, organization, olga, made(Role.VIEWER if role is Role.CI else Role.CI))
        await tried(made(role))
        await tried(lambda s, m, r=role: organizations.invite(s, hub, m, f"{r}@new.test", r))
        if role is not Role.OWNER:
            await tried(lambda s, m, r=role: organizations.create_service_account(s, hub, m, "robot", r))
        await tried(lambda s, m, u=users[role.value]: organizations.remove_member(s, hub, m, u.id))


async def test_a_key_with_scopes_gives_no_more_than_its_scopes(hub: Hub) -> None:
    organization, users = await an_organization(hub, paul=Role.VIEWER)
    scopes = {Permission.MEMBERS_MANAGE, Permission.MEMBERS_READ, Permission.API_KEYS_MANAGE}

    async def grant(session: AsyncSession, acting: Member) -> None:
        await organizations.change_role(session, hub, acting, users["paul"].id, Role.ADMIN)

    async def key(session: AsyncSession, acting: Member) -> None:
        organizations.check_key(acting, Role.CI)

    for work in (grant, key):
        await refused(
            problems.ROLE_FORBIDS, as_member(hub, organization, users["olga"], work, scopes=frozenset(scopes))
        )
        await as_member(hub, organization, users["olga"], work)
    async with hub.database.reading() as session:
        own = await organizations.member(session, organization, users["olga"].id, scopes=scopes)
        viewer = await organizations.member(session, organization, users["paul"].id, scopes=scopes)
    assert own.permissions == scopes
    assert viewer.permissions < PERMISSIONS[Role.ADMIN]
    organizations.check_key(own, Role.OWNER, scopes)
    with pytest.raises(CodezeroError):
        organizations.check_key(own, Role.OWNER)


async def test_an_organization_keeps_an_owner(hub: Hub) -> None:
    organization, users = await an_organization(hub, second=Role.OWNER)
    olga, second = users["olga"], users["second"]

    def demote(user: User) -> Callable[[AsyncSession, Member], Awaitable[Any]]:
        return lambda s, m: organizations.change_role(s, hub, m, user.id, Role.ADMIN)

    def remove(user: User) -> Callable[[AsyncSession, Member], Awaitable[Any]]:
        return lambda s, m: organizations.remove_member(s, hub, m, user.id)

    # Somebody who cannot sign in looks after nothing.
    async with hub.database.transaction() as session:
        (await session.get_one(User, second.id)).disabled_at = hub.clock()
    for work in (demote(olga), remove(olga)):
        await refused(problems.LAST_OWNER, as_member(hub, organization, olga, work))
    await as_member(hub, organization, olga, demote(second))
    async with hub.database.transaction() as session:
        (await session.get_one(User, second.id)).disabled_at = None
    for work in (demote(olga), remove(olga)):
        await refused(problems.LAST_OWNER, as_member(hub, organization, olga, work))
    await as_member(hub, organization, olga, lambda s, m: organizations.change_role(s, hub, m, second.id, Role.OWNER))
    await as_member(hub, organization, second, remove(olga))
    assert await role_of(hub, organization, olga) is None
    await refused(problems.LAST_OWNER, as_member(hub, organization, second, remove(second)))


async def test_two_owners_who_take_each_others_role_at_once_do_not_both_succeed(hub: Hub) -> None:
    organization, users = await an_organization(hub, second=Role.OWNER)
    olga, second = users["olga"], users["second"]
    results = await asyncio.gather(
        as_member(hub, organization, olga, lambda s, m: organizations.change_role(s, hub, m, second.id, Role.VIEWER)),
        as_member(hub, organization, second, lambda s, m: organizations.change_role(s, hub, m, olga.id, Role.VIEWER)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, CodezeroError) for result in results) == 1
    assert sorted([await role_of(hub, organization, olga), await role_of(hub, organization, second)]) == [
        "owner",
        "viewer",
    ]


async def test_what_changed_meanwhile_is_left_alone(hub: Hub) -> None:
    organization, users = await an_organization(hub, paul=Role.VIEWER)
    olga, paul = users["olga"], users["paul"].id
    row = await as_member(
        hub, organization, olga, lambda s, m: organizations.change_role(s, hub, m, paul, Role.CI, version=1)
    )
    assert row.version == 2
    for work in (
        lambda s, m: organizations.change_role(s, hub, m, paul, Role.ADMIN, version=1),
        lambda s, m: organizations.remove_member(s, hub, m, paul, version=1),
        lambda s, m: organizations.rename(s, hub, m, "Other", version=7),
        lambda s, m: organizations.remove_organization(s, hub, m, version=7),
    ):
        await refused(problems.CHANGED_MEANWHILE, as_member(hub, organization, olga, work))
    renamed = await as_member(hub, organization, olga, lambda s, m: organizations.rename(s, hub, m, "Other", version=1))
    assert (renamed.name, renamed.version) == ("Other", 2)


async def test_an_invitation_is_good_once_and_for_its_address(hub: Hub) -> None:
    organization, users = await an_organization(hub)
    invited = await as_member(
        hub,
        organization,
        users["olga"],
        lambda s, m: organizations.invite(s, hub, m, " New@Shop.test ", Role.DEVELOPER),
    )
    other, new = await a_person(hub, "Other"), await a_person(hub, "New")

    def accept(user: User) -> Callable[[AsyncSession], Awaitable[Any]]:
        async def work(session: AsyncSession) -> None:
            row = await organizations.find_invitation(session, hub, invited.token)
            assert row is not None
            await organizations.accept_invitation(session, hub, row, await session.get_one(User, user.id))

        return work

    async with hub.database.reading() as session:
        assert [row.id for row in await organizations.open_invitations(session, hub, "NEW@shop.test")] == [
            invited.row.id
        ]
        assert await organizations.find_invitation(session, hub, invited.token + "x") is None
        stored = (await session.execute(text("SELECT token_hash FROM invitations"))).scalar_one()
    assert invited.token.encode() not in bytes(stored)
    await refused(problems.ROLE_FORBIDS, hub.database.run(accept(other)))
    await hub.database.run(accept(new))
    assert await role_of(hub, organization, new) == "developer"
    async with hub.database.reading() as session:
        assert await organizations.find_invitation(session, hub, invited.token) is None
        assert await organizations.open_invitations(session, hub, "new@shop.test") == []
    await refused(
        problems.ALREADY_THERE,
        as_member(
            hub, organization, users["olga"], lambda s, m: organizations.invite(s, hub, m, "new@shop.test", Role.CI)
        ),
    )
    assert await actions(hub, organization) == ["organization.create", "invitation.create", "invitation.accept"]


async def test_one_invitation_of_an_address_is_open(hub: Hub, hub_clock: HubClock) -> None:
    organization, users = await an_organization(hub, admin=Role.ADMIN)

    def invite(role: Role) -> Callable[[AsyncSession, Member], Awaitable[organizations.NewInvitation]]:
        return lambda s, m: organizations.invite(s, hub, m, "x@shop.test", role)

    first = await as_member(hub, organization, users["olga"], invite(Role.VIEWER))
    second = await as_member(hub, organization, users["olga"], invite(Role.OWNER))
    async with hub.database.reading() as session:
        assert await organizations.find_invitation(session, hub, first.token) is None
        assert await organizations.find_invitation(session, hub, second.token) is not None
    # An admin takes no owner's role, and so no invitation to be one.
    await refused(problems.ROLE_FORBIDS, as_member(hub, organization, users["admin"], invite(Role.VIEWER)))
    await refused(
        problems.ROLE_FORBIDS,
        as_member(hub, organization, users["admin"], lambda s, m: organizations.withdraw(s, hub, m, second.row.id)),
    )
    await as_member(hub, organization, users["olga"], lambda s, m: organizations.withdraw(s, hub, m, second.row.id))
    third = await as_member(hub, organization, users["admin"], invite(Role.VIEWER))
    async with hub.database.reading() as session:
        assert await organizations.find_invitation(session, hub, second.token) is None
    hub_clock.advance(timedelta(days=7, seconds=1))
    async with hub.database.reading() as session:
        assert await organizations.find_invitation(session, hub, third.token) is None


@pytest.mark.parametrize("how", ["demoted", "removed", "left"])
async def test_who_may_grant_no_more_has_no_invitations_that_still_do(hub: Hub, how: str) -> None:
    organization, users = await an_organization(hub, second=Role.OWNER)
    olga, second = users["olga"], users["second"]
    invited = {
        role: await as_member(
            hub, organization, second, lambda s, m, r=role: organizations.invite(s, hub, m, f"{r}@new.test", r)
        )
        for role in (Role.OWNER, Role.DEVELOPER)
    }
    match how:
        case "demoted":
            await as_member(
                hub, organization, olga, lambda s, m: organizations.change_role(s, hub, m, second.id, Role.ADMIN)
            )
        case "removed":
            await as_member(hub, organization, olga, lambda s, m: organizations.remove_member(s, hub, m, second.id))
        case _:
            await as_member(hub, organization, second, lambda s, m: organizations.remove_member(s, hub, m, second.id))

    async with hub.database.reading() as session:
        found = {
            role: await organizations.find_invitation(session, hub, one.token) is not None
            for role, one in invited.items()
        }
    assert found == {Role.OWNER: False, Role.DEVELOPER: how == "demoted"}


async def a_key(
    hub: Hub, organization: str, maker: User, role: Role, *scopes: Permission
) -> tuple[str, User, api_keys.NewKey]:
    """A key that `maker` makes for a new service account: the id, the account, and the key."""

    async def work(session: AsyncSession, acting: Member) -> tuple[str, User, api_keys.NewKey]:
        _, account = await organizations.create_service_account(session, hub, acting, "robot", role)
        organizations.check_key(acting, role, scopes)
        made = api_keys.make(
            session,
            hub,
            organization=organization,
            account=account.id,
            name=f"{role} key",
            created_by=maker.id,
            scopes=scopes,
        )
        return made.row.id, account, made

    return await as_member(hub, organization, maker, work)


async def status_of(hub: Hub, organization: str, key: api_keys.NewKey) -> int:
    async with api_of(hub) as api:
        shown = {"authorization": f"Bearer {key.key}"}
        return (await api.client.get(f"/api/v1/organizations/{organization}", headers=shown)).status_code


@pytest.mark.parametrize("how", ["demoted", "removed", "left"])
async def test_who_holds_no_more_has_no_keys_that_still_do(hub: Hub, how: str) -> None:
    organization, users = await an_organization(hub, adam=Role.ADMIN)
    olga, adam = users["olga"], users["adam"]
    reading, managing = Permission.ORGANIZATION_READ, Permission.SPACES_MANAGE
    _, robot, admins = await a_key(hub, organization, adam, Role.ADMIN)
    # What the key itself has made is as much theirs.
    _, _, admins_own = await a_key(hub, organization, robot, Role.ADMIN)
    _, _, managers = await a_key(hub, organization, adam, Role.ADMIN, reading, managing)
    within = [
        (await a_key(hub, organization, adam, Role.CI))[2],
        (await a_key(hub, organization, adam, Role.ADMIN, reading))[2],
        (await a_key(hub, organization, robot, Role.CI))[2],
    ]
    _, _, olgas = await a_key(hub, organization, olga, Role.ADMIN)
    asked = [admins, admins_own, managers, *within, olgas]
    assert [await status_of(hub, organization, key) for key in asked] == [200] * 7
    heard = hub.signals.changes()

    async def change(session: AsyncSession, acting: Member) -> None:
        if how == "demoted":
            await organizations.change_role(session, hub, acting, adam.id, Role.DEVELOPER)
        else:
            await organizations.remove_member(session, hub, acting, adam.id)

    await as_member(hub, organization, adam if how == "left" else olga, change)

    kept = 200 if how == "demoted" else 401
    assert [await status_of(hub, organization, key) for key in asked] == [401] * 3 + [kept] * 3 + [200]
    ended = {admins.row.id, admins_own.row.id, managers.row.id}
    ended |= set() if how == "demoted" else {key.row.id for key in within}
    async with hub.database.reading() as session:
        entries = select(AuditEntry).where(AuditEntry.action == "apikey.revoke")
        told = (await session.scalars(entries.where(AuditEntry.organization_id == organization))).all()
    assert {entry.target["id"] for entry in told} == ended
    assert {entry.details["member"] for entry in told} == {adam.id}
    signalled: set[str | None] = set()
    async with asyncio.timeout(30):
        while not ended <= signalled:
            changed = await anext(heard)
            signalled |= {changed.id} if changed is not None and changed.kind == "apikey" else set()


async def test_an_account_that_is_no_more_has_made_no_keys(hub: Hub) -> None:
    organization, users = await an_organization(hub)
    _, robot, _ = await a_key(hub, organization, users["olga"], Role.ADMIN)
    _, _, made = await a_key(hub, organization, robot, Role.CI)
    await as_member(hub, organization, users["olga"], lambda s, m: organizations.remove_member(s, hub, m, robot.id))

    assert await status_of(hub, organization, made) == 401


async def test_the_end_of_an_organization_is_the_end_of_everything_in_it(hub: Hub) -> None:
    organization, users = await an_organization(hub, admin=Role.ADMIN)
    olga = users["olga"]
    _, robot = await as_member(
        hub, organization, olga, lambda s, m: organizations.create_service_account(s, hub, m, "robot")
    )
    invited = await as_member(
        hub, organization, olga, lambda s, m: organizations.invite(s, hub, m, "x@shop.test", Role.CI)
    )
    now = hub.clock()
    async with hub.database.transaction() as session:
        key = ApiKey(
            organization_id=organization,
            user_id=robot.id,
            name="k",
            secret_hash=b"h",
            created_by=olga.id,
            created_at=now,
        )
        space = Space(organization_id=organization, name="demo", state="certified", created_by=olga.id, created_at=now)
        session.add_all([key, space])
    await refused(
        problems.ROLE_FORBIDS,
        as_member(hub, organization, users["admin"], lambda s, m: organizations.remove_organization(s, hub, m)),
    )
    await as_member(hub, organization, olga, lambda s, m: organizations.remove_organization(s, hub, m))

    async with hub.database.reading() as session:
        assert await organizations.of_user(session, olga.id) == []
        assert (await session.get_one(Organization, organization)).deleted_at is not None
        assert (await session.get_one(ApiKey, key.id)).revoked_at is not None
        assert (await session.get_one(User, robot.id)).disabled_at is not None
        assert (await session.get_one(User, olga.id)).disabled_at is None
        gone = await session.get_one(Space, space.id)
        assert (gone.state, gone.removed_at is not None, gone.serial > 0) == ("removed", True, True)
        assert await organizations.find_invitation(session, hub, invited.token) is None
        with pytest.raises(CodezeroError):
            await organizations.member(session, organization, olga.id)
    assert (await actions(hub, organization))[-1] == "organization.delete"


async def test_a_service_account_ends_with_its_keys(hub: Hub) -> None:
    organization, users = await an_organization(hub)
    row, robot = await as_member(
        hub, organization, users["olga"], lambda s, m: organizations.create_service_account(s, hub, m, "robot")
    )
    assert row.role == "ci"
    async with hub.database.transaction() as session:
        key = ApiKey(
            organization_id=organization,
            user_id=robot.id,
            name="k",
            secret_hash=b"h",
            created_by=users["olga"].id,
            created_at=hub.clock(),
        )
        session.add(key)
    await refused(
        problems.NOT_VALID,
        as_member(
            hub,
            organization,
            users["olga"],
            lambda s, m: organizations.change_role(s, hub, m, robot.id, Role.OWNER),
        ),
    )
    await as_member(hub, organization, users["olga"], lambda s, m: organizations.remove_member(s, hub, m, robot.id))
    async with hub.database.reading() as session:
        assert (await session.get_one(ApiKey, key.id)).revoked_at is not None
        assert (await session.get_one(User, robot.id)).disabled_at is not None


async def test_a_change_of_members_reaches_teamspaces(hub: Hub) -> None:
    organization, users = await an_organization(hub, paul=Role.VIEWER)
    other, others = await an_organization(hub)
    async with hub.database.transaction() as session:
        spaces = [
            Space(
                organization_id=where,
                name="demo",
                state="certified",
                created_by=users["olga"].id,
                created_at=hub.clock(),
                serial=5,
            )
            for where in (organization, other)
        ]
        session.add_all(spaces)
    heard = hub.signals.changes()
    await as_member(
        hub,
        organization,
        users["olga"],
        lambda s, m: organizations.change_role(s, hub, m, users["paul"].id, Role.DEVELOPER),
    )

    told = await anext(heard)
    assert told is not None
    assert (told.kind, told.organization, told.id) == ("member", organization, users["paul"].id)
    async with hub.database.reading() as session:
        serials = [(await session.get_one(Space, space.id)).serial for space in spaces]
    assert serials == [6, 5]
    assert others


async def test_the_audit_tells_what_settings_were_and_are(hub: Hub) -> None:
    organization, users = await an_organization(hub)
    for settings in ({"audit_days": 30}, {"audit_days": 400, "device_flow": False}, {"device_flow": None}):
        await as_member(
            hub, organization, users["olga"], lambda s, m, new=settings: organizations.configure(s, hub, m, new)
        )

    async with hub.database.reading() as session:
        entries = select(AuditEntry).where(AuditEntry.action == "organization.configure").order_by(AuditEntry.number)
        told = [
            entry.details for entry in await session.scalars(entries.where(AuditEntry.organization_id == organization))
        ]
    assert told == [
        {"before": {"audit_days": None}, "settings": {"audit_days": 30}},
        {"before": {"audit_days": 30, "device_flow": None}, "settings": {"audit_days": 400, "device_flow": False}},
        {"before": {"device_flow": False}, "settings": {"device_flow": None}},
    ]


async def test_members_come_page_by_page(hub: Hub) -> None:
    organization, users = await an_organization(hub, **{f"p{number}": Role.VIEWER for number in range(6)})
    seen: list[str] = []
    after = None
    while True:
        found = await as_member(
            hub, organization, users["olga"], lambda s, m, a=after: organizations.members(s, m, after=a, limit=3)
        )
        seen += [user.id for _, user in found]
        if len(found) < 3:
            break
        after = seen[-1]
    assert seen == sorted(user.id for user in users.values())


@pytest.mark.parametrize(
    "email", ["", "@", "a@", "@b", "no address", "a b@c.test", "x\n@y.test", "a" * 320 + "@b.test"]
)
async def test_what_is_no_address_is_not_invited(hub: Hub, email: str) -> None:
    organization, users = await an_organization(hub)
    await refused(
        problems.NOT_VALID,
        as_member(hub, organization, users["olga"], lambda s, m: organizations.invite(s, hub, m, email, Role.VIEWER)),
    )
    async with hub.database.reading() as session:
        assert (await session.scalars(select(Invitation))).all() == []
