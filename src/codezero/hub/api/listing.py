"""Lists in pages: a cursor says after which entry the next page begins, so that entries that come or go in between move no other one."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Query

from codezero.model import problems
from codezero.model.problems import CodezeroError

T = TypeVar("T")

MOST: Final = 200
# Of what a Teamspace told last: all of it is read for each page, so those who want all of it ask once.
MOST_OF_A_PICTURE: Final = 10_000
# Of a number that databases know.
MOST_DIGITS: Final = 9
_FORM: Final = "1:"


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for: at most `limit` entries, those after the one whose key is `after`."""

    limit: int
    after: str | None = None


def page(
    limit: Annotated[int, Query(ge=1, le=MOST, description="How many entries at most.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before this one; none for the first.")
    ] = None,
) -> Page:
    """The page that a request asks for."""
    return Page(limit, None if cursor is None else _key(cursor))


def page_of_a_picture(
    limit: Annotated[int, Query(ge=1, le=MOST_OF_A_PICTURE, description="How many entries at most.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before this one; none for the first.")
    ] = None,
) -> Page:
    """The page of a picture that a request asks for; it may be a large one."""
    return page(limit, cursor)


ThePage = Annotated[Page, Depends(page)]
ThePageOfAPicture = Annotated[Page, Depends(page_of_a_picture)]


def cursor(key: str) -> str:
    """What leads to the entries after the one with `key`."""
    return base64.urlsafe_b64encode(f"{_FORM}{key}".encode()).decode().rstrip("=")


def _key(text: str) -> str:
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _no_cursor() from None
    if not content.startswith(_FORM) or "\0" in content:
        raise _no_cursor()
    return content.removeprefix(_FORM)


def _no_cursor() -> CodezeroError:
    return CodezeroError(problems.NOT_VALID, "query.cursor: is not one of this list", fix="begin without a cursor")


def number(key: str) -> int:
    """The key of a list that is ordered by numbers."""
    if not (key.isascii() and key.isdigit() and len(key) <= MOST_DIGITS):
        raise _no_cursor()
    return int(key)


async def entries(
    wanted: Page, read: Callable[[str | None, int], Awaitable[Sequence[T]]], key: Callable[[T], str]
) -> tuple[Sequence[T], str | None]:
    """The entries on the page that is wanted, and the cursor of the next page: `read` gives so many behind a key, in the order of their keys."""
    found = await read(wanted.after, wanted.limit + 1)
    if len(found) <= wanted.limit:
        return found, None
    shown = found[: wanted.limit]
    return shown, cursor(key(shown[-1]))
