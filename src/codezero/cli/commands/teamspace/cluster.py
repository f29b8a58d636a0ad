"""What all commands about a Teamspace's cluster share: which one, by whose rights, and what an API server's refusal means to people."""

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from codezero.cli.console import say
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import is_label

if TYPE_CHECKING:
    from codezero.system.kubernetes.client import ApiClient

API_VERSION = "codezero.io/cluster/v1"

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster by a kubeconfig, and the namespace of the Teamspace in it."""

    kubeconfig: Path
    context: str | None
    namespace: str

    def run(self, work: "Callable[[ApiClient], Awaitable[T]]", *, manager: str | None = None) -> T:
        """Do `work` with a client; raises `CodezeroError` also where the API refuses or does not answer."""
        client = _client()

        async def run() -> T:
            named = {} if manager is None else {"manager": manager}
            api = client.from_kubeconfig(self.kubeconfig, context=self.context, **named)
            try:
                return await work(api)
            finally:
                await api.close()

        try:
            return asyncio.run(run())
        except client.ApiError as error:
            raise CodezeroError(
                problems.CLUSTER_REFUSED,
                f"the Kubernetes API {'refused' if error.status else 'did not answer'}: {error}",
                fix=_FIXES.get(
                    error.status or 0, "what was done stays done; see that the kubeconfig is right, and run it again"
                ),
            ) from error


_FIXES = {
    401: "log in to the cluster again: kubectl auth whoami",
    403: "use a kubeconfig with the rights of an administrator (--kubeconfig, --context); what was done stays done",
}


def cluster_options(*, namespace: bool = True) -> Callable[[F], F]:
    """`--kubeconfig`, `--context` and `--namespace`, as parameter `cluster`."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(
            *arguments: Any,  # noqa: ANN401 - handed on
            kubeconfig: Path | None,
            context: str | None,
            namespace: str = "codezero",
            **options: Any,  # noqa: ANN401 - handed on
        ) -> Any:  # noqa: ANN401 - the command's
            if not is_label(namespace):
                raise CodezeroError(
                    problems.BAD_REQUEST,
                    f"{namespace[:80]!r} is not the name of a namespace",
                    fix="use lower-case letters, digits and -, at most 63",
                )
            cluster = Cluster(kubeconfig or _default_kubeconfig(), context, namespace)
            return command(*arguments, cluster=cluster, **options)

        decorated: Any = run
        if namespace:
            decorated = click.option(
                "-n",
                "--namespace",
                default="codezero",
                show_default=True,
                metavar="NAME",
                help="The Teamspace's own namespace.",
            )(decorated)
        decorated = click.option(
            "--context", metavar="NAME", help="The context of the kubeconfig to use; else its current one."
        )(decorated)
        return click.option(
            "--kubeconfig",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The kubeconfig to use; else $KUBECONFIG, else ~/.kube/config.",
        )(decorated)

    return decorate


def confirm(planned: Sequence[str]) -> None:
    """Let a person decide; a script says so beforehand."""
    if not sys.stdin.isatty():
        raise CodezeroError(
            problems.BAD_REQUEST,
            "this ends everybody's serves, and there is no terminal to ask at",
            fix="look with --dry-run, then add --yes",
        )
    for line in planned:
        say(line)
    click.confirm("Do this?", abort=True, err=True)


def _client() -> Any:  # noqa: ANN401 - a module, loaded only where one speaks to a cluster
    try:
        from codezero.system.kubernetes import client
    except ImportError as error:
        raise CodezeroError(
            problems.CLUSTER_SETTINGS,
            f"what speaks to clusters is not installed here: {error}",
            fix="pip install 'codezero[teamspace]'",
        ) from error
    return client


def _default_kubeconfig() -> Path:
    """Where kubectl looks; of several files in `KUBECONFIG` the first."""
    named = next((one for one in os.environ.get("KUBECONFIG", "").split(os.pathsep) if one), None)
    return Path(named) if named else Path.home() / ".kube" / "config"
