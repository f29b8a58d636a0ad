"""What is asked and told over the API. What is asked has no field that is not named here; what is told once and secret shows in no log."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from codezero.hub.signin import passwords
from codezero.model.roles import Permission, Role

T = TypeVar("T")

# No line breaks and other control characters, none that turns the direction of writing around, no blanks at the ends.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
NAME = rf"^[^\s{_HIDDEN}](?:[^{_HIDDEN}]*[^\s{_HIDDEN}])?$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NAME)]
Email = Annotated[
    str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+$")
]
Ulid = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
# A certificate signing request is less than 2 KB.
Csr = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
# Of services: `orders.shop` or `shop/orders`.
ServiceName = Annotated[str, StringConstraints(min_length=3, max_length=127, pattern=r"^[a-z0-9-]+[./][a-z0-9-]+$")]


class Asked(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Told(BaseModel):
    """What is told."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Listed(Told, Generic[T]):
    """A page of a list; `next` is the cursor of the one after it, null at the end."""

    items: list[T]
    next: str | None = None


Secret = Annotated[str, Field(repr=False)]


class Organization(Told):
    """An organization, as one of its members sees it."""

    id: str
    name: str
    role: Role
    settings: dict[str, Any]
    created_at: datetime
    version: int


class OrganizationMade(Asked):
    """A new organization; whoever makes it is its owner."""

    name: Name


class OrganizationSettings(Asked):
    """What an organization wants to be different: fields that are left out stay as they are."""

    device_flow: bool | None = Field(None, description="Whether `czctl auth login` may be approved on another device.")
    audit_days: int | None = Field(None, ge=1, le=3650, description="How many days audit entries are kept.")


class OrganizationChange(Asked):
    """Fields that are left out stay as they are."""

    name: Name | None = None
    settings: OrganizationSettings | None = None


class Member(Told):
    """Somebody in an organization."""

    user: str
    kind: Literal["person", "service"]
    name: str
    email: str | None
    role: Role
    created_at: datetime
    version: int


class MemberChange(Asked):
    """A new role."""

    role: Role


class Invitation(Told):
    """An e-mail address that may become a member."""

    id: str
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    expires_at: datetime


class InvitationMade(Asked):
    """Who is invited, and as what."""

    email: Email
    role: Role


class InvitationAnswer(Invitation):
    """A new invitation, with its link, which is told once."""

    link: Secret
    token: Secret


class InvitationAccepted(Asked):
    """The token of an invitation; name and password of somebody who has no account yet."""

    token: SecretStr = Field(min_length=1, max_length=200)
    name: Name | None = None
    password: SecretStr | None = Field(None, min_length=passwords.LEAST, max_length=passwords.MOST)


class Joined(Told):
    """Who has become what, and where."""

    organization: str
    user: str
    role: Role


class ServiceAccount(Told):
    """A member that is no person."""

    id: str
    name: str
    role: Role
    created_at: datetime


class ServiceAccountMade(Asked):
    """A new service account."""

    name: Name
    role: Role = Role.CI


class ApiKey(Told):
    """An API key, without what makes it one."""

    id: str
    name: str
    service_account: str
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class ApiKeyMade(Asked):
    """A new key of a service account; without one, of a new one that has the key's name and `role`."""

    name: Name
    service_account: Ulid | None = None
    role: Role | None = None
    scopes: list[Permission] = Field(default_factory=list[Permission], max_length=len(Permission))
    expires_in: int | None = Field(
        None, ge=60, le=10 * 366 * 86400, description="Seconds; without it the key has no end."
    )


class ApiKeyAnswer(ApiKey):
    """A new key, which is told once."""

    key: Secret


class Device(Told):
    """A machine of a user."""

    id: str
    user: str
    name: str
    created_at: datetime
    last_seen_at: datetime
    revoked_at: datetime | None
