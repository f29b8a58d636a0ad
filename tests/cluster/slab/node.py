"""Process 1 of the node: prepares its namespaces, keeps the components running, collects orphans. When it ends, all of the node ends.

Standard library only, run by its path, and nearly without knowledge of Kubernetes. Started by `Slab` as

    unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc ... python -I node.py SETTINGS --lifeline FD

FD is the reading end of a pipe: when the other end is closed, because whoever holds it has ended, the node ends. What it is told while it runs are files
in the folder `control`: `away/<component>` keeps a component stopped, and holds the number of the signal to end it with. What it tells is there too:
`components/<component>` holds its process id inside the node (0 while it does not run) and how often in a row it failed; `up` says that the node is prepared.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

_CGROUPS = Path("/sys/fs/cgroup")
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20
_TICK = 0.1
_KILL_AFTER = 15.0
_LONG_RUN = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
# The kubelet would set these for the whole machine: it sees them set, and the machine's stay as they are.
_SEEN_AS_SET = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
# Of the node's own network namespace.
_NETWORK_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


def main() -> None:
    """Run the node until its lifeline is cut or it is told to stop."""
    parser = argparse.ArgumentParser(prog="node", allow_abbrev=False)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--lifeline", type=int, required=True)
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings.read_text())
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: stopping.append(number))
    prepare(settings)
    components = Components(settings)
    components.control.joinpath("up").touch()
    while not stopping:
        components.tend()
        if select.select([arguments.lifeline], [], [], _TICK)[0]:
            _say("whoever started this has ended")
            break
    components.end()
    _end_everything()
    if settings["cgroup"]:
        remove_cgroups(settings["cgroup"])
    # The kernel ends what is left.
    os._exit(0)


def prepare(settings: dict[str, Any]) -> None:
    """Make of these new namespaces a machine: folders of its own, a host name, an address, a cgroup."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _mount("tmpfs", "/run", "tmpfs")
    for folder in settings["own folders"]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", folder, "tmpfs")
    run = Path(settings["run"])
    run.mkdir()
    Path("/var/log/containers").mkdir()
    # The kubelet wants its volumes' mounts to reach containers; the outside is not part of this since unshare(1) made it private.
    _mount(None, "/", None, _MS_REC | _MS_SHARED)
    for name, value in _SEEN_AS_SET.items():
        file = run / name.replace("/", "-")
        file.write_text(f"{value}\n")
        _mount(str(file), f"/proc/sys/{name}", None, _MS_BIND)
    for name, value in _NETWORK_SETTINGS.items():
        try:
            Path("/proc/sys", name).write_text(value)
        except OSError as error:
            _say(f"sysctl {name}: {error}")
    _prepare_network(settings["host name"], settings["address"])
    if settings["cgroup"]:
        _make_cgroups(settings["cgroup"])


class Components:
    """The node's programs: started, and started again when they end."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.control = Path(settings["control"])
        self._commands: dict[str, list[str]] = settings["components"]
        self._logs = Path(settings["logs"])
        self._folder = settings["state"]
        self._environment = settings["environment"]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._failures = dict.fromkeys(self._commands, 0)
        self._started: dict[str, float] = {}
        self._due = dict.fromkeys(self._commands, 0.0)
        self._told: dict[str, float] = {}
        for folder in ("away", "components"):
            (self.control / folder).mkdir(parents=True, exist_ok=True)

    def tend(self) -> None:
        """Collect what ended, end what is to be away, start what is due."""
        self._collect()
        now = time.monotonic()
        for name in self._commands:
            away = self._away(name)
            if name in self._processes:
                if away is None:
                    self._told.pop(name, None)
                else:
                    self._tell(name, away, now)
            elif away is None and now >= self._due[name]:
                self._start(name)

    def end(self) -> None:
        """Ask all to end, those first that others do not need, and do not wait for it: nothing here is to be kept."""
        for name in reversed(self._commands):
            if name in self._processes:
                self._processes[name].terminate()
        time.sleep(0.3)

    def _away(self, name: str) -> int | None:
        """The signal to end a component with that is to be away."""
        try:
            return int((self.control / "away" / name).read_text())
        except (OSError, ValueError):
            return None

    def _tell(self, name: str, number: int, now: float) -> None:
        if name not in self._told:
            self._told[name] = now
            self._processes[name].send_signal(number)
        elif now - self._told[name] > _KILL_AFTER:
            self._processes[name].kill()

    def _start(self, name: str) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._commands[name],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
            )
        self._started[name] = time.monotonic()
        self._show(name, self._processes[name].pid)

    def _show(self, name: str, process: int = 0) -> None:
        new = self.control / f".{name}"
        new.write_text(f"{process} {self._failures[name]}\n")
        new.rename(self.control / "components" / name)

    def _collect(self) -> None:
        """Reap all that ended: components, and the orphans that every process 1 inherits."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            for name in [name for name, one in self._processes.items() if one.pid == process]:
                self._ended(name, os.waitstatus_to_exitcode(status))

    def _ended(self, name: str, code: int) -> None:
        # Or Popen would wait for it too.
        self._processes.pop(name).returncode = code
        now = time.monotonic()
        if self._told.pop(name, None) is not None:
            self._failures[name], self._due[name] = 0, now
            _say(f"{name} ended with {code}, as told")
        else:
            self._failures[name] = 1 if now - self._started[name] > _LONG_RUN else self._failures[name] + 1
            pause = min(_FIRST_PAUSE * 1.5 ** (self._failures[name] - 1), _LONGEST_PAUSE)
            self._due[name] = now + pause
            _say(f"{name} ended with {code}; again in {pause:.1f} s")
        self._show(name)


def remove_cgroups(name: str, *, within: float = 5.0) -> bool:
    """Remove a cgroup with all below it from every hierarchy; false where something in it would not go."""
    deadline = time.monotonic() + within
    while True:
        left = [top for top in _cgroups(name) if top.is_dir()]
        if not left:
            return True
        if time.monotonic() > deadline:
            return False
        for top in left:
            for folder, _folders, _files in os.walk(top, topdown=False):
                # Processes that were just killed are there a moment longer.
                with contextlib.suppress(OSError):
                    os.rmdir(folder)  # noqa: PTH106
        time.sleep(0.05)


def _cgroups(name: str) -> list[Path]:
    """Where a cgroup is: in the one hierarchy of version 2, or in each one of version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / name]
    return [top / name for top in sorted(_CGROUPS.iterdir()) if top.is_dir() and (top / "cgroup.procs").exists()]


def _make_cgroups(name: str) -> None:
    controllers = _CGROUPS / "cgroup.controllers"
    if controllers.exists():
        wanted = " ".join(f"+{controller}" for controller in controllers.read_text().split())
        try:
            (_CGROUPS / "cgroup.subtree_control").write_text(wanted)
        except OSError as error:
            # In a container whose processes are in the root of what it sees, the kernel refuses (EBUSY).
            raise RuntimeError(
                f"the controllers of cgroup version 2 cannot be handed down ({error}): "
                f"move the processes of {_CGROUPS} into a cgroup below it first"
            ) from None
    for folder in _cgroups(name):
        folder.mkdir(exist_ok=True)
        # A cpuset of version 1 is empty until told, and takes no process.
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not controllers.exists() and (folder / file).exists():
                (folder / file).write_text((folder.parent / file).read_text())


def _prepare_network(name: str, address: str) -> None:
    subprocess.run(["hostname", name], check=True)
    # The default route leads nowhere; without one, pods could not even be told that a place cannot be reached.
    lines = (
        "link set lo up",
        "link add uplink0 type veth peer name uplink1",
        "link set uplink1 up",
        f"addr add {address}/25 dev uplink0",
        "link set uplink0 up",
        f"route add default dev uplink0 src {address}",
    )
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def _end_everything() -> None:
    """Kill all processes of the node and wait until they are gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)


def _mount(source: str | None, target: str, kind: str | None, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    if libc.mount(*encoded, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def _say(what: str) -> None:
    print(time.strftime("%H:%M:%S"), what, flush=True)


if __name__ == "__main__":
    main()
