"""Who makes a request: one kind of credential, once; everything else is nobody."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.hub_databases import HubClock
from tests.hub_people import Place, place_of

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.signin import api_keys, callers
from codezero.hub.signin.api_keys import NewKey
from codezero.hub.signin.callers import Caller, Via
from codezero.hub.storage.tables import ApiKey, User
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.roles import Permission

ME = "/api/v1/auth/me"


@pytest.fixture
async def place(hub: Hub) -> AsyncIterator[Place]:
    async with place_of(hub) as made:
        yield made


async def asks(hub: Hub, *headers: tuple[str, str], method: str = "GET", kind: str = "http") -> Caller:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return await callers.caller(hub, {"type": kind, "method": method, "headers": encoded, "client": ("192.0.2.1", 1)})


async def refused(hub: Hub, *headers: tuple[str, str], method: str = "GET", kind: str = "http") -> Problem:
    with pytest.raises(CodezeroError) as caught:
        await asks(hub, *headers, method=method, kind=kind)
    return caught.value.problem


async def new_key(place: Place, **options: Any) -> NewKey:
    """A key of a service account of the owner's organization."""
    hub = place.hub

    async def work(session: Any) -> NewKey:
        owner = (await session.scalars(select(User).where(User.kind == "person"))).one()
        ((organization, _),) = await organizations.of_user(session, owner.id)
        acting = await organizations.member(session, organization.id, owner.id)
        _, account = await organizations.create_service_account(session, hub, acting, "builds")
        return api_keys.make(
            session, hub, organization=organization.id, account=account.id, name="ci", created_by=owner.id, **options
        )

    return await hub.database.run(work)


async def told(place: Place, action: str) -> list[str]:
    return [outcome for one, outcome in await place.told() if one == action]


async def test_nobody_is_nobody(place: Place) -> None:
    assert await refused(place.hub) is problems.NOT_SIGNED_IN


async def test_a_key_speaks_for_its_account_in_its_organization(place: Place) -> None:
    await place.owner()
    made = await new_key(place, scopes=[Permission.SPACES_READ])
    hub, organization = place.hub, made.row.organization_id
    for text in (
        f"Bearer {made.key}",
        f"bearer {made.key}",
        f"Bearer {organization}:{made.key}",
        f"{organization}:{made.key}",
    ):
        caller = await asks(hub, ("Authorization", text))

        assert caller.kind == "service"
        assert caller.via is Via.API_KEY
        assert (caller.user, caller.api_key, caller.organization) == (made.row.user_id, made.row.id, organization)
        assert caller.scopes == {Permission.SPACES_READ}


async def test_a_key_that_is_off_by_anything_is_refused(place: Place) -> None:
    await place.owner()
    made, other = await new_key(place), await new_key(place)
    key = made.key
    for wrong in (
        key[:-1],
        key + "0",
        key.upper(),
        key[:-9] + "0" * 9,
        key.replace(made.row.id, other.row.id),
        key.replace(made.row.id, new_ulid()),
        key.replace("cz_key_", "cz_token_"),
        f"cz_key_{made.row.id}_",
        f"{new_ulid()}:{key}",
        f"{made.row.organization_id.lower()}:{key}",
        f"{made.row.organization_id}::{key}",
        f"{key} {key}",
        f"{key},{other.key}",
        "cz_key_" + "0" * 5000,
        key + "\xb2",
    ):
        assert await refused(place.hub, ("Authorization", f"Bearer {wrong}")) is problems.NOT_SIGNED_IN, wrong


async def test_a_key_ends_when_it_is_revoked_expires_or_its_account_does(place: Place, hub_clock: HubClock) -> None:
    await place.owner()
    hub = place.hub
    revoked = await new_key(place)
    expiring = await new_key(place, expires_at=hub_clock() + timedelta(days=1))
    orphan = await new_key(place)

    async def end(session: Any) -> None:
        await api_keys.revoke(session, hub, await session.get_one(ApiKey, revoked.row.id))
        (await session.get_one(User, orphan.row.user_id)).disabled_at = hub_clock()

    await asks(hub, ("Authorization", f"Bearer {expiring.key}"))
    await hub.database.run(end)
    hub_clock.advance(timedelta(days=1))
    for made in (revoked, expiring, orphan):
        assert await refused(hub, ("Authorization", f"Bearer {made.key}")) is problems.NOT_SIGNED_IN
    await refused(hub, ("Authorization", f"Bearer {revoked.key}"))

    assert await told(place, "apikey.use") == ["ok", "denied", "denied", "denied"], "each once in a minute"


async def test_use_is_noted_once_in_a_minute(place: Place, hub_clock: HubClock) -> None:
    await place.owner()
    made = await new_key(place)
    hub = place.hub

    async def last_used() -> Any:
        await asks(hub, ("Authorization", f"Bearer {made.key}"))
        async with hub.database.reading() as session:
            return (await session.get_one(ApiKey, made.row.id)).last_used_at

    first = await last_used()
    assert await last_used() == first
    hub_clock.advance(timedelta(minutes=1))
    assert await last_used() > first
    assert await told(place, "apikey.use") == ["ok"]


async def test_the_key_itself_is_kept_nowhere(place: Place) -> None:
    await place.owner()
    made = await new_key(place)
    async with place.hub.database.reading() as session:
        row = (await session.execute(select(ApiKey.__table__))).one()

    assert made.key.rpartition("_")[2][:-8] not in repr(row)
    assert made.key not in repr(made)
    assert len(row.secret_hash) == 32


async def test_what_is_shown_twice_is_refused(place: Place) -> None:
    browser, laptop = await place.owner(), place.laptop()
    await laptop.sign_in(browser)
    token = ("Authorization", f"Bearer {laptop.access_token}")
    cookie = ("Cookie", f"__Host-codezero={browser.client.cookies['__Host-codezero']}")
    hub = place.hub
    assert (await asks(hub, token)).device == laptop.device
    assert (await asks(hub, cookie)).via is Via.BROWSER

    for shown in (
        [token, token],
        [token, cookie],
        [cookie, cookie],
        [("Cookie", f"{cookie[1]}; a=b; {cookie[1]}")],
        [("Cookie", f"__Host-codezero=; {cookie[1]}")],
        [cookie, ("Origin", hub.public_url), ("Origin", "https://evil.example")],
        [cookie, ("X-Codezero-CSRF", "a"), ("X-Codezero-CSRF", "b")],
    ):
        assert await refused(hub, *shown) is problems.BAD_REQUEST, shown


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  x",
        "Basic YWRhOnB3",
        "Digest x",
        "Token x",
        "null",
        "Bearer null",
        "Bearer a.b.c",
        "x" * 5000,
    ],
)
async def test_what_is_no_credential_is_refused(place: Place, authorization: str) -> None:
    assert await refused(place.hub, ("Authorization", authorization)) is problems.NOT_SIGNED_IN


async def test_other_cookies_do_not_matter(place: Place) -> None:
    browser = await place.owner()
    value = browser.client.cookies["__Host-codezero"]
    caller = await asks(place.hub, ("Cookie", f"theme=dark; __Host-codezero={value}; x__Host-codezero=y"))

    assert caller.email == "ada@example.com"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_cookie_alone_changes_nothing(place: Place, method: str) -> None:
    browser = await place.owner()
    cookie = ("Cookie", f"__Host-codezero={browser.client.cookies['__Host-codezero']}")

    assert await refused(place.hub, cookie, method=method) is problems.ROLE_FORBIDS
    assert await refused(place.hub, cookie, ("Origin", place.hub.public_url), method=method) is problems.ROLE_FORBIDS


async def test_a_websocket_by_cookie_comes_from_our_own_pages(place: Place) -> None:
    """T36."""
    browser = await place.owner()
    cookie = ("Cookie", f"__Host-codezero={browser.client.cookies['__Host-codezero']}")
    hub = place.hub
    assert await refused(hub, cookie, kind="websocket") is problems.ROLE_FORBIDS
    assert await refused(hub, cookie, ("Origin", "https://evil.example"), kind="websocket") is problems.ROLE_FORBIDS

    assert (await asks(hub, cookie, ("Origin", hub.public_url), kind="websocket")).via is Via.BROWSER


async def test_a_disabled_person_is_out_at_once(place: Place) -> None:
    browser, laptop = await place.owner(), place.laptop()
    await laptop.sign_in(browser)

    async def disable(session: Any) -> None:
        (await session.scalars(select(User))).one().disabled_at = place.hub.clock()

    await place.hub.database.run(disable)

    assert (await laptop.ask("GET", ME)).status_code == 401
    assert (await browser.client.get(ME)).status_code == 401
    assert (await laptop.refresh()).json()["error"] == "invalid_grant"
    assert (await place.browser().sign_in("ada@example.com")).status == 401
