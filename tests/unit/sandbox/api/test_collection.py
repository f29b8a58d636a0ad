"""What goes when something else goes."""

from collections.abc import Callable
from typing import Any

import pytest

from codezero.sandbox.api import ApiError, Store, Stored

Json = dict[str, Any]
Make = Callable[..., Json]


def owned_by(owner: Stored, *, blocks: bool = False) -> list[Json]:
    reference = {
        "apiVersion": owner.content["apiVersion"],
        "kind": owner.content["kind"],
        "name": owner.name,
        "uid": owner.uid,
    }
    return [reference | ({"blockOwnerDeletion": True} if blocks else {})]


def test_dependents_go_with_their_owner(store: Store, service: Make, pod: Make) -> None:
    """Routers carry an owner reference to their Service: deleting the Service must leave nothing of ours."""
    owner = store.create("services", "shop", service())
    middle = store.create("pods", "shop", pod("middle", ownerReferences=owned_by(owner)))
    store.create("pods", "shop", pod("leaf", ownerReferences=owned_by(middle)))

    store.delete("services", "shop", "orders")

    assert store.list("pods", "shop") == []


def test_dependent_with_another_owner_stays(store: Store, service: Make, pod: Make) -> None:
    first, second = (store.create("services", "shop", service(name)) for name in ("a", "b"))
    store.create("pods", "shop", pod("shared", ownerReferences=[*owned_by(first), *owned_by(second)]))

    store.delete("services", "shop", "a")

    references = store.get("pods", "shop", "shared").content["metadata"]["ownerReferences"]
    assert [reference["uid"] for reference in references] == [second.uid]


def test_orphans_stay(store: Store, service: Make, pod: Make) -> None:
    owner = store.create("services", "shop", service())
    store.create("pods", "shop", pod("left", ownerReferences=owned_by(owner)))

    store.delete("services", "shop", "orders", propagation="Orphan")

    assert store.get("pods", "shop", "left").content["metadata"].get("ownerReferences", []) == []


def test_foreground_owner_waits_for_its_dependents(store: Store, service: Make, pod: Make) -> None:
    """`kubectl delete --cascade=foreground` returns when all is gone, pods that still run included."""
    owner = store.create("services", "shop", service())
    body = pod("slow", ownerReferences=owned_by(owner, blocks=True))
    body["spec"]["nodeName"] = "node-1"
    store.create("pods", "shop", body)

    _, is_gone = store.delete("services", "shop", "orders", propagation="Foreground")
    waits = store.find("services", "shop", "orders") is not None
    store.delete("pods", "shop", "slow", grace_seconds=0)

    assert (is_gone, waits) == (False, True)
    assert store.find("services", "shop", "orders") is None


def test_foreground_without_dependents_is_immediate(store: Store, service: Make) -> None:
    store.create("services", "shop", service())

    store.delete("services", "shop", "orders", propagation="Foreground")

    assert store.find("services", "shop", "orders") is None


def test_object_of_a_missing_owner_goes(store: Store, service: Make, pod: Make) -> None:
    """A controller that is late by one deletion must not leave litter."""
    owner = store.create("services", "shop", service())
    store.delete("services", "shop", "orders")

    store.create("pods", "shop", pod("late", ownerReferences=owned_by(owner)))

    assert store.find("pods", "shop", "late") is None


def test_owner_in_another_namespace_does_not_count(store: Store, service: Make, pod: Make) -> None:
    owner = store.create("services", "shop", service())

    store.create("pods", "default", pod("far", ownerReferences=owned_by(owner)))

    assert store.find("pods", "default", "far") is None


def test_namespace_takes_its_content_along(store: Store, service: Make, pod: Make) -> None:
    store.create("services", "shop", service())
    store.create("pods", "shop", pod())

    store.delete("namespaces", "", "shop")

    assert store.find("namespaces", "", "shop") is None
    assert store.list("services", "shop") == store.list("pods", "shop") == store.list("serviceaccounts", "shop") == []


def test_namespace_waits_for_what_is_held_and_takes_nothing_new(store: Store, service: Make) -> None:
    body = service()
    body["metadata"]["finalizers"] = ["codezero.io/hold"]
    store.create("services", "shop", body)

    store.delete("namespaces", "", "shop")
    phase = store.get("namespaces", "", "shop").content["status"]["phase"]
    with pytest.raises(ApiError) as caught:
        store.create("configmaps", "shop", {"metadata": {"name": "late"}})
    store.patch("services", "shop", "orders", {"metadata": {"finalizers": []}})

    assert phase == "Terminating"
    assert caught.value.code == 403
    assert store.find("namespaces", "", "shop") is None
