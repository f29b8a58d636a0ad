"""Versions of things that several people change: `ETag` tells which one was read, `If-Match` that this one and no other is to be changed.

A change without `If-Match` is taken whatever the version is: it is for scripts, which mean what they say.
"""

import re
from typing import Annotated, Final

from fastapi import Depends, Header, Response

from codezero.model import problems
from codezero.model.problems import CodezeroError

_TAG: Final = re.compile(r'"([0-9]{1,9})"')


def matching(
    if_match: Annotated[
        str | None,
        Header(
            max_length=200, description="The `ETag` that was read: what has changed since then is left as it is (412)."
        ),
    ] = None,
) -> int | None:
    """The version that a request means to change; None for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise CodezeroError(
            problems.NOT_VALID, "header.if-match: is no version", fix='send back the ETag that was read, such as "3"'
        )
    return int(found[1])


TheVersion = Annotated[int | None, Depends(matching)]


def tag(response: Response, version: int) -> None:
    """Tell the version that `response` shows."""
    response.headers["etag"] = f'"{version}"'
