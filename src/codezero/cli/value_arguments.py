"""The values of a Teamspace as `--values` and `--set` spell them, in the way Helm's users know; `deploy.values` says whether they can be used."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from codezero.model import problems
from codezero.model.problems import CodezeroError

Json = dict[str, Any]

MOST: Final = 256 * 1024

# A dot of a name is written as `\.`: annotations have them.
_STEP: Final = re.compile(r"(?:[^.\\]|\\.)+")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def read(file: Path) -> Json:
    """The values of a file; raises `CodezeroError`."""
    from codezero.deploy import values

    try:
        with file.open("rb") as opened:
            content = opened.read(MOST + 1)
    except OSError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MOST:
        raise CodezeroError(problems.TOO_LARGE, f"{file} has more than {MOST} bytes")
    try:
        return values.loaded(content)
    except ValueError as error:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{file} cannot be used: {error}",
            fix="write a map of values as YAML; docs/reference/values.md has all of them",
        ) from None


def changed(values: Json, texts: Sequence[str], *, serve_namespaces: Sequence[str] = ()) -> Json:
    """`values` with those of `--set KEY.PATH=VALUE`, the later ones over the earlier, and namespaces added to those that may be served."""
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise _bad(text, "it has no KEY=VALUE")
        steps = [step.replace("\\", "") for step in _STEP.findall(path)]
        if ".".join(_STEP.findall(path)) != path:
            raise _bad(text, "the key has an empty part")
        values = _with(values, steps, _value(value), text)
    if serve_namespaces:
        values = _serving(values, serve_namespaces)
    return values


def _with(values: Json, steps: Sequence[str], value: object, text: str) -> Json:
    first, *rest = steps
    if not rest:
        return {**values, first: value}
    return {**values, first: _with(_map(values, first), rest, value, text)}


def _serving(values: Json, names: Sequence[str]) -> Json:
    serve = _map(values, "serve")
    present = serve.get("namespaces")
    named = cast("list[object]", present) if isinstance(present, list) else []
    if "*" in named:
        return values
    # All of them stands alone.
    whole = ["*"] if "*" in names else [*named, *(one for one in dict.fromkeys(names) if one not in named)]
    return {**values, "serve": {**serve, "namespaces": whole}}


def _map(values: Json, name: str) -> Json:
    """The map of that name; an empty one where there is none."""
    found = values.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CodezeroError(problems.BAD_REQUEST, f"the value {name} is no map, so nothing can be set in it")
    return cast("Json", found)


def _value(text: str) -> object:
    """`{a,b}` is a list, and words and numbers are what they look like; `"..."` keeps them texts."""
    if text.startswith("{") and text.endswith("}"):
        return [_value(one.strip()) for one in text[1:-1].split(",") if one.strip()]
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if _NUMBER.fullmatch(text) else text


def _bad(text: str, why: str) -> CodezeroError:
    return CodezeroError(
        problems.BAD_REQUEST,
        f"--set {text[:100]} cannot be understood: {why}",
        fix="write for example --set service.type=NodePort --set serve.namespaces={shop,billing}",
    )
