"""The JSON schema of the values, as Helm wants it: with the chart's defaults, and nothing that is not known."""

from typing import Any, Final, cast

import msgspec

from codezero.deploy.values import WHOLE, Json, Values

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def schema() -> Json:
    """The schema of a whole file of values, all in one piece; what a value is for is its `description`, what it is without a word its `default`."""
    (reference,), definitions = msgspec.json.schema_components((Values,), ref_template="#/{name}")
    whole = _in_one_piece(reference, definitions)
    return {"$schema": _DIALECT, **_with_defaults(whole, msgspec.to_builtins(Values()))}


def _in_one_piece(part: Any, definitions: dict[str, Json]) -> Any:  # noqa: ANN401 - JSON
    match part:
        case list():
            return [_in_one_piece(one, definitions) for one in cast("list[Any]", part)]
        case dict():
            return _object_in_one_piece(cast("Json", part), definitions)
        case _:
            return part


def _object_in_one_piece(part: Json, definitions: dict[str, Json]) -> Json:
    own = {name: _in_one_piece(value, definitions) for name, value in part.items() if name not in {"$ref", "default"}}
    if reference := part.get("$ref"):
        meant = _object_in_one_piece(definitions[reference.removeprefix("#/")], definitions)
        # What is said where it is used counts more than what is said of it in general.
        own = {**meant, **own}
    # The name of a type of ours says nothing to others.
    if isinstance(own.get("title"), str):
        del own["title"]
    if isinstance(pattern := own.get("pattern"), str):
        # The regular expressions of Go, and of JSON schemas, have no `\Z`.
        own["pattern"] = "^(" + pattern.removeprefix(WHOLE[0]).removesuffix(WHOLE[1]) + ")$"
    return own


def _with_defaults(part: Json, default: object) -> Json:
    properties = part.get("properties")
    if not isinstance(default, dict) or not default or not isinstance(properties, dict):
        return {**part, "default": default}
    defaults = cast("Json", default)
    below = {
        name: _with_defaults(value, defaults[name]) if name in defaults else value
        for name, value in cast("dict[str, Json]", properties).items()
    }
    # Helm takes away what is set to null, and a template would put nothing in its place.
    required = [name for name in below if defaults.get(name) is not None]
    return {**part, "properties": below, "required": required}
