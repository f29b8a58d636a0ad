"""apikey list, create, revoke."""

import click
import msgspec

from codezero.cli import hub_selection, wording
from codezero.cli.console import Output, Table, output_option, say
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_output import ago, facts, write_list, write_one
from codezero.cli.hub_selection import hub_options, organization_option
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission, Role


class ApiKey(msgspec.Struct, frozen=True):
    """An API key; `key` is told once, to whoever made it."""

    id: str
    name: str
    service_account: str = ""
    scopes: tuple[str, ...] = ()
    created_at: str | None = None
    expires_at: str | None = None
    last_used_at: str | None = None
    key: str | None = None


@click.group()
def apikey() -> None:
    """Keys for programs: CI jobs, scripts, the Node agent.

    \b
    Examples:
      czctl apikey create ci --expires 2160h
      czctl apikey list
    """


@apikey.command("list")
@organization_option
@hub_options
@output_option()
def list_(*, client: HubClient, organization: str | None, output: Output) -> None:
    """List the API keys of an organization; what makes them keys is kept nowhere."""
    owner = hub_selection.organization(client, organization)
    write_list(
        "apikeys",
        client.items(f"/organizations/{owner.id}/apikeys", msgspec.Raw),
        ApiKey,
        output,
        lambda shown: Table(
            ("NAME", "AGE", "LAST USED", "UNTIL", "SCOPES", "ID"),
            [
                (
                    one.name,
                    ago(one.created_at),
                    ago(one.last_used_at),
                    one.expires_at or "-",
                    ",".join(one.scopes) or "all",
                    one.id,
                )
                for one in shown
            ],
            empty="no API keys",
        ),
    )


@apikey.command()
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), help="What its service account is; ci if not said."
)
@click.option(
    "--service-account", "account", metavar="ID", help="One that exists, in place of a new one of the key's name."
)
@click.option("--expires", metavar="DURATION", help="How long it is good: 720h. Without it, until it is revoked.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([one.value for one in Permission]),
    help="It may do no more than this; may be given several times.",
)
@organization_option
@hub_options
@output_option()
def create(
    *,
    client: HubClient,
    name: str,
    role: str | None,
    account: str | None,
    expires: str | None,
    scopes: tuple[str, ...],
    organization: str | None,
    output: Output,
) -> None:
    """Make an API key, and print it this once.

    \b
    Examples:
      czctl apikey create ci
      czctl apikey create nightly --expires 720h -o json
    """
    owner = hub_selection.organization(client, organization)
    body: dict[str, object] = {"name": name, "scopes": scopes}
    if role is not None:
        body["role"] = role
    if account is not None:
        body["service_account"] = account
    if expires is not None:
        body["expires_in"] = int(wording.duration(expires, problem=problems.BAD_REQUEST))
    reply = client.post(f"/organizations/{owner.id}/apikeys", body)
    made = reply.as_(ApiKey)
    write_one(
        reply,
        output,
        lambda: facts([("Key", made.key), ("Organization ID", owner.id), ("Name", made.name), ("ID", made.id)]),
    )
    say("note: keep the key now; it is shown this once")
    say(f"next, where it is used: czctl auth login --hub {client.context.url} --apikey-file FILE")


@apikey.command()
@click.argument("key", metavar="NAME")
@organization_option
@hub_options
def revoke(*, client: HubClient, key: str, organization: str | None) -> None:
    """End an API key (name or id); whatever it was used for ends within seconds."""
    owner = hub_selection.organization(client, organization)
    path = f"/organizations/{owner.id}/apikeys"
    known = list(client.items(path, ApiKey))
    found = [one for one in known if one.id == key] or [one for one in known if one.name == key]
    if not found:
        raise CodezeroError(problems.NOT_FOUND, f"there is no API key {key[:200]!r}", fix="czctl apikey list")
    if len(found) > 1:
        ids = ", ".join(one.id for one in found)
        raise CodezeroError(
            problems.NOT_SELECTED, f"several are called {key[:200]!r}", fix=f"name one by its id: {ids}"
        )
    client.delete(f"{path}/{found[0].id}")
    say(f"the API key {found[0].name} is revoked")
