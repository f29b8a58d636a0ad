"""Kubernetes objects as plain JSON, where we have to carry them whole: what somebody else wrote may have any shape."""

from typing import Any, cast

Json = dict[str, Any]


def as_object(value: object) -> Json:
    """`value` where it is a JSON object, else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` where it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """`value` where it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def texts(value: object) -> dict[str, str]:
    """The entries of a JSON object that are strings: labels, annotations, selectors."""
    return {name: text for name, text in as_object(value).items() if isinstance(text, str)}


def at(value: object, *path: str) -> object:
    """What lies at `path` below `value`; None where there is nothing."""
    for name in path:
        value = as_object(value).get(name)
    return value
