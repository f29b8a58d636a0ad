"""Kubernetes objects as JSON, an inventory told by hand and an API server in memory, for tests of what follows a cluster.

`ScriptedApi` speaks to a reflector without sockets. It keeps the protocol's promises (versions, pages, history) until a test takes one away.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from codezero.system.inventory import Inventory
from codezero.system.kubernetes.client import ApiError
from codezero.system.kubernetes.objects import (
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    SERVICES,
    EndpointSliceObject,
    NamespaceObject,
    NodeObject,
    ServiceObject,
)
from codezero.system.kubernetes.reflector import ReflectorStatus

Json = dict[str, Any]


async def until(holds: Callable[[], bool], *, within: float = 20.0) -> None:
    """Let other tasks run until `holds` is true; raises `TimeoutError` after `within` seconds."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - any condition, also of code that signals nothing
            await asyncio.sleep(0.002)


def service_json(
    name: str,
    namespace: str = "shop",
    *,
    ports: Iterable[Json] = ({"port": 80},),
    version: int = 1,
    selector: Mapping[str, str] | None = None,
    **spec: object,
) -> Json:
    """A Service; `selector` defaults to one by its name, `{}` makes it selectorless."""
    chosen = {"app": name} if selector is None else dict(selector)
    return {
        "metadata": _metadata(name, namespace, version),
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "selector": chosen, "ports": list(ports), **spec},
    }


def slice_json(
    service: str,
    namespace: str = "shop",
    *,
    suffix: str = "a",
    endpoints: Iterable[Json] = (),
    ports: Iterable[Json] | None = ({"name": "", "port": 8080, "protocol": "TCP"},),
    family: str = "IPv4",
    version: int = 1,
) -> Json:
    """An EndpointSlice of `service`."""
    metadata = _metadata(f"{service}-{suffix}", namespace, version)
    metadata["labels"] = {"kubernetes.io/service-name": service}
    return {
        "metadata": metadata,
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": None if ports is None else list(ports),
    }


def endpoint_json(address: str, **fields: object) -> Json:
    """An endpoint; `ready`, `serving`, `terminating` are its conditions, `pod` names what it stands for."""
    conditions = {key: fields.pop(key) for key in ("ready", "serving", "terminating") if key in fields}
    pod = fields.pop("pod", None)
    reference = {} if pod is None else {"targetRef": {"kind": "Pod", "name": pod}}
    return {"addresses": [address], "conditions": conditions, **reference, **fields}


def node_json(name: str, *addresses: str, pods: Sequence[str] = (), version: int = 1) -> Json:
    """A Node with internal addresses; `pods` are the networks of its pods."""
    return {
        "metadata": _metadata(name, "", version),
        "spec": {"podCIDR": pods[0], "podCIDRs": list(pods)} if pods else {},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }


def namespace_json(name: str, *, version: int = 1) -> Json:
    """A Namespace."""
    return {"metadata": _metadata(name, "", version), "status": {"phase": "Active"}}


class FilledInventory(Inventory):
    """An inventory that is told by hand, in JSON, what reflectors would tell it."""

    def __init__(self) -> None:
        super().__init__(coalesce=0.001)
        self._told: dict[tuple[str, str, str], Any] = {}

    def put(self, *items: Json) -> None:
        """Create or replace objects."""
        for item in items:
            kind, changed = self._kind_of(item)
            new = msgspec.convert(item, kind)
            key = (kind.__name__, new.metadata.namespace, new.metadata.name)
            old, self._told[key] = self._told.get(key), new
            changed(old, new)

    def remove(self, item: Json) -> None:
        """Delete an object, if it is there."""
        kind, changed = self._kind_of(item)
        key = (kind.__name__, item["metadata"].get("namespace", ""), item["metadata"]["name"])
        old = self._told.pop(key, None)
        if old is not None:
            changed(old, None)

    def synced(self, *, stale_since: float | None = None) -> "FilledInventory":
        """Everything was seen once; returns itself."""
        for resource in (SERVICES, ENDPOINT_SLICES, NAMESPACES, NODES):
            self.source_changed(resource.name, ReflectorStatus(True, stale_since))
        return self

    def _kind_of(self, item: Json) -> tuple[type[Any], Callable[[Any, Any], None]]:
        if "addressType" in item:
            return EndpointSliceObject, self.slice_changed
        if "status" not in item:
            return ServiceObject, self.service_changed
        if "phase" in item["status"]:
            return NamespaceObject, self.namespace_changed
        return NodeObject, self.node_changed


def _metadata(name: str, namespace: str, version: int) -> Json:
    metadata = {"name": name, "uid": f"uid-{namespace}-{name}", "resourceVersion": str(version)}
    return {**metadata, "namespace": namespace} if namespace else metadata


class ScriptedApi:
    """One collection behind the two requests a reflector makes.

    `while_listing` are lines that come between the objects of a streamed list and its end. `on_list` and `on_watch` are called before each answer and may raise `ApiError`. `requests` are the parameters of all requests.
    """

    def __init__(self, objects: Iterable[Json] = (), *, offers_streamed_lists: bool = False) -> None:
        self.offers_streamed_lists = offers_streamed_lists
        self.requests: list[dict[str, str]] = []
        self.on_list: Callable[[Mapping[str, str]], None] = lambda _: None
        self.on_watch: Callable[[Mapping[str, str]], None] = lambda _: None
        self.while_listing: list[bytes] = []
        self.version = 100
        self._oldest = 0
        self._history: list[tuple[int, bytes]] = []
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._objects: dict[tuple[str, str], Json] = {}
        for item in objects:
            self.put(item)

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return len(self._watchers)

    def put(self, item: Json) -> None:
        """Create or replace an object and tell those who watch."""
        key = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
        kind = "MODIFIED" if key in self._objects else "ADDED"
        self.version += 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        self._objects[key] = item
        self._record(kind, item)

    def delete(self, name: str, namespace: str = "shop") -> None:
        """Delete an object and tell those who watch."""
        item = self._objects.pop((namespace, name))
        self.version += 1
        self._record("DELETED", {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}})

    def forget_history(self) -> None:
        """Compact: versions before now can no longer be watched from."""
        self._history.clear()
        self._oldest = self.version

    def say(self, line: bytes) -> None:
        """Send raw bytes to all who watch."""
        for watcher in self._watchers:
            watcher.put_nowait(line)

    def bookmark(self) -> None:
        """Send a bookmark to all who watch."""
        self.say(self._bookmark())

    def end_watches(self) -> None:
        """End all watches in order."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """A page of the list."""
        self.requests.append({"path": path, **parameters})
        await asyncio.sleep(0)
        self.on_list(parameters)
        keys = sorted(self._objects)
        start, limit = int(parameters.get("continue", "0")), int(parameters["limit"])
        rest = start + limit < len(keys)
        page = {
            "metadata": {"resourceVersion": str(self.version), "continue": str(start + limit) if rest else ""},
            "items": [self._objects[key] for key in keys[start : start + limit]] or None,
        }
        return msgspec.json.encode(page)

    @asynccontextmanager
    async def watch(
        self, path: str, parameters: Mapping[str, str], *, silence: float
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """A watch; raises a silent `ApiError` after `silence` seconds without a word."""
        self.requests.append({"path": path, **parameters})
        await asyncio.sleep(0)
        self.on_watch(parameters)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        if "sendInitialEvents" in parameters:
            if not self.offers_streamed_lists:
                raise ApiError("sendInitialEvents is forbidden", status=422, reason="Invalid")
            for key in sorted(self._objects):
                queue.put_nowait(_event("ADDED", self._objects[key]))
            for line in self.while_listing:
                queue.put_nowait(line)
            queue.put_nowait(self._bookmark(ends_initial_events=True))
        else:
            since = int(parameters["resourceVersion"])
            if since < self._oldest:
                raise ApiError("too old resource version", status=410, reason="Expired")
            for version, line in self._history:
                if version > since:
                    queue.put_nowait(line)
        self._watchers.add(queue)
        try:
            yield _drain(queue, silence)
        finally:
            self._watchers.discard(queue)

    def _record(self, kind: str, item: Json) -> None:
        line = _event(kind, item)
        self._history.append((self.version, line))
        self.say(line)

    def _bookmark(self, *, ends_initial_events: bool = False) -> bytes:
        annotations = {"k8s.io/initial-events-end": "true"} if ends_initial_events else {}
        return _event("BOOKMARK", {"metadata": {"resourceVersion": str(self.version), "annotations": annotations}})


def _event(kind: str, item: Json) -> bytes:
    return msgspec.json.encode({"type": kind, "object": item}) + b"\n"


async def _drain(queue: asyncio.Queue[bytes | None], silence: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(silence):
                line = await queue.get()
        except TimeoutError:
            raise ApiError(f"silent for {silence:g} s", silent=True) from None
        if line is None:
            return
        yield line
