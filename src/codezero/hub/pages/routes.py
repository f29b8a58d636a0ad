"""The pages' routes. Whatever a form sends comes from one of these pages: the Origin says so, and for those who are signed in a token of their session too."""

import re
from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.resources import files
from typing import Annotated, Final, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from codezero.gui.files import PREFIX
from codezero.hub.context import Hub
from codezero.hub.pages import forms
from codezero.hub.pages.markup import STYLE_PATH, joined, page
from codezero.hub.pages.ui import site_of
from codezero.hub.signin import (
    authorization,
    browser,
    callers,
    device_flow,
    fields,
    first_owner,
    forgotten,
    invited,
    oidc,
)
from codezero.hub.signin.authorization import Asked
from codezero.hub.signin.browser import Opened
from codezero.hub.signin.refusals import OAuthError, not_signed_in
from codezero.hub.storage.tables import BrowserSession, User
from codezero.model import problems
from codezero.model.problems import CodezeroError

AUTHORIZE: Final = "/api/v1/auth/authorize"
SIGN_IN: Final = "/sign-in"
DEVICE: Final = "/device"
_QUERY: Final = r"\?[A-Za-z0-9._~%&=+:/-]{1,3000}"
# An address of the GUI: no part of its path is empty, or begins with a dot, by which one could leave it. Its filters are in the query.
_PART: Final = r"(?!\.|%2[Ee])[A-Za-z0-9._~%+:@,-]{1,300}"
_GUI: Final = rf"{PREFIX}(?:{_PART}(?:/{_PART}){{0,9}}/?)?(?:\?[A-Za-z0-9._~%&=+:/,@!*'()-]{{0,3000}})?"
# Nowhere but to our own pages, with nothing in it that a browser could read otherwise.
_RETURN: Final = re.compile(
    rf"(?:{DEVICE}|{SIGN_IN}|(?:{invited.PATH}|{AUTHORIZE}){_QUERY}|{_GUI})",
    re.ASCII,
)

router = APIRouter(include_in_schema=False)
Handler = Callable[..., Awaitable[Response]]


class Signed:
    """A browser that is signed in: its session, its user, and the token its forms carry."""

    def __init__(self, hub: Hub, row: BrowserSession, user: User, cookie: str) -> None:
        self.row = row
        self.user = user
        self.csrf = browser.csrf_of(hub, cookie)


def _hub(request: Request) -> Hub:
    return cast("Hub", request.app.state.hub)


TheHub = Annotated[Hub, Depends(_hub)]


def return_to(request: Request, path: str | None) -> str:
    """Where a browser goes on after signing in: to `path` if that is one of our pages, else home."""
    return path if path is not None and _RETURN.fullmatch(path) else home(request)


def home(request: Request) -> str:
    """Where people begin: the GUI, where there is one."""
    return PREFIX if site_of(request).is_built else SIGN_IN


def _as_page(title: str) -> Callable[[Handler], Handler]:
    """What goes wrong is told on a page."""

    def around(handler: Handler) -> Handler:
        @wraps(handler)
        async def answered(*arguments: object, **named: object) -> Response:
            try:
                return await handler(*arguments, **named)
            except CodezeroError as error:
                return page(title, forms.alert(error), status=error.problem.status)

        return answered

    return around


@router.get(STYLE_PATH)
async def style() -> Response:
    """The one style sheet."""
    content = files("codezero.hub.pages").joinpath("style.css").read_bytes()
    return Response(content, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get(SIGN_IN)
@_as_page("Sign in")
async def sign_in_page(request: Request, hub: TheHub) -> Response:
    """Sign in, or see who is."""
    signed = await signed_in(hub, request)
    if signed is not None:
        return page(
            "Signed in",
            forms.signed_in(signed.user, csrf=signed.csrf, gui=PREFIX if site_of(request).is_built else None),
        )
    return page(
        "Sign in", forms.sign_in(hub.providers, return_to=return_to(request, fields.of_query(request).get("return_to")))
    )


@router.post(SIGN_IN)
@_as_page("Sign in")
async def sign_in(request: Request, hub: TheHub) -> Response:
    """Sign in by password."""
    form = await own_form(request, hub)
    back, email = return_to(request, form.get("return_to")), form.get("email", "")
    try:
        opened = await browser.sign_in(hub, email, form.get("password", ""), callers.visitor_of(request.scope))
    except CodezeroError as error:
        body = joined([forms.alert(error), forms.sign_in(hub.providers, return_to=back, email=email[:254])])
        return page("Sign in", body, status=error.problem.status)
    return _entered(opened, back)


@router.post("/sign-out")
@_as_page("Sign out")
async def sign_out(request: Request, hub: TheHub) -> Response:
    """End the session."""
    signed, _ = await _signed_form(request, hub)
    await browser.end(hub, signed.row.id, callers.visitor_of(request.scope))
    answer = _back(SIGN_IN)
    answer.headers["set-cookie"] = browser.clear_cookie()
    return answer


@router.get(first_owner.PATH)
@_as_page("First owner")
async def first_owner_page(request: Request) -> Response:
    """Become the first owner."""
    return page("First owner", forms.first_owner(token=fields.of_query(request).get("token", "")))


@router.post(first_owner.PATH)
@_as_page("First owner")
async def make_first_owner(request: Request, hub: TheHub) -> Response:
    """The first person and their organization."""
    form = await own_form(request, hub)
    token, email, name, organization = (form.get(field, "") for field in ("token", "email", "name", "organization"))
    try:
        opened = await first_owner.create(
            hub,
            token=token,
            email=email,
            name=name,
            password=form.get("password", ""),
            organization=organization,
            visitor=callers.visitor_of(request.scope),
        )
    except CodezeroError as error:
        body = forms.first_owner(token=token, email=email, name=name, organization=organization)
        return page("First owner", joined([forms.alert(error), body]), status=error.problem.status)
    return _entered(opened, home(request))


@router.get(forgotten.PATH)
@_as_page("New password")
async def new_password_page(request: Request) -> Response:
    """Set a password by a link."""
    return page("New password", forms.new_password(token=fields.of_query(request).get("token", "")))


@router.post(forgotten.PATH)
@_as_page("New password")
async def set_new_password(request: Request, hub: TheHub) -> Response:
    """The new password, with which somebody is signed in at once."""
    form = await own_form(request, hub)
    token, visitor = form.get("token", ""), callers.visitor_of(request.scope)
    try:
        opened = await forgotten.set_password(hub, token, form.get("password", ""), visitor)
    except CodezeroError as error:
        body = joined([forms.alert(error), forms.new_password(token=token)])
        return page("New password", body, status=error.problem.status)
    return _entered(opened, home(request))


@router.get(invited.PATH)
@_as_page("Invitation")
async def invitation_page(request: Request, hub: TheHub) -> Response:
    """See an invitation."""
    return await _invitation(hub, request, fields.of_query(request).get("token", ""))


@router.post(invited.PATH)
@_as_page("Invitation")
async def accept_invitation(request: Request, hub: TheHub) -> Response:
    """Accept an invitation, as whoever is signed in or as somebody new."""
    form = await own_form(request, hub)
    token, visitor = form.get("token", ""), callers.visitor_of(request.scope)
    try:
        if "csrf" in form:
            signed = await _checked(request, hub, form)
            await invited.accept(hub, token, visitor, user=signed.user.id)
            return _back(home(request))
        accepted = await invited.sign_up(
            hub, token, visitor, name=form.get("name", ""), password=form.get("password", ""), is_browser=True
        )
    except CodezeroError as error:
        return await _invitation(hub, request, token, error)
    assert accepted.opened is not None
    return _entered(accepted.opened, home(request))


@router.get(AUTHORIZE)
@_as_page("Sign in czctl")
async def authorize_page(request: Request, hub: TheHub) -> Response:
    """Ask a person whether czctl on their machine may sign in."""
    parameters = fields.of_query(request)
    asked = _asked(hub, parameters)
    if isinstance(asked, Response):
        return asked
    signed = await signed_in(hub, request)
    if signed is None:
        return _to_sign_in(f"{AUTHORIZE}?{urlencode(parameters)}")
    address = callers.visitor_of(request.scope).address
    body = forms.approve(signed.user, asked, csrf=signed.csrf, address=address)
    return page("Sign in czctl", body, form_to=asked.redirect_uri)


@router.post(AUTHORIZE)
@_as_page("Sign in czctl")
async def authorize(request: Request, hub: TheHub) -> Response:
    """The person's answer, sent to czctl."""
    signed, form = await _signed_form(request, hub)
    asked = _asked(hub, form)
    if isinstance(asked, Response):
        return asked
    if form.get("answer") != "approve":
        return _back(asked.answer(hub, error="access_denied", error_description="it was declined in the browser"))
    code = await hub.database.run(lambda session: authorization.approve(session, hub, signed.user, asked))
    return _back(asked.answer(hub, code=code))


@router.get(DEVICE)
@_as_page("Sign in a machine")
async def device_page(request: Request, hub: TheHub) -> Response:
    """Where a person types the code that a machine shows."""
    signed = await signed_in(hub, request)
    if signed is None:
        return _to_sign_in(DEVICE)
    return page("Sign in a machine", forms.device(signed.user, csrf=signed.csrf))


@router.post(DEVICE)
@_as_page("Sign in a machine")
async def device(request: Request, hub: TheHub) -> Response:
    """The code, and then the answer."""
    signed, form = await _signed_form(request, hub)
    visitor, user_code, answer = callers.visitor_of(request.scope), form.get("user_code", ""), form.get("answer")
    try:
        if answer is not None:
            await device_flow.answer(hub, signed.user, user_code, visitor, approves=answer == "approve")
            done = "The machine is signed in; go on there." if answer == "approve" else "The machine was not let in."
            return page("Sign in a machine", forms.said(done))
        waiting = await device_flow.waiting(hub, signed.user, user_code, visitor)
    except CodezeroError as error:
        body = joined([forms.alert(error), forms.device(signed.user, csrf=signed.csrf)])
        return page("Sign in a machine", body, status=error.problem.status)
    body = forms.device_waiting(
        signed.user, waiting, csrf=signed.csrf, user_code=user_code, address=visitor.address, now=hub.clock()
    )
    return page("Sign in a machine", body)


@router.get("/api/v1/auth/oidc/{provider}/start")
@_as_page("Sign in")
async def provider_start(provider: str, request: Request, hub: TheHub) -> Response:
    """Send the browser to a provider."""
    back = return_to(request, fields.of_query(request).get("return_to"))
    visitor = callers.visitor_of(request.scope)
    started = await oidc.start(hub, oidc.provider_of(hub, provider), return_to=back, visitor=visitor)
    answer = _back(started.location)
    answer.headers["set-cookie"] = oidc.set_cookie(started.cookie)
    return answer


@router.get("/api/v1/auth/oidc/{provider}/callback")
@_as_page("Sign in")
async def provider_callback(provider: str, request: Request, hub: TheHub) -> Response:
    """The browser is back from a provider."""
    signed = await signed_in(hub, request)
    cookies = callers.cookies(request.scope, oidc.COOKIE)
    arrived = await oidc.finish(
        hub,
        oidc.provider_of(hub, provider),
        fields.of_query(request),
        cookie=cookies[0] if len(cookies) == 1 else None,
        user=signed.user.id if signed is not None else None,
        visitor=callers.visitor_of(request.scope),
    )
    answer = _back(arrived.return_to) if arrived.opened is None else _entered(arrived.opened, arrived.return_to)
    answer.headers.append("set-cookie", oidc.clear_cookie())
    return answer


async def signed_in(hub: Hub, request: Request) -> Signed | None:
    """Who is signed in in this browser."""
    cookies = callers.cookies(request.scope, browser.COOKIE)
    found = await browser.current(hub, cookies[0]) if len(cookies) == 1 else None
    return None if found is None else Signed(hub, *found, cookies[0])


async def own_form(request: Request, hub: Hub) -> dict[str, str]:
    """A form that one of our own pages has sent; raises `CodezeroError` (ROLE_FORBIDS) for any other."""
    origins = request.headers.getlist("origin")
    if origins != [callers.origin_of(hub)]:
        raise CodezeroError(
            problems.ROLE_FORBIDS,
            "the form does not come from a page of this Hub",
            fix=f"open {hub.public_url} and begin again there",
        )
    return await fields.of_form(request)


async def _signed_form(request: Request, hub: Hub) -> tuple[Signed, dict[str, str]]:
    form = await own_form(request, hub)
    return await _checked(request, hub, form), form


async def _checked(request: Request, hub: Hub, form: dict[str, str]) -> Signed:
    signed = await signed_in(hub, request)
    if signed is None:
        raise not_signed_in("your session has ended", fix="sign in and begin again")
    if not browser.is_csrf(hub, signed.row, form.get("csrf", "")):
        raise CodezeroError(problems.ROLE_FORBIDS, "the form is from another session", fix="begin again")
    return signed


async def _invitation(hub: Hub, request: Request, token: str, error: CodezeroError | None = None) -> Response:
    seen = await invited.look(hub, token, callers.visitor_of(request.scope))
    signed = await signed_in(hub, request)
    body = forms.invitation(
        token=token,
        organization=seen.organization,
        email=seen.email,
        role=seen.role,
        is_known=seen.is_known,
        csrf=None if signed is None else signed.csrf,
    )
    if error is None:
        return page("Invitation", body)
    return page("Invitation", joined([forms.alert(error), body]), status=error.problem.status)


def _asked(hub: Hub, parameters: dict[str, str]) -> Asked | Response:
    """What czctl asks for, or what it is told at once because it cannot be asked for."""
    try:
        return authorization.read(parameters)
    except OAuthError as error:
        told = {"error": error.error, "error_description": error.detail, "state": parameters["state"]}
        return _back(f"{parameters['redirect_uri']}?{urlencode({**told, 'iss': hub.public_url})}")


def _to_sign_in(back: str) -> Response:
    return _back(f"{SIGN_IN}?{urlencode({'return_to': back})}")


def _entered(opened: Opened, back: str) -> Response:
    answer = _back(back)
    answer.headers["set-cookie"] = browser.set_cookie(opened.cookie)
    return answer


def _back(location: str) -> Response:
    return Response(status_code=303, headers={"Location": location, "Cache-Control": "no-store"})
