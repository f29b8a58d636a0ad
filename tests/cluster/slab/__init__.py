"""A real one-node Kubernetes out of a folder of binaries, shut up in namespaces: for tests, and by hand (`python -m tests.cluster.slab`).

Etcd, API server, controller manager, scheduler, kubelet, kube-proxy, CoreDNS and containerd run inside network, mount, PID, IPC and UTS namespaces of their
own: nothing leaves the machine, ending one process ends all of it. What has to be in the folder, what was seen to work together, and what bites:
`tests/cluster/README.md`.
"""

from tests.cluster.slab.slab import Slab, SlabError

__all__ = ["Slab", "SlabError"]
