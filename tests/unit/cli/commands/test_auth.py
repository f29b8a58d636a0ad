"""What `czctl auth` refuses before it asks a Hub. What it does with one is in `tests/process/test_czctl_hub.py`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.cli import hub_context
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.scripted_hub import ScriptedHub

ME = {"user": {"id": "01JZ0000000000000000000001", "name": "ci", "email": None, "kind": "service"}, "via": "api-key"}


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


def test_logging_out_leaves_the_teamspace_of_that_hub_alone(
    hub: ScriptedHub, czctl: Czctl, daemon: ScriptedDaemon
) -> None:
    """One that was joined by a file, or by another Hub, is not the sign-in's."""
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
