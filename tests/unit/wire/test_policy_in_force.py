"""Which policy counts, whatever comes in whatever order."""

from codezero.model.access import allow_all
from codezero.model.ids import Device, new_ulid
from codezero.testing.bundles import bundle
from codezero.wire import policy_file
from codezero.wire.policy_in_force import PolicyInForce

ANNA = Device("hub", new_ulid(), new_ulid(), new_ulid())


def test_an_older_bundle_takes_no_newer_ones_place() -> None:
    """The mounted file follows a minute after the Orchestrator's word, and would give back what was just taken away."""
    force = PolicyInForce()
    assert force.read(policy_file.encode(bundle([ANNA], serial=2, suspended=True)))

    assert not force.read(policy_file.encode(bundle([ANNA], serial=1)))
    assert "suspended" in (force.closed(0) or "")
    assert force.read(policy_file.encode(bundle([ANNA], serial=3)))
    assert force.closed(0) is None


def test_a_bundle_that_holds_longer_changes_nothing_else() -> None:
    """Renewed in time, nobody notices."""
    force = PolicyInForce()
    force.read(policy_file.encode(bundle([ANNA], serial=1, expires_at=100.0)))

    assert not force.read(policy_file.encode(bundle([ANNA], serial=2, expires_at=200.0)))
    assert force.closed(150.0) is None
    assert "expired" in (force.closed(200.0) or "")


def test_a_teamspace_may_leave_its_hub() -> None:
    """Rules have no serial; who may write the file may do anything anyhow."""
    force = PolicyInForce()
    force.read(policy_file.encode(bundle([ANNA])))

    assert force.read(policy_file.encode(allow_all(ANNA.organization)))
    assert force.policy == allow_all(ANNA.organization)


def test_what_cannot_be_read_closes() -> None:
    """Nobody knows what it was to forbid."""
    force = PolicyInForce()
    assert (force.is_read, force.closed(0)) == (False, "the Teamspace has no policy yet")
    force.read(policy_file.encode(bundle([ANNA])))

    assert force.read(b'{"serial": 2}')
    assert "no valid policy" in (force.closed(0) or "")
    assert force.is_read
    # Nor is a file that is broken for a moment the way back to an older one.
    assert not force.read(policy_file.encode(bundle([ANNA], serial=0)))
    assert force.policy is None


def test_another_teamspaces_bundle_is_none() -> None:
    """Whoever is a member there may be none here."""
    force, own, other = PolicyInForce(), new_ulid(), new_ulid()
    force.belongs_to(own)
    assert force.read(policy_file.encode(bundle([ANNA], space=other, serial=9)))
    assert "another Teamspace" in (force.closed(0) or "")
    assert force.policy is None

    assert force.read(policy_file.encode(bundle([ANNA], space=own, serial=2)))
    assert force.closed(0) is None
    assert not force.read(policy_file.encode(bundle([ANNA], space=other, serial=9)))
    assert getattr(force.policy, "space", None) == own
    assert force.read(policy_file.encode(bundle([ANNA], space=own, serial=3, suspended=True)))
    assert "suspended" in (force.closed(0) or "")


def test_a_cluster_that_becomes_another_teamspace_takes_that_ones_bundle_in_whatever_order_it_comes() -> None:
    """Identity and policy are mounted one after the other."""
    force, own, other = PolicyInForce(), new_ulid(), new_ulid()
    force.read(policy_file.encode(bundle([ANNA], space=own)))
    assert not force.belongs_to(own)
    assert not force.read(policy_file.encode(bundle([ANNA], space=other)))

    assert force.belongs_to(other)
    assert getattr(force.policy, "space", None) == other
    assert force.belongs_to(own)
    assert "another Teamspace" in (force.closed(0) or "")
    assert force.read(policy_file.encode(bundle([ANNA], space=own)))
    assert force.closed(0) is None
