"""Follows the cluster: one reflector for each resource, all feeding one inventory."""

from collections.abc import Sequence
from typing import Any

from codezero.kit.tasks import task_group
from codezero.system.inventory import Inventory
from codezero.system.kubernetes.objects import ENDPOINT_SLICES, NAMESPACES, NODES, SERVES, SERVICES
from codezero.system.kubernetes.reflector import Api, Reflector, Timing
from codezero.system.serving.serves import Serves


class ClusterFollower:
    """Keeps `inventory` in step with the API server. `reflectors` have counters for metrics."""

    def __init__(
        self,
        api: Api,
        inventory: Inventory,
        *,
        serves: Serves | None = None,
        timing: Timing | None = None,
        streamed_lists: bool = True,
    ) -> None:
        """Without `serves` Serve objects are not followed."""
        self._inventory = inventory
        self.reflectors: Sequence[Reflector[Any]] = (
            Reflector(api, SERVICES, inventory.service_changed, timing=timing, streamed_list=streamed_lists),
            Reflector(api, ENDPOINT_SLICES, inventory.slice_changed, timing=timing, streamed_list=streamed_lists),
            Reflector(api, NAMESPACES, inventory.namespace_changed, timing=timing, streamed_list=streamed_lists),
            Reflector(api, NODES, inventory.node_changed, timing=timing, streamed_list=streamed_lists),
        )
        if serves is not None:
            self.reflectors = (
                *self.reflectors,
                Reflector(api, SERVES, serves.changed, timing=timing, streamed_list=streamed_lists),
            )

    async def run(self) -> None:
        """Follow until cancelled."""
        async with task_group("cluster") as tasks:
            for reflector in self.reflectors:
                name = reflector.resource.name
                tasks.start(f"{name}-status", self._note_status(reflector))
                tasks.start(name, reflector.run())

    async def _note_status(self, reflector: Reflector[Any]) -> None:
        async for status in reflector.status.changes():
            self._inventory.source_changed(reflector.resource.name, status)
