"""Waits until a Teamspace works, and says all the time for what and why. Never gives up silently: at the end of the time the reasons are an error."""

import asyncio
from collections.abc import Callable
from typing import Final

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.installing.looking import Look, fix_of, look
from codezero.system.kubernetes.client import ApiClient, ApiError

_LOOK_SECONDS: Final = 1.0


async def until_ready(api: ApiClient, namespace: str, *, seconds: float, tell: Callable[[str], None]) -> Look:
    """The Teamspace once it is ready; `tell` hears each new reason why it is not. Raises `CodezeroError` (NOT_READY) after `seconds`."""
    reasons: tuple[str, ...] = ()
    try:
        async with asyncio.timeout(seconds):
            while True:
                seen, now = await _look(api, namespace)
                for reason in now:
                    if reason not in reasons:
                        tell(f"waiting: {reason}")
                reasons = now
                if seen is not None and not now:
                    return seen
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise CodezeroError(
            problems.NOT_READY,
            f"not ready after {seconds:.0f} s: {' | '.join(reasons) or 'the Kubernetes API did not answer'}",
            fix=f"{f'{hint}; ' if (hint := fix_of(reasons, namespace)) else ''}all is applied and goes on by itself: "
            "see how it is with `czctl teamspace status`, or wait longer with --wait",
        ) from None


async def _look(api: ApiClient, namespace: str) -> tuple[Look | None, tuple[str, ...]]:
    try:
        seen = await look(api, namespace)
    except ApiError as error:
        if error.status in {401, 403}:
            raise
        return None, (f"the Kubernetes API does not answer: {error}",)
    return seen, ("nothing is there yet",) if seen is None else seen.waiting
