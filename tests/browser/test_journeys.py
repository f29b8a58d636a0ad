"""What people do with the page and a terminal, from an empty Hub to a request that a laptop answers: in a real browser, before a real cluster's API, Teamspace and agent."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright, expect
from tests.browser import journeys
from tests.browser.conftest import FAILED
from tests.browser.journeys import PASSWORD, Chromiums
from tests.browser.steps import consume_by, open_service, serve_by_header
from tests.lab.conftest import start

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [
    pytest.mark.lab,
    pytest.mark.netns,
    pytest.mark.nft,
    pytest.mark.browser,
    pytest.mark.timeout(300),
]

EDGE = f"http://{layout.NODE_ADDRESS}/api"
CORE = "sample-project-core"


@pytest.fixture(scope="module")
def bare(state_home: Path) -> Iterator[Sandbox]:
    """A cluster with the sample project and no Teamspace, laptops, and a Hub."""
    with start(name=f"journey-{os.getpid()}", hub="sqlite", teamspace=False) as running:
        yield running


@pytest.fixture
def consoles() -> Iterator[ExitStack]:
    """Local consoles, which end after the pages that they serve."""
    with ExitStack() as running:
        yield running


@pytest.fixture
def browser_in(
    bare: Sandbox,
    chromium_program: Path,
    playwright: Playwright,
    consoles: ExitStack,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Chromiums]:
    """Opens pages in places of the sandbox; what they show when a test fails is kept in its folder."""
    chromiums = Chromiums(playwright, chromium_program, bare, tmp_path)
    yield chromiums
    if request.node.stash.get(FAILED, False):
        chromiums.keep_pictures()
    chromiums.close()
    chromiums.complaints.check()


@pytest.fixture
def local_core(bare: Sandbox) -> Iterator[None]:
    """What the developer has changed, and runs beside the editor."""
    environment = {
        "SP_ADDRESS": "127.0.0.1",
        "SP_PORT": "3000",
        "SP_LEAF_URL": f"http://sample-project-leaf.{SAMPLE}:3010",
    }
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = Laptop(bare).popen("python", "-m", "codezero.sandbox.sample.core", env=environment, **quiet)
    yield
    process.kill()
    process.wait()


def outside(sandbox: Sandbox, *headers: str) -> dict[str, Any]:
    """What somebody who knows nothing of Codezero gets from the shared page."""
    options = [part for header in headers for part in ("-H", header)]
    return json.loads(sandbox.run("internet", ["curl", "-sS", "--max-time", "10", *options, EDGE]).stdout)


def command_beside(page: Page, begins: str) -> str:
    """The command on the page that begins so."""
    return page.get_by_text(re.compile(rf"^{re.escape(begins)}")).inner_text()


def become_first_owner(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Organization").fill("Acme")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Your e-mail address").fill("ada@acme.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="Teamspaces", level=1)).to_be_visible()


def add_teamspace(page: Page, sandbox: Sandbox) -> None:
    """By the wizard; what it shows is typed where kubectl knows the cluster."""
    page.get_by_role("button", name="Create your first Teamspace").click()
    page.get_by_role("textbox", name="Name").fill("shop")
    page.get_by_role("button", name="Create", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Waiting for the cluster")).to_be_visible()
    dialog.get_by_role("textbox", name="Namespaces whose services may be served").fill(SAMPLE)
    dialog.get_by_role("button", name="Copy the join token").click()
    token = journeys.copied(page)
    command = command_beside(page, "czctl teamspace install")
    # What is the sandbox's own: its Hub's authority, and one pod of each.
    more = f"--hub-ca {sandbox.hub().ca} --set system.replicas=1 --set orchestrator.replicas=1"
    Laptop(sandbox, layout.CLUSTER).run("sh", "-c", f"{command} {more}", input=token, timeout=120)
    expect(dialog.get_by_text("It is ready: its members can connect.")).to_be_visible()
    assert f"--serve-namespace {SAMPLE}" in command
    assert token not in command
    dialog.get_by_role("button", name="Go to the Teamspace").click()
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()


def invite(page: Page, email: str) -> str:
    """Invite somebody; the link to give them."""
    page.get_by_role("link", name="Members").click()
    page.get_by_role("button", name="Invite").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("E-mail address").fill(email)
    dialog.get_by_role("button", name="Invite").click()
    dialog.get_by_role("button", name="Copy the link").click()
    link = journeys.copied(page)
    dialog.get_by_role("button", name="I have kept it").click()
    return link


def accept(page: Page, link: str, name: str) -> None:
    page.goto(link)
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("heading", name="Teamspaces", level=1)).to_be_visible()


@pytest.mark.capability("page", "auth.first-owner", "auth.machine", "space.create", "invitation.create")
@pytest.mark.capability("page", "invitation.accept", "services.list", "consume.change", "serve.start")
def test_from_an_empty_hub_to_a_variant_that_a_team_mate_uses(
    bare: Sandbox, browser_in: Chromiums, consoles: ExitStack, local_core: None
) -> None:
    ada, bob = browser_in(layout.LAPTOP), browser_in(layout.LAPTOP2)
    laptop = Laptop(bare)

    become_first_owner(ada, journeys.empty_the_hub(bare))
    add_teamspace(ada, bare)
    accept(bob, invite(ada, "bob@acme.example"), "Bob")

    journeys.sign_in(laptop, bare.hub(), ada)
    laptop.join()
    ui = consoles.enter_context(journeys.console(laptop))
    mine = browser_in(layout.LAPTOP, origin=ui.origin)
    mine.goto(ui.address)
    expect(mine.get_by_role("heading", name="Catalog", level=1)).to_be_visible()
    consume_by(mine, f"*.{SAMPLE}")
    leaf = eventually(lambda: laptop.curl(f"http://sample-project-leaf.{SAMPLE}:3010/api", check=False).stdout)
    # Nobody asks before it is served: connections that are open then stay with the pods, which the dialog says.
    open_service(mine, f"{SAMPLE}/{CORE}")
    serve_by_header(mine, f"{SAMPLE}/{CORE}", 3000, "x-c6o-team", "blue")
    eventually(lambda: outside(bare, "x-c6o-team: blue")["where"] == "laptop")

    bob.get_by_role("link", name="shop").click()
    bob.get_by_role("link", name="Catalog").click()
    open_service(bob, f"{SAMPLE}/{CORE}")
    variant = bob.get_by_role("article", name="Variant of Ada")
    expect(variant.get_by_text("active")).to_be_visible()
    variant.get_by_role("button", name="Copy the header").click()
    header = journeys.copied(bob)
    his = outside(bare, header)
    others = outside(bare)

    assert json.loads(leaf)["who"] == "leaf"
    assert header == "x-c6o-team: blue"
    assert his["where"] == "laptop"
    assert others["where"].startswith(f"{CORE}-")
