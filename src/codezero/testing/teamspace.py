"""A Teamspace's real System and Orchestrator in one process over loopback, with identities made for the occasion and an inventory told by hand."""

import asyncio
import base64
import json
import random
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.access import AnyPolicy, Bundle, allow_all
from codezero.model.ids import Device, SessionId, TeamspaceId, Workload, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import PortPair
from codezero.orchestrator import main as orchestrator_main
from codezero.orchestrator import settings as orchestrator_settings
from codezero.system import main as system_main
from codezero.system import settings as system_settings
from codezero.system.serving.serves import Serves
from codezero.testing.kubernetes import (
    FilledInventory,
    endpoint_json,
    namespace_json,
    node_json,
    service_json,
    slice_json,
)
from codezero.testing.serves import RouterEnd, ServeStore, as_api
from codezero.transport import tunnel
from codezero.transport.messages import MessageStream
from codezero.transport.tunnel import Acceptor, ClientTunnel, Timing, TunnelStream
from codezero.wire import policy_file
from codezero.wire.coordination import (
    PROTOCOL_VERSIONS,
    ActivityHappened,
    CatalogDelta,
    CatalogSnapshot,
    ConsumeDecisions,
    DaemonHello,
    FromDaemon,
    PresenceChanged,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    ToDaemon,
    Traced,
    TraceWanted,
    Welcome,
)
from codezero.wire.open_header import OpenHeader, StreamKind

INSTALL = "hub.test"

_TO_DAEMON: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)


@dataclass(frozen=True)
class Authorities:
    """All that signs for one Teamspace, and who is known in it. `root` is the Hub's, above `parts`, where there is one."""

    teamspace: TeamspaceId = field(default_factory=lambda: TeamspaceId(new_ulid()))
    organization: str = field(default_factory=new_ulid)
    devices: Authority = field(default_factory=lambda: Authority.create("devices"))
    parts: Authority = field(default_factory=lambda: Authority.create("parts"))
    token_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    seal_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    root: Authority | None = None

    @staticmethod
    def of_a_hub() -> "Authorities":
        """Those whose authority a Hub has signed, for its own names alone."""
        root, key, teamspace = Authority.create("hub"), certificates.new_key(), TeamspaceId(new_ulid())
        names = (f"{teamspace.lower()}.spaces.codezero.io", "codezero", "svc", "svc.cluster.local")
        signed = root.sign_authority(key.public_key(), "parts", uri_host=f"{teamspace.lower()}.codezero", dns=names)
        return Authorities(teamspace, parts=Authority(Credentials(key, (signed,))), root=root)

    @property
    def server_name(self) -> str:
        """The TLS name of the exposed port."""
        return f"{self.teamspace.lower()}.spaces.codezero.io"

    def device(self, *, organization: str | None = None) -> Device:
        """A new laptop of a new user."""
        return Device(INSTALL, organization or self.organization, new_ulid(), new_ulid())

    def laptop(self, device: Device, *, lifetime: timedelta = timedelta(hours=1)) -> Credentials:
        """Credentials of a laptop."""
        return self.devices.issue("laptop", uris=[str(device)], lifetime=lifetime, client=True)

    def part(self, role: str, *, teamspace: TeamspaceId | None = None) -> Credentials:
        """Credentials of a part of the Teamspace, or of another one that the same authority signed for."""
        names = [self.server_name] if role == "system" else [f"{role}.codezero", f"{role}.codezero.svc"]
        uri = str(Workload(teamspace or self.teamspace, role))
        return self.parts.issue(role, uris=[uri], dns=names, server=True, client=True)

    def write(self, folder: Path, role: str) -> None:
        """The files of the identity folder of a part."""
        own = self.part(role)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("tls.crt", own.certificate_pem),
            ("tls.key", own.key_pem),
            ("ca.crt", self.parts.certificate_pem),
            ("device-issuer.crt", self.devices.certificate_pem),
            ("jwks.json", json.dumps({"keys": [self.public_key()]})),
        ):
            (folder / name).write_text(content)
        if role == "system":
            (folder / "ca.key").write_text(self.parts.credentials.key_pem)
            (folder / "seal.key").write_text(self.seal_key.hex())
            if self.root is not None:
                (folder / "root.crt").write_text(self.root.certificate_pem)

    def claims(self, device: Device, **changes: object) -> dict[str, Any]:
        """The claims of a good token; None drops one."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": f"https://{device.install}",
            "sub": str(device),
            "aud": self.teamspace,
            "org": device.organization,
            "iat": now,
            "exp": now + 600,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def public_key(self) -> dict[str, str]:
        """The Hub's key as JWK."""
        public = _base64(self.token_key.public_key().public_bytes_raw())
        return {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": "key-1", "use": "sig", "alg": "EdDSA"}

    def token(self, device: Device, **changes: object) -> str:
        """A token by the Hub's key."""
        parts = ({"alg": "EdDSA", "typ": "JWT", "kid": "key-1"}, self.claims(device, **changes))
        signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_base64(self.token_key.sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that this process was not given before.

    Below the range from which the kernel gives ports to connections, or one of those may have it before the server that it is for.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        _given.add(port)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


class Coordination:
    """What a Daemon does with its coordination stream: keeps the picture it is told. `heard` counts messages by kind."""

    def __init__(self, stream: MessageStream[FromDaemon, ToDaemon]) -> None:
        self.stream = stream
        self.welcome: Welcome | None = None
        self.catalog: dict[str, Any] = {}
        self._parts: dict[str, Any] = {}
        self.revision = 0
        self.known = False
        self.stale_since: float | None = None
        self.presences: dict[str, Any] = {}
        self.activities: list[Any] = []
        self.decisions: list[ConsumeDecisions] = []
        self.answers: dict[int, ServeAnswer] = {}
        self.traced: list[Traced] = []
        self._number = 0
        self.heard: dict[str, int] = {}

    async def hear(self) -> None:
        """Take messages until the stream ends; raises what ended it."""
        while True:
            self._take(await self.stream.receive())

    async def serve(self, service: ServiceRef, **wish: Any) -> ServeAnswer:
        """Ask to serve (fields of `ServeWanted`; port 80 for the laptop's user where none are given); gives the answer."""
        self._number += 1
        fields: dict[str, Any] = {"condition": (), "ports": (PortPair(80, 3000),), **wish}
        await self.stream.send(ServeWanted(self._number, service, **fields))
        return await self._answer(self._number)

    async def end(self, service: ServiceRef, *variants: str, reason: str = "") -> ServeAnswer:
        """Ask to end variants; gives the answer."""
        self._number += 1
        await self.stream.send(ServeEnding(self._number, service, variants, reason))
        return await self._answer(self._number)

    async def trace(self, *, on: bool = True) -> None:
        """Want to be told of requests, or not any longer; `traced` has what is told."""
        await self.stream.send(TraceWanted(on))

    async def _answer(self, number: int) -> ServeAnswer:
        await self.until(lambda it: number in it.answers)
        return self.answers[number]

    async def until(self, holds: Callable[["Coordination"], object], *, within: float = 20.0) -> None:
        """Take messages until `holds(self)`; raises TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            while not holds(self):
                self._take(await self.stream.receive())

    def _take(self, message: ToDaemon) -> None:
        name = type(message).__name__
        self.heard[name] = self.heard.get(name, 0) + 1
        match message:
            case Welcome():
                self.welcome = message
            case CatalogSnapshot():
                self._parts = {} if message.part == 0 else self._parts
                self._parts |= {str(service.ref): service for service in message.services}
                self.stale_since = message.stale_since
                if message.last:
                    self.catalog, self.known, self.revision = self._parts, True, message.revision
            case CatalogDelta():
                self.catalog |= {str(service.ref): service for service in message.upserts}
                for ref in message.removes:
                    self.catalog.pop(str(ref), None)
                self.revision, self.stale_since = message.revision, message.stale_since
            case PresenceChanged():
                self.presences = {} if message.reset else self.presences
                self.presences |= {presence.session: presence for presence in message.presences}
            case ActivityHappened():
                self.activities += message.activities
            case ConsumeDecisions():
                self.decisions.append(message)
            case ServeAnswer():
                self.answers[message.number] = message
            case Traced():
                self.traced.append(message)
            case _:
                pass


def _refuse(header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
    raise CodezeroError(problems.STREAM_KIND_UNKNOWN, f"this laptop takes no {header.kind}")


@dataclass
class RealTeamspace:
    """A Teamspace whose parts can be started and stopped one by one. `folder` holds its mounted files.

    The System looks for the Orchestrator at `orchestrator_host`: an address, or the name of a Service (`list_orchestrators`).
    """

    folder: Path
    authorities: Authorities = field(default_factory=Authorities)
    inventory: FilledInventory = field(default_factory=FilledInventory)
    port: int = field(default_factory=free_port)
    routers_port: int = field(default_factory=free_port)
    orchestrator_port: int = field(default_factory=free_port)
    orchestrator_host: str = "127.0.0.1"
    # Further settings of both parts.
    extra: Mapping[str, str] = field(default_factory=dict[str, str])
    probes: Mapping[str, int] = field(default_factory=lambda: {"system": free_port(), "orchestrator": free_port()})

    store: ServeStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = ServeStore(self.inventory, key=self.authorities.seal_key)
        for role in ("system", "orchestrator"):
            self.authorities.write(self.folder / role, role)
        self.write_policy(allow_all(self.authorities.organization))
        self.inventory.put(namespace_json("shop"), node_json("node", "192.0.2.10"))
        self.inventory.synced()

    def write_policy(self, policy: AnyPolicy | bytes | None) -> None:
        """Replace the policy file as a ConfigMap mount does; None removes it."""
        folder = self.folder / "policy"
        folder.mkdir(exist_ok=True)
        if policy is None:
            (folder / "policy.json").unlink()
            return
        if isinstance(policy, Bundle):
            policy = replace(policy, space=self.authorities.teamspace)
        fresh = folder / "fresh"
        fresh.write_bytes(policy if isinstance(policy, bytes) else policy_file.encode(policy))
        fresh.rename(folder / "policy.json")

    def offer(
        self, name: str, port: int, *, protocol: str = "TCP", address: str = "127.0.0.1", ready: bool = True
    ) -> None:
        """A service `shop/<name>` on port 80 with one endpoint."""
        self.inventory.put(
            service_json(name, ports=({"port": 80, "protocol": protocol},)),
            slice_json(
                name,
                endpoints=[endpoint_json(address, ready=ready)],
                ports=({"name": "", "port": port, "protocol": protocol},),
            ),
        )

    def list_orchestrators(self, *hosts: str, ending: Sequence[str] = ()) -> None:
        """The Service `codezero/orchestrator` has an Orchestrator at each of these addresses, and one that still serves but ends at others."""
        self.orchestrator_host = "orchestrator.codezero.svc"
        port = {"name": "coordination", "port": self.orchestrator_port, "protocol": "TCP"}
        ready = [endpoint_json(host, ready=True, serving=True, terminating=False) for host in hosts]
        leaving = [endpoint_json(host, ready=False, serving=True, terminating=True) for host in ending]
        self.inventory.put(
            service_json("orchestrator", "codezero", clusterIP="None", ports=(port,)),
            slice_json("orchestrator", "codezero", endpoints=[*ready, *leaving], ports=(port,)),
        )

    def environment(self, role: str, *, host: str = "127.0.0.1") -> dict[str, str]:
        """The settings of a part that listens at `host`."""
        port = self.port if role == "system" else self.orchestrator_port
        return {
            "CODEZERO_LISTEN": f"{host}:{port}",
            "CODEZERO_ROUTERS_LISTEN": f"127.0.0.1:{self.routers_port}",
            "CODEZERO_POD_IP": "127.0.0.1",
            "CODEZERO_PROBES": f"{host}:{self.probes[role]}",
            "CODEZERO_ORCHESTRATOR": f"{self.orchestrator_host}:{self.orchestrator_port}",
            "CODEZERO_IDENTITY_FOLDER": str(self.folder / role),
            "CODEZERO_POLICY_FOLDER": str(self.folder / "policy"),
            "CODEZERO_ALLOWED_NETWORKS": str(IPv4Network("127.0.0.0/8")),
            "CODEZERO_LOG_FORMAT": "text",
            **self.extra,
        }

    @asynccontextmanager
    async def orchestrator(self, host: str = "127.0.0.1") -> AsyncGenerator[None]:
        """An Orchestrator runs at `host`."""
        wanted = orchestrator_settings.from_environment(self.environment("orchestrator", host=host))
        stop = asyncio.Event()
        async with task_group("test") as tasks:
            task = tasks.start("orchestrator", orchestrator_main.run(wanted, stop=stop))
            try:
                await _listening(self.orchestrator_port, task, host=host)
                yield
            finally:
                stop.set()

    @asynccontextmanager
    async def system(self) -> AsyncGenerator[None]:
        """The System runs, on the inventory told by hand and the Serve objects in `store`."""
        wanted = system_settings.from_environment(self.environment("system"))
        stop = asyncio.Event()
        async with task_group("test") as tasks:
            api = as_api(self.store)
            serves = self.store.follow(Serves(self.inventory, api))
            running = system_main.serve(wanted, self.inventory, stop=stop, serves=serves, reviewer=api)
            task = tasks.start("system", running)
            try:
                await _listening(self.port, task)
                await _listening(self.routers_port, task)
                yield
            finally:
                stop.set()

    @asynccontextmanager
    async def system_alone(self) -> AsyncGenerator["RealTeamspace"]:
        """The System runs, and has an Orchestrator to look for in vain."""
        async with self.system():
            yield self

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["RealTeamspace"]:
        """Both run."""
        async with self.orchestrator(), self.system():
            yield self

    async def connect(
        self,
        device: Device,
        *,
        session: SessionId | None = None,
        credentials: Credentials | None = None,
        timing: Timing | None = None,
        acceptor: Acceptor = _refuse,
    ) -> ClientTunnel:
        """A laptop's tunnel; the caller ends it with `abandon`."""
        return await tunnel.connect_tunnel(
            "127.0.0.1",
            self.port,
            context=certificates.client_context(
                roots=self.authorities.parts.certificate_pem, credentials=credentials or self.authorities.laptop(device)
            ),
            server_name=self.authorities.server_name,
            release="test",
            acceptor=acceptor,
            session=session,
            timing=timing,
        )

    @property
    def router(self) -> RouterEnd:
        """The end of a Router of this Teamspace."""
        return RouterEnd(self.routers_port, authority=self.authorities.parts, teamspace=self.authorities.teamspace)

    async def coordinate(
        self, through: ClientTunnel, *, name: str = "laptop", resume: Coordination | None = None
    ) -> Coordination:
        """The coordination of a laptop, after its hello; with `resume` it goes on where that one stopped."""
        reader, writer = await through.open_stream(OpenHeader(StreamKind.ORCHESTRATOR))
        stream: MessageStream[FromDaemon, ToDaemon] = MessageStream(reader, writer, _TO_DAEMON)
        coordination = Coordination(stream)
        epoch, revision = None, 0
        if resume is not None and resume.welcome is not None:
            epoch, revision = resume.welcome.epoch, resume.revision
            coordination.catalog, coordination.revision = dict(resume.catalog), resume.revision
        try:
            await stream.send(DaemonHello(PROTOCOL_VERSIONS, "test", name, epoch, revision))
            await coordination.until(lambda picture: picture.welcome is not None)
        except BaseException:
            stream.close()
            raise
        return coordination


async def _listening(port: int, task: asyncio.Task[None], *, host: str = "127.0.0.1") -> None:
    """Wait until the port takes connections."""
    async with asyncio.timeout(20):
        while True:
            if task.done():
                task.result()
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@asynccontextmanager
async def echo_server(greeting: bytes = b"", *, address: str = "127.0.0.1") -> AsyncGenerator[int]:
    """A TCP server on loopback that greets, sends back what comes, and ends when its client has; gives its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(greeting)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the client went away
        finally:
            writer.close()

    server = await asyncio.start_server(echo, address, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
