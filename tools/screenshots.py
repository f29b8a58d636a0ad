"""Pictures of every page in both colour schemes, before a real Hub, Teamspace and agent: what designers look at, and the documentation shows.

Usage: python -m tools.screenshots [--only NAME]... [FOLDER]   (from the folder above; docs/screenshots if none is named)

Pictures are 1280 by 800 and named after their page: `catalog-light.png`, `catalog-dark.png`.
"""

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect, sync_playwright
from tests.browser import scene
from tests.browser.conftest import PROGRAMS
from tests.browser.journeys import Chromiums
from tests.browser.scene import CONSOLE_PAGES, FORMS, HUB_PAGES, PAIR_PAGE, PAIRED_PAGES, Scene, Scheme, shown

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox

FOLDER: Final = Path(__file__).parent.parent / "docs" / "screenshots"
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
SIZE: Final = {"width": 1280, "height": 800}


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description="Pictures of every page.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--only", action="append", metavar="NAME", help="This page alone; may be repeated.")
    arguments = parser.parse_args()
    known = [*FORMS, *HUB_PAGES, *CONSOLE_PAGES, PAIR_PAGE, *PAIRED_PAGES]
    wanted: set[str] = set(arguments.only or known)
    if unknown := wanted - set(known):
        parser.error(f"there is no page {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        parser.error(f"there is no Chromium; install one of {', '.join(PROGRAMS)}")
    with ExitStack() as ending:
        scripts = Path(ending.enter_context(tempfile.TemporaryDirectory()))
        sandbox = ending.enter_context(Sandbox.up(name="screenshots", tied=True, hub="sqlite"))
        looked_at = scene.set_up(sandbox, ending)
        browsers = Chromiums(ending.enter_context(sync_playwright()), Path(program), sandbox, scripts)
        ending.callback(browsers.close)
        for scheme in SCHEMES:
            take_all(looked_at, browsers, scheme, wanted, folder)
        browsers.complaints.check()


def take_all(looked_at: Scene, browsers: Chromiums, scheme: Scheme, wanted: set[str], folder: Path) -> None:
    """Take the pictures of one scheme."""
    hub, console = looked_at.hub.url, looked_at.console.origin
    stranger = browsers(layout.LAPTOP, scheme=scheme)
    owner = looked_at.of_hub(browsers, scheme=scheme)
    developer = looked_at.of_console(browsers, scheme=scheme)
    groups: tuple[tuple[Page, str, Mapping[str, str]], ...] = (
        (stranger, hub, FORMS),
        (owner, f"{hub}/ui", HUB_PAGES),
        (developer, f"{console}/ui", CONSOLE_PAGES),
    )
    for page, base, pages in groups:
        for name, path in pages.items():
            if name in wanted:
                take(page, base + looked_at.path(path), folder / f"{name}-{scheme}.png")
        page.context.close()
    if wanted & {PAIR_PAGE, *PAIRED_PAGES}:
        take_paired(looked_at, browsers, scheme, wanted, folder)


def take_paired(looked_at: Scene, browsers: Chromiums, scheme: Scheme, wanted: set[str], folder: Path) -> None:
    """Take the pictures of a browser that is paired on the way."""
    page = looked_at.of_hub(browsers, user="dev1", scheme=scheme)
    with looked_at.offer() as waiting:
        if PAIR_PAGE in wanted:
            take(page, waiting.address, folder / f"{PAIR_PAGE}-{scheme}.png")
        else:
            page.goto(waiting.address)
        page.get_by_role("button", name="Pair this browser").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("This browser is paired")
    for name, path in PAIRED_PAGES.items():
        if name in wanted:
            take(page, f"{looked_at.hub.url}/ui" + looked_at.path(path), folder / f"{name}-{scheme}.png")
    page.context.close()


def take(page: Page, url: str, picture: Path) -> None:
    """Take the picture of one page."""
    page.set_viewport_size({"width": SIZE["width"], "height": SIZE["height"]})
    shown(page, url)
    # The graph is laid out and comes to rest after it is there.
    page.wait_for_timeout(1000)
    page.screenshot(path=picture)
    print(picture.name)


if __name__ == "__main__":
    main()
