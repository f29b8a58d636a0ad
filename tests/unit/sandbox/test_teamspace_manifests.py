"""The Teamspace's manifests give what they must and no more: rights, privileges, open ports (T24)."""

from importlib.resources import files
from typing import Any

import pytest
import yaml

FOLDER = files("codezero.sandbox") / "teamspace"
OBJECTS: list[dict[str, Any]] = [
    document
    for file in FOLDER.iterdir()
    if file.name.endswith(".yaml")
    for document in yaml.safe_load_all(file.read_text())
    if document
]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in OBJECTS if item["kind"] == kind}


def test_the_system_may_look_and_nothing_else() -> None:
    """Whoever takes the System over must find a catalog, and no Secret, no exec and nothing to change."""
    (role,) = of_kind("ClusterRole").values()
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    core = {
        ("", resource, verb) for resource in ("services", "namespaces", "nodes") for verb in ("get", "list", "watch")
    }
    assert granted == core | {("discovery.k8s.io", "endpointslices", verb) for verb in ("get", "list", "watch")}
    assert not any(set(rule) - {"apiGroups", "resources", "verbs"} for rule in role["rules"])
    assert not of_kind("Role")
    assert not of_kind("RoleBinding")
    (binding,) = of_kind("ClusterRoleBinding").values()
    assert [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]] == [
        ("ServiceAccount", "codezero", "system")
    ]


@pytest.mark.parametrize("name", ["system", "orchestrator"])
def test_pods_have_no_privileges(name: str) -> None:
    """As the level `restricted` of Pod Security, which the namespace enforces, and with a root folder nobody can write to."""
    pod = of_kind("Deployment")[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert of_kind("Namespace")["codezero"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert all(set(volume) - {"name"} <= {"secret", "configMap"} for volume in pod["volumes"])
    assert container["resources"]["limits"]["memory"]


def test_the_orchestrator_has_no_token_for_the_api() -> None:
    pod = of_kind("Deployment")["orchestrator"]["spec"]["template"]["spec"]

    assert pod["automountServiceAccountToken"] is False
    assert of_kind("ServiceAccount")["orchestrator"]["automountServiceAccountToken"] is False


def test_each_part_gets_its_own_key_alone() -> None:
    """The Orchestrator's pod must not hold what proves to be a System."""
    for name in ("system", "orchestrator"):
        pod = of_kind("Deployment")[name]["spec"]["template"]["spec"]
        (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        keys = {item["key"] for item in secret["items"] if item["key"].endswith(".key")}

        assert keys == {f"{name}.key"}


def test_one_port_is_exposed() -> None:
    exposed = {
        (name, port["port"])
        for name, service in of_kind("Service").items()
        if service["spec"].get("type", "ClusterIP") != "ClusterIP"
        for port in service["spec"]["ports"]
    }

    assert exposed == {("codezero", 8800)}


def test_the_network_holds_the_parts_back_too() -> None:
    """Should the System's own rules fail: no metadata service for it, no way out for the Orchestrator."""
    policies = of_kind("NetworkPolicy")
    system, orchestrator = policies["system"]["spec"], policies["orchestrator"]["spec"]
    barred = {each for rule in system["egress"] for to in rule["to"] for each in to["ipBlock"]["except"]}

    assert barred >= {"169.254.169.254/32", "fd00:ec2::254/128"}
    assert set(orchestrator["policyTypes"]) == {"Ingress", "Egress"}
    assert not orchestrator.get("egress")
    (only,) = orchestrator["ingress"]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in only["from"]] == ["system"]
