"""teamspace repair."""

from typing import TYPE_CHECKING

import click
import msgspec

from codezero.cli.commands.teamspace.cluster import API_VERSION, Cluster, cluster_options, confirm
from codezero.cli.console import Output, Table, output_option, say, write, write_lines
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.system.kubernetes.client import ApiClient

# How `repair` begins the line about what it could not do.
_CANNOT = "cannot "


class RepairView(msgspec.Struct, frozen=True):
    """What was put back, or with `dry_run` would be, in order, a line for people each; and what could not be."""

    done: tuple[str, ...]
    failed: tuple[str, ...] = ()
    dry_run: bool = False
    api: str = API_VERSION


@click.command()
@cluster_options(namespace=False)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option(Output.TABLE, Output.JSON, Output.YAML)
def repair(*, cluster: Cluster, dry_run: bool, yes: bool, output: Output) -> None:
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
    planned = _repair(cluster, dry_run=True)
    if dry_run or not planned.done:
        _show(planned, output)
        return
    if not yes:
        confirm((*planned.done, *planned.failed))
    _show(_repair(cluster, dry_run=False), output)


def _repair(cluster: Cluster, *, dry_run: bool) -> RepairView:
    async def run(api: "ApiClient") -> list[str]:
        from codezero.system.serving import repair as repairing

        return await repairing.repair(api, dry_run=dry_run)

    lines = cluster.run(run)
    failed = tuple(line for line in lines if line.startswith(_CANNOT))
    return RepairView(tuple(line for line in lines if line not in failed), failed, dry_run)


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
