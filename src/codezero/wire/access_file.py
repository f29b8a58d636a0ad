"""The Teamspace access file: what a laptop needs to connect to one Teamspace, as JSON.

The Hub issues it, without the key, which never leaves the device; where there is no Hub, whoever installed the Teamspace does. With the device's private
key in it: mode 0600, never in argv, logs or diagnostics.
"""

from typing import Annotated

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_SIZE = 64 * 1024

_Pem = Annotated[str, msgspec.Meta(max_length=16384, pattern=r"\A-----BEGIN ")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
_Ulid = Annotated[str, msgspec.Meta(pattern=r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class HubReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Hub that issued an access, and issues its next certificate; `ca` (PEM) are the only authorities to believe it by, where it has its own.

    `proxy` is the way to it that whoever selected the Teamspace has in their environment, which the Daemon does not see; it may hold a password.
    """

    url: Annotated[str, msgspec.Meta(max_length=300, pattern=r"\Ahttps?://")]
    ca: _Pem | None = None
    proxy: Annotated[str, msgspec.Meta(max_length=1000)] | None = None

    def __repr__(self) -> str:
        return f"HubReference({self.url!r})"


class TeamspaceAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a Teamspace is, whom to believe, and who we are there.

    `roots` are the Teamspace's certificate authorities, `certificate` is the device's chain, leaf first, `key` its private key (PEM). With a `hub`
    the certificate is renewed there by `device`.
    """

    teamspace: _Ulid
    name: _Name
    host: _Name
    port: _Port
    roots: _Pem
    certificate: _Pem
    key: _Pem
    organization: _Name = "sandbox"
    user: _Name = "developer"
    organization_id: _Ulid | None = None
    device: _Ulid | None = None
    hub: HubReference | None = None

    @property
    def server_name(self) -> str:
        """The TLS server name of the Teamspace's one exposed port."""
        return f"{self.teamspace.lower()}.spaces.codezero.io"

    def __repr__(self) -> str:
        return f"TeamspaceAccess({self.name!r}, {self.host}:{self.port})"


class IssuedAccess(msgspec.Struct, frozen=True):
    """What a Hub answers to a certificate request: all of an access but the key, which it has never seen. `organization` is an id, `user` a name."""

    space: _Ulid
    name: _Name
    organization: _Ulid
    user: _Name
    host: _Name
    port: _Port
    roots: _Pem
    certificate: _Pem

    def whole(self, *, key: str, hub: HubReference, device: str, organization_name: str) -> TeamspaceAccess:
        """The access of `device`, with the key (PEM) it was asked for with."""
        return TeamspaceAccess(
            teamspace=self.space,
            name=self.name,
            host=self.host,
            port=self.port,
            roots=self.roots,
            certificate=self.certificate,
            key=key,
            organization=organization_name,
            user=self.user,
            organization_id=self.organization,
            device=device,
            hub=hub,
        )


def decode(content: bytes) -> TeamspaceAccess:
    """The access that the bytes describe; raises `CodezeroError` naming the part that is wrong, and never quoting the content."""
    if len(content) > MAX_SIZE:
        raise CodezeroError(
            problems.TOO_LARGE, f"a Teamspace access file has at most {MAX_SIZE} bytes, this one {len(content)}"
        )
    try:
        return msgspec.json.decode(content, type=TeamspaceAccess)
    except msgspec.DecodeError as error:
        # msgspec names path and expected type, not the value.
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"not a Teamspace access file: {error}",
            fix="download it again, or make one with `czctl sandbox up`",
        ) from None
