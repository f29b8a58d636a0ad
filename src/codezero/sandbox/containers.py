"""One container of a pod: a process of this machine, started, watched, probed, and started again as its pod wants."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from codezero.kit.tasks import Tasks, task_group
from codezero.sandbox import launch, probes
from codezero.sandbox.api import JsonObject
from codezero.sandbox.api.documents import as_object, at
from codezero.sandbox.launch import Launch, Launched
from codezero.sandbox.pod_files import NotPossibleError
from codezero.sandbox.processes import Process

# Quicker than the ten seconds to five minutes of a real kubelet, because people wait for this one.
RESTART_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_WELL_AFTER = 60.0
_RETRY = 1.0
_COMMAND_DEADLINE = 30.0
LARGEST_LOG = 8 * 1024 * 1024


class Role(StrEnum):
    """What a container is for its pod: `init` runs to its end before others, a `sidecar` starts with those and stays."""

    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"


class Surroundings(Protocol):
    """What a container asks of its pod."""

    address: str
    stopped: asyncio.Event

    def prepare(self, container: JsonObject) -> Launch:
        """How to become this container; raises `NotPossibleError` while something is missing."""
        ...

    def log_file(self, name: str) -> Path:
        """Where the container's output goes."""
        ...

    def changed(self) -> None:
        """The container's state changed."""
        ...

    def record(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Something happened that people may want to know."""
        ...

    @property
    def grace(self) -> float:
        """Seconds between asking a process to end and making it."""
        ...

    @property
    def restart_policy(self) -> str:
        """`Always`, `OnFailure` or `Never`."""
        ...


@dataclass(slots=True)
class Container:
    """Runs one container. Its state is what `status` says."""

    spec: JsonObject
    role: Role
    pod: Surroundings
    # A sidecar outlives the others: it is told to stop by an event of its own.
    stop: asyncio.Event
    restarts: int = 0
    ready: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    failed: bool = False
    _process: Process | None = None
    _state: JsonObject = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    _last_state: JsonObject = field(default_factory=dict[str, JsonObject])
    _id: str = ""
    _mounts: str = ""
    _environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """Its name in the pod."""
        return self.spec["name"]

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return "running" in self._state

    @property
    def ended(self) -> bool:
        """Whether its process has ended and is not to be started again."""
        return "terminated" in self._state

    def status(self) -> JsonObject:
        """As the pod's status has it."""
        return {
            "name": self.name,
            "image": self.spec.get("image", ""),
            "imageID": f"sandbox://{self.spec.get('image', '')}",
            "containerID": f"sandbox://{self._id}" if self._id else "",
            "ready": self.ready,
            "started": self.running and self.started.is_set(),
            "restartCount": self.restarts,
            "state": self._state,
            "lastState": self._last_state,
        }

    def kill(self) -> int:
        """Kill its processes as they are; how many."""
        if self._process is None or not self._process.running:
            return 0
        self._process.send(signal.SIGKILL)
        return 1

    async def run(self) -> None:
        """Start, and start again as wanted, until stopped; returns when it has ended for good."""
        failures = 0
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                code = await self._once()
            except NotPossibleError as error:
                self._wait(error.reason, error.message)
                self.pod.record("Failed", f"{self.name}: {error.message}", warning=True)
                await self._pause(_RETRY)
                continue
            if self.stop.is_set() or not self._wanted_again(code):
                self.failed = code != 0
                break
            failures = 0 if time.monotonic() - began > _WELL_AFTER else failures + 1
            await self._back_off(failures)
            self.restarts += 1
        self.pod.changed()

    def _wanted_again(self, code: int) -> bool:
        if self.role is Role.SIDECAR:
            return True
        if self.role is Role.INIT:
            return code != 0 and self.pod.restart_policy != "Never"
        return self.pod.restart_policy == "Always" or (self.pod.restart_policy == "OnFailure" and code != 0)

    async def _back_off(self, failures: int) -> None:
        delay = RESTART_DELAYS[min(failures, len(RESTART_DELAYS)) - 1] if failures else 0.0
        if delay == 0.0:
            return
        self._last_state = self._state
        self._wait("CrashLoopBackOff", f"back-off {delay:g}s restarting failed container {self.name}")
        self.pod.record("BackOff", f"Back-off restarting failed container {self.name}", warning=True)
        await self._pause(delay)

    async def _once(self) -> int:
        """Start the process and see it through to its end; its exit code."""
        task = self.pod.prepare(self.spec)
        self._environment = task.environment
        descriptor = launch.written(task)
        log = self._open_log()
        try:
            own = [sys.executable, "-I", "-m", "codezero.sandbox.launch", str(descriptor)]
            process = Process(own, output=log, environment=task.environment, descriptors=[descriptor])
            self._begin(process)
            try:
                async with task_group(f"container/{self.name}") as tasks:
                    tasks.start_service("stopping", self._end_when_stopped(process))
                    self._start_probes(process, tasks)
                    code = await process.wait()
            finally:
                self._process = None
                told = launch.answer(descriptor)
                self._kill_rest(told.mounts)
        finally:
            os.close(descriptor)
            os.close(log)
        self._conclude(code, told)
        return code

    def _open_log(self) -> int:
        file = self.pod.log_file(self.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and self.restarts:
            file.replace(file.with_suffix(".previous.log"))
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _begin(self, process: Process) -> None:
        self._process = process
        self._id = secrets.token_hex(16)
        if "terminated" in self._state:
            self._last_state = self._state
        self._state = {"running": {"startedAt": _now()}}
        self.pod.record("Started", f"Started container {self.name}")
        self.pod.changed()

    def _conclude(self, code: int, told: Launched) -> None:
        terminated: JsonObject = {
            "exitCode": 128 - code if code < 0 else code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": self._state["running"]["startedAt"],
            "finishedAt": _now(),
            "containerID": f"sandbox://{self._id}",
        }
        if code < 0:
            terminated["signal"] = -code
        if told.error:
            terminated |= {"reason": "ContainerCannotRun", "message": told.error}
            self.pod.record("Failed", f"Error: {told.error}", warning=True)
        self._state = {"terminated": terminated}
        self.ready = False
        self.started.clear()
        self.pod.changed()

    def _wait(self, reason: str, message: str) -> None:
        self._state = {"waiting": {"reason": reason, "message": message}}
        self.ready = False
        self.pod.changed()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            pass  # time to go on

    # Probes

    def _start_probes(self, process: Process, tasks: Tasks) -> None:
        startup = probes.probing("startup", self.spec, self.pod.address, self._run_inside)
        if startup is None:
            self._has_started()
            tasks.start_service("probes", self._follow_probes(process))
        else:
            tasks.start_service("probes", self._start_up(startup, process))

    async def _start_up(self, startup: probes.Probing, process: Process) -> None:
        over = asyncio.Event()

        def tell(well: bool, reason: str) -> None:
            if well:
                over.set()
            else:
                self._unwell("Startup", reason, process)

        async with task_group("startup") as tasks:
            tasks.start_service("probe", probes.follow(startup, tell))
            await over.wait()
        self._has_started()
        await self._follow_probes(process)

    def _has_started(self) -> None:
        self.started.set()
        self.ready = "readinessProbe" not in self.spec
        self.pod.changed()

    async def _follow_probes(self, process: Process) -> None:
        async with task_group("probes") as tasks:
            readiness = probes.probing("readiness", self.spec, self.pod.address, self._run_inside)
            if readiness is not None:
                tasks.start_service("readiness", probes.follow(readiness, self._tell_readiness))
            liveness = probes.probing("liveness", self.spec, self.pod.address, self._run_inside)
            if liveness is not None:
                tasks.start_service("liveness", probes.follow(liveness, self._tell_liveness(process)))
            await asyncio.Event().wait()

    def _tell_readiness(self, well: bool, reason: str) -> None:
        if not well:
            self.pod.record("Unhealthy", f"Readiness probe failed: {reason}", warning=True)
        if well != self.ready:
            self.ready = well
            self.pod.changed()

    def _tell_liveness(self, process: Process) -> Callable[[bool, str], None]:
        def tell(well: bool, reason: str) -> None:
            if not well:
                self._unwell("Liveness", reason, process)

        return tell

    def _unwell(self, kind: str, reason: str, process: Process) -> None:
        self.pod.record("Unhealthy", f"{kind} probe failed: {reason}", warning=True)
        self.pod.record("Killing", f"Container {self.name} failed {kind.lower()} probe, will be restarted")
        self._ask_to_end(process)

    # Ends

    async def _end_when_stopped(self, process: Process) -> None:
        await self.stop.wait()
        await self._before_stop()
        self._ask_to_end(process)
        await asyncio.Event().wait()

    async def _before_stop(self) -> None:
        hook = as_object(at(self.spec, "lifecycle", "preStop"))
        if not hook:
            return
        try:
            async with asyncio.timeout(self.pod.grace):
                if "sleep" in hook:
                    await asyncio.sleep(hook["sleep"]["seconds"])
                elif at(hook, "exec", "command"):
                    await self._run_inside(hook["exec"]["command"])
        except (TimeoutError, OSError) as error:
            self.pod.record("FailedPreStopHook", f"{self.name}: {error}", warning=True)

    def _ask_to_end(self, process: Process) -> None:
        process.send(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self.pod.grace, process.send, signal.SIGKILL)

    def _kill_rest(self, mounts: str) -> None:
        """Whatever the process left behind in its file system view goes with it."""
        for process in processes_with(mounts):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def _run_inside(self, command: list[str]) -> tuple[int, str]:
        """Run a command beside the container's process; its exit code and what it printed."""
        process = self._process
        if process is None or not process.running:
            return 1, "the container does not run"
        output = os.memfd_create("output", os.MFD_CLOEXEC)
        try:
            enter = ["nsenter", "--target", str(process.pid), "--mount", "--uts", "--ipc", "--net", "--wd", "--"]
            inside = Process([*enter, *command], output=output, environment=self._environment)
            try:
                async with asyncio.timeout(_COMMAND_DEADLINE):
                    code = await inside.wait()
            finally:
                inside.send(signal.SIGKILL)
            return code, os.pread(output, 4096, 0).decode(errors="replace")
        finally:
            os.close(output)


def processes_with(mounts: str) -> list[int]:
    """The processes in a mount namespace, named as its link in /proc reads."""
    found: list[int] = []
    if not mounts:
        return found
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed
        if not entry.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{entry}/ns/mnt") == mounts:  # noqa: PTH115 - not a path
                found.append(int(entry))
        except OSError:
            continue  # it has just ended
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
