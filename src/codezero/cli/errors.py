"""Errors at the edge of czctl: one shape on stderr, as text or as RFC 9457 JSON, and the exit code of their kind. Never a traceback."""

import difflib
import json
import sys
import tempfile
import traceback

import click

from codezero.cli.console import Output, style
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

INTERRUPTED = 130


def report(error: CodezeroError, *, output: Output = Output.TABLE) -> int:
    """Write `error` to stderr and return the exit code."""
    if output in (Output.JSON, Output.YAML):
        print(json.dumps(json.loads(problem_json.encode(error)), indent=2), file=sys.stderr)
        return error.problem.exit_code
    print(f"{style('error:', 'red')} {error.detail} [{error.problem.code}]", file=sys.stderr)
    print(f"  why:  {error.problem.meaning}", file=sys.stderr)
    if error.fix:
        print(f"  fix:  {error.fix}", file=sys.stderr)
    print(f"  more: czctl explain {error.problem.code}", file=sys.stderr)
    return error.problem.exit_code


def from_usage(error: click.UsageError) -> CodezeroError:
    """A mistake in the command line as an error of ours, with the nearest command where one was meant."""
    context = error.ctx
    path = context.command_path if context else "czctl"
    fix = f"{path} --help"
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        fix = f"{path} {min(error.possibilities)}"
    if context and isinstance(context.command, click.Group) and error.message.startswith("No such command"):
        wanted = error.message.split("'")[1]
        near = difflib.get_close_matches(wanted, context.command.list_commands(context), n=1)
        if near:
            fix = f"{path} {near[0]}"
    return CodezeroError(problems.BAD_REQUEST, error.format_message().rstrip("."), fix=fix)


def from_defect(error: Exception) -> CodezeroError:
    """An unexpected exception as an error of ours; the traceback goes to a file of the user's that the error names."""
    with tempfile.NamedTemporaryFile("w", prefix="czctl-", suffix=".log", delete=False) as log:
        traceback.print_exception(error, file=log)
    return CodezeroError(
        problems.INTERNAL,
        f"{type(error).__name__}: {error}",
        fix=f"report it with {log.name} (look through it first: it may hold names of yours)",
    )
