"""A Teamspace's channel is at one replica of the Hub; what another one decides reaches it all the same, and what it tells is seen at both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests import hub_spaces
from tests.hub_databases import HubClock, PostgresServer, running_hub
from tests.hub_spaces import Organization, held, membership, new_tenant, served
from websockets.asyncio.client import ClientConnection, connect

from codezero.hub.context import Hub
from codezero.hub.sealing import Sealer
from codezero.hub.spaces import pictures, teamspaces
from codezero.hub.spaces.pictures import Kind
from codezero.hub.storage.database import Database
from codezero.kit.certificates import Credentials
from codezero.model.ids import TeamspaceId, Workload
from codezero.model.services import Service, ServiceKind, ServiceRef
from codezero.testing.serving import ServingCluster, serving_cluster
from codezero.transport.hub import proof_of_part
from codezero.wire.hub_channel import (
    CatalogTold,
    EndSession,
    EndVariant,
    Hello,
    PolicyPush,
    Rotate,
    ToTeamspace,
    channel_path,
)

_DECODER: msgspec.msgpack.Decoder[ToTeamspace] = msgspec.msgpack.Decoder(ToTeamspace)


@dataclass(frozen=True)
class Replicas:
    """Two Hubs on one PostgreSQL; the Teamspace's channel is at the first."""

    first: Hub
    second: Hub


@pytest.fixture
async def replicas(postgres_server: PostgresServer) -> AsyncIterator[Replicas]:
    name = postgres_server.new_database()
    sealer, clock = Sealer(Sealer.new_master_key()), HubClock()
    async with AsyncExitStack() as stack:
        hubs: list[Hub] = []
        for _ in range(2):
            database = Database.open(postgres_server.url(name))
            stack.push_async_callback(database.close)
            hubs.append(await stack.enter_async_context(running_hub(database, sealer, clock)))
        first = await stack.enter_async_context(served(hubs[0]))
        yield Replicas(first, replace(hubs[1], public_url=first.public_url))
    postgres_server.drop(name)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        yield cluster


async def hear(socket: ClientConnection, kind: type[Any]) -> Any:
    """The next message of that kind."""
    async with asyncio.timeout(20):
        while True:
            content = await socket.recv()
            assert isinstance(content, bytes)
            message = _DECODER.decode(content)
            if isinstance(message, kind):
                return message


async def test_decisions_at_one_replica_reach_the_channel_at_another(
    replicas: Replicas, cluster: ServingCluster
) -> None:
    tenant = await new_tenant(replicas.first)
    other = Organization(replicas.second, tenant.id, tenant.owner)
    invited = await other.new_space()
    space = invited.space.id
    hub_spaces.install(cluster, replicas.first, invited.token)
    await membership(cluster, replicas.first).keep()
    content = held(cluster)
    own = Credentials.from_pem(content["orchestrator.crt"], content["orchestrator.key"])
    proof = proof_of_part(own, Workload(TeamspaceId(space), "orchestrator"), replicas.first.public_url)
    url = f"ws{replicas.first.public_url.removeprefix('http')}{channel_path(space)}"
    async with connect(url, additional_headers={"Authorization": proof}, proxy=None, compression=None) as socket:
        await socket.send(msgspec.msgpack.encode(Hello((1,), "test", "epoch")))
        await hear(socket, PolicyPush)

        await other.do(teamspaces.suspend, space)
        assert b'"suspended":true' in (await hear(socket, PolicyPush)).content
        end: Any = teamspaces.end_session
        await other.do(end, space, ended="session-1", reason="lunch is over")
        assert await hear(socket, EndSession) == EndSession("session-1", "lunch is over")
        await other.do(teamspaces.end_variant, space, variant="variant-1", reason="it breaks orders")
        assert await hear(socket, EndVariant) == EndVariant("variant-1", "it breaks orders")
        await other.do(teamspaces.rotate, space)
        await hear(socket, Rotate)

        orders = Service(ServiceRef("shop", "orders"), ServiceKind.CLUSTER_IP, ())
        await socket.send(msgspec.msgpack.encode(CatalogTold((orders,), reset=True)))
        async with asyncio.timeout(20):
            while True:
                async with replicas.second.database.reading() as session:
                    shown = await pictures.shown(session, tenant.id, space, Kind.CATALOG)
                if shown.items:
                    break
                await asyncio.sleep(0.05)
    assert [one["ref"]["name"] for one in shown.items] == ["orders"]
