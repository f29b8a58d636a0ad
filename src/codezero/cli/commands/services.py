"""services list."""

from fnmatch import fnmatchcase

import click

from codezero.cli import completing
from codezero.cli.console import Output, Table, output_option, say, write
from codezero.cli.context import client
from codezero.model.services import Service, ServiceKind
from codezero.wire import local_api


@click.group()
def services() -> None:
    """Look at the Teamspace's services."""


@services.command("list")
@click.option(
    "-n",
    "--namespace",
    shell_complete=completing.namespaces,
    help="Only services of this namespace; `*` stands for any run of characters.",
)
@click.option(
    "--filter",
    "pattern",
    shell_complete=completing.filters,
    help="Only services that match NAMESPACE[/SERVICE]; `*` stands for any run of characters.",
)
@output_option(Output.TABLE, Output.WIDE, Output.JSON, Output.YAML, Output.NAME)
def list_(namespace: str | None, pattern: str | None, output: Output) -> None:
    """List the services of the Teamspace.

    \b
    Examples:
      czctl services list -n shop
      czctl services list --filter 'shop/ord*' -o json
    """
    view = client().services()
    shown = tuple(service for service in view.services if _is_wanted(service, namespace, pattern))
    if view.stale_since is not None:
        say("warning: the Teamspace cannot see its cluster at the moment; this list may be old")
    write(local_api.ServicesView(shown, view.stale_since), output, lambda: _table(shown))


def _is_wanted(service: Service, namespace: str | None, pattern: str | None) -> bool:
    if namespace is not None and not fnmatchcase(service.ref.namespace, namespace):
        return False
    if pattern is None:
        return True
    space, _slash, name = pattern.partition("/")
    return fnmatchcase(service.ref.namespace, space) and fnmatchcase(service.ref.name, name or "*")


def _table(shown: tuple[Service, ...]) -> Table:
    return Table(
        ("NAMESPACE", "SERVICE", "PORTS", "READY", "KIND", "DETAIL"),
        [
            (
                service.ref.namespace,
                service.ref.name,
                ",".join(f"{port.port}/{port.protocol}" for port in service.ports) or "-",
                f"{service.ready}/{service.total}",
                service.kind.value,
                _detail(service),
            )
            for service in shown
        ],
        empty="no services",
        wide_from=5,
        names=[str(service.ref) for service in shown],
    )


def _detail(service: Service) -> str:
    if service.kind is ServiceKind.EXTERNAL_NAME:
        return f"-> {service.external_name}"
    return ",".join(service.pods) or "-"
