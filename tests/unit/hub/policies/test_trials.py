"""Tests inside a policy: what they ask, and what is no test."""

import pytest

from codezero.hub.policies import checking
from codezero.hub.policies.checking import PolicyError
from codezero.model import problems
from codezero.model.access import Operation
from codezero.model.variants import ConditionPart

ULID = "01J0000000000000000000000A"
ALL = "permit(principal, action, resource);\n"


def trial(line: str) -> checking.Trial:
    (found,) = checking.check(f"{ALL}// @test allow {line}").trials
    return found


@pytest.mark.parametrize(
    ("line", "operation", "condition", "ports"),
    [
        ("developer consume shop/orders", Operation.CONSUME, None, ()),
        ("admin terminate shop/orders", Operation.TERMINATE, None, ()),
        ("developer serve-user shop/orders", Operation.SERVE_USER, ConditionPart("user"), ()),
        ("developer serve-header shop/orders by header a=b=c port 80,81", Operation.SERVE_HEADER, ConditionPart("header", "a", "b=c"), (80, 81)),
        ("developer serve-header shop/orders port 80", Operation.SERVE_HEADER, ConditionPart("header"), (80,)),
        ("developer serve-header shop/orders by percent 20%", Operation.SERVE_HEADER, ConditionPart("percent", None, "20%"), ()),
        ("developer mirror shop/orders", Operation.MIRROR, ConditionPart("default"), ()),
        ("developer takeover shop/orders port 80 by user", Operation.TAKEOVER, ConditionPart("user"), (80,)),
    ],
)  # fmt: skip
def test_a_test_asks_what_it_says(
    line: str, operation: Operation, condition: ConditionPart | None, ports: tuple[int, ...]
) -> None:
    """With what is usual where nothing is said."""
    asked = trial(line).act

    assert (asked.operation, asked.condition, asked.ports) == (operation, condition, ports)


def test_who_can_be_named_where_a_policy_asks_for_it() -> None:
    """By e-mail address or ULID."""
    text = f"""
permit(principal == Codezero::User::"{ULID}", action, resource);
permit(principal, action, resource) when {{ principal.email like "*@example.com" && principal.kind == "person" }};
// @test allow viewer:{ULID} consume shop/orders
// @test deny viewer consume shop/orders
// @TEST allow viewer:anna@example.com consume shop/orders
//@test deny ci:anna@example.com consume shop/orders
// @test deny viewer:anna@example.org consume shop/orders
// a @test within words is none
"""

    assert len(checking.check(text).trials) == 5


def test_nobody_serves_what_he_may_not_consume() -> None:
    """As in the Teamspace itself."""
    text = """
permit(principal, action in Codezero::Action::"serve", resource);
// @test deny developer serve-user shop/orders
"""

    assert len(checking.check(text).trials) == 1


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("", 1, "has no allow or deny"),
        ("allow", 1, "has no role"),
        ("allow developer consume", 1, "has no service"),
        ("permit developer consume shop/orders", 10, "neither allow nor deny"),
        ("allow boss consume shop/orders", 16, "is no role"),
        ("allow developer:anna consume shop/orders", 16, "neither an e-mail address nor a ULID"),
        ("allow developer serve shop/orders", 26, "is no operation"),
        ("allow developer consume orders", 34, "is not a service"),
        ("allow developer consume shop/orders by user", 46, "has neither condition nor ports"),
        ("allow developer mirror shop/orders by", 45, "not understood"),
        ("allow developer mirror shop/orders by magic", 48, "no kind of condition"),
        ("allow developer mirror shop/orders port 0", 50, "no ports"),
        ("allow developer mirror shop/orders port 80 81", 53, "not understood"),
    ],
)
def test_what_is_no_test_is_refused(line: str, column: int, message: str) -> None:
    """A test that is not tried would be a false comfort."""
    with pytest.raises(PolicyError) as caught:
        checking.check(f"{ALL}// @test {line}")
    (mistake,) = caught.value.mistakes

    assert message in mistake.message
    assert (mistake.problem, mistake.place.line, mistake.place.column) == (problems.BAD_POLICY_TEST, 2, column)


def test_a_document_has_a_limit_of_tests() -> None:
    """They run in the middle of a request."""
    with pytest.raises(PolicyError, match="more than 500 tests"):
        checking.check(ALL + "// @test allow ci consume a/b\n" * 501)
