"""The generated reference pages: as the code is, whole, and the same on every machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codezero.cli.main import COMMANDS
from codezero.model import problems

ROOT = Path(__file__).parent.parent.parent
PAGES = {"capabilities.md", "czctl.md", "environment.md", "errors.md", "hub-api.md", "options.md", "values.md"}


def reference(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "reference.py", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages made anew, on a machine that differs in what must not matter."""
    folder = tmp_path_factory.mktemp("reference")
    ended = reference(
        folder, COLUMNS="40", SUDO_UID="4711", CODEZERO_LISTEN="127.0.0.1:1", CODEZERO_RUN_FOLDER="/elsewhere", LANG="C"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder


def test_the_pages_in_the_repository_are_those_of_the_code(made: Path) -> None:
    """Otherwise readers are told about options there are not. `make reference` writes them."""
    assert {page.name for page in made.iterdir()} == PAGES
    for page in made.iterdir():
        kept = ROOT / "docs" / "reference" / page.name
        assert kept.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), "run `make reference`"


def test_a_check_finds_and_names_a_stale_page(made: Path, tmp_path: Path) -> None:
    for page in made.iterdir():
        (tmp_path / page.name).write_bytes(page.read_bytes())
    assert reference("--check", tmp_path).returncode == 0
    (tmp_path / "errors.md").write_text("old")

    ended = reference("--check", tmp_path)

    assert ended.returncode == 1
    assert ended.stderr.strip() == "out of date: errors.md; run `make reference`"
    assert (tmp_path / "errors.md").read_text() == "old"


def test_every_command_and_every_error_is_there(made: Path) -> None:
    commands = (made / "czctl.md").read_text()
    errors = (made / "errors.md").read_text()

    assert all(f"\n## `czctl {name}`\n" in commands for name in COMMANDS)
    assert all(f"\n| `{code}` |" in errors for code in problems.ALL)


def test_processes_are_told_of_with_variables_and_options(made: Path) -> None:
    variables = (made / "environment.md").read_text()
    options = (made / "options.md").read_text()

    assert "| `CODEZERO_LISTEN` | `host:port` | `0.0.0.0:8800` |" in variables
    assert "| `CODEZERO_SESSION_SECONDS` | number from 15 to 604800 |" in variables
    assert "| `--capture` | `auto` or `nftables` or `listeners` | `auto` |" in options
    assert "| `--foreground` |" in options


def test_values_are_told_by_their_paths(made: Path) -> None:
    text = (made / "values.md").read_text()

    assert "| `system.replicas` | number from 1 to 20 | `2` |" in text
    assert '| `service.type` | `ClusterIP` or `LoadBalancer` or `NodePort` | `"LoadBalancer"` |' in text
    assert "| `serve.namespaces` | list of texts | `[]` |" in text


def test_the_hubs_api_is_told_of_with_what_each_operation_needs(made: Path) -> None:
    text = (made / "hub-api.md").read_text()

    assert "### `PATCH /api/v1/organizations/{organization}`" in text
    assert "Needs: `organization.manage`." in text
    assert '<- {"type": "snapshot"}' in text
    assert "- `POST /api/c6o/connect/c6oapi.v1.C6OService/GetSpaceConnection`" in text


def test_no_page_tells_of_the_machine_it_was_made_on(made: Path) -> None:
    text = "".join(page.read_text() for page in made.iterdir())

    assert str(ROOT) not in text
    assert "4711" not in text
    assert "/elsewhere" not in text
    assert "SUPPRESS" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]
