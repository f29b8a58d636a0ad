"""The answer of a browser: taken from who was asked, once, and from nobody else. The whole way is in `tests/process/test_czctl_hub.py`."""

import base64
import json
import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from codezero.cli import browser_sign_in
from codezero.cli.hub_client import DeviceKey, HubClient
from codezero.cli.hub_context import HubContext
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.scripted_hub import Asked, OAuthRefusal, ScriptedHub

TOKEN = "POST /api/v1/auth/token"
TOKENS = {"access_token": "a", "expires_in": 600, "refresh_token": "r", "device_id": "d"}
KEY = DeviceKey.new()


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    with ScriptedHub({TOKEN: TOKENS}) as running:
        yield running


@pytest.fixture
def client(hub: ScriptedHub) -> HubClient:
    return HubClient(HubContext(hub.url), None)


def ask(url: str, *, host: str | None = None, method: str = "GET", **values: str) -> str:
    """A request to where the browser is sent back to, with what the page there was asked for; what comes back."""
    asked = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
    back = urlsplit(asked["redirect_uri"])
    query = "&".join(f"{name}={value}" for name, value in {"state": asked["state"], **values}.items())
    with socket.create_connection((back.hostname, back.port), timeout=10) as connection:
        connection.sendall(f"{method} {back.path}?{query} HTTP/1.1\r\nHost: {host or back.netloc}\r\n\r\n".encode())
        return connection.makefile().read()


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], object]], None]:
    """A browser that does this with the page it is to open."""

    def use(does: Callable[[str], object]) -> None:
        monkeypatch.setattr(webbrowser, "open", does)

    return use


def test_the_answer_is_exchanged_with_the_verifier_of_the_challenge(
    hub: ScriptedHub, client: HubClient, browser: Callable[..., None]
) -> None:
    pages: list[str] = []
    opened: list[str] = []

    def does(url: str) -> None:
        opened.append(url)
        pages.append(ask(url, code="c0de", iss=hub.url))

    browser(does)
    tokens = browser_sign_in.by_redirect(client, KEY, device_name="laptop")

    assert (tokens.access_token, tokens.refresh_token, tokens.device_id) == ("a", "r", "d")
    asked = {name: value[0] for name, value in parse_qs(urlsplit(opened[0]).query).items()}
    form = {name: value[0] for name, value in parse_qs(hub.asked[0].body.decode()).items()}
    assert (form["code"], form["redirect_uri"]) == ("c0de", asked["redirect_uri"])
    assert asked["code_challenge_method"] == "S256"
    assert len(form["code_verifier"]) >= 43
    assert form["code_verifier"] not in opened[0]
    assert "default-src 'none'" in pages[0]
    assert "You can close this window." in pages[0]


def test_what_others_send_is_not_taken(hub: ScriptedHub, client: HubClient, browser: Callable[..., None]) -> None:
    """Another page's try, one that came by a rebound name, a browser's icon, and half a request."""
    refused: list[str] = []

    def does(url: str) -> None:
        refused.append(ask(url, code="evil", iss=hub.url, state="guessed"))
        refused.append(ask(url, code="evil", iss=hub.url, host="evil.example"))
        refused.append(ask(url, code="evil", iss=hub.url, method="POST"))
        refused.append(ask(url, code="evil&code=evil2", iss=hub.url))
        with socket.create_connection(
            ("127.0.0.1", urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0]).port or 0)
        ):
            pass
        ask(url, code="good", iss=hub.url)

    browser(does)
    browser_sign_in.by_redirect(client, KEY, device_name="laptop")

    assert all(one.startswith("HTTP/1.1 404") for one in refused)
    assert parse_qs(hub.asked[0].body.decode())["code"] == ["good"]


@pytest.mark.parametrize("issuer", ["https://evil.example", ""])
def test_an_answer_of_another_hub_is_not_taken(
    hub: ScriptedHub, client: HubClient, browser: Callable[..., None], issuer: str
) -> None:
    """RFC 9207: a code of one Hub must not be shown to another."""
    browser(lambda url: ask(url, code="c", iss=issuer))

    with pytest.raises(CodezeroError, match="and not from") as refused:
        browser_sign_in.by_redirect(client, KEY, device_name="laptop")

    assert refused.value.problem is problems.SIGN_IN_REFUSED
    assert hub.asked == []


def test_a_person_who_declines_is_told_of(hub: ScriptedHub, client: HubClient, browser: Callable[..., None]) -> None:
    browser(lambda url: ask(url, error="access_denied", iss=hub.url))

    with pytest.raises(CodezeroError, match="access_denied"):
        browser_sign_in.by_redirect(client, KEY, device_name="laptop")


def test_nobody_comes(client: HubClient, browser: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_sign_in, "WAIT_SECONDS", 0.1)
    browser(lambda _: None)

    with pytest.raises(CodezeroError) as late:
        browser_sign_in.by_redirect(client, KEY, device_name="laptop")

    assert late.value.problem is problems.TIMED_OUT


def test_a_code_is_asked_for_until_it_was_typed(
    hub: ScriptedHub, client: HubClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    answers: Iterator[object] = iter(
        [
            OAuthRefusal("authorization_pending"),
            OAuthRefusal("slow_down"),
            OAuthRefusal("authorization_pending"),
            TOKENS,
        ]
    )
    hub.replies[TOKEN] = lambda _: next(answers)
    hub.replies["POST /api/v1/auth/device-code"] = {
        "device_code": "d", "user_code": "ABCD-EFGH", "verification_uri": f"{hub.url}/device", "expires_in": 600, "interval": 5,
    }  # fmt: skip

    tokens = browser_sign_in.by_code(client, KEY, device_name="laptop")

    assert tokens.access_token == "a"
    assert waited == [5, 5, 10, 10]
    assert f"open {hub.url}/device in a browser and type ABCD-EFGH" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant"])
def test_a_code_that_comes_to_nothing_is_told(
    hub: ScriptedHub, client: HubClient, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    hub.replies[TOKEN] = OAuthRefusal(error, "it was not to be")
    hub.replies["POST /api/v1/auth/device-code"] = {
        "device_code": "d", "user_code": "A", "verification_uri": "x", "expires_in": 600,
    }  # fmt: skip

    with pytest.raises(CodezeroError, match="it was not to be"):
        browser_sign_in.by_code(client, KEY, device_name="laptop")


@pytest.mark.parametrize(
    ("variables", "has"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "w"}, True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "x"}, False),
        ({"DISPLAY": ":0", "SSH_TTY": "x"}, False),
        ({"BROWSER": "w3m", "SSH_TTY": "x"}, True),
    ],
)
def test_where_a_browser_is_expected(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], has: bool) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")

    assert browser_sign_in.has_browser() is has


def test_a_proof_by_a_clock_that_is_off_is_made_again_once(hub: ScriptedHub, client: HubClient) -> None:
    """R27."""
    times: list[int] = []

    def answer(asked: Asked) -> object:
        proof = parse_qs(asked.body.decode())["device_proof"][0].split(".")[1]
        times.append(json.loads(_decoded(proof))["iat"])
        client.endpoint.skew = 600.0
        return OAuthRefusal("invalid_request", "the proof is of another time") if len(times) == 1 else TOKENS

    hub.replies[TOKEN] = answer
    client.form({"grant_type": "refresh_token"}, proof=KEY)

    assert 590 < times[1] - times[0] < 660


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_several_connections_at_once_do_not_keep_the_answer_out(
    hub: ScriptedHub, client: HubClient, browser: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers open connections ahead of time and say nothing on them."""
    monkeypatch.setattr(browser_sign_in, "_ONE_REQUEST_SECONDS", 0.1)
    silent: list[socket.socket] = []

    def does(url: str) -> None:
        back = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0])
        silent.append(socket.create_connection((back.hostname, back.port)))
        thread = threading.Thread(target=ask, args=(url,), kwargs={"code": "c", "iss": hub.url})
        thread.start()
        thread.join()

    browser(does)
    try:
        assert browser_sign_in.by_redirect(client, KEY, device_name="laptop").access_token == "a"
    finally:
        for one in silent:
            one.close()
