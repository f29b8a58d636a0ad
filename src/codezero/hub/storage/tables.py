"""The tables. Ids are ULIDs, times are UTC, and no column holds a secret: tokens and keys are kept as keyed hashes, private keys sealed.

What belongs to an organization has `organization_id`, and is read through it alone (T29): a query without it finds nothing but by mistake.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from codezero.model.ids import new_ulid

_ULID_LENGTH = 26


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no zone, so it is put back when read. A time without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What is stored."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone is not stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """What is read."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """All tables; constraints have names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's way
        datetime: UtcTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
        bytes: LargeBinary(),
        str: String(320),
    }


def _id() -> Mapped[str]:
    return mapped_column(String(_ULID_LENGTH), primary_key=True, default=new_ulid)


def _reference(target: str, *, primary_key: bool = False, index: bool = True) -> Mapped[Any]:
    return mapped_column(
        String(_ULID_LENGTH), ForeignKey(target), primary_key=primary_key, index=index and not primary_key
    )


class Install(Base):
    """This Hub: one row. Its ULID is the trust domain of its devices."""

    __tablename__ = "install"

    id: Mapped[str] = _id()
    created_at: Mapped[datetime]


class AuthorityKey(Base):
    """A key that signs: `root`, `device-issuer` or `token`. `sealed` is the private half under the master key, `public` a certificate (PEM) or JWK."""

    __tablename__ = "authority_keys"

    id: Mapped[str] = _id()
    kind: Mapped[str] = mapped_column(String(32), index=True)
    public: Mapped[str] = mapped_column(Text)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    # Signs nothing from then on, and is still believed until `not_after`.
    retired_at: Mapped[datetime | None]
    not_after: Mapped[datetime]


class User(Base):
    """A person, in any number of organizations; or a service account, of one. `email` is lower case, and nobody's twice."""

    __tablename__ = "users"

    id: Mapped[str] = _id()
    kind: Mapped[str] = mapped_column(String(16))  # person, service
    email: Mapped[str | None] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(String(200))
    # PHC string of argon2id; none for those who sign in by a provider alone.
    password_hash: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class Identity(Base):
    """A user as an identity provider knows them: issuer and subject, never the e-mail (T33)."""

    __tablename__ = "identities"
    __table_args__ = (UniqueConstraint("issuer", "subject", name="uq_identities_issuer_subject"),)

    id: Mapped[str] = _id()
    user_id: Mapped[str] = _reference("users.id")
    issuer: Mapped[str] = mapped_column(String(500))
    subject: Mapped[str] = mapped_column(String(500))
    email: Mapped[str | None]
    created_at: Mapped[datetime]


class Organization(Base):
    """A tenant. `settings`: device_flow (bool), audit_days (int), opa (url)."""

    __tablename__ = "organizations"

    id: Mapped[str] = _id()
    name: Mapped[str] = mapped_column(String(200))
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class Membership(Base):
    """A user in an organization, with one role."""

    __tablename__ = "memberships"

    organization_id: Mapped[str] = _reference("organizations.id", primary_key=True)
    user_id: Mapped[str] = _reference("users.id", primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)


class Invitation(Base):
    """An e-mail address that may become a member; at most one of each address is open in an organization."""

    __tablename__ = "invitations"

    id: Mapped[str] = _id()
    organization_id: Mapped[str] = _reference("organizations.id")
    email: Mapped[str]
    role: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    invited_by: Mapped[str] = _reference("users.id", index=False)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    # Accepted, withdrawn or replaced.
    ended_at: Mapped[datetime | None]
    ended_as: Mapped[str | None] = mapped_column(String(16))


class ApiKey(Base):
    """A key of a service account. `scopes` empty: all that the account may do. The key itself is kept nowhere."""

    __tablename__ = "api_keys"

    id: Mapped[str] = _id()
    organization_id: Mapped[str] = _reference("organizations.id")
    user_id: Mapped[str] = _reference("users.id")
    name: Mapped[str] = mapped_column(String(200))
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(default=list)
    created_by: Mapped[str] = _reference("users.id", index=False)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Device(Base):
    """A machine of a user, known by its key: `thumbprint` is RFC 7638's of `public_jwk`.

    `certified_until` is until when Teamspaces may have something open by what it was given, None where it was given nothing.
    """

    __tablename__ = "devices"

    id: Mapped[str] = _id()
    user_id: Mapped[str] = _reference("users.id")
    name: Mapped[str] = mapped_column(String(200))
    thumbprint: Mapped[str] = mapped_column(String(64), unique=True)
    public_jwk: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    last_address: Mapped[str | None] = mapped_column(String(64))
    certified_until: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SignIn(Base):
    """A sign-in of a device (czctl): the family of its refresh tokens, which end together."""

    __tablename__ = "sign_ins"

    id: Mapped[str] = _id()
    user_id: Mapped[str] = _reference("users.id")
    device_id: Mapped[str] = _reference("devices.id")
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_as: Mapped[str | None] = mapped_column(String(32))


class RefreshToken(Base):
    """One of a sign-in's tokens, good once: its use makes the next one; a second use ends the sign-in."""

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = _id()
    sign_in_id: Mapped[str] = _reference("sign_ins.id")
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class BrowserSession(Base):
    """A signed-in browser: the hash of its cookie, and of the token its changes carry."""

    __tablename__ = "browser_sessions"

    id: Mapped[str] = _id()
    user_id: Mapped[str] = _reference("users.id")
    cookie_hash: Mapped[bytes] = mapped_column(unique=True)
    csrf_hash: Mapped[bytes]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    address: Mapped[str | None] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(300))


class OneTimeCode(Base):
    """Something good once and not for long: `first-owner`, `authorization`, `device`, `oidc`, `password`, `ticket`. `data` is what it stands for."""

    __tablename__ = "one_time_codes"

    id: Mapped[str] = _id()
    kind: Mapped[str] = mapped_column(String(32), index=True)
    code_hash: Mapped[bytes] = mapped_column(unique=True)
    # Of a device code: that of the short one a person types.
    second_hash: Mapped[bytes | None] = mapped_column(unique=True)
    user_id: Mapped[str | None] = mapped_column(String(_ULID_LENGTH), ForeignKey("users.id"))
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Space(Base):
    """A Teamspace. `state`: invited, certified, suspended, removed; whether it is reachable is told by `connected_at` and `seen_at`.

    `authority` is its intermediate's certificate (PEM), `fingerprint` its SHA-256 in hex: the only one the Hub believes. `serial` grows with all that
    changes its bundle.
    """

    __tablename__ = "spaces"
    __table_args__ = (Index("ix_spaces_organization_id_name", "organization_id", "name"),)

    id: Mapped[str] = _id()
    organization_id: Mapped[str] = _reference("organizations.id")
    name: Mapped[str] = mapped_column(String(63))
    state: Mapped[str] = mapped_column(String(16))
    host: Mapped[str | None] = mapped_column(String(253))
    port: Mapped[int | None]
    release: Mapped[str | None] = mapped_column(String(64))
    authority: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    join_hash: Mapped[bytes | None] = mapped_column(unique=True)
    join_expires_at: Mapped[datetime | None]
    policy_number: Mapped[int] = mapped_column(default=0)
    serial: Mapped[int] = mapped_column(default=0)
    # Asked to make itself new keys, because its old ones are believed no longer.
    rotate_at: Mapped[datetime | None]
    created_by: Mapped[str] = _reference("users.id", index=False)
    created_at: Mapped[datetime]
    certified_at: Mapped[datetime | None]
    connected_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    suspended_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class PolicyVersion(Base):
    """A version of a space's policy document; never changed. `compiled` is Cedar's JSON form, which Teamspaces get."""

    __tablename__ = "policy_versions"

    space_id: Mapped[str] = _reference("spaces.id", primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    organization_id: Mapped[str] = _reference("organizations.id")
    text: Mapped[str] = mapped_column(Text)
    compiled: Mapped[dict[str, Any]]
    comment: Mapped[str] = mapped_column(String(500), default="")
    author: Mapped[str] = _reference("users.id", index=False)
    created_at: Mapped[datetime]


class Picture(Base):
    """What a Teamspace told last: `catalog`, `presence`, `sessions`, as JSON bytes; for replicas of the Hub that do not hold its channel."""

    __tablename__ = "pictures"

    space_id: Mapped[str] = _reference("spaces.id", primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    organization_id: Mapped[str] = _reference("organizations.id")
    content: Mapped[bytes]
    at: Mapped[datetime]


class Order(Base):
    """What an administrator decided about a running Teamspace: the end of a session or variant (`subject`). It is here until a channel has told it."""

    __tablename__ = "orders"

    id: Mapped[str] = _id()
    space_id: Mapped[str] = _reference("spaces.id")
    organization_id: Mapped[str] = _reference("organizations.id", index=False)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]


class AuditEntry(Base):
    """A line of an organization's audit: numbered without gaps, each holding the hash of the one before. Added, never changed (T42).

    `source` is the id a Teamspace gave to an event it reports, so that nothing is told twice.
    """

    __tablename__ = "audit"
    __table_args__ = (
        UniqueConstraint("organization_id", "source", name="uq_audit_organization_source"),
        Index("ix_audit_organization_id_at", "organization_id", "at"),
    )

    organization_id: Mapped[str] = _reference("organizations.id", primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(_ULID_LENGTH), unique=True, default=new_ulid)
    at: Mapped[datetime]
    action: Mapped[str] = mapped_column(String(64), index=True)
    actor: Mapped[dict[str, Any]]
    target: Mapped[dict[str, Any]]
    outcome: Mapped[str] = mapped_column(String(16))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    address: Mapped[str | None] = mapped_column(String(64))
    request: Mapped[str | None] = mapped_column(String(64))
    source: Mapped[str | None] = mapped_column(String(64))
    before_hash: Mapped[bytes]
    hash: Mapped[bytes]


class AuditHead(Base):
    """Where an organization's audit ends, and where retention has cut it: entries up to `cut_number` are gone, the last of them had `cut_hash`."""

    __tablename__ = "audit_heads"

    organization_id: Mapped[str] = _reference("organizations.id", primary_key=True)
    number: Mapped[int] = mapped_column(default=0)
    hash: Mapped[bytes]
    cut_number: Mapped[int] = mapped_column(default=0)
    cut_hash: Mapped[bytes]


class Selection(Base):
    """What a user has selected with a client that keeps nothing itself, such as those of the original's Connect API."""

    __tablename__ = "selections"

    user_id: Mapped[str] = _reference("users.id", primary_key=True)
    organization_id: Mapped[str] = _reference("organizations.id", index=False)
    space_id: Mapped[str | None] = mapped_column(String(_ULID_LENGTH), ForeignKey("spaces.id"))


class Answered(Base):
    """An answer to a request with an `Idempotency-Key`: the same request again gets it again."""

    __tablename__ = "answered"

    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    # None while the first one is under way. Sealed: an answer may hold a key that is shown once.
    status: Mapped[int | None]
    sealed: Mapped[bytes | None]
    headers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(index=True)


class RelayReplica(Base):
    """A replica of the Hub that relays, by a ULID of its process; one that was not seen for some seconds is no more. Used with PostgreSQL alone."""

    __tablename__ = "relay_replicas"

    id: Mapped[str] = mapped_column(String(_ULID_LENGTH), primary_key=True)
    seen_at: Mapped[datetime]


class RelayMachine(Base):
    """At which replica a user's machine is connected, for the others."""

    __tablename__ = "relay_machines"

    user_id: Mapped[str] = mapped_column(String(_ULID_LENGTH), primary_key=True)
    machine: Mapped[str] = mapped_column(String(_ULID_LENGTH), primary_key=True)
    replica_id: Mapped[str] = mapped_column(String(_ULID_LENGTH), index=True)
    connection_id: Mapped[str] = mapped_column(String(_ULID_LENGTH))
    name: Mapped[str] = mapped_column(String(100))
    connected_at: Mapped[datetime]


class RelayPost(Base):
    """A word of a relayed question or answer on its way to another replica; gone when that has taken it. Sealed: it is between a page and its machine."""

    __tablename__ = "relay_posts"

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    replica_id: Mapped[str] = mapped_column(String(_ULID_LENGTH), index=True)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
