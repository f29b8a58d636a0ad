"""People who come by a link: invited, or with a password that was forgotten."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.hub_databases import HubClock
from tests.hub_people import PASSWORD, Browser, Place, place_of

from codezero.hub.context import Hub
from codezero.hub.signin import forgotten
from codezero.model import problems
from codezero.model.problems import CodezeroError

FRESH = "another horse battery"


@pytest.fixture
async def place(hub: Hub) -> AsyncIterator[Place]:
    async with place_of(hub) as made:
        yield made


async def invited(owner: Browser, email: str = "bob@example.com", role: str = "developer") -> str:
    """The path of the link of an invitation."""
    organization = (await owner.client.get("/api/v1/auth/me")).json()["organizations"][-1]["id"]
    answer = await owner.ask(
        "POST", f"/api/v1/organizations/{organization}/invitations", {"email": email, "role": role}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["link"]).removeprefix(owner.hub.public_url)


async def test_somebody_new_accepts_an_invitation_and_is_signed_in(place: Place) -> None:
    link = await invited(await place.owner())
    browser = place.browser()
    page = await browser.open(link)
    assert "bob@example.com is invited to Acme as developer" in page.text
    page = await browser.submit(page, name="Bob", password=PASSWORD)
    assert "You are signed in as Bob" in page.text
    me = (await browser.client.get("/api/v1/auth/me")).json()

    assert [(one["name"], one["role"]) for one in me["organizations"]] == [("Acme", "developer")]
    assert (await place.browser().open(link)).status == 404, "once"
    assert (await place.browser().sign_in("bob@example.com")).status == 200


async def test_an_invitation_is_for_its_address(place: Place) -> None:
    """Whoever is signed in as somebody else does not take it over."""
    owner = await place.owner()
    link = await invited(owner)
    page = await owner.submit(await owner.open(link))

    assert page.status == 403
    assert "for another e-mail address" in page.text
    assert (await place.browser().open(link)).status == 200, "and it is still open"


async def test_somebody_who_is_here_already_signs_in_to_accept(place: Place) -> None:
    owner = await place.owner()
    bob = place.browser()
    await bob.submit(await bob.open(await invited(owner)), name="Bob", password=PASSWORD)
    answer = await bob.ask("POST", "/api/v1/organizations", {"name": "Other"})
    assert answer.status_code == 201, answer.text
    link = await invited(bob, "ada@example.com", "viewer")
    browser = place.browser()
    page = await browser.open(link)
    assert page.forms == []
    page = await browser.open(page.links["Sign in to accept"])
    page = await browser.submit(page, email="ada@example.com", password=PASSWORD)
    assert page.path == "/invitation"
    page = await browser.submit(page)
    me = (await browser.client.get("/api/v1/auth/me")).json()

    assert page.status == 200
    assert {one["name"]: one["role"] for one in me["organizations"]} == {"Acme": "owner", "Other": "viewer"}


async def test_a_form_from_elsewhere_accepts_nothing(place: Place) -> None:
    link = await invited(await place.owner())
    browser = place.browser()
    page = await browser.submit(await browser.open(link), name="Bob", password=PASSWORD, origin="https://evil.example")

    assert page.status == 403
    assert (await place.browser().open(link)).status == 200


async def test_a_link_that_whoever_runs_the_hub_made_sets_a_password(place: Place) -> None:
    await place.owner()
    before, laptop = place.browser(), place.laptop()
    await before.sign_in("ada@example.com")
    await laptop.sign_in(before)
    link = await forgotten.link(place.hub, "Ada@example.com")
    browser = place.browser()
    page = await browser.submit(await browser.open(link), password=FRESH)

    assert "You are signed in as Ada" in page.text
    assert (await before.client.get("/api/v1/auth/me")).status_code == 401
    assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 401
    assert (await place.browser().sign_in("ada@example.com")).status == 401
    assert (await place.browser().sign_in("ada@example.com", FRESH)).status == 200
    assert {("password.link", "ok"), ("password.reset", "ok")} <= set(await place.told())


async def test_the_link_is_good_once_and_for_an_hour(place: Place, hub_clock: HubClock) -> None:
    await place.owner()
    used, late = [await forgotten.link(place.hub, "ada@example.com") for _ in range(2)]
    browser = place.browser()
    page = await browser.submit(await browser.open(used), password="short")
    assert page.status == 400, "it is not used up by a password that is none"
    assert (await browser.submit(page, password=FRESH)).status == 200
    assert (await browser.submit(await browser.open(used), password=FRESH)).status == 401
    hub_clock.advance(timedelta(hours=1))

    assert (await browser.submit(await browser.open(late), password=FRESH)).status == 401


async def test_nobody_gets_a_link(place: Place) -> None:
    with pytest.raises(CodezeroError) as caught:
        await forgotten.link(place.hub, "nobody@example.com")

    assert caught.value.problem is problems.NOT_FOUND
