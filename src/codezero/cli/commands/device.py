"""device list, revoke."""

import click
import msgspec

from codezero.cli import hub_selection
from codezero.cli.console import Output, Table, output_option, say
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_output import ago, write_list
from codezero.cli.hub_selection import hub_options
from codezero.model import problems
from codezero.model.problems import CodezeroError


class Device(msgspec.Struct, frozen=True):
    """A machine that somebody signed in with."""

    id: str
    name: str
    user: str = ""
    created_at: str | None = None
    last_seen_at: str | None = None
    revoked_at: str | None = None


@click.group()
def device() -> None:
    """The machines you signed in with.

    \b
    Examples:
      czctl device list
      czctl device revoke old-laptop
    """


@device.command("list")
@click.option(
    "--org", "--organization", "organization", metavar="NAME", help="Those of all members of this organization."
)
@hub_options
@output_option()
def list_(*, client: HubClient, organization: str | None, output: Output) -> None:
    """List your machines, or those of an organization's members."""
    write_list(
        "devices",
        client.items(_path(client, organization), msgspec.Raw),
        Device,
        output,
        lambda shown: Table(
            ("NAME", "STATE", "SINCE", "LAST SEEN", "USER ID", "ID"),
            [
                (
                    one.name,
                    "revoked" if one.revoked_at else "this one" if one.id == _own(client) else "good",
                    ago(one.created_at),
                    ago(one.last_seen_at),
                    one.user or "-",
                    one.id,
                )
                for one in shown
            ],
            empty="no devices",
        ),
    )


@device.command()
@click.argument("name")
@click.option(
    "--org", "--organization", "organization", metavar="NAME", help="One of another member of this organization."
)
@hub_options
def revoke(*, client: HubClient, name: str, organization: str | None) -> None:
    """End the sign-in of a machine (name or id) for good; what it consumes and serves ends within seconds."""
    known = [one for one in client.items(_path(client, organization), Device) if one.revoked_at is None]
    found = [one for one in known if one.id == name] or [one for one in known if one.name == name]
    if not found:
        raise CodezeroError(problems.NOT_FOUND, f"there is no device {name[:200]!r}", fix="czctl device list")
    if len(found) > 1:
        ids = ", ".join(one.id for one in found)
        raise CodezeroError(
            problems.NOT_SELECTED, f"several are called {name[:200]!r}", fix=f"name one by its id: {ids}"
        )
    client.delete(f"/devices/{found[0].id}")
    say(f"the device {found[0].name} is revoked")
    if found[0].id == _own(client):
        say("next: czctl auth login --force")


def _path(client: HubClient, organization: str | None) -> str:
    if organization is None:
        return "/devices"
    return f"/organizations/{hub_selection.organization(client, organization).id}/devices"


def _own(client: HubClient) -> str | None:
    return client.credentials.device if client.credentials is not None else None
