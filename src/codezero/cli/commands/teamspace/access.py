"""teamspace access."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from codezero.cli import private_files
from codezero.cli.commands.teamspace import giving
from codezero.cli.commands.teamspace.cluster import Cluster, cluster_options
from codezero.cli.commands.teamspace.giving import AccessView
from codezero.cli.console import Output, Table, output_option, say, write

if TYPE_CHECKING:
    from codezero.system.kubernetes.client import ApiClient


@click.command()
@click.argument("user")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The file to write; else USER.json."
)
@click.option(
    "--lifetime",
    default=giving.LIFETIME,
    show_default=True,
    metavar="TIME",
    help="For how long it is good: 8h, 168h; at most 744h.",
)
@click.option("--force", is_flag=True, help="Replace the file.")
@cluster_options()
@output_option()
def access(*, user: str, out: Path | None, lifetime: str, force: bool, cluster: Cluster, output: Output) -> None:
    """Give USER access: write a file for their laptop, with a key and a certificate of its own.

    \b
    The file is a secret; hand it over as one. The same USER is the same person to policies each
    time. It needs the keys that `czctl teamspace install` left on this machine, in
    ~/.config/codezero/authorities: never in the cluster, so whoever breaks that makes no laptops.
    Whoever has these keys can be any laptop: keep a copy in a safe place. Access cannot be taken
    back before its time without a Hub; a deny rule in the policy keeps USER from all that is new.
    \b
    Examples:
      czctl teamspace access dev1
      czctl teamspace access dev1 --out laptop.json --lifetime 8h
    """
    giving.check_user(user)
    file = out or Path(f"{user}.json")
    span = giving.lifetime_of(lifetime)
    if file.exists() and not force:
        raise private_files.exists(file)

    async def run(api: "ApiClient") -> list[AccessView]:
        issuers, roots = await giving.issuers_of(api, cluster.namespace)
        return await giving.give(api, cluster.namespace, issuers, roots, [(user, file)], lifetime=span, force=force)

    (given,) = cluster.run(run)
    write(
        given,
        output,
        lambda: Table(("USER", "USER ID", "FILE", "UNTIL"), [(given.user, given.user_id, given.file, given.until)]),
    )
    say(f"next, on their machine: czctl start --teamspace {file.name}")
