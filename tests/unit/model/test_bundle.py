"""A Hub's bundle: members, what was taken away, and Cedar; closed when unsure, and every refusal has its reason."""

import pytest

from codezero.model import access
from codezero.model.access import CONSUME, TERMINATE, Act, Operation, acts_of, serve_acts, takeover_of
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.testing.bundles import attribute, bundle, equals, policy, scope

ORGANIZATION = new_ulid()
ANNA, BEN = (Device("hub", ORGANIZATION, new_ulid(), new_ulid()) for _ in range(2))
ORDERS, API = ServiceRef("shop", "orders"), ServiceRef("bank", "api")
HEADER = ConditionPart("header", "x-team", "blue")
USER = ConditionPart("user")


def test_members_may_what_policies_permit() -> None:
    """By their roles, with those a role implies."""
    policies = {"look": policy(principal=scope("Role", "viewer", within=True), action=scope("Action", "consume"))}

    assert bundle([ANNA], policies).decide(ANNA, CONSUME, ORDERS).allowed
    assert not bundle([ANNA], policies, role="auditor").decide(ANNA, CONSUME, ORDERS).allowed
    assert not bundle([ANNA], policies, role="something-new").decide(ANNA, CONSUME, ORDERS).allowed
    refusal = bundle([ANNA], policies).decide(ANNA, serve_acts((HEADER,), (80,))[0], ORDERS)
    assert refusal.reason == "no policy allows serve-header of shop/orders"


def test_forbid_wins_and_says_why() -> None:
    """The words of whoever wrote it reach whoever is stopped by it."""
    policies = {
        "all": policy(),
        "freeze": policy("forbid", resource=scope("Namespace", "shop", within=True), reason="until Monday"),
    }
    decided = bundle([ANNA], policies).decide(ANNA, CONSUME, ORDERS)

    assert (decided.allowed, decided.reason) == (False, "policy 'freeze' forbids consume of shop/orders: until Monday")
    assert bundle([ANNA], policies).decide(ANNA, CONSUME, API).reason == "policy 'all' allows it"


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (Device("hub", new_ulid(), ANNA.user, ANNA.device), "another organization"),
        (BEN, "no member"),
        (Device("hub", ORGANIZATION, ANNA.user, new_ulid()), None),
        (ANNA, "revoked"),
    ],
)
def test_who_has_lost_access_is_told_so_whatever_policies_say(device: Device, reason: str | None) -> None:
    """T41: a member without the revoked device stays one."""
    held = bundle([ANNA], revoked=[ANNA.device])
    decided = held.decide(device, CONSUME, ORDERS)

    assert decided.allowed == (reason is None)
    assert reason is None or (reason in decided.reason and not decided.knows_device)
    assert (held.refusal(device) is None) == (reason is None)


def test_a_bundle_closes_with_time_and_by_suspension() -> None:
    """R05: the last word of a Hub holds for so long and no longer."""
    held = bundle([ANNA], expires_at=100.0)

    assert held.closed(99.9) is None
    assert "expired at 1970-01-01 00:01 UTC" in (held.closed(100.0) or "")
    assert "suspended" in (bundle([ANNA], suspended=True).closed(0) or "")


def test_the_condition_and_the_ports_of_a_serve_can_be_asked_about() -> None:
    """T19: a header may be allowed by its name, a port refused."""
    policies = {
        "by team": policy(when=equals(attribute("context", "condition", "key"), "x-team")),
        "no database": policy(
            "forbid",
            action=scope("Action", "serve", within=True),
            when={"contains": {"left": attribute("context", "ports"), "right": {"Value": 5432}}},
        ),
    }
    held = bundle([ANNA], policies)

    def allowed(*parts: ConditionPart, port: int = 80) -> bool:
        return all(held.decide(ANNA, act, ORDERS).allowed for act in serve_acts(parts, (port,)))

    assert allowed(HEADER)
    assert not allowed(ConditionPart("header", "x-other", "blue"))
    assert not allowed(HEADER, port=5432)
    # A part of the condition cannot hide behind another.
    assert not allowed(HEADER, ConditionPart("cookie", "a", "b"))


@pytest.mark.parametrize(
    ("condition", "operation", "asked"),
    [
        ((), Operation.SERVE_DEFAULT, (ConditionPart("default"),)),
        ((ConditionPart("default"),), Operation.SERVE_DEFAULT, (ConditionPart("default"),)),
        ((ConditionPart("path", None, "/"),), Operation.SERVE_DEFAULT, (ConditionPart("path", None, "/"),)),
        ((USER,), Operation.SERVE_USER, (USER,)),
        ((USER, ConditionPart("path", None, "/api")), Operation.SERVE_USER, (USER,)),
        ((HEADER, USER), Operation.SERVE_HEADER, (HEADER,)),
        ((ConditionPart("percent", None, "20%"),), Operation.SERVE_HEADER, (ConditionPart("percent", None, "20%"),)),
        (
            (HEADER, ConditionPart("cookie", "a", "b")),
            Operation.SERVE_HEADER,
            (HEADER, ConditionPart("cookie", "a", "b")),
        ),
    ],
)
def test_serving_is_asked_about_by_whose_requests_it_takes(
    condition: tuple[ConditionPart, ...], operation: Operation, asked: tuple[ConditionPart, ...]
) -> None:
    """T19: a path alone takes everybody's requests, as `default` does."""
    acts = serve_acts(condition, (80,))

    assert acts == tuple(Act(operation, part, (80,)) for part in asked)
    assert {act.operation for act in serve_acts(condition, (80,), mirror=True)} == {Operation.MIRROR}
    assert {act.operation for act in takeover_of(acts)} == {Operation.TAKEOVER}


def test_each_operation_is_a_permission_of_its_own() -> None:
    """T19: who may serve by header has neither default, mirror, takeover nor terminate."""
    for operation in set(Operation) - {Operation.SERVE}:
        held = bundle([ANNA], {"one": policy(action=scope("Action", operation))})
        allowed = {
            other
            for other in set(Operation) - {Operation.SERVE}
            if held.decide(ANNA, Act(other, HEADER, (80,)), ORDERS).allowed
        }
        assert allowed == {operation}

    group = bundle([ANNA], {"group": policy(action=scope("Action", "serve", within=True))})
    assert all(group.decide(ANNA, act, ORDERS).allowed for act in serve_acts((HEADER,), (80,)))
    assert not group.decide(ANNA, serve_acts((HEADER,), (80,), mirror=True)[0], ORDERS).allowed
    assert not group.decide(ANNA, TERMINATE, ORDERS).allowed


def test_a_policy_that_fails_counts_as_not_there() -> None:
    """Consuming has no condition to ask about."""
    asks = equals(attribute("context", "condition", "type"), "header")

    assert not bundle([ANNA], {"a": policy(when=asks)}).decide(ANNA, CONSUME, ORDERS).allowed
    assert bundle([ANNA], {"a": policy(), "b": policy("forbid", when=asks)}).decide(ANNA, CONSUME, ORDERS).allowed


def test_of_two_bundles_the_serial_decides() -> None:
    """The file is slower than the Orchestrator's word; of the same serial the later one counts."""
    one, two = bundle([ANNA], serial=1), bundle([ANNA], serial=2)

    assert one.is_older_than(two)
    assert not two.is_older_than(one)
    assert not one.is_older_than(bundle([ANNA], serial=2, space=new_ulid()))


def test_what_says_the_same_is_equal() -> None:
    """A bundle that only holds for longer makes nobody decide anew."""
    assert bundle([ANNA], serial=1, expires_at=1.0) == bundle([ANNA], serial=2, expires_at=2.0)
    assert bundle([ANNA], serial=1) != bundle([ANNA], serial=1, suspended=True)
    assert bundle([ANNA], {"a": policy()}) != bundle(
        [ANNA], {"a": policy(when=equals(attribute("principal", "kind"), "x"))}
    )


def test_laptops_for_which_the_same_policies_speak_share_a_sight() -> None:
    """10,000 services for thousands of laptops; who a policy singles out has a sight of its own."""
    everybody = bundle([ANNA, BEN])
    assert everybody.sight(ANNA) == everybody.sight(BEN)
    assert hash(everybody.sight(ANNA)) == hash(everybody.sight(BEN))

    one = bundle([ANNA, BEN], {"anna": policy(principal=scope("User", ANNA.user)), "all": policy()})
    assert one.sight(ANNA) != one.sight(BEN)

    by_mail = {"mail": policy(when=equals(attribute("principal", "email"), "user0@example.com"))}
    asked = bundle([ANNA, BEN], by_mail)
    assert asked.sight(ANNA) != asked.sight(BEN)
    assert (asked.sight(ANNA).sees(ORDERS), asked.sight(BEN).sees(ORDERS)) == (True, False)

    serving = bundle(
        [ANNA, BEN],
        {
            "all": policy(),
            "s": policy("forbid", action=scope("Action", "mirror"), when=by_mail["mail"]["conditions"][0]["body"]),
        },
    )
    assert serving.sight(ANNA) == serving.sight(BEN)


def test_a_sight_decides_as_its_bundle_does() -> None:
    """It is the quick way, not another policy."""
    held = bundle([ANNA], {"shop": policy(resource=scope("Namespace", "shop", within=True))})
    for service in (ORDERS, API):
        for _ in range(2):
            assert held.sight(ANNA).sees(service) == held.decide(ANNA, CONSUME, service).allowed
        assert held.sight(ANNA).decide(service) == held.decide(ANNA, CONSUME, service)


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop may ask about any name."""
    monkeypatch.setattr(access, "REMEMBERED_SIGHTS", 10)
    held = bundle([ANNA])
    sight = held.sight(ANNA)
    for number in range(100):
        assert sight.sees(ServiceRef("shop", f"s{number}"))

    assert len(held._seen) <= 10  # pyright: ignore[reportPrivateUsage]


def test_a_variant_needs_what_its_condition_says() -> None:
    """Orchestrator and System ask the same."""
    view = VariantView(
        "v", ANNA.user, "anna", str(ANNA), SessionId("s"), (HEADER,), (PortPair(80, 3000),), 0, 0.0, mirror=Mirror.SAFE
    )

    assert acts_of(view) == (Act(Operation.MIRROR, HEADER, (80,)),)
