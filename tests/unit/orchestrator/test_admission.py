"""Who may consume what: closed when unsure, and the same answer as the policy's own."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all
from codezero.model.ids import Device, new_ulid
from codezero.model.services import ServiceRef
from codezero.orchestrator.admission import Admission
from codezero.testing.bundles import attribute, bundle, equals, policy
from codezero.wire import policy_file

USERS = ["01J0000000000000000000000A", "01J0000000000000000000000B"]
ORGANIZATION = "01J00000000000000000000000"
ALICE, BOB = (Device("hub", ORGANIZATION, user, "01J0000000000000000000000D") for user in USERS)
ORDERS = ServiceRef("shop", "orders")

GLOBS = st.lists(st.sampled_from(["*", "shop", "s*", "orders", "?rders", "x"]), max_size=2).map(tuple)
RULES = st.builds(
    PolicyRule,
    effect=st.sampled_from(Effect),
    operations=st.lists(st.sampled_from(Operation), max_size=2).map(tuple),
    users=st.lists(st.sampled_from(["*", *USERS, "*A", "nobody"]), max_size=2).map(tuple),
    namespaces=GLOBS,
    services=GLOBS,
    name=st.sampled_from(["", "a rule"]),
)
POLICIES = st.builds(
    Policy,
    organization=st.sampled_from([ORGANIZATION, "01J00000000000000000000009"]),
    rules=st.lists(RULES, max_size=5).map(tuple),
)
REFS = st.builds(ServiceRef, st.sampled_from(["shop", "x", "other"]), st.sampled_from(["orders", "x", "cart"]))


def with_policy(policy: Policy) -> Admission:
    admission = Admission()
    admission.read(policy_file.encode(policy))
    return admission


@given(POLICIES, st.sampled_from([ALICE, BOB]), REFS)
def test_decides_as_the_policy_does(policy: Policy, device: Device, ref: ServiceRef) -> None:
    """The quick way for thousands of services must be no other policy; and who may not consume, does not see."""
    admission = with_policy(policy)
    truth = policy.decide(device, Operation.CONSUME, ref)

    assert admission.refused(device, [ref]) == (() if truth.allowed else ((ref, truth.reason),))
    assert admission.viewer(device).sees(ref) == truth.allowed


def test_devices_with_the_same_rules_share_a_viewer() -> None:
    """One encoding of the catalog for all of them."""
    admission = with_policy(allow_all(ORGANIZATION))

    assert admission.viewer(ALICE) == admission.viewer(BOB)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'"allow"',
        b'{"organization": "o"}',
        b'{"rules": []}',
        b'{"organization": "", "rules": []}',
        b'{"organization": "o", "rules": null}',
        b'{"organization": "o", "rules": [{"effect": "allow"}]}',
        b'{"organization": "o", "rules": [{"effect": "Allow", "operations": ["consume"]}]}',
        b'{"organization": "o", "rules": [{"effect": "allow", "operations": ["everything"]}]}',
        b'{"organization": "o", "rules": [{"effect": "allow", "operations": "consume"}]}',
        b'{"organization": "o", "rules": [{"effect": "allow", "operations": ["consume"], "namespace": ["shop"]}]}',
        b'{"organization": "o", "rules": [{"effect": "allow", "operations": ["consume"], "namespaces": [""]}]}',
        b'{"organization": "o", "rules": [{"effect": "allow", "operations": ["consume"], "users": [1]}]}',
        b'{"organization": "o", "rules": [{"effect": "allow", "operations": ["consume"]}]} true',
        b'{"organization": "o", "rules": [], "allow_all": true}',
        b"[" * 100_000,
        b" " * (policy_file.MAX_SIZE + 1),
        b"\xff\xfe{}",
    ],
    ids=lambda content: repr(content)[:60],
)
def test_without_a_valid_policy_everything_is_refused_with_the_reason(content: bytes | None) -> None:
    """T46: a file that is missing, cut, misspelt or hostile must never become an allow, also not after a good one."""
    admission = with_policy(allow_all(ORGANIZATION))
    assert admission.refused(ALICE, [ORDERS]) == ()

    assert admission.read(content)

    ((refused, reason),) = admission.refused(ALICE, [ORDERS])
    assert refused == ORDERS
    assert "policy" in reason
    assert not admission.viewer(ALICE).sees(ORDERS)


def test_before_the_first_look_everything_is_refused() -> None:
    """The Orchestrator may be asked before it has read the file."""
    assert Admission().refused(ALICE, [ORDERS]) == ((ORDERS, "the Teamspace has no policy yet"),)


def test_a_stranger_is_told_that_it_is_a_stranger() -> None:
    """Not that some rule is missing."""
    stranger = Device("hub", new_ulid(), USERS[0], new_ulid())

    ((_, reason),) = with_policy(allow_all(ORGANIZATION)).refused(stranger, [ORDERS])

    assert "another organization" in reason


def test_reading_the_same_file_again_changes_nothing() -> None:
    """Nobody's decisions are made again for nothing."""
    admission = with_policy(allow_all(ORGANIZATION))

    assert not admission.read(policy_file.encode(allow_all(ORGANIZATION)))


def test_the_file_is_what_the_model_says() -> None:
    """A policy survives being written and read."""
    policy = Policy(ORGANIZATION, (PolicyRule(Effect.DENY, (Operation.SERVE,), services=("a*",), name="no"),))

    assert policy_file.decode(policy_file.encode(policy)) == policy
    assert policy_file.decode(msgspec.json.encode(policy)) == policy


def test_thousands_of_services_are_decided_once_for_laptops_alike() -> None:
    """A reconnect of everybody must not decide everything anew for each."""
    admission = with_policy(allow_all(ORGANIZATION))
    refs = [ServiceRef("shop", f"orders-{number}") for number in range(15_000)]

    assert admission.refused(ALICE, refs) == ()
    assert admission.refused(BOB, refs) == ()
    assert admission.refused(BOB, [ServiceRef("shop", f"cart-{number}") for number in range(15_000)]) == ()


@given(POLICIES, st.sampled_from([ALICE, BOB]), st.sampled_from(Operation), REFS)
def test_nobody_does_what_the_policy_forbids_nor_to_what_is_hidden(
    policy: Policy, device: Device, operation: Operation, ref: ServiceRef
) -> None:
    """Remembered answers are the policy's own."""
    admission = with_policy(policy)
    seen, truth = (policy.decide(device, each, ref) for each in (Operation.CONSUME, operation))

    for _ in range(2):
        assert admission.decide(device, operation, ref) == (truth if seen.allowed else seen)


def test_a_new_policy_is_asked_anew() -> None:
    """T41: what was allowed a moment ago counts for nothing; without a policy nothing is allowed."""
    admission = Admission()
    assert not admission.is_read
    assert admission.decide(ALICE, Operation.SERVE, ORDERS).reason == "the Teamspace has no policy yet"
    admission.read(policy_file.encode(allow_all(ORGANIZATION)))
    assert admission.is_read
    assert admission.decide(ALICE, Operation.SERVE, ORDERS).allowed
    admission.read(policy_file.encode(allow_all(ORGANIZATION, [Operation.CONSUME])))
    assert not admission.decide(ALICE, Operation.SERVE, ORDERS).allowed
    admission.read(b"{")

    assert "no valid policy" in admission.decide(ALICE, Operation.SERVE, ORDERS).reason


def test_remembered_answers_have_a_bound() -> None:
    """A laptop may ask about any name."""
    admission = with_policy(allow_all(ORGANIZATION))
    for number in range(25_000):
        assert admission.decide(ALICE, Operation.SERVE, ServiceRef("shop", f"s{number}")).allowed

    assert len(admission._other_decisions) <= 20_000  # pyright: ignore[reportPrivateUsage]


def test_a_hubs_members_see_what_cedar_permits() -> None:
    """As with rules: who may not consume, does not see, and does nothing else there."""
    cart = ServiceRef("shop", "cart")
    admission = Admission()
    only = policy(when=equals(attribute("resource", "name"), "cart"))
    admission.read(policy_file.encode(bundle([ALICE, BOB], {"cart": only})))
    stranger = Device("hub", ORGANIZATION, new_ulid(), new_ulid())

    assert admission.viewer(ALICE) == admission.viewer(BOB)
    assert (admission.viewer(ALICE).sees(cart), admission.viewer(ALICE).sees(ORDERS)) == (True, False)
    assert admission.refused(ALICE, [cart, ORDERS]) == ((ORDERS, "no policy allows consume of shop/orders"),)
    assert admission.decide(ALICE, Operation.SERVE_USER, ORDERS).reason == "no policy allows consume of shop/orders"
    assert "no member" in (admission.viewer(stranger).closed or "")


def test_only_the_revoked_device_of_a_user_is_refused() -> None:
    """The laptop was stolen, not the person."""
    other = Device("hub", ORGANIZATION, ALICE.user, new_ulid())
    admission = Admission()
    admission.read(policy_file.encode(bundle([ALICE], revoked=[other.device])))

    assert admission.viewer(ALICE).sees(ORDERS)
    assert "revoked" in (admission.viewer(other).closed or "")
    assert "revoked" in admission.decide(other, Operation.SERVE_USER, ORDERS).reason


def test_a_policy_that_expires_is_noticed_once() -> None:
    """R05: decisions are made by the clock; a look tells that they changed."""
    now = [0.0]
    admission = Admission(clock=lambda: now[0])
    admission.read(policy_file.encode(bundle([ALICE], expires_at=10.0)))
    version = admission.version
    assert admission.decide(ALICE, Operation.SERVE_USER, ORDERS).allowed
    assert not admission.look()
    now[0] = 10.0

    assert not admission.decide(ALICE, Operation.SERVE_USER, ORDERS).allowed
    assert not admission.viewer(ALICE).sees(ORDERS)
    assert admission.policy is None
    assert (admission.look(), admission.look()) == (True, False)
    assert admission.version == version + 1
