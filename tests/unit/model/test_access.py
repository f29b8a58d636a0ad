"""Policies: closed when unsure, deny wins, every answer has a reason."""

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all, decide
from codezero.model.ids import Device, new_ulid
from codezero.model.services import ServiceRef

ORDERS = ServiceRef("shop", "orders")
ALICE = Device("hub.example", new_ulid(), new_ulid(), new_ulid())
CONSUME = (Operation.CONSUME,)


def policy(*rules: PolicyRule) -> Policy:
    return Policy(ALICE.organization, rules)


def test_no_policy_means_no() -> None:
    decision = decide(None, ALICE, Operation.CONSUME, ORDERS)

    assert not decision.allowed
    assert "no valid policy" in decision.reason


def test_no_matching_rule_means_no() -> None:
    assert (
        not policy(PolicyRule(Effect.ALLOW, CONSUME, namespaces=("bank",)))
        .decide(ALICE, Operation.CONSUME, ORDERS)
        .allowed
    )
    assert not policy(PolicyRule(Effect.ALLOW, CONSUME)).decide(ALICE, Operation.SERVE, ORDERS).allowed


def test_deny_wins_wherever_it_stands() -> None:
    allow = PolicyRule(Effect.ALLOW, CONSUME, name="all")
    deny = PolicyRule(Effect.DENY, CONSUME, services=("ord*",), name="not orders")

    assert policy(allow).decide(ALICE, Operation.CONSUME, ORDERS).allowed
    for rules in ((allow, deny), (deny, allow)):
        decision = policy(*rules).decide(ALICE, Operation.CONSUME, ORDERS)
        assert not decision.allowed
        assert "not orders" in decision.reason


def test_rules_can_speak_about_one_user() -> None:
    assert (
        policy(PolicyRule(Effect.ALLOW, CONSUME, users=(ALICE.user,))).decide(ALICE, Operation.CONSUME, ORDERS).allowed
    )
    assert (
        not policy(PolicyRule(Effect.ALLOW, CONSUME, users=(new_ulid(),)))
        .decide(ALICE, Operation.CONSUME, ORDERS)
        .allowed
    )


def test_another_organization_is_refused() -> None:
    assert not allow_all(new_ulid()).decide(ALICE, Operation.CONSUME, ORDERS).allowed
    assert allow_all(ALICE.organization).decide(ALICE, Operation.SERVE, ORDERS).allowed


@given(
    patterns=st.lists(st.text("ab*?[]!-|(.\\", max_size=5), max_size=3).map(tuple),
    value=st.text("ab-|(.", max_size=5),
)
def test_patterns_mean_what_the_shell_means(patterns: tuple[str, ...], value: str) -> None:
    """Many patterns are one expression inside; no pattern may reach over into its neighbour."""
    rule = PolicyRule(Effect.ALLOW, (Operation.CONSUME,), users=patterns, namespaces=("*",), services=patterns)

    assert rule.speaks_of_user(value) == any(fnmatchcase(value, pattern) for pattern in patterns)
    assert rule.speaks_of_service(ServiceRef("shop", value)) == rule.speaks_of_user(value)


def test_serve_is_all_serving_and_each_kind_can_be_denied_by_itself() -> None:
    """T19, without a Hub: rules of before mean what they meant, and may be narrowed."""
    serve = PolicyRule(Effect.ALLOW, (Operation.SERVE,))
    no_default = PolicyRule(Effect.DENY, (Operation.SERVE_DEFAULT, Operation.MIRROR), name="ours")
    kinds = (Operation.SERVE_USER, Operation.SERVE_HEADER, Operation.SERVE_DEFAULT, Operation.MIRROR)

    def allowed(*rules: PolicyRule) -> list[bool]:
        return [policy(*rules).decide(ALICE, kind, ORDERS).allowed for kind in kinds]

    assert allowed(serve) == [True, True, True, True]
    assert allowed(serve, no_default) == [True, True, False, False]
    assert allowed(PolicyRule(Effect.ALLOW, (Operation.SERVE_USER,))) == [True, False, False, False]
    assert not policy(serve).decide(ALICE, Operation.TAKEOVER, ORDERS).allowed
    assert (
        policy(serve, no_default).decide(ALICE, Operation.MIRROR, ORDERS).reason
        == "rule ours denies mirror of shop/orders"
    )
