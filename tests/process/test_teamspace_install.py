"""A Teamspace installed, changed, looked at and taken away by czctl as a process with nothing but a kubeconfig, against a real API server of the sandbox.

Its controllers make pods of Deployments; the node that runs them is played, and so is whoever gives load balancers their addresses.
"""

import asyncio
import base64
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from codezero import __version__
from codezero.deploy.objects import serves_definition
from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import Device, TeamspaceId
from codezero.model.services import ServiceRef
from codezero.sandbox.api import MASTERS, ApiServer, Event, Options, Store, User, bootstrap
from codezero.sandbox.workloads import keep_workloads
from codezero.system.tokens import TokenVerifier
from codezero.testing.czctl import Ended
from codezero.testing.kubernetes import until
from codezero.testing.serving import TEAM, Json
from codezero.wire import access_file, policy_file

ENTRY = ("services", "codezero", "codezero")
IDENTITY = ("secrets", "codezero", "codezero-identity")
SERVES = "customresourcedefinitions.apiextensions.k8s.io"
ADDRESS = "198.51.100.7"
BY_ITSELF = {
    *("events", "leases.coordination.k8s.io", "endpointslices.discovery.k8s.io"),
    # Those of our Deployments go with them; that they are gone is seen by the namespace being gone.
    *("pods", "replicasets.apps"),
}
PULL_ERROR = {"reason": "ErrImagePull", "message": "registry.example: no such host"}


@dataclass
class Cluster:
    """A cluster with one node. `trouble` is what containers wait for instead of running."""

    store: Store
    folder: Path
    trouble: Json | None = None
    address: str | None = ADDRESS
    processes: list[asyncio.subprocess.Process] = field(default_factory=list[asyncio.subprocess.Process])

    def hear_pod(self, event: Event) -> None:
        """The node."""
        if event.type == "ADDED":
            self._run(event.stored.namespace, event.stored.name)

    def hear_service(self, event: Event) -> None:
        """The cloud."""
        if event.type == "ADDED" and self.address and event.stored.content["spec"].get("type") == "LoadBalancer":
            self.give_address(self.address)

    def give_address(self, address: str) -> None:
        self.store.patch(*ENTRY, {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}, subresource="status")

    def heal(self) -> None:
        """What kept pods from running is over."""
        self.trouble = None
        for pod in self.store.list("pods"):
            self._run(pod.namespace, pod.name)

    def _run(self, namespace: str, name: str) -> None:
        content = self.store.get("pods", namespace, name).copy()
        container = content["spec"]["containers"][0]
        state: Json = {"running": {}} if self.trouble is None else {"waiting": self.trouble}
        content["status"] = {
            "phase": "Pending" if self.trouble else "Running",
            "podIP": "10.244.0.9",
            "conditions": [{"type": "Ready", "status": "False" if self.trouble else "True"}],
            "containerStatuses": [{"name": container["name"], "image": container["image"], "imageID": "", "ready": not self.trouble, "restartCount": 0, "state": state}],
        }  # fmt: skip
        self.store.update("pods", namespace, content, subresource="status")

    async def czctl(self, *arguments: str) -> Ended:
        """czctl as an administrator runs it."""
        process = await self.start(*arguments)
        out, err = await process.communicate()
        assert process.returncode is not None
        assert "Traceback" not in err.decode(), err.decode()
        return Ended(process.returncode, out.decode(), err.decode())

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "KUBECONFIG": str(self.folder / "kubeconfig"),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "codezero.cli", "teamspace", *arguments),
            cwd=self.folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    async def install(self, *arguments: str) -> Ended:
        """Install what is right."""
        ended = await self.czctl("install", "--name", "shop", *arguments)
        assert ended.code == 0, ended.err
        return ended

    def everything(self) -> dict[str, Json]:
        """All objects without what changes by itself: what somebody's `kubectl get` before and after would compare."""
        found: dict[str, Json] = {}
        for kind in self.store.types.all():
            if kind.key in BY_ITSELF:
                continue
            for one in self.store.list(kind.key):
                metadata = one.content["metadata"]
                kept = {name: metadata.get(name) for name in ("labels", "annotations", "finalizers")}
                rest = {name: part for name, part in one.content.items() if name not in {"metadata", "status"}}
                found[f"{kind.key} {one.namespace}/{one.name}"] = {**rest, "metadata": kept}
        return found

    def secret(self) -> dict[str, str]:
        data = self.store.get(*IDENTITY).content["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}

    @property
    def authorities(self) -> list[Path]:
        return sorted((self.folder / "home/.config/codezero/authorities").glob("*"))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as cluster:
        yield cluster


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Cluster]:
    store = Store()
    bootstrap(store)
    (folder / "home").mkdir()
    authority = Authority.create("cluster")
    leaf = authority.issue("api", addresses=["127.0.0.1"], server=True)
    tls = certificates.server_context(leaf, client_roots=authority.certificate_pem, require_client=False)
    server = ApiServer(store, tls=tls, tokens={"token": User("admin", frozenset({MASTERS}))})
    cluster = Cluster(store, folder)
    store.listen(cluster.hear_pod, "pods")
    store.listen(cluster.hear_service, "services")
    async with server.listening("127.0.0.1", 0) as port, task_group("controllers") as tasks:
        tasks.start_service("workloads", keep_workloads(store))
        roots = base64.b64encode(authority.certificate_pem.encode()).decode()
        api = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": roots}
        config = {
            "clusters": [{"name": "c", "cluster": api}],
            "users": [{"name": "u", "user": {"token": "token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        store.create("namespaces", "", {"metadata": {"name": "shop"}})
        try:
            yield cluster
        finally:
            for process in cluster.processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


# --- install ------------------------------------------------------------------------------------------------------------------------------


async def test_one_command_installs_a_teamspace_and_gives_access_to_it(cluster: Cluster) -> None:
    (cluster.folder / "values.yaml").write_text("system:\n  replicas: 3\nserve:\n  namespaces: [shop]\n")

    ended = await cluster.install("--values", "values.yaml", "--access", "dev1=dev1.json")

    home = cluster.store.get("namespaces", "", "codezero").content["metadata"]["labels"]
    assert home["pod-security.kubernetes.io/enforce"] == "restricted"
    assert cluster.store.get("deployments.apps", "codezero", "system").content["spec"]["replicas"] == 3
    assert cluster.store.get("configmaps", "codezero", "codezero-settings").content["data"]["CODEZERO_SERVE_NAMESPACES"] == "shop"  # fmt: skip
    assert "create Deployment codezero/system\n" in ended.out
    assert f"Teamspace shop is ready at {ADDRESS}:8800\n" in ended.err
    assert "czctl start --teamspace dev1.json" in ended.err
    given = access_file.decode((cluster.folder / "dev1.json").read_bytes())
    assert (given.name, given.host, given.port, given.user) == ("shop", ADDRESS, 8800, "dev1")
    policy = policy_file.decode(
        cluster.store.get("configmaps", "codezero", "codezero-policy").content["data"]["policy.json"].encode()
    )
    device = x509.load_pem_x509_certificate(given.certificate.encode())
    device.verify_directly_issued_by(x509.load_pem_x509_certificate(cluster.secret()["device-issuer.crt"].encode()))
    assert Device.parse(certificates.uris_of(_der(device))[0]).organization == policy.organization


async def test_keys_that_make_laptops_stay_outside_and_all_keys_are_for_their_owners_eyes(cluster: Cluster) -> None:
    ended = await cluster.install("--access", "dev1=dev1.json")

    (file,) = cluster.authorities
    issuers = json.loads(file.read_text())
    everything = json.dumps([one.content for kind in cluster.store.types.all() for one in cluster.store.list(kind.key)])
    decoded = "".join(cluster.secret().values())
    for part in ("root", "device_issuer"):
        body = issuers[part]["key"].splitlines()[1]
        assert body not in everything + decoded
        assert base64.b64encode(issuers[part]["key"].encode()).decode() not in everything
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.folder / "dev1.json").stat().st_mode) == 0o600
    assert not list(cluster.folder.glob(".*.json*"))
    assert "PRIVATE" not in ended.out + ended.err


async def test_installing_again_changes_nothing(cluster: Cluster) -> None:
    """Identities above all: laptops would not believe the Teamspace any more."""
    await cluster.install("--access", "dev1=dev1.json")
    before, secret = cluster.everything(), cluster.secret()
    file = (cluster.folder / "dev1.json").read_bytes()

    ended = await cluster.czctl("install", "--name", "shop", "--access", "dev1=dev1.json")

    assert (ended.code, ended.out) == (0, "")
    assert "nothing to change" in ended.err
    assert cluster.everything() == before
    assert cluster.secret() == secret
    assert (cluster.folder / "dev1.json").read_bytes() == file
    assert len(cluster.authorities) == 1


async def test_whoever_waits_is_told_for_what_and_why(cluster: Cluster) -> None:
    """Image errors, and an address that comes late (L6, R46); and both may be mended meanwhile."""
    cluster.trouble, cluster.address = PULL_ERROR, None
    process = await cluster.start("install", "--name", "shop")
    assert process.stderr is not None
    told = ""
    while "load balancer" not in told or "ErrImagePull" not in told:
        told += (await process.stderr.readline()).decode()
        assert not process.stderr.at_eof(), told
    cluster.heal()
    cluster.give_address("203.0.113.9")
    out, err = await process.communicate()

    assert re.search(r"waiting: system: 0 of 2 pods ready.*ErrImagePull codezero-teamspace:\S+: registry.example: no such host", told)  # fmt: skip
    assert "waiting: the load balancer of Service codezero has no address yet" in told
    assert process.returncode == 0, err
    assert "ready at 203.0.113.9:8800" in err.decode()
    assert "create Deployment codezero/system" in out.decode()


async def test_it_never_gives_up_silently_and_goes_on_where_it_was(cluster: Cluster) -> None:
    cluster.trouble = PULL_ERROR

    late = await cluster.czctl("install", "--name", "shop", "--wait", "2s", "--access", "dev1=dev1.json")
    cluster.heal()
    again = await cluster.czctl("install", "--access", "dev1=dev1.json")

    assert late.code == problems.NOT_READY.exit_code
    assert "not ready after 2 s: " in late.err
    assert "no such host" in late.err
    assert "czctl teamspace status" in late.err
    assert again.code == 0, again.err
    assert (cluster.folder / "dev1.json").exists()


async def test_without_waiting_it_is_over_at_once(cluster: Cluster) -> None:
    cluster.trouble = PULL_ERROR

    ended = await cluster.czctl("install", "--name", "shop", "--no-wait", "-o", "json")

    assert ended.code == 0
    assert ended.json()["ready"] is None
    assert {"action": "create", "object": "Namespace codezero", "fields": []} in ended.json()["changes"]


@pytest.mark.parametrize("killed_after", [1, 4, 9, 15])
async def test_an_interrupted_installation_is_finished_by_the_next(cluster: Cluster, killed_after: int) -> None:
    """After so many objects. One Teamspace comes out of it, never two halves."""
    made = 0

    def count(event: Event) -> None:
        nonlocal made
        made += event.type == "ADDED"

    for kind in cluster.store.types.all():
        if kind.key not in {"pods", "replicasets.apps", "events"}:
            cluster.store.listen(count, kind.key)
    process = await cluster.start("install", "--name", "shop")
    await until(lambda: made >= killed_after)
    process.kill()
    await process.wait()

    await cluster.install("--access", "dev1=dev1.json")
    status = await cluster.czctl("status")

    assert status.code == 0, status.err
    given = access_file.decode((cluster.folder / "dev1.json").read_bytes())
    assert Credentials.from_pem(given.certificate, given.key)
    assert given.roots == cluster.secret()["ca.crt"]


async def test_a_dry_run_changes_nothing_and_shows_no_secret(cluster: Cluster) -> None:
    before = cluster.everything()

    ended = await cluster.czctl("install", "--name", "shop", "--dry-run")
    manifests = await cluster.czctl(
        "install", "--name", "shop", "--dry-run", "-o", "yaml", "--set", "system.replicas=5"
    )

    assert cluster.everything() == before
    assert not cluster.authorities
    assert "would create Namespace codezero\n" in ended.out
    assert "would create Secret codezero/codezero-identity\n" in ended.out
    documents = list(yaml.safe_load_all(manifests.out))
    assert documents[0]["kind"] == "Namespace"
    assert "Secret" not in {one["kind"] for one in documents}
    assert [one["spec"]["replicas"] for one in documents if one["metadata"]["name"] == "system" and one["kind"] == "Deployment"] == [5]  # fmt: skip
    assert "PRIVATE" not in manifests.out + ended.out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "system.replica=3"], "replica"),
        (["--set", "system.replicas=many"], "system.replicas"),
        (["--set", "nonsense"], "--set nonsense"),
        (["--serve-namespace", "missing"], "namespace missing"),
        (["--serve-namespace", "codezero"], "serve.namespaces names codezero"),
        (["--values", "missing.yaml"], "missing.yaml"),
        (["--policy", "missing.json"], "missing.json"),
        (["--access", "dev1"], "--access dev1"),
        (["--access", "a/b=c.json"], "'a/b'"),
        (["--wait", "soon"], "'soon'"),
        (["--namespace", "../nodes"], "'../nodes'"),
        (["--namespace", ""], "''"),
    ],
)
async def test_mistakes_are_named_before_anything_is_changed(
    cluster: Cluster, arguments: list[str], named: str
) -> None:
    before = cluster.everything()

    ended = await cluster.czctl("install", "--name", "shop", *arguments)

    assert ended.code in {2, 6}, ended.err
    assert named in ended.err
    assert "  fix:  " in ended.err or "missing.json" in named or "missing.yaml" in named
    assert cluster.everything() == before
    assert not cluster.authorities


async def test_an_access_file_of_another_teamspace_is_not_overwritten(cluster: Cluster) -> None:
    (cluster.folder / "dev1.json").write_text("somebody's")
    before = cluster.everything()

    ended = await cluster.czctl("install", "--name", "shop", "--access", "dev1=dev1.json")

    assert ended.code == problems.FILE_EXISTS.exit_code
    assert (cluster.folder / "dev1.json").read_text() == "somebody's"
    assert cluster.everything() == before


# --- what is not ours ---------------------------------------------------------------------------------------------------------------------


async def test_a_teamspace_that_helm_installed_is_helms(cluster: Cluster) -> None:
    await cluster.install()
    for kind in ("deployments.apps", "services"):
        for one in cluster.store.list(kind, "codezero"):
            helm = {"app.kubernetes.io/managed-by": "Helm"}
            release = {"meta.helm.sh/release-name": "cz", "meta.helm.sh/release-namespace": "codezero"}
            cluster.store.patch(kind, "codezero", one.name, {"metadata": {"labels": helm, "annotations": release}})
    before = cluster.everything()

    install = await cluster.czctl("install", "--name", "shop", "--set", "system.replicas=4")
    uninstall = await cluster.czctl("uninstall", "--yes")
    status = await cluster.czctl("status")

    assert install.code == uninstall.code == problems.IN_THE_WAY.exit_code
    assert "belongs to the Helm release cz" in install.err
    assert "helm uninstall cz --namespace codezero" in install.err
    assert cluster.everything() == before
    assert status.code == 0
    assert "installed by Helm" in status.out


@pytest.mark.parametrize(
    ("kind", "namespace", "content"),
    [
        ("services", "codezero", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}),
        ("configmaps", "codezero", {"metadata": {"name": "codezero-settings"}}),
        ("clusterroles.rbac.authorization.k8s.io", "", {"metadata": {"name": "codezero-system"}, "rules": []}),
        ("secrets", "codezero", {"metadata": {"name": "codezero-identity"}}),
    ],
)
async def test_what_somebody_else_made_is_not_touched(
    cluster: Cluster, kind: str, namespace: str, content: Json
) -> None:
    cluster.store.create("namespaces", "", {"metadata": {"name": "codezero"}})
    cluster.store.create(kind, namespace, content, TEAM)
    before = cluster.everything()

    ended = await cluster.czctl("install", "--name", "shop")

    assert ended.code == problems.IN_THE_WAY.exit_code, ended.err
    assert content["metadata"]["name"] in ended.err
    assert cluster.everything() == before
    assert not cluster.authorities


async def test_what_an_uninstalled_helm_release_leaves_is_told_from_a_release(cluster: Cluster) -> None:
    """The chart keeps the definition; "helm uninstall" would be no help any more."""
    labels = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": "codezero"}
    kept = serves_definition()
    kept["metadata"] |= {"labels": labels, "annotations": {"meta.helm.sh/release-name": "cz"}}
    cluster.store.create(SERVES, "", kept)

    ended = await cluster.czctl("install", "--name", "shop")
    cluster.store.delete(SERVES, "", "serves.codezero.io")
    again = await cluster.czctl("install", "--name", "shop")

    assert ended.code == problems.IN_THE_WAY.exit_code
    assert "kubectl delete crd serves.codezero.io" in ended.err
    assert again.code == 0, again.err


@pytest.mark.parametrize("command", ["install", "identity"])
async def test_a_cluster_has_one_teamspace(cluster: Cluster, command: str) -> None:
    """Cluster roles and the fence have one name: a second Teamspace would take its rights from the first."""
    await cluster.install()
    before, keys = cluster.everything(), cluster.authorities

    ended = await cluster.czctl(command, "--name", "other", "--namespace", "other")

    assert ended.code == problems.IN_THE_WAY.exit_code, ended.err
    assert "has a Teamspace already, in namespace codezero" in ended.err
    assert "czctl teamspace uninstall --namespace codezero" in ended.err
    assert cluster.everything() == before
    assert cluster.authorities == keys


async def test_a_namespace_that_was_prepared_is_used_and_stays_as_it_was(cluster: Cluster) -> None:
    """With a pull secret and labels of its owner."""
    cluster.store.create("namespaces", "", {"metadata": {"name": "codezero", "labels": {"team": "platform"}}}, TEAM)
    cluster.store.create("secrets", "codezero", {"metadata": {"name": "registry"}}, TEAM)
    before = cluster.everything()

    await cluster.install("--set", "imagePullSecrets={}")
    gone = await cluster.czctl("uninstall", "--yes")

    assert gone.code == 0, gone.err
    assert "namespace codezero stays: czctl did not make it" in gone.out
    assert cluster.everything() == before


# --- upgrade ------------------------------------------------------------------------------------------------------------------------------


async def test_an_upgrade_keeps_what_is_not_named_and_shows_what_changes(cluster: Cluster) -> None:
    cluster.store.create("namespaces", "", {"metadata": {"name": "billing"}})
    await cluster.install("--set", "system.replicas=3", "--serve-namespace", "shop")
    secret = cluster.secret()

    dry = await cluster.czctl("upgrade", "--serve-namespace", "billing", "--dry-run")
    asked = cluster.everything()
    ended = await cluster.czctl("upgrade", "--serve-namespace", "billing")

    line = 'change ConfigMap codezero/codezero-settings: data.CODEZERO_SERVE_NAMESPACES: "shop" → "shop,billing"\n'
    assert f"would {line}" in dry.out
    assert line in ended.out
    assert ended.code == 0, ended.err
    assert asked != cluster.everything()
    assert cluster.store.get("deployments.apps", "codezero", "system").content["spec"]["replicas"] == 3
    assert cluster.secret() == secret


async def test_what_an_upgrade_has_no_more_is_removed(cluster: Cluster) -> None:
    await cluster.install()
    plain = set(cluster.everything())
    await cluster.czctl("upgrade", "--serve-namespace", "shop")
    served = set(cluster.everything())

    ended = await cluster.czctl("upgrade", "--set", "serve.namespaces={}")

    assert ended.code == 0, ended.err
    assert served - plain, "serving in a namespace takes objects in it"
    assert set(cluster.everything()) == plain
    assert "delete Role" in ended.out


async def test_a_namespace_in_which_something_is_served_stays_enabled(cluster: Cluster) -> None:
    """The System could not put the Service back without its rights."""
    await cluster.install("--serve-namespace", "shop")
    serve = {"metadata": {"name": "orders"}, "spec": {"service": "orders", "routes": []}}
    cluster.store.create("serves.codezero.io", "shop", serve)
    before = cluster.everything()

    ended = await cluster.czctl("upgrade", "--set", "serve.namespaces={}")

    assert ended.code == problems.IN_THE_WAY.exit_code
    assert "shop/orders is being served" in ended.err
    assert cluster.everything() == before


async def test_what_was_never_enabled_keeps_nobody_from_an_upgrade(cluster: Cluster) -> None:
    """Who may write Serve objects in a namespace of their own must not decide over the Teamspace."""
    await cluster.install()
    serve = {"metadata": {"name": "orders"}, "spec": {"service": "orders", "routes": []}}
    cluster.store.create("serves.codezero.io", "shop", serve)

    ended = await cluster.czctl("upgrade", "--set", "system.replicas=1")

    assert ended.code == 0, ended.err


@pytest.mark.parametrize("before", ["all", "unknown"])
async def test_serves_are_kept_also_where_all_namespaces_were_enabled_or_nobody_knows(
    cluster: Cluster, before: str
) -> None:
    await cluster.install("--serve-namespace", "*" if before == "all" else "shop")
    serve = {"metadata": {"name": "orders"}, "spec": {"service": "orders", "routes": []}}
    cluster.store.create("serves.codezero.io", "shop", serve)
    if before == "unknown":
        cluster.store.delete("configmaps", "codezero", "codezero-settings")

    ended = await cluster.czctl("upgrade", "--set", "serve.namespaces={}")

    assert ended.code == problems.IN_THE_WAY.exit_code
    assert "shop/orders is being served" in ended.err


@pytest.mark.parametrize("command", ["install", "upgrade"])
async def test_a_value_that_the_cluster_refuses_is_not_kept(cluster: Cluster, command: str) -> None:
    """Else the next command, which does not name it, is refused for it too."""
    if command == "upgrade":
        await cluster.install("--set", "system.replicas=3")
    named = ["--name", "shop"] if command == "install" else []
    refused = await cluster.czctl(command, *named, "--set", "service.annotations.a b=x", "--serve-namespace", "shop")

    assert refused.code == problems.CLUSTER_REFUSED.exit_code
    assert "Service codezero/codezero" in refused.err
    assert '"a b"' in refused.err
    assert "--set" in next(line for line in refused.err.splitlines() if "fix:" in line)

    ended = await cluster.czctl(command)

    assert ended.code == 0, ended.err
    replicas = cluster.store.get("deployments.apps", "codezero", "system").content["spec"]["replicas"]
    assert replicas == (3 if command == "upgrade" else 2)
    # What came before the refusal, and nothing asks for any more, is gone.
    assert cluster.store.find("roles.rbac.authorization.k8s.io", "shop", "codezero-system") is None


async def test_a_refused_value_makes_no_teamspace_leave_its_hub(cluster: Cluster) -> None:
    (cluster.folder / "token.txt").write_text("token")
    hub = ("--hub", "https://hub.example.com", "--join-token-file", "token.txt")
    refused = await cluster.czctl("install", "--no-wait", *hub, "--set", "service.annotations.a b=x")

    ended = await cluster.czctl("install", "--no-wait")

    assert refused.code == problems.CLUSTER_REFUSED.exit_code
    assert ended.code == 0, ended.err
    (container,) = cluster.store.get("deployments.apps", "codezero", "system").content["spec"]["template"]["spec"][
        "containers"
    ]
    assert {"name": "CODEZERO_HUB_URL", "value": "https://hub.example.com"} in container["env"]
    assert not cluster.authorities


@pytest.mark.parametrize("command", ["install", "upgrade"])
async def test_an_older_czctl_takes_nothing_back_unasked(cluster: Cluster, command: str) -> None:
    await cluster.install()
    cluster.store.patch("configmaps", "codezero", "codezero-install", {"data": {"version": "99.1.0"}})
    before = cluster.everything()

    refused = await cluster.czctl(command, "--set", "system.replicas=3")

    assert refused.code == problems.OLDER_CZCTL.exit_code
    assert f"version 99.1.0, and this czctl of {__version__}" in refused.err
    assert cluster.everything() == before

    ended = await cluster.czctl(command, "--set", "system.replicas=3", "--allow-downgrade")

    assert ended.code == 0, ended.err
    assert cluster.store.get("deployments.apps", "codezero", "system").content["spec"]["replicas"] == 3
    assert cluster.store.get("configmaps", "codezero", "codezero-install").content["data"]["version"] == __version__


async def test_an_installation_that_was_interrupted_says_by_whom(cluster: Cluster) -> None:
    """What it has changed already is of its version."""
    refused = await cluster.czctl("install", "--name", "shop", "--set", "service.annotations.a b=x")

    assert refused.code == problems.CLUSTER_REFUSED.exit_code
    assert cluster.store.get("configmaps", "codezero", "codezero-install").content["data"]["version"] == __version__


async def test_there_is_nothing_to_upgrade_where_nothing_is_installed(cluster: Cluster) -> None:
    for command in ("upgrade", "status", "access"):
        ended = await cluster.czctl(command, *(["dev1"] if command == "access" else []))
        assert ended.code == problems.NOT_INSTALLED.exit_code
        assert "czctl teamspace install --name NAME" in ended.err


async def test_a_policy_is_replaced_when_asked_and_never_else(cluster: Cluster) -> None:
    (cluster.folder / "policy.json").write_text('{"rules": [{"effect": "allow", "operations": ["consume"]}]}')
    policy: Callable[[], Any] = lambda: json.loads(  # noqa: E731 - read anew each time
        cluster.store.get("configmaps", "codezero", "codezero-policy").content["data"]["policy.json"]
    )
    await cluster.install()
    organization = policy()["organization"]

    await cluster.czctl("upgrade", "--policy", "policy.json")
    await cluster.czctl("upgrade", "--set", "system.replicas=1")

    assert policy()["organization"] == organization
    assert [rule["operations"] for rule in policy()["rules"]] == [["consume"]]


async def test_a_policy_outlives_an_identity_that_got_lost(cluster: Cluster) -> None:
    """Else everybody might do everything after a Secret was deleted by mistake and made anew."""
    rules = [{"effect": "allow", "operations": ["consume"], "users": ["*"]}]
    (cluster.folder / "policy.json").write_text(json.dumps({"rules": rules}))
    await cluster.install("--policy", "policy.json")

    def policy() -> Json:
        return json.loads(cluster.store.get("configmaps", "codezero", "codezero-policy").content["data"]["policy.json"])

    before = policy()
    cluster.store.delete(*IDENTITY)

    await cluster.install("--no-wait")

    assert policy()["rules"] == before["rules"]
    assert policy()["organization"] != before["organization"]


@pytest.mark.parametrize("command", ["install", "upgrade", "identity"])
async def test_a_policy_that_got_lost_is_not_replaced_by_one_that_allows_everything(
    cluster: Cluster, command: str
) -> None:
    """What it denied is nowhere else; only whoever administers the Teamspace knows it."""
    (cluster.folder / "policy.json").write_text('{"rules": [{"effect": "allow", "operations": ["consume"]}]}')
    await cluster.install("--policy", "policy.json")
    cluster.store.delete("configmaps", "codezero", "codezero-policy")
    before = cluster.everything()
    arguments = ["--name", "shop"] if command == "identity" else ["--no-wait"]

    refused = await cluster.czctl(command, *arguments)

    assert refused.code == problems.NO_POLICY.exit_code
    assert "codezero-policy is gone" in refused.err
    assert cluster.everything() == before
    fix = next(line for line in refused.err.splitlines() if "fix:" in line)
    assert "--policy FILE" in fix
    (cluster.folder / "all.json").write_text(fix[fix.index("{") :])

    ended = await cluster.czctl(command, *arguments, "--policy", "all.json")

    assert ended.code == 0, ended.err
    text = cluster.store.get("configmaps", "codezero", "codezero-policy").content["data"]["policy.json"]
    policy = policy_file.decode(text.encode())
    assert {one for rule in policy.rules for one in rule.operations} >= {"consume", "serve", "takeover", "terminate"}


@pytest.mark.parametrize("command", ["install", "upgrade"])
async def test_the_policy_of_a_hub_is_the_hubs_to_bring_again(cluster: Cluster, command: str) -> None:
    (cluster.folder / "token.txt").write_text("token")
    hub = ("--hub", "https://hub.example.com", "--join-token-file", "token.txt")
    await cluster.install("--no-wait", *hub)
    cluster.store.delete("configmaps", "codezero", "codezero-policy")

    ended = await cluster.czctl(command, "--no-wait")

    assert ended.code == 0, ended.err
    # Empty, so that nobody may do anything until the Hub has said who may.
    assert not cluster.store.get("configmaps", "codezero", "codezero-policy").content.get("data")


# --- access -------------------------------------------------------------------------------------------------------------------------------


async def test_access_is_given_by_name_and_never_overwrites_by_accident(cluster: Cluster) -> None:
    await cluster.install()

    first = await cluster.czctl("access", "dev1", "-o", "json")
    again = await cluster.czctl("access", "dev1")
    file = (cluster.folder / "dev1.json").read_bytes()
    forced = await cluster.czctl("access", "dev1", "--force", "--lifetime", "8h", "-o", "json")

    assert first.code == 0, first.err
    assert again.code == problems.FILE_EXISTS.exit_code
    assert (cluster.folder / "dev1.json").read_bytes() != file
    assert first.json()["user_id"] == forced.json()["user_id"]
    assert "PRIVATE" not in first.out + first.err


async def test_several_may_be_given_access_at_once(cluster: Cluster) -> None:
    """Each stays the same user to policies."""
    await cluster.install()
    users = ["dev1", "dev2", "dev3"]

    given = await asyncio.gather(*(cluster.czctl("access", user, "-o", "json") for user in users))

    known = json.loads(cluster.authorities[0].read_text())["users"]
    assert known == {one.json()["user"]: one.json()["user_id"] for one in given}
    assert set(known) == set(users)


@pytest.mark.parametrize("lifetime", ["745h", "0s", "for ever"])
async def test_access_is_not_for_ever(cluster: Cluster, lifetime: str) -> None:
    await cluster.install()

    ended = await cluster.czctl("access", "dev1", "--lifetime", lifetime)

    assert ended.code == 2
    assert not (cluster.folder / "dev1.json").exists()


async def test_only_who_installed_it_can_give_access(cluster: Cluster) -> None:
    """Whoever has the cluster has not the laptops."""
    await cluster.install()
    cluster.authorities[0].unlink()

    ended = await cluster.czctl("access", "dev1")

    assert ended.code == problems.NO_ISSUER.exit_code
    assert "run this where the Teamspace was installed" in ended.err


async def test_a_token_is_one_that_the_system_accepts(cluster: Cluster) -> None:
    await cluster.install("--access", "dev1=dev1.json")

    ended = await cluster.czctl("token", "dev1")
    stranger = await cluster.czctl("token", "dev2")

    keys = TokenVerifier()
    keys.read_keys(cluster.secret()["jwks.json"].encode())
    teamspace = TeamspaceId(access_file.decode((cluster.folder / "dev1.json").read_bytes()).teamspace)
    users = json.loads(cluster.authorities[0].read_text())["users"]
    assert keys.verify(ended.out.strip(), teamspace).user == users["dev1"]
    assert stranger.code == problems.NOT_FOUND.exit_code
    assert "czctl teamspace access dev2" in stranger.err


async def test_the_way_in_is_what_the_service_says(cluster: Cluster) -> None:
    node = {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.8"}]}}
    cluster.store.create("nodes", "", node)
    await cluster.install("--set", "service.type=NodePort", "--set", "service.nodePort=30880")
    await cluster.czctl("access", "dev1")
    await cluster.czctl(
        "upgrade", "--set", "service.externalHost=teamspace.example", "--set", "service.externalPort=443"
    )
    await cluster.czctl("access", "dev2")

    found = [access_file.decode((cluster.folder / f"dev{number}.json").read_bytes()) for number in (1, 2)]
    assert [(one.host, one.port) for one in found] == [("192.0.2.8", 30880), ("teamspace.example", 443)]


async def test_without_a_way_in_there_is_no_access(cluster: Cluster) -> None:
    await cluster.install("--set", "service.type=ClusterIP")

    ended = await cluster.czctl("access", "dev1")

    assert ended.code == problems.NOT_READY.exit_code
    assert "service.externalHost" in ended.err
    assert not (cluster.folder / "dev1.json").exists()


# --- status -------------------------------------------------------------------------------------------------------------------------------


async def test_status_is_zero_only_when_all_works(cluster: Cluster) -> None:
    await cluster.install("--serve-namespace", "shop")

    good = await cluster.czctl("status")
    cluster.trouble = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    (pod, *_) = [one for one in cluster.store.list("pods", "codezero") if one.name.startswith("system")]
    cluster._run("codezero", pod.name)
    await until(
        lambda: cluster.store.get("deployments.apps", "codezero", "system").content["status"].get("readyReplicas") == 1
    )
    bad = await cluster.czctl("status")
    view = await cluster.czctl("status", "-o", "json")

    assert good.code == 0, good.err
    assert "system:        2 of 2 ready" in good.out
    assert f"entry:         {ADDRESS}:8800" in good.out
    assert "may serve in:  shop" in good.out
    assert bad.code == problems.NOT_READY.exit_code
    assert "system: 1 of 2 pods ready; CrashLoopBackOff: back-off 10s" in bad.err
    assert view.json()["ready"] is False


@pytest.mark.parametrize(
    ("kind", "name", "patch", "said", "fix"),
    [
        ("secrets", "codezero-identity", None, "Secret codezero-identity is missing", "czctl teamspace identity"),
        ("configmaps", "codezero-policy", None, "ConfigMap codezero-policy is missing", "czctl teamspace identity"),
        (
            *("configmaps", "codezero-policy", {"data": {"policy.json": "{"}}),
            *("everything is refused: the policy file cannot be read", "--policy FILE"),
        ),
    ],
)
async def test_status_says_what_pods_wait_for_in_silence(
    cluster: Cluster, kind: str, name: str, patch: Json | None, said: str, fix: str
) -> None:
    """Pods look well with a policy that nobody can use, and without an identity they have no reason to show."""
    await cluster.install()
    if patch is None:
        cluster.store.delete(kind, "codezero", name)
    else:
        cluster.store.patch(kind, "codezero", name, patch)

    ended = await cluster.czctl("status")

    assert ended.code == problems.NOT_READY.exit_code
    assert said in ended.err
    assert fix in next(line for line in ended.err.splitlines() if "fix:" in line)


@pytest.mark.parametrize("state", ["preparing", "contested", "refused"])
async def test_status_warns_of_serves_that_do_not_work(cluster: Cluster, state: str) -> None:
    await cluster.install("--serve-namespace", "shop")
    serve = {"metadata": {"name": "orders"}, "spec": {"service": "orders", "routes": []}}
    cluster.store.create("serves.codezero.io", "shop", serve)
    told = {"status": {"state": state, "message": "the cluster makes no Router: exceeded quota"}}
    cluster.store.patch("serves.codezero.io", "shop", "orders", told, subresource="status")

    ended = await cluster.czctl("status")

    assert ended.code == 0, ended.err
    assert f"warning: shop/orders is {state}: the cluster makes no Router: exceeded quota" in ended.err


# --- uninstall ----------------------------------------------------------------------------------------------------------------------------


async def test_uninstalling_leaves_the_cluster_and_the_machine_as_they_were(cluster: Cluster) -> None:
    before = cluster.everything()
    await cluster.install("--serve-namespace", "shop")

    planned = await cluster.czctl("uninstall", "--dry-run")
    there = cluster.everything()
    ended = await cluster.czctl("uninstall", "--yes")

    assert "would delete Deployment codezero/system\n" in planned.out
    assert there != before
    assert ended.code == 0, ended.err
    assert "the Teamspace is gone" in ended.out
    assert cluster.everything() == before
    assert not cluster.authorities


async def test_a_script_says_that_it_means_it(cluster: Cluster) -> None:
    await cluster.install()
    before = cluster.everything()

    ended = await cluster.czctl("uninstall")

    assert (ended.code, ended.out) == (2, "")
    assert "add --yes" in ended.err
    assert cluster.everything() == before


async def test_served_services_are_put_back_first(cluster: Cluster) -> None:
    """As a serve leaves them: the selector points at a Router, and a record says what it was."""
    from codezero.system.serving import naming

    ref = ServiceRef("shop", "orders")
    own = {"metadata": {"name": "orders"}, "spec": {"selector": {"app": "orders"}, "ports": [{"port": 80}]}}
    cluster.store.create("services", "shop", own, TEAM)
    before = cluster.everything()
    await cluster.install("--serve-namespace", "shop")
    serve = {
        "metadata": {"name": "orders", "finalizers": ["codezero.io/restore"]},
        "spec": {"service": "orders", "routes": []},
    }
    cluster.store.create("serves.codezero.io", "shop", serve)
    original = {"status": {"original": {"selector": {"app": "orders"}}}}
    cluster.store.patch("serves.codezero.io", "shop", "orders", original, subresource="status")
    switched = naming.switched({"app": "orders"}, ref)
    cluster.store.patch("services", "shop", "orders", {"spec": {"selector": switched}}, options=Options(manager="codezero-system"))  # fmt: skip

    ended = await cluster.czctl("uninstall", "--yes")

    assert ended.code == 0, ended.err
    lines = ended.err.splitlines()
    put_back = next(number for number, line in enumerate(lines) if "put back Service shop/orders: app=orders" in line)
    assert lines.index("delete Deployment codezero/system") < put_back
    assert put_back < next(n for n, line in enumerate(lines) if line.startswith("delete ClusterRole"))
    assert cluster.everything() == before


async def test_what_cannot_be_put_back_keeps_everything_as_it_is(cluster: Cluster) -> None:
    """A Router that still serves the team is better than a Service that leads nowhere."""
    from codezero.system.serving import naming

    ref = ServiceRef("shop", "orders")
    await cluster.install("--serve-namespace", "shop")
    switched = naming.switched({"app": "orders"}, ref)
    own = {"metadata": {"name": "orders"}, "spec": {"selector": switched, "ports": [{"port": 80}]}}
    cluster.store.create("services", "shop", own, TEAM)
    before = cluster.everything()

    ended = await cluster.czctl("uninstall", "--yes")

    assert ended.code == problems.PARTLY_DONE.exit_code
    assert "cannot put back Service shop/orders" in ended.err
    assert cluster.everything() == before


async def test_a_namespace_with_something_foreign_in_it_stays(cluster: Cluster) -> None:
    await cluster.install()
    cluster.store.create("configmaps", "codezero", {"metadata": {"name": "notes"}}, TEAM)

    ended = await cluster.czctl("uninstall", "--yes")

    assert ended.code == 0, ended.err
    assert "namespace codezero stays: it holds ConfigMap notes" in ended.out
    assert cluster.store.find("deployments.apps", "codezero", "system") is None


async def test_what_the_cluster_publishes_into_every_namespace_keeps_none(cluster: Cluster) -> None:
    """Bundles of authorities, of OpenShift or a mesh, would be there again in the next one."""
    await cluster.install()
    present = {one.name for one in cluster.store.list("namespaces")}
    for name in sorted({"default", "kube-public", "kube-system"} - present):
        cluster.store.create("namespaces", "", {"metadata": {"name": name}})
    for namespace in ("default", "kube-public", "kube-system", "codezero"):
        cluster.store.create("configmaps", namespace, {"metadata": {"name": "mesh-root.crt"}}, TEAM)

    ended = await cluster.czctl("uninstall", "--yes")

    assert ended.code == 0, ended.err
    assert cluster.store.find("namespaces", "", "codezero") is None


@pytest.mark.parametrize("killed_after", [1, 5, 12])
async def test_an_interrupted_uninstallation_is_finished_by_the_next(cluster: Cluster, killed_after: int) -> None:
    before = cluster.everything()
    await cluster.install("--serve-namespace", "shop")
    gone = 0

    def count(event: Event) -> None:
        nonlocal gone
        gone += event.type == "DELETED"

    for kind in cluster.store.types.all():
        if kind.key not in {"pods", "replicasets.apps", "events"}:
            cluster.store.listen(count, kind.key)
    process = await cluster.start("uninstall", "--yes")
    await until(lambda: gone >= killed_after)
    process.kill()
    await process.wait()

    ended = await cluster.czctl("uninstall", "--yes")

    assert ended.code in {0, problems.NOT_INSTALLED.exit_code}, ended.err
    assert cluster.everything() == before
    again = await cluster.czctl("uninstall", "--yes")
    assert again.code == problems.NOT_INSTALLED.exit_code


async def test_keys_go_from_the_machine_whenever_it_was_interrupted(cluster: Cluster) -> None:
    """Whose they are only the Secret tells, so they go before it."""
    await cluster.install()
    left: list[int] = []
    cluster.store.listen(
        lambda event: left.append(len(cluster.authorities)) if event.type == "DELETED" else None, "secrets"
    )

    ended = await cluster.czctl("uninstall", "--yes")

    assert ended.code == 0, ended.err
    assert left == [0]


# --- identity alone -----------------------------------------------------------------------------------------------------------------------


async def test_the_name_is_looked_at_there_too(cluster: Cluster) -> None:
    """It becomes a part of certificates and of access files."""
    before = cluster.everything()

    ended = await cluster.czctl("identity", "--name", "my shop")

    assert ended.code == problems.BAD_REQUEST.exit_code
    assert "'my shop'" in ended.err
    assert cluster.everything() == before


async def test_identities_alone_for_whoever_installs_in_another_way(cluster: Cluster) -> None:
    ended = await cluster.czctl("identity", "--name", "shop")
    first = cluster.secret()
    again = await cluster.czctl("identity", "--name", "shop")

    assert ended.code == again.code == 0, ended.err
    assert set(first) == {"ca.crt", "ca.key", "device-issuer.crt", "jwks.json", "seal.key", "system.crt", "system.key", "orchestrator.crt", "orchestrator.key"}  # fmt: skip
    assert cluster.secret() == first
    assert cluster.store.find("deployments.apps", "codezero", "system") is None
    assert "PRIVATE" not in ended.out + ended.err
    assert len(cluster.authorities) == 1


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)
