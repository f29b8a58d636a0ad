"""Back-off: bounded, jittered, and short again after success."""

import random

from codezero.kit.backoff import Backoff


def test_delays_stay_between_first_and_most_and_reach_most() -> None:
    backoff = Backoff(first=0.5, most=10, source=random.Random(1))
    delays = [backoff.next() for _ in range(200)]

    assert all(0.5 <= delay <= 10 for delay in delays)
    assert max(delays) == 10


def test_two_clients_do_not_return_at_once() -> None:
    one, two = Backoff(source=random.Random(1)), Backoff(source=random.Random(2))

    assert [one.next() for _ in range(5)] != [two.next() for _ in range(5)]


def test_reset_makes_delays_short_again() -> None:
    backoff = Backoff(first=0.5, most=100, source=random.Random(1))
    for _ in range(50):
        backoff.next()
    backoff.reset()

    assert backoff.next() <= 1.5
