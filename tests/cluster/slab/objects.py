"""The objects that a cluster has before anybody installs anything: its DNS."""

from typing import Any

from tests.cluster.slab import layout

_NAMESPACE = "kube-system"
_LABELS = {"k8s-app": "kube-dns"}
_RBAC = "rbac.authorization.k8s.io"
_COREFILE = f"""\
.:53 {{
    errors
    health
    ready
    kubernetes {layout.DOMAIN} in-addr.arpa {{
        pods insecure
        ttl 5
    }}
    cache 5
    reload
}}
"""


def dns() -> list[dict[str, Any]]:
    """CoreDNS, as clusters have it, for names of the cluster alone: there is no way out to ask for others."""
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": _NAMESPACE}
    watched = ["list", "watch"]
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata("coredns")},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "slab-coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": watched},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watched},
            ],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "slab-coredns"},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "slab-coredns"},
            "subjects": [account],
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata("coredns"),
            "data": {"Corefile": _COREFILE},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata("kube-dns", labels=_LABELS),
            "spec": {"selector": _LABELS, "clusterIP": layout.DNS_ADDRESS, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata("coredns", labels=_LABELS),
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": _pod()},
            },
        },
    ]


def _pod() -> dict[str, Any]:
    container = {
        "name": "coredns",
        "image": layout.DNS_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/coredns"],
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/coredns"}],
    }
    return {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "settings", "configMap": {"name": "coredns"}}],
    }


def _metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": _NAMESPACE, **more}
