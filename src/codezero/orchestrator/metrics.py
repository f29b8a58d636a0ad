"""Numbers about the Orchestrator for Prometheus; no names of services, users or hosts (T38)."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from codezero.orchestrator.events import Events
from codezero.orchestrator.hub_link import HubLink
from codezero.orchestrator.server import Coordinator


class _Numbers(Collector):
    def __init__(self, coordinator: Coordinator, link: HubLink | None, events: Events) -> None:
        self._coordinator = coordinator
        self._link = link
        self._events = events

    def collect(self) -> Iterator[Metric]:
        board = self._coordinator.board
        for name, text, value in (
            ("systems", "Systems that report", self._coordinator.systems),
            ("laptops", "Laptops connected", self._coordinator.laptops),
            ("sessions", "Sessions, also of laptops that are away", board.sessions),
            ("services", "Services in the catalog", board.services),
            ("variants", "Variants in the catalog", len(board.variants)),
            ("orders", "Orders that wait for a System's answer", self._coordinator.variants.orders),
            ("tracing", "Laptops that want to be told of requests", len(self._coordinator.traces)),
            ("views", "Different views of the catalog", board.views),
            ("catalog_stale", "1 while no System sees the cluster", int(board.stale_since is not None)),
            (
                "policy_in_force",
                "0 while nothing is allowed for want of a valid policy",
                int(self._coordinator.admission.policy is not None),
            ),
        ):
            yield GaugeMetricFamily(f"codezero_orchestrator_{name}", text, value=value)
        if self._link is not None:
            up, waiting = "1 while the channel to the Hub stands", "Events that the Hub has not acknowledged"
            yield GaugeMetricFamily("codezero_orchestrator_hub_connected", up, value=int(self._link.connected))
            yield GaugeMetricFamily("codezero_orchestrator_hub_events_waiting", waiting, value=len(self._events))


def page(coordinator: Coordinator, link: HubLink | None, events: Events) -> bytes:
    """The page for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Numbers(coordinator, link, events))
    return generate_latest(registry)
