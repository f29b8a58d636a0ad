"""May somebody do that, why, and who can reach what: answered as the Teamspace would, by what holds at this moment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.policies import beside, bundle
from codezero.hub.storage.tables import Space
from codezero.model import access, problems
from codezero.model.access import CONSUME, Act, Bundle, Operation
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart

# Of no device: a question about a person is not about one of theirs.
_NO_DEVICE: Final = "00000000000000000000000000"
MAX_REACH: Final = 20_000


@dataclass(frozen=True, slots=True)
class Explained:
    """An answer; `policies` are those that made it, by their names, `failed` those that could not be evaluated."""

    allowed: bool
    reason: str
    policies: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    """Which of some services a user may consume."""

    user: str
    name: str
    role: str
    services: tuple[ServiceRef, ...]


def acts_for(
    operation: Operation,
    condition: tuple[ConditionPart, ...] = (),
    ports: tuple[int, ...] = (),
    *,
    mirror: bool = False,
) -> tuple[Act, ...]:
    """What is asked for an operation as people name it: `serve` by the kind of its condition, as `czctl serve` would."""
    match operation:
        case Operation.CONSUME | Operation.TERMINATE:
            return (Act(operation),)
        case Operation.SERVE:
            return access.serve_acts(condition, ports, mirror=mirror)
        case Operation.MIRROR:
            return access.serve_acts(condition, ports, mirror=True)
        case Operation.TAKEOVER:
            return access.takeover_of(access.serve_acts(condition, ports))
        case _:
            return tuple(Act(operation, act.condition, act.ports) for act in access.serve_acts(condition, ports))


async def can_i(
    hub: Hub,
    session: AsyncSession,
    organization: str,
    space: str,
    *,
    user: str,
    operation: Operation,
    service: ServiceRef,
    condition: tuple[ConditionPart, ...] = (),
    ports: tuple[int, ...] = (),
    text: str | None = None,
) -> Explained:
    """Whether the user of that ULID may do that, and why; by the document `text`, where it is given, instead of the one in force.

    Raises `CodezeroError`: NOT_FOUND, `PolicyError` for a text that cannot be used.
    """
    held = await _held(hub, session, organization, space, text)
    return explained(held, user, acts_for(operation, condition, ports), service, now=hub.clock().timestamp())


async def reach(
    hub: Hub,
    session: AsyncSession,
    organization: str,
    space: str,
    services: Iterable[ServiceRef],
    *,
    text: str | None = None,
) -> Sequence[Reach]:
    """Which of `services` each member may consume; by the document `text`, where it is given, instead of the one in force.

    Raises `CodezeroError`: NOT_FOUND, `PolicyError` for a text that cannot be used, TOO_LARGE for more answers than anybody reads.
    """
    held = await _held(hub, session, organization, space, text)
    asked = sorted(set(services))
    if len(asked) * len(held.members) > MAX_REACH:
        raise CodezeroError(
            problems.TOO_LARGE,
            f"{len(asked)} services for {len(held.members)} members are more than {MAX_REACH} answers",
            fix="ask about fewer services",
        )
    found: list[Reach] = []
    for user, member in held.members.items():
        sight = held.sight(_device(held, user))
        found.append(Reach(user, member.name, member.role, tuple(one for one in asked if sight.sees(one))))
    return found


def explained(held: Bundle, user: str, acts: Iterable[Act], service: ServiceRef, *, now: float) -> Explained:
    """As `can_i`, of a bundle."""
    device = _device(held, user)
    closed = held.closed(now)
    if closed is not None:
        return Explained(False, closed)
    refusal = held.refusal(device)
    if refusal is not None:
        return Explained(False, refusal.reason)
    policies: dict[str, None] = {}
    failed: dict[str, None] = {}
    reason = ""
    for act in dict.fromkeys((CONSUME, *acts)):
        answer = held.policies.decide(held.request(user, act, service))
        reason = held.decide(device, act, service).reason
        names = [policy.name for policy in answer.determining]
        failed |= dict.fromkeys(policy.name for policy in answer.failed)
        if not answer.allowed:
            return Explained(False, reason, tuple(names), tuple(failed))
        policies |= dict.fromkeys(names)
    return Explained(True, reason, tuple(policies), tuple(failed))


async def _held(hub: Hub, session: AsyncSession, organization: str, space: str, text: str | None) -> Bundle:
    found = await session.scalar(
        select(Space).where(Space.id == space, Space.organization_id == organization, Space.removed_at.is_(None))
    )
    if found is None:
        raise CodezeroError(problems.NOT_FOUND, f"there is no Teamspace {space}")
    held = await bundle.of_space(session, found, hub.clock())
    return held if text is None else replace(held, policies=(await beside.check(text, by=space)).policies)


def _device(held: Bundle, user: str) -> Device:
    return Device("hub", held.organization, user, _NO_DEVICE)
