"""Sign-in over the API: people's sessions and passwords, the OAuth endpoints that czctl uses, and what others need to verify our tokens.

`token` and `device-code` answer as RFC 6749 and RFC 8628 say, with our code and fix beside; all others as the rest of the API does.
"""

from collections.abc import Awaitable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final, Literal, cast

from fastapi import APIRouter
from pydantic import Field, SecretStr, StringConstraints
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codezero.gui.files import PREFIX as GUI
from codezero.hub.api import document, operations, permissions
from codezero.hub.api.permissions import Need, TheCaller, TheHub, needs
from codezero.hub.api.shapes import Asked, Email, Listed, Name, Secret, Told, Ulid
from codezero.hub.context import Hub
from codezero.hub.pages.ui import site_of
from codezero.hub.signin import (
    accounts,
    authorization,
    browser,
    callers,
    device_flow,
    fields,
    first_owner,
    oidc,
    passwords,
    proofs,
    refresh,
    tokens,
)
from codezero.hub.signin.callers import Caller
from codezero.hub.signin.refusals import OAuthError
from codezero.hub.signin.sign_ins import Granted
from codezero.hub.storage.tables import Device, Membership, Organization
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission, Role

PREFIX: Final = f"{operations.PREFIX}/auth"
TOKEN_PATH: Final = f"{PREFIX}/token"
AUTHORIZATION_GRANT: Final = "authorization_code"
REFRESH_GRANT: Final = "refresh_token"
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}

NewPassword = Annotated[SecretStr, Field(min_length=passwords.LEAST, max_length=passwords.MOST)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=passwords.MOST)]
OneTime = Annotated[str, StringConstraints(min_length=1, max_length=200)]

routes = operations.router("sign-in")
# Those that RFCs describe, and those that are not below /api/v1.
plain = APIRouter(tags=["sign-in"])


class FirstOwner(Asked):
    """The first person of a Hub, with the token of the link that czhub printed."""

    token: OneTime
    email: Email
    name: Name
    password: NewPassword
    organization: Name


class Login(Asked):
    """A password."""

    email: Email
    password: Password


class PasswordChange(Asked):
    """A new password. `present` is left out by those who have none yet."""

    present: Password | None = None
    new: NewPassword


class Person(Told):
    """A user, as they see themselves."""

    id: str
    kind: Literal["person", "service"]
    name: str
    email: str | None


class Session(Told):
    """A browser that is signed in now: its cookie comes with the answer, and `csrf` goes into `X-Codezero-CSRF`."""

    user: Person
    csrf: Secret


class OwnOrganization(Told):
    """An organization that somebody is in, and what they may do there with what they show now."""

    id: str
    name: str
    role: Role
    permissions: list[Permission]


class OwnDevice(Told):
    """The device that asks."""

    id: str
    name: str


class Me(Told):
    """Who asks. `csrf` is for browsers alone; `organization` and `scopes` are those of an API key."""

    user: Person
    via: callers.Via
    organizations: list[OwnOrganization]
    device: OwnDevice | None = None
    csrf: Annotated[str | None, Field(repr=False)] = None
    organization: str | None = None
    scopes: tuple[str, ...] = ()


class OwnSession(Told):
    """Where somebody is signed in: a browser, or a device by czctl."""

    id: str
    kind: Literal["browser", "device"]
    name: str
    address: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    is_this: bool


class ProviderTold(Told):
    """An identity provider; `start` is where a browser goes."""

    name: str
    title: str
    start: str


class Location(Told):
    """Where a browser goes on."""

    location: Secret


class Ended(Told):
    """How many sessions and sign-ins have ended."""

    ended: int


@routes.post("/auth/first-owner", openapi_extra=needs(Need.NOTHING), status_code=201, responses=document.raises(401))
async def make_first_owner(body: FirstOwner, request: Request, response: Response, hub: TheHub) -> Session:
    """Make the first person of this Hub, the owner of its first organization."""
    _check_origin(hub, request)
    opened = await first_owner.create(
        hub,
        token=body.token,
        email=body.email,
        name=body.name,
        password=body.password.get_secret_value(),
        organization=body.organization,
        visitor=callers.visitor_of(request.scope),
    )
    return _session(opened, response)


@routes.post("/auth/login", openapi_extra=needs(Need.NOTHING), responses=document.raises(401))
async def login(body: Login, request: Request, response: Response, hub: TheHub) -> Session:
    """Sign in a browser by a password."""
    _check_origin(hub, request)
    visitor = callers.visitor_of(request.scope)
    opened = await browser.sign_in(hub, body.email, body.password.get_secret_value(), visitor)
    return _session(opened, response)


@routes.post("/auth/logout", openapi_extra=needs(Need.SIGN_IN), status_code=204)
async def logout(request: Request, caller: TheCaller, hub: TheHub) -> Response:
    """End the session or sign-in that asks. API keys are revoked instead."""
    answer = Response(status_code=204)
    if caller.session is not None:
        answer.headers["set-cookie"] = browser.clear_cookie()
    place = caller.session or caller.sign_in
    if place is not None:
        await accounts.end(hub, caller, place, callers.visitor_of(request.scope))
    return answer


@routes.get("/auth/me", openapi_extra=needs(Need.SIGN_IN))
async def me(request: Request, caller: TheCaller, hub: TheHub) -> Me:
    """Who asks, and in which organizations they are."""
    async with hub.database.reading() as session:
        rows = await session.execute(
            select(Organization.id, Organization.name, Membership.role)
            .join(Membership, Membership.organization_id == Organization.id)
            .where(Membership.user_id == caller.user, Organization.deleted_at.is_(None))
            .order_by(Organization.name, Organization.id)
        )
        members = await permissions.memberships(session, caller)
        found = [
            OwnOrganization(id=key, name=name, role=Role(role), permissions=sorted(members[key].permissions))
            for key, name, role in rows
            if key in members
        ]
        device = None if caller.device is None else await session.get_one(Device, caller.device)
    cookies = callers.cookies(request.scope, browser.COOKIE) if caller.session is not None else []
    return Me(
        user=Person(id=caller.user, kind=caller.kind, name=caller.name, email=caller.email),
        via=caller.via,
        organizations=found,
        device=None if device is None else OwnDevice(id=device.id, name=device.name),
        csrf=browser.csrf_of(hub, cookies[0]) if cookies else None,
        organization=caller.organization,
        scopes=tuple(sorted(caller.scopes)),
    )


@routes.post(
    "/auth/password", openapi_extra=needs(Need.SIGN_IN), status_code=204, responses=document.raises(401, 403, 409)
)
async def change_password(body: PasswordChange, request: Request, caller: TheCaller, hub: TheHub) -> Response:
    """Change one's own password; all other sessions and sign-ins end."""
    _check_person(caller)
    await accounts.change_password(
        hub,
        caller,
        present=None if body.present is None else body.present.get_secret_value(),
        new=body.new.get_secret_value(),
        visitor=callers.visitor_of(request.scope),
    )
    return Response(status_code=204)


@routes.get("/auth/sessions", openapi_extra=needs(Need.SIGN_IN))
async def sessions(caller: TheCaller, hub: TheHub) -> Listed[OwnSession]:
    """Where one is signed in, the latest first."""
    return Listed(items=[OwnSession(**asdict(place)) for place in await accounts.places(hub, caller)])


@routes.delete("/auth/sessions/{session}", openapi_extra=needs(Need.SIGN_IN), status_code=204)
async def end_session(session: Ulid, request: Request, caller: TheCaller, hub: TheHub) -> Response:
    """End one of one's own sessions or sign-ins."""
    await accounts.end(hub, caller, session, callers.visitor_of(request.scope))
    return Response(status_code=204)


@routes.post("/auth/sign-out-everywhere", openapi_extra=needs(Need.SIGN_IN))
async def sign_out_everywhere(request: Request, caller: TheCaller, hub: TheHub) -> Ended:
    """End all of one's own sessions and sign-ins, this one as well."""
    return Ended(ended=await accounts.end_everywhere(hub, caller, callers.visitor_of(request.scope)))


@routes.get("/auth/providers", openapi_extra=needs(Need.NOTHING))
async def providers(hub: TheHub) -> Listed[ProviderTold]:
    """The identity providers one may sign in with."""
    return Listed(
        items=[
            ProviderTold(
                name=provider.name, title=provider.settings.title, start=f"{PREFIX}/oidc/{provider.name}/start"
            )
            for provider in hub.providers
        ]
    )


@routes.post("/auth/oidc/{provider}/link", openapi_extra=needs(Need.SIGN_IN), responses=document.raises(403, 404, 429))
async def link(provider: str, request: Request, response: Response, caller: TheCaller, hub: TheHub) -> Location:
    """Begin to add an identity of a provider to one's own; the browser goes on at the provider."""
    if caller.session is None:
        raise CodezeroError(problems.ROLE_FORBIDS, "an identity is added in a browser that is signed in")
    started = await oidc.start(
        hub,
        oidc.provider_of(hub, provider),
        return_to=f"{GUI}account" if site_of(request).is_built else "/sign-in",
        visitor=callers.visitor_of(request.scope),
        link_to=caller.user,
    )
    response.headers["set-cookie"] = oidc.set_cookie(started.cookie)
    return Location(location=started.location)


_OAUTH_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error", "error_description", "code"],
    "properties": {
        "error": {"type": "string"},
        "error_description": {"type": "string"},
        "code": {"type": "string"},
        "fix": {"type": "string"},
    },
}


def _oauth(fields_taken: dict[str, str], required: list[str], answered: dict[str, Any]) -> dict[str, Any]:
    """The document of an endpoint that takes a form."""
    refusals = {400: "Refused.", 401: "Not known here.", 413: "Too large.", 429: "Too often.", 503: "Not now."}
    return {
        "requestBody": {
            "required": True,
            "content": {
                fields.FORM: {
                    "schema": {
                        "type": "object",
                        "required": required,
                        "properties": {
                            name: {"type": "string", "description": meaning} for name, meaning in fields_taken.items()
                        },
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "Granted.",
                "content": {
                    "application/json": {
                        "schema": {"type": "object", "required": sorted(answered), "properties": answered}
                    }
                },
            },
            **{
                str(status): {"description": meaning, "content": {"application/json": {"schema": _OAUTH_ERROR}}}
                for status, meaning in refusals.items()
            },
        },
    }


_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}


@plain.post(
    f"{PREFIX}/device-code",
    openapi_extra=_oauth(
        {"client_id": "czctl", "device_name": "What the machine calls itself."},
        ["client_id"],
        {
            "device_code": _TEXT,
            "user_code": _TEXT,
            "verification_uri": _TEXT,
            "expires_in": _NUMBER,
            "interval": _NUMBER,
        },
    ),
    response_class=JSONResponse,
)
async def device_code(request: Request, hub: TheHub) -> Response:
    """Codes for a machine without a browser (RFC 8628). The page where a person types the short one takes it by no link."""
    return await _answered(_device_code(request, hub))


async def _device_code(request: Request, hub: Hub) -> dict[str, Any]:
    form = await fields.of_form(request)
    codes = await device_flow.begin(
        hub,
        client=form.get("client_id", ""),
        device_name=form.get("device_name"),
        visitor=callers.visitor_of(request.scope),
    )
    return {
        "device_code": codes.device_code,
        "user_code": codes.user_code,
        "verification_uri": f"{hub.public_url}/device",
        "expires_in": int(device_flow.LIFETIME.total_seconds()),
        "interval": device_flow.INTERVAL,
    }


@plain.post(
    TOKEN_PATH,
    openapi_extra=_oauth(
        {
            "grant_type": f"{AUTHORIZATION_GRANT}, {REFRESH_GRANT} or {device_flow.GRANT}",
            "client_id": "czctl",
            "device_proof": "A proof by the device's key for this request.",
            "code": f"For {AUTHORIZATION_GRANT}.",
            "redirect_uri": f"For {AUTHORIZATION_GRANT}.",
            "code_verifier": f"For {AUTHORIZATION_GRANT}.",
            "refresh_token": f"For {REFRESH_GRANT}.",
            "device_code": "For device codes.",
            "device_name": "What the machine calls itself, at a sign-in.",
        },
        ["grant_type", "device_proof"],
        {
            "access_token": _TEXT,
            "token_type": _TEXT,
            "expires_in": _NUMBER,
            "refresh_token": _TEXT,
            "device_id": _TEXT,
            "user": {"type": "object"},
        },
    ),
    response_class=JSONResponse,
)
async def token(request: Request, hub: TheHub) -> Response:
    """Tokens for a code, a device code or a refresh token (RFC 6749), each with a proof by the device's key."""
    return await _answered(_token(request, hub))


async def _token(request: Request, hub: Hub) -> dict[str, Any]:
    form = await fields.of_form(request)
    grant = form.get("grant_type", "")
    if form.get("client_id", tokens.CLIENT) != tokens.CLIENT:
        raise OAuthError("invalid_client", "the program that asks is not known here")
    if grant not in {AUTHORIZATION_GRANT, REFRESH_GRANT, device_flow.GRANT}:
        raise OAuthError("unsupported_grant_type", "there are no tokens for that")
    proof = proofs.read(hub, form.get("device_proof", ""), method="POST", path=TOKEN_PATH)
    visitor = callers.visitor_of(request.scope)
    match grant:
        case "authorization_code":
            granted = await authorization.exchange(
                hub,
                code=form.get("code", ""),
                redirect_uri=form.get("redirect_uri", ""),
                verifier=form.get("code_verifier", ""),
                proof=proof,
                device_name=form.get("device_name"),
                visitor=visitor,
            )
        case "refresh_token":
            granted = await refresh.refresh(hub, form.get("refresh_token", ""), proof, visitor)
        case _:
            granted = await device_flow.exchange(
                hub,
                device_code=form.get("device_code", ""),
                proof=proof,
                device_name=form.get("device_name"),
                visitor=visitor,
            )
    return _granted(granted)


@plain.get("/.well-known/jwks.json")
async def jwks(hub: TheHub) -> dict[str, Any]:
    """The keys by which the Hub's tokens are verified."""
    return hub.authorities.jwks()


@plain.get("/.well-known/audit-jwks.json")
async def audit_jwks(hub: TheHub) -> dict[str, Any]:
    """The keys by which checkpoints of audits are verified, also years later."""
    return hub.authorities.audit_jwks()


@plain.get("/.well-known/oauth-authorization-server")
async def metadata(hub: TheHub) -> dict[str, Any]:
    """What the Hub offers as an authorization server (RFC 8414)."""
    return {
        "issuer": hub.public_url,
        "authorization_endpoint": f"{hub.public_url}{PREFIX}/authorize",
        "token_endpoint": f"{hub.public_url}{TOKEN_PATH}",
        "device_authorization_endpoint": f"{hub.public_url}{PREFIX}/device-code",
        "jwks_uri": f"{hub.public_url}/.well-known/jwks.json",
        "response_types_supported": ["code"],
        "grant_types_supported": [AUTHORIZATION_GRANT, REFRESH_GRANT, device_flow.GRANT],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": True,
    }


async def _answered(work: Awaitable[dict[str, Any]]) -> Response:
    """The answer in the words of RFC 6749."""
    try:
        return JSONResponse(await work, headers=_NO_STORE)
    except OAuthError as error:
        return _refusal(error, error.error, error.status)
    except CodezeroError as error:
        is_asked_wrongly = error.problem.status < 429
        status = 413 if error.problem is problems.TOO_LARGE else 400 if is_asked_wrongly else error.problem.status
        return _refusal(error, "invalid_request" if is_asked_wrongly else "temporarily_unavailable", status)


def _refusal(error: CodezeroError, word: str, status: int) -> Response:
    content = {"error": word, "error_description": error.detail, "code": error.problem.code}
    if error.fix is not None:
        content["fix"] = error.fix
    return JSONResponse(content, status, _NO_STORE)


def _granted(granted: Granted) -> dict[str, Any]:
    user = granted.user
    return {
        "access_token": granted.access_token,
        "token_type": "Bearer",
        "expires_in": granted.expires_in,
        "refresh_token": granted.refresh_token,
        "device_id": granted.device,
        "user": {"id": user.id, "name": user.name, "email": user.email},
    }


def _session(opened: browser.Opened, response: Response) -> Session:
    response.headers["set-cookie"] = browser.set_cookie(opened.cookie)
    user = opened.user
    return Session(
        user=Person(id=user.id, kind=cast("Any", user.kind), name=user.name, email=user.email), csrf=opened.csrf
    )


def _check_origin(hub: Hub, request: Request) -> None:
    """A page of somebody else's signs nobody in here: neither as whom it likes, nor to find out who can (T36)."""
    origins = request.headers.getlist("origin")
    if origins not in ([], [callers.origin_of(hub)]):
        raise CodezeroError(problems.ROLE_FORBIDS, "the request does not come from a page of this Hub")


def _check_person(caller: Caller) -> None:
    if caller.kind != "person":
        raise CodezeroError(problems.ROLE_FORBIDS, "a service account has no password")
