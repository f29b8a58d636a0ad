"""The Hub's page and the agent of the machine in front of it, in a real browser (ADR 17): directly, through the Hub, and what neither lets anybody do.

The Hub's page is one of the network here and the machine's own port is loopback, so that Chromium asks before it lets one reach the other. What its user
would answer, the tests say beforehand.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, expect
from tests.browser.conftest import FAILED, PATIENCE_MS, Complaints
from tests.browser.journeys import Chromiums
from tests.browser.scene import Scheme
from tests.browser.steps import agree, consume_by, open_service, serve_by_header, serve_dialog, shown
from tests.browser.test_accessibility import findings
from tests.lab.conftest import start
from tests.process.test_czctl_hub import Machine

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.hub_process import OWNER, HubProcess
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.paired_process import PairProcess
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
EDGE: Final = f"http://{layout.NODE_ADDRESS}/api"
REBOUND: Final = "rebound.example"
PUBLIC: Final = (
    f"--ip-address-space-overrides={layout.HUB_ADDRESS}:443=public,{layout.HUB_ADDRESS}:8081=public",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
)
# What a page asks of the agent, directly and through the Hub.
ASKED: Final = re.compile(r"^http://127\.0\.0\.1:\d+/agent/|/machines/[^/]+/ask$")
# So that a question is all that is between a page and the requests of others.
SERVE_BY_DEFAULT: Final = """
permit (principal in Codezero::Role::"developer", action == Codezero::Action::"serve-default", resource);
"""
# What a foreign program in the page has: its key, by which it asks whatever it likes, by either way (T02).
FOREIGN: Final = """
async ({ method, target, body, way }) => {
  const database = await new Promise((done, failed) => {
    const asked = indexedDB.open("codezero", 1);
    asked.onsuccess = () => done(asked.result);
    asked.onerror = () => failed(asked.error);
  });
  const pairing = await new Promise((done) => {
    const asked = database.transaction("pairing").objectStore("pairing").get("current");
    asked.onsuccess = () => done(asked.result);
  });
  database.close();
  const taken = [];
  for (const kind of ["pkcs8", "jwk", "raw"])
    taken.push(await crypto.subtle.exportKey(kind, pairing.key).then(() => "taken", (error) => error.name));
  const text = new TextEncoder();
  const encoded = (content) => btoa(String.fromCharCode(...new Uint8Array(content)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const digest = async (content) => encoded(await crypto.subtle.digest("SHA-256", text.encode(content)));
  const header = { typ: "codezero-page-proof+jwt", alg: "ES256", kid: pairing.id };
  const claims = { aud: pairing.machine, htm: method, htu: target, bsh: await digest(body),
    iat: Math.floor(Date.now() / 1000), jti: encoded(crypto.getRandomValues(new Uint8Array(16))) };
  const signed = [header, claims].map((part) => encoded(text.encode(JSON.stringify(part)))).join(".");
  const by = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, pairing.key, text.encode(signed));
  const proof = `${signed}.${encoded(by)}`;
  const me = await (await fetch("/api/v1/auth/me")).json();
  const sending = way === "direct"
    ? fetch(`http://127.0.0.1:${pairing.port}${target}`, {
        method, body: body || null, credentials: "omit", targetAddressSpace: "loopback",
        headers: { Authorization: `Codezero-Page ${proof}`, ...(body ? { "Content-Type": "application/json" } : {}) } })
    : fetch(`/api/v1/machines/${pairing.machine}/ask`, {
        method: "POST", headers: { "Content-Type": "application/json", "X-Codezero-CSRF": me.csrf ?? "" },
        body: JSON.stringify({ method, target, proof, body }) });
  return await sending.then(
    async (answer) => ({ taken, status: answer.status, code: (await answer.json()).code ?? "" }),
    () => ({ taken, status: 0, code: "" }),
  );
}
"""


@pytest.fixture(scope="module")
def sandbox(state_home: Path) -> Iterator[Sandbox]:
    """A Teamspace, a laptop that is in it, and beside its editor what its developer has changed."""
    with start(name=f"channels-{os.getpid()}", hub="sqlite") as running, ExitStack() as ending:
        admin = Laptop(running, layout.CLUSTER)
        admin.sign_in("admin")
        admin.czctl("organization", "select", "sandbox")
        # Its own tests say otherwise.
        rules = [line for line in admin.czctl("policy", "show").stdout.splitlines() if "@test" not in line]
        admin.czctl("policy", "apply", input="\n".join(rules) + SERVE_BY_DEFAULT)
        laptop = Laptop(running)
        laptop.sign_in()
        laptop.join()
        environment = {"SP_ADDRESS": "127.0.0.1", "SP_PORT": "3000"}
        environment["SP_LEAF_URL"] = f"http://sample-project-leaf.{SAMPLE}:3010"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        core = laptop.popen("python", "-m", "codezero.sandbox.sample.core", env=environment, **quiet)
        ending.callback(core.wait)
        ending.callback(core.kill)
        yield running


@pytest.fixture
def laptop(sandbox: Sandbox) -> Iterator[Laptop]:
    """The laptop, with which nothing is paired, and which consumes and serves nothing."""
    found = Laptop(sandbox)
    yield found
    found.czctl("pairing", "revoke", "--all", check=False)
    found.czctl("reset", check=False)


@pytest.fixture
def browser_in(
    sandbox: Sandbox, chromium_program: Path, playwright: Playwright, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Chromiums]:
    """Opens pages in places of the sandbox; what they show when a test fails is kept in its folder."""
    chromiums = Chromiums(playwright, chromium_program, sandbox, tmp_path, options=PUBLIC)
    yield chromiums
    if request.node.stash.get(FAILED, False):
        chromiums.keep_pictures()
    chromiums.close()
    chromiums.complaints.check()


class Pairing:
    """`czctl pair --no-open` in the laptop's terminal, and a page of the Hub in somebody's browser."""

    def __init__(self, laptop: Laptop, browsers: Chromiums) -> None:
        self.laptop = laptop
        self.browsers = browsers
        self.port = 0

    def page(
        self,
        *options: str,
        place: str = layout.LAPTOP,
        loopback: Literal["granted", "denied"] = "granted",
        user: str = "dev1",
        scheme: Scheme = "light",
    ) -> Page:
        """A page that is paired by the address that the terminal shows; whether its browser lets it reach loopback is said beforehand."""
        with self.waiting(*options) as waiting:
            page = self.signed_in(waiting.address, place=place, user=user, loopback=loopback, scheme=scheme)
            page.goto(waiting.address)
            page.get_by_role("button", name="Pair this browser").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("This browser is paired")
            code, said = waiting.ended()
            assert code == 0, said
        return page

    def waiting(self, *options: str) -> PairProcess:
        """The terminal, which shows an address."""
        sandbox, place = self.laptop.sandbox, self.laptop.place
        prefix = sandbox.command(place, [], folder="/")
        return PairProcess(sandbox.environment(place), options=("--no-open", *options), prefix=prefix)

    def signed_in(
        self,
        address: str,
        *,
        place: str = layout.LAPTOP,
        user: str = "dev1",
        loopback: Literal["granted", "denied"] = "granted",
        scheme: Scheme = "light",
    ) -> Page:
        """A page of the Hub in a browser of its own, where somebody is signed in."""
        self.port = int(parse_qs(urlsplit(address).fragment)["port"][0])
        page = self.browsers(place, machine=f"http://127.0.0.1:{self.port}", scheme=scheme)
        allow_loopback(page, loopback)
        sign_in(page, self.laptop.sandbox, user)
        return page


@pytest.fixture
def pairing(laptop: Laptop, browser_in: Chromiums) -> Pairing:
    return Pairing(laptop, browser_in)


def allow_loopback(page: Page, setting: str) -> None:
    """As if somebody had answered the browser's question whether the Hub's page may reach this machine's own programs."""
    browser = page.context.browser
    assert browser is not None
    session: Any = page.context.new_cdp_session(page)
    context = session.send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
    # What it sets ends with it.
    whole: Any = browser.new_browser_cdp_session()
    asked = {"permission": {"name": "loopback-network"}, "setting": setting, "origin": layout.HUB_URL}
    whole.send("Browser.setPermission", {**asked, "browserContextId": context})


def sign_in(page: Page, sandbox: Sandbox, user: str) -> None:
    person = sandbox.hub().people[user]
    page.goto(f"{layout.HUB_URL}/sign-in")
    page.get_by_label("E-mail address").fill(person.email)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/ui/o/**")


def catalog(sandbox: Sandbox) -> str:
    hub = sandbox.hub()
    return f"{layout.HUB_URL}/ui/o/{hub.organization}/spaces/{hub.space}/catalog"


def outside(sandbox: Sandbox, *headers: str) -> dict[str, Any]:
    """What somebody who knows nothing of Codezero gets from the shared page."""
    options = [part for header in headers for part in ("-H", header)]
    return json.loads(sandbox.run("internet", ["curl", "-sS", "--max-time", "10", *options, EDGE]).stdout)


def says(page: Page, words: str) -> None:
    """The frame of every page says by which way it reaches the machine."""
    expect(page.get_by_text(f"This machine: {words}", exact=True)).to_be_visible()


def questions(laptop: Laptop) -> list[dict[str, Any]]:
    """What waits for `czctl confirm`."""
    return json.loads(laptop.czctl("confirm", "-o", "json").stdout)["questions"]


def confirm_port(page: Page, laptop: Laptop, port: int) -> None:
    """Say yes in the laptop's terminal to the first serve of a service from that port."""
    waits = page.get_by_role("dialog", name="Confirm it on the machine")
    expect(waits).to_contain_text(f"from port {port} of this machine")
    (question,) = questions(laptop)
    assert question["asked"][0] == f"answer requests to {CORE} from port {port} of this machine"
    laptop.czctl("confirm", question["id"], "--yes")
    expect(waits).to_have_count(0)


class Counter:
    """Counts what comes to a port of the laptop's loopback, by its packet filter."""

    def __init__(self, laptop: Laptop, port: int) -> None:
        self.laptop = laptop
        laptop.run("nft", "add", "table", "inet", "watch")
        laptop.run("nft", "add", "chain", "inet", "watch", "input", "{ type filter hook input priority 0; }")
        laptop.run("nft", "add", "rule", "inet", "watch", "input", "tcp", "dport", str(port), "counter")

    def packets(self) -> int:
        told = json.loads(self.laptop.run("nft", "-j", "list", "chain", "inet", "watch", "input").stdout)
        (rule,) = [one["rule"] for one in told["nftables"] if "rule" in one]
        return next(one["counter"]["packets"] for one in rule["expr"] if "counter" in one)

    def remove(self) -> None:
        self.laptop.run("nft", "delete", "table", "inet", "watch")


@pytest.mark.capability("page", "pairing.make", "pairing.list", "consume.change", "serve.start", "agent.status")
def test_directly_a_page_of_the_hub_consumes_and_serves(sandbox: Sandbox, laptop: Laptop, pairing: Pairing) -> None:
    """A port of the machine with a word in a terminal the first time, and without one from then on; and goes on while the Hub is stopped."""
    pairing.browsers.complaints.expect("403|ERR_|WebSocket")
    page = pairing.page()
    expect(page.get_by_role("main").get_by_role("status")).to_contain_text("and asks it directly")
    says(page, "directly")
    counter = Counter(laptop, pairing.port)
    shown(page, f"{layout.HUB_URL}/ui/machine", "My machine")
    expect(page.get_by_role("main")).to_contain_text(f"At 127.0.0.1:{pairing.port}")
    expect(page.get_by_role("row").filter(has_text="This one")).to_contain_text("look and change")
    assert laptop.status()["tunnel"]["session"] in page.get_by_role("main").inner_text()

    shown(page, catalog(sandbox), "Catalog")
    consume_by(page, f"*.{SAMPLE}")
    assert CORE in laptop.consumed()
    open_service(page, CORE)
    serve_by_header(page, CORE, 3000, "x-c6o-team", "blue", confirm=lambda: confirm_port(page, laptop, 3000))
    eventually(lambda: outside(sandbox, "x-c6o-team: blue")["where"] == "laptop")
    assert outside(sandbox)["where"].startswith("sample-project-core-")
    serve_by_header(page, CORE, 3000, "x-c6o-team", "green")
    eventually(lambda: outside(sandbox, "x-c6o-team: green")["where"] == "laptop")

    page.keyboard.press("Escape")
    sandbox.stop_hub()
    try:
        consume_by(page, f"sample-project-leaf.{SAMPLE}")
        assert list(laptop.consumed()) == [f"{SAMPLE}/sample-project-leaf"]
        says(page, "directly")
    finally:
        sandbox.start_hub()
    assert counter.packets() > 0, "else that nothing came in another test would show nothing"
    counter.remove()


def test_a_page_that_may_not_reach_the_machine_asks_through_the_hub(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing
) -> None:
    pairing.browsers.complaints.expect("403")
    with pairing.waiting() as waiting:
        page = pairing.signed_in(waiting.address, loopback="denied")
        counter = Counter(laptop, pairing.port)
        page.goto(waiting.address)
        expect(
            page.get_by_text("Your browser does not let this page reach programs of your own machine")
        ).to_be_visible()
        page.get_by_role("button", name="Pair this browser").click()
        expect(page.get_by_role("main").get_by_role("status")).to_contain_text("and asks it through the Hub")
        assert waiting.ended()[0] == 0
    says(page, "through the Hub")
    shown(page, catalog(sandbox), "Catalog")
    consume_by(page, f"*.{SAMPLE}")
    assert CORE in laptop.consumed()
    open_service(page, CORE)
    serve_by_header(page, CORE, 3000, "x-c6o-team", "blue", confirm=lambda: confirm_port(page, laptop, 3000))
    eventually(lambda: outside(sandbox, "x-c6o-team: blue")["where"] == "laptop")

    assert counter.packets() == 0
    counter.remove()


def test_a_browser_elsewhere_asks_through_the_hub_alone(sandbox: Sandbox, laptop: Laptop, pairing: Pairing) -> None:
    """With a pairing of its own, beside that of a browser on the machine."""
    pairing.browsers.complaints.expect("ERR_CONNECTION_REFUSED")
    pairing.page()
    elsewhere = pairing.page("--name", "the tablet", place=layout.LAPTOP2)
    says(elsewhere, "through the Hub")
    shown(elsewhere, f"{layout.HUB_URL}/ui/machine", "My machine")
    expect(elsewhere.get_by_role("main")).to_contain_text("Nobody answers at the machine's own port.")
    expect(elsewhere.get_by_role("row").filter(has_text="This one")).to_contain_text("the tablet")
    shown(elsewhere, catalog(sandbox), "Catalog")
    consume_by(elsewhere, f"*.{SAMPLE}")

    assert CORE in laptop.consumed()
    paired = json.loads(laptop.czctl("pairing", "list", "-o", "json").stdout)["pairings"]
    assert len(paired) == 2


def about_to_serve_everybody(page: Page, sandbox: Sandbox, laptop: Laptop) -> Locator:
    """The dialog to serve the core by the condition `default`, as far as its button."""
    laptop.consume(f"*.{SAMPLE}")
    shown(page, catalog(sandbox), "Catalog")
    open_service(page, CORE)
    return serve_dialog(page, CORE, 3000, "Default")


@pytest.mark.parametrize("loopback", ["granted", "denied"])
def test_what_touches_others_waits_for_a_word_in_a_terminal(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing, loopback: Literal["granted", "denied"]
) -> None:
    pairing.browsers.complaints.expect("403")
    page = pairing.page(loopback=loopback)
    dialog = about_to_serve_everybody(page, sandbox, laptop)
    serve = dialog.get_by_role("button", name="Serve", exact=True)
    waits = page.get_by_role("dialog", name="Confirm it on the machine")

    def asked() -> str:
        """What the terminal is told to confirm."""
        expect(dialog.get_by_text("Before you serve")).to_be_visible()
        serve.click()
        expect(waits).to_be_visible()
        (question,) = eventually(lambda: questions(laptop))
        assert laptop.serves() == []
        expect(waits).to_contain_text(f"czctl confirm {question['id']}")
        assert CORE in " ".join(question["asked"])
        return question["id"]

    laptop.czctl("confirm", asked(), "--no")
    expect(waits).to_have_count(0)
    expect(dialog.get_by_role("alert").filter(has_text="CZ-PAIR")).to_be_visible()
    assert laptop.serves() == []

    asked()
    waits.get_by_role("button", name="Cancel", exact=True).click()
    expect(waits).to_have_count(0)
    expect(dialog.get_by_role("alert").filter(has_text="CZ-GUI-006")).to_be_visible()
    assert laptop.serves() == []
    assert laptop.core()["where"].startswith("sample-project-core-")

    laptop.czctl("confirm", asked(), "--yes")
    expect(waits).to_have_count(0)
    expect(dialog.get_by_text("Requests come here")).to_be_visible()
    assert [one["service"]["name"] for one in laptop.serves()] == ["sample-project-core"]
    # By a connection of its own each time: one that was open before stays with the pods.
    eventually(lambda: laptop.core()["where"] == "laptop")


@pytest.mark.parametrize("loopback", ["granted", "denied"])
def test_a_page_waits_on_over_a_lost_answer_and_asks_again_when_nobody_came(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing, loopback: Literal["granted", "denied"]
) -> None:
    # What it asks while its clock is ahead is refused, too.
    pairing.browsers.complaints.expect("40[0-9]|ERR_FAILED")
    page = pairing.page(loopback=loopback)
    dialog = about_to_serve_everybody(page, sandbox, laptop)
    expect(dialog.get_by_text("Before you serve")).to_be_visible()
    page.clock.install()
    dialog.get_by_role("button", name="Serve", exact=True).click()
    waits = page.get_by_role("dialog", name="Confirm it on the machine")
    says_so = waits.get_by_role("status")
    expect(says_so).to_have_text("Waiting; this page goes on by itself")

    page.route(ASKED, lambda route: route.abort())
    expect(says_so).to_contain_text("it is asked again by itself")
    page.unroute(ASKED)
    expect(says_so).to_have_text("Waiting; this page goes on by itself")

    page.clock.fast_forward(600_000)
    page.clock.set_system_time(datetime.now(UTC))
    expect(says_so).to_have_text("No answer within ten minutes.")
    expect(waits).not_to_contain_text("czctl confirm")
    waits.get_by_role("button", name="Ask again").click()
    expect(says_so).to_have_text("Waiting; this page goes on by itself")
    (question,) = questions(laptop)
    laptop.czctl("confirm", question["id"], "--yes")
    expect(waits).to_have_count(0)
    expect(dialog.get_by_text("Requests come here")).to_be_visible()
    assert [one["service"]["name"] for one in laptop.serves()] == ["sample-project-core"]


@pytest.mark.parametrize("way", ["direct", "relay"])
def test_a_foreign_program_in_the_page_takes_no_key_and_confirms_nothing(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing, way: str
) -> None:
    """It may use the key while the page is open, for what the page may do (T02)."""
    pairing.browsers.complaints.expect("40[0-9]|CORS|ERR_FAILED")
    page = pairing.page()
    served = {
        "service": CORE,
        "ports": [{"remote": 3000, "local": 3000}],
        "condition": [{"kind": "default"}],
    }
    header = {"kind": "header", "key": "x-tenant", "value": "blue"}
    database = {**served, "ports": [{"remote": 3000, "local": 5432}], "condition": [header]}

    def asks(method: str, target: str, body: object = None) -> dict[str, Any]:
        content = "" if body is None else json.dumps(body)
        return page.evaluate(FOREIGN, {"method": method, "target": target, "body": content, "way": way})

    reads = asks("GET", "/agent/v1/status")
    served_by_default = [asks("POST", "/agent/v1/serve", served) for _ in range(3)]
    served_a_port = asks("POST", "/agent/v1/serve", database)
    others = [
        asks("PUT", "/agent/v1/teamspace", {}),
        asks("POST", "/agent/v1/shutdown"),
        asks("POST", "/paired/v1/confirmations", {}),
        asks("POST", "/console/agent/stop"),
        asks("GET", "/agent/v1/../v1/status"),
    ]

    assert reads["taken"] == ["InvalidAccessError"] * 3
    assert reads["status"] == 200
    assert {(one["status"], one["code"]) for one in served_by_default} == {(403, "CZ-PAIR-004")}
    # What is not in the list, a browser does not even send directly.
    assert all(one["status"] in ({0, 401, 403} if way == "direct" else {403, 404}) for one in others), others
    assert laptop.serves() == []
    assert laptop.is_connected()
    assert (served_a_port["status"], served_a_port["code"]) == (403, "CZ-PAIR-004")
    assert [one["asked"][0] for one in questions(laptop)] == [
        f"answer requests to {CORE} from port 3000 of this machine: whoever sent them",
        f"answer requests to {CORE} from port 5432 of this machine",
    ], "and what is asked again is the very same question"


@pytest.mark.parametrize("way", ["direct", "relay"])
def test_a_page_that_may_look_is_offered_nothing_and_refused_by_the_machine(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing, way: str
) -> None:
    pairing.browsers.complaints.expect("403")
    laptop.consume(f"*.{SAMPLE}")
    page = pairing.page("--read-only", loopback="granted" if way == "direct" else "denied")
    says(page, f"{'directly' if way == 'direct' else 'through the Hub'}, reading only")
    shown(page, catalog(sandbox), "Catalog")
    expect(page.get_by_text("This browser is paired to look")).to_be_visible()
    open_service(page, CORE)
    for name in ("Consume", "Stop consuming", "Serve…", "Consume rules", "Reset"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    page.keyboard.press("Escape")
    shown(page, f"{layout.HUB_URL}/ui/machine", "My machine")
    expect(page.get_by_role("table", name="Consumed services")).to_contain_text("sample-project-core")
    for name in ("Reset", "Leave", "Stop", "Connect", "Revoke"):
        expect(page.get_by_role("main").get_by_role("button", name=name, exact=True)).to_have_count(0)

    forged = {"method": "PUT", "target": "/agent/v1/consume", "body": '{"rules":[]}', "way": way}
    told = page.evaluate(FOREIGN, forged)
    assert (told["status"], told["code"]) == (403, "CZ-PAIR-002")
    assert CORE in laptop.consumed()


# A page of another origin: what it gets to know of an answer, by each kind of request.
OTHER_PAGE: Final = """
async ([base, proof]) => {
  const ask = (path, init) => fetch(base + path, { targetAddressSpace: "loopback", ...init })
    .then((answer) => answer.type === "opaque" ? "opaque" : `read ${answer.status}`, () => "failed");
  return {
    read: await ask("/agent/v1/status"),
    blind: await ask("/agent/v1/status", { mode: "no-cors" }),
    signed: await ask("/agent/v1/status", { headers: { Authorization: proof } }),
    change: await ask("/agent/v1/reset", { method: "POST", mode: "no-cors", body: "{}" }),
    pair: await ask("/paired/v1/pairings", { method: "POST", mode: "no-cors", body: "{}" }),
    socket: await new Promise((done) => {
      const opened = new WebSocket(base.replace("http", "ws") + "/agent/v1/events");
      opened.onopen = () => done("opened");
      opened.onerror = () => done("failed");
    }),
  };
}
"""


def test_no_other_page_gets_anything_from_the_port(sandbox: Sandbox, laptop: Laptop, pairing: Pairing) -> None:
    """One of another program of this machine, one of the network without TLS, and one whose name was rebound to the port itself."""
    pairing.browsers.complaints.expect(".")
    laptop.consume(f"*.{SAMPLE}")
    paired = pairing.page()
    proof: list[str] = []
    paired.on("request", lambda one: proof.append(one.headers.get("authorization", "")))
    shown(paired, f"{layout.HUB_URL}/ui/machine", "My machine")
    eventually(lambda: paired.wait_for_timeout(100) or any(one.startswith("Codezero-Page ") for one in proof))
    stolen = next(one for one in proof if one.startswith("Codezero-Page "))
    base = f"http://127.0.0.1:{pairing.port}"
    served = ["python", "-m", "http.server", "8081", "--bind"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    local = laptop.popen(*served, "127.0.0.1", **quiet)
    network = sandbox.popen("internet", [*served, layout.HUB_ADDRESS], **quiet)
    try:
        eventually(lambda: laptop.run("curl", "-s", "http://127.0.0.1:8081/", check=False).returncode == 0)
        asked = ["curl", "-s", f"http://{layout.HUB_ADDRESS}:8081/"]
        eventually(lambda: sandbox.run("internet", asked, check=False).returncode == 0)
        for address, target in (
            ("http://127.0.0.1:8081/", base),
            (f"http://{layout.HUB_ADDRESS}:8081/", base),
            (f"http://{REBOUND}:{pairing.port}/ui/", f"http://{REBOUND}:{pairing.port}"),
        ):
            page = pairing.browsers(layout.LAPTOP)
            page.goto(address)
            told: dict[str, str] = page.evaluate(OTHER_PAGE, [target, stolen])
            if REBOUND in address:
                # To itself it is of one origin, and reads that it is refused.
                assert set(told.values()) <= {"failed", "read 401"}, told
            else:
                assert told["read"] == told["signed"] == told["socket"] == "failed", told
                assert set(told.values()) <= {"failed", "opaque"}, told
            page.context.close()
    finally:
        for process in (local, network):
            process.kill()
            process.wait()

    assert CORE in laptop.consumed()
    assert len(json.loads(laptop.czctl("pairing", "list", "-o", "json").stdout)["pairings"]) == 1


def test_another_user_of_the_hub_in_the_same_browser_does_not_use_the_pairing(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing
) -> None:
    page = pairing.page()
    page.get_by_role("button", name=re.compile("^You: dev1")).click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.wait_for_url("**/sign-in**")
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    sign_in(page, sandbox, "dev2")
    shown(page, f"{layout.HUB_URL}/ui/machine", "My machine")

    expect(page.get_by_role("heading", name="Paired for somebody else")).to_be_visible()
    expect(page.get_by_text("Connected to")).to_have_count(0)
    assert not [one for one in asked if one.startswith("http://127.0.0.1") or "/ask" in one]


@pytest.mark.capability("page", "pairing.revoke", "pairing.list")
@pytest.mark.parametrize("loopback", ["granted", "denied"])
def test_a_pairing_that_is_revoked_is_over_at_once_and_the_page_says_how_to_get_another(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing, loopback: Literal["granted", "denied"]
) -> None:
    pairing.browsers.complaints.expect("40[13]|ERR_|503|CORS")
    other = pairing.page("--name", "the other one")
    page = pairing.page(loopback=loopback)
    shown(page, f"{layout.HUB_URL}/ui/machine", "My machine")
    page.get_by_role("row").filter(has_text="the other one").get_by_role("button", name="Revoke").click()
    agree(page, "Revoke", "Revoke the pairing of the other one?")
    expect(page.get_by_role("row").filter(has_text="the other one")).to_have_count(0)
    (left,) = json.loads(laptop.czctl("pairing", "list", "-o", "json").stdout)["pairings"]
    assert left["name"] != "the other one"
    shown(other, f"{layout.HUB_URL}/ui/machine", "My machine")
    expect(other.get_by_role("heading", name="The pairing has ended")).to_be_visible()

    laptop.czctl("pairing", "revoke", "--all")
    expect(
        page.get_by_role("heading", name=re.compile("The pairing has ended|The machine is not reached"))
    ).to_be_visible()
    expect(page.get_by_text("czctl pair", exact=True).first).to_be_visible()
    expect(page.get_by_text("Connected to")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pairing_keeps_nobody_out_and_needs_no_pointer(
    sandbox: Sandbox, laptop: Laptop, pairing: Pairing, scheme: Scheme
) -> None:
    # It is asked in vain where it was revoked.
    pairing.browsers.complaints.expect("403|CORS|ERR_")
    found: dict[str, list[dict[str, Any]]] = {}
    with pairing.waiting() as waiting:
        page = pairing.signed_in(waiting.address, scheme=scheme)
        shown(page, f"{layout.HUB_URL}/ui/pair", "Pair this browser")
        found["without an offer"] = findings(page)
        page.goto("about:blank")
        shown(page, waiting.address, "Pair this browser")
        expect(page.get_by_role("main")).to_contain_text("connected")
        found["offer"] = findings(page)
        press_until(page, "Tab", "Pair this browser")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("This browser is paired")
        assert waiting.ended()[0] == 0
    found["paired"] = findings(page)
    press_until(page, "Tab", "Go to My machine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("My machine")
    expect(page.get_by_role("row").filter(has_text="This one")).to_be_visible()
    found["machine"] = findings(page)

    shown(page, catalog(sandbox), "Catalog")
    open_service(page, CORE)
    dialog = serve_dialog(page, CORE, 3000, "Default")
    expect(dialog.get_by_text("Before you serve")).to_be_visible()
    dialog.get_by_role("button", name="Serve", exact=True).press("Enter")
    waits = page.get_by_role("dialog", name="Confirm it on the machine")
    expect(waits.get_by_role("button", name="Cancel", exact=True)).to_be_focused()
    found["confirm"] = findings(page)
    page.keyboard.press("Escape")
    expect(waits).to_have_count(0)
    expect(dialog).to_be_visible()
    assert laptop.serves() == []

    laptop.czctl("pairing", "revoke", "--all")
    shown(page, f"{layout.HUB_URL}/ui/machine", "My machine")
    found["revoked"] = findings(page)
    assert not [(name, one) for name, all_ in found.items() for one in all_], json.dumps(found, indent=1)


def press_until(page: Page, key: str, name: str) -> None:
    """Press the key until what is called so has the focus."""
    for _ in range(40):
        if page.evaluate("document.activeElement?.textContent?.trim() ?? ''") == name:
            return
        page.keyboard.press(key)
    raise AssertionError(f"{name} is not reached by {key}")


def test_a_hub_that_relays_for_nobody_is_named(chromium: Browser, complaints: Complaints, tmp_path: Path) -> None:
    """By whoever runs it; directly the page asks all the same."""
    hub = HubProcess(tmp_path / "hub", variables={"CODEZERO_HUB_RELAY": "off"})
    try:
        hub.start().owner()
        (tmp_path / "home").mkdir()
        machine = Machine(tmp_path / "home", hub, {})
        machine.login()
        with PairProcess(machine.environment()) as waiting:
            context = chromium.new_context(locale="en-GB")
            context.set_default_timeout(PATIENCE_MS)
            port = parse_qs(urlsplit(waiting.address).fragment)["port"][0]
            complaints.watch(context, hub.url, f"http://127.0.0.1:{port}")
            complaints.expect("503|404|ERR_|403")
            page = context.new_page()
            page.goto(f"{hub.url}/sign-in?return_to=/ui/account")
            page.get_by_label("E-mail address").fill(OWNER["email"])
            page.get_by_label("Password").fill(OWNER["password"])
            page.get_by_role("button", name="Sign in", exact=True).click()
            page.wait_for_url("**/ui/account")
            page.goto(waiting.address)
            page.get_by_role("button", name="Pair this browser").click()
            expect(page.get_by_role("main").get_by_role("status")).to_contain_text("and asks it directly")
            assert waiting.ended()[0] == 0
        machine.czctl("stop")
        shown(page, f"{hub.url}/ui/machine", "My machine")
        expect(page.get_by_role("heading", name="The machine is not reached")).to_be_visible()
        expect(page.get_by_role("main")).to_contain_text("CZ-PAIR-006")
        context.close()
    finally:
        hub.close()
    complaints.check()
