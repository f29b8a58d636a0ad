"""czctl's client of the Hub: what it shows and to whom, when it refreshes, and how refusals read."""

import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

import pytest

from codezero.cli import hub_client, hub_context
from codezero.cli.hub_client import DeviceKey, HubClient
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.scripted_hub import Asked, OAuthRefusal, ScriptedHub

TOKEN = "/api/v1/auth/token"
ME = "GET /api/v1/auth/me"


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    with ScriptedHub({ME: {"user": "ann"}}) as running:
        yield running


def sign_in(hub: ScriptedHub, *, expires_in: float = 600.0) -> None:
    hub_context.save(HubContext(hub.url))
    credentials = Credentials(hub.url, "device-1", DeviceKey.new().pem, "old", time.time() + expires_in, "refresh-1")
    hub_context.save_credentials(credentials)


def rotating(hub: ScriptedHub) -> Callable[[Asked], object]:
    """Good for each refresh token once, as the Hub is; a second use is refused."""
    good = {"refresh-1"}

    def answer(asked: Asked) -> object:
        given = parse_qs(asked.body.decode())["refresh_token"][0]
        if given not in good:
            return OAuthRefusal("invalid_grant", "the refresh token was used before")
        good.clear()
        fresh = f"refresh-{len(hub.requests('POST', TOKEN)) + 1}"
        good.add(fresh)
        return {"access_token": f"new-{fresh}", "expires_in": 600, "refresh_token": fresh, "token_type": "Bearer"}

    return answer


def shown(hub: ScriptedHub) -> list[str]:
    return [one.headers["authorization"] for one in hub.requests("GET", "/api/v1/auth/me")]


def test_a_fresh_token_is_shown_as_it_is(hub: ScriptedHub) -> None:
    sign_in(hub)

    hub_client.connect().get("/auth/me")

    assert shown(hub) == ["Bearer old"]


def test_one_that_ends_soon_is_refreshed_first_with_a_proof(hub: ScriptedHub) -> None:
    sign_in(hub, expires_in=5)
    hub.replies[f"POST {TOKEN}"] = rotating(hub)

    hub_client.connect().get("/auth/me")

    (asked,) = hub.requests("POST", TOKEN)
    form = parse_qs(asked.body.decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["device_proof"][0].count(".") == 2
    assert shown(hub) == ["Bearer new-refresh-2"]
    kept = hub_context.load_credentials()
    assert kept is not None
    assert (kept.refresh_token, kept.access_token, kept.device) == ("refresh-2", "new-refresh-2", "device-1")


def test_one_that_the_hub_does_not_take_is_refreshed_once(hub: ScriptedHub) -> None:
    sign_in(hub)
    hub.replies[f"POST {TOKEN}"] = rotating(hub)
    hub.replies[ME] = lambda asked: (
        {"user": "ann"}
        if asked.headers["authorization"] != "Bearer old"
        else CodezeroError(problems.NOT_SIGNED_IN, "the token has expired")
    )

    hub_client.connect().get("/auth/me")

    assert shown(hub) == ["Bearer old", "Bearer new-refresh-2"]


def test_many_at_once_refresh_once(hub: ScriptedHub) -> None:
    """R28: a token is rotated at each refresh, and a second use would end the sign-in."""
    sign_in(hub, expires_in=5)
    hub.replies[f"POST {TOKEN}"] = rotating(hub)
    failed: list[CodezeroError] = []

    def ask(client: HubClient) -> None:
        try:
            client.get("/auth/me")
        except CodezeroError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(hub_client.connect(),)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(hub.requests("POST", TOKEN)) == 1
    assert set(shown(hub)) == {"Bearer new-refresh-2"}


def test_a_client_goes_on_as_nobody_else(hub: ScriptedHub) -> None:
    """Who has signed in meanwhile is not who typed the command."""
    sign_in(hub, expires_in=5)
    client = hub_client.connect()
    hub_context.save_credentials(Credentials(hub.url, "device-2", DeviceKey.new().pem, "bob", time.time() + 600, "r"))

    with pytest.raises(CodezeroError, match="signed out, or in anew") as refused:
        client.get("/auth/me")

    assert refused.value.problem is problems.NOT_SIGNED_IN
    assert hub.asked == []


def test_a_sign_in_that_has_ended_is_named(hub: ScriptedHub) -> None:
    sign_in(hub, expires_in=5)
    hub.replies[f"POST {TOKEN}"] = OAuthRefusal("invalid_grant", "its sign-in has ended")

    with pytest.raises(CodezeroError, match="any more: its sign-in has ended") as refused:
        hub_client.connect().get("/auth/me")

    assert refused.value.problem is problems.NOT_SIGNED_IN
    assert refused.value.fix == f"czctl auth login --hub {hub.url}"


def test_what_one_hub_gave_is_shown_to_no_other(hub: ScriptedHub) -> None:
    with ScriptedHub({ME: {}}) as other:
        sign_in(other)

        with pytest.raises(CodezeroError) as refused:
            hub_client.connect(hub.url).get("/auth/me")

        assert refused.value.problem is problems.NOT_SIGNED_IN
        assert hub.asked == []


def test_without_a_hub_it_is_said_what_to_do() -> None:
    with pytest.raises(CodezeroError) as refused:
        hub_client.connect()

    assert refused.value.problem is problems.NO_HUB


@pytest.mark.parametrize(
    ("variables", "value"),
    [
        ({"TOKEN": "abc"}, "Bearer abc"),
        ({"API_KEY": "cz_key_1_x"}, "Bearer cz_key_1_x"),
        ({"API_KEY": "old", "ORGANIZATION": "o1"}, "Bearer o1:old"),
        ({"API_KEY": "o1:old"}, "Bearer o1:old"),
    ],
)
def test_the_environment_goes_before_what_is_kept_and_keeps_nothing(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], value: str
) -> None:
    for name, content in {**variables, "HUB": hub.url}.items():
        monkeypatch.setenv(f"CODEZERO_{name}", content)

    hub_client.connect().get("/auth/me")

    assert shown(hub) == [value]
    assert not hub_context.folder().exists()


def test_a_key_without_its_organization_is_refused_here(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEZERO_API_KEY", "old")

    with pytest.raises(CodezeroError, match="needs its organization"):
        hub_client.connect(hub.url)


def test_a_key_of_the_selected_organization_needs_no_variable(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_context.save(HubContext(hub.url, organization=Named("o7", "acme")))
    monkeypatch.setenv("CODEZERO_API_KEY", "old")

    hub_client.connect().get("/auth/me")

    assert shown(hub) == ["Bearer o7:old"]


def test_lists_are_read_page_by_page(hub: ScriptedHub) -> None:
    sign_in(hub)
    hub.replies["GET /api/v1/organizations"] = lambda asked: (
        {"items": [1, 2], "next": "c"} if "cursor" not in asked.query else {"items": [3], "next": None}
    )

    assert list(hub_client.connect().items("/organizations", int)) == [1, 2, 3]
    assert list(hub_client.connect().items("/organizations", int, limit=2)) == [1, 2]


def test_a_list_without_an_end_ends(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(hub)
    monkeypatch.setattr(hub_client, "_MOST_PAGES", 3)
    hub.replies["GET /api/v1/organizations"] = {"items": [], "next": "c"}

    with pytest.raises(CodezeroError, match="does not end"):
        list(hub_client.connect().items("/organizations", int))


def test_what_is_made_is_made_once_and_what_is_changed_is_the_version_that_was_read(hub: ScriptedHub) -> None:
    sign_in(hub)
    hub.replies |= {"POST /api/v1/x": {}, "PUT /api/v1/x": {}, "GET /api/v1/x": {}}
    client = hub_client.connect()

    client.post("/x", {})
    client.put("/x", {}, etag=client.get("/x").etag)

    made, changed = hub.requests("POST", "/api/v1/x")[0], hub.requests("PUT", "/api/v1/x")[0]
    assert len(made.headers["idempotency-key"]) >= 16
    assert changed.headers["if-match"] == '"7"'


def test_an_answer_of_another_release_is_named(hub: ScriptedHub) -> None:
    sign_in(hub)
    hub.replies[ME] = ["not", "this"]

    with pytest.raises(CodezeroError) as refused:
        hub_client.connect().get("/auth/me").as_(dict[str, str])

    assert refused.value.problem is problems.VERSIONS


def test_a_device_key_that_cannot_be_used_is_named() -> None:
    with pytest.raises(CodezeroError, match="device's key"):
        DeviceKey("nonsense").request()
