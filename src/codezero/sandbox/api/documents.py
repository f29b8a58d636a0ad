"""JSON documents as the API sees them: reading, writing, copying, comparing, walking. No product knowledge.

Objects of a Kubernetes API are open-ended (custom resources), so inside this package they stay dictionaries; every way in checks them first.
"""

from typing import Any, TypeGuard

import msgspec
import yaml

JsonObject = dict[str, Any]
JsonArray = list[Any]
JsonValue = Any

# Deeper bodies are nobody's manifest; the limit keeps recursion in later steps far from the interpreter's.
MAXIMUM_DEPTH = 100
YAML_LIMIT = 128 * 1024

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class DocumentError(ValueError):
    """A body is not a JSON (or YAML) document we accept; the message says why."""


def is_object(value: object) -> TypeGuard[JsonObject]:
    """Whether `value` is a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether `value` is a JSON array."""
    return isinstance(value, list)


def as_object(value: object) -> JsonObject:
    """`value` where it is a JSON object, else an empty one."""
    return value if is_object(value) else {}


def as_list(value: object) -> list[Any]:
    """`value` where it is a JSON array, else an empty one."""
    return value if is_list(value) else []


def as_objects(value: object) -> list[JsonObject]:
    """The objects in an array; whatever else it holds is left out."""
    return [item for item in as_list(value) if is_object(item)]


def encode(value: object) -> bytes:
    """`value` as compact JSON."""
    return _encoder.encode(value)


def decode(content: bytes) -> JsonValue:
    """The document in JSON text; raises `DocumentError` for text that is no JSON or too deeply nested."""
    try:
        value = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"not valid JSON: {error}") from None
    except RecursionError:
        raise DocumentError("nested too deeply") from None
    _check_depth(value)
    return value


def decode_yaml(content: bytes) -> JsonValue:
    """The document in JSON or (up to a limit, for it is slow to read) YAML text.

    YAML aliases of anything but plain values are refused, because a few of them can stand for gigabytes.
    """
    try:
        return decode(content)
    except DocumentError:
        pass
    if len(content) > YAML_LIMIT:
        raise DocumentError(f"not JSON, and longer than the {YAML_LIMIT} bytes accepted as YAML")
    try:
        value = yaml.load(content, Loader=_JsonLikeLoader)  # noqa: S506 - a safe loader, see below
        _check_unshared(value, set())
        # Through JSON and back: only what JSON can say gets in.
        return decode(encode(value))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise DocumentError(f"neither JSON nor YAML: {str(error).splitlines()[0]}") from None


def _check_unshared(value: JsonValue, seen: set[int]) -> None:
    if not is_object(value) and not is_list(value):
        return
    if id(value) in seen:
        raise DocumentError("YAML aliases are not accepted")
    seen.add(id(value))
    for item in value.values() if is_object(value) else as_list(value):
        _check_unshared(item, seen)


class _JsonLikeLoader(yaml.CSafeLoader):
    """Plain values only, and timestamps stay text, as in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class has it so
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _check_depth(value: JsonValue) -> None:
    level: list[JsonValue] = [value]
    for _ in range(MAXIMUM_DEPTH):
        below: list[JsonValue] = []
        for item in level:
            if is_object(item):
                below.extend(item.values())
            elif is_list(item):
                below.extend(item)
        level = below
        if not level:
            return
    raise DocumentError(f"nested more than {MAXIMUM_DEPTH} levels deep")


def copy(value: JsonValue) -> JsonValue:
    """A copy that shares no object or array with `value`."""
    if is_object(value):
        return {key: copy(item) for key, item in value.items()}
    if is_list(value):
        return [copy(item) for item in value]
    return value


def at(value: JsonValue, *path: str) -> JsonValue:
    """What is at `path` below `value`; None where it or a part of the way is missing."""
    for name in path:
        if not is_object(value):
            return None
        value = value.get(name)
    return value


def put(target: JsonObject, value: JsonValue, *path: str) -> None:
    """Set what is at `path` below `target`, making the objects on the way."""
    for name in path[:-1]:
        following = target.get(name)
        if not is_object(following):
            following = target[name] = {}
        target = following
    target[path[-1]] = value


def without(value: JsonObject, *names: str) -> JsonObject:
    """A shallow copy without `names`."""
    return {key: item for key, item in value.items() if key not in names}
