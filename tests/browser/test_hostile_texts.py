"""Texts that somebody else wrote are shown as texts, whatever they are (T35): two hundred attempts by every field of the API that takes them."""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Dialog, Page, Playwright, expect
from tests.browser import scene
from tests.browser.conftest import PASSWORD, BrowsedHub, Browsing
from tests.browser.journeys import Chromiums
from tests.lab.conftest import start

from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser as Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

RUN: Final = "window.hostile=1"
# What ends the place that a text stands in, if somebody had put it into markup or a program as it is.
ENDINGS: Final = ("", '">', "'>", "</span>", "--></style></title></textarea>", "`};", "\\u003c/script>", "]]>")
MARKUP: Final = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<iframe src='javascript:parent.{RUN}'>",
    f"<details open ontoggle={RUN}>",
    f"<input autofocus onfocus={RUN}>",
    f"<body onpageshow={RUN}>",
    f"<math><mtext></form><mglyph><style><img src=x onerror={RUN}>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'>",
    f"<template><script>{RUN}</script></template>",
    f"<a href='javascript:{RUN}'>click</a>",
    "<base href='https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<form action='https://evil.example/'><button>Sign in</button></form>",
    "<object data='https://evil.example/x.swf'></object>",
    "<style>*{background:url(https://evil.example/x)}</style>",
    "<img src='https://evil.example/pixel.png'>",
    f"<x-y is=z style=animation-name:a onanimationstart={RUN}>",
    f"&lt;img src=x onerror={RUN}&gt;",
)
OTHERS: Final = (
    f"javascript:{RUN}",
    f"data:text/html,<script>parent.{RUN}</script>",
    f"${{{RUN}}}",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"';{RUN};//",
    f'";{RUN};//',
    "__proto__",
    "constructor",
    "toString",
    "undefined",
    "NaN",
    "../../../../etc/passwd",
    "//evil.example/x",
    "'; DROP TABLE users; --",
    "=cmd|' /C calc'!A0",
    "%3Cscript%3E",
    "a" * 190,
    "W" * 190,
    "👩‍👩‍👧‍👧" * 12,
    "مرحبا بالعالم",
    "שלום",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "﷽﷽﷽",
    "-1",
)
PAYLOADS: Final = tuple(
    dict.fromkeys([*OTHERS, *(f"{ending}{markup}"[:190] for ending, markup in itertools.product(ENDINGS, MARKUP))])
)
# Nothing of these comes from our own pages.
FOREIGN: Final = """() => [...document.querySelectorAll(
  "iframe, object, embed, base, math, template, noscript p, form[action], a[href^='javascript:'], a[href*='evil.example'], [onerror], [onload], [onfocus], [ontoggle]"
), ...[...document.images].filter((one) => !new URL(one.src).pathname.startsWith("/ui/")), ...[...document.scripts].filter((one) => !one.src)]
  .map((one) => one.outerHTML.slice(0, 200))"""


def taken(owner: Person, method: str, path: str, body: dict[str, Any]) -> Any:
    """What the Hub answers; None where it does not take the text."""
    try:
        return owner.ask(method, path, body)
    except CodezeroError:
        return None


@pytest.fixture(scope="module")
def attacked(hub: BrowsedHub) -> dict[str, int]:
    """How many of the texts each field has taken."""
    own, owner = f"/organizations/{hub.organization}", hub.owner
    space = owner.ask("POST", f"{own}/spaces", {"name": "shop"})["id"]
    policy = owner.ask("GET", f"{own}/spaces/{space}/policy")["text"]
    counts = {
        "account": 0,
        "key": 0,
        "comment": 0,
        "renamed": 0,
        "organization": 0,
        "invited": 0,
        "person": 0,
    }

    def attempt(field: str, method: str, path: str, body: dict[str, Any]) -> Any:
        answer = taken(owner, method, path, body)
        counts[field] += answer is not None
        return answer

    for text in PAYLOADS:
        account = attempt("account", "POST", f"{own}/service-accounts", {"name": text, "role": "ci"})
        if account is not None:
            attempt("key", "POST", f"{own}/apikeys", {"name": text, "service_account": account["id"]})
        change = {"text": f"{policy}\n// {text}\n", "comment": text}
        attempt("comment", "PUT", f"{own}/spaces/{space}/policy", change)
        attempt("renamed", "PATCH", own, {"name": text})
        address = re.sub(r"[\s@]", "", text)[:60]
        attempt("invited", "POST", f"{own}/invitations", {"email": f"{address}@evil.example", "role": "viewer"})
    for number, text in enumerate(PAYLOADS[:: len(PAYLOADS) // 12]):
        invited = {"email": f"person{number}@example.com", "role": "developer"}
        link = owner.ask("POST", f"{own}/invitations", invited)["link"]
        person = Person(hub.process.endpoint)
        person.accept_invitation(link, name=text, password=PASSWORD)
        counts["person"] += 1
        attempt("organization", "POST", "/organizations", {"name": text})
    return counts


@pytest.fixture
def looking(browse: Browsing, hub: BrowsedHub, attacked: dict[str, int]) -> Iterator[Page]:
    """The owner's page; whatever ran in it, or came into it as markup, fails the test."""
    page = browse(hub.owner)
    dialogs: list[str] = []

    def opened(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", opened)
    yield page
    assert page.evaluate("window.hostile ?? null") is None
    assert page.evaluate(FOREIGN) == []
    assert dialogs == []


def test_the_api_takes_texts_of_all_kinds(attacked: dict[str, int]) -> None:
    """Else the other tests would look at nothing."""
    assert len(PAYLOADS) >= 200
    assert min(attacked[name] for name in ("account", "key", "comment", "renamed", "invited")) >= 190, attacked
    assert attacked["person"] >= 12


@pytest.mark.parametrize(
    ("path", "is_list"),
    [
        ("/spaces", False),
        ("/members", True),
        ("/members?tab=invitations", True),
        ("/apikeys", True),
        ("/apikeys?tab=accounts", True),
        ("/audit", True),
        ("/settings", False),
        ("/spaces/SPACE", False),
        ("/spaces/SPACE/policy", False),
        ("/spaces/SPACE/policy?tab=versions", True),
        ("/spaces/SPACE/policy?tab=simulator", False),
    ],
)
def test_nothing_of_it_runs_on_any_page(looking: Page, hub: BrowsedHub, path: str, is_list: bool) -> None:
    space = hub.owner.ask("GET", f"/organizations/{hub.organization}/spaces")["items"][0]["id"]
    looking.goto(hub.address(path.replace("SPACE", space)))
    expect(looking.get_by_role("heading", level=1)).to_have_count(1)
    expect(looking.get_by_label("Loading")).to_have_count(0)
    if is_list:
        rows = looking.get_by_role("table").locator("[data-index], tbody tr")
        expect(rows.first).to_be_visible()
        through_all(looking)


def through_all(page: Page) -> None:
    """Scroll to the end of every list, a window at a time, with each look a moment to run in."""
    step = """async () => {
      const lists = [...document.querySelectorAll("*")].filter((one) => one.scrollHeight > one.clientHeight + 20 && one.clientHeight > 100);
      for (const list of lists)
        for (let at = 0; at < Math.min(list.scrollHeight, 12000); at += list.clientHeight * 0.8) {
          list.scrollTop = at;
          await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }
      return lists.length;
    }"""
    page.evaluate(step)


def test_a_text_is_shown_as_it_was_written(looking: Page, hub: BrowsedHub) -> None:
    """Letter by letter, and found by it."""
    text = f'">{MARKUP[1]}'
    looking.goto(hub.address("/members"))
    looking.get_by_role("textbox", name="Find by name or address").fill(text)

    expect(looking.get_by_role("table").get_by_text(text, exact=True).first).to_be_visible()


def test_nothing_of_it_runs_in_dialogs_and_messages(looking: Page, hub: BrowsedHub) -> None:
    """Where a text is put into a sentence: a question before something is done, and what is said afterwards."""
    looking.goto(hub.address("/apikeys"))
    row = looking.get_by_role("table").locator("[data-index], tbody tr").filter(has_text="onerror").first
    row.get_by_role("button", name="Revoke").click()
    dialog = looking.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Revoke").click()
    expect(dialog).to_have_count(0)


def test_nothing_of_it_runs_for_those_who_have_such_names(
    browse: Browsing, hub: BrowsedHub, attacked: dict[str, int]
) -> None:
    """In the head of every page, and in the Hub's own forms."""
    link = hub.owner.ask(
        "POST", f"/organizations/{hub.organization}/invitations", {"email": "mallory@example.com", "role": "admin"}
    )["link"]
    page = browse()
    page.goto(link)
    page.get_by_label("Your name").fill(MARKUP[0])
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("heading", name="Teamspaces", level=1)).to_be_visible()
    page.get_by_role("button", name=f"You: {MARKUP[0]}").click()
    expect(page.get_by_role("menu").get_by_text(MARKUP[0])).to_be_visible()
    for path in ("/sign-in", "/device", "/ui/account"):
        page.goto(path)
        expect(page.get_by_text(MARKUP[0]).first).to_be_visible()
        assert page.evaluate("window.hostile ?? null") is None
        assert page.evaluate("document.scripts.length ? [...document.scripts].every((one) => one.src) : true")


def test_what_would_be_noticed_is_noticed(browse: Browsing, hub: BrowsedHub) -> None:
    """Else the other tests would show nothing: a page that puts such a text into itself as markup is found out."""
    page = browse(hub.owner)
    page.route("**/*", lambda route: route.fulfill(body="<h1></h1>", content_type="text/html"))
    page.goto(f"{hub.url}/ui/account")
    page.evaluate("(text) => { document.querySelector('h1').innerHTML = text }", MARKUP[1])
    page.wait_for_function("window.hostile === 1")

    assert len(page.evaluate(FOREIGN)) > 0


@pytest.mark.lab
@pytest.mark.netns
@pytest.mark.nft
def test_a_reason_is_told_as_it_was_written(
    state_home: Path, chromium_program: Path, playwright: Playwright, tmp_path: Path
) -> None:
    """From whoever ends a variant to its owner's machine, through Hub, Teamspace and agent, and into everybody's activity and the audit."""
    reason = f"{MARKUP[1]}{MARKUP[2]}{OTHERS[3]}"
    with start(name=f"reason-{os.getpid()}", hub="sqlite") as sandbox, ExitStack() as ending:
        looked_at = scene.set_up(sandbox, ending)
        browsers = Chromiums(playwright, chromium_program, sandbox, tmp_path)
        ending.callback(browsers.close)
        admin, owner = looked_at.of_hub(browsers), looked_at.of_console(browsers)
        at_hub, at_console = f"{looked_at.hub.url}/ui", f"{looked_at.console.origin}/ui"
        scene.shown(admin, at_hub + looked_at.path(scene.HUB_PAGES["service"]))
        variant = admin.get_by_role("article", name="Variant of dev1")
        variant.get_by_role("button", name="Terminate").click()
        dialog = admin.get_by_role("dialog", name="End the variant of dev1?")
        dialog.get_by_role("textbox").fill(reason)
        dialog.get_by_role("button", name="Terminate").click()
        expect(variant).to_have_count(0)
        for page, address in (
            (owner, f"{at_console}/machine"),
            (owner, f"{at_console}/machine/activity"),
            (admin, at_hub + looked_at.path("/o/ORG/spaces/SPACE/activity")),
        ):
            scene.shown(page, address)
            expect(page.get_by_text(MARKUP[1]).first).to_be_visible()
            assert page.evaluate("window.hostile ?? null") is None
            assert page.evaluate(FOREIGN) == []
            page.goto("about:blank")
        browsers.complaints.check()
