"""A laptop that stays signed in: tokens that are good once and with the device's key alone, and what becomes of copies."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from tests.hub_databases import HubClock
from tests.hub_people import Laptop, Place, place_of

from codezero.hub import devices
from codezero.hub.context import Hub
from codezero.hub.signin import one_time, refresh, sign_ins
from codezero.hub.storage.tables import BrowserSession, Device, OneTimeCode, RefreshToken, SignIn


@pytest.fixture
async def place(hub: Hub) -> AsyncIterator[Place]:
    async with place_of(hub) as made:
        yield made


@pytest.fixture
async def laptop(place: Place) -> Laptop:
    """One that is signed in."""
    made = place.laptop()
    await made.sign_in(await place.owner())
    return made


async def is_signed_in(laptop: Laptop) -> bool:
    return (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 200


async def test_a_refresh_gives_another_token_each_time(laptop: Laptop, hub_clock: HubClock) -> None:
    seen = {laptop.refresh_token}
    for _ in range(3):
        hub_clock.advance(timedelta(minutes=11))
        assert not await is_signed_in(laptop)
        laptop.keep(await laptop.refresh())
        assert await is_signed_in(laptop)
        seen.add(laptop.refresh_token)

    assert len(seen) == 4


async def test_a_second_use_ends_the_sign_in_and_is_told(place: Place, laptop: Laptop, hub_clock: HubClock) -> None:
    first = laptop.refresh_token
    laptop.keep(await laptop.refresh())
    hub_clock.advance(refresh.GRACE + timedelta(seconds=1))
    again = await laptop.refresh(first)

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert not await is_signed_in(laptop), "at once, not when the token has expired"
    assert (await laptop.refresh()).json()["error"] == "invalid_grant", "the token that was not used, too"
    assert {("signin.reused", "denied"), ("device.revoke", "ok")} <= set(await place.told())
    async with place.hub.database.reading() as session:
        assert (await session.scalars(select(Device))).one().revoked_at is not None, "the thief had its key"


async def test_an_answer_that_was_lost_can_be_asked_for_again_for_ten_seconds(
    laptop: Laptop, hub_clock: HubClock
) -> None:
    first = laptop.refresh_token
    await laptop.refresh(first)
    hub_clock.advance(refresh.GRACE - timedelta(seconds=1))
    laptop.keep(await laptop.refresh(first))
    hub_clock.advance(timedelta(minutes=10))
    laptop.keep(await laptop.refresh())

    assert await is_signed_in(laptop)


async def test_only_one_line_of_successors_lives_on(laptop: Laptop, hub_clock: HubClock) -> None:
    """Somebody with token and key who gets a successor of their own within those seconds is found out at the next refresh of either."""
    first = laptop.refresh_token
    theirs = (await laptop.refresh(first)).json()["refresh_token"]
    laptop.keep(await laptop.refresh(first))
    hub_clock.advance(timedelta(minutes=10))
    laptop.keep(await laptop.refresh())
    hub_clock.advance(timedelta(minutes=1))

    assert (await laptop.refresh(theirs)).json()["error"] == "invalid_grant"
    assert not await is_signed_in(laptop)


async def test_twenty_at_once_are_all_still_signed_in(place: Place, laptop: Laptop, hub_clock: HubClock) -> None:
    """R28: as many processes of one laptop, none of which waits for another."""
    answers = await asyncio.gather(*(laptop.refresh() for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    last = answers[-1]
    for answer in answers:
        laptop.keep(answer)
        assert await is_signed_in(laptop)
    laptop.keep(last)
    hub_clock.advance(timedelta(minutes=10))
    laptop.keep(await laptop.refresh())

    assert await is_signed_in(laptop)
    assert not [told for told in await place.told() if told[1] == "denied"]


async def test_twenty_uses_at_once_leave_one_successor_that_counts(
    place: Place, laptop: Laptop, hub_clock: HubClock
) -> None:
    answers = await asyncio.gather(*(laptop.refresh() for _ in range(20)))
    hub_clock.advance(timedelta(minutes=1))
    laptop.keep(await laptop.refresh(answers[0].json()["refresh_token"]))
    async with place.hub.database.reading() as session:
        unused = await session.scalar(select(func.count()).where(RefreshToken.used_at.is_(None)))

    assert unused == 1


async def test_a_copied_token_is_worth_nothing_at_another_device(place: Place, laptop: Laptop) -> None:
    """T04: and the laptop it was copied from stays signed in, while the audit tells of it."""
    thief = place.laptop("thief's", "198.51.100.9")
    for device in (None, laptop.device):
        thief.device = device
        answer = await thief.refresh(laptop.refresh_token)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    laptop.keep(await laptop.refresh())

    assert await is_signed_in(laptop)
    assert (await place.told()).count(("signin.refresh", "denied")) == 2


async def test_a_proof_is_good_once(laptop: Laptop) -> None:
    proof = laptop.proof()
    laptop.keep(await laptop.refresh(device_proof=proof))
    answer = await laptop.refresh(device_proof=proof)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert await is_signed_in(laptop), "a replay ends nothing"


async def test_a_proof_that_was_used_at_once_by_many_is_good_for_one(laptop: Laptop) -> None:
    proof = laptop.proof()
    answers = await asyncio.gather(*(laptop.refresh(device_proof=proof) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7


async def test_a_clock_that_is_off_is_named_and_ends_nothing(laptop: Laptop, hub_clock: HubClock) -> None:
    proof = laptop.proof()
    hub_clock.advance(timedelta(minutes=10))
    answer = await laptop.refresh(device_proof=proof)

    assert answer.json()["code"] == "CZ-HUB-016"
    laptop.keep(await laptop.refresh())


async def test_a_sign_in_lasts_thirty_days_however_often_it_is_refreshed(laptop: Laptop, hub_clock: HubClock) -> None:
    for _ in range(29):
        hub_clock.advance(timedelta(days=1))
        laptop.keep(await laptop.refresh())
    hub_clock.advance(timedelta(days=1))

    assert (await laptop.refresh()).json()["error"] == "invalid_grant"
    assert not await is_signed_in(laptop)


async def test_a_revoked_device_is_out_at_once_and_its_key_comes_not_back(place: Place, laptop: Laptop) -> None:
    hub = place.hub
    me = (await laptop.ask("GET", "/api/v1/auth/me")).json()
    assert laptop.device is not None
    device = laptop.device
    await hub.database.run(lambda session: devices.revoke(session, hub, device, by=me["user"]["id"]))
    assert not await is_signed_in(laptop)
    assert (await laptop.refresh()).json()["error"] == "invalid_grant"
    browser = place.browser()
    await browser.sign_in("ada@example.com")
    with pytest.raises(AssertionError, match="was revoked"):
        await laptop.sign_in(browser)
    laptop.key, laptop.device = ec.generate_private_key(ec.SECP256R1()), None
    await laptop.sign_in(browser)

    assert await is_signed_in(laptop)


async def test_the_same_device_signs_in_again(place: Place, laptop: Laptop) -> None:
    device = laptop.device
    browser = place.browser()
    await browser.sign_in("ada@example.com")
    await laptop.sign_in(browser)

    assert laptop.device == device


async def test_a_token_of_a_retired_key_is_refused_after_the_overlap(
    place: Place, laptop: Laptop, hub_clock: HubClock
) -> None:
    """R29: the old key is believed until what it has signed is over, the new one signs after it was announced."""
    hub = place.hub
    await hub.authorities.rotate_token_key(hub.signals)
    assert await is_signed_in(laptop)
    old = laptop.access_token
    await hub.authorities.rotate_token_key(hub.signals, at_once=True)
    answer = await laptop.ask("GET", "/api/v1/auth/me", token=old)
    assert answer.status_code == 401
    assert "unknown key" in answer.json()["detail"]
    laptop.keep(await laptop.refresh())

    assert await is_signed_in(laptop)


@pytest.mark.parametrize(
    "token", ["", "cz_refresh_", "cz_refresh_" + "x" * 43, "x" * 60_000, "cz_refresh_\u00e4", "' OR 1=1 --"]
)
async def test_what_is_no_token_is_refused(laptop: Laptop, token: str) -> None:
    answer = await laptop.ask_token(grant_type="refresh_token", refresh_token=token)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert await is_signed_in(laptop)


async def test_neither_tokens_nor_cookies_are_in_the_database(place: Place, laptop: Laptop) -> None:
    from codezero.hub.storage.tables import Base

    browser = place.browser()
    await browser.sign_in("ada@example.com")
    secrets = [laptop.refresh_token, laptop.access_token, browser.client.cookies["__Host-codezero"]]
    async with place.hub.database.reading() as session:
        dump = repr([list(await session.execute(select(table))) for table in Base.metadata.sorted_tables])

    assert len(dump) > 1000
    assert not [secret for secret in secrets if secret in dump]


async def test_what_is_over_is_swept(place: Place, laptop: Laptop, hub_clock: HubClock) -> None:
    laptop.keep(await laptop.refresh())
    hub = place.hub
    hub_clock.advance(timedelta(days=31))

    async def sweep(session: AsyncSession) -> list[int | None]:
        await sign_ins.tidy(session, hub)
        await one_time.tidy(session, hub)
        tables = (RefreshToken, BrowserSession, OneTimeCode, SignIn)
        return [await session.scalar(select(func.count()).select_from(table)) for table in tables]

    assert await hub.database.run(sweep) == [0, 0, 0, 1]


async def test_strangers_leave_nothing_behind(place: Place, laptop: Laptop) -> None:
    """Anybody can make keys and proofs: neither fills the database."""
    stranger = place.laptop("stranger's", "198.51.100.9")

    async def rows() -> int | None:
        async with place.hub.database.reading() as session:
            return await session.scalar(select(func.count()).select_from(OneTimeCode))

    before = await rows()
    for form in (
        {"grant_type": "refresh_token", "refresh_token": "cz_refresh_" + "x" * 43},
        {"grant_type": "authorization_code", "code": "x" * 43},
        {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": "x" * 43},
    ):
        assert (await stranger.ask_token(**form)).status_code == 400

    assert await rows() == before


async def test_an_ended_sign_in_takes_its_device_with_it_and_teamspaces_hear_of_it(
    place: Place, laptop: Laptop
) -> None:
    """A laptop that is gone is cut off by signing out everywhere: its certificates would be good for a day otherwise, and renewed."""
    heard = place.hub.signals.changes()
    browser = place.browser()
    await browser.sign_in("ada@example.com")
    await browser.ask("POST", "/api/v1/auth/sign-out-everywhere")
    async with asyncio.timeout(30):
        while (changed := await anext(heard)) is None or (changed.kind, changed.id) != ("device", laptop.device):
            pass
    async with place.hub.database.reading() as session:
        assert (await session.scalars(select(Device))).one().revoked_at is not None


async def test_a_device_that_is_signed_in_twice_lives_until_the_last_end(place: Place, laptop: Laptop) -> None:
    browser = place.browser()
    await browser.sign_in("ada@example.com")
    first = laptop.access_token
    await laptop.sign_in(browser)
    assert (await laptop.ask("POST", "/api/v1/auth/logout", token=first)).status_code == 204
    assert await is_signed_in(laptop)
    assert (await laptop.ask("POST", "/api/v1/auth/logout")).status_code == 204

    assert not await is_signed_in(laptop)
    with pytest.raises(AssertionError, match="was revoked"):
        await laptop.sign_in(browser)
