"""What the cluster has, as the reflectors see it: services for the catalog, and the addresses behind them.

Taking a change in only marks the service it belongs to. What a service looks like is worked out when somebody asks, or a moment after the change
for those who subscribed; a change that makes no difference to the catalog wakes nobody. A subscriber holds a set of names, never a queue, so a
slow one costs at most one name per service.
"""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol as Shape

from codezero.model.services import Protocol, Service, ServiceRef, is_label
from codezero.model.variants import Serving
from codezero.system.backends import Backend, backends_of, catalog_view, pod_names
from codezero.system.kubernetes.objects import (
    ENDPOINT_SLICES,
    NODES,
    SERVES,
    SERVICES,
    EndpointSliceObject,
    NamespaceObject,
    NodeObject,
    ServiceObject,
)
from codezero.system.kubernetes.reflector import ReflectorStatus
from codezero.system.serving import naming
from codezero.wire.serve_resource import OURS

# A change after a quiet time is told almost at once; those after it are gathered until so long after that.
SOON_SECONDS = 0.005
COALESCE_SECONDS = 0.05
API_SERVICE = ServiceRef("default", "kubernetes")
# Without these there is no catalog. Nodes are needed to judge addresses, namespaces only for better messages.
_CATALOG_SOURCES = (SERVICES.name, ENDPOINT_SLICES.name)
_NOT_SEEN = ReflectorStatus()


class ServingSource(Shape):
    """Who knows how services are served; `serving.serves.Serves` is one."""

    def touched(self, ref: ServiceRef) -> None:
        """A Service or what is behind it changed."""
        ...

    def serving(self, ref: ServiceRef) -> Serving | None:
        """How a service fares."""
        ...


class Inventory:
    """The services of the cluster and what is behind them. Use it from the event loop's thread only."""

    def __init__(self, *, coalesce: float = COALESCE_SECONDS) -> None:
        self._coalesce = coalesce
        self._services: dict[ServiceRef, ServiceObject] = {}
        self._slices: dict[ServiceRef, dict[str, EndpointSliceObject]] = {}
        self._namespaces: set[str] = set()
        self._nodes: dict[str, frozenset[str]] = {}
        self._node_of: dict[str, str] | None = None  # by address; made when somebody asks after a change
        self._api_addresses: frozenset[str] = frozenset()
        self._virtual: dict[str, ServiceRef] = {}
        self._sources: dict[str, ReflectorStatus] = {}
        self._views: dict[ServiceRef, Service] = {}
        self._pending: set[ServiceRef] = set()
        self._backends: dict[ServiceRef, dict[tuple[int, Protocol], tuple[Backend, ...]]] = {}
        self._subscriptions: set[Subscription] = set()
        self._serving: ServingSource | None = None
        self._followers: dict[ServiceRef, list[Callable[[], None]]] = {}
        self._ours: set[ServiceRef] = set()
        # Where the own pods of a switched service are listed, and whose they are.
        self._origins: dict[ServiceRef, ServiceRef] = {}

    def attach(self, serving: ServingSource) -> None:
        """Show in the catalog how services are served, as `serving` says; it is told what it may have to know."""
        self._serving = serving

    def follow(self, ref: ServiceRef, told: Callable[[], None]) -> None:
        """Call `told` right after each change of the Service and of what is behind it, and of whether the cluster is followed."""
        self._followers.setdefault(ref, []).append(told)

    # --- what the reflectors tell ---------------------------------------------------------------------------------------------------------

    def service_changed(self, old: ServiceObject | None, new: ServiceObject | None) -> None:
        """A Service came, changed or went."""
        ref = _ref_of(new or old)
        if ref is None:
            return
        before = self._services.pop(ref, None)
        for address in _virtual_addresses_of(before):
            if self._virtual.get(address) == ref:
                del self._virtual[address]
        if new is not None:
            self._services[ref] = new
            self._virtual.update(dict.fromkeys(_virtual_addresses_of(new), ref))
        self._ours.discard(ref)
        if new is not None and _is_ours(new):
            self._ours.add(ref)
        self._origins.pop(naming.origin_of(ref), None)
        if new is not None and naming.is_switched(new.spec.selector, ref):
            self._origins[naming.origin_of(ref)] = ref
        self._touch(ref)

    def slice_changed(self, old: EndpointSliceObject | None, new: EndpointSliceObject | None) -> None:
        """An EndpointSlice came, changed or went; its label may have moved it to another Service."""
        before, after = _service_of(old), _service_of(new)
        if old is not None and before is not None and before != after:
            remaining = self._slices.get(before, {})
            remaining.pop(old.metadata.name, None)
            if not remaining:
                self._slices.pop(before, None)
            self._touch(before)
        if new is not None and after is not None:
            self._slices.setdefault(after, {})[new.metadata.name] = new
            self._touch(after)
        if API_SERVICE in (before, after):
            self._api_addresses = _listed_addresses(self._slices.get(API_SERVICE, {}).values())

    def namespace_changed(self, old: NamespaceObject | None, new: NamespaceObject | None) -> None:
        """A Namespace came, changed or went."""
        if new is not None:
            self._namespaces.add(new.metadata.name)
        elif old is not None:
            self._namespaces.discard(old.metadata.name)

    def node_changed(self, old: NodeObject | None, new: NodeObject | None) -> None:
        """A Node came, changed or went."""
        self._node_of = None
        if new is not None:
            self._nodes[new.metadata.name] = _addresses_of(new)
        elif old is not None:
            self._nodes.pop(old.metadata.name, None)

    def serving_changed(self, ref: ServiceRef) -> None:
        """How a service is served changed."""
        self._mark_pending(ref)

    def source_changed(self, source: str, status: ReflectorStatus) -> None:
        """How the reflector of the resource `source` is doing."""
        self._sources[source] = status
        self._wake()
        for followers in self._followers.values():
            for told in followers:
                told()

    # --- what others ask ------------------------------------------------------------------------------------------------------------------

    @property
    def is_synced(self) -> bool:
        """Whether all services and what is behind them has been seen once."""
        return all(self._sources.get(source, _NOT_SEEN).synced for source in _CATALOG_SOURCES)

    @property
    def stale_since(self) -> float | None:
        """Since when (UNIX seconds) changes of the catalog may be missing; None while the cluster is followed."""
        sources = _CATALOG_SOURCES if self._serving is None else (*_CATALOG_SOURCES, SERVES.name)
        since = (self._sources.get(source, _NOT_SEEN).stale_since for source in sources)
        return min((moment for moment in since if moment is not None), default=None)

    @property
    def knows_nodes(self) -> bool:
        """Whether all nodes have been seen once, so that their addresses can be told."""
        return self._sources.get(NODES.name, _NOT_SEEN).synced

    @property
    def knows_serves(self) -> bool:
        """Whether the catalog says of each service how it is served, or else `stale_since` that this is not known."""
        status = self._sources.get(SERVES.name, _NOT_SEEN)
        return self._serving is None or status.synced or status.stale_since is not None

    def get(self, ref: ServiceRef) -> Service | None:
        """The service as the catalog shows it; also one that is being deleted, for as long as the cluster still serves it."""
        if ref in self._pending:
            self._settle(ref)
        return self._views.get(ref)

    def services(self) -> tuple[Service, ...]:
        """All services, sorted by namespace and name."""
        self.settle()
        return tuple(self._views[ref] for ref in sorted(self._views))

    def refs(self) -> tuple[ServiceRef, ...]:
        """The names of all services, sorted."""
        self.settle()
        return tuple(sorted(self._views))

    def has_namespace(self, name: str) -> bool:
        """Whether the cluster has that namespace."""
        return name in self._namespaces

    def backends(self, ref: ServiceRef, port: int, protocol: Protocol) -> tuple[Backend, ...]:
        """The endpoints that a connection to that port of the service may go to now, each once; empty when there is none."""
        known = self._backends.setdefault(ref, {}) if ref in self._services else {}
        found = known.get((port, protocol))
        if found is None:
            found = self._find_backends(ref, port, protocol)
            known[port, protocol] = found
        return found

    def has_pod(self, ref: ServiceRef, pod: str) -> bool:
        """Whether a pod of that host name stands behind the service, ready or not."""
        return pod in pod_names(self._slices.get(ref, {}).values())

    def keeps_clients_together(self, ref: ServiceRef) -> bool:
        """Whether the service sends the connections of one client to one pod (`sessionAffinity: ClientIP`)."""
        service = self._services.get(ref)
        return service is not None and service.spec.session_affinity == "ClientIP"

    def node_of(self, address: str) -> str | None:
        """The node that has this address, if one has."""
        if self._node_of is None:
            self._node_of = {each: name for name, addresses in self._nodes.items() for each in addresses}
        return self._node_of.get(address)

    def virtual_of(self, address: str) -> ServiceRef | None:
        """The service whose ClusterIP this address is, if it is one."""
        return self._virtual.get(address)

    def is_api_address(self, address: str) -> bool:
        """Whether the Kubernetes API itself answers at this address."""
        return address in self._api_addresses or self.virtual_of(address) == API_SERVICE

    @property
    def serves_synced(self) -> bool:
        """Whether all Serve objects were seen once."""
        return self._sources.get(SERVES.name, _NOT_SEEN).synced

    def refs_of(self, namespace: str) -> tuple[ServiceRef, ...]:
        """All Services of a namespace, ours too."""
        return tuple(ref for ref in self._services if ref.namespace == namespace)

    def ours(self) -> tuple[ServiceRef, ...]:
        """The Services that we made."""
        return tuple(self._ours)

    def uid_of(self, ref: ServiceRef) -> str | None:
        """The uid of the Service of that name; None where there is none, or it is on its way out."""
        service = self._services.get(ref)
        if service is None or service.metadata.deletion_timestamp is not None:
            return None
        return service.metadata.uid

    def cluster_address(self, ref: ServiceRef) -> str | None:
        """The ClusterIP of a Service, if it has one."""
        service = self._services.get(ref)
        return None if service is None else _normal(service.spec.cluster_ip)

    @contextmanager
    def subscribe(self) -> Generator["Subscription", None, None]:
        """Changes from now on, for as long as the block lasts."""
        subscription = Subscription(self, self._coalesce)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def changes(self) -> AsyncGenerator[frozenset[ServiceRef], None]:
        """The services that change from now on, in coalesced sets; an empty set says that staleness changed."""
        with self.subscribe() as subscription:
            while True:
                yield await subscription.next()

    def settle(self) -> None:
        """Work out all that changed and tell those who subscribed."""
        for ref in tuple(self._pending):
            self._settle(ref)

    # --- inside ---------------------------------------------------------------------------------------------------------------------------

    def _touch(self, ref: ServiceRef) -> None:
        self._backends.pop(ref, None)
        self._mark_pending(ref)
        if ref in self._origins:
            self._mark_pending(self._origins[ref])
        if self._serving is not None:
            self._serving.touched(ref)
        for told in self._followers.get(ref, ()):
            told()

    def _mark_pending(self, ref: ServiceRef) -> None:
        if ref not in self._pending:
            self._pending.add(ref)
            self._wake()

    def _wake(self) -> None:
        for subscription in self._subscriptions:
            subscription.wake()

    def _settle(self, ref: ServiceRef) -> None:
        self._pending.discard(ref)
        view = self._view(ref)
        if view == self._views.get(ref):
            return
        if view is None:
            del self._views[ref]
        else:
            self._views[ref] = view
        for subscription in self._subscriptions:
            subscription.mark(ref)

    def _view(self, ref: ServiceRef) -> Service | None:
        service = self._services.get(ref)
        if service is None or _is_ours(service):
            return None
        # People count the service's own pods, not the Routers in front of them.
        own_pods = naming.origin_of(ref)
        listed = own_pods if own_pods in self._origins else ref
        view = catalog_view(ref, service, self._slices.get(listed, {}).values())
        serving = None if self._serving is None else self._serving.serving(ref)
        return view if serving is None else replace(view, serving=serving)

    def _find_backends(self, ref: ServiceRef, port: int, protocol: Protocol) -> tuple[Backend, ...]:
        service = self._services.get(ref)
        for candidate in (service.spec.ports if service is not None else None) or ():
            if candidate.port == port and candidate.protocol == protocol:
                return backends_of(candidate, self._slices.get(ref, {}).values())
        return ()


class Subscription:
    """The services that changed since they were last asked for; made by `Inventory.subscribe`."""

    def __init__(self, inventory: Inventory, coalesce: float) -> None:
        self._inventory = inventory
        self._coalesce = coalesce
        self._refs: set[ServiceRef] = set()
        self._status = self._status_now()
        self._changed = asyncio.Event()
        self._told_at = float("-inf")

    async def next(self) -> frozenset[ServiceRef]:
        """Wait for a change and a moment longer for more; the services that came, changed or went, each change told once.

        Empty when only `Inventory.is_synced` or `Inventory.stale_since` changed.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            soon = min(SOON_SECONDS, self._coalesce)
            await asyncio.sleep(max(soon, self._told_at + self._coalesce - loop.time()))
            self._inventory.settle()
            self._changed.clear()
            self._told_at = loop.time()
            refs, self._refs = frozenset(self._refs), set()
            before, self._status = self._status, self._status_now()
            if refs or self._status != before:
                return refs

    def mark(self, ref: ServiceRef) -> None:
        """Note that this service changed."""
        self._refs.add(ref)
        self._changed.set()

    def wake(self) -> None:
        """Note that something may have changed."""
        self._changed.set()

    def _status_now(self) -> tuple[bool, bool, float | None]:
        return self._inventory.is_synced, self._inventory.knows_serves, self._inventory.stale_since


def _is_ours(service: ServiceObject) -> bool:
    return service.metadata.labels is not None and service.metadata.labels.managed_by == OURS


def _ref_of(service: ServiceObject | None) -> ServiceRef | None:
    if service is None:
        return None
    return _ref(service.metadata.namespace, service.metadata.name)


def _service_of(item: EndpointSliceObject | None) -> ServiceRef | None:
    if item is None or item.metadata.labels is None:
        return None
    return _ref(item.metadata.namespace, item.metadata.labels.service)


def _ref(namespace: str, name: str) -> ServiceRef | None:
    """The service of that name; None for names that no catalog id can say."""
    return ServiceRef(namespace, name) if is_label(namespace) and is_label(name) else None


def _addresses_of(node: NodeObject) -> frozenset[str]:
    listed = (
        _normal(item.address) for item in node.status.addresses or () if item.type in {"InternalIP", "ExternalIP"}
    )
    own = {address for address in listed if address is not None}
    for text in {node.spec.pod_cidr, *(node.spec.pod_cidrs or ())}:
        own.update(_gateways_of(text))
    return frozenset(own)


def _gateways_of(pods: str) -> Iterator[str]:
    """Where the node itself answers in its network of pods: the first two addresses, of the overlay's device and of the bridge."""
    try:
        network = ipaddress.ip_network(pods)
    except ValueError:
        return
    if network.num_addresses > 2:
        yield from (str(network[0]), str(network[1]))


def _virtual_addresses_of(service: ServiceObject | None) -> frozenset[str]:
    if service is None:
        return frozenset()
    listed = (_normal(text) for text in (service.spec.cluster_ip, *(service.spec.cluster_ips or ())))
    return frozenset(address for address in listed if address is not None)


def _listed_addresses(slices: Iterable[EndpointSliceObject]) -> frozenset[str]:
    listed = (
        _normal(text) for item in slices for endpoint in item.endpoints or () for text in endpoint.addresses or ()
    )
    return frozenset(address for address in listed if address is not None)


def _normal(address: str) -> str | None:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None
