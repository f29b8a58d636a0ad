"""What one laptop or one token can take of a System, and what a policy still stops that changes at the worst moment."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codezero.kit import certificates
from codezero.model import problems
from codezero.model.access import Policy
from codezero.model.problems import CodezeroError
from codezero.system import connect_door
from codezero.system.tunnel_port import MAX_COORDINATIONS
from codezero.testing.kubernetes import endpoint_json, slice_json
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.testing.tunnels import Recorder
from codezero.transport.tunnel import TunnelStream
from codezero.wire.open_header import OpenHeader, StreamKind


@contextmanager
def silent_endpoint(address: str, port: int) -> Iterator[None]:
    """An endpoint that neither takes nor refuses connections: its queue is full."""
    with socket.create_server((address, port), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield
        finally:
            for filler in fillers:
                filler.close()


async def ask(teamspace: RealTeamspace, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request at the CONNECT door for `orders.shop`."""
    context = certificates.client_context(
        roots=teamspace.authorities.parts.certificate_pem, protocols=[connect_door.ALPN]
    )
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", teamspace.port, ssl=context, server_hostname=teamspace.authorities.server_name
    )
    target = "orders.shop:80"
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {token}\r\n\r\n".encode())
    return reader, writer


async def status(reader: asyncio.StreamReader) -> int:
    return int((await asyncio.wait_for(reader.readline(), 15)).split()[1])


async def test_a_laptop_holds_few_connections_to_the_orchestrator(tmp_path: Path) -> None:
    """Each costs two TLS ends: hundreds of them from one laptop would be everybody's trouble."""
    async with RealTeamspace(tmp_path).running() as teamspace:
        tunnel = await teamspace.connect(teamspace.authorities.device())

        def opened() -> tuple[Recorder, TunnelStream]:
            owner = Recorder()
            return owner, tunnel.open(OpenHeader(StreamKind.ORCHESTRATOR), owner)

        first = [opened() for _ in range(MAX_COORDINATIONS)]
        reason = await asyncio.wait_for(opened()[0].lost, 10)
        assert isinstance(reason, CodezeroError)
        assert reason.problem is problems.TOO_MANY_STREAMS

        for _, stream in first:
            stream.abort()
        again = await teamspace.coordinate(tunnel)
        assert again.welcome is not None
        again.stream.close()
        tunnel.abandon()


async def test_a_policy_that_changes_while_the_door_dials_still_counts(tmp_path: Path) -> None:
    """Else whoever dials slowly keeps what everybody else just lost (T41)."""
    async with RealTeamspace(tmp_path).system_alone() as teamspace, echo_server(b"hello") as port:
        with silent_endpoint("127.0.0.2", port):
            teamspace.offer("orders", port)
            both = slice_json(
                "orders",
                endpoints=[endpoint_json("127.0.0.1"), endpoint_json("127.0.0.2")],
                ports=({"name": "", "port": port, "protocol": "TCP"},),
            )
            teamspace.inventory.put(both)
            token = teamspace.authorities.token(teamspace.authorities.device())
            # Endpoints take turns, so one of two requests in a row tries the silent one first.
            asked = [await ask(teamspace, token) for _ in range(2)]
            answers = [asyncio.ensure_future(status(reader)) for reader, _ in asked]
            await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            teamspace.write_policy(Policy(teamspace.authorities.organization, ()))

            assert sorted([await answer for answer in answers]) == [200, 403]
            for _, writer in asked:
                writer.close()


async def test_one_device_does_not_fill_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others find a place while one device has all that is its own."""
    monkeypatch.setattr(connect_door, "MAX_CONNECTIONS_OF_A_DEVICE", 3)
    async with RealTeamspace(tmp_path).system_alone() as teamspace, echo_server() as port:
        teamspace.offer("orders", port)
        greedy, modest = (teamspace.authorities.token(teamspace.authorities.device()) for _ in range(2))
        opened = [await ask(teamspace, greedy) for _ in range(3)]
        assert [await status(reader) for reader, _ in opened] == [200, 200, 200]

        refused = await ask(teamspace, greedy)
        other = await ask(teamspace, modest)
        assert await status(refused[0]) == 429
        assert await status(other[0]) == 200
        for _, writer in (*opened, refused, other):
            writer.close()


async def test_a_session_waits_for_its_laptop_while_it_is_away(tmp_path: Path) -> None:
    """Teammates see each other's sessions; claiming one must not keep its laptop from coming back to it."""
    async with RealTeamspace(tmp_path).system_alone() as teamspace:
        owner, thief = teamspace.authorities.device(), teamspace.authorities.device()
        first = await teamspace.connect(owner)
        first.abandon()
        await first.closed

        stolen = await teamspace.connect(thief, session=first.session)
        again = await teamspace.connect(owner, session=first.session)

        assert stolen.session != first.session
        assert again.session == first.session
        stolen.abandon()
        again.abandon()
