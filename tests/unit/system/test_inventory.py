"""The inventory always equals what one would work out from scratch, and tells subscribers every difference."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.services import Protocol, Service, ServiceKind, ServiceRef
from codezero.model.variants import Serving, ServingState
from codezero.system.kubernetes.objects import ENDPOINT_SLICES, NODES, SERVES, SERVICES
from codezero.system.kubernetes.reflector import ReflectorStatus
from codezero.system.serving import naming
from codezero.testing.kubernetes import (
    FilledInventory,
    Json,
    endpoint_json,
    namespace_json,
    node_json,
    service_json,
    slice_json,
    until,
)

ORDERS = ServiceRef("shop", "orders")

services = st.builds(
    lambda name, namespace, port, headless: service_json(
        name, namespace, ports=[{"port": port}], clusterIP="None" if headless else "10.96.0.2"
    ),
    st.sampled_from(["orders", "cart"]),
    st.sampled_from(["shop", "lab"]),
    st.sampled_from([80, 81]),
    st.booleans(),
)
slices = st.builds(
    lambda service, namespace, suffix, endpoints, label: {
        **slice_json(service, namespace, suffix=suffix, endpoints=endpoints),
        "metadata": {
            **slice_json(service, namespace, suffix=suffix)["metadata"],
            "labels": {"kubernetes.io/service-name": label},
        },
    },
    st.just("x"),
    st.sampled_from(["shop", "lab"]),
    st.sampled_from(["a", "b"]),
    st.lists(
        st.builds(
            lambda number, ready: endpoint_json(f"10.0.0.{number}", ready=ready, pod=f"pod-{number}"),
            st.integers(1, 3),
            st.booleans(),
        ),
        max_size=3,
    ),
    st.sampled_from(["orders", "cart"]),
)
events = st.lists(st.tuples(st.sampled_from(["put", "put", "remove", "look"]), services | slices), max_size=40)


def _key(item: Json) -> tuple[str, str, str]:
    return ("service" if "spec" in item else "slice", item["metadata"]["namespace"], item["metadata"]["name"])


@given(events=events)
def test_any_order_of_events_ends_where_starting_over_would(events: list[tuple[str, Json]]) -> None:
    """Incremental bookkeeping that drifts is a catalog that lies until the System restarts."""
    incremental, truth = FilledInventory(), {}
    followed: dict[ServiceRef, Service] = {}
    with incremental.subscribe() as subscription:
        for what, item in events:
            if what == "put":
                incremental.put(item)
                truth[_key(item)] = item
            elif what == "remove":
                incremental.remove(item)
                truth.pop(_key(item), None)
            else:
                incremental.get(ORDERS)
                incremental.backends(ORDERS, 80, Protocol.TCP)
        incremental.settle()
        for ref in subscription._refs:
            service = incremental.get(ref)
            if service is not None:
                followed[ref] = service

    rebuilt = FilledInventory()
    rebuilt.put(*truth.values())

    assert incremental.services() == rebuilt.services() == tuple(followed[ref] for ref in sorted(followed))
    for ref in rebuilt.refs():
        for port in (80, 81):
            assert incremental.backends(ref, port, Protocol.TCP) == rebuilt.backends(ref, port, Protocol.TCP)


async def test_changes_come_coalesced_and_only_when_they_matter(inventory: FilledInventory) -> None:
    """A rolling update of hundreds of pods must not be hundreds of messages."""
    inventory.put(service_json("orders"))
    inventory.settle()
    with inventory.subscribe() as subscription:
        for number in range(1, 100):
            inventory.put(slice_json("orders", endpoints=[endpoint_json(f"10.0.0.{number}")], version=number))
        inventory.put(service_json("cart"))
        first = await subscription.next()
        inventory.put(slice_json("orders", endpoints=[endpoint_json("10.0.0.200")], version=200))
        inventory.put(service_json("late"))
        second = await subscription.next()

    assert first == {ORDERS, ServiceRef("shop", "cart")}
    assert second == {ServiceRef("shop", "late")}
    assert [backend.address for backend in inventory.backends(ORDERS, 80, Protocol.TCP)] == ["10.0.0.200"]


async def test_a_subscriber_hears_of_staleness(inventory: FilledInventory) -> None:
    """The laptop shows since when the catalog may be old."""
    heard: list[tuple[frozenset[ServiceRef], float | None]] = []

    async def listen() -> None:
        async for refs in inventory.changes():
            heard.append((refs, inventory.stale_since))  # noqa: PERF401 - each when it comes

    listener = asyncio.create_task(listen())
    await until(lambda: bool(inventory._subscriptions))
    inventory.source_changed(ENDPOINT_SLICES.name, ReflectorStatus(True, 50.0))
    inventory.source_changed(SERVICES.name, ReflectorStatus(True, 60.0))
    await until(lambda: len(heard) == 1)
    inventory.synced()
    await until(lambda: len(heard) == 2)
    listener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listener

    assert heard == [(frozenset(), 50.0), (frozenset(), None)]
    assert not inventory._subscriptions


async def test_an_inventory_is_synced_when_services_and_endpoints_were_seen() -> None:
    """Half a catalog would look like deleted services."""
    fresh = FilledInventory()

    assert not fresh.is_synced
    fresh.source_changed(SERVICES.name, ReflectorStatus(True))
    assert not fresh.is_synced
    fresh.source_changed(ENDPOINT_SLICES.name, ReflectorStatus(True))
    assert fresh.is_synced
    assert not fresh.knows_nodes
    fresh.source_changed(NODES.name, ReflectorStatus(True))
    assert fresh.knows_nodes


def test_a_service_being_deleted_stays_until_the_cluster_stops_serving_it(inventory: FilledInventory) -> None:
    """In the cluster its name and address answer until it is gone; so they do on the laptop."""
    going = service_json("orders")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    inventory.put(service_json("orders"))
    inventory.put(going)

    assert inventory.get(ORDERS) is not None
    inventory.remove(going)
    assert inventory.get(ORDERS) is None


def test_endpoints_may_come_before_their_service(inventory: FilledInventory) -> None:
    """The collections are watched separately and overtake each other."""
    inventory.put(slice_json("orders", endpoints=[endpoint_json("10.0.0.1")]))
    assert inventory.get(ORDERS) is None
    inventory.put(service_json("orders"))

    assert inventory.get(ORDERS).ready == 1
    assert inventory.get(ORDERS).kind is ServiceKind.CLUSTER_IP


def test_nodes_namespaces_and_the_api_are_known_by_their_addresses(inventory: FilledInventory) -> None:
    """Addresses are compared in one spelling, however they are written."""
    inventory.put(
        node_json("worker-1", "192.168.0.4", "FD00:0:0::0004"),
        namespace_json("shop"),
        service_json("kubernetes", "default", clusterIP="10.96.0.1"),
        slice_json("kubernetes", "default", endpoints=[endpoint_json("172.20.0.2", ready=False)]),
    )

    assert inventory.node_of("fd00::4") == "worker-1"
    assert inventory.node_of("192.168.0.5") is None
    assert inventory.has_namespace("shop")
    assert not inventory.has_namespace("lab")
    assert all(inventory.is_api_address(address) for address in ("10.96.0.1", "172.20.0.2"))
    assert not inventory.is_api_address("10.96.0.2")
    inventory.put(node_json("worker-1", "192.168.0.5", version=2))
    assert inventory.node_of("192.168.0.4") is None


def test_names_that_no_catalog_id_can_say_are_left_out(inventory: FilledInventory) -> None:
    """Everything in the catalog must be able to be asked for."""
    inventory.put(service_json("Not.A.Label"))

    assert inventory.services() == ()


class ServingSource:
    """Says that everything is served."""

    def __init__(self) -> None:
        self.heard: list[ServiceRef] = []
        self.answer: Serving | None = Serving(ServingState.ACTIVE)

    def touched(self, ref: ServiceRef) -> None:
        self.heard.append(ref)

    def serving(self, ref: ServiceRef) -> Serving | None:
        return self.answer


def ours(name: str) -> Json:
    content = service_json(name)
    content["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "codezero"}
    return content


def test_a_switched_service_counts_its_own_pods_and_leads_to_its_router(inventory: FilledInventory) -> None:
    """People see how their pods are; connections go where the cluster sends them."""
    origin, router = naming.origin_of(ORDERS).name, naming.switched({"app": "orders"}, ORDERS)
    inventory.put(
        service_json("orders", selector=router),
        ours(origin),
        slice_json("orders", endpoints=[endpoint_json("10.0.0.9")]),
        slice_json(origin, endpoints=[endpoint_json("10.0.0.1"), endpoint_json("10.0.0.2", ready=False)]),
    )

    view = inventory.get(ORDERS)
    assert (view.ready, view.total) == (1, 2)
    assert [one.address for one in inventory.backends(ORDERS, 80, Protocol.TCP)] == ["10.0.0.9"]
    inventory.put(slice_json(origin, endpoints=[endpoint_json("10.0.0.2")], version=2))
    assert inventory.get(ORDERS).ready == 1
    assert inventory.get(ORDERS).total == 1
    inventory.put(service_json("orders", version=2))
    assert inventory.get(ORDERS).total == 1
    assert [str(one.ref) for one in inventory.services()] == ["shop/orders"]


async def test_a_change_of_serving_is_a_change_of_the_service(inventory: FilledInventory) -> None:
    source = ServingSource()
    inventory.attach(source)
    inventory.put(service_json("orders"))
    inventory.settle()
    with inventory.subscribe() as subscription:
        source.answer = Serving(ServingState.CONTESTED)
        inventory.serving_changed(ORDERS)
        assert await subscription.next() == {ORDERS}

    assert inventory.get(ORDERS).serving == Serving(ServingState.CONTESTED)
    assert ORDERS in source.heard


def test_serves_that_cannot_be_seen_make_the_catalog_stale_and_not_unready() -> None:
    """A catalog without variants that says it is current would end them all on the laptops."""
    fresh = FilledInventory()
    fresh.attach(ServingSource())
    fresh.source_changed(SERVICES.name, ReflectorStatus(True))
    fresh.source_changed(ENDPOINT_SLICES.name, ReflectorStatus(True))

    assert fresh.is_synced
    assert not fresh.knows_serves
    fresh.source_changed(SERVES.name, ReflectorStatus(False, 70.0))
    assert fresh.knows_serves
    assert fresh.stale_since == 70.0
    fresh.source_changed(SERVES.name, ReflectorStatus(True))
    assert fresh.stale_since is None
