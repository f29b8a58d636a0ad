"""What teams and controllers do to a Service while somebody serves it: every way to write it, to scale it, to break it and to take it away."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, kubectl, nobody_notices, selector
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(300)]

TEAM = "team"
BLUE = ("-H", "x-team: blue")
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": TEAM, "labels": {"team": "web"}},
    "spec": {
        "selector": {"app": "web", "tier": "front"},
        # A named port, and a second one, as most charts have it.
        "ports": [
            {"name": "http", "port": 80, "targetPort": "http"},
            {"name": "admin", "port": 9000, "targetPort": 8081},
        ],
    },
}


def server(name: str, port: int) -> dict[str, Any]:
    """A container of the peers' web server."""
    command = ["python", "-m", "codezero.testing.peers.http", "server", "--port", str(port)]
    return {
        "name": name,
        "image": "codezero-peers:test",
        "command": command,
        "ports": [{"name": name, "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
    }


def deployment(replicas: int = 1) -> dict[str, Any]:
    labels = {"app": "web", "tier": "front"}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [server("http", 8080), server("admin", 8081)]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": TEAM},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


@pytest.fixture
def team(sandbox: Sandbox) -> Iterator[str]:
    """A namespace with a web server of two ports; the address of its Service. Gone afterwards."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}}
    applied(sandbox, namespace, SERVICE, deployment())
    kubectl(sandbox, "rollout", "status", "deployment/web", "-n", TEAM, "--timeout=60s")
    yield address_of(sandbox, "web", TEAM)
    kubectl(sandbox, "delete", "namespace", TEAM, "--ignore-not-found", "--timeout=60s", timeout=90)


@pytest.fixture
def served(sandbox: Sandbox, team: str, serving1: Laptop) -> Iterator[Laptop]:
    """dev1 serves both ports of `team/web` for `x-team: blue`."""
    with application(serving1, "http", 9001), application(serving1, "http", 9002):
        serving1.serve(f"{TEAM}/web", "9001:80", "9002:9000", *CONDITION)
        assert eventually(lambda: reaches_the_laptop(sandbox, team))
        yield serving1


def applied(sandbox: Sandbox, *manifests: dict[str, Any], options: tuple[str, ...] = ()) -> None:
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    kubectl(sandbox, "apply", "-f", "-", *options, input=content)


def where(sandbox: Sandbox, address: str, *options: str, port: int = 80) -> str:
    return ask(sandbox, f"http://{address}:{port}/hello", *options).where


def reaches_the_laptop(sandbox: Sandbox, address: str) -> bool:
    try:
        return all(where(sandbox, address, *BLUE, port=port) == "laptop" for port in (80, 9000))
    except AssertionError:
        return False


def is_switched(sandbox: Sandbox) -> bool:
    return all(value.startswith("cz-") for value in selector(sandbox, "web", TEAM).values())


def test_both_ports_are_told_apart(sandbox: Sandbox, served: Laptop, team: str) -> None:
    """Two ports of one Service, one of them named in the pods: each request arrives at the process of its own port."""
    own = {
        port: ask(sandbox, f"http://{team}:{port}/hello", *BLUE).headers["x-codezero-variant"] for port in (80, 9000)
    }

    assert len(set(own.values())) == 1
    assert where(sandbox, team).startswith("web-")
    assert where(sandbox, team, port=9000).startswith("web-")
    assert selector(sandbox, "web", TEAM).keys() == {"app", "tier"}


def test_a_server_side_apply_of_the_service_is_no_quarrel(sandbox: Sandbox, served: Laptop, team: str) -> None:
    """Argo and Flux write so; the first write says that there is a conflict, or is forced."""
    with nobody_notices(sandbox, f"http://{team}:80/hello"):
        applied(sandbox, SERVICE, options=("--server-side", "--force-conflicts", "--field-manager=gitops"))

        assert eventually(lambda: is_switched(sandbox), within=60)
        assert eventually(lambda: reaches_the_laptop(sandbox, team), within=60)


def test_a_strategic_merge_patch_as_helm_makes_it_keeps_both(sandbox: Sandbox, served: Laptop, team: str) -> None:
    """Helm patches what changed between its two manifests: here a label and a port's number in the pods."""
    patch = {
        "metadata": {"labels": {"release": "2"}},
        "spec": {"ports": [{"port": 9000, "name": "admin", "targetPort": "admin"}]},
    }
    with nobody_notices(sandbox, f"http://{team}:80/hello"):
        kubectl(sandbox, "patch", "service", "web", "-n", TEAM, "--type=strategic", "-p", json.dumps(patch))

        assert eventually(lambda: reaches_the_laptop(sandbox, team), within=60)
        assert eventually(lambda: where(sandbox, team, port=9000).startswith("web-"))
    kubectl(sandbox, "delete", "serve", "web", "-n", TEAM, "--timeout=60s")
    now = json.loads(kubectl(sandbox, "get", "service", "web", "-n", TEAM, "-o", "json"))

    assert now["metadata"]["labels"] == {"team": "web", "release": "2"}
    assert {port["port"]: port["targetPort"] for port in now["spec"]["ports"]} == {80: "http", 9000: "admin"}
    assert now["spec"]["selector"] == SERVICE["spec"]["selector"]


def test_a_selector_that_its_team_changes_is_the_one_that_comes_back(
    sandbox: Sandbox, served: Laptop, team: str
) -> None:
    """Blue-green deploys turn the selector; what is restored in the end is their last word, not the first."""
    kubectl(sandbox, "label", "pods", "-n", TEAM, "-l", "app=web", "track=green")
    changed = {**SERVICE, "spec": {**SERVICE["spec"], "selector": {"app": "web", "track": "green"}}}
    with nobody_notices(sandbox, f"http://{team}:80/hello"):
        applied(sandbox, changed)
        assert eventually(lambda: selector(sandbox, "web", TEAM).keys() == {"app", "track"}, within=60)
        assert eventually(lambda: is_switched(sandbox), within=60)
        assert eventually(lambda: reaches_the_laptop(sandbox, team), within=60)
        kubectl(sandbox, "delete", "serve", "web", "-n", TEAM, "--timeout=60s")

    assert selector(sandbox, "web", TEAM) == {"app": "web", "track": "green"}


def test_with_no_pod_left_the_laptop_still_answers_and_others_are_told(
    sandbox: Sandbox, served: Laptop, team: str
) -> None:
    """Scaled to zero: who meets the condition reaches the laptop, others get what a Service without pods gives: no answer."""
    kubectl(sandbox, "scale", "deployment/web", "-n", TEAM, "--replicas=0")
    pods = ("get", "pods", "-n", TEAM, "-l", "app=web", "-o", "name")
    eventually(lambda: kubectl(sandbox, *pods).strip() == "", within=60)

    assert reaches_the_laptop(sandbox, team)
    told = ask(sandbox, f"http://{team}:80/hello")
    assert told.status in {502, 503}
    kubectl(sandbox, "scale", "deployment/web", "-n", TEAM, "--replicas=1")
    assert eventually(lambda: ask(sandbox, f"http://{team}:80/hello").status == 200, within=60)


def test_pods_that_come_and_go_are_followed(sandbox: Sandbox, served: Laptop, team: str) -> None:
    """A rolling deploy under load: new pods take over from old ones behind the Router as they would without it."""
    with nobody_notices(sandbox, f"http://{team}:80/hello"):
        kubectl(sandbox, "scale", "deployment/web", "-n", TEAM, "--replicas=2")
        kubectl(sandbox, "rollout", "status", "deployment/web", "-n", TEAM, "--timeout=60s")
        assert reaches_the_laptop(sandbox, team)


def test_the_namespace_goes_with_all_that_is_ours(sandbox: Sandbox, served: Laptop, team: str) -> None:
    """A namespace that cannot be deleted because of a finalizer of ours would be the worst thing to leave behind."""
    kubectl(sandbox, "delete", "namespace", TEAM, "--timeout=100s", timeout=120)

    assert TEAM not in kubectl(sandbox, "get", "namespaces", "-o", "name")
    assert eventually(lambda: served.serves() == [], within=60)


def test_a_service_of_type_load_balancer_is_served_from_outside(sandbox: Sandbox, served: Laptop, team: str) -> None:
    """The edge of an application: its address, node port and health check stay, only who answers changes."""
    edge = "sample-project-frontend"
    before = json.loads(kubectl(sandbox, "get", "service", edge, "-n", "sample-project", "-o", "json"))["spec"]
    port = before["ports"][0]["port"]
    served.serve(f"sample-project/{edge}", f"9001:{port}", *CONDITION)
    url = f"http://198.51.100.10:{port}/hello"

    assert eventually(lambda: ask(sandbox, url, *BLUE, place="internet").where == "laptop")
    after = json.loads(kubectl(sandbox, "get", "service", edge, "-n", "sample-project", "-o", "json"))["spec"]
    assert {name: after[name] for name in after if name != "selector"} == {
        name: before[name] for name in before if name != "selector"
    }
    assert ask(sandbox, url.replace("/hello", "/api"), place="internet").status == 200
    served.end(f"sample-project/{edge}")


def test_a_policy_that_guards_the_pods_gets_an_allowance_for_the_router(
    sandbox: Sandbox, team: str, serving1: Laptop
) -> None:
    """Without it the Router would be locked out, and with it everybody's traffic."""
    guard = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "guard", "namespace": TEAM},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"may": "ask"}}}]}],
        },
    }
    applied(sandbox, guard)
    with application(serving1, "http", 9001):
        serving1.serve(f"{TEAM}/web", "9001:80", *CONDITION)
        policies = json.loads(kubectl(sandbox, "get", "networkpolicies", "-n", TEAM, "-o", "json"))["items"]
        kubectl(sandbox, "delete", "serve", "web", "-n", TEAM, "--timeout=60s")
    ours = [one for one in policies if one["metadata"]["name"] != "guard"]

    assert ours
    assert next(one for one in policies if one["metadata"]["name"] == "guard")["spec"] == guard["spec"]

    def left() -> list[str]:
        found = json.loads(kubectl(sandbox, "get", "networkpolicies", "-n", TEAM, "-o", "json"))["items"]
        return [one["metadata"]["name"] for one in found]

    assert eventually(lambda: left() == ["guard"])
