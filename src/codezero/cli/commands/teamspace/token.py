"""teamspace token."""

import time
from typing import TYPE_CHECKING

import click

from codezero.cli.commands.teamspace import giving
from codezero.cli.commands.teamspace.cluster import Cluster, cluster_options
from codezero.cli.console import write_lines
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.deploy.identity import Issuers
    from codezero.system.kubernetes.client import ApiClient


@click.command()
@click.argument("user")
@cluster_options()
def token(*, user: str, cluster: Cluster) -> None:
    """Print a token of USER for simple clients, which speak CONNECT; a secret, good for ten minutes.

    \b
    USER has been given access before. The token goes into the header Proxy-Authorization.
    \b
    Examples:
      czctl teamspace token dev1
    """
    giving.check_user(user)

    async def run(api: "ApiClient") -> "Issuers":
        issuers, _ = await giving.issuers_of(api, cluster.namespace)
        return issuers

    issuers = cluster.run(run)
    if user not in issuers.users:
        raise CodezeroError(
            problems.NOT_FOUND, f"{user} has not been given access", fix=f"czctl teamspace access {user}"
        )
    write_lines([issuers.token(issuers.new_device(user), now=time.time())])
