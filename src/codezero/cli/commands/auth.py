"""auth login, logout, status, can-i, token."""

import os
import socket
import sys
import time
from pathlib import Path

import click
import msgspec

from codezero.cli import hub_context, hub_selection, wording
from codezero.cli.console import Output, Table, output_option, say, write, write_lines
from codezero.cli.context import client as local_client
from codezero.cli.hub_client import KEY_PREFIX, DeviceKey, HubClient, Reply, connect, kept_sign_in, with_tokens
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.cli.hub_output import facts
from codezero.cli.hub_selection import (
    API_VERSION,
    Organization,
    Space,
    address_options,
    hub_options,
    organization_option,
    space_option,
)
from codezero.cli.serve_arguments import condition_of, condition_options
from codezero.model import problems
from codezero.model.access import Operation
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import condition_parts

_MAX_SECRET = 16 * 1024


class Person(msgspec.Struct, frozen=True):
    """Who is signed in; `kind` is `person` or `service`."""

    id: str
    name: str
    email: str | None = None
    kind: str = "person"


class Me(msgspec.Struct, frozen=True):
    """What the Hub says of whoever asks."""

    user: Person


class AuthView(msgspec.Struct, frozen=True):
    """Where this machine is signed in, as whom, by what (`browser`, `api-key`, `token` or `environment`), and what is selected. `expires` is UNIX seconds."""

    hub: str
    user: Named
    by: str
    email: str | None = None
    organization: Named | None = None
    space: Named | None = None
    device: str | None = None
    expires: float | None = None
    kept_in: str | None = None
    api: str = API_VERSION


class CanIView(msgspec.Struct, frozen=True):
    """Whether it is allowed, and why."""

    allowed: bool
    reason: str = ""
    api: str = API_VERSION


@click.group()
def auth() -> None:
    """Sign in to a Hub, and see what you may do.

    \b
    Examples:
      czctl auth login --hub https://hub.example.org
      czctl auth status
      czctl auth can-i consume orders.shop
    """


@auth.command()
@address_options
@click.option("--force", is_flag=True, help="Sign in anew, also where you are signed in.")
@click.option(
    "--no-browser", is_flag=True, help="Show a code to type into a browser elsewhere; so it is also over SSH."
)
@click.option("--no-gui", "no_gui", is_flag=True, hidden=True)
@click.option("--apikey-file", metavar="FILE", help="Sign in with the API key in FILE; - is stdin.")
@click.option("--token-file", metavar="FILE", help="Use the access token in FILE; - is stdin.")
@click.option("--org", "--orgID", "organization", metavar="NAME", help="Name or id of the organization to select.")
@click.option("--apikey", metavar="KEY", help="The API key itself; others on this machine can read it there.")
@click.option("--token", metavar="TOKEN", help="The access token itself; others on this machine can read it there.")
def login(
    *,
    hub: str | None,
    hub_ca: Path | None,
    force: bool,
    no_browser: bool,
    no_gui: bool,
    apikey_file: str | None,
    token_file: str | None,
    organization: str | None,
    apikey: str | None,
    token: str | None,
) -> None:
    """Sign this machine in to a Hub.

    \b
    Your browser opens; where there is none, type the code that is shown into one elsewhere.
    The only organization and the only Teamspace there are become the selected ones.
    \b
    Examples:
      czctl auth login --hub https://hub.example.org
      czctl auth login --no-browser
      czctl auth login --hub https://hub.example.org --apikey-file key.txt
    """
    given = [one for one in (apikey_file, token_file, apikey, token) if one is not None]
    if len(given) > 1:
        raise CodezeroError(problems.BAD_REQUEST, "an API key or a token is given twice", fix="give one of them")
    for variable in (hub_context.TOKEN_VARIABLE, hub_context.API_KEY_VARIABLE):
        if os.environ.get(variable):
            raise CodezeroError(
                problems.BAD_REQUEST,
                f"{variable} is set, so whoever it stands for is signed in, and nothing is kept",
                fix=f"unset {variable} to sign in for good, or go on: czctl auth status",
            )
    for option, value in (("--apikey", apikey), ("--token", token)):
        if value is not None:
            say(f"warning: {option} shows the secret to all users of this machine; {option}-file - reads it from stdin")
    client = connect(hub, hub_ca)
    file = apikey_file or token_file
    secret = _read_secret(file) if file is not None else apikey or token
    if secret is not None:
        is_key = apikey is not None or apikey_file is not None or secret.startswith(KEY_PREFIX)
        _sign_in(client, _of_secret(client, secret, is_key=is_key, organization=organization), organization)
        return
    if not force and (known := _signed_in_as(client)) is not None:
        say(f"already signed in to {client.context.url} as {known.user.name}; --force signs in anew")
        _select_first(client, organization)
        return
    _sign_in(client, _by_browser(client, by_code=no_browser or no_gui), organization)


@auth.command()
@address_options
def logout(*, hub: str | None, hub_ca: Path | None) -> None:
    """End the sign-in of this machine, and leave its Teamspace.

    \b
    Tokens and the device's key are deleted here, also where the Hub does not answer.
    Pages of that Hub that are paired with this machine are not any more.
    """
    context = connect(hub, hub_ca).context
    url, former = context.url, kept_sign_in(context)
    if former is not None and former.context.url != url:
        say(
            f"not signed in to {url}; this machine is to {former.context.url}: czctl auth logout --hub {former.context.url}"
        )
        return
    _leave_teamspace()
    _forget_pages(url)
    ended = _end_at_hub(former) if former is not None else None
    hub_context.forget()
    say(f"signed out of {url}" if former is not None else "not signed in")
    if ended is not None:
        say(f"warning: the Hub could not be told, so there it ends by itself or by an admin: {ended}")


@auth.command()
@address_options
@output_option()
def status(*, hub: str | None, hub_ca: Path | None, output: Output) -> None:
    """Show where this machine is signed in, and as whom.

    Ends with 0 when it is signed in, and with 4 when it is not.
    """
    try:
        client = connect(hub, hub_ca)
    except CodezeroError as error:
        if error.problem is problems.NO_HUB:
            raise CodezeroError(problems.NOT_SIGNED_IN, error.detail, fix=error.fix) from None
        raise
    me = client.get("/auth/me").as_(Me)
    view = _view(client, me)
    write(
        view,
        output,
        lambda: facts(
            [
                ("Hub", view.hub),
                ("User", f"{view.user.name} ({view.email})" if view.email else view.user.name),
                ("User ID", view.user.id),
                ("Organization", view.organization.name if view.organization else "none selected"),
                ("Teamspace", view.space.name if view.space else "none selected"),
                ("Signed in by", view.by),
                ("Kept in", view.kept_in),
            ]
        ),
    )


@auth.command("can-i")
@click.argument("operation", type=click.Choice([one.value for one in Operation]))
@click.argument("service", metavar="SERVICE")
@click.option("--as", "user", metavar="USER", help="E-mail address or id of another member; for admins.")
@condition_options
@organization_option
@space_option
@hub_options
@output_option()
def can_i(
    *,
    client: HubClient,
    operation: str,
    service: str,
    user: str | None,
    kinds: tuple[str, ...],
    texts: tuple[str, ...],
    organization: str | None,
    space: str | None,
    output: Output,
) -> None:
    """Ask whether the policy lets you do something, and why.

    Ends with 0 when it does and with 5 when it does not.

    \b
    Examples:
      czctl auth can-i consume orders.shop
      czctl auth can-i serve shop/orders --condition-type default
      czctl auth can-i consume orders.shop --as bob@example.org
    """
    ref = wording.service(service)
    condition = condition_of(kinds, texts)
    owner = hub_selection.organization(client, organization)
    where = hub_selection.space(client, owner, space)
    body: dict[str, object] = {"operation": operation, "service": f"{ref.name}.{ref.namespace}"}
    if condition is not None:
        (part, *more) = condition_parts(condition)
        if more:
            raise CodezeroError(problems.BAD_CONDITION, "ask about one condition at a time")
        body["condition"] = {"type": part.kind, "key": part.key, "value": part.value}
    if user is not None:
        body["as"] = user
    view = client.post(f"/organizations/{owner.id}/spaces/{where.id}/can-i", body).as_(CanIView)
    if output is Output.TABLE:
        word = "yes" if view.allowed else "no"
        write_lines([f"{word}: {view.reason}" if view.reason else word])
    else:
        write(view, output, lambda: Table((), ()))
    if not view.allowed:
        raise click.exceptions.Exit(problems.FORBIDDEN.exit_code)


@auth.command()
@hub_options
def token(*, client: HubClient) -> None:
    """Print an access token for other programs; a secret, good for minutes.

    \b
    Examples:
      curl -H "Authorization: Bearer $(czctl auth token)" https://hub.example.org/api/v1/organizations
    """
    shown = client.authorization().removeprefix("Bearer ")
    # By its form: wherever a key comes from, it is good for longer than minutes.
    if KEY_PREFIX in shown or ":" in shown:
        raise CodezeroError(
            problems.BAD_REQUEST,
            "this machine is signed in with an API key, which is no token",
            fix="show the API key itself",
        )
    if sys.stdout.isatty():
        say("note: whoever has it can do what you can, for some minutes")
    write_lines([shown])


def _sign_in(client: HubClient, credentials: Credentials, organization: str | None) -> None:
    """Keep who is signed in now. Whoever was before goes on nowhere: not at their Hub, and not in the agent."""
    former = kept_sign_in(client.context)
    before = former.credentials if former is not None else None
    client.use(credentials)
    me = client.get("/auth/me").as_(Me)
    is_same = former is not None and _who(former.context) == (client.context.url, me.user.id)
    if former is not None and not is_same:
        _forget_pages(former.context.url)
        # As long as there is still something to ask their Hub with.
        _end_device(former, before)
    with hub_context.locked():
        hub_context.save_credentials(credentials)
        _remember(client, me)
    say(f"signed in to {client.context.url} as {me.user.name}")
    try:
        _select_first(client, organization)
    finally:
        # Also where nothing could be selected.
        _move_agent(client, anew=is_same and before is not None and before.device is not None)
        if is_same:
            # Last, so that the agent is cut off at no time.
            _end_device(client, before)


def _who(context: HubContext) -> tuple[str, str | None]:
    return context.url, context.user.id if context.user is not None else None


def _by_browser(client: HubClient, *, by_code: bool) -> Credentials:
    from codezero.cli import browser_sign_in

    _check_address(client)
    # A new one each time: nobody has to know whether the one before is still believed.
    key = DeviceKey.new()
    name = socket.gethostname()[:63]
    if by_code or not browser_sign_in.has_browser():
        tokens = browser_sign_in.by_code(client, key, device_name=name)
    else:
        tokens = browser_sign_in.by_redirect(client, key, device_name=name)
    return with_tokens(Credentials(client.context.url, key.device, key.pem), tokens)


def _check_address(client: HubClient) -> None:
    """Proofs name the Hub by the address it is known by: a sign-in by another one would come to nothing in the end."""
    path = "/.well-known/oauth-authorization-server"
    answer = client.endpoint.checked(client.endpoint.request("GET", path))
    issuer = Reply(answer).as_(_Metadata).issuer
    if issuer != client.context.url:
        raise CodezeroError(
            problems.BAD_HUB_URL,
            f"the Hub at {client.context.url} is known as {issuer[:200]}",
            fix=f"czctl auth login --hub {issuer[:200]}",
        )


class _Metadata(msgspec.Struct, frozen=True):
    issuer: str


def _of_secret(client: HubClient, secret: str, *, is_key: bool, organization: str | None) -> Credentials:
    url = client.context.url
    if not is_key:
        return Credentials(url, access_token=secret)
    # With its id the Hub checks that the key is one of that organization.
    is_id = organization is not None and is_ulid(organization) and ":" not in secret
    return Credentials(url, api_key=f"{organization}:{secret}" if is_id else secret)


def _move_agent(client: HubClient, *, anew: bool) -> None:
    """Let a running agent that is in a Teamspace by a Hub go on as whoever is signed in now, or leave; `anew` also where it is there already as the same user."""
    from codezero.cli import joining_teamspace

    daemon = local_client()
    context = client.context
    try:
        now = daemon.status()
        if now.hub is None:
            return
        is_own = now.teamspace is not None and _who(context) == (now.hub.url, now.teamspace.user_id)
        if is_own and not anew:
            return
        if context.organization is not None and context.space is not None:
            try:
                joining_teamspace.follow_selection(client, context.organization, context.space, anew=True)
            except CodezeroError as error:
                say(f"warning: the agent does not get into {context.space.name}: {error.detail}")
                if is_own:
                    return
            else:
                return
        daemon.forget_teamspace()
        say("the agent has left its Teamspace, where it was as whoever was signed in before")
    except CodezeroError as error:
        if error.problem is not problems.NOT_RUNNING:
            say(f"warning: the agent could not be told, and goes on as before: {error.detail}")


def _end_device(client: HubClient, former: Credentials | None) -> None:
    """End the device that this machine was."""
    if former is None or former.device is None:
        return
    try:
        client.delete(f"/devices/{former.device}")
    except CodezeroError as error:
        # It has ended already; it is in the list of devices for as long as it has not.
        if error.problem is not problems.NOT_FOUND:
            say(
                f"warning: this machine's earlier sign-in at {client.context.url} may go on: {error.detail}; "
                f"its user or an admin ends it: czctl device revoke {former.device}"
            )


def _remember(client: HubClient, me: Me) -> None:
    known = hub_context.load()
    context = client.context
    if known is not None and known.url == context.url:
        context = msgspec.structs.replace(known, ca=context.ca)
    if context.user is not None and context.user.id != me.user.id:
        # What somebody else had selected is not theirs.
        context = msgspec.structs.replace(context, organization=None, space=None)
    context = msgspec.structs.replace(context, user=Named(me.user.id, me.user.name), email=me.user.email)
    hub_context.save(context)
    client.context = context


def _select_first(client: HubClient, asked: str | None) -> None:
    """Select the organization that is asked for, or the only one, and its only Teamspace; say what comes next."""
    known = list(client.items("/organizations", Organization))
    hub_selection.note_organizations(client, known)
    selected = client.context.organization
    if asked is not None:
        organization = hub_selection.organization(client, asked)
    elif len(known) == 1:
        organization = Named(known[0].id, known[0].name)
    else:
        # One that is selected stays so for as long as it is there.
        organization = next((Named(one.id, one.name) for one in known if selected and one.id == selected.id), None)
    if organization is None:
        hub_selection.select(client, organization=None, space=None)
        say("next: czctl organization select NAME" if known else "next: czctl organization create NAME")
        return
    select_only_space(client, organization)


def select_only_space(client: HubClient, organization: Named) -> None:
    """Select the organization and its only Teamspace, or keep the one of it that is selected; say what comes next."""
    spaces = list(client.items(f"/organizations/{organization.id}/spaces", Space))
    hub_selection.note_spaces(client, organization, spaces)
    before = client.context.space
    kept = next((one for one in spaces if before is not None and one.id == before.id), None)
    only = kept or (spaces[0] if len(spaces) == 1 else None)
    space = Named(only.id, only.name) if only is not None else None
    hub_selection.select(client, organization=organization, space=space)
    say(f"organization: {organization.name}; Teamspace: {space.name if space is not None else 'none selected'}")
    if space is not None:
        say("next: czctl start")
    else:
        say("next: czctl space select NAME" if spaces else "next: czctl space create NAME")


def _signed_in_as(client: HubClient) -> Me | None:
    if not client.is_signed_in:
        return None
    try:
        return client.get("/auth/me").as_(Me)
    except CodezeroError as error:
        if error.problem.exit_code != problems.NOT_SIGNED_IN.exit_code:
            raise
        return None


def _view(client: HubClient, me: Me) -> AuthView:
    credentials = client.credentials
    if credentials is None:
        by, kept = "environment", None
    else:
        by = (
            "api-key"
            if credentials.api_key is not None
            else "browser"
            if credentials.refresh_token is not None
            else "token"
        )
        kept = str(hub_context.folder() / hub_context.CREDENTIALS_FILE)
    return AuthView(
        client.context.url,
        Named(me.user.id, me.user.name),
        by,
        email=me.user.email,
        organization=client.context.organization,
        space=client.context.space,
        device=credentials.device if credentials is not None else None,
        expires=credentials.expires if credentials is not None and credentials.expires > time.time() else None,
        kept_in=kept,
    )


def _leave_teamspace() -> None:
    """Let the agent of this machine drop the key, where a Hub got it into its Teamspace; whichever: nobody is signed in to any now."""
    daemon = local_client(deadline=5)
    try:
        if daemon.status().hub is not None:
            daemon.forget_teamspace()
            say("left the Teamspace")
    except CodezeroError as error:
        if error.problem is not problems.NOT_RUNNING:
            say(f"warning: the Daemon could not be told: {error.detail}")


def _forget_pages(url: str) -> None:
    """End all pairings with pages of the Hub."""
    from codezero.cli.paired import process, state
    from codezero.cli.paired.state import State

    if not state.path().exists():
        return

    def forgotten(present: State) -> tuple[State, int]:
        ended = frozenset(one.id for one in present.pairings if one.origin == url)
        return present.without(ended), len(ended)

    try:
        count = state.change(forgotten)
        process.nudge()
    except CodezeroError as error:
        # It is signed out all the same.
        say(f"warning: pages stay paired: {error.detail}; {error.fix or ''}")
        return
    if count:
        say(f"{count} paired {'page is' if count == 1 else 'pages are'} not paired any more")


def _end_at_hub(former: HubClient) -> str | None:
    """End the sign-in there, and with it the device, whose key is deleted here; why not, where it could not be."""
    credentials = former.credentials
    if credentials is None or credentials.refresh_token is None:
        return None
    try:
        if credentials.device is not None:
            former.delete(f"/devices/{credentials.device}")
        else:
            former.post("/auth/logout")
    except CodezeroError as error:
        # Somebody who is not signed in any more has ended it already.
        return None if error.problem in (problems.NOT_SIGNED_IN, problems.NOT_FOUND) else error.detail
    return None


def _read_secret(file: str) -> str:
    try:
        if file == "-":
            content = sys.stdin.buffer.read(_MAX_SECRET + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(_MAX_SECRET + 1)
        text = content.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CodezeroError(problems.BAD_REQUEST, f"{file} cannot be read: {reason}") from None
    if not text or len(content) > _MAX_SECRET or not text.isascii() or not text.isprintable() or " " in text:
        raise CodezeroError(problems.BAD_REQUEST, f"{file} does not hold one key or token, and nothing else")
    return text
