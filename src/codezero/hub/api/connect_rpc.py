"""The original's published paths, for clients that were written for it: Connect's unary calls with JSON (`@c6o/codezero-agent`, its Netlify extension).

Requests may hold fields that we do not know, as protobuf's JSON does. Errors have Connect's form. The user's clients keep nothing themselves: what they
selected is kept here.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from codezero.hub import organizations
from codezero.hub.api import permissions
from codezero.hub.api.guard import TooManyError, headers_of
from codezero.hub.api.limits import Limits
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.signin import callers
from codezero.hub.signin.callers import Caller
from codezero.hub.spaces import access, teamspaces
from codezero.hub.storage.tables import Membership, Organization, Selection, Space
from codezero.model import problems
from codezero.model.problems import CodezeroError

AGENTS: Final = "/api/c6o/connect/c6oapi.v1.C6OService"
USERS: Final = "/api/connect/hubapi.v1.APIService"
ADMINS: Final = "/api/admin/connect/hubadminapi.v1.HubAdminService"
# As many as a list without pages may have.
MOST: Final = 1000

# Connect's words and their HTTP statuses: https://connectrpc.com/docs/protocol/#error-codes
_WORDS: Final = {
    400: ("invalid_argument", 400),
    401: ("unauthenticated", 401),
    403: ("permission_denied", 403),
    404: ("not_found", 404),
    409: ("failed_precondition", 400),
    413: ("resource_exhausted", 429),
    422: ("invalid_argument", 400),
    429: ("resource_exhausted", 429),
    503: ("unavailable", 503),
}

Fields = dict[str, Any]
Call = Callable[[Hub, Caller, Fields], Awaitable[Fields]]

routes = APIRouter(include_in_schema=False)


def _call(path: str) -> Callable[[Call], Call]:
    """A call at `path`, for whoever is signed in."""

    def add(call: Call) -> Call:
        async def endpoint(request: Request) -> Response:
            try:
                hub = permissions.hub_of(request)
                caller = await callers.caller(hub, _with_scheme(request.scope))
                limits: Limits = request.app.state.limits
                if seconds := limits.caller.take(caller.user):
                    raise TooManyError("this user", seconds)
                return _json(await call(hub, caller, _fields(request, await request.body())))
            except CodezeroError as error:
                return _error(error)

        routes.add_api_route(path, endpoint, methods=["POST"])
        return call

    return add


@_call(f"{AGENTS}/ListSpaces")
async def list_spaces(hub: Hub, caller: Caller, _: Fields) -> Fields:
    """The Teamspaces of the key's organization."""
    async with hub.database.reading() as session:
        return {"spaces": await _spaces(session, caller, set(await permissions.memberships(session, caller)))}


@_call(f"{AGENTS}/GetSpaceConnection")
async def get_space_connection(hub: Hub, caller: Caller, fields: Fields) -> Fields:
    """Where a Teamspace is, a token for its CONNECT door, and whom to believe there."""
    speaker = caller.api_key or caller.device
    if speaker is None:
        raise CodezeroError(problems.ROLE_FORBIDS, "a token is for a signed-in device or an API key")

    async def work(session: AsyncSession) -> access.Token:
        member = await _member_of_space(session, caller, fields)
        return await access.token(session, hub, member, _text(fields, "space_id"), speaker=speaker)

    made = await hub.database.run(work)
    return {"host": made.host, "token": made.token, "cert": made.root}


@_call(f"{USERS}/ListOrgs")
@_call(f"{ADMINS}/ListOrgs")
async def list_organizations(hub: Hub, caller: Caller, _: Fields) -> Fields:
    """The organizations of whoever asks."""
    async with hub.database.reading() as session:
        found = await organizations.of_user(session, caller.user)
    return {"orgs": [{"id": row.id, "name": row.name} for row, _ in found if caller.organization in {None, row.id}]}


@_call(f"{USERS}/SetOrg")
async def set_organization(hub: Hub, caller: Caller, fields: Fields) -> Fields:
    """Select an organization; without a Teamspace, until one of it is selected."""
    wanted = _text(fields, "org_id")

    async def work(session: AsyncSession) -> None:
        if wanted not in await permissions.memberships(session, caller):
            raise permissions.no_organization()
        await _select(session, caller, wanted, None)

    await hub.database.run(work)
    return {}


@_call(f"{USERS}/ListSpaces")
async def list_selected_spaces(hub: Hub, caller: Caller, _: Fields) -> Fields:
    """The Teamspaces of the selected organization; where there is only one, of that."""
    async with hub.database.reading() as session:
        known = await permissions.memberships(session, caller)
        row = await session.get(Selection, caller.user)
        selected = {row.organization_id} & set(known) if row is not None else set(known)
        if len(selected) != 1:
            raise CodezeroError(
                problems.NOT_SELECTED, "no organization is selected", fix="call SetOrg with the id of one first"
            )
        return {"spaces": await _spaces(session, caller, selected)}


@_call(f"{USERS}/SetSpace")
async def set_space(hub: Hub, caller: Caller, fields: Fields) -> Fields:
    """Select a Teamspace, and its organization."""

    async def work(session: AsyncSession) -> None:
        member = await _member_of_space(session, caller, fields)
        space = await teamspaces.get(session, member, _text(fields, "space_id"))
        await _select(session, caller, member.organization, space.id)

    await hub.database.run(work)
    return {}


@_call(f"{ADMINS}/ListTeamspaces")
async def list_all_spaces(hub: Hub, caller: Caller, _: Fields) -> Fields:
    """The Teamspaces of all organizations of whoever asks."""
    async with hub.database.reading() as session:
        return {"spaces": await _spaces(session, caller, set(await permissions.memberships(session, caller)))}


async def _spaces(session: AsyncSession, caller: Caller, of: set[str]) -> list[Fields]:
    found: list[Fields] = []
    for organization, member in (await permissions.memberships(session, caller)).items():
        if organization in of:
            rows = await teamspaces.of_organization(session, member, limit=MOST)
            found += [{"id": row.id, "name": row.name, "orgId": organization} for row in rows]
    return found


async def _member_of_space(session: AsyncSession, caller: Caller, fields: Fields) -> Member:
    """`caller` in the organization that the named Teamspace belongs to; raises `CodezeroError` (NOT_FOUND), the same for those of others."""
    organization = await session.scalar(
        select(Space.organization_id)
        .join(Organization, Organization.id == Space.organization_id)
        .join(Membership, Membership.organization_id == Organization.id)
        .where(Space.id == _text(fields, "space_id"), Membership.user_id == caller.user)
    )
    if organization is None or caller.organization not in {None, organization}:
        raise CodezeroError(problems.NOT_FOUND, "there is no such Teamspace")
    return await organizations.member(session, organization, caller.user, scopes=caller.scopes, address=caller.address)


async def _select(session: AsyncSession, caller: Caller, organization: str, space: str | None) -> None:
    row = await session.get(Selection, caller.user)
    if row is None:
        session.add(Selection(user_id=caller.user, organization_id=organization, space_id=space))
    else:
        row.organization_id, row.space_id = organization, space


def _with_scheme(scope: Scope) -> Scope:
    """The original's clients send a user's token without the word `Bearer`."""
    headers = [
        (name, b"Bearer " + value if name == b"authorization" and b" " not in value else value)
        for name, value in scope["headers"]
    ]
    return {**scope, "headers": headers}


def _fields(request: Request, body: bytes) -> Fields:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise CodezeroError(problems.BAD_REQUEST, "calls are JSON: content-type application/json")
    try:
        return msgspec.json.decode(body or b"{}", type=Fields)
    except msgspec.DecodeError:
        raise CodezeroError(problems.BAD_REQUEST, "the body is no JSON object") from None


def _text(fields: Fields, name: str) -> str:
    """A field by either of the names that protobuf's JSON has for it."""
    first, *others = name.split("_")
    value = fields.get(first + "".join(map(str.title, others)), fields.get(name))
    if not isinstance(value, str) or not value:
        raise CodezeroError(problems.NOT_VALID, f"{name} is missing")
    return value


def _json(content: Fields, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _error(error: CodezeroError) -> Response:
    word, status = _WORDS.get(error.problem.status, ("internal", 500))
    fix = f" ({error.fix})" if error.fix else ""
    answer = _json({"code": word, "message": f"{error.detail}{fix} [{error.problem.code}]"}, status=status)
    answer.headers.update(headers_of(error))
    return answer
