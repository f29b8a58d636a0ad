"""A real browser before a real Hub: `page` is the owner's, `browse` opens pages of others, `hub` is a `czhub` with people in it.

Whatever a page complains of fails its test: errors of its console and of its programs, violations of its policy, and requests to anywhere but the Hub.
A test that provokes one says so: `complaints.expect("pattern")`, and then it has to come.

While Playwright runs, its loop is the thread's: `asyncio.run` does not work in these tests. It ends with each module, for the sake of those that come after.
"""

import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    WebSocket,
    sync_playwright,
)

from codezero.gui.files import Site, Where
from codezero.sandbox.browser import Browser as Person
from codezero.testing.hub_process import HubProcess

PROGRAMS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PASSWORD: Final = "correct horse battery staple"
# What a page is allowed to take: much, because the machines of tests are slow and busy.
PATIENCE_MS: Final = 30_000
# A violation by a frame or a worker is in no console; each document tells of its own.
_TELL_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.effectiveDirective} by ${event.blockedURI} ${event.sample}`));
"""


# Whether the test itself has failed, for what tidies up after it.
FAILED: Final = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@dataclass
class Complaints:
    """What pages complained of, in the order in which they did."""

    heard: list[str] = field(default_factory=list)
    _expected: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """At least one complaint that matches has to come, and none of them fails the test."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Fail for what was heard and not expected, and for what was expected and not heard."""
        unexpected = [one for one in self.heard if not any(re.search(pattern, one) for pattern in self._expected)]
        missing = [pattern for pattern in self._expected if not any(re.search(pattern, one) for one in self.heard)]
        assert not unexpected, "the page complained:\n" + "\n".join(unexpected)
        assert not missing, f"nothing complained of {missing}; heard: {self.heard}"

    def watch(self, context: BrowserContext, *origins: str) -> None:
        """Hear all that pages of `context` complain of, and what they ask of anybody but `origins`."""
        hosts = {urlsplit(origin).netloc for origin in origins}

        def console(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.heard.append(f"console: {message.text} ({message.location.get('url', '')})")

        def asked(request: Request) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in {"data", "blob", "about"} and parts.netloc not in hosts:
                self.heard.append(f"request to another host: {request.url[:200]}")

        def opened(socket: WebSocket) -> None:
            if urlsplit(socket.url).netloc not in hosts:
                self.heard.append(f"WebSocket to another host: {socket.url[:200]}")

        context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", console)
        context.on("weberror", lambda error: self.heard.append(f"page error: {error.error}"))
        context.on("request", asked)
        context.on("page", lambda page: page.on("websocket", opened))


@dataclass
class BrowsedHub:
    """A Hub with an organization, whose owner is `owner`."""

    process: HubProcess
    owner: Person
    organization: str
    _people: dict[str, Person] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it is, for people and browsers."""
        return self.process.url

    def person(self, name: str, role: str = "developer") -> Person:
        """Somebody of the organization with this role, signed in: invited by the owner when first asked for."""
        if name not in self._people:
            invited = {"email": f"{name.lower()}@example.com", "role": role}
            made = self.owner.ask("POST", f"/organizations/{self.organization}/invitations", invited)
            person = Person(self.process.endpoint)
            person.accept_invitation(made["link"], name=name, password=PASSWORD)
            self._people[name] = person
        return self._people[name]

    def address(self, path: str = "") -> str:
        """The address of a page of the organization: `/members`, `/spaces/<id>/catalog`; without one, where the GUI begins."""
        return f"{self.url}/ui/o/{self.organization}{path}" if path else f"{self.url}/ui/"


@dataclass
class Browsing:
    """Opens pages: each in a context of its own, as in a browser of its own."""

    chromium: Browser
    hub: BrowsedHub
    complaints: Complaints
    contexts: list[BrowserContext] = field(default_factory=list)

    def __call__(
        self, person: Person | None = None, *, scheme: Literal["light", "dark"] = "light", **options: Any
    ) -> Page:
        """An empty page in the browser of `person`, who is signed in at the Hub; without one, of a stranger. `options` are those of Playwright's context."""
        context = self.chromium.new_context(color_scheme=scheme, base_url=self.hub.url, locale="en-GB", **options)
        self.contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        self.complaints.watch(context, self.hub.url)
        if person is not None:
            assert person.cookie is not None
            name, _, value = person.cookie.partition("=")
            cookie: Any = {"name": name, "value": value, "domain": urlsplit(self.hub.url).hostname, "path": "/"}
            context.add_cookies([{**cookie, "secure": True, "httpOnly": True, "sameSite": "Lax"}])
        return context.new_page()


@pytest.fixture(scope="session")
def chromium_program() -> Path:
    """The browser of this machine."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"there is no Chromium; install one of {', '.join(PROGRAMS)}")
    if not Site(Where("hub", None)).is_built:
        pytest.fail("the GUI is not built: make gui")
    return Path(found)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright, chromium_program: Path) -> Iterator[Browser]:
    started = launched(playwright, chromium_program)
    yield started
    started.close()


def launched(playwright: Playwright, program: Path, *options: str) -> Browser:
    """A browser, with more options of Chromium's command line."""
    # A page that a test has changed on the way comes from no address, and might not ask those of this machine.
    features = "LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"
    return playwright.chromium.launch(
        executable_path=program,
        # It needs rights that containers lack, and the browser is shown nothing but our own pages.
        chromium_sandbox=False,
        args=["--disable-dev-shm-usage", f"--disable-features={features}", *options],
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowsedHub]:
    """A Hub for the tests of a module: what they make in it has names of its own."""
    process = HubProcess(tmp_path_factory.mktemp("hub") / "data")
    try:
        owner = process.start().owner()
        yield BrowsedHub(process, owner, owner.ask("GET", "/organizations")["items"][0]["id"])
    finally:
        process.close()


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def browse(
    chromium: Browser, hub: BrowsedHub, complaints: Complaints, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Browsing]:
    """Opens pages; what they show when a test fails is kept in its folder."""
    browsing = Browsing(chromium, hub, complaints)
    yield browsing
    for number, context in enumerate(browsing.contexts):
        for page in context.pages if request.node.stash.get(FAILED, False) else ():
            page.screenshot(path=tmp_path / f"page-{number}.png", full_page=True)
            print(f"{page.url} is shown in {tmp_path}/page-{number}.png")
        context.close()
    complaints.check()


@pytest.fixture
def page(browse: Browsing, hub: BrowsedHub) -> Page:
    """An empty page in the browser of the owner."""
    return browse(hub.owner)


@contextmanager
def page_of_somebody_else(content: str) -> Iterator[int]:
    """A server of somebody else's on this machine's loopback, whose every page is `content`; its port."""

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            encoded = content.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
