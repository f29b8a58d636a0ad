"""czctl: the tree of commands, each loaded when it is used, and the one place where errors become exit codes."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from codezero.cli import errors
from codezero.cli.console import Output, say
from codezero.model.problems import CodezeroError

# Name of a command or group -> module of `codezero.cli.commands`, attribute, line of help (so that --help loads none of them).
COMMANDS = {
    "start": ("agent", "start", "Connect this machine to its Teamspace."),
    "stop": ("agent", "stop", "Disconnect and put the machine back as it was."),
    "restart": ("agent", "restart", "Stop and start."),
    "status": ("status", "status", "Show how everything is."),
    "services": ("services", "services", "Look at the Teamspace's services."),
    "consume": ("consume", "consume", "Choose which services this machine reaches by name."),
    "primary-namespace": ("consume", "primary_namespace", "Choose whose services answer to their bare names."),
    "reset": ("consume", "reset", "End everything you consume."),
    "cleanup": ("agent", "cleanup", "Undo all changes to this machine, also after a crash."),
    "sandbox": ("sandbox", "sandbox", "A Teamspace in a box, to try things."),
    "explain": ("about", "explain", "Explain an error code."),
    "completion": ("about", "completion", "Print shell completion."),
    "version": ("about", "version", "Print the versions of czctl and the Daemon."),
}


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, _attribute, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.pass_context
def czctl(context: click.Context) -> None:
    """Reach the services of a Kubernetes cluster from this machine, by their names.

    \b
    Examples:
      czctl start --teamspace shop.json      connect to a Teamspace
      echo '*.shop' | czctl consume apply    reach every service of namespace shop
      curl http://orders.shop/               ... by its name
      czctl stop                             leave everything as it was
    """
    context.ensure_object(dict)


def run(arguments: Sequence[str]) -> int:
    """Run czctl with `arguments`; returns the exit code."""
    state: dict[str, Any] = {}
    try:
        outcome = czctl.main(list(arguments), prog_name="czctl", standalone_mode=False, obj=state)
    except CodezeroError as error:
        return errors.report(error, output=state.get("output", Output.TABLE))
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except click.Abort:
        say("interrupted")
        return errors.INTERRUPTED
    except click.UsageError as error:
        return errors.report(errors.from_usage(error), output=state.get("output", Output.TABLE))
    except click.ClickException as error:
        return errors.report(errors.from_usage(click.UsageError(error.format_message())), output=Output.TABLE)
    except KeyboardInterrupt:
        say("interrupted")
        return errors.INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:  # noqa: BLE001 - the edge of the program
        return errors.report(errors.from_defect(error), output=state.get("output", Output.TABLE))
    return outcome if isinstance(outcome, int) else 0


def main() -> NoReturn:
    """Entry point."""
    sys.exit(run(sys.argv[1:]))
