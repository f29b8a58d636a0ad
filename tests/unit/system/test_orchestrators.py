"""Which Orchestrator is the active one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.services import Protocol, ServiceRef
from codezero.system.backends import Backend
from codezero.system.orchestrators import Whereabouts, active, service_at
from codezero.testing.kubernetes import FilledInventory, Json, endpoint_json, service_json, slice_json

REF = ServiceRef("codezero", "orchestrator")
NAME = ("orchestrator.codezero.svc", 8900)
SERVICE = service_json("orchestrator", "codezero", clusterIP="None", ports=[{"name": "coordination", "port": 8900}])


def listed(*endpoints: Json, suffix: str = "a", port: int = 8900) -> Json:
    ports = [{"name": "coordination", "port": port, "protocol": "TCP"}]
    return slice_json("orchestrator", "codezero", suffix=suffix, endpoints=endpoints, ports=ports)


def ready(address: str) -> Json:
    return endpoint_json(address, ready=True, serving=True, terminating=False)


def ending(address: str) -> Json:
    return endpoint_json(address, ready=False, serving=True, terminating=True)


def unready(address: str) -> Json:
    return endpoint_json(address, ready=False, serving=False, terminating=False)


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("orchestrator.codezero", REF),
        ("orchestrator.codezero.svc", REF),
        ("orchestrator.codezero.svc.cluster.local", REF),
        ("127.0.0.1", None),
        ("10.0", None),
        ("fd00::1", None),
        ("localhost", None),
        ("orchestrator.example.org", None),
        ("", None),
    ],
)
def test_a_service_is_told_by_its_name_in_the_clusters_dns(host: str, service: ServiceRef | None) -> None:
    """Everything else is an address that is dialled as it is."""
    assert service_at((host, 8900)) == service


def test_the_lowest_address_is_active() -> None:
    """By number: a new pod mostly has a higher address, so that little moves."""
    backends = [Backend(address, 8900) for address in ("10.1.0.12", "10.1.0.9", "10.1.0.100")]

    assert active(backends) == ("10.1.0.9", 8900)
    assert active([]) is None
    assert active([Backend("fd00::2", 8900), Backend("fd00::1", 8900)]) == ("fd00::1", 8900)
    assert active([Backend("not an address", 8900), Backend("10.1.0.9", 8900)]) == ("10.1.0.9", 8900)


addresses = st.integers(1, 6).map(lambda last: f"10.1.0.{last}")
endpoints = st.lists(
    st.builds(lambda make, address: make(address), st.sampled_from([ready, ending, unready]), addresses)
)


@given(st.lists(st.tuples(endpoints, st.sampled_from([8900, 8901])), max_size=4), st.randoms(use_true_random=False))
def test_whoever_sees_the_same_slices_chooses_the_same(listing: list[tuple[list[Json], int]], random: object) -> None:
    """Whatever order they come in, and however often an endpoint is in them."""
    slices = [listed(*found, suffix=str(number), port=port) for number, (found, port) in enumerate(listing)]
    shuffled = list(slices)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    choices: set[object] = set()
    for order in (slices, shuffled, slices[::-1]):
        inventory = FilledInventory()
        whereabouts = Whereabouts(NAME, inventory)
        inventory.put(SERVICE, *order)
        inventory.synced()
        choices.add(whereabouts.active.value)
        assert whereabouts.active.value == active(inventory.backends(REF, 8900, Protocol.TCP))

    assert len(choices) == 1


def test_the_choice_follows_the_endpoints() -> None:
    """Ready ones before those that end; the last one stays until it is gone."""
    inventory = FilledInventory().synced()
    whereabouts = Whereabouts(NAME, inventory)
    inventory.put(SERVICE, listed(ready("10.1.0.1"), ready("10.1.0.2")))
    assert whereabouts.active.value == ("10.1.0.1", 8900)

    inventory.put(listed(ending("10.1.0.1"), ready("10.1.0.2")))
    assert whereabouts.active.value == ("10.1.0.2", 8900)
    inventory.put(listed(unready("10.1.0.1"), ending("10.1.0.2")))
    assert whereabouts.active.value == ("10.1.0.2", 8900)
    inventory.put(listed(unready("10.1.0.1")))
    assert whereabouts.active.value is None
    inventory.put(listed(ready("10.1.0.1")))
    assert whereabouts.active.value == ("10.1.0.1", 8900)


def test_a_service_that_is_deleted_is_no_reason_to_leave() -> None:
    """By accident, or to be made anew: its name leads nowhere then, and the Orchestrator still answers."""
    inventory = FilledInventory().synced()
    whereabouts = Whereabouts(NAME, inventory)
    inventory.put(SERVICE, listed(ready("10.1.0.1")))

    inventory.remove(SERVICE)
    assert whereabouts.active.value is None

    inventory.put(SERVICE)
    assert whereabouts.active.value == ("10.1.0.1", 8900)


def test_before_the_cluster_is_known_nobody_is_active() -> None:
    """The Service's name leads to any of them, also to one that waits."""
    inventory = FilledInventory()
    whereabouts = Whereabouts(NAME, inventory)
    inventory.put(SERVICE, listed(ready("10.1.0.1")))
    assert whereabouts.active.value is None

    inventory.synced()
    assert whereabouts.active.value == ("10.1.0.1", 8900)


def test_what_is_no_service_of_the_cluster_is_dialled_as_it_is() -> None:
    """A System beside a cluster, and an Orchestrator that another cluster or nobody lists."""
    assert Whereabouts(("127.0.0.1", 8900), FilledInventory()).active.value == ("127.0.0.1", 8900)
    assert Whereabouts(NAME, FilledInventory().synced()).active.value == NAME
