"""The three patches of a Kubernetes API: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386), and strategic merge."""

from codezero.sandbox.api import errors, schemas
from codezero.sandbox.api.documents import (
    JsonObject,
    JsonValue,
    as_list,
    as_object,
    copy,
    encode,
    is_list,
    is_object,
    without,
)

MAXIMUM_OPERATIONS = 10_000
# A few `copy` operations in a row can double a document until memory ends.
MAXIMUM_RESULT = 3 * 1024 * 1024

_DIRECTIVES = ("$patch", "$retainKeys")


def json_patch(target: JsonObject, operations: JsonValue) -> JsonObject:
    """`target` after the operations; raises `ApiError` 400 for malformed ones, 422 where one does not apply."""
    if not is_list(operations):
        raise errors.bad_request("a JSON patch is an array of operations")
    if len(operations) > MAXIMUM_OPERATIONS:
        raise errors.ApiError(413, "RequestEntityTooLarge", f"a JSON patch may have {MAXIMUM_OPERATIONS} operations")
    document: JsonValue = copy(target)
    copied = 0
    for operation in operations:
        if not is_object(operation):
            raise errors.bad_request("each operation of a JSON patch is an object")
        if operation.get("op") == "copy":
            copied += len(encode(_read(document, _pointer(operation, "from"))))
            if copied > MAXIMUM_RESULT:
                raise errors.too_large(MAXIMUM_RESULT)
        document = _operate(document, operation)
    if not is_object(document):
        raise errors.bad_request("the JSON patch leaves no object")
    return document


def _operate(document: JsonValue, operation: JsonObject) -> JsonValue:
    path = _pointer(operation, "path")
    match operation.get("op"):
        case "add":
            return _add(document, path, _value(operation))
        case "replace":
            _read(document, path)
            return _add(_remove(document, path), path, _value(operation)) if path else _value(operation)
        case "remove":
            return _remove(document, path)
        case "copy":
            return _add(document, path, copy(_read(document, _pointer(operation, "from"))))
        case "move":
            source = _pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise _does_not_apply(operation, "cannot move a value into itself")
            value = _read(document, source)
            return _add(_remove(document, source), path, value)
        case "test":
            if _read(document, path) != _value(operation):
                raise _does_not_apply(operation, "testing value failed")
            return document
        case other:
            raise errors.bad_request(f"unknown JSON patch operation {other!r}")


def _does_not_apply(operation: JsonObject, why: str) -> errors.ApiError:
    message = f"the server rejected our request due to an error in our request: {operation.get('path')}: {why}"
    return errors.ApiError(422, "Invalid", message)


def _pointer(operation: JsonObject, name: str) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise errors.bad_request(f"JSON patch operation without a valid {name!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _value(operation: JsonObject) -> JsonValue:
    if "value" not in operation:
        raise errors.bad_request("JSON patch operation without a value")
    return copy(operation["value"])


def _index(items: list[JsonValue], part: str, *, appending: bool = False) -> int:
    if appending and part == "-":
        return len(items)
    if not part.isascii() or not part.isdigit() or (len(part) > 1 and part[0] == "0") or len(part) > 9:
        raise errors.ApiError(422, "Invalid", f"JSON patch: {part!r} is no index of an array")
    index = int(part)
    if index > len(items) - (0 if appending else 1):
        raise errors.ApiError(422, "Invalid", f"JSON patch: index {index} is outside the array")
    return index


def _read(document: JsonValue, path: list[str]) -> JsonValue:
    for part in path:
        if is_object(document) and part in document:
            document = document[part]
        elif is_list(document):
            document = document[_index(document, part)]
        else:
            raise errors.ApiError(422, "Invalid", f"JSON patch: no value at /{'/'.join(path)}")
    return document


def _add(document: JsonValue, path: list[str], value: JsonValue) -> JsonValue:
    if not path:
        return value
    parent = _read(document, path[:-1])
    if is_object(parent):
        parent[path[-1]] = value
    elif is_list(parent):
        parent.insert(_index(parent, path[-1], appending=True), value)
    else:
        raise errors.ApiError(422, "Invalid", f"JSON patch: no place for a value at /{'/'.join(path)}")
    return document


def _remove(document: JsonValue, path: list[str]) -> JsonValue:
    if not path:
        raise errors.ApiError(422, "Invalid", "JSON patch: cannot remove the whole object")
    _read(document, path)
    parent = _read(document, path[:-1])
    if is_list(parent):
        del parent[_index(parent, path[-1])]
    else:
        del parent[path[-1]]
    return document


def merge_patch(target: JsonValue, patch: JsonValue) -> JsonValue:
    """`target` after an RFC 7386 merge: null removes, objects merge, everything else replaces."""
    if not is_object(patch):
        return copy(patch)
    result = dict(target) if is_object(target) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def strategic_merge(target: JsonObject, patch: JsonObject, schema: JsonObject) -> JsonObject:
    """`target` after a strategic merge: as a merge patch, but lists that have a key merge by it. Raises `ApiError` 400 for bad directives."""
    schema = schemas.resolve(schema)
    directive = patch.get("$patch")
    if directive == "replace":
        return _plain(without(patch, *_DIRECTIVES), schema)
    if directive == "delete":
        return {}
    if directive is not None and directive != "merge":
        raise errors.bad_request(f"unknown $patch directive {directive!r}")
    result = dict(target)
    properties = as_object(schema.get("properties"))
    additional = as_object(schema.get("additionalProperties"))
    for name, value in patch.items():
        if not name.startswith("$"):
            declared = as_object(properties.get(name)) or additional
            _merge_field(result, name, value, schemas.resolve(declared) | declared)
    for name in patch:
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            gone = as_list(patch[name])
            result[field] = [item for item in as_list(result.get(field)) if item not in gone]
    for name, order in patch.items():
        if name.startswith("$setElementOrder/"):
            field = name.partition("/")[2]
            declared = as_object(properties.get(field))
            if is_list(result.get(field)):
                result[field] = _ordered(result[field], as_list(order), declared.get("x-kubernetes-patch-merge-key"))
    if "$retainKeys" in patch:
        kept = as_list(patch["$retainKeys"])
        result = {name: value for name, value in result.items() if name in kept}
    return result


def _merge_field(result: JsonObject, name: str, value: JsonValue, schema: JsonObject) -> None:
    if value is None:
        result.pop(name, None)
    elif is_object(value):
        result[name] = strategic_merge(as_object(result.get(name)), value, schema)
        if value.get("$patch") == "delete":
            result.pop(name, None)
    elif is_list(value):
        result[name] = _merge_list(as_list(result.get(name)), value, schema)
    else:
        result[name] = value


def _merge_list(target: list[JsonValue], patch: list[JsonValue], schema: JsonObject) -> list[JsonValue]:
    key: JsonValue = schema.get("x-kubernetes-patch-merge-key")
    merges = "merge" in str(schema.get("x-kubernetes-patch-strategy", ""))
    items = as_object(schema.get("items"))
    if not merges or any(is_object(item) and item.get("$patch") == "replace" for item in patch):
        return [_plain(item, items) for item in patch if not (is_object(item) and item.get("$patch") == "replace")]
    if key is None:
        return target + [item for item in patch if item not in target]
    result: list[JsonValue] = list(target)
    for item in patch:
        if not is_object(item) or item.get(key) is None:
            raise errors.bad_request(f"an item of a list that merges by {key!r} has no {key!r}")
        place = next((index for index, found in enumerate(result) if as_object(found).get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [found for found in result if as_object(found).get(key) != item[key]]
        elif place is None:
            result.append(_plain(item, items))
        else:
            result[place] = strategic_merge(result[place], item, items)
    return result


def _plain(value: JsonValue, schema: JsonObject) -> JsonValue:
    """A new value as the patch has it, its own directives carried out on nothing."""
    return strategic_merge({}, value, schema) if is_object(value) else copy(value)


def _ordered(items: list[JsonValue], order: list[JsonValue], key: JsonValue) -> list[JsonValue]:
    """`items` with those named in `order` in that order; others keep their place after what preceded them."""
    identity = [as_object(item).get(key) if key else item for item in items]
    wanted = [as_object(entry).get(key) if key else entry for entry in order]
    ranked = iter(
        sorted(
            (index for index, name in enumerate(identity) if name in wanted),
            key=lambda index: wanted.index(identity[index]),
        )
    )
    return [items[next(ranked)] if name in wanted else items[index] for index, name in enumerate(identity)]
