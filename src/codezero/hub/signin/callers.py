"""Who makes a request, from its raw headers: one way in for the whole API, closed when unsure.

    Authorization: Bearer <access token>
    Authorization: Bearer cz_key_...            or: [Bearer] <organization>:cz_key_...
    Cookie: __Host-codezero=...                 with Origin and X-Codezero-CSRF for all that changes something

Exactly one of them, once. Two could mean two people, and somebody in between may have looked at the other one.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from starlette.types import Scope

from codezero.hub.context import Hub
from codezero.hub.signin import api_keys, browser, sign_ins, tokens
from codezero.hub.signin.refusals import not_signed_in
from codezero.hub.signin.visitors import Visitor
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

CSRF_HEADER: Final = "x-codezero-csrf"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_AUTHORIZATION: Final = 4096
_ORGANIZATION: Final = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{25}):(.+)", re.ASCII)


class Via(StrEnum):
    """By what a caller is known."""

    DEVICE = "device"
    BROWSER = "browser"
    API_KEY = "api-key"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `device`, `sign_in`, `session` and `api_key` are the ids of what they are known by.

    `organization` is the only one that an API key is good for. `scopes` is what the key may do of what its account may; empty: all of it.
    """

    user: str
    kind: Literal["person", "service"]
    name: str
    via: Via
    email: str | None = None
    device: str | None = None
    sign_in: str | None = None
    session: str | None = None
    api_key: str | None = None
    organization: str | None = None
    scopes: frozenset[Permission] = frozenset()
    address: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a request shows; never logged."""

    authorization: str | None
    cookie: str | None
    csrf: str | None
    origin: str | None


async def caller(hub: Hub, scope: Scope) -> Caller:
    """Who makes the request (or opens the WebSocket) of an ASGI `scope`. Raises `CodezeroError`: NOT_SIGNED_IN, or BAD_REQUEST for credentials twice."""
    shown = credentials(scope)
    visitor = visitor_of(scope)
    if shown.authorization is not None:
        return await _by_authorization(hub, shown.authorization, visitor)
    if shown.cookie is None:
        raise not_signed_in("the request does not say who makes it")
    # A WebSocket changes nothing by being opened, but sends what others must not see: to our own pages alone (T36).
    changes = scope["type"] != "websocket" and scope["method"] not in _SAFE
    if (changes or scope["type"] == "websocket") and shown.origin != origin_of(hub):
        raise CodezeroError(problems.ROLE_FORBIDS, "the request does not come from a page of this Hub")
    return await _by_cookie(hub, shown, visitor, changes=changes)


def credentials(scope: Scope) -> Credentials:
    """What a request shows; raises `CodezeroError` (BAD_REQUEST) where it shows something twice."""
    authorization = _once(scope, "authorization")
    sessions = cookies(scope, browser.COOKIE)
    if len(sessions) > 1 or (sessions and authorization is not None):
        raise _doubled()
    return Credentials(
        authorization, sessions[0] if sessions else None, _once(scope, CSRF_HEADER), _once(scope, "origin")
    )


def visitor_of(scope: Scope) -> Visitor:
    """Who is at the other end."""
    client = scope.get("client")
    agents = _values(scope, "user-agent")
    return Visitor.of(
        str(client[0]) if client else None,
        agents[0] if agents else None,
        scope.get("state", {}).get("request_id"),
    )


def origin_of(hub: Hub) -> str:
    """What browsers call the pages of this Hub."""
    return "/".join(hub.public_url.split("/", 3)[:3])


def cookies(scope: Scope, name: str) -> list[str]:
    """All values of the cookie `name`."""
    pairs = (pair.strip().partition("=") for value in _values(scope, "cookie") for pair in value.split(";"))
    return [value for found, _, value in pairs if found == name]


async def _by_authorization(hub: Hub, authorization: str, visitor: Visitor) -> Caller:
    if len(authorization) > _MAX_AUTHORIZATION:
        raise not_signed_in("the credentials are too long")
    scheme, space, rest = authorization.partition(" ")
    credential = rest if space and scheme.lower() == "bearer" else authorization
    match = _ORGANIZATION.fullmatch(credential)
    organization, credential = (match[1], match[2]) if match else (None, credential)
    if organization is not None or credential.startswith(api_keys.PREFIX):
        return await _by_key(hub, credential, visitor, organization)
    if credential is authorization:
        raise not_signed_in("only bearer tokens and API keys are taken")
    return await _by_token(hub, credential, visitor)


async def _by_key(hub: Hub, key: str, visitor: Visitor, organization: str | None) -> Caller:
    async with hub.database.reading() as session:
        found = await api_keys.find(session, hub, key, organization=organization)
    if found is not None and found.is_worth_noting(hub):
        await hub.database.run(lambda session: api_keys.note(session, hub, found, visitor))
    if found is None or found.ended_as is not None:
        raise not_signed_in(
            "the API key is not taken: it is wrong, was revoked, has expired, or belongs to another organization",
            fix="ask an admin of the organization for a new one",
        )
    return _of_key(found, visitor)


def _of_key(found: api_keys.Found, visitor: Visitor) -> Caller:
    row, account = found.row, found.account
    return Caller(
        user=account.id,
        kind="service",
        name=account.name,
        via=Via.API_KEY,
        api_key=row.id,
        organization=row.organization_id,
        scopes=frozenset(map(Permission, row.scopes)),
        address=visitor.address,
    )


async def _by_token(hub: Hub, text: str, visitor: Visitor) -> Caller:
    token = tokens.read(hub, text)
    async with hub.database.reading() as session:
        found = await sign_ins.find(session, hub, token)
    if found is None:
        raise not_signed_in("the sign-in has ended")
    sign_in, user, device = found
    return Caller(
        user=user.id,
        kind="person",
        name=user.name,
        email=user.email,
        via=Via.DEVICE,
        device=device.id,
        sign_in=sign_in.id,
        address=visitor.address,
    )


async def _by_cookie(hub: Hub, shown: Credentials, visitor: Visitor, *, changes: bool) -> Caller:
    found = await browser.current(hub, shown.cookie or "")
    if found is None:
        raise not_signed_in("the session has ended", fix="sign in again")
    row, user = found
    if changes and (shown.csrf is None or not browser.is_csrf(hub, row, shown.csrf)):
        raise CodezeroError(problems.ROLE_FORBIDS, f"the request has no {CSRF_HEADER} that fits the session")
    return Caller(
        user=user.id,
        kind="person",
        name=user.name,
        email=user.email,
        via=Via.BROWSER,
        session=row.id,
        address=visitor.address,
    )


def _values(scope: Scope, name: str) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name.encode()]


def _once(scope: Scope, name: str) -> str | None:
    values = _values(scope, name)
    if len(values) > 1:
        raise _doubled()
    return values[0] if values else None


def _doubled() -> CodezeroError:
    return CodezeroError(
        problems.BAD_REQUEST, "the request says twice who makes it", fix="send one kind of credential, once"
    )
