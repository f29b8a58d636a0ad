"""A plan that travelled must be the plan that was made; a plan that could not have been made is refused."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import (
    Baggage,
    Condition,
    Cookie,
    Header,
    Method,
    Path,
    Percent,
    Predicate,
    Query,
    Serve,
    User,
    Variant,
    condition_of,
)
from codezero.model.services import ServicePort, ServiceRef
from codezero.model.variants import Mirror, PortPair
from codezero.routing.compile import ServedPort, compile_plan
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule
from codezero.wire.route_plan import Plan, from_wire, to_wire

ORDERS = ServiceRef("shop", "orders")
ALICE, BOB = "01J0000000000000000000000A", "01J0000000000000000000000B"
VARIANT = "01JV0000000000000000000001"
PORTS = [
    ServedPort(ServicePort(80, name="http"), 8080), ServedPort(ServicePort(81), 8081), ServedPort(ServicePort(5432, name="tcp"), 5432),
]  # fmt: skip

_VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
_TEXT = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=9
)
_PREDICATES: st.SearchStrategy[Predicate] = st.one_of(
    st.just(User()),
    st.builds(Header, st.sampled_from(["x-a", "x-b"]), st.text(_VISIBLE, min_size=1, max_size=9)),
    st.builds(Baggage, st.sampled_from(["k", "K!"]), _TEXT),
    st.builds(Query, st.sampled_from(["q", "r.s"]), _TEXT),
    st.builds(Cookie, st.sampled_from(["c", "d"]), st.sampled_from(["1", '"quoted"', "a:b"])),
    st.builds(Method, st.sampled_from(["GET", "PURGE"])),
    st.builds(Path, st.sampled_from(["/", "/api", "/a:b"])),
    st.builds(Percent, st.integers(1, 100), st.sampled_from([None, "x-a", "x-c6o-userid"])),
)


def _subject(predicate: Predicate) -> tuple[str, str]:
    return type(predicate).__name__, str(getattr(predicate, "key", ""))


_CONDITIONS = st.lists(_PREDICATES, max_size=8, unique_by=_subject).map(condition_of)
_VARIANTS = st.builds(
    lambda number, user, condition, ports, since, mirror: Variant(
        f"01JV{number:022d}", ORDERS, user, "somebody", condition, tuple(PortPair(port, 3000) for port in ports), since, mirror
    ),
    st.integers(0, 99), st.sampled_from([ALICE, BOB]), _CONDITIONS, st.sets(st.sampled_from([80, 81, 5432]), min_size=1), st.integers(0, 3),
    st.sampled_from([None, *Mirror]),
)  # fmt: skip
_HOLDERS = st.sampled_from([Address("10.244.1.7", 8801), Address("fd00::7", 8801), None])


@given(st.lists(_VARIANTS, max_size=6, unique_by=lambda one: one.variant_id), st.data())
def test_a_plan_comes_back_as_itself(variants: list[Variant], data: st.DataObject) -> None:
    """Also as JSON, as the first plan of a Router is written in its pod's settings."""
    found = {one.variant_id: data.draw(_HOLDERS) for one in variants}
    holders = {name: holder for name, holder in found.items() if holder is not None}
    plan = compile_plan(Serve(ORDERS, tuple(variants)), origin="10.96.0.10", ports=PORTS, holders=holders)
    for codec in (msgspec.json, msgspec.msgpack):
        assert from_wire(codec.decode(codec.encode(to_wire(plan)), type=Plan)) == plan


RULE = Rule(VARIANT, 80, condition_of([Header("x-c6o-userid", ALICE)]), Address("10.244.1.7", 8801))
PLAN = RoutePlan(ORDERS, (PortPlan(8080, PortKind.HTTP, Address("10.96.0.10", 80), (RULE,)),))


def test_the_owner_of_a_condition_travels_as_such() -> None:
    """A header condition on a user's id is refused everywhere else: nobody may take another's requests."""
    wire = to_wire(PLAN)

    assert msgspec.to_builtins(wire.ports[0].rules[0].condition) == ({"kind": "owner", "value": ALICE},)


def changed(**changes: Any) -> dict[str, Any]:
    """The plan as it travels, with changes to its only rule."""
    content = msgspec.to_builtins(to_wire(PLAN))
    content["ports"][0]["rules"][0].update(changes)
    return content


def with_port(**changes: Any) -> dict[str, Any]:
    content = msgspec.to_builtins(to_wire(PLAN))
    content["ports"][0].update(changes)
    return content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (changed(variant="me"), problems.BAD_SERVE),
        (changed(variant="../../x"), problems.BAD_SERVE),
        (changed(holder={"host": "system.evil.example", "port": 8801}), problems.BAD_SERVE),
        (changed(condition=[{"kind": "owner", "value": "alice"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "owner"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "user"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "default"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "header", "key": "Authorization", "value": "x"}]), problems.HEADER_REFUSED),
        (changed(condition=[{"kind": "header", "key": "x-c6o-userid", "value": ALICE}]), problems.HEADER_REFUSED),
        (changed(condition=[{"kind": "header", "key": "x-a", "value": "a\r\nb"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "percent", "value": "0"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "regex", "value": ".*"}]), problems.BAD_CONDITION),
        (changed(condition=[{"kind": "method", "value": one} for one in ("GET", "PUT")]), problems.BAD_CONDITION),
        (with_port(origin={"host": "localhost", "port": 80}), problems.BAD_SERVE),
        ({**msgspec.to_builtins(to_wire(PLAN)), "ports": msgspec.to_builtins(to_wire(PLAN))["ports"] * 2}, problems.BAD_SERVE),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(content: dict[str, Any], problem: problems.Problem) -> None:
    """A Router must not become somebody else's proxy by what it is sent."""
    with pytest.raises(CodezeroError) as caught:
        from_wire(msgspec.convert(content, Plan))

    assert caught.value.problem is problem


@pytest.mark.parametrize(
    "content",
    [
        changed(port=0), changed(port="80"), changed(mirror="some"), changed(condition=[{"kind": "path", "value": "/" * 2000}]),
        changed(condition=[{"kind": "path", "value": "/"}] * 17), with_port(listen=70000), with_port(kind="udp"), with_port(rules=None),
    ],
)  # fmt: skip
def test_a_plan_of_another_shape_is_no_plan(content: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(content, Plan)


def test_a_service_with_another_name_is_refused() -> None:
    with pytest.raises(CodezeroError):
        from_wire(msgspec.structs.replace(to_wire(PLAN), service="a/b"))


def test_the_default_condition_is_no_condition_at_all() -> None:
    plan = RoutePlan(ORDERS, (replace(PLAN.ports[0], rules=(replace(RULE, condition=Condition()),)),))

    assert to_wire(plan).ports[0].rules[0].condition == ()
    assert from_wire(to_wire(plan)) == plan
