"""Who set which field (`metadata.managedFields`), and server-side apply built on it.

Fields are paths as in the FieldsV1 format: `f:name` a field, `k:{…}` an item of a keyed list, `v:…` a value of a set.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from codezero.sandbox.api import errors, schemas
from codezero.sandbox.api.documents import (
    JsonObject,
    JsonValue,
    as_list,
    as_object,
    as_objects,
    at,
    copy,
    decode,
    encode,
    is_list,
    is_object,
)
from codezero.sandbox.api.errors import Cause

Path = tuple[str, ...]

# Written by the server alone, so nobody owns them.
_UNOWNED = frozenset(
    {("f:apiVersion",), ("f:kind",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
            "deletionGracePeriodSeconds", "generateName", "selfLink", "managedFields",
        )
    }
)  # fmt: skip
# Part of a list key, and filled in where it is left out.
_KEY_DEFAULTS = {"protocol": "TCP"}
_CONTAINER = object()
MAXIMUM_ENTRIES = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One manager's fields."""

    manager: str
    operation: str
    api_version: str
    time: str
    fields: frozenset[Path]
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two entries the same one."""
        return (self.manager, self.operation, self.subresource)


Entries = list[Entry]


def read_entries(metadata: JsonObject) -> list[Entry]:
    """The entries in an object's metadata; malformed ones are left out."""
    found: list[Entry] = []
    for entry in as_objects(metadata.get("managedFields")):
        fields: set[Path] = set()
        _read_fields(as_object(entry.get("fieldsV1")), (), fields)
        if fields and isinstance(entry.get("manager"), str):
            found.append(
                Entry(
                    entry["manager"],
                    "Apply" if entry.get("operation") == "Apply" else "Update",
                    str(entry.get("apiVersion", "")),
                    str(entry.get("time", "")),
                    frozenset(fields),
                    str(entry.get("subresource", "")),
                )
            )
    return found


def _read_fields(node: JsonObject, prefix: Path, into: set[Path]) -> None:
    for step, below in node.items():
        if step == ".":
            into.add(prefix)
        elif not below:
            into.add((*prefix, step))
        else:
            _read_fields(as_object(below), (*prefix, step), into)


def write_entries(entries: Iterable[Entry]) -> list[JsonObject]:
    """Entries as metadata holds them; only the newest of very many are kept."""
    kept = [entry for entry in entries if entry.fields]
    written: list[JsonObject] = []
    for entry in kept[-MAXIMUM_ENTRIES:]:
        fields: JsonObject = {
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": entry.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(entry.fields),
        }
        written.append(fields | ({"subresource": entry.subresource} if entry.subresource else {}))
    return written


def _tree(paths: Iterable[Path]) -> JsonObject:
    root: JsonObject = {}
    ordered = sorted(paths)
    inner = {path[:length] for path in ordered for length in range(1, len(path))}
    for path in ordered:
        node = root
        for step in path:
            node = node.setdefault(step, {})
        if path in inner:
            node["."] = {}
    return root


def flatten(content: JsonObject, schema: JsonObject) -> dict[Path, JsonValue]:
    """Every ownable field of an object with its value; containers that can be owned themselves have a marker."""
    found: dict[Path, JsonValue] = {}
    root = schemas.resolve(schema)
    properties = as_object(root.get("properties")) | {"metadata": schemas.definition("meta_v1.ObjectMeta")}
    _flatten(content, root | {"properties": properties}, (), found)
    return {path: value for path, value in found.items() if path not in _UNOWNED and path[:2] not in _UNOWNED}


def _flatten(value: JsonValue, declared: JsonObject, prefix: Path, found: dict[Path, JsonValue]) -> None:
    schema = schemas.resolve(declared)
    if is_object(value) and not _is_atomic_map(schema, declared):
        properties = as_object(schema.get("properties"))
        additional = as_object(schema.get("additionalProperties"))
        if prefix and (not properties or not value):
            found[prefix] = _CONTAINER
        for name, below in value.items():
            _flatten(below, as_object(properties.get(name)) or additional, (*prefix, f"f:{name}"), found)
    elif is_list(value) and declared.get("x-kubernetes-list-type") == "map":
        found[prefix] = _CONTAINER
        items = as_object(declared.get("items"))
        for item in value:
            step = _key_step(as_object(item), declared)
            found[*prefix, step] = _CONTAINER
            _flatten(item, items, (*prefix, step), found)
    elif is_list(value) and declared.get("x-kubernetes-list-type") == "set":
        found[prefix] = _CONTAINER
        for item in value:
            found[*prefix, f"v:{encode(item).decode()}"] = item
    else:
        found[prefix] = value


def _is_atomic_map(schema: JsonObject, declared: JsonObject) -> bool:
    return "atomic" in {schema.get("x-kubernetes-map-type"), declared.get("x-kubernetes-map-type")}


def _key_step(item: JsonObject, declared: JsonObject) -> str:
    keys = sorted(as_list(declared.get("x-kubernetes-list-map-keys")))
    return "k:" + encode({key: item.get(key, _KEY_DEFAULTS.get(key)) for key in keys}).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who changes an object, and when, for its managed fields."""

    manager: str
    api_version: str
    time: str
    subresource: str = ""


def after_update(before: JsonObject | None, after: JsonObject, schema: JsonObject, change: Change) -> list[Entry]:
    """The entries after `change` wrote `after` in place of `before`: what it changed is its own now."""
    old = flatten(before, schema) if before is not None else {}
    new = flatten(after, schema)
    changed = frozenset(path for path, value in new.items() if path not in old or old[path] != value)
    gone = frozenset(old.keys() - new.keys())
    entries = read_entries(after["metadata"])
    if not entries and before is not None and "managedFields" not in after["metadata"]:
        entries = read_entries(before["metadata"])
    if not changed and not gone:
        return entries
    identity = (change.manager, "Update", change.subresource)
    mine = next((entry.fields for entry in entries if entry.identity == identity), frozenset[Path]())
    others = [replace(entry, fields=entry.fields - changed - gone) for entry in entries if entry.identity != identity]
    own = Entry(change.manager, "Update", change.api_version, change.time, (mine | changed) - gone, change.subresource)
    return [*others, own]


def apply(
    live: JsonObject, wanted: JsonObject, schema: JsonObject, change: Change, *, force: bool
) -> tuple[JsonObject, list[Entry]]:
    """`live` with the fields of `wanted` set and those given up removed, and the entries afterwards.

    Raises `ApiError` 409 where others own a field with another value, unless `force`, which takes it from them.
    """
    fields = flatten(wanted, schema)
    current = flatten(live, schema)
    entries = read_entries(live["metadata"])
    identity = (change.manager, "Apply", change.subresource)
    mine = next((entry for entry in entries if entry.identity == identity), None)
    others = [entry for entry in entries if entry.identity != identity]
    changed = frozenset(path for path, value in fields.items() if path in current and current[path] != value)
    conflicts = [
        Cause(_readable(path), f'conflict with "{entry.manager}"{_using(entry)}', "FieldManagerConflict")
        for entry in others
        for path in sorted(entry.fields & changed)
    ]
    if conflicts and not force:
        raise errors.field_conflict(conflicts)
    if force:
        others = [replace(entry, fields=entry.fields - changed) for entry in others]
    result = as_object(copy(_merge(live, wanted, schemas.resolve(schema), root=True)))
    owned_elsewhere = frozenset[Path]().union(*(entry.fields for entry in others))
    # Items of a list before their parts: without its key an item could not be found.
    for path in sorted(mine.fields - fields.keys() if mine else (), key=len):
        if not any(owned[: len(path)] == path for owned in owned_elsewhere):
            _remove(result, path)
    owned = frozenset(fields)
    if mine is not None and mine.fields == owned:
        return result, [*others, mine]
    return result, [*others, Entry(change.manager, "Apply", change.api_version, change.time, owned, change.subresource)]


def _using(entry: Entry) -> str:
    return f" using {entry.api_version}" if entry.operation == "Update" else ""


def _readable(path: Path) -> str:
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        text += f".{rest}" if kind == "f" else _readable_key(rest) if kind == "k" else f"[={rest}]"
    return text


def _readable_key(text: str) -> str:
    parts = (f"{name}={encode(value).decode()}" for name, value in as_object(decode(text.encode())).items())
    return f"[{','.join(parts)}]"


def _merge(live: JsonValue, wanted: JsonValue, declared: JsonObject, *, root: bool = False) -> JsonValue:
    schema = schemas.resolve(declared)
    if is_object(live) and is_object(wanted) and not _is_atomic_map(schema, declared):
        properties = as_object(schema.get("properties"))
        if root:
            properties = properties | {"metadata": schemas.definition("meta_v1.ObjectMeta")}
        additional = as_object(schema.get("additionalProperties"))
        result = dict(live)
        for name, value in wanted.items():
            below = as_object(properties.get(name)) or additional
            result[name] = _merge(live[name], value, below) if name in live else copy(value)
        return result
    if is_list(live) and is_list(wanted):
        if declared.get("x-kubernetes-list-type") == "map":
            return _merge_keyed(live, wanted, declared)
        if declared.get("x-kubernetes-list-type") == "set":
            return live + [item for item in wanted if item not in live]
    return copy(wanted)


def _merge_keyed(live: list[JsonValue], wanted: list[JsonValue], declared: JsonObject) -> list[JsonValue]:
    items = as_object(declared.get("items"))
    merged = {_key_step(as_object(item), declared): item for item in live}
    for item in wanted:
        key = _key_step(as_object(item), declared)
        merged[key] = _merge(merged[key], item, items) if key in merged else copy(item)
    return list(merged.values())


def _remove(content: JsonValue, path: Path) -> None:
    *way, last = path
    for step in way:
        content = _step(content, step)
        if content is None:
            return
    kind, _, rest = last.partition(":")
    if kind == "f" and is_object(content):
        content.pop(rest, None)
    elif is_list(content):
        gone = _step(content, last) if kind == "k" else decode(rest.encode())
        if gone in content:
            content.remove(gone)


def _step(content: JsonValue, step: str) -> JsonValue:
    kind, _, rest = step.partition(":")
    if kind == "f":
        return at(content, rest)
    wanted = as_object(decode(rest.encode())) if kind == "k" else {}
    for item in as_objects(content):
        if all(item.get(name, _KEY_DEFAULTS.get(name)) == value for name, value in wanted.items()):
            return item
    return None
