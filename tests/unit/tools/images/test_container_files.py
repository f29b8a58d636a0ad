"""The container files name files, stages and commands that are there, and end as a user without rights. No engine is needed to know."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tools.images import recipes

ROOT = recipes.ROOT
FILES = sorted((ROOT / "deploy" / "images").glob("*.Containerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a container file, in order: word and what follows it."""
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line and not line.startswith("#")]


def last_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    return found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]


def is_sent(path: str) -> bool:
    """Whether a build sees `path` of the tree: the last line of .dockerignore that speaks of it decides."""
    answer = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = Path(path).parts
        if any(fnmatch(part, pattern) for part in (parts if line.startswith("**/") else parts[:1])):
            answer = line.startswith("!")
    return answer


def test_there_is_one_for_each_image_that_users_run() -> None:
    assert {path.name.partition(".")[0] for path in FILES} == set(recipes.NAMES) - {"peers"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_stages_come_from_one_base_that_can_be_chosen(path: Path) -> None:
    found = instructions(path)

    assert found[0] == ("ARG", "BASE=docker.io/library/python:3.11-slim-bookworm")
    assert [value for word, value in found if word == "FROM"] == ["${BASE} AS build", "${BASE}"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_sent_to_the_builder(path: Path) -> None:
    copied = [value.split() for word, value in instructions(path) if word == "COPY"]

    sources = [source for words in copied if not words[0].startswith("--from") for source in words[:-1]]
    assert "src" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source
    assert [words[0] for words in copied if words[0].startswith("--")] == ["--from=build"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_whatever_is_installed_is_locked_or_ours(path: Path) -> None:
    installs = [value for word, value in instructions(path) if word == "RUN" and " install " in value]

    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install, install
    name = path.name.partition(".")[0]
    assert any(f"-r requirements/{name}.txt" in install for install in installs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_image_runs_a_command_of_ours_as_a_user_without_rights(path: Path) -> None:
    last = dict(last_stage(path))

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert last["USER"] == recipes.USER
    assert json.loads(last["CMD"])[0] in scripts


@pytest.mark.parametrize("path", [".git", ".venv", "build", "tests", "src/codezero/__pycache__", "shop.json", ".env"])
def test_nothing_else_of_the_tree_is_sent_to_a_builder(path: str) -> None:
    """An access file that lies about must not end up in a layer (T25)."""
    assert not is_sent(path)
