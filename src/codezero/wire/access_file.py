"""The Teamspace access file: what a laptop needs to connect to one Teamspace, as JSON.

The Hub issues it (the sandbox does, until there is one). It holds the device's private key: mode 0600, never in argv, logs or diagnostics.
"""

from typing import Annotated

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_SIZE = 64 * 1024

_Pem = Annotated[str, msgspec.Meta(max_length=16384, pattern=r"\A-----BEGIN ")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]


class TeamspaceAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a Teamspace is, whom to believe, and who we are there.

    `roots` are the Teamspace's certificate authorities, `certificate` is the device's chain, leaf first, `key` its private key (PEM).
    """

    teamspace: Annotated[str, msgspec.Meta(pattern=r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")]
    name: _Name
    host: _Name
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    roots: _Pem
    certificate: _Pem
    key: _Pem
    organization: _Name = "sandbox"
    user: _Name = "developer"

    @property
    def server_name(self) -> str:
        """The TLS server name of the Teamspace's one exposed port."""
        return f"{self.teamspace.lower()}.spaces.codezero.io"

    def __repr__(self) -> str:
        return f"TeamspaceAccess({self.name!r}, {self.host}:{self.port})"


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
