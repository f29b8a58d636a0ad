"""ID tokens of a provider: what it has signed for us and for this sign-in, and nothing that looks like it (T31)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from tests.forged_tokens import GONE, Genuine, Key, forgeries

from codezero.hub.signin import oidc, providers
from codezero.hub.signin.oidc import IdToken
from codezero.hub.signin.providers import Provider, ProviderSettings
from codezero.model import problems
from codezero.model.problems import CodezeroError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ISSUER = "https://login.acme.example"
CLIENT = "codezero-hub"
NONCE = "n" * 43
SIGNING = {algorithm: Key.new(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")}
SHORT = {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short"}


@dataclass
class StandInHub:
    """What the verifier asks of a Hub: its time."""

    now: datetime = NOW

    def clock(self) -> datetime:
        return self.now


def genuine(algorithm: str) -> Genuine:
    issued = int(NOW.timestamp())
    return Genuine(
        {"alg": algorithm, "kid": "first"},
        {"iss": ISSUER, "sub": "bob-1", "aud": CLIENT, "iat": issued, "exp": issued + 300, "nonce": NONCE},
        SIGNING[algorithm],
    )


def provider(algorithm: str, keys: list[dict[str, Any]] | None = None) -> Provider:
    """One that is known for one algorithm, and publishes keys of all."""
    published = [{**key.jwk, "kid": "first" if name == algorithm else name} for name, key in SIGNING.items()]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/keys":
            return httpx2.Response(200, json={"keys": [*published, SHORT] if keys is None else keys})
        endpoints = {name: f"{ISSUER}/{name}" for name in ("authorization_endpoint", "token_endpoint")}
        return httpx2.Response(200, json={"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys", **endpoints})

    made = providers.provider(ProviderSettings("acme", "Acme", ISSUER, CLIENT, algorithms=(algorithm,)))
    made.transport = httpx2.MockTransport(answer)
    return made


async def verify(token: str, at: Provider, now: datetime = NOW) -> IdToken:
    return await oidc.verify(StandInHub(now), at, token, nonce=NONCE)  # type: ignore[arg-type]


def own(algorithm: str) -> dict[str, str]:
    good = genuine(algorithm)
    return {
        **{f"typ {typ}": good.with_header(typ=typ) for typ in ("at+jwt", "codezero-device-proof+jwt", "")},
        **{f"kid {kid!r}": good.with_header(kid=kid) for kid in ("", "second", "../first", ["first"], 0, "short")},
        "the key of another algorithm": good.with_header(kid=next(name for name in SIGNING if name != algorithm)),
        "nonce of another sign-in": good.with_claims(nonce="m" * 43),
        "without nonce": good.with_claims(nonce=GONE),
        "without sub": good.with_claims(sub=GONE),
        "sub null": good.with_claims(sub=None),
        "old": good.with_claims(iat=int(NOW.timestamp()) - 700, exp=int(NOW.timestamp()) + 300),
    }


ALGORITHMS = tuple(SIGNING)
FORGED = {
    (algorithm, what): token
    for algorithm in ALGORITHMS
    for what, token in {**forgeries(genuine(algorithm)), **own(algorithm)}.items()
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_good_one_is_believed(algorithm: str) -> None:
    for token in (
        genuine(algorithm).token(),
        genuine(algorithm).with_header(typ="JWT"),
        genuine(algorithm).with_claims(aud=[CLIENT], azp=CLIENT),
    ):
        assert (await verify(token, provider(algorithm))).sub == "bob-1"


@pytest.mark.parametrize(("algorithm", "what"), FORGED)
async def test_a_forged_one_is_refused(algorithm: str, what: str) -> None:
    with pytest.raises(CodezeroError, match="the ID token of Acme is refused") as caught:
        await verify(FORGED[algorithm, what], provider(algorithm))

    assert caught.value.problem is problems.SIGN_IN_REFUSED


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_without_a_key_name_needs_a_provider_with_one_key(algorithm: str) -> None:
    token = genuine(algorithm).with_header(kid=GONE)
    only = {**SIGNING[algorithm].jwk, "use": "sig"}
    assert (await verify(token, provider(algorithm, [only]))).sub == "bob-1"

    with pytest.raises(CodezeroError, match="by which key"):
        await verify(token, provider(algorithm, [only, {**Key.new(algorithm).jwk}]))


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"kty": "oct", "k": "AA"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"n": "AQAB"},
        {"n": 7},
        {"e": None},
    ],
)
async def test_a_key_that_is_not_for_this_is_not_used(changed: dict[str, Any]) -> None:
    key = {**SIGNING["RS256"].jwk, "kid": "first", **changed}

    with pytest.raises(CodezeroError, match="is refused"):
        await verify(genuine("RS256").token(), provider("RS256", [key]))
