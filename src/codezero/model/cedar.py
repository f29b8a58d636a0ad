"""Cedar policies (https://www.cedarpolicy.com), decided from their JSON form: compiled once to closures, then microseconds for each request.

A Hub checks policies with Cedar's own library; Teamspaces get them in Cedar's JSON form and need no more than this module. It knows a part of
the language and refuses the rest when it compiles, so that nothing is silently understood otherwise: all scopes; `when` and `unless`;
`&& || ! == != < <= > >= in has like is`, if-then-else, attributes, `contains`, `containsAll`, `containsAny`; booleans, longs, strings, sets,
records, entities. Not known are arithmetic, extension types (`ip`, `decimal`, `datetime`), tags and templates.

Decisions are Cedar's: any policy that forbids wins over all that permit; without one that permits the answer is no. A policy that fails while it
is evaluated (an attribute that is not there, a string compared with `<`) counts as not there, also one that forbids. A Hub refuses policies
that its schema does not prove free of that.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, cast

MAX_POLICIES: Final = 2000
MAX_DEPTH: Final = 60
# Of a policy's JSON, in which each `&&` of a chain is two levels; readers of JSON end at a thousand.
MAX_LEVELS: Final = 400
MAX_PARTS: Final = 100_000
_SMALLEST_LONG: Final = -(2**63)
_LARGEST_LONG: Final = 2**63 - 1


class CedarError(ValueError):
    """A policy that cannot be compiled: which one, and what about it."""

    def __init__(self, policy: str, detail: str) -> None:
        super().__init__(f"policy {policy!r}: {detail}" if policy else detail)
        self.policy = policy
        self.detail = detail


class EvaluationError(Exception):
    """A policy failed for a request, so it does not count for it."""


class Entity(NamedTuple):
    """Who, what, or what is done: `Codezero::User::"01J…"`."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}::{json.dumps(self.id, ensure_ascii=False)}"


class _Truth(Enum):
    # In sets and records: in Python True equals 1, in Cedar it does not.
    NO = 0
    YES = 1


class Record:
    """Named values; equal to records with equal values."""

    __slots__ = ("_key", "values")

    def __init__(self, values: "Mapping[str, Value]") -> None:
        self.values = dict(values)
        self._key = frozenset((name, _frozen(value)) for name, value in self.values.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Record({self.values!r})"


# The elements of a set are as `_frozen` makes them.
Value = bool | int | str | Entity | Record | frozenset[object]
EMPTY: Final = Record({})


def set_of(values: Iterable[Value]) -> frozenset[object]:
    """A set of Cedar."""
    return frozenset(map(_frozen, values))


def _frozen(value: Value) -> object:
    if value is True:
        return _Truth.YES
    return _Truth.NO if value is False else value


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an entity: its attributes, and all entities it is in, also indirectly."""

    attributes: Mapping[str, Value] = field(default_factory=dict[str, Value])
    ancestors: frozenset[Entity] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """Whether `principal` may do `action` on `resource`. Entities of which `facts` gives None have no attributes and are in nothing."""

    principal: Entity
    action: Entity
    resource: Entity
    facts: Callable[[Entity], Facts | None]
    context: Record = EMPTY


_Run = Callable[[Request], Value]
_Test = Callable[[Request], bool]


@dataclass(frozen=True, slots=True)
class CedarPolicy:
    """One policy, compiled. Equal to one of the same name and content."""

    name: str
    content: str
    permits: bool = field(compare=False)
    annotations: Mapping[str, str] = field(compare=False)
    _speaks_of_principal: _Test = field(compare=False)
    _speaks_of_action: _Test = field(compare=False)
    _speaks_of_resource: _Test = field(compare=False)
    _conditions: tuple[_Run, ...] = field(compare=False)
    # The one resource, or group of them, that it can be about; None where there are others.
    target: Entity | None = field(compare=False)
    # What the conditions want to know of the principal and the action alone.
    _personal: tuple[_Run, ...] = field(compare=False)

    def speaks_of_act(self, request: Request) -> bool:
        """Whether the policy is about the principal and the action of `request`, whatever the resource."""
        return self._speaks_of_principal(request) and self._speaks_of_action(request)

    def traits(self, request: Request) -> tuple[object, ...]:
        """What of its principal the outcome depends on: with equal traits it is equal for every resource and context."""
        return tuple(_outcome(run, request) for run in self._personal)

    def applies(self, request: Request) -> bool:
        """Whether the policy counts for a request of whose principal and action it speaks; raises `EvaluationError`."""
        if not self._speaks_of_resource(request):
            return False
        # A loop rather than a generator: this is asked for each service and laptop.
        for condition in self._conditions:  # noqa: SIM110
            if not _truth(condition(request)):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision, the policies that made it (all that forbid, or all that permit), and those that failed."""

    allowed: bool
    determining: tuple[CedarPolicy, ...] = ()
    failed: tuple[CedarPolicy, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies of a document, and the document, in Cedar's JSON form."""

    policies: tuple[CedarPolicy, ...]
    source: Mapping[str, Any] = field(compare=False, repr=False)

    def decide(self, request: Request) -> Answer:
        """The answer to one request."""
        return decide(self.speaking(request), request)

    def speaking(self, request: Request) -> "Speaking":
        """The policies that speak of the principal and the action of `request`, whatever the resource."""
        return Speaking(policy for policy in self.policies if policy.speaks_of_act(request))


class Speaking:
    """Policies that speak of a principal and an action, found by their resource: a policy for each of a thousand services costs each of them one."""

    def __init__(self, policies: Iterable[CedarPolicy]) -> None:
        self.policies = tuple(policies)
        self._general = [(number, one) for number, one in enumerate(self.policies) if one.target is None]
        self._by_target: dict[Entity, list[tuple[int, CedarPolicy]]] = {}
        for number, policy in enumerate(self.policies):
            if policy.target is not None:
                self._by_target.setdefault(policy.target, []).append((number, policy))

    def about(self, request: Request) -> Iterable[CedarPolicy]:
        """Those that can be about the resource of `request`, in the document's order."""
        found = self._general
        if self._by_target:
            facts = request.facts(request.resource)
            groups = () if facts is None else facts.ancestors
            found = [
                *found,
                *(each for target in (request.resource, *groups) for each in self._by_target.get(target, ())),
            ]
            found.sort(key=_number)
        return [policy for _, policy in found]


def _number(numbered: tuple[int, CedarPolicy]) -> int:
    return numbered[0]


def decide(speaking: Speaking, request: Request) -> Answer:
    """The answer where `speaking` are all policies that speak of the request's principal and action."""
    forbid: list[CedarPolicy] = []
    permit: list[CedarPolicy] = []
    failed: list[CedarPolicy] = []
    for policy in speaking.about(request):
        try:
            if policy.applies(request):
                (permit if policy.permits else forbid).append(policy)
        except EvaluationError:
            failed.append(policy)
    return Answer(not forbid and bool(permit), tuple(forbid or permit), tuple(failed))


def compiled(document: Mapping[str, Any]) -> PolicySet:
    """The policies of a document in Cedar's JSON form, under the names it gives them; raises `CedarError` for all that is not known here."""
    if set(document) - {"staticPolicies", "templates", "templateLinks"}:
        raise CedarError("", f"a set of policies has no {_first_of(set(document) - {'staticPolicies'})!r}")
    if document.get("templates") or document.get("templateLinks"):
        raise CedarError(_first_of(document.get("templates") or {}), "templates are not known here")
    policies = document.get("staticPolicies", {})
    if not isinstance(policies, dict):
        raise CedarError("", "staticPolicies has to be an object")
    named = cast("dict[str, Any]", policies)
    if len(named) > MAX_POLICIES:
        raise CedarError("", f"{len(named)} policies; at most {MAX_POLICIES} can be")
    budget = [MAX_PARTS]
    return PolicySet(tuple(_Compiler(name, budget).policy(content) for name, content in named.items()), document)


def _first_of(names: object) -> str:
    return str(next(iter(sorted(map(str, cast("Iterable[object]", names)))), ""))


# --- evaluation -----------------------------------------------------------------------------------------------------------------------------


def _outcome(run: _Run, request: Request) -> object:
    try:
        return _frozen(run(request))
    except EvaluationError:
        return EvaluationError


def _truth(value: Value) -> bool:
    if value is True or value is False:
        return value
    raise EvaluationError("not a boolean")


def _long(value: Value) -> int:
    if type(value) is int:
        return value
    raise EvaluationError("not a long")


def _entity(value: object) -> Entity:
    if type(value) is Entity:
        return value
    raise EvaluationError("not an entity")


def _set(value: Value) -> frozenset[object]:
    if type(value) is frozenset:
        return value
    raise EvaluationError("not a set")


def _is_in(request: Request, entity: Entity, group: Entity) -> bool:
    if entity == group:
        return True
    facts = request.facts(entity)
    return facts is not None and group in facts.ancestors


def _is_in_any(request: Request, entity: Entity, groups: Value) -> bool:
    if type(groups) is frozenset:
        wanted = [_entity(group) for group in groups]
        return any(_is_in(request, entity, group) for group in wanted)
    return _is_in(request, entity, _entity(groups))


def _attributes(request: Request, value: Value) -> Mapping[str, Value] | None:
    if type(value) is Record:
        return value.values
    facts = request.facts(_entity(value))
    return None if facts is None else facts.attributes


class _Like:
    """A pattern of literal pieces with wildcards between them. Linear, unlike an expression that may go back."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._first, *self._between = pieces
        self._last = self._between.pop() if self._between else None

    def matches(self, text: str) -> bool:
        if self._last is None:
            return text == self._first
        at, end = len(self._first), len(text) - len(self._last)
        if end < at or not text.startswith(self._first) or not text.endswith(self._last):
            return False
        for piece in self._between:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


# --- compiling ------------------------------------------------------------------------------------------------------------------------------

_PRINCIPAL: Final = 1
_ACTION: Final = 2
_ENTITY: Final = 16  # one that the policy names itself
_VARIABLES: Final[dict[str, tuple[int, _Run]]] = {
    "principal": (_PRINCIPAL, lambda request: request.principal),
    "action": (_ACTION, lambda request: request.action),
    "resource": (4, lambda request: request.resource),
    "context": (8, lambda request: request.context),
}
_COMPARED: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": int.__lt__,
    "<=": int.__le__,
    ">": int.__gt__,
    ">=": int.__ge__,
}
_CONTAINED: Final[dict[str, Callable[[frozenset[object], frozenset[object]], bool]]] = {
    "containsAll": lambda one, other: one >= other,
    "containsAny": lambda one, other: not one.isdisjoint(other),
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A compiled expression, the variables it uses, and the largest parts of it that are about the principal alone."""

    run: _Run
    uses: int
    personal: tuple[_Run, ...]


class _Compiler:
    """Compiles one policy; `budget` is what all policies of a document may have of parts."""

    def __init__(self, name: str, budget: list[int]) -> None:
        self._name = name
        self._budget = budget

    def policy(self, content: object) -> CedarPolicy:
        fields = self._object(
            content, {"effect", "principal", "action", "resource", "conditions"}, optional={"annotations"}
        )
        if _levels(content) > MAX_LEVELS:
            raise self._error("conditions have too many operators in a row: compare with a set, [..].contains(..)")
        if fields["effect"] not in ("permit", "forbid"):
            raise self._error(f"the effect {fields['effect']!r} is not known")
        parts = [self._condition(one) for one in self._list(fields["conditions"])]
        return CedarPolicy(
            self._name,
            json.dumps(content, sort_keys=True),
            fields["effect"] == "permit",
            self._annotations(fields.get("annotations", {})),
            self._scope(fields["principal"], lambda request: request.principal),
            self._scope(fields["action"], lambda request: request.action),
            self._scope(fields["resource"], lambda request: request.resource),
            tuple(part.run for part in parts),
            self._target(fields["resource"]),
            tuple(run for part in parts for run in part.personal),
        )

    def _annotations(self, content: object) -> dict[str, str]:
        if not isinstance(content, dict):
            raise self._error("annotations have to be an object")
        annotations = cast("dict[str, object]", content)
        for name, text in annotations.items():
            if text is not None and not isinstance(text, str):
                raise self._error(f"annotation {name!r} is no text")
        return {name: text or "" for name, text in cast("dict[str, str | None]", annotations).items()}

    def _scope(self, content: object, subject: Callable[[Request], Entity]) -> _Test:
        fields = self._object(content, {"op"}, optional={"entity", "entities", "entity_type", "in"})
        operator, names = fields["op"], set(fields) - {"op"}
        if operator == "All" and not names:
            return lambda _: True
        if operator == "==" and names == {"entity"}:
            wanted = self._entity(fields["entity"])
            return lambda request: subject(request) == wanted
        if operator == "in" and names == {"entity"}:
            group = self._entity(fields["entity"])
            return lambda request: _is_in(request, subject(request), group)
        if operator == "in" and names == {"entities"}:
            groups = tuple(self._entity(one) for one in self._list(fields["entities"]))
            return lambda request: any(_is_in(request, subject(request), group) for group in groups)
        if operator == "is" and names <= {"entity_type", "in"} and isinstance(kind := fields.get("entity_type"), str):
            if "in" not in names:
                return lambda request: subject(request).type == kind
            group = self._entity(self._object(fields["in"], {"entity"})["entity"])
            return lambda request: subject(request).type == kind and _is_in(request, subject(request), group)
        raise self._error(f"a scope of the form {operator!r} with {', '.join(sorted(names)) or 'nothing'} is not known")

    def _target(self, scope: object) -> Entity | None:
        fields = cast("dict[str, object]", scope)
        return self._entity(fields["entity"]) if "entity" in fields else None

    def _condition(self, content: object) -> _Part:
        fields = self._object(content, {"kind", "body"})
        part = self._expression(fields["body"], MAX_DEPTH)
        if fields["kind"] == "when":
            return part
        if fields["kind"] == "unless":
            return self._joined(lambda request: not _truth(part.run(request)), part)
        raise self._error(f"a condition {fields['kind']!r} is not known")

    def _expression(self, content: object, depth: int) -> _Part:
        self._budget[0] -= 1
        if self._budget[0] < 0:
            raise self._error(f"the document has more than {MAX_PARTS} parts")
        if depth <= 0:
            raise self._error(f"conditions are nested deeper than {MAX_DEPTH}")
        if not isinstance(content, dict) or len(cast("dict[str, Any]", content)) != 1:
            raise self._error("an expression has to be an object with one field")
        ((kind, body),) = cast("dict[str, Any]", content).items()
        match kind:
            case "Value":
                value = self._value(body)
                return _Part(lambda _: value, _ENTITY if isinstance(value, Entity) else 0, ())
            case "Var":
                if not isinstance(body, str) or body not in _VARIABLES:
                    raise self._error(f"the variable {body!r} is not known")
                uses, run = _VARIABLES[body]
                return _Part(run, uses, (run,) if uses == _PRINCIPAL else ())
            case "Set":
                return self._set(self._list(body), depth)
            case "Record":
                return self._record(body, depth)
            case "&&" | "||":
                return self._chain(kind, cast("object", content), depth)
            case "!":
                part = self._expression(self._object(body, {"arg"})["arg"], depth - 1)
                return self._joined(lambda request: not _truth(part.run(request)), part)
            case "if-then-else":
                return self._choice(body, depth)
            case "." | "has" | "like" | "is":
                return self._about_one(kind, body, depth)
            case "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "contains" | "containsAll" | "containsAny":
                return self._about_two(kind, body, depth)
            case _:
                raise self._error(f"{kind!r} is not known here")

    def _set(self, elements: list[Any], depth: int) -> _Part:
        parts = [self._expression(element, depth - 1) for element in elements]
        runs = [part.run for part in parts]
        if all(isinstance(one, dict) and set(cast("dict[str, Any]", one)) == {"Value"} for one in elements):
            constant = set_of(self._value(one["Value"]) for one in elements)
            return _Part(lambda _: constant, self._joined(lambda _: constant, *parts).uses, ())
        return self._joined(lambda request: set_of(run(request) for run in runs), *parts)

    def _record(self, content: object, depth: int) -> _Part:
        if not isinstance(content, dict):
            raise self._error("a record has to be an object")
        parts = {name: self._expression(value, depth - 1) for name, value in cast("dict[str, Any]", content).items()}
        return self._joined(
            lambda request: Record({name: part.run(request) for name, part in parts.items()}), *parts.values()
        )

    def _chain(self, kind: str, content: object, depth: int) -> _Part:
        # A chain of many is nested to the left as deep as it is long.
        operands: list[object] = []
        rest = content
        while (inner := _inside(rest, kind)) is not None:
            sides = self._object(inner, {"left", "right"})
            operands.append(sides["right"])
            rest = sides["left"]
        parts = [self._expression(operand, depth - 1) for operand in (rest, *reversed(operands))]
        runs = tuple(part.run for part in parts)
        if kind == "&&":
            return self._joined(lambda request: all(_truth(run(request)) for run in runs), *parts)
        return self._joined(lambda request: any(_truth(run(request)) for run in runs), *parts)

    def _choice(self, body: object, depth: int) -> _Part:
        fields = self._object(body, {"if", "then", "else"})
        test, then, other = (self._expression(fields[name], depth - 1) for name in ("if", "then", "else"))
        return self._joined(
            lambda request: then.run(request) if _truth(test.run(request)) else other.run(request), test, then, other
        )

    def _about_one(self, kind: str, body: object, depth: int) -> _Part:
        detail = {".": "attr", "has": "attr", "like": "pattern", "is": "entity_type"}[kind]
        fields = self._object(body, {"left", detail}, optional={"in"} if kind == "is" else set())
        part = self._expression(fields["left"], depth - 1)
        left = part.run
        if kind in (".", "has"):
            self._check_asked(part)
        if kind == "like":
            pattern = self._pattern(fields["pattern"])

            def like(request: Request) -> bool:
                text = left(request)
                if not isinstance(text, str):
                    raise EvaluationError("not a string")
                return pattern.matches(text)

            return self._joined(like, part)
        name = fields[detail]
        if not isinstance(name, str):
            raise self._error(f"the {detail} of {kind!r} has to be text")
        if kind == "has":
            return self._joined(lambda request: name in (_attributes(request, left(request)) or ()), part)
        if kind == "is":
            group = self._expression(fields["in"], depth - 1) if "in" in fields else None
            if group is not None:
                self._check_asked(part)
            if group is None:
                return self._joined(lambda request: _entity(left(request)).type == name, part)

            def is_in(request: Request) -> bool:
                entity = _entity(left(request))
                return entity.type == name and _is_in_any(request, entity, group.run(request))

            return self._joined(is_in, part, group)

        def attribute(request: Request) -> Value:
            attributes = _attributes(request, left(request))
            if attributes is None or name not in attributes:
                raise EvaluationError("no such attribute")
            return attributes[name]

        return self._joined(attribute, part)

    def _about_two(self, kind: str, body: object, depth: int) -> _Part:
        fields = self._object(body, {"left", "right"})
        parts = [self._expression(fields[side], depth - 1) for side in ("left", "right")]
        left, right = (part.run for part in parts)
        if kind == "==":
            return self._joined(lambda request: _frozen(left(request)) == _frozen(right(request)), *parts)
        if kind == "!=":
            return self._joined(lambda request: _frozen(left(request)) != _frozen(right(request)), *parts)
        if kind == "in":
            self._check_asked(parts[0])
            return self._joined(lambda request: _contained_in(request, left(request), right(request)), *parts)
        if kind == "contains":
            return self._joined(lambda request: _contains(left(request), right(request)), *parts)
        if kind in _CONTAINED:
            contained = _CONTAINED[kind]
            return self._joined(lambda request: _of_sets(contained, left(request), right(request)), *parts)
        compared = _COMPARED[kind]
        return self._joined(lambda request: _of_longs(compared, left(request), right(request)), *parts)

    def _check_asked(self, part: _Part) -> None:
        # Else an outcome would depend on entities that have nothing to do with the request.
        if part.uses & _ENTITY:
            raise self._error(
                "attributes and groups are known of principal, action and resource, not of named entities"
            )

    def _joined(self, run: _Run, *parts: _Part) -> _Part:
        uses = 0
        for part in parts:
            uses |= part.uses
        if uses & _PRINCIPAL and not uses & ~(_PRINCIPAL | _ACTION | _ENTITY):
            return _Part(run, uses, (run,))
        return _Part(run, uses, tuple(one for part in parts for one in part.personal))

    def _value(self, content: object) -> Value:
        if isinstance(content, bool):
            return content
        if isinstance(content, str):
            return content
        if isinstance(content, int) and _SMALLEST_LONG <= content <= _LARGEST_LONG:
            return content
        if isinstance(content, dict) and set(cast("dict[str, Any]", content)) == {"__entity"}:
            return self._entity(cast("dict[str, Any]", content)["__entity"])
        raise self._error("a value has to be a boolean, a long, a string or an entity")

    def _pattern(self, content: object) -> _Like:
        pieces = [""]
        for one in self._list(content):
            if one == "Wildcard":
                pieces.append("")
            else:
                literal = self._object(one, {"Literal"})["Literal"]
                if not isinstance(literal, str):
                    raise self._error("a literal of a pattern has to be text")
                pieces[-1] += literal
        return _Like(pieces)

    def _entity(self, content: object) -> Entity:
        fields = self._object(content, {"type", "id"})
        if not isinstance(fields["type"], str) or not isinstance(fields["id"], str):
            raise self._error("type and id of an entity have to be texts")
        return Entity(fields["type"], fields["id"])

    def _list(self, content: object) -> list[Any]:
        if not isinstance(content, list):
            raise self._error("a list is expected")
        return cast("list[Any]", content)

    def _object(self, content: object, needed: set[str], *, optional: set[str] | None = None) -> dict[str, Any]:
        fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        if not needed <= set(fields) <= needed | (optional or set()):
            found = ", ".join(sorted(map(str, fields))) if isinstance(content, dict) else type(content).__name__
            raise self._error(f"an object with {', '.join(sorted(needed))} is expected, not {found[:100]}")
        return fields

    def _error(self, detail: str) -> CedarError:
        return CedarError(self._name, detail)


def _inside(content: object, kind: str) -> object | None:
    fields = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    return fields[kind] if list(fields) == [kind] else None


def _levels(content: object) -> int:
    levels, layer = 0, [content]
    while layer and levels <= MAX_LEVELS:
        levels += 1
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in cast("Iterable[object]", outer.values() if isinstance(outer, dict) else outer)
        ]
    return levels


def _contained_in(request: Request, left: Value, right: Value) -> bool:
    return _is_in_any(request, _entity(left), right)


def _contains(left: Value, right: Value) -> bool:
    return _frozen(right) in _set(left)


def _of_sets(contained: Callable[[frozenset[object], frozenset[object]], bool], left: Value, right: Value) -> bool:
    return contained(_set(left), _set(right))


def _of_longs(compared: Callable[[int, int], bool], left: Value, right: Value) -> bool:
    return compared(_long(left), _long(right))
