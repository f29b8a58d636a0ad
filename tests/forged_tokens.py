"""Tokens that look like good ones and are not: what libraries and their users have fallen for (T31), made from a good one of any verifier."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Json = dict[str, Any]
Sign = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Key:
    """A private key that signs the one way its algorithm does."""

    algorithm: str
    private: Any

    @staticmethod
    def new(algorithm: str) -> "Key":
        match algorithm:
            case "EdDSA":
                return Key(algorithm, ed25519.Ed25519PrivateKey.generate())
            case "ES256":
                return Key(algorithm, ec.generate_private_key(ec.SECP256R1()))
            case _:
                return Key("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def sign(self, content: bytes) -> bytes:
        match self.algorithm:
            case "EdDSA":
                return self.private.sign(content)
            case "ES256":
                r, s = decode_dss_signature(self.private.sign(content, ec.ECDSA(hashes.SHA256())))
                return r.to_bytes(32) + s.to_bytes(32)
            case _:
                return self.private.sign(content, PKCS1v15(), hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def der(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def jwk(self) -> Json:
        public = self.private.public_key()
        match self.algorithm:
            case "EdDSA":
                return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
            case "ES256":
                numbers = public.public_numbers()
                return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}
            case _:
                numbers = public.public_numbers()
                return {"kty": "RSA", "n": b64(numbers.n.to_bytes(256)), "e": b64(numbers.e.to_bytes(3))}


@dataclass(frozen=True)
class Genuine:
    """A good token taken apart, and the key that it is signed with."""

    header: Json
    claims: Json
    key: Key

    def token(
        self, *, header: Json | bytes | None = None, claims: Json | bytes | None = None, sign: Sign | None = None
    ) -> str:
        first, second = (
            b64(part if isinstance(part, bytes) else json.dumps(part).encode())
            for part in (self.header if header is None else header, self.claims if claims is None else claims)
        )
        content = f"{first}.{second}"
        return f"{content}.{b64((sign or self.key.sign)(content.encode()))}"

    def with_header(self, **values: Any) -> str:
        return self.token(header=_with(self.header, values))

    def with_claims(self, **values: Any) -> str:
        return self.token(claims=_with(self.claims, values))


GONE = object()
ALGORITHMS = (
    "EdDSA",
    "ES256",
    "RS256",
    "ES384",
    "ES512",
    "ES256K",
    "PS256",
    "RS512",
    "Ed25519",
    "Ed448",
    "HS256",
    "HS512",
)


def forgeries(genuine: Genuine) -> dict[str, str]:
    """Forged tokens by what is wrong with them. Each differs from a good one in that alone."""
    stranger = Key.new(genuine.key.algorithm)
    good = genuine.token()
    first, second, third = good.split(".")
    key = genuine.key
    found: dict[str, str] = {}
    for spelling in ("none", "None", "NONE", "nOnE", ""):
        found[f"alg {spelling!r} without signature"] = genuine.token(
            header=_with(genuine.header, {"alg": spelling}), sign=lambda _: b""
        )
        found[f"alg {spelling!r} with a signature"] = genuine.with_header(alg=spelling)
    for algorithm in ALGORITHMS:
        if algorithm != key.algorithm:
            found[f"alg {algorithm} said, signed as ever"] = genuine.with_header(alg=algorithm)
    found["alg in small letters"] = genuine.with_header(alg=key.algorithm.swapcase())
    found["alg missing"] = genuine.with_header(alg=GONE)
    found["alg null"] = genuine.with_header(alg=None)
    found["alg a list"] = genuine.with_header(alg=[key.algorithm])
    for name, secret in {
        "PEM": key.pem,
        "PEM without line break": key.pem.strip(),
        "DER": key.der,
        "JWK": json.dumps(key.jwk).encode(),
        "nothing": b"",
        "x": unb64(key.jwk.get("x", key.jwk.get("n", ""))),
    }.items():
        for algorithm, hashing in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            found[f"{algorithm} with the public key as secret: {name}"] = genuine.token(
                header=_with(genuine.header, {"alg": algorithm}),
                sign=lambda content, secret=secret, hashing=hashing: hmac.new(secret, content, hashing).digest(),
            )
    for algorithm in ("EdDSA", "ES256", "RS256"):
        if algorithm != key.algorithm:
            other = Key.new(algorithm)
            found[f"{algorithm} by a key of its own"] = genuine.token(
                header=_with(genuine.header, {"alg": algorithm}), sign=other.sign
            )
            found[f"{algorithm} by a key of its own, embedded"] = genuine.token(
                header=_with(genuine.header, {"alg": algorithm, "jwk": other.jwk}), sign=other.sign
            )
    found["signed by somebody else"] = genuine.token(sign=stranger.sign)
    found["signed by somebody else, with their key"] = genuine.token(
        header=_with(genuine.header, {"x5c": [b64(stranger.der)]}), sign=stranger.sign
    )
    for where in ("jku", "x5u"):
        found[f"signed by somebody else, {where} to their keys"] = genuine.token(
            header=_with(genuine.header, {where: "https://evil.example/keys"}), sign=stranger.sign
        )
    for name, value in {"exp": ["exp"], "nothing": [], "b64": ["b64"], "no list": "exp"}.items():
        found[f"crit {name}"] = genuine.token(
            header=_with(genuine.header, {"crit": value, "b64": True} if name == "b64" else {"crit": value})
        )
    found["not encoded (RFC 7797)"] = genuine.with_header(b64=False, crit=["b64"])
    found["no signature"] = f"{first}.{second}."
    found["signature cut off"] = f"{first}.{second}.{b64(unb64(third)[:-1])}"
    found["signature with more"] = f"{first}.{second}.{b64(unb64(third) + bytes(1))}"
    found["signature of zeros"] = genuine.token(sign=lambda content: bytes(len(key.sign(content))))
    found["signature of something else"] = genuine.token(sign=lambda content: key.sign(content + b"."))
    found["signature of the claims alone"] = genuine.token(sign=lambda content: key.sign(content.partition(b".")[2]))
    if key.algorithm == "ES256":
        found["signature as DER"] = genuine.token(
            sign=lambda content: key.private.sign(content, ec.ECDSA(hashes.SHA256()))
        )
    found["alg twice"] = genuine.token(header=b'{"alg":"none",' + json.dumps(genuine.header).encode()[1:])
    for name in ("sub", "jti", "iss"):
        if name in genuine.claims:
            found[f"{name} twice"] = genuine.token(
                claims=json.dumps({name: "somebody"}).encode()[:-1] + b", " + json.dumps(genuine.claims).encode()[1:]
            )
    found["padded"] = f"{first}.{second}.{third}=="
    found["padded header"] = f"{first}=.{second}.{third}"
    found["line break"] = f"{first}.{second}.{third}\n"
    found["blank before"] = f" {good}"
    found["standard alphabet"] = f"{first}.{second}.{third[:-2]}+/"
    found["other last bits"] = f"{first}.{second}.{_other_bits(third)}"
    found["no ASCII"] = f"{first}.{second}.{third[:-1]}ä"
    found["two parts"] = f"{first}.{second}"
    found["four parts"] = f"{good}.{third}"
    found["five parts, as if encrypted"] = f"{first}.{second}.{third}.{second}.{third}"
    found["nothing"] = ""
    found["dots"] = ".."
    found["JSON form"] = json.dumps({"protected": first, "payload": second, "signature": third})
    found["too long"] = genuine.with_claims(padding="a" * 20_000)
    found["header is no JSON"] = genuine.token(header=b"alg=none")
    found["header is a list"] = genuine.token(header=b"[]")
    found["header in UTF-16"] = genuine.token(header=json.dumps(genuine.header).encode("utf-16"))
    found["header with something after it"] = genuine.token(header=json.dumps(genuine.header).encode() + b"{}")
    found["content is no JSON"] = genuine.token(claims=b"sub")
    found["content is a list"] = genuine.token(claims=b"[]")
    found["content nested deeply"] = genuine.token(claims=b'{"sub":' + b"[" * 3000 + b"]" * 3000 + b"}")
    found["content with NaN"] = genuine.token(claims=json.dumps(_with(genuine.claims, {"iat": float("nan")})).encode())
    for name in ("iss", "aud", "iat"):
        found[f"without {name}"] = genuine.with_claims(**{name: GONE})
        found[f"{name} null"] = genuine.with_claims(**{name: None})
    for name, value in {
        "somebody else": "https://evil.example",
        "with a slash": f"{genuine.claims['aud']}/",
        "in capitals": str(genuine.claims["aud"]).upper(),
        "empty": "",
        "several": [genuine.claims["aud"], "https://evil.example"],
        "none in a list": [],
    }.items():
        found[f"aud {name}"] = genuine.with_claims(aud=value)
    found["iss somebody else"] = genuine.with_claims(iss="https://evil.example")
    found["iss empty"] = genuine.with_claims(iss="")
    issued = genuine.claims["iat"]
    for name, value in {
        "later": issued + 3600,
        "long ago": issued - 86400,
        "as text": str(issued),
        "true": True,
        "half": issued + 0.5,
    }.items():
        found[f"iat {name}"] = genuine.with_claims(iat=value)
    if "exp" in genuine.claims:
        for name, value in {
            "over": issued - 3600,
            "gone": GONE,
            "as text": str(issued + 60),
            "null": None,
            "list": [issued],
            "infinite": 10**400,
        }.items():
            found[f"exp {name}"] = genuine.with_claims(exp=value)
    found["nbf later"] = genuine.with_claims(nbf=issued + 3600)
    assert good not in found.values()
    return found


def _with(values: Json, changed: Json) -> Json:
    return {name: value for name, value in {**values, **changed}.items() if value is not GONE}


def _other_bits(segment: str) -> str:
    """The same bytes in another spelling, where there is one."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(segment) % 4 == 0:
        return segment + "="
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) + 1]
