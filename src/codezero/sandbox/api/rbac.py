"""Who may do what: role-based access control over the Role and Binding objects in the store."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from codezero.sandbox.api.documents import JsonObject, as_list, as_object, as_objects, at
from codezero.sandbox.api.store import Store

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
_RBAC = "rbac.authorization.k8s.io"
_EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: frozenset[str] = frozenset()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def is_master(self) -> bool:
        """Whether no rule restricts this user."""
        return MASTERS in self.groups

    @property
    def service_account(self) -> tuple[str, str] | None:
        """Namespace and name where the user is a ServiceAccount."""
        parts = self.name.split(":")
        return (parts[2], parts[3]) if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] else None


@dataclass(frozen=True, slots=True)
class Action:
    """What is asked for: a verb on objects, or (with `path`) on something else the server has."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f'cannot {self.verb} path "{self.path}"'
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return f'cannot {self.verb} resource "{resource}" in API group "{self.group}" {where}'


def is_allowed(store: Store, user: User, action: Action) -> bool:
    """Whether a binding gives `user` a role that allows `action`."""
    return user.is_master or any(_allows(rule, action) for rule in rules_for(store, user, action.namespace))


def rules_for(store: Store, user: User, namespace: str) -> Iterator[JsonObject]:
    """The rules that hold for `user` in `namespace` (empty: in the whole cluster)."""
    for binding in store.storage.each(f"clusterrolebindings.{_RBAC}"):
        if _is_bound(binding.content, user):
            yield from _rules(store, binding.content, "")
    if namespace:
        for binding in store.storage.each(f"rolebindings.{_RBAC}", namespace):
            if _is_bound(binding.content, user):
                yield from _rules(store, binding.content, namespace)


def _is_bound(binding: JsonObject, user: User) -> bool:
    return any(_is_subject(subject, user) for subject in as_objects(binding.get("subjects")))


def _is_subject(subject: JsonObject, user: User) -> bool:
    match subject.get("kind"):
        case "User":
            return subject.get("name") == user.name
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            return (subject.get("namespace"), subject.get("name")) == user.service_account
        case _:
            return False


def _rules(store: Store, binding: JsonObject, namespace: str) -> Iterator[JsonObject]:
    kind, name = at(binding, "roleRef", "kind"), str(at(binding, "roleRef", "name"))
    if kind == "ClusterRole":
        role = store.find(f"clusterroles.{_RBAC}", "", name)
    else:
        role = store.find(f"roles.{_RBAC}", namespace, name)
    yield from as_objects(role.content.get("rules")) if role is not None else ()


def _allows(rule: JsonObject, action: Action) -> bool:
    if not _covers(rule, "verbs", action.verb):
        return False
    if action.path:
        return any(_is_under(action.path, str(url)) for url in as_list(rule.get("nonResourceURLs")))
    resource = f"{action.resource}/{action.subresource}" if action.subresource else action.resource
    names = as_list(rule.get("resourceNames"))
    return (
        _covers(rule, "apiGroups", action.group)
        and (_covers(rule, "resources", resource) or f"*/{action.subresource}" in as_list(rule.get("resources")))
        and (not names or action.name in names)
    )


def _covers(rule: JsonObject, field_name: str, value: str) -> bool:
    listed = as_list(rule.get(field_name))
    return value in listed or _EVERYTHING in listed


def _is_under(path: str, url: str) -> bool:
    return path == url or (url.endswith("*") and path.startswith(url[:-1]))


_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_PUBLIC_PATHS = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
]
_WORKLOAD_GROUPS = ["", "apps", "discovery.k8s.io", "networking.k8s.io", "policy"]


def _role(name: str, *rules: JsonObject) -> JsonObject:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "rules": list(rules),
    }


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> JsonObject:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def install_defaults(store: Store) -> None:
    """The roles and bindings every cluster begins with."""
    roles = (
        _role("cluster-admin", _rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}),
        _role("admin", _rule([*_WORKLOAD_GROUPS, _RBAC], ["*"], [*_READ, *_WRITE])),
        _role("edit", _rule(_WORKLOAD_GROUPS, ["*"], [*_READ, *_WRITE])),
        _role("view", _rule(_WORKLOAD_GROUPS, _viewable(), _READ)),
        _role("system:discovery", {"nonResourceURLs": _PUBLIC_PATHS, "verbs": ["get"]}),
        _role(
            "system:basic-user",
            _rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
            _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
        ),
        _role(
            "system:auth-delegator",
            _rule(["authentication.k8s.io"], ["tokenreviews"], ["create"]),
            _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
        ),
    )
    for role in roles:
        store.create(f"clusterroles.{_RBAC}", "", role)
    for name, group in (
        ("cluster-admin", MASTERS),
        ("system:discovery", AUTHENTICATED),
        ("system:basic-user", AUTHENTICATED),
    ):
        store.create(
            f"clusterrolebindings.{_RBAC}",
            "",
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group}],
            },
        )


def _viewable() -> list[str]:
    """All that "view" shows: everything but Secrets."""
    return [
        "configmaps", "daemonsets", "deployments", "endpoints", "endpointslices", "events", "ingresses", "namespaces", "networkpolicies",
        "poddisruptionbudgets", "pods", "pods/log", "replicasets", "serviceaccounts", "services", "statefulsets",
    ]  # fmt: skip


def rules_status(store: Store, user: User, namespace: str) -> JsonObject:
    """The status of a `SelfSubjectRulesReview`."""
    everything: JsonObject = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "nonResourceURLs": ["*"]}
    rules = [everything] if user.is_master else [as_object(rule) for rule in rules_for(store, user, namespace)]
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [
            {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
            for rule in rules
            if rule.get("nonResourceURLs")
        ],
        "incomplete": False,
    }
