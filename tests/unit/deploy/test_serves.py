"""The definition of the Serve resource: what the System writes fits, and garbage does not (T25)."""

from typing import Any

import msgspec
import pytest

from codezero.deploy.objects import serves_definition
from codezero.model.serve import MAX_KEY, MAX_VALUE, ConditionKind
from codezero.model.variants import Mirror, ServingState
from codezero.sandbox.api import ApiError, Store, bootstrap
from codezero.wire import serve_resource

DEFINITION = serves_definition()


def schema_of(*path: str) -> dict[str, Any]:
    """The schema of a field of Serve, lists being walked through."""
    (version,) = DEFINITION["spec"]["versions"]
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
    (version,) = DEFINITION["spec"]["versions"]

    assert (f"{serve_resource.GROUP}/{version['name']}", serve_resource.PLURAL) == (
        serve_resource.API_VERSION,
        DEFINITION["spec"]["names"]["plural"],
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
    made.create("customresourcedefinitions.apiextensions.k8s.io", "", DEFINITION)
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
