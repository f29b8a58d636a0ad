"""What our accounts may do in the cluster: Systems look at what a catalog is made of everywhere, and lead Services through Routers where administrators
let them. Orchestrators and Routers may do nothing.

Reads are a ClusterRole; writes a Role in each namespace of `serve.namespaces`, or part of the ClusterRole where those are all. No pods, no exec, no
tokens, no Secret but one by its name, no rights over rights. Roles cannot tell our objects from others; `fence` does.
"""

from typing import Final

from codezero.deploy.manifest import Json, manifest
from codezero.deploy.values import Values
from codezero.wire.serve_resource import GROUP, PLURAL

RBAC: Final = "rbac.authorization.k8s.io"
# Accounts of the namespace of a Teamspace; REPAIR puts everything back while it is uninstalled.
SYSTEM: Final = "system"
ORCHESTRATOR: Final = "orchestrator"
REPAIR: Final = "repair"
# By these names alone they may be read and changed.
LEASE: Final = "codezero-system"
IDENTITY: Final = "codezero-identity"
# Of a Teamspace of a Hub alone: the policy that the Hub pushes, and the join token.
POLICY: Final = "codezero-policy"
JOIN: Final = "codezero-join"


def objects(values: Values, namespace: str) -> list[Json]:
    """The accounts of System and Orchestrator, roles, and who has them."""
    return [
        manifest("v1", "ServiceAccount", SYSTEM, component=SYSTEM, namespace=namespace),
        manifest(
            "v1",
            "ServiceAccount",
            ORCHESTRATOR,
            component=ORCHESTRATOR,
            namespace=namespace,
            automountServiceAccountToken=False,
        ),
        *_granted(SYSTEM, values, namespace, reads=_looks(), writes=_serves()),
        *_roles(SYSTEM, namespace, namespace, [*_at_home(), *(_of_hub() if values.hub.url else ())]),
    ]


def repair(values: Values, namespace: str) -> list[Json]:
    """The account that puts back all that is served, and its rights; there while a Teamspace is uninstalled, and not before."""
    return [
        manifest("v1", "ServiceAccount", REPAIR, component=SYSTEM, namespace=namespace),
        *_granted(REPAIR, values, namespace, reads=_looks_for_residue(), writes=_puts_back()),
    ]


def _looks() -> list[Json]:
    """A catalog shows all Services, and whether they are served."""
    return [
        _rule("", ["services"], ["get", "list", "watch"]),
        _rule(GROUP, [PLURAL], ["get", "list", "watch"]),
        # Nodes for their addresses alone, which no stream may reach.
        _rule("", ["namespaces", "nodes"], ["list", "watch"]),
        _rule("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
        # Whether a Router's token is one.
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    ]


def _serves() -> list[Json]:
    """Where Services may be served."""
    return [
        # Which StatefulSets a headless Service governs; policies that would lock a Router out are listed with those of ours, below.
        _rule("apps", ["statefulsets"], ["list"]),
        # What is served, durably. The finalizer keeps an object until its Service is as it was.
        _rule(GROUP, [PLURAL], ["create", "update", "patch", "delete"]),
        _rule(GROUP, [f"{PLURAL}/status"], ["update"]),
        # The origin Service and the Router's; the selector of a served Service, there and back.
        _rule("", ["services"], ["create", "update", "patch", "delete"]),
        # The Router, and a restart of a served Deployment where somebody asks for one.
        _rule("apps", ["deployments"], ["get", "list", "create", "update", "patch", "delete"]),
        # Who a Router is: its token is all it has to prove itself. No right to make tokens.
        _rule("", ["serviceaccounts"], ["get", "create", "delete"]),
        # The additional allowance for a Router where policies guard the served pods.
        _rule("networking.k8s.io", ["networkpolicies"], ["list", "create", "update", "delete"]),
        # That draining nodes leaves a Router.
        _rule("policy", ["poddisruptionbudgets"], ["get", "create", "update", "delete"]),
        # Which routes it does not follow, told where people look first.
        _rule("", ["events"], ["create"]),
    ]


def _at_home() -> list[Json]:
    """In the namespace of the Teamspace: which replica leads, and the certificates of the parts, which it renews."""
    return [
        # By name where there is a name: one that is made has none yet.
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update"], names=[LEASE]),
        _rule("", ["secrets"], ["get", "patch"], names=[IDENTITY]),
    ]


def _of_hub() -> list[Json]:
    """In the namespace of a Teamspace that has a Hub."""
    return [
        # The token by which it joins, read once and taken out of there.
        _rule("", ["secrets"], ["get", "patch"], names=[JOIN]),
        # What the Hub pushes, kept for the time without it.
        _rule("", ["configmaps"], ["get", "patch"], names=[POLICY]),
        # Why it waits for the Hub.
        _rule("", ["events"], ["create"]),
    ]


def _looks_for_residue() -> list[Json]:
    """Everywhere, by label: also where Services may be served no more."""
    return [
        _rule("", ["services"], ["get", "list"]),
        _rule("", ["serviceaccounts"], ["list"]),
        _rule(GROUP, [PLURAL], ["list"]),
        _rule("apps", ["deployments"], ["list"]),
        _rule("networking.k8s.io", ["networkpolicies"], ["list"]),
        _rule("policy", ["poddisruptionbudgets"], ["list"]),
    ]


def _puts_back() -> list[Json]:
    return [
        _rule("", ["services"], ["patch", "delete"]),
        _rule(GROUP, [PLURAL], ["patch", "delete"]),
        _rule("", ["serviceaccounts"], ["delete"]),
        _rule("apps", ["deployments"], ["delete"]),
        _rule("networking.k8s.io", ["networkpolicies"], ["delete"]),
        _rule("policy", ["poddisruptionbudgets"], ["delete"]),
    ]


def _granted(account: str, values: Values, namespace: str, *, reads: list[Json], writes: list[Json]) -> list[Json]:
    """The reads everywhere, the writes where Services may be served. One ClusterRole, so that a shorter list of namespaces takes rights away at once."""
    everywhere = values.serve.is_everywhere
    version, name = f"{RBAC}/v1", _role_of(account)
    granted = [
        manifest(version, "ClusterRole", name, component=SYSTEM, rules=[*reads, *(writes if everywhere else ())]),
        manifest(
            version,
            "ClusterRoleBinding",
            name,
            component=SYSTEM,
            roleRef=_reference("ClusterRole", name),
            subjects=_subjects(account, namespace),
        ),
    ]
    # Of its own namespace nothing is served.
    for where in () if everywhere else (one for one in values.serve.namespaces if one != namespace):
        granted += _roles(account, where, namespace, writes)
    return granted


def _roles(account: str, where: str, namespace: str, rules: list[Json]) -> list[Json]:
    """A Role in the namespace `where` for an account of ours."""
    version, name = f"{RBAC}/v1", _role_of(account)
    return [
        manifest(version, "Role", name, component=SYSTEM, namespace=where, rules=rules),
        manifest(
            version,
            "RoleBinding",
            name,
            component=SYSTEM,
            namespace=where,
            roleRef=_reference("Role", name),
            subjects=_subjects(account, namespace),
        ),
    ]


def _role_of(account: str) -> str:
    return f"codezero-{account}"


def _reference(kind: str, name: str) -> Json:
    return {"apiGroup": RBAC, "kind": kind, "name": name}


def _subjects(account: str, namespace: str) -> list[Json]:
    return [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]


def _rule(group: str, resources: list[str], verbs: list[str], *, names: list[str] | None = None) -> Json:
    rule: Json = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return rule if names is None else {**rule, "resourceNames": names}
