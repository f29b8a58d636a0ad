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

_worker: Final = ThreadPoolExecutor(1, "policies")
_waiting: Final[set[object]] = set()


async def check(text: str) -> Checked:
    """As `checking.check`. Raises `CodezeroError`: `PolicyError`, TOO_MANY_REQUESTS where many wait already."""
    return await _done(lambda: checking.check(text))


async def difference(before: Version, after: Version) -> str:
    """As `documents.difference`. Raises `CodezeroError` (TOO_MANY_REQUESTS) where many wait already."""
    return await _done(lambda: documents.difference(before, after))


async def _done(work: Callable[[], T]) -> T:
    if len(_waiting) >= MOST_WAITING:
        raise CodezeroError(
            problems.TOO_MANY_REQUESTS,
            "many policies are being checked at the moment",
            fix="try again in a few seconds",
        )
    ticket = object()
    _waiting.add(ticket)
    try:
        return await asyncio.get_running_loop().run_in_executor(_worker, work)
    finally:
        _waiting.discard(ticket)
