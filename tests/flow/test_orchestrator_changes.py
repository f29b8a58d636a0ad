"""Another Orchestrator becomes the active one: Systems move, laptops come back with the same sessions, nothing stays split, and no serve is lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.sessions import ActivityKind
from codezero.orchestrator import server
from codezero.testing.scripted_system import Peers
from codezero.testing.teamspace import Coordination, RealTeamspace
from codezero.testing.tunnels import until
from codezero.transport.tunnel import ClientTunnel
from codezero.wire.coordination import ConsumeAssertion, Leave

ORDERS = ServiceRef("shop", "orders")
ONE, TWO = "127.0.0.1", "127.0.0.2"


class Cluster:
    """Two Systems and two Orchestrators of one Teamspace; each System has a mirror of the cluster of its own."""

    def __init__(self, folder: Path) -> None:
        self.first = RealTeamspace(folder / "one")
        self.second = RealTeamspace(
            folder / "two", authorities=self.first.authorities, orchestrator_port=self.first.orchestrator_port
        )
        for system in (self.first, self.second):
            system.offer("orders", 8080)

    def list(self, *hosts: str, ending: tuple[str, ...] = ()) -> None:
        """Both Systems see these Orchestrators."""
        for system in (self.first, self.second):
            system.list_orchestrators(*hosts, ending=ending)

    async def counts(self, host: str) -> tuple[int, int]:
        """Systems and laptops that an Orchestrator has, by its metrics."""
        reader, writer = await asyncio.open_connection(host, self.first.probes["orchestrator"])
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: probes\r\n\r\n")
        page = (await reader.read()).decode()
        writer.close()
        found = dict(line.split(" ") for line in page.splitlines() if line.startswith("codezero_orchestrator_"))
        return int(float(found["codezero_orchestrator_systems"])), int(float(found["codezero_orchestrator_laptops"]))

    async def until_counts(self, host: str, systems: int, laptops: int) -> None:
        async with asyncio.timeout(20):
            while await self.counts(host) != (systems, laptops):
                await asyncio.sleep(0.01)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    cluster.list(ONE, TWO)
    async with (
        cluster.first.orchestrator(ONE),
        cluster.first.orchestrator(TWO),
        cluster.first.system(),
        cluster.second.system(),
    ):
        yield cluster


class Laptop:
    """A laptop that keeps its live picture as a Daemon does."""

    def __init__(self, teamspace: RealTeamspace, tunnel: ClientTunnel) -> None:
        self.picture: Coordination | None = None
        self.ends: list[str] = []
        self._teamspace = teamspace
        self._tunnel = tunnel

    @property
    def session(self) -> str:
        return self._tunnel.session

    async def follow(self) -> None:
        try:
            while True:
                try:
                    self.picture = await self._teamspace.coordinate(self._tunnel, resume=self.picture)
                    await self.picture.stream.send(ConsumeAssertion(1, (ORDERS,)))
                    await self.picture.hear()
                except (EOFError, CodezeroError) as error:
                    self.ends.append(str(error))
                finally:
                    if self.picture is not None:
                        self.picture.stream.close()
                await asyncio.sleep(0.02)
        finally:
            self._tunnel.abandon()

    def sees(self, *others: "Laptop") -> bool:
        """Whether it sees the others consuming, through one and the same Orchestrator."""
        mine = self.picture
        return mine is not None and all(
            other.picture is not None
            and (other.picture.welcome and other.picture.welcome.epoch) == (mine.welcome and mine.welcome.epoch)
            and (found := mine.presences.get(other.session)) is not None
            and found.consumes == (ORDERS,)
            for other in (self, *others)
        )


async def follow_both(cluster: Cluster, tasks: Tasks) -> tuple[Laptop, Laptop]:
    laptops: list[Laptop] = []
    for system in (cluster.first, cluster.second):
        laptop = Laptop(system, await system.connect(system.authorities.device()))
        tasks.start_service("laptop", laptop.follow())
        laptops.append(laptop)
    anna, ben = laptops
    await until(lambda: anna.sees(ben) and ben.sees(anna))
    return anna, ben


async def test_all_move_to_the_other_orchestrator_when_the_active_one_ends(cluster: Cluster) -> None:
    """As a rolling restart does it: the pod ends, and is listed so before it stops."""
    async with asyncio.timeout(60), task_group("laptops") as tasks:
        anna, ben = await follow_both(cluster, tasks)
        before = anna.session, ben.session
        await cluster.until_counts(ONE, 2, 2)
        await cluster.until_counts(TWO, 0, 0)

        cluster.list(TWO, ending=(ONE,))
        await cluster.until_counts(TWO, 2, 2)
        await cluster.until_counts(ONE, 0, 0)
        await until(lambda: anna.sees(ben) and ben.sees(anna))
        assert (anna.session, ben.session) == before
        assert any("another Orchestrator is the active one now" in end for end in anna.ends)
        assert anna.picture is not None
        assert not [one for one in anna.picture.activities if one.kind is ActivityKind.JOINED]

        # And back, to the one that has waited.
        cluster.list(ONE, ending=(TWO,))
        await cluster.until_counts(ONE, 2, 2)
        await until(lambda: anna.sees(ben) and ben.sees(anna))
        assert (anna.session, ben.session) == before


async def test_systems_that_disagree_for_a_moment_are_together_again(cluster: Cluster) -> None:
    """One of them hears of the cluster's changes later. No laptop is half here and half there meanwhile."""
    async with asyncio.timeout(60), task_group("laptops") as tasks:
        anna, ben = await follow_both(cluster, tasks)

        cluster.first.list_orchestrators(TWO, ending=(ONE,))
        await cluster.until_counts(TWO, 1, 1)
        await cluster.until_counts(ONE, 1, 1)
        await until(lambda: anna.sees() and ben.sees())
        assert not anna.sees(ben)
        cluster.second.list_orchestrators(TWO, ending=(ONE,))
        await cluster.until_counts(TWO, 2, 2)
        await cluster.until_counts(ONE, 0, 0)
        await until(lambda: anna.sees(ben) and ben.sees(anna))


async def test_without_any_ready_one_everybody_stays_with_the_one_that_still_answers(cluster: Cluster) -> None:
    """Fail static: a node that has lost its kubelet is not ready by the cluster's word, and works."""
    async with asyncio.timeout(60), task_group("laptops") as tasks:
        anna, ben = await follow_both(cluster, tasks)

        cluster.list()
        cluster.first.offer("cart", 8080)
        await until(lambda: anna.picture is not None and "shop/cart" in anna.picture.catalog)
        assert await cluster.counts(ONE) == (2, 2)
        assert anna.sees(ben)


async def test_one_that_is_not_active_takes_no_laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and the laptop may try again."""
    monkeypatch.setattr(server, "ACTIVE_WITHIN_SECONDS", 0.2)
    teamspace = RealTeamspace(tmp_path)
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        goodbye = await peers.refused(teamspace.authorities.device())
        peers.close()

        assert goodbye.code == problems.TUNNEL_DOWN.code
        assert "not the active one" in goodbye.detail
        assert goodbye.retry


async def test_what_was_over_here_once_is_not_ended_when_this_one_is_active_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that left, came back through another Orchestrator and serves: this one knows the old story only."""
    monkeypatch.setattr(server, "FORGET_SECONDS", 0.1)
    monkeypatch.setattr(server, "LEASE_LOOK_SECONDS", 0.02)
    teamspace = RealTeamspace(tmp_path)
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        system = await peers.system(ORDERS)
        device = teamspace.authorities.device()
        laptop = await peers.laptop(device)
        epoch, session = laptop.welcome and laptop.welcome.epoch, laptop.welcome and laptop.welcome.session
        asking = asyncio.ensure_future(laptop.serve(ORDERS))
        await system.obey(await system.order())
        assert not (await asking).code
        served = dict(system.serves)
        await laptop.stream.send(Leave())
        await system.obey(await system.order())
        system.drop()
        await forgotten(peers, epoch)

        again = await peers.system(ORDERS)
        again.serves = served
        await again.report(ORDERS)
        with pytest.raises(CodezeroError):
            await again.order(within=1)
        returned = await peers.laptop(device, session=session)
        await returned.until(lambda it: it.known)
        assert returned.catalog["shop/orders"].serving.variants[0].session == session
        peers.close()


async def forgotten(peers: Peers, epoch: str | None) -> None:
    """Wait until a new picture has begun, by asking as Systems that come and go."""
    async with asyncio.timeout(20):
        while (await peers.greeted()).epoch == epoch:
            await asyncio.sleep(0.3)


async def test_an_orchestrator_that_ends_says_so(tmp_path: Path) -> None:
    """To those who know no other: they come back, and their logs tell a story and not an error."""
    teamspace = RealTeamspace(tmp_path)
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        system = await peers.system(ORDERS)
    goodbye = await system.farewell()
    peers.close()

    assert goodbye.retry
    assert goodbye.code == problems.TUNNEL_DOWN.code
