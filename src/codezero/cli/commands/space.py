"""space list, select, create, status, remove, rotate, suspend, resume, token, join-token."""

import click
import msgspec

from codezero.cli import completing, hub_selection, joining_teamspace
from codezero.cli.console import Output, Table, output_option, say, write_lines
from codezero.cli.hub_client import HubClient, Reply
from codezero.cli.hub_context import Named
from codezero.cli.hub_output import ago, facts, write_list, write_one
from codezero.cli.hub_selection import Organization, Space, hub_options, organization_option
from codezero.model import problems
from codezero.model.problems import CodezeroError

_space_argument = click.argument("name", metavar="NAME", required=False, shell_complete=completing.spaces)


class Joining(msgspec.Struct, frozen=True):
    """A Teamspace that a cluster may join; the token is told once."""

    id: str
    name: str
    join_token: str
    join_expires_at: str
    install_command: str


class DoorToken(msgspec.Struct, frozen=True):
    """A token for the CONNECT door of a Teamspace."""

    token: str


@click.group()
def space() -> None:
    """The Teamspaces of an organization.

    \b
    Examples:
      czctl space list
      czctl space select shop
      czctl space create shop
    """


@space.command("list")
@organization_option
@hub_options
@output_option(Output.TABLE, Output.JSON, Output.YAML, Output.NAME)
def list_(*, client: HubClient, organization: str | None, output: Output) -> None:
    """List the Teamspaces of an organization."""
    owner = hub_selection.organization(client, organization)
    items = list(client.items(f"/organizations/{owner.id}/spaces", msgspec.Raw))
    hub_selection.note_spaces(client, owner, [Reply(bytes(one)).as_(Space) for one in items])
    selected = client.context.space.id if client.context.space is not None else None
    write_list(
        "spaces",
        items,
        Space,
        output,
        lambda shown: Table(
            ("NAME", "STATE", "ADDRESS", "AGE", "RELEASE", "SELECTED", "ID"),
            [
                (
                    one.name,
                    one.state,
                    _address(one),
                    ago(one.created_at),
                    one.release or "-",
                    "yes" if one.id == selected else "",
                    one.id,
                )
                for one in shown
            ],
            empty="no Teamspaces; next: czctl space create NAME",
            names=[one.name for one in shown],
        ),
    )


@space.command()
@_space_argument
@click.option("--id", "identity", metavar="ID", help="The Teamspace's id, in place of its name.")
@organization_option
@hub_options
def select(*, client: HubClient, name: str | None, identity: str | None, organization: str | None) -> None:
    """Select the Teamspace of this machine; where the agent runs, it goes there now.

    \b
    Without NAME you are asked. Connections to the Teamspace before end. Other machines of
    yours stay where they are.
    \b
    Examples:
      czctl space select shop
    """
    owner = hub_selection.organization(client, organization)
    asked = identity or name
    if asked is None:
        known = list(client.items(f"/organizations/{owner.id}/spaces", Space))
        hub_selection.note_spaces(client, owner, known)
        options = [Named(one.id, one.name) for one in known]
        if not options:
            raise CodezeroError(problems.NOT_SELECTED, "there is no Teamspace yet", fix="czctl space create NAME")
        found = options[0] if len(options) == 1 else hub_selection.chosen(options, what="Teamspace", noun="space")
    else:
        found = hub_selection.space(client, owner, asked)
    hub_selection.select(client, organization=owner, space=found)
    say(f"organization: {owner.name}; Teamspace: {found.name}")
    joining_teamspace.follow_selection(client, owner, found)


@space.command()
@click.argument("name")
@organization_option
@hub_options
@output_option()
def create(*, client: HubClient, name: str, organization: str | None, output: Output) -> None:
    """Make a Teamspace, and print how a cluster becomes it; the token in it is good once and shown this once.

    \b
    Examples:
      czctl space create shop
    """
    owner = hub_selection.organization(client, organization)
    reply = client.post(f"/organizations/{owner.id}/spaces", {"name": name})
    made = reply.as_(Space)
    if client.context.space is None and client.keeps:
        hub_selection.select(client, organization=owner, space=Named(made.id, made.name))
    _write_joining(reply, output)


@space.command("join-token")
@_space_argument
@organization_option
@hub_options
@output_option()
def join_token(*, client: HubClient, name: str | None, organization: str | None, output: Output) -> None:
    """Make a new join token, for a cluster that becomes this Teamspace anew; the one before is worth nothing any more."""
    owner, found = _found(client, organization, name)
    reply = client.post(f"/organizations/{owner.id}/spaces/{found.id}/join-token")
    _write_joining(reply, output)


@space.command()
@_space_argument
@organization_option
@hub_options
@output_option()
def status(*, client: HubClient, name: str | None, organization: str | None, output: Output) -> None:
    """Show how a Teamspace is, as the Hub sees it."""
    owner, found = _found(client, organization, name)
    reply = client.get(f"/organizations/{owner.id}/spaces/{found.id}")
    one = reply.as_(Space)
    write_one(
        reply,
        output,
        lambda: facts(
            [
                ("Name", one.name),
                ("ID", one.id),
                ("Organization", owner.name),
                ("State", one.state),
                ("Address", _address(one)),
                ("Release", one.release),
                ("Certified", f"{ago(one.certified_at)} ago" if one.certified_at else "not yet"),
                ("Seen", "now" if one.connected else f"{ago(one.seen_at)} ago" if one.seen_at else "never"),
                ("Rotating", "waits for new keys of its cluster" if one.rotating else None),
                ("Policy", f"version {one.policy_version}"),
            ]
        ),
    )


@space.command()
@_space_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@organization_option
@hub_options
def remove(*, client: HubClient, name: str | None, yes: bool, organization: str | None) -> None:
    """Remove a Teamspace from the Hub; its cluster is believed no more, and nobody gets in.

    \b
    What is installed in the cluster stays there: czctl teamspace uninstall
    """
    owner, found = _found(client, organization, name)
    path = f"/organizations/{owner.id}/spaces/{found.id}"
    # What is remembered may have got another name since: the one it has now is asked about and said.
    found = client.get(path).as_(Space)
    if not yes:
        organization_now = client.get(f"/organizations/{owner.id}").as_(Organization)
        _confirm(f"Remove the Teamspace {found.name} ({found.id}) for all members of {organization_now.name}?")
    client.delete(path)
    if client.context.space is not None and client.context.space.id == found.id and client.keeps:
        hub_selection.select(client, organization=client.context.organization, space=None)
    say(f"{found.name} is removed; next, where its cluster is known: czctl teamspace uninstall")


def _doing(verb: str, help_text: str, done: str) -> click.Command:
    @space.command(verb, help=help_text)
    @_space_argument
    @organization_option
    @hub_options
    @output_option()
    def command(*, client: HubClient, name: str | None, organization: str | None, output: Output) -> None:
        owner, found = _found(client, organization, name)
        reply = client.post(f"/organizations/{owner.id}/spaces/{found.id}/{verb}")
        now = reply.as_(Space)
        write_one(reply, output, lambda: facts([("Name", now.name), ("ID", now.id)]))
        say(f"{now.name} {done}")

    return command


rotate = _doing(
    "rotate",
    "Let a Teamspace make itself new keys; connections go on.",
    "makes itself new keys as soon as it hears of it",
)
suspend = _doing(
    "suspend",
    "Let nobody use a Teamspace for now; all that is consumed and served there ends within seconds.",
    "is suspended; next: czctl space resume",
)
resume = _doing("resume", "Let everybody use a suspended Teamspace again.", "can be used again")


@space.command()
@_space_argument
@organization_option
@hub_options
def token(*, client: HubClient, name: str | None, organization: str | None) -> None:
    """Print a token for simple clients of a Teamspace, which speak CONNECT; a secret, good for minutes.

    \b
    It goes into the header Proxy-Authorization.
    """
    owner, found = _found(client, organization, name)
    made = client.post(f"/organizations/{owner.id}/spaces/{found.id}/token").as_(DoorToken)
    write_lines([made.token])


def _found(client: HubClient, organization: str | None, name: str | None) -> tuple[Named, Named]:
    owner = hub_selection.organization(client, organization)
    return owner, hub_selection.space(client, owner, name)


def _write_joining(reply: Reply, output: Output) -> None:
    told = reply.as_(Joining)
    write_one(
        reply,
        output,
        lambda: facts(
            [
                ("Name", told.name),
                ("ID", told.id),
                ("Join token", told.join_token),
                ("Good until", told.join_expires_at),
                ("Command", told.install_command),
            ]
        ),
    )
    say("next: run the command where kubectl knows the cluster, and give it the token, which is shown this once")
    say(f"then: czctl space status {told.name}")


def _address(one: Space) -> str:
    return f"{one.host}:{one.port}" if one.host else "-"


def _confirm(question: str) -> None:
    import sys

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CodezeroError(problems.BAD_REQUEST, "nobody can be asked here", fix="add --yes")
    click.confirm(question, abort=True, err=True)
