"""The Helm chart: Helm itself makes of it exactly what `czctl` and the sandbox install, and refuses what they refuse."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from codezero import __version__
from codezero.deploy import access, values
from codezero.deploy.manifest import Release, labelled
from codezero.deploy.objects import objects
from codezero.deploy.values import Values
from codezero.model.problems import CodezeroError
from codezero.testing.serving import ServingCluster, serving_cluster

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "codezero"
HELM = Path(sys.executable).parent / "helm"

# What Helm adds, and what it is right to say of itself.
HELMS_OWN = {"helm.sh/chart", "app.kubernetes.io/managed-by"}

PLACED = """
imagePullSecrets: [{name: registry}, {name: mirror.example.com}]
nodeSelector: {pool: tools, kubernetes.io/os: linux}
tolerations:
  - {key: tools, operator: Equal, value: "yes", effect: NoExecute, tolerationSeconds: 60}
  - {operator: Exists}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]
image: {repository: registry.example.com:5000/team/teamspace, tag: "1.2", pullPolicy: Always}
router: {image: {repository: registry.example.com:5000/team/router, tag: "1.2"}, replicas: 5, linger: 604800}
"""
SETS = {
    "defaults": "",
    "node port": "service: {type: NodePort, nodePort: 30880, externalTrafficPolicy: Local}",
    "node port of the cluster's choice": "service: {type: NodePort}",
    "cluster IP behind another host": "service: {type: ClusterIP, externalHost: dev.example.com, externalPort: 443}",
    "load balancer": "service: {annotations: {cloud.example.com/scheme: internal, other: 'true'}, externalHost: '2001:db8::1'}",
    "namespaces": "serve: {namespaces: [shop, cart]}",
    "all namespaces": 'serve: {namespaces: ["*"]}',
    "placed": PLACED,
    "all namespaces, placed": PLACED + 'serve: {namespaces: ["*"]}',
    "hub": "hub: {url: 'https://hub.example.com'}",
    "opa": "opa: {enabled: true, url: 'http://opa.opa.svc:8181/v1/data/codezero/allow'}",
    "opa not enabled": "opa: {url: 'https://opa.example.com'}",
    "hub of its own authority, all namespaces": (
        "hub:\n  url: https://hub.example.com:8700\n"
        "  caBundle: |\n    -----BEGIN CERTIFICATE-----\n    MIIB+/=\n    -----END CERTIFICATE-----\n"
        'serve: {namespaces: ["*"]}'
    ),
    "settings": (
        "allowedDomains: ['*.example.com', 'db.corp=private']\n"
        "allowedNetworks: [10.0.0.0/24, 'fd00::/8']\n"
        "system: {replicas: 7, logLevel: debug, resources: {requests: {cpu: 1}, limits: {memory: null, cpu: 1.5}}}\n"
        "orchestrator: {replicas: 1, logLevel: warning, resources: {limits: {memory: 2Gi}}}\n"
        "router: {resources: {requests: {cpu: 0.5, memory: null}, limits: {cpu: 1, memory: 1073741824}}}\n"
    ),
}
WRONG = [
    "imagge: {}",
    "image: {tagg: x}",
    "opa: {enabled: true}",
    "opa: {enabled: true, url: ''}",
    "opa: {enabled: 'yes', url: 'https://opa.example.com'}",
    "opa: {url: 'opa.example.com'}",
    "opa: {url: 'https://user:secret@opa.example.com'}",
    "opa: {url: 'https://opa.example.com/?token=secret'}",
    "system: {resources: {request: {}}}",
    "system: {replicas: 0}",
    "system: {replicas: 21}",
    "system: {replicas: '2'}",
    "system: {replicas: null}",
    "system: null",
    "system: {logLevel: loud}",
    "system: {resources: {limits: {memory: lots}}}",
    "image: {repository: 'a b'}",
    "image: {tag: '../x'}",
    'image: {tag: "1\\n"}',
    "image: {pullPolicy: Sometimes}",
    "router: {linger: -1}",
    "router: {linger: 604801}",
    "router: {resources: {limits: {cpu: many}}}",
    "router: {resources: {claims: []}}",
    "service: {type: ExternalName}",
    "service: {type: NodePort, nodePort: 65536}",
    "service: {nodePort: 30880}",
    "service: {annotations: {a: 1}}",
    "service: {annotations: {codezero.io/external-host: x}}",
    "service: {externalHost: 'https://x'}",
    "hub: {url: 'http://hub.example.com'}",
    "hub: {url: 'https://hub.example.com/path'}",
    "hub: {url: 'https://user:secret@hub.example.com'}",
    "hub: {token: secret}",
    "hub: {caBundle: '-----BEGIN CERTIFICATE-----A'}",
    "hub: {url: 'https://hub.example.com', caBundle: /etc/ca.pem}",
    "serve: {namespaces: shop}",
    "serve: {namespaces: [Shop]}",
    "serve: {namespaces: ['*', shop]}",
    "serve: {namespaces: [shop, shop]}",
    "allowedDomains: ['exa mple.com']",
    "allowedNetworks: [nodes]",
    "imagePullSecrets: [registry]",
    "imagePullSecrets: [{name: a, key: b}]",
    "tolerations: [{keys: x}]",
    "affinity: {nodeAfinity: {}}",
    "nodeSelector: {a: 1}",
]


def helm(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False)


def rendered(text: str = "", *, namespace: str = "codezero", release: str = "codezero") -> list[dict[str, Any]]:
    ended = helm("template", release, CHART, "--namespace", namespace, "--values", "-", given=text)
    assert (ended.returncode, ended.stderr) == (0, "")
    return [one for one in yaml.safe_load_all(ended.stdout) if one]


def is_hook(content: dict[str, Any]) -> bool:
    return "helm.sh/hook" in content["metadata"].get("annotations", {})


def named(found: Any) -> dict[str, Any]:
    """By what they are, as JSON has them, without what is Helm's own."""
    result: dict[str, Any] = {}
    for one in msgspec.json.decode(msgspec.json.encode(found)):
        metadata = one["metadata"]
        metadata["labels"] = {name: value for name, value in metadata["labels"].items() if name not in HELMS_OWN}
        annotations = {
            name: value for name, value in metadata.pop("annotations", {}).items() if not name.startswith("helm.sh/")
        }
        if annotations:
            metadata["annotations"] = annotations
        result[f"{one['apiVersion']} {one['kind']} {metadata.get('namespace', '')}/{metadata['name']}"] = one
    assert len(result) == len(found)
    return result


@pytest.mark.parametrize("name", SETS)
def test_the_chart_is_what_czctl_installs(name: str) -> None:
    text = SETS[name]
    found = named([one for one in rendered(text) if not is_hook(one)])
    expected = named(objects(values.from_yaml(text), release=Release(manager="Helm")))

    assert set(found) == set(expected)
    for key, content in expected.items():
        assert found[key] == content, key


def test_so_it_is_in_another_namespace_under_another_name() -> None:
    text = "serve: {namespaces: [shop, codezero]}"
    found = named([one for one in rendered(text, namespace="tools", release="mine") if not is_hook(one)])

    assert found == named(objects(values.from_yaml(text), namespace="tools", release=Release("mine", "Helm")))


@pytest.mark.parametrize("name", ["defaults", "namespaces", "all namespaces"])
def test_what_puts_everything_back_has_the_rights_of_repair_and_goes_with_the_release(name: str) -> None:
    """L15: no Service may stay led to a Router that nobody looks after."""
    hooks = [one for one in rendered(SETS[name]) if is_hook(one)]
    expected = labelled(access.repair(values.from_yaml(SETS[name]), "codezero"), Release(manager="Helm"))

    assert named([one for one in hooks if one["kind"] != "Job"]) == named(expected)
    for one in hooks:
        annotations = one["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-delete,post-delete"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    (job,) = [one for one in hooks if one["kind"] == "Job"]
    weights = {one["kind"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks}
    assert max(weights.values()) == weights["Job"]
    assert list(weights.values()).count(weights["Job"]) == 1
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == access.REPAIR
    assert pod["containers"][0]["image"] == Values().image.reference
    assert pod["containers"][0]["command"] == ["python", "-m", "codezero.system.serving.repair"]


def test_the_job_that_puts_everything_back_has_no_privileges() -> None:
    """Those of the namespace's Pod Security level, like the other pods."""
    found = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in rendered(PLACED)
        if "template" in one.get("spec", {})
    }
    repair, system = found["repair"], found["system"]

    for field in ("securityContext", "imagePullSecrets", "nodeSelector", "tolerations", "affinity"):
        assert repair[field] == system[field]
    assert repair["containers"][0]["securityContext"] == system["containers"][0]["securityContext"]


def test_the_definition_of_serve_outlives_the_release() -> None:
    (definition,) = [one for one in rendered() if one["kind"] == "CustomResourceDefinition"]

    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("text", WRONG)
def test_helm_refuses_what_czctl_refuses(text: str) -> None:
    """And before anything is installed (L18)."""
    ended = helm("template", "codezero", CHART, "--values", "-", given=text)

    assert ended.returncode != 0
    assert "don't meet the specifications of the schema" in ended.stderr
    with pytest.raises(CodezeroError):
        values.from_yaml(text)


def test_nothing_is_served_of_the_teamspaces_own_namespace() -> None:
    ended = helm(
        *("template", "mine", CHART, "--namespace", "tools", "--values", "-"),
        given="serve: {namespaces: [shop, tools]}",
    )

    assert ended.returncode != 0
    assert "serve.namespaces names tools, the Teamspace's own namespace" in ended.stderr
    with pytest.raises(CodezeroError, match=r"serve\.namespaces names tools"):
        objects(values.from_yaml("serve: {namespaces: [shop, tools]}"), namespace="tools")


def test_the_files_that_come_from_the_code_are_those_of_the_code() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "tools" / "chart.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_defaults_of_the_chart_are_those_of_the_code_and_each_is_explained() -> None:
    text = (CHART / "values.yaml").read_text()
    lines = text.splitlines()

    assert yaml.safe_load(text) == json.loads(msgspec.json.encode(Values()))
    for number, line in enumerate(lines):
        name = line.strip().partition(":")[0]
        if name and not name.startswith("#") and name not in {"cpu", "memory"}:
            assert lines[number - 1].strip().startswith("# "), line


def test_nothing_unknown_is_let_through_at_any_depth() -> None:
    def check(part: Any) -> None:
        if isinstance(part, dict):
            if "properties" in part and "type" in part:
                assert part["additionalProperties"] is False
            for below in part.values():
                check(below)

    check(json.loads((CHART / "values.schema.json").read_text()))


def test_helm_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    strict = tmp_path / "values.yaml"
    strict.write_text(SETS["namespaces"])
    for more in ([], ["--values", strict]):
        ended = helm("lint", "--strict", CHART, *more)

        assert ended.returncode == 0, ended.stdout + ended.stderr


# A release


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        for name in ("codezero", "shop", "cart"):
            cluster.add_namespace(name)
        cluster.store.delete("customresourcedefinitions.apiextensions.k8s.io", "", "serves.codezero.io")
        yield cluster


async def helm_at(cluster: ServingCluster, *arguments: str | Path, given: str = "") -> str:
    return await asyncio.to_thread(_helm_at, cluster, arguments, given)


def _helm_at(cluster: ServingCluster, arguments: tuple[str | Path, ...], given: str) -> str:
    ended = helm(*arguments, "--namespace", "codezero", "--kubeconfig", cluster.kubeconfig, given=given)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def there(cluster: ServingCluster) -> set[str]:
    """What of a Teamspace is in the cluster; what controllers make of that aside."""
    return {
        f"{kind.kind} {one.namespace}/{one.name}"
        for kind in cluster.store.types.stored()
        for one in cluster.store.list(kind.key)
        if one.content["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") == "codezero"
        and "ownerReferences" not in one.content["metadata"]
    }


async def test_a_release_comes_changes_and_goes(cluster: ServingCluster) -> None:
    """Rights over a namespace go as soon as it may be served no more."""
    notes = (await helm_at(cluster, "install", "codezero", CHART, "--values", "-", given=SETS["namespaces"])).partition(
        "NOTES:"
    )[2]
    installed = there(cluster)
    await helm_at(cluster, "upgrade", "codezero", CHART, "--values", "-", given="serve: {namespaces: [cart]}")
    upgraded = there(cluster)
    # The sandbox runs no jobs, and nothing is served here.
    await helm_at(cluster, "uninstall", "codezero", "--no-hooks")

    assert "czctl teamspace identity" in notes
    assert "may be served: shop, cart" in notes
    assert {"Deployment codezero/system", "Role shop/codezero-system", "Role cart/codezero-system"} < installed
    assert installed - upgraded == {"Role shop/codezero-system", "RoleBinding shop/codezero-system"}
    assert there(cluster) == {"CustomResourceDefinition /serves.codezero.io"}


@pytest.mark.parametrize("before", ["[shop, cart]", '["*"]'])
async def test_a_namespace_in_which_something_is_served_stays_enabled(cluster: ServingCluster, before: str) -> None:
    """The System could not put the Service back without its rights."""
    await helm_at(cluster, "install", "codezero", CHART, "--values", "-", given=f"serve: {{namespaces: {before}}}")
    for namespace, name in (("shop", "orders"), ("shop", "billing"), ("cart", "basket")):
        serve = {"metadata": {"name": name}, "spec": {"service": name, "routes": []}}
        cluster.store.create("serves.codezero.io", namespace, serve)
    there_before = there(cluster)
    upgrade = ("upgrade", "codezero", CHART, "--namespace", "codezero", "--kubeconfig", cluster.kubeconfig)

    refused = await asyncio.to_thread(helm, *upgrade, "--values", "-", given="serve: {namespaces: [cart]}")

    assert refused.returncode != 0
    assert "shop/billing, shop/orders is being served" in refused.stderr
    assert "kubectl delete serve NAME --namespace NAMESPACE" in refused.stderr
    assert there(cluster) == there_before

    for name in ("orders", "billing"):
        cluster.store.delete("serves.codezero.io", "shop", name)
    await helm_at(cluster, *upgrade[:3], "--values", "-", given="serve: {namespaces: [cart]}")
    assert "Role shop/codezero-system" not in there(cluster)


async def test_what_was_never_enabled_keeps_nobody_from_an_upgrade(cluster: ServingCluster) -> None:
    """Who may write Serve objects in a namespace of their own must not decide over releases."""
    await helm_at(cluster, "install", "codezero", CHART, "--values", "-", given="serve: {namespaces: [cart]}")
    serve = {"metadata": {"name": "orders"}, "spec": {"service": "orders", "routes": []}}
    cluster.store.create("serves.codezero.io", "shop", serve)

    await helm_at(cluster, "upgrade", "codezero", CHART, "--values", "-", given="serve: {namespaces: []}")

    assert "Role cart/codezero-system" not in there(cluster)
