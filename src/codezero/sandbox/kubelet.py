"""The node: takes on pods, sees each through to its end, and writes down how they are."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from pathlib import Path

from codezero.kit import logs
from codezero.kit.tasks import Tasks, task_group
from codezero.sandbox import layout
from codezero.sandbox.api import ApiError, Event, LogRequest, Options, Preconditions, Store, Stored
from codezero.sandbox.api.collection import is_terminating
from codezero.sandbox.api.documents import as_object, as_objects, at
from codezero.sandbox.happenings import Recorder
from codezero.sandbox.pods import Addresses, Node, Pod, log_file
from codezero.sandbox.processes import CommandError
from codezero.sandbox.queues import WorkQueue

MOST_PODS = 200
_REFRESH = 20.0
_FOLLOW = 0.25
_log = logs.get_logger("kubelet")
_OPTIONS = Options(manager="codezero-sandbox-kubelet")


class Kubelet:
    """Runs the pods of the one node; `run` once."""

    def __init__(self, store: Store, node: Node) -> None:
        self._store = store
        self._node = node
        self._recorder = Recorder(store, "kubelet")
        self._scheduler = Recorder(store, "default-scheduler")
        self._pods: dict[str, Pod] = {}
        self._changed: WorkQueue[str] = WorkQueue()
        self._addresses = Addresses(IPv4Network(layout.POD_NETWORK))

    async def run(self) -> None:
        """Follow the store and run pods, until cancelled. Processes that still run then end with the sandbox."""
        self._register()
        async with task_group("kubelet") as tasks:
            end = self._store.listen(lambda event: self._hear(event, tasks))
            try:
                for pod in self._store.list("pods"):
                    self._look_at(pod, tasks)
                tasks.start_service("statuses", self._keep_statuses())
                tasks.start_service("refresh", self._keep_refreshed())
                await asyncio.Event().wait()
            finally:
                end()

    def kill(self, namespace: str, name: str, container: str | None = None) -> int:
        """Kill the processes of a pod's containers, or of one; how many. They are started again as the pod wants. Raises KeyError without such."""
        found = self._store.find("pods", namespace, name)
        if found is None or found.uid not in self._pods:
            raise KeyError(name)
        chosen = [one for one in self._pods[found.uid].containers if container in {None, one.name}]
        if not chosen:
            raise KeyError(container)
        return sum(one.kill() for one in chosen)

    async def read_log(self, request: LogRequest) -> AsyncIterator[bytes]:
        """The output of a container, as `kubectl logs` wants it."""
        found = self._store.get("pods", request.namespace, request.pod)
        names = [container["name"] for container in as_objects(at(found.content, "spec", "containers"))]
        name = request.container or names[0]
        file = log_file(self._node.log_folder, found.content, name)
        if request.previous:
            file = file.with_suffix(".previous.log")
        position = _start_of_tail(file, request.tail)
        while True:
            content = _read_from(file, position)
            position += len(content)
            if content:
                yield content
            elif not request.follow or found.uid not in self._pods:
                return
            else:
                await asyncio.sleep(_FOLLOW)

    def _register(self) -> None:
        now = self._store.now()
        facts = {
            "Ready": ("True", "KubeletReady", "the sandbox runs (it is a stand-in for a node)"),
            "MemoryPressure": ("False", "KubeletHasSufficientMemory", "the sandbox does not look at memory"),
            "DiskPressure": ("False", "KubeletHasNoDiskPressure", "the sandbox does not look at disks"),
            "PIDPressure": ("False", "KubeletHasSufficientPID", "the sandbox does not count processes"),
        }
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
            for kind, (status, reason, message) in facts.items()
        ]
        sizes = {"cpu": "8", "memory": "16Gi", "pods": str(MOST_PODS)}
        self._store.create(
            "nodes",
            "",
            {
                "metadata": {
                    "name": layout.NODE_NAME,
                    "labels": {"kubernetes.io/hostname": layout.NODE_NAME, "kubernetes.io/os": "linux"},
                },
                "spec": {"podCIDR": layout.POD_NETWORK},
                "status": {
                    "addresses": [
                        {"type": "InternalIP", "address": layout.NODE_ADDRESS},
                        {"type": "Hostname", "address": layout.NODE_NAME},
                    ],
                    "capacity": sizes,
                    "allocatable": sizes,
                    "conditions": conditions,
                    "nodeInfo": {
                        "architecture": "amd64",
                        "bootID": "",
                        "containerRuntimeVersion": "codezero-sandbox://1",
                        "kernelVersion": "",
                        "kubeProxyVersion": "",
                        "kubeletVersion": "v1.33.0+sandbox",
                        "machineID": "",
                        "operatingSystem": "linux",
                        "osImage": "Codezero sandbox (a stand-in)",
                        "systemUUID": "",
                    },
                },
            },
            _OPTIONS,
        )

    def _hear(self, event: Event, tasks: Tasks) -> None:
        if event.resource in {"configmaps", "secrets"}:
            for pod in self._pods.values():
                if pod.namespace == event.stored.namespace:
                    pod.refresh()
            return
        if event.resource != "pods":
            return
        if event.type == "DELETED":
            pod = self._pods.get(event.stored.uid)
            if pod is not None:
                pod.stop(0.0)
            return
        self._look_at(event.stored, tasks)

    def _look_at(self, stored: Stored, tasks: Tasks) -> None:
        content = stored.content
        pod = self._pods.get(stored.uid)
        node = at(content, "spec", "nodeName")
        if pod is not None:
            pod.content = content
            if is_terminating(content):
                pod.stop(float(content["metadata"].get("deletionGracePeriodSeconds", 0)))
        elif not node and not is_terminating(content):
            self._schedule(stored)
        elif node == layout.NODE_NAME and tasks.is_open and at(content, "status", "phase") in {None, "Pending"}:
            self._pods[stored.uid] = pod = Pod(self, stored)
            if is_terminating(content):
                pod.stop(0.0)
            tasks.start(f"pod/{stored.namespace}/{stored.name}", self._see_through(pod))

    def _schedule(self, stored: Stored) -> None:
        if len(self._pods) >= MOST_PODS:
            self._scheduler.record(stored, "FailedScheduling", f"the sandbox runs {MOST_PODS} pods", warning=True)
            return
        # What is heard may be older than what is there.
        found = self._store.find("pods", stored.namespace, stored.name)
        if found is None or found.uid != stored.uid or at(found.content, "spec", "nodeName"):
            return
        content = found.copy()
        content["spec"]["nodeName"] = layout.NODE_NAME
        try:
            self._store.update("pods", stored.namespace, content, _OPTIONS)
        except ApiError as error:
            # Whoever made the pod must not get this as the answer.
            _log.error("pod not scheduled", pod=stored.name, namespace=stored.namespace, error=error.message)
            return
        self._scheduler.record(
            stored, "Scheduled", f"Successfully assigned {stored.namespace}/{stored.name} to {layout.NODE_NAME}"
        )

    async def _see_through(self, pod: Pod) -> None:
        try:
            await pod.run()
        except Exception as error:  # noqa: BLE001 - the edge of a pod: one that fails must not end the others
            _log.exception("pod failed", pod=pod.name, namespace=pod.namespace)
            pod.failure = f"{type(error).__name__}: {error}"
            pod.record("FailedCreatePodSandBox", pod.failure, warning=True)
        self.write_status(pod)
        await self._forget(pod)

    async def _forget(self, pod: Pod) -> None:
        """A pod that has ended for good gives back its network; one that is deleted goes."""
        try:
            await pod.clean_up()
        except (CommandError, TimeoutError) as error:
            _log.error("pod network is left", pod=pod.name, namespace=pod.namespace, error=str(error))
        if not is_terminating(pod.content):
            # Succeeded or Failed: it stays to be looked at.
            await pod.stopped.wait()
        self._pods.pop(pod.uid, None)
        try:
            # Another pod may have its name by now.
            mine = Preconditions(uid=pod.uid)
            self._store.delete("pods", pod.namespace, pod.name, grace_seconds=0, preconditions=mine)
        except ApiError:
            pass  # removed by force
        pod.remove_log()
        for waiting in self._store.list("pods"):
            if not at(waiting.content, "spec", "nodeName") and not is_terminating(waiting.content):
                self._schedule(waiting)
                return

    async def _keep_statuses(self) -> None:
        while True:
            for uid in await self._changed.take_all():
                pod = self._pods.get(uid)
                if pod is not None:
                    self.write_status(pod)
            await asyncio.sleep(0)

    async def _keep_refreshed(self) -> None:
        """Tokens wear out, and logs grow."""
        while True:
            await asyncio.sleep(_REFRESH)
            for pod in tuple(self._pods.values()):
                pod.refresh()
                pod.trim_logs()

    # What pods ask for

    @property
    def store(self) -> Store:
        """All objects."""
        return self._store

    @property
    def node(self) -> Node:
        """The node's own."""
        return self._node

    @property
    def addresses(self) -> Addresses:
        """Pod addresses to be had."""
        return self._addresses

    def changed(self, pod: Pod) -> None:
        """A pod's state changed: tell it soon."""
        self._changed.add(pod.uid)

    def record(self, pod: Pod, reason: str, message: str, *, warning: bool) -> None:
        """An event about a pod."""
        found = self._store.find("pods", pod.namespace, pod.name)
        if found is not None and found.uid == pod.uid:
            self._recorder.record(found, reason, message, warning=warning)

    def write_status(self, pod: Pod) -> None:
        """Write a pod's status, where it changed."""
        found = self._store.find("pods", pod.namespace, pod.name)
        if found is None or found.uid != pod.uid:
            return
        content = found.copy()
        content["status"] = pod.status(as_object(content.get("status")))
        if content["status"] == found.content.get("status"):
            return
        try:
            self._store.update("pods", pod.namespace, content, _OPTIONS, subresource="status")
        except ApiError as error:
            _log.error("status not written", pod=pod.name, error=str(error))


def _start_of_tail(file: Path, lines: int | None) -> int:
    if lines is None or not file.exists():
        return 0
    content = file.read_bytes()
    kept = content.splitlines(keepends=True)[-lines:] if lines > 0 else []
    return len(content) - sum(map(len, kept))


def _read_from(file: Path, position: int) -> bytes:
    try:
        with file.open("rb") as log:
            log.seek(position)
            return log.read(1024 * 1024)
    except FileNotFoundError:
        return b""
