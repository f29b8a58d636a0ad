"""Checking and comparing documents takes up to a second of work: it is done beside the loop, before any transaction, and one after the other.

Of two threads of Python one works at a time, so a second one would take no less from everybody else.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from codezero.hub.policies import checking, documents
from codezero.hub.policies.checking import Checked
from codezero.hub.policies.documents import Version
from codezero.model import problems
from codezero.model.problems import CodezeroError

T = TypeVar("T")

MOST_WAITING: Final = 20
MOST_OF_ONE: Final = 4

_worker: Final = ThreadPoolExecutor(1, "policies")
# Whose work it is.
_waiting: Final[list[str]] = []


async def check(text: str, *, by: str) -> Checked:
    """As `checking.check`, for the user `by`. Raises `CodezeroError`: `PolicyError`, TOO_MANY_REQUESTS where many of all or some of `by` wait already."""
    return await _done(lambda: checking.check(text), by)


async def difference(before: Version, after: Version, *, by: str) -> str:
    """As `documents.difference`, for the user `by`. Raises `CodezeroError` (TOO_MANY_REQUESTS)."""
    return await _done(lambda: documents.difference(before, after), by)


async def _done(work: Callable[[], T], by: str) -> T:
    if len(_waiting) >= MOST_WAITING or _waiting.count(by) >= MOST_OF_ONE:
        raise CodezeroError(
            problems.TOO_MANY_REQUESTS,
            "many policies are being checked at the moment",
            fix="try again in a few seconds",
        )
    _waiting.append(by)
    try:
        return await asyncio.get_running_loop().run_in_executor(_worker, work)
    finally:
        _waiting.remove(by)
