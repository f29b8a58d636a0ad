"""What whoever installs a Teamspace may choose: the values of the Helm chart and of `czctl teamspace install`.

Names are those of the original's chart where the feature is the same. What is not known here is refused, also one level down: a setting that does
nothing would be believed to do something.
"""

import ipaddress
from enum import StrEnum
from typing import Annotated, Any, Final, cast

import msgspec
import yaml

from codezero import __version__
from codezero.model import problems
from codezero.model.problems import CodezeroError

Json = dict[str, Any]

MAX_SIZE: Final = 256 * 1024
EVERY_NAMESPACE: Final = "*"

_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_Repository = Annotated[
    str,
    msgspec.Meta(
        # A host with or without a port, and a path in lower case.
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
        max_length=255,
    ),
]
_Tag = Annotated[
    str, msgspec.Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127}(@sha256:[0-9a-f]{64})?)?$", max_length=200)
]
_Quantity = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?([eE][0-9]+|[mkMGTPE]|[KMGTPE]i)?$", max_length=20)]
_Replicas = Annotated[int, msgspec.Meta(ge=1, le=20)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Name = Annotated[str, msgspec.Meta(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
_Namespace = Annotated[str, msgspec.Meta(pattern=rf"^(\*|{_LABEL})$", max_length=63)]
_Domain = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?(=private)?$",
        max_length=253,
    ),
]
_Network = Annotated[
    str, msgspec.Meta(pattern=r"^([0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?|[0-9a-f:]*:[0-9a-f:.]*(/[0-9]{1,3})?)$")
]
_ExternalHost = Annotated[
    str,
    msgspec.Meta(pattern=r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)?$", max_length=253),
]


class PullPolicy(StrEnum):
    """When a node asks the registry for an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class LogLevel(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServiceType(StrEnum):
    """How the one exposed port is reached from outside."""

    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"
    CLUSTER_IP = "ClusterIP"


class TrafficPolicy(StrEnum):
    """Which nodes take connections from outside: all, or those with a System."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Image(_Part, frozen=True):
    """An image. No tag means the version of this package, the one that fits; `tag@sha256:…` pins it."""

    repository: _Repository
    tag: _Tag = ""

    @property
    def reference(self) -> str:
        """As pods name it."""
        return f"{self.repository}:{self.tag or __version__}"


class PulledImage(Image, frozen=True):
    """An image of pods that we install ourselves."""

    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT


class Resources(_Part, frozen=True):
    """What a container is given, as Kubernetes says it."""

    requests: dict[str, _Quantity | int | float] = {}
    limits: dict[str, _Quantity | int | float] = {}


class System(_Part, frozen=True):
    """The System: the laptops' end in the cluster."""

    replicas: _Replicas = 2
    log_level: LogLevel = LogLevel.INFO
    # 2,000 tunnels take about 1 GB.
    resources: Resources = Resources({"cpu": "100m", "memory": "128Mi"}, {"memory": "1Gi"})


class Orchestrator(_Part, frozen=True):
    """The Orchestrator: the live picture. One works, the others wait for its end."""

    replicas: _Replicas = 2
    log_level: LogLevel = LogLevel.INFO
    resources: Resources = Resources({"cpu": "50m", "memory": "96Mi"}, {"memory": "512Mi"})


class Router(_Part, frozen=True):
    """The Routers, which the System makes in the namespaces of served services."""

    image: Image = Image("codezero-router")
    replicas: _Replicas = 2
    linger: Annotated[int, msgspec.Meta(ge=0, le=7 * 86400)] = 1800


class Entry(_Part, frozen=True):
    """The Service `codezero`: the one port that is exposed."""

    type: ServiceType = ServiceType.LOAD_BALANCER
    node_port: _Port | None = None
    annotations: dict[str, str] = {}
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    external_host: _ExternalHost = ""
    external_port: _Port = 8800

    def __post_init__(self) -> None:
        if self.node_port is not None and self.type is not ServiceType.NODE_PORT:
            raise ValueError("nodePort has a meaning for type NodePort alone")
        if reserved := sorted(name for name in self.annotations if name.startswith("codezero.io/")):
            raise ValueError(f"annotations of codezero.io are ours: {', '.join(reserved)}")


class Serving(_Part, frozen=True):
    """What may be served."""

    namespaces: Annotated[tuple[_Namespace, ...], msgspec.Meta(max_length=500)] = ()

    def __post_init__(self) -> None:
        if EVERY_NAMESPACE in self.namespaces and len(self.namespaces) > 1:
            raise ValueError("`*` means all namespaces, and stands alone")
        if len(set(self.namespaces)) < len(self.namespaces):
            raise ValueError("a namespace is named twice")

    @property
    def is_everywhere(self) -> bool:
        """Whether Services of all namespaces may be served."""
        return EVERY_NAMESPACE in self.namespaces


class PullSecret(_Part, frozen=True):
    """A Secret of the Teamspace's namespace that the registry wants."""

    name: _Name


class Toleration(_Part, frozen=True, omit_defaults=True):
    """Which taint of a node our pods tolerate."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class Affinity(_Part, frozen=True, omit_defaults=True):
    """Where our pods want to run, as Kubernetes says it."""

    node_affinity: dict[str, Any] = {}
    pod_affinity: dict[str, Any] = {}
    pod_anti_affinity: dict[str, Any] = {}


class Values(_Part, frozen=True):
    """All values of a Teamspace. The defaults let laptops consume; to serve, name `serve.namespaces`."""

    image: PulledImage = PulledImage("codezero-teamspace")
    image_pull_secrets: tuple[PullSecret, ...] = ()
    system: System = System()
    orchestrator: Orchestrator = Orchestrator()
    router: Router = Router()
    service: Entry = Entry()
    serve: Serving = Serving()
    allowed_domains: tuple[_Domain, ...] = ()
    allowed_networks: tuple[_Network, ...] = ()
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity = Affinity()

    def __post_init__(self) -> None:
        for network in self.allowed_networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"allowedNetworks: {error}; write it like 10.0.0.0/24") from None


def from_yaml(text: str) -> Values:
    """The values that a file says, above the defaults as Helm has it: maps merge, all else replaces. Raises `CodezeroError` naming the path."""
    if len(text) > MAX_SIZE:
        raise CodezeroError(problems.TOO_LARGE, f"values have at most {MAX_SIZE} characters, these {len(text)}")
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _wrong(" ".join(str(error).split())) from None
    if given is None:
        return Values()
    if not isinstance(given, dict):
        raise _wrong(f"expected a map, got {type(given).__name__}")
    return from_json(cast("Json", given))


def from_json(given: Json) -> Values:
    """As `from_yaml`, of what was read already."""
    try:
        return msgspec.convert(_merged(msgspec.to_builtins(Values()), given), Values)
    except (msgspec.ValidationError, TypeError) as error:
        raise _wrong(str(error)) from None


def _merged(below: Json, above: Json) -> Json:
    merged = dict(below)
    for name, value in above.items():
        beneath = merged.get(name)
        if isinstance(beneath, dict) and isinstance(value, dict):
            merged[name] = _merged(cast("Json", beneath), cast("Json", value))
        else:
            merged[name] = value
    return merged


def _wrong(what: str) -> CodezeroError:
    fix = "see docs/reference/values.md for all values"
    return CodezeroError(problems.BAD_REQUEST, f"these values cannot be used: {what}", fix=fix)
