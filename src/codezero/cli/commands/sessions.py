"""sessions list, end."""

import click
import msgspec

from codezero.cli import hub_selection, wording
from codezero.cli.console import Output, Table, output_option, say
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_output import write_list
from codezero.cli.hub_selection import hub_options, organization_option, space_option


class ServeLine(msgspec.Struct, frozen=True):
    """A service that a laptop serves."""

    service: str


class SessionLine(msgspec.Struct, frozen=True):
    """A laptop's session in a Teamspace: whose, and what it consumes and serves. `since` is UNIX seconds."""

    id: str
    user: str
    user_name: str
    name: str
    state: str
    since: float
    consumes: tuple[str, ...] = ()
    serves: tuple[ServeLine, ...] = ()


@click.group()
def sessions() -> None:
    """The laptops that are connected to a Teamspace, for those who look after it.

    \b
    Examples:
      czctl sessions list
      czctl sessions end 01J8ZQ4Y5T2V6W7X8Y9Z0ABCDE --reason 'wrong cluster'
    """


@sessions.command("list")
@organization_option
@space_option
@hub_options
@output_option()
def list_(*, client: HubClient, organization: str | None, space: str | None, output: Output) -> None:
    """List the sessions of a Teamspace, as it told the Hub last."""
    owner = hub_selection.organization(client, organization)
    where = hub_selection.space(client, owner, space)
    write_list(
        "sessions",
        client.items(f"/organizations/{owner.id}/spaces/{where.id}/sessions", msgspec.Raw),
        SessionLine,
        output,
        lambda shown: Table(
            ("USER", "LAPTOP", "STATE", "SINCE", "CONSUMES", "SERVES", "SESSION"),
            [
                (
                    one.user_name or one.user,
                    one.name or "-",
                    one.state,
                    wording.ago(one.since).removeprefix("since "),
                    _few(one.consumes),
                    _few(tuple(dict.fromkeys(serve.service for serve in one.serves))),
                    one.id,
                )
                for one in shown
            ],
            empty="nobody is connected",
        ),
    )


@sessions.command()
@click.argument("session")
@click.option("--reason", default="", help="Told to its owner, and kept in the audit.")
@organization_option
@space_option
@hub_options
def end(*, client: HubClient, session: str, reason: str, organization: str | None, space: str | None) -> None:
    """End a session: all that the laptop consumes and serves, at once."""
    owner = hub_selection.organization(client, organization)
    where = hub_selection.space(client, owner, space)
    client.delete(f"/organizations/{owner.id}/spaces/{where.id}/sessions/{session}", {"reason": reason})
    say("the session is ended; its laptop may come back unless it is revoked: czctl device revoke ID --org NAME")


def _few(services: tuple[str, ...]) -> str:
    return f"{len(services)} services" if len(services) > 3 else ", ".join(services) or "-"
