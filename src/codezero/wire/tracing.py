"""What is told about one request or connection, for `czctl trace-connections`: never a body, never a header's value.

A mirrored request is the exception: its answers are shown where they differ, on the laptop that mirrors and nowhere else.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from codezero.model.services import ServiceRef

_Text = Annotated[str, msgspec.Meta(max_length=300)]


class Direction(StrEnum):
    """`consume`: from this laptop to a service. `serve`: to a variant of this laptop."""

    CONSUME = "consume"
    SERVE = "serve"


class TraceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One HTTP request, or one connection of another protocol, after its end.

    `at` is UNIX seconds of its beginning, `milliseconds` how long it took, `sent` and `received` bytes as the client sees them. `variant` is the
    variant that should answer, `why` its condition; `fallback` why the origin answered instead. `user` is the variant's owner (serve) or empty.
    """

    at: float
    direction: Direction
    service: ServiceRef
    port: int
    protocol: _Text
    user: _Text = ""
    variant: _Text = ""
    why: _Text = ""
    method: _Text = ""
    path: _Text = ""
    status: int = 0
    sent: int = 0
    received: int = 0
    milliseconds: float = 0.0
    fallback: _Text = ""
    error: _Text = ""


class MirrorDifference(msgspec.Struct, frozen=True):
    """One thing in which the variant's answer differs from the origin's; values are shortened, and empty where one has nothing there.

    `what` is `status`, `header NAME`, `body`, or `body PATH` for a place in two JSON documents.
    """

    what: _Text
    origin: _Text
    variant: _Text


class MirrorRecord(msgspec.Struct, frozen=True):
    """One mirrored request: who answered what, and how both differ. `milliseconds` are those of each side."""

    at: float
    service: ServiceRef
    port: int
    variant: _Text
    method: _Text
    path: _Text
    origin_milliseconds: float
    variant_milliseconds: float
    differences: tuple[MirrorDifference, ...]
