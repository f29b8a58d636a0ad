"""The documents hang together: links lead somewhere, every page is in the index, tests they name exist."""

import re
from pathlib import Path

import pytest

from codezero.sandbox import demo

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[a-z_/]+\.py)`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[tuple[Path, str]]:
    """Where a page's links into the repository lead: file and heading."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [target for target in _LINK.findall(text) if "://" not in target and not target.startswith("mailto:")]
    return [
        ((page.parent / path).resolve() if path else page, heading)
        for path, _, heading in (target.partition("#") for target in found)
    ]


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    lines = page.read_text(encoding="utf-8").splitlines()
    titles = (line.lstrip("#").strip().lower() for line in lines if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), target
        assert not heading or heading in headings(target), (target, heading)


def test_every_page_is_in_the_index() -> None:
    """What nothing links to, nobody reads, and nobody keeps true."""
    index = ROOT / "docs" / "README.md"
    listed = {target for target, _ in links(index)}

    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - listed == {index}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_documents_name_exist(page: Path) -> None:
    """A control without a test does not count."""
    for path in _TEST.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/consume.md", "docs/tutorial/serve.md"])
def test_the_way_into_the_demo_names_the_demos_sandbox(page: str) -> None:
    """It is the first thing people type, and the sandbox of the demo is not the default one."""
    shells = re.findall(r"czctl sandbox shell.*", (ROOT / page).read_text(encoding="utf-8"))

    assert shells
    assert all(shell.startswith(f"czctl sandbox shell --name {demo.NAME}") for shell in shells)
