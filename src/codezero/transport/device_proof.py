"""Proofs by a device's key that it is the device itself which asks the Hub for something: short JWTs, ES256, each for one request and used once.

Signed here, by czctl and the Daemon; the Hub verifies them. They go to a Hub that may stand behind a proxy which ends TLS, so no client certificate
could do it.
"""

import base64
import hashlib
import json
import secrets
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

TYPE: Final = "codezero-device-proof+jwt"
ALGORITHM: Final = "ES256"
_SIZE: Final = 32


def sign(
    key: ec.EllipticCurvePrivateKey, *, device: str | None, audience: str, method: str, path: str, at: float
) -> str:
    """A proof for one request at `at` (UNIX seconds); `audience` is the Hub's public URL. A device that has no id yet is known by its key's thumbprint."""
    public = jwk_of(key.public_key())
    header = {"typ": TYPE, "alg": ALGORITHM, "jwk": public}
    claims = {
        "iss": device or thumbprint(public),
        "aud": audience,
        "htm": method,
        "htu": path,
        "iat": int(at),
        "jti": secrets.token_urlsafe(16),
    }
    signed = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_encoded(r.to_bytes(_SIZE, 'big') + s.to_bytes(_SIZE, 'big'))}"


def jwk_of(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """A P-256 public key as JWK."""
    numbers = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": _encoded(numbers.x.to_bytes(_SIZE, "big")),
        "y": _encoded(numbers.y.to_bytes(_SIZE, "big")),
    }


def thumbprint(public: dict[str, str]) -> str:
    """The thumbprint of a JWK (RFC 7638)."""
    required = {name: public[name] for name in ("crv", "kty", "x", "y")}
    return _encoded(hashlib.sha256(_json(required)).digest())


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
