"""The Daemon with a real System and Orchestrator over real TLS on loopback; capture by listeners, so the machine itself is left alone."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from codezero.local.daemon import capture, daemon, host_client
from codezero.local.daemon.daemon import Daemon
from codezero.local.daemon.state import StateFolder
from codezero.local.supervisor.host_agent import HostSettings
from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.sessions import ActivityKind, PresenceState
from codezero.testing.kubernetes import service_json
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.testing.tunnels import until
from codezero.transport.local_client import LocalClient
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.local_api import ConsumeChange, ConsumedService, ConsumeState, TunnelState

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: consumed ports such as 80 are bound"),
]

ORDERS = ServiceRef("shop", "orders")


def access_to(teamspace: RealTeamspace, device: Device | None = None) -> TeamspaceAccess:
    """An access file with a fresh certificate, of a new laptop or of `device`."""
    laptop = teamspace.authorities.laptop(device or teamspace.authorities.device())
    return TeamspaceAccess(
        teamspace=teamspace.authorities.teamspace,
        name="test",
        host="127.0.0.1",
        port=teamspace.port,
        roots=teamspace.authorities.parts.certificate_pem,
        certificate=laptop.certificate_pem,
        key=laptop.key_pem,
    )


@dataclass
class Laptop:
    """A Daemon, and what a user would do with it."""

    daemon: Daemon
    api: LocalClient

    async def consume(self, *rules: str, primary_namespace: str | None = None) -> None:
        await self.daemon.change_consume(ConsumeChange(rules, primary_namespace=primary_namespace))

    def service(self, name: str = "orders") -> ConsumedService | None:
        return next((one for one in self.daemon.consume().consumed if one.service.name == name), None)

    def is_(self, state: ConsumeState, name: str = "orders") -> bool:
        found = self.service(name)
        return found is not None and found.state is state

    async def reaches(self, name: str = "orders") -> bool:
        """Whether a program that resolves the name gets its words back."""
        reader, writer = await self.dial(name)
        try:
            writer.write(b"hello")
            writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read() == b"hello"
        finally:
            writer.close()

    async def dial(self, name: str = "orders") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.daemon.table.address_of(f"{name}.shop"), 80)

    @property
    def tunnel_state(self) -> TunnelState:
        return self.daemon.status().tunnel.state


@asynccontextmanager
async def laptop_at(folder: Path) -> AsyncGenerator[Laptop, None]:
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        settings = HostSettings(folder / "host", capture="listeners", names="none")
        host = await stack.enter_async_context(host_client.unsupervised(settings, asyncio.Event()))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        path = folder / "daemon.sock"
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        running = daemon.running(host, StateFolder(folder / "state"), listener=listener, owner=0, is_supervised=False)
        yield Laptop(await stack.enter_async_context(running), LocalClient(path))


@pytest.fixture
async def teamspace(tmp_path: Path) -> AsyncGenerator[RealTeamspace, None]:
    async with RealTeamspace(tmp_path / "teamspace").running() as running:
        yield running


@pytest.fixture
async def laptop(tmp_path: Path, teamspace: RealTeamspace) -> AsyncGenerator[Laptop, None]:
    async with laptop_at(tmp_path / "laptop") as found:
        await found.daemon.select_teamspace(access_to(teamspace))
        yield found


@pytest.fixture
async def echo(teamspace: RealTeamspace) -> AsyncGenerator[int, None]:
    """The service `orders.shop`, which sends back what it gets."""
    async with echo_server() as port:
        teamspace.offer("orders", port)
        yield port


async def eventually(is_true: Callable[[], object]) -> None:
    await until(is_true, within=20)


async def test_consumed_service_is_reached_by_name(laptop: Laptop, echo: int) -> None:
    """When `consume apply` returns, the first connection works: no waiting, no trying again."""
    await eventually(lambda: laptop.daemon.services().services)
    await laptop.consume("orders.shop", primary_namespace="shop")

    assert await laptop.reaches()
    assert laptop.service().state is ConsumeState.ENABLED
    assert laptop.service().names[:2] == ("orders", "orders.shop")
    assert laptop.daemon.table.address_of("orders") == laptop.service().address


async def test_rules_apply_to_services_that_come_later(laptop: Laptop, teamspace: RealTeamspace) -> None:
    await laptop.consume("*")
    async with echo_server() as port:
        teamspace.offer("late", port)
        await eventually(
            lambda: laptop.is_(ConsumeState.ENABLED, "late") and laptop.daemon.table.address_of("late.shop")
        )

        assert await laptop.reaches("late")


async def test_service_without_ready_pods_refuses_and_comes_back(
    laptop: Laptop, teamspace: RealTeamspace, echo: int
) -> None:
    """As in the cluster: the name stays, the connection is refused."""
    await laptop.consume("*")
    await eventually(lambda: laptop.is_(ConsumeState.ENABLED))

    teamspace.offer("orders", echo, ready=False)
    await eventually(lambda: laptop.is_(ConsumeState.UNREADY) and not laptop.daemon.capture.captured_ports)
    with pytest.raises(ConnectionRefusedError):
        await laptop.dial()

    teamspace.offer("orders", echo)
    await eventually(lambda: laptop.daemon.capture.captured_ports)
    assert await laptop.reaches()


async def test_deleted_service_loses_its_name(laptop: Laptop, teamspace: RealTeamspace, echo: int) -> None:
    await laptop.consume("*")
    await eventually(lambda: laptop.daemon.table.address_of("orders.shop"))

    teamspace.inventory.remove(service_json("orders"))

    await eventually(lambda: not laptop.daemon.table.address_of("orders.shop"))
    assert laptop.service() is None


async def test_connections_end_when_the_user_stops_consuming(laptop: Laptop, echo: int) -> None:
    """What is no longer consumed must not go on working by accident."""
    await eventually(lambda: laptop.daemon.services().services)
    await laptop.consume("*")
    reader, writer = await laptop.dial()
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    assert laptop.service().sessions == 1

    await laptop.daemon.reset()

    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    assert laptop.daemon.table.address_of("orders.shop") is None


async def test_policy_decides_what_is_seen_and_reached(laptop: Laptop, teamspace: RealTeamspace, echo: int) -> None:
    """A service the policy takes away loses its name and its connections (T38, T41)."""
    await eventually(lambda: laptop.daemon.services().services)
    await laptop.consume("*")
    reader, writer = await laptop.dial()
    writer.write(b"x")
    await reader.readexactly(1)

    organization = teamspace.authorities.organization
    everything = allow_all(organization).rules
    teamspace.write_policy(
        Policy(organization, (*everything, PolicyRule(Effect.DENY, tuple(Operation), services=("orders",), name="no")))
    )

    await eventually(lambda: not laptop.daemon.table.address_of("orders.shop"))
    with pytest.raises(ConnectionError):
        await reader.readexactly(1)
    writer.close()


async def test_a_teamspace_without_a_valid_policy_says_so(laptop: Laptop, teamspace: RealTeamspace, echo: int) -> None:
    """An empty list of services would only look as if somebody had deleted them all."""
    await eventually(lambda: laptop.daemon.services().services)
    teamspace.write_policy(b'{"organization": "x", "rulez": []}')
    await eventually(lambda: not laptop.daemon.services().services)

    (warning,) = laptop.daemon.status().warnings
    assert warning.code == "NOTHING_ALLOWED"
    assert "no valid policy" in warning.text
    assert "rulez" in warning.text

    teamspace.write_policy(allow_all(teamspace.authorities.organization))
    await eventually(lambda: laptop.daemon.services().services)
    assert laptop.daemon.status().warnings == ()


async def test_system_dies_and_returns(tmp_path: Path) -> None:
    """Status tells the loss at once; names stay; connections are refused; then all is back, with the same session."""
    teamspace = RealTeamspace(tmp_path / "teamspace")
    async with teamspace.orchestrator(), laptop_at(tmp_path / "laptop") as laptop, echo_server() as port:
        teamspace.offer("orders", port)
        async with teamspace.system():
            await laptop.daemon.select_teamspace(access_to(teamspace))
            await laptop.consume("*")
            await eventually(lambda: laptop.is_(ConsumeState.ENABLED))
            session = laptop.daemon.status().tunnel.session
            assert await laptop.reaches()
        await eventually(lambda: laptop.tunnel_state is TunnelState.CONNECTING)
        status = laptop.daemon.status()
        assert status.tunnel.cause
        assert [one.code for one in status.warnings] == ["TEAMSPACE_NOT_CONNECTED"]
        assert status.orchestrator.stale_since
        assert laptop.daemon.table.address_of("orders.shop")
        reader, writer = await laptop.dial()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()

        async with teamspace.system():
            await eventually(lambda: laptop.tunnel_state is TunnelState.CONNECTED)
            await eventually(lambda: laptop.daemon.status().orchestrator.connected)

            assert laptop.daemon.status().tunnel.session == session
            assert laptop.daemon.status().tunnel.reconnects >= 1
            assert not laptop.daemon.status().warnings
            assert await laptop.reaches()


async def test_orchestrator_dies_and_returns(tmp_path: Path) -> None:
    """The tunnel and what is consumed go on without it; the picture is marked stale, and current again afterwards."""
    teamspace = RealTeamspace(tmp_path / "teamspace")
    async with echo_server() as port, laptop_at(tmp_path / "laptop") as laptop:
        teamspace.offer("orders", port)
        async with AsyncExitStack() as orchestrator, AsyncExitStack() as system:
            await orchestrator.enter_async_context(teamspace.orchestrator())
            await system.enter_async_context(teamspace.system())
            await laptop.daemon.select_teamspace(access_to(teamspace))
            await laptop.consume("*")
            await eventually(lambda: laptop.is_(ConsumeState.ENABLED))
            epoch = laptop.daemon.status().orchestrator.epoch
            await orchestrator.aclose()

            await eventually(lambda: not laptop.daemon.status().orchestrator.connected)
            assert laptop.daemon.status().orchestrator.stale_since
            await eventually(lambda: [one.code for one in laptop.daemon.status().warnings] == ["PICTURE_STALE"])
            assert laptop.daemon.services().stale_since
            assert await laptop.reaches()

            async with teamspace.orchestrator():
                await eventually(lambda: laptop.daemon.status().orchestrator.connected)
                await eventually(lambda: laptop.daemon.status().orchestrator.epoch != epoch)
                async with echo_server() as other:
                    teamspace.offer("later", other)
                    await eventually(lambda: laptop.daemon.table.address_of("later.shop"))
                    assert laptop.daemon.services().stale_since is None
                await laptop.daemon.forget_teamspace()


async def test_a_teamspace_that_does_not_see_its_cluster_is_told(
    tmp_path: Path, teamspace: RealTeamspace, echo: int
) -> None:
    """R12: what is consumed goes on by what was last known, and whoever looks is told how old that is."""
    async with laptop_at(tmp_path / "laptop") as laptop:
        await laptop.daemon.select_teamspace(access_to(teamspace))
        await laptop.consume("orders.shop")
        await eventually(lambda: laptop.is_(ConsumeState.ENABLED))
        teamspace.inventory.synced(stale_since=7.0)
        await eventually(lambda: laptop.daemon.status().warnings)
        warning = laptop.daemon.status().warnings[0]

        assert warning.code == "CLUSTER_NOT_SEEN"
        assert "00:00:07 UTC" in warning.text
        assert warning.fix
        assert await laptop.reaches()

        teamspace.inventory.synced()
        await eventually(lambda: not laptop.daemon.status().warnings)


async def test_daemon_that_was_killed_goes_on_where_it_was(tmp_path: Path, teamspace: RealTeamspace, echo: int) -> None:
    """Rules, primary namespace, Teamspace, session and addresses outlive the process (R14)."""
    async with laptop_at(tmp_path / "laptop") as laptop:
        await laptop.daemon.select_teamspace(access_to(teamspace))
        await laptop.consume("orders", primary_namespace="shop")
        await eventually(lambda: laptop.is_(ConsumeState.ENABLED))
        address, session = laptop.service().address, laptop.daemon.status().tunnel.session
        kept = {path.name: path.read_bytes() for path in (tmp_path / "laptop/state").iterdir() if path.is_file()}

    for name, content in kept.items():
        (tmp_path / "laptop/state" / name).write_bytes(content)
    async with laptop_at(tmp_path / "laptop") as again:
        await eventually(lambda: again.daemon.table.address_of("orders"))

        assert again.service().address == address
        assert again.daemon.status().tunnel.session == session
        assert again.daemon.table.address_of("orders") == address


async def test_switching_the_teamspace_swaps_everything(
    laptop: Laptop, teamspace: RealTeamspace, echo: int, tmp_path: Path
) -> None:
    """Streams of the old one are closed, and its names never lead to the new one (R42)."""
    await laptop.consume("*")
    await eventually(lambda: laptop.daemon.table.address_of("orders.shop"))
    reader, writer = await laptop.dial()
    before = laptop.daemon.table.address_of("orders.shop")

    async with RealTeamspace(tmp_path / "other").running() as other, echo_server(b"other") as port:
        other.offer("orders", port)
        await laptop.daemon.select_teamspace(access_to(other))

        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        await eventually(lambda: laptop.daemon.table.address_of("orders.shop"))
        assert laptop.daemon.table.address_of("orders.shop") != before
        assert laptop.daemon.status().teamspace.id == other.authorities.teamspace
        reader, writer = await laptop.dial()
        assert await reader.readexactly(5) == b"other"
        writer.close()
        await laptop.daemon.forget_teamspace()
    assert laptop.tunnel_state is TunnelState.NONE
    assert len(laptop.daemon.table) == 0


async def test_renewed_access_keeps_the_session(laptop: Laptop, teamspace: RealTeamspace) -> None:
    """The device certificate is renewed each day; the team must not see everybody leave and come back."""
    device = teamspace.authorities.device()
    await laptop.daemon.select_teamspace(access_to(teamspace, device))
    await eventually(lambda: laptop.tunnel_state is TunnelState.CONNECTED)
    session = laptop.daemon.status().tunnel.session

    await laptop.daemon.select_teamspace(access_to(teamspace, device))
    await eventually(lambda: laptop.tunnel_state is TunnelState.CONNECTED)

    assert laptop.daemon.status().tunnel.session == session


async def test_bad_access_changes_nothing(laptop: Laptop, teamspace: RealTeamspace) -> None:
    await eventually(lambda: laptop.tunnel_state is TunnelState.CONNECTED)
    good = access_to(teamspace)
    other = access_to(teamspace)
    mixed = TeamspaceAccess(good.teamspace, good.name, good.host, good.port, good.roots, good.certificate, other.key)

    with pytest.raises(CodezeroError) as refused:
        await laptop.daemon.select_teamspace(mixed)

    assert refused.value.problem is problems.BAD_IDENTITY
    assert laptop.tunnel_state is TunnelState.CONNECTED


async def test_stranger_is_told_why(tmp_path: Path, teamspace: RealTeamspace) -> None:
    """A device certificate of another Teamspace's issuer does not connect, and status names the reason and the fix."""
    other = RealTeamspace(tmp_path / "other")
    forged = access_to(other)
    access = TeamspaceAccess(
        teamspace.authorities.teamspace, "test", "127.0.0.1", teamspace.port,
        teamspace.authorities.parts.certificate_pem, forged.certificate, forged.key,
    )  # fmt: skip
    async with laptop_at(tmp_path / "laptop") as laptop:
        await laptop.daemon.select_teamspace(access)

        await eventually(lambda: laptop.daemon.status().tunnel.cause)
        await eventually(lambda: "TEAMSPACE_REFUSED" in [one.code for one in laptop.daemon.status().warnings])


async def test_team_sees_each_other(laptop: Laptop, tmp_path: Path, teamspace: RealTeamspace, echo: int) -> None:
    await laptop.consume("*")
    async with laptop_at(tmp_path / "second") as second:
        await second.daemon.select_teamspace(access_to(teamspace))
        await eventually(lambda: len(laptop.daemon.presence().presences) == 2)
        await eventually(lambda: any(one.consumes == (ORDERS,) for one in second.daemon.presence().presences))
        assert {one.state for one in second.daemon.presence().presences} == {PresenceState.ONLINE}
    await eventually(lambda: len(laptop.daemon.presence().presences) == 1)
    assert ActivityKind.LEFT in [one.kind for one in laptop.daemon.activity().activities]


async def test_udp_goes_through(laptop: Laptop, teamspace: RealTeamspace) -> None:
    loop = asyncio.get_running_loop()

    class Shout(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data.upper(), addr)

    server, _ = await loop.create_datagram_endpoint(Shout, local_addr=("127.0.0.1", 0))
    try:
        teamspace.offer("shout", server.get_extra_info("sockname")[1], protocol="UDP")
        await laptop.consume("*")
        await eventually(lambda: laptop.daemon.table.address_of("shout.shop"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect((laptop.daemon.table.address_of("shout.shop"), 80))
            for word in (b"one", b"two"):
                await loop.sock_sendall(client, word)
                async with asyncio.timeout(10):
                    assert await loop.sock_recv(client, 100) == word.upper()
    finally:
        server.close()


async def test_port_taken_by_another_process_is_named_and_taken_back(
    laptop: Laptop, teamspace: RealTeamspace, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name must not lead to the squatter (T15), and comes back when the port is free (R21)."""
    monkeypatch.setattr("codezero.local.daemon.machine.CONFLICT_SECONDS", 0.05)
    await eventually(lambda: laptop.daemon.services().services)
    address = laptop.daemon._joined.consumption.plan.address_of(ORDERS)
    with socket.create_server((address, 80)):
        await laptop.consume("*")
        await eventually(lambda: laptop.is_(ConsumeState.CONFLICT))
        await eventually(lambda: laptop.daemon.machine.is_settled)

        assert "pid" in laptop.service().reason
        assert laptop.daemon.table.address_of("orders.shop") is None
        assert "PORTS_IN_USE" in [one.code for one in laptop.daemon.status().warnings]

    await eventually(lambda: laptop.daemon.table.address_of("orders.shop"))
    assert await laptop.reaches()
    assert "PORTS_IN_USE" not in [one.code for one in laptop.daemon.status().warnings]


async def test_many_connections_at_once(laptop: Laptop, echo: int) -> None:
    await eventually(lambda: laptop.daemon.services().services)
    await laptop.consume("*")

    assert all(await asyncio.gather(*(laptop.reaches() for _ in range(100))))
    await eventually(lambda: laptop.service().sessions == 0)


async def test_thousands_of_changes_are_followed(laptop: Laptop, teamspace: RealTeamspace, echo: int) -> None:
    """While consuming everything, a cluster in motion costs few steps and ends in the right state."""
    await laptop.consume("*")
    await eventually(lambda: laptop.is_(ConsumeState.ENABLED))
    for round_ in range(5):
        for number in range(100):
            teamspace.offer(f"service-{number}", echo, ready=bool((number + round_) % 2))
        await asyncio.sleep(0.02)

    await eventually(lambda: len(laptop.daemon.consume().consumed) == 101)
    await eventually(lambda: laptop.daemon.capture.captured_ports == 51)
    await eventually(lambda: len(laptop.daemon.table) == 101 * 3)


@pytest.mark.capability("operation", "agent.status", "agent.reset", "agent.teamspace.leave", "services.list")
@pytest.mark.capability("operation", "consume.list", "consume.change", "consume.test", "consume.primary-namespace")
@pytest.mark.capability("operation", "people.list", "activity.list")
async def test_local_api_answers_what_the_command_line_asks(laptop: Laptop, echo: int) -> None:
    """The typed client and the server agree on every endpoint."""
    api = laptop.api
    await eventually(lambda: laptop.daemon.services().services)
    view = await asyncio.to_thread(api.change_consume, ConsumeChange(("orders.shop",)))
    assert view.consumed[0].state is ConsumeState.ENABLED
    assert (await asyncio.to_thread(api.test_consume, ConsumeChange(("!*",)))).consumed == ()
    assert (await asyncio.to_thread(api.consume)).rules == ("orders.shop",)
    assert (await asyncio.to_thread(api.select_primary_namespace, "shop")).consumed[0].names[0] == "orders"
    assert (await asyncio.to_thread(api.status)).consumed == 1
    assert (await asyncio.to_thread(api.services)).services[0].ref == ORDERS
    assert len((await asyncio.to_thread(api.presence)).presences) == 1
    assert (await asyncio.to_thread(api.activity)).activities
    with pytest.raises(CodezeroError) as refused:
        await asyncio.to_thread(api.change_consume, ConsumeChange(("fine.shop", "not a rule")))
    assert refused.value.problem is problems.BAD_RULE
    assert "line 2" in refused.value.detail
    assert (await asyncio.to_thread(api.reset)).rules == ()
    assert laptop.daemon.table.address_of("orders.shop") is None
    assert (await asyncio.to_thread(api.forget_teamspace)).teamspace is None
    assert laptop.tunnel_state is TunnelState.NONE


async def test_flows_of_udp_end_when_unused(
    monkeypatch: pytest.MonkeyPatch, laptop: Laptop, teamspace: RealTeamspace
) -> None:
    """A program that asks from a new port each time must not pile up streams."""
    monkeypatch.setattr(capture, "FLOW_SECONDS", 0.1)
    teamspace.offer("sink", 9, protocol="UDP")
    await laptop.consume("*")
    await eventually(lambda: laptop.daemon.table.address_of("sink.shop"))
    streams = laptop.daemon.status().tunnel.streams
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", (laptop.daemon.table.address_of("sink.shop"), 80))
        await eventually(lambda: laptop.daemon.status().tunnel.streams >= streams)

    await eventually(lambda: laptop.daemon.status().tunnel.streams == streams)


async def test_events_tell_what_changed(laptop: Laptop, teamspace: RealTeamspace, echo: int) -> None:
    """Who shows the picture need not poll; the stream ends with the Daemon, not before."""
    heard: list[str] = []

    def follow() -> None:
        for event in laptop.api.events():
            heard.append(event.what)
            if {"services", "consume", "activity"} <= set(heard):
                return

    following = asyncio.create_task(asyncio.to_thread(follow))
    await eventually(lambda: laptop.daemon.events._listeners)
    await laptop.consume("*")
    teamspace.offer("other", echo)

    async with asyncio.timeout(20):
        await following
    await eventually(lambda: not laptop.daemon.events._listeners)


async def test_what_a_full_disk_did_not_take_is_saved_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That something else could be saved meanwhile must not end the warning: the rules would be lost with the Daemon."""
    monkeypatch.setattr(daemon, "SAVE_AGAIN_SECONDS", 0.05)
    rules = tmp_path / "laptop" / "state" / "consume.json"
    async with laptop_at(tmp_path / "laptop") as laptop:
        rules.mkdir()
        await laptop.consume("*.shop")
        await laptop.daemon.forget_teamspace()  # which saves another file
        warned = [warning.code for warning in laptop.daemon.status().warnings]
        rules.rmdir()
        await eventually(rules.is_file)

        assert daemon.NOT_SAVED in warned
        await eventually(lambda: not laptop.daemon.status().warnings)
        assert b"*.shop" in rules.read_bytes()
