"""How often we insist on a file: enough for DHCP, not for a fight (R19)."""

from codezero.local.host.contest import Contest


def test_three_reversals_in_a_minute_are_answered_and_the_fourth_is_not() -> None:
    contest = Contest()
    assert [contest.may_insist(now) for now in (0, 10, 20, 30, 31)] == [True, True, True, False, False]
    assert contest.is_paused(31)


def test_reversals_now_and_then_are_answered_for_ever() -> None:
    """A laptop that changes networks each half hour never hears of it."""
    contest = Contest()
    assert all(contest.may_insist(now * 1800.0) for now in range(100))


def test_after_the_pause_we_try_again() -> None:
    contest = Contest()
    for now in (0, 1, 2, 3):
        contest.may_insist(now)
    assert contest.is_paused(302)
    assert not contest.is_paused(303)
    assert contest.may_insist(304)
