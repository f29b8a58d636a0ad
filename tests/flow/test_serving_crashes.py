"""A System that dies before or after any single write of a serve or its end leaves the team's traffic whole, and the next one finishes (R14).

Against the sandbox's API server with its controllers. Every state the store goes through is looked at: the served Service leads to its team's pods or
to its Router, and never to nobody.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codezero.model.services import ServiceRef
from codezero.sandbox.api import Event
from codezero.system.serving import naming
from codezero.system.serving.repair import repair
from codezero.testing.serving import (
    SERVES,
    Deaths,
    KilledError,
    ServingCluster,
    serving_cluster,
)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        yield cluster


@dataclass
class Witness:
    """Sees every write in the cluster, and notes whenever a served Service leads to nobody."""

    cluster: ServingCluster
    ref: ServiceRef
    own: dict[str, str]
    wrong: list[str] = field(default_factory=list[str])
    switches: int = 0

    def __post_init__(self) -> None:
        self._last: dict[str, str] = self.own
        self.cluster.store.listen(self._look)

    def _look(self, event: Event) -> None:
        if event.stored.namespace != self.ref.namespace:
            return
        found = self.cluster.store.find("services", self.ref.namespace, self.ref.name)
        if found is None:
            return
        selector = found.content["spec"]["selector"]
        if selector != self._last:
            self.switches += 1
            if selector != self.own:
                self._look_at_switch()
        self._last = selector
        if selector not in (self.own, naming.switched(self.own, self.ref)):
            self.wrong.append(f"selector {selector}")
        if not self.cluster.ready_pods(self.ref.namespace, selector):
            self.wrong.append(f"{selector} leads to nobody after {event.type} {event.resource} {event.stored.name}")

    def _look_at_switch(self) -> None:
        """Slices are all that kube-proxy knows."""
        pods = self.cluster.endpoints(self.ref)
        if self.cluster.endpoints(naming.origin_of(self.ref)) != pods:
            self.wrong.append("switched before the origin Service leads to the pods")
        if not self.cluster.endpoints(naming.router_of(self.ref)):
            self.wrong.append("switched before a Router is ready")


async def serve_in(cluster: ServingCluster, number: int) -> tuple[ServiceRef, Witness]:
    """A service in a namespace of its own, about to be served."""
    ref = ServiceRef(f"shop-{number}", "orders")
    cluster.add_namespace(ref.namespace)
    cluster.add_service(ref)
    await cluster.settle_pods(ref)
    return ref, Witness(cluster, ref, {"app": "orders"})


async def life(cluster: ServingCluster, ref: ServiceRef, deaths: Deaths) -> None:
    """Serve, and end it with `kubectl delete serves`; whenever the System dies another one goes on."""
    reconciler = cluster.reconciler(deaths)
    cluster.serve(ref, cluster.route(ref))
    for until in (cluster.is_active, cluster.is_gone):
        try:
            await cluster.drive(reconciler, ref, lambda until=until: until(ref))
        except KilledError:
            reconciler = cluster.reconciler()
            await cluster.drive(reconciler, ref, lambda until=until: until(ref))
        if until == cluster.is_active:
            cluster.store.delete(SERVES, ref.namespace, ref.name)


async def test_a_serve_and_its_end(cluster: ServingCluster) -> None:
    """What all the deaths below interrupt."""
    ref, witness = await serve_in(cluster, 0)
    deaths = Deaths()

    await life(cluster, ref, deaths)

    assert witness.wrong == []
    assert witness.switches == 2
    assert cluster.selector(ref) == {"app": "orders"}
    assert deaths.writes >= 14


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_the_system_may_die_at_any_write(cluster: ServingCluster, *, before: bool) -> None:
    """Enumerated until a life has no further write."""
    number = 0
    while True:
        number += 1
        ref, witness = await serve_in(cluster, number)
        deaths = Deaths(at=number, before=before)
        await life(cluster, ref, deaths)

        assert witness.wrong == [], f"at write {number}"
        assert cluster.selector(ref) == {"app": "orders"}, f"at write {number}"
        assert cluster.ours(ref.namespace) == [], f"at write {number}"
        assert 1 <= witness.switches <= 4, f"at write {number}"
        if deaths.writes < number:
            break
    assert number > 14


async def test_a_system_that_was_paused_writes_nothing_that_another_may_have_gone_on_from(
    cluster: ServingCluster,
) -> None:
    """The Router it was about to delete may carry the traffic of a new serve by now, and is the same object."""
    ref, witness = await serve_in(cluster, 1)
    asleep = [False]
    paused, other = cluster.reconciler(leads=lambda: not asleep[0]), cluster.reconciler()
    cluster.serve(ref, cluster.route(ref))
    await cluster.drive(paused, ref, lambda: cluster.is_active(ref))
    cluster.set_routes(ref)
    # Its next write would be to delete the Router.
    await cluster.drive(paused, ref, lambda: cluster.selector(ref) == {"app": "orders"})
    cluster.now += cluster.settings.drain
    asleep[0] = True
    cluster.set_routes(ref, cluster.route(ref))
    await cluster.drive(other, ref, lambda: cluster.is_active(ref))
    revision = cluster.store.storage.revision
    cluster.set_routes(ref)
    await paused.settle(ref)

    assert cluster.store.storage.revision == revision + 1
    assert witness.wrong == []


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_repair_puts_everything_back_wherever_the_system_died(cluster: ServingCluster, *, before: bool) -> None:
    """With no System alive, and nothing but a kubeconfig."""
    number = 0
    while True:
        number += 1
        ref, witness = await serve_in(cluster, number)
        deaths = Deaths(at=number, before=before)
        reconciler = cluster.reconciler(deaths)
        cluster.serve(ref, cluster.route(ref))
        try:
            await cluster.drive(reconciler, ref, lambda ref=ref: cluster.is_active(ref))
            cluster.store.delete(SERVES, ref.namespace, ref.name)
            await cluster.drive(reconciler, ref, lambda ref=ref: cluster.is_gone(ref))
        except KilledError:
            pass
        planned = await repair(cluster.api, dry_run=True)
        done = await repair(cluster.api, dry_run=False)

        assert done == planned
        assert witness.wrong == [], f"at write {number}"
        assert cluster.selector(ref) == {"app": "orders"}, f"at write {number}"
        assert cluster.is_gone(ref), f"at write {number}: {cluster.ours(ref.namespace)}"
        assert await repair(cluster.api, dry_run=False) == []
        if deaths.writes < number:
            break
    assert number > 14
