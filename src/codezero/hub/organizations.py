"""Organizations, who is in them and as what: members, invitations, service accounts.

Two rules hold for everything here. Who is no member of an organization does not learn that it exists (T29): each function that changes something
takes the acting `Member`, and finds nothing outside of their organization. And nobody gives, or takes, more than they hold themselves, by whatever
way (T30); an organization keeps an owner.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, changes
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.signin import api_keys
from codezero.hub.storage.tables import ApiKey, Invitation, Membership, Organization, Space, User
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import PERMISSIONS, Permission, Role

INVITATION_LIFETIME: Final = timedelta(days=7)
PERSON: Final = "person"
SERVICE: Final = "service"
_LONGEST_NAME: Final = 200
_LONGEST_EMAIL: Final = 320
_TOKEN_PREFIX: Final = "cz_invitation_"  # noqa: S105 - what all of them begin with


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who acts in an organization. `permissions` are those of their role, and with an API key that has scopes, no more than these."""

    organization: str
    user: str
    role: Role
    permissions: frozenset[Permission]
    name: str = ""
    kind: str = PERSON
    address: str | None = None
    request: str | None = None

    def need(self, permission: Permission) -> None:
        """Raise `CodezeroError` (ROLE_FORBIDS) for a member without `permission`."""
        if permission not in self.permissions:
            raise _forbidden(f"this needs {permission.value}")

    def may_grant(self, role: Role) -> bool:
        """Whether they may make somebody a `role`, or take it from somebody: only what they hold themselves."""
        return Permission.MEMBERS_MANAGE in self.permissions and PERMISSIONS[role] <= self.permissions


@dataclass(frozen=True, slots=True, repr=False)
class NewInvitation:
    """An invitation that was made. `token` is a secret for whoever is invited, and nobody can tell it again."""

    row: Invitation
    token: str


async def member(
    session: AsyncSession,
    organization: str,
    user: str,
    *,
    scopes: Collection[Permission] = (),
    address: str | None = None,
    request: str | None = None,
) -> Member:
    """`user` as a member of `organization`, with no more than `scopes` where there are any.

    Raises `CodezeroError` (NOT_FOUND), the same for one that does not exist.
    """
    found = (
        await session.execute(
            select(Membership.role, User.name, User.kind)
            .join(Organization, Organization.id == Membership.organization_id)
            .join(User, User.id == Membership.user_id)
            .where(
                Membership.organization_id == organization,
                Membership.user_id == user,
                Organization.deleted_at.is_(None),
                User.disabled_at.is_(None),
            )
        )
    ).one_or_none()
    if found is None:
        raise CodezeroError(
            problems.NOT_FOUND,
            "there is no such organization, or you are not one of its members",
            fix="see `czctl organization list`",
        )
    role = Role(found.role)
    return Member(organization, user, role, _given(role, scopes), found.name, found.kind, address, request)


# Organizations


async def create(
    session: AsyncSession, hub: Hub, name: str, *, owner: User, address: str | None = None
) -> Organization:
    """A new organization, with `owner` as its owner."""
    if owner.kind != PERSON:
        raise _not_valid("an organization belongs to a person")
    now = hub.clock()
    organization = Organization(name=_name(name), settings={}, created_at=now)
    session.add(organization)
    await session.flush()
    session.add(Membership(organization_id=organization.id, user_id=owner.id, role=Role.OWNER.value, created_at=now))
    await session.flush()
    acting = await member(session, organization.id, owner.id, address=address)
    await _told(session, hub, acting, "organization.create", _organization(organization))
    await changes.tell(session, hub, "organization", organization=organization.id, what=organization.id)
    return organization


async def of_user(session: AsyncSession, user: str) -> Sequence[tuple[Organization, Role]]:
    """The organizations that `user` is in, with what they are there."""
    found = await session.execute(
        select(Organization, Membership.role)
        .join(Membership, Membership.organization_id == Organization.id)
        .where(Membership.user_id == user, Organization.deleted_at.is_(None))
        .order_by(Organization.id)
    )
    return [(organization, Role(role)) for organization, role in found]


async def get(session: AsyncSession, acting: Member) -> Organization:
    """The organization that `acting` is in."""
    return await session.get_one(Organization, acting.organization)


async def rename(
    session: AsyncSession, hub: Hub, acting: Member, name: str, *, version: int | None = None
) -> Organization:
    """Give the organization another name."""
    acting.need(Permission.ORGANIZATION_MANAGE)
    organization = await get(session, acting)
    check_version(version, organization.version)
    before, organization.name = organization.name, _name(name)
    organization.version += 1
    await _told(session, hub, acting, "organization.rename", _organization(organization), before=before)
    await changes.tell(session, hub, "organization", organization=organization.id, what=organization.id)
    return organization


async def configure(
    session: AsyncSession, hub: Hub, acting: Member, settings: dict[str, Any], *, version: int | None = None
) -> Organization:
    """Change settings (a value of None takes one back to its default); whether they are known and valid is the caller's to see."""
    acting.need(Permission.ORGANIZATION_MANAGE)
    organization = await get(session, acting)
    check_version(version, organization.version)
    before = {name: organization.settings.get(name) for name in settings}
    merged = {**organization.settings, **settings}
    organization.settings = {name: value for name, value in merged.items() if value is not None}
    organization.version += 1
    target = _organization(organization)
    await _told(session, hub, acting, "organization.configure", target, before=before, settings=settings)
    await changes.tell(session, hub, "organization", organization=organization.id, what=organization.id)
    return organization


async def remove_organization(session: AsyncSession, hub: Hub, acting: Member, *, version: int | None = None) -> None:
    """The end of an organization and of everything in it. Its audit stays for as long as its retention says."""
    acting.need(Permission.ORGANIZATION_DELETE)
    organization = await get(session, acting)
    check_version(version, organization.version)
    await _told(session, hub, acting, "organization.delete", _organization(organization))
    now = hub.clock()
    own = organization.id
    for space in await session.scalars(select(Space).where(Space.organization_id == own, Space.removed_at.is_(None))):
        space.state, space.removed_at, space.join_hash = "removed", now, None
        space.version += 1
        await changes.tell(session, hub, "space", organization=own, space=space.id, what=space.id)
    await session.execute(
        update(ApiKey).where(ApiKey.organization_id == own, ApiKey.revoked_at.is_(None)).values(revoked_at=now)
    )
    for invitation in await _open(session, hub, Invitation.organization_id == own):
        _end(invitation, hub, "withdrawn")
    accounts = select(Membership.user_id).where(Membership.organization_id == own)
    await session.execute(
        update(User)
        .where(User.id.in_(accounts), User.kind == SERVICE)
        .values(disabled_at=now, version=User.version + 1)
        .execution_options(synchronize_session=False)
    )
    for membership in await session.scalars(select(Membership).where(Membership.organization_id == own)):
        await session.delete(membership)
    organization.deleted_at = now
    organization.version += 1
    await changes.tell(session, hub, "organization", organization=own, what=own)


# Members


async def members(
    session: AsyncSession, acting: Member, *, kind: str | None = None, after: str | None = None, limit: int = 50
) -> Sequence[tuple[Membership, User]]:
    """At most `limit` members in the order of their ids, those behind `after`."""
    acting.need(Permission.MEMBERS_READ)
    query = (
        select(Membership, User)
        .join(User, User.id == Membership.user_id)
        .where(Membership.organization_id == acting.organization)
    )
    if kind is not None:
        query = query.where(User.kind == kind)
    if after is not None:
        query = query.where(User.id > after)
    return [(row, user) for row, user in (await session.execute(query.order_by(User.id).limit(limit)))]


async def get_member(session: AsyncSession, acting: Member, user: str) -> tuple[Membership, User]:
    """Another member; raises `CodezeroError` (NOT_FOUND)."""
    if user != acting.user:
        acting.need(Permission.MEMBERS_READ)
    return await _found_member(session, acting, user)


async def change_role(
    session: AsyncSession, hub: Hub, acting: Member, user: str, role: Role, *, version: int | None = None
) -> Membership:
    """Make a member something else; what they have given beyond that ends. Raises `CodezeroError`: ROLE_FORBIDS for more than `acting` holds, LAST_OWNER."""
    acting.need(Permission.MEMBERS_MANAGE)
    row, who = await _found_member(session, acting, user)
    check_version(version, row.version)
    before = Role(row.role)
    _check_grant(acting, before, role)
    _check_kind(who.kind, role)
    if before is role:
        return row
    if before is Role.OWNER:
        await _keep_an_owner(session, acting.organization, besides=user)
    row.role = role.value
    row.version += 1
    await _told(session, hub, acting, "member.role", _user(who), before=before.value, role=role.value)
    await _withdraw_beyond(session, hub, acting, who, PERMISSIONS[role])
    await changes.tell(session, hub, "member", organization=acting.organization, what=user)
    return row


async def remove_member(
    session: AsyncSession, hub: Hub, acting: Member, user: str, *, version: int | None = None
) -> None:
    """Take somebody out of the organization; everybody may leave by themselves. A service account ends with its keys."""
    row, who = await _found_member(session, acting, user)
    if user != acting.user:
        acting.need(Permission.MEMBERS_MANAGE)
        _check_grant(acting, Role(row.role))
    check_version(version, row.version)
    if row.role == Role.OWNER:
        await _keep_an_owner(session, acting.organization, besides=user)
    await _withdraw_beyond(session, hub, acting, who, frozenset())
    await session.delete(row)
    if who.kind == SERVICE:
        now = hub.clock()
        who.disabled_at = now
        who.version += 1
        keys = update(ApiKey).where(ApiKey.organization_id == acting.organization, ApiKey.user_id == user)
        await session.execute(keys.where(ApiKey.revoked_at.is_(None)).values(revoked_at=now))
    action = "member.leave" if user == acting.user else "member.remove"
    await _told(session, hub, acting, action, _user(who), role=row.role)
    await changes.tell(session, hub, "member", organization=acting.organization, what=user)


async def join(session: AsyncSession, hub: Hub, organization: str, user: User, role: Role) -> Membership:
    """`user` becomes a member by what whoever runs this Hub has set up (their identity provider vouches for them)."""
    return await _added(session, hub, organization, user, role, action="member.join")


# Invitations


async def invite(session: AsyncSession, hub: Hub, acting: Member, email: str, role: Role) -> NewInvitation:
    """Invite an address, for a week; an invitation of the same address that is open ends. Raises `CodezeroError`: ROLE_FORBIDS, ALREADY_THERE."""
    acting.need(Permission.MEMBERS_MANAGE)
    _check_grant(acting, role)
    address = normal_email(email)
    is_member = await session.scalar(
        select(func.count())
        .select_from(Membership)
        .join(User, User.id == Membership.user_id)
        .where(Membership.organization_id == acting.organization, User.email == address)
    )
    if is_member:
        raise CodezeroError(
            problems.ALREADY_THERE,
            f"{address} is a member of the organization already",
            fix="change the role of the member instead",
        )
    for before in await _open(session, hub, Invitation.organization_id == acting.organization, email=address):
        _check_grant(acting, Role(before.role))
        _end(before, hub, "replaced")
    token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
    now = hub.clock()
    row = Invitation(
        organization_id=acting.organization,
        email=address,
        role=role.value,
        token_hash=hub.sealer.hash(token),
        invited_by=acting.user,
        created_at=now,
        expires_at=now + INVITATION_LIFETIME,
    )
    session.add(row)
    await session.flush()
    await _told(session, hub, acting, "invitation.create", _invitation(row), role=role.value)
    await changes.tell(session, hub, "invitation", organization=acting.organization, what=row.id)
    return NewInvitation(row, token)


async def invitations(
    session: AsyncSession, hub: Hub, acting: Member, *, after: str | None = None, limit: int = 50
) -> Sequence[Invitation]:
    """At most `limit` open invitations of the organization in the order of their ids, those behind `after`."""
    acting.need(Permission.MEMBERS_READ)
    return await _open(session, hub, Invitation.organization_id == acting.organization, after=after, limit=limit)


async def withdraw(session: AsyncSession, hub: Hub, acting: Member, invitation: str) -> None:
    """End an open invitation; its token is worth nothing from then on."""
    acting.need(Permission.MEMBERS_MANAGE)
    row = await session.get(Invitation, invitation)
    if row is None or row.organization_id != acting.organization or not _is_open(row, hub):
        raise CodezeroError(problems.NOT_FOUND, "there is no such invitation that is open")
    _check_grant(acting, Role(row.role))
    await _withdrawn(session, hub, acting, row)


async def find_invitation(session: AsyncSession, hub: Hub, token: str) -> Invitation | None:
    """The open invitation with this token, of an organization that is still there."""
    row = await session.scalar(select(Invitation).where(Invitation.token_hash == hub.sealer.hash(token)))
    if row is None or not _is_open(row, hub):
        return None
    organization = await session.get_one(Organization, row.organization_id)
    return row if organization.deleted_at is None else None


async def open_invitations(session: AsyncSession, hub: Hub, email: str) -> Sequence[Invitation]:
    """All open invitations of an address, whose owner has proven to be that."""
    return await _open(session, hub, email=email.strip().lower())


async def accept_invitation(session: AsyncSession, hub: Hub, invitation: Invitation, user: User) -> Membership:
    """`user` becomes what the invitation says. Raises `CodezeroError`: NOT_FOUND for one that is not open, ROLE_FORBIDS for another's, ALREADY_THERE."""
    if not _is_open(invitation, hub):
        raise CodezeroError(problems.NOT_FOUND, "the invitation is not open any more", fix="ask for a new one")
    if user.kind != PERSON or user.email != invitation.email:
        raise CodezeroError(
            problems.ROLE_FORBIDS,
            "the invitation is for another e-mail address than yours",
            fix="sign in as whoever was invited, or ask for an invitation of your address",
        )
    row = await _added(
        session, hub, invitation.organization_id, user, Role(invitation.role), action="invitation.accept"
    )
    _end(invitation, hub, "accepted")
    return row


# Service accounts


async def create_service_account(
    session: AsyncSession, hub: Hub, acting: Member, name: str, role: Role = Role.CI
) -> tuple[Membership, User]:
    """An account for machines, which has API keys and no password. Raises `CodezeroError` (ROLE_FORBIDS) for more than `acting` holds."""
    acting.need(Permission.API_KEYS_MANAGE)
    _check_grant(acting, role)
    _check_kind(SERVICE, role)
    now = hub.clock()
    user = User(kind=SERVICE, name=_name(name), created_at=now)
    session.add(user)
    await session.flush()
    row = Membership(organization_id=acting.organization, user_id=user.id, role=role.value, created_at=now)
    session.add(row)
    await session.flush()
    await _told(session, hub, acting, "service-account.create", _user(user), role=role.value)
    await changes.tell(session, hub, "member", organization=acting.organization, what=user.id)
    return row, user


def check_key(acting: Member, role: Role, scopes: Collection[Permission] = ()) -> None:
    """Raise `CodezeroError` (ROLE_FORBIDS) where a key of an account with `role` (no more than `scopes`, where given) could do more than `acting` may."""
    acting.need(Permission.API_KEYS_MANAGE)
    if not _given(role, scopes) <= acting.permissions:
        raise _forbidden("a key of this account could do more than you may")


async def revoke_key(session: AsyncSession, hub: Hub, acting: Member, key: str) -> None:
    """End a key. Raises `CodezeroError`: NOT_FOUND, ROLE_FORBIDS for one that may do more than `acting` may."""
    acting.need(Permission.API_KEYS_MANAGE)
    row = await session.get(ApiKey, key)
    if row is None or row.organization_id != acting.organization or row.revoked_at is not None:
        raise CodezeroError(problems.NOT_FOUND, "there is no such API key")
    account, _ = await _found_member(session, acting, row.user_id)
    check_key(acting, Role(account.role), [Permission(scope) for scope in row.scopes])
    await _key_revoked(session, hub, acting, row)


async def _key_revoked(
    session: AsyncSession,
    hub: Hub,
    acting: Member,
    row: ApiKey,
    **details: Any,  # noqa: ANN401 - what JSON can be
) -> None:
    ended = await api_keys.revoke(session, hub, row)
    target = {"kind": "apikey", "id": row.id, "name": row.name}
    scopes = list(row.scopes)
    await _told(session, hub, acting, "apikey.revoke", target, service_account=row.user_id, scopes=scopes, **details)
    for device in ended:
        target = {"kind": "device", "id": device.id, "name": device.name, "user": device.user_id}
        await _told(session, hub, acting, "device.revoke", target, apikey=row.id)


def _given(role: Role, scopes: Collection[Permission | str]) -> frozenset[Permission]:
    """What somebody with `role` may do, with no more than `scopes` where there are any."""
    return PERMISSIONS[role] & frozenset(map(Permission, scopes)) if scopes else PERMISSIONS[role]


def check_version(wanted: int | None, present: int) -> None:
    """Raise `CodezeroError` (CHANGED_MEANWHILE) where another version than the present one is meant."""
    if wanted is not None and wanted != present:
        raise CodezeroError(
            problems.CHANGED_MEANWHILE,
            f"version {wanted} was to be changed, and it is version {present} now",
            fix="read it again, and decide anew",
        )


def normal_email(text: str) -> str:
    """The one form of an address; raises `CodezeroError` (NOT_VALID) for what is none."""
    address = text.strip().lower()
    local, at, domain = address.rpartition("@")
    is_plain = address.isprintable() and " " not in address and len(address) <= _LONGEST_EMAIL
    if not (local and at and domain and is_plain):
        raise _not_valid("this is no e-mail address")
    return address


async def _added(
    session: AsyncSession, hub: Hub, organization: str, user: User, role: Role, *, action: str
) -> Membership:
    if await session.get(Membership, (organization, user.id)) is not None:
        raise CodezeroError(problems.ALREADY_THERE, "you are a member of the organization already")
    row = Membership(organization_id=organization, user_id=user.id, role=role.value, created_at=hub.clock())
    session.add(row)
    await session.flush()
    acting = await member(session, organization, user.id)
    await _told(session, hub, acting, action, _user(user), role=role.value)
    await changes.tell(session, hub, "member", organization=organization, what=user.id)
    return row


async def _found_member(session: AsyncSession, acting: Member, user: str) -> tuple[Membership, User]:
    row = await session.get(Membership, (acting.organization, user))
    if row is None:
        raise CodezeroError(problems.NOT_FOUND, "there is no such member of the organization")
    return row, await session.get_one(User, user)


async def _keep_an_owner(session: AsyncSession, organization: str, *, besides: str) -> None:
    """Raise where nobody would be an owner who can sign in, but for whoever is about to be none."""
    others = await session.scalar(
        select(func.count())
        .select_from(Membership)
        .join(User, User.id == Membership.user_id)
        .where(
            Membership.organization_id == organization,
            Membership.role == Role.OWNER.value,
            Membership.user_id != besides,
            User.disabled_at.is_(None),
        )
    )
    if not others:
        raise CodezeroError(
            problems.LAST_OWNER,
            "this is the organization's last owner",
            fix="make somebody else an owner first, or delete the organization",
        )


async def _withdraw_beyond(
    session: AsyncSession, hub: Hub, acting: Member, giver: User, held: frozenset[Permission]
) -> None:
    """What somebody holds no more they have given nobody, nor themselves: by an invitation that still waits, or by a key whose secret they know."""
    givers = await _revoke_beyond(session, hub, acting, giver.id, held)
    for row in await _open(session, hub, Invitation.organization_id == acting.organization):
        may = Permission.MEMBERS_MANAGE in held and PERMISSIONS[Role(row.role)] <= held
        if row.invited_by in givers and not may:
            await _withdrawn(session, hub, acting, row)


async def _revoke_beyond(
    session: AsyncSession, hub: Hub, acting: Member, giver: str, held: frozenset[Permission]
) -> Collection[str]:
    """End the keys that `giver` made and that may do more than `held`, and all that these have made; who made any of them."""
    givers, asked = {giver}, [giver]
    while asked:
        maker = asked.pop()
        made = (
            select(ApiKey, Membership.role)
            .join(
                Membership,
                (Membership.organization_id == ApiKey.organization_id) & (Membership.user_id == ApiKey.user_id),
            )
            .where(
                ApiKey.organization_id == acting.organization,
                ApiKey.created_by == maker,
                ApiKey.revoked_at.is_(None),
            )
            .order_by(ApiKey.id)
        )
        for key, role in (await session.execute(made)).all():
            # Of somebody who is gone every key goes, whatever it may do.
            if held and _given(Role(role), key.scopes) <= held:
                continue
            await _key_revoked(session, hub, acting, key, member=giver)
            # Which key of an account made another one is not kept.
            if key.user_id not in givers:
                givers.add(key.user_id)
                asked.append(key.user_id)
    return givers


async def _withdrawn(session: AsyncSession, hub: Hub, acting: Member, row: Invitation) -> None:
    _end(row, hub, "withdrawn")
    await _told(session, hub, acting, "invitation.withdraw", _invitation(row), role=row.role)
    await changes.tell(session, hub, "invitation", organization=row.organization_id, what=row.id)


async def _open(
    session: AsyncSession,
    hub: Hub,
    *conditions: Any,  # noqa: ANN401 - SQLAlchemy's conditions
    email: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> Sequence[Invitation]:
    query = (
        select(Invitation)
        .join(Organization, Organization.id == Invitation.organization_id)
        .where(Invitation.ended_at.is_(None), Invitation.expires_at > hub.clock(), Organization.deleted_at.is_(None))
        .where(*conditions)
    )
    if email is not None:
        query = query.where(Invitation.email == email)
    if after is not None:
        query = query.where(Invitation.id > after)
    return (await session.scalars(query.order_by(Invitation.id).limit(limit))).all()


def _is_open(row: Invitation, hub: Hub) -> bool:
    return row.ended_at is None and row.expires_at > hub.clock()


def _end(row: Invitation, hub: Hub, how: str) -> None:
    row.ended_at, row.ended_as = hub.clock(), how


def _check_grant(acting: Member, *roles: Role) -> None:
    for role in roles:
        if not acting.may_grant(role):
            raise _forbidden(f"nobody gives or takes more than they hold, and {role.value} is more")


def _check_kind(kind: str, role: Role) -> None:
    if kind == SERVICE and role is Role.OWNER:
        raise _not_valid("an owner is a person")


async def _told(
    session: AsyncSession,
    hub: Hub,
    acting: Member,
    action: str,
    target: dict[str, Any],
    **details: Any,  # noqa: ANN401 - what JSON can be
) -> None:
    actor = {"kind": acting.kind, "id": acting.user, "name": acting.name}
    entry = Entry(
        actor, action, target, details=details, address=acting.address, request=acting.request, at=hub.clock()
    )
    await audit.record(session, acting.organization, entry)


def _organization(row: Organization) -> dict[str, Any]:
    return {"kind": "organization", "id": row.id, "name": row.name}


def _user(row: User) -> dict[str, Any]:
    return {"kind": row.kind, "id": row.id, "name": row.name}


def _invitation(row: Invitation) -> dict[str, Any]:
    return {"kind": "invitation", "id": row.id, "name": row.email}


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise _not_valid(f"a name has 1 to {_LONGEST_NAME} characters that can be seen")
    return name


def _not_valid(why: str) -> CodezeroError:
    return CodezeroError(problems.NOT_VALID, why)


def _forbidden(why: str) -> CodezeroError:
    return CodezeroError(problems.ROLE_FORBIDS, why, fix="ask an owner or admin of the organization")
