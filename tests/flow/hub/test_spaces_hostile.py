"""Either end of the channel is somebody who means harm: a Teamspace that was taken over harms nobody but itself, and a Hub that lies opens nothing it is not asked to (T28)."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from sqlalchemy import select
from tests import hub_spaces
from tests.hub_databases import HubClock
from tests.hub_spaces import Organization, held, membership, new_tenant, served
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from codezero.hub.context import Hub
from codezero.hub.signals import LocalSignals
from codezero.hub.spaces import joining, teamspaces
from codezero.hub.storage.tables import AuditEntry
from codezero.kit.certificates import Authority, Credentials
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.access import Bundle
from codezero.model.ids import Device, SessionId, TeamspaceId, Workload, new_ulid
from codezero.model.services import Service, ServiceKind, ServiceRef
from codezero.orchestrator.events import Events as Kept
from codezero.orchestrator.hub_link import HubLink
from codezero.orchestrator.server import Coordinator
from codezero.testing.bundles import ALL, bundle
from codezero.testing.kubernetes import until
from codezero.testing.serving import ServingCluster, serving_cluster
from codezero.transport.hub import HubAddress, proof_of_authority, proof_of_part
from codezero.transport.identity import Identity
from codezero.wire import hub_channel, policy_file
from codezero.wire.coordination import KeysTold
from codezero.wire.hub_channel import (
    MAX_MESSAGE,
    CatalogTold,
    EndSession,
    EntryMoved,
    Event,
    Events,
    Farewell,
    FromTeamspace,
    Hello,
    KeysPush,
    Ping,
    PolicyPush,
    ToTeamspace,
    Welcome,
    channel_path,
)

_FROM_TEAMSPACE: msgspec.msgpack.Decoder[FromTeamspace] = msgspec.msgpack.Decoder(FromTeamspace)
_TO_TEAMSPACE: msgspec.msgpack.Decoder[ToTeamspace] = msgspec.msgpack.Decoder(ToTeamspace)


@pytest.fixture
async def reached(hub: Hub) -> AsyncIterator[Hub]:
    async with served(hub) as reached:
        yield reached


@pytest.fixture
async def tenant(reached: Hub) -> Organization:
    return await new_tenant(reached)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def space(cluster: ServingCluster, tenant: Organization) -> str:
    """A Teamspace that has joined, whose keys somebody has."""
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token)
    await membership(cluster, tenant.hub).keep()
    return invited.space.id


def orchestrator(cluster: ServingCluster) -> Credentials:
    content = held(cluster)
    return Credentials.from_pem(content["orchestrator.crt"], content["orchestrator.key"])


@asynccontextmanager
async def channel(hub: Hub, space: str, proof: str | None) -> AsyncGenerator[ClientConnection]:
    headers = {} if proof is None else {"Authorization": proof}
    url = f"ws{hub.public_url.removeprefix('http')}{channel_path(space)}"
    async with connect(url, additional_headers=headers, proxy=None, compression=None) as socket:
        yield socket


def proof(hub: Hub, cluster: ServingCluster, space: str) -> str:
    return proof_of_part(orchestrator(cluster), Workload(TeamspaceId(space), "orchestrator"), hub.public_url)


async def say(socket: ClientConnection, *messages: FromTeamspace) -> None:
    for message in messages:
        await socket.send(msgspec.msgpack.encode(message))


async def farewell(socket: ClientConnection) -> Farewell:
    """Why the Hub ends it."""
    async with asyncio.timeout(20):
        while True:
            content = await socket.recv()
            assert isinstance(content, bytes)
            message = _TO_TEAMSPACE.decode(content)
            if isinstance(message, Farewell):
                return message


MEMBER = Device("install.hub.codezero", new_ulid(), new_ulid(), new_ulid())
HELLO = Hello((1,), "test", "epoch")


# --- a hostile Teamspace -------------------------------------------------------------------------------------------------------------------


async def test_only_the_orchestrator_of_the_very_teamspace_has_a_channel(
    cluster: ServingCluster, tenant: Organization, space: str
) -> None:
    hub, other = tenant.hub, (await tenant.new_space("other")).space.id
    content = held(cluster)
    authority = Authority(Credentials.from_pem(content["ca.crt"], content["ca.key"]))
    own = TeamspaceId(space)

    def by(credentials: Credentials, workload: Workload) -> str:
        return proof_of_part(credentials, workload, hub.public_url)

    system = Credentials.from_pem(content["system.crt"], content["system.key"])
    forged = Authority.create("forged").issue_authority("forged")
    uri = str(Workload(TeamspaceId(other), "orchestrator"))
    refused: list[tuple[str, str | None]] = [
        (space, None),
        (space, "Bearer x"),
        (space, proof_of_authority(authority.credentials.key, own, hub.public_url)),
        (space, by(system, Workload(own, "system"))),
        (space, by(system, Workload(own, "orchestrator"))),
        (space, by(forged.issue("o", uris=[str(Workload(own, "orchestrator"))]), Workload(own, "orchestrator"))),
        # With its own authority it makes itself a part of a neighbour.
        (other, by(authority.issue("o", uris=[uri]), Workload(TeamspaceId(other), "orchestrator"))),
        (other, by(orchestrator(cluster), Workload(own, "orchestrator"))),
        (space, proof_of_part(orchestrator(cluster), Workload(own, "orchestrator"), "https://other.example.com")),
    ]
    for wanted, shown in refused:
        with pytest.raises(InvalidStatus) as answer:
            async with channel(hub, wanted, shown):
                pass
        assert answer.value.response.status_code in {401, 403}, shown
    good = proof(hub, cluster, space)
    async with channel(hub, space, good):
        pass
    with pytest.raises(InvalidStatus) as again:
        async with channel(hub, space, good):
            pass
    assert again.value.response.status_code == 401


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x91" * 2000,
        msgspec.msgpack.encode({"is": "Nonsense"}),
        msgspec.msgpack.encode({"is": "Hello", "versions": "all"}),
        msgspec.msgpack.encode(Ping()),
        msgspec.msgpack.encode(Hello((99,), "test", "epoch")),
        "text",
    ],
)
async def test_what_is_no_hello_ends_the_channel(
    cluster: ServingCluster, tenant: Organization, space: str, content: bytes | str
) -> None:
    async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as socket:
        await socket.send(content)
        ended = await farewell(socket)
    assert ended.code in {problems.PROTOCOL.code, problems.VERSIONS.code}
    assert not ended.retry


def event(**changes: Any) -> Event:
    return Event(**{"id": new_ulid(), "number": 1, "at": 1.8e9, "action": "serve.begin", **changes})


@pytest.mark.parametrize(
    "message",
    [
        HELLO,
        Events((event(action="organization.delete"),)),
        Events((event(action="space.join"),)),
        Events((event(action="serve." + "x" * 300),)),
        EntryMoved("ex ample", 8800),
        EntryMoved("example.com/path", 8800),
        EntryMoved("", 8800),
    ],
)
async def test_what_it_has_no_right_to_say_ends_the_channel(
    cluster: ServingCluster, tenant: Organization, space: str, message: FromTeamspace
) -> None:
    before = await tenant.actions()
    async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as socket:
        await say(socket, HELLO, message)
        ended = await farewell(socket)
    assert ended.code == problems.PROTOCOL.code
    assert await tenant.actions() == before


async def test_it_floods_nobody(
    cluster: ServingCluster, tenant: Organization, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codezero.hub.spaces.pictures.MAX_SERVICES", 50)
    async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as socket:
        services = [Service(ServiceRef("shop", f"s{n}"), ServiceKind.CLUSTER_IP, ()) for n in range(60)]
        await say(socket, HELLO, CatalogTold(tuple(services), reset=True))
        assert (await farewell(socket)).code == problems.PROTOCOL.code
    async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as socket:
        await say(socket, HELLO)
        with pytest.raises(ConnectionClosed):
            await socket.send(b"x" * (MAX_MESSAGE * 5))
            while True:
                await socket.recv()


async def test_its_events_speak_of_its_own_organization_and_are_told_once(
    cluster: ServingCluster, tenant: Organization, space: str
) -> None:
    stranger = await new_tenant(tenant.hub, "Other")
    one = event(user=stranger.owner.user, service=ServiceRef("shop", "orders"), detail="x" * 900, at=float("nan"))
    consumed = (ServiceRef("shop", "orders"), ServiceRef("vault", "keys"))
    two = event(id=new_ulid(), number=2, user=tenant.owner.user, at=0.0, consumed=consumed)
    async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as socket:
        await say(socket, HELLO, Events((one, two)), Events((one,)), Events((two, two)))
        acknowledged = 0
        async with asyncio.timeout(20):
            while acknowledged < 3:
                content = await socket.recv()
                assert isinstance(content, bytes)
                acknowledged += isinstance(_TO_TEAMSPACE.decode(content), hub_channel.Acknowledged)
    told = await tenant.audit("serve.begin")
    assert [entry.actor["kind"] for entry in told] == ["unknown", "person"]
    assert told[0].actor["name"] == ""
    assert [entry.details.get("consumed") for entry in told] == [None, ["shop/orders", "vault/keys"]]
    assert all(abs((entry.at - tenant.hub.clock()).total_seconds()) < 60 for entry in told)
    async with tenant.hub.database.reading() as session:
        others = await session.scalars(select(AuditEntry).where(AuditEntry.organization_id == stranger.id))
        assert [entry.action for entry in others] == []


async def test_a_newer_channel_takes_the_place_of_an_older_one(
    cluster: ServingCluster, tenant: Organization, space: str
) -> None:
    async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as first:
        await say(first, HELLO)
        async with channel(tenant.hub, space, proof(tenant.hub, cluster, space)) as second:
            await say(second, HELLO)
            assert (await farewell(first)).code == problems.SPACE_AWAY.code
            row = await tenant.space(space)
            assert teamspaces.is_connected(row, tenant.hub.clock())


async def pushed_to(socket: ClientConnection) -> Bundle:
    """The next policy."""
    async with asyncio.timeout(20):
        while True:
            content = await socket.recv()
            assert isinstance(content, bytes)
            message = _TO_TEAMSPACE.decode(content)
            assert not isinstance(message, Farewell)
            if isinstance(message, PolicyPush):
                read = policy_file.read(message.content)
                assert isinstance(read, Bundle)
                return read


async def told_until_the_end(socket: ClientConnection) -> tuple[Bundle, Farewell]:
    """The last policy, and why the Hub ends it."""
    last: Bundle | None = None
    async with asyncio.timeout(20):
        while True:
            content = await socket.recv()
            assert isinstance(content, bytes)
            match _TO_TEAMSPACE.decode(content):
                case PolicyPush(content=policy):
                    read = policy_file.read(policy)
                    assert isinstance(read, Bundle)
                    last = read
                case Farewell() as ended:
                    assert last is not None
                    return last, ended
                case _:
                    pass


async def test_a_cluster_whose_place_another_one_took_lets_nobody_in_any_more(
    cluster: ServingCluster, tenant: Organization, space: str, hub_clock: HubClock, tmp_path: Path
) -> None:
    """At once where it is connected, and when it is back where it was away for less than its policy holds."""
    hub = tenant.hub
    (tmp_path / "other").mkdir()
    async with channel(hub, space, proof(hub, cluster, space)) as old, serving_cluster(tmp_path / "other") as other:
        await say(old, HELLO)
        assert (await pushed_to(old)).members
        hub_spaces.install(other, hub, (await tenant.do(teamspaces.invite, space)).token)
        await membership(other, hub).keep()
        last, ended = await told_until_the_end(old)
        assert (last.suspended, last.members, ended.code) == (True, {}, problems.NOT_JOINED.code)
        assert "another cluster" in ended.detail
        assert not await connected(tenant, space)

        async with channel(hub, space, proof(hub, other, space)) as new:
            await say(new, HELLO)
            assert (await pushed_to(new)).members
            async with channel(hub, space, proof(hub, cluster, space)) as again:
                await say(again, HELLO)
                last, ended = await told_until_the_end(again)
            assert (last.suspended, ended.code) == (True, problems.NOT_JOINED.code)
            assert await connected(tenant, space), "which is none of the other one's business"
            await tenant.do(teamspaces.suspend, space)
            assert (await pushed_to(new)).suspended
            await tenant.do(teamspaces.resume, space)
            latest = await pushed_to(new)
            assert (latest.suspended, len(latest.members)) == (False, 1)
    hub_clock.advance(joining.REPLACED_FOR)

    late = proof_of_part(
        orchestrator(cluster),
        Workload(TeamspaceId(space), "orchestrator"),
        hub.public_url,
        clock=lambda: hub_clock().timestamp(),
    )
    with pytest.raises(InvalidStatus) as refused:
        async with channel(hub, space, late):
            pass
    assert refused.value.response.status_code in {401, 403}


async def connected(tenant: Organization, space: str) -> bool:
    return teamspaces.is_connected(await tenant.space(space), tenant.hub.clock())


async def ordered(socket: ClientConnection) -> str:
    """The session that is to be ended next."""
    async with asyncio.timeout(20):
        while True:
            content = await socket.recv()
            assert isinstance(content, bytes)
            message = _TO_TEAMSPACE.decode(content)
            if isinstance(message, EndSession):
                return message.session


async def orders_left(tenant: Organization, space: str) -> list[str]:
    async with tenant.hub.database.reading() as session:
        return [order.subject for order in await teamspaces.orders(session, tenant.hub, space)]


async def test_what_was_decided_is_told_until_it_has_arrived(
    cluster: ServingCluster, tenant: Organization, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the channel breaks while it is told, and where nobody hears of it at once."""
    hub = tenant.hub
    # Nobody listens to its signals.
    unheard = Organization(replace(hub, signals=LocalSignals()), tenant.id, tenant.owner)
    end: Any = teamspaces.end_session
    async with channel(hub, space, proof(hub, cluster, space)) as first:
        await say(first, HELLO)
        await pushed_to(first)
        await unheard.do(end, space, ended="one", reason="")
        missed: Any = hub.signals
        missed._spread(None)
        assert await ordered(first) == "one"
        await tenant.do(end, space, ended="two", reason="")
        assert await ordered(first) == "two"
        await unheard.do(end, space, ended="three", reason="")
    async with channel(hub, space, proof(hub, cluster, space)) as second:
        await say(second, HELLO)
        assert [await ordered(second) for _ in range(3)] == ["one", "two", "three"]
    assert await orders_left(tenant, space) == ["one", "two", "three"]
    monkeypatch.setattr("codezero.hub.spaces.channels.PING_SECONDS", 0.1)
    monkeypatch.setattr("codezero.hub.spaces.channels.SILENT_SECONDS", 2.0)
    async with channel(hub, space, proof(hub, cluster, space)) as third, asyncio.timeout(30):
        await say(third, HELLO)
        while await orders_left(tenant, space):
            await say(third, Ping())
            await asyncio.sleep(0.1)


async def test_nobody_is_told_what_was_decided_days_ago(
    cluster: ServingCluster, tenant: Organization, space: str, hub_clock: HubClock
) -> None:
    hub = tenant.hub
    end: Any = teamspaces.end_session
    async with channel(hub, space, proof(hub, cluster, space)) as socket:
        await say(socket, HELLO)
        await pushed_to(socket)
        await tenant.do(end, space, ended="one", reason="")
    hub_clock.advance(teamspaces.ORDERS_KEPT)

    assert await orders_left(tenant, space) == []


# --- a hostile Hub -------------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def before_a_hub(
    talk: Callable[[ServerConnection], Any],
    teamspace: TeamspaceId,
    *,
    between: Callable[[Coordinator], Any] | None = None,
    **options: Any,
) -> AsyncGenerator[tuple[HubLink, Coordinator]]:
    """An active Orchestrator before somebody who plays its Hub; `between` is done between its Hello and the Hub's Welcome."""
    authority = Authority.create("root").issue_authority("parts")
    own = Workload(teamspace, "orchestrator")
    identity = Identity(authority.issue("o", uris=[str(own)], client=True), own, authority.certificate_pem)
    coordinator, events = Coordinator(), Kept()
    coordinator.activity.set(True)

    async def answer(socket: ServerConnection) -> None:
        await socket.recv()
        if between is not None:
            await between(coordinator)
        await socket.send(msgspec.msgpack.encode(Welcome(1, "test")))
        await talk(socket)
        await socket.wait_closed()

    async with serve(answer, "127.0.0.1", 0, **options) as server, task_group("test") as tasks:
        port = next(iter(server.sockets)).getsockname()[1]
        hub = HubAddress(f"http://127.0.0.1:{port}")
        link = HubLink(hub, coordinator, Watched[Identity | None](identity), events)
        tasks.start_service("coordinator", coordinator.run())
        tasks.start_service("link", link.run())
        yield link, coordinator


def pushed(space: str, **changes: Any) -> bytes:
    return policy_file.encode(bundle([MEMBER], ALL, space=space, **changes))


async def test_a_policy_that_is_none_or_of_somebody_else_replaces_nothing() -> None:
    """What is in force is better than none, and whoever breaks a push must not open or close anything."""
    own = TeamspaceId(new_ulid())
    good = pushed(own, serial=5)
    heard = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await socket.send(msgspec.msgpack.encode(PolicyPush(good)))
        for content in (b"", b"{}", b"\xff", b'{"organization": "x", "rules": []}', pushed(new_ulid(), serial=9)):
            await socket.send(msgspec.msgpack.encode(PolicyPush(content)))
        await socket.send(msgspec.msgpack.encode(PolicyPush(pushed(own, serial=4))))
        heard.set()

    async with before_a_hub(talk, own) as (link, coordinator):
        await heard.wait()
        await until(lambda: getattr(coordinator.admission.policy, "serial", None) == 5)
        await asyncio.sleep(0.3)
        assert getattr(coordinator.admission.policy, "serial", None) == 5
        assert link.connected


@pytest.mark.parametrize(
    ("issued_at", "expires_at"),
    [
        ("2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00+23:59"),
    ],
)
async def test_a_policy_of_times_that_no_clock_shows_replaces_nothing_and_ends_nothing(
    issued_at: str, expires_at: str
) -> None:
    own = TeamspaceId(new_ulid())
    extreme = msgspec.json.decode(pushed(own, serial=6))
    extreme |= {"issued_at": issued_at, "expires_at": expires_at}

    async def talk(socket: ServerConnection) -> None:
        await socket.send(msgspec.msgpack.encode(PolicyPush(pushed(own, serial=5))))
        await socket.send(msgspec.msgpack.encode(PolicyPush(msgspec.json.encode(extreme))))
        await socket.send(msgspec.msgpack.encode(KeysPush("after", "it")))

    async with before_a_hub(talk, own) as (link, coordinator):
        await until(lambda: KeysTold in coordinator._from_hub)
        assert getattr(coordinator.admission.policy, "serial", None) == 5
        assert coordinator.admission.reason is None
        assert link.connected


async def test_an_address_that_comes_while_the_hub_thinks_is_told() -> None:
    said: list[FromTeamspace] = []

    async def talk(socket: ServerConnection) -> None:
        async for content in socket:
            assert isinstance(content, bytes)
            said.append(_FROM_TEAMSPACE.decode(content))

    greeted = asyncio.Event()

    async def welcome(coordinator: Coordinator) -> None:
        # Hello has gone without it.
        coordinator.entry.set(("203.0.113.9", 443))
        greeted.set()

    async with before_a_hub(talk, TeamspaceId(new_ulid()), between=welcome):
        await greeted.wait()
        await until(lambda: any(isinstance(one, CatalogTold | Ping | EntryMoved) for one in said))
        assert EntryMoved("203.0.113.9", 443) in said


async def test_a_hub_that_sends_elsewhere_is_not_followed() -> None:
    """Whoever stands before the Hub would choose who is believed to be it."""
    asked = 0

    def elsewhere(_connection: ServerConnection, _request: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(500, "Internal Server Error", Headers())

    async def nothing(_socket: ServerConnection) -> None:
        return

    async with serve(nothing, "127.0.0.1", 0, process_request=elsewhere) as other:
        target = f"ws://127.0.0.1:{next(iter(other.sockets)).getsockname()[1]}/"

        def away(_connection: ServerConnection, _request: Request) -> Response:
            return Response(302, "Found", Headers({"Location": target, "Content-Length": "0"}))

        async with before_a_hub(nothing, TeamspaceId(new_ulid()), process_request=away) as (link, _):
            await until(lambda: "302" in link.reason or asked > 0)
    assert asked == 0


async def test_no_push_ends_the_orchestrator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in handling it is a lost channel, and the next one comes."""
    own = TeamspaceId(new_ulid())
    channels = 0

    async def talk(socket: ServerConnection) -> None:
        nonlocal channels
        channels += 1
        await socket.send(msgspec.msgpack.encode(EndSession("any", "")))

    async with before_a_hub(talk, own) as (link, coordinator):
        with monkeypatch.context() as patched:

            def broken(session: SessionId, reason: str) -> bool:
                raise ValueError("a defect")

            patched.setattr(coordinator, "end_session", broken)
            await until(lambda: link.reason == "the channel failed: ValueError")
        before = channels
        await until(lambda: channels > before and link.connected)


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(days=-2), timedelta(days=2), timedelta(days=400)])
async def test_a_hub_whose_clock_jumps_ends_nothing_and_still_keeps_people_out(ahead: timedelta) -> None:
    """T48: its policies would have run out before they came, or would hold for a year."""
    own, day = TeamspaceId(new_ulid()), 86400.0
    other = Device(MEMBER.install, MEMBER.organization, new_ulid(), new_ulid())
    began = time.time()
    then = began + ahead.total_seconds()

    async def talk(socket: ServerConnection) -> None:
        for serial, members, at in ((5, [MEMBER, other], began), (6, [MEMBER], then)):
            told = bundle(members, ALL, space=own, serial=serial, expires_at=at + day)
            content = policy_file.encode(replace(told, issued_at=at))
            await socket.send(msgspec.msgpack.encode(PolicyPush(content)))

    async with before_a_hub(talk, own) as (_, coordinator):
        await until(lambda: set(getattr(coordinator.admission.policy, "members", ())) == {MEMBER.user})
        held_now = coordinator.admission.policy
        assert isinstance(held_now, Bundle)
        assert coordinator.admission.reason is None
        assert began <= held_now.issued_at <= time.time()
        assert began + day - 1 <= held_now.expires_at <= time.time() + day + 1
        # The next one is the newer one as before, whichever clock is put right.
        assert held_now.serial == 6


@pytest.mark.parametrize(
    "content",
    [
        b"\xc1",
        b"",
        "text",
        msgspec.msgpack.encode({"is": "Nonsense"}),
        msgspec.msgpack.encode(Welcome(1, "again")),
        b"\xc4" + b"x" * (MAX_MESSAGE + 1),
    ],
)
async def test_a_message_that_is_none_ends_the_channel_and_nothing_else(content: bytes | str) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.send(content)

    async with before_a_hub(talk, TeamspaceId(new_ulid())) as (link, coordinator):
        await until(lambda: not link.connected and "not the active" not in link.reason)
        assert coordinator.is_active is False
        assert coordinator.activity.value


async def test_a_hub_whose_certificate_is_not_believed_is_told_nothing(tmp_path: Path) -> None:
    told: list[bytes] = []

    def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(b"somebody was let in")
        writer.close()

    leaf = Authority.create("another").issue("hub", addresses=["127.0.0.1"], server=True)
    (tmp_path / "crt").write_text(leaf.certificate_pem + leaf.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt")
    server = await asyncio.start_server(peer, "127.0.0.1", 0, ssl=context)
    ca = Authority.create("ours").certificate_pem
    assert x509.load_pem_x509_certificate(ca.encode())
    hub = HubAddress(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", ca)
    own = Workload(TeamspaceId(new_ulid()), "orchestrator")
    identity = Identity(Authority.create("parts").issue("o", uris=[str(own)]), own, "")
    coordinator = Coordinator()
    coordinator.activity.set(True)
    link = HubLink(hub, coordinator, Watched[Identity | None](identity), Kept())
    async with task_group("test") as tasks:
        tasks.start_service("link", link.run())
        await until(lambda: "not believed" in link.reason or "cannot be reached" in link.reason)
    server.close()
    assert told == []
