"""Errors at the edge of czctl: one shape on stderr, as text or as RFC 9457 JSON, and the exit code of their kind. Never a traceback."""

import sys

import click
import msgspec

from codezero.cli.console import Output, as_json, printable, say, style
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

INTERRUPTED = 130


def report(error: CodezeroError, *, output: Output = Output.TABLE) -> int:
    """Write `error` to stderr and return the exit code."""
    if output in (Output.JSON, Output.YAML):
        shown = CodezeroError(error.problem, _encodable(error.detail), fix=error.fix and _encodable(error.fix))
        print(as_json(msgspec.Raw(problem_json.encode(shown))), file=sys.stderr)
        return error.problem.exit_code
    print(
        f"{style('error:', 'red', sys.stderr)} {printable(error.detail)} [{printable(error.problem.code)}]",
        file=sys.stderr,
    )
    say(f"  why:  {error.problem.meaning}")
    if error.fix:
        say(f"  fix:  {error.fix}")
    if error.problem.code in problems.ALL:
        say(f"  more: czctl explain {error.problem.code}")
    return error.problem.exit_code


def from_usage(error: click.UsageError) -> CodezeroError:
    """A mistake in the command line as an error of ours, with the nearest command or option where one was meant."""
    context = error.ctx
    path = context.command_path if context else "czctl"
    fix = f"{path} --help"
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        fix = f"{path} {_nearest(error.option_name, error.possibilities)}"
    elif context and isinstance(context.command, click.Group) and error.message.startswith("No such command"):
        import difflib

        wanted = error.message.split("'")[1]
        near = difflib.get_close_matches(wanted, context.command.list_commands(context), n=1)
        if near:
            fix = f"{path} {near[0]}"
    return CodezeroError(problems.BAD_REQUEST, error.format_message().rstrip("."), fix=fix)


def from_defect(error: BaseException) -> CodezeroError:
    """An unexpected exception as an error of ours; the traceback goes to a file of the user's that the error names."""
    import tempfile
    import traceback

    detail = f"{type(error).__name__}: {error}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="czctl-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            traceback.print_exception(error, file=log)
    except OSError as failure:
        return CodezeroError(
            problems.INTERNAL, f"{detail} (and no log of it could be written: {failure})", fix="report it"
        )
    return CodezeroError(
        problems.INTERNAL, detail, fix=f"report it with {log.name} (look through it first: it may hold names of yours)"
    )


def _nearest(wanted: str, offered: list[str] | tuple[str, ...]) -> str:
    import difflib

    return difflib.get_close_matches(wanted, offered, n=1, cutoff=0.0)[0]


def _encodable(text: str) -> str:
    """Arguments and paths may hold bytes that are no text; JSON cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
