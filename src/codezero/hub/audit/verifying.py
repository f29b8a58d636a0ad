"""Whether an audit is the one that was written: in the database, and in what outsiders were given."""

import base64
import binascii
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.audit import entries
from codezero.hub.storage.tables import AuditEntry, AuditHead
from codezero.wire.audit_lines import CHECKPOINT, CHECKPOINT_TYPE, BrokenError, Chain

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out: numbers of the first and last entry that were read, and of the one that does not fit, with the reason.

    `signed` is the last number that a checkpoint of the Hub vouches for.
    """

    first: int | None
    last: int
    broken: int | None = None
    why: str | None = None
    signed: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, left out or added."""
        return self.broken is None


async def verify(session: AsyncSession, organization: str) -> Verification:
    """Read the whole audit of an organization, and compare. Best within `Database.reading`: then nothing is added meanwhile."""
    head = await session.get(AuditHead, organization)
    if head is None:
        return Verification(None, 0)
    chain = Chain(head.cut_number + 1, head.cut_hash.hex(), organization=organization, keeps_hashes=False)
    try:
        async for row in _rows(session, organization):
            chain.add(entries.content(row), row.hash.hex())
        if (chain.last or head.cut_number, chain.before) != (head.number, head.hash.hex()):
            raise BrokenError(head.number, "is not the last one, or has another hash")
    except BrokenError as error:
        return Verification(chain.first, chain.last, error.number, error.why)
    return Verification(chain.first, chain.last)


def verify_export(lines: Iterable[str | bytes], jwks: Mapping[str, Any]) -> Verification:
    """Check exported lines (several exports may follow each other) with the Hub's public audit keys. Needs no Hub and no database.

    Lines that begin behind the first entry are taken as going on from what is not there; keep the export before.
    """
    chain = Chain()
    keys = _keys(jwks)
    signed: dict[int, tuple[str, str]] = {}
    try:
        for line in lines:
            if not line.strip():
                continue
            told = _object(line, chain)
            if CHECKPOINT in told:
                number, own_hash, organization = _checked(told, keys, chain)
                signed[number] = own_hash, organization
            else:
                chain.add_line(told)
        for number, (own_hash, organization) in sorted(signed.items()):
            if chain.organization not in {None, organization}:
                raise BrokenError(number, "was signed for another organization")
            if number > chain.last:
                raise BrokenError(chain.last + 1, "is missing, for a later one was signed")
            if chain.hashes.get(number, own_hash) != own_hash:
                raise BrokenError(number, "is not the one that was signed")
    except BrokenError as error:
        return Verification(chain.first, chain.last, error.number, error.why)
    return Verification(chain.first, chain.last, signed=max((n for n in signed if n in chain.hashes), default=None))


async def _rows(session: AsyncSession, organization: str) -> AsyncGenerator[AuditEntry, None]:
    after = 0
    query = select(AuditEntry).where(AuditEntry.organization_id == organization).order_by(AuditEntry.number)
    while True:
        behind = query.where(AuditEntry.number > after)
        try:
            rows = list((await session.scalars(behind.limit(_AT_ONCE))).all())
        except (ValueError, TypeError, SQLAlchemyError):
            rows = [await _readable(session, organization, after)]
        for row in rows:
            yield row
            # What was compared is not kept.
            session.expunge(row)
        if not rows:
            return
        after = rows[-1].number


async def _readable(session: AsyncSession, organization: str, after: int) -> AuditEntry:
    """The next entry, for one of those that follow was damaged so that it cannot even be read."""
    own = AuditEntry.organization_id == organization
    number = await session.scalar(
        select(AuditEntry.number).where(own, AuditEntry.number > after).order_by(AuditEntry.number).limit(1)
    )
    try:
        return (await session.scalars(select(AuditEntry).where(own, AuditEntry.number == number))).one()
    except (ValueError, TypeError, SQLAlchemyError):
        raise BrokenError(number or after + 1, "was changed, and cannot be read") from None


def _object(line: str | bytes, chain: Chain) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise BrokenError(chain.last + 1, "is no line of an export")
    return cast("dict[str, Any]", told)


def _checked(line: Mapping[str, Any], keys: Mapping[str, Ed25519PublicKey], chain: Chain) -> tuple[int, str, str]:
    """Number, hash and organization that a checkpoint vouches for."""
    try:
        header, claims, signature = str(line[CHECKPOINT]).split(".")
        told = json.loads(_decoded(header))
        if (told["alg"], told["typ"]) != ("EdDSA", CHECKPOINT_TYPE) or "crit" in told:
            raise BrokenError(chain.last, "has a checkpoint of another kind")
        keys[told["kid"]].verify(_decoded(signature), f"{header}.{claims}".encode())
        said = json.loads(_decoded(claims))
        return int(said["number"]), str(said["hash"]), str(said["organization"])
    except (ValueError, KeyError, TypeError, InvalidSignature, RecursionError) as error:
        if isinstance(error, BrokenError):
            raise
        raise BrokenError(chain.last, "has a checkpoint that this Hub has not signed") from None


def _keys(jwks: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    return {
        key["kid"]: Ed25519PublicKey.from_public_bytes(_decoded(key["x"]))
        for key in jwks.get("keys", ())
        if (key.get("kty"), key.get("crv")) == ("OKP", "Ed25519")
    }


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
