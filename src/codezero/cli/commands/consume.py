"""consume apply, edit, view, list, all, clear, test; primary-namespace; reset."""

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

import click
import msgspec

from codezero.cli import completing
from codezero.cli.console import Output, Table, output_option, say, write, write_lines, write_text
from codezero.cli.context import client
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import MAX_BODY, ConsumeChange, ConsumedService, ConsumeView

_HEADER = """\
# One rule a line; the last rule that matches a service decides.
#   *.shop             every service of namespace shop (or: shop/*)
#   !frontend.shop     ... without this one
#   orders.shop:80     only this port
# Saving an empty file ends all consumes.
"""

primary_namespace_option = click.option(
    "--primary-namespace",
    "namespace",
    metavar="NAMESPACE",
    shell_complete=completing.namespaces,
    help="Also let the services of NAMESPACE answer to their bare names.",
)


@click.group()
def consume() -> None:
    """Choose which services this machine reaches by name.

    \b
    Examples:
      echo '*.shop' | czctl consume apply
      czctl consume test '*.shop' '!orders.shop'
      czctl consume list
    """


@consume.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--append", is_flag=True, help="Put the rules after those there are, instead of in their place.")
@primary_namespace_option
@output_option()
def apply(file: IO[bytes], append: bool, namespace: str | None, output: Output) -> None:
    """Take the rules from FILE, or from stdin.

    An empty FILE ends all consumes; empty stdin is refused, as it is mostly a command that failed.

    \b
    A rule is namespace/service or service.namespace; `*` stands for any run of characters in
    one part, `:80` narrows to a port, `!` excludes, `#` begins a comment. The last matching
    rule decides. A name alone means the primary namespace, `*` alone everything.
    \b
    Examples:
      echo '*.shop' | czctl consume apply --primary-namespace shop
      czctl consume apply rules.txt
    """
    if file.name == "<stdin>" and sys.stdin.isatty():
        say("reading rules from the terminal; end with Ctrl-D")
    lines = _read(file)
    if file.name == "<stdin>" and not any(map(str.strip, lines)):
        raise CodezeroError(
            problems.BAD_REQUEST,
            "stdin is empty, so no rule was changed",
            fix="to consume nothing: czctl consume clear",
        )
    _show(client().change_consume(_change(lines, append=append, namespace=namespace)), output)


@consume.command()
@click.option(
    "--editor", help="The editor to use; else $VISUAL, $EDITOR, or one that is found. It must wait (code -w)."
)
@primary_namespace_option
def edit(editor: str | None, namespace: str | None) -> None:
    """Edit the rules in your editor.

    Saving an empty file ends all consumes. Rules that are refused are kept in a file that the
    error names.
    """
    now = client().consume()
    text = "".join(f"{rule}\n" for rule in now.rules) or _HEADER
    with _kept_unless_taken(text) as path:
        click.edit(filename=str(path), editor=editor)
        lines = _edited(path)
        if lines == text.splitlines() and namespace is None:
            say("rules unchanged")
            return
        header = _HEADER.splitlines()
        if lines[: len(header)] == header:
            lines = lines[len(header) :]
        _show(client().change_consume(_change(lines, namespace=namespace)), Output.TABLE)


@contextmanager
def _kept_unless_taken(text: str) -> Generator[Path, None, None]:
    """A file with `text`, for the length of a block; it stays when the block fails and somebody has worked on it."""
    descriptor, name = tempfile.mkstemp(prefix="czctl-", suffix=".rules")
    path = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        yield path
    except BaseException as error:
        if not _holds_work(path, text):
            path.unlink(missing_ok=True)
        elif isinstance(error, CodezeroError):
            raise CodezeroError(
                error.problem,
                f"{error.detail}; your text is kept in {path}",
                fix=f"mend {path}, then: czctl consume apply {path}",
            ) from error
        else:
            say(f"your text is kept in {path}")
        raise
    path.unlink(missing_ok=True)


def _edited(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"the editor left no rules: {path}: {error.strerror}") from None


def _holds_work(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() not in (text.encode(), b"")
    except OSError:
        return False


@consume.command()
@output_option()
def view(output: Output) -> None:
    """Show the rules."""
    now = client().consume()
    if output is Output.TABLE:
        if sys.stdout.isatty():
            write_lines(now.rules)
        else:
            write_text("".join(f"{rule}\n" for rule in now.rules))
        return
    write(
        {"rules": now.rules, "primary_namespace": now.primary_namespace, "api": now.api}, output, lambda: Table((), ())
    )


@consume.command("list")
@click.option(
    "--filter", "pattern", shell_complete=completing.filters, help="Only services that match NAMESPACE[/SERVICE]."
)
@output_option(Output.TABLE, Output.WIDE, Output.JSON, Output.YAML, Output.NAME)
def list_(pattern: str | None, output: Output) -> None:
    """List the services the rules let in, with their addresses and names."""
    now = client().consume()
    if pattern is not None:
        space, _slash, name = pattern.partition("/")
        kept = tuple(
            one
            for one in now.consumed
            if fnmatchcase(one.service.namespace, space) and fnmatchcase(one.service.name, name or "*")
        )
        now = msgspec.structs.replace(now, consumed=kept)
    _show(now, output)


@consume.command("all")
@output_option()
def all_(output: Output) -> None:
    """Consume every service, without those of the cluster itself."""
    _show(client().change_consume(ConsumeChange(("*",))), output)


@consume.command()
@output_option()
def clear(output: Output) -> None:
    """Consume nothing."""
    _show(client().change_consume(ConsumeChange(())), output)


@consume.command()
@click.argument("rules", nargs=-1, required=False, shell_complete=completing.rules)
@click.option("--file", type=click.File("rb"), help="Take the rules from this file.")
@click.option("--append", is_flag=True, help="Try the rules after those there are.")
@primary_namespace_option
@output_option()
def test(rules: tuple[str, ...], file: IO[bytes] | None, append: bool, namespace: str | None, output: Output) -> None:
    """Show what RULES would let in; changes nothing.

    \b
    Examples:
      czctl consume test '*.shop' '!orders.shop'
    """
    if file is not None and rules:
        raise CodezeroError(problems.BAD_REQUEST, "rules come as arguments or from --file, not both")
    lines = _read(file) if file is not None else list(rules)
    _show(client().test_consume(_change(lines, append=append, namespace=namespace)), output)


@click.group("primary-namespace")
def primary_namespace() -> None:
    """Choose whose services answer to their bare names."""


@primary_namespace.command()
@click.argument("namespace", shell_complete=completing.namespaces)
@output_option()
def select(namespace: str, output: Output) -> None:
    """Let the services of NAMESPACE answer to their bare names (when they are consumed)."""
    now = client().select_primary_namespace(namespace)
    say(f"primary namespace: {now.primary_namespace}")
    if output is not Output.TABLE:
        write(now, output, lambda: Table((), ()))


@primary_namespace.command("clear")
@output_option()
def clear_primary_namespace(output: Output) -> None:
    """Let no service answer to its bare name."""
    now = client().select_primary_namespace(None)
    say("no primary namespace")
    if output is not Output.TABLE:
        write(now, output, lambda: Table((), ()))


@click.command()
@output_option()
def reset(output: Output) -> None:
    """End everything you consume and serve.

    The agent keeps running, and the primary namespace stays; so does what your other laptops
    serve.
    """
    now = client().reset()
    say("nothing is consumed or served any more")
    if output is not Output.TABLE:
        write(now, output, lambda: Table((), ()))


def _read(file: IO[bytes]) -> list[str]:
    try:
        content = file.read(MAX_BODY + 1)
    except OSError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"the rules cannot be read: {error.strerror}") from None
    if len(content) > MAX_BODY:
        raise CodezeroError(problems.TOO_LARGE, f"the rules have more than {MAX_BODY} bytes")
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CodezeroError(problems.BAD_RULE, f"the rules are not UTF-8 text (byte {error.start})") from None


def _change(lines: list[str], *, append: bool = False, namespace: str | None = None) -> ConsumeChange:
    if namespace is None:
        return ConsumeChange(tuple(lines), append)
    return ConsumeChange(tuple(lines), append, namespace)


def _show(now: ConsumeView, output: Output) -> None:
    for warning in now.warnings:
        say(f"{warning.severity}: {warning.text} [{warning.code}]" + (f"; fix: {warning.fix}" if warning.fix else ""))
    write(now, output, lambda: _table(now))


def _table(now: ConsumeView) -> Table:
    return Table(
        ("SERVICE", "NAME", "ADDRESS", "PORTS", "STATE", "SESSIONS", "NAMES"),
        [_row(one) for one in now.consumed],
        empty="nothing is consumed" if not now.rules else "the rules let no service in",
        wide_from=6,
        names=[str(one.service) for one in now.consumed],
    )


def _row(one: ConsumedService) -> tuple[str, ...]:
    state = f"{one.state} ({one.reason})" if one.reason else one.state.value
    return (
        str(one.service),
        one.names[0] if one.names else "-",
        one.address or "-",
        ",".join(map(str, one.ports)) or "-",
        state,
        str(one.sessions),
        " ".join(one.names) or "-",
    )
