"""Streams reach pods of the service they name and nothing else: no node, no metadata, no Kubernetes API, however it is spelled (T17)."""

import asyncio
import ipaddress
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.problems import CodezeroError, Problem
from codezero.model.services import CatalogId, Protocol, ServiceRef
from codezero.system.endpoints import (
    AddressRules,
    Endpoint,
    EndpointChooser,
    parse_allowed_domains,
    parse_networks,
    refusal,
)
from codezero.testing.kubernetes import (
    FilledInventory,
    Json,
    endpoint_json,
    namespace_json,
    node_json,
    service_json,
    slice_json,
)

ORDERS = CatalogId(ServiceRef("shop", "orders"), 80)
EVERYTHING = AddressRules(networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))


def chooser(inventory: FilledInventory, rules: AddressRules | None = None, **names: Sequence[str]) -> EndpointChooser:
    async def resolve(name: str) -> Sequence[str]:
        return names.get(name.replace(".", "_"), ())

    return EndpointChooser(inventory, rules, resolve=resolve, source=random.Random(1))


def leads_to(inventory: FilledInventory, *addresses: str, **spec: object) -> None:
    inventory.put(
        service_json("orders", **spec), slice_json("orders", endpoints=[endpoint_json(item) for item in addresses])
    )


async def refused(choose: EndpointChooser, wanted: CatalogId = ORDERS, **options: object) -> tuple[Problem, str]:
    with pytest.raises(CodezeroError) as caught:
        await choose.choose(wanted, **options)
    assert caught.value.fix
    return caught.value.problem, caught.value.detail


# --- choosing -------------------------------------------------------------------------------------------------------------------------------


async def test_pods_take_turns_and_the_others_are_offered_behind(inventory: FilledInventory) -> None:
    """Load is spread as the cluster does, and a pod that just died costs one more attempt, not the stream."""
    leads_to(inventory, *(f"10.0.0.{number}" for number in range(1, 7)))
    choose = chooser(inventory)
    answers = [await choose.choose(ORDERS) for _ in range(60)]

    assert Counter(answer[0].address for answer in answers) == {f"10.0.0.{number}": 10 for number in range(1, 7)}
    assert all(len(set(answer)) == 4 for answer in answers)
    assert all(endpoint.port == 8080 for answer in answers for endpoint in answer)


async def test_a_service_with_affinity_keeps_a_client_on_its_pod(inventory: FilledInventory) -> None:
    """Sessions held in a pod's memory must survive the next request."""
    leads_to(inventory, *(f"10.0.0.{number}" for number in range(1, 7)), sessionAffinity="ClientIP")
    choose = chooser(inventory)
    first = {client: (await choose.choose(ORDERS, client=client))[0] for client in map(str, range(40))}
    gone = first["0"].address
    leads_to(
        inventory,
        *(f"10.0.0.{number}" for number in range(1, 7) if f"10.0.0.{number}" != gone),
        sessionAffinity="ClientIP",
    )
    second = {client: (await choose.choose(ORDERS, client=client))[0] for client in first}

    assert len(set(first.values())) > 2
    assert all(second[client] == first[client] for client in first if first[client].address != gone)


async def test_a_pod_of_a_headless_service_is_reached_by_name(inventory: FilledInventory) -> None:
    """Database clients address the primary."""
    inventory.put(
        service_json("orders", clusterIP="None"),
        slice_json(
            "orders",
            endpoints=[
                endpoint_json("10.0.0.1", hostname="db-0"),
                endpoint_json("10.0.0.2", hostname="db-1"),
                endpoint_json("10.0.0.3", hostname="db-2", ready=False),
            ],
        ),
    )
    choose = chooser(inventory)

    assert await choose.choose(CatalogId(ORDERS.service, 80, "db-1")) == (Endpoint("10.0.0.2", 8080),)
    assert await refused(choose, CatalogId(ORDERS.service, 80, "db-2")) == (
        problems.NO_ENDPOINT,
        "pod db-2 of shop/orders is not ready",
    )
    assert await refused(choose, CatalogId(ORDERS.service, 80, "db-9")) == (
        problems.SERVICE_UNKNOWN,
        "shop/orders has no pod db-9",
    )


async def test_datagrams_go_to_udp_ports_only(inventory: FilledInventory) -> None:
    """One number may be two ports."""
    inventory.put(
        service_json("orders", ports=[{"port": 80, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}]),
        slice_json("orders", endpoints=[endpoint_json("10.0.0.1")], ports=[{"name": "", "port": 5, "protocol": "UDP"}]),
    )
    choose = chooser(inventory)

    assert await choose.choose(ORDERS, protocol=Protocol.UDP) == (Endpoint("10.0.0.1", 5),)
    assert (await refused(choose))[0] is problems.SERVICE_UNKNOWN
    assert (await refused(choose, CatalogId(ORDERS.service, 9), protocol=Protocol.SCTP))[0] is problems.SERVICE_UNKNOWN


async def test_what_is_not_there_is_told_precisely(inventory: FilledInventory) -> None:
    """A typing error should be found from the message alone."""
    inventory.put(
        namespace_json("shop"), service_json("orders", ports=[{"port": 8080}, {"port": 53, "protocol": "UDP"}])
    )
    choose = chooser(inventory)

    assert (await refused(choose))[1] == "shop/orders has no port 80/TCP; its ports: 53/UDP, 8080/TCP"
    assert (await refused(choose, CatalogId.parse("shop/ordes:80")))[1] == "there is no service shop/ordes"
    assert (await refused(choose, CatalogId.parse("shopp/orders:80")))[1] == "there is no namespace shopp"
    assert (await refused(choose, CatalogId.parse("shop/orders:8080"))) == (
        problems.NO_ENDPOINT,
        "shop/orders has no pod that is ready",
    )
    inventory.synced(stale_since=5.0)
    assert "cannot see the cluster" in (await refused(choose))[1]


async def test_nothing_is_reached_before_the_nodes_are_known() -> None:
    """Until then a node's address cannot be told from a pod's."""
    blind = FilledInventory()
    leads_to(blind, "10.0.0.1")

    assert (await refused(chooser(blind)))[0] is problems.NO_ENDPOINT
    assert (await refused(chooser(blind), CatalogId.parse("shop/nothing:80")))[0] is problems.SERVICE_UNKNOWN


# --- addresses ------------------------------------------------------------------------------------------------------------------------------

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.72.0.53",
    "169.254.169.254",
    "169.254.1.1",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:7f00:1::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100::1",
]


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_addresses_that_are_no_pods_are_refused(inventory: FilledInventory, address: str) -> None:
    """Who may write an EndpointSlice must not lead a laptop to machinery."""
    leads_to(inventory, address)

    assert (await refused(chooser(inventory)))[0] is problems.ADDRESS_REFUSED


@pytest.mark.parametrize(
    "address", ["", "10.0.0", "0x7f000001", "010.0.0.1", "10.0.0.1%eth0", "fd00::1%2", "localhost"]
)
async def test_what_is_not_exactly_an_address_is_refused(inventory: FilledInventory, address: str) -> None:
    """Other readers of addresses are more generous, and that is how filters are passed."""
    leads_to(inventory, address)

    assert (await refused(chooser(inventory)))[0] is problems.ADDRESS_REFUSED


async def test_nodes_and_the_kubernetes_api_are_refused(inventory: FilledInventory) -> None:
    """Kubelets, host ports and the API have no business with laptops, also behind `hostNetwork` pods or a hand-made slice."""
    inventory.put(
        node_json("worker-1", "192.168.0.4", "fd00::4"),
        service_json("kubernetes", "default", clusterIP="10.96.0.1", ports=[{"port": 443}]),
        slice_json("kubernetes", "default", endpoints=[endpoint_json("172.20.0.2")]),
    )
    choose = chooser(inventory, AddressRules(api_hosts=frozenset({"203.0.113.9", "FD00:0::9", "api.example"})))

    assert (await refused(choose, CatalogId.parse("default/kubernetes:443")))[0] is problems.ADDRESS_REFUSED
    for address in ("192.168.0.4", "FD00:0::0004", "10.96.0.1", "172.20.0.2", "203.0.113.9", "fd00::9"):
        family = "IPv6" if ":" in address else "IPv4"
        inventory.put(
            service_json("orders", selector={}),
            slice_json("orders", family=family, endpoints=[endpoint_json(address)]),
        )
        assert (await refused(choose))[0] is problems.ADDRESS_REFUSED
    leads_to(inventory, "192.168.0.4", "10.0.0.1")
    assert await choose.choose(ORDERS) == (Endpoint("10.0.0.1", 8080),)


async def test_an_address_is_judged_by_what_stands_there_now(inventory: FilledInventory) -> None:
    """Addresses are given away again; only what the rules say of one is remembered."""
    leads_to(inventory, "10.0.0.1")
    choose = chooser(inventory)
    fine = (Endpoint("10.0.0.1", 8080),)
    api = slice_json("kubernetes", "default", endpoints=[endpoint_json("10.0.0.1")])

    assert await choose.choose(ORDERS) == fine
    inventory.put(node_json("worker-1", "10.0.0.1"))
    assert (await refused(choose))[1].endswith("an address of node worker-1")
    inventory.put(node_json("worker-1", "10.0.0.9", version=2))
    assert await choose.choose(ORDERS) == fine
    inventory.put(service_json("payroll", "finance", clusterIP="10.0.0.1"))
    assert (await refused(choose))[1].endswith("the ClusterIP of a service")
    inventory.remove(service_json("payroll", "finance"))
    assert await choose.choose(ORDERS) == fine
    inventory.put(service_json("kubernetes", "default", clusterIP="10.96.0.1", ports=[{"port": 443}]), api)
    assert (await refused(choose))[1].endswith("the Kubernetes API itself")
    inventory.remove(api)
    assert await choose.choose(ORDERS) == fine


@pytest.mark.parametrize("address", ["10.244.1.0", "10.244.1.1", "fd00:1::1"])
async def test_a_node_is_refused_inside_its_network_of_pods_too(inventory: FilledInventory, address: str) -> None:
    """Bridge and overlay give each node addresses among its pods, where the kubelet and the host's ports answer as well."""
    inventory.put(node_json("worker-1", "192.168.0.4", pods=("10.244.1.0/24", "fd00:1::/64")))
    family = "IPv6" if ":" in address else "IPv4"
    inventory.put(service_json("orders"), slice_json("orders", family=family, endpoints=[endpoint_json(address)]))

    assert (await refused(chooser(inventory))) == (
        problems.ADDRESS_REFUSED,
        f"shop/orders:80 leads to {address}, an address of node worker-1",
    )
    leads_to(inventory, "10.244.1.2")
    inventory.put(slice_json("orders", family="IPv4", endpoints=[endpoint_json("10.244.1.2")]))
    assert await chooser(inventory).choose(ORDERS) == (Endpoint("10.244.1.2", 8080),)


async def test_a_slice_does_not_lead_to_another_service(inventory: FilledInventory) -> None:
    """The policy was asked about the service named, not about one whose ClusterIP somebody wrote into a slice (CVE-2021-25740)."""
    inventory.put(service_json("payroll", "finance", clusterIP="10.96.0.7", clusterIPs=["10.96.0.7", "FD00:96::7"]))
    for address in ("10.96.0.7", "fd00:96::7"):
        family = "IPv6" if ":" in address else "IPv4"
        inventory.put(service_json("orders"), slice_json("orders", family=family, endpoints=[endpoint_json(address)]))
        assert (await refused(chooser(inventory)))[1].endswith("the ClusterIP of a service")
    inventory.remove(service_json("payroll", "finance"))

    assert await chooser(inventory).choose(ORDERS) == (Endpoint("fd00:96::7", 8080),)


async def test_an_operator_can_let_nodes_and_loopback_in_but_never_metadata(inventory: FilledInventory) -> None:
    """Clusters whose services run on the host network need it."""
    inventory.put(node_json("worker-1", "192.168.0.4"))
    rules = AddressRules(networks=parse_networks("192.168.0.0/24 127.0.0.0/8, 169.254.0.0/16"))
    choose = chooser(inventory, rules)
    for address in ("192.168.0.4", "127.0.0.1"):
        leads_to(inventory, address)
        assert await choose.choose(ORDERS) == (Endpoint(address, 8080),)
    leads_to(inventory, "169.254.169.254")
    assert (await refused(choose))[0] is problems.ADDRESS_REFUSED


@given(st.ip_addresses())
def test_whatever_is_admitted_is_an_ordinary_unicast_address(address: ipaddress.IPv4Address) -> None:
    """The classes as Python's own library knows them are the oracle."""
    if refusal(address, AddressRules()) is None:
        assert not (address.is_loopback)
        assert not (address.is_link_local)
        assert not (address.is_multicast)
        assert not (address.is_unspecified)
        if isinstance(address, ipaddress.IPv6Address):
            assert address.ipv4_mapped is address.sixtofour is address.teredo is None
            assert not address.is_site_local


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_passes_in_a_form_of_ipv6(address: ipaddress.IPv4Address) -> None:
    """Whatever the rules for IPv4 say could be evaded by writing it as IPv6, even where an operator allowed everything."""
    number = int(address)
    for disguised in (
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0xFFFF << 48) | number),
        ipaddress.IPv6Address((0x0064FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
        ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),
    ):
        assert refusal(disguised, AddressRules()) is not None
        assert refusal(disguised, EVERYTHING) is not None
    assert refusal(ipaddress.IPv6Address(number), AddressRules()) is not None


@given(st.integers(0, 2**28 - 1))
def test_metadata_and_multicast_are_never_let_in(offset: int) -> None:
    """No setting of an operator is meant to open these."""
    assert refusal(ipaddress.IPv4Address((224 << 24) + offset), EVERYTHING) is not None
    assert refusal(ipaddress.IPv4Address("169.254.169.254"), EVERYTHING) is not None


# --- ExternalName ---------------------------------------------------------------------------------------------------------------------------


def external(name: str) -> Json:
    return service_json("orders", type="ExternalName", clusterIP="", externalName=name, ports=[{"port": 80}])


async def test_an_external_name_is_reached_by_the_list_at_its_checked_address(inventory: FilledInventory) -> None:
    """The address that was judged is the address that is dialled."""
    inventory.put(external("DB.Example.com."))
    rules = AddressRules(domains=parse_allowed_domains("*.example.com"))

    assert await chooser(inventory, rules, db_example_com=["8.8.4.4", "2001:4860:4860::8888"]).choose(ORDERS) == (
        Endpoint("8.8.4.4", 80),
        Endpoint("2001:4860:4860::8888", 80),
    )
    assert (await refused(chooser(inventory, db_example_com=["8.8.4.4"])))[0] is problems.ADDRESS_REFUSED
    assert (await refused(chooser(inventory, rules)))[0] is problems.NO_ENDPOINT


@pytest.mark.parametrize(
    ("setting", "name", "address", "admitted"),
    [
        ("db.example.com", "db.example.com", "8.8.4.4", True),
        ("db.example.com", "xdb.example.com", "8.8.4.4", False),
        ("*.example.com", "example.com", "8.8.4.4", False),
        ("*.example.com", "evilexample.com", "8.8.4.4", False),
        ("*.example.com", "a.b.example.com", "8.8.4.4", True),
        ("*.example.com", "db.example.com", "10.0.0.1", False),
        ("*.example.com=private", "db.example.com", "10.0.0.1", True),
        ("*.example.com=private", "db.example.com", "127.0.0.1", False),
        ("*.example.com=private", "db.example.com", "169.254.169.254", False),
        ("*.example.com=private", "db.example.com", "192.168.0.4", False),
        ("*.example.com=private", "db.example.com", "10.96.0.1", False),
        ("*.example.com=private", "db.example.com", "::ffff:10.0.0.1", False),
    ],
)
async def test_the_list_of_domains_is_exact_and_private_addresses_need_a_word(
    inventory: FilledInventory, setting: str, name: str, address: str, admitted: bool
) -> None:
    """A name under somebody else's control can resolve to anything, also later (rebinding)."""
    inventory.put(
        external(name),
        node_json("worker-1", "192.168.0.4"),
        service_json("kubernetes", "default", clusterIP="10.96.0.1"),
    )
    choose = chooser(
        inventory, AddressRules(domains=parse_allowed_domains(setting)), **{name.replace(".", "_"): [address]}
    )
    if admitted:
        assert await choose.choose(ORDERS) == (Endpoint(address, 80),)
    else:
        assert (await refused(choose))[0] is problems.ADDRESS_REFUSED


async def test_a_name_that_changes_its_address_is_judged_again(inventory: FilledInventory) -> None:
    """DNS rebinding: public first, then inside."""
    answers = [["8.8.4.4"], ["10.0.0.1"], ["8.8.4.4", "127.0.0.1"]]
    now = [0.0]

    async def resolve(_: str) -> Sequence[str]:
        return answers.pop(0)

    inventory.put(external("db.example.com"))
    rules = AddressRules(domains=parse_allowed_domains("db.example.com"))
    choose = EndpointChooser(inventory, rules, resolve=resolve, clock=lambda: now[0])

    assert await choose.choose(ORDERS) == (Endpoint("8.8.4.4", 80),)
    now[0] = 3.0
    assert await choose.choose(ORDERS) == (Endpoint("8.8.4.4", 80),)
    now[0] = 10.0
    assert (await refused(choose))[0] is problems.ADDRESS_REFUSED
    now[0] = 20.0
    assert await choose.choose(ORDERS) == (Endpoint("8.8.4.4", 80),)
    assert answers == []


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "a..b", "a b.example", "", "::1", "x" * 300]
)
async def test_an_external_name_that_is_no_domain_is_refused_before_it_is_resolved(
    inventory: FilledInventory, name: str
) -> None:
    """Resolvers read numbers in many ways as addresses."""

    async def resolve(_: str) -> Sequence[str]:
        raise AssertionError("resolved")

    inventory.put(external(name))
    rules = AddressRules(domains=parse_allowed_domains("*.example=private"))

    assert (await refused(EndpointChooser(inventory, rules, resolve=resolve)))[0] is problems.ADDRESS_REFUSED


async def test_a_resolver_that_hangs_ends_in_an_answer(
    inventory: FilledInventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream must not wait for ever for somebody else's DNS."""
    monkeypatch.setattr("codezero.system.endpoints.RESOLVE_SECONDS", 0.01)

    async def resolve(_: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    inventory.put(external("db.example.com"))
    rules = AddressRules(domains=parse_allowed_domains("db.example.com"))

    assert (await refused(EndpointChooser(inventory, rules, resolve=resolve)))[0] is problems.NO_ENDPOINT


@pytest.mark.parametrize("text", ["*", "*.", "a.*.b", "*.*.b", "a=public", "a=", "10.0.0.1", "a/b", "*a.example"])
def test_domains_that_would_mean_something_else_than_they_seem_are_refused(text: str) -> None:
    """A setting that opens more than it says is worse than an error."""
    with pytest.raises(CodezeroError) as caught:
        parse_allowed_domains(text)

    assert caught.value.problem is problems.BAD_REQUEST


def test_networks_with_host_bits_or_nonsense_are_refused() -> None:
    """10.0.0.1/8 is more than the one address it looks like."""
    for text in ("10.0.0.1/8", "x", "10.0.0.0/33"):
        with pytest.raises(CodezeroError):
            parse_networks(text)
