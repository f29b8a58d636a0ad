"""CustomResourceDefinitions: their rules and defaults, and the resource types they declare."""

import re
from collections.abc import Iterator

from codezero.sandbox.api import jsonpaths, metadata, schemas, structure
from codezero.sandbox.api.documents import (
    JsonObject,
    JsonValue,
    as_list,
    as_object,
    as_objects,
    at,
    copy,
    is_object,
    put,
)
from codezero.sandbox.api.errors import Cause
from codezero.sandbox.api.kinds import Column, ResourceType

KEY = "customresourcedefinitions.apiextensions.k8s.io"
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"

_REQUIRED = "FieldValueRequired"
_VERSION = re.compile(r"v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?")


def set_defaults(content: JsonObject) -> None:
    """Fill in what a definition leaves out."""
    spec = content.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if "kind" in names:
        names.setdefault("singular", str(names["kind"]).lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    for version in as_objects(spec.get("versions")):
        for column in as_objects(version.get("additionalPrinterColumns")):
            column.setdefault("type", "string")


def check(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    """What is wrong with a definition."""
    spec = as_object(content.get("spec"))
    names, versions = as_object(spec.get("names")), as_objects(spec.get("versions"))
    found: list[Cause] = []
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if at(content, "metadata", "name") != wanted:
        found.append(Cause("metadata.name", f'Invalid value: must be spec.names.plural+"."+spec.group: {wanted}'))
    if problem := metadata.subdomain(str(spec.get("group", ""))):
        found.append(Cause("spec.group", f'Invalid value: "{spec.get("group")}": {problem}'))
    if "." not in str(spec.get("group", "")):
        found.append(
            Cause("spec.group", f'Invalid value: "{spec.get("group")}": should be a domain with at least one dot')
        )
    if problem := metadata.label_1035(str(names.get("plural", ""))):
        found.append(Cause("spec.names.plural", f'Invalid value: "{names.get("plural")}": {problem}'))
    if spec.get("scope") not in {"Namespaced", "Cluster"}:
        found.append(
            Cause(
                "spec.scope",
                f'Unsupported value: "{spec.get("scope")}": supported values: "Cluster", "Namespaced"',
                "FieldValueNotSupported",
            )
        )
    if sum(version.get("storage") is True for version in versions) != 1:
        found.append(Cause("spec.versions", "Invalid value: must have exactly one version marked as storage version"))
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        if not _VERSION.fullmatch(str(version.get("name", ""))):
            found.append(
                Cause(f"{path}.name", f'Invalid value: "{version.get("name")}": must match {_VERSION.pattern}')
            )
        found += _schema_causes(at(version, "schema", "openAPIV3Schema"), f"{path}.schema.openAPIV3Schema")
        if at(version, "schema", "openAPIV3Schema", "type") != "object":
            found.append(
                Cause(f"{path}.schema.openAPIV3Schema.type", 'Invalid value: must be "object" at the root', _REQUIRED)
            )
    if before is not None:
        found += [
            Cause(f"spec.{field}", f'Invalid value: "{spec.get(field)}": field is immutable')
            for field in ("group", "scope")
            if spec.get(field) != at(before, "spec", field)
        ]
        if names.get("plural") != at(before, "spec", "names", "plural"):
            found.append(Cause("spec.names.plural", f'Invalid value: "{names.get("plural")}": field is immutable'))
    return found


def _schema_causes(schema: JsonValue, path: str) -> Iterator[Cause]:
    """What is wrong with a schema, also far below: whoever reads it later may trust its shape."""
    if not is_object(schema):
        yield Cause(path, "Invalid value: a schema must be an object")
        return
    for cause in structure.conform(
        copy(schema), schemas.definition("apiextensions_v1.JSONSchemaProps"), root=False
    ).causes:
        yield Cause(f"{path}.{cause.field}", cause.message, cause.reason)
    for name in ("properties", "patternProperties", "definitions"):
        for key, below in as_object(schema.get(name)).items():
            yield from _schema_causes(below, f"{path}.{name}[{key}]")
    for name in ("items", "additionalProperties"):
        if name in schema and not isinstance(schema[name], bool):
            yield from _schema_causes(schema[name], f"{path}.{name}")
    for name in ("allOf", "anyOf", "oneOf"):
        for index, below in enumerate(as_list(schema.get(name))):
            yield from _schema_causes(below, f"{path}.{name}[{index}]")
    if "not" in schema:
        yield from _schema_causes(schema["not"], f"{path}.not")
    if "$ref" in schema:
        yield Cause(f"{path}.$ref", "Forbidden: $ref is not supported", "FieldValueForbidden")


def resource_types(definition: JsonObject) -> list[ResourceType]:
    """The types a definition declares, one for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
    return [
        ResourceType(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(as_list(names.get("shortNames"))),
            categories=tuple(as_list(names.get("categories"))),
            subresources=frozenset(as_object(version.get("subresources"))) & {"status", "scale"},
            has_generation=True,
            fields=tuple(
                str(field.get("jsonPath", "")).removeprefix(".")
                for field in as_objects(version.get("selectableFields"))
            ),
            structure=as_object(at(version, "schema", "openAPIV3Schema")),
            columns=_columns(version),
            singular=names["singular"],
            stored_version=stored,
            scale_paths={
                name: path
                for name, path in as_object(at(version, "subresources", "scale")).items()
                if isinstance(path, str)
            },
        )
        for version in spec["versions"]
        if version.get("served", True)
    ]


def _columns(version: JsonObject) -> tuple[Column, ...] | None:
    declared = as_objects(version.get("additionalPrinterColumns"))
    if not declared:
        return None
    return tuple(
        Column(
            str(column["name"]),
            lambda content, path=str(column["jsonPath"]): jsonpaths.find(content, path),
            type=str(column["type"]),
            wide=int(column.get("priority", 0)) > 0,
            format=str(column.get("format", "")),
        )
        for column in declared
    )


def accept(definition: JsonObject, now: str) -> None:
    """Write the status of a definition whose names are accepted, in place."""
    names = dict(definition["spec"]["names"])
    stored = next(version["name"] for version in definition["spec"]["versions"] if version.get("storage"))
    before = as_list(at(definition, "status", "storedVersions"))
    put(definition, names, "status", "acceptedNames")
    put(definition, before if stored in before else [*before, stored], "status", "storedVersions")
    if not at(definition, "status", "conditions"):
        conditions = [
            {
                "type": "NamesAccepted",
                "status": "True",
                "reason": "NoConflicts",
                "message": "no conflicts found",
                "lastTransitionTime": now,
            },
            {
                "type": "Established",
                "status": "True",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted",
                "lastTransitionTime": now,
            },
        ]
        put(definition, conditions, "status", "conditions")
