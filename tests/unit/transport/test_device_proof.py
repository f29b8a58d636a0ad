"""Device proofs as a library that is not ours reads them."""

import json

from joserfc import jws
from joserfc.jwk import ECKey

from codezero.kit import certificates
from codezero.transport import device_proof


def test_a_proof_is_a_signed_token_of_exactly_this_kind() -> None:
    key = certificates.new_key()

    proof = device_proof.sign(
        key, device="01ARZ3NDEKTSV4RRFFQ69G5FAV", audience="https://hub.test", method="POST", path="/x", at=1000.7
    )

    read = jws.deserialize_compact(proof, ECKey.import_key(device_proof.jwk_of(key.public_key())), algorithms=["ES256"])
    claims = json.loads(read.payload)
    assert read.headers()["typ"] == "codezero-device-proof+jwt"
    assert read.headers()["jwk"] == device_proof.jwk_of(key.public_key())
    assert (claims["iss"], claims["aud"]) == ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "https://hub.test")
    assert (claims["htm"], claims["htu"], claims["iat"]) == ("POST", "/x", 1000)


def test_no_two_proofs_are_equal() -> None:
    """The Hub takes each once."""
    key = certificates.new_key()

    first, second = (
        device_proof.sign(key, device=None, audience="https://hub.test", method="POST", path="/x", at=0.0)
        for _ in range(2)
    )

    assert first != second


def test_the_thumbprint_is_that_of_the_standard() -> None:
    public = device_proof.jwk_of(certificates.new_key().public_key())

    assert device_proof.thumbprint(public) == ECKey.import_key(public).thumbprint()
