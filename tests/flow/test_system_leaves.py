"""A System is told to stop while another one stays: laptops go over one by one, in a moment that costs them least (rolling restarts, drains)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from codezero.kit.tasks import task_group
from codezero.model.services import ServiceRef
from codezero.system import departure
from codezero.testing.kubernetes import endpoint_json, service_json, slice_json
from codezero.testing.serves import route
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.testing.tunnels import Echo, Recorder, until
from codezero.transport.tunnel import ClientTunnel, TunnelStream
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED

ORDERS = ServiceRef("shop", "orders")
OTHER = "127.0.0.9"


class Yes(Echo):
    """A local process that takes every connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.stream.write(CONNECTED)


class Leaving:
    """A System that can be told to stop while the test goes on. `has_ended` when it is gone."""

    def __init__(self, teamspace: RealTeamspace) -> None:
        self.teamspace = teamspace
        self.has_ended = asyncio.Event()
        self._stop = asyncio.Event()
        self._runs = asyncio.Event()

    async def run(self) -> None:
        async with self.teamspace.system():
            self._runs.set()
            await self._stop.wait()
        self.has_ended.set()

    async def started(self) -> None:
        await self._runs.wait()

    def stop(self) -> None:
        self._stop.set()

    def replicas(self, *ready: str) -> None:
        """The Service of the Systems: these, and this one, which ends."""
        port = {"name": "routers", "port": 8801, "protocol": "TCP"}
        own = endpoint_json("127.0.0.1", ready=False, serving=True, terminating=True)
        others = [endpoint_json(host, ready=True) for host in ready]
        self.teamspace.inventory.put(
            service_json("system", "codezero", ports=(port,)),
            slice_json("system", "codezero", endpoints=[own, *others], ports=(port,)),
        )


@asynccontextmanager
async def leaving(folder: Path) -> AsyncGenerator[Leaving]:
    async with asyncio.timeout(60), task_group("test") as tasks:
        system = Leaving(RealTeamspace(folder))
        system.replicas(OTHER)
        tasks.start("system", system.run())
        await system.started()
        try:
            yield system
        finally:
            system.stop()


async def consuming(system: Leaving, port: int) -> tuple[ClientTunnel, TunnelStream, Recorder]:
    """A laptop with a connection to a service that has just answered."""
    system.teamspace.offer("orders", port)
    tunnel = await system.teamspace.connect(system.teamspace.authorities.device())
    owner = Recorder()
    stream = tunnel.open(OpenHeader(StreamKind.CONSUME, "shop/orders:80"), owner)
    stream.write(b"one")
    await until(lambda: bytes(owner.data) == b"one")
    return tunnel, stream, owner


async def test_a_laptop_goes_when_its_last_connection_has_ended(tmp_path: Path) -> None:
    """One that consumes nothing goes at once; both are told to come back."""
    async with echo_server() as port, leaving(tmp_path) as system:
        busy, stream, owner = await consuming(system, port)
        idle = await system.teamspace.connect(system.teamspace.authorities.device())

        system.stop()
        farewell = await asyncio.shield(idle.closed)
        assert idle.farewell is not None, farewell
        assert idle.farewell.retry
        assert not busy.is_closed
        stream.write(b" and two")
        await until(lambda: bytes(owner.data) == b"one and two")
        stream.write_eof()
        await until(lambda: owner.ended)
        stream.close()
        await asyncio.shield(busy.closed)
        assert busy.farewell is not None
        assert busy.farewell.retry
        await system.has_ended.wait()


async def test_a_connection_that_does_not_end_is_cut_off_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod's own grace has an end, too."""
    monkeypatch.setattr(departure, "CONNECTIONS_SECONDS", 0.2)
    async with echo_server() as port, leaving(tmp_path) as system:
        busy, _, owner = await consuming(system, port)

        system.stop()
        await system.has_ended.wait()
        await asyncio.shield(busy.closed)
        assert busy.farewell is not None
        assert await owner.lost is not None


async def test_nobody_goes_before_there_is_somewhere_to_go(tmp_path: Path) -> None:
    """Of one replica the successor has to be ready first, for as long as there is time."""
    async with leaving(tmp_path) as system:
        tunnel = await system.teamspace.connect(system.teamspace.authorities.device())
        system.replicas()
        system.stop()
        again = await system.teamspace.connect(system.teamspace.authorities.device())
        assert not tunnel.is_closed

        system.replicas(OTHER)
        await asyncio.shield(tunnel.closed)
        await asyncio.shield(again.closed)
        await system.has_ended.wait()


async def test_routers_hear_it_before_the_laptop_goes_and_requests_finish(tmp_path: Path) -> None:
    """What is under way to a variant is answered; what comes later is asked elsewhere."""
    async with leaving(tmp_path) as system:
        teamspace = system.teamspace
        device = teamspace.authorities.device()
        tunnel = await teamspace.connect(device, acceptor=lambda _header, _stream: Yes())
        served = route(device, tunnel.session)
        teamspace.store.put(ORDERS, served)
        await until(lambda: bool(teamspace.store.holder(served, ORDERS)))
        reader, writer = await teamspace.router.connect(
            f"80.{served.id.lower()}.variant.codezero", teamspace.router.credentials(str(ORDERS))
        )
        writer.write(b"request")
        assert await reader.readexactly(7) == b"request"

        system.stop()
        await until(lambda: teamspace.store.holder(served, ORDERS) == "")
        assert not tunnel.is_closed
        writer.write(b" goes on")
        assert await reader.readexactly(8) == b" goes on"
        writer.close()
        await asyncio.shield(tunnel.closed)
        await system.has_ended.wait()
