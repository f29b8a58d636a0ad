"""What laptops and programs get at the Hub to connect with a Teamspace by themselves: certificates for laptops, tokens for its CONNECT door.

Both say who somebody is and nothing of what they may do: that the Teamspace decides by the policy it was pushed.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, devices
from codezero.hub.audit import Entry
from codezero.hub.authorities import LONGEST_DEVICE_LIFETIME
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.spaces import teamspaces
from codezero.hub.storage.tables import ApiKey, Space
from codezero.hub.storage.tables import Device as DeviceRow
from codezero.kit import certificates
from codezero.kit.certificates import CLOCK_LEEWAY, CertificateError
from codezero.model import problems
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission
from codezero.transport.device_proof import jwk_of, thumbprint

TOKEN_LIFETIME: Final = timedelta(minutes=10)
# What was opened by a token goes on when it has expired; for as long as one stays signed in.
OPEN_BY_TOKEN: Final = timedelta(days=30)
TOKEN_TYPE: Final = "JWT"  # noqa: S105 - what the CONNECT door of Teamspaces takes


@dataclass(frozen=True, slots=True)
class Access:
    """How a laptop reaches a Teamspace, without its key: `certificate` is its chain, leaf first, `roots` whom it believes (PEM)."""

    space: str
    name: str
    organization: str
    user: str
    host: str
    port: int
    roots: str
    certificate: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """What a program without a tunnel shows at the CONNECT door. A secret for ten minutes."""

    token: str
    host: str
    port: int
    root: str
    expires_at: datetime


async def access_by_key(
    session: AsyncSession, hub: Hub, acting: Member, space: str, *, api_key: str, csr: str
) -> Access:
    """Access of a machine that has an API key of the acting service account: a device of that account, for no longer than the key is good.

    Raises `CodezeroError` as `access`.
    """
    acting.need(Permission.SPACES_CONNECT)
    used = await session.get_one(ApiKey, api_key)
    _check_good(used)
    key = _requested(csr)
    jwk = jwk_of(key)
    device = await devices.register(
        session,
        hub,
        user=acting.user,
        jwk=jwk,
        thumbprint=thumbprint(jwk),
        name=f"{used.name} (API key)",
        address=acting.address,
    )
    if isinstance(device, CodezeroError):
        raise device
    lifetime = LONGEST_DEVICE_LIFETIME if used.expires_at is None else used.expires_at - hub.clock()
    given = await access(session, hub, acting, space, device=device.id, csr=csr, lifetime=lifetime)
    await devices.forget_expired(session, acting.user, hub.clock())
    return given


async def access(
    session: AsyncSession,
    hub: Hub,
    acting: Member,
    space: str,
    *,
    device: str,
    csr: str,
    lifetime: timedelta = LONGEST_DEVICE_LIFETIME,
) -> Access:
    """Access of a device of the acting member, whose registered key has signed `csr`.

    Raises `CodezeroError`: NOT_FOUND, NOT_CERTIFIED, SUSPENDED, BAD_REQUEST for a request by another key.
    """
    acting.need(Permission.SPACES_CONNECT)
    found = await connectable(session, acting, space)
    row = await session.get(DeviceRow, device)
    if row is None or row.user_id != acting.user or row.revoked_at is not None:
        raise CodezeroError(problems.NOT_FOUND, "there is no such device of yours", fix="czctl auth login")
    key = _requested(csr)
    if thumbprint(jwk_of(key)) != row.thumbprint:
        raise CodezeroError(
            problems.BAD_REQUEST, "the request is not by the key of the signed-in device", fix="czctl auth login"
        )
    own = Device(hub.authorities.trust_domain, acting.organization, acting.user, row.id)
    chain = hub.authorities.sign_device(key, own, lifetime)
    expires = x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc
    devices.certified(row, expires + CLOCK_LEEWAY)
    await _told(session, hub, acting, "space.access", found, device=row.id)
    assert found.host is not None
    assert found.port is not None
    return Access(
        found.id,
        found.name,
        acting.organization,
        acting.name,
        found.host,
        found.port,
        hub.authorities.root_pem,
        chain,
        expires,
    )


async def token(session: AsyncSession, hub: Hub, acting: Member, space: str, *, speaker: str) -> Token:
    """A token for the CONNECT door of a Teamspace, by which `speaker` (the id of a device or API key) speaks for the acting member.

    Raises `CodezeroError` (NOT_FOUND, NOT_CERTIFIED, SUSPENDED, NOT_SIGNED_IN for a speaker who was revoked in between).
    """
    acting.need(Permission.SPACES_CONNECT)
    found = await connectable(session, acting, space)
    now = hub.clock()
    expires = now + TOKEN_LIFETIME
    own = Device(hub.authorities.trust_domain, acting.organization, acting.user, speaker)
    claims = {
        "iss": hub.authorities.issuer,
        "sub": str(own),
        "aud": found.id,
        "org": acting.organization,
        "iat": int(now.timestamp()),
        "nbf": int(now.timestamp()),
        "exp": int(expires.timestamp()),
        "jti": new_ulid(),
    }
    speaks = await session.get(DeviceRow, speaker) or await session.get_one(ApiKey, speaker)
    _check_good(speaks)
    if isinstance(speaks, DeviceRow):
        devices.certified(speaks, now + OPEN_BY_TOKEN)
    elif speaks.last_used_at is None:
        speaks.last_used_at = now
    await _told(session, hub, acting, "space.token", found, speaker=speaker)
    assert found.host is not None
    assert found.port is not None
    signed = hub.authorities.sign(claims, typ=TOKEN_TYPE)
    return Token(signed, found.host, found.port, hub.authorities.root_pem, expires)


async def connectable(session: AsyncSession, acting: Member, space: str) -> Space:
    """A Teamspace that one can connect with; raises `CodezeroError` (NOT_FOUND, NOT_CERTIFIED, SUSPENDED)."""
    acting.need(Permission.SPACES_CONNECT)
    found = await teamspaces.get(session, acting, space)
    if found.suspended_at is not None:
        raise CodezeroError(
            problems.SUSPENDED,
            f"Teamspace {found.name} is suspended",
            fix="ask an administrator of the organization",
        )
    if found.certified_at is None:
        raise CodezeroError(
            problems.NOT_CERTIFIED,
            f"no cluster has joined as Teamspace {found.name} yet",
            fix="czctl space status says what it waits for",
        )
    if found.host is None or found.port is None:
        raise CodezeroError(
            problems.NOT_CERTIFIED,
            f"Teamspace {found.name} has joined, and where laptops connect to is not known yet",
            fix="wait for the address of its load balancer; czctl teamspace status, at its cluster, says more",
        )
    return found


def _check_good(speaker: DeviceRow | ApiKey) -> None:
    """It may have been revoked since the request came; Teamspaces were told before they could have had anything by it."""
    if speaker.revoked_at is not None:
        raise CodezeroError(problems.NOT_SIGNED_IN, "the device or key was revoked a moment ago")


def _requested(csr: str) -> EllipticCurvePublicKey:
    try:
        return certificates.requested_key(csr)
    except CertificateError as error:
        raise CodezeroError(problems.BAD_REQUEST, str(error)) from None


async def _told(session: AsyncSession, hub: Hub, acting: Member, action: str, space: Space, **details: object) -> None:
    entry = Entry(
        {"kind": acting.kind, "id": acting.user, "name": acting.name},
        action,
        teamspaces.target_of(space),
        details=details,
        address=acting.address,
        request=acting.request,
        at=hub.clock(),
    )
    await audit.record(session, acting.organization, entry)
