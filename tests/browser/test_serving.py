"""The GUI as a browser gets it from the Hub: it comes up, nothing that is not ours runs in it, and nobody else's page holds it."""

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Error, Page, Route, expect
from tests.browser.conftest import BrowsedHub, Browsing, Complaints, page_of_somebody_else

from codezero.testing.hub_process import OWNER

pytestmark = [pytest.mark.browser]

PAGES = ("/spaces", "/members", "/apikeys", "/devices", "/audit", "/settings")
# Run by a timer: what Playwright itself evaluates may do more than a page may.
EVAL = """() => new Promise((resolve) => setTimeout(() => {
  try { resolve(eval("'ran'")) } catch (error) { resolve(error.name) }
}))"""


@pytest.fixture
def elsewhere(hub: BrowsedHub) -> Iterator[str]:
    """A page of somebody else's that frames the GUI."""
    with page_of_somebody_else(f"<!doctype html><title>Prize</title><iframe src='{hub.url}/ui/'></iframe>") as port:
        yield f"http://127.0.0.1:{port}/"


def heading(page: Page) -> str:
    """The one heading of the page that is shown, once it is there."""
    shown = page.get_by_role("heading", level=1)
    expect(shown).to_have_count(1)
    return shown.inner_text()


def test_the_hub_s_address_leads_into_the_gui(page: Page, hub: BrowsedHub) -> None:
    page.goto("/")
    page.wait_for_url(re.compile(rf"/ui/o/{hub.organization}/spaces$"))

    assert heading(page) == "Teamspaces"
    assert page.evaluate("async () => (await (await fetch('/ui/app.json')).json()).served_by") == "hub"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_pages_come_up_in_both_colour_schemes(
    browse: Browsing, hub: BrowsedHub, scheme: Literal["light", "dark"]
) -> None:
    page = browse(hub.owner, scheme=scheme)
    shown = []
    for path in PAGES:
        page.goto(hub.address(path))
        shown.append(heading(page))
    page.goto(f"{hub.url}/ui/account")
    shown.append(heading(page))

    assert "Not here" not in shown
    assert len(set(shown)) == len(PAGES) + 1
    assert page.locator("html").get_attribute("data-mantine-color-scheme") == scheme


def test_styles_are_in_force(page: Page) -> None:
    """Those of files, and those that Mantine writes into the page: by the nonce of this very answer."""
    page.goto("/ui/account")
    heading(page)
    elements = page.locator("style[data-mantine-styles]")
    rules = elements.evaluate_all("(found) => found.map((one) => one.sheet?.cssRules.length ?? 0)")

    assert rules
    assert all(rules)
    assert page.evaluate("getComputedStyle(document.body).getPropertyValue('--mantine-color-body')") != ""
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px"


def test_an_address_is_there_again_after_a_reload(page: Page, hub: BrowsedHub) -> None:
    page.goto(hub.address("/members"))
    before = heading(page)
    page.reload()

    assert heading(page) == before
    assert page.url == hub.address("/members")


def test_an_address_that_is_none_says_so(page: Page, hub: BrowsedHub) -> None:
    page.goto(f"{hub.url}/ui/o/{hub.organization}/nothing/here")

    assert heading(page) == "Not here"


def test_changes_come_by_a_web_socket_of_the_hub(page: Page, hub: BrowsedHub) -> None:
    with page.expect_websocket() as opened:
        page.goto("/ui/")
    opened.value.wait_for_event("framereceived")

    assert opened.value.url.startswith(hub.url.replace("http:", "ws:") + "/api/v1/events")


def test_a_program_in_the_page_does_not_run(page: Page, complaints: Complaints) -> None:
    """Not even where somebody managed to get it into what the Hub answers (T35)."""

    def with_programs(route: Route) -> None:
        answer = route.fetch()
        added = "<script>window.ran = 'script'</script><img src='/none.png' onerror='window.ran = \"handler\"'>"
        route.fulfill(response=answer, body=answer.text().replace("<body>", f"<body>{added}"))

    complaints.expect(r"script-src.*inline")
    complaints.expect(r"404.*none\.png")
    page.route(re.compile(r"/ui/o/[^/]+/spaces$|/ui/$"), with_programs)
    page.goto("/ui/")
    heading(page)
    page.wait_for_function("document.querySelector('img[src=\"/none.png\"]').complete")

    assert page.evaluate("window.ran ?? null") is None


def test_a_style_without_the_nonce_is_not_applied(page: Page, complaints: Complaints) -> None:
    def with_style(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("</head>", "<style>h1 { opacity: 0 }</style></head>"))

    complaints.expect("style-src")
    page.route(re.compile(r"/ui/account$"), with_style)
    page.goto("/ui/account")
    heading(page)

    assert page.evaluate("getComputedStyle(document.querySelector('h1')).opacity") == "1"


def test_text_does_not_become_a_program(page: Page, complaints: Complaints) -> None:
    complaints.expect("TrustedScript|trusted-types-sink")
    page.goto("/ui/account")
    heading(page)

    assert page.evaluate(EVAL) == "EvalError"


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')",
        "document.body.innerHTML = '<b>no</b>'",
        "document.body.setAttribute('onclick', 'window.ran = 1')",
        "Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' })",
        "Object.assign(document.createElement('script'), { src: '/ui/assets/none.js' })",
        "Object.assign(document.createElement('iframe'), { srcdoc: '<p>no</p>' })",
        "trustedTypes.createPolicy('other', { createHTML: (text) => text })",
        "trustedTypes.createPolicy('default', { createHTML: (text) => text })",
    ],
)
def test_text_does_not_become_markup(page: Page, complaints: Complaints, attempt: str) -> None:
    """By Trusted Types, so also by no mistake of ours (T35)."""
    complaints.expect("Trusted|policy")
    page.goto("/ui/account")
    heading(page)

    with pytest.raises(Error, match=r"Trusted|[Pp]olicy"):
        page.evaluate(attempt)
    assert page.evaluate("window.ran ?? null") is None


def test_nothing_is_sent_to_or_loaded_from_elsewhere(page: Page, complaints: Complaints, elsewhere: str) -> None:
    complaints.expect("connect-src|Refused to connect")
    complaints.expect("img-src")
    # As Playwright sees it; whether it was sent, the policy decides after that.
    complaints.expect("request to another host")
    page.goto("/ui/account")
    heading(page)
    attempts = """async (url) => {
      const image = new Image();
      const shown = new Promise((resolve) => { image.onload = () => resolve("shown"); image.onerror = () => resolve("refused"); });
      image.src = url;
      const sent = await fetch(url, { mode: "no-cors" }).then(() => "sent", () => "refused");
      return [sent, await shown];
    }"""

    # By another name than that of the paired machine's port, to which the page may connect (ADR 17).
    assert page.evaluate(attempts, elsewhere.replace("127.0.0.1", "localhost")) == ["refused", "refused"]


def test_a_page_of_somebody_else_s_does_not_frame_it(browse: Browsing, complaints: Complaints, elsewhere: str) -> None:
    """Whoever is signed in could be made to click there on what they do not see."""
    complaints.expect(r"frame")
    complaints.expect(r"request to another host")
    page = browse(browse.hub.owner)
    page.goto(elsewhere)
    (frame,) = page.frames[1:]

    assert page.title() == "Prize"
    assert frame.url.startswith("chrome-error:")
    assert frame.locator("#root").count() == 0


@pytest.mark.capability("page", "auth.sign-in")
def test_a_stranger_signs_in_and_is_back_at_the_address(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    complaints.expect(r"401.*/api/v1/auth/me")
    page = browse()
    page.goto(hub.address("/members?q=olga%40example.com+%E2%9C%93"))
    page.wait_for_url("**/sign-in?return_to=*")
    page.get_by_label("E-mail address").fill(OWNER["email"])
    page.get_by_label("Password").fill(OWNER["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(hub.address("/members?q=*"))

    assert heading(page) == "Members"
    assert parse_qs(urlsplit(page.url).query) == {"q": ["olga@example.com ✓"]}


def test_whoever_is_invited_lands_in_the_gui(browse: Browsing, hub: BrowsedHub) -> None:
    made = hub.owner.ask(
        "POST", f"/organizations/{hub.organization}/invitations", {"email": "new@example.com", "role": "developer"}
    )
    page = browse()
    page.goto(made["link"])
    page.get_by_label("Your name").fill("Nele")
    page.get_by_label("Password").fill(OWNER["password"])
    page.get_by_role("button", name="Accept").click()
    page.wait_for_url(f"{hub.url}/ui/**")

    assert heading(page) == "Teamspaces"


def test_what_a_page_complains_of_is_heard(page: Page, complaints: Complaints) -> None:
    """Else the other tests of this folder would show nothing."""
    page.goto("/ui/account")
    heading(page)
    page.evaluate("() => { console.error('said'); setTimeout(() => { throw new Error('thrown') }) }")
    complaints.expect("console: said")
    complaints.expect("page error:.*thrown")
    page.wait_for_function("true")

    with pytest.raises(AssertionError, match="never"):
        Complaints([], ["never"]).check()
    with pytest.raises(AssertionError, match="surprise"):
        Complaints(["surprise"], []).check()
