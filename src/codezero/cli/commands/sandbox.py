"""sandbox up, sign-in, down, status, shell: a Teamspace in a box."""

import os
import sys

import click

from codezero.cli.console import Output, Table, output_option, say, write
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout
from codezero.sandbox.control import DEFAULT_NAME, Sandbox, Status

name_option = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Which sandbox.")


@click.group()
def sandbox() -> None:
    """A Teamspace in a box, to try things.

    \b
    A small stand-in for a cluster, and laptops of two developers that reach only one port of it, in
    namespaces of their own: nothing of this machine is touched, and nothing is left behind.
    \b
    Examples:
      czctl sandbox up
      czctl sandbox sign-in
      czctl sandbox shell
      czctl sandbox shell --as cluster -- kubectl get pods -A
    """


@sandbox.command()
@name_option
@click.option("--sample/--no-sample", default=True, show_default=True, help="Install the sample project.")
@click.option(
    "--hub/--no-hub",
    default=True,
    show_default=True,
    help="Run a Hub, where people sign in; without one, the laptops have access files.",
)
def up(name: str, sample: bool, hub: bool) -> None:
    """Start a sandbox and leave it running."""
    Sandbox.up(name=name, sample=sample, hub="sqlite" if hub else None, progress=say)
    say(f"the sandbox {name!r} runs (it is a stand-in for a cluster)")
    naming = _naming(name)
    say(f"next: {f'czctl sandbox sign-in{naming}, then ' if hub else ''}czctl sandbox shell{naming}")


@sandbox.command("sign-in")
@name_option
@click.option(
    "--as",
    "place",
    type=click.Choice((*layout.LAPTOPS, layout.CLUSTER)),
    default=layout.LAPTOP,
    show_default=True,
    help="Where; at the cluster it is the admin who signs in.",
)
def sign_in(name: str, place: str) -> None:
    """Sign a laptop's developer in to the sandbox's Hub, by `czctl auth login` there and a browser elsewhere."""
    said = Sandbox.find(name).sign_in(place, "admin" if place == layout.CLUSTER else None)
    for line in said.splitlines():
        say(line)


@sandbox.command()
@name_option
def down(name: str) -> None:
    """Stop a sandbox; nothing is left of it."""
    if not Sandbox(name, layout.state_folder(name)).down():
        Sandbox.forget(name)
        say(f"no sandbox {name!r} was running")
        return
    say("stopped")


@sandbox.command()
@name_option
@output_option()
def status(name: str, output: Output) -> None:
    """Show a sandbox, its places and its pods."""
    now = Sandbox.find(name).status()
    if output is Output.TABLE:
        for place, address in now.places.items():
            say(f"{place:<12}{address}")
        if now.cut:
            say(f"cut off from the cluster: {', '.join(now.cut)}")
    write(now, output, lambda: _table(now))


@sandbox.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.option(
    "--as", "place", type=click.Choice(layout.PLACES), default=layout.LAPTOP, show_default=True, help="Where to be."
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def shell(name: str, place: str, command: tuple[str, ...]) -> None:
    """Be in one of the sandbox's places: an interactive shell, or COMMAND.

    \b
    Examples:
      czctl sandbox shell
      czctl sandbox shell -- czctl status
      czctl sandbox shell --as laptop2
      czctl sandbox shell --as cluster -- kubectl get services -A
    """
    found = Sandbox.find(name)
    if not command and not sys.stdin.isatty():
        raise CodezeroError(
            problems.BAD_REQUEST,
            "there is no terminal for a shell",
            fix="give a command: czctl sandbox shell -- COMMAND",
        )
    environment = found.environment(place)
    if not command:
        say(f"this is {place}, in the sandbox {name!r}; leave with Ctrl-D")
        environment["PS1"] = f"{place}$ "
    arguments = found.command(place, command or ("/bin/sh", "-i"))
    os.execve(arguments[0], arguments, environment)  # noqa: S606 - becomes the command


def _table(now: Status) -> Table:
    return Table(
        ("NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "ADDRESS"),
        [
            (pod.namespace, pod.name, "yes" if pod.ready else "no", pod.phase, str(pod.restarts), pod.address or "-")
            for pod in now.pods
        ],
        empty="no pods",
        names=[f"{pod.namespace}/{pod.name}" for pod in now.pods],
    )


def _naming(name: str) -> str:
    """The option that names a sandbox, where it is needed."""
    return "" if name == DEFAULT_NAME else f" --name {name}"
