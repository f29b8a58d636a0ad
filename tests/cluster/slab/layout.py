"""What a slab's node is called, its addresses, and what lies where in the folder of its state."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

NODE = "node1"
# Of a block for documentation (RFC 5737): it exists only inside the node's network namespace.
NODE_ADDRESS = "198.51.100.10"
POD_NETWORK = "10.244.0.0/16"
NODE_PODS = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
PAUSE_IMAGE = "docker.io/library/pause:lab"
DNS_IMAGE = "docker.io/library/coredns:lab"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")
WORKER = ("kube-scheduler", "containerd", "kubelet", "kube-proxy")
_CONTROL_PLANE_PROGRAMS = (*CONTROL_PLANE, "kubectl")
_WORKER_PROGRAMS = (*WORKER, "containerd-shim-runc-v2", "ctr", "runc", "cni/ptp", "cni/host-local", "cni/loopback")

# Inside the node these are empty at first and its own, and nobody else sees what is written there.
OWN_FOLDERS = ("/run", "/var/log")
# Containerd and kubelet insist on these; the machine gets empty folders where it has none.
COVERED_FOLDERS = ("/var/lib/cni", "/var/lib/kubelet")
RUN = "/run/slab"
CONTAINERD_SOCKET = f"{RUN}/containerd.sock"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a slab's programs are, and where it keeps what."""

    binaries: Path
    state: Path

    @property
    def certificates(self) -> Path:
        """Keys and certificates, `<name>.key` and `<name>.crt`."""
        return self.state / "certificates"

    @property
    def kubeconfigs(self) -> Path:
        """A kubeconfig for each identity."""
        return self.state / "kubeconfigs"

    @property
    def logs(self) -> Path:
        """A log for each component, and `node.log`."""
        return self.state / "logs"

    @property
    def control(self) -> Path:
        """How the node is told to keep a component away, and tells which ones run."""
        return self.state / "control"

    @property
    def cgroup(self) -> str:
        """The node's cgroup below the root of each hierarchy: one for each folder of state."""
        return f"codezero-{sha256(str(self.state).encode()).hexdigest()[:12]}"

    def program(self, name: str) -> str:
        """The path of one of the Kubernetes programs."""
        return str(self.binaries / name)

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of an identity."""
        return self.kubeconfigs / name

    def missing_programs(self, *, control_plane: bool) -> list[str]:
        """What is not in the folder of binaries and has to be."""
        needed = _CONTROL_PLANE_PROGRAMS if control_plane else (*_CONTROL_PLANE_PROGRAMS, *_WORKER_PROGRAMS)
        return [name for name in needed if not (self.binaries / name).exists()]
