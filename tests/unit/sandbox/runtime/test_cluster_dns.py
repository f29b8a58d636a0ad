import dns.message
import dns.rcode
import pytest

from codezero.sandbox.api import JsonObject, Store
from codezero.sandbox.cluster_dns import ClusterNames
from codezero.sandbox.endpoints import SERVICE_LABEL, SLICES, SliceIndex

ZONE = "svc.cluster.local"


@pytest.fixture
def names(store: Store) -> ClusterNames:
    ports = [{"name": "http", "port": 80}]
    for name, spec in (
        ("web", {"clusterIP": "10.96.7.7"}),
        ("pods", {"clusterIP": "None"}),
        ("away", {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
    ):
        store.create("services", "default", {"metadata": {"name": name}, "spec": {"ports": ports} | spec})
    endpoints: list[JsonObject] = [
        {"addresses": ["10.244.0.2"], "hostname": "pods-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.0.3"], "conditions": {"ready": True}},
        {"addresses": ["10.244.0.4"], "hostname": "pods-2", "conditions": {"ready": False}},
    ]
    content = {
        "metadata": {"name": "pods-1", "labels": {SERVICE_LABEL: "pods"}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080}],
    }
    store.create(SLICES, "default", content)
    return ClusterNames(store, SliceIndex(store))


async def ask(names: ClusterNames, name: str, kind: str = "A") -> tuple[str, list[str]]:
    reply = await names.answer(dns.message.make_query(name, kind))
    return dns.rcode.to_text(reply.rcode()), sorted(str(item) for rrset in reply.answer for item in rrset)


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        (f"web.default.{ZONE}", "A", ["10.96.7.7"]),
        (f"WEB.Default.{ZONE}", "A", ["10.96.7.7"]),
        (f"web.default.{ZONE}", "AAAA", []),
        (f"pods.default.{ZONE}", "A", ["10.244.0.2", "10.244.0.3"]),
        (f"pods-0.pods.default.{ZONE}", "A", ["10.244.0.2"]),
        (f"10-244-0-3.pods.default.{ZONE}", "A", ["10.244.0.3"]),
        (f"_http._tcp.web.default.{ZONE}", "SRV", [f"0 100 80 web.default.{ZONE}."]),
        (
            f"_http._tcp.pods.default.{ZONE}",
            "SRV",
            [f"0 100 8080 10-244-0-3.pods.default.{ZONE}.", f"0 100 8080 pods-0.pods.default.{ZONE}."],
        ),
        (f"away.default.{ZONE}", "A", [f"web.default.{ZONE}."]),
        ("10-244-0-9.default.pod.cluster.local", "A", ["10.244.0.9"]),
        (f"default.{ZONE}", "A", []),
        ("cluster.local", "A", []),
    ],
)
async def test_names_of_the_cluster(names: ClusterNames, name: str, kind: str, answer: list[str]) -> None:
    assert await ask(names, name, kind) == ("NOERROR", answer)


@pytest.mark.parametrize(
    "name",
    [
        f"none.default.{ZONE}",
        f"web.nowhere.{ZONE}",
        f"nowhere.{ZONE}",
        f"pods-2.pods.default.{ZONE}",
        f"any.web.default.{ZONE}",
        f"_smtp._tcp.web.default.{ZONE}",
        f"a.b.c.d.e.{ZONE}",
        "not-an-address.default.pod.cluster.local",
        "other.cluster.local",
    ],
)
async def test_names_that_do_not_exist(names: ClusterNames, name: str) -> None:
    assert await ask(names, name) == ("NXDOMAIN", [])
