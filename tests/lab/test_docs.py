"""What the documents tell people to type works, typed in the order of the page, on a laptop as `make demo` leaves it."""

import re
from pathlib import Path

import pytest

from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """The lines of a page's `console` blocks that begin with a prompt."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_works(laptop: Laptop, page: Path) -> None:
    """A first command that fails is the last that a newcomer tries."""
    before = laptop.machine()
    laptop.start()
    laptop.consume(f"*.{SAMPLE}", primary_namespace=SAMPLE)
    eventually(laptop.core_answers)

    for command in commands(page):
        ended = laptop.run("sh", "-c", command, check=False)
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        assert ended.stdout.strip() or ended.stderr.strip(), f"{command} says nothing at all"
    laptop.stop()
    assert laptop.machine() == before


def test_there_are_pages_to_try() -> None:
    """A change of the pages' form must not leave this file without work."""
    assert {page.name for page in PAGES} >= {"README.md", "consume.md"}
    assert sum(len(commands(page)) for page in PAGES) > 12
