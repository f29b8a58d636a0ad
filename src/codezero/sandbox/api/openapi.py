"""OpenAPI v3 documents, one for each group and version: what `kubectl explain`, `apply` and server-side validation need."""

import hashlib
from collections.abc import Iterable, Iterator

from codezero.sandbox.api import schemas
from codezero.sandbox.api.documents import JsonObject, JsonValue, encode, is_list, is_object
from codezero.sandbox.api.kinds import ResourceType, TypeTable

_PREFIX = "#/components/schemas/"
_QUERIES = {
    "post": ("dryRun", "fieldManager", "fieldValidation"),
    "put": ("dryRun", "fieldManager", "fieldValidation"),
    "patch": ("dryRun", "fieldManager", "fieldValidation", "force"),
    "delete": ("dryRun", "gracePeriodSeconds", "propagationPolicy"),
    "get": (),
}
_COLLECTION = ("get", "post", "delete")
_ITEM = ("get", "put", "patch", "delete")


V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# The empty document of version 2 (gnostic's Document: 1 swagger, 2 info with 1 title and 2 version, 8 paths). Clients ask for it where a kind is in
# no document of version 3, and then find out that the server does not know the kind.
V2_EMPTY = b"\x0a\x032.0\x12\x0f\x0a\x0aKubernetes\x12\x01-B\x00"


class OpenApi:
    """The documents of the types in a table; made when asked for and kept until the types change."""

    def __init__(self, types: TypeTable) -> None:
        self._types = types
        self._revision = -1
        self._documents: dict[str, bytes] = {}

    def index(self) -> JsonObject:
        """The answer at /openapi/v3: where each document is, with a hash that changes when it does."""
        return {
            "paths": {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._digest(path)}"} for path in self._paths()
            }
        }

    def document(self, path: str) -> bytes | None:
        """The document of `api/v1` or `apis/<group>/<version>`."""
        if path not in self._paths():
            return None
        if path not in self._documents:
            kinds = [kind for kind in self._types.all() if _path_of(kind) == path]
            self._documents[path] = encode(_document(kinds))
        return self._documents[path]

    def _digest(self, path: str) -> str:
        return hashlib.sha256(self.document(path) or b"").hexdigest()[:32].upper()

    def _paths(self) -> list[str]:
        if self._revision != self._types.revision:
            self._revision = self._types.revision
            self._documents.clear()
        return sorted({_path_of(kind) for kind in self._types.all()})


def _path_of(kind: ResourceType) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _document(kinds: Iterable[ResourceType]) -> JsonObject:
    definitions: JsonObject = {}
    paths: JsonObject = {}
    for kind in kinds:
        name, schema = _definition(kind)
        _add(definitions, name, schema)
        definitions[f"{name}List"] = _list_definition(kind, name)
        paths |= _paths(kind, name)
    _add(definitions, schemas.full_name("meta_v1.ListMeta"), schemas.definition("meta_v1.ListMeta"))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "codezero-sandbox"},
        "paths": paths,
        "components": {"schemas": definitions},
    }


def _definition(kind: ResourceType) -> tuple[str, JsonObject]:
    if kind.schema is not None:
        return schemas.full_name(kind.schema), schemas.definition(kind.schema)
    reverse = ".".join(reversed(kind.group.split(".")))
    meta = {"$ref": _PREFIX + schemas.full_name("meta_v1.ObjectMeta")}
    properties = {
        "apiVersion": {"type": "string", "description": "The versioned schema of this representation of the object."},
        "kind": {"type": "string", "description": "What kind of object this is."},
        "metadata": {"allOf": [meta], "description": "Standard object's metadata."},
    }
    schema = kind.structure | {
        "properties": kind.structure.get("properties", {}) | properties,
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": kind.kind}],
    }
    return f"{reverse}.{kind.version}.{kind.kind}", schema


def _list_definition(kind: ResourceType, name: str) -> JsonObject:
    return {
        "type": "object",
        "description": f"{kind.kind}List is a list of {kind.kind}",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": _PREFIX + name}},
            "metadata": {"$ref": _PREFIX + schemas.full_name("meta_v1.ListMeta")},
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": f"{kind.kind}List"}],
    }


def _add(definitions: JsonObject, name: str, schema: JsonObject) -> None:
    """Add a definition and all that it refers to."""
    waiting = [(name, schema)]
    while waiting:
        name, schema = waiting.pop()
        if name not in definitions:
            definitions[name] = schema
            waiting += [(found, schemas.resolve({"$ref": _PREFIX + found})) for found in _references(schema)]


def _references(value: JsonValue) -> Iterator[str]:
    if is_object(value):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            yield reference.removeprefix(_PREFIX)
        for below in value.values():
            yield from _references(below)
    elif is_list(value):
        for item in value:
            yield from _references(item)


def _paths(kind: ResourceType, name: str) -> JsonObject:
    root = f"/{_path_of(kind)}"
    scope = f"{root}/namespaces/{{namespace}}" if kind.namespaced else root
    collection, item = f"{scope}/{kind.plural}", f"{scope}/{kind.plural}/{{name}}"
    paths = {
        collection: {method: _operation(kind, name, method) for method in _COLLECTION},
        item: {method: _operation(kind, name, method) for method in _ITEM},
    }
    for subresource in sorted(kind.subresources & {"status"}):
        paths[f"{item}/{subresource}"] = {method: _operation(kind, name, method) for method in ("get", "put", "patch")}
    return paths


def _operation(kind: ResourceType, name: str, method: str) -> JsonObject:
    answer = {"application/json": {"schema": {"$ref": _PREFIX + name}}}
    return {
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "x-kubernetes-action": method,
        "parameters": [
            {"name": query, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
            for query in _QUERIES[method]
        ],
        "responses": {"200": {"description": "OK", "content": answer}},
    }
