"""Words and their places."""

from hypothesis import given
from hypothesis import strategies as st

from codezero.hub.policies.words import Place, Text


def test_statements_end_with_their_semicolons() -> None:
    """And nowhere inside texts and comments."""
    source = Text('permit(a, "b;\\"c"); // d;\nforbid // e\n (f)')
    first, second = source.statements()

    assert [word.text for word in first.words] == ["permit", "(", "a", ",", '"b;\\"c"', ")", ";"]
    assert first.is_ended
    assert [word.text for word in second.words] == ["forbid", "(", "f", ")"]
    assert not second.is_ended
    assert source.place(second.start) == Place(2, 1)
    assert [word.text for word in source.comments()] == ["// d;", "// e"]


def test_depth_is_that_of_brackets_and_choices() -> None:
    """What Cedar's parser would go down for."""
    (statement,) = Text("a([{if b then c}]);").statements()
    depth, at = statement.depth()

    assert (depth, at.text) == (4, "if")


@given(st.text(max_size=80))
def test_every_character_belongs_to_a_word_or_is_space(text: str) -> None:
    """Nothing is read over."""
    source = Text(text)
    covered = "".join(word.text for word in source.words)

    assert covered.replace(" ", "") == "".join(text[word.start : word.end] for word in source.words).replace(" ", "")
    rest = "".join(one for at, one in enumerate(text) if not any(word.start <= at < word.end for word in source.words))
    assert not rest.strip()
