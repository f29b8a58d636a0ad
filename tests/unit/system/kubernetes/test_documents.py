"""What others wrote may have any shape, and reading it never raises."""

import pytest

from codezero.system.kubernetes.documents import as_list, as_object, as_text, at, texts


@pytest.mark.parametrize("value", [None, 5, "text", [], {}, [{}], {"a": None}])
def test_anything_can_be_read(value: object) -> None:
    assert isinstance(as_object(value), dict)
    assert isinstance(as_list(value), list)
    assert isinstance(as_text(value), str)
    assert isinstance(texts(value), dict)
    assert at(value, "a", "b") is None


def test_what_is_there_is_found() -> None:
    document = {"a": {"b": [1], "c": "text"}, "d": 5}

    assert at(document, "a", "b") == [1]
    assert at(document) is document
    assert texts(document["a"]) == {"c": "text"}
