"""A Teamspace with people in it, for tests and pictures of every page: two laptops that consume and serve, and an organization where things were done."""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from playwright.sync_api import Cookie, Page, expect
from tests.browser import journeys
from tests.browser.journeys import Chromiums

from codezero.sandbox import layout
from codezero.sandbox.control import HubView, Sandbox
from codezero.testing.console_process import ConsoleProcess
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.paired_process import PairProcess

Scheme = Literal["light", "dark"]

CORE: Final = f"{SAMPLE}/sample-project-core"
# Of whoever owns the organization, from the Hub, by the names of their pictures.
HUB_PAGES: Final[Mapping[str, str]] = {
    "teamspaces": "/o/ORG/spaces",
    "members": "/o/ORG/members",
    "invitations": "/o/ORG/members?tab=invitations",
    "api-keys": "/o/ORG/apikeys",
    "devices": "/o/ORG/devices",
    "audit": "/o/ORG/audit",
    "settings": "/o/ORG/settings",
    "account": "/account",
    "teamspace": "/o/ORG/spaces/SPACE",
    "catalog": "/o/ORG/spaces/SPACE/catalog",
    "service": f"/o/ORG/spaces/SPACE/catalog?service={CORE}",
    "graph": "/o/ORG/spaces/SPACE/graph",
    "people": "/o/ORG/spaces/SPACE/people",
    "activity": "/o/ORG/spaces/SPACE/activity",
    "policy": "/o/ORG/spaces/SPACE/policy",
    "hub-machine": "/machine",
    "not-here": "/o/ORG/nothing",
}
# Of a developer, from the Hub, in a browser that is paired with their laptop; and where `czctl pair` leads to.
PAIR_PAGE: Final = "pair"
PAIRED_PAGES: Final[Mapping[str, str]] = {
    "paired-machine": "/machine",
    "paired-catalog": "/o/ORG/spaces/SPACE/catalog",
}
# Of a developer, from the console of their laptop.
CONSOLE_PAGES: Final[Mapping[str, str]] = {
    "machine": "/machine",
    "machine-catalog": "/machine/catalog",
    "machine-service": f"/machine/catalog?service={CORE}",
    "machine-graph": "/machine/graph",
    "machine-people": "/machine/people",
    "machine-activity": "/machine/activity",
    "console-catalog": "/o/ORG/spaces/SPACE/catalog",
}
# Forms that the Hub answers itself, to a stranger.
FORMS: Final[Mapping[str, str]] = {"sign-in": "/sign-in"}


@dataclass
class Scene:
    """What is looked at, and whose pages look at it."""

    sandbox: Sandbox
    console: ConsoleProcess
    # Of the console's page; a secret.
    cookies: list[Cookie] = field(default_factory=list[Cookie], repr=False)

    @property
    def hub(self) -> HubView:
        """The Hub."""
        return self.sandbox.hub()

    def path(self, path: str) -> str:
        """The path of a page, with the ids of this very Hub."""
        return path.replace("ORG", self.hub.organization).replace("SPACE", self.hub.space)

    def of_hub(self, browsers: Chromiums, *, user: str = "admin", scheme: Scheme = "light") -> Page:
        """A page of somebody who is signed in at the Hub."""
        person = self.hub.people[user]
        page = browsers(layout.LAPTOP, scheme=scheme)
        page.goto(f"{self.hub.url}/sign-in")
        page.get_by_label("E-mail address").fill(person.email)
        page.get_by_label("Password").fill(person.password)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url("**/ui/o/**")
        return page

    def offer(self) -> PairProcess:
        """`czctl pair` in the developer's terminal, whose address a page of theirs is opened at."""
        environment = self.sandbox.environment(layout.LAPTOP)
        return PairProcess(environment, prefix=self.sandbox.command(layout.LAPTOP, [], folder="/"))

    def of_console(self, browsers: Chromiums, *, scheme: Scheme = "light") -> Page:
        """A page of the console. A code is good for one page, so others get its cookie."""
        page = browsers(layout.LAPTOP, origin=self.console.origin, scheme=scheme)
        if not self.cookies:
            page.goto(self.console.address)
            page.wait_for_url("**/ui/**")
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            self.cookies = page.context.cookies()
            assert len(self.cookies) == 1
        else:
            page.context.add_cookies(cast("Any", self.cookies))
        return page


def set_up(sandbox: Sandbox, ending: ExitStack) -> Scene:
    """Let people do what there is to see. What runs for it ends with `ending`."""
    laptops = [(Laptop(sandbox), "core", "3000"), (Laptop(sandbox, layout.LAPTOP2), "leaf", "3010")]
    for laptop, part, port in laptops:
        laptop.sign_in()
        laptop.join()
        laptop.consume(f"*.{SAMPLE}", primary_namespace=SAMPLE)
        variables = {
            "SP_ADDRESS": "127.0.0.1",
            "SP_PORT": port,
            "SP_LEAF_URL": f"http://sample-project-leaf.{SAMPLE}:3010",
        }
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = laptop.popen("python", "-m", f"codezero.sandbox.sample.{part}", env=variables, **quiet)
        ending.callback(process.wait)
        ending.callback(process.kill)
        condition = ("--condition-type", "header", "--condition", "x-c6o-team:demo")
        laptop.czctl("serve", f"{SAMPLE}/sample-project-{part}", port, *condition)
    admin = Laptop(sandbox, layout.CLUSTER)
    admin.sign_in("admin")
    admin.czctl("organization", "invite", "carol@example.com", "--role", "viewer")
    admin.czctl("apikey", "create", "nightly", "--expires", "720h", "-o", "json")
    admin.czctl("space", "create", "staging")
    first, _, _ = laptops[0]
    console = ending.enter_context(journeys.console(first))
    return Scene(sandbox, console)


def shown(page: Page, url: str) -> None:
    """Go there, and wait until all is there that the page asks for."""
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_label("Loading")).to_have_count(0)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    page.evaluate("document.fonts.ready.then(() => 0)")
