"""explain, completion, version."""

import click
import msgspec

from codezero import __version__
from codezero.cli.completing import codes
from codezero.cli.console import Output, Table, output_option, write, write_text
from codezero.cli.context import client
from codezero.model import problems
from codezero.model.problems import CodezeroError

_SHELLS = ("bash", "fish", "zsh")


class VersionView(msgspec.Struct, frozen=True):
    """The versions of both ends on this machine; `daemon` is null when it does not run."""

    czctl: str
    daemon: str | None
    api: str = "codezero.io/local/v1"


@click.command()
@output_option()
def version(output: Output) -> None:
    """Print the versions of czctl and the Daemon."""
    try:
        running = client(deadline=2).status().release
    except CodezeroError:
        running = None
    view = VersionView(__version__, running)
    write(view, output, lambda: Table(("CZCTL", "DAEMON"), [(view.czctl, view.daemon or "not running")]))


@click.command()
@click.argument("code", required=False, shell_complete=codes)
@output_option()
def explain(code: str | None, output: Output) -> None:
    """Explain an error CODE, or list all of them.

    \b
    Examples:
      czctl explain CZ-CONSUME-001
    """
    if code is None:
        everything = list(problems.ALL.values())
        rows = [(problem.code, str(problem.exit_code), problem.title) for problem in everything]
        write(everything, output, lambda: Table(("CODE", "EXIT", "TITLE"), rows))
        return
    problem = problems.ALL.get(code.upper())
    if problem is None:
        import difflib

        near = difflib.get_close_matches(code.upper(), problems.ALL, n=1, cutoff=0.0)
        raise CodezeroError(problems.NOT_FOUND, f"there is no error code {code!r}", fix=f"czctl explain {near[0]}")
    if output is Output.TABLE:
        write_text(f"{problem.code}: {problem.title}\n\n{problem.meaning}\n\nczctl ends with {problem.exit_code}.\n")
        return
    write(problem, output, lambda: Table((), ()))


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    Examples:
      source <(czctl completion bash)
      czctl completion fish > ~/.config/fish/completions/czctl.fish
    """
    from click.shell_completion import get_completion_class

    from codezero.cli.main import czctl

    maker = get_completion_class(shell)
    if maker is None:
        raise CodezeroError(problems.INTERNAL, f"no completion for {shell}")
    write_text(maker(czctl, {}, "czctl", "_CZCTL_COMPLETE").source() + "\n")
