"""The node: pods become local processes in networks of their own, and their status tells how they are.

An image is a name only: whatever it says, the command runs with this Python environment's programs first in its path.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from codezero.kit import logs
from codezero.kit.tasks import Tasks, task_group
from codezero.sandbox import files, layout, network
from codezero.sandbox.api import ApiError, Event, JsonObject, LogRequest, Options, Store, Stored
from codezero.sandbox.api.collection import is_terminating
from codezero.sandbox.api.documents import as_object, as_objects, at
from codezero.sandbox.containers import LARGEST_LOG, Container, Role
from codezero.sandbox.happenings import Recorder
from codezero.sandbox.launch import Launch
from codezero.sandbox.pod_files import IssueToken, NotPossibleError, PodVolumes, environment_of, expanded
from codezero.sandbox.processes import CommandError
from codezero.sandbox.queues import WorkQueue

MOST_PODS = 200
_REFRESH = 20.0
_FOLLOW = 0.25
_SEARCH = "search {namespace}.svc.{domain} svc.{domain} {domain}"
_log = logs.get_logger("kubelet")
_OPTIONS = Options(manager="codezero-sandbox-kubelet")

PodKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """What the kubelet needs besides the store."""

    log_folder: Path
    issue_token: IssueToken
    authorities: str


class Kubelet:
    """Runs the pods of the one node; `run` once."""

    def __init__(self, store: Store, node: Node) -> None:
        self._store = store
        self._node = node
        self._recorder = Recorder(store, "kubelet")
        self._scheduler = Recorder(store, "default-scheduler")
        self._pods: dict[str, Pod] = {}
        self._unscheduled: WorkQueue[PodKey] = WorkQueue()
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

    def kill(self, namespace: str, name: str) -> int:
        """Kill the processes of a pod's containers; how many. They are started again as the pod wants. Raises KeyError without such a pod."""
        found = self._store.find("pods", namespace, name)
        if found is None or found.uid not in self._pods:
            raise KeyError(name)
        return sum(container.kill() for container in self._pods[found.uid].containers)

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
        content = stored.copy()
        content["spec"]["nodeName"] = layout.NODE_NAME
        self._store.update("pods", stored.namespace, content, _OPTIONS)
        self._scheduler.record(
            stored, "Scheduled", f"Successfully assigned {stored.namespace}/{stored.name} to {layout.NODE_NAME}"
        )

    async def _see_through(self, pod: "Pod") -> None:
        try:
            await pod.run()
        except (CommandError, OSError, TimeoutError) as error:
            _log.error("pod failed", pod=pod.name, namespace=pod.namespace, error=str(error))
            pod.failure = str(error)
            pod.record("FailedCreatePodSandBox", str(error), warning=True)
        self.write_status(pod)
        if pod.failure is not None:
            await pod.stopped.wait()
        await self._forget(pod)

    async def _forget(self, pod: "Pod") -> None:
        """A pod that has ended for good gives back its network; one that is deleted goes."""
        await pod.clean_up()
        if not is_terminating(pod.content):
            # Succeeded or Failed: it stays to be looked at.
            await pod.stopped.wait()
        self._pods.pop(pod.uid, None)
        try:
            self._store.delete("pods", pod.namespace, pod.name, grace_seconds=0)
        except ApiError:
            pass  # removed by force
        pod.remove_log()

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
    def addresses(self) -> "Addresses":
        """Pod addresses to be had."""
        return self._addresses

    def changed(self, pod: "Pod") -> None:
        """A pod's state changed: tell it soon."""
        self._changed.add(pod.uid)

    def record(self, pod: "Pod", reason: str, message: str, *, warning: bool) -> None:
        """An event about a pod."""
        found = self._store.find("pods", pod.namespace, pod.name)
        if found is not None and found.uid == pod.uid:
            self._recorder.record(found, reason, message, warning=warning)

    def write_status(self, pod: "Pod") -> None:
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


class Addresses:
    """Gives out addresses of a network in turn, so that one that was given back is not used again soon. The first is the gateway's."""

    def __init__(self, pods: IPv4Network) -> None:
        self._network = pods
        self._given: set[IPv4Address] = set()
        self._last = pods.network_address + 1

    def take(self) -> tuple[str, int]:
        """A free address, and its number in the network."""
        while True:
            self._last += 1
            if self._last >= self._network.broadcast_address:
                self._last = self._network.network_address + 2
            if self._last not in self._given:
                self._given.add(self._last)
                return str(self._last), int(self._last) - int(self._network.network_address)

    def give_back(self, address: str) -> None:
        """An address is free again."""
        self._given.discard(IPv4Address(address))


class Pod:
    """One pod on the node."""

    def __init__(self, kubelet: Kubelet, stored: Stored) -> None:
        self._kubelet = kubelet
        self.content = stored.content
        self.uid = stored.uid
        self.namespace = stored.namespace
        self.name = stored.name
        self.stopped = asyncio.Event()
        self.failure: str | None = None
        self.address = ""
        self._link = ""
        self._grace = float(at(stored.content, "spec", "terminationGracePeriodSeconds") or 0)
        self._initialized = False
        self._mains_ended = asyncio.Event()
        self._volumes = PodVolumes(
            layout.PODS_FOLDER / stored.uid,
            kubelet.store,
            kubelet.node.issue_token,
            kubelet.node.authorities,
        )
        spec = stored.content["spec"]
        self._first = [
            self._container(one, Role.SIDECAR if one.get("restartPolicy") == "Always" else Role.INIT)
            for one in as_objects(spec.get("initContainers"))
        ]
        self._mains = [self._container(one, Role.MAIN) for one in as_objects(spec.get("containers"))]

    def _container(self, spec: JsonObject, role: Role) -> Container:
        return Container(spec, role, self, self._mains_ended if role is Role.SIDECAR else self.stopped)

    @property
    def containers(self) -> list[Container]:
        """All its containers."""
        return [*self._first, *self._mains]

    @property
    def restart_policy(self) -> str:
        """`Always`, `OnFailure` or `Never`."""
        return at(self.content, "spec", "restartPolicy") or "Always"

    @property
    def grace(self) -> float:
        """Seconds its processes have to end."""
        return self._grace

    async def run(self) -> None:
        """From its network to the end of its last container."""
        await self._join_network()
        async with task_group(f"pod/{self.namespace}/{self.name}") as tasks:
            try:
                if await self._initialize(tasks):
                    self._initialized = True
                    self.changed()
                    async with task_group("containers") as mains:
                        for container in self._mains:
                            mains.start(container.name, container.run())
            finally:
                self._mains_ended.set()

    async def _initialize(self, tasks: Tasks) -> bool:
        for container in self._first:
            if container.role is Role.SIDECAR:
                running = tasks.start(container.name, container.run())
                started = tasks.start(f"{container.name}/started", container.started.wait())
                stopped = tasks.start(f"{container.name}/stopped", self.stopped.wait())
                await asyncio.wait({running, started, stopped}, return_when=asyncio.FIRST_COMPLETED)
                started.cancel()
                stopped.cancel()
            else:
                await container.run()
            if self.stopped.is_set() or container.failed:
                return False
        return True

    async def _join_network(self) -> None:
        self.address, number = self._kubelet.addresses.take()
        self._link = f"pod{number}"
        await network.attach_pod(self._network_name, link=self._link, address=self.address)
        self.changed()

    @property
    def _network_name(self) -> str:
        return f"pod-{self.uid}"

    def stop(self, grace: float) -> None:
        """Let its processes end within `grace` seconds, however they like it then."""
        self._grace = min(self._grace, grace)
        if not self.stopped.is_set():
            self.record("Killing", f"Stopping pod {self.name}")
            self.stopped.set()
        asyncio.get_running_loop().call_later(self._grace, self._kill_all)

    def _kill_all(self) -> None:
        for container in self.containers:
            container.kill()

    async def clean_up(self) -> None:
        """Give back network and volumes."""
        if self._link:
            await network.detach_pod(self._network_name, link=self._link)
            self._kubelet.addresses.give_back(self.address)
            self._link = ""
        self._volumes.remove()

    def refresh(self) -> None:
        """Bring the files of running containers up to date."""
        if not self.stopped.is_set() and any(container.running for container in self.containers):
            try:
                self._volumes.refresh(self.content)
            except NotPossibleError as error:
                self.record("FailedMount", error.message, warning=True)

    # What containers ask for

    def prepare(self, container: JsonObject) -> Launch:
        """How to become one of its containers."""
        content = self.content
        if at(content, "status", "podIP") != self.address:
            content = {**content, "status": {**as_object(content.get("status")), "podIP": self.address}}
        user, group = self._user(container)
        variables = {
            "PATH": ":".join([str(Path(sys.executable).parent), *layout.PROGRAM_FOLDERS]),
            "HOME": "/tmp",  # noqa: S108 - its own, on a memory file system
            "HOSTNAME": self._host_name,
            "LANG": "C.UTF-8",
            **environment_of(container, content, self._kubelet.store),
        }
        command = [expanded(str(part), variables) for part in container.get("command") or ()]
        command += [expanded(str(part), variables) for part in container.get("args") or ()]
        if not container.get("command"):
            raise NotPossibleError(
                "ErrImagePull",
                f'the sandbox has no images, so "{container.get("image")}" has no command: give one in the pod',
            )
        return Launch(
            network=str(layout.network_file(self._network_name)),
            host_name=self._host_name,
            command=command,
            environment=variables,
            mounts=[
                (str(mount.source), mount.target, mount.read_only) for mount in self._volumes.mounts(container, content)
            ],
            settings=self._settings(),
            folder=container.get("workingDir") or "/",
            user=user,
            group=group,
        )

    @property
    def _host_name(self) -> str:
        return at(self.content, "spec", "hostname") or self.name[:63]

    def _settings(self) -> dict[str, str]:
        search = _SEARCH.format(namespace=self.namespace, domain=layout.DOMAIN)
        resolv = f"{search}\nnameserver {layout.DNS_SERVICE_ADDRESS}\noptions ndots:5\n"
        if at(self.content, "spec", "dnsPolicy") == "Default":
            resolv = files.RESOLV_CONF
        names = self._host_name
        if subdomain := at(self.content, "spec", "subdomain"):
            names = f"{names}.{subdomain}.{self.namespace}.svc.{layout.DOMAIN} {names}"
        aliases = "".join(
            f"{alias['ip']} {' '.join(alias.get('hostnames', ()))}\n"
            for alias in as_objects(at(self.content, "spec", "hostAliases"))
        )
        return {
            "resolv.conf": resolv,
            "hosts": f"{files.HOSTS}{self.address} {names}\n{aliases}",
            "hostname": f"{self._host_name}\n",
        }

    def _user(self, container: JsonObject) -> tuple[int | None, int | None]:
        def wanted(name: str) -> int | None:
            own = at(container, "securityContext", name)
            return own if own is not None else at(self.content, "spec", "securityContext", name)

        user, group = wanted("runAsUser"), wanted("runAsGroup")
        if user in {None, 0}:
            return None, None
        refusal = users.refusal
        if refusal is not None:
            self.record("UserIgnored", f"{container['name']} runs as user 0 and not as {user}: {refusal}")
            return None, None
        return user, group if group is not None else user

    def log_file(self, name: str) -> Path:
        """Where a container's output goes."""
        return log_file(self._kubelet.node.log_folder, self.content, name)

    def changed(self) -> None:
        """Its state changed."""
        self._kubelet.changed(self)

    def record(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Something happened to it."""
        self._kubelet.record(self, reason, message, warning=warning)

    def remove_log(self) -> None:
        """Remove the logs, with the pod."""
        for container in self.containers:
            file = self.log_file(container.name)
            file.unlink(missing_ok=True)
            file.with_suffix(".previous.log").unlink(missing_ok=True)

    def trim_logs(self) -> None:
        """Empty logs that have grown too large: better than a full disk."""
        for container in self.containers:
            file = self.log_file(container.name)
            if file.exists() and file.stat().st_size > LARGEST_LOG:
                with file.open("r+b") as log:
                    log.truncate(0)

    # Status

    def status(self, before: JsonObject) -> JsonObject:
        """Its status, keeping the times of conditions that did not change."""
        mains = [container.status() for container in self._mains]
        ready = self._initialized and all(
            container.ready for container in self.containers if container.role is not Role.INIT
        )
        ready = ready and not self._phase_ended
        unready = [container.name for container in self._mains if not container.ready]
        reason, message = ("", "") if ready else ("ContainersNotReady", f"containers with unready status: {unready}")
        status: JsonObject = {
            "phase": self._phase,
            "conditions": _conditions(
                before,
                [
                    ("PodReadyToStartContainers", bool(self.address), "", ""),
                    ("Initialized", self._initialized, "", ""),
                    ("Ready", ready, reason, message),
                    ("ContainersReady", ready, reason, message),
                    ("PodScheduled", True, "", ""),
                ],
            ),
            "hostIP": layout.NODE_ADDRESS,
            "hostIPs": [{"ip": layout.NODE_ADDRESS}],
            "startTime": before.get("startTime") or _now(),
            "containerStatuses": mains,
            "qosClass": before.get("qosClass", "BestEffort"),
        }
        if self.address:
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        if self._first:
            status["initContainerStatuses"] = [container.status() for container in self._first]
        if self.failure is not None:
            status |= {"reason": "SandboxFailed", "message": self.failure}
        return status

    @property
    def _phase_ended(self) -> bool:
        return self._phase in {"Succeeded", "Failed"}

    @property
    def _phase(self) -> str:
        if self.failure is not None or any(
            container.failed for container in self._first if container.role is Role.INIT
        ):
            return "Failed"
        if not self._initialized or not any(
            container.restarts or container.status()["containerID"] for container in self._mains
        ):
            return "Pending"
        if all(container.ended for container in self._mains) and (
            self.restart_policy != "Always" or self.stopped.is_set()
        ):
            return "Failed" if any(container.failed for container in self._mains) else "Succeeded"
        return "Running"


class Users:
    """Whether containers can run as other users here."""

    @cached_property
    def refusal(self) -> str | None:
        """Why not; `None` where they can."""
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if sum(int(length) for _, _, length in ranges) < 65536:
            return "an ordinary user's namespace has one user"
        for folder in files.program_folders():
            for part in (folder, *folder.parents):
                if part.exists() and not part.stat().st_mode & 0o001:
                    return f"other users cannot enter {part}, where programs are"
        return None


users = Users()


def log_file(folder: Path, pod: JsonObject, container: str) -> Path:
    """Where a container's output is kept."""
    metadata = pod["metadata"]
    return folder / f"{metadata['namespace']}_{metadata['name']}_{container}.log"


def _conditions(before: JsonObject, facts: list[tuple[str, bool, str, str]]) -> list[JsonObject]:
    known = {one["type"]: one for one in as_objects(before.get("conditions"))}
    found: list[JsonObject] = []
    for kind, fact, reason, message in facts:
        status = "True" if fact else "False"
        same = known.get(kind, {}).get("status") == status
        condition: JsonObject = {
            "type": kind,
            "status": status,
            "lastProbeTime": None,
            "lastTransitionTime": known[kind]["lastTransitionTime"] if same else _now(),
        }
        if reason:
            condition |= {"reason": reason, "message": message}
        found.append(condition)
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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
