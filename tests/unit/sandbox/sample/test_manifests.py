import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import codezero
import codezero.sandbox.sample
from codezero.sandbox.sample.settings import PORTS

MANIFESTS = Path(codezero.sandbox.sample.__file__).parent / "manifests"
KUBECTL = Path(sys.executable).parent / "kubectl"

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    rendered = subprocess.run([KUBECTL, "kustomize", MANIFESTS], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(rendered.stdout))


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] in kinds}


def containers(manifests: list[Manifest]) -> list[Manifest]:
    return [
        container
        for workload in of_kind(manifests, "Deployment", "StatefulSet").values()
        for container in workload["spec"]["template"]["spec"]["containers"]
    ]


def test_rendering_adds_nothing(manifests: list[Manifest]) -> None:
    """The sandbox and `kubectl apply -f` read the files themselves, so the files alone must be complete."""
    resources = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    plain = [manifest for name in resources for manifest in yaml.safe_load_all((MANIFESTS / name).read_text())]

    def in_order(some: list[Manifest]) -> list[Manifest]:
        return sorted(some, key=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))

    assert in_order(plain) == in_order(manifests)


def test_the_services_are_those_of_the_project(manifests: list[Manifest]) -> None:
    """Demo, documentation and acceptance tests know them by name and port."""
    services = of_kind(manifests, "Service")

    assert {
        name.removeprefix("sample-project-"): [port["port"] for port in service["spec"]["ports"]]
        for name, service in services.items()
    } == {
        "frontend": [80],
        "core": [3000],
        "leaf": [3010],
        "sockets": [8999],
        "database": [5432],
        "external": [80, 443],
        "peers": [3010],
    }
    assert services["sample-project-external"]["spec"]["type"] == "ExternalName"
    assert services["sample-project-peers"]["spec"]["clusterIP"] == "None"


def test_every_service_finds_its_pods(manifests: list[Manifest]) -> None:
    """A selector or port name with a slip gives a service without endpoints."""
    workloads = of_kind(manifests, "Deployment", "StatefulSet")

    for name, service in of_kind(manifests, "Service").items():
        if selector := service["spec"].get("selector"):
            pod = workloads[name]["spec"]["template"]
            assert selector.items() <= pod["metadata"]["labels"].items()
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_every_container_runs_a_part_of_this_version(manifests: list[Manifest]) -> None:
    """The image is built from this source; a module that is gone would only fail in the cluster."""
    for container in containers(manifests):
        python, option, module = container["command"]

        assert (python, option) == ("python", "-m")
        assert importlib.util.find_spec(module) is not None
        assert container["image"] == f"codezero-sample:{codezero.__version__}"
        assert container["ports"][0]["containerPort"] == PORTS[module.rpartition(".")[2]]  # type: ignore[index]
        assert {"name": "SP_ADDRESS", "value": "0.0.0.0"} in container["env"]


def test_every_container_has_probes_limits_and_no_privileges(manifests: list[Manifest]) -> None:
    """The namespace enforces restricted Pod Security; what breaks it would not start."""
    for workload in of_kind(manifests, "Deployment", "StatefulSet").values():
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert pod["automountServiceAccountToken"] is False
    for container in containers(manifests):
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        assert "memory" in container["resources"]["limits"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_everything_is_labelled(manifests: list[Manifest]) -> None:
    """`kubectl get all -l app=sample-project` shows the project."""
    for manifest in manifests:
        assert manifest["metadata"]["labels"]["app"] == "sample-project"


def test_the_image_starts_from_the_locked_requirements() -> None:
    """An image built next year must be this one."""
    text = (MANIFESTS.parent / "Containerfile").read_text()

    assert "--require-hashes" in text
    assert f"codezero-sample:{codezero.__version__}" in text
