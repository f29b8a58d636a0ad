"""Numbers about a Router for Prometheus; no names of services, users or hosts (T38).

The keeper has one page for both processes: the follower's comes by a socket, and is empty while it does not answer.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from codezero.router.applying import Applier
from codezero.router.following import RouteStream
from codezero.router.identity import RouterIdentity
from codezero.router.lines import LineForwarder
from codezero.router.readiness import Readiness
from codezero.router.records import AccessLog

_ASK_SECONDS: Final = 2.0


class FollowerPage:
    """What the follower whose socket is at `path` says about itself: `content`, a few seconds old."""

    def __init__(self, path: Path) -> None:
        self.content = b""
        self._path = path

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    self.content = await self._ask()
            except (OSError, TimeoutError):
                self.content = b""
            await asyncio.sleep(_ASK_SECONDS)

    async def _ask(self) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            return await reader.read()
        finally:
            writer.close()


async def tell(path: Path, page: Callable[[], bytes]) -> asyncio.Server:
    """Tell whoever connects to `path` the page; the caller closes the server. Raises OSError."""

    def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page())
        writer.close()

    return await asyncio.start_unix_server(connected, path)


def of_keeper(*, readiness: Readiness, deaths: Mapping[str, int], lines: LineForwarder) -> bytes:
    """The keeper's own numbers."""
    restarts = CounterMetricFamily(
        "codezero_router_restarts", "Deaths of a child that was started again", labels=["child"]
    )
    for child, count in deaths.items():
        restarts.add_metric([child], count)
    return _page(
        restarts,
        _gauge("ready", "1 while Envoy lives and listens", int(readiness.reason is None)),
        _counter("lines_dropped", "Lines of the access log that the follower did not take", lines.dropped),
    )


def of_follower(*, identity: RouterIdentity, applier: Applier, routes: RouteStream, access_log: AccessLog) -> bytes:
    """The follower's numbers."""
    rules = sum(len(port.rules) for port in applier.plan.ports)
    proven = identity.current.value
    expires = proven.expires.timestamp() if proven else 0
    return _page(
        _gauge("system_connected", "1 while the System tells this Router its plans", int(routes.connected)),
        _gauge("revision", "Revision of the plan that Envoy works by", routes.revision or 0),
        _gauge("rules", "Rules of that plan", rules),
        _gauge("certificate_expires", "UNIX time of the certificate's end", expires),
        _counter("joins", "Certificates had from the System", identity.joins),
        _counter("join_failures", "Attempts to get one that failed", identity.failures),
        _counter("plans_applied", "Plans that Envoy took", applier.applied),
        _counter("plans_refused", "Plans that Envoy refused", applier.refused),
        _counter("records", "Requests told of in the access log", access_log.taken),
        _counter("records_dropped", "Requests that nobody could be told of", access_log.dropped),
    )


class _Numbers(Collector):
    def __init__(self, numbers: Sequence[Metric]) -> None:
        self._numbers = numbers

    def collect(self) -> Sequence[Metric]:
        return self._numbers


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"codezero_router_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"codezero_router_{name}", text, value)


def _page(*numbers: Metric) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(numbers))
    return generate_latest(registry)
