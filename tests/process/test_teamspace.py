"""System and Orchestrator as processes, against an API server with the roles of a Teamspace; killed and stopped in every way."""

import asyncio
import os
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from codezero.deploy import access, objects
from codezero.kit import certificates
from codezero.kit.certificates import Authority
from codezero.model.ids import SessionId
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.sessions import PresenceState
from codezero.sandbox.api import ApiServer, Store, User, bootstrap, services
from codezero.sandbox.cluster import TEAMSPACE_VALUES
from codezero.testing.teamspace import Coordination, RealTeamspace, echo_server
from codezero.transport.tunnel import ClientTunnel
from codezero.wire.coordination import ConsumeAssertion
from codezero.wire.open_header import OpenHeader, StreamKind

ORDERS = ServiceRef("shop", "orders")
RESOURCES = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles.rbac.authorization.k8s.io",
    "ClusterRoleBinding": "clusterrolebindings.rbac.authorization.k8s.io",
    "Role": "roles.rbac.authorization.k8s.io",
    "RoleBinding": "rolebindings.rbac.authorization.k8s.io",
}


class Processes:
    """The parts of one Teamspace, each a process of its own, and the cluster they look at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.teamspace = RealTeamspace(folder)
        self.device = self.teamspace.authorities.device()
        self.store = Store()
        bootstrap(self.store)
        for document in (objects.namespace_of("codezero"), *access.objects(TEAMSPACE_VALUES, "codezero")):
            self.store.create(RESOURCES[document["kind"]], document["metadata"].get("namespace", ""), document)
        self.store.create("namespaces", "", {"metadata": {"name": "shop"}})
        node = {
            "metadata": {"name": "node"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]},
        }
        self.store.create("nodes", "", node)
        self.running: dict[str, asyncio.subprocess.Process] = {}

    def offer(self, name: str, port: int) -> None:
        """A Service with one ready endpoint, at another address than the API server, which nobody may reach."""
        spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
        self.store.create("services", "shop", {"metadata": {"name": name}, "spec": spec})
        self.store.create(
            "endpointslices.discovery.k8s.io",
            "shop",
            {
                "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.0.0.2"], "conditions": {"ready": True}}],
                "ports": [{"name": "", "port": port, "protocol": "TCP"}],
            },
        )

    @asynccontextmanager
    async def cluster(self) -> AsyncIterator[None]:
        """The API server listens, and knows the System by a token."""
        authority = Authority.create("cluster")
        leaf = authority.issue("api", addresses=["127.0.0.1"], server=True)
        tls = certificates.server_context(leaf, client_roots=authority.certificate_pem, require_client=False)
        groups = frozenset({"system:serviceaccounts", "system:authenticated"})
        server = ApiServer(
            self.store, tls=tls, tokens={"secret": User("system:serviceaccount:codezero:system", groups)}
        )
        async with server.listening("127.0.0.1", 0) as port:
            roots = b64encode(authority.certificate_pem.encode()).decode()
            address = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": roots}
            (self.folder / "kubeconfig").write_text(
                yaml.safe_dump(
                    {
                        "clusters": [{"name": "c", "cluster": address}],
                        "users": [{"name": "u", "user": {"token": "secret"}}],
                        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                        "current-context": "x",
                    }
                )
            )
            try:
                yield
            finally:
                for role in list(self.running):
                    await self.kill(role)

    async def start(self, role: str) -> None:
        """Start a part and wait until it is ready."""
        environment = {
            "PATH": os.environ["PATH"],
            **self.teamspace.environment(role),
            "CODEZERO_KUBECONFIG": str(self.folder / "kubeconfig"),
        }
        with (self.folder / f"{role}.log").open("ab") as log:
            self.running[role] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"codezero.{role}.main", env=environment, stderr=log
            )
        async with asyncio.timeout(30):
            while b"200 OK" not in await self.ask(role, "/readyz"):
                assert self.running[role].returncode is None, self.log(role)
                await asyncio.sleep(0.05)

    async def ask(self, role: str, path: str) -> bytes:
        """The answer of a part's port for probes; empty while there is none."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.teamspace.probes[role])
        except OSError:
            return b""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: pod\r\n\r\n".encode())
        try:
            return await reader.read()
        finally:
            writer.close()

    async def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> int:
        """End a part by a signal; gives its exit code."""
        process = self.running.pop(role)
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(20):
            return await process.wait()

    def log(self, role: str) -> str:
        """What a part has logged."""
        return (self.folder / f"{role}.log").read_text()

    async def connect(self, session: SessionId | None = None) -> ClientTunnel:
        """The laptop's tunnel, as soon as it can be had."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return await self.teamspace.connect(self.device, session=session)
                except CodezeroError:
                    await asyncio.sleep(0.05)

    async def coordinate(self, tunnel: ClientTunnel, resume: Coordination | None = None) -> Coordination:
        """The laptop's coordination, as soon as it can be had."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return await self.teamspace.coordinate(tunnel, resume=resume)
                except (CodezeroError, EOFError):
                    await asyncio.sleep(0.05)


async def echo(tunnel: ClientTunnel, data: bytes) -> bytes:
    reader, writer = await tunnel.open_stream(OpenHeader(StreamKind.CONSUME, "shop/orders:80"))
    writer.write(data)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def through_the_door(processes: Processes, data: bytes) -> bytes:
    """What `shop/orders` answers to a client without a tunnel."""
    authorities = processes.teamspace.authorities
    context = certificates.client_context(roots=authorities.parts.certificate_pem, protocols=("http/1.1",))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", processes.teamspace.port, ssl=context, server_hostname=authorities.server_name
    )
    token = authorities.token(processes.device)
    writer.write(f"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {token}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 200 ")
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), 20)
    finally:
        writer.close()


@pytest.fixture
async def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Processes]:
    # Kubernetes takes no loopback addresses in EndpointSlices, and nothing else is sure to be this machine.
    monkeypatch.setattr(services, "_address_causes", lambda *_: ())
    made = Processes(tmp_path)
    async with made.cluster(), echo_server(address="127.0.0.2") as port:
        made.offer("orders", port)
        await asyncio.gather(made.start("orchestrator"), made.start("system"))
        yield made


async def test_the_parts_find_one_another_with_the_least_rights(processes: Processes) -> None:
    """The roles of the manifests are enough, and nothing is said that is not for a log."""
    tunnel = await processes.connect()
    picture = await processes.coordinate(tunnel)
    await picture.until(lambda it: "shop/orders" in it.catalog)
    await picture.stream.send(ConsumeAssertion(1, (ORDERS,)))
    await picture.until(lambda it: it.decisions)
    processes.offer("cart", 1)
    await picture.until(lambda it: "shop/cart" in it.catalog)

    assert await echo(tunnel, b"x" * 1_000_000) == b"x" * 1_000_000
    assert await through_the_door(processes, b"y" * 1_000_000) == b"y" * 1_000_000
    metrics = {role: (await processes.ask(role, "/metrics")).decode() for role in ("system", "orchestrator")}
    assert "codezero_system_tunnels 1.0" in metrics["system"]
    assert "codezero_orchestrator_laptops 1.0" in metrics["orchestrator"]
    tunnel.abandon()
    for role in ("system", "orchestrator"):
        assert await processes.kill(role, signal.SIGTERM) == 0
        assert "Traceback" not in processes.log(role)
        assert "PRIVATE" not in processes.log(role)
        assert "shop" not in metrics[role]
        assert "secret" not in processes.log(role)


async def test_a_killed_system_is_replaced_and_the_session_stays(processes: Processes) -> None:
    """R01: same session, same place in the team's list, no new snapshot."""
    tunnel = await processes.connect()
    picture = await processes.coordinate(tunnel)
    await picture.until(lambda it: "shop/orders" in it.catalog and it.presences)
    since = picture.presences[tunnel.session].since
    await processes.kill("system")
    await asyncio.wait_for(asyncio.shield(tunnel.closed), 10)
    await processes.start("system")

    again = await processes.connect(tunnel.session)
    resumed = await processes.coordinate(again, picture)
    await resumed.until(lambda it: it.presences.get(tunnel.session) is not None and it.stale_since is None)
    assert again.session == tunnel.session
    assert resumed.presences[tunnel.session].since == since
    assert resumed.presences[tunnel.session].state is PresenceState.ONLINE
    assert "CatalogSnapshot" not in resumed.heard
    assert await echo(again, b"back") == b"back"
    again.abandon()


async def test_a_killed_orchestrator_is_replaced_and_streams_go_on(processes: Processes) -> None:
    """R06: everything is told again; the bytes never stopped."""
    tunnel = await processes.connect()
    picture = await processes.coordinate(tunnel)
    await picture.until(lambda it: "shop/orders" in it.catalog)
    reader, writer = await tunnel.open_stream(OpenHeader(StreamKind.CONSUME, "shop/orders:80"))
    writer.write(b"before ")
    assert await asyncio.wait_for(reader.readexactly(7), 10) == b"before "
    await processes.kill("orchestrator")
    with pytest.raises((EOFError, CodezeroError)):
        await asyncio.wait_for(picture.hear(), 10)
    writer.write(b"without ")
    assert await asyncio.wait_for(reader.readexactly(8), 10) == b"without "
    await processes.start("orchestrator")

    again = await processes.coordinate(tunnel, picture)
    await again.until(lambda it: it.known)
    assert "shop/orders" in again.catalog
    writer.close()
    tunnel.abandon()


async def test_a_stopping_system_says_goodbye(processes: Processes) -> None:
    """SIGTERM, as Kubernetes sends it: the laptop is told to come back, and the process ends in order."""
    tunnel = await processes.connect()

    assert await processes.kill("system", signal.SIGTERM) == 0
    await asyncio.wait_for(asyncio.shield(tunnel.closed), 10)
    assert tunnel.farewell is not None
    assert tunnel.farewell.retry


async def test_a_port_that_is_taken_is_an_error_at_the_start(processes: Processes) -> None:
    """Not a process that lives and does nothing."""
    environment = {"PATH": os.environ["PATH"], **processes.teamspace.environment("orchestrator")}
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "codezero.orchestrator.main", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(second.communicate(), 20)

    assert second.returncode not in (0, None)
    assert b"in use" in said
    assert b"Traceback" not in said
