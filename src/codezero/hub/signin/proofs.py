"""Proofs by a laptop that it holds its device's key: an ES256 JWT for one request, good for a minute and once (ADR 13).

    {"alg": "ES256", "typ": "codezero-device-proof+jwt", "jwk": {"kty": "EC", "crv": "P-256", "x": ..., "y": ...}}
    {"iss": <device>, "aud": <public URL>, "htm": "POST", "htu": "/api/v1/auth/token", "iat": ..., "jti": ...}

`iss` is the device's ULID, or its key's thumbprint (RFC 7638) for one that has none yet. So a copied token is worth nothing
without the key, and a copied proof is worth nothing at all.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import one_time
from codezero.hub.storage.tables import Device
from codezero.model import problems
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError
from codezero.transport.device_proof import ALGORITHM, TYPE, thumbprint
from codezero.transport.signed import P256Jwk, Signed, UntrustedError

MAX_PROOF: Final = 2048
LEEWAY: Final = 60
# Longer than a proof is good for on the slowest and on the fastest clock.
REMEMBERED: Final = timedelta(minutes=5)
_LEAST_ID: Final = 8
_MOST_ID: Final = 128


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    jwk: P256Jwk


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    htm: str
    htu: str
    iat: int
    jti: str


@dataclass(frozen=True, slots=True)
class Proof:
    """Somebody held the key with this thumbprint for this request. Whose key it is, and whether the proof was used before, is not known yet."""

    thumbprint: str
    jwk: dict[str, str]
    issuer: str
    id: str

    def is_by(self, device: Device) -> bool:
        """Whether it is by the key of `device`, and says so."""
        is_key = hmac.compare_digest(self.thumbprint, device.thumbprint)
        return is_key and self.issuer in {device.id, device.thumbprint}


def read(hub: Hub, proof: str, *, method: str, path: str) -> Proof:
    """The proof, for exactly this request; raises `CodezeroError` (SIGN_IN_REFUSED, CLOCK_WRONG)."""
    try:
        signed = Signed(proof, _Header, max_length=MAX_PROOF)
        if signed.header.alg != ALGORITHM or signed.header.typ != TYPE:
            raise UntrustedError("it is of another kind")
        jwk = signed.header.jwk.checked()
        claims = signed.claims(_Claims, algorithm=ALGORITHM, key=jwk)
    except UntrustedError as error:
        raise _refused(str(error)) from None
    if not hmac.compare_digest(claims.aud.encode(), hub.public_url.encode()):
        raise _refused("it is for another Hub")
    if (claims.htm, claims.htu) != (method, path):
        raise _refused("it is for another request")
    now = hub.clock().timestamp()
    if not now - LEEWAY <= claims.iat <= now + LEEWAY:
        raise CodezeroError(
            problems.CLOCK_WRONG,
            "the device's proof is refused: it was not made within a minute of now, by the Hub's clock",
            fix="let the machine set its clock: timedatectl set-ntp true",
        )
    if not _LEAST_ID <= len(claims.jti) <= _MOST_ID:
        raise _refused("its id is too short or too long")
    own = thumbprint(jwk)
    if claims.iss != own and not is_ulid(claims.iss):
        raise _refused("it does not say by which device it is")
    return Proof(own, jwk, claims.iss, claims.jti)


async def is_first_use(session: AsyncSession, hub: Hub, proof: Proof) -> bool:
    """Whether it is the first request with this proof, at any of the Hub's replicas; to be asked in the transaction that does what it allows."""
    return await one_time.is_first_use(
        session, hub, one_time.PROOF, f"{proof.thumbprint} {proof.id}", lifetime=REMEMBERED
    )


def used_before() -> CodezeroError:
    """The refusal of a proof that was used before."""
    return _refused("it was used before")


def _refused(why: str) -> CodezeroError:
    return CodezeroError(
        problems.SIGN_IN_REFUSED,
        f"the device's proof is refused: {why}",
        fix="sign in again with `czctl auth login`",
    )
