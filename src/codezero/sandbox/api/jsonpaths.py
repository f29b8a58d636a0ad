"""The part of JSONPath that printer columns use: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.type=="Ready")]`."""

import re
from collections.abc import Iterator
from functools import lru_cache

from codezero.sandbox.api.documents import JsonObject, JsonValue, as_list, at, is_list, is_object

_STEP = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+)
      | \['(?P<quoted>[^']*)'\]
      | \[(?P<index>-?\d+)\]
      | (?P<all>\[\*\])
      | \[\?\(@\.(?P<field>[\w.\-/]+)\s*==\s*(?P<quote>["'])(?P<value>.*?)(?P=quote)\)\]""",
    re.VERBOSE,
)


def find(content: JsonObject, path: str) -> JsonValue:
    """The first value at `path`, or None; a path this module does not understand finds nothing."""
    steps = _parse(path)
    values: list[JsonValue] = [content] if steps else []
    for step in steps:
        values = [found for value in values for found in _walk(value, step)]
    return values[0] if values else None


@lru_cache(maxsize=1024)
def _parse(path: str) -> tuple[re.Match[str], ...]:
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[re.Match[str]] = []
    position = 0
    while position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            return ()
        steps.append(step)
        position = step.end()
    return tuple(steps)


def _walk(value: JsonValue, step: re.Match[str]) -> Iterator[JsonValue]:
    name = step["quoted"] if step["quoted"] is not None else step["name"]
    if name is not None:
        name = name.replace("\\.", ".")
        if is_object(value) and name in value:
            yield value[name]
    elif step["index"] is not None:
        if is_list(value) and -len(value) <= int(step["index"]) < len(value):
            yield value[int(step["index"])]
    elif step["all"] is not None:
        yield from value.values() if is_object(value) else as_list(value)
    else:
        fields = step["field"].split(".")
        yield from (item for item in as_list(value) if str(at(item, *fields)) == step["value"])
