"""daemon install, uninstall, check: the agent as a root-owned service of this machine."""

import os

import click

from codezero.cli.console import say
from codezero.local.host import install as installation
from codezero.model import problems
from codezero.model.problems import CodezeroError


@click.group()
def daemon() -> None:
    """Install the agent as a service of this machine.

    \b
    An installed agent runs code that only root can change, from /usr/local/lib/codezero, and
    needs no sudo at each start.
    """


@daemon.command("install")
def install() -> None:
    """Copy this release, root-owned, to /usr/local and register it as a service where systemd runs."""
    _require_root("install")
    for path in installation.install():
        say(f"written: {path}")
    say("next: czctl start")


@daemon.command("uninstall")
def uninstall() -> None:
    """Remove exactly what `install` wrote."""
    _require_root("uninstall")
    removed = installation.uninstall()
    for path in removed:
        say(f"removed: {path}")
    say("uninstalled" if removed else "not installed")


@daemon.command("check")
def check() -> None:
    """Check that only root can change what the agent runs."""
    installation.check()
    say("only root can change the installation")


def _require_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise CodezeroError(problems.NEEDS_ROOT, f"only root can {verb} the agent", fix=f"sudo czctl daemon {verb}")
