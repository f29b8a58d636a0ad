"""OpenAPI v3 definitions of the built-in kinds, made from the types of the Kubernetes models package that the System uses too.

The models know names, types and texts. What they do not know, how lists and maps merge, stands in a table here (source: the Kubernetes API
reference, "patch strategy" and "list map keys").
"""

import datetime
import functools
import inspect
import re
import types
import typing

import msgspec
from lightkube.models import (
    admissionregistration_v1,
    apiextensions_v1,
    apps_v1,
    authentication_v1,
    authorization_v1,
    autoscaling_v1,
    coordination_v1,
    core_v1,
    discovery_v1,
    meta_v1,
    networking_v1,
    policy_v1,
    rbac_v1,
)

from codezero.sandbox.api.documents import JsonObject, JsonValue

_MODELS = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        admissionregistration_v1, apiextensions_v1, apps_v1, authentication_v1, authorization_v1, autoscaling_v1, coordination_v1, core_v1,
        discovery_v1, meta_v1, networking_v1, policy_v1, rbac_v1,
    )
}  # fmt: skip
_PACKAGES = {
    "core_v1": "io.k8s.api.core.v1",
    "apps_v1": "io.k8s.api.apps.v1",
    "autoscaling_v1": "io.k8s.api.autoscaling.v1",
    "authentication_v1": "io.k8s.api.authentication.v1",
    "authorization_v1": "io.k8s.api.authorization.v1",
    "coordination_v1": "io.k8s.api.coordination.v1",
    "discovery_v1": "io.k8s.api.discovery.v1",
    "networking_v1": "io.k8s.api.networking.v1",
    "policy_v1": "io.k8s.api.policy.v1",
    "rbac_v1": "io.k8s.api.rbac.v1",
    "admissionregistration_v1": "io.k8s.api.admissionregistration.v1",
    "apiextensions_v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    "meta_v1": "io.k8s.apimachinery.pkg.apis.meta.v1",
    "resource": "io.k8s.apimachinery.pkg.api.resource",
    "util_intstr": "io.k8s.apimachinery.pkg.util.intstr",
}
_GROUPS = {"rbac": "rbac.authorization.k8s.io", "core": "", "meta": ""} | {
    name: f"{name}.k8s.io"
    for name in (
        *("admissionregistration", "apiextensions", "authentication", "authorization", "coordination", "discovery"),
        "networking",
    )
}

# Model.field -> keys of a list whose items merge by name; "" stands for a list of values that is a set.
_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "PodSpec.containers": ("name",),
    "PodSpec.initContainers": ("name",),
    "PodSpec.ephemeralContainers": ("name",),
    "PodSpec.volumes": ("name",),
    "PodSpec.imagePullSecrets": ("name",),
    "PodSpec.hostAliases": ("ip",),
    "PodSpec.schedulingGates": ("name",),
    "PodSpec.resourceClaims": ("name",),
    "PodSpec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "PodStatus.podIPs": ("ip",),
    "Container.env": ("name",),
    "Container.ports": ("containerPort", "protocol"),
    "Container.volumeMounts": ("mountPath",),
    "Container.volumeDevices": ("devicePath",),
    "ServiceSpec.ports": ("port", "protocol"),
    "ServiceAccount.secrets": ("name",),
    "ServiceAccount.imagePullSecrets": ("name",),
    "NodeStatus.addresses": ("type",),
    "NodeSpec.podCIDRs": ("",),
    "ObjectMeta.ownerReferences": ("uid",),
    "ObjectMeta.finalizers": ("",),
    "CustomResourceDefinitionNames.shortNames": (),
    "ValidatingAdmissionPolicySpec.variables": ("name",),
    "ValidatingAdmissionPolicySpec.matchConditions": ("name",),
    "ValidatingAdmissionPolicyBindingSpec.validationActions": ("",),
}
# Maps that are one value: apply replaces them whole.
_ATOMIC_MAPS = frozenset(
    {
        "ServiceSpec.selector", "PodSpec.nodeSelector", "LabelSelector", "ObjectReference", "LocalObjectReference", "ConfigMapKeySelector",
        "SecretKeySelector", "ObjectFieldSelector", "ResourceFieldSelector", "NodeSelector", "NodeSelectorTerm", "TypedLocalObjectReference",
        "SecretReference", "RoleRef", "ScopeSelector", "ParamKind", "ParamRef",
    }
)  # fmt: skip
_RETAIN_KEYS = frozenset({"PodSpec.volumes", "DeploymentSpec.strategy"})
# The models say only "dict" of these.
_STRING_MAPS = frozenset(
    {"labels", "annotations", "matchLabels", "nodeSelector", "data", "stringData", "binaryData", "deprecatedTopology"}
)
_QUANTITY_MAPS = frozenset(
    {"limits", "requests", "capacity", "allocatable", "overhead", "hard", "used", "allocatedResources"}
)
_ANYTHING: JsonObject = {"x-kubernetes-preserve-unknown-fields": True}
# Definitions that are no objects; the models have them as plain unions.
_SCALARS: dict[str, JsonObject] = {
    "util_intstr.IntOrString": {
        "description": "A number, or a string that stands for one.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
    },
    "resource.Quantity": {
        "description": "An amount: a number, with a suffix such as m, k, Mi.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
        "x-codezero-quantity": True,
    },
}
_INT_OR_STRING: JsonObject = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.util.intstr.IntOrString"}
_QUANTITY: JsonObject = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}


def full_name(model: str) -> str:
    """`io.k8s.api.core.v1.Pod` of `core_v1.Pod`."""
    module, _, name = model.partition(".")
    return f"{_PACKAGES[module]}.{name}"


@functools.cache
def definition(model: str) -> JsonObject:
    """The schema of a model such as `core_v1.Pod`, as OpenAPI v3; others are referred to by `$ref` (see `resolve`)."""
    if model in _SCALARS:
        return _SCALARS[model]
    module, _, name = model.partition(".")
    struct = getattr(_MODELS[module], name)
    texts = _texts(inspect.getdoc(struct) or "")
    properties: JsonObject = {}
    required: list[str] = []
    for field in msgspec.structs.fields(struct):
        annotation = str(struct.__annotations__.get(field.name, ""))
        schema = _field_schema(name, field.encode_name, field.type, annotation)
        if text := texts.get(field.name):
            # Siblings of $ref are ignored by readers; OpenAPI v3 of Kubernetes wraps it the same way.
            schema = {"allOf": [schema]} if "$ref" in schema else schema
            schema = schema | {"description": text}
        properties[field.encode_name] = schema
        if field.required:
            required.append(field.encode_name)
    result: JsonObject = {"type": "object", "description": texts.get("", ""), "properties": properties}
    if required:
        result["required"] = required
    if name in _ATOMIC_MAPS:
        result["x-kubernetes-map-type"] = "atomic"
    if "kind" in properties and "apiVersion" in properties and "metadata" in properties:
        result["x-kubernetes-group-version-kind"] = [_group_version_kind(module, name)]
    return result


def _group_version_kind(module: str, kind: str) -> JsonObject:
    group, _, version = module.partition("_")
    return {"group": _GROUPS.get(group, group), "version": version, "kind": kind}


def resolve(schema: JsonObject) -> JsonObject:
    """`schema` with a `$ref` (also inside a lone `allOf`) replaced by what it refers to."""
    wrapped: JsonValue = schema.get("allOf")
    if wrapped and len(wrapped) == 1:
        schema = wrapped[0]
    reference: str | None = schema.get("$ref")
    if reference is None:
        return schema
    return definition(_model_of(reference))


def _model_of(reference: str) -> str:
    package, _, name = reference.removeprefix("#/components/schemas/").rpartition(".")
    return f"{_BY_PACKAGE[package]}.{name}"


_BY_PACKAGE = {package: module for module, package in _PACKAGES.items()}


def _field_schema(model: str, name: str, kind: object, annotation: str) -> JsonObject:
    if "Quantity" in annotation:
        return _QUANTITY
    if name == "fieldsV1":
        return _ANYTHING | {"type": "object"}
    where = f"{model}.{name}".replace("EphemeralContainer.", "Container.")
    schema = _type_schema(kind, name)
    if schema.get("type") == "array":
        schema = schema | _list_rules(where)
    elif where in _ATOMIC_MAPS:
        schema = schema | {"x-kubernetes-map-type": "atomic"}
    elif where in _RETAIN_KEYS:
        schema = schema | {"x-kubernetes-patch-strategy": "retainKeys"}
    return schema


def _list_rules(where: str) -> JsonObject:
    keys = _LIST_KEYS.get(where)
    if keys is None and where.endswith("Status.conditions"):
        keys = ("type",)
    if not keys:
        return {"x-kubernetes-list-type": "atomic"}
    strategy = "merge,retainKeys" if where in _RETAIN_KEYS else "merge"
    if keys == ("",):
        return {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": strategy}
    return {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        "x-kubernetes-patch-merge-key": keys[0],
        "x-kubernetes-patch-strategy": strategy,
    }


def _type_schema(kind: object, name: str) -> JsonObject:
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return _type_schema(options[0], name) if len(options) == 1 else _INT_OR_STRING
    if origin is list:
        return {"type": "array", "items": _type_schema(typing.get_args(kind)[0], "")}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        module = kind.__module__.rpartition(".")[2]
        return {"$ref": "#/components/schemas/" + full_name(f"{module}.{kind.__name__}")}
    if kind is dict or origin is dict or kind is typing.Dict:  # noqa: UP006 - the models use the old alias
        return _map_schema(name)
    return _SIMPLE.get(typing.cast("object", kind), _ANYTHING)


_SIMPLE: dict[object, JsonObject] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    datetime.datetime: {"type": "string", "format": "date-time"},
}


def _map_schema(name: str) -> JsonObject:
    if name in _STRING_MAPS:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if name == "selector":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if name in _QUANTITY_MAPS:
        return {"type": "object", "additionalProperties": _QUANTITY}
    return {"type": "object", **_ANYTHING}


def _texts(documentation: str) -> dict[str, str]:
    """Field texts of a model's docstring; "" is the text of the model itself."""
    head, _, parameters = documentation.partition("**parameters**")
    texts = {"": " ".join(head.split())}
    for entry in re.split(r"^\s*\* \*\*", parameters, flags=re.MULTILINE)[1:]:
        name, _, rest = entry.partition("**")
        _, _, text = rest.partition(" - ")
        texts[name] = " ".join(text.split())
    return texts
