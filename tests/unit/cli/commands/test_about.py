"""`czctl explain` and `czctl version`."""

import pytest

from codezero import __version__
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon


@pytest.mark.parametrize("code", problems.ALL)
def test_every_code_is_explained(czctl: Czctl, code: str) -> None:
    problem = problems.ALL[code]

    ended = czctl("explain", code)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{code}: {problem.title}\n\n{problem.meaning}\n\nczctl ends with {problem.exit_code}.\n"


def test_a_code_may_be_written_small(czctl: Czctl) -> None:
    assert czctl("explain", "cz-agent-001").code == 0


def test_a_code_for_scripts(czctl: Czctl) -> None:
    assert czctl("explain", "CZ-AGENT-001", "-o", "json").json() == {
        "code": "CZ-AGENT-001",
        "title": problems.NOT_RUNNING.title,
        "meaning": problems.NOT_RUNNING.meaning,
        "exit_code": 1,
        "status": 503,
    }


def test_all_codes_are_listed(czctl: Czctl) -> None:
    out = czctl("explain").out

    assert [line.split()[0] for line in out.splitlines()] == ["CODE", *problems.ALL]
    assert [one["code"] for one in czctl("explain", "-o", "json").json()] == list(problems.ALL)


@pytest.mark.parametrize(("code", "near"), [("CZ-AGNT-001", "CZ-AGENT-001"), ("", "CZ-"), ("\x1b[2J", "CZ-")])
def test_an_unknown_code_suggests_one(czctl: Czctl, code: str, near: str) -> None:
    ended = czctl("explain", code)

    assert (ended.code, ended.out) == (6, "")
    assert f"fix:  czctl explain {near}" in ended.err
    assert "\x1b" not in ended.err


@pytest.mark.capability("command", "hub.version")
def test_the_version_of_both_ends(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    assert czctl("version").out.split() == ["CZCTL", "DAEMON", __version__, "0.1.0"]
    assert czctl("version", "-o", "json").json() == {
        "czctl": __version__,
        "daemon": "0.1.0",
        "api": "codezero.io/local/v1",
    }


def test_the_version_without_a_daemon(czctl: Czctl) -> None:
    """Its own is known all the same, so this is no failure."""
    ended = czctl("version")

    assert (ended.code, ended.err) == (0, "")
    assert "not running" in ended.out
    assert czctl("version", "-o", "json").json()["daemon"] is None


def test_the_version_with_a_daemon_that_refuses(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/status"] = CodezeroError(problems.NOT_YOURS, "another user's")

    assert czctl("version").code == 0
