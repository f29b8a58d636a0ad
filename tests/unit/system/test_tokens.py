"""Tokens for the CONNECT door: the Hub's own are taken, and nothing that looks like one (T31)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.ids import Device, TeamspaceId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.system.tokens import MAX_TOKEN, TokenVerifier

TEAMSPACE = TeamspaceId(new_ulid())
DEVICE = Device("hub.test", new_ulid(), new_ulid(), new_ulid())
NOW = 1_800_000_000
HUB = ed25519.Ed25519PrivateKey.generate()
STRANGER = ed25519.Ed25519PrivateKey.generate()
PUBLIC = HUB.public_key().public_bytes_raw()
SEED = HUB.private_bytes_raw()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(*extra: dict[str, Any]) -> bytes:
    key = {"kty": "OKP", "crv": "Ed25519", "x": b64(PUBLIC), "kid": "key-1", "use": "sig", "alg": "EdDSA"}
    return json.dumps({"keys": [key, *extra]}).encode()


HEADER: dict[str, Any] = {"alg": "EdDSA", "typ": "JWT", "kid": "key-1"}
CLAIMS: dict[str, Any] = {
    "iss": "https://hub.test",
    "sub": str(DEVICE),
    "aud": TEAMSPACE,
    "org": DEVICE.organization,
    "iat": NOW,
    "exp": NOW + 600,
}


def token(
    header: dict[str, Any] | bytes = HEADER,
    claims: dict[str, Any] | bytes = CLAIMS,
    *,
    key: ed25519.Ed25519PrivateKey = HUB,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    first, second = (b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, claims))
    signed = f"{first}.{second}".encode()
    return f"{first}.{second}.{b64((sign or key.sign)(signed))}"


def by_hmac(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def flipped(text: str, position: int) -> str:
    return text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]


GOOD = token()
_first, _second, _third = GOOD.split(".")

FORGED = {
    "empty": "",
    "two parts": f"{_first}.{_second}",
    "four parts": f"{GOOD}.{_third}",
    "no signature": f"{_first}.{_second}.",
    "no payload": f"{_first}..{_third}",
    "only dots": "..",
    "too long": token(claims={**CLAIMS, "more": "x" * MAX_TOKEN}),
    "alg none": token({**HEADER, "alg": "none"}, sign=lambda _: b""),
    "alg None": token({**HEADER, "alg": "None"}, sign=lambda _: b""),
    "alg none with a signature": token({**HEADER, "alg": "none"}),
    "alg missing": token(without(HEADER, "alg")),
    "alg null": token({**HEADER, "alg": None}),
    "alg list": token({**HEADER, "alg": ["EdDSA"]}),
    "alg in small letters": token({**HEADER, "alg": "eddsa"}),
    "HS256 by the public key": token({**HEADER, "alg": "HS256"}, sign=by_hmac(PUBLIC)),
    "HS256 by the JWK": token({**HEADER, "alg": "HS256"}, sign=by_hmac(jwks())),
    "HS256 by an empty key": token({**HEADER, "alg": "HS256"}, sign=by_hmac(b"")),
    "EdDSA said, HMAC done": token(sign=by_hmac(PUBLIC)),
    "Ed448": token({**HEADER, "alg": "Ed448"}),
    "ES256": token({**HEADER, "alg": "ES256"}),
    "typ missing": token(without(HEADER, "typ")),
    "typ of an access token": token({**HEADER, "typ": "at+jwt"}),
    "kid missing": token(without(HEADER, "kid")),
    "kid unknown": token({**HEADER, "kid": "key-2"}),
    "kid a path": token({**HEADER, "kid": "../../../../dev/null"}),
    "kid an injection": token({**HEADER, "kid": "key-1' OR '1'='1"}),
    "kid a number": token({**HEADER, "kid": 1}),
    "crit": token({**HEADER, "crit": ["exp"], "exp": 1}),
    "crit empty": token({**HEADER, "crit": []}),
    "jwk in the header": token(
        {**HEADER, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64(STRANGER.public_key().public_bytes_raw())}},
        key=STRANGER,
    ),
    "jku in the header": token({**HEADER, "jku": "https://evil.test/jwks.json"}, key=STRANGER),
    "x5u in the header": token({**HEADER, "x5u": "https://evil.test/x.pem"}),
    "b64 false": token({**HEADER, "b64": False, "crit": ["b64"]}),
    "compressed": token({**HEADER, "zip": "DEF"}),
    "header a list": token(b'["EdDSA"]'),
    "header a string": token(b'"EdDSA"'),
    "header no JSON": token(b"{alg: EdDSA}"),
    "header deep": token(b"[" * 1500),
    "header of strange bytes": token(b'{"alg":"EdDSA","typ":"JWT","kid":"\xff"}'),
    "another's key": token(key=STRANGER),
    "signature of zeros": token(sign=lambda _: bytes(64)),
    "signature too short": token(sign=lambda data: HUB.sign(data)[:63]),
    "signature too long": token(sign=lambda data: HUB.sign(data) + b"\0"),
    "payload changed": f"{_first}.{b64(json.dumps({**CLAIMS, 'exp': NOW + 700}).encode())}.{_third}",
    "signature changed": flipped(GOOD, len(GOOD) - 10),
    "padded": f"{_first}.{_second}.{_third}==",
    "standard base64": f"{_first}.{_second}.{_third}".replace("-", "+").replace("_", "/") + "+",
    "blank inside": f"{_first} .{_second}.{_third}",
    "newline at the end": GOOD + "\n",
    "claims a list": token(claims=b"[]"),
    "claims no JSON": token(claims=b"exp=1"),
    "claims deep": token(claims=b"[" * 2000),
    "iss missing": token(claims=without(CLAIMS, "iss")),
    "iss another": token(claims={**CLAIMS, "iss": "https://evil.test"}),
    "iss a list": token(claims={**CLAIMS, "iss": ["https://hub.test"]}),
    "aud missing": token(claims=without(CLAIMS, "aud")),
    "aud another": token(claims={**CLAIMS, "aud": new_ulid()}),
    "aud a list": token(claims={**CLAIMS, "aud": [TEAMSPACE, new_ulid()]}),
    "aud in small letters": token(claims={**CLAIMS, "aud": TEAMSPACE.lower()}),
    "sub missing": token(claims=without(CLAIMS, "sub")),
    "sub a user": token(claims={**CLAIMS, "sub": DEVICE.user}),
    "sub the System": token(claims={**CLAIMS, "sub": f"spiffe://{TEAMSPACE.lower()}.codezero/system"}),
    "sub with more": token(claims={**CLAIMS, "sub": f"{DEVICE}/x"}),
    "org another": token(claims={**CLAIMS, "org": new_ulid()}),
    "exp missing": token(claims=without(CLAIMS, "exp")),
    "exp a text": token(claims={**CLAIMS, "exp": str(NOW + 600)}),
    "exp a fraction": token(claims={**CLAIMS, "exp": NOW + 600.5}),
    "exp true": token(claims={**CLAIMS, "exp": True}),
    "exp huge": token(claims={**CLAIMS, "exp": 10**30}),
    "expired": token(claims={**CLAIMS, "iat": NOW - 700, "exp": NOW - 61}),
    "valid for too long": token(claims={**CLAIMS, "exp": NOW + 901}),
    "over before it begins": token(claims={**CLAIMS, "iat": NOW + 50, "exp": NOW + 50}),
    "iat missing": token(claims=without(CLAIMS, "iat")),
    "iat in the future": token(claims={**CLAIMS, "iat": NOW + 61, "exp": NOW + 200}),
    "nbf in the future": token(claims={**CLAIMS, "nbf": NOW + 61}),
}


def verifier(*, now: float = NOW, **options: Any) -> TokenVerifier:
    made = TokenVerifier(clock=lambda: now, **options)
    made.read_keys(jwks())
    return made


def test_a_token_of_the_hub_speaks_for_its_device() -> None:
    """The way in for clients without a tunnel."""
    assert verifier().verify(GOOD, TEAMSPACE) == DEVICE


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_refused(name: str) -> None:
    """Each of these has been an entrance somewhere."""
    with pytest.raises(CodezeroError) as caught:
        verifier().verify(FORGED[name], TEAMSPACE)

    assert caught.value.problem is problems.TOKEN_REFUSED
    assert caught.value.fix is not None
    assert "eyJ" not in caught.value.detail


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: f"{_first}.{b64(data)}.{_third}"))
def test_arbitrary_text_is_refused_and_nothing_else(text: str) -> None:
    """The verifier is reached by anybody."""
    with pytest.raises(CodezeroError) as caught:
        verifier().verify(text, TEAMSPACE)

    assert caught.value.problem is problems.TOKEN_REFUSED


@given(st.integers(0, len(GOOD) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_character_of_a_token_can_be_changed(position: int, character: str) -> None:
    """Also not to another spelling of the same bytes."""
    changed = GOOD[:position] + character + GOOD[position + 1 :]
    if changed == GOOD:
        return
    with pytest.raises(CodezeroError):
        verifier().verify(changed, TEAMSPACE)


def test_a_signature_has_one_spelling() -> None:
    """The last character of 64 bytes in base64 has bits to spare; a token must not have sixteen names."""
    spelled = [GOOD[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    taken = []
    for each in spelled:
        try:
            verifier().verify(each, TEAMSPACE)
            taken.append(each)
        except CodezeroError:
            pass

    assert taken == [GOOD]


@pytest.mark.parametrize("now", [NOW - 60, NOW, NOW + 660])
def test_clocks_may_differ_by_a_minute(now: float) -> None:
    """T48: laptops and clusters are not exact."""
    assert verifier(now=now).verify(GOOD, TEAMSPACE) == DEVICE


def test_without_keys_every_token_is_refused() -> None:
    """A key set that is missing must close the door, not open it."""
    with pytest.raises(CodezeroError):
        TokenVerifier(clock=lambda: NOW).verify(GOOD, TEAMSPACE)
    emptied = verifier()
    emptied.read_keys(None)
    with pytest.raises(CodezeroError):
        emptied.verify(GOOD, TEAMSPACE)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"keys": [{}]}', b'{"keys": 1}', b"\xff", b"[" * 9999],
    ids=lambda it: repr(it[:20]),
)
def test_a_broken_key_set_changes_nothing(content: bytes) -> None:
    """A mount that is being replaced must not send everybody away."""
    made = verifier()
    with pytest.raises(CodezeroError):
        made.read_keys(content)

    assert made.verify(GOOD, TEAMSPACE) == DEVICE


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": b64(b"secret"), "kid": "key-2"},
        {"kty": "OKP", "crv": "X25519", "x": b64(PUBLIC), "kid": "key-2"},
        {"kty": "OKP", "crv": "Ed25519", "x": b64(PUBLIC), "kid": "key-2", "use": "enc"},
        {"kty": "OKP", "crv": "Ed25519", "x": b64(PUBLIC), "kid": "key-2", "alg": "HS256"},
        {"kty": "EC", "crv": "P-256", "x": b64(PUBLIC), "y": b64(PUBLIC), "kid": "key-2"},
    ],
    ids=str,
)
def test_keys_of_other_kinds_verify_nothing(key: dict[str, Any]) -> None:
    """A key set may hold keys for other purposes."""
    made = TokenVerifier(clock=lambda: NOW)

    assert made.read_keys(jwks(key)) == 1
    with pytest.raises(CodezeroError):
        made.verify(token({**HEADER, "kid": "key-2"}), TEAMSPACE)


def test_the_issuer_can_be_set() -> None:
    """A Hub whose address is not its installation's name."""
    made = verifier(issuer="https://hub.example:8700")

    assert made.verify(token(claims={**CLAIMS, "iss": "https://hub.example:8700"}), TEAMSPACE) == DEVICE
    with pytest.raises(CodezeroError):
        made.verify(GOOD, TEAMSPACE)


def test_private_parts_of_a_key_set_are_not_kept() -> None:
    """Somebody will mount the wrong file one day."""
    made = TokenVerifier(clock=lambda: NOW)
    leaked = {"kty": "OKP", "crv": "Ed25519", "x": b64(PUBLIC), "d": b64(SEED), "kid": "key-1"}
    made.read_keys(json.dumps({"keys": [leaked]}).encode())

    assert made.verify(GOOD, TEAMSPACE) == DEVICE
    assert not any(key.is_private for key in made._keys.values())
