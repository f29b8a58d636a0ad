"""A cluster in which services are served, with its API on loopback and its controllers in the process.

EndpointSlices lag behind, and pods become ready one after the other: both happen in `catch_up`, so a System that does not wait for them shows. The
data plane is played: Routers have applied a plan after the next moment.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from codezero.deploy.objects import serves_definition
from codezero.kit import certificates
from codezero.kit.certificates import Authority
from codezero.kit.tasks import task_group
from codezero.model.ids import TeamspaceId, new_ulid
from codezero.model.services import ServiceRef
from codezero.sandbox.api import MASTERS, ApiServer, Event, Options, Store, Stored, User, bootstrap
from codezero.sandbox.endpoints import Endpoints
from codezero.sandbox.workloads import keep_workloads
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.client import ApiClient, PatchKind, from_kubeconfig
from codezero.system.serving import naming
from codezero.system.serving.enabled import EnabledNamespaces
from codezero.system.serving.manifests import RouterSettings, Trust, labels_of, owner_of
from codezero.system.serving.reconciler import Reconciler
from codezero.system.serving.serves import Serves
from codezero.system.serving.steps import Gone, Wait
from codezero.wire.serve_resource import (
    API_VERSION,
    FINALIZER,
    GROUP,
    KIND,
    PLURAL,
    Route,
    RouteCondition,
    RoutePort,
    sealed,
)

Json = dict[str, Any]

SEAL_KEY = b"s" * 32
SERVES = f"{PLURAL}.{GROUP}"
TEAM = Options(manager="kubectl-client-side-apply")
CLUSTER_START = 1_800_000_000.0


class KilledError(BaseException):
    """The System dies here."""


@dataclass
class Deaths:
    """Counts writes and dies at one of them. `before` or after it was done."""

    at: int = 0
    before: bool = True
    writes: int = 0

    async def around(self, write: Callable[[], Any]) -> bytes:
        """Do a write, or die."""
        self.writes += 1
        dies = self.writes == self.at
        if dies and self.before:
            raise KilledError
        result: bytes = await write()
        if dies:
            raise KilledError
        return result


class MortalApi:
    """An `ApiClient` whose owner may die at a write."""

    def __init__(self, api: ApiClient, deaths: Deaths) -> None:
        self._api = api
        self._deaths = deaths

    def __getattr__(self, name: str) -> object:
        return getattr(self._api, name)

    async def create(self, path: str, body: Json) -> bytes:
        """As the client's."""
        return await self._deaths.around(lambda: self._api.create(path, body))

    async def replace(self, path: str, body: Json) -> bytes:
        """As the client's."""
        return await self._deaths.around(lambda: self._api.replace(path, body))

    async def patch(self, path: str, body: object, *, kind: PatchKind) -> bytes:
        """As the client's."""
        return await self._deaths.around(lambda: self._api.patch(path, body, kind=kind))

    async def delete(self, path: str, **preconditions: Any) -> None:
        """As the client's."""
        await self._deaths.around(lambda: self._api.delete(path, **preconditions))


@dataclass
class ServingCluster:
    """The cluster, and the moment it is in it (`now`, UNIX seconds)."""

    store: Store
    server: ApiServer
    api: ApiClient
    kubeconfig: Path
    now: float = CLUSTER_START
    settings: RouterSettings = field(default_factory=lambda: RouterSettings(image="router", linger=20.0, drain=5.0))
    trust: Trust = field(default_factory=lambda: Trust(TeamspaceId(new_ulid()), "PEM"))
    ended: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _addresses: int = 10
    _not_ready: list[Stored] = field(default_factory=list[Stored])
    _endpoints: "LateEndpoints | None" = None

    def __post_init__(self) -> None:
        self._endpoints = LateEndpoints(self.store)
        self.store.listen(self._hear_pod, "pods")

    async def run_endpoints(self) -> None:
        """Keep EndpointSlices, late."""
        assert self._endpoints is not None
        await self._endpoints.run()

    async def catch_up(self, *, pods: int = 1) -> None:
        """Slices show what there is now; then so many pods become ready."""
        await settled()
        assert self._endpoints is not None
        self._endpoints.catch_up()
        for _ in range(min(pods, len(self._not_ready))):
            self._make_ready(self._not_ready.pop(0))
        await settled()

    def clock(self) -> float:
        """The moment."""
        return self.now

    def add_namespace(self, name: str) -> None:
        """A namespace."""
        self.store.create("namespaces", "", {"metadata": {"name": name}})

    def add_service(self, ref: ServiceRef, *, pods: int = 2, **spec: Any) -> None:
        """A Service whose pods exist, as its team applies it."""
        self.add_deployment(ref.namespace, ref.name, {"app": ref.name}, pods=pods)
        self.store.create("services", ref.namespace, self.manifest(ref, **spec), TEAM)

    def add_deployment(self, namespace: str, name: str, labels: dict[str, str], *, pods: int = 2) -> None:
        """Pods with these labels."""
        container = {"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}]}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": pods, "selector": {"matchLabels": labels}, "template": template}
        self.store.create("deployments.apps", namespace, {"metadata": {"name": name}, "spec": spec}, TEAM)

    @staticmethod
    def manifest(ref: ServiceRef, **spec: Any) -> Json:
        """The team's manifest of a Service."""
        ports = [{"name": "web", "port": 80, "targetPort": "http"}]
        return {"metadata": {"name": ref.name}, "spec": {"selector": {"app": ref.name}, "ports": ports, **spec}}

    def apply(self, ref: ServiceRef, **spec: Any) -> None:
        """The team applies its manifest again."""
        self.store.patch("services", ref.namespace, ref.name, self.manifest(ref, **spec), options=TEAM)

    def service(self, ref: ServiceRef) -> Json:
        """A Service as it is."""
        return self.store.get("services", ref.namespace, ref.name).content

    def deployment(self, ref: ServiceRef) -> Json:
        """The Router's Deployment."""
        return self.store.get("deployments.apps", ref.namespace, naming.router_of(ref).name).content

    def selector(self, ref: ServiceRef) -> Json:
        """Its selector."""
        return self.service(ref)["spec"]["selector"]

    def serve(self, ref: ServiceRef, *routes: Route | Json, **metadata: Any) -> None:
        """Write a Serve object as an order does; `metadata` replaces parts of it."""
        uid = self.service(ref)["metadata"]["uid"]
        content = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": ref.name,
                "finalizers": [FINALIZER],
                "labels": labels_of(ref),
                "ownerReferences": [owner_of(ref, uid)],
                **metadata,
            },
            "spec": {"service": ref.name, "routes": _as_json(routes)},
        }
        self.store.create(SERVES, ref.namespace, content)

    def set_routes(self, ref: ServiceRef, *routes: Route | Json) -> None:
        """Replace the routes of a Serve object."""
        self.store.patch(SERVES, ref.namespace, ref.name, {"spec": {"routes": _as_json(routes)}})

    def route(self, ref: ServiceRef, **changes: Any) -> Route:
        """A route by the System."""
        content: Json = {
            "user": new_ulid(),
            "user_name": "Ann",
            "condition": RouteCondition("header", "x-who", "ann"),
            "ports": (RoutePort(3000, 80),),
            "id": new_ulid(),
            "session": "session",
            "since": int(self.now * 1000),
            "expires": self.now + 8 * 3600,
            **changes,
        }
        return sealed(Route(**content), service_uid=self.service(ref)["metadata"]["uid"], key=SEAL_KEY)

    def status(self, ref: ServiceRef) -> Json:
        """The status of a Serve object; empty where there is none."""
        found = self.store.find(SERVES, ref.namespace, ref.name)
        return {} if found is None else found.content.get("status", {})

    def apply_plans(self, ref: ServiceRef) -> None:
        """Routers have applied the newest plan."""
        found = self.store.find(SERVES, ref.namespace, ref.name)
        if found is None:
            return
        revision, status = found.content["metadata"]["generation"], self.status(ref)
        if status.get("routerConfig", {}).get("revision") == revision:
            return
        routes = {one["id"]: one for one in status.get("routes", ())}
        for one in found.content["spec"].get("routes", ()):
            if "id" in one:
                routes[one["id"]] = {"id": one["id"], **routes.get(one["id"], {}), "applied": True}
        patch = {"status": {"routerConfig": {"revision": revision}, "routes": list(routes.values())}}
        self.store.patch(SERVES, ref.namespace, ref.name, patch, subresource="status")

    def hold(self, ref: ServiceRef, *routes: Route) -> None:
        """The laptops of these routes are there."""
        statuses = [{"id": one.id, "holder": "10.0.0.7:8801"} for one in routes]
        self.store.patch(SERVES, ref.namespace, ref.name, {"status": {"routes": statuses}}, subresource="status")

    def ours(self, namespace: str) -> list[str]:
        """Everything in a namespace that bears our mark, Serve objects aside."""
        return [
            f"{resource} {stored.name}"
            for resource in (
                "deployments.apps",
                "services",
                "serviceaccounts",
                "networkpolicies.networking.k8s.io",
                "poddisruptionbudgets.policy",
            )
            for stored in self.store.list(resource, namespace)
            if stored.content["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "codezero"
        ]

    def ready_pods(self, namespace: str, selector: Json) -> int:
        """How many ready pods a selector chooses."""
        return sum(
            selector.items() <= pod.content["metadata"].get("labels", {}).items() and _is_ready(pod.content)
            for pod in self.store.list("pods", namespace)
        )

    def endpoints(self, ref: ServiceRef) -> set[str]:
        """The ready addresses of a Service, as its slices show them."""
        return {
            endpoint["addresses"][0]
            for one in self.store.list("endpointslices.discovery.k8s.io", ref.namespace)
            if one.content["metadata"]["labels"].get("kubernetes.io/service-name") == ref.name
            for endpoint in one.content["endpoints"]
            if endpoint["conditions"]["ready"]
        }

    def reconciler(self, deaths: Deaths | None = None, *, leads: Callable[[], bool] = lambda: True) -> Reconciler:
        """A System that knows nothing yet."""
        serves = Serves(Inventory(), self.api, clock=self.clock)
        serves.set_key(SEAL_KEY)
        api: Any = self.api if deaths is None else MortalApi(self.api, deaths)
        return Reconciler(
            api,
            Inventory(),
            serves,
            settings=self.settings,
            namespace="codezero",
            enabled=EnabledNamespaces(frozenset({"*"})),
            trust=lambda: self.trust,
            ended=lambda _, variant, reason: self.ended.append((variant.variant_id, reason)),
            leads=leads,
            clock=self.clock,
        )

    async def drive(self, reconciler: Reconciler, ref: ServiceRef, until: Callable[[], bool]) -> None:
        """Let a System work, a second each time it waits, until something holds. Raises `AssertionError` when it never does."""
        step: Wait | Gone = Gone()
        for _ in range(400):
            step = await reconciler.settle(ref)
            await self.catch_up()
            self.apply_plans(ref)
            if until():
                return
            self.now += 1
        raise AssertionError(f"{ref} came to rest: {step}, {self.status(ref)}")

    async def settle_pods(self, ref: ServiceRef) -> None:
        """Wait until the Service's own pods are there."""
        while not self.endpoints(ref):
            await self.catch_up(pods=99)

    def is_active(self, ref: ServiceRef) -> bool:
        """Whether a service is served."""
        return self.status(ref).get("state") == "active" and naming.is_switched(self.selector(ref), ref)

    def is_gone(self, ref: ServiceRef) -> bool:
        """Whether nothing is left of a serve."""
        return self.store.find(SERVES, ref.namespace, ref.name) is None and not self.ours(ref.namespace)

    def _hear_pod(self, event: Event) -> None:
        if event.type == "ADDED":
            self._not_ready.append(event.stored)

    def _make_ready(self, pod: Stored) -> None:
        found = self.store.find("pods", pod.namespace, pod.name)
        if found is None:
            return
        self._addresses += 1
        content = found.copy()
        content["status"] = {
            "phase": "Running",
            "podIP": f"10.244.{self._addresses // 250}.{self._addresses % 250 + 1}",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.store.update("pods", pod.namespace, content, subresource="status")


class LateEndpoints(Endpoints):
    """The controller of EndpointSlices, which acts only when told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._late: dict[tuple[str, str], None] = {}

    def look_at(self, namespace: str, name: str) -> None:
        """Later."""
        self._late[namespace, name] = None

    def catch_up(self) -> None:
        """Now."""
        while self._late:
            namespace, name = next(iter(self._late))
            del self._late[namespace, name]
            super().look_at(namespace, name)


def _as_json(routes: tuple[Route | Json, ...]) -> list[Json]:
    return msgspec.json.decode(msgspec.json.encode(routes))


async def settled() -> None:
    """Let the controllers do what there is to do."""
    for _ in range(30):
        await asyncio.sleep(0)


def _is_ready(pod: Json) -> bool:
    return any(one.get("type") == "Ready" for one in pod.get("status", {}).get("conditions", ()))


@asynccontextmanager
async def serving_cluster(folder: Path) -> AsyncGenerator[ServingCluster]:
    """A cluster with nothing in it, and a client with all rights."""
    store = Store()
    bootstrap(store)
    store.create("customresourcedefinitions.apiextensions.k8s.io", "", serves_definition())
    authority = Authority.create("cluster")
    leaf = authority.issue("api", addresses=["127.0.0.1"], server=True)
    tls = certificates.server_context(leaf, client_roots=authority.certificate_pem, require_client=False)
    server = ApiServer(store, tls=tls, tokens={"token": User("system", frozenset({MASTERS}))})
    async with server.listening("127.0.0.1", 0) as port, task_group("controllers") as tasks:
        kubeconfig = _kubeconfig(folder, port, authority)
        api = from_kubeconfig(kubeconfig)
        cluster = ServingCluster(store, server, api, kubeconfig)
        tasks.start_service("endpoints", cluster.run_endpoints())
        tasks.start_service("workloads", keep_workloads(store))
        await settled()
        try:
            yield cluster
        finally:
            await api.close()


def _kubeconfig(folder: Path, port: int, authority: Authority) -> Path:
    roots = b64encode(authority.certificate_pem.encode()).decode()
    content = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": roots}}
        ],
        "users": [{"name": "u", "user": {"token": "token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return file
