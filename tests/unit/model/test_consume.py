"""Consume rules: both syntaxes, wildcards, negation, order, ports, primary namespace, and everything that must be refused."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.consume import API_SERVER, MAX_RULES, SYSTEM_NAMESPACES, parse_namespace, parse_rules
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef

ORDERS = ServiceRef("shop", "orders")


def admitted(
    lines: list[str], ref: ServiceRef = ORDERS, ports: tuple[int, ...] = (80,), primary: str | None = None
) -> tuple[int, ...]:
    return parse_rules(lines, primary_namespace=primary).admits(ref, ports, primary_namespace=primary)


@pytest.mark.parametrize(
    "rule",
    [
        "shop/orders",
        "orders.shop",
        "orders.shop.svc",
        "orders.shop.svc.cluster.local",
        "SHOP/Orders",
        "  shop/orders  # the shop's orders",
        "*.shop",
        "shop/*",
        "*/orders",
        "*/*",
        "*",
        "ord*.sh*",
        "shop/or*rs",
        "orders.shop:80",
        "shop/orders:80",
    ],
)
def test_every_form_of_a_rule_lets_the_service_in(rule: str) -> None:
    assert admitted([rule]) == (80,)


@pytest.mark.parametrize(
    "rule",
    ["shop/order", "orders.shops", "orders.*hops", "orders.shop:81", "*/order", "!orders.shop", "", "# orders.shop"],
)
def test_a_rule_about_something_else_lets_nothing_in(rule: str) -> None:
    assert admitted([rule]) == ()


def test_the_last_matching_rule_decides() -> None:
    assert admitted(["*.shop", "!orders.shop"]) == ()
    assert admitted(["!orders.shop", "*.shop"]) == (80,)
    assert admitted(["*.shop", "!*.shop", "orders.shop"]) == (80,)


def test_rules_with_ports_speak_about_that_port_only() -> None:
    assert admitted(["orders.shop", "!orders.shop:9090"], ports=(80, 9090)) == (80,)
    assert admitted(["orders.shop:9090"], ports=(80, 9090)) == (9090,)


def test_a_name_alone_means_the_primary_namespace() -> None:
    assert admitted(["orders"], primary="shop") == (80,)
    assert admitted(["ord*"], primary="shop") == (80,)
    assert admitted(["orders"], primary="bank") == ()


def test_a_name_alone_needs_a_primary_namespace() -> None:
    """Otherwise `leaf` would silently mean nothing, or every namespace's leaf."""
    with pytest.raises(CodezeroError, match=r"line 2: 'orders'") as caught:
        parse_rules(["# first", "orders"])

    assert caught.value.problem is problems.RULE_NEEDS_NAMESPACE
    assert "orders.NAMESPACE" in (caught.value.fix or "")


@pytest.mark.parametrize("namespace", sorted(SYSTEM_NAMESPACES))
def test_everything_leaves_out_the_cluster_itself_until_it_is_named(namespace: str) -> None:
    ref = ServiceRef(namespace, "dns")

    assert admitted(["*"], ref) == ()
    assert admitted(["dns.*"], ref) == ()
    assert admitted([f"*.{namespace}"], ref) == (80,)
    assert admitted([f"{namespace}/dns"], ref) == (80,)


def test_the_api_server_is_consumed_only_when_named() -> None:
    assert admitted(["*"], API_SERVER) == ()
    assert admitted(["*.default"], API_SERVER) == (80,)
    assert admitted(["kubernetes.default"], API_SERVER) == (80,)


def test_an_exclusion_of_everything_reaches_system_namespaces_too() -> None:
    assert admitted(["*.kube-system", "!*"], ServiceRef("kube-system", "dns")) == ()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("a/b/c", "too many parts"),
        ("a.b.c", "too many parts"),
        ("a.b.c.d.svc", "too many parts"),
        ("shop/", "is not a name"),
        ("/orders", "is not a name"),
        (".shop", "is not a name"),
        ("or ders.shop", "is not a name"),
        ("-orders.shop", "is not a name"),
        ("orders-.shop", "is not a name"),
        ("[a-z].shop", "is not a name"),
        ("or?ers.shop", "is not a name"),
        ("órders.shop", "is not a name"),
        ("orders.shop:", "is not a port"),
        ("orders.shop:0", "is not a port"),
        ("orders.shop:65536", "is not a port"),
        ("orders.shop:http", "is not a port"),
        ("orders.shop:80:80", "is not a port"),
        ("!", "is not a name"),
        ("!!a.b", "is not a name"),
        ("a" * 64 + ".shop", "is not a name"),
        ("a" * 301, "longer than 300"),
        ("\x00.shop", "is not a name"),
    ],
)
def test_a_bad_rule_is_refused_with_line_and_reason(rule: str, reason: str) -> None:
    with pytest.raises(CodezeroError, match=rf"line 3: .*{reason}") as caught:
        parse_rules(["*.shop", "", rule], primary_namespace="shop")

    assert caught.value.problem is problems.BAD_RULE


def test_too_many_rules_are_refused() -> None:
    with pytest.raises(CodezeroError, match=str(MAX_RULES)):
        parse_rules([f"a{n}.b" for n in range(MAX_RULES + 1)])


def test_lines_are_kept_as_written() -> None:
    """`consume edit` must show the user's own comments again."""
    assert parse_rules(["# shop", "", "*.shop  # all"]).lines == ("# shop", "", "*.shop  # all")


def test_a_namespace_is_checked() -> None:
    assert parse_namespace(" Shop ") == "shop"
    with pytest.raises(CodezeroError):
        parse_namespace("shop/orders")


PARTS = st.text(alphabet="ab*", min_size=1, max_size=3)
NAMES = st.text(alphabet="ab", min_size=1, max_size=3)
RULES = st.lists(st.tuples(st.booleans(), PARTS, PARTS, st.sampled_from([None, 80, 81]), st.booleans()), max_size=6)


@given(rules=RULES, name=NAMES, namespace=NAMES)
def test_rules_agree_with_a_naive_oracle(
    rules: list[tuple[bool, str, str, int | None, bool]], name: str, namespace: str
) -> None:
    lines: list[str] = []
    expected: dict[int, bool] = {80: False, 81: False}
    for excludes, service, space, port, slash in rules:
        target = f"{space}/{service}" if slash else f"{service}.{space}"
        lines.append(f"{'!' if excludes else ''}{target}{f':{port}' if port else ''}")
        if fnmatch.fnmatchcase(name, service) and fnmatch.fnmatchcase(namespace, space):
            for each in expected:
                if port in (None, each):
                    expected[each] = not excludes

    assert admitted(lines, ServiceRef(namespace, name), (80, 81)) == tuple(
        port for port, is_in in expected.items() if is_in
    )


@given(st.text(max_size=320))
def test_any_text_is_a_rule_or_a_clear_error(text: str) -> None:
    try:
        parse_rules(text.splitlines(), primary_namespace="shop")
    except CodezeroError as error:
        assert error.problem in (problems.BAD_RULE, problems.RULE_NEEDS_NAMESPACE)
