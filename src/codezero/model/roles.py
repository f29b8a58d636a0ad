"""The fixed roles of an organization's members, what each may do with the Hub's own objects, and who may give which.

What a member may do with the services of a Teamspace is said by its policy, which knows roles as groups; this is about the Hub alone.
"""

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What somebody is in an organization; one role each."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"
    AUDITOR = "auditor"
    CI = "ci"


class Permission(StrEnum):
    """What the Hub asks before it does something for somebody. Whoever lacks `ORGANIZATION_READ` is told that the organization does not exist."""

    ORGANIZATION_READ = "organization.read"
    ORGANIZATION_MANAGE = "organization.manage"
    ORGANIZATION_DELETE = "organization.delete"
    MEMBERS_READ = "members.read"
    MEMBERS_MANAGE = "members.manage"
    API_KEYS_READ = "apikeys.read"
    API_KEYS_MANAGE = "apikeys.manage"
    SPACES_READ = "spaces.read"
    SPACES_MANAGE = "spaces.manage"
    SPACES_CONNECT = "spaces.connect"
    POLICIES_READ = "policies.read"
    POLICIES_MANAGE = "policies.manage"
    SESSIONS_READ = "sessions.read"
    SESSIONS_END = "sessions.end"
    DEVICES_READ = "devices.read"
    DEVICES_MANAGE = "devices.manage"
    AUDIT_READ = "audit.read"


_VIEWER: Final = frozenset(
    {Permission.ORGANIZATION_READ, Permission.MEMBERS_READ, Permission.SPACES_READ, Permission.SESSIONS_READ}
)
_DEVELOPER: Final = _VIEWER | {Permission.SPACES_CONNECT, Permission.POLICIES_READ}
_AUDITOR: Final = _VIEWER | {
    Permission.API_KEYS_READ,
    Permission.POLICIES_READ,
    Permission.DEVICES_READ,
    Permission.AUDIT_READ,
}
# An admin can do all that any other role can, also what keeps others in check: so nobody who is not an owner may give an auditor's role but an admin.
_ADMIN: Final = (
    _DEVELOPER
    | _AUDITOR
    | {
        Permission.MEMBERS_MANAGE,
        Permission.API_KEYS_MANAGE,
        Permission.SPACES_MANAGE,
        Permission.POLICIES_MANAGE,
        Permission.SESSIONS_END,
        Permission.DEVICES_MANAGE,
    }
)

PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: _ADMIN,
    Role.DEVELOPER: _DEVELOPER,
    Role.VIEWER: _VIEWER,
    Role.AUDITOR: _AUDITOR,
    Role.CI: frozenset({Permission.ORGANIZATION_READ, Permission.SPACES_READ, Permission.SPACES_CONNECT}),
}

# Each role with those whose members it is counted among by policies.
IMPLIED: Final[dict[Role, tuple[Role, ...]]] = {
    Role.OWNER: (Role.OWNER, Role.ADMIN, Role.DEVELOPER, Role.VIEWER),
    Role.ADMIN: (Role.ADMIN, Role.DEVELOPER, Role.VIEWER),
    Role.DEVELOPER: (Role.DEVELOPER, Role.VIEWER),
    Role.VIEWER: (Role.VIEWER,),
    Role.AUDITOR: (Role.AUDITOR,),
    Role.CI: (Role.CI,),
}


def allows(role: Role, permission: Permission) -> bool:
    """Whether a member with `role` has `permission`."""
    return permission in PERMISSIONS[role]


def may_grant(giver: Role, role: Role) -> bool:
    """Whether a member with the role `giver` may make somebody a `role`, or take that role from somebody: nobody gives more than they hold (T30)."""
    return allows(giver, Permission.MEMBERS_MANAGE) and PERMISSIONS[role] <= PERMISSIONS[giver]
