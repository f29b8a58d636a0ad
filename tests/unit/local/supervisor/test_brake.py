"""When to give up: five failures in a minute (R15)."""

from codezero.local.supervisor.brake import Brake


def test_the_fifth_failure_in_a_minute_is_one_too_many() -> None:
    brake = Brake()
    assert [brake.failed(now) for now in (0, 5, 10, 15, 20)] == [False, False, False, False, True]


def test_failures_spread_over_minutes_are_each_forgiven() -> None:
    """A Daemon that dies each quarter of a minute for ever is restarted for ever; only a burst is a broken build."""
    brake = Brake()
    assert not any(brake.failed(now * 15.1) for now in range(100))


def test_failures_are_forgotten_after_their_minute() -> None:
    brake = Brake()
    for now in (0, 1, 2, 3):
        brake.failed(now)
    assert not brake.failed(60.5)
    assert brake.failures == (1, 2, 3, 60.5)
