"""What goes on in a Teamspace, as it told the Hub last; and the end of what somebody else does there.

Of services, whoever asks is told of those that they may consume, in every list (T38); members who can change the policy, or read the audit, of all.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.api import listing, operations
from codezero.hub.api.listing import Page, ThePageOfAPicture
from codezero.hub.api.permissions import TheActing, TheHub, needs
from codezero.hub.api.shapes import Ending, Listed, Picture, Serve, Session
from codezero.hub.api.spaces import ONE
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.policies import bundle
from codezero.hub.spaces import pictures, teamspaces
from codezero.hub.spaces.pictures import Kind, Shown
from codezero.model.ids import Device
from codezero.model.roles import Permission
from codezero.model.services import ServiceRef

# Of no device: a member sees in the Hub what they may consume, at whatever machine.
_NO_DEVICE = "00000000000000000000000000"

Item = dict[str, Any]
Sees = Callable[[ServiceRef], bool]

routes = operations.router("sessions")


@routes.get(ONE + "/catalog", openapi_extra=needs(Permission.SPACES_READ))
async def catalog(space: str, acting: TheActing, hub: TheHub, page: ThePageOfAPicture) -> Picture:
    """The services of the Teamspace, with who serves them."""

    async def work(session: AsyncSession, member: Member) -> Picture:
        shown, sees = await _shown(session, hub, member, space, Kind.CATALOG)
        items = [item for item in shown.items if sees(_ref(item["ref"]))]
        part, following = await _part(page, items, lambda item: str(_ref(item["ref"])))
        return Picture(items=list(part), next=following, at=shown.at, stale_since=shown.stale_since)

    return await acting.look(work)


@routes.get(ONE + "/presence", openapi_extra=needs(Permission.SESSIONS_READ))
async def presence(space: str, acting: TheActing, hub: TheHub, page: ThePageOfAPicture) -> Picture:
    """The laptops that are connected, with what they consume."""

    async def work(session: AsyncSession, member: Member) -> Picture:
        shown, sees = await _shown(session, hub, member, space, Kind.PRESENCE)
        items = [
            {**item, "consumes": [ref for ref in item.get("consumes", ()) if sees(_ref(ref))]} for item in shown.items
        ]
        part, following = await _part(page, items, lambda item: str(item["session"]))
        return Picture(items=list(part), next=following, at=shown.at)

    return await acting.look(work)


@routes.get(ONE + "/activity", openapi_extra=needs(Permission.SESSIONS_READ))
async def activity(space: str, acting: TheActing, hub: TheHub, page: ThePageOfAPicture) -> Picture:
    """What happened last, oldest first."""

    async def work(session: AsyncSession, member: Member) -> Picture:
        shown, sees = await _shown(session, hub, member, space, Kind.ACTIVITY)
        items = [item for item in (_event(item, sees) for item in shown.items) if item is not None]
        part, following = await _part(page, items, lambda item: str(item["id"]))
        return Picture(items=list(part), next=following, at=shown.at)

    return await acting.look(work)


@routes.get(ONE + "/sessions", openapi_extra=needs(Permission.SESSIONS_READ))
async def sessions(space: str, acting: TheActing, hub: TheHub, page: ThePageOfAPicture) -> Listed[Session]:
    """The laptops that are connected, with what they consume and serve."""

    async def work(session: AsyncSession, member: Member) -> Listed[Session]:
        shown, sees = await _shown(session, hub, member, space, Kind.PRESENCE)
        serving = _serves((await pictures.shown(session, member.organization, space, Kind.CATALOG)).items, sees)
        items = [_session(item, serving, sees) for item in shown.items]
        part, following = await _part(page, items, lambda one: one.id)
        return Listed(items=list(part), next=following)

    return await acting.look(work)


@routes.delete(ONE + "/sessions/{session}", status_code=202, openapi_extra=needs(Permission.SESSIONS_END))
async def end_session(space: str, session: str, acting: TheActing, hub: TheHub, body: Ending | None = None) -> None:
    """End a laptop's session, with all that it consumes and serves. It is done by the Teamspace, within seconds."""
    reason = "" if body is None else body.reason

    async def work(database: AsyncSession, member: Member) -> None:
        await teamspaces.end_session(database, hub, member, space, session, reason=reason)

    await acting.change(work)


@routes.get(ONE + "/serves", openapi_extra=needs(Permission.SESSIONS_READ))
async def serves(space: str, acting: TheActing, hub: TheHub, page: ThePageOfAPicture) -> Listed[Serve]:
    """Who serves what, on what condition."""

    async def work(session: AsyncSession, member: Member) -> Listed[Serve]:
        shown, sees = await _shown(session, hub, member, space, Kind.CATALOG)
        part, following = await _part(page, _serves(shown.items, sees), lambda one: one.id)
        return Listed(items=list(part), next=following)

    return await acting.look(work)


@routes.delete(ONE + "/serves/{serve}", status_code=202, openapi_extra=needs(Permission.SESSIONS_END))
async def end_serve(space: str, serve: str, acting: TheActing, hub: TheHub, body: Ending | None = None) -> None:
    """End a variant, whoever it belongs to. It is done by the Teamspace, within seconds."""
    reason = "" if body is None else body.reason

    async def work(session: AsyncSession, member: Member) -> None:
        await teamspaces.end_variant(session, hub, member, space, serve, reason=reason)

    await acting.change(work)


async def _shown(session: AsyncSession, hub: Hub, member: Member, space: str, kind: Kind) -> tuple[Shown, Sees]:
    """What the Teamspace told last, and which of its services `member` is told of."""
    row = await teamspaces.get(session, member, space)
    shown = await pictures.shown(session, member.organization, row.id, kind)
    if {Permission.POLICIES_MANAGE, Permission.AUDIT_READ} & member.permissions:
        return shown, _everything
    held = await bundle.of_space(session, row, hub.clock())
    device = Device("hub", member.organization, member.user, _NO_DEVICE)
    if held.closed(hub.clock().timestamp()) is not None or held.refusal(device) is not None:
        return shown, lambda _: False
    return shown, held.sight(device).sees


def _everything(_: ServiceRef) -> bool:
    return True


def _event(item: Item, sees: Sees) -> Item | None:
    """What happened, as far as its reader is told of it."""
    if sees is _everything:
        return item
    if item.get("service") is not None:
        return item if sees(_ref(item["service"])) else None
    # What words say cannot be looked through for services.
    return {**item, "detail": "", "consumed": [ref for ref in item.get("consumed", ()) if sees(_ref(ref))]}


async def _part(page: Page, items: Iterable[Any], key: Callable[[Any], str]) -> tuple[Sequence[Any], str | None]:
    ordered = sorted(items, key=key)

    async def read(after: str | None, limit: int) -> Sequence[Any]:
        first = 0 if after is None else bisect_right(ordered, after, key=key)
        return ordered[first : first + limit]

    return await listing.entries(page, read, key)


def _ref(item: Item) -> ServiceRef:
    return ServiceRef(item["namespace"], item["name"])


def _serves(catalog: Iterable[Item], sees: Sees) -> list[Serve]:
    return [
        Serve(
            id=variant["variant_id"],
            service=str(_ref(item["ref"])),
            user=variant["user"],
            user_name=variant["user_name"],
            session=variant["session"],
            condition=variant["condition"],
            ports=variant["ports"],
            state=variant["state"],
            expires=variant["expires"],
            mirror=variant.get("mirror"),
        )
        for item in catalog
        if sees(_ref(item["ref"]))
        for variant in _variants(item)
    ]


def _variants(item: Item) -> list[Item]:
    serving: Item | None = item.get("serving")
    return [] if serving is None else serving.get("variants", [])


def _session(item: Item, serving: Iterable[Serve], sees: Sees) -> Session:
    return Session(
        id=item["session"],
        user=item["device"]["user"],
        user_name=item.get("user_name", ""),
        device=item["device"]["device"],
        name=item["name"],
        state=item["state"],
        since=item["since"],
        consumes=[str(_ref(ref)) for ref in item.get("consumes", ()) if sees(_ref(ref))],
        serves=[one for one in serving if one.session == item["session"]],
    )
