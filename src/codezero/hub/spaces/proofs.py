"""Proofs by which a Teamspace shows to the Hub who it is: an ES256 JWT for one request, good for a minute and once (ADR 13). See `transport.hub`.

    {"alg": "ES256", "typ": "codezero-teamspace-proof+jwt", "x5c": [leaf, intermediate]}     by a part of it, for the channel
    {"alg": "ES256", "typ": "codezero-teamspace-proof+jwt", "jwk": {...}}                     by its authority's own key, for its certificate

Both are believed where the authority's key is the one that was pinned when the Teamspace was certified, or made itself another one: nothing that any
other key has signed counts, and of the pinned one a certificate that has run out does not matter.
"""

import base64
import binascii
from datetime import timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import one_time
from codezero.hub.storage.tables import Space
from codezero.model import problems
from codezero.model.ids import Workload, is_ulid
from codezero.model.problems import CodezeroError
from codezero.transport.hub import ALGORITHM
from codezero.transport.signed import P256_COORDINATE, P256Jwk, Signed, UntrustedError, decoded, encoded
from codezero.wire.hub_channel import MAX_PROOF, PROOF_SCHEME, PROOF_TYPE

LEEWAY: Final = 60
REMEMBERED: Final = timedelta(minutes=5)
_MOST_CERTIFICATE: Final = 8192
_KIND: Final = "teamspace-proof"


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    typ: str
    x5c: tuple[str, ...] | None = None
    jwk: P256Jwk | None = None


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    iat: int
    jti: str


class Proof(msgspec.Struct, frozen=True):
    """Somebody held a key: that of a part whose certificate `authority` (a public key, DER) has signed, or `authority` itself."""

    authority: bytes
    workload: Workload | None
    id: str

    def is_of(self, space: Space) -> bool:
        """Whether it is by the pinned key of that Teamspace."""
        return space.authority is not None and self.authority == key_of_certificate(space.authority)


def read(hub: Hub, header: str | None, space: str, *, by_part: bool) -> Proof:
    """The proof in a header `Authorization`, for `space`, of a part of it or of its authority; raises `CodezeroError` (BAD_IDENTITY).

    Whose key it is, and whether it was used before, is not known yet.
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme != PROOF_SCHEME or not token or not is_ulid(space):
        raise _refused("there is none")
    try:
        signed = Signed(token, _Header, max_length=MAX_PROOF)
        if signed.header.alg != ALGORITHM or signed.header.typ != PROOF_TYPE:
            raise UntrustedError("it is of another kind")
        if by_part:
            authority, workload, key = _of_part(hub, signed.header, space)
            issuer = str(workload)
        else:
            (authority, key), workload = _of_authority(signed.header), None
            issuer = f"spiffe://{space.lower()}.codezero"
        claims = signed.claims(_Claims, algorithm=ALGORITHM, key=key)
    except UntrustedError as error:
        raise _refused(str(error)) from None
    if claims.aud != hub.public_url:
        raise _refused(f"it is for {claims.aud[:200]!r}, and this Hub is {hub.public_url}")
    if claims.iss != issuer:
        raise _refused("it is by somebody else than it says")
    now = hub.clock().timestamp()
    if not now - LEEWAY <= claims.iat <= now + LEEWAY:
        raise CodezeroError(
            problems.CLOCK_WRONG,
            "the Teamspace's proof was not made within a minute of now, by the Hub's clock",
            fix="let the nodes of the cluster, and the Hub's machine, set their clocks",
        )
    if not is_ulid(claims.jti):
        raise _refused("its id is none")
    return Proof(authority, workload, claims.jti)


async def use(session: AsyncSession, hub: Hub, proof: Proof) -> None:
    """Raise `CodezeroError` (BAD_IDENTITY) where it was used before, at any of the Hub's replicas."""
    if not await one_time.is_first_use(session, hub, _KIND, proof.id, lifetime=REMEMBERED):
        raise _refused("it was used before")


def key_of_certificate(pem: str) -> bytes:
    """The public key of a certificate, as DER."""
    return _der(x509.load_pem_x509_certificate(pem.encode()).public_key())


def key_of_request(key: ec.EllipticCurvePublicKey) -> bytes:
    """The same of a key that was asked for."""
    return _der(key)


def _of_part(hub: Hub, header: _Header, space: str) -> tuple[bytes, Workload, dict[str, str]]:
    if header.x5c is None or header.jwk is not None or len(header.x5c) != 2:
        raise UntrustedError("it does not show two certificates")
    leaf, above = (_certificate(one) for one in header.x5c)
    workload = hub.authorities.verify_teamspace_chain(leaf, above)
    if workload.teamspace != space or workload.role != "orchestrator":
        raise UntrustedError("it is not by the Orchestrator of this Teamspace")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UntrustedError("its key is of another kind")
    numbers = key.public_numbers()
    x, y = (encoded(number.to_bytes(P256_COORDINATE, "big")) for number in (numbers.x, numbers.y))
    return _der(above.public_key()), workload, {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _of_authority(header: _Header) -> tuple[bytes, dict[str, str]]:
    if header.jwk is None or header.x5c is not None:
        raise UntrustedError("it does not show its key")
    jwk = header.jwk.checked()
    x, y = decoded(jwk["x"]), decoded(jwk["y"])
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return _der(numbers.public_key()), jwk
    except ValueError:
        raise UntrustedError("its key is not valid") from None


def _certificate(text: str) -> x509.Certificate:
    try:
        if len(text) > _MOST_CERTIFICATE:
            raise ValueError
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise UntrustedError("a certificate of it cannot be read") from None


def _der(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UntrustedError("its key is of another kind")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _refused(why: str) -> CodezeroError:
    return CodezeroError(
        problems.BAD_IDENTITY,
        f"the Teamspace's proof is refused: {why}",
        fix="see that hub.url is the Hub's public URL; a cluster that the Hub does not know joins by another token",
    )
