"""The stream of what changes, over a WebSocket: what is told is who may know it, decided at the source and again whenever rights may have changed (T38).

    -> {"token": "<access token or API key>"}   or   {"ticket": "<of POST events/tickets>"}
    <- {"type": "snapshot"}                     read now what you show; what changes after that is told
    <- {"type": "changed", "kind": "space", "organization": "...", "space": "...", "id": "..."}
    <- {"type": "alive"}                        every 15 s

A message says that something is different and not what, so it is read by the routes, which ask again who may see it. After a `snapshot` nothing that came
before it counts: it is sent again where the reader was too slow, or where its own rights changed. Cookies are not looked at: a page of ours takes a ticket
first, so that a page of somebody else's has nothing to say (T36).
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import msgspec
from fastapi import WebSocket
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.websockets import WebSocketDisconnect

from codezero.hub.api import operations, permissions
from codezero.hub.api.permissions import Need, TheCaller, TheHub, needs
from codezero.hub.api.shapes import Secret, Told
from codezero.hub.api.sockets import (
    FIRST_MESSAGE_SECONDS,
    NOT_SIGNED_IN,
    NOT_TAKEN,
    SEND_SECONDS,
    TOO_MANY,
    by_token,
    stranger,
)
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.signals import Changed
from codezero.hub.signin import callers, one_time
from codezero.hub.signin.callers import Caller, Via
from codezero.hub.signin.standing import OF_RIGHTS, is_signed_in
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

ALIVE_SECONDS: Final = 15.0
MOST_EACH: Final = 32
TICKET: Final = "ticket"
TICKET_LIFETIME: Final = timedelta(seconds=60)
_MAX_FIRST: Final = 8192

_NEEDED: Final[dict[str, Permission]] = {
    "apikey": Permission.API_KEYS_READ,
    "audit": Permission.AUDIT_READ,
    "device": Permission.DEVICES_READ,
    "invitation": Permission.MEMBERS_READ,
    "member": Permission.MEMBERS_READ,
    "organization": Permission.ORGANIZATION_READ,
    "picture": Permission.SESSIONS_READ,
    "policy": Permission.POLICIES_READ,
    "space": Permission.SPACES_READ,
    "user": Permission.MEMBERS_READ,
}
routes = operations.router("events")


class Ticket(Told):
    """Opens one stream of events, once and soon."""

    ticket: Secret
    expires_at: datetime


class _First(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str | None = None
    ticket: str | None = None


@dataclass(frozen=True, slots=True)
class _Rights:
    """What a caller may hear: their organizations, and their own devices."""

    members: dict[str, Member]
    devices: frozenset[str]

    def covers(self, changed: Changed) -> bool:
        """Whether the caller may hear of `changed`."""
        member = self.members.get(changed.organization or "")
        needed = _NEEDED.get(changed.kind)
        if member is None or needed is None:
            return False
        own = {"device": self.devices, "user": {member.user}}.get(changed.kind, frozenset[str]())
        return needed in member.permissions or changed.id in own


@routes.post("/events/tickets", status_code=201, openapi_extra=needs(Need.SIGN_IN))
async def ticket(hub: TheHub, caller: TheCaller) -> Ticket:
    """Take a ticket for the stream of events, for programs that cannot send their token in its first message."""
    known = {
        name: getattr(caller, name)
        for name in ("via", "device", "sign_in", "session", "api_key", "organization", "name", "kind", "email")
    }

    async def work(session: AsyncSession) -> str:
        data = {**known, "scopes": sorted(caller.scopes)}
        return await one_time.make(session, hub, TICKET, lifetime=TICKET_LIFETIME, user=caller.user, data=data)

    return Ticket(ticket=await hub.database.run(work), expires_at=hub.clock() + TICKET_LIFETIME)


@routes.websocket("/events")
async def events(websocket: WebSocket) -> None:
    """The stream."""
    hub = cast("Hub", websocket.app.state.hub)
    origins = websocket.headers.getlist("origin")
    if origins and origins != [callers.origin_of(hub)]:
        raise CodezeroError(problems.ROLE_FORBIDS, "events are for this Hub's own pages, not for those of others")
    open_by = cast("Counter[str]", websocket.app.state.open_events)
    try:
        with stranger(websocket):
            await websocket.accept()
            caller = await _caller(hub, websocket)
        if open_by[caller.user] >= MOST_EACH:
            raise _Ended(TOO_MANY, problems.TOO_MANY_REQUESTS.code)
        open_by[caller.user] += 1
        try:
            async with task_group("events") as tasks:
                tasks.start_service("reading", _listen(websocket))
                await _tell(hub, websocket, caller)
        finally:
            open_by[caller.user] -= 1
            if not open_by[caller.user]:
                del open_by[caller.user]
    # Both ends may go at once, the reading and the telling.
    except* _Ended as ends:
        end = cast("_Ended", ends.exceptions[0])
        with contextlib.suppress(WebSocketDisconnect):
            await websocket.close(end.code, end.reason)
    except* (WebSocketDisconnect, TimeoutError):
        pass


class _Ended(Exception):  # noqa: N818 - the end of a stream is no error
    """The stream is over."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def _caller(hub: Hub, websocket: WebSocket) -> Caller:
    """Who listens, by their first message."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_SECONDS):
            text = await _received(websocket)
        if len(text) > _MAX_FIRST:
            raise _Ended(NOT_TAKEN, problems.TOO_LARGE.code)
        first = msgspec.json.decode(text, type=_First)
    except TimeoutError:
        raise _Ended(NOT_SIGNED_IN, problems.NOT_SIGNED_IN.code) from None
    except (msgspec.DecodeError, RecursionError):
        raise _Ended(NOT_TAKEN, problems.BAD_REQUEST.code) from None
    found: Caller | None = None
    if (first.token is None) == (first.ticket is None):
        raise _Ended(NOT_TAKEN, problems.BAD_REQUEST.code)
    if first.token is not None:
        found = await by_token(hub, websocket.scope, first.token)
    elif first.ticket is not None:
        found = await _by_ticket(hub, first.ticket)
    if found is None:
        raise _Ended(NOT_SIGNED_IN, problems.NOT_SIGNED_IN.code)
    return found


async def _by_ticket(hub: Hub, text: str) -> Caller | None:
    row = await hub.database.run(lambda session: one_time.take(session, hub, TICKET, text))
    if row is None or row.user_id is None:
        return None
    data: dict[str, Any] = {**row.data, "via": Via(row.data["via"])}
    data["scopes"] = frozenset(map(Permission, data["scopes"]))
    return Caller(user=row.user_id, **data)


async def _listen(websocket: WebSocket) -> None:
    """Notice that the other end goes; it has nothing to say any more."""
    await _received(websocket)
    raise _Ended(NOT_TAKEN, problems.BAD_REQUEST.code)


async def _received(websocket: WebSocket) -> str:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    text = message.get("text")
    if text is None:
        raise _Ended(NOT_TAKEN, problems.BAD_REQUEST.code)
    return cast("str", text)


async def _tell(hub: Hub, websocket: WebSocket, caller: Caller) -> None:
    # Listened to before the rights are read: what changes in between is heard.
    changes = hub.signals.changes()
    rights = await _rights(hub, caller)
    await _send(websocket, {"type": "snapshot"})
    while True:
        try:
            async with asyncio.timeout(ALIVE_SECONDS):
                changed = await _next(changes)
        except TimeoutError:
            rights = await _kept(hub, websocket, caller, rights)
            await _send(websocket, {"type": "alive"})
            continue
        if changed is None:
            rights = await _rights(hub, caller)
            await _send(websocket, {"type": "snapshot"})
            continue
        if changed.kind in OF_RIGHTS and (changed.organization in rights.members or changed.id == caller.user):
            rights = await _kept(hub, websocket, caller, rights)
        if not rights.covers(changed):
            continue
        told = {"kind": changed.kind, "organization": changed.organization, "space": changed.space, "id": changed.id}
        await _send(websocket, {"type": "changed", **told})


async def _next(changes: AsyncIterator[Changed | None]) -> Changed | None:
    return await anext(changes)


async def _kept(hub: Hub, websocket: WebSocket, caller: Caller, before: _Rights) -> _Rights:
    """The caller's rights now; where they are others than before, the caller reads anew."""
    rights = await _rights(hub, caller)
    if rights != before:
        await _send(websocket, {"type": "snapshot"})
    return rights


async def _rights(hub: Hub, caller: Caller) -> _Rights:
    """What `caller` may hear; raises `_Ended` where their sign-in has ended."""
    async with hub.database.reading() as session:
        if not await is_signed_in(hub, session, caller):
            raise _Ended(NOT_SIGNED_IN, problems.NOT_SIGNED_IN.code)
        members = await permissions.memberships(session, caller)
        own = await session.scalars(permissions.own_devices(caller))
        return _Rights(members, frozenset(own))


async def _send(websocket: WebSocket, message: dict[str, Any]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await websocket.send_text(msgspec.json.encode(message).decode())
