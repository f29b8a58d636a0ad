"""The System's picture of the cluster against a real API server over TLS that misbehaves in every way we know (R11, R12).

Each fault is tried on lists and on watches. While it lasts the picture is kept and called stale, and the requests of a minute are counted; pauses
are those of production, only nobody waits for them. When it ends, the picture is the truth again.
"""

import asyncio
import random
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from codezero.kit import certificates
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, Protocol, ServiceKind, ServiceRef
from codezero.sandbox.api import MASTERS, ApiServer, Fault, Store, User, bootstrap
from codezero.system.cluster import ClusterFollower
from codezero.system.endpoints import Endpoint, EndpointChooser
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.client import ApiClient, ApiError, from_kubeconfig, in_cluster
from codezero.system.kubernetes.objects import SERVICES, ServiceObject
from codezero.system.kubernetes.reflector import Reflector, Timing
from codezero.testing.kubernetes import until

SHOP = "shop"
# Pauses as in production, silences as short as a test can bear.
PATIENT = Timing(silence=0.3, settled=0.05, initial=0.3)
QUICK = Timing(silence=0.3, settled=0.05, initial=0.3, first_delay=0.01, most_delay=0.1)


@dataclass
class Cluster:
    """An API server on loopback, and how to reach it."""

    store: Store
    folder: Path
    authority: certificates.Authority = field(default_factory=lambda: certificates.Authority.create("cluster"))
    port: int = 0
    tokens: dict[str, User] = field(default_factory=lambda: {"first": User("system", frozenset({MASTERS}))})

    def __post_init__(self) -> None:
        leaf = self.authority.issue("api", addresses=["127.0.0.1"], server=True)
        tls = certificates.server_context(leaf, client_roots=self.authority.certificate_pem, require_client=False)
        self.server = ApiServer(self.store, tls=tls, tokens=self.tokens, bookmark_seconds=0.1)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with self.server.listening("127.0.0.1", self.port) as self.port:
            yield

    def client(self, user: dict[str, str] | None = None) -> ApiClient:
        file = self.folder / "kubeconfig"
        roots = b64encode(self.authority.certificate_pem.encode()).decode()
        file.write_text(
            yaml.safe_dump(
                {
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {
                                "server": f"https://127.0.0.1:{self.port}",
                                "certificate-authority-data": roots,
                            },
                        }
                    ],
                    "users": [{"name": "u", "user": user or {"token": "first"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return from_kubeconfig(file, answer_seconds=0.3)

    def add(self, name: str, port: int = 80, **spec: object) -> None:
        self.store.create(
            "services",
            SHOP,
            {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": port}], **spec}},
        )

    def set_port(self, name: str, port: int) -> None:
        self.store.patch("services", SHOP, name, {"spec": {"ports": [{"port": port}]}})

    def remove(self, name: str) -> None:
        self.store.delete("services", SHOP, name)

    def names(self) -> dict[str, int]:
        """The truth."""
        return {
            stored.content["metadata"]["name"]: stored.content["spec"]["ports"][0]["port"]
            for stored in self.store.list("services", SHOP)
        }

    def requests(self, resource: str = "services") -> int:
        return sum(entry["count"] for entry in self.server.requests.counts() if entry["resource"] == resource)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    store = Store()
    bootstrap(store)
    store.create("namespaces", "", {"metadata": {"name": SHOP}})
    cluster = Cluster(store, tmp_path)
    async with cluster.listening():
        yield cluster


class Minute:
    """A sleep that does not wait: after 60 s of pauses it holds still until released, and then really sleeps."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.is_over = asyncio.Event()
        self._released = asyncio.Event()
        self.counts = False

    async def __call__(self, seconds: float) -> None:
        if not self.counts:
            await asyncio.sleep(min(seconds, 0.02))
            return
        self.slept += seconds
        if self.slept >= 60:
            self.is_over.set()
            await self._released.wait()
        await asyncio.sleep(0)

    def begin(self) -> None:
        self.counts = True

    def release(self) -> None:
        self.counts = False
        self._released.set()


class Mirror:
    """What a reflector of services told so far."""

    def __init__(self, cluster: Cluster, client: ApiClient, *, streamed: bool) -> None:
        self.ports: dict[str, int] = {}
        self.told = 0
        self.minute = Minute()
        self.reflector = Reflector(
            client,
            SERVICES,
            self._changed,
            timing=PATIENT,
            streamed_list=streamed,
            sleep=self.minute,
            source=random.Random(3),
        )
        self._cluster = cluster

    def _changed(self, old: ServiceObject | None, new: ServiceObject | None) -> None:
        self.told += 1
        if new is not None and new.metadata.namespace == SHOP:
            self.ports[new.metadata.name] = (new.spec.ports or ())[0].port
        elif old is not None:
            self.ports.pop(old.metadata.name, None)

    @property
    def follows_the_truth(self) -> bool:
        status = self.reflector.status.value
        return status.synced and status.stale_since is None and self.ports == self._cluster.names()


@asynccontextmanager
async def mirroring(cluster: Cluster, *, streamed: bool = True) -> AsyncIterator[Mirror]:
    async with AsyncExitStack() as stack:
        client = cluster.client()
        stack.push_async_callback(client.close)
        mirror = Mirror(cluster, client, streamed=streamed)
        tasks = await stack.enter_async_context(task_group("test"))
        tasks.start_service("reflector", mirror.reflector.run())
        yield mirror


FAULTS = ["http-410", "stream-410", "eof", "rst", "silence", "cut-json", "429", "500"]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "paged"])
@pytest.mark.parametrize("phase", ["list", "watch", "any"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_survived_without_haste_and_ends_in_the_truth(
    cluster: Cluster, fault: str, phase: str, streamed: bool
) -> None:
    """Libraries stop, loop hot or silently lie here; this is what a Teamspace depends on."""
    for number in range(5):
        cluster.add(f"s{number}")
    async with mirroring(cluster, streamed=streamed) as mirror:
        await until(lambda: mirror.follows_the_truth)
        mirror.minute.begin()
        before = cluster.requests()
        cluster.server.faults.add(Fault(kind=fault, phase=phase, times=0))
        if phase == "list":
            # Lists happen only when a watch gives cause for one, again and again.
            cluster.server.faults.add(Fault(kind="stream-410", phase="watch", times=0))
        cluster.add("new")
        cluster.set_port("s1", 99)
        cluster.remove("s2")
        async with asyncio.timeout(30):
            await mirror.minute.is_over.wait()

        assert cluster.requests() - before <= 25
        assert mirror.reflector.status.value.stale_since is not None
        assert mirror.reflector.status.value.synced
        assert sum(mirror.reflector.counters.failures.values()) > 0

        cluster.server.faults.clear()
        mirror.minute.release()
        await until(lambda: mirror.follows_the_truth)
        told = mirror.told
        cluster.add("after")
        await until(lambda: mirror.follows_the_truth)
        assert mirror.told == told + 1


@pytest.mark.parametrize("phase", ["list", "watch", "any"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_at_the_very_beginning_delays_and_no_more(cluster: Cluster, fault: str, phase: str) -> None:
    """A System that starts in the middle of trouble must come up when the trouble ends."""
    cluster.add("s0")
    cluster.server.faults.add(Fault(kind=fault, phase=phase, times=3))
    async with mirroring(cluster) as mirror:
        await until(lambda: mirror.follows_the_truth)
        cluster.add("s1")
        await until(lambda: mirror.follows_the_truth)


async def test_an_api_server_that_is_away_leaves_a_stale_picture_and_is_found_again(cluster: Cluster) -> None:
    """Its update takes minutes; services stay in the catalog, marked, and changes in between are not lost (R12)."""
    cluster.add("kept")
    cluster.add("removed")
    inventory = Inventory(coalesce=0.001)
    async with AsyncExitStack() as stack:
        listening = await stack.enter_async_context(AsyncExitStack())
        other = Cluster(cluster.store, cluster.folder, authority=cluster.authority)
        await listening.enter_async_context(other.listening())
        away = other.client()
        stack.push_async_callback(away.close)
        follower = ClusterFollower(away, inventory, timing=QUICK)
        tasks = await stack.enter_async_context(task_group("test"))
        tasks.start_service("follower", follower.run())
        await until(lambda: inventory.is_synced and inventory.knows_nodes and inventory.stale_since is None)
        await listening.aclose()
        await until(lambda: inventory.stale_since is not None)
        assert inventory.get(ServiceRef(SHOP, "kept")) is not None
        cluster.remove("removed")
        cluster.add("added")
        async with other.listening():
            await until(lambda: inventory.stale_since is None)
            assert {service.ref.name for service in inventory.services()} == {"kept", "added", "kubernetes"}
            tasks.close()


async def test_a_cluster_becomes_an_inventory_with_endpoints(cluster: Cluster) -> None:
    """From objects in an API server to an address to dial, through every real part."""
    store = cluster.store
    cluster.add("orders", port=80)
    cluster.add("db", port=5432, clusterIP="None")
    store.create(
        "services",
        SHOP,
        {"metadata": {"name": "mail"}, "spec": {"type": "ExternalName", "externalName": "mail.example.com"}},
    )
    for service, address, port in (("orders", "10.244.0.5", 8080), ("db", "10.244.0.6", 5432)):
        store.create(
            "endpointslices.discovery.k8s.io",
            SHOP,
            {
                "metadata": {"name": f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "hostname": f"{service}-0"}],
                "ports": [{"name": "", "port": port, "protocol": "TCP"}],
            },
        )
    store.create("nodes", "", {"metadata": {"name": "worker-1"}})
    addresses = {"addresses": [{"type": "InternalIP", "address": "10.244.0.6"}]}
    inventory = Inventory(coalesce=0.001)
    client = cluster.client()
    chooser = EndpointChooser(inventory)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        tasks = await stack.enter_async_context(task_group("test"))
        tasks.start_service("follower", ClusterFollower(client, inventory, timing=QUICK).run())
        await until(lambda: inventory.is_synced and inventory.knows_nodes)

        assert {(service.ref.name, service.kind) for service in inventory.services()} == {
            ("orders", ServiceKind.CLUSTER_IP),
            ("db", ServiceKind.HEADLESS),
            ("mail", ServiceKind.EXTERNAL_NAME),
            ("kubernetes", ServiceKind.SELECTORLESS),
        }
        assert await chooser.choose(CatalogId.parse("shop/orders:80")) == (Endpoint("10.244.0.5", 8080),)
        assert await chooser.choose(CatalogId.parse("shop/db/db-0:5432")) == (Endpoint("10.244.0.6", 5432),)
        store.patch("nodes", "", "worker-1", {"status": addresses}, subresource="status")
        await until(lambda: inventory.node_of("10.244.0.6") == "worker-1")
        with pytest.raises(CodezeroError) as caught:
            await chooser.choose(CatalogId.parse("shop/db:5432"))
        assert caught.value.problem is problems.ADDRESS_REFUSED
        store.delete("endpointslices.discovery.k8s.io", SHOP, "orders-1")
        await until(lambda: inventory.backends(ServiceRef(SHOP, "orders"), 80, Protocol.TCP) == ())


async def test_five_thousand_changes_are_followed_and_leave_nothing_behind(cluster: Cluster) -> None:
    """Busy clusters change all day; what a System keeps must depend on what there is, not on what there was."""
    inventory = Inventory(coalesce=0.01)
    client = cluster.client()
    batches = [0]

    async def change(rounds: int) -> None:
        """A hundred services change, twenty come and twenty go in each round of five hundred."""
        for _ in range(rounds):
            for number in range(460):
                cluster.set_port(f"s{number % 100}", 1 + random.randrange(60000))
                if number % 50 == 0:
                    await asyncio.sleep(0)
            for number in range(20):
                cluster.add(f"short-{number}")
            await asyncio.sleep(0)
            for number in range(20):
                cluster.remove(f"short-{number}")
        await until(lambda: _ports(inventory) == cluster.names())

    async def listen() -> None:
        async for _ in inventory.changes():
            batches[0] += 1

    for number in range(100):
        cluster.add(f"s{number}")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        tasks = await stack.enter_async_context(task_group("test"))
        tasks.start_service("follower", ClusterFollower(client, inventory).run())
        tasks.start_service("listener", listen())
        await until(lambda: inventory.is_synced)
        before = cluster.requests()
        await change(7)
        tracemalloc.start()
        try:
            await change(1)
            early = _kept_by_the_system()
            await change(2)
            late = _kept_by_the_system()
        finally:
            tracemalloc.stop()

    assert late - early < 100_000
    assert cluster.requests() - before <= 5
    assert batches[0] < 2500
    assert len(inventory._pending) + len(inventory._backends) <= 120


def _ports(inventory: Inventory) -> dict[str, int]:
    return {
        service.ref.name: service.ports[0].port for service in inventory.services() if service.ref.namespace == SHOP
    }


def _kept_by_the_system() -> int:
    """Bytes that code of the System holds."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/codezero/system/*")])
    return sum(statistic.size for statistic in snapshot.statistics("filename"))


# --- the client -----------------------------------------------------------------------------------------------------------------------------


async def test_a_refusal_says_why(cluster: Cluster) -> None:
    """ "Forbidden" alone does not help an administrator."""
    client = cluster.client({"token": "unknown"})
    try:
        with pytest.raises(ApiError) as caught:
            await client.get("/api/v1/services", {"limit": "1"})
    finally:
        await client.close()

    assert caught.value.status == 401
    assert "HTTP 401" in str(caught.value)


async def test_a_server_with_another_certificate_is_not_spoken_to(cluster: Cluster) -> None:
    """The service account's token must not reach a stranger."""
    stranger = Cluster(cluster.store, cluster.folder)
    async with stranger.listening():
        cluster.port = stranger.port
        client = cluster.client()
        try:
            with pytest.raises(ApiError, match="certificate verify failed"):
                await client.get("/api/v1/services", {"limit": "1"})
        finally:
            await client.close()

    assert stranger.requests() == 0


async def test_a_pods_token_is_read_again_when_it_has_changed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kubelet replaces it every hour."""
    (tmp_path / "token").write_text("old")
    (tmp_path / "namespace").write_text("codezero")
    (tmp_path / "ca.crt").write_text(cluster.authority.certificate_pem)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
    client = in_cluster(tmp_path)
    try:
        with pytest.raises(ApiError):
            await client.get("/api/v1/services", {"limit": "1"})
        (tmp_path / "token").write_text("first\n")

        assert b'"items"' in await client.get("/api/v1/services", {"limit": "1"})
        assert client.host == "127.0.0.1"
    finally:
        await client.close()


async def test_a_client_certificate_inside_the_kubeconfig_is_enough(cluster: Cluster) -> None:
    """So administrators' kubeconfigs are made; the key stays off the disk."""
    admin = cluster.authority.issue("admin", client=True, organization=MASTERS)
    user = {
        "client-certificate-data": b64encode(admin.certificate_pem.encode()).decode(),
        "client-key-data": b64encode(admin.key_pem.encode()).decode(),
    }
    client = cluster.client(user)
    try:
        assert b'"items"' in await client.get("/api/v1/services", {"limit": "1"})
    finally:
        await client.close()


async def test_a_client_without_rights_says_so_and_waits(cluster: Cluster) -> None:
    """Missing RBAC is an everyday mistake at installation; it must show, not flood."""
    cluster.tokens["weak"] = User("nobody")
    server = ApiServer(
        cluster.store,
        tls=certificates.server_context(cluster.authority.issue("api", addresses=["127.0.0.1"], server=True)),
        tokens=cluster.tokens,
    )
    async with server.listening("127.0.0.1", 0) as cluster.port, AsyncExitStack() as stack:
        client = cluster.client({"token": "weak"})
        stack.push_async_callback(client.close)
        inventory = Inventory()
        follower = ClusterFollower(client, inventory, timing=QUICK)
        tasks = await stack.enter_async_context(task_group("test"))
        tasks.start_service("follower", follower.run())
        await until(lambda: all(item.counters.failures.get("HTTP 403", 0) > 1 for item in follower.reflectors))

    assert not inventory.is_synced
    assert inventory.stale_since is not None
