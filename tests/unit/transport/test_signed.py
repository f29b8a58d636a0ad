"""Signed tokens are read in one way only."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.forged_tokens import Genuine, Key

from codezero.transport.signed import Signed, UntrustedError, decoded, encoded


class Header(msgspec.Struct, frozen=True):
    alg: str


class Claims(msgspec.Struct, frozen=True):
    aud: str
    n: int = 0


KEYS = {algorithm: Key.new(algorithm) for algorithm in ("EdDSA", "ES256", "RS256")}


def claims(token: str, algorithm: str = "EdDSA", key: dict[str, Any] | None = None) -> Claims:
    return Signed(token, Header).claims(Claims, algorithm=algorithm, key=key or KEYS[algorithm].jwk)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_is_believed_by_its_key_and_algorithm_alone(algorithm: str) -> None:
    token = Genuine({"alg": algorithm}, {"aud": "us"}, KEYS[algorithm]).token()
    assert claims(token, algorithm).aud == "us"
    for other, key in KEYS.items():
        if other != algorithm:
            with pytest.raises(UntrustedError):
                claims(token, algorithm, key.jwk)
            with pytest.raises(UntrustedError):
                claims(token, other)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "PS256", "Ed25519", "ES384", ""])
def test_no_other_algorithm_is_known_whatever_the_key(algorithm: str) -> None:
    token = Genuine({"alg": algorithm}, {"aud": "us"}, KEYS["EdDSA"]).token()
    for key in ({"kty": "oct", "k": ""}, *(one.jwk for one in KEYS.values()), {}):
        with pytest.raises(UntrustedError):
            claims(token, algorithm, key or {"kty": "none"})


@given(st.binary(max_size=100))
def test_bytes_have_one_spelling(content: bytes) -> None:
    text = encoded(content)
    assert decoded(text) == content
    for other in (f"{text}=", f"{text}==", f" {text}", f"{text}\n", f"{text[:-1]}é"):
        with pytest.raises(UntrustedError):
            decoded(other)


@given(st.text(max_size=60))
def test_text_that_is_taken_is_the_spelling_of_its_bytes(text: str) -> None:
    try:
        content = decoded(text)
    except UntrustedError:
        return
    assert encoded(content) == text


@given(st.text(max_size=300) | st.lists(st.text(alphabet="abc-_AZ09", max_size=40), max_size=5).map(".".join))
def test_anything_else_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(UntrustedError):
        claims(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda part: st.lists(part) | st.dictionaries(st.text(max_size=3), part),
        max_leaves=10,
    )
)
def test_content_of_another_shape_is_refused(content: Any) -> None:
    token = Genuine({"alg": "EdDSA"}, {}, KEYS["EdDSA"]).token(claims=json.dumps(content).encode())
    with pytest.raises(UntrustedError):
        claims(token)
