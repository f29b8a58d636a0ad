"""Requests and answers of the Daemon's local API: HTTP/1.1 with JSON over the UNIX socket `/run/codezero/daemon.sock`.

The socket is 0600 and belongs to the user who started the Daemon; peers are checked by their credentials on every connection. Requests that
carry `Origin` or `Referer`, or a Host other than `HOST`, are refused (security.md 5). Bodies are at most `MAX_BODY` bytes of `application/json`.
Errors are `problem_json`.

    GET    /v1/status                  StatusView
    PUT    /v1/teamspace               access_file.TeamspaceAccess -> StatusView   (replaces; DELETE forgets it)
    GET    /v1/services                ServicesView
    GET    /v1/consume                 ConsumeView
    PUT    /v1/consume                 ConsumeChange -> ConsumeView
    POST   /v1/consume/test            ConsumeChange -> ConsumeView     (what it would do; changes nothing)
    PUT    /v1/primary-namespace       PrimaryNamespaceChange -> ConsumeView
    GET    /v1/serve                   ServesView                       (what this laptop serves)
    POST   /v1/serve                   ServeChange -> ServeResult       (preview: changes nothing)
    POST   /v1/serve/end               ServeEnd -> ServeResult
    GET    /v1/traces                  newline-delimited JSON of TraceLine, until the client leaves
    GET    /v1/presence                PresenceView
    GET    /v1/activity                ActivityView
    GET    /v1/events                  newline-delimited JSON of Event, until the client leaves
    POST   /v1/reset                   ConsumeView                      (ends everything the user consumes and serves)
    POST   /v1/shutdown                StatusView                       (stops Daemon and Supervisor, puts the machine back)
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Activity, Presence
from codezero.model.variants import ConditionPart, Mirror, PortPair, ServingState, VariantState, VariantView
from codezero.wire.tracing import MirrorRecord, TraceRecord

API_VERSION = "codezero.io/local/v1"
HOST = "daemon.codezero"
MAX_BODY = 1024 * 1024
DEFAULT_RUN_FOLDER = "/run/codezero"
SOCKET_NAME = "daemon.sock"
# Where the Daemon keeps what must outlive it: rules, virtual addresses, the selected Teamspace. Root-owned, 0700.
DEFAULT_STATE_FOLDER = "/var/lib/codezero"


class TunnelState(StrEnum):
    """How the tunnel is: `none` without a Teamspace; `connecting` before the first success and after a loss."""

    NONE = "none"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Severity(StrEnum):
    """How much a health warning matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class HealthWarning(msgspec.Struct, frozen=True):
    """One thing that is not as it should be: a stable code, its severity, a line for people, and the next step."""

    code: str
    severity: Severity
    text: str
    fix: str | None = None


class TeamspaceView(msgspec.Struct, frozen=True):
    """The Teamspace the Daemon connects to, and as which device of whom."""

    id: str
    name: str
    address: str
    organization: str
    user: str
    user_id: str = ""
    organization_id: str | None = None
    device: str | None = None


class HubState(StrEnum):
    """How the Hub is: `unknown` until it was asked for the first time; `refused` when it knows this laptop no more."""

    UNKNOWN = "unknown"
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


class HubView(msgspec.Struct, frozen=True):
    """The Hub that renews this laptop's certificate. Times are UNIX seconds; `cause` says why it is not reachable, or what it refuses."""

    url: str
    state: HubState
    asked: float | None = None
    cause: str | None = None
    certificate_until: float | None = None


class TunnelView(msgspec.Struct, frozen=True):
    """The tunnel. Times are UNIX seconds; `silent_for` is seconds since the last byte; `cause` says why it is not connected."""

    state: TunnelState
    session: str | None = None
    since: float | None = None
    silent_for: float | None = None
    streams: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    reconnects: int = 0
    cause: str | None = None
    next_attempt_in: float | None = None


class OrchestratorView(msgspec.Struct, frozen=True):
    """The live picture: whether it is current, and since when it is not (`stale_since`, UNIX seconds)."""

    connected: bool
    epoch: str | None = None
    revision: int = 0
    services: int = 0
    stale_since: float | None = None


class HostView(msgspec.Struct, frozen=True):
    """How the machine is set up: `capture` is `nftables` or `listeners`; `names` is `resolv.conf`, `hosts` or `none`."""

    capture: str
    names: str
    dns: str | None
    captured_ports: int
    published_names: int


class StatusView(msgspec.Struct, frozen=True):
    """Everything `czctl status` shows."""

    release: str
    pid: int
    started: float
    supervised: bool
    tunnel: TunnelView
    orchestrator: OrchestratorView
    host: HostView
    consumed: int
    rules: int
    primary_namespace: str | None = None
    teamspace: TeamspaceView | None = None
    served: int = 0
    warnings: tuple[HealthWarning, ...] = ()
    hub: HubView | None = None
    api: str = API_VERSION


class ServicesView(msgspec.Struct, frozen=True):
    """The catalog, sorted by namespace and name. `stale_since` (UNIX seconds) says that it may be old."""

    services: tuple[Service, ...]
    stale_since: float | None = None
    api: str = API_VERSION


class ConsumeState(StrEnum):
    """How a consumed service is: `enabled`, `unready` (no ready endpoint), `refused` by policy, `conflict` on this machine, `pending` a decision."""

    ENABLED = "enabled"
    UNREADY = "unready"
    REFUSED = "refused"
    CONFLICT = "conflict"
    PENDING = "pending"


class ConsumedService(msgspec.Struct, frozen=True):
    """A service the rules let in: its virtual address, the names it answers to (shortest first), and its consumed ports."""

    service: ServiceRef
    state: ConsumeState
    address: str | None
    names: tuple[str, ...]
    ports: tuple[int, ...]
    sessions: int = 0
    reason: str | None = None


class ConsumeView(msgspec.Struct, frozen=True):
    """The rules as written, and what they let in, sorted."""

    rules: tuple[str, ...]
    primary_namespace: str | None
    consumed: tuple[ConsumedService, ...]
    warnings: tuple[HealthWarning, ...] = ()
    api: str = API_VERSION


class ConsumeChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New rules, one per item as in a rules file (comments and blanks allowed).

    They replace the old ones, or come after them with `append`. `primary_namespace` absent leaves it, null clears it.
    """

    rules: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=300)], ...], msgspec.Meta(max_length=10000)]
    append: bool = False
    primary_namespace: str | msgspec.UnsetType | None = msgspec.UNSET


class PrimaryNamespaceChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The namespace whose services answer to their bare names, or null for none."""

    namespace: str | None


class ServedVariant(msgspec.Struct, frozen=True):
    """One variant of this laptop: what it answers, how it and its service fare, and `curl`, a command that reaches it (None where there is none).

    `requests` counts streams that came so far, `failed` those for which the local process could not be reached.
    """

    service: ServiceRef
    variant: VariantView
    state: VariantState
    serving: ServingState
    detail: str = ""
    curl: str | None = None
    requests: int = 0
    failed: int = 0


class ServesView(msgspec.Struct, frozen=True):
    """What this laptop serves, sorted by service and then by precedence."""

    serves: tuple[ServedVariant, ...]
    api: str = API_VERSION


class ServeChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Serve `service` (`namespace/name`): as `coordination.ServeWanted`. `expires_in` is seconds from now, None for the longest allowed."""

    service: Annotated[str, msgspec.Meta(max_length=200)]
    ports: Annotated[tuple[PortPair, ...], msgspec.Meta(min_length=1, max_length=64)]
    condition: Annotated[tuple[ConditionPart, ...], msgspec.Meta(max_length=16)] = ()
    expires_in: Annotated[float, msgspec.Meta(gt=0)] | None = None
    takeover: bool = False
    mirror: Mirror | None = None
    preview: bool = False
    restart: bool = False


class ServeEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End variants of `service`: those of `variants`, or all of this laptop's where none is named. `reason` is told to their owners."""

    service: Annotated[str, msgspec.Meta(max_length=200)]
    variants: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=26)], ...], msgspec.Meta(max_length=100)] = ()
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class ServeResult(msgspec.Struct, frozen=True):
    """What a serve or its end did, or would do (preview): the variant as it stands, side effects, and whose variants gave way or ended."""

    served: ServedVariant | None = None
    effects: tuple[str, ...] = ()
    taken: tuple[VariantView, ...] = ()
    ended: tuple[VariantView, ...] = ()
    api: str = API_VERSION


class TraceLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of `/v1/traces`: a request or connection, or a mirrored one; `dropped` counts what was not told before it."""

    record: TraceRecord | None = None
    mirror: MirrorRecord | None = None
    dropped: int = 0


class PresenceView(msgspec.Struct, frozen=True):
    """The laptops connected to the Teamspace."""

    presences: tuple[Presence, ...]
    api: str = API_VERSION


class ActivityView(msgspec.Struct, frozen=True):
    """The latest activity, oldest first."""

    activities: tuple[Activity, ...]
    api: str = API_VERSION


class Event(msgspec.Struct, frozen=True):
    """One line of `/v1/events`: what part of the picture changed, and the thing itself.

    `what` is `status`, `services`, `consume`, `serve` (what this laptop serves), `presence` or `activity`.
    `gap` says that the client was too slow and changes were skipped: read the views again.
    """

    what: str
    at: float
    activity: Activity | None = None
    gap: bool = False
