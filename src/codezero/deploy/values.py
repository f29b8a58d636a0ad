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
# What no values need, and what a YAML alias makes of a few lines: more parts than memory holds, or without an end.
_DEEPEST: Final = 50
_MOST_PARTS: Final = 100_000
# Maps with defaults whose keys are anybody's choice: null takes one of them away.
_FREE: Final = frozenset({"requests", "limits"})
# A text as a whole; `$` would let a line break follow.
WHOLE: Final = (r"\A(?:", r")\Z")


def _text(form: str, *, most: int) -> msgspec.Meta:
    """A text of that form as a whole."""
    return msgspec.Meta(pattern=rf"{WHOLE[0]}{form}{WHOLE[1]}", max_length=most)


def _says(description: str, **schema: Any) -> msgspec.Meta:  # noqa: ANN401 - parts of a JSON schema
    """What a value is for: the comment in the chart, the text in the reference. `schema` says in the schema what `__post_init__` does here."""
    return msgspec.Meta(description=description, extra_json_schema=schema or None)


_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST: Final = "[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_PATH: Final = "[a-z0-9]+([._-]+[a-z0-9]+)*"

_Repository = Annotated[str, _text(f"({_HOST}(:[0-9]{{1,5}})?/)?{_PATH}(/{_PATH})*", most=255)]
_Tag = Annotated[str, _text("([A-Za-z0-9_][A-Za-z0-9._-]{0,127}(@sha256:[0-9a-f]{64})?)?", most=200)]
_Quantity = Annotated[str, _text(r"[0-9]+(\.[0-9]+)?([eE][0-9]+|[mkMGTPE]|[KMGTPE]i)?", most=20)]
_Replicas = Annotated[int, msgspec.Meta(ge=1, le=20)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Name = Annotated[str, _text(rf"{_LABEL}(\.{_LABEL})*", most=253)]
_Namespace = Annotated[str, _text(rf"\*|{_LABEL}", most=63)]
_Domain = Annotated[
    str,
    _text(
        r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?(=private)?",
        most=253,
    ),
]
_Network = Annotated[
    str, _text(r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?|[0-9a-f:]*:[0-9a-f:.]*(/[0-9]{1,3})?", most=50)
]
_ExternalHost = Annotated[str, _text(f"({_HOST}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)?", most=253)]
_HubUrl = Annotated[str, _text(rf"(https://({_HOST}|\[[0-9a-fA-F:.]+\])(:[0-9]{{1,5}})?)?", most=500)]
_OpaUrl = Annotated[
    str,
    _text(rf"(https?://({_HOST}|\[[0-9a-fA-F:.]+\])(:[0-9]{{1,5}})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?)?", most=500),
]
_Certificates = Annotated[str, _text("(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/= \n\r-]+)?", most=64 * 1024)]
_Amount = Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Amounts = dict[str, _Quantity | _Amount]


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
    """An image."""

    repository: Annotated[_Repository, _says("Where the image is, without a tag.")]
    tag: Annotated[
        _Tag, _says("Its tag, also with a digest (`tag@sha256:…`); empty means the version of this release.")
    ] = ""

    @property
    def reference(self) -> str:
        """As pods name it."""
        return f"{self.repository}:{self.tag or __version__}"


class PulledImage(Image, frozen=True):
    """An image of pods that are installed, not made by the System."""

    pull_policy: Annotated[PullPolicy, _says("When nodes ask the registry for it.")] = PullPolicy.IF_NOT_PRESENT


class Resources(_Part, frozen=True):
    """What a container is given, as Kubernetes says it."""

    requests: Annotated[_Amounts, _says("What each pod is sure to get.")] = {}
    limits: Annotated[_Amounts, _says("What no pod gets more of.")] = {}


class System(_Part, frozen=True):
    """The System: the laptops' end in the cluster."""

    replicas: Annotated[_Replicas, _says("How many pods; laptops are spread over them.")] = 2
    log_level: Annotated[LogLevel, _says("The least that it and the Routers log.")] = LogLevel.INFO
    resources: Annotated[Resources, _says("What each pod is given; 2,000 laptops take about 1 GB of memory.")] = (
        Resources({"cpu": "100m", "memory": "128Mi"}, {"memory": "1Gi"})
    )


class Orchestrator(_Part, frozen=True):
    """The Orchestrator: the live picture."""

    replicas: Annotated[_Replicas, _says("How many pods; one works, the others wait for its end.")] = 2
    log_level: Annotated[LogLevel, _says("The least that it logs.")] = LogLevel.INFO
    resources: Annotated[Resources, _says("What each pod is given.")] = Resources(
        {"cpu": "50m", "memory": "96Mi"}, {"memory": "512Mi"}
    )


class Router(_Part, frozen=True):
    """The Routers, which the System makes in the namespaces of served services."""

    image: Annotated[Image, _says("The image of Routers.")] = Image("codezero-router")
    replicas: Annotated[_Replicas, _says("How many pods a Router has.")] = 2
    linger: Annotated[
        int,
        msgspec.Meta(ge=0, le=7 * 86400),
        _says(
            "How many seconds a Router stays after the last serve of its service, so that the next one changes nothing in the cluster."
        ),
    ] = 1800
    # The memory is twice what a Router needs when variants read nothing of all the uploads that it may have at once (`routing.envoy`); sockets count
    # too. No limit of CPU: it would slow down the team's requests. Where a quota asks for one, whoever installs says how much.
    resources: Annotated[
        Resources,
        _says(
            "What each pod is given; name `limits.cpu` where a served namespace has a quota for it. With less memory large uploads may end a Router."
        ),
    ] = Resources({"cpu": "60m", "memory": "144Mi"}, {"memory": "2Gi"})


class Entry(_Part, frozen=True):
    """The Service `codezero`: the one port that is exposed."""

    type: Annotated[ServiceType, _says("How it is reached from outside.")] = ServiceType.LOAD_BALANCER
    node_port: Annotated[
        _Port | None, _says("The port on all nodes, for type NodePort; without one the cluster chooses.")
    ] = None
    annotations: Annotated[
        dict[str, str],
        _says(
            "What the load balancer of your cloud wants to be told.",
            patternProperties={r"^codezero\.io/": {"not": {}}},
        ),
    ] = {}
    external_traffic_policy: Annotated[
        TrafficPolicy,
        _says("Which nodes take connections from outside: all (`Cluster`), or those with a System (`Local`)."),
    ] = TrafficPolicy.CLUSTER
    external_host: Annotated[
        _ExternalHost, _says("The host that laptops connect to, where it is not the address of the Service itself.")
    ] = ""
    external_port: Annotated[_Port, _says("The port that laptops connect to at `externalHost`.")] = 8800

    def __post_init__(self) -> None:
        if self.node_port is not None and self.type is not ServiceType.NODE_PORT:
            raise ValueError("nodePort has a meaning for type NodePort alone; leave it out, or set it to null")
        if reserved := sorted(name for name in self.annotations if name.startswith("codezero.io/")):
            raise ValueError(f"annotations of codezero.io are ours: {', '.join(reserved)}")


class Serving(_Part, frozen=True):
    """What may be served."""

    namespaces: Annotated[
        tuple[_Namespace, ...],
        msgspec.Meta(max_length=500),
        _says(
            'The namespaces whose Services may be served, as a list; `["*"]` means all, and none that laptops may only consume.',
            uniqueItems=True,
            **{"if": {"contains": {"const": EVERY_NAMESPACE}}, "then": {"maxItems": 1}},
        ),
    ] = ()

    def __post_init__(self) -> None:
        if EVERY_NAMESPACE in self.namespaces and len(self.namespaces) > 1:
            raise ValueError("`*` means all namespaces, and stands alone")
        if len(set(self.namespaces)) < len(self.namespaces):
            raise ValueError("a namespace is named twice")

    @property
    def is_everywhere(self) -> bool:
        """Whether Services of all namespaces may be served."""
        return EVERY_NAMESPACE in self.namespaces


class Hub(_Part, frozen=True):
    """The Hub that says who may do what."""

    url: Annotated[
        _HubUrl,
        _says("Its address as pods of the cluster reach it, `https://hub.example.com`; empty without a Hub."),
    ] = ""
    ca_bundle: Annotated[
        _Certificates,
        _says(
            "Whom to believe that it is the Hub, as PEM; empty where its certificate is one that everybody believes."
        ),
    ] = ""

    def __post_init__(self) -> None:
        if self.ca_bundle and not self.url:
            raise ValueError("caBundle has a meaning with url alone")


class Opa(_Part, frozen=True):
    """A policy decision point of the Open Policy Agent, asked besides the policy."""

    enabled: Annotated[
        bool,
        _says(
            "Whether it is asked before anybody consumes or serves; what it does not allow within a second is refused."
        ),
    ] = False
    url: Annotated[
        _OpaUrl,
        _says(
            "Its rule, such as `http://opa.opa.svc:8181/v1/data/codezero/allow`; an address of the cluster may be named."
        ),
    ] = ""

    def __post_init__(self) -> None:
        if self.enabled and not self.url:
            raise ValueError("enabled needs a url")


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

    image: Annotated[PulledImage, _says("The image of System and Orchestrator.")] = PulledImage("codezero-teamspace")
    image_pull_secrets: Annotated[
        tuple[PullSecret, ...],
        _says("Secrets of the Teamspace's namespace by which its images are pulled, each as `name: …`."),
    ] = ()
    system: Annotated[System, _says("The System: follows the cluster, and is the laptops' end in it.")] = System()
    orchestrator: Annotated[
        Orchestrator, _says("The Orchestrator: the live picture of laptops and what they consume and serve.")
    ] = Orchestrator()
    router: Annotated[Router, _says("The Routers, which the System makes where services are served.")] = Router()
    service: Annotated[
        Entry,
        _says(
            "The Service `codezero`: the one port that is exposed, 8800.",
            **{
                "if": {"properties": {"type": {"const": str(ServiceType.NODE_PORT)}}},
                "else": {"properties": {"nodePort": {"type": "null"}}},
            },
        ),
    ] = Entry()
    hub: Annotated[
        Hub,
        _says(
            "The Hub of this Teamspace; the token by which it joins is in Secret `codezero-join`, never a value.",
            **{
                "if": {"properties": {"url": {"const": ""}}},
                "then": {"properties": {"caBundle": {"const": ""}}},
            },
        ),
    ] = Hub()
    opa: Annotated[
        Opa,
        _says(
            "A policy decision point (OPA) that is asked besides the policy.",
            **{
                "if": {"properties": {"enabled": {"const": True}}},
                "then": {"properties": {"url": {"minLength": 1}}},
            },
        ),
    ] = Opa()
    serve: Annotated[Serving, _says("What may be served.")] = Serving()
    allowed_domains: Annotated[
        tuple[_Domain, ...],
        _says("Where ExternalName services may lead: `name`, `*.name`, or with `=private` also at private addresses."),
    ] = ()
    allowed_networks: Annotated[
        tuple[_Network, ...],
        _says(
            "Networks like `10.0.0.0/24` that streams may enter although they hold nodes, loopback or link-local addresses."
        ),
    ] = ()
    node_selector: Annotated[dict[str, str], _says("Labels of the nodes that System and Orchestrator run on.")] = {}
    tolerations: Annotated[
        tuple[Toleration, ...], _says("Taints of nodes that System and Orchestrator tolerate, as pods have them.")
    ] = ()
    affinity: Annotated[
        Affinity,
        _says(
            "Where System and Orchestrator want to run, as pods have it; besides that, their pods spread over nodes and zones."
        ),
    ] = Affinity()

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
        given = loaded(text)
    except ValueError as error:
        raise _wrong(str(error)) from None
    return from_json(given)


def loaded(text: str | bytes) -> Json:
    """The map that YAML says, empty where it says nothing, and of a size that can be gone through; raises `ValueError`."""
    try:
        given = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"it holds a {type(given).__name__} instead of a map of values")
    _check_size(cast("object", given))
    return cast("Json", given)


def _check_size(given: object) -> None:
    level, parts = [given], 1
    for _ in range(_DEEPEST):
        below: list[object] = []
        for part in level:
            match part:
                case dict():
                    found = list(cast("dict[object, object]", part).values())
                case list():
                    found = cast("list[object]", part)
                case _:
                    found = []
            parts += len(found)
            if parts > _MOST_PARTS:
                raise ValueError(f"with its aliases written out it has more than {_MOST_PARTS} values")
            below += found
        if not below:
            return
        level = below
    raise ValueError(
        f"it is nested more than {_DEEPEST} deep; does an alias (*name) stand inside its own anchor (&name)?"
    )


def from_json(given: Json) -> Values:
    """As `from_yaml`, of what was read already."""
    try:
        return msgspec.convert(_merged(msgspec.to_builtins(Values()), given), Values)
    except (msgspec.ValidationError, TypeError) as error:
        raise _wrong(str(error)) from None


def _merged(below: Json, above: Json, *, is_free: bool = False) -> Json:
    merged = dict(below)
    for name, value in above.items():
        beneath = merged.get(name)
        if isinstance(beneath, dict) and isinstance(value, dict):
            merged[name] = _merged(cast("Json", beneath), cast("Json", value), is_free=name in _FREE)
        elif value is None and is_free:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def _wrong(what: str) -> CodezeroError:
    fix = "see docs/reference/values.md for all values"
    return CodezeroError(problems.BAD_REQUEST, f"these values cannot be used: {what}", fix=fix)
