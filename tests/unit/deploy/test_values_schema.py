"""The schema says what the code does: the same defaults, the same limits, in words that other tools understand."""

from typing import Any

import msgspec

from codezero.deploy.values import Values
from codezero.deploy.values_schema import schema


def leaves(part: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """The values that have a default of their own, by path."""
    if "default" in part:
        return {path: part}
    return {
        found: leaf
        for name, below in part["properties"].items()
        for found, leaf in leaves(below, f"{path}.{name}".removeprefix(".")).items()
    }


def test_its_defaults_are_those_of_the_code() -> None:
    expected = msgspec.to_builtins(Values())
    for path, leaf in leaves(schema()).items():
        default: Any = expected
        for name in path.split("."):
            default = default[name]
        assert leaf["default"] == default, path


def test_every_value_says_what_it_is_for() -> None:
    assert {path for path, leaf in leaves(schema()).items() if not leaf.get("description", "").endswith(".")} == set()


def test_it_is_in_one_piece() -> None:
    """Not every reader follows references."""
    assert b"$ref" not in msgspec.json.encode(schema())


def test_forms_are_written_as_other_languages_have_them() -> None:
    text = msgspec.json.encode(schema()).decode()

    assert "\\\\A" not in text
    assert "\\\\Z" not in text
    assert leaves(schema())["image.tag"]["pattern"].startswith("^")
    assert leaves(schema())["image.tag"]["pattern"].endswith("$")


def test_what_has_a_default_cannot_be_taken_away() -> None:
    """Helm takes away what is set to null; a template would put nothing in its place. Only a port that the cluster chooses may be absent."""
    assert set(schema()["required"]) == set(msgspec.to_builtins(Values()))
    entry = schema()["properties"]["service"]
    assert set(entry["properties"]) - set(entry["required"]) == {"nodePort"}
