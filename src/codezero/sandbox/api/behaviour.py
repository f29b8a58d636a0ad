"""What differs between kinds when their objects are written: defaults, rules, names."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from codezero.sandbox.api import custom, metadata, services, workloads
from codezero.sandbox.api.documents import JsonObject, as_object, as_objects, at
from codezero.sandbox.api.errors import Cause
from codezero.sandbox.api.kinds import ResourceType
from codezero.sandbox.api.metadata import NameRule

_DATA_LIMIT = 1024 * 1024


def _no_defaults(_content: JsonObject) -> None:
    pass


def _no_rules(_content: JsonObject, _before: JsonObject | None) -> list[Cause]:
    return []


def _nothing_to_carry(_content: JsonObject, _before: JsonObject) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How objects of a kind are completed (in place) and judged (against what they were, when updated).

    `carry_over` comes first in an update and settles what follows from the object before.
    """

    set_defaults: Callable[[JsonObject], None] = _no_defaults
    check: Callable[[JsonObject, JsonObject | None], list[Cause]] = _no_rules
    name_rule: NameRule = metadata.subdomain
    carry_over: Callable[[JsonObject, JsonObject], None] = _nothing_to_carry


def of(resource: ResourceType) -> Behaviour:
    """The behaviour of a type's objects."""
    return _BY_KEY.get(resource.key, _PLAIN)


def _set_namespace_defaults(content: JsonObject) -> None:
    content["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = content["metadata"].get("name", "")
    content.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    content.setdefault("status", {}).setdefault("phase", "Active")


def _check_config_map(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    return _data_causes(content) + _immutable_causes(content, before, ("data", "binaryData"))


def _set_secret_defaults(content: JsonObject) -> None:
    content.setdefault("type", "Opaque")
    for key, text in as_object(content.pop("stringData", None)).items():
        content.setdefault("data", {})[key] = base64.b64encode(str(text).encode()).decode()


def _check_secret(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    found = _data_causes(content) + _immutable_causes(content, before, ("data",))
    if before is not None and content.get("type") != before.get("type"):
        found.append(Cause("type", f'Invalid value: "{content.get("type")}": field is immutable'))
    for key, text in as_object(content.get("data")).items():
        try:
            base64.b64decode(str(text), validate=True)
        except (binascii.Error, ValueError):
            found.append(Cause(f"data[{key}]", "Invalid value: illegal base64 data"))
    return found


def _data_causes(content: JsonObject) -> list[Cause]:
    data = as_object(content.get("data")) | as_object(content.get("binaryData"))
    found = [
        Cause(
            f"data[{key}]",
            f"Invalid value: \"{key}\": a valid config key consists of alphanumeric characters, '-', '_' or '.'",
        )
        for key in data
        if len(key) > 253
        or key in {"", ".", ".."}
        or not key.replace("-", "").replace("_", "").replace(".", "a").isalnum()
    ]
    if sum(len(str(value)) for value in data.values()) > _DATA_LIMIT:
        found.append(Cause("data", f"Too long: may not be more than {_DATA_LIMIT} bytes", "FieldValueTooLong"))
    return found


def _immutable_causes(content: JsonObject, before: JsonObject | None, fields: tuple[str, ...]) -> list[Cause]:
    if before is None or not before.get("immutable"):
        return []
    return [
        Cause(field, "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")
        for field in ("immutable", *fields)
        if content.get(field) != before.get(field)
    ]


def _set_binding_defaults(content: JsonObject) -> None:
    for subject in as_objects(content.get("subjects")):
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
    if "roleRef" in content:
        content["roleRef"].setdefault("apiGroup", "rbac.authorization.k8s.io")


def _check_binding(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    if before is not None and content.get("roleRef") != before.get("roleRef"):
        return [Cause("roleRef", "Invalid value: cannot change roleRef")]
    kind = at(content, "roleRef", "kind")
    if kind not in {"Role", "ClusterRole"}:
        message = f'Unsupported value: "{kind}": supported values: "ClusterRole", "Role"'
        return [Cause("roleRef.kind", message, "FieldValueNotSupported")]
    return []


def _set_event_defaults(content: JsonObject) -> None:
    content.setdefault("type", "Normal")


def _set_policy_defaults(content: JsonObject) -> None:
    spec = content.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    spec.setdefault("policyTypes", ["Ingress", "Egress"] if "egress" in spec else ["Ingress"])
    for rule in (*as_objects(spec.get("ingress")), *as_objects(spec.get("egress"))):
        for port in as_objects(rule.get("ports")):
            port.setdefault("protocol", "TCP")


_PLAIN = Behaviour()
_BINDING = Behaviour(_set_binding_defaults, _check_binding, metadata.path_segment)
_ROLE = Behaviour(name_rule=metadata.path_segment)
_BY_KEY = {
    "services": Behaviour(
        services.set_service_defaults, services.check_service, metadata.label_1035, services.carry_service_over
    ),
    "endpoints": Behaviour(services.set_endpoints_defaults, services.check_endpoints),
    "endpointslices.discovery.k8s.io": Behaviour(services.set_slice_defaults, services.check_slice),
    "namespaces": Behaviour(_set_namespace_defaults, name_rule=metadata.label_1123),
    "pods": Behaviour(workloads.set_pod_defaults, workloads.check_pod),
    "deployments.apps": Behaviour(workloads.set_deployment_defaults, workloads.check_workload),
    "replicasets.apps": Behaviour(workloads.set_replica_set_defaults, workloads.check_workload),
    "statefulsets.apps": Behaviour(workloads.set_stateful_set_defaults, workloads.check_workload),
    "daemonsets.apps": Behaviour(workloads.set_daemon_set_defaults, workloads.check_workload),
    "configmaps": Behaviour(check=_check_config_map),
    "secrets": Behaviour(_set_secret_defaults, _check_secret),
    "events": Behaviour(_set_event_defaults),
    "networkpolicies.networking.k8s.io": Behaviour(_set_policy_defaults),
    "clusterroles.rbac.authorization.k8s.io": _ROLE,
    "roles.rbac.authorization.k8s.io": _ROLE,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    custom.KEY: Behaviour(custom.set_defaults, custom.check),
}
