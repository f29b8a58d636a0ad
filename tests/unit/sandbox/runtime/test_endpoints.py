from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox import endpoints
from codezero.sandbox.api import JsonObject, Store, Stored
from codezero.sandbox.endpoints import SLICES, Backend, Endpoints, SliceIndex

KEY = ("default", "web")


def service(**spec: object) -> JsonObject:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    return {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports} | spec}


@pytest.fixture
def pod(store: Store, template: JsonObject, make_ready: Callable[..., Stored]) -> Callable[..., Stored]:
    def make(name: str, *, port: int = 8080, **state: object) -> Stored:
        content = {"metadata": {"name": name, **template["metadata"]}, "spec": template["spec"]}
        content["spec"]["containers"][0]["ports"][0]["containerPort"] = port
        return make_ready(store.create("pods", "default", content), **state)

    return make


def written(store: Store) -> list[JsonObject]:
    """The slices after the controller looked at the Service."""
    Endpoints(store).look_at(*KEY)
    return [stored.content for stored in store.list(SLICES, "default") if stored.name.startswith("web-")]


def test_ready_pods_stand_behind_their_service(store: Store, pod: Callable[..., Stored]) -> None:
    store.create("services", "default", service())
    pod("a", address="10.244.0.2")
    pod("b", address="10.244.0.3", ready=False)
    (found,) = written(store)

    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert {one["targetRef"]["name"]: one["conditions"]["ready"] for one in found["endpoints"]} == {
        "a": True,
        "b": False,
    }
    assert found["metadata"]["ownerReferences"][0]["name"] == "web"


def test_a_pod_that_is_ending_still_serves_but_is_not_ready(store: Store, pod: Callable[..., Stored]) -> None:
    store.create("services", "default", service())
    pod("a")
    store.delete("pods", "default", "a")
    (found,) = written(store)

    assert found["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_pods_that_ended_or_have_no_address_are_left_out(store: Store, pod: Callable[..., Stored]) -> None:
    store.create("services", "default", service())
    pod("done", phase="Succeeded")
    pod("young", address="")
    (found,) = written(store)

    assert found["endpoints"] == []


def test_a_service_that_wants_all_addresses_gets_them_as_ready(store: Store, pod: Callable[..., Stored]) -> None:
    store.create("services", "default", service(publishNotReadyAddresses=True))
    pod("a", ready=False)
    (found,) = written(store)

    assert found["endpoints"][0]["conditions"]["ready"] is True


def test_pods_whose_named_port_differs_have_slices_of_their_own(store: Store, pod: Callable[..., Stored]) -> None:
    store.create("services", "default", service())
    pod("a", port=8080, address="10.244.0.2")
    pod("b", port=9090, address="10.244.0.3")
    index = SliceIndex(store)
    found = written(store)

    assert len(found) == 2
    assert [(one.address, one.port) for one in index.backends(KEY, "http", "TCP")] == [
        ("10.244.0.2", 8080),
        ("10.244.0.3", 9090),
    ]


def test_many_pods_are_spread_over_slices(store: Store) -> None:
    pods = [
        {
            "metadata": {"name": f"p{number}", "namespace": "default", "uid": str(number)},
            "spec": {},
            "status": {"podIP": f"10.244.1.{number}", "phase": "Running"},
        }
        for number in range(250)
    ]
    made = endpoints.slices_of(service(ports=[{"port": 80, "targetPort": 80}]), pods)

    assert [len(one["endpoints"]) for one in made] == [100, 100, 50]
    assert len({one["metadata"]["name"] for one in made}) == 3


def test_slices_somebody_else_wrote_are_left_alone(store: Store) -> None:
    store.create("services", "default", service(selector=None))
    own = {
        "metadata": {"name": "web-manual", "labels": {endpoints.SERVICE_LABEL: "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "http", "port": 80}],
    }
    store.create(SLICES, "default", own)
    index = SliceIndex(store)

    assert [one["metadata"]["name"] for one in written(store)] == ["web-manual"]
    assert index.backends(KEY, "http", "TCP") == [Backend("192.0.2.1", 80, ready=True, serving=True)]


def test_a_service_that_loses_its_selector_loses_our_slices(store: Store, pod: Callable[..., Stored]) -> None:
    created = store.create("services", "default", service())
    pod("a")
    written(store)
    content = created.copy()
    content["spec"]["selector"] = None
    store.update("services", "default", content)

    assert written(store) == []


def test_slices_go_with_their_service(store: Store, pod: Callable[..., Stored]) -> None:
    store.create("services", "default", service())
    pod("a")
    index = SliceIndex(store)
    written(store)
    store.delete("services", "default", "web")

    assert not [found for found in store.list(SLICES, "default") if found.name.startswith("web-")]
    assert index.backends(KEY, "http", "TCP") == []


def test_listeners_of_the_index_hear_both_services_of_a_slice_that_moves(store: Store) -> None:
    index = SliceIndex(store)
    heard: list[tuple[str, str]] = []
    index.listen(heard.append)
    content = {
        "metadata": {"name": "s", "labels": {endpoints.SERVICE_LABEL: "old"}},
        "addressType": "IPv4",
        "endpoints": [],
        "ports": [],
    }
    created = store.create(SLICES, "default", content).copy()
    created["metadata"]["labels"][endpoints.SERVICE_LABEL] = "new"
    store.update(SLICES, "default", created)

    assert set(heard) == {("default", "old"), ("default", "new")}


@given(st.lists(st.builds(Backend, st.just("a"), st.integers(1, 9), st.booleans(), st.booleans())))
def test_those_that_end_are_used_only_where_none_is_ready(backends: list[Backend]) -> None:
    used = endpoints.usable(backends)

    assert all(one.ready for one in used) or not any(one.ready for one in backends)
    assert all(one.ready or one.serving for one in used)
    assert bool(used) == any(one.ready or one.serving for one in backends)
