"""Access tokens: how czctl and the Daemon speak to the API for ten minutes. EdDSA and nothing else; for this Hub, of this type (T31).

A good token is not enough: the sign-in and the user it speaks for are asked of the database at each request, so an ended one ends at once.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from codezero.hub.context import Hub
from codezero.hub.signin.refusals import not_signed_in
from codezero.model.ids import is_ulid, new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport.signed import Signed, UntrustedError, encoded

ALGORITHM: Final = "EdDSA"
TYPE: Final = "at+jwt"
CLIENT: Final = "czctl"
LIFETIME: Final = timedelta(minutes=10)
LEEWAY: Final = 30
MAX_TOKEN: Final = 2048


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    kid: str


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    sub: str
    sid: str
    device: str
    client_id: str
    iat: int
    exp: int
    jti: str


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says: a user, by a device, since a sign-in."""

    user: str
    device: str
    sign_in: str


def issue(hub: Hub, token: AccessToken) -> str:
    """A token, good from now. A secret."""
    now = int(hub.clock().timestamp())
    claims = {
        "iss": hub.public_url,
        "aud": hub.public_url,
        "sub": token.user,
        "sid": token.sign_in,
        "device": token.device,
        "client_id": CLIENT,
        "iat": now,
        "exp": now + int(LIFETIME.total_seconds()),
        "jti": new_ulid(),
    }
    return hub.authorities.sign(claims, typ=TYPE)


def read(hub: Hub, token: str) -> AccessToken:
    """What the token says, where it is one of ours and still good; raises `CodezeroError` (NOT_SIGNED_IN)."""
    try:
        signed = Signed(token, _Header, max_length=MAX_TOKEN)
        if (signed.header.alg, signed.header.typ) != (ALGORITHM, TYPE):
            raise UntrustedError("it is of another kind")
        key = hub.authorities.token_keys.get(signed.header.kid)
        if key is None:
            raise UntrustedError("it is signed by an unknown key")
        claims = signed.claims(_Claims, algorithm=ALGORITHM, key=_jwk(key))
    except UntrustedError as error:
        raise _refused(str(error)) from None
    return _checked(hub, claims)


def _checked(hub: Hub, claims: _Claims) -> AccessToken:
    here = hub.public_url.encode()
    if not (hmac.compare_digest(claims.iss.encode(), here) and hmac.compare_digest(claims.aud.encode(), here)):
        raise _refused("it is for another Hub")
    if claims.client_id != CLIENT:
        raise _refused("it is for another client")
    now = hub.clock().timestamp()
    if claims.exp + LEEWAY <= now:
        raise _refused("it has expired")
    if claims.iat - LEEWAY > now or claims.exp - claims.iat != LIFETIME.total_seconds():
        raise _refused("its times are wrong")
    if not all(map(is_ulid, (claims.sub, claims.sid, claims.device, claims.jti))):
        raise _refused("it does not say for whom it is")
    return AccessToken(claims.sub, claims.device, claims.sid)


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_bytes_raw())}


def _refused(why: str) -> CodezeroError:
    return not_signed_in(f"the access token is refused: {why}")
