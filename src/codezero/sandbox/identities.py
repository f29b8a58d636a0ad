"""Development identities: what the Hub will issue, signed by an authority that is born with the sandbox and dies with it.

Hub root -> device issuer -> laptops; Hub root -> Teamspace -> System, Orchestrator and (signed by the System) Routers. Their files are those the
Teamspace's manifests mount.
"""

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from codezero.kit.certificates import Authority, Credentials
from codezero.model import access, ids
from codezero.model.ids import Device, TeamspaceId, Workload
from codezero.sandbox import layout
from codezero.wire.access_file import TeamspaceAccess

INSTALL = "sandbox.codezero"
ORGANIZATION_NAME = "sandbox"
USERS = ("dev1", "dev2")
# Longer than the Hub's day, because nobody renews a sandbox's access files.
DEVICE_LIFETIME = timedelta(days=7)
TOKEN_LIFETIME = timedelta(minutes=10)
ORCHESTRATOR_NAMES = (
    "orchestrator.codezero",
    "orchestrator.codezero.svc",
    f"orchestrator.codezero.svc.{layout.DOMAIN}",
)


@dataclass(frozen=True, slots=True)
class Identities:
    """All authorities and names of one sandbox."""

    teamspace: TeamspaceId
    organization: str
    root: Authority
    device_issuer: Authority
    teamspace_authority: Authority
    users: dict[str, Device]
    token_key: Ed25519PrivateKey = field(repr=False)
    token_key_id: str
    # Binds routes of Serve objects to the System; the same for the sandbox's life, for what was sealed must stay so.
    seal_key: str = field(repr=False)

    @staticmethod
    def create() -> "Identities":
        """Fresh identities for a sandbox."""
        root = Authority.create("codezero sandbox root (stand-in for a Hub)")
        organization = ids.new_ulid()
        users = {name: Device(INSTALL, organization, ids.new_ulid(), ids.new_ulid()) for name in USERS}
        return Identities(
            teamspace=TeamspaceId(ids.new_ulid()),
            organization=organization,
            root=root,
            device_issuer=root.issue_authority("codezero sandbox devices"),
            teamspace_authority=root.issue_authority("codezero sandbox Teamspace"),
            users=users,
            token_key=Ed25519PrivateKey.generate(),
            token_key_id=ids.new_ulid(),
            seal_key=secrets.token_hex(32),
        )

    @property
    def server_name(self) -> str:
        """The TLS server name of the Teamspace's one exposed port."""
        return f"{self.teamspace.lower()}.spaces.codezero.io"

    def system(self, lifetime: timedelta) -> Credentials:
        """A fresh leaf for the System: server of the tunnel port, client of the Orchestrator."""
        return self._workload("system", (self.server_name,), lifetime)

    def orchestrator(self, lifetime: timedelta) -> Credentials:
        """A fresh leaf for the Orchestrator."""
        return self._workload("orchestrator", ORCHESTRATOR_NAMES, lifetime)

    def secrets(self, lifetime: timedelta) -> dict[str, dict[str, str]]:
        """The content of the Teamspace's Secrets by name, with fresh leaves."""
        trust = {
            "ca.crt": self.teamspace_authority.certificate_pem,
            "device-issuer.crt": self.device_issuer.certificate_pem,
            "jwks.json": json.dumps({"keys": [self._public_token_key()]}),
        }
        system, orchestrator = self.system(lifetime), self.orchestrator(lifetime)
        return {
            "codezero-identity": {
                **trust,
                "system.crt": system.certificate_pem,
                "system.key": system.key_pem,
                "orchestrator.crt": orchestrator.certificate_pem,
                "orchestrator.key": orchestrator.key_pem,
                # The System's alone: it signs the Routers' certificates, and seals routes.
                "ca.key": self.teamspace_authority.credentials.key_pem,
                "seal.key": self.seal_key,
            }
        }

    def policy(self) -> str:
        """The Teamspace's policy as JSON: the sandbox's developers may do everything."""
        return msgspec.json.encode(access.allow_all(self.organization)).decode()

    def access(self, user: str) -> TeamspaceAccess:
        """A developer's access file, with a fresh device certificate."""
        device = self.users[user]
        leaf = self.device_issuer.issue(user, uris=[str(device)], lifetime=DEVICE_LIFETIME, client=True)
        return TeamspaceAccess(
            teamspace=self.teamspace,
            name=layout.TEAMSPACE_NAME,
            host=layout.NODE_ADDRESS,
            port=layout.TUNNEL_PORT,
            roots=self.teamspace_authority.certificate_pem,
            certificate=leaf.certificate_pem,
            key=leaf.key_pem,
            organization=ORGANIZATION_NAME,
            user=user,
        )

    def token(self, user: str) -> str:
        """A developer's token for the CONNECT door. A secret."""
        device = self.users[user]
        now = int(time.time())
        claims = {
            "iss": f"https://{INSTALL}",
            "sub": str(device),
            "aud": self.teamspace,
            "org": self.organization,
            "iat": now,
            "nbf": now,
            "exp": now + int(TOKEN_LIFETIME.total_seconds()),
            "jti": ids.new_ulid(),
        }
        header = {"alg": "EdDSA", "typ": "JWT", "kid": self.token_key_id}
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        return f"{signed}.{_encoded(self.token_key.sign(signed.encode()))}"

    def _public_token_key(self) -> dict[str, str]:
        point = self.token_key.public_key().public_bytes_raw()
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _encoded(point),
            "kid": self.token_key_id,
            "use": "sig",
            "alg": "EdDSA",
        }

    def _workload(self, role: str, names: tuple[str, ...], lifetime: timedelta) -> Credentials:
        return self.teamspace_authority.issue(
            role, uris=[str(Workload(self.teamspace, role))], dns=names, lifetime=lifetime, server=True, client=True
        )


def _encoded(content: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
