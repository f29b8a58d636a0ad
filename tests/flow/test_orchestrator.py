"""A laptop's coordination through real System and Orchestrator: over TLS on loopback, through a real tunnel."""

import asyncio
from pathlib import Path

from codezero.model.services import ServiceRef
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.wire.coordination import ConsumeAssertion
from codezero.wire.open_header import OpenHeader, StreamKind


async def test_a_laptop_sees_the_catalog_and_consumes(tmp_path: Path) -> None:
    """The spine: certificate, tunnel, picture, decision, bytes."""
    async with RealTeamspace(tmp_path).running() as teamspace, echo_server(b"hello ") as port:
        teamspace.offer("orders", port)
        device = teamspace.authorities.device()
        tunnel = await teamspace.connect(device)
        picture = await teamspace.coordinate(tunnel)
        await picture.until(lambda it: "shop/orders" in it.catalog)
        await picture.stream.send(ConsumeAssertion(1, (ServiceRef("shop", "orders"),)))
        await picture.until(lambda it: it.decisions)

        reader, writer = await tunnel.open_stream(OpenHeader(StreamKind.CONSUME, "shop/orders:80"))
        writer.write(b"world")
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        tunnel.abandon()

        assert picture.decisions[0].refused == ()
        assert answer == b"hello world"
        assert picture.catalog["shop/orders"].ready == 1
