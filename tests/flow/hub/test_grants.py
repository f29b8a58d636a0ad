"""Whatever members do to each other, in whatever order: nobody comes to hold, or to lose, what whoever did it did not hold themselves (T30)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from tests.hub_databases import HubClock

from codezero.hub import organizations, signals
from codezero.hub.audit import verifying
from codezero.hub.authorities import Authorities
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.sealing import Sealer
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import AuditHead, Invitation, Membership, User
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.roles import PERMISSIONS, Permission, Role

T = TypeVar("T")

PEOPLE = 5
WHO = st.integers(0, PEOPLE - 1)
WHICH = st.integers(0, 20)
# Owners and admins, who may change something, more often than the others.
ROLES = st.sampled_from([*Role, Role.OWNER, Role.OWNER, Role.ADMIN])
# None: signed in as oneself. Else an API key that may do no more.
SCOPES = st.one_of(st.none(), st.none(), st.none(), st.frozensets(st.sampled_from(list(Permission)), min_size=1))
EXPECTED = {
    problems.ROLE_FORBIDS,
    problems.NOT_FOUND,
    problems.LAST_OWNER,
    problems.ALREADY_THERE,
    problems.NOT_VALID,
}


@dataclass
class World:
    """The Hub of one test, which all examples share; each has an organization of its own."""

    hub: Hub
    run: Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass
class Seen:
    """Who is what, as the database says; and what open invitations would make of whom."""

    roles: dict[str, Role] = field(default_factory=dict)
    invitations: dict[str, tuple[str, Role, str]] = field(default_factory=dict)


class Grants(RuleBasedStateMachine):
    world: World

    @initialize()
    def begin(self) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.world.run(self._begin())
        self.seen = self.world.run(self._look())

    async def _begin(self) -> None:
        hub = self.world.hub
        self.people = [
            User(kind="person", email=f"{new_ulid()}@shop.test".lower(), name=f"p{number}", created_at=hub.clock())
            for number in range(PEOPLE)
        ]
        async with hub.database.transaction() as session:
            session.add_all(self.people)
            await session.flush()
            self.organization = (await organizations.create(session, hub, "Shop", owner=self.people[0])).id
            # Two are still to be invited.
            await organizations.join(session, hub, self.organization, self.people[1], Role.OWNER)
            await organizations.join(session, hub, self.organization, self.people[2], Role.ADMIN)
            other = await organizations.create(session, hub, "Other", owner=self.people[3])
            self.other = other.id

    async def _look(self) -> Seen:
        async with self.world.hub.database.reading() as session:
            members = await session.execute(
                select(Membership.user_id, Membership.role).where(Membership.organization_id == self.organization)
            )
            invitations = await session.scalars(
                select(Invitation).where(Invitation.organization_id == self.organization, Invitation.ended_at.is_(None))
            )
            return Seen(
                {user: Role(role) for user, role in members},
                {row.id: (row.email, Role(row.role), row.invited_by) for row in invitations},
            )

    def act(
        self,
        who: str,
        scopes: frozenset[Permission] | None,
        work: Callable[[AsyncSession, Member], Awaitable[T]],
        *,
        where: str | None = None,
    ) -> T | None:
        """Let `who` do something, and look at what became of everybody."""

        async def done(session: AsyncSession) -> T:
            acting = await organizations.member(session, where or self.organization, who, scopes=scopes or ())
            return await work(session, acting)

        role = self.seen.roles.get(who) if where is None else None
        held = frozenset[Permission]() if role is None else PERMISSIONS[role]
        if scopes is not None:
            held &= scopes
        try:
            result = self.world.run(self.world.hub.database.run(done))
        except CodezeroError as error:
            assert error.problem in EXPECTED, error
            assert self.world.run(self._look()) == self.seen, "what was refused has changed something"
            return None
        self.check(who, held)
        return result

    def check(self, who: str, held: frozenset[Permission]) -> None:
        before, self.seen = self.seen, self.world.run(self._look())
        for user in before.roles.keys() | self.seen.roles.keys():
            old, new = before.roles.get(user), self.seen.roles.get(user)
            if old is new or (user == who and new is None):
                continue
            assert Permission.MEMBERS_MANAGE in held
            for role in (old, new):
                assert role is None or PERMISSIONS[role] <= held, (old, new, held)
        for row in before.invitations.keys() ^ self.seen.invitations.keys():
            _, role, inviter = (before.invitations | self.seen.invitations)[row]
            lost = self.seen.roles.get(inviter) != before.roles.get(inviter)
            assert lost or PERMISSIONS[role] <= held

    def members(self) -> list[str]:
        """Those there are, so that most of what is tried concerns somebody."""
        return sorted(self.seen.roles)

    def one_of(self, users: list[str], which: int) -> str:
        return users[which % len(users)]

    @rule(who=WHICH, whom=WHICH, role=ROLES, scopes=SCOPES)
    def change_role(self, who: int, whom: int, role: Role, scopes: frozenset[Permission] | None) -> None:
        """Service accounts do so, too, by their keys."""
        hub, user = self.world.hub, self.one_of(self.members(), whom)
        acting = self.one_of(self.members(), who)
        self.act(acting, scopes, lambda s, m: organizations.change_role(s, hub, m, user, role))

    @rule(who=WHICH, whom=WHICH, scopes=SCOPES)
    def remove(self, who: int, whom: int, scopes: frozenset[Permission] | None) -> None:
        hub, user = self.world.hub, self.one_of(self.members(), whom)
        acting = self.one_of(self.members(), who)
        self.act(acting, scopes, lambda s, m: organizations.remove_member(s, hub, m, user))

    @rule(who=WHICH, whom=WHO, role=ROLES, scopes=SCOPES)
    def invite(self, who: int, whom: int, role: Role, scopes: frozenset[Permission] | None) -> None:
        hub = self.world.hub
        outside = [user.email or "" for user in self.people if user.id not in self.seen.roles]
        email = self.one_of(outside, whom) if outside else self.people[whom].email or ""
        acting = self.one_of(self.members(), who)
        made = self.act(acting, scopes, lambda s, m: organizations.invite(s, hub, m, email, role))
        if made is not None:
            self.tokens.append((made.token, email))

    @rule(which=WHICH)
    def accept_own(self, which: int) -> None:
        if self.tokens:
            _, email = self.tokens[which % len(self.tokens)]
            self.accept(next(number for number, user in enumerate(self.people) if user.email == email), which)

    @rule(who=WHO, which=WHICH, scopes=SCOPES)
    def withdraw(self, who: int, which: int, scopes: frozenset[Permission] | None) -> None:
        hub, rows = self.world.hub, sorted(self.seen.invitations)
        if rows:
            row = rows[which % len(rows)]
            self.act(self.people[who].id, scopes, lambda s, m: organizations.withdraw(s, hub, m, row))

    @rule(who=WHO, which=WHICH)
    def accept(self, who: int, which: int) -> None:
        """What an invitation gives is what whoever made it could give now."""
        hub, user = self.world.hub, self.people[who]
        if not self.tokens:
            return
        token, _ = self.tokens[which % len(self.tokens)]

        async def work(session: AsyncSession) -> str | None:
            row = await organizations.find_invitation(session, hub, token)
            if row is None:
                return None
            await organizations.accept_invitation(session, hub, row, await session.get_one(User, user.id))
            return row.id

        try:
            accepted = self.world.run(hub.database.run(work))
        except CodezeroError as error:
            assert error.problem in EXPECTED
            assert self.world.run(self._look()) == self.seen
            return
        before, self.seen = self.seen, self.world.run(self._look())
        if accepted is None:
            assert self.seen == before
            return
        email, role, inviter = before.invitations[accepted]
        assert (user.email, self.seen.roles) == (email, {**before.roles, user.id: role})
        assert PERMISSIONS[role] <= PERMISSIONS[before.roles[inviter]]

    @rule(who=WHICH, role=ROLES, scopes=SCOPES)
    def make_account(self, who: int, role: Role, scopes: frozenset[Permission] | None) -> None:
        hub, acting = self.world.hub, self.one_of(self.members(), who)
        self.act(acting, scopes, lambda s, m: organizations.create_service_account(s, hub, m, "robot", role))

    @rule(whom=WHO, role=ROLES)
    def from_another_organization(self, whom: int, role: Role) -> None:
        """Its owner is nobody here."""
        hub, user, owner = self.world.hub, self.people[whom].id, self.people[3].id
        self.act(owner, None, lambda s, m: organizations.change_role(s, hub, m, user, role), where=self.other)

    @invariant()
    def somebody_owns_it(self) -> None:
        people = {user.id for user in self.people}
        assert any(role is Role.OWNER and user in people for user, role in self.seen.roles.items())
        assert all(user in people for user, role in self.seen.roles.items() if role is Role.OWNER)

    def teardown(self) -> None:
        if not hasattr(self, "organization"):
            return

        async def checked() -> None:
            async with self.world.hub.database.reading() as session:
                assert (await verifying.verify(session, self.organization)).is_whole
                assert await session.scalar(
                    select(func.count()).select_from(AuditHead).where(AuditHead.organization_id == self.organization)
                )

        self.world.run(checked())


@pytest.mark.timeout(600)
def test_nobody_comes_to_hold_what_whoever_gave_it_did_not_hold(database_url: str) -> None:
    async def a_hub() -> Hub:
        database = Database.open(database_url)
        sealer, clock = Sealer(Sealer.new_master_key()), HubClock()
        authorities = await Authorities.load(database, sealer, clock)
        return Hub(database, sealer, signals.of(database), authorities, "https://hub.test", clock)

    with asyncio.Runner() as runner:
        hub = runner.run(a_hub())
        Grants.world = World(hub, runner.run)
        try:
            run_state_machine_as_test(
                Grants,
                settings=settings(
                    max_examples=15,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
        finally:
            runner.run(hub.database.close())


@pytest.mark.parametrize("giver", list(Role))
def test_nobody_may_give_a_role_that_may_give_more(giver: Role) -> None:
    """Two steps lead nowhere that one does not."""
    given = {role for role in Role if may_give(giver, role)}
    for between in given:
        assert {role for role in Role if may_give(between, role)} <= given


def may_give(giver: Role, role: Role) -> bool:
    return Member("O", "U", giver, PERMISSIONS[giver]).may_grant(role)
