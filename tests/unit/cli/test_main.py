"""The root of czctl: exit codes, help without loading, suggestions, and no traceback ever."""

import importlib
import os
import re
from pathlib import Path

import click
import pytest

from codezero.cli import main
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon


def test_help_lists_every_command(czctl: Czctl) -> None:
    ended = czctl("--help")

    assert ended.code == 0
    assert ended.err == ""
    for name in main.COMMANDS:
        assert re.search(rf"^  {name} ", ended.out, re.MULTILINE)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_loads_and_explains_itself(czctl: Czctl, name: str) -> None:
    ended = czctl(name, "--help")

    assert ended.code == 0
    assert ended.out.startswith(f"Usage: czctl {name}")


def subcommands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, (module, attribute, _help) in main.COMMANDS.items():
        command = getattr(importlib.import_module(f"codezero.cli.commands.{module}"), attribute)
        children = list(command.commands) if isinstance(command, click.Group) else []
        found += [(name, child) for child in children] or [(name,)]
    return found


# What follows `sandbox shell` is somebody else's command line.
@pytest.mark.parametrize("path", [path for path in subcommands() if path != ("sandbox", "shell")], ids=" ".join)
def test_every_command_refuses_unknown_options_without_doing_anything(czctl: Czctl, path: tuple[str, ...]) -> None:
    ended = czctl(*path, "--no-such-option")

    assert ended.code == 2
    assert ended.out == ""
    assert "[CZ-GENERAL-002]" in ended.err
    assert f"czctl {' '.join(path)}" in ended.err


def test_commands_are_listed_under_their_own_names() -> None:
    for name, (module, attribute, _help) in main.COMMANDS.items():
        assert getattr(importlib.import_module(f"codezero.cli.commands.{module}"), attribute).name == name


@pytest.mark.parametrize("arguments", [(), ("consume",), ("services",), ("primary-namespace",), ("serve",)])
def test_a_group_without_a_command_shows_its_help_on_stderr(czctl: Czctl, arguments: tuple[str, ...]) -> None:
    """A script that forgot the verb must not take help for data."""
    ended = czctl(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: czctl")


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (("statsu",), "czctl status"),
        (("services", "lst"), "czctl services list"),
        (("primary-namespce",), "czctl primary-namespace"),
        (("consume", "aply"), "czctl consume apply"),
        (("consume", "apply", "--apend"), "czctl consume apply --append"),
        (("status", "--ouptut", "json"), "czctl status --output"),
        (("serve", "--takover", "shop/orders"), "czctl serve --takeover"),
        (("serve", "end", "shop/orders", "--usr", "bob"), "czctl serve end --user"),
        (("trace-connection",), "czctl trace-connections"),
        (("zzzzzz",), "czctl --help"),
        (("status", "--zzzzzz"), "czctl status --help"),
        (("status", "-o", "xml"), "czctl status --help"),
        (("status", "extra"), "czctl status --help"),
        (("status", "-o"), "czctl --help"),
        (("completion", "tcsh"), "czctl completion --help"),
        (("consume", "apply", "/no/such/file"), "czctl consume apply --help"),
        (("consume", "apply", "/etc"), "czctl consume apply --help"),
        (("primary-namespace", "select"), "czctl primary-namespace select --help"),
    ],
)
def test_a_mistake_in_the_command_line_suggests_what_was_meant(
    czctl: Czctl, arguments: tuple[str, ...], fix: str
) -> None:
    ended = czctl(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert f"\n  fix:  {fix}\n" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--bogus", "-o", "json"),
        ("status", "--bogus", "-ojson"),
        ("status", "--bogus", "--output", "yaml"),
        ("status", "--bogus", "--output=json"),
        ("statsu", "-o", "json"),
    ],
)
def test_a_mistake_is_told_in_json_where_json_was_asked_for(czctl: Czctl, arguments: tuple[str, ...]) -> None:
    """A script parses stderr of every failure alike, also of those before the options were understood."""
    assert czctl(*arguments).problem()["code"] == "CZ-GENERAL-002"


def test_an_output_asked_for_after_two_dashes_is_an_argument(czctl: Czctl) -> None:
    assert czctl("status", "--bogus", "--", "-o", "json").err.startswith("error:")


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("services", "list"),
        ("consume", "list"),
        ("consume", "view"),
        ("consume", "all"),
        ("consume", "clear"),
        ("consume", "test", "*.shop"),
        ("primary-namespace", "select", "shop"),
        ("primary-namespace", "clear"),
        ("reset",),
        ("serve", "shop/orders", "3000:80"),
        ("serve", "shop/orders"),
        ("serve", "shop/orders", "--remove"),
        ("serve", "list"),
        ("serve", "list", "--all"),
        ("serve", "end", "shop/orders"),
        ("who",),
    ],
)
def test_without_a_daemon_every_command_says_so_and_ends_with_1(
    czctl: Czctl, arguments: tuple[str, ...], output: str
) -> None:
    ended = czctl(*arguments, "-o", output)

    assert (ended.code, ended.out) == (1, "")
    if output == "table":
        assert ended.err == (
            "error: the Daemon does not run [CZ-AGENT-001]\n"
            "  why:  The Daemon does not run on this machine.\n"
            "  fix:  czctl start\n"
            "  more: czctl explain CZ-AGENT-001\n"
        )
    else:
        assert ended.problem() == {
            "type": "urn:codezero:problem:CZ-AGENT-001",
            "title": "Codezero is not running",
            "status": 503,
            "detail": "the Daemon does not run",
            "code": "CZ-AGENT-001",
            "fix": "czctl start",
        }


@pytest.mark.parametrize("problem", problems.ALL.values(), ids=problems.ALL)
def test_the_exit_code_is_the_problems(czctl: Czctl, daemon: ScriptedDaemon, problem: problems.Problem) -> None:
    daemon.replies["GET /v1/status"] = CodezeroError(problem, "what failed", fix="what to do")

    ended = czctl("status")

    assert ended.code == problem.exit_code != 0
    assert ended.err.startswith(f"error: what failed [{problem.code}]\n")


def test_a_problem_czctl_does_not_know_is_not_sent_to_explain(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """`explain` would not know it either."""
    daemon.replies["GET /v1/status"] = CodezeroError(problems.Problem("CZ-FUTURE-001", "t", "m"), "later")

    ended = czctl("status")

    assert ended.code == 1
    assert "explain" not in ended.err


def test_arguments_that_are_no_text_are_refused(czctl: Czctl) -> None:
    """A byte that is no UTF-8 reaches Python as a lone surrogate, which nothing can send."""
    ended = czctl("consume", "test", os.fsdecode(b"\xffshop"))

    assert ended.code == 2
    assert "not UTF-8" in ended.err


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_defect_names_its_log_and_shows_no_traceback(
    czctl: Czctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str
) -> None:
    def broken(**_options: object) -> None:
        raise ValueError("a bug\nin two lines \ud800")

    monkeypatch.setattr("codezero.cli.commands.status.client", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    ended = czctl("status", "-o", output)

    (log,) = tmp_path.iterdir()
    assert ended.code == 1
    assert (str(log) in ended.err, "CZ-GENERAL-001" in ended.err) == (True, True)
    assert "ValueError: a bug" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_defect_without_room_for_a_log_is_told_all_the_same(
    czctl: Czctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(**_options: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("codezero.cli.commands.status.client", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))

    ended = czctl("status")

    assert ended.code == 1
    assert ended.err.startswith("error: ValueError: a bug (and no log")


def test_an_interrupt_ends_with_130(czctl: Czctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("codezero.cli.commands.status.client", interrupted)

    ended = czctl("status")

    assert (ended.code, ended.out) == (130, "")
    assert ended.err.strip() == "interrupted"
