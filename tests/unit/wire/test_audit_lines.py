"""The one form of an entry, and the chain of their hashes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.wire import audit_lines
from codezero.wire.audit_lines import START, BrokenError, Chain


def entries(count: int, *, first: int = 1, before: str = START) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for number in range(first, first + count):
        entry: dict[str, object] = {
            "version": 1,
            "organization": "O",
            "number": number,
            "id": f"I{number}",
            "at": "2026-01-01T00:00:00.000000Z",
            "action": "member.role",
            "actor": {"kind": "person", "id": "P", "name": "Pia"},
            "target": {},
            "outcome": "ok",
            "details": {"role": "admin"},
            "address": None,
            "request": None,
            "source": None,
            "before": before,
        }
        before = audit_lines.hash_of(entry)
        made.append({**entry, "hash": before})
    return made


def checked(lines: list[dict[str, object]], chain: Chain | None = None) -> Chain:
    chain = chain or Chain()
    for line in lines:
        chain.add_line(line)
    return chain


def test_the_form_is_that_of_rfc_8785() -> None:
    """Its own example of an order by UTF-16 code units, its escapes, and no blanks."""
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert [line.split('":')[0] for line in audit_lines.canonical(value).decode()[2:].split('","')] == [
        "\\r",
        "1",
        "\u0080",
        "\u00f6",
        "\u20ac",
        "\U0001f600",
        "\ufb33",
    ]
    assert audit_lines.canonical({"b": [1, True, None, '\n\x0f"\\/€'], "a": {}}) == (
        '{"a":{},"b":[1,true,null,"\\n\\u000f\\"\\\\/€"]}'.encode()
    )


@pytest.mark.parametrize("value", [1.5, float("nan"), 2**53, {1: 2}, {"a": {None: 1}}, b"x", {1, 2}])
def test_what_has_no_one_form_is_no_part_of_an_audit(value: object) -> None:
    with pytest.raises(ValueError, match="audit"):
        audit_lines.canonical({"a": value})


def test_the_first_entry_follows_from_a_constant() -> None:
    assert hashlib.sha256(b"codezero audit").hexdigest() == START
    assert checked(entries(3)).last == 3
    with pytest.raises(BrokenError, match="entry 1 does not follow"):
        checked(entries(1, before="0" * 64))


def test_a_part_is_checked_from_where_it_begins() -> None:
    chain = checked(entries(9)[4:])
    assert (chain.first, chain.last) == (5, 9)
    assert checked(entries(9)[5:], Chain(6, str(entries(5)[-1]["hash"]))).last == 9
    with pytest.raises(BrokenError, match="entry 6 does not follow"):
        checked(entries(9)[5:], Chain(6, "0" * 64))


@given(st.integers(0, 5), st.sampled_from(sorted(set(entries(1)[0]) - {"number"})), st.data())
def test_whatever_is_changed_in_an_entry_is_noticed_there(index: int, name: str, data: st.DataObject) -> None:
    lines = entries(6)
    others = st.one_of(st.none(), st.text(), st.integers(), st.booleans(), st.floats(), st.just({}), st.just([]))
    lines[index] = {**lines[index], name: data.draw(others.filter(lambda value: value != lines[index][name]))}

    with pytest.raises(BrokenError) as raised:
        checked(lines)
    assert raised.value.number == index + 1


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda lines: lines.pop(2), 3),
        (lambda lines: lines.insert(2, lines[1]), 3),
        (lambda lines: lines.insert(0, lines[5]), 1),
        (lambda lines: lines.__setitem__(3, entries(1, first=4)[0]), 4),
        (lambda lines: lines.__setitem__(3, {**lines[3], "number": 9}), 4),
        (lambda lines: lines.__setitem__(3, {**lines[3], "number": True}), 4),
        (lambda lines: lines.__setitem__(3, {**lines[3], "extra": 1}), 4),
        (lambda lines: lines.__setitem__(3, {"number": 4}), 4),
    ],
)
def test_what_was_left_out_or_put_in_is_named(change: object, number: int) -> None:
    lines = entries(6)
    change(lines)  # type: ignore[operator]
    with pytest.raises(BrokenError) as raised:
        checked(lines)
    # Where a later one comes first, the next one is what does not fit.
    assert raised.value.number in {number, 7}
