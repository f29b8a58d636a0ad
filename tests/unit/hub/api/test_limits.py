from codezero.hub.api import limits
from codezero.hub.api.limits import Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_with_time_and_not_above_its_rim() -> None:
    clock = Clock()
    buckets = Buckets(rate=2, burst=3, clock=clock)

    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    clock.now += 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_trying_in_vain_makes_nobody_wait_longer() -> None:
    buckets = Buckets(rate=1, burst=1, clock=Clock())

    assert [buckets.take("a") for _ in range(5)] == [0, 1, 1, 1, 1]


def test_a_cost_above_what_is_there_is_told_in_seconds() -> None:
    buckets = Buckets(rate=2, burst=10, clock=Clock())

    assert buckets.take("a", cost=8) == 0
    assert buckets.take("a", cost=8) == 3


def test_memory_is_bounded_by_forgetting_who_was_idle_longest() -> None:
    buckets = Buckets(rate=1, burst=1, clock=Clock())
    for number in range(limits.MAX_KEYS + 1):
        buckets.take(str(number))

    assert buckets.take("0") == 0
    assert buckets.take(str(limits.MAX_KEYS)) == 1
