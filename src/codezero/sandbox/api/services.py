"""Services, Endpoints and EndpointSlices: defaults, rules, and the addresses and node ports that Services are given."""

import ipaddress
from collections.abc import Iterator

from codezero.sandbox.api import errors, metadata
from codezero.sandbox.api.documents import JsonObject, as_list, as_object, as_objects
from codezero.sandbox.api.errors import Cause

PROTOCOLS = ("TCP", "UDP", "SCTP")
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
NODE_PORTS = range(30000, 32768)
_REQUIRED = "FieldValueRequired"
_NOT_SUPPORTED = "FieldValueNotSupported"


def set_service_defaults(content: JsonObject) -> None:
    """Fill in what a Service leaves out."""
    spec = content.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    for port in as_objects(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        if not port.get("targetPort") and "port" in port:
            port["targetPort"] = port["port"]
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if kind in {"NodePort", "LoadBalancer"}:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    content.setdefault("status", {}).setdefault("loadBalancer", {})


def carry_service_over(content: JsonObject, before: JsonObject) -> None:
    """Drop what belonged to the type a Service had before, where it was not changed together with the type."""
    spec, old = as_object(content.get("spec")), as_object(before["spec"])
    if spec.get("type") not in {"ClusterIP", "ExternalName"} or old.get("type") not in {"NodePort", "LoadBalancer"}:
        return
    had = {port.get("nodePort") for port in as_objects(old.get("ports"))}
    for port in as_objects(spec.get("ports")):
        if port.get("nodePort") in had:
            port.pop("nodePort", None)
    for name in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"):
        spec.pop(name, None)


def check_service(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    """What is wrong with a Service."""
    spec = as_object(content.get("spec"))
    found = list(_service_causes(spec))
    if before is not None:
        old, kind = as_object(before["spec"]), spec.get("type")
        had, has = old.get("clusterIP"), spec.get("clusterIP")
        if had and has and had != has and "ExternalName" not in {kind, old.get("type")}:
            found.append(Cause("spec.clusterIPs[0]", f'Invalid value: ["{has}"]: may not change once set'))
    return found


def _service_causes(spec: JsonObject) -> Iterator[Cause]:
    kind, address = spec.get("type"), spec.get("clusterIP")
    if kind not in TYPES:
        yield _unsupported("spec.type", kind, TYPES)
    if spec.get("sessionAffinity") not in {"None", "ClientIP"}:
        yield _unsupported("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    if kind != "ExternalName" and spec.get("internalTrafficPolicy") not in {"Cluster", "Local"}:
        yield _unsupported("spec.internalTrafficPolicy", spec.get("internalTrafficPolicy"), ("Cluster", "Local"))
    if kind == "ExternalName":
        name = str(spec.get("externalName", "")).removesuffix(".")
        if not name:
            yield Cause("spec.externalName", "Required value", _REQUIRED)
        elif problem := metadata.subdomain(name):
            yield Cause("spec.externalName", f'Invalid value: "{name}": {problem}')
        if address not in {None, ""}:
            yield Cause(
                "spec.clusterIPs", "Forbidden: may not be set when `type` is 'ExternalName'", "FieldValueForbidden"
            )
    elif address not in {None, "", "None"} and not _is_address(address):
        yield Cause("spec.clusterIPs[0]", f"Invalid value: \"{address}\": must be empty, 'None', or a valid IP address")
    if kind in {"NodePort", "LoadBalancer"} and address == "None":
        yield Cause(
            "spec.clusterIPs[0]",
            "Invalid value: \"None\": may not be set to 'None' for LoadBalancer and NodePort services",
        )
    yield from metadata.check_labels(spec.get("selector"), "spec.selector")
    ports = as_objects(spec.get("ports"))
    if not ports and kind != "ExternalName" and address != "None":
        yield Cause("spec.ports", "Required value", _REQUIRED)
    yield from _port_causes(ports, kind)


def _port_causes(ports: list[JsonObject], kind: object) -> Iterator[Cause]:
    names: set[str] = set()
    numbers: set[tuple[object, object]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = str(port.get("name", ""))
        if not name and len(ports) > 1:
            yield Cause(f"{path}.name", "Required value", _REQUIRED)
        elif name and (problem := metadata.label_1123(name)):
            yield Cause(f"{path}.name", f'Invalid value: "{name}": {problem}')
        elif name in names:
            yield Cause(f"{path}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
        names.add(name)
        yield from _number_causes(f"{path}.port", port.get("port"))
        yield from _target_causes(f"{path}.targetPort", port.get("targetPort"))
        if port.get("protocol") not in PROTOCOLS:
            yield _unsupported(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        node_port = port.get("nodePort")
        if node_port and kind in {"ClusterIP", "ExternalName"}:
            yield Cause(
                f"{path}.nodePort", "Forbidden: may not be used when `type` is 'ClusterIP'", "FieldValueForbidden"
            )
        elif node_port and node_port not in NODE_PORTS:
            yield Cause(
                f"{path}.nodePort",
                f"Invalid value: {node_port}: provided port is not in the valid range. The range of valid ports is 30000-32767",
            )
        if (port.get("port"), port.get("protocol")) in numbers:
            yield Cause(path, f"Duplicate value: {port.get('port')}/{port.get('protocol')}", "FieldValueDuplicate")
        numbers.add((port.get("port"), port.get("protocol")))


def _number_causes(path: str, number: object) -> Iterator[Cause]:
    if not isinstance(number, int) or not 1 <= number <= 65535:
        yield Cause(path, f"Invalid value: {number}: must be between 1 and 65535, inclusive")


def _target_causes(path: str, target: object) -> Iterator[Cause]:
    if isinstance(target, str):
        if problem := metadata.port_name(target):
            yield Cause(path, f'Invalid value: "{target}": {problem}')
    elif target is not None:
        yield from _number_causes(path, target)


def _unsupported(path: str, value: object, supported: tuple[str, ...]) -> Cause:
    return Cause(path, f'Unsupported value: "{value}": supported values: {", ".join(supported)}', _NOT_SUPPORTED)


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def set_slice_defaults(content: JsonObject) -> None:
    """Fill in what an EndpointSlice leaves out."""
    for port in as_objects(content.get("ports")):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    content.setdefault("endpoints", [])


def check_slice(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    """What is wrong with an EndpointSlice."""
    kind = content.get("addressType")
    found: list[Cause] = []
    if kind not in {"IPv4", "IPv6", "FQDN"}:
        found.append(_unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6")))
    if before is not None and before.get("addressType") != kind:
        found.append(Cause("addressType", f'Invalid value: "{kind}": field is immutable'))
    if len(as_list(content.get("endpoints"))) > 1000:
        found.append(Cause("endpoints", "Too many: must have at most 1000 items", "FieldValueTooMany"))
    if len(as_list(content.get("ports"))) > 100:
        found.append(Cause("ports", "Too many: must have at most 100 items", "FieldValueTooMany"))
    for index, endpoint in enumerate(as_objects(content.get("endpoints"))):
        addresses = as_list(endpoint.get("addresses"))
        if not addresses:
            found.append(
                Cause(f"endpoints[{index}].addresses", "Required value: must contain at least 1 address", _REQUIRED)
            )
        for place, address in enumerate(addresses):
            path = f"endpoints[{index}].addresses[{place}]"
            found += _address_causes(path, str(address), kind)
    return found


def _address_causes(path: str, text: str, kind: object) -> Iterator[Cause]:
    if kind == "FQDN":
        if problem := metadata.subdomain(text):
            yield Cause(path, f'Invalid value: "{text}": {problem}')
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield Cause(path, f'Invalid value: "{text}": must be a valid IP address')
        return
    if kind == f"IPv{10 - address.version}":
        yield Cause(path, f'Invalid value: "{text}": must be an {kind} address')
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        yield Cause(path, f'Invalid value: "{text}": may not be unspecified, loopback, link-local or multicast')


def set_endpoints_defaults(content: JsonObject) -> None:
    """Fill in what an Endpoints object leaves out."""
    for subset in as_objects(content.get("subsets")):
        for port in as_objects(subset.get("ports")):
            port.setdefault("protocol", "TCP")


def check_endpoints(content: JsonObject, _before: JsonObject | None) -> list[Cause]:
    """What is wrong with an Endpoints object."""
    return [
        cause
        for index, subset in enumerate(as_objects(content.get("subsets")))
        for place, address in enumerate(as_objects(subset.get("addresses")))
        for cause in _address_causes(f"subsets[{index}].addresses[{place}].ip", str(address.get("ip")), "IPv4")
    ]


class Allocator:
    """Hands out ClusterIPs and node ports, and knows which are taken."""

    def __init__(self, network: str = "10.96.0.0/16") -> None:
        self._network = ipaddress.IPv4Network(network)
        self._addresses: dict[str, str] = {}
        self._ports: dict[int, str] = {}
        # The first addresses stay free for those who ask for one (API server, cluster DNS).
        self._next_address = 256 if self._network.num_addresses > 512 else 1
        self._next_port = 0

    def allocate(self, content: JsonObject, before: JsonObject | None) -> None:
        """Complete the addresses and node ports of a Service in place; keeps those it had. Raises `ApiError` 422 for taken ones."""
        spec = content["spec"]
        old = as_object(before["spec"]) if before is not None else {}
        uid = content["metadata"]["uid"]
        name = content["metadata"]["name"]
        if spec["type"] == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
                spec.pop(field, None)
            return
        if not spec.get("clusterIP"):
            given = as_list(spec.get("clusterIPs"))
            spec["clusterIP"] = (given[0] if given else old.get("clusterIP")) or self._free_address()
        self._check_address(spec["clusterIP"], uid, name)
        spec["clusterIPs"] = [spec["clusterIP"]]
        self._allocate_ports(spec, old, uid, name)

    def _check_address(self, address: str, uid: str, name: str) -> None:
        if address == "None":
            return
        owner = self._addresses.get(address, uid)
        inside = _is_address(address) and ipaddress.ip_address(address) in self._network
        if owner != uid or not inside:
            why = (
                "provided IP is already allocated"
                if inside
                else f"the provided network range {self._network} does not contain it"
            )
            cause = Cause("spec.clusterIPs", f'Invalid value: ["{address}"]: failed to allocate IP {address}: {why}')
            raise errors.invalid("Service", "", name, [cause])

    def _allocate_ports(self, spec: JsonObject, old: JsonObject, uid: str, name: str) -> None:
        if spec["type"] == "ClusterIP":
            return
        had = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in as_objects(old.get("ports"))}
        chosen: set[int] = set()
        for index, port in enumerate(as_objects(spec.get("ports"))):
            number = port.get("nodePort") or had.get((port["port"], port["protocol"]))
            if number is None:
                number = self._free_port(chosen)
            elif self._ports.get(number, uid) != uid:
                cause = Cause(
                    f"spec.ports[{index}].nodePort", f"Invalid value: {number}: provided port is already allocated"
                )
                raise errors.invalid("Service", "", name, [cause])
            chosen.add(number)
            port["nodePort"] = number

    def _free_address(self) -> str:
        size = self._network.num_addresses
        for step in range(size):
            offset = (self._next_address + step) % size
            address = str(self._network[offset])
            if 0 < offset < size - 1 and address not in self._addresses:
                self._next_address = offset + 1
                return address
        raise errors.ApiError(500, "InternalError", "failed to allocate a serviceIP: range is full")

    def _free_port(self, chosen: set[int]) -> int:
        for step in range(len(NODE_PORTS)):
            number = NODE_PORTS[(self._next_port + step) % len(NODE_PORTS)]
            if number not in self._ports and number not in chosen:
                self._next_port = number - NODE_PORTS.start + 1
                return number
        raise errors.ApiError(500, "InternalError", "failed to allocate a nodePort: range is full")

    def hold(self, content: JsonObject) -> None:
        """Note what a stored Service has."""
        uid, spec = content["metadata"]["uid"], as_object(content.get("spec"))
        if spec.get("clusterIP") not in {None, "", "None"}:
            self._addresses[spec["clusterIP"]] = uid
        for port in as_objects(spec.get("ports")):
            if port.get("nodePort"):
                self._ports[port["nodePort"]] = uid

    def release(self, content: JsonObject) -> None:
        """Forget what a Service had."""
        spec = as_object(content.get("spec"))
        self._addresses.pop(str(spec.get("clusterIP")), None)
        for port in as_objects(spec.get("ports")):
            self._ports.pop(port.get("nodePort", 0), None)
