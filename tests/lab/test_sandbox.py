"""The sandbox itself: a cluster that kubectl believes in, networks that are what they say, and an end without a trace."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from codezero.deploy import identity
from codezero.kit.certificates import Authority, Credentials
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft]

NAMESPACE = "sandbox-tests"
DAEMON = "codezero.local.daemon.main"


@pytest.fixture(scope="module")
def cluster(sandbox: Sandbox) -> Iterator[Callable[..., str]]:
    """kubectl in the cluster, in a namespace of these tests."""

    def kubectl(*arguments: str, namespace: str = NAMESPACE, given: str | None = None, check: bool = True) -> str:
        options = {"input": given} if given is not None else {}
        ended = sandbox.run("cluster", ["kubectl", "-n", namespace, *arguments], check=False, **options)
        if check and ended.returncode != 0:
            raise AssertionError(f"kubectl {arguments}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    kubectl("create", "namespace", NAMESPACE)
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE)


def echo_server(name: str, *, replicas: int = 1, extra: str = "") -> str:
    """A Deployment and Service whose pods answer with their names, and are ready while /tmp/ready is there."""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: main
        image: none:1
        command: [sh, -c, "touch /tmp/ready; cd /tmp; hostname > index.html; exec python -m http.server 8080"]
        ports: [{{name: web, containerPort: 8080}}]
        readinessProbe: {{exec: {{command: [cat, /tmp/ready]}}, periodSeconds: 1, failureThreshold: 1}}
{extra}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: web}}]
"""


def in_pod(kubectl: Callable[..., str], sandbox: Sandbox, script: str) -> str:
    """What a shell script prints in a pod of its own."""
    name = f"once-{time.monotonic_ns()}"
    kubectl(
        "run", name, "--image=none:1", "--restart=Never", "--command", "--", "sh", "-c", script,
    )  # fmt: skip
    eventually(lambda: kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}") in {"Succeeded", "Failed"})
    printed = kubectl("logs", name)
    kubectl("delete", "pod", name)
    return printed


def test_kubectl_sees_a_ready_cluster(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    nodes = json.loads(cluster("get", "nodes", "-o", "json"))["items"]
    assert [condition["status"] for condition in nodes[0]["status"]["conditions"] if condition["type"] == "Ready"] == [
        "True"
    ]
    cluster("wait", "--for=condition=Ready", "pod", "--all", "--timeout=30s", namespace="sample-project")
    cluster("wait", "--for=condition=Available", "deployment", "--all", "--timeout=5s", namespace="codezero")

    assert "Started container core" in cluster("describe", "pods", "-l", "component=core", namespace="sample-project")
    assert "listening" in cluster("logs", "deployment/sample-project-core", namespace="sample-project")


def test_a_pod_reaches_services_by_every_form_of_their_names(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    leaf = "sample-project-leaf.sample-project"
    script = "; ".join(
        f"curl -sS -m5 http://{name}:3010/api; echo" for name in (leaf, f"{leaf}.svc", f"{leaf}.svc.cluster.local")
    )
    answers = in_pod(cluster, sandbox, script).split("\n")

    assert [json.loads(line)["who"] for line in answers if line] == ["leaf"] * 3


def test_a_pod_of_a_headless_service_answers_to_its_name(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    peers = "sample-project-peers.sample-project"
    printed = in_pod(cluster, sandbox, f"curl -sS http://sample-project-peers-1.{peers}:3010/api")

    assert json.loads(printed)["where"] == "sample-project-peers-1"


def test_a_pod_knows_itself_and_reaches_the_internet_and_the_api(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    account = "/var/run/secrets/kubernetes.io/serviceaccount"
    printed = in_pod(
        cluster,
        sandbox,
        f"cat {account}/namespace; echo; curl -s http://www.example | head -c 15; echo; "
        f"curl -s -o /dev/null -w '%{{http_code}}\\n' --cacert {account}/ca.crt "
        f'-H "Authorization: Bearer $(cat {account}/token)" https://kubernetes.default.svc/api; ls /run/codezero-sandbox',
    )

    assert printed.split("\n")[:3] == [NAMESPACE, "<!doctype html>", "200"]
    assert "kubeconfig" not in printed


def test_a_service_spreads_over_its_pods_and_leaves_out_those_that_are_not_ready(
    sandbox: Sandbox, cluster: Callable[..., str]
) -> None:
    cluster("apply", "-f", "-", given=echo_server("spread", replicas=3))
    cluster("rollout", "status", "deployment/spread", "--timeout=30s")
    address = cluster("get", "service", "spread", "-o", "jsonpath={.spec.clusterIP}")

    def answering() -> set[str]:
        script = f"for i in $(seq 20); do curl -sS -m2 http://{address}/; done"
        return set(sandbox.run("cluster", ["sh", "-c", script]).stdout.split())

    assert eventually(lambda: len(answering()) == 3)

    first, second, _ = sorted(answering())
    for pod in (first, second):
        process = sandbox.run(
            "cluster",
            ["sh", "-c", f"ip netns pids pod-$(kubectl -n {NAMESPACE} get pod {pod} -o jsonpath={{.metadata.uid}})"],
        )
        sandbox.run("cluster", ["nsenter", "-t", process.stdout.split()[0], "-m", "rm", "/tmp/ready"])
    assert eventually(lambda: answering().isdisjoint({first, second}))

    cluster("scale", "deployment/spread", "--replicas=0")
    assert eventually(
        lambda: sandbox.run("cluster", ["curl", "-sm2", f"http://{address}/"], check=False).returncode == 7
    )


def test_a_rolling_update_never_leaves_a_service_without_a_pod(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    # As in any cluster, a pod must outlive the moment in which proxies still know it.
    linger = "        lifecycle: {preStop: {sleep: {seconds: 1}}}"
    cluster("apply", "-f", "-", given=echo_server("rolling", replicas=2, extra=linger))
    cluster("rollout", "status", "deployment/rolling", "--timeout=30s")
    before = set(cluster("get", "pods", "-l", "app=rolling", "-o", "name").split())
    address = cluster("get", "service", "rolling", "-o", "jsonpath={.spec.clusterIP}")

    loop = sandbox.popen(
        "cluster",
        ["sh", "-c", f"while :; do curl -sS -m5 -o /dev/null http://{address}/ || exit 1; done"],
        stderr=subprocess.PIPE,
    )
    try:
        cluster("rollout", "restart", "deployment/rolling")
        cluster("rollout", "status", "deployment/rolling", "--timeout=60s")
        eventually(lambda: len(cluster("get", "pods", "-l", "app=rolling", "-o", "name").split()) == 2)
        after = set(cluster("get", "pods", "-l", "app=rolling", "-o", "name").split())
        failed = loop.poll()
    finally:
        loop.kill()
        _, errors = loop.communicate()

    assert before.isdisjoint(after)
    assert failed is None, errors


def test_a_changed_secret_reaches_the_pods_that_mount_it(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    """Certificates of an hour are renewed under running processes."""
    cluster("create", "secret", "generic", "turning", "--from-literal=value=old")
    mount = """
        volumeMounts: [{name: turning, mountPath: /etc/turning, readOnly: true}]
      volumes: [{name: turning, secret: {secretName: turning}}]
"""
    cluster("apply", "-f", "-", given=echo_server("turning", extra=mount.rstrip()))
    cluster("rollout", "status", "deployment/turning", "--timeout=30s")
    uid = cluster("get", "pod", "-l", "app=turning", "-o", "jsonpath={.items[0].metadata.uid}")
    process = sandbox.run("cluster", ["ip", "netns", "pids", f"pod-{uid}"]).stdout.split()[0]

    def seen() -> str:
        return sandbox.run("cluster", ["nsenter", "-t", process, "-m", "cat", "/etc/turning/value"]).stdout

    assert seen() == "old"
    cluster("patch", "secret", "turning", "-p", '{"stringData":{"value":"new"}}')
    assert eventually(lambda: seen() == "new")


def test_a_pod_on_the_nodes_network_has_the_nodes_address(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    overrides = '{"spec":{"hostNetwork":true}}'
    command = ["sleep", "1000"]
    cluster("run", "on-node", "--image=none:1", f"--overrides={overrides}", "--command", "--", *command)

    eventually(lambda: cluster("get", "pod", "on-node", "-o", "jsonpath={.status.podIP}") == "198.51.100.10")
    assert "uplink0" in sandbox.run("cluster", ["ip", "link"]).stdout
    cluster("delete", "pod", "on-node", "--grace-period=1")
    assert "uplink0" in sandbox.run("cluster", ["ip", "link"]).stdout


def test_a_pod_that_crashes_is_started_again_and_says_so(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    cluster("run", "crashing", "--image=none:1", "--command", "--", "sh", "-c", "echo once more; exit 3")

    eventually(lambda: "CrashLoopBackOff" in cluster("get", "pod", "crashing"))
    status = json.loads(cluster("get", "pod", "crashing", "-o", "json"))["status"]["containerStatuses"][0]
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert "once more" in cluster("logs", "crashing", "--previous")
    cluster("delete", "pod", "crashing")


def test_an_image_without_a_command_is_refused_in_words(sandbox: Sandbox, cluster: Callable[..., str]) -> None:
    cluster("run", "imageful", "--image=nginx")

    eventually(lambda: "ErrImagePull" in cluster("get", "pod", "imageful"))
    assert "the sandbox has no images" in cluster("describe", "pod", "imageful")
    cluster("delete", "pod", "imageful")


@pytest.mark.parametrize("laptop", layout.LAPTOPS)
def test_only_the_tunnel_port_is_open_to_laptops(sandbox: Sandbox, cluster: Callable[..., str], laptop: str) -> None:
    node_port = cluster("get", "service", "codezero", "-o", "jsonpath={.spec.ports[0].nodePort}", namespace="codezero")
    pod = cluster("get", "pods", "-o", "jsonpath={.items[0].status.podIP}", namespace="codezero")
    edge = cluster(
        "get",
        "service",
        "sample-project-frontend",
        "-o",
        "jsonpath={.spec.ports[0].nodePort}",
        namespace="sample-project",
    )
    sandbox.run(laptop, ["sh", "-c", "ip route replace 10.0.0.0/8 via 203.0.113.1"])
    targets = [f"198.51.100.10:{port}" for port in (22, 53, 80, 443, 6443, 8801, 8900, node_port, edge)]
    targets += ["10.96.0.1:443", "10.96.0.10:53", f"{pod}:8800"]
    try:
        reached = [target for target in targets if _connects(sandbox, target, place=laptop)]
    finally:
        sandbox.run(laptop, ["ip", "route", "del", "10.0.0.0/8"])

    assert reached == []
    assert _connects(sandbox, "198.51.100.10:8800", place=laptop)


def test_users_of_the_cluster_enter_by_what_services_open_and_by_nothing_else(
    sandbox: Sandbox, cluster: Callable[..., str]
) -> None:
    """The demonstration asks from outside; what it finds must have been opened by a Service."""
    service = json.loads(cluster("get", "service", "sample-project-frontend", "-o", "json", namespace="sample-project"))
    pod = cluster("get", "pods", "-o", "jsonpath={.items[0].status.podIP}", namespace="codezero")

    assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == "198.51.100.10"
    for port in (80, service["spec"]["ports"][0]["nodePort"]):
        assert "<title>" in sandbox.run("internet", ["curl", "-sS", "-m5", f"http://198.51.100.10:{port}/"]).stdout
    targets = [*(f"198.51.100.10:{port}" for port in (53, 6443, 8801, 8900)), "10.96.0.1:443", f"{pod}:8801"]
    assert [target for target in targets if _connects(sandbox, target, place="internet")] == []
    assert [
        target for target in ("198.51.100.10:80", "198.51.100.10:8800") if _connects(sandbox, target, place="lan")
    ] == []


def test_two_load_balancers_of_one_port_do_not_disturb_each_other(
    sandbox: Sandbox, cluster: Callable[..., str]
) -> None:
    """One of them waits, and gets the port when the other goes; nothing else in the cluster notices."""
    names = {"balanced-1", "balanced-2"}
    for name in names:
        balanced = echo_server(name).replace(
            "ports: [{name: http, port: 80", "type: LoadBalancer\n  ports: [{name: http, port: 81"
        )
        cluster("apply", "-f", "-", given=balanced)
        cluster("rollout", "status", f"deployment/{name}", "--timeout=30s")

    def answering() -> str:
        printed = sandbox.run("internet", ["curl", "-sm2", "http://198.51.100.10:81/"], check=False).stdout
        return next((name for name in names if printed.startswith(name)), "")

    first = eventually(answering)
    (other,) = names - {first}
    assert "<pending>" in cluster("get", "service", other)
    assert "<pending>" not in cluster("get", "service", first)
    cluster("delete", "service", first)
    assert eventually(lambda: answering() == other)
    assert eventually(lambda: "<pending>" not in cluster("get", "service", other))
    cluster("delete", "deployment", *names)
    cluster("delete", "service", other)


def test_serves_are_seen_explained_checked_and_deleted_by_kubectl(cluster: Callable[..., str]) -> None:
    serve = """
apiVersion: codezero.io/v1beta1
kind: Serve
metadata: {name: orders}
spec:
  service: orders
  routes:
  - {user: 01J0000000000000000000000A, userName: ann, condition: {type: default}, ports: [{localPort: 3000, remotePort: 80}]}
"""
    cluster("apply", "-f", "-", given=serve)
    # The System looks at it too, and follows nothing that it has not made.
    eventually(lambda: "refused" in cluster("get", "serve", "orders"))

    head, *rows = cluster("get", "serves", "-A").splitlines()
    row = next(one for one in rows if one.split()[1] == "orders")
    assert head.split("  ")[0] == "NAMESPACE"
    assert "STATE" in head
    assert row.split()[1:5] == ["orders", "orders", "refused", "ann"]
    assert "What is looked at" in cluster("explain", "serve.spec.routes.condition.type")
    refused = cluster("apply", "-f", "-", given=serve.replace("default}", "weather}"), check=False)
    assert "created" not in refused
    assert "configured" not in refused
    cluster("delete", "srv", "orders")
    assert cluster("get", "serves", "-o", "name") == ""


ROUTER_LIKE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: like-router}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: like-router}
spec:
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: like-router}}
  template:
    metadata: {labels: {app: like-router}}
    spec:
      serviceAccountName: like-router
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 2
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
        sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]
      initContainers:
      - name: sidecar
        image: none:1
        restartPolicy: Always
        command: [python, -c, SIDECAR]
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        startupProbe: {httpGet: {path: /startz, port: 8803}, periodSeconds: 1, failureThreshold: 30}
        readinessProbe: {httpGet: {path: /readyz, port: 8803}, periodSeconds: 1}
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts:
        - {name: shared, mountPath: /run/shared}
        - {name: token, mountPath: /var/run/secrets/own, readOnly: true}
      containers:
      - name: main
        image: none:1
        command: [python, -c, MAIN]
        ports: [{name: http, containerPort: 80}]
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: shared, mountPath: /run/shared}]
      volumes:
      - name: shared
        emptyDir: {sizeLimit: 32Mi}
      - name: token
        projected:
          sources:
          - serviceAccountToken: {audience: codezero.io/router, expirationSeconds: 3600, path: token}
"""
# Ready when the main container's socket answers, as a Router is when its Envoy does.
SIDECAR = """
import http.server, pathlib, socket
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == '/readyz':
                with socket.socket(socket.AF_UNIX) as beside:
                    beside.connect('/run/shared/main.sock')
            self.send_response(200)
        except OSError:
            self.send_response(503)
        self.end_headers()
        self.wfile.write(pathlib.Path('/var/run/secrets/own/token').read_bytes() if self.path == '/token' else b'')
print('sidecar serves', flush=True)
http.server.ThreadingHTTPServer(('0.0.0.0', 8803), Answers).serve_forever()
"""
MAIN = """
import socket, threading
beside = socket.socket(socket.AF_UNIX); beside.bind('/run/shared/main.sock'); beside.listen()
threading.Thread(target=lambda: [beside.accept() for _ in iter(int, 1)], daemon=True).start()
port = socket.create_server(('0.0.0.0', 80))
while True: port.accept()[0].sendall(b'main')
"""


def test_a_pod_like_a_routers_comes_up_quickly_rolls_and_proves_who_it_is(
    sandbox: Sandbox, cluster: Callable[..., str]
) -> None:
    manifest = ROUTER_LIKE.replace("SIDECAR", json.dumps(SIDECAR)).replace("MAIN", json.dumps(MAIN))
    cluster("apply", "-f", "-", given=manifest)
    cluster("rollout", "status", "deployment/like-router", "--timeout=30s")
    pod = json.loads(cluster("get", "pods", "-l", "app=like-router", "-o", "json"))["items"][0]
    address, name = pod["status"]["podIP"], pod["metadata"]["name"]

    assert [one["ready"] for kind in ("initC", "c") for one in pod["status"][f"{kind}ontainerStatuses"]] == [True, True]
    token = sandbox.run("cluster", ["curl", "-sS", f"http://{address}:8803/token"]).stdout
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["codezero.io/router"]},
    }
    asked = json.loads(cluster("create", "-f", "-", "-o", "json", given=json.dumps(review)))["status"]
    assert asked["authenticated"]
    assert asked["user"]["username"] == f"system:serviceaccount:{NAMESPACE}:like-router"
    review["spec"] = {"token": token}
    assert not json.loads(cluster("create", "-f", "-", "-o", "json", given=json.dumps(review)))["status"].get(
        "authenticated"
    )

    assert "sidecar serves" in cluster("logs", name, "-c", "sidecar")
    # A sidecar that crashes takes its pod's readiness with it, and nothing of the container beside it.
    assert sandbox.kill(name, namespace=NAMESPACE, container="sidecar") == 1
    eventually(lambda: _restarts(cluster, name) == {"sidecar": 1, "main": 0})
    eventually(lambda: "2/2" in cluster("get", "pod", name))
    with pytest.raises(CodezeroError, match="no container 'none' of pod"):
        sandbox.kill(name, namespace=NAMESPACE, container="none")

    cluster("rollout", "restart", "deployment/like-router")
    cluster("rollout", "status", "deployment/like-router", "--timeout=30s")
    eventually(lambda: cluster("get", "pod", name, "--ignore-not-found") == "")
    cluster("delete", "deployment", "like-router")


def test_a_sysctl_that_is_not_the_pods_own_is_refused(cluster: Callable[..., str]) -> None:
    overrides = '{"spec":{"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"1"}]}}}'
    cluster("run", "greedy", "--image=none:1", f"--overrides={overrides}", "--command", "--", "sleep", "1000")

    eventually(lambda: "forbidden sysctl" in cluster("describe", "pod", "greedy"))
    cluster("delete", "pod", "greedy")


def _restarts(kubectl: Callable[..., str], pod: str) -> dict[str, int]:
    status = json.loads(kubectl("get", "pod", pod, "-o", "json"))["status"]
    return {
        one["name"]: one["restartCount"] for kind in ("initC", "c") for one in status.get(f"{kind}ontainerStatuses", ())
    }


def test_what_belongs_to_a_service_goes_with_it(cluster: Callable[..., str]) -> None:
    """What serving leaves behind must not outlive the Service it is for."""
    cluster("create", "service", "clusterip", "owner", "--tcp=80:80")
    uid = cluster("get", "service", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = f'"ownerReferences": [{{"apiVersion": "v1", "kind": "Service", "name": "owner", "uid": "{uid}"}}]'
    owned = ("serviceaccount/owned", "configmap/owned")
    for each in owned:
        kind, _, name = each.partition("/")
        cluster("create", kind, name)
        cluster("patch", kind, name, "--type=merge", "-p", f'{{"metadata": {{{owner}}}}}')
    cluster("delete", "service", "owner")

    eventually(lambda: cluster("get", *owned, "--ignore-not-found", "-o", "name") == "")


def test_one_laptop_is_cut_off_and_the_other_is_not(sandbox: Sandbox) -> None:
    sandbox.cut("laptop2")
    try:
        assert sandbox.status().cut == ("laptop2",)
        assert _connects(sandbox, "198.51.100.10:8800")
        assert not _connects(sandbox, "198.51.100.10:8800", place="laptop2")
    finally:
        sandbox.mend("laptop2")
    assert _connects(sandbox, "198.51.100.10:8800", place="laptop2")
    with pytest.raises(CodezeroError, match="is no laptop"):
        sandbox.cut("lan")


def test_two_laptops_have_agents_of_their_own(both: tuple[Laptop, Laptop]) -> None:
    """All places share one process namespace; whatever finds its own by process id must not find the neighbour's."""
    first, second = both
    assert [each.status()["teamspace"]["user"] for each in both] == ["dev1", "dev2"]
    assert [each.run("hostname").stdout for each in both] == ["laptop\n", "laptop2\n"]
    assert set(first.processes(DAEMON)).isdisjoint(second.processes(DAEMON))
    assert first.processes("czsystem") == second.processes("czsystem") != []

    before = second.processes(DAEMON)
    first.kill(DAEMON)
    eventually(first.is_connected)
    first.stop()

    assert not first.processes(DAEMON)
    assert second.processes(DAEMON) == before
    assert second.is_connected()
    assert second.core()["leaf"]["who"] == "leaf"


def test_a_cut_is_silent_and_can_be_mended(sandbox: Sandbox) -> None:
    sandbox.cut()
    try:
        assert sandbox.status().cut == ("laptop", "laptop2")
        assert sandbox.run("laptop", _connect_command("198.51.100.10:8800", 2), check=False).stdout == "TimeoutError\n"
    finally:
        sandbox.mend()
    assert _connects(sandbox, "198.51.100.10:8800")


def test_what_the_laptop_changes_stays_on_the_laptop(sandbox: Sandbox) -> None:
    """The machine's own /etc must not be touched, whoever is root in the sandbox."""
    before = {name: Path("/etc", name).read_bytes() for name in ("hosts", "resolv.conf")}
    sandbox.run(
        "laptop",
        ["sh", "-c", "echo 127.9.9.9 mine >> /etc/hosts; cp /etc/resolv.conf /etc/r && mv /etc/r /etc/resolv.conf"],
    )

    assert "mine" in sandbox.run("laptop", ["cat", "/etc/hosts"]).stdout
    assert "mine" not in sandbox.run("cluster", ["cat", "/etc/hosts"]).stdout
    assert {name: Path("/etc", name).read_bytes() for name in before} == before
    sandbox.run("laptop", ["sed", "-i", "/mine/d", "/etc/hosts"])


def test_an_exit_status_and_signals_come_through(sandbox: Sandbox) -> None:
    assert sandbox.run("laptop", ["sh", "-c", "exit 7"], check=False).returncode == 7
    assert sandbox.run("laptop", ["sh", "-c", "kill -KILL $$"], check=False).returncode == -signal.SIGKILL
    assert sandbox.run("laptop", ["no-such-program"], check=False).returncode == 127

    waiting = sandbox.popen(
        "laptop",
        ["sh", "-c", "trap 'echo told; exit 5' TERM; echo up; while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
    )
    assert waiting.stdout is not None
    waiting.stdout.readline()
    waiting.terminate()
    printed, _ = waiting.communicate()

    assert (waiting.returncode, printed) == (5, b"told\n")


def test_a_second_sandbox_of_a_name_is_refused_and_other_names_are_not(sandbox: Sandbox) -> None:
    with pytest.raises(CodezeroError) as refused:
        Sandbox.up(name=sandbox.name)
    assert refused.value.problem is problems.SANDBOX_RUNNING

    with pytest.raises(CodezeroError) as missing:
        Sandbox.find("another")
    assert missing.value.problem is problems.SANDBOX_NOT_RUNNING


def test_killing_the_keeper_ends_everything(state_home: Path) -> None:
    """Whatever happens, nothing of a sandbox may survive it: no process, no network namespace, no mount, no secret."""
    doomed = Sandbox.up(name=f"doomed-{os.getpid()}", sample=False, tied=True)
    inside = Path(f"/proc/{doomed.keeper}/ns/pid").readlink()
    other = doomed.popen("laptop", ["sleep", "1000"])
    # Keeper, runtime, System, Orchestrator and the sleeper.
    assert eventually(lambda: len(_processes_in(inside)) >= 5)

    os.kill(doomed.keeper, signal.SIGKILL)

    other.wait(timeout=10)
    assert eventually(lambda: not _processes_in(inside))
    assert "codezero-sandbox" not in Path("/proc/self/mountinfo").read_text()
    assert not any(b"PRIVATE KEY" in file.read_bytes() for file in doomed.folder.rglob("*") if file.is_file())
    with pytest.raises(CodezeroError):
        doomed.status()
    assert not doomed.down()
    assert not doomed.folder.exists()


def test_certificates_are_renewed_under_running_parts(state_home: Path) -> None:
    """In-cluster certificates live an hour; a Teamspace that runs for weeks must not notice. Here somebody brings a Secret that is about to run out."""
    with Sandbox.up(name=f"brief-{os.getpid()}", sample=False, tied=True) as brief:
        script = (
            "import json, socket, ssl, sys\n"
            "access = json.load(open(sys.argv[1]))\n"
            "context = ssl.create_default_context(cadata=access['roots'])\n"
            "context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN\n"
            "name = access['teamspace'].lower() + '.spaces.codezero.io'\n"
            "with socket.create_connection((access['host'], access['port']), timeout=5) as plain:\n"
            "    with context.wrap_socket(plain, server_hostname=name) as wrapped:\n"
            "        print(wrapped.getpeercert()['serialNumber'])\n"
        )

        def serial() -> int:
            return int(brief.run("laptop", ["python", "-c", script, brief.access_file()]).stdout, 16)

        kubectl = ["kubectl", "-n", "codezero"]
        secret = json.loads(brief.run("cluster", [*kubectl, "get", "secret", "codezero-identity", "-o", "json"]).stdout)
        content = identity.secret_content(secret)
        authority = Authority(Credentials.from_pem(content["ca.crt"], content["ca.key"]))
        data: dict[str, str] = {}
        ending = {serial()}
        for role in identity.ROLES:
            own = identity.leaf(
                authority, identity.teamspace_of(content), role, namespace="codezero", lifetime=timedelta(minutes=2)
            )
            ending.add(own.chain[0].serial_number)
            data |= {name: b64encode(text.encode()).decode() for name, text in identity.leaf_files(role, own).items()}
        patch = json.dumps({"data": data})
        brief.run("cluster", [*kubectl, "patch", "secret", "codezero-identity", "--patch-file=/dev/stdin"], input=patch)
        eventually(lambda: serial() not in ending, within=60)
        parts = [pod for pod in brief.status().pods if pod.ready]

    assert [pod.restarts for pod in parts] == [0, 0]


def test_a_terminal_belongs_to_the_command(sandbox: Sandbox) -> None:
    """Ctrl-C must end what runs in the shell and not the shell; job control must work."""
    environment = sandbox.environment("laptop") | {"PS1": "prompt> "}
    process, terminal = pty.fork()
    if process == 0:
        command = sandbox.command("laptop", ["/bin/sh", "-i"])
        os.execve(command[0], command, environment)
    printed = ""

    def shows(text: str) -> bool:
        nonlocal printed
        while select.select([terminal], [], [], 0)[0]:
            try:
                printed += os.read(terminal, 4096).decode()
            except OSError:
                break
        return text in printed

    eventually(lambda: shows("prompt> "))
    os.write(terminal, b"sleep 1000\n")
    eventually(lambda: shows("sleep 1000\r\n"))
    eventually(lambda: "sleep 1000" in sandbox.run("laptop", ["ps", "ax"]).stdout)
    os.write(terminal, b"\x03")
    os.write(terminal, b"echo survived $((40 + 2)); exit 3\n")
    eventually(lambda: shows("survived 42"))
    _, status = os.waitpid(process, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 3, printed


def test_where_the_kernel_forbids_it_the_switch_is_named(state_home: Path) -> None:
    """On somebody's hardened machine the first thing they see must be the way out."""
    script = (
        "from codezero.sandbox.control import Sandbox; from codezero.model.problems import CodezeroError\n"
        "try: Sandbox.up(name='never')\n"
        "except CodezeroError as error: print(error.problem.code, error.detail, '|', error.fix)\n"
    )
    # Root of a user namespace that may have no others, and without its powers: as an ordinary user with the switch off.
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "
    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", f'{forbid} "$@"', "sh", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "CZ-SANDBOX-001" in ended.stdout, ended.stderr
    assert "user.max_user_namespaces is 0" in ended.stdout
    assert "| sudo sysctl user.max_user_namespaces=15000" in ended.stdout


def test_a_tied_sandbox_ends_with_whoever_started_it(state_home: Path) -> None:
    script = (
        "import os, sys; from codezero.sandbox.control import Sandbox; "
        f"s = Sandbox.up(name='tied-{os.getpid()}', sample=False, tied=True); print(s.keeper, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    keeper = int(owner.stdout.readline())
    inside = Path(f"/proc/{keeper}/ns/pid").readlink()

    owner.kill()
    owner.communicate()

    assert eventually(lambda: not _processes_in(inside))
    assert Sandbox.forget(f"tied-{os.getpid()}")


def _connect_command(target: str, seconds: int) -> list[str]:
    host, _, port = target.rpartition(":")
    script = (
        "import socket\n"
        f"try: socket.create_connection(({host!r}, {port}), timeout={seconds})\n"
        "except OSError as error: print(type(error).__name__); raise SystemExit(1)"
    )
    return ["python", "-c", script]


def _connects(sandbox: Sandbox, target: str, *, place: str = "laptop") -> bool:
    return sandbox.run(place, _connect_command(target, 1), check=False).returncode == 0


def _processes_in(namespace: Path) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/pid").readlink() == namespace:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
