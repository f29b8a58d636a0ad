"""teamspace status."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
import msgspec

from codezero.cli.commands.teamspace.cluster import API_VERSION, Cluster, cluster_options
from codezero.cli.commands.teamspace.giving import not_installed
from codezero.cli.console import Output, Table, output_option, say, write, write_lines
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.system.installing.looking import EntryView, HubView, PartView, ServeView
    from codezero.system.kubernetes.client import ApiClient

_WARNED_BEFORE: Final = timedelta(days=90)
# A Hub signs the authority again with ten days left.
_HUB_IS_LATE: Final = timedelta(days=8)


class StatusView(msgspec.Struct, frozen=True):
    """How a Teamspace is, seen from outside. `waiting` says what keeps it from being ready."""

    namespace: str
    installed_by: str
    version: str
    ready: bool
    parts: "tuple[PartView, ...]"
    entry: "EntryView | None"
    serve_namespaces: tuple[str, ...]
    serves: "tuple[ServeView, ...]"
    waiting: tuple[str, ...]
    warnings: tuple[str, ...]
    hub: "HubView | None" = None
    api: str = API_VERSION


@click.command()
@cluster_options()
@output_option(Output.TABLE, Output.JSON, Output.YAML)
def status(*, cluster: Cluster, output: Output) -> None:
    """Show how a Teamspace is; ends with 0 only when all of it works.

    \b
    Examples:
      czctl teamspace status
      czctl teamspace status -o json
    """
    view = cluster.run(lambda api: _status(api, cluster.namespace))
    if output is Output.TABLE:
        write_lines(list(_lines(view)))
        for warning in view.warnings:
            say(f"warning: {warning}")
    else:
        write(view, output, lambda: Table((), ()))
    if view.waiting:
        from codezero.system.installing.looking import fix_of

        raise CodezeroError(
            problems.NOT_READY,
            "; ".join(view.waiting),
            fix=fix_of(view.waiting, cluster.namespace) or f"kubectl get pods,events -n {cluster.namespace} shows more",
        )


async def _status(api: "ApiClient", namespace: str) -> StatusView:
    from codezero.system.installing.looking import look

    seen = await look(api, namespace)
    if seen is None:
        raise not_installed(namespace)
    return StatusView(
        namespace=namespace,
        installed_by=seen.manager or "somebody",
        version=seen.version,
        ready=not seen.waiting,
        parts=seen.parts,
        entry=seen.entry,
        serve_namespaces=seen.serve_namespaces,
        serves=seen.serves,
        waiting=seen.waiting,
        warnings=(*seen.warnings, *_ending(seen.certificates, datetime.now(UTC), has_hub=seen.hub is not None)),
        hub=seen.hub,
    )


def _ending(certificates: "dict[str, datetime]", now: datetime, *, has_hub: bool) -> Iterator[str]:
    authority = certificates.get("ca.crt")
    if has_hub:
        if authority is not None and authority < now + _HUB_IS_LATE:
            yield f"the Teamspace's authority ends at {authority:%Y-%m-%d}, and the Hub has not signed it again"
    elif authority is not None and authority < now + _WARNED_BEFORE:
        yield f"the Teamspace's authority ends at {authority:%Y-%m-%d}: install anew before, and give access anew"
    for name, end in certificates.items():
        if name != "ca.crt" and end < now:
            yield f"{name} has run out: the System does not renew it, its log says why"


def _lines(view: StatusView) -> Iterator[str]:
    yield f"Teamspace in namespace {view.namespace}, version {view.version or 'unknown'}, installed by {view.installed_by}"
    for part in view.parts:
        yield f"  {part.name + ':':<15}{part.ready} of {part.wanted} ready   {part.image}"
    yield f"  {'entry:':<15}{view.entry or 'none from outside'}"
    if view.hub is not None:
        yield f"  {'Hub:':<15}{view.hub}"
    yield f"  {'may serve in:':<15}{', '.join(view.serve_namespaces) or 'no namespace'}"
    for one in view.serves:
        yield f"  {'served:':<15}{one.service}   {one.state}   {one.variants} variants"
