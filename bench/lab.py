"""Where the byte path is measured: one sandbox in which every candidate crosses the same links.

laptop ---- internet ---- node ---- gateway (the cluster's end of a candidate; the System is such a pod too) ---- backend

The sandbox lets laptops reach port 8800 of the cluster alone. Here, the ports of the candidates are opened beside it, in the table of this one sandbox.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ends, load, processes
from bench.load import Load

from codezero.router import envoy_process
from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.waiting import eventually

HERE = Path(__file__).parent
BASELINES = HERE / "baselines"
NAMESPACE = "bench"
# As in path.yaml, except for that of the tunnel itself.
OPENED = (7000, 7002, 8080, 7100, 7101, 7110, 7111, 7120, 7130, 7132, 7140, 7150)
_LONG_LINK_PORT = 8899

_OPEN = f"""
insert rule ip doors outside iifname "uplink0" ip daddr {layout.NODE_ADDRESS} tcp dport {{ {", ".join(map(str, OPENED))} }} accept
"""
_THROUGH_PROXY = f"""
table ip long-link {{
  chain incoming {{
    type nat hook prerouting priority dstnat;
    iifname "to-{layout.LAPTOP2}" ip daddr {layout.NODE_ADDRESS} tcp dport {layout.TUNNEL_PORT} redirect to :{_LONG_LINK_PORT}
  }}
}}
"""


def baselines_hash() -> str:
    """Of all that the baselines are told: two runs with one hash compare with the same things."""
    digest = hashlib.sha256()
    for file in sorted(BASELINES.iterdir()):
        digest.update(f"{file.name}\0{file.read_text()}\0".encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Lab:
    """A sandbox with backend and gateway, and a folder for what the candidates need. Made by `lab`."""

    sandbox: Sandbox
    folder: Path
    words: Mapping[str, str]
    gateway: str  # the gateway's network
    gateway_address: str

    @property
    def backend(self) -> str:
        """The address of the backend's pod, by which the ends in the cluster reach it."""
        return self.words["BACKEND"]

    def filled(self, name: str, **more: str) -> Path:
        """A baseline's file with addresses and folders in the place of words."""
        text = _filled((BASELINES / name).read_text(), {**self.words, **more})
        file = self.folder / "-".join([name, *more.values()])
        file.write_text(text)
        return file

    def arguments(self, name: str) -> list[str]:
        """A baseline's arguments, which its file has one option a line."""
        return self.filled(name).read_text().split()

    def load(self, place: str, address: str, *, tls: bool = False) -> Load:
        """The load, as somebody in `place` sees what is at `address`."""
        pipe = subprocess.PIPE

        def start(command: Sequence[str]) -> "subprocess.Popen[str]":
            return self.sandbox.popen(place, command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

        return Load(address, start, self.folder if tls else None)

    @contextlib.contextmanager
    def running(self, place: str, *command: str, stdin: int = subprocess.DEVNULL) -> Generator["subprocess.Popen[Any]"]:
        """A command runs in a place of the sandbox for as long as the block lasts; `gateway` is one too."""
        if place == "gateway":
            place, command = layout.CLUSTER, ("ip", "netns", "exec", self.gateway, *command)
        with (self.folder / "output").open("a") as output:
            options = {"stdin": stdin, "stdout": output, "stderr": subprocess.STDOUT, "text": True}
            running = self.sandbox.popen(place, command, **options)
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(timeout=10)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()

    def agent(self, place: str = layout.LAPTOP) -> Callable[[], set[int]]:
        """All of a laptop's agent: Supervisor and Daemon, the guard of the Supervisor, and the `nft` that holds the capture."""
        return self._on_laptop(r"codezero\.local\.(supervisor|daemon)\.main", place, below=True)

    def daemon(self, place: str = layout.LAPTOP) -> Callable[[], set[int]]:
        """The Daemon of a laptop, alone."""
        return self._on_laptop(r"codezero\.local\.daemon\.main", place, below=False)

    def _on_laptop(self, pattern: str, place: str, *, below: bool) -> Callable[[], set[int]]:
        everywhere = self._named(pattern)
        network = self.sandbox.run(place, ["readlink", "/proc/self/ns/net"]).stdout.strip()

        def found() -> set[int]:
            here = {one for one in everywhere() if processes.network(one) == network}
            return processes.trees(here) if below else here

        return found

    def system(self) -> Callable[[], set[int]]:
        """The System."""
        return self._named("czsystem")

    def routers(self) -> Callable[[], set[int]]:
        """The Envoys of Routers."""
        return self._named(re.escape(self.words["ENVOY"]))

    def _named(self, pattern: str) -> Callable[[], set[int]]:
        """Those processes of the sandbox itself (not what the bench runs in it) in whose command line the pattern is."""
        keeper = self.sandbox.keeper
        return lambda: processes.named(keeper, pattern)

    def serve(self, *arguments: str) -> None:
        """Serve on the laptop, until the condition is met."""
        Laptop(self.sandbox).serve(f"{NAMESPACE}/served", *arguments, "--condition-type", "default")

    def address_of(self, service: str) -> str:
        """A Service's address in the cluster."""
        return str(self._get("service", service)["spec"]["clusterIP"])

    def consumed(self, place: str, service: str = "backend") -> str:
        """The address that a name of the cluster has on a laptop that consumes it."""
        laptop = Laptop(self.sandbox, place)
        laptop.start()
        laptop.consume(f"*.{NAMESPACE}")
        return str(eventually(lambda: laptop.address_of(f"{service}.{NAMESPACE}")))

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        printed = self.sandbox.run(layout.CLUSTER, ["kubectl", "get", kind, name, "-n", NAMESPACE, "-o", "json"]).stdout
        return json.loads(printed)

    @contextlib.contextmanager
    def long_link(self) -> Generator[Callable[[float], None]]:
        """While the block lasts, the second laptop's tunnel goes through a proxy; the function given says how many milliseconds each way it takes."""
        self.sandbox.run(layout.INTERNET, ["nft", "-f", "-"], input=_THROUGH_PROXY)
        where, target = f"0.0.0.0:{_LONG_LINK_PORT}", f"{layout.NODE_ADDRESS}:{layout.TUNNEL_PORT}"
        with self.running(layout.INTERNET, load.program(), "delay", where, target, stdin=subprocess.PIPE) as proxy:

            def set_delay(milliseconds: float) -> None:
                print(milliseconds, file=proxy.stdin, flush=True)

            set_delay(0)
            yield set_delay


@contextlib.contextmanager
def lab() -> Generator[Lab]:
    """A lab; its sandbox and all that is in its folder go with the block."""
    program = load.program()
    with contextlib.ExitStack() as stack:
        # Beside the program: folders for temporary files are not those of the machine inside a sandbox.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path(program).parent)))
        ends.write_certificates(folder)
        _make_ssh_keys(folder)
        sandbox = stack.enter_context(Sandbox.up(name=f"bench-path-{os.getpid()}", sample=False, tied=True))
        sandbox.run(layout.CLUSTER, ["nft", "-f", "-"], input=_OPEN)
        words = {
            "LOAD": program,
            "CERTIFICATES": str(folder),
            "BASELINES": str(BASELINES),
            "NODE": layout.NODE_ADDRESS,
            "MODULES": "/usr/lib/nginx/modules",
            "ENVOY": str(envoy_process.program()),
        }
        manifests = _filled((HERE / "path.yaml").read_text(), words)
        sandbox.run(layout.CLUSTER, ["kubectl", "apply", "-f", "-"], input=manifests)
        pods = eventually(lambda: _ready_pods(sandbox), within=60)
        words["BACKEND"] = pods["backend"]["status"]["podIP"]
        gateway = pods["gateway"]
        made = Lab(sandbox, folder, words, f"pod-{gateway['metadata']['uid']}", gateway["status"]["podIP"])
        stack.enter_context(_processes_of_the_laptop(made, program))
        yield made


@contextlib.contextmanager
def _processes_of_the_laptop(lab: Lab, program: str) -> Generator[None]:
    """What streams lead to that the cluster opens: a backend as that in the cluster."""
    prefix = lab.folder / "web"
    prefix.mkdir()
    with (
        lab.running(layout.LAPTOP, program, "server", "127.0.0.1:7000"),
        lab.running(layout.LAPTOP, "nginx", "-p", str(prefix), "-c", str(BASELINES / "nginx-static.conf")),
    ):
        yield


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\b[A-Z]+\b", lambda found: words.get(found[0], found[0]), text)


def _ready_pods(sandbox: Sandbox) -> dict[str, Any]:
    """The pods of both Deployments by name, once they are ready; else nothing."""
    printed = sandbox.run(layout.CLUSTER, ["kubectl", "get", "pods", "-n", NAMESPACE, "-o", "json"]).stdout
    pods = {pod["metadata"]["labels"]["app"]: pod for pod in json.loads(printed)["items"]}
    ready = [all(one["ready"] for one in pod["status"].get("containerStatuses", [])) for pod in pods.values()]
    running = all(pod["status"].get("phase") == "Running" for pod in pods.values())
    return pods if len(pods) == 2 and all(ready) and running else {}


def _make_ssh_keys(folder: Path) -> None:
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        return  # whoever needs the keys says so
    for name in ("ssh-host", "ssh-user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(folder / name)], check=True)
    kind, key, *_ = (folder / "ssh-host.pub").read_text().split()
    hosts = "".join(f"[{layout.NODE_ADDRESS}]:{port} {kind} {key}\n" for port in (7130, 7132))
    (folder / "ssh-known").write_text(hosts)
