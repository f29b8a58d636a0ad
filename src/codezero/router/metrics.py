"""Numbers about a Router for Prometheus; no names of services, users or hosts (T38)."""

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from codezero.router.applying import Applier
from codezero.router.following import RouteStream
from codezero.router.identity import RouterIdentity
from codezero.router.readiness import Readiness
from codezero.router.records import AccessLog


class _Numbers(Collector):
    def __init__(
        self,
        *,
        identity: RouterIdentity,
        applier: Applier,
        routes: RouteStream,
        access_log: AccessLog,
        readiness: Readiness,
    ) -> None:
        rules = sum(len(port.rules) for port in applier.plan.ports)
        proven = identity.current.value
        self._gauges = (
            ("system_connected", "1 while the System tells this Router its plans", int(routes.connected)),
            ("ready", "1 while Envoy lives and listens", int(readiness.reason is None)),
            ("revision", "Revision of the plan that Envoy works by", routes.revision or 0),
            ("rules", "Rules of that plan", rules),
            ("certificate_expires", "UNIX time of the certificate's end", proven.expires.timestamp() if proven else 0),
        )
        self._counters = (
            ("joins", "Certificates had from the System", identity.joins),
            ("join_failures", "Attempts to get one that failed", identity.failures),
            ("plans_applied", "Plans that Envoy took", applier.applied),
            ("plans_refused", "Plans that Envoy refused", applier.refused),
            ("records", "Requests told of in the access log", access_log.taken),
            ("records_dropped", "Requests that nobody could be told of", access_log.dropped),
        )

    def collect(self) -> list[Metric]:
        gauges = [GaugeMetricFamily(f"codezero_router_{name}", text, value) for name, text, value in self._gauges]
        counters = [CounterMetricFamily(f"codezero_router_{name}", text, value) for name, text, value in self._counters]
        return [*gauges, *counters]


def page(
    *,
    identity: RouterIdentity,
    applier: Applier,
    routes: RouteStream,
    access_log: AccessLog,
    readiness: Readiness,
) -> bytes:
    """The page for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        _Numbers(identity=identity, applier=applier, routes=routes, access_log=access_log, readiness=readiness)
    )
    return generate_latest(registry)
