"""The patches of kubectl and controllers, against the examples of their specifications and the API's list keys."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox.api import schemas
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.patches import json_patch, merge_patch, strategic_merge

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("target", "operations", "expected"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b": {"m~n": 8}}, [{"op": "test", "path": "/a~1b/m~0n", "value": 8}], {"a/b": {"m~n": 8}}),
        ({"foo": 1}, [{"op": "replace", "path": "", "value": {"bar": 2}}], {"bar": 2}),
        ({"foo": None}, [{"op": "replace", "path": "/foo", "value": "truthy"}], {"foo": "truthy"}),
    ],
)
def test_json_patch_examples(target: Json, operations: list[Json], expected: Json) -> None:
    """RFC 6902, appendix A."""
    assert json_patch(target, operations) == expected


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        [5],
        [{"op": "frob", "path": "/a", "value": 1}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "remove", "path": "/missing"}],
        [{"op": "remove", "path": ""}],
        [{"op": "replace", "path": "/missing", "value": 1}],
        [{"op": "add", "path": "/missing/deep", "value": 1}],
        [{"op": "add", "path": "/list/9", "value": 1}],
        [{"op": "add", "path": "/list/01", "value": 1}],
        [{"op": "add", "path": "/list/x", "value": 1}],
        [{"op": "add", "path": "/text/x", "value": 1}],
        [{"op": "remove", "path": "/list/-"}],
        [{"op": "test", "path": "/text", "value": "other"}],
        [{"op": "move", "from": "/object", "path": "/object/below"}],
        [{"op": "replace", "path": "", "value": 5}],
        [{"op": "add", "path": 5, "value": 1}],
        [{"op": "copy", "from": "", "path": "/a"}] * 200,
        [{"op": "test", "path": "/text", "value": "x"}] * 10_001,
    ],
)
def test_bad_json_patches_are_refused(operations: Any) -> None:
    """Also those that double the document until memory ends."""
    with pytest.raises(ApiError) as caught:
        json_patch({"list": [1, 2], "text": "x", "object": {"below": {}}, "long": "x" * 10_000}, operations)

    assert caught.value.code in {400, 413, 422}


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_examples(target: Json, patch: Json, expected: Json) -> None:
    """RFC 7386, appendix A."""
    assert merge_patch(target, patch) == expected


json_values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=2), json_values), st.dictionaries(st.text(max_size=2), json_values))
def test_merge_patch_is_idempotent(target: Json, patch: Json) -> None:
    once = merge_patch(target, patch)

    assert merge_patch(once, patch) == once


def merged_pod_spec(target: Json, patch: Json) -> Json:
    return strategic_merge({"spec": target}, {"spec": patch}, schemas.definition("core_v1.Pod"))["spec"]


def test_containers_merge_by_name() -> None:
    """`kubectl set image` names one container of several."""
    target = {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}

    merged = merged_pod_spec(target, {"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}]})

    assert merged["containers"] == [
        {"name": "a", "image": "a:1"},
        {"name": "b", "image": "b:2"},
        {"name": "c", "image": "c:1"},
    ]


def test_environment_merges_by_name_and_deletes() -> None:
    target = {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}]}
    patch = {"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Y", "value": "3"}]}]}

    assert merged_pod_spec(target, patch)["containers"][0]["env"] == [{"name": "Y", "value": "3"}]


def test_order_follows_the_directive() -> None:
    target = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}
    patch = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "2"}]}

    assert [container["name"] for container in merged_pod_spec(target, patch)["containers"]] == ["b", "a"]


def test_lists_without_a_key_are_replaced() -> None:
    target = {"containers": [{"name": "a", "args": ["1", "2"]}]}

    assert merged_pod_spec(target, {"containers": [{"name": "a", "args": ["3"]}]})["containers"][0]["args"] == ["3"]


def test_directives_replace_and_delete() -> None:
    target = {"nodeSelector": {"a": "1", "b": "2"}, "containers": [{"name": "a"}], "hostname": "x"}
    replaced = merged_pod_spec(target, {"nodeSelector": {"$patch": "replace", "c": "3"}})
    emptied = merged_pod_spec(target, {"containers": [{"$patch": "replace"}, {"name": "z"}]})

    assert replaced["nodeSelector"] == {"c": "3"}
    assert emptied["containers"] == [{"name": "z"}]
    assert merged_pod_spec(target, {"hostname": None}) == {key: target[key] for key in ("nodeSelector", "containers")}


def test_retained_keys_drop_the_others() -> None:
    """A Deployment that goes from RollingUpdate to Recreate must lose its rolling parameters."""
    schema = schemas.definition("apps_v1.Deployment")
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}

    merged = strategic_merge(target, {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}, schema)

    assert merged["spec"]["strategy"] == {"type": "Recreate"}


def test_metadata_lists_merge() -> None:
    """Two controllers each add their finalizer and owner; neither drops the other's."""
    target = {"metadata": {"finalizers": ["a"], "ownerReferences": [{"uid": "1", "name": "x"}]}}
    patch = {
        "metadata": {"finalizers": ["b"], "ownerReferences": [{"uid": "2", "name": "y"}, {"uid": "1", "name": "z"}]}
    }

    merged = strategic_merge(target, patch, schemas.definition("core_v1.Service"))["metadata"]
    dropped = strategic_merge(
        target, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, schemas.definition("core_v1.Service")
    )

    assert merged["finalizers"] == ["a", "b"]
    assert merged["ownerReferences"] == [{"uid": "1", "name": "z"}, {"uid": "2", "name": "y"}]
    assert dropped["metadata"]["finalizers"] == []


def test_service_ports_merge_by_port() -> None:
    target = {"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 81, "name": "b"}]}}

    merged = strategic_merge(
        target, {"spec": {"ports": [{"port": 80, "name": "web"}]}}, schemas.definition("core_v1.Service")
    )

    assert merged["spec"]["ports"] == [{"port": 80, "name": "web"}, {"port": 81, "name": "b"}]


@pytest.mark.parametrize(
    "patch",
    [{"$patch": "explode"}, {"spec": {"containers": [{"image": "nameless"}]}}, {"spec": {"containers": ["x"]}}],
)
def test_bad_strategic_patches_are_refused(patch: Json) -> None:
    with pytest.raises(ApiError) as caught:
        strategic_merge({"spec": {"containers": [{"name": "a"}]}}, patch, schemas.definition("core_v1.Pod"))

    assert caught.value.code == 400


@given(
    json_values,
    st.dictionaries(
        st.sampled_from(
            ["$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/x", "containers", "x"]
        ),
        json_values,
    ),
)
def test_no_patch_breaks_the_merge(target: Any, patch: Json) -> None:
    """Hostile patches end in an answer for the client, never in a failure of ours."""
    try:
        strategic_merge({"spec": target}, {"spec": patch, "metadata": patch}, schemas.definition("core_v1.Pod"))
    except ApiError as error:
        assert error.code == 400
