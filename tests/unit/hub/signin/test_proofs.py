"""Proofs by a device's key: one request, one minute, this Hub; and nothing that looks like one (T31)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.forged_tokens import GONE, Genuine, Key, b64, forgeries

from codezero.hub.signin import proofs
from codezero.hub.signin.proofs import Proof
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport import device_proof

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
URL = "https://hub.test"
PATH = "/api/v1/auth/token"
KEY = Key.new("ES256")
OTHER = Key.new("ES256")


@dataclass
class StandInHub:
    """What the verifier asks of a Hub: its address and its time."""

    public_url: str = URL
    now: datetime = NOW

    def clock(self) -> datetime:
        return self.now


GENUINE = Genuine(
    {"alg": "ES256", "typ": "codezero-device-proof+jwt", "jwk": KEY.jwk},
    {"iss": new_ulid(), "aud": URL, "htm": "POST", "htu": PATH, "iat": int(NOW.timestamp()), "jti": "a" * 22},
    KEY,
)
P384 = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
KEYS = {
    "of somebody else": OTHER.jwk,
    "with its private half": {**KEY.jwk, "d": b64(KEY.private.private_numbers().private_value.to_bytes(32))},
    "with a name": {**KEY.jwk, "kid": "first"},
    "of another curve": {
        "kty": "EC",
        "crv": "P-384",
        "x": b64(P384.x.to_bytes(48)),
        "y": b64(P384.y.to_bytes(48)),
    },
    "P-384 said to be P-256": {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(P384.x.to_bytes(48)),
        "y": b64(P384.y.to_bytes(48)),
    },
    "not on the curve": {**KEY.jwk, "y": b64(bytes(31) + b"\1")},
    "at nought": {"kty": "EC", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))},
    "padded": {**KEY.jwk, "x": KEY.jwk["x"] + "="},
    "too short": {**KEY.jwk, "x": b64(bytes(31))},
    "an HMAC secret": {"kty": "oct", "k": "AA"},
    "of Ed25519": Key.new("EdDSA").jwk,
    "null": None,
    "text": "key",
    "missing": GONE,
}
OWN = {
    **{f"key {name}": GENUINE.with_header(jwk=jwk) for name, jwk in KEYS.items()},
    **{
        f"typ {typ}": GENUINE.with_header(typ=typ)
        for typ in ("JWT", "dpop+jwt", "at+jwt", "codezero-teamspace-proof+jwt", None, GONE)
    },
    "kid of our own": GENUINE.with_header(kid="first"),
    **{f"htm {method}": GENUINE.with_claims(htm=method) for method in ("GET", "post", "", None, GONE)},
    **{
        f"htu {path}": GENUINE.with_claims(htu=path)
        for path in (f"{PATH}/", f"{URL}{PATH}", f"{PATH}?x", "/api/v1/auth/Token", "", GONE)
    },
    **{
        f"jti {name}": GENUINE.with_claims(jti=value)
        for name, value in {"short": "a" * 7, "long": "a" * 129, "gone": GONE, "a number": 12345678}.items()
    },
    **{
        f"iss {name}": GENUINE.with_claims(iss=value)
        for name, value in {"of another key": device_proof.thumbprint(OTHER.jwk), "no id": "laptop"}.items()
    },
    "a claim too many": GENUINE.with_claims(admin=True),
    "aud in a list": GENUINE.with_claims(aud=[URL]),
}
FORGED = {**forgeries(GENUINE), **OWN}


def read(proof: str, hub: StandInHub | None = None) -> Proof:
    return proofs.read(hub or StandInHub(), proof, method="POST", path=PATH)  # type: ignore[arg-type]


def test_a_proof_says_which_key_was_held() -> None:
    proof = read(GENUINE.token())

    assert proof == Proof(device_proof.thumbprint(KEY.jwk), KEY.jwk, GENUINE.claims["iss"], GENUINE.claims["jti"])


@pytest.mark.parametrize("device", [None, new_ulid()])
def test_what_a_laptop_signs_is_taken(device: str | None) -> None:
    signed = device_proof.sign(KEY.private, device=device, audience=URL, method="POST", path=PATH, at=NOW.timestamp())

    assert read(signed).issuer == (device or device_proof.thumbprint(KEY.jwk))


def test_the_corpus_is_large() -> None:
    assert len(FORGED) >= 120


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_proof_is_refused(what: str) -> None:
    with pytest.raises(CodezeroError, match="the device's proof is refused") as caught:
        read(FORGED[what])

    assert caught.value.problem in {problems.SIGN_IN_REFUSED, problems.CLOCK_WRONG}


@pytest.mark.parametrize(("later", "is_good"), [(-60, True), (-61, False), (60, True), (61, False)])
def test_a_proof_is_good_for_a_minute(later: int, is_good: bool) -> None:
    hub = StandInHub(now=NOW + timedelta(seconds=later))
    if is_good:
        read(GENUINE.token(), hub)
        return
    with pytest.raises(CodezeroError) as caught:
        read(GENUINE.token(), hub)
    assert caught.value.problem is problems.CLOCK_WRONG
