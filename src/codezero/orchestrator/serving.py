"""What a laptop may ask to serve: the parts of its wish become a variant, or an error that names the part. Pure: time is a value.

Whether somebody else has the condition, the System decides by the Serve object; what is known here only says which permission that needs.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import Variant, condition_from_parts, condition_parts, conflicts
from codezero.model.services import Protocol, Service, ServiceRef
from codezero.model.variants import ConditionPart, PortPair, VariantView
from codezero.wire.coordination import ServeWanted

LONGEST_SECONDS: Final = 8 * 3600.0
# Clocks of laptops are a little off, and the longest is what most ask for.
CLOCKS_DIFFER_SECONDS: Final = 300.0
MAX_PORTS: Final = 64
MAX_PARTS: Final = 16
# All variants of a service stand in one object, which etcd wants below 1.5 MB, and travel together to everybody who sees the service.
MAX_VARIANTS: Final = 400
MAX_VARIANTS_OF_A_USER: Final = 40
MAX_WEIGHT: Final = 600 * 1024
MAX_WEIGHT_OF_A_USER: Final = 64 * 1024

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,251}[A-Za-z0-9_.])?|::1?")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who serves: the laptop, its session, and the name others are shown of its user."""

    device: Device
    session: SessionId
    name: str


def variant_of(wanted: ServeWanted, service: Service, owner: Owner, *, now: float) -> VariantView:
    """The variant, with a new id, that `wanted` asks for; raises `CodezeroError` naming what is wrong. `now` is UNIX time in seconds."""
    if len(wanted.condition) > MAX_PARTS:
        raise CodezeroError(problems.BAD_CONDITION, f"{len(wanted.condition)} parts; at most {MAX_PARTS} are read")
    condition = condition_from_parts(wanted.condition)
    return VariantView(
        variant_id=new_ulid(),
        user=owner.device.user,
        user_name=owner.name,
        device=str(owner.device),
        session=owner.session,
        condition=condition_parts(condition),
        ports=checked_ports(wanted.ports, service),
        since=int(now * 1000),
        expires=checked_expiry(wanted.expires, now=now),
        mirror=wanted.mirror,
    )


def checked_ports(ports: Sequence[PortPair], service: Service) -> tuple[PortPair, ...]:
    """The ports, sorted; raises `CodezeroError` unless each is a TCP port of `service`, once, with somewhere to go to."""
    offered = {port.port for port in service.ports if port.protocol is Protocol.TCP}
    if not offered:
        raise CodezeroError(
            problems.NOT_SERVABLE,
            f"{service.ref} has no TCP port in the cluster, so it cannot be served",
            fix="serve another one; what leads out of the cluster, as an ExternalName does, passes no Router",
        )
    if not ports:
        raise _bad_port("no port is named", service)
    if len(ports) > MAX_PORTS:
        raise _bad_port(f"{len(ports)} ports are named; at most {MAX_PORTS} can be", service)
    seen: set[int] = set()
    for pair in ports:
        if not 1 <= pair.remote <= 65535 or not 1 <= pair.local <= 65535:
            raise _bad_port(f"{pair.local}:{pair.remote} are no ports: they go from 1 to 65535", service)
        if pair.remote not in offered:
            raise _bad_port(f"{service.ref} has no TCP port {pair.remote}", service)
        if pair.remote in seen:
            raise _bad_port(f"port {pair.remote} is named twice", service)
        if pair.host is not None and _HOST.fullmatch(pair.host) is None:
            raise _bad_port(f"{pair.host[:100]!r} is no host", service)
        seen.add(pair.remote)
    return tuple(sorted(ports, key=lambda pair: pair.remote))


def checked_expiry(expires: float | None, *, now: float) -> float:
    """When the variant ends: at most `LONGEST_SECONDS` from `now`, which is also what no wish means; raises `CodezeroError` otherwise."""
    longest = now + LONGEST_SECONDS
    if expires is None:
        return longest
    if not math.isfinite(expires) or expires <= now:
        raise CodezeroError(problems.BAD_SERVE, "it would expire in the past", fix="choose a time to come")
    if expires > longest + CLOCKS_DIFFER_SECONDS:
        hours = (expires - now) / 3600
        raise CodezeroError(
            problems.BAD_SERVE,
            f"it would expire in {min(hours, 1e6):.0f} hours; {LONGEST_SECONDS / 3600:.0f} are the longest",
            fix="serve for a shorter time, and again before it ends",
        )
    return min(expires, longest)


def readable(service: ServiceRef, views: Iterable[VariantView]) -> tuple[Variant, ...]:
    """Those of `views` whose conditions can be understood, as variants of `service`."""
    found: list[Variant] = []
    for view in views:
        try:
            condition = condition_from_parts(view.condition)
        except CodezeroError:
            continue  # not made by us; the System does not follow it either
        found.append(
            Variant(view.variant_id, service, view.user, view.user_name, condition, view.ports, view.since, view.mirror)
        )
    return tuple(found)


def in_the_way(service: ServiceRef, existing: Iterable[VariantView], wanted: VariantView) -> tuple[Variant, ...]:
    """Variants of other users that `wanted` would replace."""
    return conflicts(readable(service, existing), readable(service, (wanted,))[0])


def check_room(existing: Iterable[VariantView], wanted: VariantView) -> None:
    """Raises `CodezeroError` when the service has no room for `wanted` beside `existing`: nobody may fill it up for the others."""
    others = [view for view in existing if (view.user, view.condition) != (wanted.user, wanted.condition)]
    own = [view for view in others if view.user == wanted.user]
    for views, most, heaviest, whose in (
        (own, MAX_VARIANTS_OF_A_USER, MAX_WEIGHT_OF_A_USER, "you have"),
        (others, MAX_VARIANTS, MAX_WEIGHT, "the service has"),
    ):
        if len(views) >= most or sum(map(variant_weight, views)) + variant_weight(wanted) > heaviest:
            raise CodezeroError(
                problems.BAD_SERVE,
                f"{whose} {len(views)} variants there, and no room for another of this size",
                fix="end some of them (czctl serve list), or serve fewer ports with shorter conditions",
            )


def variant_weight(view: VariantView) -> int:
    """About how many bytes a variant takes in a message, rather more than less."""
    condition = sum(60 + len(part.kind) + _bytes(part.key) + _bytes(part.value) for part in view.condition)
    return (
        400 + _bytes(view.user_name) + len(view.device) + condition + sum(60 + _bytes(port.host) for port in view.ports)
    )


def described(condition: Sequence[ConditionPart], ports: Sequence[PortPair]) -> str:
    """A condition and its ports for people."""
    try:
        text = str(condition_from_parts(condition))
    except CodezeroError:
        text = "a condition that cannot be read"
    return f"{text}, {'port' if len(ports) == 1 else 'ports'} {', '.join(str(port.remote) for port in ports)}"


def _bytes(text: str | None) -> int:
    return 0 if text is None else len(text.encode(errors="replace"))


def _bad_port(reason: str, service: Service) -> CodezeroError:
    ports = ", ".join(str(port.port) for port in service.ports[:20] if port.protocol is Protocol.TCP)
    return CodezeroError(problems.BAD_SERVE, reason, fix=f"name ports as [local:]remote; {service.ref} has {ports}")
