"""The policy at each stream, and after."""

from dataclasses import replace

import pytest

from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all, serve_acts
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart
from codezero.system.grants import Grant, Grants
from codezero.testing.bundles import bundle, policy, scope
from codezero.wire import policy_file

DEVICE = Device("hub", new_ulid(), new_ulid(), new_ulid())
ORDERS, CART = ServiceRef("shop", "orders"), ServiceRef("shop", "cart")
SERVE = serve_acts((ConditionPart("user"),), (80,))
ALL = policy_file.encode(allow_all(DEVICE.organization))


def denying(service: str) -> bytes:
    rules = allow_all(DEVICE.organization).rules
    deny = PolicyRule(Effect.DENY, (Operation.CONSUME,), services=(service,))
    return policy_file.encode(Policy(DEVICE.organization, (*rules, deny)))


class Stream:
    def __init__(self, service: ServiceRef) -> None:
        self.grant = Grant(DEVICE, service, lambda: self.over, self._end)
        self.over = False
        self.ended: list[CodezeroError] = []

    def _end(self, error: CodezeroError) -> None:
        self.ended.append(error)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"allow"])
def test_closed_without_a_valid_policy(content: bytes | None) -> None:
    """At the start, and after a good policy went bad."""
    for before in (None, ALL):
        grants = Grants()
        if before is not None:
            grants.read(before)
        grants.read(content)
        with pytest.raises(CodezeroError) as caught:
            grants.require(DEVICE, ORDERS)
        assert caught.value.problem is problems.NO_POLICY
        assert grants.reason is not None


def test_a_refusal_does_not_tell_what_exists() -> None:
    """The same for a service that is forbidden and one that is not there."""
    grants = Grants()
    grants.read(policy_file.encode(Policy(DEVICE.organization, ())))
    details: list[str] = []
    for service in (ORDERS, ServiceRef("no", "thing")):
        with pytest.raises(CodezeroError) as caught:
            grants.require(DEVICE, service)
        details.append(caught.value.detail.replace(str(service), "it"))

    assert details[0] == details[1]


def test_a_new_policy_ends_what_it_forbids_and_nothing_else() -> None:
    """T41."""
    grants = Grants()
    grants.read(ALL)
    orders, cart, over = Stream(ORDERS), Stream(CART), Stream(ORDERS)
    over.over = True
    for stream in (orders, cart, over):
        grants.note(stream.grant)

    assert not grants.read(ALL)
    assert grants.read(denying("orders"))
    assert [error.problem for error in orders.ended] == [problems.FORBIDDEN]
    assert cart.ended == over.ended == []

    grants.read(None)
    assert [error.problem for error in cart.ended] == [problems.NO_POLICY]
    assert len(orders.ended) == 1


def test_streams_that_are_over_are_forgotten() -> None:
    """Millions of short connections must not add up."""
    grants = Grants()
    grants.read(ALL)
    running = Stream(CART)
    grants.note(running.grant)
    for _ in range(20_000):
        stream = Stream(ORDERS)
        stream.over = True
        grants.note(stream.grant)

    assert len(grants._running) < 2000
    grants.read(denying("cart"))
    assert len(running.ended) == 1


def test_each_operation_is_asked_about_by_its_own_rules() -> None:
    """Who may consume may not therefore serve, and what runs ends by the operation it is for."""
    rules = (PolicyRule(Effect.ALLOW, (Operation.CONSUME,)),)
    grants = Grants()
    grants.read(ALL)
    serving, consuming = Stream(ORDERS), Stream(ORDERS)
    grants.note(consuming.grant)
    grants.note(replace(serving.grant, acts=SERVE))
    grants.require(DEVICE, ORDERS, SERVE)
    grants.read(policy_file.encode(Policy(DEVICE.organization, rules)))
    grants.require(DEVICE, ORDERS)
    with pytest.raises(CodezeroError) as caught:
        grants.require(DEVICE, ORDERS, SERVE)

    assert caught.value.problem is problems.FORBIDDEN
    assert (len(serving.ended), len(consuming.ended)) == (1, 0)


def test_a_bundle_that_expires_ends_what_runs() -> None:
    """R05: the Hub's last word holds for so long; a later word opens again."""
    now = [0.0]
    grants = Grants(clock=lambda: now[0])
    told: list[str | None] = []
    grants.follow(lambda: told.append(grants.reason))
    grants.read(policy_file.encode(bundle([DEVICE], expires_at=100.0)))
    orders = Stream(ORDERS)
    grants.note(orders.grant)
    grants.look()
    assert orders.ended == []
    now[0] = 100.0
    with pytest.raises(CodezeroError, match="expired"):
        grants.require(DEVICE, ORDERS)
    grants.look()
    assert [error.problem for error in orders.ended] == [problems.NO_POLICY]
    assert told[0] is None
    assert "expired" in (told[1] or "")

    assert grants.read(policy_file.encode(bundle([DEVICE], serial=2, expires_at=200.0)))
    grants.require(DEVICE, ORDERS)


@pytest.mark.parametrize("how", ["device", "user", "role", "policy", "suspended", "space"])
def test_each_way_to_take_access_away_ends_what_runs(how: str) -> None:
    """T41: with the reason, and devices that lost everything are told so before they ask for anything."""
    other = Device("hub", DEVICE.organization, new_ulid(), new_ulid())
    grants = Grants()
    grants.read(policy_file.encode(bundle([DEVICE, other])))
    theirs, others = Stream(ORDERS), replace(Stream(ORDERS).grant, device=other)
    grants.note(theirs.grant)
    grants.note(others)
    permit = policy(principal=scope("Role", "developer", within=True))
    after = {
        "device": bundle([DEVICE, other], serial=2, revoked=[DEVICE.device]),
        "user": bundle([other], serial=2),
        "role": bundle([DEVICE, other], {"a": permit}, serial=2, role="auditor"),
        "policy": bundle([DEVICE, other], {"no": policy("forbid")}, serial=2),
        "suspended": bundle([DEVICE, other], serial=2, suspended=True),
        "space": bundle([Device("hub", new_ulid(), new_ulid(), new_ulid())], space=new_ulid()),
    }[how]
    assert grants.read(policy_file.encode(after))

    (error,) = theirs.ended
    if how in ("device", "user", "space"):
        assert error.problem is problems.ACCESS_ENDED
        with pytest.raises(CodezeroError) as caught:
            grants.require_device(DEVICE)
        assert caught.value.detail == error.detail
    else:
        assert error.problem is (problems.NO_POLICY if how == "suspended" else problems.FORBIDDEN)
        grants.require_device(DEVICE)


def test_remembered_answers_have_a_bound_and_an_end() -> None:
    """A laptop may ask about any name; what a policy said before counts for nothing."""
    grants = Grants()
    grants.read(policy_file.encode(bundle([DEVICE])))
    for number in range(25_000):
        grants.require(DEVICE, ServiceRef("shop", f"s{number}"))
    assert len(grants._decisions) <= 20_000
    grants.read(policy_file.encode(bundle([DEVICE], {}, serial=2)))

    with pytest.raises(CodezeroError):
        grants.require(DEVICE, ServiceRef("shop", "s24999"))
