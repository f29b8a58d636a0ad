"""What `czctl auth` refuses before it asks a Hub. What it does with one is in `tests/process/test_czctl_hub.py`."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from codezero.cli import hub_context
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.scripted_hub import ScriptedHub
from codezero.testing.views import SHOP, STATUS
from codezero.wire.local_api import HubState, HubView

ME = {"user": {"id": "01JZ0000000000000000000001", "name": "ci", "email": None, "kind": "service"}, "via": "api-key"}


MACHINE = "/api/v1/devices/dev-alice"


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    replies = {"GET /api/v1/auth/me": ME, "GET /api/v1/organizations": {"items": [], "next": None}}
    with ScriptedHub(dict(replies)) as running:
        yield running


@pytest.mark.parametrize(
    "options",
    [
        ("--apikey", "a", "--token", "b"),
        ("--apikey-file", "a", "--token-file", "b"),
        ("--apikey", "a", "--apikey-file", "b"),
    ],
)
def test_one_secret_at_a_time(czctl: Czctl, options: tuple[str, ...]) -> None:
    ended = czctl("auth", "login", "--hub", "https://hub.test", *options)

    assert (ended.code, "given twice" in ended.err) == (2, True)


@pytest.mark.parametrize("variable", ["CODEZERO_TOKEN", "CODEZERO_API_KEY"])
def test_a_login_beside_the_environment_is_refused(
    czctl: Czctl, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It would be kept, and have no effect."""
    monkeypatch.setenv(variable, "canary")

    ended = czctl("auth", "login", "--hub", "https://hub.test")

    assert ended.code == 2
    assert f"unset {variable}" in ended.err
    assert "canary" not in ended.err


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"x" * 20_000, b"a\nb"])
def test_a_file_that_holds_no_key_is_refused_and_not_quoted(
    hub: ScriptedHub, czctl: Czctl, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)

    ended = czctl("auth", "login", "--hub", hub.url, "--apikey-file", str(file))

    assert ended.code == 2
    assert "two words" not in ended.err
    assert hub.asked == []


def test_a_key_from_stdin_is_kept_with_who_it_is(hub: ScriptedHub, czctl: Czctl) -> None:
    ended = czctl("auth", "login", "--hub", hub.url, "--apikey-file", "-", stdin=b"cz_key_x\n")

    assert ended.code == 0, ended.err
    assert hub_context.load_credentials() == Credentials(hub.url, api_key="cz_key_x")
    known = hub_context.load()
    assert known is not None
    assert (known.url, known.user) == (hub.url, Named(ME["user"]["id"], "ci"))
    assert "cz_key_x" not in ended.err


def test_what_somebody_else_had_selected_is_not_selected_for_the_next(hub: ScriptedHub, czctl: Czctl) -> None:
    hub_context.save(HubContext(hub.url, None, Named("other", "bob"), None, Named("o", "acme"), Named("s", "shop")))

    czctl("auth", "login", "--hub", hub.url, "--token-file", "-", stdin=b"token")

    known = hub_context.load()
    assert known is not None
    assert (known.organization, known.space) == (None, None)


def test_without_a_hub_it_is_said_how_to_sign_in(czctl: Czctl) -> None:
    status, asked = czctl("auth", "status", "-o", "json"), czctl("space", "list")

    assert (status.code, status.problem()["code"]) == (4, "CZ-HUB-001")
    assert "czctl auth login --hub" in status.problem()["fix"]
    assert (asked.code, "[CZ-HUB-014]" in asked.err) == (3, True)


def test_plain_http_to_another_machine_is_refused(czctl: Czctl) -> None:
    ended = czctl("auth", "login", "--hub", "http://hub.example.org")

    assert (ended.code, "[CZ-HUB-013]" in ended.err) == (2, True)


def test_an_api_key_is_no_token(hub: ScriptedHub, czctl: Czctl) -> None:
    hub_context.save(HubContext(hub.url))
    hub_context.save_credentials(Credentials(hub.url, api_key="cz_key_x"))

    ended = czctl("auth", "token")

    assert (ended.code, ended.out) == (2, "")
    assert "cz_key_x" not in ended.err


@pytest.mark.parametrize(
    "variables", [{"API_KEY": "cz_key_x"}, {"API_KEY": "canary", "ORGANIZATION": "o"}, {"TOKEN": "cz_key_x"}]
)
def test_an_api_key_of_the_environment_is_no_token_either(
    hub: ScriptedHub, czctl: Czctl, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """It would go into a command line, and from there into a log, for good."""
    for name, content in {**variables, "HUB": hub.url}.items():
        monkeypatch.setenv(f"CODEZERO_{name}", content)

    ended = czctl("auth", "token")

    assert (ended.code, ended.out) == (2, "")
    assert "cz_key_x" not in ended.err
    assert "canary" not in ended.err


def test_one_condition_is_asked_about_at_a_time(hub: ScriptedHub, czctl: Czctl) -> None:
    hub_context.save(HubContext(hub.url, organization=Named("o", "acme"), space=Named("s", "shop")))
    hub_context.save_credentials(Credentials(hub.url, api_key="cz_key_x"))
    condition = ("--condition-type", "header", "--condition", "a:b", "--condition-type", "path", "--condition", "/x")

    ended = czctl("auth", "can-i", "serve", "orders.shop", *condition)

    assert (ended.code, "one condition" in ended.err) == (2, True)


def test_logging_out_leaves_a_teamspace_without_a_hub_alone(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    """One that was joined by a file is not the sign-in's."""
    hub_context.save(HubContext(hub.url))
    hub_context.save_credentials(Credentials(hub.url, api_key="cz_key_x"))

    ended = czctl("auth", "logout")

    assert ended.code == 0
    assert [one.line for one in daemon.requests] == ["GET /v1/status"]
    assert hub_context.load_credentials() is None


def test_a_hub_is_signed_in_to_by_the_address_it_is_known_by(hub: ScriptedHub, czctl: Czctl) -> None:
    """Before anybody has typed or approved anything."""
    hub.replies["GET /.well-known/oauth-authorization-server"] = {"issuer": "https://hub.example.org"}

    ended = czctl("auth", "login", "--hub", hub.url)

    assert (ended.code, "[CZ-HUB-013]" in ended.err) == (2, True)
    assert "fix:  czctl auth login --hub https://hub.example.org" in ended.err


def alice_is_signed_in(url: str, daemon: ScriptedDaemon, *, user: str = "alice") -> None:
    """By a browser; the agent runs as her."""
    hub_context.save(HubContext(url, None, Named(user, "alice"), None, Named("o", "acme"), Named("s", "shop")))
    hub_context.save_credentials(Credentials(url, "dev-alice", "key", "of-alice", time.time() + 600, "refresh"))
    there = msgspec.structs.replace(SHOP, user_id=user)
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(
        STATUS, teamspace=there, hub=HubView(url, HubState.REACHABLE)
    )
    daemon.replies["DELETE /v1/teamspace"] = STATUS


def ended_as(hub: ScriptedHub) -> list[str]:
    return [one.headers["authorization"] for one in hub.requests("DELETE", MACHINE)]


@pytest.mark.parametrize(("option", "secret"), [("--token-file", b"of-bob"), ("--apikey-file", b"cz_key_bob")])
def test_somebody_else_who_signs_in_ends_the_device_of_before_and_the_agent_leaves(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon, option: str, secret: bytes
) -> None:
    """Alice's certificate would be renewed for ever, by an agent that nobody thinks of as hers."""
    alice_is_signed_in(hub.url, daemon)
    hub.replies[f"DELETE {MACHINE}"] = {}

    ended = czctl("auth", "login", "--hub", hub.url, option, "-", stdin=secret)

    assert ended.code == 0, ended.err
    assert ended_as(hub) == ["Bearer of-alice"]
    assert "DELETE /v1/teamspace" in daemon.lines()
    assert "the agent has left its Teamspace" in ended.err


def test_so_does_a_sign_in_to_another_hub(hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon) -> None:
    with ScriptedHub({f"DELETE {MACHINE}": {}}) as former:
        alice_is_signed_in(former.url, daemon, user=ME["user"]["id"])

        ended = czctl("auth", "login", "--hub", hub.url, "--token-file", "-", stdin=b"token")

        assert ended.code == 0, ended.err
        assert ended_as(former) == ["Bearer of-alice"]
    assert ended_as(hub) == []
    assert "DELETE /v1/teamspace" in daemon.lines()


def test_a_device_that_cannot_be_ended_is_said_and_the_sign_in_goes_on(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    alice_is_signed_in(hub.url, daemon)
    hub.replies[f"DELETE {MACHINE}"] = CodezeroError(problems.INTERNAL, "not now")

    ended = czctl("auth", "login", "--hub", hub.url, "--token-file", "-", stdin=b"of-bob")

    assert ended.code == 0, ended.err
    assert "may go on: not now" in ended.err
    assert "czctl device revoke dev-alice" in ended.err
    assert "DELETE /v1/teamspace" in daemon.lines()


def test_the_agent_leaves_also_where_nothing_can_be_selected(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    """The former credentials are gone by then: there is no second try."""
    alice_is_signed_in(hub.url, daemon)

    ended = czctl("auth", "login", "--hub", hub.url, "--org", "typo", "--token-file", "-", stdin=b"of-bob")

    assert ended.code == 6, ended.err
    assert "DELETE /v1/teamspace" in daemon.lines()


def test_an_agent_that_gets_no_access_as_the_next_one_leaves_as_the_one_before(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    alice_is_signed_in(hub.url, daemon)
    hub.replies["GET /api/v1/organizations"] = {"items": [{"id": "o", "name": "acme"}], "next": None}
    only = {"id": "s", "name": "shop", "state": "certified"}
    hub.replies["GET /api/v1/organizations/o/spaces"] = {"items": [only], "next": None}
    hub.replies["POST /api/v1/organizations/o/spaces/s/access"] = CodezeroError(problems.FORBIDDEN, "not for you")

    ended = czctl("auth", "login", "--hub", hub.url, "--token-file", "-", stdin=b"of-bob")

    assert ended.code == 0, ended.err
    assert "the agent does not get into shop: not for you" in ended.err
    assert "DELETE /v1/teamspace" in daemon.lines()


def test_the_agent_of_another_user_of_the_machine_does_not_keep_the_device_alive(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    """Signing in anew as oneself: the agent and the device before are two things."""
    alice_is_signed_in(hub.url, daemon, user=ME["user"]["id"])
    daemon.replies["DELETE /v1/teamspace"] = CodezeroError(problems.NOT_YOURS, "the Daemon is root's")
    hub.replies[f"DELETE {MACHINE}"] = {}

    ended = czctl("auth", "login", "--hub", hub.url, "--token-file", "-", stdin=b"anew")

    assert ended.code == 0, ended.err
    assert "goes on as before: the Daemon is root's" in ended.err
    assert ended_as(hub) == ["Bearer anew"]


@pytest.mark.capability("command", "agent.teamspace.leave")
def test_logging_out_leaves_the_teamspace_of_whichever_hub(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    """Also where another Hub was signed in to since, or nobody is signed in any more."""
    alice_is_signed_in("https://former.test", daemon)
    hub_context.save(HubContext(hub.url))
    hub_context.save_credentials(Credentials(hub.url, api_key="cz_key_x"))

    first, second = czctl("auth", "logout"), czctl("auth", "logout")

    assert (first.code, second.code) == (0, 0)
    assert "not signed in" in second.err
    assert daemon.lines() == ["GET /v1/status", "DELETE /v1/teamspace"] * 2


def test_logging_out_of_another_hub_ends_nothing(hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon) -> None:
    alice_is_signed_in(hub.url, daemon)

    ended = czctl("auth", "logout", "--hub", "https://other.test")

    assert ended.code == 0
    assert f"czctl auth logout --hub {hub.url}" in ended.err
    assert hub_context.load_credentials() is not None
    assert daemon.lines() == []
