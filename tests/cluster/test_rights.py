"""What our accounts may do, asked of a real API server: the rights that each has, as reviewed in `tests/golden/rights`; what whoever holds the System's
token cannot do (T24); and that the fence lets through all that the System does for a serve.
"""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import binaries
from tests.cluster.slab import Slab

from codezero.deploy import access, fence
from codezero.deploy.objects import serves_definition
from codezero.deploy.values import Serving, Values
from codezero.model.ids import TeamspaceId, new_ulid
from codezero.model.services import ServiceRef
from codezero.system.serving import manifests, naming, policies
from codezero.system.serving.manifests import RouterSettings, Served, Trust
from codezero.testing.waiting import eventually
from codezero.wire.serve_resource import FINALIZER

Json = dict[str, Any]

GOLDEN = Path(__file__).parents[1] / "golden" / "rights"
OWN, SERVED, OTHER = "codezero", "shop", "payments"
VALUES = Values(serve=Serving((SERVED,)))
SETTINGS = RouterSettings(image=VALUES.router.image.reference)
ORDERS, CARTS = ServiceRef(SERVED, "orders"), ServiceRef(SERVED, "carts")
ROUTER = naming.router_of(ORDERS).name
FENCE = f"ValidatingAdmissionPolicy '{fence.FENCE}'"
# RBAC's words.
NO_RIGHT = "cannot "


@dataclass(frozen=True)
class Account:
    """Asks as a ServiceAccount, by its token alone."""

    cluster: Slab
    kubeconfig: Path

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:  # noqa: A002 - as subprocess has it
        return self.cluster.kubectl(*arguments, f"--kubeconfig={self.kubeconfig}", input=input, check=check)

    def get(self, path: str) -> Json:
        return json.loads(self.kubectl("get", "--raw", path))

    def create(self, content: Json, *, check: bool = True) -> str:
        return self._send("create", collection_of(content), content, check=check)

    def replace(self, content: Json, *, subresource: str = "", check: bool = True) -> str:
        return self._send("replace", path_of(content) + subresource, content, check=check)

    def delete(self, path: str, *, check: bool = True) -> str:
        return self.kubectl("delete", "--raw", path, check=check)

    def patch(
        self, resource: str, name: str, namespace: str, patch: object, *, kind: str = "json", check: bool = True
    ) -> str:
        return self.kubectl(
            "patch", resource, name, "-n", namespace, "--type", kind, "-p", json.dumps(patch), check=check
        )

    def _send(self, verb: str, path: str, content: Json, *, check: bool) -> str:
        return self.kubectl(verb, "--raw", path, "-f", "-", input=json.dumps(content), check=check)


PLURALS = {
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "Deployment": "deployments",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Serve": "serves",
    "Event": "events",
    "Lease": "leases",
    "Pod": "pods",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "RoleBinding": "rolebindings",
    "TokenReview": "tokenreviews",
}


def collection_of(content: Json) -> str:
    version, namespace = content["apiVersion"], content["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}{f'/namespaces/{namespace}' if namespace else ''}/{PLURALS[content['kind']]}"


def path_of(content: Json) -> str:
    return f"{collection_of(content)}/{content['metadata']['name']}"


# --- the cluster ------------------------------------------------------------------------------------------------------------------------------


def apply(cluster: Slab, *objects: Json) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(items))


def team_service(ref: ServiceRef, **spec: Any) -> Json:
    selector, ports = {"app": ref.name, "tier": "web"}, [{"name": "http", "port": 80, "targetPort": 8080}]
    content = {"selector": selector, "ports": ports, **spec}
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": content}


def team_deployment(ref: ServiceRef) -> Json:
    labels = {"app": ref.name, "tier": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def secret(namespace: str, name: str) -> Json:
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {"system.key": "a", "ca.key": "b"},
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slab]:
    """A Kubernetes of its own: a Teamspace that is installed elsewhere has the same names. It needs no node."""
    state = tmp_path_factory.mktemp("rights")
    with Slab.start(binaries=binaries.programs(), images=None, state=state, control_plane=True) as running:
        yield running


@pytest.fixture(scope="module")
def installed(cluster: Slab) -> Slab:
    """Accounts, roles and fence, and two teams with a Service, a Deployment and a Secret each."""
    for name in (OWN, SERVED, OTHER):
        apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    apply(cluster, serves_definition(), *access.objects(VALUES, OWN), *fence.objects(VALUES, OWN))
    apply(cluster, *access.repair(VALUES, OWN))
    teams = [ORDERS, CARTS, ServiceRef(OTHER, "orders")]
    apply(cluster, *map(team_service, teams), *map(team_deployment, teams))
    apply(cluster, secret(OWN, access.IDENTITY), secret(OWN, "another"), secret(SERVED, "database"))
    bare = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": OTHER}}
    apply(cluster, bare)
    cluster.kubectl("wait", "--for=condition=Established", "crd/serves.codezero.io", "--timeout=60s")
    return cluster


@pytest.fixture(scope="module")
def account(installed: Slab) -> Callable[[str, str], Account]:
    """Who asks: a ServiceAccount by namespace and name."""

    def of(namespace: str, name: str) -> Account:
        token = installed.kubectl("create", "token", name, "-n", namespace).strip()
        return Account(installed, installed.kubeconfig_for(f"{namespace}-{name}", token))

    return of


@pytest.fixture(scope="module")
def served(installed: Slab) -> Served:
    """The Service of a team as the System knows it."""
    service = json.loads(installed.kubectl("get", "service", ORDERS.name, "-n", SERVED, "-o", "json"))
    return Served(ORDERS, service["metadata"]["uid"], service["spec"], {})


@pytest.fixture(scope="module")
def router(served: Served) -> Json:
    """The Deployment that the System makes for it."""
    return manifests.router_deployment(
        served, origin="10.96.0.50", settings=SETTINGS, trust=Trust(TeamspaceId(new_ulid()), "PEM")
    )


@pytest.fixture(scope="module")
def system(account: Callable[[str, str], Account], router: Json) -> Account:
    """Whoever holds the System's token, with the fence in force."""
    found = account(OWN, access.SYSTEM)
    probe = deepcopy(router)
    probe["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    path = f"{collection_of(probe)}?dryRun=All"
    create = ("create", "--raw", path, "-f", "-")
    # It comes into force some seconds after it was made.
    eventually(lambda: FENCE in found.kubectl(*create, input=json.dumps(probe), check=False), within=60)
    return found


# --- rights -----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def router_account(installed: Slab, served: Served) -> Iterator[str]:
    content = manifests.router_account(served)
    apply(installed, content)
    yield ROUTER
    installed.kubectl("delete", "serviceaccount", ROUTER, "-n", SERVED)


def rights(who: Account, namespace: str) -> list[str]:
    """What `kubectl auth can-i --list` prints, a right in a line."""
    lines = who.kubectl("auth", "can-i", "--list", "--no-headers", "-n", namespace).splitlines()
    return sorted(re.sub(r"\s+", " ", line).strip() for line in lines if line.strip())


def told(who: Account, nobody: Account) -> str:
    """The rights of an account in three namespaces, but for those that every account of a cluster has."""
    found = ""
    for where, namespace in (("its own namespace", OWN), ("a served namespace", SERVED), ("another namespace", OTHER)):
        common = rights(nobody, namespace)
        found += f"# {where}\n" + "".join(f"{one}\n" for one in rights(who, namespace) if one not in common)
    return found


@pytest.mark.parametrize("name", ["system", "orchestrator", "router", "repair"])
def test_each_account_has_the_rights_that_were_reviewed(
    account: Callable[[str, str], Account], router_account: str, name: str
) -> None:
    """A right more is a decision, and changes the file."""
    who = account(SERVED, router_account) if name == "router" else account(OWN, name)

    assert told(who, account(OTHER, "nobody")) == (GOLDEN / f"{name}.txt").read_text()


# --- attacks ----------------------------------------------------------------------------------------------------------------------------------

Attack = Callable[[Account, Json], str]


def changed(change: Callable[[Json], object], *, kind: str = "pod") -> Attack:
    """Make the Router's Deployment with something changed in its pod, container or all of it."""

    def attack(system: Account, router: Json) -> str:
        content = deepcopy(router)
        pod = content["spec"]["template"]["spec"]
        change({"pod": pod, "container": pod["containers"][0], "all": content}[kind])
        return system.create(content, check=False)

    return attack


def container(change: Callable[[Json], object]) -> Attack:
    return changed(change, kind="container")


def whole(change: Callable[[Json], object]) -> Attack:
    return changed(change, kind="all")


def merged(resource: str, name: str, patch: object, *, namespace: str = SERVED, subresource: str = "") -> Attack:
    options = ("--subresource", subresource) if subresource else ()
    return lambda system, _: system.kubectl(
        "patch", resource, name, "-n", namespace, "--type", "merge", "-p", json.dumps(patch), *options, check=False
    )


def asked(*arguments: str) -> Attack:
    return lambda system, _: system.kubectl(*arguments, check=False)


def made(content: Json) -> Attack:
    return lambda system, _: system.create(content, check=False)


def a(
    kind: str, name: str, *, version: str = "v1", namespace: str = SERVED, labels: Json | None = None, **content: Any
) -> Json:
    metadata = {"name": name, "namespace": namespace, **({"labels": labels} if labels else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def ours(kind: str, name: str, *, version: str = "v1", **content: Any) -> Json:
    """As if the System had made it for the served Service."""
    made_so = a(kind, name, version=version, labels=manifests.labels_of(ORDERS), **content)
    made_so["metadata"]["annotations"] = {naming.SERVICE: ORDERS.name}
    made_so["metadata"]["ownerReferences"] = [manifests.owner_of(ORDERS, "b4d6c6e2-0000-4000-8000-000000000000")]
    return made_so


ORIGIN = naming.origin_of(ORDERS).name
MARK = {naming.SERVICE: naming.hash_of(ORDERS)}
PORTS = [{"name": "http", "port": 80}]
POD = {"containers": [{"name": "app", "image": "app:1"}]}
POLICY = "networking.k8s.io/v1"
BINDING = {
    "roleRef": {"apiGroup": access.RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "system", "namespace": OWN}],
}
RESTART = {"kubectl.kubernetes.io/restartedAt": "2030-01-01T00:00:00Z"}
VOLUME = {"name": "x", "secret": {"secretName": "database"}}
HOST = {"name": "x", "hostPath": {"path": "/"}}
BOUND = {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
BOUND_SECRET = {"name": "x", "projected": {"sources": [{"secret": {"name": "database"}}]}}
GONE = {"apiVersion": "v1", "kind": "Service", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
FROM_SECRET = {"name": "CODEZERO_X", "valueFrom": {"secretKeyRef": {"name": "database", "key": "ca.key"}}}

BY_ROLE: dict[str, Attack] = {
    "read another Secret of its namespace": asked("get", "--raw", f"/api/v1/namespaces/{OWN}/secrets/another"),
    "read a Secret of a served namespace": asked("get", "--raw", f"/api/v1/namespaces/{SERVED}/secrets/database"),
    "list the Secrets of its namespace": asked("get", "--raw", f"/api/v1/namespaces/{OWN}/secrets"),
    "list all Secrets": asked("get", "--raw", "/api/v1/secrets"),
    "make a Secret": made(a("Secret", "new", namespace=OWN)),
    "make a pod": made(a("Pod", "new", spec=POD)),
    "read pods": asked("get", "--raw", f"/api/v1/namespaces/{SERVED}/pods"),
    "enter a pod": asked("create", "--raw", f"/api/v1/namespaces/{SERVED}/pods/x/exec?command=sh", "-f", "/dev/null"),
    "make a token of another account": asked("create", "token", "default", "-n", SERVED),
    "make a token of its own": asked("create", "token", "system", "-n", OWN),
    "give itself more rights": made(a("RoleBinding", "more", version=f"{access.RBAC}/v1", **BINDING)),
    "widen its role": merged("clusterrole", "codezero-system", {"rules": []}),
    "change the fence": merged("validatingadmissionpolicy", fence.FENCE, {"spec": {"failurePolicy": "Ignore"}}),
    "unbind the fence": asked(
        "delete", "--raw", f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/{fence.FENCE}"
    ),
    "delete a namespace": asked("delete", "--raw", f"/api/v1/namespaces/{OTHER}"),
    "write a ConfigMap": made(a("ConfigMap", "new", namespace=OWN, data={})),
    "change a node": asked("replace", "--raw", "/api/v1/nodes/node1", "-f", "/dev/null"),
    "scale a Deployment": merged("deployment", ORDERS.name, {"spec": {"replicas": 0}}, subresource="scale"),
    "act as somebody else": asked("get", "--raw", "/api/v1/namespaces", "--as", "admin"),
    "make a Router where nothing may be served": whole(lambda it: it["metadata"].update(namespace=OTHER)),
    "repoint a Service where nothing may be served": merged(
        "service", ORDERS.name, {"spec": {"selector": {"app": "mine"}}}, namespace=OTHER
    ),
    "take another Lease": made(a("Lease", "another", version="coordination.k8s.io/v1", namespace=SERVED)),
}

BY_FENCE: dict[str, tuple[str, Attack]] = {
    # Programs
    "run another image": ("image", container(lambda it: it.update(image="app:1"))),
    "run another program": ("program", container(lambda it: it.update(command=["sh"]))),
    "run the program with other arguments": ("program", container(lambda it: it.update(args=["x"]))),
    "run a program before": ("nothing beside", changed(lambda it: it.update(initContainers=POD["containers"]))),
    "run a program beside": (
        "nothing beside",
        changed(lambda it: it["containers"].append({**it["containers"][0], "name": "second"})),
    ),
    "run a program at the start": (
        "nothing beside",
        container(lambda it: it.update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}})),
    ),
    "run a program as a probe": (
        "by HTTP",
        container(lambda it: it["readinessProbe"].update(httpGet=None, exec={"command": ["sh"]})),
    ),
    "let the node ask others": ("by HTTP", container(lambda it: it["readinessProbe"]["httpGet"].update(host="10.0.0.1"))),
    "open a port of the node": ("port of a node", container(lambda it: it["ports"][0].update(hostPort=8080))),
    # Who it is, what it sees
    "be another ServiceAccount": ("ServiceAccount", changed(lambda it: it.update(serviceAccountName="default"))),
    "have a token for the API": ("token for the API", changed(lambda it: it.update(automountServiceAccountToken=True))),
    "pull by another's Secret": (
        "ServiceAccount",
        changed(lambda it: it.update(imagePullSecrets=[{"name": "database"}])),
    ),
    "mount a Secret": ("no other volume", changed(lambda it: it["volumes"].append(VOLUME))),
    "mount the node's files": ("no other volume", changed(lambda it: it["volumes"].append(HOST))),
    "mount a token for the API": ("no other volume", changed(lambda it: it["volumes"].append(BOUND))),
    "mount a Secret among others": ("no other volume", changed(lambda it: it["volumes"].append(BOUND_SECRET))),
    "be told a Secret": ("out of Secrets", container(lambda it: it["env"].append(FROM_SECRET))),
    "be told all of a Secret": (
        "nothing beside",
        container(lambda it: it.update(envFrom=[{"secretRef": {"name": "database"}}])),
    ),
    "be told whom to load": ("by settings", container(lambda it: it["env"].append({"name": "LD_PRELOAD", "value": "x"}))),
    # Privileges
    "be in the node's network": (
        "nothing beside",
        changed(lambda it: it["securityContext"].pop("sysctls") and it.update(hostNetwork=True)),
    ),
    "see the node's processes": ("nothing beside", changed(lambda it: it.update(hostPID=True))),
    "share the node's memory": ("nothing beside", changed(lambda it: it.update(hostIPC=True))),
    "choose a node": ("nothing beside", changed(lambda it: it.update(nodeName="node1"))),
    "be root": ("without privileges", changed(lambda it: it["securityContext"].update(runAsNonRoot=False, runAsUser=0))),
    "be privileged": ("without privileges", container(lambda it: it["securityContext"].update(privileged=True, allowPrivilegeEscalation=True))),
    "have a capability": (
        "without privileges",
        container(lambda it: it["securityContext"]["capabilities"].update(add=["NET_ADMIN"])),
    ),
    "write its root folder": ("without privileges", container(lambda it: it["securityContext"].update(readOnlyRootFilesystem=False))),
    "set another sysctl": (
        "without privileges",
        changed(lambda it: it["securityContext"].update(sysctls=[{"name": "kernel.shm_rmid_forced", "value": "1"}])),
    ),
    "run without a filter of calls": (
        "without privileges",
        changed(lambda it: it["securityContext"].update(seccompProfile={"type": "Unconfined"})),
    ),
    # Whose pods they are
    "make pods with the labels of a team": (
        "labels of its Router",
        whole(lambda it: it["spec"]["template"]["metadata"]["labels"].update(app="orders")),
    ),
    "ask a mesh to inject": (
        "labels of its Router",
        whole(lambda it: it["spec"]["template"]["metadata"]["annotations"].update({"sidecar.istio.io/proxyImage": "x"})),
    ),
    "make a thousand": ("Deployments of Routers", whole(lambda it: it["spec"].update(replicas=1000))),
    "make a Deployment without our mark": ("has made", whole(lambda it: it["metadata"]["labels"].clear())),
    "make a Deployment of another name": ("has made", whole(lambda it: it["metadata"].update(name="orders-2"))),
    "make one that stays": ("go with the Service", whole(lambda it: it["metadata"].update(ownerReferences=[]))),
    # Deployments of teams
    "delete a Deployment": ("has made", asked("delete", "--raw", f"/apis/apps/v1/namespaces/{SERVED}/deployments/orders")),
    "delete all Deployments": (NO_RIGHT, asked("delete", "--raw", f"/apis/apps/v1/namespaces/{SERVED}/deployments")),
    "stop a Deployment": ("restarts Deployments", merged("deployment", "orders", {"spec": {"replicas": 0}})),
    "change an image under cover of a restart": (
        "restarts Deployments",
        merged(
            "deployment",
            "orders",
            {"spec": {"template": {"metadata": {"annotations": RESTART}, "spec": {"containers": [{"name": "app", "image": "b"}]}}}},
        ),
    ),
    "add another annotation to pods": (
        "restarts Deployments",
        merged("deployment", "orders", {"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}),
    ),
    "add a label to pods": (
        "restarts Deployments",
        merged("deployment", "orders", {"spec": {"template": {"metadata": {"labels": {"x": "y"}}}}}),
    ),
    "make a Deployment look like ours": (
        "no metadata",
        merged("deployment", "orders", {"metadata": {"labels": manifests.labels_of(ORDERS)}}),
    ),
    # Services of teams
    "delete a Service": ("has made", asked("delete", "--raw", f"/api/v1/namespaces/{SERVED}/services/orders")),
    "repoint a Service": ("under the keys", merged("service", "orders", {"spec": {"selector": {"app": "carts"}}})),
    "repoint a Service by other keys": (
        "under the keys",
        merged("service", "orders", {"spec": {"selector": {"app": None, "tier": None, "x": naming.selected(ORDERS)}}}),
    ),
    "repoint a Service by a key more": (
        "under the keys",
        merged("service", "orders", {"spec": {"selector": {**dict.fromkeys(("app", "tier", "x"), naming.selected(ORDERS))}}}),
    ),
    "lead a Service half to a Router": (
        "under the keys",
        merged("service", "orders", {"spec": {"selector": {"app": naming.selected(ORDERS)}}}),
    ),
    "lead a Service to two Routers": (
        "under the keys",
        merged("service", "orders", {"spec": {"selector": {"app": naming.selected(ORDERS), "tier": naming.selected(CARTS)}}}),
    ),
    "lead a Service nowhere": ("under the keys", merged("service", "orders", {"spec": {"selector": None}})),
    "give a Service an address outside": ("nothing else", merged("service", "orders", {"spec": {"externalIPs": ["192.0.2.9"]}})),
    "give a Service a name outside": (
        "nothing else",
        merged("service", "orders", {"spec": {"type": "ExternalName", "externalName": "example.org"}}),
    ),
    "expose a Service": ("nothing else", merged("service", "orders", {"spec": {"type": "NodePort"}})),
    "move a port": ("nothing else", merged("service", "orders", {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 22}]}})),
    "annotate a Service": ("no metadata", merged("service", "orders", {"metadata": {"annotations": {"x": "y"}}})),
    "hold a Service": ("no metadata", merged("service", "orders", {"metadata": {"finalizers": ["codezero.io/restore"]}})),
    "make a Service look like ours": (
        "no metadata",
        merged("service", "orders", {"metadata": {"labels": manifests.labels_of(ORDERS)}}),
    ),
    # What we make
    "make a Service of its own": ("has made", made(a("Service", "mine", spec={"selector": {"app": "x"}, "ports": PORTS}))),
    "make a load balancer": (
        "for the cluster alone",
        made(ours("Service", ORIGIN, spec={"type": "LoadBalancer", "selector": {"app": "x"}, "ports": PORTS})),
    ),
    "make a port of nodes": (
        "for the cluster alone",
        made(ours("Service", ORIGIN, spec={"type": "NodePort", "selector": {"app": "x"}, "ports": PORTS})),
    ),
    "make a name outside": (
        "for the cluster alone",
        made(ours("Service", ORIGIN, spec={"type": "ExternalName", "externalName": "example.org"})),
    ),
    "take an address outside": (
        "for the cluster alone",
        made(ours("Service", ORIGIN, spec={"externalIPs": ["192.0.2.9"], "selector": {"app": "x"}, "ports": PORTS})),
    ),
    "make a Service without a selector": ("for the cluster alone", made(ours("Service", ORIGIN, spec={"ports": PORTS}))),
    "lead the Router's Service elsewhere": (
        "two Services",
        made(ours("Service", ROUTER, spec={"clusterIP": "None", "selector": {"app": "x"}, "ports": PORTS})),
    ),
    "make another ServiceAccount": ("has made", made(a("ServiceAccount", "mine"))),
    "make a ServiceAccount with Secrets": (
        "that have nothing",
        made(ours("ServiceAccount", ROUTER, automountServiceAccountToken=False, secrets=[{"name": "database"}])),
    ),
    "make a ServiceAccount that pulls by a Secret": (
        "that have nothing",
        made(ours("ServiceAccount", ROUTER, automountServiceAccountToken=False, imagePullSecrets=[{"name": "database"}])),
    ),
    "delete a ServiceAccount": ("has made", asked("delete", "--raw", f"/api/v1/namespaces/{SERVED}/serviceaccounts/default")),
    "let everybody in": (
        "NetworkPolicies about Routers",
        made(ours("NetworkPolicy", ROUTER, version=POLICY, spec={"podSelector": {"matchLabels": {"app": "orders"}}, "ingress": [{}], "policyTypes": ["Ingress"]})),
    ),
    "let others in": (
        "NetworkPolicies about Routers",
        made(
            ours(
                "NetworkPolicy",
                ROUTER,
                version=POLICY,
                spec={
                    "podSelector": {"matchLabels": {"app": "orders"}},
                    "ingress": [{"from": [{"podSelector": {"matchLabels": MARK}, "namespaceSelector": {}}]}],
                    "policyTypes": ["Ingress"],
                },
            )
        ),
    ),
    "lock pods in": (
        "NetworkPolicies about Routers",
        made(ours("NetworkPolicy", ROUTER, version=POLICY, spec={"podSelector": {"matchLabels": {"app": "orders"}}, "policyTypes": ["Ingress", "Egress"]})),
    ),
    "keep pods of a team from being moved": (
        "PodDisruptionBudgets of Routers",
        made(
            ours(
                "PodDisruptionBudget",
                ROUTER,
                version="policy/v1",
                spec={"maxUnavailable": 0, "selector": {"matchLabels": {"app": "orders"}}},
            )
        ),
    ),
    # At home
    "replace the authority": ("changes nothing else", merged("secret", access.IDENTITY, {"data": {"ca.key": "eHg="}}, namespace=OWN)),
    "remove the authority": ("changes nothing else", merged("secret", access.IDENTITY, {"data": {"ca.key": None}}, namespace=OWN)),
    "add to the identity": ("changes nothing else", merged("secret", access.IDENTITY, {"data": {"jwks.json": "eHg="}}, namespace=OWN)),
    "have the identity deleted for an owner that is gone": ("changes nothing else", merged("secret", access.IDENTITY, {"metadata": {"ownerReferences": [GONE]}}, namespace=OWN)),
    "take the identity out of an installation": ("changes nothing else", merged("secret", access.IDENTITY, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, namespace=OWN)),
    "keep the identity from being renewed": ("changes nothing else", merged("secret", access.IDENTITY, {"immutable": True}, namespace=OWN)),
    "have a second Lease": ("one Lease", made(a("Lease", "another", version="coordination.k8s.io/v1", namespace=OWN))),
}  # fmt: skip


@pytest.mark.parametrize("what", BY_ROLE)
def test_whoever_has_the_token_has_no_right_to(what: str, system: Account, router: Json) -> None:
    said = BY_ROLE[what](system, router)

    assert NO_RIGHT in said, said
    assert "forbidden" in said.lower(), said


@pytest.mark.parametrize("what", BY_FENCE)
def test_whoever_has_the_token_is_kept_from(what: str, system: Account, router: Json) -> None:
    """Each is refused for its own reason, so that no refusal stands in for another."""
    why, attack = BY_FENCE[what]
    said = attack(system, router)

    assert why in said, said
    assert FENCE in said or why == NO_RIGHT, said


# --- a serve ----------------------------------------------------------------------------------------------------------------------------------


def point(system: Account, selector: Json) -> None:
    """As `steps.point` does."""
    service = system.get(f"/api/v1/namespaces/{SERVED}/services/orders")
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": service["metadata"]["resourceVersion"]},
        {"op": "test", "path": "/spec/selector", "value": service["spec"]["selector"]},
        {"op": "replace", "path": "/spec/selector", "value": selector},
    ]
    system.patch("service", "orders", SERVED, operations)


def selector(system: Account) -> Json:
    return system.get(f"/api/v1/namespaces/{SERVED}/services/orders")["spec"]["selector"]


def serve_object(served: Served) -> Json:
    port = {"localPort": 3000, "remotePort": 80}
    route = {"id": new_ulid(), "user": new_ulid(), "condition": {"type": "default"}, "ports": [port]}
    content = a("Serve", ORDERS.name, version="codezero.io/v1beta1", labels=manifests.labels_of(ORDERS))
    content["metadata"]["finalizers"] = [FINALIZER]
    content["metadata"]["ownerReferences"] = [manifests.owner_of(ORDERS, served.uid)]
    return {**content, "spec": {"service": ORDERS.name, "routes": [route]}}


def test_the_system_can_do_all_that_a_serve_takes(
    system: Account, served: Served, router: Json, installed: Slab
) -> None:
    """With the objects that it really writes, the verbs that it really uses, and policies of a team around the pods."""
    original = selector(system)
    serve = json.loads(system.create(serve_object(served)))
    serve = json.loads(
        system.replace({**serve, "status": {"state": "preparing", "originSelector": original}}, subresource="/status")
    )
    hold = [{"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]
    system.patch("serve", ORDERS.name, SERVED, hold)
    event = a("Event", "", metadata=None, reason="RouteRefused", type="Warning", message="m")
    event["metadata"] = {"generateName": "orders.", "namespace": SERVED}
    event["involvedObject"] = {"kind": "Serve", "name": "orders", "namespace": SERVED}
    system.create(event)

    system.create(manifests.origin_service(served))
    system.create(manifests.router_account(served))
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "carts"}}}], "ports": [{"port": 8080}]}
    team = {
        "podSelector": {"matchLabels": {"app": "orders"}},
        "ingress": [rule],
        "egress": [{}],
        "policyTypes": ["Ingress", "Egress"],
    }
    everybody = {"podSelector": {}, "policyTypes": ["Egress"]}
    policies_of_teams = [
        a("NetworkPolicy", "team", version=POLICY, spec=team),
        a("NetworkPolicy", "all", version=POLICY, spec=everybody),
    ]
    apply(installed, *policies_of_teams)
    allowed = policies.allowances(served, policies_of_teams, [served.selector], system=SETTINGS.system)
    made_policies = [json.loads(system.create(one)) for one in allowed]
    system.create(manifests.router_service(served))
    deployment = json.loads(system.create(router))
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": MARK}}
    guard = ours("PodDisruptionBudget", ROUTER, version="policy/v1", spec=budget)
    # Of another uid it would be collected as rubbish.
    guard["metadata"]["ownerReferences"] = [manifests.owner_of(ORDERS, served.uid)]
    system.create(guard)

    # What changes while it is served
    replicas = {**deployment, "spec": {**router["spec"], "replicas": 1}}
    replicas["metadata"].pop("managedFields", None)
    system.replace({**replicas, "metadata": {**replicas["metadata"], "resourceVersion": None}})
    system.replace(made_policies[0])
    origin = system.get(f"/api/v1/namespaces/{SERVED}/services/{ORIGIN}")
    ports = [{**origin["spec"]["ports"][0], "targetPort": 8081}]
    system.replace({**origin, "spec": {**origin["spec"], "ports": ports}})
    point(system, served.switched)
    assert selector(system) == served.switched
    restart = {"spec": {"template": {"metadata": {"annotations": RESTART}}}}
    system.patch("deployment", "orders", SERVED, restart, kind="merge")

    # Somebody edits half of the selector, or takes a key away
    apply_team = {"spec": {"selector": {"tier": "api"}}}
    installed.kubectl("patch", "service", "orders", "-n", SERVED, "--type", "merge", "-p", json.dumps(apply_team))
    point(system, naming.own_selector(selector(system), ORDERS, original))
    assert selector(system) == {"app": "orders", "tier": "api"}
    point(system, naming.switched(selector(system), ORDERS))
    apply_team = {"spec": {"selector": {"tier": None}}}
    installed.kubectl("patch", "service", "orders", "-n", SERVED, "--type", "merge", "-p", json.dumps(apply_team))
    point(system, served.switched)
    installed.kubectl("patch", "service", "orders", "-n", SERVED, "--type", "merge", "-p", json.dumps(apply_team))
    point(system, original)

    # And back
    assert selector(system) == original
    for one in (router, manifests.router_service(served), manifests.router_account(served), *allowed):
        system.delete(path_of(one))
    system.delete(path_of(guard))
    system.delete(path_of(manifests.origin_service(served)))
    system.patch("serve", ORDERS.name, SERVED, [{"op": "remove", "path": "/metadata/finalizers"}])
    system.delete(path_of(serve))
    labels = f"{naming.SERVICE}={naming.hash_of(ORDERS)}"
    kinds = "services,deployments,serviceaccounts,networkpolicies,poddisruptionbudgets,serves"
    assert installed.kubectl("get", kinds, "-n", SERVED, "-l", labels, "-o", "name") == ""


def test_the_system_leads_and_renews_at_home(system: Account) -> None:
    lease = a("Lease", access.LEASE, version="coordination.k8s.io/v1", namespace=OWN, spec={"holderIdentity": "me"})
    lease = json.loads(system.create(lease))
    system.replace({**lease, "spec": {"holderIdentity": ""}})
    renewed = {"data": {"system.key": "eHg=", "orchestrator.crt": "eHg="}}
    system.patch("secret", access.IDENTITY, OWN, renewed, kind="merge")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": "x"}}

    assert system.get(f"/api/v1/namespaces/{OWN}/secrets/{access.IDENTITY}")["data"]["system.key"] == "eHg="
    assert json.loads(system.create(review))["status"].get("authenticated", False) is False


def test_repair_can_put_everything_back(
    account: Callable[[str, str], Account], system: Account, served: Served, router: Json, installed: Slab
) -> None:
    """And make nothing: its account has less."""
    repair = account(OWN, access.REPAIR)
    original = selector(system)
    serve = system.create(serve_object(served))
    for one in (manifests.origin_service(served), manifests.router_account(served), router):
        system.create(one)
    point(system, served.switched)

    for collection in (
        "/api/v1/services",
        "/api/v1/serviceaccounts",
        "/apis/apps/v1/deployments",
        "/apis/codezero.io/v1beta1/serves",
    ):
        repair.get(collection)
    point(repair, original)
    assert selector(system) == original
    # `kubectl patch` reads first, which it has no right to; the program does not.
    removed = {"metadata": {"finalizers": []}}
    assert NO_RIGHT in repair.patch("serve", ORDERS.name, SERVED, removed, kind="merge", check=False)
    for one in (router, manifests.router_account(served), manifests.origin_service(served)):
        repair.delete(path_of(one))
    repair.delete(path_of(json.loads(serve)))
    said = repair.create(router, check=False)
    assert NO_RIGHT in said, said
    installed.kubectl("patch", "serve", "orders", "-n", SERVED, "--type", "merge", "-p", json.dumps(removed))


def test_what_teams_have_may_be_large(system: Account, installed: Slab) -> None:
    """The API server gives a policy so much time for an object and no more, and what cannot be judged is refused."""
    big = ServiceRef(SERVED, "big")
    names = [f"label-{number}" for number in range(40)]
    ports = [{"name": f"p{number}", "port": number} for number in range(1, 200)]
    service, deployment = team_service(big, selector=dict.fromkeys(names, "big"), ports=ports), team_deployment(big)
    env = [{"name": f"NAME_{number}", "value": "x" * 200} for number in range(300)]
    deployment["spec"]["template"]["spec"]["containers"] = [
        {"name": f"app-{number}", "image": "app:1", "env": env} for number in range(10)
    ]
    for one in (service, deployment):
        one["metadata"]["annotations"] = {"long": "x" * 100_000}
        one["metadata"]["labels"] = dict.fromkeys(names, "big")
    apply(installed, service, deployment)

    switched = {"spec": {"selector": naming.switched(service["spec"]["selector"], big)}}
    system.patch("service", big.name, SERVED, switched, kind="merge")
    system.patch("service", big.name, SERVED, {"spec": {"selector": service["spec"]["selector"]}}, kind="merge")
    restart = {"spec": {"template": {"metadata": {"annotations": RESTART}}}}
    system.patch("deployment", big.name, SERVED, restart, kind="merge")


def test_the_api_server_finds_nothing_wrong_with_the_fence(system: Account, installed: Slab) -> None:
    """It checks the types of expressions and tells what it thinks, but refuses nothing for it."""
    policy = json.loads(installed.kubectl("get", "validatingadmissionpolicy", fence.FENCE, "-o", "json"))

    assert policy["status"]["typeChecking"] == {}


def test_others_do_not_notice_the_fence(installed: Slab) -> None:
    """Teams change their things as ever, and ours where they have to."""
    annotated = {"metadata": {"annotations": {"x": "y"}}}
    installed.kubectl("patch", "service", "orders", "-n", SERVED, "--type", "merge", "-p", json.dumps(annotated))
    installed.kubectl("scale", "deployment", "orders", "-n", SERVED, "--replicas", "2")
