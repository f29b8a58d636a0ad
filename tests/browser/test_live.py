"""Pages stay current by themselves, say when they are not, and are again when the Hub is back."""

import re

import pytest
from playwright.sync_api import Page, expect
from tests.browser.conftest import PATIENCE_MS, BrowsedHub, Browsing, Complaints
from tests.browser.journeys import copied

pytestmark = [pytest.mark.browser]

expect.set_options(timeout=PATIENCE_MS)


def opened(page: Page, url: str) -> Page:
    """The page there, which hears what changes. From now on nobody reloads it."""
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_label("Loading")).to_have_count(0)
    is_live(page)
    page.evaluate("window.opened = true")
    return page


def is_live(page: Page) -> None:
    expect(page.get_by_role("banner").get_by_role("status")).to_have_text("Live")


def is_not_live(page: Page) -> None:
    expect(page.get_by_role("banner").get_by_role("status")).to_have_text("Not live")


def is_not_reloaded(page: Page) -> None:
    assert page.evaluate("window.opened === true")


def test_who_is_invited_is_seen_by_others(browse: Browsing, hub: BrowsedHub) -> None:
    looks = opened(browse(hub.person("Ida", "admin")), hub.address("/members?tab=invitations"))
    acts = opened(browse(hub.owner), hub.address("/members"))
    acts.get_by_role("button", name="Invite").click()
    dialog = acts.get_by_role("dialog", name="Invite somebody")
    dialog.get_by_label("E-mail address").fill("kim@example.com")
    dialog.get_by_role("button", name="Invite").click()

    expect(looks.get_by_role("table", name="Invitations").get_by_text("kim@example.com")).to_be_visible()
    is_not_reloaded(looks)
    acts.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("button", name="Copy the link").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    link = copied(acts)
    dialog.get_by_role("button", name="I have kept it").click()
    looks.get_by_role("tab", name=re.compile("^Members")).click()
    new = browse()
    new.goto(link)
    new.get_by_label("Your name").fill("Kim")
    new.get_by_label("Password").fill("correct horse battery staple")
    new.get_by_role("button", name="Accept").click()
    for page in (looks, acts):
        expect(page.get_by_role("table", name="Members").get_by_text("Kim", exact=True)).to_be_visible()
        is_not_reloaded(page)


def test_what_others_do_with_a_teamspace_is_seen(browse: Browsing, hub: BrowsedHub) -> None:
    looks = opened(browse(hub.person("Theo", "viewer")), hub.address("/spaces"))
    acts = opened(browse(hub.owner), hub.address("/spaces"))
    acts.get_by_role("button", name=re.compile("Add Teamspace|Create your first Teamspace")).click()
    acts.get_by_role("dialog").get_by_label("Name").fill("live")
    acts.get_by_role("dialog").get_by_role("button", name="Create").click()
    expect(looks.get_by_role("table", name="Teamspaces").get_by_text("live", exact=True)).to_be_visible()
    acts.get_by_role("dialog").get_by_role("button", name="Go to the Teamspace").click()
    looks.get_by_role("link", name="live", exact=True).click()
    expect(looks.get_by_role("heading", level=1)).to_have_text("live")
    acts.get_by_role("button", name="Rename").click()
    acts.get_by_role("dialog").get_by_label("Name").fill("lively")
    acts.get_by_role("dialog").get_by_role("button", name="Rename").click()

    expect(looks.get_by_role("heading", level=1)).to_have_text("lively")
    is_not_reloaded(looks)


def test_a_policy_that_somebody_saves_is_in_the_windows_of_others(browse: Browsing, hub: BrowsedHub) -> None:
    space = hub.owner.ask("POST", f"/organizations/{hub.organization}/spaces", {"name": "ruled"})["id"]
    looks = opened(browse(hub.person("Lea", "developer")), hub.address(f"/spaces/{space}/policy"))
    acts = opened(browse(hub.owner), hub.address(f"/spaces/{space}/policy"))
    editor = acts.get_by_role("textbox", name="Policy document")
    text = editor.input_value() + "\n// And no more.\n"
    editor.fill(text)
    acts.get_by_role("button", name="Save").click()
    acts.get_by_role("dialog").get_by_role("button", name="Save").click()

    expect(looks.get_by_role("textbox", name="Policy document")).to_have_value(text)
    expect(looks.get_by_text("Version 2 by Olga")).to_be_visible()
    is_not_reloaded(looks)


def test_whoever_becomes_something_else_is_offered_what_that_may(browse: Browsing, hub: BrowsedHub) -> None:
    """And no more what it may not."""
    page = opened(browse(hub.person("Nils", "viewer")), hub.address("/members"))
    invite = page.get_by_role("main").get_by_role("button", name="Invite")
    expect(invite).to_have_count(0)
    members = f"/organizations/{hub.organization}/members"
    user = next(one["user"] for one in hub.owner.ask("GET", members)["items"] if one["name"] == "Nils")
    hub.owner.ask("PATCH", f"{members}/{user}", {"role": "admin"})
    expect(invite).to_be_visible()
    hub.owner.ask("PATCH", f"{members}/{user}", {"role": "viewer"})

    expect(invite).to_have_count(0)
    is_not_reloaded(page)


def test_a_page_whose_hub_is_stopped_says_so_and_is_current_again_when_it_is_back(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    complaints.expect("ERR_|WebSocket")
    page = opened(browse(hub.owner), hub.address("/settings"))
    name, pages = page.get_by_role("textbox", name="Name"), page.get_by_role("navigation", name="Pages")
    before = name.input_value()
    hub.process.stop()
    is_not_live(page)
    expect(pages).to_contain_text(f"Organization {before}")
    expect(name).to_have_value(before)
    name.fill("Asked in vain")
    page.get_by_role("button", name="Rename").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server does not answer.")
    expect(alert).to_contain_text("CZ-GUI-001")
    expect(name).to_have_value("Asked in vain")

    hub.process.start()
    is_live(page)
    expect(name).to_have_value("Asked in vain")
    name.fill(before)
    changed = f"{before}, again"
    hub.owner.ask("PATCH", f"/organizations/{hub.organization}", {"name": changed})
    expect(name).to_have_value(changed)
    expect(pages).to_contain_text(f"Organization {changed}")
    is_not_reloaded(page)


def test_what_changed_while_the_hub_restarted_is_shown(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    """Nobody tells of it any more when the page hears again: it reads all anew."""
    complaints.expect("ERR_|WebSocket")
    page = opened(browse(hub.owner), hub.address("/members?tab=invitations"))
    hub.process.stop()
    is_not_live(page)
    # So that the page comes back after the change.
    page.route("**/api/v1/events/tickets", lambda route: route.abort())
    hub.process.start()
    invited = {"email": "while-away@example.com", "role": "viewer"}
    hub.owner.ask("POST", f"/organizations/{hub.organization}/invitations", invited)
    is_not_live(page)
    page.unroute("**/api/v1/events/tickets")

    is_live(page)
    expect(page.get_by_role("table", name="Invitations").get_by_text(invited["email"])).to_be_visible()
    is_not_reloaded(page)


def test_a_page_without_a_network_says_why_it_does_not_do_what_is_asked(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    page = opened(browse(hub.owner), hub.address("/settings"))
    name = page.get_by_role("textbox", name="Name")
    before = name.input_value()
    page.context.set_offline(True)
    page.wait_for_function("!navigator.onLine")
    name.fill("Asked in vain")
    page.get_by_role("button", name="Rename").click()
    # Whatever it says, it says at once.
    expect(page.get_by_role("alert")).to_contain_text("CZ-GUI-001", timeout=3000)
    expect(name).to_have_value("Asked in vain")
    complaints.expect("ERR_INTERNET_DISCONNECTED")

    page.context.set_offline(False)
    name.fill(before)
    changed = f"{before}, with a network"
    hub.owner.ask("PATCH", f"/organizations/{hub.organization}", {"name": changed})
    expect(name).to_have_value(changed)
    is_not_reloaded(page)
