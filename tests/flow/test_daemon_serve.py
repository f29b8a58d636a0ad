"""A Daemon that serves, in a Teamspace whose System and Orchestrator say what the test wants: orders, catalog, streams, restarts and traces."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from codezero.kit import certificates
from codezero.local.daemon import daemon, host_client
from codezero.local.daemon.daemon import Daemon
from codezero.local.daemon.state import SERVES_FILE, StateFolder
from codezero.local.supervisor.host_agent import HostSettings
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import Activity, ActivityKind
from codezero.model.variants import ConditionPart, PortPair, Serving, ServingState, VariantState, VariantView
from codezero.testing.teamspace import Authorities, echo_server, free_port
from codezero.testing.tunnels import Echo, Recorder, until
from codezero.transport import tls, tunnel
from codezero.transport.local_client import LocalClient
from codezero.transport.messages import MessageStream
from codezero.transport.tls import Peer, TlsConnection
from codezero.transport.tunnel import ServerTunnel, TunnelStream
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.control import TunnelHello, TunnelWelcome
from codezero.wire.coordination import (
    ActivityHappened,
    CatalogDelta,
    CatalogSnapshot,
    ConsumeAssertion,
    ConsumeDecisions,
    DaemonHello,
    FromDaemon,
    Leave,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    ToDaemon,
    Traced,
    TraceWanted,
    Welcome,
)
from codezero.wire.local_api import ConsumeChange, ServeChange, ServeEnd, ServeResult, TraceLine
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED
from codezero.wire.tracing import Direction, TraceRecord

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: consumed ports such as 80 are bound"),
]

T = TypeVar("T")
ORDERS = ServiceRef("shop", "orders")
FROM_DAEMON: msgspec.msgpack.Decoder[FromDaemon] = msgspec.msgpack.Decoder(FromDaemon)


class ScriptedTeamspace:
    """One laptop's Teamspace: admits what it wants to consume and echoes it, keeps its orders, and serves as it is told.

    `answers_orders` False leaves orders without an answer. `variants` are those of `shop/orders`, told by `tell`.
    """

    def __init__(self) -> None:
        self.authorities = Authorities()
        self.device = self.authorities.device()
        self.variants: list[VariantView] = []
        self.state = ServingState.ACTIVE
        self.ports: tuple[ServicePort, ...] = (ServicePort(80, name="http"),)
        self.answers_orders = True
        self.shows_variants = True
        self.has_pods = True
        self.refusal: ServeAnswer | None = None
        self.heard: list[FromDaemon] = []
        self.tunnels: list[ServerTunnel] = []
        self.port = 0
        self._stream: MessageStream[ToDaemon, FromDaemon] | None = None
        self._revision = 1
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["ScriptedTeamspace", None]:
        context = certificates.server_context(
            self.authorities.part("system"), client_roots=self.authorities.devices.certificate_pem, require_client=False
        )
        listener = await tls.listen("127.0.0.1", 0, context, handlers={tunnel.ALPN: self._start})
        self.port = listener.port
        try:
            yield self
        finally:
            listener.close()
            for one in self.tunnels:
                one.abandon()
            for task in self._tasks:
                task.cancel()

    @property
    def access(self) -> TeamspaceAccess:
        laptop = self.authorities.laptop(self.device)
        return TeamspaceAccess(
            teamspace=self.authorities.teamspace,
            name="test",
            host="127.0.0.1",
            port=self.port,
            roots=self.authorities.parts.certificate_pem,
            certificate=laptop.certificate_pem,
            key=laptop.key_pem,
            user="alice",
        )

    @property
    def session(self) -> SessionId:
        return self.tunnels[-1].session

    def variant(self, *, port: int = 3000, **changes: object) -> VariantView:
        view = VariantView(
            new_ulid(), self.device.user, "alice", str(self.device), self.session, (ConditionPart("user"),),
            (PortPair(80, port),), 1000, 9e9, VariantState.ACTIVE,
        )  # fmt: skip
        return replace(view, **changes)

    def heard_of(self, kind: type[T]) -> list[T]:
        return [one for one in self.heard if isinstance(one, kind)]

    async def tell(self, *messages: ToDaemon) -> None:
        """Tell the laptop the catalog as it is now, and `messages` after it."""
        if self._stream is not None:
            self._revision += 1
            for message in (CatalogDelta(self._revision, (self.service(),)), *messages):
                await self._stream.send(message)

    async def reply(self, message: ToDaemon) -> None:
        """Say just that."""
        assert self._stream is not None
        await self._stream.send(message)

    def service(self) -> Service:
        serving = Serving(self.state, tuple(self.variants)) if self.variants else None
        return Service(ORDERS, ServiceKind.CLUSTER_IP, self.ports, 1, 1, serving=serving)

    def open(self, target: str) -> Recorder:
        """A served request arrives."""
        recorder = Recorder()
        self.tunnels[-1].open(OpenHeader(StreamKind.SERVE, target), recorder)
        return recorder

    def lose(self) -> None:
        """The laptop's tunnel is lost."""
        self.tunnels[-1].abandon()

    def _start(self, connection: TlsConnection) -> ServerTunnel:
        return ServerTunnel.start(
            connection, welcome=self._welcome, acceptor=self._accept, established=self.tunnels.append
        )

    def _welcome(self, hello: TunnelHello, _peer: Peer) -> TunnelWelcome:
        return TunnelWelcome(
            version=1, release="test", session=hello.session or SessionId(new_ulid()), max_streams=1000
        )

    def _accept(self, header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        if header.kind in {StreamKind.CONSUME, StreamKind.DATAGRAMS}:
            if not self.has_pods:
                raise CodezeroError(problems.SERVICE_UNKNOWN, "no pods")
            return Echo()
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, self._connected)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._converse(MessageStream(reader, writer, FROM_DAEMON)))
        self._tasks.add(task)

    async def _converse(self, stream: MessageStream[ToDaemon, FromDaemon]) -> None:
        with suppress(EOFError, CodezeroError):
            hello = await stream.receive()
            self.heard.append(hello)
            await stream.send(Welcome(1, "test", self.session, "epoch"))
            await stream.send(CatalogSnapshot(self._revision, 0, last=True, services=(self.service(),)))
            self._stream = stream
            while True:
                message = await stream.receive()
                self.heard.append(message)
                await self._answer(stream, message)

    async def _answer(self, stream: MessageStream[ToDaemon, FromDaemon], message: FromDaemon) -> None:
        match message:
            case ConsumeAssertion(number):
                await stream.send(ConsumeDecisions(number))
            case ServeWanted(number) if self.refusal is not None:
                await stream.send(msgspec.structs.replace(self.refusal, number=number))
            case ServeWanted():
                view = self.variant(condition=message.condition, ports=message.ports, mirror=message.mirror)
                if not message.preview:
                    self.variants.append(view)
                if self.answers_orders:
                    told = replace(view, state=VariantState.PENDING)
                    await stream.send(ServeAnswer(message.number, variant=told, effects=("one",)))
                if self.shows_variants:
                    await self.tell()
            case ServeEnding():
                ended = tuple(one for one in self.variants if one.variant_id in message.variants)
                self.variants = [one for one in self.variants if one not in ended]
                await stream.send(ServeAnswer(message.number, ended=ended))
                await self.tell()
            case Leave():
                self.variants = [one for one in self.variants if one.session != self.session]
                stream.close()
            case _:
                pass


@asynccontextmanager
async def daemon_at(folder: Path) -> AsyncGenerator[Daemon, None]:
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        settings = HostSettings(folder / "host", capture="listeners", names="none")
        host = await stack.enter_async_context(host_client.unsupervised(settings, asyncio.Event()))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        path = folder / "daemon.sock"
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        running = daemon.running(host, StateFolder(folder / "state"), listener=listener, owner=0, is_supervised=False)
        yield await stack.enter_async_context(running)


def state_of(folder: Path) -> dict[str, bytes]:
    """The state as a Daemon that is killed now leaves it."""
    return {path.name: path.read_bytes() for path in (folder / "state").iterdir() if path.is_file()}


def put_back(folder: Path, state: dict[str, bytes]) -> None:
    for name, content in state.items():
        (folder / "state" / name).write_bytes(content)


@pytest.fixture
async def teamspace() -> AsyncGenerator[ScriptedTeamspace, None]:
    async with ScriptedTeamspace().running() as running:
        yield running


@pytest.fixture
async def agent(tmp_path: Path, teamspace: ScriptedTeamspace) -> AsyncGenerator[Daemon, None]:
    async with daemon_at(tmp_path / "laptop") as found:
        await found.select_teamspace(teamspace.access)
        await until(lambda: found.services().services)
        yield found


async def failure_of(call: Callable[[], object]) -> CodezeroError:
    with pytest.raises(CodezeroError) as caught:
        await asyncio.to_thread(call)
    return caught.value


async def failure_of_serve(agent: Daemon) -> CodezeroError:
    with pytest.raises(CodezeroError) as caught:
        await agent.serve(change())
    return caught.value


def change(port: int = 3000, **more: object) -> ServeChange:
    return ServeChange("shop/orders", (PortPair(80, port),), **more)


async def served(agent: Daemon, port: int = 3000, **more: object) -> ServeResult:
    async with asyncio.timeout(20):
        return await agent.serve(change(port, **more))


def codes(agent: Daemon) -> list[str]:
    return [one.code for one in agent.status().warnings]


@pytest.mark.capability("operation", "serve.list", "serve.start", "serve.end")
async def test_serving_over_the_local_api(agent: Daemon, teamspace: ScriptedTeamspace, tmp_path: Path) -> None:
    """What czctl does: serve, list, a request arrives, end; and what the user is shown meanwhile."""
    client = LocalClient(tmp_path / "laptop/daemon.sock")
    async with echo_server() as port:
        result = await asyncio.to_thread(client.serve, change(port))

        assert result.effects == ("one",)
        assert result.served is not None
        assert result.served.state is VariantState.ACTIVE
        user = teamspace.device.user
        assert result.served.curl == f"curl -H 'x-c6o-userid: {user}' http://orders.shop:80/"
        (wanted,) = teamspace.heard_of(ServeWanted)
        assert (wanted.service, wanted.condition) == (ORDERS, (ConditionPart("user"),))
        recorder = teamspace.open(f"{result.served.variant.variant_id}:80")
        recorder.stream.write(b"hello")
        await until(lambda: recorder.data == CONNECTED + b"hello")
        (shown,) = (await asyncio.to_thread(client.serves)).serves
        assert (shown.service, shown.requests, shown.failed) == (ORDERS, 1, 0)
        status = agent.status()
        assert (status.served, status.warnings) == (1, ())
        assert status.teamspace is not None
        assert status.teamspace.user_id == user

        ended = await asyncio.to_thread(client.end_serve, ServeEnd("shop/orders", reason="done"))
        assert [one.variant_id for one in ended.ended] == [shown.variant.variant_id]
        assert teamspace.heard_of(ServeEnding)[0].reason == "done"
        assert agent.serves().serves == ()
        assert codes(agent) == []
        assert not (tmp_path / "laptop/state" / SERVES_FILE).exists()


async def test_hello_says_who_the_user_is(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    assert teamspace.heard_of(DaemonHello)[0].user_name == "alice"


async def test_preview_changes_nothing(agent: Daemon, teamspace: ScriptedTeamspace, tmp_path: Path) -> None:
    result = await served(agent, preview=True)

    assert result.effects == ("one",)
    assert result.served is not None
    assert agent.serves().serves == ()
    assert not (tmp_path / "laptop/state" / SERVES_FILE).exists()


async def test_what_the_teamspace_refuses_leaves_nothing(
    agent: Daemon, teamspace: ScriptedTeamspace, tmp_path: Path
) -> None:
    client = LocalClient(tmp_path / "laptop/daemon.sock")
    teamspace.refusal = ServeAnswer(0, problems.CONDITION_TAKEN.code, "bob already serves it", "add --takeover")

    error = await failure_of(lambda: client.serve(change()))

    assert (error.problem, error.fix) == (problems.CONDITION_TAKEN, "add --takeover")
    assert agent.serves().serves == ()
    assert not (tmp_path / "laptop/state" / SERVES_FILE).exists()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (ServeChange("orders", (PortPair(80, 1),)), problems.BAD_REQUEST),
        (
            ServeChange("shop/orders", (PortPair(80, 1),), (ConditionPart("header", "host", "x"),)),
            problems.HEADER_REFUSED,
        ),
        (ServeChange("shop/orders", (PortPair(80, 1),), (ConditionPart("colour", None, "x"),)), problems.BAD_CONDITION),
        (ServeChange("shop/orders", (PortPair(80, 0),)), problems.BAD_SERVE),
        (ServeChange("shop/orders", (PortPair(80, 80, "169.254.169.254"),)), problems.BAD_SERVE),
    ],
)
async def test_bad_input_never_leaves_the_laptop(
    agent: Daemon, teamspace: ScriptedTeamspace, wrong: ServeChange, problem: problems.Problem
) -> None:
    with pytest.raises(CodezeroError) as caught:
        await agent.serve(wrong)
    assert caught.value.problem is problem
    assert not teamspace.heard_of(ServeWanted)


async def test_ending_what_is_not_served_is_said(agent: Daemon) -> None:
    with pytest.raises(CodezeroError) as caught:
        await agent.end_serve(ServeEnd("shop/orders"))
    assert caught.value.problem is problems.SERVE_UNKNOWN


async def test_serving_that_takes_long_answers_with_what_stands(
    agent: Daemon, teamspace: ScriptedTeamspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "SERVE_SECONDS", 0.1)
    teamspace.shows_variants = False

    result = await served(agent)

    assert result.served is not None
    assert result.served.state is VariantState.PENDING
    assert agent.status().served == 1


async def test_how_a_served_service_fares_is_told_when_it_changes(
    agent: Daemon, teamspace: ScriptedTeamspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a page that has seen the Router being prepared shows that for ever."""
    monkeypatch.setattr(daemon, "SERVE_SECONDS", 0.1)
    teamspace.state = ServingState.PREPARING
    await served(agent)
    listener = agent.events.listen()
    teamspace.state = ServingState.ACTIVE
    await teamspace.tell()

    async with asyncio.timeout(10):
        while (await listener.next()).what != "serve":
            continue
    assert agent.serves().serves[0].serving is ServingState.ACTIVE


@pytest.mark.parametrize("answered", [True, False])
async def test_daemon_that_was_killed_serves_on(
    tmp_path: Path, teamspace: ScriptedTeamspace, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it was killed after it had asked and before the answer: the same session, the same variant, nobody asks again."""
    teamspace.answers_orders = teamspace.shows_variants = answered
    laptop = tmp_path / "laptop"
    async with echo_server() as port:
        async with daemon_at(laptop) as agent:
            await agent.select_teamspace(teamspace.access)
            await until(lambda: agent.services().services)
            serving = asyncio.ensure_future(agent.serve(change(port)))
            await until(lambda: teamspace.variants)
            if answered:
                await serving
            kept, variants, session = state_of(laptop), list(teamspace.variants), teamspace.session
            serving.cancel()
        assert not teamspace.variants  # an orderly end ends them
        assert not (laptop / "state" / SERVES_FILE).exists()

        teamspace.variants = variants
        put_back(laptop, kept)
        async with daemon_at(laptop) as again:
            await until(lambda: again.services().services)
            await until(lambda: again.status().served == 1)
            assert teamspace.session == session
            recorder = teamspace.open(f"{variants[0].variant_id}:80")
            recorder.stream.write(b"x")
            await until(lambda: recorder.data == CONNECTED + b"x")
            assert len(teamspace.heard_of(ServeWanted)) == 1
            assert not teamspace.heard_of(ServeEnding)
            assert again.serves().serves[0].state is VariantState.ACTIVE


async def test_serves_survive_the_loss_of_the_tunnel(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    async with echo_server() as port:
        await served(agent, port)
        key = teamspace.variants[0].variant_id
        teamspace.lose()
        await until(lambda: len(teamspace.tunnels) == 2 and agent.status().orchestrator.connected)
        recorder = teamspace.open(f"{key}:80")
        await until(lambda: recorder.data == CONNECTED)
        assert agent.status().served == 1


async def test_stranger_of_this_laptop_is_ended(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    """Nobody here knows where its requests should go."""
    stranger, others = teamspace.variant(), teamspace.variant(session=SessionId(new_ulid()))
    teamspace.variants = [stranger, others]
    await teamspace.tell()

    await until(lambda: teamspace.variants == [others])
    assert teamspace.heard_of(ServeEnding)[0].variants == (stranger.variant_id,)
    assert codes(agent) == []


async def test_somebody_else_ends_a_serve(agent: Daemon, teamspace: ScriptedTeamspace, tmp_path: Path) -> None:
    """The owner is told who and why, its streams end, and it is forgotten also on disk."""
    listener = agent.events.listen()
    await served(agent)
    (variant,) = teamspace.variants
    teamspace.variants.clear()
    bob = teamspace.authorities.device()
    told = Activity(
        1.0, ActivityKind.TERMINATED, SessionId("bob"), bob, ORDERS, "bob: release in ten minutes", variant.variant_id
    )
    await teamspace.tell(ActivityHappened((told,)))

    await until(lambda: agent.status().warnings and "release" in agent.status().warnings[0].text)
    assert codes(agent) == ["SERVE_ENDED"]
    assert not (tmp_path / "laptop/state" / SERVES_FILE).exists()
    error = await teamspace.open(f"{variant.variant_id}:80").lost
    assert isinstance(error, CodezeroError)
    assert error.problem is problems.SERVE_UNKNOWN
    events = {(await listener.next()).what for _ in range(4)}
    assert "serve" in events
    # The fix that status names is taken without an error, once.
    assert await agent.end_serve(ServeEnd("shop/orders")) == ServeResult()
    assert codes(agent) == []
    with pytest.raises(CodezeroError):
        await agent.end_serve(ServeEnd("shop/orders"))


async def test_reset_ends_serves_too(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    await served(agent)
    await agent.reset()

    assert teamspace.variants == []
    assert agent.serves().serves == ()
    assert codes(agent) == []


async def test_reset_also_ends_what_is_still_being_asked_for(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    teamspace.answers_orders = teamspace.shows_variants = False
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(failure_of_serve(agent))
        await until(lambda: teamspace.variants)
        await agent.reset()
        view = teamspace.variants[0]
        await teamspace.tell()
        await until(lambda: teamspace.heard_of(ServeEnding))
        await teamspace.reply(ServeAnswer(1, variant=view))

    assert serving.result().problem is problems.SERVE_UNKNOWN
    assert teamspace.variants == []
    assert agent.serves().serves == ()


async def test_reset_without_a_connection_ends_serves_as_soon_as_there_is_one(
    agent: Daemon, teamspace: ScriptedTeamspace
) -> None:
    await served(agent)
    teamspace.lose()
    await until(lambda: not agent.status().orchestrator.connected)
    await agent.reset()
    assert agent.serves().serves == ()
    assert len(teamspace.variants) == 1

    await until(lambda: not teamspace.variants)
    assert codes(agent) == []


async def test_ending_a_serve_that_was_never_answered_lets_nothing_come_of_it(
    agent: Daemon, teamspace: ScriptedTeamspace
) -> None:
    teamspace.answers_orders = teamspace.shows_variants = False
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(failure_of_serve(agent))
        await until(lambda: teamspace.variants)
        teamspace.lose()
    assert serving.result().problem is problems.TUNNEL_DOWN

    teamspace.answers_orders = True
    assert await agent.end_serve(ServeEnd("shop/orders")) == ServeResult()
    await until(lambda: not teamspace.variants)
    assert agent.serves().serves == ()


async def test_local_process_that_does_not_answer_is_shown(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        await served(agent, reserved.getsockname()[1])
        await teamspace.open(f"{teamspace.variants[0].variant_id}:80").lost

    await until(lambda: codes(agent) == ["SERVE_NOT_ANSWERING"])
    (shown,) = agent.serves().serves
    assert (shown.requests, shown.failed) == (1, 1)


async def test_contested_serve_is_answered_and_shown(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    teamspace.state = ServingState.CONTESTED
    result = await served(agent)

    assert result.served is not None
    assert result.served.serving is ServingState.CONTESTED
    assert codes(agent) == ["SERVE_CONTESTED"]


async def test_ports_that_the_user_serves_are_not_taken(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    """Without nftables a consumed port 3000 would be in the way of the user's own server at 0.0.0.0:3000."""
    port = free_port()
    teamspace.ports = (ServicePort(80), ServicePort(port))
    await teamspace.tell()
    await agent.change_consume(ConsumeChange(("*",)))
    await until(lambda: agent.capture.captured_ports == 2 and agent.table.address_of("orders.shop"))
    address = agent.table.address_of("orders.shop")
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("0.0.0.0", port))

    await served(agent, port)
    await until(lambda: "PORTS_IN_USE" in codes(agent))
    with socket.create_server(("0.0.0.0", port)):
        pass
    await agent.end_serve(ServeEnd("shop/orders"))
    await agent_settles(agent)
    assert agent.table.address_of("orders.shop") == address


async def agent_settles(agent: Daemon) -> None:
    agent.machine.changed()
    await until(lambda: codes(agent) == [] and agent.table.address_of("orders.shop"))


@pytest.mark.capability("operation", "trace.requests")
async def test_traces_are_asked_for_while_somebody_reads(
    agent: Daemon, teamspace: ScriptedTeamspace, tmp_path: Path
) -> None:
    lines = LocalClient(tmp_path / "laptop/daemon.sock").traces()
    first = asyncio.ensure_future(asyncio.to_thread(next, lines))
    await until(lambda: teamspace.heard_of(TraceWanted) == [TraceWanted(on=True)])
    record = TraceRecord(5.0, Direction.SERVE, ORDERS, 80, "http", user="alice", status=200)
    await teamspace.tell(Traced((record,), dropped=3))

    assert await first == TraceLine(record, dropped=3)
    await asyncio.to_thread(lines.close)
    await until(lambda: teamspace.heard_of(TraceWanted)[-1] == TraceWanted(on=False))


async def test_consumed_connections_are_traced_with_what_went_both_ways(
    agent: Daemon, teamspace: ScriptedTeamspace
) -> None:
    await agent.change_consume(ConsumeChange(("*",)))
    await until(lambda: agent.table.address_of("orders.shop"))
    address = agent.table.address_of("orders.shop")
    await exchange(address)  # of which nobody wants to know
    reader = agent.traces.read()
    await exchange(address)
    teamspace.has_pods = False
    with pytest.raises(ConnectionResetError):
        await exchange(address)

    async with asyncio.timeout(10):
        good, refused = [(await reader.next()).record for _ in range(2)]
    assert (good.direction, good.service, good.port, good.protocol) == (Direction.CONSUME, ORDERS, 80, "tcp")
    assert (good.sent, good.received, good.error) == (5, 5, "")
    assert "no pods" in refused.error
    agent.traces.forget(reader)
    assert not agent.traces.are_wanted


async def exchange(address: str) -> None:
    reader, writer = await asyncio.open_connection(address, 80)
    try:
        writer.write(b"hello")
        writer.write_eof()
        async with asyncio.timeout(10):
            assert await reader.read() == b"hello"
    finally:
        writer.close()


async def test_consumed_datagrams_are_traced_flow_by_flow(agent: Daemon, teamspace: ScriptedTeamspace) -> None:
    teamspace.ports = (ServicePort(53, Protocol.UDP),)
    await teamspace.tell()
    await agent.change_consume(ConsumeChange(("*",)))
    await until(lambda: agent.table.address_of("orders.shop") and agent.capture.captured_ports == 1)
    address = agent.table.address_of("orders.shop")
    reader = agent.traces.read()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        await loop.sock_sendto(client, b"abc", (address, 53))
        async with asyncio.timeout(10):
            assert await loop.sock_recv(client, 100) == b"abc"
    await agent.reset()
    async with asyncio.timeout(10):
        record = (await reader.next()).record

    assert (record.protocol, record.port, record.sent, record.received) == ("udp", 53, 3, 3)
