"""What other parts of the System learn of the laptops' tunnels, and the streams that they open to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.system import tunnel_port
from codezero.system.grants import Grants
from codezero.system.outbox import Outbox
from codezero.system.tunnel_port import TunnelPort
from codezero.testing.tunnels import SERVER_NAME, Recorder, echo, identities, until
from codezero.transport import tls, tunnel
from codezero.transport.tunnel import ClientTunnel


@asynccontextmanager
async def port_with(told: list[SessionId]) -> AsyncIterator[tuple[TunnelPort, Any]]:
    """A port, and how a laptop connects to it."""
    nothing = cast("Any", None)
    port = TunnelPort(grants=Grants(), dialler=nothing, orchestrator=nothing, outbox=Outbox())
    port.follow(told.append)
    async with task_group("test") as tasks:
        tasks.start_service("tunnels", port.run())
        handlers = {tunnel.ALPN: port.connection}
        listener = await tls.listen("127.0.0.1", 0, identities().server(), handlers=handlers)

        async def connect(session: SessionId | None = None, *, stays: bool = True) -> ClientTunnel:
            context = identities().client()
            found = await tunnel.connect_tunnel(
                "127.0.0.1",
                listener.port,
                context=context,
                server_name=SERVER_NAME,
                release="test",
                acceptor=echo,
                session=session,
            )
            if stays:
                await until(lambda: found.session in port.sessions)
            return found

        try:
            yield port, connect
        finally:
            listener.close()
            await port.drain()


async def test_those_who_follow_hear_of_each_tunnel() -> None:
    """Both times after it is so, for they ask at once; a session that is taken over is still here."""
    told: list[SessionId] = []
    async with port_with(told) as (port, connect):
        first = await connect()
        assert told == [first.session]
        assert port.device_of(first.session) == Device.parse(identities().device)
        assert port.sessions == {first.session}
        second = await connect(first.session)
        assert told == [first.session] * 2
        await until(lambda: first.is_closed)
        assert port.device_of(first.session) is not None
        second.abandon()
        await until(lambda: len(told) == 3)

        assert port.device_of(first.session) is None
        assert port.sessions == frozenset()
        assert port.round_trip(first.session) == 0.0


async def test_a_device_has_so_many_tunnels_and_others_when_those_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop gone wild takes no room from others, and is not kept out for good."""
    monkeypatch.setattr(tunnel_port, "MAX_TUNNELS_OF_A_DEVICE", 2)
    async with port_with([]) as (port, connect):
        first, second = await connect(), await connect()
        again = await connect(second.session)
        third = await connect(stays=False)
        assert "2 tunnels already" in (await third.closed).detail
        assert port.tunnels == 2

        first.abandon()
        await until(lambda: port.tunnels == 1)
        await connect()
        again.abandon()
        await until(lambda: port.tunnels == 1)
        await connect()


async def test_a_session_that_stands_is_its_laptops_however_many_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes the System forget owners must not get at the streams of a laptop that is there."""
    monkeypatch.setattr(tunnel_port, "REMEMBERED_OWNERS", 1)
    other = Device.parse(identities().device.rsplit("/", 1)[0] + "/" + new_ulid())
    async with port_with([]) as (port, connect):
        first = await connect()
        await connect()

        assert port._session_for(other, first.session) != first.session
        assert port._session_for(Device.parse(identities().device), first.session) == first.session


async def test_a_served_stream_goes_to_the_laptop_of_that_session_and_device() -> None:
    async with port_with([]) as (port, connect):
        laptop = await connect()
        recorder = Recorder()
        stream = port.open_serve(laptop.session, identities().device, target="x:80", protocol=recorder)
        stream.write(b"hello")
        await until(lambda: recorder.data == b"hello")
        stream.abort()
        await asyncio.wait_for(recorder.lost, 10)


@pytest.mark.parametrize("wrong", ["session", "device"])
async def test_no_stream_is_opened_to_another_laptop(wrong: str) -> None:
    """T18: a route names both, and only both together are a laptop."""
    async with port_with([]) as (port, connect):
        laptop = await connect()
        session = SessionId(new_ulid()) if wrong == "session" else laptop.session
        device = str(Device("hub", new_ulid(), new_ulid(), new_ulid())) if wrong == "device" else identities().device
        with pytest.raises(CodezeroError) as caught:
            port.open_serve(session, device, target="x:80", protocol=Recorder())

        assert caught.value.problem is problems.TUNNEL_DOWN
        assert laptop.streams == 0
