"""The simulated restart does what is worked out by hand."""

import pytest
from bench.scale import LAPTOPS, RESTART_SECONDS, UNPROVEN, Restart


def restart(*, cost: float, replicas: int = 1, most_waiting: int = UNPROVEN.in_all) -> Restart:
    return Restart(cost=cost, replicas=replicas, jitter=True, most_waiting=most_waiting, seed=1)


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
