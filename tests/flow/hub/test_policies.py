"""Policy documents, bundles and explanations, on each kind of database; each organization for itself (T29)."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from tests.hub_databases import HubClock

from codezero.hub.context import Hub
from codezero.hub.policies import beside, bundle, checking, documents, explain
from codezero.hub.policies.checking import PolicyError
from codezero.hub.signals import Changed
from codezero.hub.storage.tables import ApiKey, Device, Membership, Organization, Space, User
from codezero.model import cedar, ids, problems
from codezero.model.access import CONSUME, Bundle, Operation
from codezero.model.cedar import PolicySet
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart
from codezero.wire import policy_file

ORDERS, API = ServiceRef("shop", "orders"), ServiceRef("bank", "api")
CLOSED = "// closed\n"
SHOP = 'permit(principal, action == Codezero::Action::"consume", resource in Codezero::Namespace::"shop");\n'


@dataclass
class Place:
    """An organization with one Teamspace and its people."""

    hub: Hub
    organization: str
    space: str
    owner: str
    developer: str

    @property
    def at(self) -> tuple[str, str]:
        return self.organization, self.space

    async def bundle(self) -> Bundle:
        async with self.hub.database.transaction() as session:
            held = policy_file.read(await bundle.bundle(self.hub, session, self.space))
        assert isinstance(held, Bundle)
        return held

    async def save(self, text: str, *, expected: int | None = None) -> documents.Version:
        document = checking.check(text)
        async with self.hub.database.transaction() as session:
            return await documents.save(
                self.hub, session, *self.at, document=document, author=self.owner, comment="why", expected=expected
            )


async def made(hub: Hub, name: str = "acme") -> Place:
    now = hub.clock()
    async with hub.database.transaction() as session:
        organization = Organization(name=name, settings={}, created_at=now)
        owner, developer = (
            User(kind="person", email=f"{who}@{name}.example", name=who, created_at=now) for who in ("olga", "dan")
        )
        session.add_all([organization, owner, developer])
        await session.flush()
        for user, role in ((owner, "owner"), (developer, "developer")):
            session.add(Membership(organization_id=organization.id, user_id=user.id, role=role, created_at=now))
        space = Space(
            organization_id=organization.id, name="dev", state="certified", created_by=owner.id, created_at=now
        )
        session.add(space)
        await session.flush()
        await documents.begin(hub, session, organization.id, space.id, author=owner.id)
        return Place(hub, organization.id, space.id, owner.id, developer.id)


@pytest.fixture
async def place(hub: Hub) -> Place:
    return await made(hub)


def device(place: Place, user: str, device: str | None = None) -> ids.Device:
    return ids.Device("hub", place.organization, user, device or new_ulid())


async def test_a_new_teamspace_begins_with_the_default_policy(place: Place) -> None:
    """Developers can work at once, and harm nobody."""
    held = await place.bundle()
    dan = device(place, place.developer)

    assert held.decide(dan, CONSUME, ORDERS).allowed
    assert held.decide(dan, Operation.SERVE_USER, ORDERS).allowed
    assert not held.decide(dan, Operation.SERVE_DEFAULT, ORDERS).allowed
    assert held.decide(device(place, place.owner), Operation.TERMINATE, ORDERS).allowed
    assert not held.suspended
    async with place.hub.database.reading() as session:
        assert (await documents.current(session, *place.at)).text == checking.default()


async def test_versions_are_kept_and_compared(place: Place) -> None:
    """Nothing is ever changed; a text that comes back is a version of its own."""
    await place.save(CLOSED)
    await place.save(SHOP)
    back = await place.save(CLOSED)
    assert (back.number, back.text, back.comment, back.author) == (4, CLOSED, "why", place.owner)
    async with place.hub.database.reading() as session:
        listed = await documents.versions(session, *place.at)
        assert [(one.number, one.text) for one in listed] == [(4, ""), (3, ""), (2, ""), (1, "")]
        assert [one.number for one in await documents.versions(session, *place.at, before=4, limit=2)] == [3, 2]
        two, three = [await documents.version(session, *place.at, number) for number in (2, 3)]

    assert documents.difference(two, three) == f"--- version 2\n+++ version 3\n@@ -1 +1 @@\n-{CLOSED}+{SHOP}"
    assert documents.difference(two, back) == ""
    assert (await place.bundle()).policies.policies == ()


async def test_a_text_that_is_in_force_already_makes_no_version(place: Place) -> None:
    """To apply the same file again is no change."""
    assert (await place.save(checking.default())).number == 1


async def test_what_fails_its_own_test_is_not_saved(place: Place) -> None:
    """The tests are what keeps a team from locking itself out."""
    with pytest.raises(
        PolicyError, match="expects allow and the policies say deny: no policy allows consume"
    ) as caught:
        await place.save("// @test allow developer consume shop/orders")
    assert caught.value.problem is problems.POLICY_TEST_FAILED

    assert (await place.bundle()).decide(device(place, place.developer), CONSUME, ORDERS).allowed


async def test_who_changes_what_has_changed_is_told(place: Place) -> None:
    """Of two administrators at once, one reads again."""
    await place.save(CLOSED, expected=1)
    with pytest.raises(CodezeroError) as caught:
        await place.save(SHOP, expected=1)

    assert caught.value.problem is problems.POLICY_CHANGED
    assert (await place.save(SHOP, expected=2)).number == 3


async def test_a_change_is_told_to_whoever_waits(place: Place) -> None:
    """A Teamspace gets it within a second."""
    heard = place.hub.signals.changes()
    await place.save(CLOSED)

    async with asyncio.timeout(10):
        while (changed := await anext(heard)) != Changed("policy", *place.at):
            assert changed is None or changed.organization == place.organization


@pytest.mark.parametrize("what", ["current", "version", "versions", "save", "can i", "reach"])
async def test_another_organizations_teamspace_is_not_there(place: Place, what: str) -> None:
    """T29: not even to be told that it exists."""
    other = await made(place.hub, "other")

    async def ask(session: AsyncSession) -> object:
        hub, at = place.hub, (other.organization, place.space)
        match what:
            case "current":
                return await documents.current(session, *at)
            case "version":
                return await documents.version(session, *at, 1)
            case "versions":
                return await documents.versions(session, *at)
            case "save":
                return await documents.save(hub, session, *at, document=checking.check(CLOSED), author=other.owner)
            case "can i":
                user = other.owner
                return await explain.can_i(hub, session, *at, user=user, operation=Operation.CONSUME, service=ORDERS)
            case _:
                return await explain.reach(hub, session, *at, [ORDERS])

    async with place.hub.database.transaction() as session:
        with pytest.raises(CodezeroError) as caught:
            await ask(session)

    assert caught.value.problem is problems.NOT_FOUND


@pytest.mark.parametrize(("number", "problem"), [(0, problems.POLICY_UNKNOWN), (2, problems.POLICY_UNKNOWN)])
async def test_a_version_that_is_not_there_is_said_so(place: Place, number: int, problem: Problem) -> None:
    """By its own code."""
    async with place.hub.database.transaction() as session:
        with pytest.raises(CodezeroError) as caught:
            await documents.version(session, *place.at, number)

    assert caught.value.problem is problem


async def test_serials_grow_whoever_asks(place: Place, hub_clock: HubClock) -> None:
    """Also for replicas at the same moment, and after a backup of yesterday."""
    made = await asyncio.gather(
        *(place.hub.database.run(lambda session: bundle.bundle(place.hub, session, place.space)) for _ in range(5))
    )
    serials = sorted(held.serial for held in map(policy_file.read, made) if isinstance(held, Bundle))
    assert len(set(serials)) == 5
    async with place.hub.database.transaction() as session:
        (await session.get_one(Space, place.space)).serial = 0
    hub_clock.advance(timedelta(minutes=1))

    assert (await place.bundle()).serial > serials[-1]


async def test_a_bundle_is_put_together_while_others_write(place: Place) -> None:
    """Only its serial is written: the rest is read beside them, and of a later state no serial is smaller."""
    hub = place.hub
    await hub.database.run(lambda session: bundle.next_serial(hub, session, place.space))
    async with hub.database.reading() as session:
        space = await session.get_one(Space, place.space)
        before = policy_file.read(await bundle.present(hub, session, space))
    await place.save(CLOSED)
    async with hub.database.reading() as session:
        after = policy_file.read(await bundle.present(hub, session, await session.get_one(Space, place.space)))

    assert isinstance(before, Bundle)
    assert isinstance(after, Bundle)
    assert (len(before.policies.policies), len(after.policies.policies)) == (4, 0)
    assert after.serial > before.serial


async def test_policies_are_compiled_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each list that somebody asks for; of those that nobody asks for none is kept for ever."""
    monkeypatch.setattr(bundle, "MOST_COMPILED", 1)
    compiled, known = cedar.compiled, list[Any]()

    def counted(content: Any) -> PolicySet:
        known.append(content)
        return compiled(content)

    monkeypatch.setattr(bundle.cedar, "compiled", counted)
    other = await made(place.hub, "other")
    for expected, asked in ((1, place), (1, place), (2, other), (2, other), (3, place)):
        async with asked.hub.database.reading() as session:
            held = await bundle.of_space(session, await session.get_one(Space, asked.space), asked.hub.clock())
        assert len(held.policies.policies) == 4
        assert sum(len(content["staticPolicies"]) == 4 for content in known) == expected


async def test_a_bundle_says_what_was_taken_away(place: Place, hub_clock: HubClock) -> None:
    """T41: user, role, device, key, Teamspace. What is left out takes no room: by what was never given anything, or so long ago, nothing is open."""
    hub, now = place.hub, place.hub.clock()
    async with hub.database.transaction() as session:
        machine = User(kind="service", name="ci", created_at=now)
        session.add(machine)
        await session.flush()
        session.add(Membership(organization_id=place.organization, user_id=machine.id, role="ci", created_at=now))
        devices = [
            Device(user_id=place.developer, name=name, thumbprint=name, public_jwk={}, created_at=now, last_seen_at=now)
            for name in ("kept", "stolen", "old", "bare", "expired")
        ]
        keys = [
            ApiKey(
                organization_id=place.organization,
                user_id=machine.id,
                name=name,
                secret_hash=b"",
                created_by=place.owner,
                created_at=now,
            )
            for name in ("kept", "revoked", "expired", "unused")
        ]
        session.add_all([*devices, *keys])
        await session.flush()
        devices[1].revoked_at = now
        devices[2].revoked_at = now - timedelta(days=3)
        devices[3].revoked_at = devices[4].revoked_at = now
        for one in (*devices[:3], devices[4]):
            one.certified_until = now + timedelta(hours=24)
        devices[4].certified_until = now - timedelta(hours=1)
        for key in keys[:3]:
            key.last_used_at = now
        keys[1].revoked_at = keys[3].revoked_at = now
        keys[2].expires_at = now
    held = await place.bundle()
    assert held.revoked == {devices[1].id, keys[1].id, keys[2].id}
    assert held.refusal(device(place, place.developer, devices[0].id)) is None
    assert (held.members[machine.id].kind, held.members[machine.id].role) == ("service", "ci")

    async with hub.database.transaction() as session:
        (await session.get_one(User, place.developer)).disabled_at = hub.clock()
        (await session.get_one(Space, place.space)).state = "suspended"
    held = await place.bundle()
    assert place.developer not in held.members
    assert held.suspended
    assert 0 < held.expires_at - hub.clock().timestamp() <= 24 * 3600


async def test_a_bundle_has_the_organizations_opinion_of_another(place: Place) -> None:
    """Row 65: asked by the Teamspace after its own policy."""
    async with place.hub.database.transaction() as session:
        organization = await session.get_one(Organization, place.organization)
        organization.settings = {"opa": "https://opa.example.com/v1/data/codezero/allow"}

    assert (await place.bundle()).opa_url == "https://opa.example.com/v1/data/codezero/allow"


async def test_what_no_cluster_could_keep_closes_the_teamspace(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """T41: with nothing, it would go on with what held before something was taken away."""
    before = await place.bundle()
    # More than the closed one takes, less than the members and the default policy.
    monkeypatch.setattr(policy_file, "MAX_SIZE", 600)
    held = await place.bundle()

    assert held.serial > before.serial
    assert held.suspended
    assert not held.decide(device(place, place.owner), CONSUME, ORDERS).allowed
    assert problems.BUNDLE_TOO_LARGE.code in capsys.readouterr().out


async def test_a_removed_teamspace_has_no_bundle(place: Place) -> None:
    """Nor one that never was."""
    async with place.hub.database.transaction() as session:
        (await session.get_one(Space, place.space)).removed_at = place.hub.clock()
    for space in (place.space, new_ulid()):
        place.space = space
        with pytest.raises(CodezeroError) as caught:
            await place.bundle()
        assert caught.value.problem is problems.NOT_FOUND


async def test_can_i_says_why(place: Place) -> None:
    """Allowed or not, with the policies that decided; also for somebody else, and by a text that is not in force."""

    async def ask(user: str, operation: Operation, *parts: ConditionPart, text: str | None = None) -> explain.Explained:
        async with place.hub.database.reading() as session:
            return await explain.can_i(
                place.hub,
                session,
                *place.at,
                user=user,
                operation=operation,
                service=ORDERS,
                condition=parts,
                text=text,
            )

    header = ConditionPart("header", "x-team", "blue")
    allowed = await ask(place.developer, Operation.SERVE, header)
    assert (allowed.allowed, allowed.reason) == (True, "policy 'serve' allows it")
    assert set(allowed.policies) == {"consume", "serve"}
    denied = await ask(place.developer, Operation.SERVE)
    assert (denied.allowed, denied.policies) == (False, ())
    assert denied.reason == "no policy allows serve-default of shop/orders"
    assert (await ask(place.owner, Operation.SERVE)).policies == ("consume", "admins")
    assert not (await ask(place.developer, Operation.MIRROR, header)).allowed
    assert not (await ask(place.developer, Operation.TAKEOVER, header)).allowed
    assert "no member" in (await ask(new_ulid(), Operation.CONSUME)).reason
    freeze = '@id("freeze") @reason("until Monday") forbid(principal, action, resource);\n'
    tried = await ask(place.owner, Operation.CONSUME, text=freeze)
    assert (tried.policies, tried.reason) == (
        ("freeze",),
        "policy 'freeze' forbids consume of shop/orders: until Monday",
    )
    with pytest.raises(PolicyError):
        await ask(place.owner, Operation.CONSUME, text="permit")

    async with place.hub.database.transaction() as session:
        (await session.get_one(Space, place.space)).state = "suspended"
    assert "suspended" in (await ask(place.owner, Operation.CONSUME)).reason


async def test_who_reaches_what(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a policy is saved, too."""

    async def ask(text: str | None = None) -> dict[str, tuple[ServiceRef, ...]]:
        async with place.hub.database.reading() as session:
            found = await explain.reach(place.hub, session, *place.at, [ORDERS, API, ORDERS], text=text)
            return {one.name: one.services for one in found}

    assert await ask() == {"olga": (API, ORDERS), "dan": (API, ORDERS)}
    assert await ask(SHOP) == {"olga": (ORDERS,), "dan": (ORDERS,)}
    monkeypatch.setattr(explain, "MAX_REACH", 3)
    with pytest.raises(CodezeroError, match="more than 3 answers"):
        await ask()


async def test_nothing_is_checked_or_compared_while_others_wait_for_the_database(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever somebody writes, others sign in meanwhile: both are done before the transaction, and not by the loop."""
    document, default = checking.check(SHOP), checking.checked_default()
    loop = threading.current_thread()

    def not_here(*_: object) -> object:
        assert threading.current_thread() is not loop
        raise InterruptedError

    monkeypatch.setattr(checking, "check", not_here)
    monkeypatch.setattr(documents, "difference", not_here)
    async with place.hub.database.transaction() as session:
        saved = await documents.save(place.hub, session, *place.at, document=document, author=place.owner)
    assert (saved.number, document.text) == (2, SHOP)
    assert (await made(place.hub, "other")).space
    assert default.text == checking.default()
    for work in (beside.check(SHOP, by="ann"), beside.difference(saved, saved, by="ann")):
        with pytest.raises(InterruptedError):
            await work


@pytest.mark.parametrize(("limit", "most"), [("MOST_WAITING", 2), ("MOST_OF_ONE", 1)])
async def test_so_many_documents_wait_to_be_checked(monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    """Of all, and of one person; who comes then is told so at once."""
    monkeypatch.setattr(beside, limit, most)
    may_go = threading.Event()

    def wait(text: str) -> str:
        assert may_go.wait(30)
        return text

    monkeypatch.setattr(checking, "check", wait)
    waiting = [asyncio.create_task(beside.check(who, by=who)) for who in ("ann", "bob")]
    await asyncio.sleep(0)
    try:
        with pytest.raises(CodezeroError) as caught:
            await beside.check(SHOP, by="ann")
    finally:
        may_go.set()
    assert caught.value.problem is problems.TOO_MANY_REQUESTS
    assert await asyncio.gather(*waiting) == ["ann", "bob"]
    assert await beside.check(SHOP, by="ann") == SHOP
