"""From a Service and its EndpointSlices to what the catalog shows and where connections may go; pure functions.

The rules are kube-proxy's: ready endpoints, else those that still serve while they terminate; slices find the Service's port by its name, each with
a number of its own; the first address of an endpoint counts. IPv4 goes before IPv6.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef, is_label
from codezero.system.kubernetes.objects import (
    EndpointConditions,
    EndpointObject,
    EndpointSliceObject,
    ServiceObject,
    ServicePortObject,
)

_FAMILIES = ("IPv4", "IPv6")
_NO_CONDITIONS = EndpointConditions()


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a port of a service leads: address and port of an endpoint, and the pod's host name where it has one."""

    address: str
    port: int
    pod: str | None = None


class _Listed(NamedTuple):
    slice: EndpointSliceObject
    endpoint: EndpointObject
    address: str


def service_kind(service: ServiceObject) -> ServiceKind:
    """How `service` finds its pods."""
    spec = service.spec
    if spec.type == "ExternalName":
        return ServiceKind.EXTERNAL_NAME
    if spec.cluster_ip == "None":
        return ServiceKind.HEADLESS
    return ServiceKind.CLUSTER_IP if spec.selector else ServiceKind.SELECTORLESS


def service_ports(service: ServiceObject) -> tuple[ServicePort, ...]:
    """The ports of `service`, sorted."""
    ports = {
        (port.port, port.protocol): ServicePort(
            port.port, Protocol(port.protocol), port.name or None, port.app_protocol or None
        )
        for port in service.spec.ports or ()
        if port.protocol in Protocol.__members__
    }
    return tuple(ports[key] for key in sorted(ports))


def catalog_view(ref: ServiceRef, service: ServiceObject, slices: Collection[EndpointSliceObject]) -> Service:
    """The service as the catalog shows it."""
    kind = service_kind(service)
    ports = service_ports(service)
    if kind is ServiceKind.EXTERNAL_NAME:
        return Service(ref, kind, ports, ready=1, total=1, external_name=service.spec.external_name)
    usable = _usable(slices)
    known = {listed.address for listed in _of_family(_family_of(usable, slices), slices) if _counts(listed.endpoint)}
    pods: tuple[str, ...] = ()
    if kind is ServiceKind.HEADLESS:
        pods = tuple(sorted({name for listed in usable.values() if (name := _pod_name(listed.endpoint)) is not None}))
    return Service(ref, kind, ports, ready=len(usable), total=len(known | usable.keys()), pods=pods)


def backends_of(port: ServicePortObject, slices: Collection[EndpointSliceObject]) -> tuple[Backend, ...]:
    """The endpoints that a connection to `port` may go to, each once, sorted by address."""
    found: dict[str, Backend] = {}
    for listed in _usable(slices, port).values():
        number = _target_port(listed.slice, port)
        if number is not None:
            found[listed.address] = Backend(listed.address, number, _pod_name(listed.endpoint))
    return tuple(found[address] for address in sorted(found))


def pod_names(slices: Iterable[EndpointSliceObject]) -> frozenset[str]:
    """The host names of all pods behind a service, ready or not."""
    return frozenset(
        name for item in slices for endpoint in item.endpoints or () if (name := _pod_name(endpoint)) is not None
    )


def _usable(slices: Collection[EndpointSliceObject], port: ServicePortObject | None = None) -> dict[str, _Listed]:
    """The endpoints in use by address; with `port` only those that have it."""
    for is_usable in (_is_ready, _is_serving_to_its_end):
        for family in _FAMILIES:
            found = {
                listed.address: listed
                for listed in _of_family(family, slices)
                if is_usable(listed.endpoint) and (port is None or _target_port(listed.slice, port) is not None)
            }
            if found:
                return found
    return {}


def _family_of(usable: dict[str, _Listed], slices: Collection[EndpointSliceObject]) -> str:
    for listed in usable.values():
        return listed.slice.address_type
    return "IPv4" if any(True for _ in _of_family("IPv4", slices)) else "IPv6"


def _of_family(family: str, slices: Iterable[EndpointSliceObject]) -> Iterator[_Listed]:
    # In one order, or an endpoint that moves from slice to slice would depend on which was heard of first.
    for item in sorted(slices, key=lambda one: one.metadata.name):
        if item.address_type == family:
            for endpoint in item.endpoints or ():
                if endpoint.addresses:
                    yield _Listed(item, endpoint, endpoint.addresses[0])


def _is_ready(endpoint: EndpointObject) -> bool:
    return (endpoint.conditions or _NO_CONDITIONS).is_ready


def _is_serving_to_its_end(endpoint: EndpointObject) -> bool:
    return (endpoint.conditions or _NO_CONDITIONS).is_serving_to_its_end


def _counts(endpoint: EndpointObject) -> bool:
    """Whether people would count it: pods on their way out are no part of "2 of 3"."""
    return (endpoint.conditions or _NO_CONDITIONS).terminating is not True


def _target_port(item: EndpointSliceObject, port: ServicePortObject) -> int | None:
    for candidate in item.ports or ():
        if (candidate.name or "") == port.name and (candidate.protocol or "TCP") == port.protocol:
            return port.port if candidate.port is None else candidate.port
    return None


def _pod_name(endpoint: EndpointObject) -> str | None:
    name = endpoint.hostname
    if not name and endpoint.target_ref is not None and endpoint.target_ref.kind == "Pod":
        name = endpoint.target_ref.name
    return name if name and is_label(name) else None
