"""From the serves of a service to its route plan: order, owners and protocols decided here once for every data plane."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from codezero.model.serve import (
    USER_HEADER,
    Condition,
    Header,
    Predicate,
    Serve,
    User,
    Variant,
    condition_of,
    precedence,
)
from codezero.model.services import ServicePort
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule

_HTTP = frozenset({"http", "http1", "http2", "h2c", "grpc", "grpc-web", "ws", "kubernetes.io/h2c", "kubernetes.io/ws"})
_RAW = frozenset(
    {
        "tcp", "tls", "ssl", "https", "wss", "kubernetes.io/wss", "mysql", "postgres", "postgresql", "mongo", "mongodb", "redis", "kafka",
        "amqp", "amqps", "nats", "smtp", "ldap", "ssh", "mqtt",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServedPort:
    """A TCP port of a served service and the port of its pods (target port) behind it, where the Router listens.

    A port that does not say what it speaks is looked into only if `looked_into`, else everything on it is raw: Envoy forgets a connection whose
    client has sent something and ended its side before it was looked into (`ListenerFilterBufferImpl::onFileEvent`), which is all that many
    simple clients of raw protocols do.
    """

    port: ServicePort
    target: int
    looked_into: bool = True


def compile_plan(
    serve: Serve, *, origin: str, ports: Sequence[ServedPort], holders: Mapping[str, Address]
) -> RoutePlan:
    """The plan for `serve` whose origin Service has the address `origin`.

    `holders` names for each variant id the System that holds its laptop's tunnel; a variant without one falls back to the origin. Ports of
    the service with one target port share a listener, so a variant of any of them answers on all; the lowest stands for them. Mirrors come
    after all variants that answer.
    """
    ordered = sorted(serve.variants, key=lambda one: (one.mirror is not None, precedence(one)))
    by_target = groupby(sorted(ports, key=lambda one: (one.target, one.port.port)), key=lambda one: one.target)
    return RoutePlan(
        serve.service,
        tuple(_port_plan(tuple(group), ordered, origin=origin, holders=holders) for _, group in by_target),
    )


def port_kind(port: ServicePort) -> PortKind:
    """What `port` speaks, by its `appProtocol`, then by its name up to a dash; unknown is to be found out."""
    said = port.app_protocol or (port.name or "").partition("-")[0]
    said = said.lower()
    if said in _HTTP:
        return PortKind.HTTP
    return PortKind.RAW if said in _RAW else PortKind.UNKNOWN


def ports_with_conditions(variants: Iterable[Variant]) -> frozenset[int]:
    """The ports of a service on which requests are told apart, so that they must be HTTP."""
    return frozenset(pair.remote for one in variants if not one.condition.is_default for pair in one.ports)


def _port_plan(
    group: tuple[ServedPort, ...], ordered: Sequence[Variant], *, origin: str, holders: Mapping[str, Address]
) -> PortPlan:
    kinds = {port_kind(one.port) for one in group}
    kind = kinds.pop() if len(kinds) == 1 else PortKind.UNKNOWN
    if kind is PortKind.UNKNOWN and not any(one.looked_into for one in group):
        kind = PortKind.RAW
    rules = tuple(
        Rule(variant.variant_id, served, _bound(variant), holders.get(variant.variant_id), variant.mirror)
        for variant in ordered
        for served in _first_served(variant, group)
        # Where no HTTP is spoken there are no requests to compare or to copy.
        if kind is not PortKind.RAW or (variant.condition.is_default and variant.mirror is None)
    )
    return PortPlan(group[0].target, kind, Address(origin, group[0].port.port), rules)


def _first_served(variant: Variant, group: tuple[ServedPort, ...]) -> tuple[int, ...]:
    return tuple(one.port.port for one in group if variant.serves(one.port.port))[:1]


def _bound(variant: Variant) -> Condition:
    return condition_of(_owned(predicate, variant.user) for predicate in variant.condition.predicates)


def _owned(predicate: Predicate, user: str) -> Predicate:
    return Header(USER_HEADER, user) if isinstance(predicate, User) else predicate
