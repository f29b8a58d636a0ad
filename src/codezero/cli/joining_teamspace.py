"""How this machine gets into the selected Teamspace: it asks the Hub for a certificate of its device's key, and hands the access to the Daemon."""

import msgspec

from codezero.cli import hub_context
from codezero.cli.console import say
from codezero.cli.context import client as local_client
from codezero.cli.hub_client import DeviceKey, HubClient, not_signed_in
from codezero.cli.hub_context import MachineKey, Named
from codezero.model import problems
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.transport.hub_http import environment_proxy
from codezero.wire.access_file import HubReference, IssuedAccess, TeamspaceAccess
from codezero.wire.local_api import HubState, StatusView, TunnelState


def access(client: HubClient, organization: Named, space: Named, *, now: StatusView | None = None) -> TeamspaceAccess:
    """A fresh access to a Teamspace; raises `CodezeroError`: the Hub's refusal, or that it is not reached.

    `now` is how a running Daemon is: with an API key of the environment it stays the device that it is, where its key was kept here.
    """
    kept = None if client.keeps else _machine_key(client, now)
    if kept is not None:
        try:
            return _asked(client, organization, space, DeviceKey(kept.key, kept.device))
        except CodezeroError as error:
            # The device was revoked, or is of another account than the API key is now, or what was kept is no key.
            if error.problem not in (problems.SIGN_IN_REFUSED, problems.NOT_SIGNED_IN):
                raise
    key = _key(client)
    found = _asked(client, organization, space, key)
    if not client.keeps and found.device is not None:
        hub_context.save_machine_key(MachineKey(client.context.url, found.device, key.pem))
    return found


def _asked(client: HubClient, organization: Named, space: Named, key: DeviceKey) -> TeamspaceAccess:
    reply = client.post(f"/organizations/{organization.id}/spaces/{space.id}/access", {"csr": key.request()})
    issued = reply.as_(IssuedAccess)
    return issued.whole(
        key=key.pem,
        hub=HubReference(client.context.url, client.context.ca, environment_proxy(client.context.url)),
        device=_device_of(issued),
        organization_name=organization.name,
    )


def _machine_key(client: HubClient, now: StatusView | None) -> MachineKey | None:
    """The key of the device that the Daemon is. No other is used again: in a home that machines share, it would be of one that is at work elsewhere."""
    kept = hub_context.load_machine_key()
    if kept is None or kept.url != client.context.url or now is None or now.teamspace is None:
        return None
    return kept if kept.device == now.teamspace.device else None


def is_there(now: StatusView, client: HubClient, space: Named) -> bool:
    """Whether the Daemon is in that Teamspace already, by the same Hub and as the same user, and goes on to be.

    One that does not reach its Hub may know an old way to it, such as the proxy of another network; an access brings the present one.
    """
    return (
        now.teamspace is not None
        and now.teamspace.id == space.id
        and now.tunnel.state is TunnelState.CONNECTED
        and now.hub is not None
        and now.hub.url == client.context.url
        and now.hub.state is HubState.REACHABLE
        and client.context.user is not None
        and now.teamspace.user_id == client.context.user.id
    )


def follow_selection(client: HubClient, organization: Named, space: Named, *, anew: bool = False) -> None:
    """Let a running Daemon go to the Teamspace that was selected, `anew` also where it is there already; what comes next is said."""
    daemon = local_client()
    try:
        now = daemon.status()
    except CodezeroError as error:
        if error.problem is not problems.NOT_RUNNING:
            raise
        if not anew:
            say("next: czctl start")
        return
    if not anew and is_there(now, client, space):
        say("the agent is there already")
        return
    daemon.select_teamspace(access(client, organization, space, now=now))
    say(f"the agent is in {space.name} now; next: czctl services list")


def _device_of(issued: IssuedAccess) -> str:
    """As which device the Hub knows us, by the certificate it gave."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from codezero.kit import certificates

    try:
        leaf = x509.load_pem_x509_certificates(issued.certificate.encode())[0]
        (uri,) = certificates.uris_of(leaf.public_bytes(Encoding.DER))
        return Device.parse(uri).device
    except (ValueError, CodezeroError):
        raise CodezeroError(
            problems.VERSIONS, "the certificate that the Hub gave cannot be read", fix="upgrade czctl or the Hub"
        ) from None


def _key(client: HubClient) -> DeviceKey:
    """The device's key. With an API key there is none from a sign-in: one is made, and kept where the API key is kept."""
    credentials = client.credentials
    if credentials is not None and credentials.key is not None:
        return DeviceKey(credentials.key, credentials.device)
    if not client.is_signed_in:
        raise not_signed_in(client.context.url)
    key = DeviceKey.new()
    if credentials is None:
        return key
    with hub_context.locked():
        kept = client.kept()
        if kept.key is None:
            kept = msgspec.structs.replace(kept, key=key.pem)
            hub_context.save_credentials(kept)
    client.use(kept)
    # Of two that make one at once, the first one's.
    return DeviceKey(kept.key or key.pem, kept.device)


def selected(client: HubClient) -> tuple[Named, Named] | None:
    """The organization and Teamspace that this machine has selected, or its environment names; None where there is none."""
    from codezero.cli import hub_selection

    try:
        owner = hub_selection.organization(client, None)
        return owner, hub_selection.space(client, owner, None)
    except CodezeroError as error:
        if error.problem is problems.NOT_SELECTED:
            return None
        raise
