"""The accounts of a Teamspace get the rights they must have, where they must have them, and no more (T24)."""

from collections.abc import Iterable
from typing import Any

import pytest

from codezero.deploy import access, objects
from codezero.deploy.values import Serving, Values
from codezero.system.serving import leadership

Json = dict[str, Any]

READ, WRITE = {"get", "list", "watch"}, {"create", "update", "patch", "delete"}
LOOKS = {
    "services": READ,
    "serves.codezero.io": READ,
    "namespaces": {"list", "watch"},
    "nodes": {"list", "watch"},
    "endpointslices.discovery.k8s.io": {"list", "watch"},
    "tokenreviews.authentication.k8s.io": {"create"},
}
SERVES = {
    "statefulsets.apps": {"list"},
    "services": WRITE,
    "deployments.apps": {"get", "list"} | WRITE,
    "networkpolicies.networking.k8s.io": {"list", "create", "update", "delete"},
    "poddisruptionbudgets.policy": {"get", "create", "update", "delete"},
    "serves.codezero.io": WRITE,
    "serves.codezero.io/status": {"update"},
    "serviceaccounts": {"get", "create", "delete"},
    "events": {"create"},
}
AT_HOME = {
    "leases.coordination.k8s.io": {"create"},
    "leases.coordination.k8s.io codezero-system": {"get", "update"},
    "secrets codezero-identity": {"get", "patch"},
}
RESIDUE = {
    "services": {"get", "list"},
    "serves.codezero.io": {"list"},
    "serviceaccounts": {"list"},
    "deployments.apps": {"list"},
    "networkpolicies.networking.k8s.io": {"list"},
    "poddisruptionbudgets.policy": {"list"},
}
PUTS_BACK = {
    "services": {"patch", "delete"},
    "serves.codezero.io": {"patch", "delete"},
    "serviceaccounts": {"delete"},
    "deployments.apps": {"delete"},
    "networkpolicies.networking.k8s.io": {"delete"},
    "poddisruptionbudgets.policy": {"delete"},
}
EVERYWHERE = ""
NOWHERE, SOMEWHERE, ALL = (), ("shop", "cart"), ("*",)


def served(*namespaces: str) -> Values:
    return Values(serve=Serving(namespaces))


def granted(objects: Iterable[Json], account: str) -> dict[str, dict[str, set[str]]]:
    """Verbs by resource (and name), by namespace, of what is really bound to the account."""
    by_kind = [
        (one["kind"], one["metadata"].get("namespace", EVERYWHERE), one["metadata"]["name"], one) for one in objects
    ]
    roles = {(kind, where, name): one["rules"] for kind, where, name, one in by_kind if kind.endswith("Role")}
    found: dict[str, dict[str, set[str]]] = {}
    for kind, where, _, one in by_kind:
        if not kind.endswith("RoleBinding"):
            continue
        (subject,) = one["subjects"]
        if subject == {"kind": "ServiceAccount", "name": account, "namespace": "codezero"}:
            into = found.setdefault(where, {})
            for rule in roles[one["roleRef"]["kind"], where, one["roleRef"]["name"]]:
                add(rule, into)
    return found


def add(rule: Json, into: dict[str, set[str]]) -> None:
    assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            plural, slash, subresource = resource.partition("/")
            name = (f"{plural}.{group}" if group else plural) + slash + subresource
            for one in rule.get("resourceNames", [""]):
                into.setdefault(f"{name} {one}".strip(), set()).update(rule["verbs"])


def both(some: dict[str, set[str]], others: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name: some.get(name, set()) | others.get(name, set()) for name in {*some, *others}}


def test_a_teamspace_whose_laptops_consume_changes_nothing_in_the_cluster() -> None:
    """The default: it looks, and keeps its own house."""
    assert granted(access.objects(served(*NOWHERE), "codezero"), "system") == {EVERYWHERE: LOOKS, "codezero": AT_HOME}


def test_the_system_writes_in_the_namespaces_that_may_be_served() -> None:
    found = granted(access.objects(served(*SOMEWHERE), "codezero"), "system")

    assert found == {EVERYWHERE: LOOKS, "codezero": AT_HOME, "shop": SERVES, "cart": SERVES}


def test_all_namespaces_are_one_cluster_role() -> None:
    """In the object that a shorter list changes: no right stays behind where nobody looks."""
    found = granted(access.objects(served(*ALL), "codezero"), "system")

    assert found == {EVERYWHERE: both(LOOKS, SERVES), "codezero": AT_HOME}


def test_its_own_namespace_is_never_served() -> None:
    found = granted(access.objects(served("codezero", "shop"), "codezero"), "system")

    assert found["codezero"] == AT_HOME


def test_repair_puts_back_and_makes_nothing() -> None:
    assert granted(access.repair(served(*SOMEWHERE), "codezero"), "repair") == {
        EVERYWHERE: RESIDUE,
        "shop": PUTS_BACK,
        "cart": PUTS_BACK,
    }
    assert granted(access.repair(served(*ALL), "codezero"), "repair") == {EVERYWHERE: both(RESIDUE, PUTS_BACK)}


@pytest.mark.parametrize("namespaces", [NOWHERE, SOMEWHERE, ALL])
def test_nobody_else_has_rights(namespaces: tuple[str, ...]) -> None:
    """The Orchestrator least of all: its pods have no token either."""
    made = access.objects(served(*namespaces), "codezero")
    subjects = [one for each in made for one in each.get("subjects", ())]
    accounts = {one["metadata"]["name"]: one for one in made if one["kind"] == "ServiceAccount"}

    assert {(one["kind"], one["namespace"], one["name"]) for one in subjects} == {
        ("ServiceAccount", "codezero", "system")
    }
    assert accounts["orchestrator"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("namespaces", [NOWHERE, SOMEWHERE, ALL])
def test_every_right_is_spelled_out(namespaces: tuple[str, ...]) -> None:
    """A wildcard grants what nobody has thought of; some resources are as good as the whole namespace."""
    made = [*access.objects(served(*namespaces), "codezero"), *access.repair(served(*namespaces), "codezero")]
    rules = [rule for one in made for rule in one.get("rules", ())]
    words = {word for rule in rules for words in rule.values() for word in words}
    forbidden = {"pods", "pods/exec", "serviceaccounts/token", "configmaps", "bind", "escalate", "impersonate"}

    assert "*" not in "".join(words)
    assert not words & (forbidden | {"roles", "rolebindings", "clusterroles", "deletecollection"})
    assert all("resourceNames" in rule for rule in rules if "secrets" in rule["resources"])


def test_names_are_those_that_are_used() -> None:
    assert access.LEASE == leadership.LEASE
    assert access.IDENTITY == objects.IDENTITY
