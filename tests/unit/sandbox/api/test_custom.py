"""Kinds that a CustomResourceDefinition adds while the server runs."""

from typing import Any

import pytest

from codezero.sandbox.api import ApiError, Options, Store
from codezero.sandbox.api.jsonpaths import find

Json = dict[str, Any]
SERVES = "serves.codezero.io"


def definition(**changes: Any) -> Json:
    schema: Json = {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["service"],
                "properties": {
                    "service": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z-]+$"},
                    "mode": {"type": "string", "enum": ["default", "header"], "default": "default"},
                    "port": {"x-kubernetes-int-or-string": True},
                    "weight": {"type": "integer", "minimum": 0, "maximum": 100},
                    "routes": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["id"],
                        "items": {
                            "type": "object",
                            "required": ["id"],
                            "properties": {"id": {"type": "string"}, "to": {"type": "string"}},
                        },
                    },
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "either": {
                        "type": "object",
                        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                    },
                },
            },
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
        },
    }
    version: Json = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": "Service", "type": "string", "jsonPath": ".spec.service"}],
    } | changes
    return {
        "metadata": {"name": SERVES},
        "spec": {
            "group": "codezero.io",
            "scope": "Namespaced",
            "names": {"plural": "serves", "kind": "Serve", "shortNames": ["sv"]},
            "versions": [version],
        },
    }


@pytest.fixture
def serves(store: Store) -> Store:
    store.create("customresourcedefinitions.apiextensions.k8s.io", "", definition())
    return store


def serve(**spec: Any) -> Json:
    return {"metadata": {"name": "s1"}, "spec": {"service": "orders", **spec}}


def test_definition_is_established_at_once(serves: Store) -> None:
    """`kubectl wait --for=condition=Established` precedes the first object."""
    status = serves.get("customresourcedefinitions.apiextensions.k8s.io", "", SERVES).content["status"]

    assert {condition["type"] for condition in status["conditions"] if condition["status"] == "True"} == {
        "Established",
        "NamesAccepted",
    }
    assert status["storedVersions"] == ["v1beta1"]


def test_objects_are_pruned_and_completed(serves: Store) -> None:
    created = serves.create(SERVES, "shop", serve(free={"x": {"y": 1}}, bogus=1)).content

    assert created["spec"] == {"service": "orders", "mode": "default", "free": {"x": {"y": 1}}}
    assert (created["apiVersion"], created["kind"]) == ("codezero.io/v1beta1", "Serve")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"service": 5}, "spec.service"),
        ({"service": ""}, "spec.service"),
        ({"service": "UPPER"}, "spec.service"),
        ({"mode": "other"}, "spec.mode"),
        ({"port": 1.5}, "spec.port"),
        ({"weight": 101}, "spec.weight"),
        ({"weight": True}, "spec.weight"),
        ({"routes": [{"to": "x"}]}, "spec.routes[0].id"),
        ({"routes": [{"id": "x"}, {"id": "x"}]}, "spec.routes[1].id"),
        ({"labels": {"a": 5}}, "spec.labels.a"),
        ({"either": {"a": "1", "b": "2"}}, "spec.either"),
    ],
)
def test_objects_that_break_the_schema_are_refused(serves: Store, spec: Json, field: str) -> None:
    with pytest.raises(ApiError) as caught:
        serves.create(SERVES, "shop", serve(**spec))

    assert caught.value.code == 422
    assert field in {cause["field"] for cause in (caught.value.details or {})["causes"]}


def test_missing_required_part_is_refused(serves: Store) -> None:
    with pytest.raises(ApiError) as caught:
        serves.create(SERVES, "shop", {"metadata": {"name": "s1"}})

    assert "spec: Required value" in caught.value.message


def test_status_is_apart_and_generation_counts(serves: Store) -> None:
    serves.create(SERVES, "shop", serve() | {"status": {"phase": "sneaky"}})
    serves.patch(SERVES, "shop", "s1", {"status": {"phase": "Serving"}}, subresource="status")
    after = serves.patch(SERVES, "shop", "s1", {"spec": {"mode": "header"}, "status": {"phase": "no"}}).content

    assert after["status"] == {"phase": "Serving"}
    assert after["metadata"]["generation"] == 2


def test_keyed_lists_apply_by_their_key(serves: Store) -> None:
    """Each laptop applies its own route to the shared object."""
    for manager in ("a", "b"):
        wanted = {
            "apiVersion": "codezero.io/v1beta1",
            "kind": "Serve",
            "spec": {"service": "orders", "routes": [{"id": manager, "to": "x"}]},
        }
        serves.patch(SERVES, "shop", "s1", wanted, patch_kind="apply", options=Options(manager=manager))

    assert [route["id"] for route in serves.get(SERVES, "shop", "s1").content["spec"]["routes"]] == ["a", "b"]


def test_strategic_patch_is_refused(serves: Store) -> None:
    serves.create(SERVES, "shop", serve())

    with pytest.raises(ApiError) as caught:
        serves.patch(SERVES, "shop", "s1", {"spec": {}}, patch_kind="strategic")

    assert caught.value.code == 415


def test_definition_takes_its_objects_along(serves: Store) -> None:
    """Uninstalling must not leave objects nobody can reach."""
    serves.create(SERVES, "shop", serve())

    serves.delete("customresourcedefinitions.apiextensions.k8s.io", "", SERVES)

    assert serves.types.named(SERVES) is None
    assert serves.storage.count(SERVES) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": {}},
        {"schema": {"openAPIV3Schema": {"type": "array"}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": 5}}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": ["string"]}}}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "required": "spec"}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"items": [5]}}}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"minLength": "1"}}}}},
        {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {"$ref": "#/x"}}}}},
        {"name": "beta"},
        {"storage": False},
    ],
)
def test_bad_definitions_are_refused(store: Store, changes: Json) -> None:
    """A schema is read with every object; a malformed one must not get in."""
    with pytest.raises(ApiError) as caught:
        store.create("customresourcedefinitions.apiextensions.k8s.io", "", definition(**changes))

    assert caught.value.code in {400, 422}


def test_built_in_kinds_cannot_be_redefined(store: Store) -> None:
    body = definition()
    body["metadata"]["name"] = "endpointslices.discovery.k8s.io"
    body["spec"] |= {"group": "discovery.k8s.io"}
    body["spec"]["names"] |= {"plural": "endpointslices"}

    with pytest.raises(ApiError) as caught:
        store.create("customresourcedefinitions.apiextensions.k8s.io", "", body)

    assert caught.value.code == 422
    assert store.types.named("endpointslices.discovery.k8s.io") is not None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".a.b", 1),
        ("{.a.b}", 1),
        (".list[1]", "y"),
        (".list[-1]", "y"),
        (".list[7]", None),
        ('.conditions[?(@.type=="Ready")].status', "True"),
        (".a['b']", 1),
        (".annotations.codezero\\.io/x", "z"),
        (".list[*]", "x"),
        ("garbage", None),
        (".a[", None),
    ],
)
def test_printer_column_paths(path: str, expected: Any) -> None:
    content = {
        "a": {"b": 1},
        "list": ["x", "y"],
        "conditions": [{"type": "Ready", "status": "True"}],
        "annotations": {"codezero.io/x": "z"},
    }

    assert find(content, path) == expected
