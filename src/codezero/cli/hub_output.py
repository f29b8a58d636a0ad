"""How what a Hub answers is printed: as the Hub tells it (JSON, YAML), or as a table of the parts that people look for."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from codezero.cli import wording
from codezero.cli.console import Output, Table, write
from codezero.cli.hub_client import Reply
from codezero.cli.hub_selection import API_VERSION

T = TypeVar("T")


def write_list(
    noun: str, items: Iterable[msgspec.Raw], kind: type[T], output: Output, table: Callable[[list[T]], Table]
) -> None:
    """Print a list under the name `noun`."""
    kept = list(items)
    value = {noun: kept, "api": API_VERSION}
    write(value, output, lambda: table([Reply(bytes(one)).as_(kind) for one in kept]))


def write_one(reply: Reply, output: Output, table: Callable[[], Table]) -> None:
    """Print one thing as the Hub told it."""
    value = reply.as_(dict[str, Any]) if reply.content else {}
    write({**value, "api": API_VERSION}, output, table)


def facts(pairs: Sequence[tuple[str, str | None]]) -> Table:
    """One thing, a fact a line; what is not known is left out."""
    shown = [(name, value) for name, value in pairs if value]
    return Table(("NAME", "VALUE"), shown)


def moment(text: str | None) -> float | None:
    """A time of the Hub in UNIX seconds."""
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


def ago(text: str | None) -> str:
    """How long ago a time of the Hub was."""
    at = moment(text)
    return "-" if at is None else wording.ago(at).removeprefix("since ")
