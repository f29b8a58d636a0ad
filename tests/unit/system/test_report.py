"""What the Orchestrator is told adds up to what the cluster has, whatever happens in between."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from codezero.kit.tasks import task_group
from codezero.model.services import Service, ServiceRef
from codezero.system.report import report_catalog
from codezero.testing.kubernetes import FilledInventory, endpoint_json, service_json, slice_json, until
from codezero.wire.coordination import MAX_MESSAGE, SNAPSHOT_PART, CatalogReport, FromSystem


class Orchestrator:
    """Keeps what the reports say; `on_send` runs before each report is taken."""

    def __init__(self) -> None:
        self.services: dict[ServiceRef, Service] = {}
        self.complete = False
        self.stale_since: float | None = None
        self.reports: list[CatalogReport] = []
        self.on_send: Callable[[], None] = lambda: None

    async def send(self, message: CatalogReport) -> None:
        await asyncio.sleep(0)
        self.on_send()
        encoded = msgpack.encode(message)
        assert len(encoded) < MAX_MESSAGE
        message = msgpack.decode(encoded, type=FromSystem)
        assert isinstance(message, CatalogReport)
        self.reports.append(message)
        if message.reset:
            self.services.clear()
        for service in message.upserts:
            self.services[service.ref] = service
        for ref in message.removes:
            self.services.pop(ref, None)
        self.complete = message.complete
        self.stale_since = message.stale_since

    def agrees_with(self, inventory: FilledInventory) -> bool:
        return self.complete and tuple(self.services[ref] for ref in sorted(self.services)) == inventory.services()


changes = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, None, 80, 81]), st.integers(0, 3)), max_size=30)


@settings(deadline=None, max_examples=60)
@given(before=changes, during=changes, after=changes)
def test_reports_replayed_are_the_inventory(
    before: list[tuple[int, int | None, int]],
    during: list[tuple[int, int | None, int]],
    after: list[tuple[int, int | None, int]],
) -> None:
    """Services that come and go while the full report is under way must be neither lost nor kept."""

    async def scenario() -> None:
        inventory, orchestrator = FilledInventory().synced(), Orchestrator()
        remaining = list(during)

        def change(number: int, port: int | None, pods: int) -> None:
            name = f"s{number}"
            if port is None:
                inventory.remove(service_json(name))
            else:
                inventory.put(
                    service_json(name, ports=[{"port": port}]),
                    slice_json(name, endpoints=[endpoint_json(f"10.0.0.{pod}") for pod in range(1, pods + 1)]),
                )

        for item in before:
            change(*item)
        orchestrator.on_send = lambda: change(*remaining.pop()) if remaining else None
        async with task_group("test") as tasks:
            tasks.start_service("report", report_catalog(inventory, orchestrator))
            await until(lambda: orchestrator.agrees_with(inventory))
            while remaining:
                change(*remaining.pop())
            for item in after:
                change(*item)
                await asyncio.sleep(0)
            await until(lambda: orchestrator.agrees_with(inventory))

    asyncio.run(scenario())


async def test_a_large_catalog_travels_in_parts(inventory: FilledInventory) -> None:
    """No message may outgrow its limit, neither by many services nor by many pods."""
    inventory.put(*(service_json(f"s{number}") for number in range(2 * SNAPSHOT_PART + 1)))
    for number in range(8):
        inventory.put(
            service_json(f"big{number}", clusterIP="None"),
            slice_json(
                f"big{number}",
                endpoints=[
                    endpoint_json(f"10.{number}.{n // 250}.{n % 250}", pod=f"{'x' * 50}-{n}") for n in range(5000)
                ],
            ),
        )
    orchestrator = Orchestrator()
    async with task_group("test") as tasks:
        tasks.start_service("report", report_catalog(inventory, orchestrator))
        await until(lambda: orchestrator.agrees_with(inventory))

    full = orchestrator.reports
    assert [report.reset for report in full] == [True] + [False] * (len(full) - 1)
    assert [report.complete for report in full] == [False] * (len(full) - 1) + [True]
    assert all(len(report.upserts) <= SNAPSHOT_PART for report in full)


async def test_nothing_is_replaced_before_the_cluster_was_seen() -> None:
    """A System that starts while the API server is away must not empty everybody's catalog."""
    inventory, orchestrator = FilledInventory(), Orchestrator()
    async with task_group("test") as tasks:
        tasks.start_service("report", report_catalog(inventory, orchestrator))
        await asyncio.sleep(0)
        inventory.put(service_json("early"))
        inventory.synced(stale_since=7.0)
        await until(lambda: orchestrator.stale_since == 7.0)
        inventory.synced()
        await until(lambda: orchestrator.complete and orchestrator.stale_since is None)

    assert orchestrator.reports[0].reset
    assert set(orchestrator.services) == {ServiceRef("shop", "early")}


async def test_an_empty_cluster_is_reported_as_such(inventory: FilledInventory) -> None:
    """Nothing is an answer too."""
    orchestrator = Orchestrator()
    async with task_group("test") as tasks:
        tasks.start_service("report", report_catalog(inventory, orchestrator))
        await until(lambda: bool(orchestrator.reports))

    assert orchestrator.reports == [CatalogReport(reset=True)]


async def test_a_channel_that_fails_ends_the_reporting(inventory: FilledInventory) -> None:
    """The next connection begins with everything; the old one must leave nothing behind."""

    class Broken:
        async def send(self, message: CatalogReport) -> None:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await report_catalog(inventory, Broken())

    assert not inventory._subscriptions
