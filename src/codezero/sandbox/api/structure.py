"""Holds an object against its schema: drops unknown fields, fills in declared defaults, and says everything that is wrong."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from codezero.sandbox.api import schemas
from codezero.sandbox.api.documents import JsonObject, JsonValue, as_list, as_object, copy, is_list, is_object
from codezero.sandbox.api.errors import Cause

WRONG_TYPE = "FieldValueTypeInvalid"
REQUIRED = "FieldValueRequired"
NOT_SUPPORTED = "FieldValueNotSupported"
INVALID = "FieldValueInvalid"

# The keywords beyond type and structure; most schemas have none of them.
_RULES = frozenset(
    {
        "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
        "maxProperties", "allOf", "anyOf", "oneOf", "not",
    }
)  # fmt: skip

# More findings help nobody.
MAXIMUM_CAUSES = 50


@dataclass(slots=True)
class Findings:
    """What `conform` found: values that break the schema, and fields it dropped."""

    causes: list[Cause] = field(default_factory=list[Cause])
    unknown: list[str] = field(default_factory=list[str])

    def add(self, path: str, message: str, reason: str = INVALID) -> None:
        """Note one finding."""
        if len(self.causes) < MAXIMUM_CAUSES:
            self.causes.append(Cause(path or "<root>", message, reason))


def conform(content: JsonObject, schema: JsonObject, *, root: bool = True) -> Findings:
    """Prune and default `content` in place by `schema`. At the root, `apiVersion`, `kind` and `metadata` are known without being declared."""
    findings = Findings()
    if root:
        kept = {name: content[name] for name in ("apiVersion", "kind", "metadata") if name in content}
        _check(content, schema, "", findings)
        content.update(kept)
        metadata = content.get("metadata")
        if metadata is not None:
            _check(metadata, schemas.definition("meta_v1.ObjectMeta"), "metadata", findings)
        findings.unknown = [name for name in findings.unknown if name not in {"apiVersion", "kind", "metadata"}]
    else:
        _check(content, schema, "", findings)
    return findings


def _check(value: JsonValue, schema: JsonObject, path: str, findings: Findings) -> None:
    schema = schemas.resolve(schema) if "$ref" in schema or "allOf" in schema else schema
    if not _has_type(value, schema):
        wanted = _wanted_type(schema)
        findings.add(
            path, f'Invalid value: "{_type_name(value)}": must be of type {wanted}: "{_type_name(value)}"', WRONG_TYPE
        )
        return
    if is_object(value):
        _check_object(value, schema, path, findings)
    elif is_list(value):
        _check_list(value, schema, path, findings)
    if not _RULES.isdisjoint(schema):
        for message, reason in _broken_rules(value, schema):
            findings.add(path, message, reason)


def _check_object(value: JsonObject, schema: JsonObject, path: str, findings: Findings) -> None:
    properties = as_object(schema.get("properties"))
    additional: JsonValue = schema.get("additionalProperties")
    keeps_unknown = schema.get("x-kubernetes-preserve-unknown-fields") is True or additional is True
    for name, declared in properties.items():
        if "default" in declared:
            value.setdefault(name, copy(declared["default"]))
    for name in list(value):
        below = f"{path}.{name}" if path else name
        declared = properties.get(name)
        if value[name] is None and not as_object(declared).get("nullable"):
            del value[name]
        elif declared is not None:
            _check(value[name], declared, below, findings)
        elif is_object(additional):
            _check(value[name], additional, below, findings)
        elif not keeps_unknown:
            findings.unknown.append(below)
            del value[name]
    for name in as_list(schema.get("required")):
        if name not in value:
            findings.add(f"{path}.{name}" if path else name, "Required value", REQUIRED)


def _check_list(value: list[JsonValue], schema: JsonObject, path: str, findings: Findings) -> None:
    items = as_object(schema.get("items"))
    seen: set[str] = set()
    keys = as_list(schema.get("x-kubernetes-list-map-keys"))
    for index, item in enumerate(value):
        _check(item, items, f"{path}[{index}]", findings)
        # Only where the list is keyed by one name: with several, defaults decide whether two items are the same.
        if len(keys) == 1 and is_object(item) and keys[0] in item:
            key = str(item[keys[0]])
            if key in seen:
                findings.add(f"{path}[{index}].{keys[0]}", f'Duplicate value: "{key}"', "FieldValueDuplicate")
            seen.add(key)


_TYPES: dict[str, Callable[[JsonValue], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
}


def _has_type(value: JsonValue, schema: JsonObject) -> bool:
    if value is None:
        return schema.get("nullable") is True or "type" not in schema
    if schema.get("x-kubernetes-int-or-string"):
        return _TYPES["integer"](value) or isinstance(value, str)
    if schema.get("x-codezero-quantity"):
        return _TYPES["number"](value) or isinstance(value, str)
    check = _TYPES.get(str(schema.get("type")))
    return check is None or check(value)


def _wanted_type(schema: JsonObject) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    return str(schema.get("type", "string or number"))


def _type_name(value: JsonValue) -> str:
    if value is None:
        return "null"
    return next((name for name, check in _TYPES.items() if check(value)), type(value).__name__)


def _broken_rules(value: JsonValue, schema: JsonObject) -> Iterator[tuple[str, str]]:
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(f'"{item}"' for item in schema["enum"])
        yield f'Unsupported value: "{value}": supported values: {supported}', NOT_SUPPORTED
    if isinstance(value, str):
        yield from _broken_text_rules(value, schema)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _broken_number_rules(value, schema)
    elif is_list(value):
        yield from _broken_size_rules(len(value), schema, "Items", "items")
    elif is_object(value):
        yield from _broken_size_rules(len(value), schema, "Properties", "properties")
    yield from _broken_combinations(value, schema)


def _broken_text_rules(value: str, schema: JsonObject) -> Iterator[tuple[str, str]]:
    yield from _broken_size_rules(len(value), schema, "Length", "characters")
    pattern: JsonValue = schema.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, value):
        yield f'Invalid value: "{value}": {schema.get("x-codezero-message") or f"should match {pattern!r}"}', INVALID
    if schema.get("format") == "date-time" and not _is_time(value):
        yield f'Invalid value: "{value}": must be a time in RFC 3339 form', INVALID


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # a pattern of another dialect than Python's says nothing here
        return True


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _broken_number_rules(value: float, schema: JsonObject) -> Iterator[tuple[str, str]]:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is not None and (value < lowest or (value == lowest and schema.get("exclusiveMinimum"))):
        yield f"Invalid value: {value}: should be greater than or equal to {lowest}", INVALID
    if highest is not None and (value > highest or (value == highest and schema.get("exclusiveMaximum"))):
        yield f"Invalid value: {value}: should be less than or equal to {highest}", INVALID


def _broken_size_rules(size: int, schema: JsonObject, suffix: str, unit: str) -> Iterator[tuple[str, str]]:
    least, most = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if least is not None and size < least:
        yield f"Invalid value: should have at least {least} {unit}", INVALID
    if most is not None and size > most:
        yield f"Too long: may not have more than {most} {unit}", INVALID


def _broken_combinations(value: JsonValue, schema: JsonObject) -> Iterator[tuple[str, str]]:
    if schema.get("x-kubernetes-int-or-string") or schema.get("x-codezero-quantity"):
        return
    for option in as_list(schema.get("allOf")):
        if "$ref" not in option and not _satisfies(value, option):
            yield "Invalid value: must validate all the schemas (allOf)", INVALID
    options = as_list(schema.get("anyOf"))
    if options and not any(_satisfies(value, option) for option in options):
        yield "Invalid value: must validate at least one schema (anyOf)", INVALID
    options = as_list(schema.get("oneOf"))
    if options and sum(_satisfies(value, option) for option in options) != 1:
        yield "Invalid value: must validate one and only one schema (oneOf)", INVALID
    if "not" in schema and _satisfies(value, as_object(schema["not"])):
        yield "Invalid value: must not validate the schema (not)", INVALID


def _satisfies(value: JsonValue, schema: JsonObject) -> bool:
    """Whether a value fulfils a condition inside allOf, anyOf, oneOf or not: nothing is pruned or defaulted there."""
    findings = Findings()
    open_schema = schema | {"x-kubernetes-preserve-unknown-fields": True}
    open_schema["properties"] = {
        name: as_object(below) | {"x-kubernetes-preserve-unknown-fields": True}
        for name, below in as_object(schema.get("properties")).items()
    }
    _check(copy(value), open_schema, "", findings)
    return not findings.causes
