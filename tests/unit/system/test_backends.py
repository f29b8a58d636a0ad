"""Services look and lead as kube-proxy and cluster DNS would have it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.system.backends import Backend, backends_of, catalog_view, pod_names
from codezero.system.kubernetes.objects import EndpointSliceObject, ServiceObject
from codezero.testing.kubernetes import Json, endpoint_json, service_json, slice_json

REF = ServiceRef("shop", "orders")


def view(service: Json, *slices: Json) -> Service:
    return catalog_view(REF, msgspec.convert(service, ServiceObject), _slices(slices))


def backends(service: Json, *slices: Json, port: int = 80) -> tuple[Backend, ...]:
    ports = msgspec.convert(service, ServiceObject).spec.ports or ()
    return backends_of(next(item for item in ports if item.port == port), _slices(slices))


def _slices(slices: tuple[Json, ...]) -> list[EndpointSliceObject]:
    return [msgspec.convert(item, EndpointSliceObject) for item in slices]


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        (service_json("orders"), ServiceKind.CLUSTER_IP),
        (service_json("orders", type="NodePort"), ServiceKind.CLUSTER_IP),
        (service_json("orders", type="LoadBalancer"), ServiceKind.CLUSTER_IP),
        (service_json("orders", selector={}), ServiceKind.SELECTORLESS),
        (service_json("orders", clusterIP="None"), ServiceKind.HEADLESS),
        (service_json("orders", clusterIP="None", selector={}), ServiceKind.HEADLESS),
        (service_json("orders", type="ExternalName", externalName="db.example"), ServiceKind.EXTERNAL_NAME),
    ],
)
def test_each_form_of_service_has_its_kind(service: Json, kind: ServiceKind) -> None:
    """The kind decides how the laptop names and reaches it."""
    assert view(service).kind is kind


def test_a_service_shows_its_ports_sorted_with_protocol_name_and_application() -> None:
    """SCTP is shown too, though it cannot be consumed."""
    ports = [
        {"port": 443, "name": "https", "appProtocol": "https"},
        {"port": 53, "name": "dns", "protocol": "UDP"},
        {"port": 53, "name": "dns-tcp", "protocol": "TCP"},
        {"port": 9, "name": "odd", "protocol": "SCTP"},
    ]

    assert view(service_json("orders", ports=ports)).ports == (
        ServicePort(9, Protocol.SCTP, "odd"),
        ServicePort(53, Protocol.TCP, "dns-tcp"),
        ServicePort(53, Protocol.UDP, "dns"),
        ServicePort(443, Protocol.TCP, "https", "https"),
    )


def test_an_external_name_counts_as_one_endpoint() -> None:
    """Nobody can count what is behind a name."""
    seen = view(service_json("orders", type="ExternalName", externalName="db.example", ports=[{"port": 5432}]))

    assert (seen.ready, seen.total, seen.external_name) == (1, 1, "db.example")


def test_ready_and_total_count_pods_over_all_slices_once() -> None:
    """An endpoint may be listed twice while slices are rearranged, and pods on their way out are no part of the whole."""
    first = slice_json("orders", endpoints=[endpoint_json("10.0.0.1"), endpoint_json("10.0.0.2", ready=False)])
    second = slice_json(
        "orders",
        suffix="b",
        endpoints=[
            endpoint_json("10.0.0.1"),
            endpoint_json("10.0.0.3", ready=None),
            endpoint_json("10.0.0.4", ready=False, serving=True, terminating=True),
        ],
    )

    assert (view(service_json("orders"), first, second).ready, view(service_json("orders"), first, second).total) == (
        2,
        3,
    )


def test_pods_that_still_serve_while_they_end_are_used_when_none_is_ready() -> None:
    """A rolling update must not refuse connections that the cluster would accept."""
    ending = endpoint_json("10.0.0.4", ready=False, serving=True, terminating=True)
    gone = endpoint_json("10.0.0.5", ready=False, serving=False, terminating=True)
    ready = endpoint_json("10.0.0.6")

    assert backends(service_json("orders"), slice_json("orders", endpoints=[ending, gone])) == (
        Backend("10.0.0.4", 8080),
    )
    assert view(service_json("orders"), slice_json("orders", endpoints=[ending, gone])).ready == 1
    assert backends(service_json("orders"), slice_json("orders", endpoints=[ending, gone, ready])) == (
        Backend("10.0.0.6", 8080),
    )


def test_named_target_ports_take_the_number_of_each_slice() -> None:
    """Pods of two versions may listen on different ports under one name."""
    service = service_json("orders", ports=[{"port": 80, "name": "web"}, {"port": 9090, "name": "metrics"}])
    old = slice_json(
        "orders", endpoints=[endpoint_json("10.0.0.1")], ports=[{"name": "web", "port": 3000, "protocol": "TCP"}]
    )
    new = slice_json(
        "orders",
        suffix="b",
        endpoints=[endpoint_json("10.0.0.2")],
        ports=[{"name": "web", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 1, "protocol": "TCP"}],
    )

    assert backends(service, old, new) == (Backend("10.0.0.1", 3000), Backend("10.0.0.2", 8080))
    assert backends(service, old, new, port=9090) == (Backend("10.0.0.2", 1),)


def test_a_slice_port_of_another_protocol_does_not_count() -> None:
    """DNS has one number twice."""
    service = service_json("orders", ports=[{"port": 53, "protocol": "UDP"}])

    assert backends(service, slice_json("orders", endpoints=[endpoint_json("10.0.0.1")]), port=53) == ()


def test_a_slice_port_without_a_number_means_every_port() -> None:
    """So the API reference says."""
    item = slice_json("orders", endpoints=[endpoint_json("10.0.0.1")], ports=[{"name": ""}])

    assert backends(service_json("orders"), item) == (Backend("10.0.0.1", 80),)


def test_ipv4_goes_before_ipv6_and_ipv6_alone_is_used() -> None:
    """Both families list the same pods; counting them twice would mislead."""
    four = slice_json("orders", endpoints=[endpoint_json("10.0.0.1")])
    six = slice_json("orders", suffix="b", family="IPv6", endpoints=[endpoint_json("fd00::1")])
    domain = slice_json("orders", suffix="c", family="FQDN", endpoints=[endpoint_json("a.example")])

    assert backends(service_json("orders"), six, four, domain) == (Backend("10.0.0.1", 8080),)
    assert (view(service_json("orders"), six, four).ready, view(service_json("orders"), six, four).total) == (1, 1)
    assert backends(service_json("orders"), six, domain) == (Backend("fd00::1", 8080),)


def test_a_headless_service_lists_its_ready_pods_by_host_name() -> None:
    """Databases are addressed pod by pod; names that are not DNS labels cannot be asked for."""
    item = slice_json(
        "orders",
        endpoints=[
            endpoint_json("10.0.0.1", hostname="db-0"),
            endpoint_json("10.0.0.2", pod="db-plain"),
            endpoint_json("10.0.0.3", pod="with.dots"),
            endpoint_json("10.0.0.4", hostname="db-1", ready=False),
        ],
    )
    service = service_json("orders", clusterIP="None")

    assert view(service, item).pods == ("db-0", "db-plain")
    assert view(service_json("orders"), item).pods == ()
    assert pod_names(_slices((item,))) == {"db-0", "db-plain", "db-1"}
    assert [backend.pod for backend in backends(service, item)] == ["db-0", "db-plain", None]


def test_empty_and_null_lists_are_the_same() -> None:
    """Go writes an empty slice as null."""
    item = {**slice_json("orders", ports=None), "endpoints": None}
    service = service_json("orders")
    service["spec"]["ports"] = None

    assert view(service, item) == Service(REF, ServiceKind.CLUSTER_IP, ())


# Names of the fields are real; their values are whatever the types allow.
_texts = st.none() | st.text(max_size=8) | st.sampled_from(["http", "TCP", "UDP", "Pod", "IPv4", "IPv6", "None"])
_flags = st.none() | st.booleans()
_ports = st.none() | st.integers(-1, 70000)
any_slice = st.builds(
    lambda family, endpoints, ports: {
        **slice_json("orders"),
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    },
    st.sampled_from(["IPv4", "IPv6", "FQDN", ""]),
    st.none()
    | st.lists(
        st.fixed_dictionaries(
            {
                "addresses": st.none() | st.lists(st.text(max_size=5), max_size=2),
                "conditions": st.none()
                | st.fixed_dictionaries({"ready": _flags, "serving": _flags, "terminating": _flags}),
                "hostname": _texts,
                "targetRef": st.none() | st.just({"kind": "Pod", "name": "p"}) | st.just({}),
            }
        ),
        max_size=4,
    ),
    st.none() | st.lists(st.fixed_dictionaries({"name": _texts, "protocol": _texts, "port": _ports}), max_size=3),
)
any_service = st.builds(
    lambda ports, selector, address, kind: service_json(
        "orders", ports=ports, selector=selector, clusterIP=address, type=kind
    ),
    st.lists(
        st.fixed_dictionaries(
            {"port": st.integers(-1, 70000), "protocol": st.sampled_from(["TCP", "UDP", "SCTP", "", "QUIC"])}
        ),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    st.sampled_from(["", "None", "10.96.0.1"]),
    st.sampled_from(["ClusterIP", "ExternalName", "Odd", ""]),
)


@given(service=any_service, slices=st.lists(any_slice, max_size=3))
def test_no_object_however_odd_ends_the_system(service: Json, slices: list[Json]) -> None:
    """Anybody with rights in one namespace writes these; a crash would take the Teamspace from everybody."""
    seen = view(service, *slices)

    assert 0 <= seen.ready <= seen.total
    for port in service["spec"]["ports"]:
        found = backends(service, *slices, port=port["port"])
        assert len({backend.address for backend in found}) == len(found)
