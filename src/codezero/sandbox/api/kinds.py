"""The resource types the API serves: names, scope, subresources, and how they show in tables. Custom resources add theirs while running."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from codezero.sandbox.api.documents import JsonObject, JsonValue

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: what it says of an object. `wide` ones show with `-o wide` only."""

    name: str
    value: Callable[[JsonObject], JsonValue]
    type: str = "string"
    wide: bool = False
    format: str = ""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of objects under one API version.

    `schema` names the definition its objects follow; None for custom resources, which bring `structure` (an OpenAPI v3 schema) instead.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    has_generation: bool = False
    fields: tuple[str, ...] = ()
    schema: str | None = None
    structure: JsonObject = field(default_factory=dict[str, JsonValue])
    columns: tuple[Column, ...] | None = None
    singular: str = ""
    stored_version: str = ""
    scale_paths: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """The name under which objects are stored, the same for all versions: `deployments.apps`, `services`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """`apps/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def is_custom(self) -> bool:
        """Whether a CustomResourceDefinition declares it."""
        return self.schema is None

    @property
    def selectable(self) -> frozenset[str]:
        """The fields a field selector may name."""
        return frozenset(("metadata.name", *(("metadata.namespace",) if self.namespaced else ()), *self.fields))


_STATUS = frozenset({"status"})
_SCALED = frozenset({"status", "scale"})
_ALL = ("all",)
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_EVENT_FIELDS = (
    *(
        f"involvedObject.{name}"
        for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    ),
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
)

BUILT_IN: tuple[ResourceType, ...] = (
    ResourceType("", "v1", "namespaces", "Namespace", False, ("ns",), (), _STATUS, False, ("status.phase",), "core_v1.Namespace"),
    ResourceType("", "v1", "nodes", "Node", False, ("no",), (), _STATUS, False, ("spec.unschedulable",), "core_v1.Node"),
    ResourceType("", "v1", "services", "Service", True, ("svc",), _ALL, _STATUS, False, ("spec.clusterIP", "spec.type"), "core_v1.Service"),
    ResourceType("", "v1", "endpoints", "Endpoints", True, ("ep",), schema="core_v1.Endpoints", singular="endpoints"),
    ResourceType(
        "", "v1", "pods", "Pod", True, ("po",), _ALL, frozenset({"status", "log"}), True, _POD_FIELDS, "core_v1.Pod"
    ),
    ResourceType("", "v1", "configmaps", "ConfigMap", True, ("cm",), schema="core_v1.ConfigMap"),
    ResourceType("", "v1", "secrets", "Secret", True, fields=("type",), schema="core_v1.Secret"),
    ResourceType(
        "", "v1", "serviceaccounts", "ServiceAccount", True, ("sa",), subresources=frozenset({"token"}), schema="core_v1.ServiceAccount"
    ),
    ResourceType("", "v1", "events", "Event", True, ("ev",), fields=_EVENT_FIELDS, schema="core_v1.Event"),
    ResourceType(
        "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", has_generation=True, schema="discovery_v1.EndpointSlice"
    ),
    ResourceType("apps", "v1", "deployments", "Deployment", True, ("deploy",), _ALL, _SCALED, True, (), "apps_v1.Deployment"),
    ResourceType(
        "apps", "v1", "replicasets", "ReplicaSet", True, ("rs",), _ALL, _SCALED, True, ("status.replicas",), "apps_v1.ReplicaSet"
    ),
    ResourceType("apps", "v1", "statefulsets", "StatefulSet", True, ("sts",), _ALL, _SCALED, True, (), "apps_v1.StatefulSet"),
    ResourceType("apps", "v1", "daemonsets", "DaemonSet", True, ("ds",), _ALL, _STATUS, True, (), "apps_v1.DaemonSet"),
    ResourceType(
        "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, ("netpol",), (), frozenset(), True, (),
        "networking_v1.NetworkPolicy", singular="networkpolicy",
    ),
    ResourceType(
        "networking.k8s.io", "v1", "ingresses", "Ingress", True, ("ing",), (), _STATUS, True, (), "networking_v1.Ingress",
        singular="ingress",
    ),
    ResourceType(_RBAC, "v1", "clusterroles", "ClusterRole", False, schema="rbac_v1.ClusterRole"),
    ResourceType(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False, schema="rbac_v1.ClusterRoleBinding"),
    ResourceType(_RBAC, "v1", "roles", "Role", schema="rbac_v1.Role"),
    ResourceType(_RBAC, "v1", "rolebindings", "RoleBinding", schema="rbac_v1.RoleBinding"),
    ResourceType("coordination.k8s.io", "v1", "leases", "Lease", schema="coordination_v1.Lease"),
    ResourceType(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False, ("crd", "crds"),
        ("api-extensions",), _STATUS, True, (), "apiextensions_v1.CustomResourceDefinition",
    ),
    ResourceType(
        "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", True, ("pdb",), (), _STATUS, True, (),
        "policy_v1.PodDisruptionBudget",
    ),
    ResourceType(
        _ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False, (), ("api-extensions",), _STATUS, True, (),
        "admissionregistration_v1.ValidatingAdmissionPolicy", singular="validatingadmissionpolicy",
    ),
    ResourceType(
        _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False, (), ("api-extensions",),
        frozenset(), True, (), "admissionregistration_v1.ValidatingAdmissionPolicyBinding",
    ),
)  # fmt: skip


class TypeTable:
    """The resource types served at the moment; custom ones come and go."""

    def __init__(self, types: Iterable[ResourceType] = BUILT_IN) -> None:
        self._by_path: dict[tuple[str, str, str], ResourceType] = {}
        self._by_key: dict[str, ResourceType] = {}
        self._by_kind: dict[tuple[str, str], ResourceType] = {}
        self.revision = 0
        for resource in types:
            self.add(resource)

    def add(self, resource: ResourceType) -> None:
        """Serve `resource` from now on."""
        self._by_path[resource.group, resource.version, resource.plural] = resource
        self._by_kind[resource.api_version, resource.kind] = resource
        if resource.key not in self._by_key or resource.version == resource.stored_version:
            self._by_key[resource.key] = resource
        self.revision += 1

    def remove(self, key: str) -> None:
        """Stop serving all versions of `key`."""
        for resource in [found for found in self._by_path.values() if found.key == key]:
            del self._by_path[resource.group, resource.version, resource.plural]
            self._by_kind.pop((resource.api_version, resource.kind), None)
        self._by_key.pop(key, None)
        self.revision += 1

    def at_path(self, group: str, version: str, plural: str) -> ResourceType | None:
        """The type served at /apis/`group`/`version`/…/`plural`."""
        return self._by_path.get((group, version, plural))

    def named(self, key: str) -> ResourceType | None:
        """The type with storage name `key`."""
        return self._by_key.get(key)

    def of_kind(self, api_version: str, kind: str) -> ResourceType | None:
        """The type whose objects say `apiVersion` and `kind`."""
        return self._by_kind.get((api_version, kind))

    def all(self) -> list[ResourceType]:
        """Every type in every served version."""
        return list(self._by_path.values())

    def stored(self) -> list[ResourceType]:
        """Every type once."""
        return list(self._by_key.values())
