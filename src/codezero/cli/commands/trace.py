"""trace-connections: requests and connections as they end, one line each."""

import click

from codezero.cli import completing, wording
from codezero.cli.console import Output, as_json_line, output_option, printable, say, write_now
from codezero.cli.context import client
from codezero.cli.errors import INTERRUPTED
from codezero.model.services import ServiceRef
from codezero.wire.local_api import TraceLine
from codezero.wire.tracing import Direction, MirrorRecord, TraceRecord


@click.command("trace-connections")
@click.option(
    "--direction",
    type=click.Choice([one.value for one in Direction]),
    help="Only what you consume, or only what you serve.",
)
@click.option("--service", metavar="SERVICE", shell_complete=completing.servable, help="Only this service.")
@output_option(Output.TABLE, Output.JSON)
def trace_connections(direction: str | None, service: str | None, output: Output) -> None:
    """Show requests and connections of this machine as they end, until Ctrl-C.

    \b
    Requests to your variants are shown whichever of your laptops answers them.
    A line tells time, direction, user, service, what chose the variant, request, status, bytes,
    duration, and why a variant did not answer. Requests to a mirror tell in what the two answers
    differ. No header and no body is shown. With -o json each line is an object.
    \b
    Examples:
      czctl trace-connections --direction serve
      czctl trace-connections --service shop/orders -o json
    """
    ref = wording.service(service) if service is not None else None
    daemon = client()
    teamspace = daemon.status().teamspace
    # All of it is this user's: what the laptop consumes, and requests to its own variants.
    owner = (teamspace.user_id, teamspace.user) if teamspace is not None else ("", "")
    lines = daemon.traces()
    try:
        for line in lines:
            _show(_wanted(line, direction, ref), output, owner)
    except KeyboardInterrupt:
        # How one leaves; nothing to talk about.
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        lines.close()


def _wanted(line: TraceLine, direction: str | None, ref: ServiceRef | None) -> TraceLine:
    """What of a line was asked for. That something was left out is told whatever it was."""
    record, mirror = line.record, line.mirror
    if record is not None and (direction not in (None, record.direction) or ref not in (None, record.service)):
        record = None
    # What a mirror gets, this machine serves.
    if mirror is not None and (direction not in (None, Direction.SERVE) or ref not in (None, mirror.service)):
        mirror = None
    return TraceLine(record, mirror, line.dropped)


def _show(line: TraceLine, output: Output, owner: tuple[str, str]) -> None:
    if output is Output.JSON:
        if line != TraceLine():
            write_now(as_json_line(line) + "\n")
        return
    if line.dropped:
        say(f"warning: {line.dropped} more were not told; there is too much going on")
    for text in _texts(line, owner):
        write_now(printable(text) + "\n")


def _texts(line: TraceLine, owner: tuple[str, str]) -> list[str]:
    texts: list[str] = []
    if line.record is not None:
        texts.append(record_text(line.record, owner))
    if line.mirror is not None:
        texts += mirror_texts(line.mirror)
    return texts


def record_text(record: TraceRecord, owner: tuple[str, str]) -> str:
    """One request or connection, as one line. `owner` is id and name of this laptop's user."""
    user = owner[1] if record.user in ("", owner[0]) else record.user
    parts = [
        wording.clock(record.at),
        f"{record.direction:<7}",
        f"{user or '-':<8}",
        f"{record.service}:{record.port}",
        f"[{_chosen(record)}]",
        f"{record.method} {record.path}" if record.method else record.protocol,
        str(record.status) if record.status else "-",
        f"{wording.size(record.sent)} up, {wording.size(record.received)} down",
        f"{record.milliseconds:.0f} ms",
    ]
    if record.fallback:
        parts.append(f"fallback: {record.fallback}")
    if record.error:
        parts.append(f"error: {record.error}")
    return "  ".join(parts)


def _chosen(record: TraceRecord) -> str:
    """What chose the variant. Of what is consumed this machine does not know who answered."""
    nothing = "origin" if record.direction is Direction.SERVE else "-"
    return record.why or record.variant or nothing


def mirror_texts(mirror: MirrorRecord) -> list[str]:
    """One mirrored request: a line, and one for each difference."""
    outcome = f"{len(mirror.differences)} differ" if mirror.differences else "same answer"
    first = "  ".join(
        (
            wording.clock(mirror.at),
            f"{'mirror':<7}",
            f"{mirror.service}:{mirror.port}",
            f"{mirror.method} {mirror.path}",
            outcome,
            f"origin {mirror.origin_milliseconds:.0f} ms, variant {mirror.variant_milliseconds:.0f} ms",
        )
    )
    return [first, *(f"    {one.what}: {one.origin or '-'} -> {one.variant or '-'}" for one in mirror.differences)]
