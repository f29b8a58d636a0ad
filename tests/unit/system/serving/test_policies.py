"""Policies are only added to, and a Router that could not be reached is refused beforehand."""

from typing import Any

import pytest

from codezero.model.services import ServiceRef
from codezero.system.serving import naming, policies
from codezero.system.serving.manifests import Served

ORDERS = ServiceRef("shop", "orders")
OWN = {"app": "orders"}
SERVED = Served(ORDERS, "uid", {"selector": OWN, "ports": [{"port": 80}]}, {})
PODS = [{"app": "orders", "version": "1"}]
SYSTEM = "system.codezero.svc:8801"

Json = dict[str, Any]


def policy(name: str = "p", **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"podSelector": {}, **spec}}


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({}, True),
        ({"matchLabels": {"app": "orders"}}, True),
        ({"matchLabels": {"app": "cart"}}, False),
        ({"matchExpressions": [{"key": "version", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "version", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "version", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "version", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "version", "operator": "Like"}]}, False),
    ],
)
def test_selectors_choose_as_kubernetes_does(selector: Json, chosen: bool) -> None:
    assert policies.selects(selector, PODS[0]) is chosen


def test_nothing_is_added_where_nothing_guards() -> None:
    others = policy(podSelector={"matchLabels": {"app": "cart"}}, ingress=[])

    assert policies.allowances(SERVED, [others], PODS, system=SYSTEM) == []
    assert policies.effects([others], PODS) == []


def test_callers_of_the_pods_reach_the_router_and_it_the_pods() -> None:
    rule = {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 8080}]}
    guard = policy(podSelector={"matchLabels": {"version": "1"}}, ingress=[rule])
    made = policies.allowances(SERVED, [guard], PODS, system=SYSTEM)

    assert [one["spec"]["policyTypes"] for one in made] == [["Ingress"], ["Ingress"]]
    to_pods, to_router = (one["spec"] for one in made)
    router = {"matchLabels": {naming.SERVICE: naming.hash_of(ORDERS)}}
    assert to_pods["podSelector"] == {"matchLabels": OWN}
    assert to_pods["ingress"] == [{"from": [{"podSelector": router}]}]
    assert to_router["podSelector"] == router
    assert to_router["ingress"] == [rule]
    assert "guards the pods" in policies.effects([guard], PODS)[0]


def test_a_policy_of_ours_is_no_reason_for_more() -> None:
    """Else each look would add to what the last one made."""
    guards = [policy(ingress=[]), policy(policyTypes=["Egress"])]
    made = policies.allowances(SERVED, guards, PODS, system=SYSTEM)

    assert len(made) == 3
    assert policies.allowances(SERVED, made, PODS, system=SYSTEM) == []


def test_a_namespace_that_lets_nothing_out_lets_the_router_out() -> None:
    """To its pods, to the System and to names; to nothing else."""
    closed = policy(policyTypes=["Egress"])
    (ways,) = policies.allowances(SERVED, [closed], PODS, system=SYSTEM)

    pods, system, names = ways["spec"]["egress"]
    assert pods == {"to": [{"podSelector": {"matchLabels": OWN}}]}
    assert system["ports"] == [{"protocol": "TCP", "port": 8801}]
    assert system["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "codezero"}}}]
    assert {one["port"] for one in names["ports"]} == {53}


def test_callers_that_are_let_out_to_the_pods_by_label_could_not_reach_a_router() -> None:
    spec = {"selector": OWN}
    named = policy("web", policyTypes=["Egress"], egress=[{"to": [{"podSelector": {"matchLabels": OWN}}]}])
    all_pods = policy(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}])
    others = policy(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {"matchLabels": {"app": "cart"}}}]}])

    assert "web" in (policies.refusal(ORDERS, spec, [named]) or "")
    assert policies.refusal(ORDERS, spec, [all_pods, others, policy(ingress=[])]) is None
