"""Signing in a machine without a browser (RFC 8628): a person types the code, and sees whom they let in."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from tests.hub_databases import HubClock
from tests.hub_people import Browser, Laptop, Page, Place, place_of

from codezero.hub.context import Hub
from codezero.hub.signin import attempts, device_flow
from codezero.hub.storage.tables import Organization


@pytest.fixture
async def place(hub: Hub) -> AsyncIterator[Place]:
    async with place_of(hub) as made:
        yield made


async def begun(machine: Laptop) -> dict[str, Any]:
    answer = await machine.client.post(
        "/api/v1/auth/device-code", data={"client_id": "czctl", "device_name": machine.name}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def asked(machine: Laptop, codes: dict[str, Any]) -> httpx2.Response:
    return await machine.ask_token(grant_type=device_flow.GRANT, device_code=codes["device_code"])


async def typed(browser: Browser, code: str) -> Page:
    return await browser.submit(await browser.open("/device"), user_code=code)


@pytest.mark.capability("operation", "auth.machine")
async def test_a_machine_signs_in_by_a_code_that_a_person_types(place: Place, hub_clock: HubClock) -> None:
    browser = await place.owner()
    machine = place.laptop("build server", "203.0.113.5")
    codes = await begun(machine)
    assert (await asked(machine, codes)).json()["error"] == "authorization_pending"
    hub_clock.advance(timedelta(seconds=70))
    page = await typed(browser, codes["user_code"])
    assert "build server" in page.text
    assert "203.0.113.5" in page.text
    assert "1 min 10 s ago" in page.text
    assert "another address than yours" in page.text
    page = await browser.submit(page, answer="approve")
    assert "signed in" in page.text
    machine.keep(await asked(machine, codes))

    assert (await machine.ask("GET", "/api/v1/auth/me")).json()["device"]["name"] == "build server"
    assert {("signin.device-code", "ok"), ("signin.device", "ok")} <= set(await place.told())


async def test_the_answer_has_the_fields_of_the_rfc_and_no_link_with_the_code(place: Place) -> None:
    codes = await begun(place.laptop())

    assert codes["verification_uri"] == "https://hub.test/device"
    assert (codes["expires_in"], codes["interval"]) == (600, 5)
    assert "verification_uri_complete" not in codes
    assert len(codes["user_code"].replace("-", "")) == 8


@pytest.mark.parametrize(
    "form", [str.lower, lambda code: code.replace("-", ""), lambda code: f" {code.replace('-', ' ')} "]
)
async def test_how_the_code_is_typed_does_not_matter(place: Place, form: Any) -> None:
    browser, machine = await place.owner(), place.laptop()
    page = await typed(browser, form((await begun(machine))["user_code"]))

    assert page.status == 200
    assert "ada's laptop" in page.text
    assert "another address" not in page.text


async def test_a_machine_that_is_declined_is_told_so(place: Place) -> None:
    browser, machine = await place.owner(), place.laptop()
    codes = await begun(machine)
    await browser.submit(await typed(browser, codes["user_code"]), answer="deny")

    assert (await asked(machine, codes)).json()["error"] == "access_denied"
    assert ("signin.device-code", "denied") in await place.told()


async def test_whoever_asks_too_often_is_slowed_down(place: Place, hub_clock: HubClock) -> None:
    machine = place.laptop()
    codes = await begun(machine)
    errors = []
    for seconds in (0, 1, 6, 16, 15):
        hub_clock.advance(timedelta(seconds=seconds))
        errors.append((await asked(machine, codes)).json()["error"])

    assert errors == [
        "authorization_pending",
        "slow_down",
        "slow_down",
        "authorization_pending",
        "authorization_pending",
    ]


async def test_a_code_is_good_for_ten_minutes(place: Place, hub_clock: HubClock) -> None:
    browser, machine = await place.owner(), place.laptop()
    codes = await begun(machine)
    hub_clock.advance(device_flow.LIFETIME)

    assert (await asked(machine, codes)).json()["error"] == "expired_token"
    assert (await typed(browser, codes["user_code"])).status == 401


async def test_a_code_is_answered_once_and_redeemed_once(place: Place) -> None:
    browser, machine = await place.owner(), place.laptop()
    codes = await begun(machine)
    page = await typed(browser, codes["user_code"])
    await browser.submit(page, answer="approve")
    assert (await browser.submit(page, answer="deny")).status == 401
    machine.keep(await asked(machine, codes))

    assert (await asked(machine, codes)).json()["error"] == "invalid_grant"


async def test_only_whoever_is_signed_in_may_type_a_code(place: Place) -> None:
    await place.owner()
    page = await place.browser().open("/device")

    assert page.path == "/sign-in"


async def test_an_approval_needs_the_session_it_was_shown_to(place: Place) -> None:
    browser, machine = await place.owner(), place.laptop()
    codes = await begun(machine)
    page = await typed(browser, codes["user_code"])
    page.forms[0].fields["csrf"] = "guess"
    refused = await browser.submit(page, answer="approve")
    assert refused.status == 403
    elsewhere = await browser.submit(
        await typed(browser, codes["user_code"]), answer="approve", origin="https://evil.example"
    )
    assert elsewhere.status == 403

    assert (await asked(machine, codes)).json()["error"] == "authorization_pending"


async def test_codes_cannot_be_guessed(place: Place) -> None:
    browser = await place.owner()
    statuses = [(await typed(browser, f"BBBB-BBB{letter}")).status for letter in "BCDFGHJKLMN"]

    assert statuses == [401] * attempts.USER_CODE.burst + [429]


async def test_an_organization_turns_it_off_for_its_people(place: Place) -> None:
    browser, machine = await place.owner(), place.laptop()

    async def turn_off(session: Any) -> None:
        (await session.scalars(select(Organization))).one().settings = {"device_flow": False}

    await place.hub.database.run(turn_off)
    codes = await begun(machine)
    page = await typed(browser, codes["user_code"])

    assert page.status == 403
    assert "Acme does not allow" in page.text
    assert (await asked(machine, codes)).json()["error"] == "authorization_pending"


async def test_codes_are_not_handed_out_without_end(place: Place) -> None:
    machine = place.laptop()
    statuses = [
        (await machine.client.post("/api/v1/auth/device-code", data={"client_id": "czctl"})).status_code
        for _ in range(attempts.DEVICE_CODES.burst + 1)
    ]

    assert statuses == [200] * attempts.DEVICE_CODES.burst + [429]


async def test_another_client_gets_none(place: Place) -> None:
    answer = await place.laptop().client.post("/api/v1/auth/device-code", data={"client_id": "evil"})

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
