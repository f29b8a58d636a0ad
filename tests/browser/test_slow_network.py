"""Pages over a slow network: they say that they load, and nothing is asked or done twice, however impatient somebody is."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, Request, expect
from tests.browser.conftest import PATIENCE_MS, BrowsedHub, Browsing
from tests.browser.steps import shown

pytestmark = [pytest.mark.browser]

expect.set_options(timeout=PATIENCE_MS)

# As by a phone far from everything.
LATENCY_MS: Final = 800
BYTES_A_SECOND: Final = 200_000
# The page, and what it shows when it has loaded.
PAGES: Final = (
    ("Members", "table", "Members"),
    ("API keys", "heading", "No API keys yet"),
    ("Devices", "heading", "No devices yet"),
    ("Audit", "table", "Audit entries, the latest first"),
    ("Settings", "textbox", "Name"),
)


@dataclass
class Traffic:
    """What a page asks the Hub for, and what of it is asked again while it is under way."""

    sent: list[str] = field(default_factory=list[str])
    twice: list[str] = field(default_factory=list[str])
    _under_way: Counter[str] = field(default_factory=Counter[str])

    def watch(self, page: Page) -> None:
        def begins(request: Request) -> None:
            if "/api/" not in request.url:
                return
            asked = f"{request.method} {request.url}"
            if self._under_way[asked]:
                self.twice.append(asked)
            self._under_way[asked] += 1
            self.sent.append(asked)

        def ends(request: Request) -> None:
            self._under_way[f"{request.method} {request.url}"] -= 1

        page.on("request", begins)
        page.on("requestfinished", ends)
        page.on("requestfailed", ends)

    def changes(self, path: str) -> list[str]:
        """What changes something there."""
        return [one for one in self.sent if not one.startswith("GET ") and path in one]


def slow_down(page: Page) -> None:
    session: Any = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"latency": LATENCY_MS, "downloadThroughput": BYTES_A_SECOND, "uploadThroughput": BYTES_A_SECOND}
    session.send("Network.emulateNetworkConditions", {"offline": False, **slow})


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def slow(browse: Browsing, hub: BrowsedHub, traffic: Traffic) -> Page:
    """The owner's page, on the Teamspaces; from now on its network is slow."""
    page = browse(hub.owner)
    shown(page, hub.address("/spaces"), "Teamspaces")
    page.wait_for_load_state("networkidle")
    slow_down(page)
    traffic.watch(page)
    return page


def test_pages_say_that_they_load_and_ask_for_each_thing_once(slow: Page, traffic: Traffic) -> None:
    for link, role, name in PAGES:
        slow.get_by_role("navigation", name="Pages").get_by_role("link", name=link, exact=True).click()
        expect(slow.get_by_label("Loading").first).to_be_visible()
        expect(slow.get_by_role(role, name=name).first).to_be_visible()  # type: ignore[arg-type]
        expect(slow.get_by_label("Loading")).to_have_count(0)
        expect(slow.get_by_role("heading", level=1)).to_have_text(link)

    assert traffic.sent
    assert not traffic.twice


def test_a_page_that_is_opened_over_a_slow_network_comes_up(browse: Browsing, hub: BrowsedHub) -> None:
    page = browse(hub.owner)
    slow_down(page)
    # All of the programs come, too, so it takes longer than a page does.
    page.goto(hub.address("/members"), wait_until="commit", timeout=120_000)
    expect(page.get_by_label("Loading").first).to_be_visible(timeout=120_000)

    expect(page.get_by_role("table", name="Members")).to_be_visible(timeout=120_000)
    expect(page.get_by_label("Loading")).to_have_count(0)


def make_space(page: Page, hub: BrowsedHub) -> Locator:
    page.get_by_role("button", name="Create your first Teamspace").or_(
        page.get_by_role("button", name="Add Teamspace")
    ).first.click()
    page.get_by_role("dialog").get_by_label("Name").fill("impatient")
    return page.get_by_role("dialog").get_by_role("button", name="Create")


def make_account(page: Page, hub: BrowsedHub) -> Locator:
    page.goto(hub.address("/apikeys?tab=accounts"))
    page.get_by_role("button", name="New service account").click()
    page.get_by_role("dialog").get_by_label("Name").fill("impatient")
    return page.get_by_role("dialog").get_by_role("button", name="Make it")


def make_key(page: Page, hub: BrowsedHub) -> Locator:
    page.goto(hub.address("/apikeys"))
    page.get_by_role("button", name="New API key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("impatient key")
    return page.get_by_role("dialog").get_by_role("button", name="Make the key")


def invite(page: Page, hub: BrowsedHub) -> Locator:
    page.goto(hub.address("/members"))
    page.get_by_role("button", name="Invite").click()
    page.get_by_role("dialog").get_by_label("E-mail address").fill("impatient@example.com")
    return page.get_by_role("dialog").get_by_role("button", name="Invite")


@pytest.mark.parametrize(
    ("begins", "path", "what", "how"),
    [
        (make_space, "/spaces", "name", "clicks"),
        (make_account, "/service-accounts", "name", "keys"),
        (make_key, "/apikeys", "name", "clicks"),
        (invite, "/invitations", "email", "keys"),
    ],
)
def test_whoever_clicks_twice_does_it_once(
    slow: Page,
    hub: BrowsedHub,
    traffic: Traffic,
    begins: Callable[[Page, BrowsedHub], Locator],
    path: str,
    what: str,
    how: str,
) -> None:
    def found() -> int:
        listed = hub.owner.ask("GET", f"/organizations/{hub.organization}{path}")["items"]
        return sum(str(one[what]).startswith("impatient") for one in listed)

    for one in hub.owner.ask("GET", f"/organizations/{hub.organization}{path}")["items"]:
        hub.owner.ask("DELETE", f"/organizations/{hub.organization}{path}/{one['id']}")
    button = begins(slow, hub)
    if how == "clicks":
        # Also after it says that it is under way, which takes no pointer.
        button.dispatch_event("click")
        button.dispatch_event("click")
    else:
        field = slow.get_by_role("dialog").get_by_role("textbox").first
        field.press("Enter")
        field.press("Enter")
    expect(slow.locator("button[data-loading]")).to_have_count(1)
    expect(slow.locator("button[data-loading]")).to_have_count(0)

    assert len(traffic.changes(path)) == 1, traffic.changes(path)
    assert found() == 1
