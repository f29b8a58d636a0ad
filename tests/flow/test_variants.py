"""Requests for variants through a real System: a Router's TLS client on one side, a laptop's tunnel on the other."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from codezero.kit.certificates import Authority, Credentials
from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.routing.plan import Address
from codezero.system import variant_port
from codezero.testing.serves import RouterEnd, ServeStore, route
from codezero.testing.teamspace import Authorities, RealTeamspace
from codezero.testing.tunnels import Echo, Recorder, until
from codezero.transport import tls
from codezero.transport.tls import TlsConnection
from codezero.transport.tunnel import ClientTunnel, TunnelStream
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED, JOIN_ALPN
from codezero.wire.serve_resource import Route, RoutePort

ORDERS, CART = ServiceRef("shop", "orders"), ServiceRef("shop", "cart")

Owner = Callable[[], asyncio.Protocol]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Yes(Echo):
    """A local process that echoes; what is in `greeting` it says first, right behind the laptop's yes."""

    greeting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.stream.write(CONNECTED + self.greeting)


class Greeting(Yes):
    greeting = b"5.7.0 ready\n" * 40_000


class Silent(Recorder):
    """A laptop that has not connected yet, and perhaps never will."""


class Listening(Recorder):
    """A local process that takes all and says nothing by itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.stream.write(CONNECTED)


class Unpunctual(Recorder):
    """A laptop that sends bytes without having said yes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.stream.write(b"HTTP/1.1 200 OK\r\n")


class Deaf(Listening):
    """A local process that reads nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.stream.pause_reading()


def no() -> asyncio.Protocol:
    """Nothing listens where the variant should be."""
    raise CodezeroError(problems.DIAL_FAILED, "127.0.0.1:3000 refused the connection")


@dataclass
class Stage:
    """A System with a laptop that serves `shop/orders`. `accepts` answers its streams, whose targets `asked` lists and owners `owners`."""

    teamspace: RealTeamspace
    device: Device
    laptop: ClientTunnel
    route: Route
    accepts: list[Owner]
    asked: list[str] = field(default_factory=list)
    owners: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.name_of(80)

    @property
    def router(self) -> RouterEnd:
        return self.teamspace.router

    @property
    def store(self) -> ServeStore:
        return self.teamspace.store

    def name_of(self, port: int, variant: str | None = None) -> str:
        return f"{port}.{(variant or self.route.id).lower()}.variant.codezero"

    async def connect(
        self, name: str | None = None, credentials: Credentials | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(10):
            return await self.router.connect(name or self.name, credentials or self.router.credentials(str(ORDERS)))

    async def owned(self, owner: asyncio.Protocol) -> TlsConnection:
        """A connection to the variant that can end one direction alone."""
        return await tls.connect(
            "127.0.0.1",
            self.teamspace.routers_port,
            context=self.router.context(self.router.credentials(str(ORDERS))),
            server_name=self.name,
            factory=lambda _: owner,
        )

    async def refusal(self, name: str | None = None, credentials: Credentials | None = None) -> Exception:
        """Why there is no connection."""
        with pytest.raises((OSError, EOFError)) as caught:
            _, writer = await self.connect(name, credentials)
            writer.close()
        return caught.value

    async def connected_in_time(self) -> asyncio.StreamWriter:
        """A connection as soon as there is room: the System hears of a Router's end a little later than the laptop."""
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await self.connect()
                except (OSError, EOFError):
                    await asyncio.sleep(0.01)
                else:
                    return writer

    async def no_stream_is_left(self) -> None:
        await until(lambda: self.laptop.streams == 0)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with RealTeamspace(tmp_path).system_alone() as teamspace:
        device = teamspace.authorities.device()
        made: list[Stage] = []

        def accept(header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
            assert header.kind is StreamKind.SERVE
            made[0].asked.append(header.target)
            made[0].owners.append(made[0].accepts[0]())
            return made[0].owners[-1]

        laptop = await teamspace.connect(device, acceptor=accept)
        served = route(device, laptop.session)
        made.append(Stage(teamspace, device, laptop, served, [Yes]))
        teamspace.store.put(ORDERS, served)
        try:
            yield made[0]
        finally:
            laptop.abandon()


async def test_bytes_pass_both_ways(stage: Stage) -> None:
    """Ten megabytes each way, in order and in full, to the port that was asked for."""
    reader, writer = await stage.connect()
    payload = bytes(range(256)) * 40_000
    writer.write(payload)

    async with asyncio.timeout(60):
        assert await reader.readexactly(len(payload)) == payload
    assert stage.asked == [f"{stage.route.id}:80"]
    writer.close()
    await stage.no_stream_is_left()


async def test_a_server_that_speaks_first_is_heard(stage: Stage) -> None:
    """What comes right behind the laptop's yes, before there is anybody to hear it, is kept."""
    stage.accepts[0] = Greeting
    reader, writer = await stage.connect()

    async with asyncio.timeout(10):
        assert await reader.readexactly(len(Greeting.greeting)) == Greeting.greeting
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    writer.close()
    await stage.no_stream_is_left()


@pytest.mark.parametrize("owner", [no, Unpunctual])
async def test_a_laptop_that_says_no_is_a_failed_connect(stage: Stage, owner: Owner) -> None:
    """So that the Router asks the origin within the same request; and no stream is left."""
    stage.accepts[0] = owner
    await stage.refusal()
    await stage.no_stream_is_left()

    assert len(stage.asked) == 1


async def test_a_silent_laptop_is_a_failed_connect(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asleep, or its process hangs in accept: the Router does not wait for it."""
    monkeypatch.setattr(variant_port, "ANSWER_SECONDS", 0.05)
    stage.accepts[0] = Silent
    await stage.refusal()
    await stage.no_stream_is_left()

    assert cast("CodezeroError", await stage.owners[0].lost).problem is problems.TIMED_OUT


async def test_a_laptop_that_goes_while_it_is_asked_is_a_failed_connect(stage: Stage) -> None:
    """The tunnel's end reaches every connection that waits."""
    stage.accepts[0] = Silent
    connecting = asyncio.ensure_future(stage.refusal())
    await until(lambda: stage.owners)
    stage.laptop.abandon()

    await connecting


async def test_a_router_that_gives_up_leaves_no_stream(stage: Stage) -> None:
    stage.accepts[0] = Silent
    connecting = asyncio.ensure_future(stage.connect())
    await until(lambda: stage.owners)
    connecting.cancel()
    await stage.no_stream_is_left()

    assert await stage.owners[0].lost is not None


FORGED = {
    "another port": "81.{id}.variant.codezero",
    "no port": "{id}.variant.codezero",
    "port 0": "0.{id}.variant.codezero",
    "leading zero": "080.{id}.variant.codezero",
    "large port": "65616.{id}.variant.codezero",
    "sign": "+80.{id}.variant.codezero",
    "upper case": "80.{ID}.variant.codezero",
    "upper suffix": "80.{id}.Variant.Codezero",
    "trailing dot": "80.{id}.variant.codezero.",
    "more behind": "80.{id}.variant.codezero.evil.example",
    "more before": "x.80.{id}.variant.codezero",
    "unknown variant": "80.01j00000000000000000000000.variant.codezero",
    "no ulid": "80.notaulid.variant.codezero",
    "another Teamspace": "01j00000000000000000000000.spaces.codezero.io",
    "anything": "orders.shop.svc",
}


@pytest.mark.parametrize("form", FORGED)
async def test_names_that_nobody_gave_out_are_refused_in_the_handshake(stage: Stage, form: str) -> None:
    """T18: the laptop hears nothing of them."""
    name = FORGED[form].format(id=stage.route.id.lower(), ID=stage.route.id)
    error = await stage.refusal(name)

    assert isinstance(error, ssl.SSLError)
    assert error.reason == "TLSV1_UNRECOGNIZED_NAME"
    assert stage.asked == []


# CPython's ssl reports a name that is not ASCII to sys.unraisablehook, and ends the handshake before it asks anybody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", [b"x" * 300, b"80." + b"\xff\x00" * 9, b"80.\xff\xfe.variant.codezero", b"", b"\x00"])
async def test_names_that_are_no_names_are_refused(stage: Stage, name: bytes) -> None:
    """What no proper client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.teamspace.routers_port)
    writer.write(hello_for(name))
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        answer = b""
    writer.close()

    assert answer == b"" or answer[0] == 21  # an alert
    assert stage.asked == []


async def test_a_variant_whose_tunnel_is_elsewhere_is_refused(stage: Stage) -> None:
    """A Router with an old plan asks the origin at once."""
    other = route(stage.device, stage.laptop.session)
    other = type(other)(**{**{name: getattr(other, name) for name in other.__struct_fields__}, "session": new_ulid()})
    stage.store.put(ORDERS, stage.route, other)
    error = await stage.refusal(stage.name_of(80, other.id))

    assert isinstance(error, ssl.SSLError)
    assert stage.asked == []


async def test_a_route_names_the_device_too(stage: Stage) -> None:
    """A session that another device took over brings it no requests."""
    stranger = stage.teamspace.authorities.device()
    other = route(stranger, stage.laptop.session)
    stage.store.put(ORDERS, stage.route, other)

    assert isinstance(await stage.refusal(stage.name_of(80, other.id)), ssl.SSLError)
    assert stage.asked == []


async def first_byte(stage: Stage, name: str, credentials: Credentials | None, *protocols: str) -> bytes:
    """What comes first for one who says something; raises OSError or EOFError."""
    async with asyncio.timeout(10):
        reader, writer = await stage.router.connect(name, credentials, *protocols)
        try:
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            return await reader.readexactly(1)
        finally:
            writer.close()


async def no_byte_passes(stage: Stage, credentials: Credentials | None) -> None:
    stage.accepts[0] = Listening
    with pytest.raises((OSError, EOFError)):
        await first_byte(stage, stage.name, credentials)
    await stage.no_stream_is_left()

    for owner in stage.owners:
        assert owner.data == b""


@pytest.mark.parametrize("who", ["another service", "another Teamspace", "the Orchestrator", "the System", "nobody"])
async def test_no_byte_passes_for_anybody_but_the_service_s_router(stage: Stage, who: str) -> None:
    """T20: one Router taken over reaches the variants of its own service alone."""
    parts = stage.teamspace.authorities
    shown = {
        "another service": lambda: stage.router.credentials("shop/cart"),
        "another Teamspace": lambda: stage.router.credentials(str(ORDERS), teamspace=Authorities().teamspace),
        "the Orchestrator": lambda: parts.part("orchestrator"),
        "the System": lambda: parts.part("system"),
        "nobody": lambda: None,
    }[who]()

    await no_byte_passes(stage, shown)


async def test_no_byte_passes_for_certificates_that_do_not_hold(stage: Stage) -> None:
    """By another authority, by the laptops' one, or expired."""
    uri = f"spiffe://{stage.teamspace.authorities.teamspace.lower()}.codezero/router/{ORDERS}"
    for authority in (Authority.create("other"), stage.teamspace.authorities.devices):
        await no_byte_passes(stage, authority.issue("router", uris=[uri], client=True))
    await no_byte_passes(stage, stage.router.credentials(str(ORDERS), lifetime=timedelta(seconds=-1)))


async def test_an_application_protocol_leads_past_nothing(stage: Stage) -> None:
    """Who asks for a variant's name and for another protocol gets neither."""
    stage.accepts[0] = Listening
    with pytest.raises((OSError, EOFError)):
        await first_byte(stage, stage.name, stage.router.credentials(str(ORDERS)), JOIN_ALPN)
    await stage.no_stream_is_left()


async def test_the_system_s_own_name_leads_to_no_variant(stage: Stage) -> None:
    with pytest.raises((OSError, EOFError)):
        await first_byte(stage, stage.router.system_name, stage.router.credentials(str(ORDERS)))

    assert stage.asked == []


async def test_held_handshakes_are_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused at once, and those that wait are not harmed."""
    monkeypatch.setattr(variant_port, "MAX_HELD_OF_A_VARIANT", 3)
    stage.accepts[0] = Silent
    connecting = [asyncio.ensure_future(stage.connect()) for _ in range(3)]
    await until(lambda: len(stage.owners) == 3)
    await stage.refusal()
    for owner in stage.owners:
        owner.stream.write(CONNECTED + b"!")
    for one in connecting:
        reader, writer = await one
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"!"
        writer.close()
    for owner in stage.owners:
        owner.stream.write_eof()
    await stage.no_stream_is_left()
    stage.accepts[0] = Yes
    _, writer = await stage.connect()  # room again
    writer.close()

    assert len(stage.asked) == 4


@pytest.mark.parametrize("limit", ["MAX_OF_A_ROUTER", "MAX_OF_A_ROUTER_TO_A_VARIANT"])
async def test_a_router_has_so_many_connections_and_no_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """T23: each may hold memory of the Router through which the team's requests go. One more is refused where the origin can still be asked."""
    monkeypatch.setattr(variant_port, limit, 2)
    connected = [await stage.connect() for _ in range(2)]
    await stage.refusal()
    for _, writer in connected:
        writer.close()
    await stage.no_stream_is_left()
    for _ in range(2):  # room again
        writer = await stage.connected_in_time()
        writer.close()

    assert len(stage.asked) == 4


async def test_each_direction_ends_on_its_own(stage: Stage) -> None:
    """Protocols that end their question by closing their side get their answer."""
    stage.accepts[0] = Listening
    caller = Recorder()
    connection = await stage.owned(caller)
    connection.allow_half_close()
    connection.write(b"question")
    connection.write_eof()
    local = cast("Listening", stage.owners[0])
    await until(lambda: local.ended)
    assert local.data == b"question"
    for _ in range(4):
        local.stream.write(b"answer" * 50_000)
        await asyncio.sleep(0)
    local.stream.write_eof()
    await until(lambda: caller.lost.done())
    await stage.no_stream_is_left()

    assert caller.data == b"answer" * 200_000
    assert caller.ended
    assert (caller.lost.result(), await local.lost) == (None, None)


async def test_a_server_may_end_its_side_first(stage: Stage) -> None:
    """And still hear what the client has to say."""
    stage.accepts[0] = Listening
    caller = Recorder()
    connection = await stage.owned(caller)
    connection.allow_half_close()
    local = cast("Listening", stage.owners[0])
    local.stream.write(b"that is all")
    local.stream.write_eof()
    await until(lambda: caller.ended)
    connection.write(b"thanks")
    connection.write_eof()
    await until(lambda: local.lost.done())

    assert (caller.data, local.data) == (b"that is all", b"thanks")
    assert local.lost.result() is None


async def test_a_server_that_ends_before_anybody_hears_it_is_heard(stage: Stage) -> None:
    """Its end comes while the handshake still goes on."""

    class Over(Listening):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.stream.write_eof()

    stage.accepts[0] = Over
    caller = Recorder()
    connection = await stage.owned(caller)
    connection.allow_half_close()
    await until(lambda: caller.ended)
    connection.write(b"and you?")
    connection.write_eof()
    await until(lambda: stage.owners[0].lost.done())

    assert stage.owners[0].data == b"and you?"


async def test_resets_pass_both_ways(stage: Stage) -> None:
    """An application sees ECONNRESET where it would without us."""
    stage.accepts[0] = Listening
    caller = Recorder()
    await stage.owned(caller)
    stage.owners[0].stream.abort()
    assert isinstance(await asyncio.wait_for(caller.lost, 10), ConnectionError)

    caller = Recorder()
    connection = await stage.owned(caller)
    connection.abort()
    assert isinstance(await asyncio.wait_for(stage.owners[1].lost, 10), Exception)


async def test_a_reader_that_stops_stops_the_writer(stage: Stage) -> None:
    """Back-pressure both ways: nobody keeps what nobody reads."""
    stage.accepts[0] = Deaf
    caller = Recorder()
    connection = await stage.owned(caller)
    paused: list[bool] = []
    caller.pause_writing = lambda: paused.append(True)  # type: ignore[method-assign]
    caller.resume_writing = lambda: paused.append(False)  # type: ignore[method-assign]
    sent = 0
    while not paused:
        connection.write(bytes(100_000))
        sent += 100_000
        await asyncio.sleep(0)
        assert sent < 100_000_000
    local = cast("Deaf", stage.owners[0])
    assert local.data == b""
    local.stream.resume_reading()
    await until(lambda: len(local.data) == sent, within=60)
    assert paused[-1] is False

    connection.pause_reading()
    big = bytes(1_000_000)
    stalled: list[bool] = []
    local.pause_writing = lambda: stalled.append(True)  # type: ignore[method-assign]
    sent = 0
    while not stalled:
        local.stream.write(big)
        sent += len(big)
        await asyncio.sleep(0)
        assert sent < 100_000_000
    connection.resume_reading()
    await until(lambda: len(caller.data) == sent, within=60)
    connection.close()
    await until(lambda: local.ended)
    local.stream.write_eof()
    await stage.no_stream_is_left()


async def test_a_policy_that_changes_ends_what_it_forbids(stage: Stage) -> None:
    """T41: also connections that run, and no new one comes."""
    stage.accepts[0] = Listening
    caller = Recorder()
    await stage.owned(caller)
    rules = allow_all(stage.device.organization).rules
    deny = PolicyRule(Effect.DENY, (Operation.SERVE,), services=("orders",))
    stage.teamspace.write_policy(Policy(stage.device.organization, (*rules, deny)))

    assert isinstance(await asyncio.wait_for(caller.lost, 20), ConnectionError)
    assert cast("CodezeroError", await stage.owners[0].lost).problem is problems.FORBIDDEN
    assert isinstance(await stage.refusal(), ssl.SSLError)


@pytest.mark.parametrize("begun", [True, False])
async def test_requests_under_way_when_a_variant_ends_may_finish(stage: Stage, *, begun: bool) -> None:
    """New connections are refused at once; a team must not see a single error because somebody stops serving."""
    reader, writer = await stage.connect()
    if begun:
        writer.write(b"begun")
        await asyncio.wait_for(reader.readexactly(5), 10)
    stage.store.put(ORDERS)
    assert isinstance(await stage.refusal(), ssl.SSLError)
    writer.write(b"still here")

    assert await asyncio.wait_for(reader.readexactly(10), 10) == b"still here"
    stage.store.put(ORDERS, stage.route)
    writer.close()


@pytest.mark.parametrize("how", ["deleted", "port gone", "replaced"])
async def test_a_variant_that_ends_ends_its_connections(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`czctl serve end`, and `kubectl delete serve`, hold for what runs already, after a moment to finish."""
    monkeypatch.setattr(variant_port, "DRAIN_SECONDS", 0.05)
    stage.accepts[0] = Listening
    caller = Recorder()
    await stage.owned(caller)
    match how:
        case "deleted":
            stage.store.delete(ORDERS)
        case "port gone":
            fields = {name: getattr(stage.route, name) for name in stage.route.__struct_fields__}
            stage.store.put(ORDERS, Route(**{**fields, "ports": (RoutePort(3000, 81),)}))
        case _:
            stage.store.put(ORDERS, route(stage.device, stage.laptop.session))

    assert isinstance(await asyncio.wait_for(caller.lost, 20), ConnectionError)
    assert isinstance(await stage.owners[0].lost, CodezeroError)


async def test_the_end_of_the_tunnel_ends_connections(stage: Stage) -> None:
    """A laptop that goes to sleep leaves no request hanging."""
    stage.accepts[0] = Listening
    caller = Recorder()
    await stage.owned(caller)
    stage.laptop.abandon()

    assert isinstance(await asyncio.wait_for(caller.lost, 20), ConnectionError)


async def test_the_plan_learns_who_holds_the_laptop(stage: Stage) -> None:
    """And at once that nobody does."""
    mine = str(Address("127.0.0.1", stage.teamspace.routers_port))
    await until(lambda: stage.store.holder(stage.route, ORDERS) == mine)
    stage.laptop.abandon()
    await until(lambda: stage.store.holder(stage.route, ORDERS) == "")

    assert stage.store.status(ORDERS).routes[0].away_since is not None


def hello_for(name: bytes) -> bytes:
    """A client's first message that asks for the name given, of whatever form."""
    proper = "a" * 60 + ".example.test"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=proper).do_handshake()
    message = outgoing.read()
    old = _extension(proper.encode())
    new = _extension(name)
    assert old in message
    body = message[5:].replace(old, new)
    more = len(new) - len(old)
    # The lengths of the record, the message and its extensions; the session id and the cipher suites are in between.
    length = int.from_bytes(body[1:4], "big") + more
    at = 4 + 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extensions = int.from_bytes(body[at : at + 2], "big") + more
    body = body[:1] + length.to_bytes(3, "big") + body[4:at] + extensions.to_bytes(2, "big") + body[at + 2 :]
    return message[:3] + len(body).to_bytes(2, "big") + body


def _extension(name: bytes) -> bytes:
    entry = b"\x00" + len(name).to_bytes(2, "big") + name
    listed = len(entry).to_bytes(2, "big") + entry
    return b"\x00\x00" + len(listed).to_bytes(2, "big") + listed
