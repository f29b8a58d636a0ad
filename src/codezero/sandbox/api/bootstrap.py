"""What a cluster holds before anybody made anything: namespaces, roles, and the Service of the API itself."""

import ipaddress

from codezero.sandbox.api import rbac
from codezero.sandbox.api.store import Store

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


def bootstrap(store: Store, *, address: str = "10.96.0.1", endpoint: tuple[str, int] | None = None) -> None:
    """Fill a new store. The Service `kubernetes` gets `address`; with `endpoint` (address, port of the API server) it leads there."""
    for name in NAMESPACES:
        store.create("namespaces", "", {"metadata": {"name": name}})
    rbac.install_defaults(store)
    labels = {"component": "apiserver", "provider": "kubernetes"}
    target = endpoint[1] if endpoint is not None else 6443
    spec = {"clusterIP": address, "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": target}]}
    store.create("services", "default", {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec})
    if endpoint is not None and not ipaddress.ip_address(endpoint[0]).is_loopback:
        store.create(
            "endpointslices.discovery.k8s.io",
            "default",
            {
                "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [endpoint[0]], "conditions": {"ready": True}}],
                "ports": [{"name": "https", "port": target, "protocol": "TCP"}],
            },
        )
