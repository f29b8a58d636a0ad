"""Passwords: argon2id, worked out beside the loop; as long as one likes, of whatever one likes, and the same time for those without an account."""

import asyncio
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from codezero.model import problems
from codezero.model.problems import CodezeroError

LEAST: Final = 12
MOST: Final = 1024

_HASHER: Final = PasswordHasher()
# Each takes 64 MB while it is worked out: what comes meanwhile waits, and cannot take the machine's memory.
_AT_ONCE: Final = 2


class Passwords:
    """Makes and checks hashes, a few at once. One for each process."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """What is kept of a new password; raises `CodezeroError` (BAD_REQUEST) for one that is too short or too long."""
        check(password)
        async with self._turn:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether it is the password of `hashed`. For None it never is, and takes as long to find out."""
        if len(password) > MOST:
            return False
        async with self._turn:
            if self._nobodys is None:
                self._nobodys = await asyncio.to_thread(_HASHER.hash, secrets.token_urlsafe())
            is_right = await asyncio.to_thread(_verify, password, hashed or self._nobodys)
        return is_right and hashed is not None


def is_outdated(hashed: str) -> bool:
    """Whether it was made with other parameters than are used today."""
    return _HASHER.check_needs_rehash(hashed)


def check(password: str) -> None:
    """Raise `CodezeroError` (BAD_REQUEST) for a password that is too short or too long to be one."""
    if not LEAST <= len(password) <= MOST:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"a password has {LEAST} to {MOST} characters",
            fix="take a few words; anything else is up to you",
        )


def _verify(password: str, hashed: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
