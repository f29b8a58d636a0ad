"""Numbers about the System for Prometheus; no names of services, users or hosts (T38)."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from codezero.system.connect_door import ConnectDoor
from codezero.system.coordination import OrchestratorLink
from codezero.system.grants import Grants
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.reflector import Reflector
from codezero.system.routers import Routers
from codezero.system.tunnel_port import TunnelPort


class _Numbers(Collector):
    def __init__(
        self,
        *,
        port: TunnelPort,
        door: ConnectDoor,
        link: OrchestratorLink,
        grants: Grants,
        inventory: Inventory,
        reflectors: Sequence[Reflector[Any]],
        routers: Routers | None,
    ) -> None:
        self._values = (
            ("tunnels", "Tunnels that stand", lambda: port.tunnels),
            ("streams", "Streams in the tunnels", lambda: port.streams),
            ("door_connections", "Connections through the CONNECT door", lambda: door.connections),
            ("orchestrator_connected", "1 while the Orchestrator hears this System", lambda: int(link.connected)),
            (
                "policy_in_force",
                "0 while nothing is allowed for want of a valid policy",
                lambda: int(grants.reason is None),
            ),
            ("catalog_stale", "1 while the cluster cannot be seen", lambda: int(inventory.stale_since is not None)),
        )
        if routers is not None:
            self._values += (
                ("routers", "Routers that get their plans from here", lambda: routers.port.routers),
                ("variant_connections", "Connections to variants", lambda: routers.variants.connections),
                ("variant_waiting", "Connections that wait for a laptop's answer", lambda: routers.variants.held),
            )
        self._reflectors = reflectors
        self._routers = routers

    def collect(self) -> Iterator[Metric]:
        for name, text, value in self._values:
            yield GaugeMetricFamily(f"codezero_system_{name}", text, value=value())
        if self._routers is not None:
            yield from _router_counters(self._routers)
        objects = GaugeMetricFamily("codezero_system_objects", "Objects of the cluster kept", labels=["resource"])
        counted = {
            name: CounterMetricFamily(f"codezero_system_reflector_{name}", text, labels=["resource"])
            for name, text in (
                ("lists", "Lists of the whole collection"),
                ("watches", "Watches begun"),
                ("events", "Events taken"),
                ("undecodable", "Events that could not be read"),
            )
        }
        failures = CounterMetricFamily(
            "codezero_system_reflector_failures", "Failures by cause", labels=["resource", "cause"]
        )
        for reflector in self._reflectors:
            resource = [reflector.resource.name]
            objects.add_metric(resource, len(reflector.objects))
            for name, family in counted.items():
                family.add_metric(resource, getattr(reflector.counters, name))
            for cause, count in reflector.counters.failures.items():
                failures.add_metric([*resource, cause], count)
        yield from (objects, *counted.values(), failures)


def _router_counters(routers: Routers) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "codezero_system_routers_joined", "Certificates given to Routers", value=routers.port.joined
    )
    for name, text, counted in (
        ("routers_refused", "Routers sent away, by the code of the problem", routers.port.refused),
        ("variant_refused", "Connections to variants refused, by the code of the problem", routers.variants.refused),
    ):
        family = CounterMetricFamily(f"codezero_system_{name}", text, labels=["code"])
        for code, count in counted.items():
            family.add_metric([code], count)
        yield family


def page(
    *,
    port: TunnelPort,
    door: ConnectDoor,
    link: OrchestratorLink,
    grants: Grants,
    inventory: Inventory,
    reflectors: Sequence[Reflector[Any]],
    routers: Routers | None = None,
) -> bytes:
    """The page for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(
        _Numbers(
            port=port,
            door=door,
            link=link,
            grants=grants,
            inventory=inventory,
            reflectors=reflectors,
            routers=routers,
        )
    )
    return generate_latest(registry)
