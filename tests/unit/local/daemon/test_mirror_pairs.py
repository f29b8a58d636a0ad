"""Two answers to one request find each other, in whatever order they come; what comes alone is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from codezero.local.daemon.mirror_compare import Answer
from codezero.local.daemon.mirror_pairs import MAX_BYTES, MAX_WAITING, WAIT_SECONDS, Copy, Key, Pairs

ORIGIN = Answer(200)


def key(number: int = 0, variant: str = "v", port: int = 80) -> Key:
    return variant, port, str(number)


def copy(body: bytes = b"") -> Copy:
    return Copy(1.0, "GET", "/", Answer(200, (), body, len(body)))


def test_either_may_come_first() -> None:
    pairs = Pairs()
    assert pairs.copied(key(1), copy(), now=0) is None
    assert pairs.answered(key(2), ORIGIN, now=0) is None
    assert pairs.answered(key(1), ORIGIN, now=1) == (ORIGIN, copy())
    assert pairs.copied(key(2), copy(), now=1) == (ORIGIN, copy())
    assert (len(pairs), pairs.size) == (0, 0)


def test_ids_of_other_variants_and_ports_are_others() -> None:
    """Who holds one Router cannot have its answers compared to those of another one's requests."""
    pairs = Pairs()
    pairs.copied(key(variant="a"), copy(), now=0)
    assert pairs.answered(key(variant="b"), ORIGIN, now=0) is None
    assert pairs.answered(key(variant="a", port=81), ORIGIN, now=0) is None
    assert pairs.answered(key(variant="a"), ORIGIN, now=0) is not None


def test_told_twice_the_first_counts() -> None:
    pairs = Pairs()
    pairs.copied(key(), copy(b"first"), now=0)
    pairs.copied(key(), copy(b"second"), now=0)
    assert pairs.answered(key(), ORIGIN, now=0) == (ORIGIN, copy(b"first"))
    assert pairs.answered(key(), ORIGIN, now=0) is None
    assert pairs.answered(key(), Answer(500), now=0) is None
    assert pairs.copied(key(), copy(), now=0) == (ORIGIN, copy())


def test_what_comes_alone_is_forgotten() -> None:
    pairs = Pairs()
    pairs.copied(key(1), copy(), now=0)
    pairs.answered(key(2), ORIGIN, now=10)
    pairs.forget_old(now=WAIT_SECONDS)
    assert len(pairs) == 1
    assert pairs.copied(key(1), copy(), now=WAIT_SECONDS) is None
    assert pairs.copied(key(2), copy(), now=WAIT_SECONDS) is not None


def test_flood_forgets_the_oldest() -> None:
    pairs = Pairs()
    for number in range(2 * MAX_WAITING):
        pairs.answered(key(number), ORIGIN, now=0)
    assert len(pairs) == MAX_WAITING
    assert pairs.copied(key(0), copy(), now=0) is None
    assert pairs.copied(key(2 * MAX_WAITING - 1), copy(), now=0) is not None


def test_large_answers_are_bounded_by_their_bytes() -> None:
    pairs = Pairs()
    for number in range(MAX_WAITING):
        pairs.copied(key(number), copy(bytes(1 << 16)), now=0)
    assert 0 < pairs.size <= MAX_BYTES
    assert len(pairs) < MAX_WAITING
    pairs.clear()
    assert (len(pairs), pairs.size) == (0, 0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 200), st.binary(max_size=50))))
def test_sizes_are_those_of_what_waits(steps: list[tuple[bool, int, int, bytes]]) -> None:
    pairs, now = Pairs(), 0
    for is_copy, number, later, body in steps:
        now += later
        side = copy(body)
        found = (
            pairs.copied(key(number), side, now=now) if is_copy else pairs.answered(key(number), side.answer, now=now)
        )
        assert found is None or len(found) == 2
    pairs.forget_old(now=now + WAIT_SECONDS)
    assert (len(pairs), pairs.size) == (0, 0)
