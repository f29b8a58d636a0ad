"""What people are told while they wait for pods: the counts, and every reason that the cluster knows."""

from typing import Any

import pytest

from codezero.system.installing import looking

Json = dict[str, Any]


def deployment(*, ready: int, updated: int = 2, replicas: int = 2, generation: int = 1, **status: Any) -> Json:
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": 2},
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            **status,
        },
    }


def waits(content: Json, *pods: Json) -> list[str]:
    return list(looking._waits("system", content, list(pods)))


def container(state: Json, **more: Any) -> Json:
    return {"status": {"containerStatuses": [{"image": "registry.example/a:1", "state": {"waiting": state}, **more}]}}


def test_a_part_with_all_its_pods_is_waited_for_no_more() -> None:
    assert waits(deployment(ready=2)) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (deployment(ready=1), "system: 1 of 2 pods ready"),
        (deployment(ready=2, updated=1, replicas=3), "system: 2 of 2 pods ready, 1 of this version"),
        # The controller has not seen the change yet; its numbers are those of before.
        (deployment(ready=2, generation=2), "system: 2 of 2 pods ready"),
        (deployment(ready=2, replicas=3), "system: 2 of 2 pods ready"),
    ],
)
def test_an_old_pod_does_not_count_as_a_new_one(content: Json, said: str) -> None:
    assert waits(content) == [said]


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (
            container({"reason": "ErrImagePull", "message": "no such host"}),
            "ErrImagePull registry.example/a:1: no such host",
        ),
        (
            container({"reason": "CrashLoopBackOff"}, lastState={"terminated": {"exitCode": 3}}),
            "CrashLoopBackOff (it ended with 3)",
        ),
        (
            container({"reason": "CreateContainerConfigError", "message": 'secret "codezero-identity" not found'}),
            'CreateContainerConfigError: secret "codezero-identity" not found',
        ),
        (
            {"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]}},
            "no node takes a pod: Insufficient cpu",
        ),
    ],
)
def test_the_reason_of_a_pod_is_said_once(pod: Json, reason: str) -> None:
    assert waits(deployment(ready=0), pod, pod) == [f"system: 0 of 2 pods ready; {reason}"]


def test_that_pods_may_not_even_be_made_is_said() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: cpu"}

    assert waits(deployment(ready=0, conditions=[refused])) == ["system: 0 of 2 pods ready; exceeded quota: cpu"]


def test_what_passes_by_itself_is_no_reason() -> None:
    assert waits(deployment(ready=0), container({"reason": "ContainerCreating"})) == ["system: 0 of 2 pods ready"]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([("InternalIP", "192.0.2.1"), ("ExternalIP", "203.0.113.1")], "203.0.113.1"),
        ([("Hostname", "node"), ("InternalIP", "2001:db8::1")], "2001:db8::1"),
        ([("InternalIP", "127.0.0.1")], ""),
        ([], ""),
    ],
)
def test_a_node_is_reached_from_outside_if_it_can_be(addresses: list[tuple[str, str]], expected: str) -> None:
    node = {"status": {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}}

    assert looking._node_address([node]) == expected


@pytest.mark.parametrize(
    ("waiting", "fix"),
    [
        (("system: 0 of 2 pods ready; ImagePullBackOff a:1: no such host",), "values image"),
        (("system: 0 of 2 pods ready; CrashLoopBackOff (it ended with 3)",), "logs --namespace cz deployment/PART"),
        (("system: 1 of 2 pods ready", looking._NO_ADDRESS), "service.type NodePort"),
        # Pods that wait for it are the consequence.
        ((looking._NO_IDENTITY, "system: 0 of 2 pods ready"), "identity --namespace cz"),
    ],
)
def test_for_common_reasons_what_to_do_is_said(waiting: tuple[str, ...], fix: str) -> None:
    assert fix in (looking.fix_of(waiting, "cz") or "")


def test_for_other_reasons_nothing_is_invented() -> None:
    assert looking.fix_of(("system: 1 of 2 pods ready",), "cz") is None


@pytest.mark.parametrize(
    ("addresses", "reached"),
    [
        ([("InternalIP", "192.0.2.8"), ("ExternalIP", "198.51.100.7")], "198.51.100.7"),
        ([("Hostname", "n1"), ("InternalIP", "127.0.0.1"), ("InternalIP", "192.0.2.8")], "192.0.2.8"),
        # Nothing checks what a cloud writes there.
        ([("ExternalIP", "n1.example.com")], "n1.example.com"),
        ([("ExternalIP", ""), ("InternalIP", "fd00::8")], "fd00::8"),
        ([("Hostname", "n1")], ""),
    ],
)
def test_a_node_is_reached_from_outside_by_the_address_that_says_so(
    addresses: list[tuple[str, str]], reached: str
) -> None:
    node = {"status": {"addresses": [{"type": kind, "address": address} for kind, address in addresses]}}

    assert looking._node_address([node]) == reached
