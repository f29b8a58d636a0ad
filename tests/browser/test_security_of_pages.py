"""Pages of the GUI while rights, sign-ins and contents change that they show: nobody goes on with what they may no more, and nothing that is old is shown as live."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from threading import Thread
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser.conftest import PASSWORD, PATIENCE_MS, BrowsedHub, Browsing, Complaints

from codezero.sandbox.browser import Browser as Person
from codezero.testing.console_process import ConsoleProcess
from codezero.testing.views import CONSUME, SERVICES, STATUS
from codezero.testing.waiting import eventually
from codezero.wire.local_api import SOCKET_NAME

pytestmark = [pytest.mark.browser]

expect.set_options(timeout=30_000)


def me(person: Person) -> str:
    """Their id."""
    return person.ask("GET", "/auth/me")["user"]["id"]


def invite(hub: BrowsedHub, email: str) -> None:
    hub.owner.ask(
        "POST", f"/organizations/{hub.organization}/invitations", {"email": email, "role": "viewer"}, key=email
    )


def make_role(hub: BrowsedHub, person: Person, role: str) -> None:
    hub.owner.ask("PATCH", f"/organizations/{hub.organization}/members/{me(person)}", {"role": role})


def is_live(page: Page) -> None:
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_rights_that_change_are_seen_without_a_reload(browse: Browsing, hub: BrowsedHub) -> None:
    person = hub.person("Rita", "viewer")
    page = browse(person)
    page.goto(hub.address("/members"))
    is_live(page)
    expect(page.get_by_role("button", name=re.compile("Invite"))).to_have_count(0)

    make_role(hub, person, "admin")
    expect(page.get_by_role("button", name=re.compile("Invite")).first).to_be_visible()
    expect(page.get_by_role("link", name="Audit")).to_be_visible()

    make_role(hub, person, "viewer")
    expect(page.get_by_role("button", name=re.compile("Invite"))).to_have_count(0)
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)


def test_an_organization_s_new_name_is_seen_without_a_reload(browse: Browsing, hub: BrowsedHub) -> None:
    page = browse(hub.person("Nora", "viewer"))
    page.goto(hub.address("/spaces"))
    is_live(page)

    hub.owner.ask("PATCH", f"/organizations/{hub.organization}", {"name": "Renamed"})

    expect(page.get_by_text("Organization Renamed")).to_be_visible()


def test_a_sign_in_that_was_ended_elsewhere_leads_to_the_sign_in_page_and_back(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    person = hub.person("Sven", "viewer")
    page = browse(person)
    page.goto(hub.address("/members?q=sven"))
    is_live(page)
    complaints.expect("401")

    person.ask("POST", "/auth/logout")

    page.wait_for_url(re.compile(r"/sign-in\?return_to="))
    page.get_by_label("E-mail address").fill("sven@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(r"/members\?q=sven$"))
    is_live(page)


def test_what_changes_all_the_time_is_shown_while_it_changes(page: Page, hub: BrowsedHub) -> None:
    """A list takes longer to be read than it takes until it changes again, and is shown all the same."""
    page.goto(hub.address("/members?tab=invitations"))
    is_live(page)
    page.wait_for_load_state("networkidle")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow: dict[str, Any] = {"offline": False, "latency": 1500, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", slow)
    shown = page.get_by_text("busy0@example.com")

    for number in count():
        assert number < 100, "nothing was shown while it changed"
        invite(hub, f"busy{number}@example.com")
        page.wait_for_timeout(200)
        if shown.count():
            break


def test_the_tab_key_leaves_a_long_table(page: Page, hub: BrowsedHub) -> None:
    for number in range(60):
        invite(hub, f"row{number:02}@example.com")
    page.goto(hub.address("/members?tab=invitations"))
    table = page.get_by_role("table").last
    table.get_by_role("row").nth(1).focus()

    page.keyboard.press("End")
    expect(table.locator("[data-index]:focus")).to_have_attribute("aria-rowindex", re.compile(r"^[6-9]\d$|^1\d\d$"))
    page.keyboard.press("Home")
    expect(table.locator("[data-index]:focus")).to_have_attribute("aria-rowindex", "2")
    for _ in range(5):
        page.keyboard.press("Tab")

    assert not table.locator(":focus").count(), "the rows below have no end"


@dataclass
class Home:
    """The home of somebody whose agent tells what changes for as long as somebody listens, to however many; while it is `ill`, it answers nothing but problems."""

    folder: Path
    asked: list[str] = field(default_factory=list[str])
    ill: bool = False

    def environment(self, **more: str) -> dict[str, str]:
        """Of czctl there."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CODEZERO_RUN_FOLDER": str(self.folder / "run"),
            **more,
        }


@pytest.fixture
def home() -> Iterator[Home]:
    known = {"/v1/status": STATUS, "/v1/consume": CONSUME, "/v1/consume/test": CONSUME, "/v1/services": SERVICES}
    views = {path: msgspec.json.encode(view) for path, view in known.items()}
    empty = b'{"serves":[],"presences":[],"activities":[]}'

    class Local(StreamRequestHandler):
        def handle(self) -> None:
            path = self.rfile.readline().split()[1].decode()
            length = 0
            while line := self.rfile.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            status = 504 if made.ill else 200
            made.asked.append(f"{path} {status}")
            if path == "/v1/events":
                line = b'{"what":"status","at":1.0}\n'
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n")
                self.wfile.write(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(line), line))
                self.rfile.read()
                return
            body = b'{"code":"CZ-X-001","detail":"ill"}' if made.ill else views.get(path, empty)
            head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)

    # pytest's own folders are too long for socket paths.
    folder = Path(tempfile.mkdtemp(prefix="cz-"))
    (folder / "run").mkdir()
    made = Home(folder)
    with ThreadingUnixStreamServer(str(folder / "run" / SOCKET_NAME), Local) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()
    shutil.rmtree(folder, ignore_errors=True)


def test_many_tabs_of_the_console_are_open_at_once(chromium: Browser, home: Home) -> None:
    """A browser has six connections to one server, and each tab that is looked at keeps one for what the agent tells."""
    with ConsoleProcess(home.environment()) as console:
        context = chromium.new_context(locale="en-GB")
        context.set_default_timeout(PATIENCE_MS)
        for number in range(8):
            page = context.new_page()
            page.goto(console.address if number == 0 else f"{console.origin}/ui/machine")
            expect(page.get_by_role("heading", level=1)).to_have_text("My machine")
            is_live(page)
            # As where somebody turns to another tab, which browsers without a window never say.
            page.evaluate(
                """() => {
                  Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
                  document.dispatchEvent(new Event("visibilitychange"));
                }"""
            )
        first = context.pages[0]
        expect(first.get_by_text("Not live", exact=True)).to_be_visible()
        first.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
        is_live(first)
        context.close()


def test_a_hub_that_says_nothing_keeps_nobody_from_their_machine(chromium: Browser, home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = home.environment(CODEZERO_HUB=f"http://127.0.0.1:{silent.getsockname()[1]}", CODEZERO_TOKEN="one")
        with ConsoleProcess(environment) as console:
            context = chromium.new_context(locale="en-GB")
            page = context.new_page()
            page.goto(console.address)

            # The console itself waits for the Hub for longer.
            expect(page.get_by_role("heading", level=1)).to_have_text("My machine", timeout=25_000)
            is_live(page)
            page.goto(f"{console.origin}/ui/o/01ARZ3NDEKTSV4RRFFQ69G5FAV/spaces")
            expect(page.get_by_role("alert")).to_contain_text("The Hub has not answered yet")
            context.close()


def test_what_is_typed_stays_where_the_agent_is_ill_for_a_while(chromium: Browser, home: Home) -> None:
    with ConsoleProcess(home.environment()) as console:
        context = chromium.new_context(locale="en-GB")
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(console.address)
        expect(page.get_by_role("heading", level=1)).to_have_text("My machine")
        page.goto(f"{console.origin}/ui/machine/catalog")
        page.get_by_role("button", name="Consume rules").click()
        rules = page.get_by_role("textbox", name="Rules")
        rules.fill("typed.by-hand")

        home.ill = True
        # The page asks by itself from time to time.
        eventually(lambda: page.wait_for_timeout(100) or "/v1/status 504" in home.asked, within=60.0)
        page.wait_for_timeout(500)

        expect(rules).to_have_value("typed.by-hand")
        context.close()
