"""The sandbox's API server under a real kubectl: whatever people type at a cluster works here too."""

import asyncio
import base64
import json
import os
import sysconfig
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from codezero.kit.certificates import Authority, Credentials, server_context
from codezero.sandbox.api import ApiServer, LogRequest, Store, bootstrap

Json = dict[str, Any]
KUBECTL = Path(sysconfig.get_path("scripts")) / "kubectl"

MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop, labels: {app: orders}}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec:
      containers:
      - name: web
        image: orders:1
        ports: [{containerPort: 8080, name: http}]
        env: [{name: A, value: b}]
        resources: {limits: {cpu: 1, memory: 64Mi}}
        readinessProbe: {httpGet: {port: http}}
        volumeMounts: [{name: settings, mountPath: /etc/settings}]
      volumes:
      - name: settings
        configMap: {name: settings}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {a: b}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, labels: {app: orders}}
spec:
  selector: {app: orders}
  ports: [{port: 80, targetPort: http, name: http}, {port: 81, name: admin}]
"""

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: serves.codezero.io}
spec:
  group: codezero.io
  scope: Namespaced
  names: {plural: serves, kind: Serve, shortNames: [sv]}
  versions:
  - name: v1beta1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Service, type: string, jsonPath: .spec.service}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [service]
            properties:
              service: {type: string, description: The service that is served.}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


@dataclass(frozen=True)
class Output:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        return json.loads(self.out)


Run = Callable[..., Awaitable[Output]]


@dataclass
class Cluster:
    store: Store
    server: ApiServer
    authority: Authority
    port: int
    folder: Path

    def config_for(self, credentials: Credentials) -> Path:
        """A kubeconfig; kubectl is another process, so the key has to stand in a file of the test's own folder."""

        def encoded(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        user = {
            "client-certificate-data": encoded(credentials.certificate_pem),
            "client-key-data": encoded(credentials.key_pem),
        }
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority-data": encoded(self.authority.certificate_pem),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path = self.folder / f"kubeconfig-{credentials.chain[0].serial_number}"
        path.write_text(yaml.safe_dump(content))
        return path


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async def logs(request: LogRequest) -> AsyncGenerator[bytes]:
        yield f"lines of {request.container} in {request.pod}, {request.tail}\n".encode()

    authority = Authority.create("test cluster")
    store = Store()
    bootstrap(store)
    context = server_context(
        authority.issue("api", addresses=["127.0.0.1"], server=True),
        client_roots=authority.certificate_pem,
        require_client=False,
    )
    server = ApiServer(store, tls=context, pod_logs=logs)
    async with server.listening("127.0.0.1", 0) as port:
        yield Cluster(store, server, authority, port, tmp_path)


@pytest.fixture
def kubectl(cluster: Cluster) -> Run:
    admin = cluster.config_for(cluster.authority.issue("admin", client=True, organization="system:masters"))
    return as_user(admin)


def as_user(config: Path) -> Run:
    async def run(*arguments: str, given: str | None = None) -> Output:
        process = await start(config, *arguments)
        async with asyncio.timeout(60):
            out, err = await process.communicate(given.encode() if given is not None else None)
        return Output(process.returncode or 0, out.decode(), err.decode())

    return run


async def start(config: Path, *arguments: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "HOME": str(config.parent), "KUBECONFIG": str(config)}
    return await asyncio.create_subprocess_exec(
        KUBECTL,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


@pytest.fixture
async def shop(kubectl: Run) -> Run:
    """kubectl in a namespace with a Deployment, a Service and a ConfigMap."""
    applied = await kubectl("apply", "-f", "-", given=MANIFESTS)
    assert applied.code == 0, applied.err

    async def in_namespace(*arguments: str, given: str | None = None) -> Output:
        return await kubectl("-n", "shop", *arguments, given=given)

    return in_namespace


async def test_apply_is_idempotent(kubectl: Run, shop: Run) -> None:
    """A second apply that says "configured" would mean that our defaults differ from a cluster's."""
    again = await kubectl("apply", "-f", "-", given=MANIFESTS)

    assert again.code == 0, again.err
    assert {line.rpartition(" ")[2] for line in again.out.splitlines()} == {"unchanged"}


async def test_apply_changes_and_removes(kubectl: Run, shop: Run) -> None:
    changed = MANIFESTS.replace(", {port: 81, name: admin}", "").replace("value: b", "value: c")

    applied = await kubectl("apply", "-f", "-", given=changed)
    service = (await shop("get", "service", "orders", "-o", "json")).json
    deployment = (await shop("get", "deployment", "orders", "-o", "json")).json

    assert "service/orders configured" in applied.out
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "c"}]


async def test_server_side_apply_knows_owners(kubectl: Run, shop: Run) -> None:
    mine = MANIFESTS.replace("selector: {app: orders}\n  ports", "selector: {app: mine}\n  ports")

    first = await kubectl("apply", "--server-side", "-f", "-", given=MANIFESTS)
    refused = await kubectl("apply", "--server-side", "--field-manager=me", "-f", "-", given=mine)
    forced = await kubectl("apply", "--server-side", "--field-manager=me", "--force-conflicts", "-f", "-", given=mine)
    service = (await shop("get", "service", "orders", "-o", "json", "--show-managed-fields")).json

    assert first.code == 0, first.err
    assert "conflict" in refused.err
    assert ".spec.selector" in refused.err
    assert forced.code == 0, forced.err
    assert service["spec"]["selector"] == {"app": "mine"}
    assert "me" in {entry["manager"] for entry in service["metadata"]["managedFields"]}


async def test_get_shows_tables(shop: Run) -> None:
    wide = await shop("get", "services", "-o", "wide")
    everything = await shop("get", "all", "-A")
    names = await shop("get", "svc,deploy,cm", "-o", "name")
    selected = await shop("get", "svc", "-l", "app=orders", "--no-headers")
    by_field = await shop("get", "svc", "--field-selector", "metadata.name=nothing")
    sorted_by = await shop("get", "cm", "--sort-by=.metadata.name", "-o", "custom-columns=N:.metadata.name")

    assert wide.out.splitlines()[0].split() == [
        "NAME",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
        "AGE",
        "SELECTOR",
    ]
    assert "80/TCP,81/TCP" in wide.out
    assert "deployment.apps/orders" in everything.out
    assert names.out.split() == ["service/orders", "deployment.apps/orders", "configmap/settings"]
    assert selected.out.startswith("orders")
    assert "No resources found" in by_field.err
    assert sorted_by.out.split() == ["N", "settings"]


async def test_large_lists_come_in_pages(cluster: Cluster, kubectl: Run) -> None:
    cluster.store.create("namespaces", "", {"metadata": {"name": "many"}})
    for number in range(25):
        cluster.store.create("configmaps", "many", {"metadata": {"name": f"c{number}"}})

    listed = await kubectl("-n", "many", "get", "configmaps", "--chunk-size=10", "-o", "name")

    assert len(listed.out.split()) == 25
    assert sum(entry["count"] for entry in cluster.server.requests.counts() if entry["resource"] == "configmaps") == 3


async def test_describe_reads_well(shop: Run) -> None:
    service = await shop("describe", "service", "orders")
    deployment = await shop("describe", "deployment", "orders")
    namespace = await shop("describe", "namespace", "shop")

    assert "TargetPort:               http/TCP" in service.out
    assert "Image:      orders:1" in deployment.out
    assert "Status:       Active" in namespace.out


async def test_three_patches(shop: Run) -> None:
    strategic = await shop(
        "patch",
        "deploy",
        "orders",
        "-p",
        '{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"orders:2"}]}}}}',
    )
    merge = await shop("patch", "svc", "orders", "--type=merge", "-p", '{"metadata":{"labels":{"x":"y"}}}')
    json_patch = await shop(
        "patch", "svc", "orders", "--type=json", "-p", '[{"op":"replace","path":"/spec/ports/0/port","value":8088}]'
    )
    status = await shop(
        "patch", "deploy", "orders", "--subresource=status", "--type=merge", "-p", '{"status":{"replicas":1}}'
    )
    service = (await shop("get", "svc", "orders", "-o", "json")).json
    deployment = (await shop("get", "deploy", "orders", "-o", "json")).json

    assert [result.code for result in (strategic, merge, json_patch, status)] == [0, 0, 0, 0]
    assert service["metadata"]["labels"] == {"app": "orders", "x": "y"}
    assert service["spec"]["ports"][0]["port"] == 8088
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "orders:2"
    assert deployment["status"]["replicas"] == 1


async def test_create_of_every_usual_kind(shop: Run) -> None:
    """These commands send protobuf."""
    for arguments in (
        ("configmap", "c", "--from-literal=a=b"),
        ("secret", "generic", "s", "--from-literal=a=b"),
        ("deployment", "d", "--image=x:1", "--port=80", "--replicas=2"),
        ("service", "clusterip", "c1", "--tcp=80:8080"),
        ("service", "nodeport", "c2", "--tcp=80:http"),
        ("service", "externalname", "c3", "--external-name=www.example"),
        ("serviceaccount", "robot"),
        ("role", "r", "--verb=get,list", "--resource=pods,services"),
        ("rolebinding", "r", "--role=r", "--serviceaccount=shop:robot"),
        ("clusterrole", "cr", "--verb=*", "--resource=deployments.apps"),
        ("clusterrolebinding", "cr", "--clusterrole=cr", "--user=ann"),
        ("poddisruptionbudget", "p", "--min-available=50%", "--selector=a=b"),
        ("ingress", "i", "--rule=www.example/x=orders:80"),
        ("namespace", "other"),
        ("token", "robot"),
    ):
        created = await shop("create", *arguments)
        assert created.code == 0, (arguments, created.err)

    again = await shop("create", "configmap", "c")
    rules = (await shop("get", "ingress", "i", "-o", "json")).json["spec"]["rules"]
    replicas = (await shop("get", "deploy", "d", "-o", "json")).json["spec"]["replicas"]

    assert "already exists" in again.err
    assert rules[0]["http"]["paths"][0]["backend"]["service"] == {"name": "orders", "port": {"number": 80}}
    assert replicas == 2


async def test_edit_replace_label_annotate_set_expose_run(shop: Run, tmp_path: Path) -> None:
    service = (await shop("get", "svc", "orders", "-o", "json")).json
    service["spec"]["ports"][0]["port"] = 8081
    replaced = await shop("replace", "-f", "-", given=json.dumps(service))
    stale = await shop("replace", "-f", "-", given=json.dumps(service))
    labelled = await shop("label", "svc", "orders", "tier=web")
    annotated = await shop("annotate", "svc", "orders", "note=hello")
    image = await shop("set", "image", "deploy/orders", "web=orders:3")
    exposed = await shop("expose", "deployment", "orders", "--name=more", "--port=90")
    ran = await shop("run", "one", "--image=x:1", "--", "sleep", "1")

    assert [result.code for result in (replaced, labelled, annotated, image, exposed, ran)] == [0] * 6
    assert "the object has been modified" in stale.err


async def test_scale_wait_and_rollout(cluster: Cluster, shop: Run) -> None:
    scaled = await shop("scale", "deploy", "orders", "--replicas=3")
    restarted = await shop("rollout", "restart", "deploy/orders")
    waiting = asyncio.ensure_future(shop("rollout", "status", "deploy/orders", "--timeout=30s"))
    found = cluster.store.get("deployments.apps", "shop", "orders").content
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 3)
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "conditions": [{"type": "Available", "status": "True"}],
        **counts,
    }
    cluster.store.patch("deployments.apps", "shop", "orders", {"status": status}, subresource="status")
    rolled_out = await waiting
    available = await shop("wait", "--for=condition=Available", "deploy/orders", "--timeout=30s")
    by_path = await shop("wait", "--for=jsonpath={.spec.replicas}=3", "deploy/orders", "--timeout=30s")

    assert scaled.code == restarted.code == 0
    assert "successfully rolled out" in rolled_out.out
    assert available.code == by_path.code == 0


async def test_watch_follows(cluster: Cluster, shop: Run) -> None:
    config = next(cluster.folder.glob("kubeconfig-*"))
    process = await start(config, "-n", "shop", "get", "svc", "-w", "-o", "name")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            first = await process.stdout.readline()
            cluster.store.create("services", "shop", {"metadata": {"name": "late"}, "spec": {"ports": [{"port": 1}]}})
            second = await process.stdout.readline()
    finally:
        process.terminate()
        await process.wait()

    assert (first, second) == (b"service/orders\n", b"service/late\n")


async def test_deletion_in_all_its_ways(cluster: Cluster, shop: Run, kubectl: Run) -> None:
    owner = cluster.store.get("deployments.apps", "shop", "orders")
    reference = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "orders",
        "uid": owner.uid,
        "blockOwnerDeletion": True,
    }
    body = {"metadata": {"name": "owned", "ownerReferences": [reference]}}
    cluster.store.create("configmaps", "shop", body)

    foreground = await shop("delete", "deploy", "orders", "--cascade=foreground")
    again = await shop("delete", "deploy", "orders", "--ignore-not-found")
    missing = await shop("delete", "deploy", "orders")
    selected = await shop("delete", "svc", "-l", "app=orders")
    namespace = await kubectl("delete", "namespace", "shop")

    assert foreground.code == again.code == selected.code == namespace.code == 0
    assert 'deployments.apps "orders" not found' in missing.err
    assert cluster.store.find("configmaps", "shop", "owned") is None
    assert cluster.store.find("namespaces", "", "shop") is None


async def test_orphans_are_left(cluster: Cluster, shop: Run) -> None:
    owner = cluster.store.get("deployments.apps", "shop", "orders")
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": owner.uid}
    cluster.store.create("configmaps", "shop", {"metadata": {"name": "kept", "ownerReferences": [reference]}})

    deleted = await shop("delete", "deploy", "orders", "--cascade=orphan")

    assert deleted.code == 0
    assert cluster.store.find("configmaps", "shop", "kept") is not None


async def test_bad_manifests_are_explained(shop: Run) -> None:
    bad = await shop(
        "apply",
        "-f",
        "-",
        given="apiVersion: v1\nkind: Service\nmetadata: {name: 9bad}\nspec: {ports: [{port: 99999}]}",
    )
    unknown = await shop(
        "apply", "-f", "-", given="apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prots: []}"
    )
    kind = await shop("apply", "-f", "-", given="apiVersion: v1\nkind: Unicorn\nmetadata: {name: x}")

    assert "a DNS-1035 label must consist of" in bad.err
    assert "spec.ports[0].port: Invalid value: 99999" in bad.err
    assert 'unknown field "spec.prots"' in unknown.err
    assert "no matches for kind" in kind.err


async def test_dry_run_and_diff(shop: Run) -> None:
    dry = await shop("create", "configmap", "dry", "--dry-run=server", "-o", "yaml")
    missing = await shop("get", "configmap", "dry")
    diff = await shop("diff", "-f", "-", given=MANIFESTS.replace("port: 81", "port: 82"))

    assert "name: dry" in dry.out
    assert missing.code == 1
    assert "+  - name: admin" in diff.out or "82" in diff.out


async def test_custom_kinds(kubectl: Run, shop: Run) -> None:
    defined = await kubectl("apply", "-f", "-", given=DEFINITION)
    established = await kubectl("wait", "--for=condition=Established", "crd/serves.codezero.io", "--timeout=30s")
    body = "apiVersion: codezero.io/v1beta1\nkind: Serve\nmetadata: {name: one}\nspec: {service: orders}"
    applied = await shop("apply", "-f", "-", given=body)
    again = await shop("apply", "-f", "-", given=body)
    listed = await shop("get", "sv")
    refused = await shop("apply", "-f", "-", given=body.replace("orders", "5"))
    explained = await kubectl("explain", "serves.spec.service")
    removed = await kubectl("delete", "crd", "serves.codezero.io")
    gone = await shop("get", "sv")

    assert [result.code for result in (defined, established, applied, again, removed)] == [0] * 5
    assert "unchanged" in again.out
    assert listed.out.split()[:5] == ["NAME", "SERVICE", "AGE", "one", "orders"]
    assert "spec.service" in refused.err
    assert "The service that is served." in explained.out
    assert gone.code == 1


async def test_discovery_and_explanations(kubectl: Run) -> None:
    resources = await kubectl("api-resources", "--no-headers")
    versions = await kubectl("api-versions")
    version = await kubectl("version")
    service = await kubectl("explain", "service.spec.ports")
    pod = await kubectl("explain", "deployment.spec.template.spec.containers", "--recursive")
    health = await kubectl("get", "--raw", "/readyz")

    assert {"services", "deployments", "endpointslices", "customresourcedefinitions"} <= {
        line.split()[0] for line in resources.out.splitlines()
    }
    assert "discovery.k8s.io/v1" in versions.out.split()
    assert "WARNING" not in version.err.upper()
    assert "targetPort\t<IntOrString>" in service.out
    assert "readinessProbe" in pod.out
    assert health.out == "ok"


async def test_access_is_by_roles(cluster: Cluster, kubectl: Run, shop: Run) -> None:
    """The manifests' RBAC is only tried out if the sandbox enforces it."""
    ann = as_user(cluster.config_for(cluster.authority.issue("ann", client=True)))

    refused = await ann("-n", "shop", "get", "pods")
    await shop("create", "role", "reader", "--verb=get,list,watch", "--resource=pods")
    await shop("create", "rolebinding", "reader", "--role=reader", "--user=ann")
    listed = await ann("-n", "shop", "get", "pods")
    can = await ann("-n", "shop", "auth", "can-i", "list", "pods")
    cannot = await ann("-n", "shop", "auth", "can-i", "delete", "pods")
    who = await ann("auth", "whoami", "-o", "json")
    impersonated = await kubectl("auth", "can-i", "delete", "pods", "-n", "shop", "--as=ann")
    may_not_impersonate = await ann("get", "pods", "--as=admin")
    token = (await shop("create", "token", "default")).out.strip()
    by_token = await as_user(cluster.folder / "none")(
        "--server",
        f"https://127.0.0.1:{cluster.port}",
        "--insecure-skip-tls-verify",
        "--token",
        token,
        "auth",
        "whoami",
        "-o",
        "json",
    )
    nobody = await as_user(cluster.folder / "none")(
        "--server", f"https://127.0.0.1:{cluster.port}", "--insecure-skip-tls-verify", "--token", "wrong", "get", "pods"
    )

    assert 'User "ann" cannot list resource "pods" in API group "" in the namespace "shop"' in refused.err
    assert listed.code == 0
    assert (can.out.strip(), cannot.out.strip(), impersonated.out.strip()) == ("yes", "no", "no")
    assert who.json["status"]["userInfo"]["username"] == "ann"
    assert may_not_impersonate.code == 1
    assert by_token.json["status"]["userInfo"]["username"] == "system:serviceaccount:shop:default"
    assert "Unauthorized" in nobody.err or "logged in" in nobody.err


async def test_logs_are_those_the_sandbox_keeps(cluster: Cluster, shop: Run) -> None:
    await shop("run", "one", "--image=x:1")

    logs = await shop("logs", "one", "--tail=5")
    missing = await shop("logs", "nothing")
    container = await shop("logs", "one", "-c", "other")

    assert logs.out == "lines of one in one, 5\n"
    assert 'pods "nothing" not found' in missing.err
    assert "is not valid for pod one" in container.err
