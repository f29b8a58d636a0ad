"""How often somebody may try: per account and per address, in memory that does not grow.

Each Hub process counts for itself, so with two of them somebody may try twice as often: still far from guessing anything.
"""

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from codezero.model import problems
from codezero.model.problems import CodezeroError

REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` attempts of one kind at once, and then one more each `seconds`."""

    kind: str
    burst: int
    seconds: float


# Somebody who mistypes gets ten tries; an account attacked from everywhere, sixty and then one a minute; an office behind one address, a hundred.
PASSWORD_HERE: Final = Limit("password", 10, 60)
PASSWORD_ACCOUNT: Final = Limit("account", 60, 60)
ADDRESS: Final = Limit("address", 100, 2)
# Codes that people type: 20^8 of them, so ten guesses are none.
USER_CODE: Final = Limit("user-code", 10, 60)
DEVICE_CODES: Final = Limit("device-code", 20, 30)
# Sign-ins that are refreshed: czctl needs one in ten minutes, twenty of them at once too.
REFRESH: Final = Limit("refresh", 120, 1)
# What is told in the audit of refused keys, not how often they are refused.
TOLD: Final = Limit("told", 1, 60)

# What each has used up of its limit, and when that was so.
_Used = OrderedDict[str, tuple[float, datetime]]


@dataclass(slots=True)
class Attempts:
    """The attempts under way. Of each kind it forgets those longest untouched when there are too many: no kind that is cheap makes room for another."""

    most: int = REMEMBERED
    _used: dict[str, _Used] = field(default_factory=dict[str, _Used])

    def is_left(self, limit: Limit, now: datetime, *key: str | None) -> bool:
        """Count one attempt of `key`; false where it was one too many, which is not counted."""
        name, used = _name(key), self._used.setdefault(limit.kind, OrderedDict())
        before = self._used_now(name, limit, now)
        if before + 1 > limit.burst:
            used.move_to_end(name)
            return False
        used[name] = (before + 1, now)
        used.move_to_end(name)
        while len(used) > self.most:
            used.popitem(last=False)
        return True

    def count(self, limit: Limit, now: datetime, *key: str | None) -> None:
        """Count one attempt of `key`; raises `CodezeroError` (TOO_MANY_REQUESTS) where it was one too many."""
        if not self.is_left(limit, now, *key):
            wait = math.ceil((self._used_now(_name(key), limit, now) + 1 - limit.burst) * limit.seconds)
            raise CodezeroError(
                problems.TOO_MANY_REQUESTS,
                "there were too many attempts",
                fix=f"wait {max(wait, 1)} seconds and try again",
            )

    def forget(self, limit: Limit, *key: str | None) -> None:
        """Count from the start again: it was the right one."""
        self._used.get(limit.kind, _Used()).pop(_name(key), None)

    def __len__(self) -> int:
        return sum(map(len, self._used.values()))

    def _used_now(self, name: str, limit: Limit, now: datetime) -> float:
        used, at = self._used.get(limit.kind, _Used()).get(name, (0.0, now))
        return max(0.0, used - max(0.0, (now - at).total_seconds()) / limit.seconds)


def network(address: str | None) -> str:
    """Whose address it is: for IPv6 the network, because one machine has all addresses of it."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _name(key: tuple[str | None, ...]) -> str:
    # A key may be as long as somebody likes; what is kept of it may not.
    return "\n".join((part or "")[:320] for part in key)
