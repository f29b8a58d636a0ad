"""How a System leaves while others stay: one laptop after the other goes to another replica, in a moment that costs it least.

By the time it is told to stop, a pod is no endpoint any longer and the nodes know (`preStop` of its Deployment), so whoever is sent away does not come
back here. A laptop goes at once where it consumes nothing at the moment, else when its last connection has ended, at the latest after
`CONNECTIONS_SECONDS`. Before it goes, Routers are told that it is not here any more, and requests under way get a moment to finish.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.model.ids import SessionId
from codezero.system.connect_door import ConnectDoor
from codezero.system.coordination import OrchestratorLink
from codezero.system.routers import Routers
from codezero.system.tunnel_port import TunnelPort

# For consumed connections that are open when the System is told to stop. All of the departure has to fit into the pod's grace (25 s).
CONNECTIONS_SECONDS: Final = 8.0
# For Routers to hear of it, and for requests to finish that are under way to a laptop.
REQUESTS_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05

_log = get_logger("departure")


class Departure:
    """Sends everybody away in order. `elsewhere` says whether another replica takes laptops; None where replicas are not known at all."""

    def __init__(
        self,
        *,
        port: TunnelPort,
        door: ConnectDoor,
        link: OrchestratorLink,
        routers: Routers | None,
        elsewhere: Callable[[], bool | None],
    ) -> None:
        self._port = port
        self._door = door
        self._link = link
        self._routers = routers
        self._elsewhere = elsewhere

    async def hand_over(self) -> None:
        """Let laptops go one by one, and connections of the door end, for as long as there is time; to be done while the ports are open."""
        if self._elsewhere() is not None:
            await self._one_by_one()

    async def finish(self) -> None:
        """Send away who is left, at once."""
        # Not before, for the Orchestrator gives orders to who is there longest: until now this one has carried them out.
        await self._link.retire()
        await self._port.drain()
        if self._routers is not None:
            await self._routers.settle()

    async def _one_by_one(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + CONNECTIONS_SECONDS
        going: dict[SessionId, asyncio.Task[None]] = {}
        async with task_group("departure") as tasks:
            while self._port.sessions or self._door.connections:
                is_late = loop.time() >= until
                for session in self._port.sessions:
                    is_going = session in going and not going[session].done()
                    may_go = is_late or (self._elsewhere() and not self._port.consumes(session))
                    if may_go and not is_going:
                        going[session] = tasks.start("hand over", self._hand_over(session))
                if is_late:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    async def _hand_over(self, session: SessionId) -> None:
        routers = self._routers
        if routers is not None and routers.serves(session):
            routers.withdraw(session)
            try:
                async with asyncio.timeout(REQUESTS_SECONDS):
                    while routers.variants.leads_to(session):  # noqa: ASYNC110 - connections end one by one, and signal nothing
                        await asyncio.sleep(_LOOK_SECONDS)
            except TimeoutError:
                _log.info("requests cut off", session=session)
        await self._port.send_away(session)
