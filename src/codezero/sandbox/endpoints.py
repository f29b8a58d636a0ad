"""EndpointSlices: which pods stand behind a Service, by their readiness; and an index of all slices for those who ask by Service."""

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from codezero.kit import logs
from codezero.sandbox import layout
from codezero.sandbox.api.collection import is_terminating
from codezero.sandbox.api.documents import JsonObject, as_object, as_objects, at
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.storage import Event, Stored
from codezero.sandbox.api.store import Options, Store
from codezero.sandbox.queues import WorkQueue
from codezero.sandbox.workloads import is_ready

SLICES = "endpointslices.discovery.k8s.io"
SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
MOST_ENDPOINTS = 100

_RETRY = 1.0
_log = logs.get_logger("endpoints")
_OPTIONS = Options(manager=MANAGER)

ServiceKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Backend:
    """One address behind a Service's port, as a slice tells it."""

    address: str
    port: int
    ready: bool
    serving: bool
    host_name: str | None = None


class SliceIndex:
    """The slices of each Service, kept by the store's events. Listeners hear the key of each Service whose slices changed."""

    def __init__(self, store: Store) -> None:
        self._slices: defaultdict[ServiceKey, dict[str, JsonObject]] = defaultdict(dict)
        self._listeners: list[Callable[[ServiceKey], None]] = []
        for stored in store.list(SLICES):
            self._keep(stored)
        store.listen(self._hear, SLICES)

    def listen(self, listener: Callable[[ServiceKey], None]) -> None:
        """Have `listener` called with the Service of every changed slice."""
        self._listeners.append(listener)

    def endpoints(self, key: ServiceKey) -> Iterator[JsonObject]:
        """All endpoints of a Service."""
        for content in self._slices.get(key, {}).values():
            yield from as_objects(content.get("endpoints"))

    def backends(self, key: ServiceKey, port_name: str, protocol: str) -> list[Backend]:
        """What stands behind the port of that name, ready or not, without doubles."""
        found: dict[tuple[str, int], Backend] = {}
        for content in self._slices.get(key, {}).values():
            if content.get("addressType") != "IPv4":
                continue
            for port in as_objects(content.get("ports")):
                if (port.get("name") or "", port.get("protocol", "TCP")) != (port_name, protocol):
                    continue
                for backend in _backends(content, port.get("port")):
                    found[backend.address, backend.port] = backend
        return sorted(found.values(), key=lambda one: (one.address, one.port))

    def _hear(self, event: Event) -> None:
        if event.before is not None:
            self._drop(event.before)
        if event.type != "DELETED":
            self._keep(event.stored)
        keys = {_service_of(one) for one in (event.before, event.stored) if one is not None}
        for key in keys:
            for listener in self._listeners:
                listener(key)

    def _keep(self, stored: Stored) -> None:
        self._slices[_service_of(stored)][stored.name] = stored.content

    def _drop(self, stored: Stored) -> None:
        key = _service_of(stored)
        self._slices[key].pop(stored.name, None)
        if not self._slices[key]:
            del self._slices[key]


def _service_of(stored: Stored) -> ServiceKey:
    return stored.namespace, str(at(stored.content, "metadata", "labels", SERVICE_LABEL) or "")


def _backends(content: JsonObject, port: object) -> Iterator[Backend]:
    if not isinstance(port, int):
        return
    for endpoint in as_objects(content.get("endpoints")):
        conditions = as_object(endpoint.get("conditions"))
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving") is not False if "serving" in conditions else ready
        for address in endpoint.get("addresses") or ():
            yield Backend(address, port, ready, serving, endpoint.get("hostname"))


def usable(backends: Iterable[Backend]) -> list[Backend]:
    """Those that are ready; where none is, those that end but still serve."""
    all_of_them = list(backends)
    return [one for one in all_of_them if one.ready] or [one for one in all_of_them if one.serving]


async def keep_endpoints(store: Store) -> None:
    """Keep the EndpointSlices of all Services that have a selector, for as long as this runs."""
    controller = Endpoints(store)
    await controller.run()


class Endpoints:
    """The controller; `run` once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: WorkQueue[ServiceKey] = WorkQueue()
        # Services with selectors by namespace: a pod's change costs what its own namespace holds.
        self._selectors: defaultdict[str, dict[str, JsonObject]] = defaultdict(dict)

    async def run(self) -> None:
        """Follow the store and act."""
        ends = [
            self._store.listen(self._hear_service, "services"),
            self._store.listen(self._hear_pod, "pods"),
            self._store.listen(self._hear_slice, SLICES),
        ]
        try:
            for service in self._store.list("services"):
                self._know(service)
            while True:
                namespace, name = await self._queue.take()
                self.look_at(namespace, name)
                await asyncio.sleep(0)
        finally:
            for end in ends:
                end()

    def look_at(self, namespace: str, name: str) -> None:
        """Bring the slices of one Service up to date."""
        service = self._store.find("services", namespace, name)
        try:
            if service is not None and as_object(at(service.content, "spec", "selector")):
                self._write(service)
            elif service is not None:
                for unwanted in self._own_slices(service):
                    self._store.delete(SLICES, namespace, unwanted)
        except ApiError as error:
            _log.warning("will be tried again", namespace=namespace, service=name, error=str(error))
            asyncio.get_running_loop().call_later(_RETRY, self._queue.add, (namespace, name))

    def _hear_service(self, event: Event) -> None:
        if event.type == "DELETED":
            self._selectors[event.stored.namespace].pop(event.stored.name, None)
        else:
            self._know(event.stored)

    def _know(self, service: Stored) -> None:
        selector = as_object(at(service.content, "spec", "selector"))
        before = self._selectors[service.namespace].pop(service.name, None)
        if selector:
            self._selectors[service.namespace][service.name] = selector
        if selector or before:
            self._queue.add((service.namespace, service.name))

    def _hear_pod(self, event: Event) -> None:
        for name, selector in self._selectors[event.stored.namespace].items():
            for version in (event.stored, event.before):
                if version is not None and _chooses(selector, version.content):
                    self._queue.add((event.stored.namespace, name))
                    break

    def _hear_slice(self, event: Event) -> None:
        """Somebody else changed or removed a slice of ours: put it right."""
        if at(event.stored.content, "metadata", "labels", MANAGED_LABEL) == MANAGER:
            namespace, name = _service_of(event.stored)
            if name in self._selectors[namespace]:
                self._queue.add((namespace, name))

    def _write(self, service: Stored) -> None:
        pods = [
            pod
            for pod in self._store.list("pods", service.namespace)
            if _chooses(service.content["spec"]["selector"], pod.content)
        ]
        wanted = slices_of(service.content, [pod.content for pod in pods])
        present = self._own_slices(service)
        for content in wanted:
            name = content["metadata"]["name"]
            content["metadata"]["ownerReferences"] = [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": service.name,
                    "uid": service.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]
            before = present.pop(name, None)
            if before is None:
                self._store.create(SLICES, service.namespace, content, _OPTIONS)
                continue
            changed = before.copy()
            changed["metadata"]["labels"] = content["metadata"]["labels"]
            changed |= {"endpoints": content["endpoints"], "ports": content["ports"]}
            self._store.update(SLICES, service.namespace, changed, _OPTIONS)
        for name in present:
            self._store.delete(SLICES, service.namespace, name)

    def _own_slices(self, service: Stored) -> dict[str, Stored]:
        return {
            stored.name: stored
            for stored in self._store.list(SLICES, service.namespace)
            if _service_of(stored)[1] == service.name
            and at(stored.content, "metadata", "labels", MANAGED_LABEL) == MANAGER
        }


def slices_of(service: JsonObject, pods: Iterable[JsonObject]) -> list[JsonObject]:
    """The slices a Service should have for these pods: pods whose ports have the same numbers share them."""
    groups: defaultdict[str, list[JsonObject]] = defaultdict(list)
    for pod in pods:
        if at(pod, "status", "podIP") and at(pod, "status", "phase") not in {"Succeeded", "Failed"}:
            groups[json.dumps(_ports(service, pod), sort_keys=True)].append(_endpoint(service, pod))
    if not groups:
        groups["[]"] = []
    made: list[JsonObject] = []
    for ports, endpoints in sorted(groups.items()):
        endpoints.sort(key=lambda one: one.get("targetRef", {}).get("name", ""))
        made += [
            _slice(service, json.loads(ports), endpoints[start : start + MOST_ENDPOINTS], part=start)
            for start in range(0, max(1, len(endpoints)), MOST_ENDPOINTS)
        ]
    return made


def _slice(service: JsonObject, ports: list[JsonObject], endpoints: list[JsonObject], *, part: int) -> JsonObject:
    name = service["metadata"]["name"]
    short = hashlib.sha256(f"{json.dumps(ports)}/{part}".encode()).hexdigest()[:5]
    labels = {
        **as_object(service["metadata"].get("labels")),
        SERVICE_LABEL: name,
        MANAGED_LABEL: MANAGER,
    }
    if at(service, "spec", "clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    return {
        "metadata": {"name": f"{name}-{short}", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def _endpoint(service: JsonObject, pod: JsonObject) -> JsonObject:
    ending = is_terminating(pod)
    serving = is_ready(pod)
    forced = bool(at(service, "spec", "publishNotReadyAddresses"))
    metadata = pod["metadata"]
    endpoint: JsonObject = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": forced or (serving and not ending), "serving": serving, "terminating": ending},
        "nodeName": at(pod, "spec", "nodeName") or layout.NODE_NAME,
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    if at(pod, "spec", "hostname") and at(pod, "spec", "subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    return endpoint


def _ports(service: JsonObject, pod: JsonObject) -> list[JsonObject]:
    found: list[JsonObject] = []
    for port in as_objects(at(service, "spec", "ports")):
        protocol = port.get("protocol", "TCP")
        number = _number(port.get("targetPort", port["port"]), protocol, pod)
        if number is not None:
            entry = {"name": port.get("name", ""), "port": number, "protocol": protocol}
            if "appProtocol" in port:
                entry["appProtocol"] = port["appProtocol"]
            found.append(entry)
    return found


def _number(target: object, protocol: str, pod: JsonObject) -> int | None:
    if isinstance(target, int):
        return target
    for container in (*as_objects(at(pod, "spec", "containers")), *as_objects(at(pod, "spec", "initContainers"))):
        for port in as_objects(container.get("ports")):
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return port["containerPort"]
    return None


def _chooses(selector: JsonObject, pod: JsonObject) -> bool:
    labels = as_object(pod["metadata"].get("labels"))
    return all(labels.get(name) == value for name, value in selector.items())
