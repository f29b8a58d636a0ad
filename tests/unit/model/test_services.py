"""Catalog ids: the only way a client names a place in the cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, ServiceRef

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(LABELS, LABELS, st.none() | LABELS, st.integers(1, 65535))
def test_a_catalog_id_survives_the_way_through_text(namespace: str, name: str, pod: str | None, port: int) -> None:
    catalog_id = CatalogId(ServiceRef(namespace, name), port, pod)

    assert CatalogId.parse(str(catalog_id)) == catalog_id


@pytest.mark.parametrize(
    "text",
    ["", "shop/orders", "shop/orders:", "shop/orders:0", "shop/orders:080", "shop/orders:65536", "10.0.0.1:80", "shop/10.0.0.1:80",
     "shop/orders:80\n", "shop//orders:80", "Shop/orders:80", "shop/orders/p/q:80", "shop/orders:80:80", "../orders:80", "shop/orders:８０",
     "a" * 300],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(CodezeroError):
        CatalogId.parse(text)


@given(st.text(max_size=100))
def test_no_text_is_both_accepted_and_changed(text: str) -> None:
    try:
        assert str(CatalogId.parse(text)) == text
    except CodezeroError:
        return


@pytest.mark.parametrize("text", ["", "orders", "shop/", "/orders", "shop/orders/x", "shop/Orders", "-a/b"])
def test_a_service_has_two_labels(text: str) -> None:
    with pytest.raises(CodezeroError):
        ServiceRef.parse(text)
