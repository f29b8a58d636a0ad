"""How often somebody may try, in memory that does not grow."""

from datetime import UTC, datetime, timedelta

import pytest

from codezero.hub.signin.attempts import Attempts, Limit, network
from codezero.model import problems
from codezero.model.problems import CodezeroError

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LIMIT = Limit("try", 3, 60)


def seconds(number: float) -> datetime:
    return NOW + timedelta(seconds=number)


def test_a_few_at_once_and_then_one_in_a_while() -> None:
    attempts = Attempts()
    assert [attempts.is_left(LIMIT, NOW, "ada") for _ in range(5)] == [True, True, True, False, False]
    assert [attempts.is_left(LIMIT, seconds(59), "ada")] == [False]
    assert [attempts.is_left(LIMIT, seconds(60), "ada") for _ in range(2)] == [True, False]
    assert [attempts.is_left(LIMIT, seconds(3600), "ada") for _ in range(4)] == [True, True, True, False]


def test_whoever_is_refused_is_told_how_long_to_wait() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.count(LIMIT, NOW, "ada")
    with pytest.raises(CodezeroError) as caught:
        attempts.count(LIMIT, seconds(15), "ada")

    assert caught.value.problem is problems.TOO_MANY_REQUESTS
    assert caught.value.fix == "wait 45 seconds and try again"


def test_what_was_refused_does_not_count() -> None:
    attempts = Attempts()
    for _ in range(100):
        attempts.is_left(LIMIT, NOW, "ada")

    assert attempts.is_left(LIMIT, seconds(60), "ada")


def test_each_is_counted_alone() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.count(LIMIT, NOW, "ada", "192.0.2.1")

    assert attempts.is_left(LIMIT, NOW, "ada", "192.0.2.2")
    assert attempts.is_left(LIMIT, NOW, "bob", "192.0.2.1")
    assert not attempts.is_left(LIMIT, NOW, "ada", "192.0.2.1")


def test_the_right_one_begins_anew() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.count(LIMIT, NOW, "ada")
    attempts.forget(LIMIT, "ada")

    assert attempts.is_left(LIMIT, NOW, "ada")


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.count(LIMIT, NOW, "ada")

    assert not attempts.is_left(LIMIT, seconds(-3600), "ada")


def test_memory_does_not_grow_and_those_who_go_on_are_kept() -> None:
    attempts = Attempts(most=100)
    for _ in range(3):
        attempts.count(LIMIT, NOW, "ada")
    for number in range(10_000):
        attempts.is_left(LIMIT, NOW, str(number))
        assert not attempts.is_left(LIMIT, NOW, "ada")

    assert len(attempts) == 100


def test_many_of_a_cheap_kind_make_nobody_forgotten_of_another() -> None:
    attempts = Attempts(most=100)
    for _ in range(3):
        attempts.count(LIMIT, NOW, "ada")
    for number in range(1000):
        attempts.is_left(Limit("cheap", 3, 60), NOW, str(number))

    assert not attempts.is_left(LIMIT, NOW, "ada")
    assert len(attempts) == 101


def test_a_key_of_any_length_takes_little() -> None:
    attempts = Attempts()
    attempts.is_left(LIMIT, NOW, "x" * 1_000_000)

    assert max(map(len, attempts._used["try"])) < 1000


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::/64"),
        ("testclient", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_machine_with_many_addresses_is_one(address: str | None, whose: str) -> None:
    assert network(address) == whose
