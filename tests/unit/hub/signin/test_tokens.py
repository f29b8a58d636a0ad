"""Access tokens: the Hub's own are taken, and nothing that looks like one (T31)."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from tests.forged_tokens import GONE, Genuine, Key, forgeries

from codezero.hub.signin import tokens
from codezero.hub.signin.tokens import AccessToken
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
URL = "https://hub.test"
SIGNING = Key.new("EdDSA")
SECOND = Key.new("EdDSA")


@dataclass
class StandInHub:
    """What the verifier asks of a Hub: its address, its time, and its public keys."""

    public_url: str = URL
    now: datetime = NOW
    keys: dict[str, Any] = field(default_factory=lambda: {"first": SIGNING, "second": SECOND})

    def clock(self) -> datetime:
        return self.now

    @property
    def authorities(self) -> Any:
        return SimpleNamespace(token_keys={kid: key.private.public_key() for kid, key in self.keys.items()})


GENUINE = Genuine(
    {"alg": "EdDSA", "typ": "at+jwt", "kid": "first"},
    {
        "iss": URL,
        "aud": URL,
        "sub": new_ulid(),
        "sid": new_ulid(),
        "device": new_ulid(),
        "client_id": "czctl",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
        "jti": new_ulid(),
    },
    SIGNING,
)
OWN = {
    **{f"typ {typ}": GENUINE.with_header(typ=typ) for typ in ("JWT", "AT+JWT", "application/at+jwt", "", None, GONE)},
    "typ of a device's proof": GENUINE.with_header(typ="codezero-device-proof+jwt"),
    **{
        f"kid {kid!r}": GENUINE.with_header(kid=kid)
        for kid in (
            "",
            "third",
            "../../../dev/null",
            "first\0",
            "first ",
            "FIRST",
            "' OR 1=1 --",
            "second",
            ["first"],
            None,
            GONE,
            0,
        )
    },
    "its own key embedded": GENUINE.with_header(jwk=SIGNING.jwk),
    **{f"{name} of our own": GENUINE.with_header(**{name: f"{URL}/.well-known/jwks.json"}) for name in ("jku", "x5u")},
    "valid for longer": GENUINE.with_claims(exp=int(NOW.timestamp()) + 86400),
    "valid for less than nothing": GENUINE.with_claims(exp=int(NOW.timestamp()) - 1, iat=int(NOW.timestamp())),
    "another client": GENUINE.with_claims(client_id="somebody"),
    "aud in a list": GENUINE.with_claims(aud=[URL]),
    "a claim too many": GENUINE.with_claims(admin=True),
    **{f"{name} no id": GENUINE.with_claims(**{name: "1 OR 1=1"}) for name in ("sub", "sid", "device", "jti")},
    **{f"without {name}": GENUINE.with_claims(**{name: GONE}) for name in ("sub", "sid", "device", "jti", "client_id")},
}
FORGED = {**forgeries(GENUINE), **OWN}


def read(token: str, hub: StandInHub | None = None) -> AccessToken:
    return tokens.read(hub or StandInHub(), token)  # type: ignore[arg-type]


def test_a_token_says_who_it_speaks_for() -> None:
    token = read(GENUINE.token())

    assert token == AccessToken(*(GENUINE.claims[name] for name in ("sub", "device", "sid")))


def test_the_corpus_is_large() -> None:
    assert len(FORGED) >= 120


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_token_is_refused(what: str) -> None:
    with pytest.raises(CodezeroError, match="the access token is refused") as caught:
        read(FORGED[what])

    assert caught.value.problem is problems.NOT_SIGNED_IN
    assert len(caught.value.detail) < 100


def test_two_keys_are_believed_while_one_follows_the_other() -> None:
    by_second = Genuine({**GENUINE.header, "kid": "second"}, GENUINE.claims, SECOND)

    assert read(by_second.token()) == read(GENUINE.token())


def test_a_key_that_is_believed_no_longer_is_an_unknown_one() -> None:
    with pytest.raises(CodezeroError, match="unknown key"):
        read(GENUINE.token(), StandInHub(keys={"second": SECOND}))


@pytest.mark.parametrize(("later", "is_good"), [(0, True), (-30, True), (-31, False), (629, True), (630, False)])
def test_a_token_is_good_for_ten_minutes(later: int, is_good: bool) -> None:
    hub = StandInHub(now=NOW + timedelta(seconds=later))
    if is_good:
        read(GENUINE.token(), hub)
        return
    with pytest.raises(CodezeroError):
        read(GENUINE.token(), hub)


def test_a_token_of_another_hub_is_refused() -> None:
    with pytest.raises(CodezeroError, match="another Hub"):
        read(GENUINE.token(), StandInHub(public_url="https://other.test"))
