"""stop, restart and cleanup against agents that answer, hang, die over the request, or are something else altogether."""

import os
from pathlib import Path

import msgspec
import pytest

from codezero.cli import agent, hub_context
from codezero.cli.commands import agent as commands
from codezero.cli.context import Places
from codezero.cli.hub_client import DeviceKey
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.local.host import undo
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import SILENCE, Raw, ScriptedDaemon
from codezero.testing.scripted_hub import ScriptedHub
from codezero.testing.views import SHOP, STATUS
from codezero.transport.local_client import LocalClient
from codezero.wire.local_api import HubState, HubView

GARBAGE = Raw(b"SSH-2.0-OpenSSH_9.6\r\n")
OTHER_RELEASE = Raw(b'HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{"from": "2031"}')
DIES = Raw(b"")


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The state folders that were undone, instead of undoing; as root, in no time."""
    folders: list[Path] = []

    def pretend(*, state_folder: Path) -> tuple[str, ...]:
        folders.append(state_folder)
        return ()

    monkeypatch.setattr(undo, "undo", pretend)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(commands, "_CLEANUP_ASKS_SECONDS", 0.2)
    monkeypatch.setattr(agent, "STOP_SECONDS", 0.2)
    return folders


@pytest.mark.parametrize("reply", [SILENCE, GARBAGE, DIES], ids=["silence", "garbage", "dies"])
def test_cleanup_undoes_everything_also_when_the_daemon_cannot_be_asked(
    run_folder: Path, czctl: Czctl, undone: list[Path], reply: Raw
) -> None:
    """It is the last resort of a user whose agent hangs: giving up there would leave a machine without names."""
    with ScriptedDaemon(run_folder, {"POST /v1/shutdown": reply}):
        ended = czctl("cleanup")
    assert ended.code == 0
    assert len(undone) == 1
    assert "nothing to undo" in ended.err


def test_cleanup_undoes_everything_when_the_daemon_of_another_release_does_not_end(
    run_folder: Path, czctl: Czctl, undone: list[Path]
) -> None:
    """After an upgrade czctl is newer than what runs."""
    with ScriptedDaemon(run_folder, {"POST /v1/shutdown": OTHER_RELEASE}):
        ended = czctl("cleanup")
    assert ended.code == 0
    assert len(undone) == 1
    assert "warning: the agent did not end" in ended.err


def test_cleanup_leaves_the_daemon_of_another_user_alone(run_folder: Path, czctl: Czctl, undone: list[Path]) -> None:
    """Only its user, or root, may end it."""
    with ScriptedDaemon(run_folder, {"POST /v1/shutdown": CodezeroError(problems.NOT_YOURS, "not yours")}):
        assert czctl("cleanup").code == problems.NOT_YOURS.exit_code
    assert not undone


def test_stop_takes_the_unreadable_answer_of_another_release_for_a_yes(
    run_folder: Path, czctl: Czctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was taken; that the socket goes tells that it was done."""
    with ScriptedDaemon(run_folder, {"POST /v1/shutdown": OTHER_RELEASE}) as daemon:

        def wait(_condition: object, **_: object) -> None:
            daemon.socket_path.unlink()

        monkeypatch.setattr(agent, "wait_until", wait)
        ended = czctl("stop")
    assert (ended.code, ended.err) == (0, "stopped\n")


def test_stop_asks_the_next_daemon_when_the_first_dies_over_the_request(run_folder: Path, czctl: Czctl) -> None:
    """The Supervisor starts another one at once; "not running" would be a lie."""
    with ScriptedDaemon(run_folder, {"POST /v1/shutdown": DIES}) as daemon:
        ended = czctl("stop")
        assert [request.line for request in daemon.requests] == ["POST /v1/shutdown"] * 2
    assert "`czctl cleanup` undoes them" in ended.err


def test_of_two_starts_at_once_both_succeed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second Supervisor ends at once because the first is in charge, whose Daemon may need a moment more."""
    asked = iter([False, False, True])

    def answers(_client: LocalClient) -> bool:
        return next(asked)

    monkeypatch.setattr(agent, "answers", answers)
    monkeypatch.setattr(agent, "elevated", list[str])
    places = Places(tmp_path, tmp_path)

    agent.launch(places, ["sh", "-c", f"exit {problems.ALREADY_RUNNING.exit_code}"], LocalClient(places.socket))

    assert list(asked) == []


def test_a_supervisor_that_fails_at_its_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the last line of its log, and without waiting for what cannot come."""
    (tmp_path / agent.LOG_NAME).write_text("first\nno space left\n")
    monkeypatch.setattr(agent, "elevated", list[str])
    places = Places(tmp_path, tmp_path)

    with pytest.raises(CodezeroError, match="ended with 3 at its start: no space left"):
        agent.launch(places, ["sh", "-c", "exit 3"], LocalClient(places.socket))


@pytest.mark.parametrize(
    "problem", [problems.INTERNAL, problems.TOO_MANY_REQUESTS, problems.DATABASE_BUSY], ids=lambda one: one.code
)
def test_a_hub_that_cannot_answer_now_does_not_stop_a_start(
    daemon: ScriptedDaemon, czctl: Czctl, problem: problems.Problem
) -> None:
    """The certificate of last time is good for a day."""
    with ScriptedHub({"POST /api/v1/organizations/o/spaces/s/access": CodezeroError(problem, "not now")}) as hub:
        hub_context.save(HubContext(hub.url, organization=Named("o", "acme"), space=Named("s", "shop")))
        hub_context.save_credentials(Credentials(hub.url, "d", DeviceKey.new().pem, access_token="t"))

        ended = czctl("start")

    assert ended.code == 0, ended.err
    assert "warning: not now; going on with what is known from last time" in ended.err


def test_a_start_goes_on_as_nobody_else_than_is_signed_in(daemon: ScriptedDaemon, czctl: Czctl) -> None:
    """Who signed in while the agent did not run, and has nothing selected, would be in the Teamspace as whoever was before."""
    with ScriptedHub({"GET /api/v1/organizations": {"items": [], "next": None}}) as hub:
        hub_context.save(HubContext(hub.url, user=Named("bob", "bob")))
        hub_context.save_credentials(Credentials(hub.url, access_token="t"))
        there = msgspec.structs.replace(SHOP, user_id="alice")
        daemon.replies["GET /v1/status"] = msgspec.structs.replace(
            STATUS, teamspace=there, hub=HubView(hub.url, HubState.REACHABLE)
        )
        daemon.replies["DELETE /v1/teamspace"] = STATUS

        ended = czctl("start")

        assert ended.code == 0, ended.err
        assert "as somebody else than is signed in now" in ended.err
        assert "DELETE /v1/teamspace" in daemon.lines()
        hub_context.save(HubContext(hub.url, user=Named("alice", "alice")))
        assert czctl("start").code == 0
        assert daemon.lines().count("DELETE /v1/teamspace") == 1
