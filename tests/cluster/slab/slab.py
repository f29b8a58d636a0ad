"""Start a one-node Kubernetes, ask it, disturb it, stop it. Synchronous.

    with Slab.start(binaries=Path("bin"), images=Path("images"), state=Path("/tmp/slab")) as slab:
        slab.kubectl("get", "pods", "-A")

A slab ends with the process that started it, however that ends. Of it nothing is outside its namespaces but its folder of state and, as
`codezero-<hash of that folder>`, a cgroup; so slabs with different folders can run at the same time.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster.slab import certificates, components, layout, node, objects
from tests.cluster.slab.layout import Layout

START_DEADLINE = 180.0
_STOP_DEADLINE = 20.0
# Components end until the one they need is there. More often than that in a row is a defect.
_MOST_FAILURES = 6
_TAIL = 15
_COMMANDS = ("unshare", "nsenter", "ip", "hostname")
_PROXY_COMMANDS = {"nftables": ("nft",), "iptables": ("iptables", "iptables-save", "iptables-restore")}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ANY = 600.0


class SlabError(Exception):
    """A cluster that could not be started, or a command in it that failed. The text says which, and what it printed last."""


class Slab:
    """A running one-node Kubernetes. As a context manager it is stopped at the end of the block."""

    def __init__(
        self,
        where: Layout,
        process: int,
        *,
        unshare: subprocess.Popen[bytes] | None = None,
        lifeline: int | None = None,
    ) -> None:
        self.where = where
        # Process 1 of the node, as seen from here.
        self.process = process
        self._birth = _born(process)
        self._unshare = unshare
        self._lifeline = lifeline

    @staticmethod
    def lacks(
        *, binaries: Path, images: Path | None, control_plane: bool = False, proxy_mode: str = "nftables"
    ) -> str | None:
        """What keeps this machine from running a slab, for the reason of a skip; `None` where nothing does."""
        if os.geteuid() != 0:
            return "it takes root to make a node"
        missing = Layout(binaries, Path()).missing_programs(control_plane=control_plane)
        if missing:
            return f"not in {binaries}: {', '.join(missing)}"
        if images is not None and not any(images.glob("*.tar")):
            return f"no image archives in {images}"
        needed = _COMMANDS if control_plane else (*_COMMANDS, *_PROXY_COMMANDS[proxy_mode])
        absent = [command for command in needed if shutil.which(command, path=_PATH) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    @staticmethod
    def start(
        *,
        binaries: Path,
        images: Path | None,
        state: Path,
        control_plane: bool = False,
        proxy_mode: str = "nftables",
        apiserver_arguments: Sequence[str] = (),
        progress: Callable[[str], None] = lambda _: None,
    ) -> "Slab":
        """Start a cluster and wait until it is ready: with `control_plane` without a node, else with one that runs pods.

        `images` is a folder of image archives to import, of which one is the pod sandbox's (`pause:lab`) and one the DNS' (`coredns:lab`); without
        it the node gets no DNS. `proxy_mode` is kube-proxy's: nftables or iptables. `progress` is told each step with the time it took. What is in
        `state` of an earlier slab is removed. Raises `SlabError` with the last lines of the log of what failed.
        """
        where = Layout(binaries.resolve(), state.resolve())
        lacking = Slab.lacks(binaries=where.binaries, images=images, control_plane=control_plane, proxy_mode=proxy_mode)
        if lacking:
            raise SlabError(lacking)
        hidden = (*layout.OWN_FOLDERS, *layout.COVERED_FOLDERS)
        for folder in (where.binaries, where.state):
            if any(folder.is_relative_to(own) for own in hidden):
                raise SlabError(f"{folder} must not be below {' or '.join(hidden)}: there the node has its own files")
        with contextlib.suppress(SlabError):
            Slab.find(state)
            raise ValueError(f"a slab runs in {state} already")
        _clear(where, logs=True)
        node.remove_cgroups(where.cgroup)
        _prepare(
            where,
            control_plane=control_plane,
            proxy_mode=proxy_mode,
            apiserver_arguments=apiserver_arguments,
        )
        slab = _isolate(where)
        try:
            slab._become_ready(images, control_plane=control_plane, progress=progress)
        except BaseException:
            slab.stop()
            raise
        return slab

    @staticmethod
    def find(state: Path) -> "Slab":
        """The slab that runs in that folder of state; raises `SlabError` where there is none."""
        try:
            found = json.loads((state / "slab.json").read_text())
            if _born(found["process"]) == found["born"]:
                return Slab(Layout(Path(found["binaries"]), state.resolve()), found["process"])
        except (OSError, ValueError, KeyError):
            pass
        raise SlabError(f"no slab runs in {state}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        """That of the cluster's administrator. It is good where the node can be reached, as in its network namespace."""
        return self.where.kubeconfig("admin")

    @property
    def logs(self) -> Path:
        """The folder of the components' logs, `<component>.log`. It stays when the slab is stopped; those of pods do not."""
        return self.where.logs

    @property
    def network(self) -> Path:
        """The node's network namespace."""
        return Path(f"/proc/{self.process}/ns/net")

    @property
    def components(self) -> tuple[str, ...]:
        """The names of its components, in order of their start."""
        return tuple(json.loads((self.where.state / "node.json").read_text())["components"])

    def kubectl_command(self, *arguments: str) -> list[str]:
        """The command that runs kubectl as administrator, for exec: signals reach it, and files are the machine's."""
        proxies = [option for name in _proxy_variables() for option in ("-u", name)]
        kubectl = [self.where.program("kubectl"), f"--kubeconfig={self.kubeconfig}"]
        # The user's would know other clusters at the same address.
        kubectl.append(f"--cache-dir={self.where.state}/kubectl")
        return ["nsenter", f"--net={self.network}", "env", *proxies, *kubectl, *arguments]

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        check: bool = True,
        timeout: float = 120.0,
    ) -> str:
        """What kubectl prints as administrator. It raises where it fails, or without `check` returns what it printed of errors too."""
        return _output(self.kubectl_command(*arguments), given=input, check=check, timeout=timeout)

    def apply(self, *manifests: dict[str, Any], namespace: str | None = None) -> str:
        """`kubectl apply` of these objects; with `namespace`, all are to be there."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        where = () if namespace is None else ("-n", namespace)
        return self.kubectl("apply", *where, "-f", "-", input=content)

    def kubeconfig_for(self, name: str, token: str | None = None, *, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig, readable by its owner alone: with a token, or without one as the user `name` in `groups` by a certificate."""
        if name in certificates.KUBECONFIGS:
            raise ValueError(f"{name} is the name of one of the cluster's own identities")
        if token is not None:
            return _write_kubeconfig(self.where, name, {"token": token})
        certificates.Authority(self.where.certificates, "ca").issue(f"user-{name}", name, organizations=groups)
        return _write_kubeconfig(self.where, name, _certificate_user(self.where, f"user-{name}"))

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command that runs `arguments` inside the node, in all its namespaces. Signals do not reach them."""
        return ["nsenter", f"--target={self.process}", "--net", "--mount", "--pid", "--uts", "--ipc", *arguments]

    def run(
        self,
        arguments: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        check: bool = True,
        timeout: float = 120.0,
    ) -> str:
        """What a command prints inside the node, in all its namespaces. It raises where it fails; see `kubectl`."""
        return _output(self.command(arguments), given=input, check=check, timeout=timeout)

    def containerd(self, *arguments: str, check: bool = True) -> str:
        """What `ctr` prints, on the containers of Kubernetes."""
        options = ("--address", layout.CONTAINERD_SOCKET, "--namespace", "k8s.io")
        return self.run([self.where.program("ctr"), *options, *arguments], check=check, timeout=_ANY)

    def load(self, archive: Path) -> None:
        """Import an image archive, as docker or podman save it."""
        self.containerd("images", "import", "--snapshotter", "overlayfs", str(archive.resolve()))

    def kill_container(self, container: str) -> None:
        """Kill all processes of a container with SIGKILL, as a crash would; `container` is its id at containerd."""
        self.containerd("tasks", "kill", "--all", "--signal", "SIGKILL", container)

    def restart(self, component: str, *, hard: bool = False) -> None:
        """End a component, with `hard` by SIGKILL; returns when it is started again, which is before it is ready."""
        self.stop_component(component, hard=hard)
        self.start_component(component)

    def stop_component(self, component: str, *, hard: bool = False) -> None:
        """End a component, with `hard` by SIGKILL, and keep it away until `start_component`. What it started stays, as on any node."""
        self._known(component)
        away = self.where.control / "away" / component
        _write(away, str(int(signal.SIGKILL if hard else signal.SIGTERM)))
        self._until(f"{component} has ended", lambda: not self._component(component)[0], within=30, logs=(component,))

    def start_component(self, component: str) -> None:
        """Let a component run again that was stopped; returns when it is started, which is before it is ready."""
        self._known(component)
        (self.where.control / "away" / component).unlink(missing_ok=True)
        self._until(f"{component} has started", lambda: self._component(component)[0], within=30, logs=(component,))

    def wait_for_api(self, *, within: float = 120.0) -> None:
        """Return when the API server is ready to be asked."""
        self._until(
            "the API server is ready",
            lambda: self._succeeds("get", "--raw", "/readyz"),
            within=within,
            logs=("etcd", "kube-apiserver"),
        )

    def wait(self) -> None:
        """Return when it has ended, whoever stopped it."""
        while self._lives():
            time.sleep(0.2)

    def stop(self) -> None:
        """End everything and remove all but the logs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._lives():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process, number)
            deadline = time.monotonic() + _STOP_DEADLINE
            while self._lives() and time.monotonic() < deadline:
                time.sleep(0.05)
        if self._unshare is not None:
            self._unshare.wait(timeout=_STOP_DEADLINE)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        # It does that itself, unless it was killed.
        node.remove_cgroups(self.where.cgroup)
        _clear(self.where, logs=False)

    def _become_ready(self, images: Path | None, *, control_plane: bool, progress: Callable[[str], None]) -> None:
        def step(what: str, probe: Callable[[], bool], *logs: str) -> None:
            begun = time.monotonic()
            self._until(what, probe, within=START_DEADLINE, logs=logs)
            progress(f"{what} after {time.monotonic() - begun:.1f} s")

        step("the node is prepared", (self.where.control / "up").exists, "node")
        step(
            "the API server is ready",
            lambda: self._succeeds("get", "--raw", "/readyz"),
            "etcd",
            "kube-apiserver",
        )
        step(
            "namespaces get their service account",
            lambda: self._succeeds("get", "serviceaccount", "default", "-n", "default"),
            "kube-controller-manager",
        )
        if control_plane:
            return
        step("containerd is ready", lambda: bool(self.containerd("version")), "containerd")
        for archive in sorted(images.glob("*.tar")) if images is not None else ():
            begun = time.monotonic()
            self.load(archive)
            progress(f"{archive.name} imported after {time.monotonic() - begun:.1f} s")
        step("the node is ready", self._node_is_ready, "kubelet")
        if images is None:
            return
        # Its OpenAPI answers a little later than it says to be ready.
        step("DNS is installed", lambda: bool(self.apply(*objects.dns())), "kube-apiserver")
        step("DNS is ready", self._dns_is_ready, "kube-scheduler", "kube-proxy", "kubelet")

    def _until(self, what: str, probe: Callable[[], object], *, within: float, logs: Iterable[str]) -> None:
        """Wait for something; raises with the end of the logs it depends on where that does not come, or cannot come any more."""
        deadline = time.monotonic() + within
        while True:
            refusal = ""
            try:
                if probe():
                    return
            except SlabError as error:
                refusal = f": {error}"
            if not self._lives():
                raise SlabError(self._with_logs(f"the node has ended before {what}", ("node", *logs)))
            for component in logs:
                if self._component(component)[1] >= _MOST_FAILURES:
                    raise SlabError(self._with_logs(f"{component} ends again and again", (component,)))
            if time.monotonic() > deadline:
                raise SlabError(self._with_logs(f"not after {within:.0f} s: {what}{refusal}", logs))
            time.sleep(0.1)

    def _with_logs(self, what: str, names: Iterable[str]) -> str:
        parts = [what]
        for name in dict.fromkeys(names):
            file = self.logs / f"{name}.log"
            with contextlib.suppress(OSError):
                lines = file.read_text(errors="replace").splitlines()[-_TAIL:]
                parts.append("\n".join([f"the end of {file}:", *lines]))
        return "\n".join(parts)

    def _component(self, name: str) -> tuple[int, int]:
        """A component's process inside the node, 0 while it does not run, and how often in a row it failed."""
        try:
            process, failures = (self.where.control / "components" / name).read_text().split()
        except OSError:
            return 0, 0
        return int(process), int(failures)

    def _lives(self) -> bool:
        return self._birth is not None and _born(self.process) == self._birth

    def _known(self, component: str) -> None:
        if component not in self.components:
            raise ValueError(f"no component {component!r}: {', '.join(self.components)}")

    def _succeeds(self, *arguments: str) -> bool:
        ended = subprocess.run(
            self.kubectl_command(*arguments, "--request-timeout=5s"), capture_output=True, check=False
        )
        return ended.returncode == 0

    def _node_is_ready(self) -> bool:
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", layout.NODE, "-o", path, check=False).strip() == "True"

    def _dns_is_ready(self) -> bool:
        return self._succeeds("get", "-n", "kube-system", "deployment/coredns") and self._succeeds(
            "wait", "-n", "kube-system", "--for=condition=Available", "deployment/coredns", "--timeout=2s"
        )


def _prepare(where: Layout, *, control_plane: bool, proxy_mode: str, apiserver_arguments: Sequence[str]) -> None:
    """Write everything that the node and its components read."""
    for folder in ("certificates", "kubeconfigs", "logs", "control", "etcd", "pod-logs", "volume-plugins"):
        (where.state / folder).mkdir(mode=0o700, parents=True)
    certificates.write(where.certificates)
    for name in certificates.KUBECONFIGS:
        _write_kubeconfig(where, name, _certificate_user(where, name))
    if not control_plane:
        version = _output([where.program("containerd"), "--version"]).split()[2].lstrip("v").split(".")
        components.write_settings(where, proxy_mode=proxy_mode, containerd_version=(int(version[0]), int(version[1])))
    kept = {name: value for name, value in os.environ.items() if name in {"LANG", "TZ", "TMPDIR"}}
    settings = {
        "state": str(where.state),
        "logs": str(where.logs),
        "control": str(where.control),
        "run": layout.RUN,
        "own folders": [folder for folder in (*layout.OWN_FOLDERS, *layout.COVERED_FOLDERS) if folder != "/run"],
        "host name": layout.NODE,
        "address": layout.NODE_ADDRESS,
        "cgroup": None if control_plane else where.cgroup,
        "environment": {**kept, "PATH": f"{where.binaries}:{where.binaries}/cni:{_PATH}", "HOME": str(where.state)},
        "components": components.commands(where, control_plane=control_plane, apiserver_arguments=apiserver_arguments),
    }
    (where.state / "node.json").write_text(json.dumps(settings, indent=1))


def _isolate(where: Layout) -> Slab:
    """Start the node's process 1 in namespaces of its own, tied to this process."""
    reader, writer = os.pipe()
    isolated = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process_one = [sys.executable, "-I", node.__file__, str(where.state / "node.json"), "--lifeline", str(reader)]
    with (where.logs / "node.log").open("ab") as log:
        unshare = subprocess.Popen(
            [*isolated, "--propagation", "private", *process_one],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(reader,),
            # Ctrl-C is for whoever started this, who then stops it in order.
            start_new_session=True,
            cwd="/",
        )
    os.close(reader)
    deadline = time.monotonic() + 10
    while not (found := Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()):
        if unshare.poll() is not None or time.monotonic() > deadline:
            unshare.kill()
            unshare.wait()
            os.close(writer)
            raise SlabError(f"no namespaces could be made: {(where.logs / 'node.log').read_text().strip()}")
        time.sleep(0.02)
    slab = Slab(where, int(found[0]), unshare=unshare, lifeline=writer)
    known = {"process": slab.process, "born": _born(slab.process), "binaries": str(where.binaries)}
    (where.state / "slab.json").write_text(json.dumps(known))
    return slab


def _clear(where: Layout, *, logs: bool) -> None:
    """Remove what a slab wrote, and nothing that is not known to be a slab's. The certificates' keys go too."""
    folders = ("certificates", "kubeconfigs", "control", "etcd", "kubelet", "containerd", "cni", "pod-logs", "kubectl")
    for folder in (*folders, "volume-plugins", ".kube", *(("logs",) if logs else ())):
        shutil.rmtree(where.state / folder, ignore_errors=True)
    for file in ("slab.json", "node.json", "kubelet.json", "kube-proxy.json", "containerd.toml", "resolv.conf"):
        (where.state / file).unlink(missing_ok=True)


def _certificate_user(where: Layout, name: str) -> dict[str, str]:
    def encoded(suffix: str) -> str:
        return base64.b64encode((where.certificates / f"{name}.{suffix}").read_bytes()).decode()

    return {"client-certificate-data": encoded("crt"), "client-key-data": encoded("key")}


def _write_kubeconfig(where: Layout, name: str, user: dict[str, str]) -> Path:
    authority = base64.b64encode((where.certificates / "ca.crt").read_bytes()).decode()
    cluster = {"server": layout.API_SERVER, "certificate-authority-data": authority}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "slab",
        "clusters": [{"name": "slab", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "slab", "context": {"cluster": "slab", "user": name}}],
    }
    path = where.kubeconfig(name)
    _write(path, json.dumps(content, indent=1))
    return path


def _write(path: Path, content: str) -> None:
    """Write a file as a whole, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    Path(name).rename(path)


def _proxy_variables() -> list[str]:
    """Those of the environment that would send kubectl elsewhere."""
    return [name for name in os.environ if name.lower().endswith("_proxy") or name == "KUBECONFIG"]


def _output(command: Sequence[str], *, given: str | None = None, check: bool = True, timeout: float = 60.0) -> str:
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **source)
    if ended.returncode == 0:
        return ended.stdout
    if check:
        shown = " ".join(Path(part).name if part.startswith("/") else part for part in command)
        raise SlabError(f"{shown}: ended with {ended.returncode}: {(ended.stderr or ended.stdout).strip()[-2000:]}")
    return ended.stdout + ended.stderr


def _born(process: int) -> str | None:
    """When a process was started, in the kernel's ticks, which with its number makes it one of a kind; `None` where there is none."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else after_name[19]
