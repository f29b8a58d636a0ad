"""The lab's laptops before a real Kubernetes: what tests ask of a sandbox, answered by a cluster that is none.

The laptops, the LAN and the internet are the sandbox's. The node stands where the sandbox's own cluster stands otherwise, at the same address, and the
place `cluster` is a machine beside it that has routes to its pods and services. So the same tests run on both.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.cluster.slab import Slab

from codezero.deploy import identity
from codezero.sandbox import layout
from codezero.sandbox.control import PodView, Sandbox, Status
from codezero.testing.waiting import eventually

_HERE, _NODE = "198.51.100.129", "198.51.100.130"
_POD_NETWORK, _SERVICE_NETWORK = "10.244.0.0/16", "10.96.0.0/16"
_OUTSIDE = ("203.0.113.0/24", "192.0.2.0/24", f"{layout.NODE_GATEWAY}/32", f"{layout.FORWARDER_ADDRESS}/32")
# Containers of pods, as containerd numbers them.
_CONTAINERD = "containerd://"


class ClusterLab(Sandbox):
    """The laptops of `network`, a sandbox without a cluster, joined to `slab`. Ends the sandbox when closed, and not the slab."""

    def __init__(self, network: Sandbox, slab: Slab) -> None:
        super().__init__(network.name, network.folder)
        self.slab = slab
        self._network = network
        self._join()
        self.write(layout.KUBECONFIG, slab.kubeconfig.read_text())

    def write(self, path: Path, content: str) -> None:
        """Write a file inside the sandbox, for its owner alone."""
        script = 'umask 077; mkdir -p "$(dirname "$1")"; cat > "$1"'
        self.run(layout.INTERNET, ["sh", "-c", script, "sh", str(path)], input=content)

    def down(self) -> bool:
        """Stop the sandbox."""
        return self._network.down()

    def access_file(self, user: str = "dev1") -> str:
        """Where a developer's access file is."""
        return str(layout.ACCESS_FOLDER / f"{user}.json")

    def token(self, user: str = "dev1") -> str:
        """A fresh token of a developer for the CONNECT door, signed as a Hub would by what the administrator's machine keeps."""
        kept = self.run(layout.CLUSTER, ["sh", "-c", "cat ~/.config/codezero/authorities/*.json"]).stdout
        issuers = identity.decode(kept.encode())
        return issuers.token(issuers.with_user(user).new_device(user), now=time.time())

    def processes(self, program: str) -> list[int]:
        """The ids, on the node, of the processes that run `program`."""
        return [int(one) for one in self.slab.run(["pgrep", "-f", "--", program], check=False).split()]

    def signal(self, processes: Sequence[int], signal: str) -> None:
        """Send a signal to processes of the node."""
        self.slab.run(["kill", f"-{signal}", *map(str, processes)], check=False)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """What kubectl prints, run as the cluster's administrator."""
        return self.run(layout.CLUSTER, ["kubectl", *arguments], **options).stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]

    def status(self) -> Status:
        """How the sandbox is, with the pods of the real cluster."""
        return msgspec.structs.replace(super().status(), pods=tuple(map(_view, self.get("pods", "-A"))))

    def kill(self, pod: str, *, namespace: str, container: str | None = None) -> int:
        """Kill the processes of a pod's containers with SIGKILL; how many containers."""
        found = json.loads(self.kubectl("get", "pod", pod, "-n", namespace, "-o", "json"))
        statuses = [one for one in found["status"]["containerStatuses"] if container in (None, one["name"])]
        for one in statuses:
            self.slab.kill_container(one["containerID"].removeprefix(_CONTAINERD))
        return len(statuses)

    def balance(self, service: str, namespace: str) -> None:
        """What a cloud does for a Service of type LoadBalancer: give it an address, here the node's."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": layout.NODE_ADDRESS}]}}}
        patch = ("--subresource", "status", "--type", "merge", "-p", json.dumps(status))
        self.kubectl("patch", "service", service, "-n", namespace, *patch)

    def wait_for_pods(self, namespace: str, *, within: float = 120.0) -> None:
        """Return when every Deployment and StatefulSet of a namespace is as it should be."""

        def complete() -> bool:
            found = self.get("deployments,statefulsets", "-n", namespace)
            return bool(found) and all(
                one["status"].get("observedGeneration", 0) >= one["metadata"]["generation"]
                and one["status"].get("readyReplicas", 0) == one["spec"]["replicas"] == one["status"].get("replicas")
                for one in found
            )

        eventually(complete, within=within)

    def _join(self) -> None:
        """A link between the place `cluster` and the node, and routes both ways."""
        place = f"--net=/proc/{self.keeper}/root{layout.network_file(layout.CLUSTER)}"
        node = f"--net={self.slab.network}"
        link = ["link", "add", "node0", "type", "veth", "peer", "name", "lab0", "netns", str(self.slab.process)]
        _run(["nsenter", place, "ip", *link])
        ours = "\n".join(
            (
                f"addr add {_HERE}/30 dev node0",
                "link set node0 up",
                *(f"route add {to} via {_NODE}" for to in (layout.NODE_ADDRESS, _POD_NETWORK, _SERVICE_NETWORK)),
            )
        )
        theirs = "\n".join(
            (f"addr add {_NODE}/30 dev lab0", "link set lab0 up", *(f"route add {to} via {_HERE}" for to in _OUTSIDE))
        )
        _run(["nsenter", place, "ip", "-batch", "-"], ours)
        _run(["nsenter", node, "ip", "-batch", "-"], theirs)


def _run(command: list[str], given: str = "") -> None:
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (command, given, ended.stdout, ended.stderr)


def _view(pod: dict[str, Any]) -> PodView:
    status = pod["status"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    return PodView(
        namespace=pod["metadata"]["namespace"],
        name=pod["metadata"]["name"],
        ready=ready,
        phase=status.get("phase", ""),
        address=status.get("podIP", ""),
        restarts=sum(one["restartCount"] for one in status.get("containerStatuses", ())),
    )
