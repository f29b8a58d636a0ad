"""The lab before a Kubernetes that somebody else runs: any that `KUBECONFIG` leads to and that can get our images.

Nothing of the cluster's network is joined to the laptops. They come in by a relay in the sandbox's place `cluster`, which stands at the node's address
and dials the cluster from the machine that runs the tests. What is asked from inside the cluster is asked by a pod; kubectl and czctl run on this machine.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Never

import pytest
from tests.cluster.base import KubernetesLab
from tests.cluster.relay import Entry, Relay, listening

from codezero import __version__
from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.waiting import eventually

_NAMESPACE, _POD = "codezero-lab", "asking"
# Made by these tests, and taken away again.
NAMESPACES = (layout.TEAMSPACE_NAMESPACE, layout.SAMPLE_NAMESPACE, "peers", _NAMESPACE)
_ENTRIES = {
    layout.TUNNEL_PORT: ("codezero", layout.TEAMSPACE_NAMESPACE),
    80: ("sample-project-frontend", layout.SAMPLE_NAMESPACE),
}
# What manifests call the image of the applications.
_APPLICATIONS = re.compile(r"\bcodezero-(?:sample|peers):[\w.-]+")
_OF_PODS = ("czsystem", "czorchestrator", "czrouter", "envoy")


def wanted() -> bool:
    """Whether these tests are to run before a cluster of somebody else."""
    return "KUBECONFIG" in os.environ and not {"K8S_BIN", "K8S_SLAB"} & os.environ.keys()


def image(name: str) -> str:
    """What one of our images is called, without its tag, where the cluster gets it: `K8S_IMAGE_PREFIX` comes before its name."""
    prefix = os.environ.get("K8S_IMAGE_PREFIX", "").rstrip("/")
    return f"{prefix}/codezero-{name}" if prefix else f"codezero-{name}"


def hindrance() -> str | None:
    """What keeps the tests from the cluster: it does not answer, or has namespaces that they would take for their own."""
    asked = _kubectl("get", "namespaces", "-o", "name")
    if asked.returncode != 0:
        return f"the cluster of KUBECONFIG does not answer: {asked.stderr.strip()}"
    taken = {one.partition("/")[2] for one in asked.stdout.split()} & set(NAMESPACES)
    return f"the cluster has namespaces that these tests make and remove: {', '.join(sorted(taken))}" if taken else None


class OutsideLab(KubernetesLab):
    """The laptops of `network` before the cluster of `KUBECONFIG`. Takes away all that tests made there when closed."""

    def __init__(self, network: Sandbox) -> None:
        super().__init__(network)
        self._folder = tempfile.TemporaryDirectory(prefix="codezero-lab-")
        self._entries: list[Entry] = []
        self._relays: list[Relay] = []
        try:
            self._join()
            self._make_pod()
        except BaseException:
            self.down()
            raise

    @property
    def slab(self) -> Never:
        """The node, which is somebody else's."""
        _needs_the_node()

    def down(self) -> bool:
        """Take away what was made in the cluster, and stop the sandbox."""
        try:
            self.run(layout.CLUSTER, ["czctl", "teamspace", "uninstall", "--yes"], check=False, timeout=300)
            self.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found", check=False, timeout=300)
        finally:
            for one in (*self._relays, *self._entries):
                one.close()
            self._folder.cleanup()
            stopped = super().down()
        return stopped

    def install_options(self) -> Sequence[str]:
        """Our images, and the address that laptops find the relay at."""
        values = {
            "image.repository": image("teamspace"),
            "router.image.repository": image("router"),
            "service.type": "NodePort",
            "service.externalHost": layout.NODE_ADDRESS,
            "service.externalPort": str(layout.TUNNEL_PORT),
        }
        return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]

    def issued_file(self, user: str) -> str:
        """A file of this machine."""
        return f"{self._folder.name}/{user}.json"

    def hand_over(self, user: str) -> None:
        """From this machine into the sandbox."""
        self.write(Path(self.access_file(user)), Path(self.issued_file(user)).read_text())

    def authorities(self) -> str:
        """What czctl keeps on this machine."""
        (kept,) = Path(self._folder.name, "codezero", "authorities").glob("*.json")
        return kept.read_text()

    def balance(self, service: str, namespace: str) -> None:
        """Left to the cluster: the relay finds another way where it has no load balancers."""

    def kill(self, pod: str, *, namespace: str, container: str | None = None) -> int:
        """Not from here."""
        _needs_the_node()

    def processes(self, program: str) -> list[int]:
        """None: those of pods cannot be seen from here."""
        if program.startswith(_OF_PODS):
            _needs_the_node()
        return []

    def signal(self, processes: Sequence[int], signal: str) -> None:
        """Not from here."""
        _needs_the_node()

    def popen(
        self, place: str, arguments: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command in a place; of the place `cluster`, on this machine or in the pod."""
        if place != layout.CLUSTER:
            return super().popen(place, arguments, env=env, **options)
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, **options}
        if _of_administrator(arguments):
            return subprocess.Popen(list(arguments), env=self._environment(env), **given)
        return _Asking(arguments, env or {}, reads=given["stdin"] != subprocess.DEVNULL, **given)

    def run(
        self,
        place: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = 60.0,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a place to its end. Manifests for kubectl get our images by the names that this cluster knows them by."""
        if place != layout.CLUSTER:
            return super().run(place, arguments, env=env, check=check, timeout=timeout, **options)
        given = {"capture_output": True, "text": True, "check": check, "timeout": timeout, **options}
        if "input" not in options:
            given["stdin"] = subprocess.DEVNULL
        if not _of_administrator(arguments):
            return subprocess.run(_in_pod(arguments, env or {}, reads="input" in options), **given)
        if isinstance(given.get("input"), str):
            given["input"] = _APPLICATIONS.sub(f"{image('peers')}:{__version__}", given["input"])
        return subprocess.run(list(arguments), env=self._environment(env), **given)

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """This machine's, for the ways that a kubeconfig may lead; but what czctl keeps goes with the lab."""
        return {**_environment(), "XDG_CONFIG_HOME": self._folder.name, **(env or {})}

    def _join(self) -> None:
        """Let the place `cluster` be the node, and its doors be the cluster's."""
        ours = lambda *command: self.network.run(layout.CLUSTER, command)  # noqa: E731
        ours("ip", "address", "add", f"{layout.NODE_ADDRESS}/32", "dev", "lo")
        for port, (service, namespace) in _ENTRIES.items():
            ours("nft", "insert", "rule", "ip", "doors", "node", "tcp", "dport", str(port), "accept")
            listener = listening(
                lambda command, end: self.network.run(layout.CLUSTER, command, pass_fds=(end,)),
                layout.NODE_ADDRESS,
                port,
            )
            entry = Entry(service, namespace, port, get=self.get, environment=_environment())
            self._entries.append(entry)
            self._relays.append(Relay(listener, entry.dial))

    def _make_pod(self) -> None:
        """The pod that asks."""
        self.kubectl("create", "namespace", _NAMESPACE)
        # The controller of ServiceAccounts has to have seen it.
        eventually(lambda: self.get("serviceaccounts", "-n", _NAMESPACE))
        self.kubectl("apply", "-f", "-", input=json.dumps(_pod()))
        self.kubectl("wait", "-n", _NAMESPACE, f"pod/{_POD}", "--for=condition=Ready", "--timeout=180s", timeout=200)


class _Asking(subprocess.Popen[Any]):
    """A command in the pod. What is signalled is that command, and not kubectl alone."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], *, reads: bool, **options: Any) -> None:
        self._name = uuid.uuid4().hex
        super().__init__(_in_pod(arguments, env, reads=reads, name=self._name), env=_environment(), **options)

    def send_signal(self, sig: int) -> None:
        """Signal the command."""
        if self.poll() is None:
            _kubectl("exec", "-n", _NAMESPACE, _POD, "--", "sh", "-c", f"kill -{int(sig)} $(cat /tmp/{self._name})")
        super().send_signal(sig)


def _in_pod(arguments: Sequence[str], env: Mapping[str, str], *, reads: bool, name: str = "last") -> list[str]:
    """The command that runs `arguments` in the pod, and leaves its number there under `name`."""
    options = ["-i"] if reads else []
    script = f'echo $$ > /tmp/{name}; exec env "$@"'
    variables = [f"{key}={value}" for key, value in env.items()]
    return ["kubectl", "exec", *options, "-n", _NAMESPACE, _POD, "--", "sh", "-c", script, "sh", *variables, *arguments]


def _of_administrator(arguments: Sequence[str]) -> bool:
    """Whether a command speaks to the API server, itself or as a shell's script, and not to pods and Services."""
    return any({"kubectl", "czctl"} & set(re.split(r"[^\w-]+", one)) for one in arguments)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def _kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", *arguments]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False, timeout=60)


def _needs_the_node() -> Never:
    pytest.skip("expected: needs the node")


def _pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _POD, "namespace": _NAMESPACE},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "asking",
                    "image": f"{image('peers')}:{__version__}",
                    "command": ["sleep", "1000000"],
                    "volumeMounts": [{"name": "temporary", "mountPath": "/tmp"}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": [{"name": "temporary", "emptyDir": {}}],
        },
    }
