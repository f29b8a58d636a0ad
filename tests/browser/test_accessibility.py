"""Every page for those who do not see it, or see little, or have no pointer: the rules of axe in both colour schemes, and the catalog by keyboard alone."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, Playwright, expect
from tests.browser import scene
from tests.browser.journeys import Chromiums
from tests.browser.scene import CONSOLE_PAGES, FORMS, HUB_PAGES, Scene, Scheme, shown
from tests.lab.conftest import start

from codezero.sandbox import layout
from codezero.testing.laptop import SAMPLE

pytestmark = [
    pytest.mark.lab,
    pytest.mark.netns,
    pytest.mark.nft,
    pytest.mark.browser,
    pytest.mark.timeout(300),
]

AXE: Final = Path(__file__).parent.parent.parent / "gui" / "node_modules" / "axe-core" / "axe.min.js"
RUN: Final = """axe.run(document, { resultTypes: ["violations"] }).then((found) => JSON.stringify(found.violations.map((one) => ({
  rule: one.id,
  impact: one.impact,
  where: one.nodes.map((node) => `${node.target.join(" ")}: ${node.failureSummary} ${node.html.slice(0, 200)}`),
}))))"""


@pytest.fixture(scope="module")
def looked_at(state_home: Path) -> Iterator[Scene]:
    with start(name=f"access-{os.getpid()}", hub="sqlite") as running, ExitStack() as ending:
        yield scene.set_up(running, ending)


@pytest.fixture(scope="module")
def browser_in(
    looked_at: Scene, chromium_program: Path, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chromiums]:
    chromiums = Chromiums(playwright, chromium_program, looked_at.sandbox, tmp_path_factory.mktemp("browsers"))
    yield chromiums
    chromiums.close()
    chromiums.complaints.check()


def findings(page: Page) -> list[dict[str, Any]]:
    """What axe says of the page as it is now, as far as it keeps people from using it."""
    # Not as a part of the page, whose policy lets nobody in.
    session: Any = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
    told = session.send("Runtime.evaluate", {"expression": RUN, "awaitPromise": True, "returnByValue": True})
    session.detach()
    assert "exceptionDetails" not in told, told
    found: list[dict[str, Any]] = json.loads(told["result"]["value"])
    return [one for one in found if one["impact"] in {"serious", "critical"}]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("served_by", ["hub", "console", "stranger"])
def test_no_page_keeps_people_out(looked_at: Scene, browser_in: Chromiums, served_by: str, scheme: Scheme) -> None:
    match served_by:
        case "hub":
            page, base, pages = looked_at.of_hub(browser_in, scheme=scheme), f"{looked_at.hub.url}/ui", HUB_PAGES
        case "console":
            page, pages = looked_at.of_console(browser_in, scheme=scheme), CONSOLE_PAGES
            base = f"{looked_at.console.origin}/ui"
        case _:
            page, base, pages = browser_in(layout.LAPTOP, scheme=scheme), looked_at.hub.url, FORMS
    found: dict[str, list[dict[str, Any]]] = {}
    for name, path in pages.items():
        shown(page, base + looked_at.path(path))
        if serious := findings(page):
            found[name] = serious
    page.context.close()

    assert not found, json.dumps(found, indent=1)


def test_axe_finds_what_is_wrong(looked_at: Scene, browser_in: Chromiums) -> None:
    """Else the test above would show nothing."""
    page = browser_in(layout.LAPTOP)
    page.goto(f"{looked_at.hub.url}/sign-in")
    page.evaluate("document.querySelector('label[for=email]').remove()")
    found = findings(page)
    page.context.close()

    assert [one["rule"] for one in found] == ["label"]


def test_the_catalog_is_used_by_keyboard_alone(looked_at: Scene, browser_in: Chromiums) -> None:
    page = looked_at.of_console(browser_in)
    shown(page, looked_at.console.origin + looked_at.path("/ui/o/ORG/spaces/SPACE"))
    keys = page.keyboard
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()

    keys.press("/")
    expect(page.get_by_placeholder("Go to a page or Teamspace")).to_be_focused()
    keys.type("Catalog")
    expect(page.get_by_role("button", name="Catalog").first).to_be_visible()
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Catalog", level=1)).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)

    keys.press("f")
    expect(page.get_by_role("textbox", name="Filter services")).to_be_focused()
    keys.type("project-core")
    rows = page.get_by_role("table", name="Services").locator("[data-index]")
    expect(rows).to_have_count(1)
    keys.press("ArrowDown")
    expect(rows.first).to_be_focused()
    keys.press("Enter")
    drawer = page.get_by_role("dialog", name=f"{SAMPLE}/sample-project-core")
    expect(drawer).to_be_visible()
    is_inside = "document.querySelector('[role=dialog]').contains(document.activeElement)"
    page.wait_for_function(is_inside)
    for _ in range(30):
        keys.press("Tab")
        assert page.evaluate(is_inside), "the focus leaves the dialog"
    keys.press("Escape")
    expect(drawer).to_have_count(0)
    expect(rows.first).to_be_focused()
    page.context.close()
