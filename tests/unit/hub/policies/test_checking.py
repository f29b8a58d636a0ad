"""A document is checked before it counts: every mistake has its place and a way out, and no text whatever ends the process."""

import json
from pathlib import Path

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.hub.policies import checking
from codezero.hub.policies.checking import PolicyError
from codezero.hub.policies.words import Text
from codezero.model import problems
from codezero.model.access import CONSUME, Bundle, Member
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import Problem
from codezero.model.services import ServiceRef
from codezero.wire import policy_file

GOOD = "permit(principal, action, resource);"


def when(condition: str, action: str = "action") -> str:
    return f"permit(principal, {action}, resource)\n  when {{ {condition} }};"


SERVING = 'action in Codezero::Action::"serve"'


def mistakes(text: str) -> tuple[checking.Mistake, ...]:
    with pytest.raises(PolicyError) as caught:
        checking.check(text)
    return caught.value.mistakes


def test_the_default_policy_passes_its_own_tests() -> None:
    """It is what each new Teamspace begins with, and an example to write by."""
    checked = checking.check(checking.default())

    assert [policy.name for policy in checked.policies.policies] == ["consume", "serve", "machines", "admins"]
    assert len(checked.trials) == 12


def test_what_is_compiled_is_what_teamspaces_read() -> None:
    """From the text to a decision in a cluster, by the words of whoever wrote it."""
    text = f'{GOOD}\n@id("freeze") @reason("until Monday")\nforbid(principal, action, resource in Codezero::Namespace::"shop");'
    anna = Device("hub", new_ulid(), new_ulid(), new_ulid())
    members = {anna.user: Member("anna", "anna@example.com", "person", "viewer")}
    held = Bundle(anna.organization, new_ulid(), 1, 0.0, 4e9, members, checking.check(text).policies)
    read = policy_file.read(policy_file.encode(held))

    assert read == held
    assert read.decide(anna, CONSUME, ServiceRef("shop", "orders")).reason.endswith("shop/orders: until Monday")
    assert read.decide(anna, CONSUME, ServiceRef("bank", "api")).reason == "policy 'line 1' allows it"


@pytest.mark.parametrize(
    ("text", "problem", "place", "message", "fix"),
    [
        ("permit(principal, action resource);", problems.BAD_POLICY, "1:26", "unexpected token `resource`", "permit("),
        (f"{GOOD}\npermit(principal,\n  action, resource) when {{ true || }};", problems.BAD_POLICY, "3:36", "unexpected token `}`", "permit("),
        (f"{GOOD}\n\npermit(principal, action, resource)", problems.BAD_POLICY, "3:36", "has no end", "end it with ;"),
        ("permit(principal, action, resource) when { true ", problems.BAD_POLICY, "1:48", "has no end", "brackets"),
        ("allow(principal, action, resource);", problems.BAD_POLICY, "1:1", "invalid policy effect: allow", "permit or forbid"),
        ("permit(principal, resource);", problems.BAD_POLICY, "1:19", "`resource`", "in this order"),
        ("permit(user, action, resource);", problems.BAD_POLICY, "1:8", "user", "in this order"),
        (when('principal.name = "x"'), problems.BAD_POLICY, "2:25", "'='", "=="),
        (when("principal.name == 'x'"), problems.BAD_POLICY, "2:28", "begins nothing", "double quotes"),
        (when('principal.name == "x'), problems.BAD_POLICY, "2:28", "begins nothing", 'close the text with "'),
        ("/* all */ " + GOOD, problems.BAD_POLICY, "1:1", "begins nothing", "// to the end"),
        (when("role == 1"), problems.BAD_POLICY, "2:10", "invalid variable: role", "there are principal"),
        (when("foo(1)"), problems.BAD_POLICY, "2:10", "`foo`", "permit("),
        ('@id("a") @id("b") ' + GOOD, problems.BAD_POLICY, "1:2", "duplicate", "once"),
        (f'@id("a") {GOOD}\n@id("a") {GOOD}', problems.BAD_POLICY, "2:5", "two policies have", "of its own"),
        (f'@id("line 2") {GOOD}\n{GOOD}', problems.BAD_POLICY, "2:1", "two policies have", "of its own"),
        (f'@id("") {GOOD}', problems.BAD_POLICY, "1:2", "@id needs a text", "leave it out"),
        (f'@reason("a\\nb") {GOOD}', problems.BAD_POLICY, "1:2", "@reason needs a text", "leave it out"),
        ('permit(principal in Role::"developer", action, resource);', problems.POLICY_NOT_IN_SCHEMA, "1:21", "entity type `Role`", "Codezero::Role"),
        ('permit(principal in Codezero::Role::"develper", action, resource);', problems.POLICY_NOT_IN_SCHEMA, "1:21", "develper", "the roles are"),
        ('permit(principal == Codezero::Role::"developer", action, resource);', problems.POLICY_NOT_IN_SCHEMA, "1:1", "applicable action", "`in`"),
        ('permit(principal, action == Codezero::Action::"serv", resource);', problems.POLICY_NOT_IN_SCHEMA, "1:29", "unrecognized action", "the actions are"),
        (when('principal.role == "x"'), problems.POLICY_NOT_IN_SCHEMA, "2:20", "`role`", "email, name and kind"),
        (when('context.condition.key == "x"'), problems.POLICY_NOT_IN_SCHEMA, "2:18", "`condition`", "only serving has a condition"),
        (when("resource.name == principal"), problems.POLICY_NOT_IN_SCHEMA, "1:1", "not compatible", "same type"),
        (when("context.ports.contains(80 + 1)", SERVING), problems.POLICY_NOT_KNOWN, "2:36", "'+'", "use &&"),
        (when('ip("10.0.0.1").isLoopback()'), problems.POLICY_NOT_KNOWN, "2:25", "isLoopback", "use &&"),
        ("permit(principal == ?principal, action, resource);", problems.POLICY_NOT_KNOWN, "1:21", "templates", "name the principal"),
        (f"{GOOD}\n// @test alow developer consume shop/orders", problems.BAD_POLICY_TEST, "2:10", "'alow'", "@test allow|deny"),
        (f"{GOOD}\n// @test deny developer consume shop/orders", problems.POLICY_TEST_FAILED, "2:1", "policies say allow: policy 'line 1' allows it", "what is wrong"),
        (when("(" * 100 + "true" + ")" * 100), problems.POLICY_TOO_LARGE, "2:109", "nested too deep", "several"),
        (when(" && ".join(["true"] * 300)), problems.POLICY_NOT_KNOWN, "1:1", "in a row", "use &&"),
        (when(" && ".join(["true"] * 1000)), problems.POLICY_TOO_LARGE, "1:1", "in a row", "with a set"),
        (when(" && ".join(["true"] * 3000)), problems.POLICY_TOO_LARGE, "1:7", "too many words", "several"),
        (" " * (checking.MAX_TEXT + 1), problems.POLICY_TOO_LARGE, "1:1", "65537 bytes", "fewer"),
        (
            when('principal.name like "*a*"') * 200 + "\n// @test deny viewer consume shop/orders" * 500,
            problems.POLICY_TOO_LARGE,
            "701:1",
            "500 tests of policies of ",
            "leave some tests out",
        ),
        (GOOD * (checking.MAX_POLICIES + 1), problems.POLICY_TOO_LARGE, "1:18001", "501 policies", "fewer"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place_and_a_way_out(
    text: str, problem: Problem, place: str, message: str, fix: str
) -> None:
    """Cedar's library says what; people need where, too."""
    first = mistakes(text)[0]

    assert message in first.message
    assert (first.problem, str(first.place)) == (problem, place)
    assert fix in first.fix


def test_all_mistakes_are_told_at_once() -> None:
    """In the order of the text, and no test is tried before the policies can be."""
    text = f"{when('a')}\n{when('1 +')}\n// @test deny developer consume shop/orders"

    assert [(str(one.place), one.problem) for one in mistakes(text)] == [
        ("2:10", problems.BAD_POLICY),
        ("4:14", problems.BAD_POLICY),
    ]
    with pytest.raises(PolicyError, match=r"line 2, column 10: invalid variable: a \(and 1 more\)"):
        checking.check(text)


@pytest.mark.parametrize("text", ["", "\n", "// nothing yet"])
def test_an_empty_document_allows_nothing(text: str) -> None:
    """To close a Teamspace is no mistake."""
    assert checking.check(text).policies.policies == ()


def test_the_schema_is_cedars() -> None:
    """People check their documents with Cedar's own tools, too."""
    assert cedarpy.validate_policies(checking.default(), checking.schema()).validation_passed


PIECES = st.sampled_from(
    ["permit", "forbid", "(", ")", "{", "}", "[", "]", "principal", "action", "resource", "context", ",", ";", "when", "unless", "if", "then",
     "else", "!", "-", "==", "=", "&&", "||", "in", "has", "like", "is", ".", "name", "::", "Codezero", '"x"', '"', "1", "@", "id", "\n", "//", "'", "é"]
)  # fmt: skip


@given(text=st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=40).map(" ".join)), inside=st.booleans())
def test_any_text_is_a_document_or_has_mistakes_inside_it(text: str, *, inside: bool) -> None:
    """Nothing else comes out, and each place is one of the text."""
    whole = when(text) if inside else text
    try:
        checked = checking.check(whole)
    except PolicyError as error:
        lines = whole.split("\n")
        for one in error.mistakes:
            assert 1 <= one.place.line <= len(lines)
            assert 1 <= one.place.column <= len(lines[one.place.line - 1]) + 1
    else:
        assert json.dumps(checked.compiled)


def test_deep_nesting_never_reaches_cedars_library(tmp_path: Path) -> None:
    """It would end the Hub: its parser has no limit but the stack."""
    for opening, closing in ("()", "[]", ("{a:", "}"), ("if true then ", " else true")):
        (first, *_) = mistakes(when(opening * 3000 + "true" + closing * 3000))
        assert first.problem is problems.POLICY_TOO_LARGE
    assert mistakes(when("!" * 3000 + "true"))[0].problem is problems.BAD_POLICY


def test_each_policy_keeps_its_own_name_among_many() -> None:
    """Cedar's library numbers them, and orders numbers as texts."""
    text = "\n".join(
        f'@id("p{number}") permit(principal, action, resource == Codezero::Service::"shop/s{number}");'
        for number in range(25)
    )

    for name, content in checking.check(text).compiled["staticPolicies"].items():
        assert content["resource"]["entity"]["id"] == f"shop/s{name[1:]}"
        assert content["annotations"]["id"] == name


def test_together_and_one_by_one_policies_say_the_same() -> None:
    """One mistake makes the check look at each by itself; the others come out as before."""
    text = checking.default()
    source = Text(text)
    found = checking._Found(source, [])  # pyright: ignore[reportPrivateUsage]
    statements = list(source.statements())

    assert found.policies(statements) == [found.policy(statement) for statement in statements]
