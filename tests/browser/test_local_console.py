"""The local console in a real browser: its page comes in by the file that `czctl ui` opens, and no other page gets anything out of it or into it (T01, T36)."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.browser.conftest import PATIENCE_MS, BrowsedHub, Complaints, page_of_somebody_else
from tests.process.test_czctl_hub import Machine as Home

from codezero.testing.console_process import ConsoleProcess
from codezero.testing.scripted_daemon import Raw, ScriptedDaemon, in_chunks
from codezero.testing.views import CONSUME, SERVICES, STATUS
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.browser]

REBOUND = "rebound.example"
# What a page can do to another origin without asking it, and what it has to ask for. Each comes to an end, whichever.
ATTACK = """
async ([base, socket]) => {
  const told = {};
  const attempt = async (name, work) => {
    try { told[name] = await work() } catch (error) { told[name] = "failed" }
  };
  const ask = (path, init) => fetch(base + path, { credentials: "include", ...init })
    .then((answer) => answer.type === "opaque" ? "opaque" : `read ${answer.status}`);
  await attempt("read", () => ask("/agent/v1/status"));
  await attempt("read without looking", () => ask("/agent/v1/status", { mode: "no-cors" }));
  await attempt("change without looking", () => ask("/agent/v1/reset", { method: "POST", mode: "no-cors", body: "{}" }));
  await attempt("change by our header", () =>
    ask("/agent/v1/reset", { method: "POST", headers: { "X-Codezero-CSRF": "console" } }));
  await attempt("json", () =>
    ask("/agent/v1/consume", { method: "PUT", headers: { "Content-Type": "application/json" }, body: '{"rules":[]}' }));
  await attempt("guess a code", () =>
    ask("/console/session", { method: "POST", mode: "no-cors", body: '{"code":"x"}' }));
  await attempt("beacon", async () => String(navigator.sendBeacon(base + "/agent/v1/reset", "{}")));
  const element = (tag, more) => new Promise((resolve) => {
    const made = Object.assign(document.createElement(tag), more);
    made.onload = () => resolve("loaded");
    made.onerror = () => resolve("failed");
    document.body.append(made);
  });
  await attempt("script", () => element("script", { src: base + "/agent/v1/services" }));
  await attempt("image", () => element("img", { src: base + "/agent/v1/services" }));
  await attempt("style", () => element("link", { rel: "stylesheet", href: base + "/ui/app.json" }));
  await attempt("frame", async () => {
    const frame = document.createElement("iframe");
    const loaded = new Promise((resolve) => { frame.onload = resolve });
    frame.src = base + "/ui/";
    document.body.append(frame);
    await loaded;
    try { return frame.contentWindow.document.body.innerText === "" ? "empty" : "seen" } catch (error) { return "closed" }
  });
  await attempt("form", async () => {
    const frame = Object.assign(document.createElement("iframe"), { name: "target" });
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"),
      { action: base + "/agent/v1/reset", method: "POST", target: "target", enctype: "text/plain" });
    document.body.append(form);
    const loaded = new Promise((resolve) => { frame.onload = resolve });
    form.submit();
    await loaded;
    return "sent";
  });
  await attempt("socket", () => new Promise((resolve) => {
    const opened = new WebSocket(socket);
    opened.onopen = () => resolve("opened");
    opened.onerror = () => resolve("failed");
  }));
  return told;
}
"""


@pytest.fixture(scope="module")
def chromium(chromium_program: Path) -> Iterator[Browser]:
    """A browser for which a name of somebody else's leads to this machine, as after a rebinding, and that asks nobody before it does."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium_program,
            chromium_sandbox=False,
            args=[
                "--disable-dev-shm-usage",
                "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
                f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
            ],
        )
        yield started
        started.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(locale="en-GB")
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


@pytest.fixture
def home(hub: BrowsedHub) -> Iterator[Home]:
    # pytest's own folders are too long for socket paths.
    folder = Path(tempfile.mkdtemp(prefix="cz-"))
    (folder / "run").mkdir()
    yield Home(folder, hub.process, {})
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(home: Home) -> Iterator[ScriptedDaemon]:
    # It speaks to one client at a time, so what is to last does not.
    replies = {
        "GET /v1/status": STATUS,
        "GET /v1/services": SERVICES,
        "GET /v1/consume": CONSUME,
        "PUT /v1/consume": CONSUME,
        "POST /v1/reset": CONSUME,
        "GET /v1/events": Raw(in_chunks(b'{"what":"status","at":1.0}\n')),
    }
    with ScriptedDaemon(home.home / "run", dict(replies)) as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A server of somebody else's; its port."""
    with page_of_somebody_else("<!doctype html><title>Prize</title><body>") as port:
        yield port


def test_the_file_that_is_opened_leads_in_once_and_the_page_is_live(
    home: Home, daemon: ScriptedDaemon, context: BrowserContext, complaints: Complaints, hub: BrowsedHub
) -> None:
    home.login()
    opened = home.home / "opened"
    script = home.home / "browser.sh"
    script.write_text(f'#!/bin/sh\necho "$1" > {opened}.part\nmv {opened}.part {opened}\n')
    script.chmod(0o755)
    with ConsoleProcess({**home.environment(), "BROWSER": f"{script} %s"}, options=()) as console:
        eventually(opened.exists)
        complaints.watch(context, console.origin)
        # The file itself, which is nobody's.
        complaints.expect("request to another host: file:///")
        page = context.new_page()
        sockets: list[str] = []
        page.on("websocket", lambda one: one.on("framereceived", lambda frame: sockets.append(str(frame))))

        page.goto(opened.read_text().strip())
        page.wait_for_url(re.compile(rf"{console.origin}/ui/o/{hub.organization}/"))

        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert console.code not in page.url
        assert page.evaluate("document.cookie") == "", "no program of the page's reads it"
        eventually(lambda: page.wait_for_timeout(100) or any("snapshot" in frame for frame in sockets))
        assert "GET /v1/status" in daemon.lines()
        # The code is used up, and so is the file; the page stays.
        assert console.sign_in().status == 401
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        page.close()
    complaints.check()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", REBOUND])
def test_a_page_of_somebody_else_changes_nothing_and_reads_nothing(
    home: Home, daemon: ScriptedDaemon, context: BrowserContext, elsewhere: int, name: str
) -> None:
    """Also one of this very host: for cookies its port counts for nothing, and `SameSite` lets it pass."""
    with ConsoleProcess(home.environment()) as console:
        let_in(context, console)
        before = daemon.lines()
        page = context.new_page()
        page.goto(f"http://{name}:{elsewhere}/")

        told: dict[str, Any] = page.evaluate(ATTACK, [console.origin, f"ws://{console.host}/api/v1/events"])

        assert daemon.lines() == before, "nothing came to the agent"
        assert {
            told[one] for one in ("read", "change by our header", "json", "script", "image", "style", "socket")
        } == {"failed"}
        assert told["frame"] == "closed"
        # Codes that such a page tries do not count: it is refused before.
        for number in range(9):
            assert console.sign_in(f"{number}").status == 401
        page.close()


def test_a_name_that_was_rebound_to_the_console_is_not_answered(
    home: Home, daemon: ScriptedDaemon, context: BrowserContext
) -> None:
    with ConsoleProcess(home.environment()) as console:
        let_in(context, console)
        before = daemon.lines()
        page = context.new_page()
        answer = page.goto(f"http://localhost:{console.port}/ui/")
        # What came before the name led here is of somebody else.
        page.route("**/prize", lambda route: route.fulfill(body="<!doctype html><body>", content_type="text/html"))
        page.goto(f"http://{REBOUND}:{console.port}/prize")
        base = f"http://{REBOUND}:{console.port}"

        told: dict[str, Any] = page.evaluate(ATTACK, [base, f"ws://{REBOUND}:{console.port}/api/v1/events"])

        assert answer is not None
        assert answer.status == 403, "another name of this machine's is none of ours, either"
        assert told["read"] == "read 403"
        assert told["change by our header"] == told["json"] == "read 403"
        assert {told[one] for one in ("script", "image", "style", "socket")} == {"failed"}
        assert daemon.lines() == before
        page.close()


def let_in(context: BrowserContext, console: ConsoleProcess) -> Page:
    """Its own page, which is let in and asks for nothing more."""
    page = context.new_page()
    page.goto(f"{console.origin}/ui/app.json")
    answered = page.evaluate(
        """(code) => fetch("/console/session", {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-Codezero-CSRF": "console" },
          body: JSON.stringify({ code }),
        }).then((answer) => answer.status)""",
        console.code,
    )
    inside = page.evaluate(
        "fetch('/agent/v1/services', { headers: { 'X-Codezero-CSRF': 'console' } }).then((answer) => answer.status)"
    )
    assert (answered, inside) == (204, 200)
    return page
