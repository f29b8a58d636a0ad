"""What people do by the pages about machines and what is live, done in a browser: before a real cluster's API, Teamspace, Routers and agents, with a look there for what came of it."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, Playwright, expect
from tests.browser import journeys
from tests.browser.conftest import FAILED, PATIENCE_MS
from tests.browser.journeys import Chromiums
from tests.browser.scene import Scene
from tests.browser.steps import agree, row, select, shown, told_once
from tests.lab.conftest import start

from codezero.sandbox import layout
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [
    pytest.mark.lab,
    pytest.mark.netns,
    pytest.mark.nft,
    pytest.mark.browser,
    pytest.mark.timeout(300),
]

expect.set_options(timeout=PATIENCE_MS)

CORE: Final = f"{SAMPLE}/sample-project-core"
LEAF: Final = f"{SAMPLE}/sample-project-leaf"
EDGE: Final = f"http://{layout.NODE_ADDRESS}/api"
BLUE: Final = ("--condition-type", "header", "--condition", "x-c6o-team:blue")


@pytest.fixture(scope="module")
def scene(state_home: Path) -> Iterator[Scene]:
    """Two developers' laptops that are in a Teamspace and do nothing yet; beside the first one's editor runs what they have changed."""
    with start(name=f"machines-{os.getpid()}", hub="sqlite") as running, ExitStack() as ending:
        for place in layout.LAPTOPS:
            laptop = Laptop(running, place)
            laptop.sign_in()
            laptop.join()
        admin = Laptop(running, layout.CLUSTER)
        admin.sign_in("admin")
        admin.czctl("organization", "select", "sandbox")
        environment = {
            "SP_ADDRESS": "127.0.0.1",
            "SP_PORT": "3000",
            "SP_LEAF_URL": f"http://sample-project-leaf.{SAMPLE}:3010",
        }
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        core = Laptop(running).popen("python", "-m", "codezero.sandbox.sample.core", env=environment, **quiet)
        ending.callback(core.wait)
        ending.callback(core.kill)
        yield Scene(running, ending.enter_context(journeys.console(Laptop(running))))


@pytest.fixture
def browser_in(
    scene: Scene, chromium_program: Path, playwright: Playwright, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Chromiums]:
    """Opens pages in places of the sandbox; what they show when a test fails is kept in its folder."""
    chromiums = Chromiums(playwright, chromium_program, scene.sandbox, tmp_path)
    yield chromiums
    if request.node.stash.get(FAILED, False):
        chromiums.keep_pictures()
    chromiums.close()
    chromiums.complaints.check()


@pytest.fixture
def laptop(scene: Scene) -> Iterator[Laptop]:
    """The first developer's, which consumes and serves nothing at first."""
    found = Laptop(scene.sandbox)
    yield found
    found.czctl("reset", check=False)


@pytest.fixture
def other(scene: Scene) -> Iterator[Laptop]:
    """The second one's."""
    found = Laptop(scene.sandbox, layout.LAPTOP2)
    yield found
    found.czctl("reset", check=False)


@pytest.fixture
def mine(scene: Scene, browser_in: Chromiums) -> Page:
    """A page of the first laptop's console."""
    return scene.of_console(browser_in)


def of_space(scene: Scene, page: str = "", *, base: str | None = None) -> str:
    """A page of the Teamspace: the console's, or the Hub's by its URL."""
    return (base or scene.console.origin) + "/ui" + scene.path("/o/ORG/spaces/SPACE") + page


def outside(scene: Scene, *headers: str) -> dict[str, Any]:
    """What somebody who knows nothing of Codezero gets from the shared page."""
    options = [part for header in headers for part in ("-H", header)]
    return json.loads(scene.sandbox.run("internet", ["curl", "-sS", "--max-time", "10", *options, EDGE]).stdout)


def of_audit(scene: Scene, action: str) -> list[dict[str, Any]]:
    """What the audit says of that, the latest first."""
    admin = Laptop(scene.sandbox, layout.CLUSTER)
    return json.loads(admin.czctl("audit", "list", "--action", action, "-o", "json").stdout)["entries"]


def section(page: Page, title: str) -> Locator:
    """The part of the page with that heading."""
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.get_by_role("main").locator("section").filter(has=heading)


@pytest.mark.capability("page", "consume.list", "consume.test", "consume.change", "consume.primary-namespace")
@pytest.mark.capability("page", "agent.reset", "services.list")
def test_what_a_machine_consumes_is_tried_chosen_and_ended(scene: Scene, mine: Page, laptop: Laptop) -> None:
    shown(mine, of_space(scene, "/catalog"), "Catalog")
    mine.get_by_role("button", name="Consume rules").click()
    drawer = mine.get_by_role("dialog", name="Consume rules")
    drawer.get_by_role("textbox", name="Rules").fill(f"*.{SAMPLE}\n!sample-project-leaf.{SAMPLE}")
    status = drawer.get_by_role("status")
    expect(status).to_contain_text(re.compile(r"These rules let \d+ services in"))
    expect(status).to_contain_text(CORE)
    expect(status).not_to_contain_text(LEAF)
    assert laptop.consumed() == {}, "nothing is changed by a look at it"

    drawer.get_by_role("button", name="Apply").click()
    expect(drawer).to_have_count(0)
    consumed = laptop.consumed()
    assert CORE in consumed
    assert LEAF not in consumed
    eventually(laptop.core_answers)
    select(mine, "Primary namespace", SAMPLE)
    expect(mine.get_by_text(f"Consumed services of {SAMPLE} answer to their bare names")).to_be_visible()
    bare = eventually(lambda: laptop.curl("http://sample-project-core:3000/api", check=False).stdout)
    assert json.loads(bare)["who"] == "core"

    shown(mine, f"{scene.console.origin}/ui/machine", "My machine")
    listed = row(mine, "Consumed services", "sample-project-core")
    expect(listed).to_contain_text(consumed[CORE]["address"])
    expect(row(mine, "Consumed services", "sample-project-leaf")).to_have_count(0)
    mine.get_by_role("button", name="Reset", exact=True).click()
    agree(mine, "Reset", "End all that this machine consumes and serves?")
    expect(section(mine, "Consumed")).to_contain_text("Nothing yet.")
    assert laptop.consumed() == {}
    assert not laptop.core_answers()


@pytest.mark.capability("page", "serve.start", "serve.list", "serve.end", "agent.status")
def test_what_a_machine_serves_is_shown_and_ended(scene: Scene, mine: Page, laptop: Laptop) -> None:
    laptop.serve(CORE, "3000", *BLUE)
    eventually(lambda: outside(scene, "x-c6o-team: blue")["where"] == "laptop")
    shown(mine, f"{scene.console.origin}/ui/machine", "My machine")
    now = laptop.status()
    expect(section(mine, "Connection")).to_contain_text(now["teamspace"]["address"])
    expect(section(mine, "Connection")).to_contain_text(now["tunnel"]["session"])
    served = section(mine, "Served")
    expect(served).to_contain_text(CORE)
    expect(served).to_contain_text("x-c6o-team:blue")
    expect(served).to_contain_text("so far")
    served.get_by_role("button", name="End", exact=True).click()
    agree(mine, "End", f"End serving {CORE}?")

    expect(served).to_contain_text("This machine answers no requests now.")
    assert laptop.serves() == []
    eventually(lambda: outside(scene, "x-c6o-team: blue")["where"].startswith("sample-project-core-"))


@pytest.mark.capability("page", "people.list", "sessions.list", "sessions.end", "serve.end", "activity.list")
def test_who_is_there_is_seen_and_ended_with_a_reason(
    scene: Scene, browser_in: Chromiums, laptop: Laptop, other: Laptop
) -> None:
    """By whoever manages the Teamspace, at the Hub; and the one whose it was is told why."""
    other.consume(f"*.{SAMPLE}")
    other.serve(LEAF, "3010", *BLUE)
    page = scene.of_hub(browser_in)
    shown(page, of_space(scene, "/people", base=scene.hub.url), "People")
    expect(row(page, "Laptops", "dev1")).to_contain_text("serves nothing")
    expect(row(page, "Laptops", "dev2")).to_contain_text(LEAF)
    row(page, "Laptops", "dev2").click()
    drawer = page.get_by_role("dialog", name="dev2")
    expect(drawer).to_contain_text("x-c6o-team:blue")
    # Another developer sees it, and is offered no end of it.
    others = scene.of_hub(browser_in, user="dev1")
    shown(others, of_space(scene, "/people", base=scene.hub.url), "People")
    row(others, "Laptops", "dev2").click()
    expect(others.get_by_role("dialog", name="dev2")).to_contain_text("x-c6o-team:blue")
    expect(others.get_by_role("dialog", name="dev2").get_by_role("button", name=re.compile("^End"))).to_have_count(0)
    drawer.get_by_role("button", name="End", exact=True).click()
    asks = page.get_by_role("dialog", name=f"End this variant of {LEAF}?")
    asks.get_by_label("Reason").fill("demo at noon")
    asks.get_by_role("button", name="End", exact=True).click()
    expect(drawer.get_by_role("region", name="Serves")).to_contain_text("Nothing.")
    assert eventually(lambda: any("demo at noon" in one["text"] for one in other.status()["warnings"]))
    assert other.serves() == []
    assert of_audit(scene, "serve.terminate")[0]["target"]["id"] == LEAF

    reconnects = other.status()["tunnel"]["reconnects"]
    drawer.get_by_role("button", name="End this session").click()
    asks = page.get_by_role("dialog", name="End the session of dev2?")
    asks.get_by_label("Reason").fill("lunch")
    asks.get_by_role("button", name="End this session").click()
    expect(page.get_by_text("The session ends within seconds")).to_be_visible()
    eventually(lambda: other.status()["tunnel"]["reconnects"] > reconnects)
    assert of_audit(scene, "session.terminate")[0]["details"]["reason"] == "lunch"
    eventually(other.is_connected)
    assert laptop.status()["tunnel"]["reconnects"] == 0, "somebody else's goes on"

    shown(page, of_space(scene, "/activity", base=scene.hub.url), "Activity")
    happened = page.get_by_role("table", name="What happened")
    for what in ("Served", "Terminated"):
        told = happened.get_by_role("row").filter(has_text=LEAF).filter(has_text=what)
        expect(told.first).to_contain_text("dev2" if what == "Served" else "demo at noon")


@pytest.mark.capability("page", "trace.requests")
def test_real_requests_are_explained_hop_by_hop(scene: Scene, mine: Page, laptop: Laptop) -> None:
    """Each as its Router and its agent tell of it: one that came here, one whose program was gone, and one that went out from here."""
    laptop.consume(f"*.{SAMPLE}")
    laptop.serve(CORE, "3000", *BLUE)
    eventually(lambda: outside(scene, "x-c6o-team: blue")["where"] == "laptop")
    (variant,) = [one["variant"]["variant_id"] for one in laptop.serves()]
    shown(mine, of_space(scene, "/activity?view=trace"), "Activity")
    mine.get_by_role("button", name="Start", exact=True).click()
    expect(mine.get_by_role("heading", name="Waiting for requests")).to_be_visible()
    table = mine.get_by_role("table", name="Requests and connections")
    hops = mine.get_by_role("dialog", name="How it was answered")

    def opened(*texts: str) -> list[str]:
        """The stations of the request that has all these in its row."""
        found = table.get_by_role("row")
        for text in texts:
            found = found.filter(has_text=text)
        expect(found.first).to_be_visible()
        found.first.click()
        expect(hops).to_be_visible()
        return hops.get_by_role("heading", level=3).all_inner_texts()

    def asked() -> bool:
        outside(scene, "x-c6o-team: blue")
        mine.wait_for_timeout(200)
        return table.get_by_role("row").filter(has_text="/api").filter(has_text="Served").count() > 0

    eventually(asked)
    stations = opened("/api", "Served", "200")
    assert stations == ["Caller", f"Service {CORE}, port 3000", "Router: condition", "Variant"]
    expect(hops).to_contain_text("It met the condition of the variant: header x-c6o-team:blue.")
    expect(hops).to_contain_text("x-c6o-team: blue")
    expect(hops).to_contain_text(variant)
    expect(hops).to_contain_text("laptop, the laptop of dev1")
    mine.keyboard.press("Escape")

    def went_out() -> bool:
        laptop.curl(f"http://sample-project-leaf.{SAMPLE}:3010/api", check=False)
        mine.wait_for_timeout(200)
        return table.get_by_role("row").filter(has_text=LEAF).filter(has_text="Consumed").count() > 0

    eventually(went_out)
    stations = opened(LEAF, "Consumed")
    assert stations == ["This machine", "Agent", f"Service {LEAF}"]
    expect(hops).to_contain_text("The agent took it and carried it through the tunnel.")
    mine.keyboard.press("Escape")

    laptop.czctl("reset")
    laptop.serve(CORE, "3999:3000", *BLUE)

    def nobody_there() -> bool:
        outside(scene, "x-c6o-team: blue")
        mine.wait_for_timeout(200)
        return table.get_by_role("row").filter(has_text="could not be reached").count() > 0

    eventually(nobody_there)
    stations = opened("could not be reached")
    assert stations[-2:] == ["Variant", "Origin"]
    expect(hops).to_contain_text("x-codezero-fallback: unreachable")
    expect(hops.get_by_label("Here it went wrong")).to_have_count(1)
    mine.keyboard.press("Escape")
    mine.get_by_role("button", name="Stop", exact=True).click()
    expect(mine.get_by_role("button", name="Start", exact=True)).to_be_visible()


@pytest.mark.capability("page", "space.token", "hub.version")
def test_a_token_of_the_page_lets_a_program_in_by_the_command_of_the_page(
    scene: Scene, browser_in: Chromiums, mine: Page, laptop: Laptop
) -> None:
    shown(mine, of_space(scene))
    door = section(mine, "Programs without a tunnel")
    door.get_by_role("tab", name="curl").click()
    command = door.get_by_text(re.compile(r"^czctl space token")).inner_text()
    door.get_by_role("button", name="Make a token").click()
    dialog = mine.get_by_role("dialog", name=re.compile("^A token for"))
    root = told_once(dialog, "Copy the root certificate")
    mine.wait_for_timeout(2500)  # until the button says again what it copies
    token = told_once(dialog, "Copy the token")
    dialog.get_by_role("button", name="I have kept it").click()
    begins, _, curl = command.partition("|\ncurl")
    assert begins.startswith("czctl space token")
    curl = f"curl -sS{curl}".replace("root.pem", '"$ROOT"').replace(
        "SERVICE.NAMESPACE:PORT/", f"sample-project-core.{SAMPLE}:3000/api"
    )
    script = f'ROOT=$(mktemp); printf %s {shlex.quote(root)} > "$ROOT"; {curl}'
    answer = laptop.run("sh", "-c", script, input=f"Proxy-Authorization: Bearer {token}\n")
    refused = laptop.run("sh", "-c", script, input="Proxy-Authorization: Bearer forged\n", check=False)

    assert json.loads(answer.stdout)["who"] == "core"
    assert "407" in refused.stderr
    page = scene.of_hub(browser_in)
    shown(page, of_space(scene, base=scene.hub.url))
    version = json.loads(laptop.run("curl", "-sS", "--cacert", scene.hub.ca, f"{scene.hub.url}/api/v1/version").stdout)
    expect(page.get_by_text(f"czctl auth login --hub {version['url']}", exact=True)).to_be_visible()
    expect(section(page, "How it is")).to_contain_text(version["release"])


@pytest.mark.capability("page", "space.rotate", "space.show")
def test_a_teamspace_makes_itself_another_key(scene: Scene, browser_in: Chromiums, laptop: Laptop) -> None:
    page = scene.of_hub(browser_in)
    admin = Laptop(scene.sandbox, layout.CLUSTER)

    def fingerprint() -> str:
        return json.loads(admin.czctl("space", "status", "sandbox", "-o", "json").stdout)["fingerprint"]

    before = fingerprint()
    shown(page, of_space(scene, base=scene.hub.url))
    expect(section(page, "How it is")).to_contain_text(before)
    page.get_by_role("button", name="Rotate").click()
    agree(page, "Rotate", "Rotate the keys of sandbox?")
    expect(section(page, "How it is")).not_to_contain_text(before, timeout=90_000)

    after = fingerprint()
    assert after != before
    expect(section(page, "How it is")).to_contain_text(after)
    eventually(laptop.is_connected)


@pytest.mark.capability("page", "agent.teamspace.leave", "agent.teamspace.select", "agent.stop", "agent.start")
def test_a_machine_leaves_its_teamspace_comes_back_and_its_agent_is_stopped_and_started(
    scene: Scene, browser_in: Chromiums, mine: Page, laptop: Laptop
) -> None:
    # While it is in none, and while it is stopped.
    browser_in.complaints.expect("409.*/agent/v1/services")
    browser_in.complaints.expect("503.*/agent/v1/status")
    browser_in.complaints.expect("503.*/agent/v1/")
    shown(mine, f"{scene.console.origin}/ui/machine", "My machine")
    mine.get_by_role("button", name="Leave", exact=True).click()
    agree(mine, "Leave", "Leave sandbox?")
    expect(mine.get_by_role("heading", name="Connect to a Teamspace")).to_be_visible()
    assert laptop.status()["teamspace"] is None

    shown(mine, of_space(scene))
    mine.get_by_role("button", name="Connect this machine").click()
    expect(mine.get_by_text("This machine is connected here.")).to_be_visible()
    eventually(laptop.is_connected)

    shown(mine, f"{scene.console.origin}/ui/machine", "My machine")
    mine.get_by_role("button", name="Stop", exact=True).click()
    agree(mine, "Stop", "Stop the agent?")
    expect(mine.get_by_role("heading", name="The agent is not running")).to_be_visible()
    assert laptop.czctl("status", check=False).returncode != 0
    mine.get_by_role("button", name="Start the agent").click()
    expect(section(mine, "Connection")).to_contain_text("sandbox")
    eventually(laptop.is_connected)
