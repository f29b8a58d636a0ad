"""Signed tokens (compact JWS), read strictly: one spelling each, header before signature, claims after it (T31).

The one place that asks joserfc whether a signature is right; which key and which algorithm are the caller's to say, never the token's.
"""

import base64
import binascii
import json
from typing import Any, Final, Generic, TypeVar

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

H = TypeVar("H", bound=msgspec.Struct)
C = TypeVar("C", bound=msgspec.Struct)

MAX_TOKEN: Final = 8192
_LEAST_RSA_BITS: Final = 2048


P256_COORDINATE: Final = 32


class UntrustedError(ValueError):
    """A token that is not believed; the text says why, for whoever holds it and for logs, without any part of it."""


class Signed(Generic[H]):
    """A token taken apart: its header can be read, its claims only with the key that has signed it."""

    def __init__(self, token: str, header: type[H], *, max_length: int = MAX_TOKEN) -> None:
        """Raises `UntrustedError` for what is no token with exactly the header fields of `header`."""
        if len(token) > max_length or token.count(".") != 2:
            raise UntrustedError("it is no token")
        self._signed, _, signature = token.rpartition(".")
        first, _, self._payload = self._signed.partition(".")
        self._signature = decoded(signature)
        self.header: H = _read(decoded(first), header, "header")

    def claims(self, kind: type[C], *, algorithm: str, key: dict[str, Any]) -> C:
        """The claims, signed with `algorithm` by `key` (a public JWK); raises `UntrustedError` where they are not."""
        try:
            made = _key(algorithm, key)
            model = JWSRegistry.algorithms[algorithm]
            model.check_key(made)
            is_right = model.verify(self._signed.encode(), self._signature, made)
        except (JoseError, ValueError, TypeError, KeyError):
            is_right = False
        if not is_right:
            raise UntrustedError("its signature is wrong")
        return _read(decoded(self._payload), kind, "content")


class P256Jwk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public P-256 key in a token's header and nothing else: not even a name, which would be theirs to choose."""

    kty: str
    crv: str
    x: str
    y: str

    def checked(self) -> dict[str, str]:
        """The key as JWK; raises `UntrustedError` for one of another kind or size. Whether it is a point of the curve shows when it is used."""
        if (self.kty, self.crv) != ("EC", "P-256"):
            raise UntrustedError("its key is of another kind")
        if any(len(decoded(coordinate)) != P256_COORDINATE for coordinate in (self.x, self.y)):
            raise UntrustedError("its key is not valid")
        return msgspec.to_builtins(self)


def decoded(segment: str) -> bytes:
    """The bytes of base64url without padding, in their only spelling; raises `UntrustedError` for any other."""
    try:
        content = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise UntrustedError("it is not base64url") from None
    if encoded(content) != segment:
        raise UntrustedError("it is not spelled as base64url is")
    return content


def encoded(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _key(algorithm: str, jwk: dict[str, Any]) -> ECKey | OKPKey | RSAKey:
    """The public half alone, of the only kind that `algorithm` goes with: so no text of a token or key set makes an RSA key an HMAC secret."""
    match algorithm, jwk.get("kty"), jwk.get("crv"):
        case "EdDSA", "OKP", "Ed25519":
            return OKPKey.import_key({name: jwk[name] for name in ("kty", "crv", "x")})
        case "ES256", "EC", "P-256":
            return ECKey.import_key({name: jwk[name] for name in ("kty", "crv", "x", "y")})
        case "RS256", "RSA", _:
            key = RSAKey.import_key({name: jwk[name] for name in ("kty", "n", "e")})
            if key.public_key.key_size < _LEAST_RSA_BITS:
                raise UntrustedError("its key is too short")
            return key
        case _:
            raise UntrustedError("its key is of another kind")


def _read(content: bytes, kind: type[Any], part: str) -> Any:  # noqa: ANN401 - the callers say the type
    try:
        value = json.loads(content.decode(), object_pairs_hook=_without_doubles, parse_constant=_no_number)
        return msgspec.convert(value, type=kind)
    except (ValueError, RecursionError, msgspec.ValidationError):
        raise UntrustedError(f"its {part} is not valid") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A name said twice means one thing to us and another to somebody else."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is said twice")
    return value


def _no_number(_text: str) -> float:
    raise ValueError("no number")
