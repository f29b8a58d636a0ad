"""The accounts of a Teamspace get the rights they must have and no more (T24)."""

from typing import Any

from codezero.deploy import access
from codezero.deploy.values import Values

OBJECTS = access.objects(Values(), "codezero")


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in OBJECTS if item["kind"] == kind}


def granted(rules: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Verbs by resource, as `kubectl auth can-i --list` names them."""
    assert not any(set(rule) - {"apiGroups", "resources", "verbs"} for rule in rules)
    found: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                plural, slash, subresource = resource.partition("/")
                name = f"{plural}.{group}" if group else plural
                found.setdefault(name + slash + subresource, set()).update(rule["verbs"])
    return found


def test_the_system_may_look_and_lead_services_through_routers_and_nothing_else() -> None:
    """Whoever takes the System over must find no Secret, no exec, no way to more rights. Each right here has its reason in `access`."""
    read = {"get", "list", "watch"}
    write = {"create", "update", "patch", "delete"}
    (role,) = of_kind("ClusterRole").values()

    assert granted(role["rules"]) == {
        "namespaces": read,
        "nodes": read,
        "endpointslices.discovery.k8s.io": read,
        "statefulsets.apps": {"list"},
        "services": read | write,
        "deployments.apps": {"get", "list"} | write,
        "networkpolicies.networking.k8s.io": {"list", "create", "update", "delete"},
        "serves.codezero.io": read | write,
        "serves.codezero.io/status": {"update"},
        "serviceaccounts": {"get", "create", "delete"},
        "events": {"create"},
        "tokenreviews.authentication.k8s.io": {"create"},
    }
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        (binding,) = of_kind(kind).values()
        assert [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]] == [
            ("ServiceAccount", "codezero", "system")
        ]


def test_leases_are_those_of_the_own_namespace() -> None:
    (role,) = of_kind("Role").values()

    assert role["metadata"]["namespace"] == "codezero"
    assert granted(role["rules"]) == {"leases.coordination.k8s.io": {"get", "create", "update"}}


def test_the_orchestrator_has_no_token_for_the_api() -> None:
    assert of_kind("ServiceAccount")["orchestrator"]["automountServiceAccountToken"] is False
