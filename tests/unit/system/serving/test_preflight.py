"""What would harm people who take no part is refused with a reason; what they should know is said."""

from typing import Any

import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError, Problem
from codezero.model.serve import DEFAULT, Condition, User
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror, PortPair
from codezero.system.serving import preflight
from codezero.system.serving.preflight import Surroundings

Json = dict[str, Any]

ORDERS = ServiceRef("shop", "orders")
NOTHING = Surroundings()


def spec(**changes: Any) -> Json:
    content: Json = {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.9",
        "selector": {"app": "orders"},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def deployment(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"template": {"metadata": {"labels": labels}}}}


def refusal(content: Json | None, ref: ServiceRef = ORDERS, around: Surroundings = NOTHING) -> str | None:
    return preflight.refusal(ref, content, around, own_namespace="codezero")


def test_a_plain_service_can_be_served() -> None:
    assert refusal(spec()) is None
    assert refusal(spec(type="LoadBalancer", sessionAffinity="ClientIP")) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "ExternalName", "clusterIP": None}, "ExternalName"),
        ({"clusterIP": "None"}, "headless"),
        ({"clusterIP": ""}, "headless"),
        ({"selector": None}, "no selector"),
        ({"selector": {}}, "no selector"),
        ({"selector": {"app": "a", "pod-template-hash": "x"}}, "pod-template-hash"),
        ({"selector": {"codezero.io/service": "x"}}, "codezero.io/service"),
        ({"internalTrafficPolicy": "Local"}, "internalTrafficPolicy"),
        ({"publishNotReadyAddresses": True}, "not ready"),
        ({"ports": []}, "no port"),
        ({"ports": None}, "no port"),
        ({"ports": [{"port": 53, "protocol": "UDP"}]}, "UDP"),
        ({"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}]}, "SCTP and UDP"),
    ],
)
def test_what_a_router_cannot_stand_in_for_is_refused(changes: Json, reason: str) -> None:
    found = refusal(spec(**changes))

    assert found is not None
    assert reason in found
    assert "shop/orders" in found


def test_the_cluster_and_codezero_themselves_are_not_served() -> None:
    assert "Kubernetes API" in (refusal(spec(), ServiceRef("default", "kubernetes")) or "")
    assert "Codezero" in (refusal(spec(), ServiceRef("codezero", "system")) or "")
    assert refusal(None) == "there is no service shop/orders"


def test_a_headless_service_that_names_pods_says_whose() -> None:
    governed = Surroundings(stateful_sets=({"metadata": {"name": "db"}, "spec": {"serviceName": "orders"}},))

    assert "StatefulSet db" in (refusal(spec(clusterIP="None"), around=governed) or "")


def test_refusals_carry_their_code() -> None:
    for content, problem in ((None, problems.SERVICE_UNKNOWN), (spec(clusterIP="None"), problems.NOT_SERVABLE)):
        with pytest.raises(CodezeroError) as caught:
            preflight.refuse(ORDERS, content, NOTHING, own_namespace="codezero")
        assert caught.value.problem is problem
        assert caught.value.fix
    assert preflight.refuse(ORDERS, spec(), NOTHING, own_namespace="codezero") == spec()


@pytest.mark.parametrize(
    ("port", "condition", "mirror", "problem"),
    [
        (81, DEFAULT, None, problems.BAD_SERVE),
        (5432, Condition((User(),)), None, problems.BAD_CONDITION),
        (5432, DEFAULT, Mirror.SAFE, problems.BAD_SERVE),
        (5432, DEFAULT, None, None),
        (80, Condition((User(),)), Mirror.ALL, None),
    ],
)
def test_a_port_takes_what_it_can_be_split_by(
    port: int, condition: Condition, mirror: Mirror | None, problem: Problem | None
) -> None:
    content = spec(ports=[{"name": "http", "port": 80}, {"name": "postgres", "port": 5432}])

    def check() -> None:
        preflight.refuse_variant(ORDERS, content, ports=[PortPair(port, 1)], condition=condition, mirror=mirror)

    if problem is None:
        check()
        return
    with pytest.raises(CodezeroError) as caught:
        check()
    assert caught.value.problem is problem
    assert caught.value.fix


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ({"name": "redis-service"}, "no HTTP, as its name redis-service says"),
        ({"name": "redis-service", "appProtocol": "tls"}, "speaks tls:"),
    ],
)
def test_where_it_is_known_from_that_a_port_speaks_no_http(port: dict[str, str], words: str) -> None:
    """Whoever named a port of HTTP so can see what to change."""
    content = spec(ports=[{"port": 6379, **port}])
    with pytest.raises(CodezeroError, match=words):
        preflight.refuse_variant(
            ORDERS, content, ports=[PortPair(6379, 1)], condition=Condition((User(),)), mirror=None
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "address of its Router"),
        ({"sessionAffinity": "ClientIP"}, "session affinity"),
        ({"type": "LoadBalancer"}, "health checks"),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, "externalTrafficPolicy"),
        ({"trafficDistribution": "PreferClose"}, "traffic distribution"),
        ({"ports": [{"name": "thing", "port": 80}]}, "port 80 does not say"),
        ({}, "--restart"),
    ],
)
def test_side_effects_are_sentences(changes: Json, words: str) -> None:
    found = preflight.effects(ORDERS, spec(**changes), NOTHING, is_switched=False)

    assert any(words in one for one in found)
    assert all(len(one) < 300 for one in found)


def test_a_service_that_is_served_already_has_no_connections_from_before() -> None:
    assert not any("--restart" in one for one in preflight.effects(ORDERS, spec(), NOTHING, is_switched=True))


def test_a_mesh_is_told_of() -> None:
    meshed = deployment("a", app="orders", **{"sidecar.istio.io/inject": "true"})

    for found, expected in ((meshed, True), (deployment("b", app="orders"), False)):
        said = preflight.effects(ORDERS, spec(), Surroundings(deployments=(found,)), is_switched=True)
        assert any("service mesh" in one for one in said) is expected


def test_pods_are_known_by_what_makes_them() -> None:
    around = Surroundings(deployments=(deployment("a", app="orders", tier="x"), deployment("b", app="cart")))

    assert preflight.pods_of(spec(), around) == [{"app": "orders", "tier": "x"}]
    assert preflight.pods_of(spec(), NOTHING) == [{"app": "orders"}]
