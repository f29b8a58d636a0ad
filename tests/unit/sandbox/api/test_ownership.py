"""Server-side apply: fields belong to those who set them."""

from collections.abc import Callable
from typing import Any

import pytest

from codezero.sandbox.api import ApiError, Options, Store, Stored

Json = dict[str, Any]
Make = Callable[..., Json]


@pytest.fixture
def apply(store: Store) -> Callable[..., Stored]:
    def run(
        manager: str, name: str = "orders", *, force: bool = False, metadata: Json | None = None, **spec: Any
    ) -> Stored:
        wanted: Json = {"apiVersion": "v1", "kind": "Service", "metadata": metadata or {}, "spec": spec}
        if not spec:
            del wanted["spec"]
        return store.patch(
            "services", "shop", name, wanted, patch_kind="apply", options=Options(manager=manager), force=force
        )

    return run


def managers(stored: Stored) -> set[tuple[str, str]]:
    return {(entry["manager"], entry["operation"]) for entry in stored.content["metadata"]["managedFields"]}


def test_apply_creates_what_is_missing(apply: Callable[..., Stored]) -> None:
    created = apply("team", ports=[{"port": 80}])

    assert created.content["spec"]["clusterIP"]
    assert managers(created) == {("team", "Apply")}


def test_applying_again_changes_nothing(apply: Callable[..., Stored]) -> None:
    """GitOps tools apply every few minutes; a write each time would wake every controller."""
    first = apply("team", ports=[{"port": 80, "name": "http"}], selector={"app": "orders"})

    assert apply("team", ports=[{"port": 80, "name": "http"}], selector={"app": "orders"}).revision == first.revision


def test_field_of_another_is_a_conflict(apply: Callable[..., Stored]) -> None:
    """How our selector switch and the team's GitOps tool notice each other."""
    apply("team", ports=[{"port": 80}], selector={"app": "orders"})

    with pytest.raises(ApiError) as caught:
        apply("codezero", selector={"app": "cz-1"})

    assert caught.value.code == 409
    assert 'conflict with "team": .spec.selector' in caught.value.message


def test_force_takes_the_field_over(apply: Callable[..., Stored]) -> None:
    apply("team", ports=[{"port": 80}], selector={"app": "orders"})
    taken = apply("codezero", force=True, selector={"app": "cz-1"})

    with pytest.raises(ApiError) as caught:
        apply("team", ports=[{"port": 80}], selector={"app": "orders"})

    assert taken.content["spec"]["selector"] == {"app": "cz-1"}
    assert caught.value.code == 409


def test_same_value_is_owned_together(apply: Callable[..., Stored]) -> None:
    apply("team", ports=[{"port": 80}], selector={"app": "orders"})
    apply("other", selector={"app": "orders"})
    left = apply("other", metadata={"labels": {"x": "y"}})

    assert left.content["spec"]["selector"] == {"app": "orders"}


def test_field_given_up_is_removed(apply: Callable[..., Stored]) -> None:
    apply(
        "team", ports=[{"port": 80, "name": "a"}, {"port": 81, "name": "b"}], metadata={"labels": {"x": "1", "y": "2"}}
    )
    apply("other", metadata={"labels": {"z": "3"}})

    after = apply("team", ports=[{"port": 80, "name": "a"}], metadata={"labels": {"x": "1"}}).content

    assert [port["port"] for port in after["spec"]["ports"]] == [80]
    assert after["metadata"]["labels"] == {"x": "1", "z": "3"}


def test_update_takes_only_what_it_changes(store: Store, apply: Callable[..., Stored]) -> None:
    apply("team", ports=[{"port": 80}], metadata={"labels": {"x": "1"}})
    store.patch("services", "shop", "orders", {"metadata": {"labels": {"x": "2"}}}, options=Options(manager="hand"))

    with pytest.raises(ApiError) as caught:
        apply("team", ports=[{"port": 80}], metadata={"labels": {"x": "1"}})

    assert 'conflict with "hand" using v1: .metadata.labels.x' in caught.value.message


def test_list_items_merge_by_their_keys(store: Store, deployment: Make) -> None:
    store.create("deployments.apps", "shop", deployment())
    container = {"name": "sidecar", "image": "side:1"}
    wanted = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [container]}}},
    }

    after = store.patch("deployments.apps", "shop", "orders", wanted, patch_kind="apply", options=Options(manager="x"))

    names = {item["name"] for item in after.content["spec"]["template"]["spec"]["containers"]}
    assert names == {"web", "sidecar"}


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        {},
        {"apiVersion": "v1"},
        {"apiVersion": "v1", "kind": "Service", "metadata": 5},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"managedFields": [{}]}},
        {"apiVersion": "v1", "kind": "Service", "spec": {"ports": "80"}},
        {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"name": "portless"}]}},
        {"apiVersion": "v2", "kind": "Service", "spec": {"ports": [{"port": 80}]}},
    ],
)
def test_bad_configurations_are_refused(store: Store, wanted: Any) -> None:
    with pytest.raises(ApiError) as caught:
        store.patch("services", "shop", "orders", wanted, patch_kind="apply")

    assert caught.value.code in {400, 422}
