"""Settings of the System: all mistakes at once, nothing guessed."""

from pathlib import Path

import pytest

from codezero.deploy.values import Resources, Values
from codezero.kit.settings import SettingsError
from codezero.system import settings


def test_a_pod_needs_no_settings() -> None:
    """The defaults are those of the manifests, and what Kubernetes adds for the Service `codezero` is ignored."""
    found = settings.from_environment({"CODEZERO_PORT": "tcp://10.96.0.7:8800", "CODEZERO_SERVICE_HOST": "10.96.0.7"})

    assert found.listen == ("0.0.0.0", 8800)
    assert found.orchestrator == ("orchestrator.codezero.svc", 8900)
    assert found.kubeconfig is None
    assert found.addresses.domains == ()
    assert found.log_json
    assert found.serve_namespaces.names == frozenset()


def test_everything_can_be_set() -> None:
    """IPv6 addresses among it."""
    found = settings.from_environment(
        {
            "CODEZERO_LISTEN": "[::]:9000",
            "CODEZERO_ALLOWED_DOMAINS": "*.example.com, db.internal=private",
            "CODEZERO_ALLOWED_NETWORKS": "10.0.0.0/24",
            "CODEZERO_KUBECONFIG": "/etc/kubeconfig",
            "CODEZERO_TOKEN_ISSUER": "https://hub.example",
            "CODEZERO_LOG_FORMAT": "text",
            "CODEZERO_SERVE_NAMESPACES": "shop, billing",
        }
    )

    assert found.listen == ("::", 9000)
    assert [domain.pattern for domain in found.addresses.domains] == ["*.example.com", "db.internal"]
    assert found.kubeconfig == Path("/etc/kubeconfig")
    assert found.token_issuer == "https://hub.example"
    assert not found.log_json
    assert found.serve_namespaces.names == {"shop", "billing"}


def test_routers_run_as_set() -> None:
    """Where Routers find the System follows from its namespace."""
    found = settings.from_environment(
        {
            "CODEZERO_NAMESPACE": "cz",
            "CODEZERO_POD": "system-1",
            "CODEZERO_POD_IP": "10.0.0.7",
            "CODEZERO_ROUTER_IMAGE": "registry.example/codezero:1",
            "CODEZERO_ROUTER_REPLICAS": "3",
            "CODEZERO_ROUTER_LINGER": "60",
            "CODEZERO_ROUTER_RESOURCES": '{"limits":{"cpu":"2"},"requests":{}}',
        }
    )

    assert (found.namespace, found.pod, found.pod_address) == ("cz", "system-1", "10.0.0.7")
    assert found.router.system == "system.cz.svc:8801"
    assert (found.router.image, found.router.replicas, found.router.linger) == ("registry.example/codezero:1", 3, 60)
    assert found.router.resources == Resources(limits={"cpu": "2"})
    assert settings.from_environment({}).router.replicas == 2
    assert settings.from_environment({}).router.resources == Values().router.resources


def test_all_mistakes_are_told_at_once() -> None:
    """One restart for each mistake is an evening."""
    with pytest.raises(SettingsError) as caught:
        settings.from_environment(
            {
                "CODEZERO_LISTEN": "8800",
                "CODEZERO_PROBES": "host:99999",
                "CODEZERO_POLICY_FOLDER": "policy",
                "CODEZERO_LOG_LEVEL": "loud",
                "CODEZERO_ROUTER_REPLICAS": "0",
                "CODEZERO_ROUTER_RESOURCES": '{"limits":{"cpu":"many"}}',
                "CODEZERO_ROUTER_SYSTEM": "system",
                "CODEZERO_ALLOWED_NETWORKS": "everything",
                "CODEZERO_SERVE_NAMESPACES": "shop,Billing",
            }
        )

    told = "\n".join(caught.value.mistakes)
    for name in (
        "LISTEN",
        "PROBES",
        "POLICY_FOLDER",
        "LOG_LEVEL",
        "ALLOWED_NETWORKS",
        "SERVE_NAMESPACES",
        "ROUTER_REPLICAS",
        "ROUTER_RESOURCES",
        "ROUTER_SYSTEM",
    ):
        assert f"CODEZERO_{name}" in told
