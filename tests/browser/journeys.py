"""Browsers in the places of a sandbox, what people do there in a terminal, and a Hub that nobody owns yet."""

import re
import shlex
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from playwright.sync_api import Browser, Page, Playwright, expect
from tests.browser.conftest import PATIENCE_MS, Complaints

from codezero.sandbox import layout
from codezero.sandbox.control import HubView, Sandbox
from codezero.testing.console_process import ConsoleProcess
from codezero.testing.laptop import Laptop

PASSWORD: Final = "correct horse battery staple"
# What a cluster takes to start a Router, say, is more than what a page does.
expect.set_options(timeout=PATIENCE_MS)
_USER_CODE: Final = re.compile(r"\b[A-Z0-9]{4}-[A-Z0-9]{4}\b")


@dataclass
class Chromiums:
    """Starts a Chromium in each place that is asked for, and opens pages there. What they complain of is heard."""

    playwright: Playwright
    program: Path
    sandbox: Sandbox
    folder: Path
    complaints: Complaints = field(default_factory=Complaints)
    # More of Chromium's command line.
    options: Sequence[str] = ()
    _started: dict[str, Browser] = field(default_factory=dict[str, Browser])

    def __call__(
        self,
        place: str,
        *,
        origin: str = layout.HUB_URL,
        machine: str | None = None,
        scheme: Literal["light", "dark"] = "light",
        **options: Any,
    ) -> Page:
        """An empty page in that place, in a browser of its own that knows nobody and asks `origin` alone, and what is paired with it at `machine`.

        `options` are those of Playwright's context.
        """
        context = self._chromium(place).new_context(
            color_scheme=scheme,
            locale="en-GB",
            reduced_motion="reduce",
            # The Hub's authority is the sandbox's own.
            ignore_https_errors=True,
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        context.set_default_timeout(PATIENCE_MS)
        self.complaints.watch(context, origin, *([] if machine is None else [machine]))
        return context.new_page()

    def keep_pictures(self) -> None:
        """Keep what all pages show, in the folder."""
        contexts = [context for browser in self._started.values() for context in browser.contexts]
        for number, page in enumerate(page for context in contexts for page in context.pages):
            picture = self.folder / f"page-{number}.png"
            page.screenshot(path=picture)
            print(f"{page.url.partition('#')[0]} is shown in {picture}")

    def close(self) -> None:
        """End them all."""
        for browser in self._started.values():
            browser.close()

    def _chromium(self, place: str) -> Browser:
        if place not in self._started:
            self._started[place] = self.playwright.chromium.launch(
                executable_path=self._entering(place),
                chromium_sandbox=False,
                args=["--disable-dev-shm-usage", *self.options],
            )
        return self._started[place]

    def _entering(self, place: str) -> Path:
        """A program that is Chromium in that place. Playwright talks to it by two descriptors, which stay open on the way."""
        command = self.sandbox.command(place, [str(self.program)], folder="/")
        variables = [f"{name}={value}" for name, value in self.sandbox.environment(place).items()]
        script = self.folder / f"chromium-{place}"
        script.write_text(f'#!/bin/sh\nexec env -i {shlex.join([*variables, *command])} "$@"\n')
        script.chmod(0o700)
        return script


def empty_the_hub(sandbox: Sandbox) -> str:
    """Let the sandbox's Hub begin with nobody and nothing; the link for its first owner, as `czhub` prints it. A secret."""
    hub = sandbox.hub()
    sandbox.stop_hub()
    sandbox.run(layout.INTERNET, ["rm", "-rf", hub.data_folder])
    sandbox.start_hub()
    settings = {
        "CODEZERO_HUB_DATA_FOLDER": hub.data_folder,
        "CODEZERO_HUB_PUBLIC_URL": hub.url,
        "CODEZERO_HUB_LISTEN": f"{layout.HUB_ADDRESS}:443",
        "CODEZERO_HUB_TLS_CERT_FILE": str(layout.HUB_FOLDER / "tls.crt"),
        "CODEZERO_HUB_TLS_KEY_FILE": str(layout.HUB_FOLDER / "tls.key"),
    }
    return sandbox.run(layout.INTERNET, ["czhub", "owner-link"], env=settings).stdout.split()[-1]


def sign_in(laptop: Laptop, hub: HubView, page: Page) -> None:
    """`czctl auth login` in the laptop's terminal, whose code is typed into `page`, where somebody is signed in."""
    command = ("czctl", "auth", "login", "--force", "--hub", hub.url, "--hub-ca", hub.ca)
    with laptop.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as waiting:
        assert waiting.stdout is not None
        said = ""
        for line in waiting.stdout:
            said += line
            if (code := _USER_CODE.search(line)) is not None:
                page.goto(f"{hub.url}/device")
                page.get_by_label("Code").fill(code[0])
                page.get_by_role("button", name="Go on").click()
                page.get_by_role("button", name="Approve").click()
    assert waiting.returncode == 0, said


@contextmanager
def console(laptop: Laptop) -> Generator[ConsoleProcess]:
    """`czctl ui --no-open` in the laptop's terminal."""
    sandbox = laptop.sandbox
    with ConsoleProcess(sandbox.environment(laptop.place), prefix=sandbox.command(laptop.place, [], folder="/")) as ui:
        yield ui


def copied(page: Page) -> str:
    """What was copied last in that browser."""
    return page.evaluate("navigator.clipboard.readText()")
