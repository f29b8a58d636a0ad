"""The lab before the Kubernetes that these tests start themselves.

The node stands where the sandbox's own cluster stands otherwise, at the same address, and the
place `cluster` is a machine beside it that has routes to its pods and services. So the same tests run on both.
"""

import json
import subprocess
from collections.abc import Sequence

from tests.cluster.base import KubernetesLab
from tests.cluster.slab import Slab

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox

_HERE, _NODE = "198.51.100.129", "198.51.100.130"
_POD_NETWORK, _SERVICE_NETWORK = "10.244.0.0/16", "10.96.0.0/16"
_OUTSIDE = ("203.0.113.0/24", "192.0.2.0/24", f"{layout.NODE_GATEWAY}/32", f"{layout.FORWARDER_ADDRESS}/32")
# Containers of pods, as containerd numbers them.
_CONTAINERD = "containerd://"


class ClusterLab(KubernetesLab):
    """The laptops of `network`, joined to the node of `slab`, which goes on when the lab is closed."""

    def __init__(self, network: Sandbox, slab: Slab) -> None:
        super().__init__(network)
        self.slab = slab
        self._join()
        self.write(layout.KUBECONFIG, slab.kubeconfig.read_text())

    def processes(self, program: str) -> list[int]:
        """The ids, on the node, of the processes that run `program`."""
        return [int(one) for one in self.slab.run(["pgrep", "-f", "--", program], check=False).split()]

    def signal(self, processes: Sequence[int], signal: str) -> None:
        """Send a signal to processes of the node."""
        self.slab.run(["kill", f"-{signal}", *map(str, processes)], check=False)

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
