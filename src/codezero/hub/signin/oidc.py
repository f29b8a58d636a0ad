"""Signing in by an identity provider (OpenID Connect): authorization code with PKCE, state and nonce; the ID token verified strictly.

Somebody is who the provider's issuer *and* subject say, never who an e-mail address says: addresses are given away, given again, and not everywhere
verified (T33). So an identity that is not known yet
- is added to a person only while that person is signed in and asks for it;
- becomes a new person only with an address the provider has verified and may vouch for: by an open invitation, or where the provider's settings name an
  organization for everybody of its domains;
- never becomes somebody who is here already with that address.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.signin import accounts, browser, history, one_time
from codezero.hub.signin.attempts import ADDRESS, network
from codezero.hub.signin.browser import Opened
from codezero.hub.signin.providers import Provider
from codezero.hub.signin.refusals import kept, refused
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import Identity, Organization, User
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role
from codezero.transport.signed import Signed, UntrustedError, encoded

COOKIE: Final = "__Host-codezero-oidc"
LIFETIME: Final = timedelta(minutes=10)
LEEWAY: Final = 60
OLDEST: Final = 600
LONGEST: Final = 24 * 3600
SCOPE: Final = "openid email profile"
_OK: Final = 200
_LONGEST_SUBJECT: Final = 255
_KINDS: Final = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    typ: str | None = None
    crit: Any = None


class IdToken(msgspec.Struct, frozen=True):
    """What an ID token says, as far as it matters here."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int
    iat: int
    nonce: str
    azp: str | None = None
    nbf: int | None = None
    email: str | None = None
    email_verified: bool = False
    name: str | None = None


class _UserInfo(msgspec.Struct, frozen=True):
    sub: str
    email: str | None = None
    email_verified: bool = False
    name: str | None = None


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str
    access_token: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Started:
    """Where to send the browser, and the cookie by which it is known when it comes back."""

    location: str
    cookie: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who the provider says somebody is. `email` is None where it did not verify it, or may not vouch for it."""

    issuer: str
    subject: str
    email: str | None
    name: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Arrived:
    """A browser that came back: a session that began, or None where an identity was added to one that is; and where it goes on."""

    opened: Opened | None
    return_to: str


def provider_of(hub: Hub, name: str) -> Provider:
    """The provider of that name; raises `CodezeroError` (NOT_FOUND)."""
    for provider in hub.providers:
        if provider.name == name:
            return provider
    raise CodezeroError(problems.NOT_FOUND, "there is no such identity provider", fix="see /api/v1/auth/providers")


async def start(
    hub: Hub, provider: Provider, *, return_to: str, visitor: Visitor, link_to: str | None = None
) -> Started:
    """Begin a sign-in; `link_to` is the user who asked to have the identity added to theirs."""
    hub.attempts.count(ADDRESS, hub.clock(), network(visitor.address))
    metadata = await provider.metadata(hub.clock())
    cookie = secrets.token_urlsafe(32)

    async def work(session: AsyncSession) -> str:
        return await one_time.make(
            session,
            hub,
            one_time.OIDC,
            lifetime=LIFETIME,
            user=link_to,
            data={"provider": provider.name, "browser": _bound(hub, cookie), "return_to": return_to},
        )

    state = await hub.database.run(work)
    query = {
        "response_type": "code",
        "client_id": provider.settings.client_id,
        "redirect_uri": redirect_uri(hub, provider),
        "scope": SCOPE,
        "state": state,
        "nonce": _derived(hub, "nonce", state),
        "code_challenge": encoded(hashlib.sha256(_derived(hub, "verifier", state).encode()).digest()),
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in metadata.authorization_endpoint else "?"
    return Started(f"{metadata.authorization_endpoint}{joint}{urlencode(query)}", cookie)


def set_cookie(cookie: str) -> str:
    """The `Set-Cookie` of a browser on its way to a provider."""
    return f"{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={int(LIFETIME.total_seconds())}"


def clear_cookie() -> str:
    """The `Set-Cookie` of one that is back."""
    return f"{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"


def redirect_uri(hub: Hub, provider: Provider) -> str:
    """Where the provider sends browsers: an address of its own for each, so that none can answer for another."""
    return f"{hub.public_url}/api/v1/auth/oidc/{provider.name}/callback"


async def finish(
    hub: Hub, provider: Provider, parameters: dict[str, str], *, cookie: str | None, user: str | None, visitor: Visitor
) -> Arrived:
    """The browser is back; `user` is who is signed in in it. Raises `CodezeroError` (SIGN_IN_REFUSED, ALREADY_THERE) with the reason."""
    state = parameters.get("state", "")

    async def take(session: AsyncSession) -> tuple[str | None, dict[str, Any]] | CodezeroError:
        row = await one_time.take(session, hub, one_time.OIDC, state)
        if row is None or row.data["provider"] != provider.name:
            return refused("this sign-in was not begun here, or took too long", fix="sign in again")
        if cookie is None or not hmac.compare_digest(row.data["browser"], _bound(hub, cookie)):
            return refused("this sign-in was begun in another browser", fix="sign in again")
        if row.user_id is not None and row.user_id != user:
            return refused("whoever began to add this identity is signed in no longer", fix="sign in and add it again")
        return row.user_id, row.data

    link_to, data = await kept(hub, take)
    person = await _asked(hub, provider, parameters, state)
    if link_to is not None:
        await _link(hub, provider, person, link_to, visitor)
        return Arrived(None, data["return_to"])
    return Arrived(await _enter(hub, provider, person, visitor), data["return_to"])


async def _asked(hub: Hub, provider: Provider, parameters: dict[str, str], state: str) -> Person:
    """Who the provider says it is, for the code it gave."""
    metadata = await provider.metadata(hub.clock())
    said = parameters.get("iss")
    if (said is not None or metadata.authorization_response_iss_parameter_supported) and said != provider.issuer:
        raise refused("the answer is another provider's", fix="sign in again")
    if "error" in parameters or not parameters.get("code"):
        raise refused(f"{provider.settings.title} did not let you in", fix="sign in again")
    form = {
        "grant_type": "authorization_code",
        "code": parameters["code"],
        "redirect_uri": redirect_uri(hub, provider),
        "code_verifier": _derived(hub, "verifier", state),
    }
    auth = None
    if provider.client_secret is None:
        form["client_id"] = provider.settings.client_id
    elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
        auth = (_basic(provider.settings.client_id), _basic(provider.client_secret))
    else:
        form |= {"client_id": provider.settings.client_id, "client_secret": provider.client_secret}
    status, content = await provider.post(metadata.token_endpoint, form, auth=auth)
    if status != _OK:
        raise refused(f"{provider.settings.title} did not take its own code back", fix="sign in again")
    try:
        answered = msgspec.convert(content, _Tokens)
    except msgspec.ValidationError:
        raise refused(f"{provider.settings.title} answered without an ID token") from None
    token = await verify(hub, provider, answered.id_token, nonce=_derived(hub, "nonce", state))
    email, is_verified, name = token.email, token.email_verified, token.name
    if email is None and metadata.userinfo_endpoint is not None and answered.access_token is not None:
        email, is_verified, name = await _user_info(provider, metadata.userinfo_endpoint, answered.access_token, token)
    address = (email or "").strip().lower()
    is_good = is_verified and address.count("@") == 1 and len(address) <= 254 and provider.vouches_for(address)
    return Person(token.iss, token.sub, address if is_good else None, name)


async def verify(hub: Hub, provider: Provider, id_token: str, *, nonce: str) -> IdToken:
    """The ID token, signed by a key of the provider with an algorithm it is known for, for us and for this sign-in; raises `CodezeroError`."""
    try:
        signed = Signed(id_token, _Header)
        header = signed.header
        if header.alg not in provider.settings.algorithms or header.crit is not None or header.typ not in {None, "JWT"}:
            raise UntrustedError("it is of another kind")
        keys = await provider.keys(hub.clock(), kid=header.kid)
        kind = _KINDS[header.alg]
        fitting = [key for key in keys if key.get("kty") == kind and key.get("alg", header.alg) == header.alg]
        if len(fitting) != 1:
            raise UntrustedError(
                "it does not say by which key it is signed" if fitting else "it is signed by an unknown key"
            )
        token = signed.claims(IdToken, algorithm=header.alg, key=fitting[0])
        _check(hub, provider, token, nonce)
    except UntrustedError as error:
        raise refused(f"the ID token of {provider.settings.title} is refused: {error}") from None
    return token


def _check(hub: Hub, provider: Provider, token: IdToken, nonce: str) -> None:
    client = provider.settings.client_id
    now = hub.clock().timestamp()
    if token.iss != provider.issuer:
        raise UntrustedError("it is by somebody else")
    if token.aud not in (client, [client]) or token.azp not in {None, client}:
        raise UntrustedError("it is for somebody else")
    if not hmac.compare_digest(token.nonce.encode(), nonce.encode()):
        raise UntrustedError("it is for another sign-in")
    if token.exp + LEEWAY <= now or token.iat + OLDEST + LEEWAY <= now:
        raise UntrustedError("it has expired")
    if token.iat - LEEWAY > now or (token.nbf is not None and token.nbf - LEEWAY > now):
        raise UntrustedError("it is not valid yet")
    if not 0 < token.exp - token.iat <= LONGEST:
        raise UntrustedError("it is valid for too long")
    if not 0 < len(token.sub) <= _LONGEST_SUBJECT:
        raise UntrustedError("it does not say for whom it is")


async def _user_info(
    provider: Provider, url: str, access_token: str, token: IdToken
) -> tuple[str | None, bool, str | None]:
    status, content = await provider.get(url, bearer=access_token)
    try:
        found = msgspec.convert(content, _UserInfo)
    except msgspec.ValidationError:
        found = None
    if status != _OK or found is None or found.sub != token.sub:
        raise refused(f"{provider.settings.title} did not say who it is")
    return found.email, found.email_verified, found.name or token.name


async def _enter(hub: Hub, provider: Provider, person: Person, visitor: Visitor) -> Opened:
    """A session of whoever has this identity, or comes with it for the first time and may."""

    async def work(session: AsyncSession) -> Opened | CodezeroError:
        identity = await _identity(session, person)
        user = (
            await _newcomer(session, hub, provider, person)
            if identity is None
            else await session.get_one(User, identity.user_id)
        )
        if isinstance(user, CodezeroError):
            return user
        if user.disabled_at is not None:
            return refused("the account is disabled", fix="ask whoever runs this Hub")
        await history.tell(
            session, hub, user, "signin.provider", visitor, provider=provider.name, is_new=identity is None
        )
        return browser.open_session(session, hub, user, visitor)

    return await kept(hub, work)


async def _newcomer(session: AsyncSession, hub: Hub, provider: Provider, person: Person) -> User | CodezeroError:
    if person.email is None:
        return refused(
            f"{provider.settings.title} has not verified your e-mail address, or may not vouch for it",
            fix="sign in as you did before, and add this identity there",
        )
    if await browser.by_email(session, person.email) is not None:
        return refused(
            f"somebody with the address {person.email} is here already, and does not sign in this way",
            fix="sign in as you did before, and add this identity there",
        )
    invitations = await organizations.open_invitations(session, hub, person.email)
    joins = provider.settings.organization if provider.settings.domains else None
    if joins is not None and not await _is_there(session, joins):
        joins = None
    if not invitations and joins is None:
        return refused(f"nobody has invited {person.email}", fix="ask an admin of your organization for an invitation")
    name = (person.name or "").strip()[:200] or person.email.partition("@")[0]
    user = accounts.add_person(session, hub, email=person.email, name=name, password_hash=None)
    await session.flush()
    session.add(
        Identity(
            user_id=user.id, issuer=person.issuer, subject=person.subject, email=person.email, created_at=hub.clock()
        )
    )
    for invitation in invitations:
        await organizations.accept_invitation(session, hub, invitation, user)
    if joins is not None and all(invitation.organization_id != joins for invitation in invitations):
        await organizations.join(session, hub, joins, user, Role(provider.settings.role))
    return user


async def _link(hub: Hub, provider: Provider, person: Person, user_id: str, visitor: Visitor) -> None:
    """Add the identity to whoever asked for it while signed in."""

    async def work(session: AsyncSession) -> CodezeroError | None:
        user = await session.get_one(User, user_id)
        identity = await _identity(session, person)
        if identity is not None and identity.user_id == user_id:
            return None
        if identity is not None:
            await history.tell(
                session, hub, user, "signin.link", visitor, outcome=history.REFUSED, provider=provider.name
            )
            return CodezeroError(problems.ALREADY_THERE, "this identity belongs to somebody else here")
        session.add(
            Identity(
                user_id=user_id,
                issuer=person.issuer,
                subject=person.subject,
                email=person.email,
                created_at=hub.clock(),
            )
        )
        await history.tell(session, hub, user, "signin.link", visitor, provider=provider.name)
        return None

    await kept(hub, work)


async def _identity(session: AsyncSession, person: Person) -> Identity | None:
    return await session.scalar(
        select(Identity).where(Identity.issuer == person.issuer, Identity.subject == person.subject)
    )


async def _is_there(session: AsyncSession, organization: str) -> bool:
    row = await session.get(Organization, organization)
    return row is not None and row.deleted_at is None


def _derived(hub: Hub, purpose: str, state: str) -> str:
    """Verifier and nonce follow from the state, which only the browser has: nothing to steal is kept."""
    return encoded(hub.sealer.hash(f"oidc {purpose} {state}"))


def _bound(hub: Hub, cookie: str) -> str:
    return encoded(hub.sealer.hash(f"oidc browser {cookie}"))


def _basic(value: str) -> str:
    """RFC 6749, 2.3.1: form-encoded before it becomes basic authentication."""
    return urlencode({"": value})[1:]
