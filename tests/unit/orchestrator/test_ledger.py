"""The map that knows what changed."""

from hypothesis import given
from hypothesis import strategies as st

from codezero.orchestrator.ledger import Ledger

CHANGES = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 2)), max_size=60)


@given(CHANGES, st.integers(0, 60), st.integers(0, 5))
def test_a_reader_at_any_revision_catches_up(
    changes: list[tuple[int, int | None]], position: int, kept_removals: int
) -> None:
    """What a reader had, with what changed since, is what there is; or the ledger says that it cannot tell."""
    ledger: Ledger[int, int] = Ledger(kept_removals=kept_removals)
    had: dict[int, int] = {}
    revision = 0
    for number, (key, value) in enumerate(changes):
        if value is None:
            ledger.remove(key)
        else:
            ledger.set(key, value)
        if number == position:
            had, revision = dict(ledger.values), ledger.revision

    if ledger.knows(revision):
        seen: set[int] = set()
        for key, now in ledger.since(revision):
            assert key not in seen
            seen.add(key)
            if now is None:
                had.pop(key, None)
            else:
                had[key] = now
        assert had == ledger.values


def test_removals_are_remembered_within_bounds() -> None:
    """A cluster that makes and removes names for ever must not fill the memory."""
    ledger: Ledger[int, str] = Ledger(kept_removals=10)
    for number in range(1000):
        ledger.set(number, "here")
        ledger.remove(number)

    assert not ledger.values
    assert not ledger.knows(1)
    assert ledger.knows(ledger.revision - 10)
    assert len(list(ledger.since(0))) == 10


def test_an_equal_value_is_no_change() -> None:
    """A System that reports everything again after a reconnect must not make every laptop busy."""
    ledger: Ledger[str, int] = Ledger()
    ledger.set("a", 1)

    ledger.replace({"a": 1})

    assert ledger.revision == 1
