"""A Hub on loopback, and clusters that join it: the sandbox's API server with what an installation has made in it."""

import base64
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hub_api import Asker, new_organization, new_person

from codezero.deploy import identity, objects
from codezero.deploy.values import Hub as HubValues
from codezero.deploy.values import Values
from codezero.kit.certificates import Authority
from codezero.kit.watched import Watched
from codezero.model.roles import Role
from codezero.system.joining import Membership
from codezero.system.renewing import Renewal
from codezero.transport.hub import HubAddress, address_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from codezero.hub.context import Hub
    from codezero.hub.organizations import Member
    from codezero.hub.relay.relaying import Relay
    from codezero.hub.spaces.teamspaces import Invited
    from codezero.hub.storage.tables import Space
    from codezero.testing.serving import ServingCluster

Json = dict[str, Any]
NAMESPACE = "codezero"
SECRET = ("secrets", NAMESPACE, "codezero-identity")
POLICY = ("configmaps", NAMESPACE, "codezero-policy")
JOIN = ("secrets", NAMESPACE, "codezero-join")
ENTRY = ("services", NAMESPACE, "codezero")


@asynccontextmanager
async def served(
    hub: "Hub",
    *,
    port: int = 0,
    tls: Path | None = None,
    public_url: str | None = None,
    relay: "Relay | None" = None,
) -> AsyncGenerator["Hub", None]:
    """`hub` with its API on loopback; what is given is the same Hub, by its public URL. Leaving the block is the end of its process.

    With `tls` it speaks HTTPS; that folder gets the certificate of its authority as `ca.pem`. `public_url` is that of another replica, if it is one.
    """
    from codezero.hub.api import app
    from codezero.hub.relay.relaying import Relay
    from codezero.hub.serving import Port
    from codezero.kit.tasks import task_group

    sock = socket.create_server(("127.0.0.1", port))
    scheme, certificate, key = "http", None, None
    if tls is not None:
        authority = Authority.create("hub's own")
        leaf = authority.issue("hub", addresses=["127.0.0.1"], server=True)
        scheme, certificate, key = "https", tls / "hub.pem", tls / "hub.key"
        certificate.write_text(leaf.certificate_pem)
        key.write_text(leaf.key_pem)
        (tls / "ca.pem").write_text(authority.certificate_pem)
    reached = replace(hub, public_url=public_url or f"{scheme}://127.0.0.1:{sock.getsockname()[1]}")
    relay = relay or Relay(reached)
    async with task_group("served") as tasks:
        tasks.start_service("relay", relay.run())
        async with Port(app.create(reached, relay=relay)).open(sock, certificate_file=certificate, key_file=key):
            yield reached


class Process:
    """The Hub's process, which may be ended and started again; `hub` is the same Hub by its public URL."""

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub
        self._port = 0
        self._stack = AsyncExitStack()

    async def start(self) -> "Hub":
        self.hub = await self._stack.enter_async_context(served(self.hub, port=self._port))
        self._port = port_of(self.hub)
        return self.hub

    async def stop(self) -> None:
        await self._stack.aclose()


def port_of(hub: "Hub") -> int:
    return int(hub.public_url.rpartition(":")[2])


@dataclass(frozen=True)
class Organization:
    """An organization, and its owner."""

    hub: "Hub"
    id: str
    owner: Asker

    async def act(self, work: Any, user: Asker | None = None) -> Any:
        """Do `work(session, member)` as a member."""
        from codezero.hub import organizations

        asker = user or self.owner

        async def done(session: "AsyncSession") -> Any:
            return await work(session, await organizations.member(session, self.id, asker.user))

        return await self.hub.database.run(done)

    async def new_space(self, name: str = "shop") -> "Invited":
        from codezero.hub.spaces import teamspaces

        async def work(session: "AsyncSession", acting: "Member") -> "Invited":
            return await teamspaces.create(session, self.hub, acting, name)

        return await self.act(work)

    async def space(self, space: str) -> "Space":
        from codezero.hub.storage.tables import Space

        async with self.hub.database.reading() as session:
            return await session.get_one(Space, space)

    async def do(self, function: Any, space: str, **options: Any) -> Any:
        """Call one of the functions about Teamspaces, as the owner."""

        async def work(session: "AsyncSession", acting: "Member") -> Any:
            return await function(session, self.hub, acting, space, **options)

        return await self.act(work)

    async def audit(self, prefix: str = "") -> list[Any]:
        """The audit's entries whose action begins so, oldest first."""
        from sqlalchemy import select

        from codezero.hub.storage.tables import AuditEntry

        async with self.hub.database.reading() as session:
            found = await session.scalars(
                select(AuditEntry).where(AuditEntry.organization_id == self.id).order_by(AuditEntry.number)
            )
            return [one for one in found.all() if one.action.startswith(prefix)]

    async def actions(self, prefix: str = "") -> list[str]:
        return [one.action for one in await self.audit(prefix)]


async def new_tenant(hub: "Hub", name: str = "Acme") -> Organization:
    organization = await new_organization(hub, name)
    return Organization(hub, organization, await new_person(hub, "Olga", {organization: Role.OWNER}))


def install(cluster: "ServingCluster", hub: "Hub", token: str | None, *, address: str | None = "198.51.100.7") -> None:
    """What `helm install` with `hub.url` makes, as far as joining goes, and the Secret with the token."""
    if cluster.store.find("namespaces", "", NAMESPACE) is None:
        cluster.add_namespace(NAMESPACE)
    made = objects.objects(Values(hub=HubValues(url="https://hub.example.com")))
    wanted = {("Secret", SECRET[2]), ("ConfigMap", POLICY[2]), ("Service", ENTRY[2])}
    for one in made:
        if (one["kind"], one["metadata"]["name"]) in wanted:
            cluster.store.create(f"{one['kind'].lower()}s", NAMESPACE, one)
    if token is not None:
        bring_token(cluster, token)
    if address is not None:
        give_address(cluster, address)


def bring_token(cluster: "ServingCluster", token: str) -> None:
    data = {"token": base64.b64encode(f"{token}\n".encode()).decode()}
    if cluster.store.find(*JOIN) is None:
        content = {"metadata": {"name": JOIN[2], "namespace": NAMESPACE}, "type": "Opaque", "data": data}
        cluster.store.create(*JOIN[:2], content)
    else:
        cluster.store.patch(*JOIN, {"data": data})


def give_address(cluster: "ServingCluster", address: str) -> None:
    cluster.store.patch(*ENTRY, {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}, subresource="status")


def held(cluster: "ServingCluster") -> dict[str, str]:
    """What the identity Secret holds."""
    return identity.secret_content(cluster.store.get(*SECRET).content)


def policy(cluster: "ServingCluster") -> dict[str, str]:
    """What the policy's ConfigMap holds."""
    return cluster.store.get(*POLICY).content.get("data", {})


def token_left(cluster: "ServingCluster") -> str | None:
    found = cluster.store.find(*JOIN)
    return None if found is None else identity.secret_content(found.content).get("token")


def membership(cluster: "ServingCluster", hub: "Hub | HubAddress", **options: Any) -> Membership:
    address = hub if isinstance(hub, HubAddress) else address_of(hub.public_url)
    return Membership(options.pop("api", cluster.api), address, namespace=NAMESPACE, **options)


def renewal(cluster: "ServingCluster", member: Membership) -> Renewal:
    return Renewal(cluster.api, namespace=NAMESPACE, identities=Watched(None), membership=member)
