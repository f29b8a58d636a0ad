"""teamspace repair."""

import os
import sys
from pathlib import Path

import click
import msgspec

from codezero.cli.console import Output, Table, output_option, say, write, write_lines
from codezero.model import problems
from codezero.model.problems import CodezeroError

API_VERSION = "codezero.io/cluster/v1"
# How `repair` begins the line about what it could not do.
_CANNOT = "cannot "


class RepairView(msgspec.Struct, frozen=True):
    """What was put back, or with `dry_run` would be, in order, a line for people each; and what could not be."""

    done: tuple[str, ...]
    failed: tuple[str, ...] = ()
    dry_run: bool = False
    api: str = API_VERSION


@click.group()
def teamspace() -> None:
    """Look after the cluster of a Teamspace; needs a kubeconfig with the rights for it."""


@teamspace.command()
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The kubeconfig to use; else $KUBECONFIG, else ~/.kube/config.",
)
@click.option("--context", metavar="NAME", help="The context of the kubeconfig to use; else its current one.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option(Output.TABLE, Output.JSON, Output.YAML)
def repair(*, kubeconfig: Path | None, context: str | None, dry_run: bool, yes: bool, output: Output) -> None:
    """Put every served Service back, with nothing of Codezero alive.

    \b
    Selectors become their teams' own again; then Serve objects, Routers and what belongs to
    them are deleted. Whoever serves has to serve again. Can be repeated, also beside a living
    System. Ends with 9 where something could not be put back.
    \b
    Examples:
      czctl teamspace repair --dry-run
      czctl teamspace repair --kubeconfig admin.yaml --yes
    """
    file = kubeconfig or _default_kubeconfig()
    planned = _repair(file, context, dry_run=True)
    if dry_run or not planned.done:
        _show(planned, output)
        return
    if not yes:
        _ask(planned)
    _show(_repair(file, context, dry_run=False), output)


def _repair(file: Path, context: str | None, *, dry_run: bool) -> RepairView:
    try:
        from codezero.system.kubernetes import client
        from codezero.system.serving import repair as repairing
    except ImportError as error:
        raise CodezeroError(
            problems.CLUSTER_SETTINGS,
            f"what speaks to clusters is not installed here: {error}",
            fix="pip install 'codezero[teamspace]'",
        ) from error
    import asyncio

    async def run() -> list[str]:
        api = client.from_kubeconfig(file, context=context)
        try:
            return await repairing.repair(api, dry_run=dry_run)
        finally:
            await api.close()

    try:
        lines = asyncio.run(run())
    except client.ApiError as error:
        raise CodezeroError(
            problems.CLUSTER_REFUSED,
            f"the Kubernetes API {'refused' if error.status else 'did not answer'}: {error}",
            fix="what was done stays done; see that the kubeconfig is right, and run it again",
        ) from error
    failed = tuple(line for line in lines if line.startswith(_CANNOT))
    return RepairView(tuple(line for line in lines if line not in failed), failed, dry_run)


def _ask(planned: RepairView) -> None:
    """Let a person decide; a script says so beforehand."""
    if not sys.stdin.isatty():
        raise CodezeroError(
            problems.BAD_REQUEST,
            "this ends everybody's serves, and there is no terminal to ask at",
            fix="look with --dry-run, then add --yes",
        )
    for line in (*planned.done, *planned.failed):
        say(line)
    click.confirm("Do this?", abort=True, err=True)


def _show(view: RepairView, output: Output) -> None:
    if output is not Output.TABLE:
        write(view, output, lambda: Table((), ()))
    elif view.dry_run:
        write_lines([f"would {line}" for line in view.done])
    else:
        write_lines(view.done)
    if not view.done and not view.failed:
        say("nothing to put back")
    if view.failed:
        raise CodezeroError(
            problems.PARTLY_DONE, "; ".join(view.failed), fix="apply the manifests of these Services again"
        )


def _default_kubeconfig() -> Path:
    """Where kubectl looks; of several files in `KUBECONFIG` the first."""
    named = next((one for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one), None)
    return Path(named) if named else Path.home() / ".kube" / "config"
