"""The catalog of a Teamspace with 10,000 services: few of them are in the document, and all are in reach."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from tests.browser.conftest import PATIENCE_MS, BrowsedHub
from tests.browser.orchestrator import Orchestrator, orchestrator

from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef

pytestmark = [pytest.mark.browser]

expect.set_options(timeout=PATIENCE_MS)

MANY: Final = 10_000
MOST_ROWS: Final = 80
NAMESPACES: Final = 40
# Of the simulator's questions: how many are answered here, and how many it has under way.
ANSWERED: Final = 4
AT_ONCE: Final = 4
MAY: Final = re.compile(r"/can-i$")
# How long tasks kept the page from answering, for whoever reads the output; no test is about that.
WATCH_TASKS: Final = """() => {
  window.tasks = [];
  new PerformanceObserver((list) => { for (const one of list.getEntries()) window.tasks.push(one.duration) })
    .observe({ type: "longtask" });
}"""
SCROLL: Final = """async (body) => {
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  let most = 0;
  for (let step = 0; step <= 120; step++) {
    body.scrollTop = (body.scrollHeight - body.clientHeight) * step / 120;
    await frame();
    most = Math.max(most, body.querySelectorAll("[data-index]").length);
  }
  return most;
}"""


def service(number: int) -> Service:
    """One of many; their order is that of their numbers."""
    ref = ServiceRef(f"team-{number * NAMESPACES // MANY:02}", f"service-{number:05}")
    return Service(ref, ServiceKind.CLUSTER_IP, (ServicePort(8080, name="http"),), ready=2, total=2)


@pytest.fixture(scope="module")
def teamspace(hub: BrowsedHub) -> Iterator[Orchestrator]:
    with orchestrator(hub, "many") as made:
        made.has([service(number) for number in range(MANY)])
        yield made


@pytest.fixture
def table(page: Page, hub: BrowsedHub, teamspace: Orchestrator) -> Locator:
    """The catalog, with all that there is."""
    page.goto(hub.address(f"/spaces/{teamspace.space}/catalog"))
    table = page.get_by_role("table", name="Services")
    expect(table).to_have_attribute("aria-rowcount", str(MANY + 1))
    return table


def rows(table: Locator) -> Locator:
    """Those that are in the document."""
    return table.locator("[data-index]")


def test_few_rows_are_in_the_document_wherever_one_looks(page: Page, table: Locator) -> None:
    body = table.get_by_role("rowgroup").last
    for part, number in ((0.0, 0), (0.5, MANY // 2), (1.0, MANY - 1)):
        body.evaluate("(body, part) => { body.scrollTop = (body.scrollHeight - body.clientHeight) * part }", part)
        expect(rows(table).filter(has_text=f"service-{number:05}")).to_be_in_viewport()
        assert rows(table).count() <= MOST_ROWS

    page.evaluate(WATCH_TASKS)
    assert body.evaluate(SCROLL) <= MOST_ROWS
    tasks: list[float] = page.evaluate("window.tasks")
    print(
        f"\nwhile {MANY:,} services are scrolled: {len(tasks)} long tasks, the longest {max(tasks, default=0):.0f} ms"
    )


def test_one_of_many_is_found(page: Page, table: Locator) -> None:
    page.get_by_role("textbox", name="Filter services").fill("service-07777")
    expect(rows(table)).to_have_count(1)
    expect(rows(table)).to_contain_text(service(7777).ref.namespace)
    rows(table).click()

    expect(page.get_by_role("dialog", name=str(service(7777).ref))).to_be_visible()


def test_the_keyboard_reaches_all_rows(page: Page, table: Locator) -> None:
    keys = page.keyboard
    rows(table).first.focus()
    for key, number in (("ArrowDown", 1), ("End", MANY - 1), ("ArrowUp", MANY - 2), ("Home", 0), ("PageDown", 10)):
        keys.press(key)
        there = table.locator(f"[data-index='{number}']")
        expect(there).to_be_focused()
        expect(there).to_contain_text(f"service-{number:05}")
    keys.press("Enter")

    expect(page.get_by_role("dialog", name=str(service(10).ref))).to_be_visible()


def test_one_of_many_changes_and_is_shown_so(page: Page, table: Locator, teamspace: Orchestrator) -> None:
    page.get_by_role("textbox", name="Filter services").fill("service-04242")
    expect(rows(table)).to_have_count(1)
    before = rows(table).inner_text()
    teamspace.changed(replace(service(4242), ready=0, total=7))

    expect(rows(table)).to_contain_text("7")
    assert rows(table).inner_text() != before
    expect(table).to_have_attribute("aria-rowcount", "2")


def test_the_questions_of_the_simulator_are_stopped(page: Page, hub: BrowsedHub, teamspace: Orchestrator) -> None:
    """What has not been asked by then is not asked any more."""
    asked: list[Route] = []

    def ask(route: Route) -> None:
        asked.append(route)
        if len(asked) <= ANSWERED:
            route.continue_()

    page.route(MAY, ask)
    page.goto(hub.address(f"/spaces/{teamspace.space}/policy?tab=simulator&view=services"))
    page.get_by_role("button", name="Ask about 50 services").click()
    expect(page.get_by_text(re.compile(r"^[1-9][0-9]* of 200 answered$"))).to_be_visible()
    page.get_by_role("button", name="Stop").click()

    expect(page.get_by_text(re.compile("^Stopped at [1-9][0-9]* of 200"))).to_be_visible()
    expect(page.get_by_role("button", name="Ask about 50 services")).to_be_focused()
    assert len(asked) <= ANSWERED + AT_ONCE
