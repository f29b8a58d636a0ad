"""What czctl prints: data on stdout as table, JSON, YAML or names; talk on stderr. Colour only on a terminal, and never with `NO_COLOR`."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TextIO, TypeVar

import click
import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError


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


def asked_output(arguments: Sequence[str]) -> Output:
    """What a command line asks for with `-o`, for when it has a mistake and was not understood."""
    asked = ""
    for argument, following in zip(arguments, (*arguments[1:], ""), strict=False):
        if argument == "--":
            break
        if argument in ("-o", "--output"):
            asked = following
        elif argument.startswith("--output="):
            asked = argument.removeprefix("--output=")
        elif argument.startswith("-o"):
            asked = argument.removeprefix("-o")
    return next((output for output in Output if output == asked), Output.TABLE)


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
            write_text(as_json(value) + "\n")
        case Output.YAML:
            write_text(_as_yaml(msgspec.to_builtins(value, str_keys=True)))
        case Output.NAME:
            write_lines(table().names)
        case Output.TABLE | Output.WIDE:
            _write_table(table(), wide=output is Output.WIDE)


def write_lines(lines: Sequence[str]) -> None:
    """Print lines of text as data."""
    write_text("".join(f"{printable(line)}\n" for line in lines))


def write_text(text: str) -> None:
    """Print text as it is; raises `CodezeroError` when stdout does not take it, and ends the process in peace when nobody reads on."""
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        raise output_failed(error) from error


def write_now(text: str) -> None:
    """Print text that somebody waits for: it does not stay in a buffer. As `write_text` otherwise."""
    write_text(text)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        raise output_failed(error) from error


def as_json_line(value: object) -> str:
    """JSON in one line, for one of many objects; what could steer a terminal is escaped."""
    line = msgspec.json.encode(value).decode()
    return line if line.isprintable() else _escaped(line)


def as_json(value: object) -> str:
    """JSON for people and programs: indented, and what could steer a terminal is escaped."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _as_yaml(value: object) -> str:
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False)


def _escaped(line: str) -> str:
    import json

    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in line)


def _write_table(table: Table, *, wide: bool) -> None:
    if not table.rows:
        say(table.empty)
        return
    shown = len(table.headings) if wide or table.wide_from is None else table.wide_from
    lines = [list(table.headings[:shown]), *(list(map(printable, row[:shown])) for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(shown)]
    texts = ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    if sys.stdout.isatty():
        import shutil

        room = shutil.get_terminal_size().columns
        texts = [text if len(text) <= room else text[: room - 1] + "…" for text in texts]
    write_text("\n".join(texts) + "\n")


def output_failed(error: OSError) -> CodezeroError:
    """What to say when stdout takes no more."""
    return CodezeroError(problems.OUTPUT_FAILED, f"the output could not be written: {error.strerror}")


def printable(text: str) -> str:
    """Names come from a cluster that others write to: control characters must not reach a terminal (T35)."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def say(text: str) -> None:
    """Tell the person something; scripts that read stdout do not see it."""
    print(printable(text), file=sys.stderr)


def style(text: str, colour: str, stream: TextIO) -> str:
    """`text` in `colour` where `stream` is a terminal that may be coloured."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour)
