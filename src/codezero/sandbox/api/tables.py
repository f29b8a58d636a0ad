"""Objects as rows for people: the `Table` form that `kubectl get` shows."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from codezero.sandbox.api.documents import (
    JsonObject,
    JsonValue,
    as_list,
    as_object,
    as_objects,
    at,
    encode,
    is_list,
    is_object,
)
from codezero.sandbox.api.kinds import Column, ResourceType
from codezero.sandbox.api.workloads import lasting_containers, lasting_statuses

_NONE = "<none>"
_UNKNOWN = "<unknown>"


def table(
    kind: ResourceType,
    contents: Iterable[JsonObject],
    *,
    include: str = "Metadata",
    metadata: JsonObject | None = None,
    headers: bool = True,
) -> JsonObject:
    """The table of `contents`. `include` says what each row carries: `None`, `Metadata` or the whole `Object`."""
    columns = columns_of(kind)
    now = datetime.now(UTC)
    result: JsonObject = {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata or {},
        "columnDefinitions": [_definition(column) for column in columns] if headers else [],
        "rows": [
            {"cells": [_cell(column, content, now) for column in columns]} | _attached(content, include)
            for content in contents
        ],
    }
    return result


def _definition(column: Column) -> JsonObject:
    is_name = column.name == "Name"
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if is_name else column.format,
        "description": "",
        "priority": 1 if column.wide else 0,
    }


def _cell(column: Column, content: JsonObject, now: datetime) -> JsonValue:
    value = column.value(content)
    if column.type == "date":
        return age(value, now)
    return encode(value).decode() if is_object(value) or is_list(value) else value


def _attached(content: JsonObject, include: str) -> JsonObject:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": content}
    return {
        "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": content["metadata"]}
    }


def age(value: object, now: datetime) -> str:
    """The time since `value` (RFC 3339) as kubectl shows it: `5s`, `3m20s`, `7h5m`, `9d`."""
    try:
        seconds = int((now - datetime.fromisoformat(str(value))).total_seconds())
    except (ValueError, TypeError):
        return _UNKNOWN
    if seconds < 0:
        return "0s"
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def columns_of(kind: ResourceType) -> tuple[Column, ...]:
    """The columns of a kind's tables."""
    if kind.columns is not None:
        return (_NAME, *kind.columns)
    return _COLUMNS.get(kind.key, (_NAME, _AGE))


def _path(*path: str, default: str = _NONE) -> Callable[[JsonObject], JsonValue]:
    def value(content: JsonObject) -> JsonValue:
        found = at(content, *path)
        return default if found is None or found == "" else found

    return value


def _count(*path: str) -> Callable[[JsonObject], JsonValue]:
    return lambda content: at(content, *path) or 0


def _size(*path: str) -> Callable[[JsonObject], JsonValue]:
    return lambda content: len(at(content, *path) or ())


def _ratio(done: tuple[str, ...], wanted: tuple[str, ...]) -> Callable[[JsonObject], JsonValue]:
    return lambda content: f"{at(content, *done) or 0}/{at(content, *wanted) or 0}"


def _pairs(*path: str) -> Callable[[JsonObject], JsonValue]:
    return lambda content: (
        ",".join(f"{key}={value}" for key, value in sorted(as_object(at(content, *path)).items())) or _NONE
    )


def _joined(items: Iterable[object], *, most: int = 3) -> str:
    texts = [str(item) for item in items if item]
    more = f" + {len(texts) - most} more..." if len(texts) > most else ""
    return ",".join(texts[:most]) + more if texts else _NONE


def _service_address(content: JsonObject) -> JsonValue:
    if at(content, "spec", "type") == "ExternalName":
        return at(content, "spec", "externalName") or _NONE
    ingress = as_objects(at(content, "status", "loadBalancer", "ingress"))
    found = [
        *as_list(at(content, "spec", "externalIPs")),
        *(item.get("ip") or item.get("hostname") for item in ingress),
    ]
    return _joined(found) if found else "<pending>" if at(content, "spec", "type") == "LoadBalancer" else _NONE


def _service_ports(content: JsonObject) -> JsonValue:
    return _joined(
        (
            f"{port.get('port')}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol')}"
            for port in as_objects(at(content, "spec", "ports"))
        ),
        most=20,
    )


def _pod_ready(content: JsonObject) -> JsonValue:
    ready = sum(status.get("ready") is True for status in lasting_statuses(content))
    return f"{ready}/{len(lasting_containers(content))}"


def _pod_status(content: JsonObject) -> JsonValue:
    if "deletionTimestamp" in content["metadata"]:
        return "Terminating"
    for status in lasting_statuses(content):
        reason = at(status, "state", "waiting", "reason") or at(status, "state", "terminated", "reason")
        if reason:
            return reason
    return at(content, "status", "reason") or at(content, "status", "phase") or "Unknown"


def _pod_restarts(content: JsonObject) -> JsonValue:
    return str(sum(int(status.get("restartCount") or 0) for status in lasting_statuses(content)))


def _node_status(content: JsonObject) -> JsonValue:
    conditions = as_objects(at(content, "status", "conditions"))
    ready = next((item.get("status") for item in conditions if item.get("type") == "Ready"), "Unknown")
    text = {"True": "Ready", "False": "NotReady"}.get(str(ready), "Unknown")
    return f"{text},SchedulingDisabled" if at(content, "spec", "unschedulable") else text


def _node_roles(content: JsonObject) -> JsonValue:
    prefix = "node-role.kubernetes.io/"
    return _joined(
        key.removeprefix(prefix) for key in as_object(content["metadata"].get("labels")) if key.startswith(prefix)
    )


def _node_address(kind: str) -> Callable[[JsonObject], JsonValue]:
    def value(content: JsonObject) -> JsonValue:
        addresses = as_objects(at(content, "status", "addresses"))
        return next((item.get("address") for item in addresses if item.get("type") == kind), _NONE)

    return value


def _endpoints(content: JsonObject) -> JsonValue:
    return _joined(
        f"{address.get('ip')}:{port.get('port')}"
        for subset in as_objects(content.get("subsets"))
        for port in as_objects(subset.get("ports"))
        for address in as_objects(subset.get("addresses"))
    )


def _slice_ports(content: JsonObject) -> JsonValue:
    ports = [port.get("port") for port in as_objects(content.get("ports"))]
    return _joined(ports) if ports else "<unset>"


def _slice_endpoints(content: JsonObject) -> JsonValue:
    return _joined(
        address for endpoint in as_objects(content.get("endpoints")) for address in as_list(endpoint.get("addresses"))
    )


def _containers(*spec: str, field: str) -> Callable[[JsonObject], JsonValue]:
    return lambda content: (
        ",".join(str(item.get(field)) for item in as_objects(at(content, *spec, "containers"))) or _NONE
    )


def _selector(content: JsonObject) -> JsonValue:
    return _pairs("spec", "selector", "matchLabels")(content)


def _role(content: JsonObject) -> JsonValue:
    return f"{at(content, 'roleRef', 'kind')}/{at(content, 'roleRef', 'name')}"


def _event_object(content: JsonObject) -> JsonValue:
    return f"{str(at(content, 'involvedObject', 'kind') or '').lower()}/{at(content, 'involvedObject', 'name') or ''}"


def _event_time(content: JsonObject) -> JsonValue:
    return content.get("lastTimestamp") or content.get("eventTime") or content["metadata"].get("creationTimestamp")


def _ingress_hosts(content: JsonObject) -> JsonValue:
    hosts = [rule.get("host") for rule in as_objects(at(content, "spec", "rules"))]
    return _joined(hosts) if any(hosts) else "*"


def _ingress_address(content: JsonObject) -> JsonValue:
    found = [
        item.get("ip") or item.get("hostname") for item in as_objects(at(content, "status", "loadBalancer", "ingress"))
    ]
    return ",".join(str(item) for item in found)


_NAME = Column("Name", _path("metadata", "name"))
_AGE = Column("Age", _path("metadata", "creationTimestamp"), "date")
_POD_COLUMNS = (
    Column("Containers", _containers("spec", "template", "spec", field="name"), wide=True),
    Column("Images", _containers("spec", "template", "spec", field="image"), wide=True),
    Column("Selector", _selector, wide=True),
)
_NODE_INFO = ("status", "nodeInfo")
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "namespaces": (_NAME, Column("Status", _path("status", "phase")), _AGE),
    "nodes": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _path(*_NODE_INFO, "kubeletVersion")),
        Column("Internal-IP", _node_address("InternalIP"), wide=True),
        Column("External-IP", _node_address("ExternalIP"), wide=True),
        Column("OS-Image", _path(*_NODE_INFO, "osImage"), wide=True),
        Column("Kernel-Version", _path(*_NODE_INFO, "kernelVersion"), wide=True),
        Column("Container-Runtime", _path(*_NODE_INFO, "containerRuntimeVersion"), wide=True),
    ),
    "services": (
        _NAME,
        Column("Type", _path("spec", "type")),
        Column("Cluster-IP", _path("spec", "clusterIP")),
        Column("External-IP", _service_address),
        Column("Port(s)", _service_ports),
        _AGE,
        Column("Selector", _pairs("spec", "selector"), wide=True),
    ),
    "endpoints": (_NAME, Column("Endpoints", _endpoints), _AGE),
    "pods": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _pod_restarts),
        _AGE,
        Column("IP", _path("status", "podIP"), wide=True),
        Column("Node", _path("spec", "nodeName"), wide=True),
        Column("Nominated Node", _path("status", "nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda _content: _NONE, wide=True),
    ),
    "configmaps": (_NAME, Column("Data", _size("data"), "integer"), _AGE),
    "secrets": (_NAME, Column("Type", _path("type")), Column("Data", _size("data"), "integer"), _AGE),
    "serviceaccounts": (_NAME, Column("Secrets", _size("secrets"), "integer"), _AGE),
    "events": (
        Column("Last Seen", _event_time, "date"),
        Column("Type", _path("type")),
        Column("Reason", _path("reason")),
        Column("Object", _event_object),
        Column("Message", _path("message", default="")),
        Column("Name", _path("metadata", "name"), wide=True),
    ),
    "endpointslices.discovery.k8s.io": (
        _NAME,
        Column("AddressType", _path("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    "deployments.apps": (
        _NAME,
        Column("Ready", _ratio(("status", "readyReplicas"), ("spec", "replicas"))),
        Column("Up-to-date", _count("status", "updatedReplicas"), "integer"),
        Column("Available", _count("status", "availableReplicas"), "integer"),
        _AGE,
        *_POD_COLUMNS,
    ),
    "replicasets.apps": (
        _NAME,
        Column("Desired", _count("spec", "replicas"), "integer"),
        Column("Current", _count("status", "replicas"), "integer"),
        Column("Ready", _count("status", "readyReplicas"), "integer"),
        _AGE,
        *_POD_COLUMNS,
    ),
    "statefulsets.apps": (
        _NAME,
        Column("Ready", _ratio(("status", "readyReplicas"), ("spec", "replicas"))),
        _AGE,
        *_POD_COLUMNS[:2],
    ),
    "daemonsets.apps": (
        _NAME,
        Column("Desired", _count("status", "desiredNumberScheduled"), "integer"),
        Column("Current", _count("status", "currentNumberScheduled"), "integer"),
        Column("Ready", _count("status", "numberReady"), "integer"),
        Column("Up-to-date", _count("status", "updatedNumberScheduled"), "integer"),
        Column("Available", _count("status", "numberAvailable"), "integer"),
        Column("Node Selector", _pairs("spec", "template", "spec", "nodeSelector")),
        _AGE,
        *_POD_COLUMNS,
    ),
    "networkpolicies.networking.k8s.io": (
        _NAME,
        Column("Pod-Selector", _pairs("spec", "podSelector", "matchLabels")),
        _AGE,
    ),
    "ingresses.networking.k8s.io": (
        _NAME,
        Column("Class", _path("spec", "ingressClassName")),
        Column("Hosts", _ingress_hosts),
        Column("Address", _ingress_address),
        Column("Ports", lambda content: "80, 443" if at(content, "spec", "tls") else "80"),
        _AGE,
    ),
    "clusterroles.rbac.authorization.k8s.io": (_NAME, Column("Created At", _path("metadata", "creationTimestamp"))),
    "roles.rbac.authorization.k8s.io": (_NAME, Column("Created At", _path("metadata", "creationTimestamp"))),
    "clusterrolebindings.rbac.authorization.k8s.io": (_NAME, Column("Role", _role), _AGE),
    "rolebindings.rbac.authorization.k8s.io": (_NAME, Column("Role", _role), _AGE),
    "leases.coordination.k8s.io": (_NAME, Column("Holder", _path("spec", "holderIdentity", default="")), _AGE),
    "customresourcedefinitions.apiextensions.k8s.io": (
        _NAME,
        Column("Created At", _path("metadata", "creationTimestamp")),
    ),
    "poddisruptionbudgets.policy": (
        _NAME,
        Column("Min Available", _path("spec", "minAvailable", default="N/A")),
        Column("Max Unavailable", _path("spec", "maxUnavailable", default="N/A")),
        Column("Allowed Disruptions", _count("status", "disruptionsAllowed"), "integer"),
        _AGE,
    ),
}
