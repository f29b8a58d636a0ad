"""The objects of a Teamspace: privileges, open ports, what the cluster may do with the pods (T24)."""

from importlib.resources import files
from typing import Any

import msgspec
import pytest

from codezero.deploy import values
from codezero.deploy.manifest import Release
from codezero.deploy.objects import namespace_of, objects
from codezero.deploy.values import Hub, Opa, Values


def of_kind(kind: str, chosen: Values | None = None, **named: Any) -> dict[str, dict[str, Any]]:
    found = objects(chosen or Values(), **named)
    return {item["metadata"]["name"]: item for item in found if item["kind"] == kind}


def pod_of(name: str, chosen: Values | None = None) -> dict[str, Any]:
    return of_kind("Deployment", chosen)[name]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["system", "orchestrator"])
def test_pods_have_no_privileges(name: str) -> None:
    """As the level `restricted` of Pod Security, which the namespace enforces, and with a root folder nobody can write to."""
    pod = of_kind("Deployment")[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert namespace_of("codezero")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
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
    assert of_kind("Deployment")["orchestrator"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_each_part_gets_its_own_key_alone() -> None:
    """The Orchestrator's pod must not hold what proves to be a System."""
    for name in ("system", "orchestrator"):
        pod = of_kind("Deployment")[name]["spec"]["template"]["spec"]
        (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        keys = {item["key"] for item in secret["items"] if item["key"].endswith(".key")}

        assert keys == {f"{name}.key"} | ({"ca.key", "seal.key"} if name == "system" else set())


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
    open_to_all = [port["port"] for rule in system["ingress"] if "from" not in rule for port in rule["ports"]]
    in_the_cluster = [port["port"] for rule in system["ingress"] if "from" in rule for port in rule["ports"]]
    barred = {each for rule in system["egress"] for to in rule["to"] for each in to["ipBlock"]["except"]}

    assert barred >= {"169.254.169.254/32", "fd00:ec2::254/128"}
    assert (open_to_all, in_the_cluster) == (["tunnel"], ["routers"])
    assert set(system["policyTypes"]) == {"Ingress", "Egress"}
    assert set(orchestrator["policyTypes"]) == {"Ingress", "Egress"}
    assert not orchestrator.get("egress")
    (only,) = orchestrator["ingress"]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in only["from"]] == ["system"]


def test_what_others_need_comes_first() -> None:
    kinds = [one["kind"] for one in objects(Values())]

    assert kinds[0] == "CustomResourceDefinition"
    assert set(kinds[-2:]) == {"Deployment"}
    assert kinds.index("ServiceAccount") < kinds.index("ConfigMap") < kinds.index("Service")


def test_the_namespace_and_what_a_hub_provides_are_not_among_them() -> None:
    found = {(one["kind"], one["metadata"]["name"]) for one in objects(Values())}

    assert not found & {("Namespace", "codezero"), ("Secret", "codezero-identity"), ("ConfigMap", "codezero-policy")}


def test_everything_says_what_it_is_part_of_and_who_installed_it() -> None:
    for one in objects(Values(), release=Release("mine", "Helm")):
        labels = one["metadata"]["labels"]
        name = labels["app.kubernetes.io/name"]

        assert name in {"system", "orchestrator", "codezero"}
        assert labels["app.kubernetes.io/component"] == name
        assert labels["app.kubernetes.io/part-of"] == "codezero"
        assert (labels["app.kubernetes.io/instance"], labels["app.kubernetes.io/managed-by"]) == ("mine", "Helm")


def test_all_but_the_clusters_own_is_in_the_namespace() -> None:
    in_the_cluster = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"} | {
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    for one in objects(values.from_yaml("serve: {namespaces: [shop]}"), namespace="mine"):
        if one["kind"] in in_the_cluster:
            assert "namespace" not in one["metadata"]
        else:
            assert one["metadata"]["namespace"] in {"mine", "shop"}
    variables = {one["name"]: one.get("value") for one in pod_in("mine")["containers"][0]["env"]}
    assert variables["CODEZERO_ORCHESTRATOR"] == "orchestrator.mine.svc:8900"


def pod_in(namespace: str) -> dict[str, Any]:
    return of_kind("Deployment", namespace=namespace)["system"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["system", "orchestrator"])
def test_a_new_pod_is_ready_before_an_old_one_goes(name: str) -> None:
    spec = of_kind("Deployment")[name]["spec"]

    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["replicas"] == 2
    budget = of_kind("PodDisruptionBudget")[name]["spec"]
    # Pods that wait for an identity must not keep a node from being drained.
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


@pytest.mark.parametrize("name", ["system", "orchestrator"])
def test_the_selectors_of_a_component_find_its_pods_alone(name: str) -> None:
    template = of_kind("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
    other = of_kind("Deployment")[{"system": "orchestrator", "orchestrator": "system"}[name]]["spec"]["template"]
    selectors = [
        of_kind("Deployment")[name]["spec"]["selector"]["matchLabels"],
        of_kind("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")[name]["spec"]["podSelector"]["matchLabels"],
        of_kind("Service")[name]["spec"]["selector"],
        *(one["labelSelector"]["matchLabels"] for one in pod_of(name)["topologySpreadConstraints"]),
    ]

    for selector in selectors:
        assert selector.items() <= template.items()
        assert not selector.items() <= other["metadata"]["labels"].items()


@pytest.mark.parametrize("name", ["system", "orchestrator"])
def test_a_pod_has_time_to_say_farewell(name: str) -> None:
    """The time before it is asked to end counts too."""
    pod = pod_of(name)
    (container,) = pod["containers"]

    assert pod["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + 10


def test_an_upgrade_that_changes_settings_restarts_the_system_and_no_other_does() -> None:
    """It reads them once; and a restart moves every laptop."""

    def annotations(text: str) -> dict[str, Any]:
        return of_kind("Deployment", values.from_yaml(text))["system"]["spec"]["template"]["metadata"]["annotations"]

    assert annotations("serve: {namespaces: [shop]}") != annotations("serve: {namespaces: [shop, cart]}")
    assert annotations("") == annotations("system: {replicas: 3}")


def test_settings_of_the_system_are_those_of_the_values() -> None:
    chosen = values.from_yaml(
        "serve: {namespaces: [shop, cart]}\n"
        "allowedDomains: ['*.example.com', 'db.corp=private']\n"
        "allowedNetworks: [10.0.0.0/24]\n"
        "router: {image: {repository: registry.example:5000/router, tag: '7'}, replicas: 3, linger: 60,\n"
        "  resources: {requests: {memory: null, cpu: 1}, limits: {cpu: '2'}}}\n"
        "system: {logLevel: debug}\n"
    )

    assert of_kind("ConfigMap", chosen)["codezero-settings"]["data"] == {
        "CODEZERO_ALLOWED_DOMAINS": "*.example.com,db.corp=private",
        "CODEZERO_ALLOWED_NETWORKS": "10.0.0.0/24",
        "CODEZERO_LOG_LEVEL": "debug",
        "CODEZERO_ROUTER_IMAGE": "registry.example:5000/router:7",
        "CODEZERO_ROUTER_LINGER": "60",
        "CODEZERO_ROUTER_REPLICAS": "3",
        "CODEZERO_ROUTER_RESOURCES": '{"limits":{"cpu":"2","memory":"2Gi"},"requests":{"cpu":1}}',
        "CODEZERO_SERVE_NAMESPACES": "shop,cart",
    }


def test_systems_choose_among_the_pods_of_the_orchestrator() -> None:
    assert of_kind("Service")["orchestrator"]["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}),
        (
            "service: {type: NodePort, externalTrafficPolicy: Local}",
            {"type": "NodePort", "externalTrafficPolicy": "Local"},
        ),
        ("service: {type: ClusterIP}", {"type": "ClusterIP"}),
    ],
)
def test_the_entry_is_of_the_type_that_was_chosen(text: str, expected: dict[str, str]) -> None:
    spec = of_kind("Service", values.from_yaml(text))["codezero"]["spec"]

    assert {name: value for name, value in spec.items() if name not in {"selector", "ports"}} == expected


def test_the_entry_tells_where_it_is_reached() -> None:
    chosen = values.from_yaml(
        "service: {type: NodePort, nodePort: 30880, externalHost: dev.example.com, annotations: {a: b}}"
    )
    service = of_kind("Service", chosen)["codezero"]

    assert service["spec"]["ports"][0]["nodePort"] == 30880
    assert service["metadata"]["annotations"] == {
        "a": "b",
        "codezero.io/external-host": "dev.example.com",
        "codezero.io/external-port": "8800",
    }


def test_pods_go_where_they_are_wanted() -> None:
    chosen = values.from_yaml(
        "imagePullSecrets: [{name: registry}]\n"
        "nodeSelector: {pool: tools}\n"
        "tolerations: [{key: tools, operator: Exists}]\n"
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}\n"
    )
    for name in ("system", "orchestrator"):
        pod = pod_of(name, chosen)

        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["nodeSelector"] == {"pool": "tools"}
        assert pod["tolerations"] == [{"key": "tools", "operator": "Exists"}]
        assert set(pod["affinity"]) == {"nodeAffinity"}
        assert not {"imagePullSecrets", "nodeSelector", "tolerations", "affinity"} & set(pod_of(name))


def test_objects_are_plain_json() -> None:
    found = objects(values.from_yaml("tolerations: [{key: a, tolerationSeconds: 5}]\nserve: {namespaces: ['*']}"))

    assert msgspec.json.decode(msgspec.json.encode(found)) == list(found)


def test_the_definition_of_serve_is_part_of_the_package() -> None:
    assert (files("codezero.deploy") / "serves.yaml").is_file()


@pytest.mark.parametrize(
    "chosen",
    [
        Values(hub=Hub(url="https://hub.example.com")),
        Values(opa=Opa(enabled=True, url="http://opa.opa.svc:8181/allow")),
    ],
    ids=["Hub", "OPA"],
)
def test_the_orchestrator_gets_out_where_it_has_somebody_to_ask(chosen: Values) -> None:
    """Where policies of the network are enforced, its channel to the Hub would never stand without; the metadata service stays out of reach."""
    (rule,) = of_kind("NetworkPolicy", chosen)["orchestrator"]["spec"]["egress"]

    assert {each for to in rule["to"] for each in to["ipBlock"]["except"]} == {
        "169.254.169.254/32",
        "fd00:ec2::254/128",
    }


def test_both_parts_are_told_whom_to_ask_where_that_is_enabled() -> None:
    """A value that is silently off would be taken for a policy."""

    def told(opa: Opa) -> list[str]:
        return [
            variable["value"]
            for part in ("system", "orchestrator")
            for variable in pod_of(part, Values(opa=opa))["containers"][0]["env"]
            if variable["name"] == "CODEZERO_OPA_URL"
        ]

    assert told(Opa(enabled=True, url="https://opa.example.com/allow")) == ["https://opa.example.com/allow"] * 2
    assert told(Opa(url="https://opa.example.com/allow")) == []
    with pytest.raises(ValueError, match="enabled needs a url"):
        Opa(enabled=True)
