"""The Teamspace's manifests give what they must and no more: rights, privileges, open ports (T24)."""

from importlib.resources import files
from typing import Any

import msgspec
import pytest
import yaml

from codezero.model.serve import MAX_KEY, MAX_VALUE, ConditionKind
from codezero.model.variants import Mirror, ServingState
from codezero.sandbox.api import ApiError, Store, bootstrap
from codezero.wire import serve_resource

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


def granted(rules: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Verbs by resource, as `kubectl auth can-i --list` names them."""
    assert not any(set(rule) - {"apiGroups", "resources", "verbs"} for rule in rules)
    found: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                plural, slash, subresource = resource.partition("/")
                name = f"{plural}.{group}" if group else plural
                found.setdefault(name + slash + subresource, set()).update(rule["verbs"])
    return found


def test_the_system_may_look_and_lead_services_through_routers_and_nothing_else() -> None:
    """Whoever takes the System over must find no Secret, no exec, no way to more rights. Each right here has its reason in the manifest."""
    read = {"get", "list", "watch"}
    write = {"create", "update", "patch", "delete"}
    (role,) = of_kind("ClusterRole").values()

    assert granted(role["rules"]) == {
        "namespaces": read,
        "nodes": read,
        "endpointslices.discovery.k8s.io": read,
        "statefulsets.apps": {"list"},
        "services": read | write,
        "deployments.apps": {"get", "list"} | write,
        "networkpolicies.networking.k8s.io": {"list", "create", "update", "delete"},
        "serves.codezero.io": read | write,
        "serves.codezero.io/status": {"update"},
        "serviceaccounts": {"get", "create", "delete"},
        "events": {"create"},
        "tokenreviews.authentication.k8s.io": {"create"},
    }
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        (binding,) = of_kind(kind).values()
        assert [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]] == [
            ("ServiceAccount", "codezero", "system")
        ]


def test_leases_are_those_of_the_own_namespace() -> None:
    (role,) = of_kind("Role").values()

    assert role["metadata"]["namespace"] == "codezero"
    assert granted(role["rules"]) == {"leases.coordination.k8s.io": {"get", "create", "update"}}


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


# The Serve resource


def schema_of(*path: str) -> dict[str, Any]:
    """The schema of a field of Serve, lists being walked through."""
    (version,) = of_kind("CustomResourceDefinition")["serves.codezero.io"]["spec"]["versions"]
    found = version["schema"]["openAPIV3Schema"]
    for name in path:
        found = found["properties"][name]
        found = found.get("items", found)
    return found


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (("spec",), serve_resource.ServeSpec),
        (("spec", "routes"), serve_resource.Route),
        (("spec", "routes", "condition"), serve_resource.RouteCondition),
        (("spec", "routes", "also"), serve_resource.RouteCondition),
        (("spec", "routes", "ports"), serve_resource.RoutePort),
        (("status",), serve_resource.ServeStatus),
        (("status", "routes"), serve_resource.RouteStatus),
        (("status", "routerConfig"), serve_resource.RouterConfig),
        (("status", "conditions"), serve_resource.Condition),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_the_schema_has_the_fields_that_are_written(path: tuple[str, ...], kind: type[msgspec.Struct]) -> None:
    """A field that the schema lacks would be dropped by the API server without a word; one too many would mean nothing."""
    schema = schema_of(*path)

    assert set(schema["properties"]) == {field.encode_name for field in msgspec.structs.fields(kind)}
    assert set(schema.get("required", ())) <= {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if field.required or kind is serve_resource.ServeSpec
    }
    assert all("description" in below or path == ("status", "conditions") for below in schema["properties"].values())


def test_the_schema_knows_the_words_of_the_model() -> None:
    (version,) = of_kind("CustomResourceDefinition")["serves.codezero.io"]["spec"]["versions"]

    assert (f"{serve_resource.GROUP}/{version['name']}", serve_resource.PLURAL) == (
        serve_resource.API_VERSION,
        of_kind("CustomResourceDefinition")["serves.codezero.io"]["spec"]["names"]["plural"],
    )
    assert schema_of("spec", "routes", "condition", "type")["enum"] == list(ConditionKind)
    assert schema_of("spec", "routes", "condition", "key")["maxLength"] == MAX_KEY
    assert schema_of("spec", "routes", "condition", "value")["maxLength"] == MAX_VALUE
    assert schema_of("status", "state")["enum"] == list(ServingState)
    assert schema_of("spec", "routes", "mirror")["enum"] == list(Mirror)


def test_every_text_and_list_that_others_may_write_has_a_bound() -> None:
    """An object of a gigabyte by hand must be refused where it is written (T25)."""

    def check(schema: dict[str, Any]) -> None:
        if schema["type"] == "string":
            assert "maxLength" in schema or "enum" in schema, schema
        elif schema["type"] == "array":
            assert "maxItems" in schema, schema
            check(schema["items"])
        for below in schema.get("properties", {}).values():
            check(below)

    check(schema_of("spec"))


ROUTE = serve_resource.Route(
    user="01J0000000000000000000000A",
    condition=serve_resource.RouteCondition("header", "x-team", "blue"),
    ports=(serve_resource.RoutePort(3000, 80, "::1"),),
    id="01J0000000000000000000000B",
    also=(serve_resource.RouteCondition("path", value="/api"),),
    user_name="Ann",
    device="spiffe://hub/org/o/user/u/device/d",
    session="01J0000000000000000000000C",
    since=1_700_000_000_000,
    expires=1_700_000_000.5,
    mirror=Mirror.SAFE,
)


@pytest.fixture
def store() -> Store:
    made = Store()
    bootstrap(made)
    made.create(
        "customresourcedefinitions.apiextensions.k8s.io", "", of_kind("CustomResourceDefinition")["serves.codezero.io"]
    )
    return made


def as_json(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def serve_object(route: object, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": serve_resource.API_VERSION,
        "kind": serve_resource.KIND,
        "metadata": {"name": "orders"},
        "spec": {"service": "orders", "routes": [as_json(route)]} | spec,
    }


def test_an_object_comes_back_as_it_was_written(store: Store) -> None:
    sealed = serve_resource.sealed(ROUTE, service_uid="u", key=b"k")
    created = store.create("serves.codezero.io", "default", serve_object(sealed))
    status = serve_resource.ServeStatus(
        state="active",
        message="all is well",
        observed_generation=1,
        original={"selector": {"app": "orders"}, "ports": [{"port": 80}]},
        origin_selector={"app": "orders"},
        router_config=serve_resource.RouterConfig(1),
        routes=(
            serve_resource.RouteStatus(ROUTE.id, "10.0.0.1:8801"),
            serve_resource.RouteStatus(ROUTE.user, away_since=1.5),
        ),
        conditions=(serve_resource.Condition("Ready", "True", "Active", "", "2026-01-01T00:00:00Z", 1),),
        reversals=(1.0, 2.5),
        unserved_since=3.0,
    )
    content = created.copy() | {"status": as_json(status)}
    stored = store.update("serves.codezero.io", "default", content, subresource="status").content

    spec = msgspec.convert(stored["spec"], serve_resource.ServeSpec)
    assert spec == serve_resource.ServeSpec("orders", (sealed,))
    assert serve_resource.is_sealed(spec.routes[0], service_uid="u", key=b"k")
    assert msgspec.convert(stored["status"], serve_resource.ServeStatus) == status


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"user": "ann"}, "user"),
        ({"id": "../../x"}, "id"),
        ({"ports": []}, "ports"),
        ({"ports": [{"localPort": 0, "remotePort": 80}]}, "ports[0].localPort"),
        ({"ports": [{"localPort": 80, "remotePort": 65536}]}, "ports[0].remotePort"),
        ({"ports": [{"localPort": 80, "remotePort": 80, "host": "a b"}]}, "ports[0].host"),
        ({"condition": {"type": "weather"}}, "condition.type"),
        ({"condition": {"type": "header", "key": "k" * 129}}, "condition.key"),
        ({"condition": {"type": "header", "value": "v" * 513}}, "condition.value"),
        ({"also": [{"type": "user"}] * 8}, "also"),
        ({"seal": "no seal"}, "seal"),
        ({"mirror": "often"}, "mirror"),
        ({"since": "yesterday"}, "since"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_garbage_is_refused_where_it_is_written(store: Store, wrong: dict[str, Any], where: str) -> None:
    """By the API server, before any code of ours sees it (T25)."""
    with pytest.raises(ApiError) as refused:
        store.create("serves.codezero.io", "default", serve_object(as_json(ROUTE) | wrong))

    assert refused.value.code == 422
    assert f"spec.routes[0].{where}" in refused.value.message
