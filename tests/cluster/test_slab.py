"""The Kubernetes that the other tests here rest on: it behaves as one does, and leaves nothing behind."""

import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import binaries
from tests.cluster.slab import Slab, SlabError, layout

from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.root, pytest.mark.netns, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NAMESPACE = "slab-test"
IMAGE = "docker.io/library/slab-busybox:test"
BUSYBOX = Path("/bin/busybox")
# Answers with the application's name, the pod's, and the address that asked.
ANSWER = '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%s %s %s\\n" "$APP" "$(hostname)" "$REMOTE_ADDR"\n'
SERVE = (
    "mkdir -p /www/cgi-bin && printf '%s' \"$ANSWER\" > /www/cgi-bin/answer && chmod +x /www/cgi-bin/answer && "
    ": > /www/ready && exec httpd -f -vv -p 0.0.0.0:8080 -h /www"
)
PATH = "cgi-bin/answer"
# After an API server was away, Kubernetes' own clients pause before they ask again: from 0.8 s, twice as long each time, to 30 s, and by chance up to twice
# that. For so long kubelet, controllers and kube-proxy, one after the other, may be behind what is so.
CATCHES_UP = 400.0


@pytest.fixture(scope="module")
def slab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slab]:
    """One of its own, because these tests end its components."""
    with start(tmp_path_factory.mktemp("slab")) as running:
        running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        eventually(lambda: running.kubectl("get", "serviceaccount", "default", "-n", NAMESPACE, check=False))
        yield running


@pytest.fixture(scope="module")
def pods(slab: Slab, tmp_path_factory: pytest.TempPathFactory) -> Slab:
    """With two pods of `web`, one of `dev`, a service for each, and the pod `client`."""
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    archive.write_bytes(busybox_archive())
    slab.load(archive)
    apply(slab, deployment("web", replicas=2), deployment("dev", replicas=1), service("web"), service("dev"))
    apply(slab, pod("client", command=["sleep", "100000"]))
    kubectl(slab, "wait", "--for=condition=Available", "deployment/web", "deployment/dev", "--timeout=60s")
    kubectl(slab, "wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    eventually(lambda: ask(slab, "web") and ask(slab, "dev"))
    return slab


def start(state: Path, **options: Any) -> Slab:
    """A slab, or a skip that says what it lacks."""
    lacking = Slab.lacks(
        binaries=binaries.programs(),
        images=binaries.archives(),
        control_plane=options.get("control_plane", False),
        proxy_mode=options.get("proxy_mode", "nftables"),
    )
    if lacking:
        pytest.skip(f"no Kubernetes can be started here: {lacking} (tests/cluster/README.md)")
    return Slab.start(binaries=binaries.programs(), images=binaries.archives(), state=state, **options)


def busybox_archive() -> bytes:
    """An image with a static busybox and nothing else."""
    if not BUSYBOX.exists() or b"/ld-linux" in BUSYBOX.read_bytes():
        pytest.skip(f"{BUSYBOX} is not a static busybox (Debian: busybox-static)")
    content = BUSYBOX.read_bytes()
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "tmp", "www"):
            add(tar, folder, kind=tarfile.DIRTYPE, mode=0o777)
        add(tar, "bin/busybox", content, mode=0o755)
        for applet in applets:
            if applet != "busybox":
                add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    settings = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        add(tar, "config.json", json.dumps(settings).encode())
        add(tar, "layer.tar", layer.getvalue())
        add(tar, "manifest.json", json.dumps(manifest).encode())
    return archive.getvalue()


def add(
    tar: tarfile.TarFile,
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    target: str = "",
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode, entry.linkname = kind, len(content), mode, target
    tar.addfile(entry, io.BytesIO(content))


def deployment(app: str, *, replicas: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", SERVE],
        "env": [{"name": "APP", "value": app}, {"name": "ANSWER", "value": ANSWER}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": app}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def pod(name: str, *, command: list[str], **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": command, **more}
    specification = {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": specification}


def service(app: str, *, name: str | None = None, kind: str = "ClusterIP") -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    specification = {"type": kind, "selector": {"app": app}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name or app}, "spec": specification}


def kubectl(slab: Slab, *arguments: str, **options: Any) -> str:
    return slab.kubectl("-n", NAMESPACE, *arguments, **options)


def apply(slab: Slab, *manifests: dict[str, Any]) -> None:
    slab.apply(*manifests, namespace=NAMESPACE)


def get(slab: Slab, *arguments: str) -> dict[str, Any]:
    return json.loads(kubectl(slab, "get", *arguments, "-o", "json"))


def pod_of(slab: Slab, app: str) -> str:
    """A pod of an application, by name."""
    return get(slab, "pods", "-l", f"app={app}")["items"][0]["metadata"]["name"]


def ready_addresses(slab: Slab, name: str) -> set[str]:
    """The addresses at which a service is ready, by its endpoint slices."""
    slices = get(slab, "endpointslices", "-l", f"kubernetes.io/service-name={name}")["items"]
    endpoints = [one for each in slices for one in each["endpoints"] or () if one["conditions"].get("ready")]
    return {address for one in endpoints for address in one["addresses"]}


def address_of(slab: Slab, name: str) -> str:
    return get(slab, "service", name)["spec"]["clusterIP"]


def curl(slab: Slab, url: str) -> list[str]:
    """The words of an answer, asked for from the node; none where there is none."""
    return slab.run(["curl", "-s", "--noproxy", "*", "-m", "2", url], check=False).split()


def ask(slab: Slab, name: str) -> list[str]:
    """The words a service answers from its cluster address, asked from the node."""
    return curl(slab, f"http://{address_of(slab, name)}/{PATH}")


def reached(slab: Slab, name: str) -> int:
    """How many pods answer for a service."""
    return len({tuple(answer[:2]) for answer in (ask(slab, name) for _ in range(10)) if answer})


def ask_from_pod(slab: Slab, host: str, *, pod: str = "client") -> list[str]:
    """The words a service answers, asked from a pod."""
    # Debian's busybox crashes on `wget -T`.
    wget = ("timeout", "3", "wget", "-q", "-O", "-", f"http://{host}/{PATH}")
    return kubectl(slab, "exec", pod, "--", *wget, check=False).split()


# The control plane.


def test_it_says_its_version(slab: Slab) -> None:
    assert json.loads(slab.kubectl("get", "--raw", "/version"))["gitVersion"].startswith("v1.")


def test_a_service_gets_an_address_of_the_cluster(slab: Slab) -> None:
    apply(slab, service("nothing", name="addressed"))

    assert address_of(slab, "addressed").startswith("10.96.")


def test_a_deployment_makes_its_pods(slab: Slab) -> None:
    wanted = deployment("nowhere", replicas=2)
    wanted["spec"]["template"]["spec"]["nodeSelector"] = {"no": "node"}
    apply(slab, wanted)
    eventually(lambda: len(get(slab, "pods", "-l", "app=nowhere")["items"]) == 2)
    kubectl(slab, "delete", "deployment", "nowhere")


def test_resources_of_ones_own_are_stored_and_checked(slab: Slab) -> None:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": {"type": "object", "properties": {"service": {"type": "string", "pattern": "^[a-z-]+$"}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
    }
    names = {"plural": "routes", "singular": "route", "kind": "Route"}
    slab.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "routes.slab.example"},
            "spec": {"group": "slab.example", "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )
    slab.kubectl("wait", "--for=condition=Established", "crd/routes.slab.example", "--timeout=20s")
    route = {"apiVersion": "slab.example/v1", "kind": "Route", "metadata": {"name": "one"}, "spec": {"service": "web"}}
    # What the API server tells of its resources follows a little later.
    eventually(lambda: "created" in kubectl(slab, "apply", "-f", "-", input=json.dumps(route), check=False))
    kubectl(slab, "patch", "route", "one", "--subresource=status", "--type=merge", "-p", '{"status":{"seen":1}}')
    refused = kubectl(slab, "patch", "route", "one", "--type=merge", "-p", '{"spec":{"service":"A B"}}', check=False)

    assert "Invalid value" in refused
    assert get(slab, "route", "one")["status"] == {"seen": 1}


def test_a_watch_tells_each_change_in_order(slab: Slab) -> None:
    shown = "jsonpath={.type}{' '}{.object.data.key}{'\\n'}"
    options = ("-w", "--output-watch-events", "--field-selector=metadata.name=watched", "-o", shown)
    # The first event proves that it watches.
    kubectl(slab, "create", "configmap", "watched", "--from-literal=key=1")
    command = slab.kubectl_command("-n", NAMESPACE, "get", "configmaps", *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = watching.stdout.readline()
        kubectl(slab, "patch", "configmap", "watched", "-p", '{"data":{"key":"2"}}')
        kubectl(slab, "delete", "configmap", "watched")
        rest = [watching.stdout.readline(), watching.stdout.readline()]
        # It is kubectl itself, so that this reaches it, or this test would not end.
        watching.terminate()

    assert [line.strip() for line in (first, *rest)] == ["ADDED 1", "MODIFIED 2", "DELETED 2"]


def test_a_field_of_another_manager_is_not_taken_unless_forced(slab: Slab) -> None:
    apply(slab, service("mine", name="managed"))
    theirs = json.dumps(service("theirs", name="managed"))
    server_side = ("apply", "--server-side", "--field-manager=another", "-f", "-")
    refused = kubectl(slab, *server_side, input=theirs, check=False)
    kubectl(slab, *server_side, "--force-conflicts", input=theirs)

    assert "conflict" in refused
    assert get(slab, "service", "managed")["spec"]["selector"] == {"app": "theirs"}


def test_an_update_of_what_changed_meanwhile_is_refused(slab: Slab) -> None:
    apply(slab, service("any", name="changed"))
    old = get(slab, "service", "changed")
    kubectl(slab, "label", "service", "changed", "meanwhile=yes")
    refused = kubectl(slab, "replace", "-f", "-", input=json.dumps(old), check=False)

    assert "the object has been modified" in refused


def test_a_token_may_do_what_its_role_says_and_no_more(slab: Slab) -> None:
    rbac = "rbac.authorization.k8s.io"
    apply(
        slab,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": NAMESPACE}],
        },
    )
    apply(slab, service("any", name="listed"))
    kubeconfig = slab.kubeconfig_for("reader", kubectl(slab, "create", "token", "reader").strip())

    # The last one on a command line wins.
    as_reader = f"--kubeconfig={kubeconfig}"
    allowed = slab.kubectl("get", "services", "-n", NAMESPACE, as_reader, "-o", "name")
    other_kind = slab.kubectl("get", "pods", "-n", NAMESPACE, as_reader, check=False)
    other_namespace = slab.kubectl("get", "services", "-n", "default", as_reader, check=False)

    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
    assert "service/" in allowed
    assert "Forbidden" in other_kind
    assert "Forbidden" in other_namespace


def test_a_user_by_certificate_is_in_the_groups_it_names(slab: Slab) -> None:
    kubeconfig = slab.kubeconfig_for("someone", groups=("team",))
    told = json.loads(slab.kubectl("auth", "whoami", "-o", "json", f"--kubeconfig={kubeconfig}"))

    assert told["status"]["userInfo"]["username"] == "someone"
    assert "team" in told["status"]["userInfo"]["groups"]


def test_endpoint_slices_follow_pods_and_the_selector(slab: Slab) -> None:
    # A ready pod whose node does not exist gets no endpoint.
    slab.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "by-hand"}})
    apply(slab, service("old", name="followed"))
    for name, app, address in (("p1", "old", "192.0.2.11"), ("p2", "old", "192.0.2.12"), ("p3", "new", "192.0.2.13")):
        wanted = pod(name, command=["none"])
        wanted["metadata"]["labels"] = {"app": app}
        wanted["spec"] |= {"nodeName": "by-hand", "tolerations": [{"operator": "Exists"}]}
        apply(slab, wanted)
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
        patch = json.dumps({"status": status})
        kubectl(slab, "patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)
    eventually(lambda: ready_addresses(slab, "followed") == {"192.0.2.11", "192.0.2.12"})
    kubectl(slab, "patch", "service", "followed", "-p", '{"spec":{"selector":{"app":"new"}}}')
    eventually(lambda: ready_addresses(slab, "followed") == {"192.0.2.13"})
    slab.kubectl("delete", "node", "by-hand")
    kubectl(slab, "delete", "pod", "p1", "p2", "p3", "--force", "--grace-period=0")


# The node.


def test_an_address_of_the_cluster_reaches_every_pod_from_the_node(pods: Slab) -> None:
    seen: set[str] = set()
    eventually(lambda: seen.update(ask(pods, "web")[1:2]) or len(seen) == 2)


def test_an_address_of_the_cluster_reaches_every_pod_from_a_pod_and_shows_who_asks(pods: Slab) -> None:
    address, own = address_of(pods, "web"), get(pods, "pod", "client")["status"]["podIP"]
    seen: set[str] = set()

    def both() -> bool:
        app, name, asker = ask_from_pod(pods, address)
        assert (app, asker) == ("web", own)
        seen.add(name)
        return len(seen) == 2

    eventually(both)


def test_a_pod_reaches_itself_through_its_service(pods: Slab) -> None:
    name = pod_of(pods, "dev")
    eventually(lambda: ask_from_pod(pods, address_of(pods, "dev"), pod=name)[:2] == ["dev", name])


def test_a_service_has_its_names(pods: Slab) -> None:
    for name in ("web", f"web.{NAMESPACE}", f"web.{NAMESPACE}.svc.{layout.DOMAIN}"):
        assert ask_from_pod(pods, name)[:1] == ["web"], name


def test_a_change_of_the_selector_moves_traffic_and_back(pods: Slab) -> None:
    for app in ("dev", "web"):
        kubectl(pods, "patch", "service", "web", "-p", json.dumps({"spec": {"selector": {"app": app}}}))
        eventually(lambda app=app: ask(pods, "web")[:1] == [app])

        assert all(ask_from_pod(pods, "web")[:1] == [app] for _ in range(5))


def test_a_pod_that_is_not_ready_gets_no_traffic(pods: Slab) -> None:
    name = pod_of(pods, "web")
    kubectl(pods, "exec", name, "--", "rm", "/www/ready")
    eventually(lambda: len(ready_addresses(pods, "web")) == 1)
    kubectl(pods, "exec", name, "--", "touch", "/www/ready")
    eventually(lambda: len(ready_addresses(pods, "web")) == 2)


def test_logs_exec_and_port_forward_work(pods: Slab) -> None:
    name = pod_of(pods, "dev")
    forward = pods.kubectl_command("-n", NAMESPACE, "port-forward", f"pod/{name}", "18080:8080")
    with subprocess.Popen(forward, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forwarding:
        eventually(lambda: curl(pods, f"http://127.0.0.1:18080/{PATH}")[:1] == ["dev"])
        forwarding.terminate()

    assert PATH in kubectl(pods, "logs", name)
    assert kubectl(pods, "exec", name, "--", "sh", "-c", "echo $APP").strip() == "dev"


def test_a_port_of_the_node_reaches_a_service(pods: Slab) -> None:
    apply(pods, service("web", name="outside", kind="NodePort"))
    port = get(pods, "service", "outside")["spec"]["ports"][0]["nodePort"]
    eventually(lambda: curl(pods, f"http://{layout.NODE_ADDRESS}:{port}/{PATH}")[:1] == ["web"])


def test_a_pods_token_is_good_at_the_api_by_its_name_in_the_cluster(pods: Slab) -> None:
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    # Busybox cannot check certificates; that they are good for this name is checked by others.
    script = (
        f'wget -q -O - --no-check-certificate --header "Authorization: Bearer $(cat {folder}/token)" '
        f"https://kubernetes.default.svc/api/v1/namespaces/{NAMESPACE}/pods 2>&1"
    )
    told = kubectl(pods, "exec", "client", "--", "timeout", "10", "sh", "-c", script, check=False)

    # Known, and not allowed: without a token it would be 401.
    assert "403" in told


def test_a_restart_rolls(pods: Slab) -> None:
    before = pod_of(pods, "web")
    kubectl(pods, "rollout", "restart", "deployment/web")
    kubectl(pods, "rollout", "status", "deployment/web", "--timeout=60s")
    eventually(lambda: len(ready_addresses(pods, "web")) == 2)

    names = {one["metadata"]["name"] for one in get(pods, "pods", "-l", "app=web")["items"]}
    assert before not in names or len(names) > 2


def test_a_limit_of_memory_ends_a_container(pods: Slab) -> None:
    command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]
    apply(pods, pod("hungry", command=command, resources={"limits": {"memory": "64Mi"}}))

    def ended() -> dict[str, Any]:
        statuses = get(pods, "pod", "hungry")["status"].get("containerStatuses", [{}])
        return statuses[0].get("state", {}).get("terminated")

    assert eventually(ended)["exitCode"] == 128 + signal.SIGKILL


def test_a_killed_container_is_started_again(pods: Slab) -> None:
    name = pod_of(pods, "dev")

    def status() -> dict[str, Any]:
        return get(pods, "pod", name)["status"]["containerStatuses"][0]

    before = status()
    pods.kill_container(before["containerID"].removeprefix("containerd://"))
    after = eventually(lambda: now if (now := status())["restartCount"] > before["restartCount"] else None)

    assert after["containerID"] != before["containerID"]
    eventually(lambda: status()["ready"])


# What is done to it.


@pytest.mark.parametrize("component", ["kubelet", "containerd", "kube-proxy", "kube-apiserver", "etcd"])
def test_a_component_that_is_killed_comes_back_and_pods_stay(pods: Slab, component: str) -> None:
    before = get(pods, "pod", "client")["status"]["containerStatuses"][0]["containerID"]
    pods.restart(component, hard=True)
    pods.wait_for_api()
    eventually(lambda: ask_from_pod(pods, "web")[:1] == ["web"], within=CATCHES_UP)

    assert get(pods, "pod", "client")["status"]["containerStatuses"][0]["containerID"] == before


def test_an_api_server_that_is_away_stays_away_while_traffic_flows(pods: Slab) -> None:
    address = address_of(pods, "web")
    # What was done to the node before is over; by SIGKILL, so that nothing is told to it any more.
    eventually(lambda: len(ready_addresses(pods, "web")) == 2 and reached(pods, "web") == 2, within=CATCHES_UP)
    eventually(lambda: all(ask(pods, "web") for _ in range(10)))
    pods.stop_component("kube-apiserver", hard=True)
    refused = pods.kubectl("get", "pods", check=False)
    answers = [curl(pods, f"http://{address}/{PATH}") for _ in range(10)]
    still = pods.kubectl("get", "pods", check=False)
    pods.start_component("kube-apiserver")
    pods.wait_for_api()

    assert "refused" in refused
    assert "refused" in still
    assert all(answer[:1] == ["web"] for answer in answers), answers


def test_a_component_it_does_not_have_is_refused(slab: Slab) -> None:
    with pytest.raises(ValueError, match="kube-apiserver"):
        slab.restart("kube-api-server")


def test_commands_in_the_node_are_on_a_machine_of_its_own(slab: Slab) -> None:
    assert slab.run(["hostname"]).strip() == layout.NODE
    assert slab.run(["cat", "/proc/1/comm"]) != Path("/proc/1/comm").read_text()
    with pytest.raises(SlabError, match="ended with 3: told"):
        slab.run(["sh", "-c", "echo told >&2; exit 3"])


# Its beginning and end.


def test_a_start_that_fails_shows_why(tmp_path: Path) -> None:
    with pytest.raises(SlabError, match="unknown flag: --no-such-flag") as raised:
        start(tmp_path, control_plane=True, apiserver_arguments=("--no-such-flag",))

    assert "kube-apiserver" in str(raised.value)
    assert traces(tmp_path) == []


def test_a_stopped_one_leaves_nothing_but_logs(tmp_path: Path) -> None:
    before = links()
    with start(tmp_path, control_plane=True) as slab:
        network = slab.network.stat().st_ino

        assert traces(tmp_path)
        assert processes_in(network)
        assert Slab.find(tmp_path).process == slab.process
        assert (slab.logs / "kube-apiserver.log").stat().st_size

    assert traces(tmp_path) == []
    assert processes_in(network) == []
    assert links() == before
    assert [each.name for each in tmp_path.iterdir()] == ["logs"]
    with pytest.raises(SlabError, match="no slab runs"):
        Slab.find(tmp_path)


SCRIPT = """
import sys
from pathlib import Path
from tests.cluster import binaries
from tests.cluster.slab import Slab
slab = Slab.start(binaries=binaries.programs(), images=binaries.archives(), state=Path(sys.argv[1]))
print(slab.network.stat().st_ino, flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_when_whoever_started_it_is_killed(slab: Slab, tmp_path: Path) -> None:
    """Pods and all; and another one runs beside it."""
    before = links()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as starting:
        assert starting.stdout is not None
        network = int(starting.stdout.readline())
        found = traces(tmp_path)
        starting.kill()

    assert any("cgroup" in trace for trace in found)
    eventually(lambda: not traces(tmp_path))
    assert processes_in(network) == []
    assert links() == before
    assert slab.kubectl("get", "nodes", "-o", "name").strip() == f"node/{layout.NODE}"


def traces(state: Path) -> list[str]:
    """What there is of a slab outside its folder: processes, mounts, cgroups."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [f"mount {line}" for line in mounts if str(state) in line]
    cgroups, name = Path("/sys/fs/cgroup"), layout.Layout(state, state).cgroup
    found += [f"cgroup {each / name}" for each in (cgroups, *cgroups.iterdir()) if (each / name).exists()]
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and int(each.name) != os.getpid():
            try:
                command = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(state) in command:
                found.append(f"process {each.name} {command}")
    return found


def processes_in(network: int) -> list[str]:
    """The processes in a network namespace."""
    found: list[str] = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                if (each / "ns" / "net").stat().st_ino == network:
                    found.append(each.name)
            except OSError:
                continue
    return found


def links() -> list[str]:
    """The network interfaces of this machine."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir())
