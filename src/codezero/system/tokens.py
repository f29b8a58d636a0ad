"""Tokens of those who come without a tunnel: JWTs by the Hub for this Teamspace, EdDSA and nothing else (T31).

Header and claims are read strictly before any cryptography: an algorithm, type or key that we do not expect is refused, never looked up.
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from codezero.model import problems
from codezero.model.ids import Device, TeamspaceId
from codezero.model.problems import CodezeroError

ALGORITHM: Final = "EdDSA"
TYPE: Final = "JWT"
MAX_TOKEN: Final = 4096
MAX_KEYS: Final = 16
MAX_LIFETIME: Final = 15 * 60
LEEWAY: Final = 60


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    kid: str


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: str
    iat: int
    exp: int
    nbf: int | None = None
    org: str | None = None


class _Key(msgspec.Struct, frozen=True):
    kty: str
    kid: str
    crv: str = ""
    x: str = ""
    use: str = "sig"
    alg: str = ALGORITHM


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[_Key]


class _EdDSAOnly(JWSRegistry):
    """The one algorithm, which joserfc has a warning for: RFC 9864 prefers to call it Ed25519, and older clients do not know that name."""

    def get_alg(self, name: str):  # noqa: ANN202 - joserfc does not export the type's name
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"algorithm {name}")
        return self.algorithms[name]


_REGISTRY: Final = _EdDSAOnly()


class TokenVerifier:
    """Knows the Hub's public keys, and whose token a token is. Without keys it refuses every token."""

    def __init__(self, *, issuer: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """`issuer` is who tokens must come from; by default the installation that the token's device belongs to, as `https://...`."""
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str, OKPKey] = {}

    def read_keys(self, content: bytes | None) -> int:
        """Use the keys of this JWKS from now on, and tell how many; those that cannot verify Ed25519 are left out.

        Raises `CodezeroError` (BAD_IDENTITY) for content that is no key set; the keys before then stay in use.
        """
        keys: dict[str, OKPKey] = {}
        if content is not None:
            try:
                for key in msgspec.json.decode(content, type=_KeySet).keys[:MAX_KEYS]:
                    if (key.kty, key.crv, key.use, key.alg) == ("OKP", "Ed25519", "sig", ALGORITHM):
                        keys[key.kid] = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.kid})
            except (msgspec.DecodeError, JoseError, ValueError, RecursionError) as error:
                raise CodezeroError(problems.BAD_IDENTITY, f"the key set cannot be used: {error}") from None
        self._keys = keys
        return len(keys)

    def verify(self, token: str, teamspace: TeamspaceId) -> Device:
        """The device that `token` speaks for in `teamspace`; raises `CodezeroError` (TOKEN_REFUSED) with the reason."""
        if len(token) > MAX_TOKEN or token.count(".") != 2:
            raise _refused("it is no token")
        header = _decode(token.partition(".")[0], _Header)
        if header.alg != ALGORITHM or header.typ != TYPE:
            raise _refused("it is of another kind")
        key = self._keys.get(header.kid)
        if key is None:
            raise _refused("it is signed by an unknown key")
        try:
            payload = jws.deserialize_compact(token, key, registry=_REGISTRY).payload
            claims = msgspec.json.decode(payload, type=_Claims)
        except (JoseError, ValueError, TypeError, RecursionError, msgspec.DecodeError):
            raise _refused("its signature or content is not valid") from None
        return self._check(claims, teamspace)

    def _check(self, claims: _Claims, teamspace: TeamspaceId) -> Device:
        now = self._clock()
        if claims.aud != teamspace:
            raise _refused("it is for another Teamspace")
        if claims.exp + LEEWAY < now:
            raise _refused("it has expired")
        if claims.iat - LEEWAY > now or (claims.nbf is not None and claims.nbf - LEEWAY > now):
            raise _refused("it is not valid yet")
        if not 0 < claims.exp - claims.iat <= MAX_LIFETIME:
            raise _refused(f"it is valid for longer than {MAX_LIFETIME // 60} minutes")
        try:
            device = Device.parse(claims.sub)
        except CodezeroError:
            raise _refused("it does not speak for a device") from None
        if claims.iss != (self._issuer or f"https://{device.install}"):
            raise _refused("it was issued by somebody else")
        if claims.org is not None and claims.org != device.organization:
            raise _refused("its organization is not that of its device")
        return device


def _decode(segment: str, kind: type[_Header]) -> _Header:
    try:
        raw = msgspec.json.decode(f'"{_padded(segment)}"', type=bytes)
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise _refused("its header is not valid") from None


def _padded(segment: str) -> str:
    # msgspec reads standard base64; joserfc reads the segment again before it checks the signature over it.
    return segment.replace("-", "+").replace("_", "/") + "=" * (-len(segment) % 4)


def _refused(why: str) -> CodezeroError:
    return CodezeroError(
        problems.TOKEN_REFUSED, f"the token is refused: {why}", fix="fetch a new token for this Teamspace from the Hub"
    )
