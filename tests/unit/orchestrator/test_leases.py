"""Presence that expires."""

from codezero.model.ids import SessionId
from codezero.model.sessions import PresenceState
from codezero.orchestrator.leases import GRACE_SECONDS, Lapse, Leases
from codezero.wire.control import AWAY_SECONDS, DEAD_SECONDS

ALICE = SessionId("ALICE")


def test_a_lost_laptop_is_away_and_then_gone() -> None:
    """Its team must see within 15 s of its last byte that it is not there; its session is kept for when it returns."""
    leases = Leases(ttl=100)
    leases.hold(ALICE)
    leases.lose(ALICE, 1000.0)  # the System notices a silent laptop after DEAD_SECONDS

    assert leases.expire(1000.0 + GRACE_SECONDS - 0.1) == ()
    assert leases.expire(1000.0 + AWAY_SECONDS - DEAD_SECONDS) == (Lapse(ALICE, PresenceState.AWAY),)
    assert leases.expire(1050.0) == ()
    assert leases.expire(1100.0) == (Lapse(ALICE, PresenceState.GONE),)
    assert leases.state(ALICE) is PresenceState.GONE
    assert len(leases) == 0


def test_a_held_session_never_lapses() -> None:
    """However long the laptop stays."""
    leases = Leases(ttl=100)
    leases.hold(ALICE)

    assert leases.expire(1e9) == ()
    assert leases.is_held(ALICE)


def test_a_laptop_that_returns_keeps_its_session() -> None:
    """The first loss does not count any longer."""
    leases = Leases(ttl=100)
    leases.hold(ALICE)
    leases.lose(ALICE, 0.0)
    leases.expire(50.0)

    assert leases.hold(ALICE) is PresenceState.AWAY
    assert leases.expire(1e9) == ()


def test_the_first_loss_counts() -> None:
    """Tunnel and stream end one after the other; the later news must not lengthen the lease."""
    leases = Leases(ttl=100)
    leases.hold(ALICE)
    leases.lose(ALICE, 0.0)
    leases.lose(ALICE, 99.0)

    assert leases.expire(100.0) == (Lapse(ALICE, PresenceState.GONE),)


def test_an_unknown_session_cannot_be_lost() -> None:
    """Reports about tunnels without a coordination stream leave nothing behind."""
    leases = Leases()
    leases.lose(ALICE, 0.0)
    leases.end(ALICE)

    assert len(leases) == 0
    assert not leases.is_held(ALICE)
