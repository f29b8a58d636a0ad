"""Whether a request is the one that a page has signed (`wire.paired`). No clock, file or state of its own: what it is held against is given."""

from typing import Final

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.device_proof import thumbprint
from codezero.transport.signed import P256Jwk, Signed, UntrustedError
from codezero.wire.paired import (
    ALGORITHM,
    LEEWAY_SECONDS,
    MAX_PROOF,
    PROOF_TYPE,
    SCHEME,
    PageKey,
    ProofClaims,
    ProofHeader,
    body_hash,
)

_PREFIX: Final = f"{SCHEME} "


class Proof:
    """A proof taken apart: whose it says to be, and with that page's key, whether it is."""

    def __init__(self, authorization: str) -> None:
        """Of the value of `Authorization`. Raises `CodezeroError` (PAGE_NOT_PAIRED) for what is none."""
        if not authorization.startswith(_PREFIX):
            raise not_paired("the request is not signed")
        try:
            self._signed = Signed(authorization.removeprefix(_PREFIX), ProofHeader, max_length=MAX_PROOF)
        except UntrustedError as error:
            raise not_paired(f"the proof is not taken: {error}") from None
        header = self._signed.header
        if (header.typ, header.alg) != (PROOF_TYPE, ALGORITHM):
            raise not_paired("the proof is of another kind")
        self.pairing: Final = header.kid

    def check(self, key: PageKey, *, machine: str, method: str, target: str, body: bytes, now: float) -> ProofClaims:
        """What it says, for exactly this request; raises `CodezeroError` (PAGE_NOT_PAIRED, or CLOCK_WRONG) where it is for another one."""
        try:
            claims = self._signed.claims(ProofClaims, algorithm=ALGORITHM, key=msgspec.to_builtins(key))
        except UntrustedError as error:
            raise not_paired(f"the proof is not taken: {error}") from None
        if claims.aud != machine:
            raise not_paired("the proof is for another machine")
        if (claims.htm, claims.htu) != (method, target):
            raise not_paired("the proof is for another request")
        if claims.bsh != body_hash(body):
            raise not_paired("the proof is for another body")
        # Whole numbers, for a time may be any of them.
        ahead = claims.iat - int(now)
        if not -LEEWAY_SECONDS <= ahead <= LEEWAY_SECONDS:
            raise CodezeroError(
                problems.CLOCK_WRONG,
                f"the page's clock is {min(abs(ahead), 10**9)} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
                fix="let both machines set their clocks: timedatectl set-ntp true",
            )
        return claims


def pairing_id(key: PageKey) -> str:
    """The id of a page with that key; raises `CodezeroError` (BAD_REQUEST) where it is no P-256 key."""
    public: dict[str, str] = msgspec.to_builtins(key)
    try:
        return thumbprint(P256Jwk(**public).checked())
    except UntrustedError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"the page cannot be paired: {error}") from None


def not_paired(detail: str) -> CodezeroError:
    """What to say to whoever has shown no good proof."""
    return CodezeroError(problems.PAGE_NOT_PAIRED, detail, fix="pair this page with the machine: czctl pair")
