"""Secrets at rest: private keys sealed under the Hub's master key, tokens as keyed hashes. Whoever has the database alone has neither.

The master key is a file of its own (32 bytes as hex), and no row of the database.
"""

import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from codezero.model import problems
from codezero.model.problems import CodezeroError

_NONCE: Final = 12
_KEY: Final = 32


class Sealer:
    """Seals and hashes under one master key."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != _KEY:
            raise CodezeroError(
                problems.BAD_MASTER_KEY, f"the master key has {len(master_key)} bytes instead of {_KEY}"
            )
        self._sealing = AESGCM(_derived(master_key, b"codezero hub sealing"))
        self._hashing = _derived(master_key, b"codezero hub hashing")

    @staticmethod
    def new_master_key() -> bytes:
        """A fresh master key."""
        return secrets.token_bytes(_KEY)

    def seal(self, content: bytes, *, purpose: str) -> bytes:
        """`content` so that only `unseal` with the same purpose (kind and id of the row) gives it back."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._sealing.encrypt(nonce, content, purpose.encode())

    def unseal(self, sealed: bytes, *, purpose: str) -> bytes:
        """What was sealed; raises `CodezeroError` (BAD_MASTER_KEY) where it was changed, moved, or sealed under another key."""
        try:
            return self._sealing.decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose.encode())
        except (InvalidTag, ValueError):
            raise CodezeroError(
                problems.BAD_MASTER_KEY,
                f"the {purpose.partition(' ')[0]} key in the database was sealed under another master key",
                fix="give czhub the master key that belongs to this database; it is in no backup of the database",
            ) from None

    def hash(self, secret: str) -> bytes:
        """What is remembered of a token: equal for equal tokens, and no way back without the master key."""
        return hmac.new(self._hashing, secret.encode(), hashlib.sha256).digest()


def _derived(master_key: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY, salt=None, info=purpose).derive(master_key)
