"""status: exit code 0 when the Daemon runs, 1 when it does not."""

import sys
import time
from collections.abc import Sequence

import click
import msgspec

from codezero.cli import wording
from codezero.cli.console import Output, Table, output_option, printable, say, style, write, write_text
from codezero.cli.context import client
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import HubState, HubView, ServedVariant, StatusView, TunnelState


@click.command()
@output_option()
def status(output: Output) -> None:
    """Show how everything is.

    Ends with 0 when the Daemon runs and 1 when it does not.
    """
    daemon = client(deadline=5)
    now = daemon.status()
    if output is Output.TABLE:
        serves = daemon.serves().serves if now.served else ()
        write_text("\n".join([*_lines(now, serves), *_warnings(now)]) + "\n")
        return
    pages = _pages()
    write({**msgspec.to_builtins(now), "pages": pages} if pages else now, output, lambda: Table((), ()))


class Pages(msgspec.Struct, frozen=True):
    """The pages that are paired with this machine: how many, and which ways to it stand."""

    paired: int
    direct_port: int | None
    relay: bool
    relay_reason: str = ""


def _pages() -> Pages | None:
    """None where no page is paired."""
    from codezero.cli.paired import process, state

    try:
        present = state.load() if state.path().exists() else None
    except CodezeroError as error:
        say(f"warning: {error.detail}")
        return None
    if present is None or not present.pairings:
        return None
    running = process.found()
    if running is None:
        return Pages(len(present.pairings), None, relay=False, relay_reason="they are not answered: czctl start")
    return Pages(len(present.pairings), running.port, running.relay_stands, running.relay_reason)


def _lines(now: StatusView, serves: Sequence[ServedVariant]) -> list[str]:
    lines = [f"Daemon        running (pid {now.pid}, release {now.release}, {wording.ago(now.started)})"]
    if now.teamspace is None:
        lines.append("Teamspace     none selected")
    else:
        space = now.teamspace
        lines.append(f"Teamspace     {space.name} at {space.address} as {space.user} of {space.organization}")
        if space.user_id:
            lines.append(f"User ID       {space.user_id}")
    if now.hub is not None:
        lines.append(f"Hub           {_hub(now.hub)}")
    lines.append(f"Tunnel        {_tunnel(now)}")
    picture = now.orchestrator
    state = f"{picture.services} services" if picture.connected else "not connected"
    if picture.stale_since is not None:
        state += f", stale for {wording.span(time.time() - picture.stale_since)}"
    lines += [
        f"Orchestrator  {state}",
        f"Consuming     {now.consumed} services by {now.rules} rules"
        + (f", primary namespace {now.primary_namespace}" if now.primary_namespace else ""),
        f"Serving       {now.served} {'variant' if now.served == 1 else 'variants'}",
        *(f"              {_served(one)}" for one in serves),
        f"Machine       capture by {now.host.capture} ({now.host.captured_ports} ports), "
        f"names by {now.host.names} ({now.host.published_names} names)",
    ]
    if (pages := _pages()) is not None:
        lines.append(f"Pages         {_ways(pages)}")
    return [printable(line) for line in lines]


def _warnings(now: StatusView) -> list[str]:
    lines: list[str] = []
    for warning in now.warnings:
        colour = {"error": "red", "warning": "yellow"}.get(warning.severity, "blue")
        lines.append(f"{style(warning.severity, colour, sys.stdout)}: " + printable(f"{warning.text} [{warning.code}]"))
        if warning.fix:
            lines.append(printable(f"  fix: {warning.fix}"))
    return lines


def _ways(pages: Pages) -> str:
    direct = f"port {pages.direct_port}" if pages.direct_port is not None else "no port"
    relay = "by the Hub" if pages.relay else f"not by the Hub ({pages.relay_reason or 'connecting'})"
    return f"{pages.paired} paired; {direct}, {relay}"


def _served(one: ServedVariant) -> str:
    ports = wording.ports(one.variant.ports)
    return f"{one.service} {ports} for {wording.variant_condition(one.variant)}: {wording.variant_state(one)}"


def _hub(hub: HubView) -> str:
    match hub.state:
        case HubState.UNKNOWN:
            state = "asked for the first time just now"
        case HubState.REACHABLE:
            state = "reachable"
        case _:
            state = f"{hub.state}: {hub.cause}" if hub.cause else hub.state.value
    until = f"; certificate ends {wording.until(hub.certificate_until)}" if hub.certificate_until is not None else ""
    return f"{hub.url} ({state}{until})"


def _tunnel(now: StatusView) -> str:
    tunnel = now.tunnel
    match tunnel.state:
        case TunnelState.CONNECTED:
            since = f"{wording.ago(tunnel.since)}" if tunnel.since else "now"
            return f"connected ({since}, {tunnel.streams} streams, {tunnel.reconnects} reconnects)"
        case TunnelState.CONNECTING:
            wait = f"; next attempt in {tunnel.next_attempt_in:.0f} s" if tunnel.next_attempt_in else ""
            return f"not connected: {tunnel.cause or 'connecting'}{wait}"
        case TunnelState.NONE:
            return "none"
