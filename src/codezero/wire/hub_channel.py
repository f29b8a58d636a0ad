"""What a Teamspace and its Hub say to each other: three requests by HTTPS, and messages over one WebSocket, which the active Orchestrator keeps.

A message is one binary WebSocket message of msgpack, additive across versions. The Orchestrator begins with `Hello`; the Hub answers with `Welcome`,
then policy and keys, or with `Farewell`. Pictures begin with a reset and go on as changes. Events are kept by the Orchestrator until the Hub has
acknowledged them, and are sent again after a loss: their ids keep them from being told twice.
Unknown fields are ignored; unknown messages end the connection.
"""

from typing import Annotated, Final

import msgspec

from codezero.model.ids import SessionId
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Presence

PROTOCOL_VERSIONS: Final = (1,)
MAX_MESSAGE: Final = 4 * 1024 * 1024
CHANNEL_PATH_END: Final = "/channel"
# Of either side, while it has nothing else to say; silent for three times as long it is gone.
PING_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 3 * PING_SECONDS
HELLO_SECONDS: Final = 10.0
MAX_EVENTS: Final = 500  # in a message
MAX_CONSUMED: Final = 20  # in an event: so many of them fit into a message
MAX_PROOF: Final = 16 * 1024

JOIN_PATH: Final = "/api/v1/teamspaces/join"
PROOF_TYPE: Final = "codezero-teamspace-proof+jwt"
PROOF_SCHEME: Final = "Codezero-Proof"

Name = Annotated[str, msgspec.Meta(max_length=253)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Pem = Annotated[str, msgspec.Meta(max_length=64 * 1024)]
_Ulid = Annotated[str, msgspec.Meta(pattern=r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")]


def certificate_path(space: str) -> str:
    """Where a Teamspace has its authority signed anew."""
    return f"/api/v1/teamspaces/{space}/certificate"


def leave_path(space: str) -> str:
    """Where a Teamspace says that it is taken away."""
    return f"/api/v1/teamspaces/{space}/leave"


def channel_path(space: str) -> str:
    """Where the WebSocket is."""
    return f"/api/v1/teamspaces/{space}{CHANNEL_PATH_END}"


# --- requests ------------------------------------------------------------------------------------------------------------------------------


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster becomes the Teamspace of that token. `csr` (PKCS #10, PEM) holds the key of its authority, whose names are ignored."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    csr: Annotated[str, msgspec.Meta(max_length=8192)]
    release: Name = ""

    def __repr__(self) -> str:
        return "JoinRequest()"


class CertificateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Teamspace's authority is to be signed again: its key of before, or where the Hub asked for that another one."""

    csr: Annotated[str, msgspec.Meta(max_length=8192)]


class Certified(msgspec.Struct, frozen=True):
    """What the Hub has signed, and whom to believe from now on. `certificate` is the Teamspace's authority, `root` the one above it (PEM).

    `device_issuers` (PEM, one or more) are above the laptops, `jwks` verifies tokens, `policy` is the content of the policy file.
    """

    space: _Ulid
    organization: _Ulid
    name: Name
    certificate: _Pem
    root: _Pem
    device_issuers: _Pem
    jwks: _Pem
    policy: str


# --- Orchestrator -> Hub -------------------------------------------------------------------------------------------------------------------


class HubMessage(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """Base of all messages."""


class Hello(HubMessage, frozen=True):
    """The active Orchestrator is there. `epoch` is new whenever it has forgotten what it knew; `policy_serial` is of the policy it decides by.

    `host` and `port` are where laptops connect to, as far as that is known already.
    """

    versions: tuple[int, ...]
    release: Name
    epoch: Name
    policy_serial: int | None = None
    host: Name | None = None
    port: int | None = None


class EntryMoved(HubMessage, frozen=True):
    """Where laptops connect to has become known, or has changed."""

    host: Name
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]


class CatalogTold(HubMessage, frozen=True):
    """Services, with their variants, that came, changed or went; with `reset` what was told before is dropped, and `last` ends such a whole picture."""

    upserts: tuple[Service, ...] = ()
    removes: tuple[ServiceRef, ...] = ()
    reset: bool = False
    last: bool = True
    stale_since: float | None = None


class PresenceTold(HubMessage, frozen=True):
    """Laptops, with what they consume, that came, changed or went; as `CatalogTold`."""

    upserts: tuple[Presence, ...] = ()
    removes: tuple[SessionId, ...] = ()
    reset: bool = False
    last: bool = True


class Event(msgspec.Struct, frozen=True):
    """Something that belongs into the audit. `id` is a ULID and never used again; `number` grows by one within an epoch.

    `user` and `device` did it (ULIDs; empty: nobody but time and the Teamspace itself), `owner` is the user whose variant it is about. `count` says
    how many requests, where the event counts some; `consumed` is what a session that ended consumed.
    """

    id: _Ulid
    number: int
    at: float
    action: Name
    user: Name = ""
    device: Name = ""
    session: Name = ""
    service: ServiceRef | None = None
    variant: Name = ""
    owner: Name = ""
    detail: Text = ""
    count: int | None = None
    consumed: Annotated[tuple[ServiceRef, ...], msgspec.Meta(max_length=MAX_CONSUMED)] = ()


class Events(HubMessage, frozen=True):
    """Events, oldest first; answered by `Acknowledged`."""

    events: Annotated[tuple[Event, ...], msgspec.Meta(max_length=MAX_EVENTS)]


class Ping(HubMessage, frozen=True):
    """Either side shows that it lives; answered by nothing."""


# --- Hub -> Orchestrator -------------------------------------------------------------------------------------------------------------------


class Welcome(HubMessage, frozen=True):
    """The channel stands."""

    version: int
    release: Name


class PolicyPush(HubMessage, frozen=True):
    """The content of the policy file from now on; one with a lower serial never replaces it."""

    content: Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)]


class KeysPush(HubMessage, frozen=True):
    """Whom to believe from now on: `jwks` verifies tokens, `device_issuers` (PEM) are above the laptops."""

    jwks: _Pem
    device_issuers: _Pem


class EndSession(HubMessage, frozen=True):
    """End a laptop's session, and its variants with it."""

    session: Name
    reason: Text = ""


class EndVariant(HubMessage, frozen=True):
    """End a variant, whoever it belongs to."""

    variant: Name
    reason: Text = ""


class Rotate(HubMessage, frozen=True):
    """Make a new key for the Teamspace's authority: the one of before is to be believed no longer. `since` (UNIX seconds) tells one wish from another."""

    since: float


class Acknowledged(HubMessage, frozen=True):
    """Events up to that number of this epoch are kept for good."""

    upto: int


class Farewell(HubMessage, frozen=True):
    """The Hub ends the channel, and why. With `retry` the Orchestrator should come back."""

    code: Name
    detail: Text
    retry: bool


FromTeamspace = Hello | EntryMoved | CatalogTold | PresenceTold | Events | Ping
ToTeamspace = Welcome | PolicyPush | KeysPush | EndSession | EndVariant | Rotate | Acknowledged | Farewell | Ping
