"""What changed in the database, told to whoever waits for it: after the commit, never before, and to all replicas of the Hub.

A signal says that something is different and not what: whoever hears it reads the database. So one that is missed is made good by the next one,
and a listener that was away reads all.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Changed:
    """Something of `kind` (`member`, `policy`, `space`, `device`, `apikey`, `user`, `organization`, `audit`, `picture`) of an organization changed."""

    kind: str
    organization: str | None = None
    space: str | None = None
    id: str | None = None


class Signals(Protocol):
    """How parts of the Hub hear of changes."""

    def tell(self, session: AsyncSession, changed: Changed) -> None:
        """Tell everybody when `session`'s transaction is committed; nobody where it is undone."""
        ...

    def changes(self) -> AsyncIterator[Changed | None]:
        """What changes from now on; None where some may have been missed, so that all is to be read again."""
        ...
