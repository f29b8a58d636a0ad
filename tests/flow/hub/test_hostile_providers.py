"""Identity providers that lie, and those who sign in through them: nobody becomes somebody else (T33), and no token is believed for its looks (T31)."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest
from sqlalchemy import select
from tests.forged_tokens import GONE, Genuine, Key
from tests.hub_databases import HubClock
from tests.hub_people import Browser, Page, Place, place_of

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.signin import oidc, providers
from codezero.hub.signin.providers import Provider, ProviderSettings
from codezero.hub.storage.tables import Identity, User
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role

ISSUER = "https://login.acme.example"
CLIENT = "codezero-hub"
KEYS = {algorithm: Key.new(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}


@dataclass
class LyingProvider:
    """A provider whose every answer a test can bend. `sent` is what came to its token endpoint."""

    issuer: str = ISSUER
    algorithm: str = "RS256"
    metadata: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    user_info: dict[str, Any] | None = None
    keys: list[dict[str, Any]] | None = None
    token: Callable[[Genuine], str] = Genuine.token
    answer: Callable[[httpx2.Request], httpx2.Response | None] = lambda _: None
    now: Callable[[], float] = lambda: 0.0
    nonce: str = ""
    sent: list[dict[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        bent = self.answer(request)
        if bent is not None:
            return bent
        match request.url.path:
            case "/.well-known/openid-configuration":
                said = {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys",
                    "userinfo_endpoint": f"{self.issuer}/me",
                }
                return httpx2.Response(200, json={**said, **self.metadata})
            case "/keys":
                key = {**KEYS[self.algorithm].jwk, "kid": "first", "use": "sig", "alg": self.algorithm}
                return httpx2.Response(200, json={"keys": [key] if self.keys is None else self.keys})
            case "/token":
                self.sent.append(dict(parse_qsl(request.content.decode())))
                return httpx2.Response(200, json={"id_token": self.token(self.genuine()), "access_token": "opaque"})
            case _:
                return httpx2.Response(200, json=self.user_info or {})

    def genuine(self) -> Genuine:
        now = int(self.now())
        claims = {
            "iss": self.issuer,
            "sub": "bob-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
            "email": "bob@example.com",
            "email_verified": True,
            "name": "Bob",
        }
        header = {"alg": self.algorithm, "typ": "JWT", "kid": "first"}
        given = {name: value for name, value in {**claims, **self.claims}.items() if value is not GONE}
        return Genuine({**header, **self.header}, given, KEYS[self.algorithm])


def provider_of(lying: LyingProvider, name: str = "acme", **settings: Any) -> Provider:
    given = {"algorithms": (lying.algorithm,), **settings}
    made = providers.provider(ProviderSettings(name, name.title(), lying.issuer, CLIENT, **given))
    made.transport = httpx2.MockTransport(lying)
    return made


@pytest.fixture
def lying(hub_clock: HubClock) -> LyingProvider:
    return LyingProvider(now=lambda: hub_clock().timestamp())


@pytest.fixture
async def place(hub: Hub, lying: LyingProvider) -> AsyncIterator[Place]:
    async with place_of(hub, provider_of(lying)) as made:
        yield made


async def invite(place: Place, email: str = "bob@example.com", role: Role = Role.DEVELOPER) -> None:
    hub = place.hub

    async def work(session: Any) -> None:
        owner = (await session.scalars(select(User).order_by(User.id))).first()
        ((organization, _),) = await organizations.of_user(session, owner.id)
        acting = await organizations.member(session, organization.id, owner.id)
        await organizations.invite(session, hub, acting, email, role)

    await hub.database.run(work)


async def start(browser: Browser, name: str = "acme") -> dict[str, str]:
    """What a browser brings to the provider."""
    await browser.open(f"/api/v1/auth/oidc/{name}/start")
    assert browser.elsewhere is not None
    return {name: value for name, (value,) in parse_qs(urlsplit(browser.elsewhere).query).items()}


async def back(browser: Browser, query: dict[str, str], name: str = "acme", **changed: str) -> Page:
    given = {"code": "c0de", "state": query["state"], **changed}
    pairs = "&".join(f"{key}={value}" for key, value in given.items() if value)
    return await browser.open(f"/api/v1/auth/oidc/{name}/callback?{pairs}")


async def sign_in(browser: Browser, lying: LyingProvider) -> Page:
    query = await start(browser)
    lying.nonce = query["nonce"]
    return await back(browser, query)


async def test_what_is_asked_of_a_provider(place: Place, lying: LyingProvider) -> None:
    await place.owner()
    await invite(place)
    browser = place.browser()
    query = await start(browser)
    lying.nonce = query["nonce"]
    assert (await back(browser, query)).status == 200

    assert query["redirect_uri"] == "https://hub.test/api/v1/auth/oidc/acme/callback"
    assert (query["code_challenge_method"], query["response_type"], query["scope"]) == (
        "S256",
        "code",
        "openid email profile",
    )
    (sent,) = lying.sent
    assert (sent["code"], sent["client_id"]) == ("c0de", CLIENT)
    assert len(sent["code_verifier"]) >= 43
    assert len({query["state"], query["nonce"], query["code_challenge"], sent["code_verifier"]}) == 4


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_each_algorithm_that_a_provider_is_known_for_is_taken(
    hub: Hub, hub_clock: HubClock, algorithm: str
) -> None:
    lying = LyingProvider(algorithm=algorithm, now=lambda: hub_clock().timestamp())
    async with place_of(hub, provider_of(lying)) as place:
        await place.owner()
        await invite(place)

        assert (await sign_in(place.browser(), lying)).status == 200


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_one_that_it_is_not_known_for_is_not(hub: Hub, hub_clock: HubClock, algorithm: str) -> None:
    lying = LyingProvider(algorithm=algorithm, now=lambda: hub_clock().timestamp())
    async with place_of(hub, provider_of(lying, algorithms=("RS256",))) as place:
        page = await sign_in(place.browser(), lying)

        assert (page.status, "of another kind" in page.text) == (401, True)


LIES: dict[str, dict[str, Any]] = {
    "nonce of another sign-in": {"nonce": "x" * 43},
    "nonce empty": {"nonce": ""},
    "nonce gone": {"nonce": GONE},
    "aud of another client": {"aud": "somebody"},
    "aud of several": {"aud": [CLIENT, "somebody"]},
    "aud of several, azp ours": {"aud": [CLIENT, "somebody"], "azp": CLIENT},
    "azp of another client": {"azp": "somebody"},
    "iss of another provider": {"iss": "https://login.evil.example"},
    "iss with a slash": {"iss": f"{ISSUER}/"},
    "sub empty": {"sub": ""},
    "sub long": {"sub": "x" * 256},
    "sub a number": {"sub": 7},
    "sub gone": {"sub": GONE},
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_token_for_somebody_else_signs_nobody_in(place: Place, lying: LyingProvider, lie: str) -> None:
    lying.claims = LIES[lie]
    page = await sign_in(place.browser(), lying)

    assert page.status == 401
    assert "ID token of Acme is refused" in page.text


async def test_a_state_is_good_once_in_one_browser_and_for_one_provider(
    hub: Hub, lying: LyingProvider, hub_clock: HubClock
) -> None:
    evil = LyingProvider(issuer="https://login.evil.example", now=lying.now)
    async with place_of(hub, provider_of(lying), provider_of(evil, "evil")) as place:
        await place.owner()
        await invite(place)
        mine, other = place.browser(), place.browser()
        query = await start(mine)
        lying.nonce = evil.nonce = query["nonce"]
        assert "begun in another browser" in (await back(other, query)).text
        query = await start(mine)
        lying.nonce = evil.nonce = query["nonce"]
        assert "not begun here" in (await back(mine, query, "evil")).text, "mix-up"
        query = await start(mine)
        assert "not begun here" in (await back(mine, query, state="x" * 43)).text
        hub_clock.advance(oidc.LIFETIME)
        assert "not begun here" in (await back(mine, query)).text
        query = await start(mine)
        lying.nonce = query["nonce"]
        assert (await back(mine, query)).status == 200
        assert (await back(mine, query)).status == 401

        assert lying.sent == lying.sent[-1:], "no code was shown to anybody before"
        assert evil.sent == []


async def test_an_answer_that_names_another_provider_is_refused_before_the_code_is_shown(
    place: Place, lying: LyingProvider
) -> None:
    """RFC 9207: who mixes providers up gets the code of one for the other."""
    browser = place.browser()
    page = await back(browser, await start(browser), iss="https%3A%2F%2Flogin.evil.example")

    assert (page.status, "another provider's" in page.text) == (401, True)
    assert lying.sent == []


async def test_a_provider_that_names_itself_has_to(hub: Hub, lying: LyingProvider) -> None:
    lying.metadata = {"authorization_response_iss_parameter_supported": True}
    async with place_of(hub, provider_of(lying)) as place:
        browser = place.browser()
        page = await back(browser, await start(browser))

        assert (page.status, lying.sent) == (401, [])


@pytest.mark.parametrize("verified", [False, GONE, None, "true", 1])
async def test_an_address_that_is_not_verified_is_none(place: Place, lying: LyingProvider, verified: Any) -> None:
    await place.owner()
    await invite(place)
    lying.claims = {"email_verified": verified}

    assert (await sign_in(place.browser(), lying)).status == 401
    async with place.hub.database.reading() as session:
        assert (await session.scalars(select(Identity))).all() == []


async def test_an_address_is_not_a_person(place: Place, lying: LyingProvider) -> None:
    """Verified or not: whoever is here already with that address is not whoever comes with it."""
    await place.owner()
    await invite(place, "ada2@example.com")
    lying.claims = {"email": "ADA@example.com"}
    page = await sign_in(place.browser(), lying)

    assert (page.status, "here already" in page.text) == (401, True)


async def test_a_provider_vouches_for_its_own_domains_alone(hub: Hub, lying: LyingProvider) -> None:
    async with place_of(hub, provider_of(lying, domains=("acme.example",))) as place:
        await place.owner()
        await invite(place)
        page = await sign_in(place.browser(), lying)
        assert (page.status, "may not vouch for it" in page.text) == (401, True)
        for email in ("bob@notacme.example", "bob@acme.example.evil.example", "bob@acme.example@evil.example", "bob"):
            lying.claims = {"email": email}
            assert (await sign_in(place.browser(), lying)).status == 401, email


async def test_whoever_has_an_address_of_the_domain_joins_where_that_was_set_up(hub: Hub, lying: LyingProvider) -> None:
    async with place_of(hub) as place:
        owner = await place.owner()
        organization = (await owner.client.get("/api/v1/auth/me")).json()["organizations"][0]["id"]
    known = provider_of(lying, domains=("example.com",), organization=organization, role="viewer")
    async with place_of(hub, known) as place:
        browser = place.browser()
        assert (await sign_in(browser, lying)).status == 200
        me = (await browser.client.get("/api/v1/auth/me")).json()

        assert [(one["id"], one["role"]) for one in me["organizations"]] == [(organization, "viewer")]
        assert ("member.join", "ok") in await place.told()


async def test_the_subject_is_who_it_is_whatever_becomes_of_the_address(place: Place, lying: LyingProvider) -> None:
    await place.owner()
    await invite(place)
    first = place.browser()
    await sign_in(first, lying)
    lying.claims = {"email": "other@example.com", "email_verified": False, "name": "Robert"}
    second = place.browser()
    assert (await sign_in(second, lying)).status == 200
    me = [(await browser.client.get("/api/v1/auth/me")).json()["user"] for browser in (first, second)]
    assert me[0] == me[1]
    lying.claims = {"sub": "bob-2"}

    assert (await sign_in(place.browser(), lying)).status == 401, "the address was given to somebody else"


async def test_another_issuer_with_the_same_subject_is_somebody_else(hub: Hub, lying: LyingProvider) -> None:
    evil = LyingProvider(issuer="https://login.evil.example", now=lying.now)
    async with place_of(hub, provider_of(lying), provider_of(evil, "evil")) as place:
        await place.owner()
        await invite(place)
        await sign_in(place.browser(), lying)
        browser = place.browser()
        query = await start(browser, "evil")
        evil.nonce = query["nonce"]

        assert (await back(browser, query, "evil")).status == 401


async def test_who_the_provider_says_by_its_user_info_is_whom_the_token_is_about(
    place: Place, lying: LyingProvider
) -> None:
    await place.owner()
    await invite(place)
    lying.claims = {"email": GONE, "email_verified": GONE}
    lying.user_info = {"sub": "somebody else", "email": "bob@example.com", "email_verified": True}
    assert (await sign_in(place.browser(), lying)).status == 401
    lying.user_info = {"sub": "bob-1", "email": "bob@example.com", "email_verified": True}

    assert (await sign_in(place.browser(), lying)).status == 200


async def test_adding_an_identity_ends_where_the_session_does(place: Place, lying: LyingProvider) -> None:
    browser = await place.owner()
    answer = await browser.ask("POST", "/api/v1/auth/oidc/acme/link")
    query = {name: value for name, (value,) in parse_qs(urlsplit(answer.json()["location"]).query).items()}
    lying.nonce = query["nonce"]
    await browser.ask("POST", "/api/v1/auth/logout")
    page = await back(browser, query)

    assert (page.status, "signed in no longer" in page.text) == (401, True)
    assert lying.sent == []


async def test_adding_an_identity_needs_the_token_of_the_session(place: Place) -> None:
    """Or a page of somebody else's would add its own identity to whoever is signed in."""
    browser = await place.owner()
    answer = await browser.ask("POST", "/api/v1/auth/oidc/acme/link", headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403


async def test_an_identity_is_one_persons(place: Place, lying: LyingProvider) -> None:
    browser = await place.owner()
    await invite(place)
    await sign_in(place.browser(), lying)
    answer = await browser.ask("POST", "/api/v1/auth/oidc/acme/link")
    query = {name: value for name, (value,) in parse_qs(urlsplit(answer.json()["location"]).query).items()}
    lying.nonce = query["nonce"]
    page = await back(browser, query)

    assert (page.status, "belongs to somebody else" in page.text) == (409, True)
    assert ("signin.link", "denied") in await place.told()


async def test_new_keys_are_asked_for_and_not_for_each_made_up_name(
    place: Place, lying: LyingProvider, hub_clock: HubClock
) -> None:
    await place.owner()
    await invite(place)
    await sign_in(place.browser(), lying)
    lying.header = {"kid": "second"}
    lying.keys = [{**KEYS["RS256"].jwk, "kid": "second"}]
    for _ in range(3):
        assert (await sign_in(place.browser(), lying)).status == 401
    assert lying.asked.count("/keys") == 1
    hub_clock.advance(providers.ASKED_AGAIN)

    assert (await sign_in(place.browser(), lying)).status == 200
    assert lying.asked.count("/keys") == 2


async def test_a_provider_that_is_away_is_still_known(place: Place, lying: LyingProvider, hub_clock: HubClock) -> None:
    await place.owner()
    await start(place.browser())
    lying.answer = lambda _: httpx2.Response(503, text="away")
    hub_clock.advance(timedelta(hours=2))

    assert (await start(place.browser()))["client_id"] == CLIENT


BENT: dict[str, Callable[[httpx2.Request], httpx2.Response | None]] = {
    "a redirect to inside": lambda _: httpx2.Response(302, headers={"Location": "http://169.254.169.254/"}),
    "an endless answer": lambda _: httpx2.Response(200, content=b"[" + b" " * (providers.MAX_ANSWER + 1) + b"]"),
    "no JSON": lambda _: httpx2.Response(200, text="<html>"),
    "deep JSON": lambda _: httpx2.Response(200, text="[" * 100_000),
    "a list": lambda _: httpx2.Response(200, json=[]),
    "an error": lambda _: httpx2.Response(500, json={"error": "x"}),
}


@pytest.mark.parametrize("bent", BENT)
async def test_a_provider_that_answers_badly_is_named(place: Place, lying: LyingProvider, bent: str) -> None:
    lying.answer = BENT[bent]
    page = await place.browser().open("/api/v1/auth/oidc/acme/start")

    assert page.status == 502
    assert "Acme cannot be used to sign in" in page.text


@pytest.mark.parametrize("field_name", ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"])
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "file:///etc/passwd", "http://127.0.0.1:8700/", "javascript:alert(1)"]
)
async def test_a_provider_leads_to_no_address_without_tls(
    place: Place, lying: LyingProvider, field_name: str, url: str
) -> None:
    lying.metadata = {field_name: url}

    assert (await place.browser().open("/api/v1/auth/oidc/acme/start")).status == 502


async def test_a_provider_that_says_to_be_another_is_not_used(place: Place, lying: LyingProvider) -> None:
    lying.metadata = {"issuer": "https://login.evil.example"}

    assert (await place.browser().open("/api/v1/auth/oidc/acme/start")).status == 502


@pytest.mark.parametrize(
    "answer",
    [{}, {"id_token": None}, {"id_token": 7}, {"access_token": "x"}, {"error": "invalid_grant"}, []],
)
async def test_what_is_no_answer_of_a_token_endpoint_signs_nobody_in(
    place: Place, lying: LyingProvider, answer: Any
) -> None:
    lying.answer = lambda request: httpx2.Response(200, json=answer) if request.url.path == "/token" else None

    assert (await sign_in(place.browser(), lying)).status == 401


async def test_a_secret_goes_to_the_token_endpoint_in_the_way_it_takes(
    hub: Hub, lying: LyingProvider, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr:et\n")
    seen: list[str | None] = []

    def noted(request: httpx2.Request) -> None:
        if request.url.path == "/token":
            seen.append(request.headers.get("authorization"))

    lying.answer = noted
    for methods, is_basic in ((["client_secret_basic"], True), (["client_secret_post"], False)):
        lying.metadata = {"token_endpoint_auth_methods_supported": methods}
        async with place_of(hub, provider_of(lying, client_secret_file=str(secret))) as place:
            await sign_in(place.browser(), lying)
        expected = f"Basic {base64.b64encode(f'{CLIENT}:s3cr%3Aet'.encode()).decode()}"

        assert seen[-1] == (expected if is_basic else None)
        assert ("client_secret" in lying.sent[-1]) is not is_basic


SETTINGS: list[dict[str, Any]] = [
    {"name": "A"},
    {"name": "../x"},
    {"issuer": "http://login.acme.example"},
    {"issuer": "https://user@login.acme.example"},
    {"issuer": f"{ISSUER}?x=1"},
    {"issuer": "http://127.0.0.1.evil.example"},
    {"algorithms": []},
    {"algorithms": ["none"]},
    {"algorithms": ["HS256"]},
    {"domains": ["*.example"]},
    {"domains": ["Acme.example"]},
    {"organization": "acme", "domains": ["acme.example"]},
    {"organization": new_ulid()},
    {"role": "owner"},
    {"role": "admin"},
    {"client_secret_file": "/nowhere/secret"},
    {"client_secret": "in the file itself"},
]


@pytest.mark.parametrize("changed", SETTINGS)
def test_settings_of_a_provider_that_are_unsafe_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    file = tmp_path / "providers.json"
    entry = {"name": "acme", "title": "Acme", "issuer": ISSUER, "client_id": CLIENT}
    file.write_text(json.dumps([entry]))
    assert [provider.name for provider in providers.read(file)] == ["acme"]
    file.write_text(json.dumps([{**entry, **changed}]))

    with pytest.raises(CodezeroError) as caught:
        providers.read(file)
    assert caught.value.problem is problems.BAD_REQUEST


def test_two_providers_of_one_name_or_issuer_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "providers.json"
    entry = {"name": "acme", "title": "Acme", "issuer": ISSUER, "client_id": CLIENT}
    for other in ({**entry, "issuer": "https://other.example"}, {**entry, "name": "other"}):
        file.write_text(json.dumps([entry, other]))
        with pytest.raises(CodezeroError, match="two providers"):
            providers.read(file)
