"""Compiling decides order, owners and protocols once; a plan must choose as the conditions themselves say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.serve import DEFAULT, Header, PortPair, Request, Serve, User, Variant, condition_of
from codezero.model.services import Protocol, ServicePort, ServiceRef
from codezero.routing.compile import ServedPort, compile_plan, port_kind, ports_with_conditions
from codezero.routing.plan import Address, PortKind

ORDERS = ServiceRef("shop", "orders")
ALICE = "01J0000000000000000000000A"
PORTS = [
    ServedPort(ServicePort(80, name="http"), 8080),
    ServedPort(ServicePort(81), 8081),
    ServedPort(ServicePort(5432, name="tcp"), 5432),
]
LISTENERS = {80: 8080, 81: 8081, 5432: 5432}


def test_a_plan_chooses_what_the_conditions_and_their_precedence_say(
    serves: st.SearchStrategy[Serve], requests: st.SearchStrategy[Request]
) -> None:
    """The oracle knows nothing of plans: it tries every variant on every request."""

    @given(serves, st.lists(requests, min_size=1, max_size=5), st.sampled_from([80, 81]))
    def check(serve: Serve, asked: list[Request], port: int) -> None:
        holders = {one.variant_id: Address("10.244.1.7", 8801) for one in serve.variants}
        plan = compile_plan(serve, origin="10.96.0.10", ports=PORTS, holders=holders)
        found = next(one for one in plan.ports if one.listen == LISTENERS[port])

        for request in asked:
            expected, chosen = serve.chosen(request, port), found.chosen(request)
            assert (chosen.variant_id if chosen else None) == (expected.variant_id if expected else None)
            expected, mirrored = serve.mirrored(request, port), found.mirrored(request)
            assert (mirrored.variant_id if mirrored else None) == (expected.variant_id if expected else None)

    check()


def test_plans_do_not_depend_on_the_order_of_variants(serves: st.SearchStrategy[Serve]) -> None:
    """Two replicas of the System that heard of variants in another order must route alike."""

    @given(serves)
    def check(serve: Serve) -> None:
        turned = Serve(serve.service, serve.variants[::-1])
        plans = [compile_plan(one, origin="10.96.0.10", ports=PORTS, holders={}) for one in (serve, turned)]
        assert plans[0] == plans[1]

    check()


def variant(*pairs: tuple[int, int], number: int = 1, default: bool = False) -> Variant:
    condition = DEFAULT if default else condition_of([User()])
    return Variant(f"01JV{number:022d}", ORDERS, ALICE, "alice", condition, tuple(PortPair(*pair) for pair in pairs), 0)


def test_user_conditions_are_bound_to_their_owner() -> None:
    """A data plane knows no owners."""
    plan = compile_plan(Serve(ORDERS, (variant((80, 3000)),)), origin="10.96.0.10", ports=PORTS[:1], holders={})

    assert plan.ports[0].rules[0].condition == condition_of([Header("x-c6o-userid", ALICE)])


def test_a_raw_port_takes_only_the_default_condition() -> None:
    serve = Serve(ORDERS, (variant((5432, 1)), variant((5432, 2), number=2, default=True)))
    plan = compile_plan(serve, origin="10.96.0.10", ports=PORTS[2:], holders={})

    assert [rule.condition for rule in plan.ports[0].rules] == [DEFAULT]


def test_mirrors_come_after_all_that_answer(serves: st.SearchStrategy[Serve]) -> None:
    """A data plane that takes the first rule must not stop at one that answers nothing."""

    @given(serves)
    def check(serve: Serve) -> None:
        for port in compile_plan(serve, origin="10.96.0.10", ports=PORTS, holders={}).ports:
            kinds = [rule.mirror is not None for rule in port.rules]
            assert kinds == sorted(kinds)
            assert not (port.kind is PortKind.RAW and any(kinds))

    check()


def test_ports_with_one_target_share_a_listener() -> None:
    """Pods cannot tell them apart either; two listeners on one port would keep the Router from starting."""
    ports = [ServedPort(ServicePort(8080), 3000), ServedPort(ServicePort(80), 3000)]
    holder = Address("10.244.1.7", 8801)
    serve = Serve(ORDERS, (variant((8080, 1)), variant((80, 1), (8080, 2), number=2)))
    plan = compile_plan(serve, origin="10.96.0.10", ports=ports, holders={"01JV0000000000000000000001": holder})

    assert [(port.listen, port.origin.port) for port in plan.ports] == [(3000, 80)]
    assert [(rule.port, rule.holder) for rule in plan.ports[0].rules] == [(8080, holder), (80, None)]


@pytest.mark.parametrize(
    ("name", "app_protocol", "kind"),
    [
        ("http", None, PortKind.HTTP),
        ("http-api", None, PortKind.HTTP),
        ("grpc", None, PortKind.HTTP),
        ("http", "https", PortKind.RAW),
        ("web", "kubernetes.io/h2c", PortKind.HTTP),
        ("https", None, PortKind.RAW),
        ("tcp-sql", None, PortKind.RAW),
        ("postgres", None, PortKind.RAW),
        ("unsecure", None, PortKind.UNKNOWN),
        (None, "acme.com/own", PortKind.UNKNOWN),
        (None, None, PortKind.UNKNOWN),
    ],
)
def test_what_a_port_speaks_is_said_by_its_protocol_then_by_its_name(
    name: str | None, app_protocol: str | None, kind: PortKind
) -> None:
    assert port_kind(ServicePort(80, Protocol.TCP, name, app_protocol)) is kind


def test_a_port_that_does_not_say_what_it_speaks_is_raw_until_requests_are_told_apart() -> None:
    """To look into a connection costs those whose clients say something and end their side at once."""
    silent = ServicePort(9000, name="main")
    by_default = Variant("01JV0000000000000000000001", ORDERS, ALICE, "alice", DEFAULT, (PortPair(9000, 1),), 0)
    by_header = replace(by_default, condition=condition_of([Header("a", "b")]))

    def kind(variant: Variant, *, looked_into: bool) -> PortKind:
        port = ServedPort(silent, 9000, looked_into)
        return compile_plan(Serve(ORDERS, (variant,)), origin="10.0.0.1", ports=[port], holders={}).ports[0].kind

    assert ports_with_conditions([by_default]) == frozenset()
    assert ports_with_conditions([by_default, by_header]) == {9000}
    assert kind(by_default, looked_into=False) is PortKind.RAW
    assert kind(by_header, looked_into=True) is PortKind.UNKNOWN
