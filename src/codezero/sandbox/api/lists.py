"""Lists in pages. All pages of one list show the same moment, however long the client takes (within limits)."""

import base64
import binascii
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from codezero.sandbox.api import errors
from codezero.sandbox.api.selectors import Selection
from codezero.sandbox.api.storage import Storage, Stored

# After either, an unfinished list is gone (410) and its client starts over.
MAXIMUM_OPEN_LISTS = 100
LIFETIME = 300.0


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects, the version of the whole list, and how to get the rest."""

    items: list[Stored]
    revision: int
    continuation: str = ""
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    items: list[Stored]
    revision: int
    expires: float


class Lists:
    """Makes lists of what is stored, and keeps those that are handed out in pages."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._open: OrderedDict[str, _Snapshot] = OrderedDict()

    def first(self, resource: str, selection: Selection, limit: int = 0) -> Page:
        """The objects that match; only the first `limit` if that is positive."""
        everything = self._storage.each(resource, selection.namespace)
        items = [stored for stored in everything if selection.matches(stored.content)]
        return self._cut(_Snapshot(items, self._storage.revision, time.monotonic() + LIFETIME), 0, limit)

    def following(self, continuation: str, limit: int = 0) -> Page:
        """The page that `continuation` stands for; raises `ApiError` 410 when the list is not kept any more, 400 for others' tokens."""
        try:
            key, _, offset = base64.urlsafe_b64decode(continuation.encode()).decode("ascii").partition(":")
            start = int(offset)
        except (ValueError, binascii.Error):
            raise errors.bad_request("continue key is not valid") from None
        snapshot = self._open.get(key)
        if snapshot is None or snapshot.expires < time.monotonic():
            raise errors.expired("The provided continue parameter is too old to display a consistent list result.")
        return self._cut(snapshot, start, limit, key)

    def forget(self) -> None:
        """Let all unfinished lists expire."""
        self._open.clear()

    def _cut(self, snapshot: _Snapshot, start: int, limit: int, key: str = "") -> Page:
        end = start + limit if limit > 0 else len(snapshot.items)
        remaining = max(len(snapshot.items) - end, 0)
        if not remaining:
            self._open.pop(key, None)
            return Page(snapshot.items[start:], snapshot.revision)
        key = key or secrets.token_hex(8)
        self._open[key] = snapshot
        while len(self._open) > MAXIMUM_OPEN_LISTS:
            self._open.popitem(last=False)
        continuation = base64.urlsafe_b64encode(f"{key}:{end}".encode()).decode()
        return Page(snapshot.items[start:end], snapshot.revision, continuation, remaining)
