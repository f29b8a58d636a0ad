"""organization list, select, create, members, invite, role, remove."""

import click
import msgspec

from codezero.cli import completing, hub_selection
from codezero.cli.commands.auth import select_only_space
from codezero.cli.console import Output, Table, output_option, say
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_context import Named
from codezero.cli.hub_output import ago, facts, write_list, write_one
from codezero.cli.hub_selection import Organization, chosen, hub_options, organization_option
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role

_ROLES = click.Choice([role.value for role in Role])


class Member(msgspec.Struct, frozen=True):
    """Somebody in an organization."""

    user: str
    name: str
    role: str
    kind: str = "person"
    email: str | None = None
    created_at: str | None = None


class Invited(msgspec.Struct, frozen=True):
    """An invitation; `link` is told once, to whoever made it."""

    id: str
    email: str
    role: str
    expires_at: str | None = None
    link: str | None = None


@click.group()
def organization() -> None:
    """Look after organizations and their members.

    \b
    Examples:
      czctl organization select acme
      czctl organization members
      czctl organization invite bob@example.org --role developer
    """


@organization.command("list")
@hub_options
@output_option(Output.TABLE, Output.JSON, Output.YAML, Output.NAME)
def list_(*, client: HubClient, output: Output) -> None:
    """List the organizations you are in."""
    items = list(client.items("/organizations", msgspec.Raw))
    known = [msgspec.json.decode(one, type=Organization) for one in items]
    hub_selection.note_organizations(client, known)
    selected = client.context.organization.id if client.context.organization is not None else None
    write_list(
        "organizations",
        items,
        Organization,
        output,
        lambda shown: Table(
            ("NAME", "ROLE", "SELECTED", "ID"),
            [(one.name, one.role, "yes" if one.id == selected else "", one.id) for one in shown],
            empty="you are in no organization; next: czctl organization create NAME",
            names=[one.name for one in shown],
        ),
    )


@organization.command()
@click.argument("name", required=False, shell_complete=completing.organizations)
@click.option("--id", "identity", metavar="ID", help="The organization's id, in place of its name.")
@hub_options
def select(*, client: HubClient, name: str | None, identity: str | None) -> None:
    """Select the organization that commands on this machine are about, and its only Teamspace.

    \b
    Without NAME you are asked. Other machines of yours keep what they have selected.
    \b
    Examples:
      czctl organization select acme
    """
    known = list(client.items("/organizations", Organization))
    hub_selection.note_organizations(client, known)
    asked = identity or name
    if asked is None:
        options = [Named(one.id, one.name) for one in known]
        if not options:
            raise CodezeroError(
                problems.NOT_SELECTED, "you are in no organization", fix="czctl organization create NAME"
            )
        found = options[0] if len(options) == 1 else chosen(options, what="organization", noun="organization")
    else:
        found = hub_selection.organization(client, asked)
    select_only_space(client, found)


@organization.command()
@click.argument("name")
@hub_options
@output_option()
def create(*, client: HubClient, name: str, output: Output) -> None:
    """Make an organization, which you own, and select it."""
    reply = client.post("/organizations", {"name": name})
    made = reply.as_(Organization)
    if client.keeps:
        hub_selection.select(client, organization=Named(made.id, made.name), space=None)
    write_one(reply, output, lambda: facts([("Name", made.name), ("ID", made.id)]))
    say("next: czctl space create NAME, and: czctl organization invite EMAIL --role developer")


@organization.command()
@click.option("--invited", is_flag=True, help="Those who were invited and have not come yet, instead.")
@organization_option
@hub_options
@output_option()
def members(*, client: HubClient, invited: bool, organization: str | None, output: Output) -> None:
    """List the members of an organization, and what each of them is in it."""
    owner = hub_selection.organization(client, organization)
    if invited:
        write_list(
            "invitations",
            client.items(f"/organizations/{owner.id}/invitations", msgspec.Raw),
            Invited,
            output,
            lambda shown: Table(
                ("EMAIL", "ROLE", "UNTIL", "ID"),
                [(one.email, one.role, one.expires_at or "-", one.id) for one in shown],
                empty="nobody is invited",
            ),
        )
        return
    write_list(
        "members",
        client.items(f"/organizations/{owner.id}/members", msgspec.Raw),
        Member,
        output,
        lambda shown: Table(
            ("NAME", "EMAIL", "ROLE", "KIND", "SINCE", "USER ID"),
            [(one.name, one.email or "-", one.role, one.kind, ago(one.created_at), one.user) for one in shown],
        ),
    )


@organization.command()
@click.argument("email")
@click.option("--role", type=_ROLES, default=Role.DEVELOPER.value, show_default=True, help="What they will be.")
@click.option("--withdraw", is_flag=True, help="Take an invitation back.")
@organization_option
@hub_options
@output_option()
def invite(
    *, client: HubClient, email: str, role: str, withdraw: bool, organization: str | None, output: Output
) -> None:
    """Invite somebody by their e-mail address; prints the link to give them, which is good once.

    \b
    Examples:
      czctl organization invite bob@example.org --role admin
    """
    owner = hub_selection.organization(client, organization)
    path = f"/organizations/{owner.id}/invitations"
    if withdraw:
        wanted = email.lower()
        found = next((one for one in client.items(path, Invited) if wanted in (one.email, one.id.lower())), None)
        if found is None:
            raise CodezeroError(
                problems.NOT_FOUND, f"{email[:200]} is not invited", fix="czctl organization members --invited"
            )
        client.delete(f"{path}/{found.id}")
        say(f"the invitation of {found.email} is withdrawn")
        return
    reply = client.post(path, {"email": email, "role": role})
    made = reply.as_(Invited)
    write_one(reply, output, lambda: facts([("Email", made.email), ("Role", made.role), ("Link", made.link)]))
    say(f"next: give {made.email} the link; it is shown this once")


@organization.command()
@click.argument("member")
@click.argument("role", type=_ROLES)
@organization_option
@hub_options
@output_option()
def role(*, client: HubClient, member: str, role: str, organization: str | None, output: Output) -> None:
    """Make MEMBER (e-mail address, name or id) a ROLE.

    \b
    Examples:
      czctl organization role bob@example.org viewer
    """
    owner = hub_selection.organization(client, organization)
    found = member_of(client, owner, member)
    reply = client.patch(f"/organizations/{owner.id}/members/{found.user}", {"role": role})
    write_one(reply, output, lambda: facts([("Name", found.name), ("Role", role)]))


@organization.command()
@click.argument("member")
@organization_option
@hub_options
def remove(*, client: HubClient, member: str, organization: str | None) -> None:
    """Take MEMBER (e-mail address, name or id) out; what they consume and serve ends within seconds."""
    owner = hub_selection.organization(client, organization)
    found = member_of(client, owner, member)
    client.delete(f"/organizations/{owner.id}/members/{found.user}")
    say(f"{found.name} is no member of {owner.name} any more")


def member_of(client: HubClient, owner: Named, text: str) -> Member:
    """The member that an e-mail address, a name or an id means; raises `CodezeroError`."""
    members = list(client.items(f"/organizations/{owner.id}/members", Member))
    wanted = text.lower()
    found = [one for one in members if wanted in ((one.email or "").lower(), one.user.lower())] or [
        one for one in members if wanted == one.name.lower()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(one.user for one in found)
        raise CodezeroError(
            problems.NOT_SELECTED, f"several are called {text[:200]!r}", fix=f"name one by its id: {ids}"
        )
    raise CodezeroError(
        problems.NOT_FOUND, f"{text[:200]!r} is no member of {owner.name}", fix="czctl organization members"
    )
