"""The components of the cluster: their command lines and the files they read. Pure but for the writing."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.slab import layout
from tests.cluster.slab.layout import CONTAINERD_SOCKET, NODE, NODE_ADDRESS, RUN, Layout

# To lower an OOM score takes this; runc gives up where it is asked to and cannot.
_CAP_SYS_RESOURCE = 24


def commands(where: Layout, *, control_plane: bool, apiserver_arguments: Sequence[str] = ()) -> dict[str, list[str]]:
    """The components by name, in order of their start, each with its command line."""
    found = {
        "etcd": _etcd(where),
        "kube-apiserver": [*_apiserver(where), *apiserver_arguments],
        "kube-controller-manager": _controller_manager(where),
    }
    if control_plane:
        return found
    return found | {
        "kube-scheduler": [*_client("kube-scheduler", where), "--bind-address=127.0.0.1", "--leader-elect=false"],
        "containerd": [where.program("containerd"), f"--config={where.state}/containerd.toml"],
        "kubelet": [
            where.program("kubelet"),
            f"--config={where.state}/kubelet.json",
            f"--kubeconfig={where.kubeconfig('node')}",
            f"--root-dir={where.state}/kubelet",
            f"--node-ip={NODE_ADDRESS}",
            f"--hostname-override={NODE}",
        ],
        "kube-proxy": [where.program("kube-proxy"), f"--config={where.state}/kube-proxy.json"],
    }


def write_settings(where: Layout, *, proxy_mode: str, containerd_version: tuple[int, int]) -> None:
    """The files that containerd, kubelet, kube-proxy and the network plugins read."""
    (where.state / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (where.state / "containerd.toml").write_text(_containerd(where, containerd_version))
    _write_json(where.state / "cni" / "10-slab.conflist", _network_plugins())
    _write_json(where.state / "kubelet.json", _kubelet(where, proxy_mode))
    _write_json(where.state / "kube-proxy.json", _proxy(where, proxy_mode))


def _etcd(where: Layout) -> list[str]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return [
        where.program("etcd"),
        "--name=slab",
        f"--data-dir={where.state}/etcd",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=slab={peer}",
        "--log-level=warn",
    ]


def _apiserver(where: Layout) -> list[str]:
    folder = where.certificates
    return [
        where.program("kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={NODE_ADDRESS}",
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        f"--service-cluster-ip-range={layout.SERVICE_NETWORK}",
        f"--client-ca-file={folder}/ca.crt",
        f"--tls-cert-file={folder}/apiserver.crt",
        f"--tls-private-key-file={folder}/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/service-accounts.pub",
        f"--service-account-signing-key-file={folder}/service-accounts.key",
        f"--kubelet-client-certificate={folder}/apiserver-kubelet.crt",
        f"--kubelet-client-key={folder}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={folder}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={folder}/front-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={folder}/front.crt",
        f"--proxy-client-key-file={folder}/front.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]


def _controller_manager(where: Layout) -> list[str]:
    folder = where.certificates
    return [
        *_client("kube-controller-manager", where),
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        f"--root-ca-file={folder}/ca.crt",
        f"--service-account-private-key-file={folder}/service-accounts.key",
        f"--cluster-signing-cert-file={folder}/ca.crt",
        f"--cluster-signing-key-file={folder}/ca.key",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={layout.POD_NETWORK}",
        f"--service-cluster-ip-range={layout.SERVICE_NETWORK}",
        f"--flex-volume-plugin-dir={where.state}/volume-plugins",
    ]


def _client(name: str, where: Layout) -> list[str]:
    options = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return [where.program(name), *(f"--{option}={where.kubeconfig(name)}" for option in options)]


def _containerd(where: Layout, version: tuple[int, int]) -> str:
    restricted = "false" if _has_capability(_CAP_SYS_RESOURCE) else "true"
    head = f"""\
root = "{where.state}/containerd"
state = "{RUN}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
"""
    runtime = f"""\
      runtime_type = "io.containerd.runc.v2"
      [{{plugin}}.containerd.runtimes.runc.options]
        BinaryName = "{where.program("runc")}"
        SystemdCgroup = false
"""
    plugins = where.program("cni")
    if version < (2, 0):
        plugin = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""\
version = 2
{head}[{plugin}]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  restrict_oom_score_adj = {restricted}
  [{plugin}.cni]
    bin_dir = "{plugins}"
    conf_dir = "{where.state}/cni"
  [{plugin}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [{plugin}.containerd.runtimes.runc]
{runtime.format(plugin=plugin)}"""
    plugin = 'plugins."io.containerd.cri.v1.runtime"'
    images = 'plugins."io.containerd.cri.v1.images"'
    return f"""\
version = 3
{head}[{images}]
  snapshotter = "overlayfs"
  [{images}.pinned_images]
    sandbox = "{layout.PAUSE_IMAGE}"
[{plugin}]
  restrict_oom_score_adj = {restricted}
  [{plugin}.cni]
    {f'bin_dirs = ["{plugins}"]' if version >= (2, 1) else f'bin_dir = "{plugins}"'}
    conf_dir = "{where.state}/cni"
  [{plugin}.containerd]
    default_runtime_name = "runc"
    [{plugin}.containerd.runtimes.runc]
{runtime.format(plugin=plugin)}"""


def _has_capability(number: int) -> bool:
    effective = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    return bool(int(effective, 16) >> number & 1)


def _network_plugins() -> dict[str, Any]:
    """A veth for each pod, routed by the node: no bridge, so no netfilter for bridges is needed."""
    addresses = {
        "type": "host-local",
        "dataDir": f"{RUN}/addresses",
        "ranges": [[{"subnet": layout.NODE_PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "0.4.0",
        "name": "slab",
        "plugins": [{"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": addresses}],
    }


def _kubelet(where: Layout, proxy_mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{where.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": ["pods"],
        "clusterDNS": [layout.DNS_ADDRESS],
        "clusterDomain": layout.DOMAIN,
        "resolvConf": f"{where.state}/resolv.conf",
        "podLogsDir": f"{where.state}/pod-logs",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{where.certificates}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{where.certificates}/kubelet.crt",
        "tlsPrivateKeyFile": f"{where.certificates}/kubelet.key",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": f"{where.state}/volume-plugins",
        "nodeStatusUpdateFrequency": "5s",
        "serializeImagePulls": False,
        "makeIPTablesUtilChains": proxy_mode == "iptables",
        "staticPodPath": "",
        **_quick_restarts(where),
    }


def _quick_restarts(where: Layout) -> dict[str, Any]:
    """Containers that are killed again and again, as tests do, are started again after a second and not after minutes (from Kubernetes 1.32)."""
    printed = subprocess.run([where.program("kubelet"), "--version"], capture_output=True, text=True, check=True).stdout
    minor = int(printed.split()[1].split(".")[1])
    if minor < 32:
        return {}
    return {
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    }


def _proxy(where: Layout, proxy_mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": proxy_mode,
        "clusterCIDR": layout.POD_NETWORK,
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(where.kubeconfig("kube-proxy"))},
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # Not writable outside the machine's first network namespace, and not needed.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
