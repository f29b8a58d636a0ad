"""Who is at the other end, as far as the connection tells: for audit, lists of sessions, and limits."""

from dataclasses import dataclass
from typing import Final

_LONGEST_AGENT: Final = 300
_LONGEST_ADDRESS: Final = 64


@dataclass(frozen=True, slots=True)
class Visitor:
    """The address a request comes from, what its program says it is, and the request's id."""

    address: str | None = None
    agent: str | None = None
    request: str | None = None

    @staticmethod
    def of(address: str | None, agent: str | None, request: str | None = None) -> "Visitor":
        """What a request says, cut to what is kept of it."""
        seen = "".join(letter for letter in agent or "" if letter.isprintable())
        return Visitor((address or "")[:_LONGEST_ADDRESS] or None, seen[:_LONGEST_AGENT] or None, request)
