"""The stream of events: who may listen, and that each hears what they may know and nothing else, byte by byte."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import update
from tests.hub_api import Api, Asker, Stream, api_of, listening, new_key, new_organization, new_person
from tests.hub_databases import HubClock, running_hub

from codezero.hub.api import events
from codezero.hub.api.events import MOST_EACH
from codezero.hub.api.sockets import MOST_STRANGERS, NOT_SIGNED_IN, NOT_TAKEN, TOO_MANY
from codezero.hub.context import Hub
from codezero.hub.signals import Changed
from codezero.hub.storage.tables import ApiKey, Device, Membership, SignIn, User
from codezero.model.ids import new_ulid
from codezero.model.roles import Permission, Role

SNAPSHOT = b'{"type":"snapshot"}'
# Told last, to everybody, so that what is heard before it is all there was.
SPACE = new_ulid()


@pytest.fixture
async def api(hub: Hub) -> AsyncGenerator[Api, None]:
    async with api_of(hub) as made:
        yield made


@pytest.fixture
async def organization(hub: Hub) -> str:
    return await new_organization(hub, "Acme")


@pytest.fixture
async def owner(hub: Hub, organization: str) -> Asker:
    return await new_person(hub, "Olga", {organization: Role.OWNER})


def token(asker: Asker) -> dict[str, str]:
    return {"token": asker.headers["authorization"].removeprefix("Bearer ")}


async def tell(hub: Hub, *changes: Changed) -> None:
    for changed in changes:
        async with hub.database.transaction() as session:
            hub.signals.tell(session, changed)


async def heard_until(stream: Stream, last: str) -> list[bytes]:
    found: list[bytes] = []
    while not found or last.encode() not in found[-1]:
        found.append(await stream.hear())
    return found


def message(changed: Changed) -> bytes:
    return msgspec.json.encode(
        {
            "type": "changed",
            "kind": changed.kind,
            "organization": changed.organization,
            "space": changed.space,
            "id": changed.id,
        }
    )


async def test_a_listener_first_reads_all_and_then_hears_what_changes(
    api: Api, organization: str, owner: Asker
) -> None:
    async with listening(api) as stream:
        stream.say(token(owner))
        assert await stream.hear() == SNAPSHOT
        changed = Changed("space", organization, SPACE, SPACE)
        await tell(api.hub, changed)

        assert await stream.hear() == message(changed)


async def test_a_ticket_opens_one_stream(api: Api, organization: str, owner: Asker) -> None:
    """A page cannot send its cookie in a message, and the socket itself looks at no cookie (T36)."""
    ticket = (await api.ask(owner, "POST", "/events/tickets", expect=201)).json()["ticket"]
    async with listening(api, headers={"origin": "https://hub.test"}) as stream:
        stream.say({"ticket": ticket})
        assert await stream.hear() == SNAPSHOT
    async with listening(api) as again:
        again.say({"ticket": ticket})
        assert await again.end() == NOT_SIGNED_IN


async def test_a_ticket_is_for_soon(api: Api, owner: Asker, hub_clock: HubClock) -> None:
    ticket = (await api.ask(owner, "POST", "/events/tickets", expect=201)).json()["ticket"]
    hub_clock.advance(timedelta(seconds=61))
    async with listening(api) as stream:
        stream.say({"ticket": ticket})
        assert await stream.end() == NOT_SIGNED_IN


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://hub.test", "https://hub.test.evil.example"])
async def test_pages_of_others_are_refused_before_they_say_anything(api: Api, origin: str) -> None:
    async with listening(api, headers={"origin": origin}) as stream:
        assert await stream.end() == 403


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("", NOT_TAKEN),
        ("[]", NOT_TAKEN),
        ("{}", NOT_TAKEN),
        ('{"token": "a", "ticket": "b"}', NOT_TAKEN),
        ('{"token": 1}', NOT_TAKEN),
        ('{"token": "a", "more": 1}', NOT_TAKEN),
        ("[" * 5000, NOT_TAKEN),
        ('{"token": "' + "a" * 9000 + '"}', NOT_TAKEN),
        ('{"token": "a"}', NOT_SIGNED_IN),
        ('{"token": "ü\\u20ac"}', NOT_SIGNED_IN),
        ('{"ticket": ""}', NOT_SIGNED_IN),
        ('{"ticket": "a"}', NOT_SIGNED_IN),
    ],
)
async def test_who_does_not_say_who_they_are_hears_nothing(api: Api, first: str, code: int) -> None:
    async with listening(api) as stream:
        stream.say(first)
        assert await stream.end() == code


async def test_cookies_are_not_looked_at(api: Api, owner: Asker) -> None:
    async with listening(api, headers={"cookie": "__Host-codezero=x", **owner.headers}) as stream:
        stream.say("{}")
        assert await stream.end() == NOT_TAKEN


async def test_two_people_hear_exactly_what_their_roles_may_know(api: Api, organization: str, owner: Asker) -> None:
    other = await new_organization(api.hub, "Other")
    viewer = await new_person(api.hub, "Vic", {organization: Role.VIEWER})
    both = await new_person(api.hub, "Bob", {organization: Role.DEVELOPER, other: Role.AUDITOR})
    everything = [
        Changed(kind, where, SPACE, new_ulid())
        for where in (organization, other)
        for kind in ("audit", "device", "user", "member", "picture", "policy", "apikey", "organization")
    ]
    everything += [
        Changed("authority"),
        Changed("user", None, None, viewer.user),
        Changed("device", organization, None, viewer.device),
        Changed("unheard-of", organization, None, new_ulid()),
    ]
    last = [Changed("space", where, SPACE, SPACE) for where in (other, organization)]

    async with listening(api) as one, listening(api) as two, listening(api) as three:
        for stream, asker in ((one, owner), (two, viewer), (three, both)):
            stream.say(token(asker))
            assert await stream.hear() == SNAPSHOT
        await tell(api.hub, *everything, *last)
        end = message(last[-1]).decode()
        heard = [await heard_until(stream, end) for stream in (one, two, three)]

    def expected(**kinds: set[str]) -> list[bytes]:
        return [
            message(changed)
            for changed in (*everything, *last)
            for name, where in (("here", organization), ("there", other))
            if changed.organization == where and changed.kind in kinds.get(name, ())
        ]

    every = {"audit", "device", "user", "member", "picture", "policy", "apikey", "organization", "space"}
    viewers = {"user", "member", "picture", "organization", "space"}
    own = message(Changed("device", organization, None, viewer.device))
    assert heard[0] == expected(here=every)
    assert [one for one in heard[1] if one != own] == expected(here=viewers)
    assert heard[1].count(own) == 1
    assert heard[2] == expected(here=viewers | {"policy"}, there=every)


async def test_a_key_hears_no_more_than_its_scopes(api: Api, organization: str) -> None:
    key = await new_key(api.hub, "scoped", organization, Role.ADMIN, scopes=frozenset({Permission.SPACES_READ}))
    async with listening(api) as stream:
        stream.say({"token": key.headers["authorization"]})
        assert await stream.hear() == SNAPSHOT
        told = [Changed("audit", organization, None, new_ulid()), Changed("space", organization, SPACE, SPACE)]
        await tell(api.hub, *told)

        assert await stream.hear() == message(told[1])


async def test_a_new_role_is_heard_of_and_changes_what_is_heard(api: Api, organization: str, owner: Asker) -> None:
    viewer = await new_person(api.hub, "Vic", {organization: Role.VIEWER})
    promoted = Changed("member", organization, None, viewer.user)
    async with listening(api) as stream:
        stream.say(token(viewer))
        assert await stream.hear() == SNAPSHOT
        async with api.hub.database.transaction() as session:
            await session.execute(
                update(Membership).where(Membership.user_id == viewer.user).values(role=Role.AUDITOR.value)
            )
            api.hub.signals.tell(session, promoted)
        heard = [await stream.hear(), await stream.hear()]
        audit = Changed("audit", organization, None, new_ulid())
        await tell(api.hub, audit)

        assert heard == [SNAPSHOT, message(promoted)]
        assert await stream.hear() == message(audit)


async def test_who_leaves_an_organization_hears_nothing_of_it(api: Api, organization: str) -> None:
    other = await new_organization(api.hub, "Other")
    viewer = await new_person(api.hub, "Vic", {organization: Role.VIEWER, other: Role.VIEWER})
    async with listening(api) as stream:
        stream.say(token(viewer))
        assert await stream.hear() == SNAPSHOT
        async with api.hub.database.transaction() as session:
            await session.delete(await session.get_one(Membership, (organization, viewer.user)))
            api.hub.signals.tell(session, Changed("member", organization, None, viewer.user))
        await tell(api.hub, Changed("space", organization, SPACE, SPACE), last := Changed("space", other, SPACE, SPACE))

        assert [await stream.hear(), await stream.hear()] == [SNAPSHOT, message(last)]


@pytest.mark.parametrize("what", ["sign-in", "device", "user", "key", "expired key"])
async def test_a_stream_ends_with_the_sign_in(api: Api, organization: str, hub_clock: HubClock, what: str) -> None:
    """Each kind, while it is being listened by (T41)."""
    if "key" in what:
        asker = await new_key(api.hub, "ci", organization, Role.CI)
        first = {"token": asker.headers["authorization"]}
    else:
        asker = await new_person(api.hub, "Ann", {organization: Role.OWNER})
        first = token(asker)
    now = api.hub.clock()
    statement = {
        "sign-in": update(SignIn).where(SignIn.id == asker.sign_in).values(ended_at=now, ended_as="signed-out"),
        "device": update(Device).where(Device.id == asker.device).values(revoked_at=now),
        "user": update(User).where(User.id == asker.user).values(disabled_at=now),
        "key": update(ApiKey).where(ApiKey.user_id == asker.user).values(revoked_at=now),
        "expired key": update(ApiKey).where(ApiKey.user_id == asker.user).values(expires_at=now),
    }[what]
    kind = {"sign-in": "device", "key": "apikey", "expired key": "apikey"}.get(what, what)
    async with listening(api) as stream:
        stream.say(first)
        assert await stream.hear() == SNAPSHOT
        async with api.hub.database.transaction() as session:
            await session.execute(statement)
            api.hub.signals.tell(session, Changed(kind, organization, None, asker.user))

        assert await stream.end() == NOT_SIGNED_IN


async def test_a_stream_looks_for_itself_whether_the_sign_in_stands(
    api: Api, owner: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing was told of its end."""
    monkeypatch.setattr(events, "ALIVE_SECONDS", 0.05)
    async with listening(api) as stream:
        stream.say(token(owner))
        assert await stream.hear() == SNAPSHOT
        async with api.hub.database.transaction() as session:
            await session.execute(update(SignIn).where(SignIn.id == owner.sign_in).values(ended_at=api.hub.clock()))

        assert await stream.end() == NOT_SIGNED_IN


async def test_a_token_that_expires_does_not_end_what_its_sign_in_goes_on_with(
    api: Api, organization: str, owner: Asker, hub_clock: HubClock
) -> None:
    async with listening(api) as stream:
        stream.say(token(owner))
        assert await stream.hear() == SNAPSHOT
        hub_clock.advance(timedelta(minutes=11))
        await tell(api.hub, Changed("user", organization, None, owner.user))

        assert b'"changed"' in await stream.hear()
    async with listening(api) as anew:
        anew.say(token(owner))
        assert await anew.end() == NOT_SIGNED_IN


async def test_too_much_at_once_is_told_as_one_thing(api: Api, organization: str, owner: Asker) -> None:
    """A reader that was too slow reads all anew instead of being told old things."""
    async with listening(api) as stream:
        stream.say(token(owner))
        assert await stream.hear() == SNAPSHOT
        async with api.hub.database.transaction() as session:
            for _ in range(1000):
                api.hub.signals.tell(session, Changed("space", organization, SPACE, new_ulid()))
        heard = await stream.hear()
        while heard != SNAPSHOT:
            heard = await stream.hear()


async def test_what_another_replica_changes_is_heard(hub: Hub, organization: str, owner: Asker) -> None:
    async with running_hub(hub.database, hub.sealer, HubClock()) as other, api_of(hub) as api:
        if not hub.database.is_postgresql:
            other = hub
        async with listening(api) as stream:
            stream.say(token(owner))
            assert await stream.hear() == SNAPSHOT
            changed = Changed("space", organization, SPACE, SPACE)
            await tell(other, changed)

            assert await stream.hear() == message(changed)


async def test_one_user_has_so_many_streams(api: Api, owner: Asker) -> None:
    streams: list[Stream] = []
    async with asyncio.TaskGroup(), listening(api) as last:
        contexts = [listening(api) for _ in range(MOST_EACH)]
        for context in contexts:
            stream = await context.__aenter__()
            stream.say(token(owner))
            assert await stream.hear() == SNAPSHOT
            streams.append(stream)
        last.say(token(owner))
        assert await last.end() == TOO_MANY
        for context in contexts:
            await context.__aexit__(None, None, None)
    async with listening(api) as after:
        after.say(token(owner))
        assert await after.hear() == SNAPSHOT


async def test_who_goes_on_talking_is_not_listened_to(api: Api, owner: Asker) -> None:
    async with listening(api) as stream:
        stream.say(token(owner))
        assert await stream.hear() == SNAPSHOT
        stream.say({"subscribe": "everything"})

        assert await stream.end() == NOT_TAKEN


async def test_strangers_hold_so_many_streams_open_and_no_more(api: Api, owner: Asker) -> None:
    async with contextlib.AsyncExitStack() as all_of_them:
        for _ in range(MOST_STRANGERS):
            stream = await all_of_them.enter_async_context(listening(api))
            assert (await stream._next())["type"] == "websocket.accept"
        async with listening(api) as one_more:
            assert await one_more.end() == 429
    async with listening(api) as after:
        after.say(token(owner))
        assert await after.hear() == SNAPSHOT
