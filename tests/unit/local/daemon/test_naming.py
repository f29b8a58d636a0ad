"""Names of consumed services, and names that must stay with their owners."""

import pytest

from codezero.local.daemon.naming import is_top_level_domain, names_of, pod_names_of
from codezero.model.services import ServiceRef

ORDERS = ServiceRef("shop", "orders")


def test_service_answers_to_all_its_names() -> None:
    """Programs written for the cluster use any of these forms."""
    assert names_of(ORDERS) == ("orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local")
    assert names_of(ORDERS, primary_namespace="shop")[0] == "orders"
    assert "orders" not in names_of(ORDERS, primary_namespace="other")


@pytest.mark.parametrize("namespace", ["dev", "com", "io", "de", "app", "local", "xn--p1ai"])
def test_namespace_named_like_a_top_level_domain_gives_no_short_names(namespace: str) -> None:
    """Who may make a namespace `dev` must not own web.dev on every laptop (T13)."""
    assert is_top_level_domain(namespace)
    assert f"web.{namespace}" not in names_of(ServiceRef(namespace, "web"))
    assert f"web.{namespace}.svc" in names_of(ServiceRef(namespace, "web"))
    assert f"a.web.{namespace}" not in pod_names_of(ServiceRef(namespace, "web"), "a")


@pytest.mark.parametrize("label", ["wpad", "localhost", "isatap"])
def test_labels_machines_look_up_by_themselves_are_never_answered(label: str) -> None:
    """A service named wpad in the primary namespace would become everybody's web proxy (T13)."""
    assert label not in names_of(ServiceRef("shop", label), primary_namespace="shop")


def test_pod_names_do_not_shadow_service_names() -> None:
    """`a.b.svc` is service a in namespace b, also when a pod a of service b exists in a namespace called svc."""
    pod = set(pod_names_of(ServiceRef("svc", "b"), "a"))

    assert not pod & set(names_of(ServiceRef("b", "a")))
    assert pod_names_of(ORDERS, "orders-0")[0] == "orders-0.orders.shop"
