"""The GUI at the Hub: who gets it, where signing in leads, and what is said where none is built."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.hub_people import PASSWORD, Browser, Page, Place, place_of

from codezero.hub.context import Hub
from codezero.hub.signin import browser as signin_browser
from codezero.hub.signin import first_owner, forgotten


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin_browser, "REFUSED_AFTER", 0.0)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "built" / "assets").mkdir(parents=True)
    (tmp_path / "built" / "index.html").write_text("<!doctype html><p>The GUI</p>")
    (tmp_path / "built" / "assets" / "app-1a2b.js").write_text("start();\n" * 500)
    return tmp_path / "built"


@pytest.fixture
async def place(hub: Hub, built: Path) -> AsyncIterator[Place]:
    async with place_of(hub, gui=built) as made:
        yield made


async def signed_in_from(place: Place, back: str) -> tuple[Browser, Page]:
    """Somebody who has opened the sign-in page with this `return_to`, and signs in."""
    await place.owner()
    browser = place.browser()
    answer = await browser.client.get("/sign-in", params={"return_to": back})
    return browser, await browser.submit(Page(answer), email="ada@example.com", password=PASSWORD)


async def test_anybody_gets_the_gui_and_it_says_where_it_runs(place: Place) -> None:
    browser = place.browser()
    page = await browser.open("/")
    told = (await browser.client.get("/ui/app.json")).json()

    assert (page.status, page.path, page.text) == (200, "/ui/", "The GUI")
    assert told["served_by"] == "hub"
    assert told["hub"] == place.hub.public_url


async def test_its_headers_are_those_of_the_gui_with_the_hub_s(place: Place) -> None:
    answer = await place.browser().client.get("/ui/spaces")

    assert "trusted-types default" in answer.headers["content-security-policy"]
    assert answer.headers.get_list("content-security-policy") == [answer.headers["content-security-policy"]]
    assert answer.headers["cache-control"] == "no-store"
    assert "max-age=" in answer.headers["strict-transport-security"]
    assert answer.headers["x-request-id"]


async def test_files_are_compressed_and_not_sent_twice(place: Place) -> None:
    client = place.browser().client
    first = await client.get("/ui/assets/app-1a2b.js", headers={"Accept-Encoding": "gzip"})
    again = await client.get(
        "/ui/assets/app-1a2b.js", headers={"Accept-Encoding": "gzip", "If-None-Match": first.headers["etag"]}
    )

    assert first.headers["content-encoding"] == "gzip"
    assert first.text == "start();\n" * 500
    assert "immutable" in first.headers["cache-control"]
    assert (again.status_code, again.content) == (304, b"")


async def test_a_missing_file_is_none(place: Place) -> None:
    answer = await place.browser().client.get("/ui/assets/other.js")

    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/ui/..%2f..%2fetc/passwd", "/ui/%00", "/ui/%5c.."])
async def test_paths_that_mean_two_things_are_refused(place: Place, path: str) -> None:
    answer = await place.browser().client.get(path)

    assert answer.status_code == 400


async def test_the_first_owner_lands_in_the_gui(place: Place) -> None:
    link = await first_owner.link(place.hub)
    assert link is not None
    browser = place.browser()
    page = await browser.submit(
        await browser.open(link), email="ada@example.com", name="Ada", password=PASSWORD, organization="Acme"
    )

    assert page.path == "/ui/"


async def test_whoever_is_invited_lands_in_the_gui_new_or_known(place: Place) -> None:
    owner = await place.owner()
    (organization,) = (await owner.ask("GET", "/api/v1/organizations")).json()["items"]
    (other,) = [(await owner.ask("POST", "/api/v1/organizations", {"name": "Other"})).json()]

    async def link(to: str) -> str:
        made = await owner.ask(
            "POST", f"/api/v1/organizations/{to}/invitations", {"email": "bob@example.com", "role": "developer"}
        )
        return made.json()["link"]

    bob = place.browser()
    new = await bob.submit(await bob.open(await link(organization["id"])), name="Bob", password=PASSWORD)
    known = await bob.submit(await bob.open(await link(other["id"])))

    assert (new.path, known.path) == ("/ui/", "/ui/")


async def test_a_new_password_leads_to_the_gui(place: Place) -> None:
    await place.owner()
    link = await forgotten.link(place.hub, "ada@example.com")
    browser = place.browser()
    page = await browser.submit(await browser.open(link), password="another horse battery")

    assert page.path == "/ui/"


@pytest.mark.parametrize(
    "back",
    [
        "/ui/",
        "/ui/spaces",
        "/ui/spaces/01JQ0000000000000000000000/catalog",
        "/ui/catalog?q=core&kind=%22service%22&page=2",
        "/ui/members/ada@example.com/",
        "/ui/catalog?rules=*.shop,!core.shop",
        "/device",
    ],
)
async def test_signing_in_leads_back_to_where_one_was(place: Place, back: str) -> None:
    browser, page = await signed_in_from(place, back)

    assert browser.elsewhere is None
    assert page.path == back.partition("?")[0]


@pytest.mark.parametrize(
    "back",
    [
        "/ui//evil.example",
        "/ui/../sign-out",
        "/ui/..",
        "/ui/%2e%2e/api/v1/auth/me",
        "/ui/.%2E/device",
        "/ui/a/%2E%2e/b",
        "/ui/\\evil.example",
        "/ui/a\r\nSet-Cookie: x=y",
        "/ui/\u202ecatalog",
        "/ui/#code=1",
        "/ui/a?b#c",
        "/ui",
        "/uiz",
        "//ui/",
        "https://hub.test.evil.example/ui/",
        "/",
        "",
        "/ui/" + "a" * 301,
        "/ui/" + "a/" * 11,
    ],
)
async def test_signing_in_leads_nowhere_else(place: Place, back: str) -> None:
    await place.owner()
    browser = place.browser()
    form = await browser.open("/sign-in")
    form.forms[0].fields["return_to"] = back
    page = await browser.submit(form, email="ada@example.com", password=PASSWORD)

    assert browser.elsewhere is None
    assert page.path == "/ui/"


async def test_the_sign_in_page_leads_on_whoever_is_signed_in(place: Place) -> None:
    owner = await place.owner()

    assert (await owner.open("/sign-in")).links["Open Codezero"] == "/ui/"


async def test_without_a_gui_it_is_said_how_there_will_be_one(hub: Hub) -> None:
    async with place_of(hub) as place:
        owner = await place.owner()
        pages = [await owner.open(path) for path in ("/", "/ui/", "/ui/spaces", "/ui/assets/app.js")]
        signed_in = await owner.open("/sign-in")

    assert [page.status for page in pages] == [503] * 4
    assert all("make gui" in page.text and page.links["sign in"] == "/sign-in" for page in pages)
    assert "Open Codezero" not in signed_in.links
