"""What czctl prints: data on stdout as table, JSON, YAML or names; talk on stderr. Colour only on a terminal, and never with `NO_COLOR`."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import click
import msgspec


class Output(StrEnum):
    """How data is written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


F = TypeVar("F", bound=Callable[..., Any])


def output_option(*choices: Output) -> Callable[[F], F]:
    """The `-o` option with `choices`, as parameter `output`."""
    offered = choices or (Output.TABLE, Output.JSON, Output.YAML)
    return click.option(
        "-o",
        "--output",
        type=click.Choice([choice.value for choice in offered]),
        default=Output.TABLE.value,
        show_default=True,
        callback=_remember,
        help="How to write the answer.",
    )


def _remember(context: click.Context, _parameter: click.Parameter, value: str) -> Output:
    """Keep the choice where the edge of the program finds it, so that errors have the same form."""
    output = Output(value)
    context.ensure_object(dict)["output"] = output
    return output


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; columns beyond `wide_from` show only with `-o wide`."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = "nothing"
    wide_from: int | None = None
    names: Sequence[str] = field(default_factory=tuple)


def write(value: object, output: Output, table: Callable[[], Table]) -> None:
    """Print `value` as JSON or YAML, or what `table` makes of it."""
    match output:
        case Output.JSON:
            print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
        case Output.YAML:
            import yaml

            print(
                yaml.safe_dump(msgspec.to_builtins(value, str_keys=True), sort_keys=False, allow_unicode=True), end=""
            )
        case Output.NAME:
            for name in table().names:
                print(name)
        case Output.TABLE | Output.WIDE:
            _write_table(table(), wide=output is Output.WIDE)


def _write_table(table: Table, *, wide: bool) -> None:
    if not table.rows:
        say(table.empty)
        return
    shown = len(table.headings) if wide or table.wide_from is None else table.wide_from
    lines = [list(table.headings[:shown]), *(list(map(_printable, row[:shown])) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(shown)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        text = "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        print(text if room is None or len(text) <= room else text[: room - 1] + "…")


def _printable(text: str) -> str:
    """Names come from a cluster that others write to: control characters must not reach a terminal (T35)."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def say(text: str) -> None:
    """Tell the person something; scripts that read stdout do not see it."""
    print(_printable(text), file=sys.stderr)


def style(text: str, colour: str) -> str:
    """`text` in `colour` where stderr is a terminal that may be coloured."""
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour)
