"""The identities of a Teamspace that no Hub looks after: what issues them outside its cluster, and what of them is put into it.

    root -> device issuer -> laptops                      keys outside the cluster, where a Hub's would be: with whoever installed it
    root -> Teamspace -> System, Orchestrator, Routers    this key in the cluster, so that nobody outside is needed to go on

The files of Secret `codezero-identity` are those that the Teamspace's pods mount.
"""

import base64
import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from codezero.deploy.access import JOIN
from codezero.deploy.manifest import Json, manifest
from codezero.deploy.objects import ENTRY, IDENTITY, POLICY
from codezero.kit import certificates
from codezero.kit.certificates import Authority, CertificateError, Credentials
from codezero.model import access, ids, problems
from codezero.model.access import Policy
from codezero.model.ids import Device, TeamspaceId, Workload
from codezero.model.problems import CodezeroError
from codezero.wire import policy_file
from codezero.wire.access_file import TeamspaceAccess

ROLES: Final = ("system", "orchestrator")
# Those of a new Teamspace: it may be installed in the evening, find its images in the morning, and everybody still believes everybody at once. The
# System then replaces them by its own, which live an hour.
FIRST_LEAF_LIFETIME: Final = timedelta(hours=24)
TOKEN_LIFETIME: Final = timedelta(minutes=10)
# Where a Hub has signed the authority: its root, and the key that the authority will have, on the way to being signed.
ROOT: Final = "root.crt"
NEXT_KEY: Final = "next.key"
# In the ConfigMap of the policy, for whoever looks from outside.
HUB_STATE: Final = "hub.json"
# As kubeadm's: nobody is there to sign a new one while the keys lie on somebody's laptop.
AUTHORITY_LIFETIME: Final = timedelta(days=3650)
_BELOW_ROOT: Final = AUTHORITY_LIFETIME - timedelta(days=1)
_DOMAIN: Final = "cluster.local"
_FILE_API: Final = "codezero.io/authorities/v1"


class HubState(msgspec.Struct, frozen=True):
    """How a Teamspace stands with its Hub, as the leading System says. `connected` is the Orchestrator's channel; `reason` says what is waited for."""

    url: str
    joined: bool = False
    connected: bool = False
    reason: str = ""
    fix: str = ""


def hub_state(policy: Json | None) -> HubState | None:
    """What ConfigMap `codezero-policy` says about the Hub; None where it says nothing."""
    data: Json = (policy or {}).get("data") or {}
    try:
        return msgspec.json.decode(str(data[HUB_STATE]), type=HubState)
    except (KeyError, msgspec.DecodeError):
        return None


@dataclass(frozen=True, slots=True)
class Issuers:
    """What signs for one Teamspace from outside its cluster. Whoever has it can be anybody there.

    `install` is the trust domain of its devices. `users` are the ULIDs of those who have been given access, by name.
    """

    teamspace: TeamspaceId
    name: str
    install: str
    organization: str
    root: Authority = field(repr=False)
    device_issuer: Authority = field(repr=False)
    token_key: Ed25519PrivateKey = field(repr=False)
    token_key_id: str
    users: Mapping[str, str]

    @staticmethod
    def create(name: str, *, install: str | None = None, authority_lifetime: timedelta = _BELOW_ROOT) -> "Issuers":
        """Fresh ones, for a Teamspace that is called `name` by people."""
        teamspace = TeamspaceId(ids.new_ulid())
        root = Authority.create(f"codezero {name} root", lifetime=AUTHORITY_LIFETIME)
        return Issuers(
            teamspace=teamspace,
            name=name,
            install=install or f"{teamspace.lower()}.standalone.codezero",
            organization=ids.new_ulid(),
            root=root,
            device_issuer=root.issue_authority(f"codezero {name} devices", lifetime=authority_lifetime),
            token_key=Ed25519PrivateKey.generate(),
            token_key_id=ids.new_ulid(),
            users={},
        )

    @property
    def server_name(self) -> str:
        """The TLS server name of the Teamspace's one exposed port."""
        return server_name(self.teamspace)

    def with_user(self, user: str) -> "Issuers":
        """These, knowing `user`: who is given access again stays the same user to policies."""
        return self if user in self.users else replace(self, users={**self.users, user: ids.new_ulid()})

    def new_device(self, user: str) -> Device:
        """A further laptop of a user who is known here."""
        return Device(self.install, self.organization, self.users[user], ids.new_ulid())

    def keys(self, *, authority_lifetime: timedelta = _BELOW_ROOT) -> "TeamspaceKeys":
        """Fresh keys for the cluster; nobody else is to keep them."""
        authority = self.root.issue_authority(f"codezero {self.name} Teamspace", lifetime=authority_lifetime)
        return TeamspaceKeys(authority, secrets.token_hex(32))

    def access(
        self, user: str, device: Device, *, host: str, port: int, roots: str, lifetime: timedelta, organization: str
    ) -> TeamspaceAccess:
        """The access file of a laptop, with a fresh certificate; `roots` is the authority above the Teamspace's parts (PEM)."""
        left = self.device_issuer.certificate.not_valid_after_utc - datetime.now(UTC)
        leaf = self.device_issuer.issue(user, uris=[str(device)], lifetime=min(lifetime, left), client=True)
        return TeamspaceAccess(
            teamspace=self.teamspace,
            name=self.name,
            host=host,
            port=port,
            roots=roots,
            certificate=leaf.certificate_pem,
            key=leaf.key_pem,
            organization=organization,
            user=user,
        )

    def token(self, device: Device, *, now: float) -> str:
        """A token for the CONNECT door, good for ten minutes from `now` (UNIX seconds). A secret."""
        claims = {
            "iss": f"https://{self.install}",
            "sub": str(device),
            "aud": self.teamspace,
            "org": self.organization,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + int(TOKEN_LIFETIME.total_seconds()),
            "jti": ids.new_ulid(),
        }
        header = {"alg": "EdDSA", "typ": "JWT", "kid": self.token_key_id}
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        return f"{signed}.{_encoded(self.token_key.sign(signed.encode()))}"

    def public_token_keys(self) -> str:
        """The key set (JWKS) by which tokens are verified."""
        key = {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _encoded(self.token_key.public_key().public_bytes_raw()),
            "kid": self.token_key_id,
            "use": "sig",
            "alg": "EdDSA",
        }
        return json.dumps({"keys": [key]})

    def default_policy(self) -> Policy:
        """Everybody who has been given access may do everything."""
        return access.allow_all(self.organization)


@dataclass(frozen=True, slots=True, repr=False)
class TeamspaceKeys:
    """What lives in the cluster alone: the authority of its parts, and the key that binds routes of Serve objects to the System.

    The latter never changes, for what was sealed must stay so.
    """

    authority: Authority
    seal_key: str


def server_name(teamspace: TeamspaceId) -> str:
    """The TLS server name of a Teamspace's one exposed port."""
    return f"{teamspace.lower()}.spaces.codezero.io"


def leaf(
    authority: Authority, teamspace: TeamspaceId, role: str, *, namespace: str, lifetime: timedelta
) -> Credentials:
    """Fresh credentials for a part: the System serves the tunnel port, the Orchestrator its Service in `namespace`; both are clients too.

    Never longer than the authority lives: a certificate that outlives it would be refused by everybody, without a word why.
    """
    service = f"{role}.{namespace}.svc"
    names = {
        "system": (server_name(teamspace),),
        # The first is what Systems ask for, whatever the namespace is called. A Hub lets an authority sign these and no others.
        "orchestrator": (f"{role}.codezero", service, f"{service}.{_DOMAIN}"),
    }
    left = authority.certificate.not_valid_after_utc - datetime.now(UTC)
    if left <= timedelta(0):
        raise CodezeroError(problems.BAD_IDENTITY, "the Teamspace's authority (ca.crt) has expired")
    return authority.issue(
        role,
        uris=[str(Workload(teamspace, role))],
        dns=names[role],
        lifetime=min(lifetime, left),
        server=True,
        client=True,
    )


def secret(
    issuers: Issuers, keys: TeamspaceKeys, *, namespace: str, lifetime: timedelta = FIRST_LEAF_LIFETIME
) -> dict[str, str]:
    """The content of Secret `codezero-identity`, with fresh leaves."""
    leaves = {
        role: leaf(keys.authority, issuers.teamspace, role, namespace=namespace, lifetime=lifetime) for role in ROLES
    }
    return {
        "ca.crt": keys.authority.certificate_pem,
        "device-issuer.crt": issuers.device_issuer.certificate_pem,
        "jwks.json": issuers.public_token_keys(),
        # The System's alone: it signs the certificates of all parts, and seals routes.
        "ca.key": keys.authority.credentials.key_pem,
        "seal.key": keys.seal_key,
        **{file: text for role, own in leaves.items() for file, text in leaf_files(role, own).items()},
    }


def teamspace_of(content: Mapping[str, str]) -> TeamspaceId:
    """The Teamspace that the Secret's certificates name, also when they have run out; raises `CodezeroError` (BAD_IDENTITY) where none does."""
    for role in ROLES:
        try:
            certificate = x509.load_pem_x509_certificate(content.get(f"{role}.crt", "").encode())
            return Workload.parse(*certificates.uris_of(certificate.public_bytes(serialization.Encoding.DER))).teamspace
        except (ValueError, TypeError, CodezeroError):
            continue
    raise CodezeroError(problems.BAD_IDENTITY, f"no certificate in Secret {IDENTITY} says which Teamspace it is of")


def ends(content: Mapping[str, str]) -> dict[str, datetime]:
    """When the certificates of the Teamspace's parts, and the authority above them, end."""
    found: dict[str, datetime] = {}
    for name in ("ca.crt", *(f"{role}.crt" for role in ROLES)):
        with contextlib.suppress(ValueError):
            found[name] = x509.load_pem_x509_certificate(content.get(name, "").encode()).not_valid_after_utc
    return found


def leaf_files(role: str, credentials: Credentials) -> dict[str, str]:
    """The credentials of a part as entries of the Secret."""
    return {f"{role}.crt": credentials.certificate_pem, f"{role}.key": credentials.key_pem}


def secret_object(content: Mapping[str, str], *, namespace: str) -> Json:
    """The Secret as a Kubernetes object."""
    data = {name: base64.b64encode(text.encode()).decode() for name, text in content.items()}
    return manifest("v1", "Secret", IDENTITY, component=ENTRY, namespace=namespace, type="Opaque", data=data)


def join_object(token: str, *, namespace: str) -> Json:
    """The Secret with the token by which a Teamspace joins its Hub, for the System to take it out of there. A secret."""
    data = {"token": base64.b64encode(token.encode()).decode()}
    return manifest("v1", "Secret", JOIN, component=ENTRY, namespace=namespace, type="Opaque", data=data)


def secret_content(secret: Json) -> dict[str, str]:
    """The entries of the Secret as texts; what is no text is left out."""
    found: dict[str, str] = {}
    data: Json = secret.get("data") or {}
    for name, value in data.items():
        with contextlib.suppress(ValueError, TypeError):
            found[name] = base64.b64decode(value, validate=True).decode()
    return found


def policy_object(policy: Policy, *, namespace: str) -> Json:
    """The policy as a Kubernetes object."""
    data = {"policy.json": policy_file.encode(policy).decode()}
    return manifest("v1", "ConfigMap", POLICY, component=ENTRY, namespace=namespace, data=data)


class _Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str
    key: str

    def __repr__(self) -> str:
        return "_Pair()"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    api: str
    teamspace: str
    name: str
    install: str
    organization: str
    root: _Pair
    device_issuer: _Pair
    token_key: str
    token_key_id: str
    users: dict[str, str]

    def __repr__(self) -> str:
        return f"_File({self.teamspace})"


def encode(issuers: Issuers) -> bytes:
    """The issuers as a file. A secret: mode 0600, in no cluster."""
    token_key = issuers.token_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = _File(
        api=_FILE_API,
        teamspace=issuers.teamspace,
        name=issuers.name,
        install=issuers.install,
        organization=issuers.organization,
        root=_pair(issuers.root),
        device_issuer=_pair(issuers.device_issuer),
        token_key=token_key.decode(),
        token_key_id=issuers.token_key_id,
        users=dict(issuers.users),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def decode(content: bytes) -> Issuers:
    """The issuers of a file; raises `CodezeroError` naming the part that is wrong, and never quoting the content."""
    try:
        file = msgspec.json.decode(content, type=_File)
        if file.api != _FILE_API:
            raise CodezeroError(
                problems.BAD_REQUEST, f"the file's form is {file.api[:60]!r}, this program knows {_FILE_API}"
            )
        token_key = serialization.load_pem_private_key(file.token_key.encode(), password=None)
        if not isinstance(token_key, Ed25519PrivateKey):
            raise CertificateError("token_key is not an Ed25519 key")
        return Issuers(
            teamspace=TeamspaceId(file.teamspace),
            name=file.name,
            install=file.install,
            organization=file.organization,
            root=_authority(file.root),
            device_issuer=_authority(file.device_issuer),
            token_key=token_key,
            token_key_id=file.token_key_id,
            users=file.users,
        )
    except (msgspec.DecodeError, CertificateError, ValueError, TypeError) as error:
        # msgspec and cryptography name path and form, not the value.
        raise CodezeroError(problems.BAD_REQUEST, f"not the authorities of a Teamspace: {error}") from None


def _pair(authority: Authority) -> _Pair:
    return _Pair(authority.credentials.certificate_pem, authority.credentials.key_pem)


def _authority(pair: _Pair) -> Authority:
    return Authority(Credentials.from_pem(pair.certificate, pair.key))


def _encoded(content: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
