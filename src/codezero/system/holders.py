"""Tells Routers, through the Serve objects' status, which replica of the System holds each laptop's tunnel.

A replica writes its own address where it has the tunnel and takes it out where it has it no more, at once. It leaves those of others alone, except
for a session that has just come to it, as the newest tunnel counts, and those of replicas that are gone without having taken theirs out.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.model.ids import SessionId
from codezero.model.services import ServiceRef
from codezero.system.serving.serves import Serves, with_routes
from codezero.system.status_writer import StatusWriter
from codezero.system.tunnel_port import TunnelPort
from codezero.wire.serve_resource import RouteStatus, ServeStatus

# A replica that is not among the System's endpoints for two looks is gone. Until then Routers find nobody there, and ask the origin.
LOST_LOOK_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1

_log = get_logger("holders")


class Holders:
    """Keeps `status.routes[].holder` of the sessions here.

    `address` is this replica's for Routers (`host:port`), `replicas` the hosts of all that are there, empty where that is not known; `clock`
    gives UNIX time.
    """

    def __init__(
        self,
        tunnels: TunnelPort,
        serves: Serves,
        *,
        address: str,
        replicas: Callable[[], frozenset[str]] = frozenset,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tunnels = tunnels
        self._serves = serves
        self._address = address
        self._replicas = replicas
        self._clock = clock
        self._missing: frozenset[str] = frozenset()
        self._lost: frozenset[str] = frozenset()
        # The sessions here, each with the services where it was written since its tunnel came: another's address is replaced but once.
        self._written: dict[SessionId, set[ServiceRef]] = {}
        self._withdrawn: set[SessionId] = set()
        self._writer = StatusWriter("holders", self._write)
        tunnels.follow(self._told)

    async def run(self) -> None:
        """Keep at it until cancelled."""
        async with task_group("holders") as tasks:
            tasks.start_service("write", self._writer.run())
            tasks.start_service("look for lost", self._look_for_lost())
            with self._serves.subscribe() as changes:
                while not self._serves.is_known:  # noqa: ASYNC110 - known means listed once, which an empty cluster never signals
                    await asyncio.sleep(_LOOK_SECONDS)
                for service in self._serves.refs():
                    self._look(service)
                while True:
                    for service in await changes.next():
                        self._look(service)

    def withdraw(self, session: SessionId) -> None:
        """Let Routers ask for the laptop of a session here no longer, while its tunnel still stands."""
        self._withdrawn.add(session)
        for service, _, _ in self._serves.routes_of_session(session):
            self._writer.mark(service)

    async def settled(self) -> None:
        """Return once everything known is written."""
        await self._writer.settled()

    def changed(self, service: ServiceRef, status: ServeStatus) -> ServeStatus:
        """`status` of the service's object as it should be, as far as this replica may say."""
        found = self._serves.get(service)
        for route, _ in found.followed if found is not None else ():
            before = next((one for one in status.routes if one.id == route.id), RouteStatus(route.id))
            after = self._route(service, before, SessionId(route.session), route.device)
            if after != before:
                status = msgspec.structs.replace(
                    status, routes=with_routes(status.routes, (route.id,), lambda _, after=after: after)
                )
        return status

    def _route(self, service: ServiceRef, before: RouteStatus, session: SessionId, device: str) -> RouteStatus:
        if str(self._tunnels.device_of(session)) == device and session not in self._withdrawn:
            if before.holder in {"", self._address} or service not in self._written.get(session, ()):
                return msgspec.structs.replace(before, holder=self._address, away_since=None)
        elif before.holder == self._address or before.holder in self._lost:
            return msgspec.structs.replace(before, holder="", away_since=self._clock())
        return before

    async def _look_for_lost(self) -> None:
        while True:
            await asyncio.sleep(LOST_LOOK_SECONDS)
            self.look_for_lost()

    def look_for_lost(self) -> None:
        """Take out the holders that name replicas which are gone, if this is the second look in a row that misses them."""
        hosts = self._replicas()
        named = {
            one.holder
            for service in self._serves.refs()
            if (found := self._serves.get(service)) is not None
            for one in found.status.routes
            if one.holder not in {"", self._address}
        }
        missing = frozenset(holder for holder in named if hosts and _host(holder) not in hosts)
        self._lost, self._missing = missing & self._missing, missing
        if self._lost:
            _log.warning("replicas lost", holders=sorted(self._lost))
            for service in self._serves.refs():
                self._look(service)

    def _told(self, session: SessionId) -> None:
        self._withdrawn.discard(session)
        if self._tunnels.device_of(session) is None:
            self._written.pop(session, None)
        else:
            self._written[session] = set()
        for service, _, _ in self._serves.routes_of_session(session):
            self._writer.mark(service)

    def _look(self, service: ServiceRef) -> None:
        found = self._serves.get(service)
        if found is not None and self.changed(service, found.status) != found.status:
            self._writer.mark(service)

    async def _write(self, service: ServiceRef) -> None:
        here: set[SessionId] = set()

        def change(status: ServeStatus) -> ServeStatus:
            found = self._serves.get(service)
            here.clear()
            here.update(SessionId(route.session) for route, _ in (found.followed if found is not None else ()))
            return self.changed(service, status)

        await self._serves.update_status(service, change)
        for session in here:
            if session in self._written:
                self._written[session].add(service)
        _log.debug("holders written", service=str(service))


def _host(holder: str) -> str:
    return holder.rpartition(":")[0].removeprefix("[").removesuffix("]")
