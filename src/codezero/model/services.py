"""What a Teamspace offers: services, their ports and pods, and the catalog id by which a client asks for one.

Clients name a catalog id, never an address (T17).
"""

import functools
import re
from dataclasses import dataclass
from enum import StrEnum

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.variants import Serving

# RFC 1123 labels; Kubernetes Service names are RFC 1035 labels, a subset.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_CATALOG_ID = re.compile(rf"({_LABEL})/({_LABEL})(?:/({_LABEL}))?:([1-9][0-9]{{0,4}})")
_IS_LABEL = re.compile(_LABEL)


def is_label(text: str) -> bool:
    """Whether `text` is a lower-case DNS label (RFC 1123): the form of namespaces, services and pods."""
    return _IS_LABEL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class ServiceRef:
    """One service by namespace and name; as text `namespace/name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @staticmethod
    def parse(text: str) -> "ServiceRef":
        """The service `namespace/name` names; raises `CodezeroError` when the parts are not DNS labels."""
        namespace, slash, name = text.partition("/")
        if not slash or not is_label(namespace) or not is_label(name):
            raise CodezeroError(problems.BAD_REQUEST, f"{text[:200]!r} is not a service; write namespace/service")
        return ServiceRef(namespace, name)


@dataclass(frozen=True, slots=True, order=True)
class CatalogId:
    """One port of a service, or of one pod of a headless service; as text `namespace/service:port` or `namespace/service/pod:port`."""

    service: ServiceRef
    port: int
    pod: str | None = None

    def __str__(self) -> str:
        return f"{self.service}{f'/{self.pod}' if self.pod else ''}:{self.port}"

    @staticmethod
    @functools.lru_cache(maxsize=4096)  # each stream names one
    def parse(text: str) -> "CatalogId":
        """The catalog id that `text` names; raises `CodezeroError` for any other form and for ports above 65535."""
        match = _CATALOG_ID.fullmatch(text) if len(text) <= 200 else None
        if match is None or int(match[4]) > 65535:
            raise CodezeroError(
                problems.BAD_REQUEST, f"{text[:200]!r} is not a catalog id; write namespace/service:port"
            )
        return CatalogId(ServiceRef(match[1], match[2]), int(match[4]), match[3])


class Protocol(StrEnum):
    """Transport protocol of a port, spelled as Kubernetes does."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


@dataclass(frozen=True, slots=True, order=True)
class ServicePort:
    """A port a service offers: its number in the cluster, its name and `appProtocol` where given."""

    port: int
    protocol: Protocol = Protocol.TCP
    name: str | None = None
    app_protocol: str | None = None


class ServiceKind(StrEnum):
    """How a service finds its pods."""

    CLUSTER_IP = "cluster-ip"
    HEADLESS = "headless"
    SELECTORLESS = "selectorless"
    EXTERNAL_NAME = "external-name"


@dataclass(frozen=True, slots=True)
class Service:
    """A service as the catalog shows it.

    `ports` is sorted. `ready` and `total` count endpoints; an ExternalName service has one of each. `pods` are the host names under which
    ready pods of a headless service can be asked for, sorted, empty for other kinds. `external_name` is set for ExternalName services.
    `serving` is set while it has variants or a Router; endpoints are then those of the service's own pods.
    """

    ref: ServiceRef
    kind: ServiceKind
    ports: tuple[ServicePort, ...]
    ready: int = 0
    total: int = 0
    pods: tuple[str, ...] = ()
    external_name: str | None = None
    serving: Serving | None = None
