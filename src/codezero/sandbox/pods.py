"""One pod on the node: its network, its containers in their order, its files, and what its status says.

An image is a name only: whatever it says, the command runs with this Python environment's programs first in its path.
"""

import asyncio
import re
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol

from codezero.kit.tasks import Tasks, task_group
from codezero.sandbox import files, layout, network
from codezero.sandbox.api import JsonObject, Store, Stored
from codezero.sandbox.api.documents import as_object, as_objects, at
from codezero.sandbox.containers import LARGEST_LOG, Container, Role
from codezero.sandbox.launch import Launch
from codezero.sandbox.pod_files import IssueToken, NotPossibleError, PodVolumes, environment_of, expanded

# Only the network is a pod's own here.
_POD_SYSCTL = re.compile(r"net(\.[a-z0-9_-]+)+")
_SEARCH = "search {namespace}.svc.{domain} svc.{domain} {domain}"


@dataclass(frozen=True, slots=True)
class Node:
    """What the kubelet needs besides the store."""

    log_folder: Path
    issue_token: IssueToken
    authorities: str


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


class PodHost(Protocol):
    """What a pod asks of its kubelet."""

    @property
    def store(self) -> Store:
        """All objects."""
        ...

    @property
    def node(self) -> Node:
        """The node's own."""
        ...

    @property
    def addresses(self) -> Addresses:
        """Pod addresses to be had."""
        ...

    def changed(self, pod: "Pod") -> None:
        """A pod's state changed."""
        ...

    def record(self, pod: "Pod", reason: str, message: str, *, warning: bool) -> None:
        """Something happened to a pod."""
        ...


class Pod:
    """One pod on the node."""

    def __init__(self, kubelet: PodHost, stored: Stored) -> None:
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
        if self._on_node:
            self.address = layout.NODE_ADDRESS
            self.changed()
            return
        self.address, number = self._kubelet.addresses.take()
        self._link = f"pod{number}"
        await network.attach_pod(self._network_name, link=self._link, address=self.address, settings=self._sysctls())
        self.changed()

    def _sysctls(self) -> dict[str, str]:
        """What `securityContext.sysctls` asks for; raises `NotPossibleError` for what is not the pod's own."""
        wanted = as_objects(at(self.content, "spec", "securityContext", "sysctls"))
        for one in wanted:
            if not _POD_SYSCTL.fullmatch(str(one["name"])):
                raise NotPossibleError(
                    "SysctlForbidden", f"forbidden sysctl: {one['name']!r} is not of the pod's network"
                )
        return {one["name"]: str(one["value"]) for one in wanted}

    @property
    def _on_node(self) -> bool:
        """Whether it shares the node's network (`hostNetwork`)."""
        return bool(at(self.content, "spec", "hostNetwork"))

    @property
    def _network_name(self) -> str:
        return layout.CLUSTER if self._on_node else f"pod-{self.uid}"

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
        if self._on_node:
            return layout.NODE_NAME
        return at(self.content, "spec", "hostname") or self.name[:63]

    def _settings(self) -> dict[str, str]:
        search = _SEARCH.format(namespace=self.namespace, domain=layout.DOMAIN)
        resolv = f"{search}\nnameserver {layout.DNS_SERVICE_ADDRESS}\noptions ndots:5\n"
        policy = at(self.content, "spec", "dnsPolicy")
        if policy == "Default" or (policy == "ClusterFirst" and self._on_node):
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
        lasting = [container for container in self.containers if container.role is not Role.INIT]
        unready = [container.name for container in lasting if not container.ready]
        ready = self._initialized and not unready and not self._phase_ended
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
