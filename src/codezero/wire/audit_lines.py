"""Lines of an exported audit, and whether they are the ones that were written: what outsiders need to check what they were given.

    {"action":...,"actor":{...},"address":...,"at":...,"before":...,"details":{...},"hash":...,"id":...,"number":...,"organization":...,
     "outcome":...,"request":...,"source":...,"target":{...},"version":1}
    {"checkpoint":"<JWS>"}

The hash of an entry is SHA-256 over its JSON after RFC 8785, without `hash`; `before` is the hash of the entry before, `START` for the first one.
So whoever changes an entry has to change all after it; and a checkpoint, which the Hub signs, says which hash the entry of a number had.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

VERSION: Final = 1
START: Final = hashlib.sha256(b"codezero audit").hexdigest()
CHECKPOINT: Final = "checkpoint"
CHECKPOINT_TYPE: Final = "codezero-audit-checkpoint+jwt"
# What JSON's readers agree upon (RFC 8785 3.2.2.3).
_LARGEST_NUMBER: Final = 2**53 - 1
_FIELDS: Final = frozenset(
    {"version", "organization", "number", "id", "at", "action", "actor", "target", "outcome", "details"}
    | {"address", "request", "source", "before", "hash"}
)


class BrokenError(ValueError):
    """Something is not as it was written. `number` is that of the entry where it shows."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"entry {number} {why}")
        self.number = number
        self.why = why


@dataclass(slots=True)
class Chain:
    """Entries one after the other, each checked against the one before; raises `BrokenError` for the first that does not fit.

    `expected` and `before` are number and hash that it has to go on from; without them it begins anywhere.
    """

    expected: int | None = None
    before: str | None = None
    first: int | None = None
    last: int = 0
    organization: str | None = None
    # Those that checkpoints may speak of.
    hashes: dict[int, str] = field(default_factory=dict[int, str])
    keeps_hashes: bool = True

    def add(self, entry: Mapping[str, Any], own_hash: str) -> None:
        """Check the next entry, without its hash, and the hash it is said to have."""
        number = entry.get("number")
        if not isinstance(number, int) or isinstance(number, bool):
            raise BrokenError(self.last + 1, "has no number")
        if self.expected is not None and number != self.expected:
            raise BrokenError(self.expected, "is missing" if number > self.expected else "is there twice")
        if self.before is None and number == 1:
            self.before = START
        if self.before is not None and entry.get("before") != self.before:
            raise BrokenError(number, "does not follow from the one before")
        if self.organization is not None and entry.get("organization") != self.organization:
            raise BrokenError(number, "is of another organization")
        try:
            is_itself = hash_of(entry) == own_hash
        except (ValueError, UnicodeEncodeError, RecursionError):
            is_itself = False
        if not is_itself:
            raise BrokenError(number, "was changed")
        self.first = number if self.first is None else self.first
        self.expected, self.before, self.last = number + 1, own_hash, number
        self.organization = cast("str | None", entry.get("organization"))
        if self.keeps_hashes:
            self.hashes[number] = own_hash

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Check the next line of an export."""
        if frozenset(line) != _FIELDS:
            raise BrokenError(self.expected or self.last + 1, "is not an entry as it was exported")
        entry = dict(line)
        own_hash = entry.pop("hash")
        self.add(entry, own_hash if isinstance(own_hash, str) else "")


def hash_of(entry: Mapping[str, Any]) -> str:
    """The hash of an entry, which is without one; raises `ValueError` for what has no canonical form."""
    return hashlib.sha256(canonical(entry)).hexdigest()


def canonical(value: object) -> bytes:
    """`value` as JSON in the one form of RFC 8785; raises `ValueError` for what an audit has none of: fractions, numbers beyond 2^53."""
    return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _ordered(value: object) -> object:
    match value:
        case None | bool() | str():
            return value
        case int() if abs(value) <= _LARGEST_NUMBER:
            return value
        case Mapping():
            named = cast("Mapping[object, object]", value)
            if not all(isinstance(name, str) for name in named):
                raise ValueError("names in an audit are texts")
            # RFC 8785 orders names as JavaScript does: by UTF-16 code units.
            names = sorted(cast("Mapping[str, object]", value), key=lambda name: name.encode("utf-16-be"))
            return {name: _ordered(named[name]) for name in names}
        case list() | tuple():
            return [_ordered(part) for part in cast("list[object]", value)]
        case _:
            raise ValueError(f"an audit holds no such {type(value).__name__}")
