"""Cedar without Cedar's library: the same answer, for the same reasons, or no answer at all."""

import json
from typing import Any

import cedarpy
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from codezero.model import cedar
from codezero.model.cedar import CedarError, Entity, Facts, Record, Request, Value

USERS = [Entity("User", "anna"), Entity("User", "berta")]
GROUPS = [Entity("Role", "owner"), Entity("Role", "developer")]
SERVICES = [Entity("Service", "shop/orders"), Entity("Service", "bank/api")]
NAMESPACES = [Entity("Namespace", "shop"), Entity("Namespace", "bank")]
ACTIONS = [Entity("Action", name) for name in ("consume", "serve", "serve-user")]
PARENTS = {
    GROUPS[0]: [GROUPS[1]],
    ACTIONS[2]: [ACTIONS[1]],
    SERVICES[0]: [NAMESPACES[0]],
}
ALL = [*USERS, *GROUPS, *SERVICES, *NAMESPACES, *ACTIONS]
NAMES = ["name", "n", "tags", "inner"]

Json = Any


def as_json(entity: Entity) -> Json:
    return {"type": entity.type, "id": entity.id}


def literal(value: Json) -> Json:
    return {"Value": value}


def sides(kind: str) -> Any:
    return lambda pair: {kind: {"left": pair[0], "right": pair[1]}}


TEXTS = st.text('ab*\n"é', max_size=3)
CONSTANTS = st.one_of(
    st.booleans(),
    st.sampled_from([0, 1, 2, -(2**63), 2**63 - 1]),
    TEXTS,
    st.sampled_from(ALL).map(lambda one: {"__entity": as_json(one)}),
).map(literal)
VARIABLES = st.sampled_from(["principal", "action", "resource", "context"]).map(lambda name: {"Var": name})


def grown(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    pairs = st.tuples(inner, inner)
    groups = st.sampled_from([*GROUPS, *NAMESPACES, *ACTIONS]).map(lambda one: literal({"__entity": as_json(one)}))
    patterns = st.lists(
        st.one_of(st.just("Wildcard"), st.sampled_from('ab*\n"é').map(lambda one: {"Literal": one})), max_size=5
    )
    return st.one_of(
        *(
            pairs.map(sides(kind))
            for kind in ("&&", "||", "==", "!=", "<", "<=", ">", ">=", "contains", "containsAll", "containsAny")
        ),
        st.tuples(VARIABLES, st.one_of(groups, inner, st.lists(groups, max_size=2).map(lambda one: {"Set": one}))).map(
            sides("in")
        ),
        inner.map(lambda one: {"!": {"arg": one}}),
        st.tuples(inner, inner, inner).map(
            lambda three: {"if-then-else": dict(zip(("if", "then", "else"), three, strict=True))}
        ),
        st.tuples(inner, st.sampled_from(NAMES)).map(lambda pair: {".": {"left": pair[0], "attr": pair[1]}}),
        st.tuples(inner, st.sampled_from(NAMES)).map(lambda pair: {"has": {"left": pair[0], "attr": pair[1]}}),
        st.tuples(inner, patterns).map(lambda pair: {"like": {"left": pair[0], "pattern": pair[1]}}),
        st.tuples(VARIABLES, st.sampled_from(["User", "Service"])).map(
            lambda pair: {"is": {"left": pair[0], "entity_type": pair[1]}}
        ),
        st.tuples(VARIABLES, st.sampled_from(["User", "Service"]), groups).map(
            lambda three: {"is": {"left": three[0], "entity_type": three[1], "in": three[2]}}
        ),
        st.lists(inner, max_size=3).map(lambda one: {"Set": one}),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=2).map(lambda one: {"Record": one}),
    )


EXPRESSIONS = st.recursive(
    st.one_of(
        CONSTANTS,
        VARIABLES,
        st.tuples(VARIABLES, st.sampled_from(NAMES)).map(lambda pair: {".": {"left": pair[0], "attr": pair[1]}}),
    ),
    grown,
    max_leaves=8,
)


def scopes(own: list[Entity], groups: list[Entity], *, kind: str | None) -> st.SearchStrategy[Json]:
    one, group = st.sampled_from(own).map(as_json), st.sampled_from([*own, *groups]).map(as_json)
    found = [
        st.just({"op": "All"}),
        one.map(lambda entity: {"op": "==", "entity": entity}),
        group.map(lambda entity: {"op": "in", "entity": entity}),
    ]
    if kind is None:
        found.append(st.lists(one, min_size=1, max_size=2).map(lambda many: {"op": "in", "entities": many}))
    else:
        found.append(st.just({"op": "is", "entity_type": kind}))
        found.append(group.map(lambda entity: {"op": "is", "entity_type": kind, "in": {"entity": entity}}))
    return st.one_of(*found)


POLICIES = st.fixed_dictionaries(
    {
        "effect": st.sampled_from(["permit", "forbid"]),
        "principal": scopes(USERS, GROUPS, kind="User"),
        "action": scopes(ACTIONS, [], kind=None),
        "resource": scopes(SERVICES, NAMESPACES, kind="Service"),
        "conditions": st.lists(
            st.fixed_dictionaries({"kind": st.sampled_from(["when", "unless"]), "body": EXPRESSIONS}), max_size=2
        ),
    }
)
DOCUMENTS = st.lists(POLICIES, max_size=4).map(
    lambda many: {
        "templates": {},
        "staticPolicies": {f"policy{number}": one for number, one in enumerate(many)},
        "templateLinks": [],
    }
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.booleans(), st.sampled_from([0, 1]), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)),
    max_leaves=3,
)
RECORDS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)
REQUESTS = st.tuples(st.sampled_from(USERS), st.sampled_from(ACTIONS), st.sampled_from(SERVICES), RECORDS)
# The second user and service are unknown to the store, as those of a request may be.
KNOWN = st.fixed_dictionaries({USERS[0]: RECORDS, SERVICES[0]: RECORDS})


def value_of(found: Json) -> Value:
    if isinstance(found, list):
        return cedar.set_of(map(value_of, found))
    if isinstance(found, dict):
        return Record({name: value_of(one) for name, one in found.items()})
    return found


@settings(max_examples=400)
@given(DOCUMENTS, REQUESTS, KNOWN, st.sampled_from(GROUPS))
def test_decides_as_cedar_does(
    document: Json, wanted: tuple[Entity, Entity, Entity, Json], known: dict[Entity, Json], role: Entity
) -> None:
    """Decision, determining policies and failing policies, for all that can be said in the part of the language that is known here."""
    principal, action, resource, context = wanted
    parents = {**PARENTS, USERS[0]: [role]}
    try:
        policies = cedar.compiled(document)
    except CedarError as error:
        if "named entities" in error.detail:
            reject()  # refused on purpose: see below
        raise
    theirs = cedarpy.is_authorized(
        {
            "principal": as_json(principal),
            "action": as_json(action),
            "resource": as_json(resource),
            "context": context,
        },
        cedarpy.PolicySet.from_json_str(json.dumps(document)),
        [
            {"uid": as_json(one), "attrs": known.get(one, {}), "parents": [as_json(up) for up in parents.get(one, [])]}
            for one in {*parents, *known}
        ],
    )

    request = Request(
        principal,
        action,
        resource,
        {
            one: Facts({name: value_of(found) for name, found in known.get(one, {}).items()}, ancestors(one, parents))
            for one in {*parents, *known}
        }.get,
        Record({name: value_of(found) for name, found in context.items()}),
    )
    ours = policies.decide(request)
    assert ours.allowed == theirs.allowed
    assert {policy.name for policy in ours.determining} == set(theirs.diagnostics.reasons)
    failed = {
        name for name in document["staticPolicies"] for error in theirs.diagnostics.errors if f"`{name}`" in error
    }
    assert {policy.name for policy in ours.failed} == failed


def ancestors(one: Entity, parents: dict[Entity, list[Entity]]) -> frozenset[Entity]:
    return frozenset(up for parent in parents.get(one, []) for up in (parent, *ancestors(parent, parents)))


@given(DOCUMENTS, st.sampled_from(ACTIONS), st.sampled_from(SERVICES), RECORDS, RECORDS, RECORDS)
def test_equal_traits_have_equal_outcomes(
    document: Json, action: Entity, resource: Entity, anna: Json, berta: Json, context: Json
) -> None:
    """Laptops whose users' traits are equal share one view of the catalog, so they must see the same."""
    try:
        policies = cedar.compiled(document)
    except CedarError:
        reject()
    answers: list[Any] = []
    for user, attributes in zip(USERS, (anna, berta), strict=True):
        facts = {user: Facts({name: value_of(found) for name, found in attributes.items()})}
        request = Request(
            user, action, resource, facts.get, Record({name: value_of(one) for name, one in context.items()})
        )
        speaking = policies.speaking(request)
        answers.append(
            (tuple((policy, policy.traits(request)) for policy in speaking.policies), cedar.decide(speaking, request))
        )

    if answers[0][0] == answers[1][0]:
        assert answers[0][1] == answers[1][1]
    assert all(hash(traits) is not None for traits, _ in answers)


def from_text(text: str) -> cedar.PolicySet:
    return cedar.compiled(json.loads(cedarpy.policies_to_json_str(text)))


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("1 + 1 == 2", "'+' is not known here"),
        ('ip("10.0.0.1").isLoopback()', "'isLoopback' is not known here"),
        ('decimal("1.0") == decimal("1.0")', "'decimal' is not known here"),
        ('principal.hasTag("a")', "'hasTag' is not known here"),
        ("[1].isEmpty()", "'isEmpty' is not known here"),
        ('User::"anna" in Role::"owner"', "not of named entities"),
        ('User::"anna".name == "a"', "not of named entities"),
        ('(if true then User::"anna" else principal) has name', "not of named entities"),
        ("[" * 70 + "]" * 70 + " == 1", "nested deeper than 60"),
    ],
)
def test_what_is_not_known_is_refused_and_named(condition: str, reason: str) -> None:
    """Half understood would be worse than not at all."""
    with pytest.raises(CedarError) as caught:
        from_text(f"permit(principal, action, resource) when {{ {condition} }};")

    assert caught.value.policy == "policy0"
    assert reason in caught.value.detail


POLICY = {
    "effect": "permit",
    "principal": {"op": "All"},
    "action": {"op": "All"},
    "resource": {"op": "All"},
    "conditions": [],
}


@pytest.mark.parametrize(
    "document",
    [
        {"policies": []},
        {"staticPolicies": []},
        {"templates": {"t": POLICY}},
        {"templateLinks": [{}]},
        {"staticPolicies": {"a": None}},
        {"staticPolicies": {"a": {**POLICY, "effect": "allow"}}},
        {"staticPolicies": {"a": {**POLICY, "more": 1}}},
        {"staticPolicies": {"a": {**POLICY, "annotations": []}}},
        {"staticPolicies": {"a": {**POLICY, "annotations": {"id": 1}}}},
        {"staticPolicies": {"a": {**POLICY, "principal": {"op": "==", "slot": "?principal"}}}},
        {"staticPolicies": {"a": {**POLICY, "principal": {"op": "==", "entity": {"type": "User"}}}}},
        {"staticPolicies": {"a": {**POLICY, "principal": {"op": "is", "entity_type": 1}}}},
        {"staticPolicies": {"a": {**POLICY, "principal": {"op": "All", "entity": {"type": "User", "id": "a"}}}}},
        {"staticPolicies": {"a": {**POLICY, "action": {"op": "in", "entities": {}}}}},
        *(
            {"staticPolicies": {"a": {**POLICY, "conditions": [{"kind": "when", "body": body}]}}}
            for body in (
                None,
                {},
                {"Value": 1, "Var": "principal"},
                {"Value": 2**63},
                {"Value": 1.5},
                {"Value": None},
                {"Value": {"__extn": {"fn": "ip", "arg": "1.2.3.4"}}},
                {"Value": {"__entity": {"type": "User", "id": 1}}},
                {"Var": "user"},
                {"Record": []},
                {"Set": {}},
                {"like": {"left": {"Value": "a"}, "pattern": [{"Literal": 1}]}},
                {".": {"left": {"Var": "principal"}, "attr": 1}},
                {"&&": {"left": {"Value": True}}},
            )
        ),
        {"staticPolicies": {"a": {**POLICY, "conditions": [{"kind": "if", "body": {"Value": True}}]}}},
        {"staticPolicies": {str(number): POLICY for number in range(cedar.MAX_POLICIES + 1)}},
    ],
    ids=lambda document: repr(document)[:80],
)
def test_no_other_document_is_taken(document: Any) -> None:
    """What came from elsewhere is read as strictly as anything."""
    with pytest.raises(CedarError):
        cedar.compiled(document)


def test_a_document_has_a_limit_of_parts() -> None:
    """Policies are compiled in the loop that carries everybody's bytes."""
    many = {"Set": [{"Var": "principal"}] * (cedar.MAX_PARTS // 2)}
    body = {"==": {"left": many, "right": many}}

    with pytest.raises(CedarError, match="parts"):
        cedar.compiled({"staticPolicies": {"a": {**POLICY, "conditions": [{"kind": "when", "body": body}]}}})


def names(many: int) -> str:
    chain = " || ".join(f'resource.name == "s{number}"' for number in range(many))
    return f"permit(principal, action, resource) when {{ {chain} }};"


def test_chains_are_no_depth() -> None:
    """Whoever lists 150 names has nested nothing; for more there are sets."""
    facts = {SERVICES[0]: Facts({"name": "s149"})}

    assert from_text(names(150)).decide(Request(USERS[0], ACTIONS[0], SERVICES[0], facts.get)).allowed
    with pytest.raises(CedarError, match="compare with a set"):
        from_text(names(250))


def test_annotations_come_along() -> None:
    """They are what a person is told."""
    (policy,) = from_text('@id("freeze") @reason("until Monday") @bare forbid(principal, action, resource);').policies

    assert policy.annotations == {"id": "freeze", "reason": "until Monday", "bare": ""}
    assert not policy.permits


def test_policies_are_equal_by_name_and_content() -> None:
    """A policy that reads otherwise under its old name is another one, and views are drawn anew."""
    one, same, other = (
        from_text(f"permit(principal, action, resource) when {{ resource.name == {name} }};").policies[0]
        for name in ('"a"', '"a"', '"b"')
    )

    assert one == same
    assert hash(one) == hash(same)
    assert one != other


def test_a_policy_for_each_service_costs_a_service_one() -> None:
    """10,000 services are asked about in a row when a policy changes."""
    text = "".join(
        f'permit(principal, action, resource {op} Service::"shop/s{number}");'
        for number in range(200)
        for op in ("==", "in")
    )
    wanted = Entity("Service", "shop/s7")
    request = Request(USERS[0], ACTIONS[0], wanted, lambda _: None)
    speaking = from_text(text + "forbid(principal, action, resource is Service);").speaking(request)

    assert [policy.name for policy in speaking.about(request)] == ["policy14", "policy15", "policy400"]
