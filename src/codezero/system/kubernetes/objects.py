"""The Kubernetes objects we watch, cut down to the fields we use and decoded straight from bytes.

Unknown fields are dropped while decoding, so ten thousand Services stay small; `gc=False` because these values cannot form cycles. Lists may be
`null` on the wire (Go writes an empty slice so), hence the `| None`.
Source: Kubernetes API reference 1.30 and newer, core/v1 and discovery.k8s.io/v1.
"""

from typing import Any, Generic, TypeVar

import msgspec

from codezero.wire import serve_resource


class Metadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What every object has."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None


class KubernetesObject(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Base of all objects that are mirrored."""

    metadata: Metadata


Kind = TypeVar("Kind", bound=KubernetesObject)


class ServicePortObject(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`spec.ports[]` of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None


class ServiceSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`spec` of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] | None = msgspec.field(name="clusterIPs", default=None)
    external_name: str = ""
    selector: dict[str, str] | None = None
    session_affinity: str = "None"
    ports: tuple[ServicePortObject, ...] | None = None


class ServiceLabels(msgspec.Struct, frozen=True, gc=False):
    """The one label of a Service that matters: whether it is one of ours."""

    managed_by: str = msgspec.field(name=serve_resource.MANAGED_BY, default="")


class ServiceMetadata(Metadata, frozen=True, gc=False, rename="camel"):
    """Metadata of a Service."""

    labels: ServiceLabels | None = None


class ServiceObject(KubernetesObject, frozen=True, gc=False, rename="camel"):
    """A core/v1 Service."""

    metadata: ServiceMetadata
    spec: ServiceSpec = ServiceSpec()


class SliceLabels(msgspec.Struct, frozen=True, gc=False):
    """The one label of an EndpointSlice that matters: the Service it belongs to."""

    service: str = msgspec.field(name="kubernetes.io/service-name", default="")


class SliceMetadata(Metadata, frozen=True, gc=False, rename="camel"):
    """Metadata of an EndpointSlice."""

    labels: SliceLabels | None = None


class SlicePort(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`ports[]` of an EndpointSlice; without a number it means every port."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointConditions(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """How an endpoint is doing; `None` is to be read as the API reference says."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    @property
    def is_ready(self) -> bool:
        """Ready unless said otherwise."""
        return self.ready is not False

    @property
    def is_serving_to_its_end(self) -> bool:
        """Terminating, and still able to answer: the last resort when no endpoint is ready."""
        return self.terminating is True and self.serving is True


class TargetReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What an endpoint's address belongs to, usually a Pod."""

    kind: str = ""
    name: str = ""


class EndpointObject(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`endpoints[]` of an EndpointSlice. Only the first address counts, as for kube-proxy."""

    addresses: tuple[str, ...] | None = None
    conditions: EndpointConditions | None = None
    hostname: str | None = None
    target_ref: TargetReference | None = None


class EndpointSliceObject(KubernetesObject, frozen=True, gc=False, rename="camel"):
    """A discovery.k8s.io/v1 EndpointSlice."""

    metadata: SliceMetadata
    address_type: str = "IPv4"
    endpoints: tuple[EndpointObject, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None


class NamespaceStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`status` of a Namespace."""

    phase: str = "Active"


class NamespaceObject(KubernetesObject, frozen=True, gc=False, rename="camel"):
    """A core/v1 Namespace."""

    status: NamespaceStatus = NamespaceStatus()


class NodeAddress(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`status.addresses[]` of a Node."""

    type: str
    address: str


class NodeStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`status` of a Node."""

    addresses: tuple[NodeAddress, ...] | None = None


class NodeSpec(msgspec.Struct, frozen=True, gc=False):
    """`spec` of a Node."""

    pod_cidr: str = msgspec.field(name="podCIDR", default="")
    pod_cidrs: tuple[str, ...] | None = msgspec.field(name="podCIDRs", default=None)


class NodeObject(KubernetesObject, frozen=True, gc=False, rename="camel"):
    """A core/v1 Node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class OwnerReference(msgspec.Struct, frozen=True, gc=False):
    """`metadata.ownerReferences[]`."""

    kind: str = ""
    uid: str = ""


class ServeMetadata(Metadata, frozen=True, gc=False, rename="camel"):
    """Metadata of a Serve object."""

    generation: int = 0
    finalizers: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class ServeResource(KubernetesObject, frozen=True, gc=False, rename="camel"):
    """A Serve object as it came. Its parts are read one by one, so that one route made by hand does not hide the others."""

    metadata: ServeMetadata
    spec: Any = None
    status: Any = None


class Resource(msgspec.Struct, Generic[Kind], frozen=True):
    """A collection of the API: its name in logs and metrics, its path, and how its items are decoded.

    An `optional` one may not exist: that is the same as having no objects.
    """

    name: str
    path: str
    kind: type[Kind]
    optional: bool = False


SERVICES = Resource("services", "/api/v1/services", ServiceObject)
ENDPOINT_SLICES = Resource("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", EndpointSliceObject)
NAMESPACES = Resource("namespaces", "/api/v1/namespaces", NamespaceObject)
NODES = Resource("nodes", "/api/v1/nodes", NodeObject)
SERVES = Resource("serves", f"/apis/{serve_resource.API_VERSION}/{serve_resource.PLURAL}", ServeResource, optional=True)


class ListMetadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`metadata` of a list."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class ObjectList(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A page of a list; items stay bytes, so that one odd object does not hide the others."""

    metadata: ListMetadata
    items: tuple[msgspec.Raw, ...] | None = None


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class BookmarkAnnotations(msgspec.Struct, frozen=True, gc=False):
    """The annotation by which a streaming list says that it is complete."""

    initial_events_end: str = msgspec.field(name="k8s.io/initial-events-end", default="")


class BookmarkMetadata(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`metadata` of a bookmark."""

    resource_version: str
    annotations: BookmarkAnnotations | None = None


class Bookmark(msgspec.Struct, frozen=True, gc=False):
    """The object of a BOOKMARK event: how far the watch has come."""

    metadata: BookmarkMetadata


class StatusDetails(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`details` of a Status."""

    retry_after_seconds: int | None = None


class Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The API server's answer when something failed."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None
