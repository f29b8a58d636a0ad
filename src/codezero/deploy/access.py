"""What the System may do in the cluster: look at what a catalog is made of, and lead served Services through Routers. The Orchestrator may do nothing.

No Secrets, no pods, no exec, no rights over rights. Know the price of serving all the same: who may create Deployments in a namespace may run programs
there as any of its ServiceAccounts.
"""

from typing import Final

from codezero.deploy.manifest import Json, manifest
from codezero.deploy.values import Values

RBAC: Final = "rbac.authorization.k8s.io"
ROLE: Final = "codezero-system"


def objects(values: Values, namespace: str) -> list[Json]:  # noqa: ARG001 - all rights are the same so far
    """ServiceAccounts, roles, and who has them."""
    subjects = [{"kind": "ServiceAccount", "name": "system", "namespace": namespace}]
    everywhere = {"apiGroup": RBAC, "kind": "ClusterRole", "name": ROLE}
    at_home = {"apiGroup": RBAC, "kind": "Role", "name": ROLE}
    version = f"{RBAC}/v1"
    return [
        manifest("v1", "ServiceAccount", "system", component="system", namespace=namespace),
        manifest(
            "v1",
            "ServiceAccount",
            "orchestrator",
            component="orchestrator",
            namespace=namespace,
            automountServiceAccountToken=False,
        ),
        manifest(version, "ClusterRole", ROLE, component="system", rules=_in_the_cluster()),
        manifest(version, "ClusterRoleBinding", ROLE, component="system", roleRef=everywhere, subjects=subjects),
        manifest(version, "Role", ROLE, component="system", namespace=namespace, rules=_at_home()),
        manifest(
            version,
            "RoleBinding",
            ROLE,
            component="system",
            namespace=namespace,
            roleRef=at_home,
            subjects=subjects,
        ),
    ]


def _in_the_cluster() -> list[Json]:
    return [
        # The catalog. Nodes for their addresses alone, which no stream may reach.
        _rule("", ["services", "namespaces", "nodes"], ["get", "list", "watch"]),
        _rule("discovery.k8s.io", ["endpointslices"], ["get", "list", "watch"]),
        # Before a serve: which StatefulSets a headless Service governs, which policies would lock a Router out.
        _rule("apps", ["statefulsets"], ["list"]),
        # What is served, durably. The finalizer keeps an object until its Service is as it was.
        _rule("codezero.io", ["serves"], ["get", "list", "watch", "create", "update", "patch", "delete"]),
        _rule("codezero.io", ["serves/status"], ["update"]),
        # The origin Service and the Router's; the selector of a served Service, there and back.
        _rule("", ["services"], ["create", "update", "patch", "delete"]),
        # The Router, and a restart of a served Deployment where somebody asks for one.
        _rule("apps", ["deployments"], ["get", "list", "create", "update", "patch", "delete"]),
        # Who a Router is: its token is all it has to prove itself. No right to make tokens.
        _rule("", ["serviceaccounts"], ["get", "create", "delete"]),
        # The additional allowance for a Router where policies guard the served pods.
        _rule("networking.k8s.io", ["networkpolicies"], ["list", "create", "update", "delete"]),
        # Which routes it does not follow, told where people look first.
        _rule("", ["events"], ["create"]),
        # Whether a Router's token is one.
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    ]


def _at_home() -> list[Json]:
    # Which replica leads: in its own namespace alone.
    return [_rule("coordination.k8s.io", ["leases"], ["get", "create", "update"])]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
