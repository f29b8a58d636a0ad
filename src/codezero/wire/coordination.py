"""Messages between Orchestrator, System and Daemon: msgpack, length-prefixed (`transport.messages`), additive across versions.

Each connection begins with a `Hello` of the client and a `Welcome` or `Goodbye` of the Orchestrator. State travels as one snapshot, possibly in
several parts, and deltas after it; both carry the revision after them. A client that returns with its last `epoch` and `revision` gets deltas
only, if the Orchestrator still has them. A client too slow for its queue gets a fresh snapshot instead of a backlog.
Unknown fields are ignored; unknown messages end the connection.
"""

from typing import Annotated

import msgspec

from codezero.model.ids import SessionId
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Activity, Presence
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.wire.tracing import TraceRecord

PROTOCOL_VERSIONS = (1,)
MAX_MESSAGE = 4 * 1024 * 1024
SNAPSHOT_PART = 1000  # services in one part of a snapshot

Name = Annotated[str, msgspec.Meta(max_length=253)]
Text = Annotated[str, msgspec.Meta(max_length=1000)]


class Message(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """Base of all coordination messages."""


# --- System -> Orchestrator -------------------------------------------------------------------------------------------------------------


class SystemHello(Message, frozen=True):
    """A System begins to report. `incarnation` is new at each start of the System."""

    versions: tuple[int, ...]
    release: Name
    incarnation: Name


class CatalogReport(Message, frozen=True):
    """What the cluster has. With `reset` everything reported before is dropped; the last part of a full report has `complete`.

    `stale_since` (UNIX seconds) says that the System cannot see the cluster at the moment; what it said last still stands.
    """

    upserts: tuple[Service, ...] = ()
    removes: tuple[ServiceRef, ...] = ()
    reset: bool = False
    complete: bool = True
    stale_since: float | None = None


class TunnelReport(Message, frozen=True):
    """A laptop's tunnel as the System sees it: `up`, or not heard of for longer than allowed or closed."""

    session: SessionId
    device: Name
    up: bool


class StreamRefused(Message, frozen=True):
    """A stream that the System refused a laptop, for the activity list. `service` is None when the id could not be parsed."""

    session: SessionId
    service: ServiceRef | None
    code: Name
    detail: Text


class OrderDone(Message, frozen=True):
    """What became of the order of that number. An empty `code` is success, else that of a `Problem`, with detail and fix.

    `effects` are side effects of serving that people should know, `taken` the variants of others that were replaced, `variant` the variant as it
    stands now (PutVariant), `ended` those that are gone (EndVariants). A preview answers as if it had been done.
    """

    order: int
    code: Name = ""
    detail: Text = ""
    fix: Text | None = None
    effects: tuple[Text, ...] = ()
    variant: VariantView | None = None
    taken: tuple[VariantView, ...] = ()
    ended: tuple[VariantView, ...] = ()


class VariantEnded(Message, frozen=True):
    """A variant ended without an order: expired, its laptop away for too long, its Service gone, or its object deleted."""

    service: ServiceRef
    variant: VariantView
    reason: Text


class TraceReport(Message, frozen=True):
    """Requests to variants, from the Routers, sent while a `TraceWanted` says so. `dropped` more were not told."""

    records: tuple[TraceRecord, ...]
    dropped: int = 0


class EntryReport(Message, frozen=True):
    """Where laptops connect to, for a Hub."""

    host: Name
    port: int


class RequestsCounted(Message, frozen=True):
    """How many requests variants have answered since the last report, by their ids; for a Hub."""

    counts: tuple[tuple[Name, int], ...]


# --- Daemon -> Orchestrator -------------------------------------------------------------------------------------------------------------


class DaemonHello(Message, frozen=True):
    """A laptop begins or resumes. `epoch` and `revision` say what it has of the picture.

    Who the laptop is, and its session, stand in `forwarding.Forwarded`: the System passes on what the tunnel proved, the laptop cannot choose it.
    `name` and `user_name` are what people are shown of the laptop and its user, and prove nothing.
    """

    versions: tuple[int, ...]
    release: Name
    name: Name
    epoch: Name | None = None
    revision: int = 0
    user_name: Name = ""


class ConsumeAssertion(Message, frozen=True):
    """Everything the laptop consumes now; replaces what it asserted before. Answered by `ConsumeDecisions`."""

    number: int
    services: tuple[ServiceRef, ...]


class ServeWanted(Message, frozen=True):
    """The laptop wants to serve `service`, or change the variant it has for the same condition; answered by `ServeAnswer`.

    `expires` is UNIX seconds, None for the longest allowed. With `preview` nothing is done. `restart` also restarts the service's own pods, so that
    connections opened before go through the Router.
    """

    number: int
    service: ServiceRef
    condition: tuple[ConditionPart, ...]
    ports: tuple[PortPair, ...]
    expires: float | None = None
    takeover: bool = False
    mirror: Mirror | None = None
    preview: bool = False
    restart: bool = False


class ServeEnding(Message, frozen=True):
    """End these variants of `service`: own ones, or with the permission for it those of others; answered by `ServeAnswer`."""

    number: int
    service: ServiceRef
    variants: tuple[Name, ...]
    reason: Text = ""


class Leave(Message, frozen=True):
    """The laptop ends its session on purpose; its variants end too."""


# --- Daemon -> Orchestrator -> System ----------------------------------------------------------------------------------------------------


class TraceWanted(Message, frozen=True):
    """Whether records of requests are wanted from now on: by a laptop about its own variants, by the Orchestrator about all."""

    on: bool


# --- Orchestrator -> clients ------------------------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """The session stands. `session` is the tunnel's; `epoch` is to be presented at the next connection; `features` are additive names."""

    version: int
    release: Name
    session: SessionId
    epoch: Name
    features: tuple[Name, ...] = ()


class Goodbye(Message, frozen=True):
    """The Orchestrator ends the connection, and why. With `retry` the client may come back."""

    code: Name
    detail: Text
    retry: bool


class CatalogSnapshot(Message, frozen=True):
    """A part of the whole catalog; drop the old picture at the first part. `part` counts from 0, the last has `last`.

    `closed` is why the laptop may see and consume nothing at all, where that is so; it holds until the next snapshot.
    """

    revision: int
    part: int
    last: bool
    services: tuple[Service, ...]
    stale_since: float | None = None
    closed: Text | None = None


class CatalogDelta(Message, frozen=True):
    """What changed since the revision before."""

    revision: int
    upserts: tuple[Service, ...] = ()
    removes: tuple[ServiceRef, ...] = ()
    stale_since: float | None = None


class ConsumeDecisions(Message, frozen=True):
    """The admission's answer to the assertion of that number: the services refused, each with its reason. All others are admitted."""

    number: int
    refused: tuple[tuple[ServiceRef, Text], ...] = ()


class ServeAnswer(Message, frozen=True):
    """What became of the `ServeWanted` or `ServeEnding` of that number; as `OrderDone`."""

    number: int
    code: Name = ""
    detail: Text = ""
    fix: Text | None = None
    effects: tuple[Text, ...] = ()
    variant: VariantView | None = None
    taken: tuple[VariantView, ...] = ()
    ended: tuple[VariantView, ...] = ()


class Traced(Message, frozen=True):
    """Requests to the laptop's own variants; `dropped` more were not told."""

    records: tuple[TraceRecord, ...]
    dropped: int = 0


# --- Orchestrator -> System --------------------------------------------------------------------------------------------------------------


class PutVariant(Message, frozen=True):
    """Make this variant a route of the service's Serve object; answered by `OrderDone`. Admission has been asked.

    A variant of the same user with the same condition is replaced, and keeps its id. One of another user is a conflict, unless `takeover`. With
    `preview` nothing is done.
    """

    order: int
    service: ServiceRef
    variant: VariantView
    takeover: bool = False
    preview: bool = False
    restart: bool = False


class EndVariants(Message, frozen=True):
    """Remove these routes of the service, whoever they belong to; answered by `OrderDone`. Ids that are not there are no mistake."""

    order: int
    service: ServiceRef
    variants: tuple[Name, ...]
    reason: Text = ""


class PolicyTold(Message, frozen=True):
    """The content of the policy file from now on, as the Hub has it."""

    content: bytes


class KeysTold(Message, frozen=True):
    """Whom to believe from now on, as the Hub says: `jwks` verifies tokens, `device_issuers` (PEM) are above the laptops."""

    jwks: Annotated[str, msgspec.Meta(max_length=64 * 1024)]
    device_issuers: Annotated[str, msgspec.Meta(max_length=64 * 1024)]


class RotationWanted(Message, frozen=True):
    """The Hub wants the Teamspace's authority to have another key. `since` (UNIX seconds) tells one wish from another."""

    since: float


class HubLinkTold(Message, frozen=True):
    """How the Orchestrator's channel to the Hub is; `reason` says why it does not stand."""

    connected: bool
    reason: Text = ""


class SessionEnded(Message, frozen=True):
    """A laptop's session is over by somebody's decision: its tunnel is to end, too."""

    session: SessionId
    reason: Text


class PresenceChanged(Message, frozen=True):
    """Laptops that came, changed or went; with `reset` these are all there are."""

    presences: tuple[Presence, ...]
    reset: bool = False


class ActivityHappened(Message, frozen=True):
    """Things that happened, oldest first. After a resume there may be a gap; the list is for people."""

    activities: tuple[Activity, ...]


class Ping(Message, frozen=True):
    """Either side shows that it lives; answered by nothing."""


FromSystem = (
    SystemHello
    | CatalogReport
    | TunnelReport
    | StreamRefused
    | OrderDone
    | VariantEnded
    | TraceReport
    | EntryReport
    | RequestsCounted
    | Ping
)
FromDaemon = DaemonHello | ConsumeAssertion | ServeWanted | ServeEnding | TraceWanted | Leave | Ping
ToDaemon = (
    Welcome
    | Goodbye
    | CatalogSnapshot
    | CatalogDelta
    | ConsumeDecisions
    | ServeAnswer
    | Traced
    | PresenceChanged
    | ActivityHappened
    | Ping
)
# What the Hub says, and the Orchestrator passes on.
FromHub = PolicyTold | KeysTold | RotationWanted | HubLinkTold | SessionEnded
ToSystem = Welcome | Goodbye | PutVariant | EndVariants | TraceWanted | FromHub | Ping
