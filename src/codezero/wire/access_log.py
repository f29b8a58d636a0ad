"""The Router's access log, read: one line of JSON as `routing.envoy` has Envoy write it becomes what is told about a request."""

import math
import re

import msgspec

from codezero.model.serve import USER_HEADER, Condition, Header, User
from codezero.routing.plan import RoutePlan, Rule
from codezero.wire.tracing import Direction, TraceRecord

_LONGEST = 300
_RULE = re.compile(r"variant:([0-9A-Z]{26}):([0-9]{1,5})")
# Envoy says so where the origin answered as asked, and of connections that ended as any does.
_NOTHING_WRONG = frozenset({"via_upstream", "-", ""})


class _Host(msgspec.Struct, frozen=True):
    variant: str = ""
    rule: str = ""
    fallback: str = ""


class _Line(msgspec.Struct, frozen=True):
    start: str
    rule: str = ""
    host: _Host | None = None
    protocol: str = ""
    method: str = ""
    path: str = ""
    status: int = 0
    sent: int = 0
    received: int = 0
    microseconds: int | None = None
    milliseconds: int = 0
    flags: str = ""
    details: str = ""


def trace_record(line: bytes, plan: RoutePlan) -> TraceRecord | None:
    """What `line` tells about a request or connection to a service with that plan; None for a line that tells of none.

    The plan gives owner and condition of the variant; they stay empty where it ended meanwhile.
    """
    try:
        said = msgspec.json.decode(line, type=_Line, strict=False)
        at = float(said.start)
    except (ValueError, msgspec.DecodeError):
        return None
    host = said.host or _Host()
    named = _RULE.fullmatch(said.rule or host.rule)
    if named is None or not math.isfinite(at):
        return None
    variant, port = named[1], int(named[2])
    rule = _rule(plan, variant, port)
    return TraceRecord(
        at=at,
        direction=Direction.SERVE,
        service=plan.service,
        port=port,
        protocol=said.protocol[:_LONGEST] or "TCP",
        user=_owner(rule),
        variant=variant,
        why=_why(rule)[:_LONGEST],
        method=said.method[:_LONGEST],
        path=said.path[:_LONGEST],
        status=said.status,
        sent=said.sent,
        received=said.received,
        milliseconds=said.milliseconds if said.microseconds is None else said.microseconds / 1000,
        fallback=host.fallback[:_LONGEST],
        error=_error(said)[:_LONGEST],
    )


def _rule(plan: RoutePlan, variant: str, port: int) -> Rule | None:
    rules = (rule for one in plan.ports for rule in one.rules)
    return next((rule for rule in rules if (rule.variant_id, rule.port) == (variant, port)), None)


def _owner(rule: Rule | None) -> str:
    predicates = rule.condition.predicates if rule else ()
    return next((one.value for one in predicates if isinstance(one, Header) and one.key == USER_HEADER), "")


def _why(rule: Rule | None) -> str:
    if rule is None:
        return ""
    asked = (User() if isinstance(one, Header) and one.key == USER_HEADER else one for one in rule.condition.predicates)
    return str(Condition(tuple(asked)))


def _error(said: _Line) -> str:
    return (
        ""
        if said.details in _NOTHING_WRONG and said.flags in _NOTHING_WRONG
        else f"{said.flags} {said.details}".strip(" -")
    )
