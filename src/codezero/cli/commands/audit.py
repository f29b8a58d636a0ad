"""audit list, export, verify."""

from pathlib import Path
from typing import Any

import click
import msgspec

from codezero.cli import hub_selection
from codezero.cli.console import Output, Table, output_option, say, write_text
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_output import facts, write_list, write_one
from codezero.cli.hub_selection import hub_options, organization_option


class Entry(msgspec.Struct, frozen=True):
    """A line of the audit."""

    number: int
    at: str
    action: str
    outcome: str
    actor: dict[str, Any]
    target: dict[str, Any]


class Verified(msgspec.Struct, frozen=True):
    """Whether the audit is the one that was written; else the number of the entry that does not fit, and why."""

    ok: bool
    entries: int
    broken: int | None = None
    reason: str | None = None


@click.group()
def audit() -> None:
    """Who did what in an organization: append-only, each entry sealed to the one before.

    \b
    Examples:
      czctl audit list --action signin
      czctl audit export > audit.jsonl
      czctl audit verify
    """


@audit.command("list")
@click.option("--action", metavar="ACTION", help="Only this (member.role), or all that begin so (member).")
@click.option("--actor", metavar="ID", help="Only what the user with this id did.")
@click.option("--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="At most so many.")
@organization_option
@hub_options
@output_option()
def list_(
    *, client: HubClient, action: str | None, actor: str | None, limit: int, organization: str | None, output: Output
) -> None:
    """List the latest entries."""
    owner = hub_selection.organization(client, organization)
    write_list(
        "entries",
        client.items(f"/organizations/{owner.id}/audit", msgspec.Raw, limit=limit, action=action, actor=actor),
        Entry,
        output,
        lambda shown: Table(
            ("NUMBER", "AT", "WHO", "ACTION", "OUTCOME", "WHAT"),
            [
                (str(one.number), one.at[:19], _named(one.actor), one.action, one.outcome, _named(one.target))
                for one in shown
            ],
            empty="no entries",
        ),
    )


@audit.command()
@click.option("--file", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, not stdout.")
@click.option("--pseudonymous", is_flag=True, help="Without names and addresses of people.")
@organization_option
@hub_options
def export(*, client: HubClient, path: Path | None, pseudonymous: bool, organization: str | None) -> None:
    """Write all entries as JSON, one a line, oldest first."""
    owner = hub_selection.organization(client, organization)
    target = f"/organizations/{owner.id}/audit/export"
    content = client.lines(target, pseudonymous="true" if pseudonymous else None)
    if path is None:
        write_text(content.decode())
        return
    from codezero.cli import private_files

    private_files.write(path, content, replace=False)
    say(f"written: {path}")


@audit.command()
@organization_option
@hub_options
@output_option()
def verify(*, client: HubClient, organization: str | None, output: Output) -> None:
    """Check that no entry was changed or taken out; ends with 1 where one was."""
    owner = hub_selection.organization(client, organization)
    reply = client.post(f"/organizations/{owner.id}/audit/verify")
    told = reply.as_(Verified)
    write_one(
        reply,
        output,
        lambda: facts(
            [
                ("Whole", "yes" if told.ok else "no"),
                ("Entries", str(told.entries)),
                ("Broken at", str(told.broken) if told.broken is not None else None),
                ("Why", told.reason),
            ]
        ),
    )
    if not told.ok:
        raise click.exceptions.Exit(1)


def _named(thing: dict[str, Any]) -> str:
    return str(thing.get("name") or thing.get("email") or thing.get("id") or "-")
