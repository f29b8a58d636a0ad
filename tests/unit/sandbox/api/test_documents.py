"""Bodies become documents, or are refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox.api.documents import DocumentError, at, copy, decode, decode_yaml, encode, put

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_documents_survive_the_way_out_and_in(value: object) -> None:
    assert decode(encode(value)) == copy(value) == value


@pytest.mark.parametrize("depth", [101, 5_000, 200_000])
def test_deep_documents_are_refused(depth: int) -> None:
    """Later steps recurse; nobody's manifest is this deep."""
    with pytest.raises(DocumentError):
        decode(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1, 2]\nb: *x",
        "a: &x [*x]",
        "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]",
        "!!python/name:os.system",
        "a: [",
        "? {a: b}\n: c",
        "{" * 300,
        "a: 1\n" * 100_000,
    ],
)
def test_hostile_yaml_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        decode_yaml(text.encode())


def test_yaml_says_what_json_can_say() -> None:
    text = b"a: 2020-01-01\nb: 1\nc: {d: [true, null, 1.5]}\ne: !!str 5\n7: x"

    assert decode_yaml(text) == {"a": "2020-01-01", "b": 1, "c": {"d": [True, None, 1.5]}, "e": "5", "7": "x"}


def test_places_below_are_read_and_made() -> None:
    content: dict[str, object] = {"a": {"b": 1}, "c": 5}
    put(content, 2, "c", "d", "e")

    assert at(content, "a", "b") == 1
    assert at(content, "a", "x", "y") is None
    assert at(content, "c", "d", "e") == 2
