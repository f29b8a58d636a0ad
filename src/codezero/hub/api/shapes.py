"""What is asked and told over the API. What is asked has no field that is not named here; what is told once and secret shows in no log."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from codezero.hub.signin import passwords
from codezero.model.access import Operation
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
    opa: str | None = Field(
        None,
        max_length=500,
        pattern=r"^https?://[^\s/?#]+(/[^\s]*)?$",
        description="The URL of an Open Policy Agent that has to agree, too.",
    )


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


class CertificateAsked(Asked):
    """A certificate request (PEM) by the device's own key, for a Teamspace."""

    csr: Csr
    space: str = Field(max_length=64)


class AccessAsked(Asked):
    """A certificate request (PEM) by the device's own key."""

    csr: Csr


class Access(Told):
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


class DoorToken(Told):
    """What a program without a tunnel shows at a Teamspace's CONNECT door, as `Proxy-Authorization`, until `expires_at`."""

    token: Secret
    host: str
    port: int
    root: str
    expires_at: datetime


class Space(Told):
    """A Teamspace. `unreachable` is one that has joined and has no channel to the Hub now; `rotating` waits for a new key of its cluster."""

    id: str
    name: str
    state: Literal["invited", "certified", "unreachable", "suspended", "removed"]
    connected: bool
    rotating: bool
    host: str | None
    port: int | None
    release: str | None
    fingerprint: str | None
    policy_version: int
    created_at: datetime
    certified_at: datetime | None
    seen_at: datetime | None
    version: int


class SpaceNamed(Asked):
    """What it is called: lower-case letters, digits and hyphens."""

    name: str = Field(min_length=1, max_length=63)


class Invited(Space):
    """A Teamspace that a cluster may join by `join_token`, which is told once and good once, until `join_expires_at`."""

    join_token: Secret
    join_expires_at: datetime
    install_command: str


class Policy(Told):
    """A version of a Teamspace's policy document."""

    number: int
    text: str
    comment: str
    author: str
    created_at: datetime


class PolicyVersion(Told):
    """The same without its text."""

    number: int
    comment: str
    author: str
    created_at: datetime


class PolicyChange(Asked):
    """A document to be in force from now on."""

    text: str = Field(max_length=262_144)
    comment: str = Field("", max_length=500)


class PolicyAsked(Asked):
    """A document to be looked at, not used."""

    text: str = Field(max_length=262_144)


class PolicyBack(Asked):
    """The number of the version whose text is to be in force again."""

    version: int = Field(ge=1, le=1_000_000_000)


class Mistake(Told):
    """What is wrong with a document, where, and what to do about it."""

    code: str
    message: str
    line: int
    column: int
    fix: str


class Checked(Told):
    """Whether a document could be put in force: its mistakes (failed tests among them), how many tests it has, and what it would change."""

    valid: bool
    errors: list[Mistake]
    tests: int
    diff: str


class Condition(Asked):
    """A part of a serve's condition, as `czctl serve` takes it."""

    type: str = Field(max_length=32)
    key: str | None = Field(None, max_length=256)
    value: str | None = Field(None, max_length=1024)


class MayAsked(Asked):
    """The question whether somebody may do that with a service (`orders.shop`): `as` is a user's id or e-mail address; whoever asks, if left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    operation: Operation
    service: ServiceName
    condition: Condition | None = None
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(default_factory=list[int], max_length=16)
    as_user: str | None = Field(None, alias="as", max_length=320)


class May(Told):
    """The answer, why, and which policies made it."""

    allowed: bool
    reason: str
    policies: list[str]
    failed: list[str]


class Picture(Told):
    """What a Teamspace told last, and when; nothing where it never has. `stale_since`: when it stopped seeing its cluster (UNIX seconds)."""

    items: list[dict[str, Any]]
    next: str | None = None
    at: datetime | None
    stale_since: float | None = None


class Serve(Told):
    """A variant of a service by somebody's laptop."""

    id: str
    service: str
    user: str
    user_name: str
    session: str
    condition: list[dict[str, Any]]
    ports: list[dict[str, Any]]
    state: str
    expires: float
    mirror: str | None = None


class Session(Told):
    """A laptop that is connected to a Teamspace, what it consumes and serves."""

    id: str
    user: str
    user_name: str
    device: str
    name: str
    state: str
    since: float
    consumes: list[str]
    serves: list[Serve]


class Ending(Asked):
    """Why; told to whom it concerns, and kept in the audit."""

    reason: str = Field("", max_length=200)


class AuditEntry(Told):
    """A line of an organization's audit."""

    number: int
    id: str
    at: datetime
    action: str
    actor: dict[str, Any]
    target: dict[str, Any]
    outcome: str
    details: dict[str, Any]
    address: str | None
    request: str | None


class AuditVerified(Told):
    """Whether the audit is the one that was written; else the number of the entry that does not fit, and why."""

    ok: bool
    first: int | None
    last: int
    entries: int
    broken: int | None
    reason: str | None
