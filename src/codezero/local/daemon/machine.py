"""Brings the machine to what `Consumption` wants, step by step and in a safe order; tries again what failed.

Names go before captures are taken away and come after they are there, so a name never leads to something else (T15). A step that fails takes all
of ours away and begins anew: half a step is nothing one could go on from.
"""

import asyncio
from collections.abc import Callable, Mapping

from codezero.kit import logs
from codezero.kit.backoff import Backoff
from codezero.local.daemon.capture import Capture
from codezero.local.daemon.consumption import Consumption, Endpoint, HostChange
from codezero.local.daemon.health import Health
from codezero.local.daemon.host_client import HostClient
from codezero.local.daemon.names import NameTable
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, ServiceRef
from codezero.wire.local_api import Severity

# Between steps, so that a burst of changes costs few of them; the first is done at once.
PAUSE_SECONDS = 0.05
HOSTS_PAUSE_SECONDS = 0.5  # where each step rewrites the hosts file
CONFLICT_SECONDS = 5.0

CHANGE_FAILED = "HOST_CHANGE_FAILED"
PORTS_TAKEN = "PORTS_IN_USE"

_RELEASED = CodezeroError(problems.SERVICE_UNKNOWN, "the service is no longer consumed on this laptop")
_log = logs.get_logger("machine")


class Machine:
    """The names, captures and sockets of this machine. `stepped` is told after each step whether it changed anything."""

    def __init__(
        self,
        host: HostClient,
        capture: Capture,
        table: NameTable,
        *,
        health: Health,
        stepped: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._capture = capture
        self._table = table
        self._health = health
        self._stepped = stepped
        self.is_settled = False
        self._consumption: Consumption | None = None
        self._lock = asyncio.Lock()
        self._due = asyncio.Event()
        self._clean = False
        self._conflicts: dict[tuple[Endpoint, bool], tuple[CatalogId, str]] = {}
        self._targets: dict[Endpoint, CatalogId] = {}
        self._udp_targets: dict[Endpoint, CatalogId] = {}
        self._served: frozenset[int] = frozenset()
        self._backoff = Backoff(first=0.5, most=30)

    @property
    def published_names(self) -> int:
        """How many names lead to services now."""
        return len(self._table)

    async def follow(self, consumption: Consumption | None) -> None:
        """Do what this one wants from now on; what the one before wanted is taken away first. None wants nothing."""
        async with self._lock:
            self._consumption = consumption
            self._table.clear()
            self._clean = False
            if consumption is not None:
                consumption.forget_applied()
        self.changed()

    def leave_ports(self, served: frozenset[int]) -> None:
        """The user's programs serve at these TCP ports, on any address: without nftables they are not taken for consumed services."""
        if served != self._served:
            self._served = served
            if not self._by_nftables:
                self.changed()

    def leave_names(self) -> None:
        """Withdraw all names at once, and do nothing any more: the Daemon ends, and the rest is undone by others."""
        self._consumption = None
        self._table.clear()

    def changed(self) -> None:
        """There may be something to do."""
        self.is_settled = False
        self._due.set()

    async def keep(self) -> None:
        """Do what is to be done, for as long as this runs."""
        while True:
            try:
                async with asyncio.timeout(CONFLICT_SECONDS if self._conflicts else None):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            async with self._lock:
                has_changed = await self._step()
            self.is_settled = not self._due.is_set()
            self._stepped(has_changed)
            is_slow = self._host.mode.names == "hosts"
            await asyncio.sleep(HOSTS_PAUSE_SECONDS if is_slow else PAUSE_SECONDS)

    async def _step(self) -> bool:
        consumption = self._consumption
        has_changed = not self._clean
        try:
            if not self._clean:
                await self._clear()
            if consumption is not None:
                self._yield_ports(consumption)
                await self._retry_conflicts(consumption)
                change = consumption.take_change()
                if change:
                    has_changed = True
                    await self._apply(consumption, change)
        except CodezeroError as error:
            delay = self._backoff.next()
            _log.error("the machine could not be changed", reason=error.detail, again_in=round(delay, 1))
            self._health.warn(CHANGE_FAILED, error.detail, fix=error.fix or "czctl restart", severity=Severity.ERROR)
            self._table.clear()
            self._clean = False
            if consumption is not None:
                consumption.forget_applied()
            asyncio.get_running_loop().call_later(delay, self.changed)
        else:
            self._backoff.reset()
            self._health.clear(CHANGE_FAILED)
        return has_changed

    async def _clear(self) -> None:
        """Begin with nothing of ours, whatever was there."""
        self._table.clear()
        await self._publish()
        self._capture.remove(self._targets)
        if self._by_nftables:
            await self._host.change_capture(reset=True)
            await self._host.change_capture(reset=True, datagrams=True)
        for endpoint in self._targets:
            self._capture.unbind(endpoint)
        for endpoint in self._udp_targets:
            self._capture.unbind_datagrams(endpoint)
        self._targets.clear()
        self._udp_targets.clear()
        self._conflicts.clear()
        self._clean = True

    async def _apply(self, consumption: Consumption, change: HostChange) -> None:
        if change.remove_names:
            self._table.remove(change.remove_names)
            await self._publish()
        await self._change_tcp(change)
        await self._change_udp(change)
        self._capture.release(change.released, _RELEASED)
        self._tell_conflicts(consumption)
        wanted = self._without_conflicts(change.add_names)
        if wanted and consumption is self._consumption:
            self._table.add(wanted)
            await self._publish()

    async def _change_tcp(self, change: HostChange) -> None:
        self._capture.remove(change.remove_tcp)
        for endpoint in change.remove_tcp:
            self._targets.pop(endpoint, None)
            self._conflicts.pop((endpoint, False), None)
        self._targets.update(change.add_tcp)
        self._capture.add(change.add_tcp)
        if self._by_nftables:
            if change.remove_tcp or change.add_tcp:
                await self._host.change_capture(add=change.add_tcp.keys(), remove=change.remove_tcp)
            return
        for endpoint in change.remove_tcp:
            self._capture.unbind(endpoint)
        for endpoint, target in change.add_tcp.items():
            self._note((endpoint, False), target, await self._bind(endpoint))

    async def _bind(self, endpoint: Endpoint) -> str | None:
        if endpoint[1] in self._served:
            return f"port {endpoint[1]} is left to the program that is served there"
        return await self._capture.bind(endpoint)

    def _yield_ports(self, consumption: Consumption) -> None:
        """Give back what the user's programs serve at."""
        if self._by_nftables:
            return
        taken = [
            (endpoint, target)
            for endpoint, target in self._targets.items()
            if endpoint[1] in self._served and (endpoint, False) not in self._conflicts
        ]
        for endpoint, target in taken:
            self._capture.unbind(endpoint)
            self._note((endpoint, False), target, f"port {endpoint[1]} is left to the program that is served there")
        if taken:
            self._tell_conflicts(consumption)

    async def _change_udp(self, change: HostChange) -> None:
        for endpoint in change.remove_udp:
            self._udp_targets.pop(endpoint, None)
            self._conflicts.pop((endpoint, True), None)
            self._capture.unbind_datagrams(endpoint)
        self._udp_targets.update(change.add_udp)
        for endpoint, target in change.add_udp.items():
            self._note((endpoint, True), target, await self._capture.bind_datagrams(endpoint, target))
        if self._by_nftables and (change.remove_udp or change.add_udp):
            await self._host.change_capture(add=change.add_udp.keys(), remove=change.remove_udp, datagrams=True)

    async def _retry_conflicts(self, consumption: Consumption) -> None:
        if not self._conflicts:
            return
        for (endpoint, is_datagrams), (target, _) in tuple(self._conflicts.items()):
            bind = self._capture.bind_datagrams(endpoint, target) if is_datagrams else self._bind(endpoint)
            self._note((endpoint, is_datagrams), target, await bind)
        self._tell_conflicts(consumption)

    def _note(self, where: tuple[Endpoint, bool], target: CatalogId, conflict: str | None) -> None:
        if conflict is None:
            self._conflicts.pop(where, None)
        else:
            self._conflicts[where] = (target, conflict)

    def _tell_conflicts(self, consumption: Consumption) -> None:
        conflicts: dict[ServiceRef, str] = {}
        for target, why in self._conflicts.values():
            conflicts.setdefault(target.service, why)
        if consumption.set_conflicts(conflicts):
            # What is wanted differs now from the change just taken; the names follow with the next step.
            self.changed()
        if conflicts:
            listed = "; ".join(f"{service}: {why}" for service, why in sorted(conflicts.items())[:5])
            self._health.warn(
                PORTS_TAKEN, f"ports of consumed services are taken on this machine: {listed}", fix="czctl consume list"
            )
        else:
            self._health.clear(PORTS_TAKEN)

    def _without_conflicts(self, names: Mapping[str, str]) -> Mapping[str, str]:
        if not self._conflicts:
            return names
        services = {target.service for target, _ in self._conflicts.values()}
        addresses = {
            endpoint[0]
            for targets in (self._targets, self._udp_targets)
            for endpoint, target in targets.items()
            if target.service in services
        }
        return {name: address for name, address in names.items() if address not in addresses}

    async def _publish(self) -> None:
        if self._host.mode.names == "hosts":
            await self._host.publish(dict(self._table.items()))

    @property
    def _by_nftables(self) -> bool:
        return self._host.mode.capture == "nftables"
