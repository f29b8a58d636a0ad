"""audit list, export, verify."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from codezero.cli import hub_selection
from codezero.cli.console import Output, Table, output_option, say, write_text
from codezero.cli.hub_client import HubClient, Reply
from codezero.cli.hub_output import facts, write_list, write_one
from codezero.cli.hub_selection import hub_options, organization_option
from codezero.model import problems
from codezero.model.problems import CodezeroError

# The Hub reads each entry, of which there may be millions.
_VERIFY_SECONDS: Final = 600.0
# Of an export that is cut off, without an entry in between.
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 2.0


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
@click.option("--after", type=click.IntRange(0), default=0, metavar="NUMBER", help="Only entries behind this number.")
@organization_option
@hub_options
def export(*, client: HubClient, path: Path | None, pseudonymous: bool, after: int, organization: str | None) -> None:
    """Write all entries as JSON, one a line, oldest first.

    \b
    Where the connection is cut, it goes on behind the last entry that came.
    """
    owner = hub_selection.organization(client, organization)
    exported = _exported(client, f"/organizations/{owner.id}/audit/export", after=after, pseudonymous=pseudonymous)
    if path is None:
        for line in exported:
            write_text(line)
        return
    from codezero.cli import private_files

    if path.exists():
        # Said before, and not after, all has come.
        raise private_files.exists(path)
    private_files.write_pieces(path, (line.encode() for line in exported), replace=False)
    say(f"written: {path}")


def _exported(client: HubClient, target: str, *, after: int, pseudonymous: bool) -> Generator[str, None, None]:
    """Each line once. Raises `CodezeroError` where nothing comes any more, which says from where to go on."""
    begun, tries = after, _TRIES
    while True:
        try:
            lines = client.lines(target, after=after or None, pseudonymous="true" if pseudonymous else None)
            for line in lines:
                number = _number(line)
                if number is not None:
                    after, tries = number, _TRIES
                yield line
        except CodezeroError as error:
            if error.problem is not problems.HUB_UNREACHABLE or after == begun:
                raise
            tries -= 1
            if tries == 0:
                raise CodezeroError(
                    error.problem,
                    f"all up to entry {after} came, then no more: {error.detail}",
                    fix=f"go on behind it: czctl audit export --after {after}",
                ) from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _number(line: str) -> int | None:
    """The entry's; None for the checkpoint at the end."""
    return Reply(line.encode()).as_(_Line).number


class _Line(msgspec.Struct, frozen=True):
    number: int | None = None


@audit.command()
@organization_option
@hub_options
@output_option()
def verify(*, client: HubClient, organization: str | None, output: Output) -> None:
    """Check that no entry was changed or taken out; ends with 1 where one was."""
    owner = hub_selection.organization(client, organization)
    reply = client.post(f"/organizations/{owner.id}/audit/verify", deadline=_VERIFY_SECONDS)
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
