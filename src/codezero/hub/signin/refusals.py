"""Refusals of a sign-in: what was written about them stays written, and they say as little as whoever is honest needs."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.model import problems
from codezero.model.problems import CodezeroError, Problem

T = TypeVar("T")

_UNAUTHORIZED: Final = 401


class OAuthError(CodezeroError):
    """A refusal of an endpoint that an RFC describes: `error` is the RFC's word for it."""

    def __init__(self, error: str, detail: str, *, problem: Problem = problems.SIGN_IN_REFUSED) -> None:
        super().__init__(problem, detail)
        self.error = error

    @property
    def status(self) -> int:
        """RFC 6749, 5.2: 400, and 401 only for a client that is not known."""
        return _UNAUTHORIZED if self.error == "invalid_client" else 400


async def kept(hub: Hub, work: Callable[[AsyncSession], Awaitable[T | CodezeroError]]) -> T:
    """Do `work` in a transaction that is committed also where it comes back with an error, which is raised after it."""
    outcome = await hub.database.run(work)
    if isinstance(outcome, CodezeroError):
        raise outcome
    return outcome


def refused(detail: str, *, fix: str | None = None) -> CodezeroError:
    """What was shown to sign in with is not good."""
    return CodezeroError(problems.SIGN_IN_REFUSED, detail, fix=fix)


def not_signed_in(detail: str, *, fix: str | None = "sign in with `czctl auth login`") -> CodezeroError:
    """The Hub does not know who asks."""
    return CodezeroError(problems.NOT_SIGNED_IN, detail, fix=fix)
