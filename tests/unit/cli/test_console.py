"""What reaches a terminal, and what reaches a script."""

import io
import json
import os
import sys

import msgspec
import pytest

from codezero.cli.console import Output, Table, as_json, asked_output, printable, say, style, write, write_text
from codezero.model import problems
from codezero.model.problems import CodezeroError

EVIL = "a\x1b[31mred\x07\r\n\x9b2J\u202eevil\x00"
TABLE = Table(("NAME", "WHAT", "MORE"), [("one", "1", "x"), ("three", "22", "y")], wide_from=2, names=["one", "three"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_has_aligned_columns_and_no_trailing_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    write(None, Output.TABLE, lambda: TABLE)

    assert capsys.readouterr().out == "NAME    WHAT\none     1\nthree   22\n"


def test_wide_shows_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    write(None, Output.WIDE, lambda: TABLE)

    assert capsys.readouterr().out == "NAME    WHAT   MORE\none     1      x\nthree   22     y\n"


def test_names_come_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    write(None, Output.NAME, lambda: TABLE)

    assert capsys.readouterr().out == "one\nthree\n"


def test_an_empty_table_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """`wc -l` of nothing is 0; the person is told on stderr."""
    write(None, Output.TABLE, lambda: Table(("NAME",), [], empty="no services"))

    assert capsys.readouterr() == ("", "no services\n")


def test_lines_are_cut_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "12")

    write(None, Output.TABLE, lambda: Table(("A", "B"), [("x" * 8, "y" * 8)]))

    assert terminal.getvalue() == "A          B\nxxxxxxxx   …\n"


@pytest.mark.parametrize("output", list(Output))
def test_no_control_character_of_a_name_reaches_the_terminal(
    capsys: pytest.CaptureFixture[str], output: Output
) -> None:
    """Names come from a cluster that others write to (T35)."""
    write({"name": EVIL}, output, lambda: Table(("NAME",), [(EVIL,)], names=[EVIL]))

    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert len(out.splitlines()) <= 3


def test_json_keeps_every_character_of_a_name() -> None:
    for text in (EVIL, "\U000e0001", "grün", "\x7f", "日本"):
        assert json.loads(as_json({"name": text})) == {"name": text}


def test_what_is_said_cannot_steer_a_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)

    out, err = capsys.readouterr()
    assert out == ""
    assert err[:-1].isprintable()


def test_printable_text_stays_as_it_is() -> None:
    assert printable("grün, 日本, naïve …") == "grün, 日本, naïve …"


def test_yaml_is_read_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    value = {"name": EVIL, "ports": (1, 2), "none": None}
    write(value, Output.YAML, lambda: TABLE)

    assert yaml.safe_load(capsys.readouterr().out) == {**value, "ports": [1, 2]}


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    assert style("red", "red", io.StringIO()) == "red"
    assert style("red", "red", Terminal()) == "\x1b[31mred\x1b[0m"


def test_no_color_turns_colour_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert style("red", "red", Terminal()) == "red"


def test_an_empty_no_color_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As no-color.org has it: present and not empty."""
    monkeypatch.setenv("NO_COLOR", "")

    assert style("red", "red", Terminal()) != "red"


class Full(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise OSError(28, os.strerror(28))


class Unread(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise BrokenPipeError


def test_an_output_that_is_full_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())

    with pytest.raises(CodezeroError, match="No space left") as caught:
        write_text("x")
    assert caught.value.problem is problems.OUTPUT_FAILED


def test_a_reader_that_went_away_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """`czctl services list | head -1` is no failure."""
    monkeypatch.setattr(sys, "stdout", Unread())

    with pytest.raises(SystemExit) as caught:
        write_text("x")
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ([], Output.TABLE),
        (["-o"], Output.TABLE),
        (["-o", "json"], Output.JSON),
        (["-oyaml"], Output.YAML),
        (["--output=name"], Output.NAME),
        (["-o", "json", "-o", "yaml"], Output.YAML),
        (["-o", "nonsense"], Output.TABLE),
        (["--", "-o", "json"], Output.TABLE),
    ],
)
def test_the_output_a_mistaken_command_line_asks_for(arguments: list[str], output: Output) -> None:
    assert asked_output(arguments) is output


def test_json_is_indented_and_in_the_order_of_its_type() -> None:
    class View(msgspec.Struct):
        z: int
        a: int

    assert as_json(View(1, 2)) == '{\n  "z": 1,\n  "a": 2\n}'
