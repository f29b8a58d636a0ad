"""teamspace uninstall."""

from typing import TYPE_CHECKING

import click
import msgspec

from codezero.cli import wording
from codezero.cli.commands.teamspace.cluster import API_VERSION, Cluster, cluster_options, confirm
from codezero.cli.console import Output, Table, output_option, say, write, write_lines
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.system.kubernetes.client import ApiClient


class UninstallView(msgspec.Struct, frozen=True):
    """What was done, or with `dry_run` would be, a line for people each; and what was kept, with the reason."""

    done: tuple[str, ...]
    kept: tuple[str, ...] = ()
    dry_run: bool = False
    api: str = API_VERSION


@click.command()
@click.option(
    "--wait", default="5m", show_default=True, metavar="TIME", help="How long to wait until all of it is gone."
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@cluster_options()
@output_option(Output.TABLE, Output.JSON, Output.YAML)
def uninstall(*, wait: str, dry_run: bool, yes: bool, cluster: Cluster, output: Output) -> None:
    """Take a Teamspace out of its cluster, and leave that as it was.

    \b
    First System and Orchestrator end, then every served Service gets its own selector back, and
    that is verified; then all that install has made is deleted, the last first, and the namespace
    if czctl made it and nothing of somebody else's is in it. The keys that signed for its laptops
    are deleted from this machine. Can be run again after an interruption.
    \b
    Examples:
      czctl teamspace uninstall --dry-run
      czctl teamspace uninstall --yes
    """
    seconds = wording.duration(wait, option="--wait", problem=problems.BAD_REQUEST)
    planned = tuple(cluster.run(lambda api: _plan(api, cluster.namespace)))
    if dry_run:
        _show(UninstallView(planned, dry_run=True), output)
        return
    if not yes:
        confirm(planned)
    _show(cluster.run(lambda api: _remove(api, cluster.namespace, seconds), manager="czctl"), output)


async def _plan(api: "ApiClient", namespace: str) -> list[str]:
    from codezero.system.installing.applying import Installer
    from codezero.system.installing.removing import Remover

    present = await Installer(api, namespace=namespace).present()
    return await Remover(api, namespace=namespace, tell=lambda _: None).plan(present)


async def _remove(api: "ApiClient", namespace: str, seconds: float) -> UninstallView:
    from codezero.cli import authorities
    from codezero.cli.commands.teamspace import joining
    from codezero.deploy import identity
    from codezero.system.installing.applying import Installer, manager_of
    from codezero.system.installing.record import MANAGER
    from codezero.system.installing.removing import Remover

    done: list[str] = []

    def tell(line: str) -> None:
        say(line)
        done.append(line)

    present = await Installer(api, namespace=namespace).present()
    # Read now: nothing is left of it to tell the Hub with afterwards.
    leaving = await joining.leave(api, namespace)

    def forget() -> None:
        if leaving is not None or present.secret is None or manager_of(present.secret) != MANAGER:
            return
        try:
            teamspace = identity.teamspace_of(identity.secret_content(present.secret))
        except CodezeroError as error:
            say(f"its keys stay in {authorities.folder()}, nobody can say which these are: {error.detail}")
            return
        if authorities.remove(teamspace):
            tell(f"delete {authorities.path(teamspace)}")

    kept = await Remover(api, namespace=namespace, tell=tell, forget=forget).remove(present, seconds=seconds)
    if leaving is not None:
        tell(await leaving.tell())
    return UninstallView(tuple(done), tuple(kept))


def _show(view: UninstallView, output: Output) -> None:
    if output is not Output.TABLE:
        write(view, output, lambda: Table((), ()))
    elif view.dry_run:
        write_lines([f"would {line}" for line in view.done])
    else:
        write_lines([*view.kept, "the Teamspace is gone"])
