"""Names follow from the Service alone; a switched selector is known by its values."""

from codezero.model.services import ServiceRef
from codezero.system.serving import naming

ORDERS = ServiceRef("shop", "orders")


def test_names_are_short_and_tell_services_apart() -> None:
    """A Service's name has at most 63 characters, and so has that of a Deployment's pods."""
    long = ServiceRef("n" * 63, "s" * 63)

    assert len(naming.router_of(long).name) < 40
    assert naming.router_of(ORDERS).namespace == "shop"
    assert naming.hash_of(ORDERS) != naming.hash_of(ServiceRef("lab", "orders"))


def test_a_switched_selector_has_the_keys_of_the_teams_own() -> None:
    """Whatever `kubectl apply` merges into it, no key of ours is left over, and it is never empty."""
    selector = {"app": "orders", "tier": "backend"}
    switched = naming.switched(selector, ORDERS)

    assert switched.keys() == selector.keys()
    assert naming.is_switched(switched, ORDERS)
    assert naming.is_switched({"app": switched["app"]}, ORDERS)
    for other in (selector, {}, None, {**switched, "tier": "backend"}, naming.switched(selector, ServiceRef("a", "b"))):
        assert not naming.is_switched(other, ORDERS)


def test_what_somebody_made_of_a_switched_selector_is_understood() -> None:
    """`kubectl edit` shows ours, and people add to it."""
    known = {"app": "orders", "tier": "backend"}
    switched = naming.switched(known, ORDERS)
    ours = naming.selected(ORDERS)

    assert naming.own_selector(switched, ORDERS, known) == known
    edited = {"app": ours, "tier": ours, "version": "2"}
    assert naming.bears_ours(edited, ORDERS)
    assert not naming.is_switched(edited, ORDERS)
    assert naming.own_selector(edited, ORDERS, known) == {**known, "version": "2"}
    assert naming.own_selector({"app": ours, "new": ours, "x": "y"}, ORDERS, known) == {"app": "orders", "x": "y"}
    assert not naming.bears_ours(known, ORDERS)
