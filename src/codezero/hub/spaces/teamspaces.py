"""What members of an organization do with its Teamspaces: make them, name them, let a cluster join, suspend them and take them away.

As in `organizations`: each function takes the acting `Member`, and finds nothing outside of their organization (T29).
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, changes
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.organizations import Member, check_version
from codezero.hub.policies import documents
from codezero.hub.signals import Changed
from codezero.hub.storage.tables import Order, Space
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission
from codezero.model.services import is_label

JOIN_LIFETIME: Final = timedelta(hours=1)
# A channel says that it lives each few seconds, and that is written down now and then.
UNREACHABLE_AFTER: Final = timedelta(seconds=60)
MAX_SPACES: Final = 500
# What an administrator decides about a running Teamspace: kept until whichever replica holds its channel has told it.
ORDER: Final = "order"
ORDERS_KEPT: Final = timedelta(days=1)
END_SESSION: Final = "end-session"
END_VARIANT: Final = "end-variant"
MAX_REASON: Final = 200

_TOKEN_PREFIX: Final = "cz_join_"  # noqa: S105 - what all of them begin with


class State(StrEnum):
    """How a Teamspace is: `invited` until a cluster has joined; `unreachable` is a certified one that has no channel at the moment."""

    INVITED = "invited"
    CERTIFIED = "certified"
    UNREACHABLE = "unreachable"
    SUSPENDED = "suspended"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, repr=False)
class Invited:
    """A Teamspace that a cluster may join. `token` is a secret for its administrator, good once until `expires_at`, and nobody can tell it again."""

    space: Space
    token: str
    expires_at: datetime


def state_of(space: Space, now: datetime) -> State:
    """How it is at that moment."""
    if space.removed_at is not None:
        return State.REMOVED
    if space.suspended_at is not None:
        return State.SUSPENDED
    if space.certified_at is None:
        return State.INVITED
    return State.CERTIFIED if is_connected(space, now) else State.UNREACHABLE


def is_connected(space: Space, now: datetime) -> bool:
    """Whether a replica of the Hub holds its channel."""
    return space.connected_at is not None and space.seen_at is not None and now - space.seen_at < UNREACHABLE_AFTER


def install_command(hub: Hub) -> str:
    """What an administrator of the cluster runs. The token is asked for, or comes out of a file: never in a command line."""
    return f"czctl teamspace install --hub {hub.public_url} --join-token-file -"


# --- reading ------------------------------------------------------------------------------------------------------------------------------


async def of_organization(
    session: AsyncSession, acting: Member, *, after: str | None = None, limit: int = 50
) -> Sequence[Space]:
    """At most `limit` Teamspaces that are not removed, in the order of their ids, those behind `after`."""
    acting.need(Permission.SPACES_READ)
    query = select(Space).where(Space.organization_id == acting.organization, Space.removed_at.is_(None))
    if after is not None:
        query = query.where(Space.id > after)
    return (await session.scalars(query.order_by(Space.id).limit(limit))).all()


async def get(session: AsyncSession, acting: Member, space: str) -> Space:
    """One of them; raises `CodezeroError` (NOT_FOUND)."""
    acting.need(Permission.SPACES_READ)
    found = await session.scalar(
        select(Space).where(Space.id == space, Space.organization_id == acting.organization, Space.removed_at.is_(None))
    )
    if found is None:
        raise CodezeroError(problems.NOT_FOUND, "there is no such Teamspace", fix="see `czctl space list`")
    return found


# --- changing -----------------------------------------------------------------------------------------------------------------------------


async def create(session: AsyncSession, hub: Hub, acting: Member, name: str) -> Invited:
    """A new Teamspace with the default policy, and the token by which a cluster joins. Raises `CodezeroError` (ALREADY_THERE, BAD_REQUEST)."""
    acting.need(Permission.SPACES_MANAGE)
    await _check_name(session, acting, name)
    own = await session.scalars(
        select(Space.id)
        .where(Space.organization_id == acting.organization, Space.removed_at.is_(None))
        .limit(MAX_SPACES)
    )
    if len(own.all()) >= MAX_SPACES:
        raise CodezeroError(problems.BAD_REQUEST, f"an organization has at most {MAX_SPACES} Teamspaces")
    space = Space(
        organization_id=acting.organization,
        name=name,
        state=State.INVITED.value,
        created_by=acting.user,
        created_at=hub.clock(),
    )
    session.add(space)
    await session.flush()
    await documents.begin(hub, session, acting.organization, space.id, author=acting.user)
    invited = _invited(hub, space)
    await _told(session, hub, acting, "space.create", space)
    await _tell(session, hub, space)
    return invited


async def invite(session: AsyncSession, hub: Hub, acting: Member, space: str) -> Invited:
    """Another join token; the one before is good no more. A cluster that joins by it takes the place of one that is there."""
    acting.need(Permission.SPACES_MANAGE)
    found = await _changeable(session, acting, space)
    invited = _invited(hub, found)
    found.version += 1
    await _told(session, hub, acting, "space.invite", found)
    await _tell(session, hub, found)
    return invited


async def rename(
    session: AsyncSession, hub: Hub, acting: Member, space: str, name: str, *, version: int | None = None
) -> Space:
    """Call it something else."""
    acting.need(Permission.SPACES_MANAGE)
    found = await _changeable(session, acting, space, version=version)
    if name == found.name:
        return found
    await _check_name(session, acting, name)
    before, found.name = found.name, name
    found.version += 1
    await _told(session, hub, acting, "space.rename", found, before=before)
    await _tell(session, hub, found)
    return found


async def suspend(session: AsyncSession, hub: Hub, acting: Member, space: str) -> Space:
    """Let nobody consume or serve in it; what is open ends. Its cluster stays joined."""
    acting.need(Permission.SPACES_MANAGE)
    found = await _changeable(session, acting, space)
    if found.suspended_at is None:
        found.suspended_at, found.state = hub.clock(), State.SUSPENDED.value
        found.version += 1
        await _told(session, hub, acting, "space.suspend", found)
        await _tell(session, hub, found)
    return found


async def resume(session: AsyncSession, hub: Hub, acting: Member, space: str) -> Space:
    """The end of a suspension."""
    acting.need(Permission.SPACES_MANAGE)
    found = await _changeable(session, acting, space)
    if found.suspended_at is not None:
        found.suspended_at = None
        found.state = (State.INVITED if found.certified_at is None else State.CERTIFIED).value
        found.version += 1
        await _told(session, hub, acting, "space.resume", found)
        await _tell(session, hub, found)
    return found


async def rotate(session: AsyncSession, hub: Hub, acting: Member, space: str) -> Space:
    """Have the cluster make itself another key: the present one is believed no more when it has. Raises `CodezeroError` (NOT_CERTIFIED)."""
    acting.need(Permission.SPACES_MANAGE)
    found = await _changeable(session, acting, space)
    if found.certified_at is None:
        raise _not_certified()
    if found.rotate_at is None:
        found.rotate_at = hub.clock()
        found.version += 1
        await _told(session, hub, acting, "space.rotate", found)
        await _tell(session, hub, found)
    return found


async def remove(session: AsyncSession, hub: Hub, acting: Member, space: str, *, version: int | None = None) -> None:
    """The end of a Teamspace at the Hub: its cluster is believed no more, and what is open there ends."""
    acting.need(Permission.SPACES_MANAGE)
    found = await _changeable(session, acting, space, version=version)
    await ended(session, hub, found)
    await _told(session, hub, acting, "space.remove", found)


async def ended(session: AsyncSession, hub: Hub, space: Space) -> None:
    """Note that a Teamspace is no more. What the audit is told, the caller knows."""
    space.state, space.removed_at, space.join_hash = State.REMOVED.value, hub.clock(), None
    space.version += 1
    await _tell(session, hub, space)


async def end_session(session: AsyncSession, hub: Hub, acting: Member, space: str, ended: str, *, reason: str) -> None:
    """End a laptop's session there, its variants with it. Raises `CodezeroError` (SPACE_AWAY): nobody would do it."""
    acting.need(Permission.SESSIONS_END)
    found = await _connected(session, hub, acting, space)
    _order(session, hub, found, END_SESSION, ended, reason=reason)
    await _told(session, hub, acting, "session.terminate", found, ended=ended[:64], reason=reason[:MAX_REASON])


async def end_variant(
    session: AsyncSession, hub: Hub, acting: Member, space: str, variant: str, *, reason: str
) -> None:
    """End a variant there, whoever it belongs to. Raises `CodezeroError` (SPACE_AWAY)."""
    acting.need(Permission.SESSIONS_END)
    found = await _connected(session, hub, acting, space)
    _order(session, hub, found, END_VARIANT, variant, reason=reason)
    await _told(session, hub, acting, "serve.terminate", found, ended=variant[:64], reason=reason[:MAX_REASON])


async def orders(session: AsyncSession, hub: Hub, space: str) -> Sequence[Order]:
    """What the Teamspace is to be told, oldest first."""
    since = hub.clock() - ORDERS_KEPT
    query = select(Order).where(Order.space_id == space, Order.created_at > since).order_by(Order.id)
    return (await session.scalars(query)).all()


async def forget_orders(session: AsyncSession, hub: Hub, space: str, told: Iterable[str]) -> None:
    """Those were told, and others are too old to be."""
    late = Order.created_at <= hub.clock() - ORDERS_KEPT
    await session.execute(delete(Order).where(Order.space_id == space, Order.id.in_(list(told)) | late))


def token_hash(hub: Hub, token: str) -> bytes:
    """What is remembered of a join token."""
    return hub.sealer.hash(f"join {token}")


def target_of(space: Space) -> dict[str, Any]:
    """A Teamspace as the audit names it."""
    return {"kind": "space", "id": space.id, "name": space.name}


# --- within -------------------------------------------------------------------------------------------------------------------------------


def _invited(hub: Hub, space: Space) -> Invited:
    token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
    expires_at = hub.clock() + JOIN_LIFETIME
    space.join_hash, space.join_expires_at = token_hash(hub, token), expires_at
    return Invited(space, token, expires_at)


async def _changeable(session: AsyncSession, acting: Member, space: str, *, version: int | None = None) -> Space:
    found = await get(session, acting, space)
    check_version(version, found.version)
    return found


async def _connected(session: AsyncSession, hub: Hub, acting: Member, space: str) -> Space:
    found = await get(session, acting, space)
    if not is_connected(found, hub.clock()):
        raise CodezeroError(
            problems.SPACE_AWAY,
            f"{found.name} is not connected with the Hub at the moment, so nothing was ended",
            fix="take the permission away, which holds as soon as it is back; or try again in a moment",
        )
    return found


async def _check_name(session: AsyncSession, acting: Member, name: str) -> None:
    if not is_label(name):
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{name[:80]!r} is no name for a Teamspace",
            fix="use lower-case letters, digits and -, at most 63, a letter or digit first and last",
        )
    taken = select(Space.id).where(
        Space.organization_id == acting.organization, Space.name == name, Space.removed_at.is_(None)
    )
    if await session.scalar(taken) is not None:
        raise CodezeroError(
            problems.ALREADY_THERE, f"the organization has a Teamspace {name} already", fix="choose another name"
        )


def _order(session: AsyncSession, hub: Hub, space: Space, kind: str, subject: str, *, reason: str) -> None:
    order = Order(
        space_id=space.id,
        organization_id=space.organization_id,
        kind=kind,
        subject=subject[:64],
        reason=reason[:MAX_REASON],
        created_at=hub.clock(),
    )
    session.add(order)
    hub.signals.tell(session, Changed(ORDER, space.organization_id, space.id))


async def _tell(session: AsyncSession, hub: Hub, space: Space) -> None:
    await changes.tell(session, hub, "space", organization=space.organization_id, space=space.id, what=space.id)


async def _told(session: AsyncSession, hub: Hub, acting: Member, action: str, space: Space, **details: object) -> None:
    entry = Entry(
        {"kind": acting.kind, "id": acting.user, "name": acting.name},
        action,
        target_of(space),
        details=details,
        address=acting.address,
        request=acting.request,
        at=hub.clock(),
    )
    await audit.record(session, acting.organization, entry)


def _not_certified() -> CodezeroError:
    return CodezeroError(
        problems.NOT_CERTIFIED, "no cluster has joined as this Teamspace yet", fix="join one, or wait until it has"
    )
