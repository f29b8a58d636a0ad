"""Text of strangers on other people's terminals."""

import pytest

from codezero.orchestrator.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("anna's laptop", "anna's laptop"),
        ("  größer 笔记本  ", "größer 笔记本"),
        ("ben\x1b[31m\n\u202e's", "ben[31m's"),
        ("\u2028\u00a0\x00\ud800", ""),
        ("a" * 100, "a" * 63),
        ("\x07" * 1_000_000, ""),
    ],
)
def test_only_what_can_be_seen_is_kept(text: str, shown: str) -> None:
    """No escapes, no turns of direction, no lines."""
    assert printable(text) == shown


def test_longer_text_is_kept_where_there_is_room() -> None:
    """A reason is longer than a name."""
    assert printable("a" * 600, most=500) == "a" * 500
