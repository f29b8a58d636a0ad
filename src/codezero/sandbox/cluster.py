"""The stand-in cluster: API server, controllers, node, name server, and the Teamspace installed in it."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import msgspec
import yaml

from codezero.deploy import identity
from codezero.deploy import objects as teamspace
from codezero.deploy.access import JOIN
from codezero.deploy.manifest import Release, manifest
from codezero.deploy.values import EVERY_NAMESPACE, Hub, Orchestrator, Router, Serving, System, Values
from codezero.kit import logs
from codezero.kit.certificates import Authority, server_context
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout, name_server
from codezero.sandbox.api import MASTERS, ApiError, ApiServer, JsonObject, Options, Store, bootstrap
from codezero.sandbox.api.documents import as_object, at
from codezero.sandbox.api.workloads import lasting_statuses
from codezero.sandbox.cluster_dns import ClusterNames
from codezero.sandbox.control import PodView
from codezero.sandbox.endpoints import SLICES, SliceIndex, keep_endpoints
from codezero.sandbox.hub import SandboxHub
from codezero.sandbox.identities import Identities
from codezero.sandbox.kubelet import Kubelet
from codezero.sandbox.pods import Node
from codezero.sandbox.proxy import keep_services_reachable
from codezero.sandbox.workloads import DEPLOYMENTS, STATEFUL_SETS, is_ready, keep_workloads

AUTHORITY_LIFETIME = timedelta(days=365)

# One node, and people who wait for it: one of each is enough here.
TEAMSPACE_VALUES = Values(
    system=System(replicas=1),
    orchestrator=Orchestrator(replicas=1),
    router=Router(replicas=1),
    serve=Serving((EVERY_NAMESPACE,)),
)

_WEB_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{layout.DOMAIN}")
_OPTIONS = Options(manager="codezero-sandbox")
_log = logs.get_logger("cluster")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running cluster."""

    store: Store
    server: ApiServer
    kubelet: Kubelet

    def install(self, manifests: Iterator[JsonObject]) -> None:
        """Apply manifests, in order, as `kubectl apply --server-side` would."""
        for one in manifests:
            self.apply(one)

    def apply(self, manifest: JsonObject) -> None:
        """Apply one object; raises `CodezeroError` naming it."""
        kind = self.store.types.of_kind(str(manifest.get("apiVersion")), str(manifest.get("kind")))
        name = str(at(manifest, "metadata", "name"))
        if kind is None:
            raise _not_installed(manifest, "the sandbox does not know this kind")
        namespace = str(at(manifest, "metadata", "namespace") or "default") if kind.namespaced else ""
        try:
            self.store.patch(kind, namespace, name, manifest, patch_kind="apply", options=_OPTIONS, force=True)
        except ApiError as error:
            raise _not_installed(manifest, error.message) from None

    async def ready(self, namespace: str) -> None:
        """Wait until all workloads of a namespace are ready."""
        changed = asyncio.Event()
        end = self.store.listen(lambda _: changed.set())
        try:
            while not all(_is_complete(self.store, namespace)):
                changed.clear()
                await changed.wait()
        finally:
            end()

    def unready(self, namespace: str) -> str:
        """What is missing in a namespace, and why, for people."""
        found: list[str] = []
        for pod in self.store.list("pods", namespace):
            if not is_ready(pod.content):
                reasons = [
                    f"{waiting.get('reason')}: {waiting.get('message', '')}"
                    for status in lasting_statuses(pod.content)
                    if (waiting := as_object(at(status, "state", "waiting")))
                ]
                found.append(f"{pod.name} ({'; '.join(reasons) or at(pod.content, 'status', 'phase')})")
        return ", ".join(found) or "no pod"

    def pods(self) -> tuple[PodView, ...]:
        """All pods, as people see them."""
        return tuple(
            PodView(
                namespace=pod.namespace,
                name=pod.name,
                ready=is_ready(pod.content),
                phase=_phase(pod.content),
                address=at(pod.content, "status", "podIP") or "",
                restarts=sum(status.get("restartCount", 0) for status in lasting_statuses(pod.content)),
            )
            for pod in self.store.list("pods")
        )

    def requests(self) -> dict[str, int]:
        """How many requests the API server has answered, by verb and resource, over the time it remembers."""
        totals: dict[str, int] = {}
        for entry in self.server.requests.counts():
            name = f"{entry['verb']} {entry['resource']}"
            totals[name] = totals.get(name, 0) + entry["count"]
        return totals


@asynccontextmanager
async def running(log_folder: Path) -> AsyncGenerator[Cluster, None]:
    """The cluster, in the network namespace this process is in, while the block lasts."""
    authority = Authority.create("codezero sandbox cluster", lifetime=AUTHORITY_LIFETIME)
    store = Store(service_network=layout.SERVICE_NETWORK)
    bootstrap(store, address=layout.API_SERVICE_ADDRESS, endpoint=(layout.NODE_ADDRESS, layout.API_PORT))
    leaf = authority.issue(
        "kube-apiserver",
        dns=[*_WEB_NAMES, "localhost", layout.NODE_NAME],
        addresses=[layout.API_SERVICE_ADDRESS, layout.NODE_ADDRESS, "127.0.0.1"],
        lifetime=AUTHORITY_LIFETIME,
        server=True,
    )
    tls = server_context(leaf, client_roots=authority.certificate_pem, require_client=False)
    logs_of_pods = _Logs()
    server = ApiServer(store, tls=tls, pod_logs=logs_of_pods)
    kubelet = Kubelet(store, Node(log_folder, server.tokens.issue, authority.certificate_pem))
    logs_of_pods.kubelet = kubelet
    index = SliceIndex(store)
    _announce_names(store)
    _write_kubeconfig(authority)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.listening("0.0.0.0", layout.API_PORT))
        datagrams, listener = name_server.bound_sockets(layout.POD_GATEWAY)
        names = ClusterNames(store, index)
        await stack.enter_async_context(name_server.serving(names.answer, datagrams=datagrams, listener=listener))
        tasks = await stack.enter_async_context(task_group("cluster"))
        tasks.start_service("workloads", keep_workloads(store))
        tasks.start_service("endpoints", keep_endpoints(store))
        tasks.start_service("proxy", keep_services_reachable(store, index))
        tasks.start_service("kubelet", kubelet.run())
        yield Cluster(store, server, kubelet)


class _Logs:
    """`kubectl logs` for a server that is made before the kubelet."""

    kubelet: Kubelet

    def __call__(self, request: Any) -> Any:  # noqa: ANN401 - as the API server has it
        return self.kubelet.read_log(request)


def install_teamspace(cluster: Cluster, identities: Identities) -> None:
    """Install a Teamspace, with the Secret and ConfigMap that a Hub would provide; its System renews the certificates."""
    namespace = layout.TEAMSPACE_NAMESPACE
    cluster.apply(teamspace.namespace_of(namespace))
    # What pods mount comes before them.
    cluster.apply(identity.secret_object(identities.secret(), namespace=namespace))
    cluster.apply(identity.policy_object(identities.policy(), namespace=namespace))
    for one in teamspace.objects(
        TEAMSPACE_VALUES, namespace=layout.TEAMSPACE_NAMESPACE, release=Release(manager="codezero-sandbox")
    ):
        cluster.apply(one)


def install_joining_teamspace(cluster: Cluster, hub: SandboxHub) -> None:
    """Install a Teamspace that joins the Hub by itself, as `czctl teamspace install --hub` does."""
    namespace = layout.TEAMSPACE_NAMESPACE
    values = msgspec.structs.replace(TEAMSPACE_VALUES, hub=Hub(layout.HUB_URL, hub.process.authority.certificate_pem))
    cluster.apply(teamspace.namespace_of(namespace))
    cluster.apply(
        manifest("v1", "Secret", JOIN, component="codezero", namespace=namespace, stringData={"token": hub.join_token})
    )
    for one in teamspace.objects(values, namespace=namespace, release=Release(manager="codezero-sandbox")):
        cluster.apply(one)


def write_access_files(identities: Identities) -> None:
    """Give the developers their access files."""
    for user in identities.users:
        file = layout.ACCESS_FOLDER / f"{user}.json"
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(identities.access(user)))


def sample_manifests() -> Iterator[JsonObject]:
    """The sample project's objects."""
    return documents(package_files("codezero.sandbox.sample") / "manifests")


def documents(folder: Any) -> Iterator[JsonObject]:  # noqa: ANN401 - a Traversable, which has no public type before 3.11.4
    """The objects in the manifests of a folder: in the order of its kustomization, else by name."""
    listed = folder / "kustomization.yaml"
    if listed.is_file():
        names: list[str] = yaml.safe_load(listed.read_text())["resources"]
    else:
        names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".yaml"))
    for name in names:
        for document in yaml.safe_load_all((folder / name).read_text()):
            if document:
                yield document


def _is_complete(store: Store, namespace: str) -> Iterator[bool]:
    for resource in (DEPLOYMENTS, STATEFUL_SETS):
        for found in store.list(resource, namespace):
            status = as_object(found.content.get("status"))
            current = status.get("observedGeneration", 0) >= found.content["metadata"]["generation"]
            yield current and status.get("readyReplicas", 0) >= found.content["spec"]["replicas"]


def _phase(pod: JsonObject) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for status in lasting_statuses(pod):
        reason = at(status, "state", "waiting", "reason") or at(status, "state", "terminated", "reason")
        if reason:
            return reason
    return at(pod, "status", "phase") or "Pending"


def _announce_names(store: Store) -> None:
    """The Service by which pods find the name server, as clusters have it."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
    ]
    store.create(
        "services",
        "kube-system",
        {
            "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": layout.DNS_SERVICE_ADDRESS, "ports": ports},
        },
        _OPTIONS,
    )
    store.create(
        SLICES,
        "kube-system",
        {
            "metadata": {"name": "kube-dns", "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [layout.POD_GATEWAY], "conditions": {"ready": True}}],
            "ports": [{"name": port["name"], "port": 53, "protocol": port["protocol"]} for port in ports],
        },
        _OPTIONS,
    )


def _write_kubeconfig(authority: Authority) -> None:
    admin = authority.issue("admin", organization=MASTERS, lifetime=AUTHORITY_LIFETIME, client=True)

    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [
            {
                "name": "sandbox",
                "cluster": {
                    "server": f"https://{layout.NODE_ADDRESS}:{layout.API_PORT}",
                    "certificate-authority-data": encoded(authority.certificate_pem),
                },
            }
        ],
        "users": [
            {
                "name": "admin",
                "user": {
                    "client-certificate-data": encoded(admin.certificate_pem),
                    "client-key-data": encoded(admin.key_pem),
                },
            }
        ],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "admin"}}],
    }
    layout.KUBECONFIG.touch(mode=0o600)
    layout.KUBECONFIG.write_text(yaml.safe_dump(content))


def _not_installed(manifest: JsonObject, why: str) -> CodezeroError:
    name = at(manifest, "metadata", "name")
    return CodezeroError(problems.SANDBOX_FAILED, f"{manifest.get('kind')} {name} was not installed: {why}")
