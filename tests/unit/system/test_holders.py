"""Who holds which laptop, as one replica of the System writes it into the Serve objects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from codezero.kit.tasks import task_group
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.system.holders import Holders
from codezero.system.kubernetes.client import ApiError
from codezero.system.routers import replicas_behind
from codezero.system.serving.serves import Serves, path_of
from codezero.testing.kubernetes import FilledInventory, endpoint_json, service_json, slice_json
from codezero.testing.serves import ServeStore, as_api, route
from codezero.testing.tunnels import until
from codezero.wire.serve_resource import Route, RouteStatus

ORDERS = ServiceRef("shop", "orders")
MINE, OTHER = "10.0.0.1:8801", "10.0.0.2:8801"
NOW = 1_000_000.0
DEVICE = Device("hub", new_ulid(), new_ulid(), new_ulid())
SESSION = SessionId(new_ulid())


class Tunnels:
    """As much of a `TunnelPort` as holders look at."""

    def __init__(self) -> None:
        self.here: dict[SessionId, Device] = {}
        self._told: Any = None

    def device_of(self, session: SessionId) -> Device | None:
        return self.here.get(session)

    def follow(self, told: Any) -> None:
        self._told = told

    def up(self, session: SessionId = SESSION, device: Device = DEVICE) -> None:
        self.here[session] = device
        self._told(session)

    def down(self, session: SessionId = SESSION) -> None:
        del self.here[session]
        self._told(session)


class Replica:
    """One replica at the API server of all."""

    def __init__(self, store: ServeStore, inventory: FilledInventory, *, address: str = MINE) -> None:
        self.tunnels = Tunnels()
        self.serves = Serves(inventory, as_api(store), coalesce=0.0)
        self.hosts: frozenset[str] = frozenset()
        self.holders = Holders(
            cast("Any", self.tunnels), self.serves, address=address, replicas=lambda: self.hosts, clock=lambda: NOW
        )


class World:
    def __init__(self) -> None:
        self.inventory = FilledInventory().synced()
        self.store = ServeStore(self.inventory, key=b"k" * 32)
        self.route = route(DEVICE, SESSION)

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Replica]:
        one = Replica(self.store, self.inventory)
        self.store.follow(one.serves)
        async with task_group("test") as tasks:
            tasks.start_service("holders", one.holders.run())
            await asyncio.sleep(0)
            yield one

    def status(self, of: Route | None = None, service: ServiceRef = ORDERS) -> RouteStatus | None:
        wanted = (of or self.route).id
        return next((one for one in self.store.status(service).routes if one.id == wanted), None)

    def say(self, holder: str, away_since: float | None = None) -> None:
        """Another replica writes."""
        told = RouteStatus(self.route.id, holder, away_since, applied=True)
        self.store.set_status(ORDERS, lambda status: msgspec.structs.replace(status, routes=(told,)))

    def writes(self) -> int:
        return sum(one.startswith("PUT") for one in self.store.requests)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("first", ["tunnel", "serve"])
async def test_a_tunnel_and_a_route_meet_in_either_order(world: World, first: str) -> None:
    async with world.replica() as replica:
        if first == "tunnel":
            replica.tunnels.up()
            world.store.put(ORDERS, world.route)
        else:
            world.store.put(ORDERS, world.route)
            replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE))


async def test_a_tunnel_that_ends_is_told_at_once_and_once(world: World) -> None:
    """With the moment, by which the leader counts its half hour; what others wrote about the route stays."""
    world.store.put(ORDERS, world.route)
    world.say(MINE)
    async with world.replica() as replica:
        replica.tunnels.up()
        await replica.holders.settled()
        before = world.writes()
        replica.tunnels.down()
        await replica.holders.settled()
        await until(lambda: world.status() == RouteStatus(world.route.id, "", NOW, applied=True))
        await replica.holders.settled()

    assert world.writes() == before + 1


async def test_a_replica_that_ends_withdraws_before_its_tunnel_does(world: World) -> None:
    """Routers ask elsewhere from then on. Whoever comes back here all the same is here again."""
    world.store.put(ORDERS, world.route)
    async with world.replica() as replica:
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE))
        replica.holders.withdraw(SESSION)
        await until(lambda: world.status() == RouteStatus(world.route.id, "", NOW))
        replica.tunnels.down()
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE))


async def test_a_withdrawn_laptop_is_the_next_replicas(world: World) -> None:
    """It may have its tunnel there before this one has written anything."""
    world.store.put(ORDERS, world.route)
    async with world.replica() as replica:
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE))
        world.say("10.0.0.9:8801")
        replica.holders.withdraw(SESSION)
        await replica.holders.settled()

    assert world.status() == RouteStatus(world.route.id, "10.0.0.9:8801", applied=True)


async def test_a_laptop_that_comes_back_is_away_no_more(world: World) -> None:
    world.store.put(ORDERS, world.route)
    world.say("", away_since=5.0)
    async with world.replica() as replica:
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE, applied=True))


async def test_the_newest_tunnel_counts_and_two_replicas_do_not_fight(world: World) -> None:
    """A laptop that moved on leaves a dead tunnel behind for some seconds."""
    world.store.put(ORDERS, world.route)
    world.say(OTHER)
    async with world.replica() as replica:
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE, applied=True))
        await replica.holders.settled()
        world.say(OTHER)  # where the laptop is by now
        told = world.store.status(ORDERS)
        assert replica.holders.changed(ORDERS, told) == told
        replica.tunnels.down()  # the dead one
        await replica.holders.settled()
        assert world.status() == RouteStatus(world.route.id, OTHER, applied=True)
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE, applied=True))


async def test_a_session_of_another_device_is_not_held(world: World) -> None:
    """T18: whoever got hold of a session's name gets no requests by it."""
    world.store.put(ORDERS, world.route)
    async with world.replica() as replica:
        replica.tunnels.up(device=Device("hub", new_ulid(), new_ulid(), new_ulid()))
        await replica.holders.settled()

    assert world.status() is None


async def test_what_the_api_server_refuses_is_tried_again(world: World) -> None:
    world.store.put(ORDERS, world.route)
    world.store.failing = ApiError("away")
    async with world.replica() as replica:
        replica.tunnels.up()
        await until(lambda: len(world.store.requests) >= 2)
        assert world.status() is None
        world.store.failing = None
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE))


async def test_what_others_write_meanwhile_is_kept(world: World) -> None:
    """Two Systems and a leader write into one status."""
    other = route(DEVICE, SessionId(new_ulid()))
    world.store.put(ORDERS, world.route, other)

    def once() -> None:
        world.store.before_replace = lambda: None
        told = (RouteStatus(other.id, OTHER),)
        world.store.set_status(ORDERS, lambda status: msgspec.structs.replace(status, routes=told, message="said"))

    async with world.replica() as replica:
        world.store.before_replace = once
        replica.tunnels.up()
        await until(lambda: world.status() == RouteStatus(world.route.id, MINE))

    assert world.status(other) == RouteStatus(other.id, OTHER)
    assert world.store.status(ORDERS).message == "said"


async def test_a_deleted_object_is_left_alone(world: World) -> None:
    world.store.put(ORDERS, world.route)
    async with world.replica() as replica:
        replica.tunnels.up()
        await replica.holders.settled()
        world.store.delete(ORDERS)
        replica.tunnels.down()
        await replica.holders.settled()

    assert f"PUT {path_of(ORDERS)}/status" in world.store.requests


async def test_replicas_that_are_gone_hold_nothing_after_two_looks(world: World) -> None:
    """A node that burned took its tunnels along and said nothing; one look may be a rollout's."""
    world.store.put(ORDERS, world.route)
    world.say(OTHER)
    async with world.replica() as replica:
        replica.holders.look_for_lost()  # nobody knows who is there
        replica.holders.look_for_lost()
        replica.hosts = frozenset({"10.0.0.1", "10.0.0.2"})
        replica.holders.look_for_lost()
        replica.hosts = frozenset({"10.0.0.1"})
        replica.holders.look_for_lost()
        await replica.holders.settled()
        assert world.status() == RouteStatus(world.route.id, OTHER, applied=True)
        replica.holders.look_for_lost()
        await until(lambda: world.status() == RouteStatus(world.route.id, "", NOW, applied=True))


def test_the_replicas_are_those_behind_the_system_s_service() -> None:
    inventory = FilledInventory().synced()
    assert replicas_behind(inventory, "system.codezero.svc:8801") == frozenset()
    inventory.put(
        service_json("system", "codezero", ports=({"name": "routers", "port": 8801},)),
        slice_json(
            "system",
            "codezero",
            endpoints=[endpoint_json("10.0.0.1"), endpoint_json("10.0.0.2")],
            ports=({"name": "routers", "port": 8801, "protocol": "TCP"},),
        ),
    )

    assert replicas_behind(inventory, "system.codezero.svc:8801") == frozenset({"10.0.0.1", "10.0.0.2"})
