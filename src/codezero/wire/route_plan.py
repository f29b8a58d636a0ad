"""A route plan as it travels to Routers, and as the first plan in a Router pod's own settings: `routing.plan.RoutePlan` with strict types.

Reading checks everything again: a Router believes no plan that `routing.compile` could not have made.
"""

import ipaddress
from typing import Annotated

import msgspec

from codezero.model import problems
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import (
    USER_HEADER,
    Condition,
    ConditionKind,
    Header,
    Predicate,
    condition_of,
    condition_parts,
    parse_predicate,
)
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule

_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Text = Annotated[str, msgspec.Meta(max_length=1000)]
# How a condition bound to its owner is spelled; flags never produce it.
_OWNER = "owner"


class PlanAddress(msgspec.Struct, frozen=True):
    """An IP address and a port."""

    host: _Text
    port: _Port


class PlanPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A predicate; `owner` with a value is the user id that a request must carry."""

    kind: _Text
    key: _Text | None = None
    value: _Text | None = None


class PlanRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule of a port."""

    variant: _Text
    port: _Port
    condition: Annotated[tuple[PlanPart, ...], msgspec.Meta(max_length=16)] = ()
    holder: PlanAddress | None = None
    mirror: Mirror | None = None


class PlanPort(msgspec.Struct, frozen=True, omit_defaults=True):
    """One port that the Router listens on."""

    listen: _Port
    kind: PortKind
    origin: PlanAddress
    rules: Annotated[tuple[PlanRule, ...], msgspec.Meta(max_length=2000)] = ()


class Plan(msgspec.Struct, frozen=True):
    """The plan of one service."""

    namespace: _Text
    service: _Text
    ports: Annotated[tuple[PlanPort, ...], msgspec.Meta(max_length=100)]


def to_wire(plan: RoutePlan) -> Plan:
    """`plan` as it travels."""
    return Plan(
        plan.service.namespace,
        plan.service.name,
        tuple(
            PlanPort(
                port.listen,
                port.kind,
                PlanAddress(port.origin.host, port.origin.port),
                tuple(_rule_to_wire(rule) for rule in port.rules),
            )
            for port in plan.ports
        ),
    )


def from_wire(plan: Plan) -> RoutePlan:
    """The plan that travelled; raises `CodezeroError` (BAD_SERVE, BAD_CONDITION) naming what cannot be."""
    service = ServiceRef.parse(f"{plan.namespace}/{plan.service}")
    listens = [port.listen for port in plan.ports]
    if len(set(listens)) != len(listens):
        raise CodezeroError(problems.BAD_SERVE, f"the plan of {service} listens on a port twice")
    return RoutePlan(
        service,
        tuple(
            PortPlan(port.listen, port.kind, _address(port.origin), tuple(_rule_from_wire(rule) for rule in port.rules))
            for port in plan.ports
        ),
    )


def _rule_to_wire(rule: Rule) -> PlanRule:
    owners = [one for one in rule.condition.predicates if isinstance(one, Header) and one.key == USER_HEADER]
    others = Condition(tuple(one for one in rule.condition.predicates if one not in owners))
    parts = [PlanPart(_OWNER, None, one.value) for one in owners]
    parts += [PlanPart(one.kind, one.key, one.value) for one in condition_parts(others) if not others.is_default]
    holder = None if rule.holder is None else PlanAddress(rule.holder.host, rule.holder.port)
    return PlanRule(rule.variant_id, rule.port, tuple(parts), holder, rule.mirror)


def _rule_from_wire(rule: PlanRule) -> Rule:
    if not is_ulid(rule.variant):
        raise CodezeroError(problems.BAD_SERVE, f"{rule.variant[:40]!r} is no id of a variant")
    condition = condition_of(_predicate(part) for part in rule.condition)
    holder = None if rule.holder is None else _address(rule.holder)
    return Rule(rule.variant, rule.port, condition, holder, rule.mirror)


def _predicate(part: PlanPart) -> Predicate:
    if part.kind == _OWNER:
        if part.value is None or not is_ulid(part.value):
            raise CodezeroError(problems.BAD_CONDITION, "the owner of a condition has to be a ULID")
        return Header(USER_HEADER, part.value)
    text = part.value if part.key is None else f"{part.key}:{part.value or ''}"
    predicate = parse_predicate(part.kind, text)
    if predicate is None or part.kind == ConditionKind.USER:
        raise CodezeroError(problems.BAD_CONDITION, f"a rule's condition has no part of kind {part.kind}")
    return predicate


def _address(address: PlanAddress) -> Address:
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        raise CodezeroError(problems.BAD_SERVE, f"{address.host[:60]!r} is no IP address") from None
    return Address(address.host, address.port)
