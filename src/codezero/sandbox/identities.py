"""Identities of a sandbox: those of a Teamspace without a Hub, made when it starts and gone with it; and two developers who are always the same."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

from codezero.deploy import identity
from codezero.deploy.identity import Issuers, TeamspaceKeys
from codezero.model.access import Policy
from codezero.model.ids import Device, TeamspaceId
from codezero.sandbox import layout
from codezero.wire.access_file import TeamspaceAccess

INSTALL = "sandbox.codezero"
ORGANIZATION_NAME = "sandbox"
USERS = ("dev1", "dev2")
# Longer than the Hub's day, because nobody renews a sandbox's access files.
DEVICE_LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Identities:
    """All authorities and names of one sandbox."""

    issuers: Issuers
    users: dict[str, Device]
    keys: TeamspaceKeys = field(repr=False)

    @staticmethod
    def create() -> "Identities":
        """Fresh identities for a sandbox."""
        issuers = Issuers.create(layout.TEAMSPACE_NAME, install=INSTALL)
        for name in USERS:
            issuers = issuers.with_user(name)
        return Identities(issuers, {name: issuers.new_device(name) for name in USERS}, issuers.keys())

    @property
    def teamspace(self) -> TeamspaceId:
        """The sandbox's Teamspace."""
        return self.issuers.teamspace

    def secret(self) -> dict[str, str]:
        """The content of the Teamspace's Secret, with fresh leaves."""
        return identity.secret(self.issuers, self.keys, namespace=layout.TEAMSPACE_NAMESPACE)

    def policy(self) -> Policy:
        """The Teamspace's policy: the sandbox's developers may do everything."""
        return self.issuers.default_policy()

    def access(self, user: str) -> TeamspaceAccess:
        """A developer's access file, with a fresh device certificate."""
        return self.issuers.access(
            user,
            self.users[user],
            host=layout.NODE_ADDRESS,
            port=layout.TUNNEL_PORT,
            roots=self.keys.authority.certificate_pem,
            lifetime=DEVICE_LIFETIME,
            organization=ORGANIZATION_NAME,
        )

    def token(self, user: str) -> str:
        """A developer's token for the CONNECT door. A secret."""
        return self.issuers.token(self.users[user], now=time.time())
