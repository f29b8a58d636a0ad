"""Virtual addresses: stable, distinct, inside the range, outside the reserved part."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from codezero.model.addresses import NETWORK, AddressPlan
from codezero.model.services import ServiceRef

REFS = st.builds(ServiceRef, st.sampled_from(["a", "b"]), st.from_regex(r"[a-z]{1,6}", fullmatch=True))


def test_an_address_survives_the_loss_of_all_state() -> None:
    """People put addresses into tools; a reinstalled laptop must not move them."""
    first = AddressPlan("T1").address_of(ServiceRef("shop", "orders"))

    assert AddressPlan("T1").address_of(ServiceRef("shop", "orders")) == first
    assert AddressPlan("T2").address_of(ServiceRef("shop", "orders")) != first


def test_a_collision_is_resolved_and_remembered() -> None:
    wanted = AddressPlan("T").address_of(ServiceRef("shop", "orders"))
    plan = AddressPlan("T", {"x/y": wanted})
    other = plan.address_of(ServiceRef("shop", "orders"))

    assert other != wanted
    assert AddressPlan("T", plan.known()).address_of(ServiceRef("shop", "orders")) == other


def test_a_pod_has_its_own_address() -> None:
    plan = AddressPlan("T")

    assert plan.address_of(ServiceRef("shop", "db"), "db-0") != plan.address_of(ServiceRef("shop", "db"))


def test_nonsense_from_a_damaged_file_is_ignored() -> None:
    plan = AddressPlan("T", {"a/b": "10.0.0.1", "c/d": "127.72.0.53", "e/f": "nonsense", "g/h": "127.75.255.255"})

    assert plan.known() == {"g/h": "127.75.255.255"}


@given(st.lists(st.tuples(REFS, st.none() | st.just("pod-0"), st.booleans()), max_size=40))
def test_addresses_are_distinct_and_in_range(steps: list[tuple[ServiceRef, str | None, bool]]) -> None:
    plan = AddressPlan("T")
    for ref, pod, forget in steps:
        plan.forget(ref, pod) if forget else plan.address_of(ref, pod)

    known = plan.known()
    assert len(set(known.values())) == len(known) == len(plan)
    for address in map(ipaddress.IPv4Address, known.values()):
        assert address in NETWORK
        assert int(address) - int(NETWORK.network_address) >= 256
