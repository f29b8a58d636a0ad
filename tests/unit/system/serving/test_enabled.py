import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system.serving.enabled import EnabledNamespaces, parse_namespaces

ORDERS = ServiceRef("shop", "orders")


@pytest.mark.parametrize("text", ["shop", "billing,shop", " billing  shop ", "*"])
def test_services_of_enabled_namespaces_may_be_served(text: str) -> None:
    parse_namespaces(text).refuse(ORDERS)


@pytest.mark.parametrize("text", ["", "shop-2", "billing"])
def test_others_may_not(text: str) -> None:
    """Nothing is enabled unless somebody said so."""
    with pytest.raises(CodezeroError) as refused:
        parse_namespaces(text).refuse(ORDERS)

    assert refused.value.problem is problems.NOT_ENABLED
    assert refused.value.fix == "an administrator runs: czctl teamspace upgrade --serve-namespace shop"


@pytest.mark.parametrize("text", ["Shop", "shop-", "shop*", "a/b", "s" * 64])
def test_what_is_no_namespace_is_named(text: str) -> None:
    with pytest.raises(CodezeroError, match="is not the name of a namespace"):
        parse_namespaces(f"billing {text}")


def test_without_a_word_none_is_enabled() -> None:
    assert parse_namespaces("") == EnabledNamespaces()
