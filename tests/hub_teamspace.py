"""A whole Teamspace of a real Hub in one process: the sandbox's API server, its controllers and the kubelet's mounts played, System and Orchestrator real."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from tests import hub_spaces
from tests.hub_api import Asker, new_person
from tests.hub_spaces import NAMESPACE, Organization, held, policy

from codezero.kit import certificates
from codezero.kit.certificates import Credentials
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role
from codezero.model.services import ServiceRef
from codezero.orchestrator import main as orchestrator_main
from codezero.orchestrator import settings as orchestrator_settings
from codezero.system import main as system_main
from codezero.system import settings as system_settings
from codezero.testing.kubernetes import endpoint_json, slice_json
from codezero.testing.serving import ServingCluster
from codezero.testing.teamspace import Coordination, free_port
from codezero.transport import tunnel
from codezero.transport.device_proof import jwk_of, thumbprint
from codezero.transport.messages import MessageStream
from codezero.transport.tunnel import ClientTunnel, TunnelStream
from codezero.wire.coordination import PROTOCOL_VERSIONS, DaemonHello, FromDaemon, ToDaemon
from codezero.wire.open_header import OpenHeader, StreamKind

if TYPE_CHECKING:
    from codezero.hub.spaces.access import Access, Token

ORDERS = ServiceRef("shop", "orders")
# No stream leads to the API server, which is at 127.0.0.1.
ECHO = "127.0.0.9"
_FILES = {
    "system": {
        "system.crt": "tls.crt",
        "system.key": "tls.key",
        **{name: name for name in ("ca.crt", "ca.key", "seal.key", "device-issuer.crt", "jwks.json", "root.crt")},
    },
    "orchestrator": {"orchestrator.crt": "tls.crt", "orchestrator.key": "tls.key", "ca.crt": "ca.crt"},
}


@dataclass
class Laptop:
    """A person of the organization, and the machine they have signed in at."""

    asker: Asker
    key: ec.EllipticCurvePrivateKey

    @property
    def csr(self) -> str:
        return certificates.certificate_request(self.key)


@dataclass
class HubTeamspace:
    """The cluster's parts, of which each may be started and stopped."""

    tenant: Organization
    cluster: ServingCluster
    folder: Path
    space: str
    port: int = field(default_factory=free_port)
    routers_port: int = field(default_factory=free_port)
    orchestrator_port: int = field(default_factory=free_port)
    orchestrator_place: str = "127.0.0.1"
    mounted: dict[Path, str] = field(default_factory=dict[Path, str])
    writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])

    @property
    def hub(self) -> Any:
        return self.tenant.hub

    def environment(self, role: str, *, host: str = "127.0.0.1", probes: int | None = None) -> dict[str, str]:
        listen = self.port if role == "system" else self.orchestrator_port
        return {
            "CODEZERO_LISTEN": f"{host}:{listen}",
            "CODEZERO_ROUTERS_LISTEN": f"127.0.0.1:{self.routers_port}",
            "CODEZERO_PROBES": f"{host}:{probes or free_port()}",
            "CODEZERO_ORCHESTRATOR": f"{self.orchestrator_place}:{self.orchestrator_port}",
            "CODEZERO_IDENTITY_FOLDER": str(self.folder / role),
            "CODEZERO_POLICY_FOLDER": str(self.folder / "policy"),
            "CODEZERO_ALLOWED_NETWORKS": "127.0.0.0/8",
            "CODEZERO_KUBECONFIG": str(self.cluster.kubeconfig),
            "CODEZERO_POD": "system-0",
            "CODEZERO_POD_IP": "127.0.0.1",
            "CODEZERO_ROUTER_LINGER": "0",
            "CODEZERO_ROUTER_DRAIN": "0",
            "CODEZERO_SERVE_NAMESPACES": "*",
            "CODEZERO_HUB_URL": self.hub.public_url,
            "CODEZERO_LOG_FORMAT": "text",
        }

    # --- the cluster's part ------------------------------------------------------------------------------------------------------------

    def mount(self) -> None:
        """What the kubelet does within two minutes."""
        content = held(self.cluster)
        for role, files in _FILES.items():
            for name, file in files.items():
                self._write(self.folder / role / file, content.get(name))
        self._write(self.folder / "policy" / "policy.json", policy(self.cluster).get("policy.json"))

    def _write(self, path: Path, text: str | None) -> None:
        if text is None or self.mounted.get(path) == text:
            return
        self.mounted[path] = text
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(text)
        fresh.rename(path)

    @asynccontextmanager
    async def world(self) -> AsyncGenerator[None]:
        """Controllers, kubelet and Routers go on."""

        async def go_on() -> None:
            while True:
                await self.cluster.catch_up()
                self.cluster.apply_plans(ORDERS)
                self.mount()
                await asyncio.sleep(0.01)

        async with task_group("world") as tasks:
            tasks.start_service("cluster", go_on())
            yield

    def offer(self, name: str, port: int) -> None:
        """A service `shop/<name>` on port 80 with one endpoint on loopback."""
        spec = {"ports": [{"port": 80, "protocol": "TCP"}]}
        self.cluster.store.create("services", "shop", {"metadata": {"name": name}, "spec": spec})
        endpoints = slice_json(
            name,
            endpoints=[endpoint_json(ECHO, ready=True)],
            ports=({"name": "", "port": port, "protocol": "TCP"},),
        )
        endpoints["metadata"] = {
            "name": name,
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        }
        self.cluster.store.create("endpointslices.discovery.k8s.io", "shop", endpoints)

    def list_orchestrators(self, *hosts: str) -> None:
        """The Orchestrators there are, as the cluster shows them."""
        self.orchestrator_place = f"orchestrator.{NAMESPACE}.svc"
        port = {"name": "coordination", "port": self.orchestrator_port, "protocol": "TCP"}
        endpoints = slice_json(
            "orchestrator",
            NAMESPACE,
            endpoints=[endpoint_json(host, ready=True, serving=True, terminating=False) for host in hosts],
            ports=(port,),
        )
        endpoints["metadata"] = {
            "name": "orchestrator",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "orchestrator"},
        }
        if self.cluster.store.find("services", NAMESPACE, "orchestrator") is None:
            spec = {"clusterIP": "None", "ports": [port]}
            content = {"metadata": {"name": "orchestrator"}, "spec": spec}
            self.cluster.store.create("services", NAMESPACE, content)
            self.cluster.store.create("endpointslices.discovery.k8s.io", NAMESPACE, endpoints)
        else:
            patch = {"endpoints": endpoints["endpoints"]}
            self.cluster.store.patch("endpointslices.discovery.k8s.io", NAMESPACE, "orchestrator", patch)

    # --- ours --------------------------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def system(self) -> AsyncGenerator[asyncio.Event]:
        """A System, until the event or the end of the block."""
        stop = asyncio.Event()
        async with task_group("test") as tasks:
            wanted = system_settings.from_environment(self.environment("system"))
            tasks.start("system", system_main.run(wanted, stop=stop))
            try:
                yield stop
            finally:
                stop.set()

    @asynccontextmanager
    async def orchestrator(self, host: str = "127.0.0.1") -> AsyncGenerator[asyncio.Event]:
        """An Orchestrator at `host`, until the event or the end of the block."""
        stop = asyncio.Event()
        async with task_group("test") as tasks:
            wanted = orchestrator_settings.from_environment(self.environment("orchestrator", host=host))
            tasks.start("orchestrator", orchestrator_main.run(wanted, stop=stop))
            try:
                yield stop
            finally:
                stop.set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["HubTeamspace"]:
        """All of it, joined and connected."""
        async with self.world(), self.orchestrator(), self.system():
            await self.until_connected()
            yield self

    async def until(self, holds: Callable[[], Any], *, within: float = 30.0) -> None:
        """Until something holds, which may be asked of the Hub's database."""
        async with asyncio.timeout(within):
            while True:
                found = holds()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.05)

    async def is_connected(self) -> bool:
        from codezero.hub.spaces import teamspaces

        row = await self.tenant.space(self.space)
        return teamspaces.is_connected(row, self.hub.clock()) and row.host is not None

    async def until_connected(self) -> None:
        await self.until(self.is_connected)

    # --- people ------------------------------------------------------------------------------------------------------------------------

    async def laptop(self, name: str = "Ann", role: Role = Role.DEVELOPER) -> Laptop:
        """A member who has signed in at a machine."""
        from codezero.hub.storage.tables import Device

        asker, key = await new_person(self.hub, name, {self.tenant.id: role}), certificates.new_key()

        async def work(session: Any) -> None:
            device = await session.get_one(Device, asker.device)
            device.thumbprint = thumbprint(jwk_of(key.public_key()))

        await self.hub.database.run(work)
        await self.until_known(asker)
        return Laptop(asker, key)

    async def until_known(self, member: Asker) -> None:
        """Tell everybody of a member who was put into the database, and wait until the Teamspace knows them."""
        from codezero.hub import changes

        async def work(session: Any) -> None:
            await changes.tell(session, self.hub, "member", organization=self.tenant.id, what=member.user)

        await self.hub.database.run(work)
        await self.until(lambda: member.user in policy(self.cluster).get("policy.json", ""))

    async def access(self, laptop: Laptop) -> "Access":
        from codezero.hub.spaces import access

        return await self.tenant.act(
            lambda session, acting: access.access(
                session, self.hub, acting, self.space, device=laptop.asker.device or "", csr=laptop.csr
            ),
            laptop.asker,
        )

    async def token(self, user: Asker, speaker: str) -> "Token":
        from codezero.hub.spaces import access

        return await self.tenant.act(
            lambda session, acting: access.token(session, self.hub, acting, self.space, speaker=speaker), user
        )

    @asynccontextmanager
    async def tunnel(self, laptop: Laptop) -> AsyncGenerator[ClientTunnel]:
        """The laptop's tunnel, by what the Hub gave it."""
        access = await self.access(laptop)
        credentials = Credentials.from_pem(access.certificate, _pem(laptop.key))
        context = certificates.client_context(roots=access.roots, credentials=credentials)
        made: ClientTunnel | None = None
        async with asyncio.timeout(30):
            while made is None:
                try:
                    made = await tunnel.connect_tunnel(
                        "127.0.0.1",
                        self.port,
                        context=context,
                        server_name=f"{self.space.lower()}.spaces.codezero.io",
                        release="test",
                        acceptor=_refuse,
                    )
                except (OSError, CodezeroError):
                    await asyncio.sleep(0.05)
        try:
            yield made
        finally:
            for writer in self.writers:
                writer.close()
            made.abandon()

    async def coordinate(self, through: ClientTunnel, name: str = "laptop") -> Coordination:
        """The laptop's coordination, when it knows the catalog."""
        import msgspec

        decoder: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)
        async with asyncio.timeout(30):
            while True:
                reader, writer = await through.open_stream(OpenHeader(StreamKind.ORCHESTRATOR))
                self.writers.append(writer)
                stream: MessageStream[FromDaemon, ToDaemon] = MessageStream(reader, writer, decoder)
                picture = Coordination(stream)
                try:
                    await stream.send(DaemonHello(PROTOCOL_VERSIONS, "test", name, user_name=name))
                    await picture.until(lambda one: "shop/orders" in one.catalog)
                    return picture
                except (CodezeroError, EOFError):
                    stream.close()
                    await asyncio.sleep(0.1)

    async def consume(self, through: ClientTunnel, target: str = "shop/echo:80") -> tuple[Any, Any]:
        """A stream to a service that sends back what it gets, tried until it works."""
        async with asyncio.timeout(30):
            while True:
                try:
                    reader, writer = await through.open_stream(OpenHeader(StreamKind.CONSUME, target))
                    self.writers.append(writer)
                    writer.write(b"hello")
                    assert await reader.readexactly(5) == b"hello"
                    return reader, writer
                except (CodezeroError, OSError, EOFError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.05)

    def context(self) -> ssl.SSLContext:
        """TLS to the CONNECT door, by the Hub's root alone."""
        return certificates.client_context(roots=self.hub.authorities.root_pem, protocols=["http/1.1"])


def _refuse(header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
    raise CodezeroError(problems.STREAM_KIND_UNKNOWN, f"this laptop takes no {header.kind}")


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


async def new_teamspace(tenant: Organization, cluster: ServingCluster, folder: Path) -> HubTeamspace:
    """A Teamspace that has been made at the Hub and installed in a cluster, and has not begun to run."""
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token, address="127.0.0.1")
    if cluster.store.find("namespaces", "", "shop") is None:
        cluster.add_namespace("shop")
        cluster.add_service(ORDERS)
        await cluster.settle_pods(ORDERS)
    return HubTeamspace(tenant, cluster, folder, invited.space.id)
