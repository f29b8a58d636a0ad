"""ui: the local console."""

import os

import click

from codezero.cli.context import places
from codezero.model import problems
from codezero.model.problems import CodezeroError


@click.command()
@click.option("--port", type=click.IntRange(1024, 65535), help="Port on 127.0.0.1; a free one without.")
@click.option("--open/--no-open", "opens", default=True, help="Whether the browser is opened.")
def ui(port: int | None, opens: bool) -> None:
    """Open the console of this machine in the browser.

    \b
    It runs in the foreground, as you, until Ctrl-C. Its page shows and does what czctl does, with
    the agent of this machine and the Hub you are signed in to. Only programs of yours on this
    machine reach it, and the address that is printed is good for one page.
    \b
    Examples:
      czctl ui
      czctl ui --no-open               print the address, and open no browser
      czctl ui --port 8123 --no-open   ... at a port that can be forwarded
    """
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0":
        raise CodezeroError(
            problems.BAD_REQUEST,
            "the console is yours, and not root's: what browsers send is for no root",
            fix="czctl ui",
        )
    try:
        from codezero.cli.ui import opening, running
    except ModuleNotFoundError as error:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"the console needs {error.name}, which is not installed",
            fix="pip install 'codezero[daemon]'",
        ) from None
    running.run(places(), port=port or 0, opens=opens and opening.can_open())
