"""Tells the Orchestrator what the cluster has: everything once per connection, in parts, and then what changes."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from codezero.model.services import Service, ServiceRef
from codezero.system.inventory import Inventory
from codezero.wire.coordination import SNAPSHOT_PART, CatalogReport

# An estimate that keeps a message far below `coordination.MAX_MESSAGE`, also where services have thousands of pods.
MOST_WEIGHT = 1024 * 1024


class Reports(Protocol):
    """Where reports go: a message stream to the Orchestrator, whose `send` waits while the other end is slow."""

    async def send(self, message: CatalogReport) -> None:
        """Send one report."""
        ...


async def report_catalog(inventory: Inventory, to: Reports) -> None:
    """Report until cancelled or until `to` raises.

    Before the cluster was seen once nothing is replaced: the Orchestrator only hears that what it has may be old.
    """
    with inventory.subscribe() as subscription:
        while not (inventory.is_synced and inventory.knows_serves):
            if inventory.stale_since is not None:
                await to.send(CatalogReport(stale_since=inventory.stale_since))
            await subscription.next()
        # Changes from here on stay with the subscription, so what moves while the parts are sent is told afterwards.
        for message in full_report(inventory):
            await to.send(message)
        while True:
            for message in delta_report(inventory, await subscription.next()):
                await to.send(message)


def full_report(inventory: Inventory) -> Iterator[CatalogReport]:
    """Everything the inventory has, in parts; services that go in between are left out."""
    parts = list(_parts(inventory.refs(), inventory)) or [()]
    for number, refs in enumerate(parts):
        found = (inventory.get(ref) for ref in refs)
        yield CatalogReport(
            upserts=tuple(service for service in found if service is not None),
            reset=number == 0,
            complete=number == len(parts) - 1,
            stale_since=inventory.stale_since,
        )


def delta_report(inventory: Inventory, changed: Iterable[ServiceRef]) -> Iterator[CatalogReport]:
    """What became of the services that changed, in parts; one empty report when none did, for the sake of `stale_since`."""
    for refs in list(_parts(sorted(changed), inventory)) or [()]:
        upserts: list[Service] = []
        removes: list[ServiceRef] = []
        for ref in refs:
            service = inventory.get(ref)
            if service is None:
                removes.append(ref)
            else:
                upserts.append(service)
        yield CatalogReport(upserts=tuple(upserts), removes=tuple(removes), stale_since=inventory.stale_since)


def _parts(refs: Iterable[ServiceRef], inventory: Inventory) -> Iterator[tuple[ServiceRef, ...]]:
    part: list[ServiceRef] = []
    weight = 0
    for ref in refs:
        own_weight = _weight(inventory.get(ref))
        if part and (len(part) == SNAPSHOT_PART or weight + own_weight > MOST_WEIGHT):
            yield tuple(part)
            part, weight = [], 0
        part.append(ref)
        weight += own_weight
    if part:
        yield tuple(part)


def _weight(service: Service | None) -> int:
    """About how many bytes a service takes in a message."""
    if service is None:
        return 200
    return 500 + 400 * len(service.ports) + 70 * len(service.pods)
