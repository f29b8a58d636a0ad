"""The simulated restart does what is worked out by hand."""

import pytest
from bench.scale import LAPTOPS, RESTART_SECONDS, UNPROVEN, Restart


def restart(*, cost: float, replicas: int = 1, jitter: bool = True, most_waiting: int = UNPROVEN.in_all) -> Restart:
    return Restart(cost=cost, replicas=replicas, jitter=jitter, most_waiting=most_waiting, seed=1)


def test_nobody_is_back_before_there_is_a_system_and_all_are_served_one_after_the_other() -> None:
    whole = LAPTOPS * 0.004

    assert RESTART_SECONDS + whole <= restart(cost=0.004).run() < RESTART_SECONDS + whole + 2


def test_with_other_systems_there_nobody_waits_for_the_one_that_ended() -> None:
    work = restart(cost=0.001, replicas=3)

    assert work.run() < RESTART_SECONDS
    assert work.attempts == LAPTOPS


@pytest.mark.parametrize("most_waiting", [20, UNPROVEN.per_address])
def test_who_is_dropped_comes_again(most_waiting: int) -> None:
    """A limit on strangers makes more attempts, and in the end everybody is served."""
    unlimited, limited = restart(cost=0.004), restart(cost=0.004, most_waiting=most_waiting)

    assert limited.run() >= unlimited.run()
    assert limited.attempts > unlimited.attempts


def test_who_is_not_served_in_time_tries_again() -> None:
    """All in step at 6 ms each are 6 s of work, and nobody waits longer than five: who is not served by then comes once more."""
    quick, slow = restart(cost=0.001, jitter=False), restart(cost=0.006, jitter=False)
    quick.run()

    assert RESTART_SECONDS + LAPTOPS * 0.006 <= slow.run() < RESTART_SECONDS + LAPTOPS * 0.006 + 1
    assert slow.attempts - quick.attempts == pytest.approx(LAPTOPS - UNPROVEN.seconds / 0.006, abs=1)
