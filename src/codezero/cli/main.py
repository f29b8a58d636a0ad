"""czctl: the tree of commands, each loaded when it is used, and the one place where errors become exit codes."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from codezero.cli import errors
from codezero.cli.console import Output, asked_output, output_failed, say
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Name of a command or group -> module of `codezero.cli.commands`, attribute, line of help (so that --help loads none of them).
COMMANDS = {
    "start": ("agent", "start", "Connect this machine to its Teamspace."),
    "stop": ("agent", "stop", "Disconnect and put the machine back as it was."),
    "restart": ("agent", "restart", "Stop and start."),
    "status": ("status", "status", "Show how everything is."),
    "ui": ("ui", "ui", "Open the console of this machine in the browser."),
    "pair": ("pairing", "pair", "Let the Hub's page in your browser use the agent of this machine."),
    "pairing": ("pairing", "pairing", "Pages that may ask this machine."),
    "confirm": ("pairing", "confirm", "Say yes or no to what a paired page asks."),
    "services": ("services", "services", "Look at the Teamspace's services."),
    "consume": ("consume", "consume", "Choose which services this machine reaches by name."),
    "primary-namespace": ("consume", "primary_namespace", "Choose whose services answer to their bare names."),
    "serve": ("serve", "serve", "Answer requests to a service from this machine."),
    "who": ("who", "who", "Show who consumes and serves what."),
    "trace-connections": ("trace", "trace_connections", "Show requests and connections as they end."),
    "reset": ("consume", "reset", "End everything you consume and serve."),
    "cleanup": ("agent", "cleanup", "Undo all changes to this machine, also after a crash."),
    "daemon": ("daemon", "daemon", "Install the agent as a service of this machine."),
    "auth": ("auth", "auth", "Sign in to a Hub, and see what you may do."),
    "organization": ("organization", "organization", "Look after organizations and their members."),
    "space": ("space", "space", "The Teamspaces of an organization."),
    "policy": ("policy", "policy", "What members may consume and serve in a Teamspace."),
    "sessions": ("sessions", "sessions", "The laptops that are connected to a Teamspace."),
    "apikey": ("apikey", "apikey", "Keys for programs: CI jobs, scripts, the Node agent."),
    "device": ("device", "device", "The machines you signed in with."),
    "audit": ("audit", "audit", "Who did what in an organization."),
    "teamspace": ("teamspace", "teamspace", "Look after the cluster of a Teamspace."),
    "sandbox": ("sandbox", "sandbox", "A Teamspace in a box, to try things."),
    "explain": ("about", "explain", "Explain an error code."),
    "completion": ("about", "completion", "Print shell completion."),
    "version": ("about", "version", "Print the versions of czctl and the Daemon."),
}

_COMPLETE_VARIABLE = "_CZCTL_COMPLETE"


class LazyGroup(click.Group):
    """The root: knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _help = COMMANDS[cmd_name]
        return getattr(importlib.import_module(f"codezero.cli.commands.{module}"), attribute)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[Any]]":
        """The names that begin so, without loading the commands."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text)
            for name, (_module, _attribute, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, _attribute, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.pass_context
def czctl(context: click.Context) -> None:
    """Reach the services of a Kubernetes cluster from this machine by their names, and stand in for them.

    \b
    Examples:
      czctl start --teamspace shop.json      connect to a Teamspace
      echo '*.shop' | czctl consume apply    reach every service of namespace shop
      curl http://orders.shop/               ... by its name
      czctl serve shop/orders 3000:80        answer your own requests to it yourself
      czctl stop                             leave everything as it was
    """
    context.ensure_object(dict)


def run(arguments: Sequence[str]) -> int:
    """Run czctl with `arguments`; returns the exit code."""
    state: dict[str, Any] = {}
    try:
        return _run(arguments, state)
    except Exception as error:  # noqa: BLE001 - the edge of the program
        if _COMPLETE_VARIABLE in os.environ:
            return 1
        return errors.report(errors.from_defect(error), output=state.get("output", Output.TABLE))


def _run(arguments: Sequence[str], state: dict[str, Any]) -> int:
    try:
        _require_text(arguments)
        outcome = czctl.main(list(arguments), prog_name="czctl", standalone_mode=False, obj=state)
    except CodezeroError as error:
        return errors.report(error, output=state.get("output", Output.TABLE))
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return errors.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return problems.BAD_REQUEST.exit_code
    except click.UsageError as error:
        return errors.report(errors.from_usage(error), output=asked_output(arguments))
    except click.ClickException as error:
        return errors.report(
            CodezeroError(problems.BAD_REQUEST, error.format_message()), output=asked_output(arguments)
        )
    except SystemExit as ending:
        # Only two things end the process here: a word completed for a shell, and a reader that went away, which is no failure.
        return ending.code if _COMPLETE_VARIABLE in os.environ and isinstance(ending.code, int) else 0
    return outcome if isinstance(outcome, int) else 0


def main() -> NoReturn:
    """Entry point."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by whoever started us.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - lives as long as we
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        code = code or errors.report(output_failed(error), output=asked_output(sys.argv[1:]))
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # All is said and closed. To take the interpreter apart would take a tenth of the time of a short command.
    os._exit(code)


def _require_text(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CodezeroError(problems.BAD_REQUEST, f"the argument {argument!r} is not UTF-8 text") from None


def _discard_output() -> None:
    """Let nothing more be written to stdout: the interpreter would try, and complain, at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
