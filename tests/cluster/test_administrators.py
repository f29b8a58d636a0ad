"""What administrators of a cluster do and look at: nodes are drained, namespaces have rules for their pods, and what is wrong is found with kubectl alone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.lab import ClusterLab

from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, kubectl, nobody_notices, selector
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

BLUE = ("-H", "x-team: blue")
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")
OURS = "app.kubernetes.io/managed-by=codezero"


@pytest.fixture
def serving(serving1: Laptop) -> Iterator[Laptop]:
    """dev1, with an application at port 9001."""
    with application(serving1, "http", 9001):
        yield serving1


def pods_of(lab: ClusterLab, namespace: str, label: str) -> set[str]:
    """The pods that are ready and not about to go."""
    found = json.loads(kubectl(lab, "get", "pods", "-n", namespace, "-l", label, "-o", "json"))["items"]
    return {
        one["metadata"]["name"]
        for one in found
        if "deletionTimestamp" not in one["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions", ()))
    }


def evicts(lab: ClusterLab, namespace: str, pod: str) -> bool:
    """What `kubectl drain` asks for each pod of a node; a disruption budget may refuse it for now."""
    content = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    command = ["kubectl", "create", "--raw", path, "-f", "-"]
    ended = lab.run("cluster", command, input=json.dumps(content), check=False)
    assert ended.returncode == 0 or "disruption budget" in ended.stderr, ended.stderr
    return ended.returncode == 0


def reaches_the_laptop(lab: ClusterLab, service: str, namespace: str, port: int) -> bool:
    try:
        url = f"http://{address_of(lab, service, namespace)}:{port}/hello"
        return ask(lab, url, *BLUE).where == "laptop"
    except AssertionError:
        return False


@pytest.mark.parametrize(
    ("namespace", "label"),
    [
        ("codezero", "app.kubernetes.io/name=system"),
        ("codezero", "app.kubernetes.io/name=orchestrator"),
        ("peers", OURS),
    ],
)
def test_nodes_are_drained_and_nobody_notices(
    sandbox: ClusterLab, serving: Laptop, peers: None, namespace: str, label: str
) -> None:
    """All pods of a part go one by one, as fast as disruption budgets let them; laptop and callers go on."""
    serving.serve("peers/http", "9001:8080", *CONDITION)
    assert eventually(lambda: reaches_the_laptop(sandbox, "http", "peers", 8080))
    assert eventually(lambda: len(pods_of(sandbox, namespace, label)) == 2)
    old = pods_of(sandbox, namespace, label)
    with nobody_notices(sandbox, f"http://{address_of(sandbox, 'http')}:8080/hello"):
        for pod in old:
            eventually(lambda pod=pod: evicts(sandbox, namespace, pod), within=90)
        eventually(lambda: len(pods_of(sandbox, namespace, label) - old) == 2, within=90)

    assert eventually(lambda: reaches_the_laptop(sandbox, "http", "peers", 8080), within=60)


# --- namespaces with rules ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def namespace(sandbox: ClusterLab, request: pytest.FixtureRequest) -> Iterator[str]:
    """A team's namespace with the application `web`; a dictionary as parameter is one more object in it."""
    name = "ruled"
    labels = {"app": "web"}
    container: dict[str, Any] = {
        "name": "web",
        "image": "codezero-peers:test",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "codezero.testing.peers.http", "server", "--address", "0.0.0.0", "--port", "8080"],
        "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    restricted = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "securityContext": restricted}}
    meta = {"name": "web", "namespace": name}
    strict = {"pod-security.kubernetes.io/enforce": "restricted"}
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    items: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": strict}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": ports}},
    ]
    if rule := getattr(request, "param", None):
        items.insert(1, {"apiVersion": "v1", "metadata": {"name": "rule", "namespace": name}, **rule})
    kubectl(sandbox, "apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    eventually(lambda: pods_of(sandbox, name, "app=web"), within=60)
    yield name
    kubectl(sandbox, "delete", "namespace", name, "--timeout=120s", timeout=130)


def events_of(lab: ClusterLab, namespace: str) -> list[str]:
    """The reasons of the Service's Events."""
    chosen = ("--field-selector", "involvedObject.kind=Service,involvedObject.name=web")
    found = json.loads(kubectl(lab, "get", "events", "-n", namespace, *chosen, "-o", "json"))["items"]
    return [one["reason"] for one in found]


def test_where_pods_are_restricted_services_can_be_served(sandbox: ClusterLab, serving: Laptop, namespace: str) -> None:
    """And its team, which may never have heard of us, sees when."""
    serving.serve(f"{namespace}/web", "9001:80", *CONDITION)

    assert reaches_the_laptop(sandbox, "web", namespace, 80)
    assert eventually(lambda: "Served" in events_of(sandbox, namespace))
    kubectl(sandbox, "delete", "serve", "web", "-n", namespace, "--timeout=60s")
    assert eventually(lambda: "ServeEnded" in events_of(sandbox, namespace))
    assert selector(sandbox, "web", namespace) == {"app": "web"}


@pytest.mark.parametrize(
    ("namespace", "reason"),
    [
        (
            {"kind": "ResourceQuota", "spec": {"hard": {"limits.memory": "160Mi"}}},
            "exceeded quota: rule",
        ),
        (
            {"kind": "ResourceQuota", "spec": {"hard": {"limits.cpu": "4"}}},
            "must specify limits.cpu for: router",
        ),
        (
            {"kind": "LimitRange", "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]}},
            "maximum memory usage per Container is 128Mi",
        ),
    ],
    indirect=["namespace"],
)
def test_what_keeps_routers_out_of_a_namespace_is_told_to_everybody(
    sandbox: ClusterLab, serving: Laptop, namespace: str, reason: str, tmp_path: Path
) -> None:
    """While the developer still waits, to them as well; and nothing has changed for callers."""
    told = tmp_path / "told"
    with told.open("w") as file:
        waiting = serving.popen("czctl", "serve", f"{namespace}/web", "9001:80", *CONDITION, stderr=file)
    try:
        assert eventually(lambda: reason in kubectl(sandbox, "get", "serves", "-A"), within=60)
        printed = kubectl(sandbox, "get", "serves", "-A")
        status = sandbox.run("cluster", ["czctl", "teamspace", "status"], check=False)
        assert eventually(lambda: reason in told.read_text())
        assert waiting.poll() is None
    finally:
        waiting.kill()
        waiting.wait()
    url = f"http://{address_of(sandbox, 'web', namespace)}/hello"

    assert f"{namespace}/web waits: the cluster makes no Router" in told.read_text()
    assert "router.resources" in told.read_text()
    assert "preparing" in printed
    assert f"{namespace}/web is preparing: the cluster makes no Router" in status.stderr
    assert reason in status.stderr
    assert ask(sandbox, url, *BLUE).where.startswith("web-")
    serving.end(f"{namespace}/web")
