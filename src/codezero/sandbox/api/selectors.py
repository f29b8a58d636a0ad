"""Label and field selectors: parsed once, then asked about many objects."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from codezero.sandbox.api import errors
from codezero.sandbox.api.documents import JsonObject, as_list, as_object, at

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]

_TERM = re.compile(
    r"""\s*(?:
        (?P<absent>!)\s*(?P<absent_key>[^\s,=!()<>]+)
      | (?P<key>[^\s,=!()<>]+)\s*(?:
            (?P<equality>==|=|!=)\s*(?P<value>[^\s,()=!]*)
          | \s(?P<set>in|notin)\s*\((?P<values>[^()]*)\)
          | (?P<order>[<>])\s*(?P<number>-?\d+)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)
MAXIMUM_LENGTH = 64 * 1024


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """What labels must be; all of `requirements` hold for a match."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether an object with `labels` is selected."""
        return all(requirement(labels) for requirement in self.requirements)


EVERYTHING = LabelSelector()


def parse_labels(text: str) -> LabelSelector:
    """The selector that `a=b,c!=d,e in (f,g),!h` describes; raises `ApiError` 400 for others."""
    if len(text) > MAXIMUM_LENGTH:
        raise errors.bad_request("label selector is too long")
    text = " ".join(text.split())
    requirements: list[Requirement] = []
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or term.end() == position:
            raise errors.bad_request(f"unable to parse label selector {text!r} at position {position}")
        requirements.append(_requirement(term))
        position = term.end()
    return LabelSelector(tuple(requirements))


def _requirement(term: re.Match[str]) -> Requirement:
    if term["absent"]:
        return lambda labels, key=term["absent_key"]: key not in labels
    key: str = term["key"]
    if term["equality"]:
        value: str = term["value"]
        if term["equality"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if term["set"]:
        values = frozenset(item.strip() for item in term["values"].split(","))
        if term["set"] == "notin":
            return lambda labels: labels.get(key) not in values
        return lambda labels: labels.get(key) in values
    if term["order"]:
        number, greater = int(term["number"]), term["order"] == ">"
        return lambda labels: _in_order(labels.get(key), number, greater=greater)
    return lambda labels: key in labels


def _in_order(value: str | None, number: int, *, greater: bool) -> bool:
    try:
        return value is not None and (int(value) > number if greater else int(value) < number)
    except ValueError:
        return False


def from_object(selector: JsonObject) -> LabelSelector:
    """The selector in a `LabelSelector` object (`matchLabels`, `matchExpressions`); an empty one selects everything."""
    requirements: list[Requirement] = [
        lambda labels, key=key, value=value: labels.get(key) == value
        for key, value in as_object(selector.get("matchLabels")).items()
    ]
    for expression in as_list(selector.get("matchExpressions")):
        key, operator = at(expression, "key"), at(expression, "operator")
        values = frozenset(str(value) for value in as_list(at(expression, "values")))
        if operator == "In":
            requirements.append(lambda labels, key=key, values=values: labels.get(key) in values)
        elif operator == "NotIn":
            requirements.append(lambda labels, key=key, values=values: labels.get(key) not in values)
        elif operator == "Exists":
            requirements.append(lambda labels, key=key: key in labels)
        else:
            requirements.append(lambda labels, key=key: key not in labels)
    return LabelSelector(tuple(requirements))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """What fields must be: (path, wanted value, whether equal)."""

    terms: tuple[tuple[tuple[str, ...], str, bool], ...] = ()

    def matches(self, content: JsonObject) -> bool:
        """Whether an object is selected."""
        return all((_text(at(content, *path)) == value) is equal for path, value, equal in self.terms)

    def exact(self, *path: str) -> str | None:
        """The value the field at `path` must have, where the selector says so."""
        return next((value for term, value, equal in self.terms if equal and term == path), None)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def parse_fields(text: str, *, known: Collection[str]) -> FieldSelector:
    """The selector that `metadata.name=a,status.phase!=b` describes; raises `ApiError` 400 for others and for fields not in `known`."""
    if len(text) > MAXIMUM_LENGTH:
        raise errors.bad_request("field selector is too long")
    terms: list[tuple[tuple[str, ...], str, bool]] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = re.fullmatch(r"([\w.\-/]+)(==|=|!=)(.*)", part)
        if match is None:
            raise errors.bad_request(f"invalid field selector: {part!r}")
        name, operator, value = match.groups()
        if name not in known:
            raise errors.bad_request(f"field label not supported: {name}")
        terms.append((tuple(name.split(".")), value, operator != "!="))
    return FieldSelector(tuple(terms))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource somebody asked for: by namespace, labels and fields."""

    namespace: str | None = None
    labels: LabelSelector = EVERYTHING
    fields: FieldSelector = FieldSelector()

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.namespace is None and not self.labels.requirements and not self.fields.terms

    def matches(self, content: JsonObject) -> bool:
        """Whether an object is among those asked for."""
        metadata = content["metadata"]
        if self.namespace is not None and metadata.get("namespace") != self.namespace:
            return False
        if self.labels.requirements and not self.labels.matches(as_object(metadata.get("labels"))):
            return False
        return not self.fields.terms or self.fields.matches(content)
