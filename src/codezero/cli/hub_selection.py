"""Which organization and which Teamspace a command is about: the one that is named, else the environment's, else the one selected on this machine."""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from codezero.cli import completing, hub_context
from codezero.cli.console import say
from codezero.cli.hub_client import HubClient, connect
from codezero.cli.hub_context import Named
from codezero.model import problems
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError

API_VERSION: Final = "codezero.io/hub/v1"

F = TypeVar("F", bound=Callable[..., Any])


class Organization(msgspec.Struct, frozen=True):
    """An organization, as one of its members sees it."""

    id: str
    name: str
    role: str = ""


class Space(msgspec.Struct, frozen=True):
    """A Teamspace as the Hub knows it; times are those of the Hub (RFC 3339)."""

    id: str
    name: str
    state: str
    connected: bool = False
    rotating: bool = False
    host: str | None = None
    port: int | None = None
    release: str | None = None
    policy_version: int = 0
    created_at: str | None = None
    certified_at: str | None = None
    seen_at: str | None = None


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--hub` and `--hub-ca`, hidden because most machines know one Hub; the command gets `client`, which is signed in, in their place."""

    @functools.wraps(command)
    def with_client(*arguments: Any, hub: str | None, hub_ca: Path | None, **options: Any) -> Any:  # noqa: ANN401
        client = connect(hub, hub_ca)
        # Asked now, so that nothing is done by half.
        client.authorization()
        return command(*arguments, client=client, **options)

    return _address_options(with_client, hidden=True)


def organization_option(command: F) -> F:
    """`--org`, as parameter `organization`."""
    return click.option(
        "--org",
        "--organization",
        "organization",
        metavar="NAME",
        shell_complete=completing.organizations,
        help="Name or id of the organization, in place of the selected one.",
    )(command)


def space_option(command: F) -> F:
    """`--space`, as parameter `space`."""
    return click.option(
        "--space",
        "space",
        metavar="NAME",
        shell_complete=completing.spaces,
        help="Name or id of the Teamspace, in place of the selected one.",
    )(command)


def address_options(command: F) -> F:
    """`--hub` and `--hub-ca`, as parameters `hub` and `hub_ca`."""
    return _address_options(command, hidden=False)


def _address_options(command: F, *, hidden: bool) -> F:
    hub = click.option("--hub", metavar="URL", hidden=hidden, help="Address of the Hub.")
    ca = click.option(
        "--hub-ca",
        type=click.Path(dir_okay=False, path_type=Path),
        hidden=hidden,
        help="Believe the Hub by the authorities of this file (PEM) alone.",
    )
    return hub(ca(command))


def organization(client: HubClient, asked: str | None) -> Named:
    """The organization that is meant; raises `CodezeroError` where that is not clear."""
    asked = asked or os.environ.get(hub_context.ORGANIZATION_VARIABLE) or None
    selected = client.context.organization
    # By its id alone: of a name that is remembered only the Hub knows what it means now.
    if selected is not None and asked in (None, selected.id):
        return selected
    known = list(client.items("/organizations", Organization))
    note_organizations(client, known)
    return _one_of([Named(one.id, one.name) for one in known], asked, what="organization", noun="organization")


def space(client: HubClient, owner: Named, asked: str | None) -> Named:
    """The Teamspace of `owner` that is meant; raises `CodezeroError` where that is not clear."""
    asked = asked or os.environ.get(hub_context.SPACE_VARIABLE) or None
    context = client.context
    is_own = context.organization is not None and context.organization.id == owner.id
    selected = context.space if is_own else None
    if selected is not None and asked in (None, selected.id):
        return selected
    known = list(client.items(f"/organizations/{owner.id}/spaces", Space))
    note_spaces(client, owner, known)
    return _one_of([Named(one.id, one.name) for one in known], asked, what="Teamspace", noun="space")


def select(client: HubClient, *, organization: Named | None, space: Named | None) -> None:
    """Remember what is selected on this machine; only for this command where the environment says who asks."""
    if not client.keeps:
        say("note: kept for this command alone; set CODEZERO_ORGANIZATION and CODEZERO_SPACE for the others")
        client.context = msgspec.structs.replace(client.context, organization=organization, space=space)
        return
    with hub_context.locked():
        # What is one user's is selected for no other, who has signed in meanwhile.
        client.kept()
        now = hub_context.load()
        known = now if now is not None and now.url == client.context.url else client.context
        context = msgspec.structs.replace(known, organization=organization, space=space)
        hub_context.save(context)
    client.context = context


def note_organizations(client: HubClient, known: Sequence[Organization]) -> None:
    """Keep the names for completion."""
    if not client.keeps:
        return
    before = hub_context.load_names()
    spaces = before.spaces if before.url == client.context.url else {}
    hub_context.save_names(hub_context.Names(client.context.url, tuple(one.name for one in known), spaces))


def note_spaces(client: HubClient, owner: Named, known: Sequence[Space]) -> None:
    """Keep the names for completion."""
    if not client.keeps:
        return
    before = hub_context.load_names()
    if before.url != client.context.url:
        before = hub_context.Names(client.context.url)
    spaces = {**before.spaces, owner.id: tuple(one.name for one in known)}
    hub_context.save_names(msgspec.structs.replace(before, spaces=spaces))


def _one_of(known: Sequence[Named], asked: str | None, *, what: str, noun: str) -> Named:
    if asked is None:
        if len(known) == 1:
            return known[0]
        if not known:
            raise CodezeroError(problems.NOT_SELECTED, f"there is no {what} yet", fix=f"czctl {noun} create NAME")
        return chosen(known, what=what, noun=noun)
    matching = [one for one in known if asked == one.id] or [one for one in known if asked == one.name]
    if len(matching) == 1:
        return matching[0]
    if matching:
        ids = ", ".join(one.id for one in matching)
        raise CodezeroError(
            problems.NOT_SELECTED, f"several are called {asked[:200]!r}", fix=f"name one by its id: {ids}"
        )
    if is_ulid(asked.upper()):
        raise CodezeroError(problems.NOT_FOUND, f"there is no {what} {asked} for you", fix=f"czctl {noun} list")
    import difflib

    near = difflib.get_close_matches(asked, [one.name for one in known], n=1)
    fix = f"did you mean {near[0]!r}? See: czctl {noun} list" if near else f"czctl {noun} list"
    raise CodezeroError(problems.NOT_FOUND, f"there is no {what} {asked[:200]!r} for you", fix=fix)


def chosen(known: Sequence[Named], *, what: str, noun: str) -> Named:
    """The one a person picks; raises `CodezeroError` where there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        names = ", ".join(one.name for one in known[:10])
        raise CodezeroError(
            problems.NOT_SELECTED, f"there are several: {names}", fix=f"czctl {noun} select NAME, or name one here"
        )
    for number, one in enumerate(known, 1):
        click.echo(f"{number:>3}  {one.name}  {one.id}", err=True)
    number = click.prompt(f"Which {what}?", type=click.IntRange(1, len(known)), err=True)
    return known[number - 1]
