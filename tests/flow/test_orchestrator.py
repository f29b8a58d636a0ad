"""A laptop's coordination through real System and Orchestrator: over TLS on loopback, through a real tunnel."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.sessions import ActivityKind, PresenceState
from codezero.orchestrator import server
from codezero.orchestrator.leases import Leases
from codezero.testing.kubernetes import endpoint_json, service_json, slice_json
from codezero.testing.teamspace import Coordination, RealTeamspace, echo_server, free_port
from codezero.testing.tunnels import Recorder, until
from codezero.transport.tunnel import ClientTunnel
from codezero.wire.coordination import ConsumeAssertion, Leave
from codezero.wire.open_header import OpenHeader, StreamKind

ORDERS = ServiceRef("shop", "orders")
CART = ServiceRef("shop", "cart")


@pytest.fixture
async def teamspace(tmp_path: Path) -> AsyncIterator[RealTeamspace]:
    async with RealTeamspace(tmp_path).running() as running:
        yield running


async def consume(tunnel: ClientTunnel, target: str, data: bytes) -> bytes:
    """All that a service answers to `data`; raises the reason of a refusal."""
    owner = Recorder()
    stream = tunnel.open(OpenHeader(StreamKind.CONSUME, target), owner)
    stream.write(data)
    stream.write_eof()
    async with asyncio.timeout(15):
        while not owner.ended:
            if owner.lost.done():
                raise owner.lost.result() or AssertionError("ended without a reason")
            await asyncio.sleep(0.002)
    stream.close()
    return bytes(owner.data)


async def refused(tunnel: ClientTunnel, target: str, kind: StreamKind = StreamKind.CONSUME) -> CodezeroError:
    """Why a stream is refused."""
    owner = Recorder()
    tunnel.open(OpenHeader(kind, target), owner)
    reason = await asyncio.wait_for(owner.lost, 15)
    assert isinstance(reason, CodezeroError), reason
    return reason


async def test_a_laptop_sees_the_catalog_and_consumes(teamspace: RealTeamspace) -> None:
    """The spine: certificate, tunnel, picture, decision, bytes."""
    async with echo_server(b"hello ") as port:
        teamspace.offer("orders", port)
        tunnel = await teamspace.connect(teamspace.authorities.device())
        picture = await teamspace.coordinate(tunnel)
        await picture.until(lambda it: "shop/orders" in it.catalog)
        await picture.stream.send(ConsumeAssertion(1, (ORDERS,)))
        await picture.until(lambda it: it.decisions)

        assert picture.decisions[0].refused == ()
        assert picture.catalog["shop/orders"].ready == 1
        assert await consume(tunnel, "shop/orders:80", b"world") == b"hello world"
        tunnel.abandon()


async def test_changes_of_the_cluster_follow(teamspace: RealTeamspace) -> None:
    """Services that come, change and go, without a new snapshot."""
    teamspace.offer("orders", 8080)
    tunnel = await teamspace.connect(teamspace.authorities.device())
    picture = await teamspace.coordinate(tunnel)
    await picture.until(lambda it: "shop/orders" in it.catalog)

    teamspace.offer("cart", 8081)
    teamspace.offer("orders", 8080, ready=False)
    await picture.until(lambda it: "shop/cart" in it.catalog and it.catalog["shop/orders"].ready == 0)
    teamspace.inventory.remove(service_json("cart"))
    await picture.until(lambda it: "shop/cart" not in it.catalog)

    assert picture.heard["CatalogSnapshot"] == 1
    tunnel.abandon()


async def test_laptops_see_one_another(teamspace: RealTeamspace) -> None:
    """Who is there, under which name, and what they consume; and that they left."""
    first = await teamspace.connect(teamspace.authorities.device())
    watching = await teamspace.coordinate(first, name="anna's laptop")
    second = await teamspace.connect(teamspace.authorities.device())
    coming = await teamspace.coordinate(second, name="ben\x1b[31m\n\u202e's laptop")
    await coming.stream.send(ConsumeAssertion(1, (ORDERS,)))

    await watching.until(
        lambda it: second.session in it.presences and it.presences[second.session].consumes == (ORDERS,)
    )
    shown = watching.presences[second.session]
    assert (shown.name, shown.state) == ("ben[31m's laptop", PresenceState.ONLINE)
    assert watching.presences[first.session].name == "anna's laptop"

    await coming.stream.send(Leave())
    await watching.until(lambda it: it.presences[second.session].state is PresenceState.GONE)
    told = [ActivityKind.JOINED, ActivityKind.CONSUMED, ActivityKind.LEFT]
    await watching.until(lambda it: [each.kind for each in it.activities if each.session == second.session] == told)
    first.abandon()
    second.abandon()


async def test_a_laptop_that_returns_keeps_its_session_and_gets_what_changed(teamspace: RealTeamspace) -> None:
    """A cut of some seconds must not cost a new snapshot, nor a new name in the team's list."""
    teamspace.offer("orders", 8080)
    device = teamspace.authorities.device()
    tunnel = await teamspace.connect(device)
    picture = await teamspace.coordinate(tunnel)
    await picture.until(lambda it: "shop/orders" in it.catalog)
    tunnel.abandon()
    teamspace.offer("cart", 8081)

    again = await teamspace.connect(device, session=tunnel.session)
    assert again.session == tunnel.session
    resumed = await teamspace.coordinate(again, resume=picture)
    await resumed.until(lambda it: "shop/cart" in it.catalog and it.presences)

    assert "CatalogSnapshot" not in resumed.heard
    assert set(resumed.catalog) == {"shop/orders", "shop/cart"}
    assert list(resumed.presences) == [tunnel.session]
    again.abandon()


async def test_a_lost_laptop_is_away_and_in_the_end_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R45: its team sees it; whoever returns in time goes on with the same session."""
    monkeypatch.setattr(server, "Leases", lambda **_: Leases(grace=0.1, ttl=1.5))
    monkeypatch.setattr(server, "LEASE_LOOK_SECONDS", 0.02)
    async with RealTeamspace(tmp_path).running() as teamspace:
        staying = await teamspace.connect(teamspace.authorities.device())
        watching = await teamspace.coordinate(staying)
        device = teamspace.authorities.device()
        tunnel = await teamspace.connect(device)
        before = await teamspace.coordinate(tunnel)

        def state(it: Coordination) -> PresenceState | None:
            presence = it.presences.get(tunnel.session)
            return None if presence is None else presence.state

        await watching.until(lambda it: state(it) is PresenceState.ONLINE)
        tunnel.abandon()
        await watching.until(lambda it: state(it) is PresenceState.AWAY)
        again = await teamspace.connect(device, session=tunnel.session)
        after = await teamspace.coordinate(again, resume=before)
        await watching.until(lambda it: state(it) is PresenceState.ONLINE)
        again.abandon()
        await watching.until(lambda it: state(it) is PresenceState.GONE)
        wanted = [ActivityKind.JOINED, ActivityKind.AWAY, ActivityKind.RETURNED, ActivityKind.AWAY, ActivityKind.LEFT]
        await watching.until(
            lambda it: [each.kind for each in it.activities if each.session == tunnel.session] == wanted
        )

        assert after.welcome is not None
        assert after.welcome.session == tunnel.session
        staying.abandon()


async def test_a_session_that_another_laptop_holds_cannot_be_claimed(teamspace: RealTeamspace) -> None:
    """Sessions are no secrets: everybody sees them in the list of laptops."""
    tunnel = await teamspace.connect(teamspace.authorities.device())
    owned = await teamspace.coordinate(tunnel)
    thief = await teamspace.connect(teamspace.authorities.device(), session=tunnel.session)
    assert thief.session != tunnel.session
    thief.abandon()
    tunnel.abandon()
    with pytest.raises(CodezeroError):
        await owned.hear()

    late = await teamspace.connect(teamspace.authorities.device(), session=tunnel.session)
    assert late.session != tunnel.session
    late.abandon()


async def test_a_session_is_its_laptops_own_also_after_the_system_has_forgotten_it(tmp_path: Path) -> None:
    """A System that was restarted believes whoever comes first; the Orchestrator knows better."""
    teamspace = RealTeamspace(tmp_path)
    async with teamspace.orchestrator():
        async with teamspace.system():
            tunnel = await teamspace.connect(teamspace.authorities.device())
            owned = await teamspace.coordinate(tunnel)
            tunnel.abandon()
            with pytest.raises(CodezeroError):
                await owned.hear()
        async with teamspace.system():
            thief = await teamspace.connect(teamspace.authorities.device(), session=tunnel.session)
            assert thief.session == tunnel.session
            with pytest.raises(EOFError):
                await teamspace.coordinate(thief)
            thief.abandon()


async def test_a_second_connection_of_a_session_replaces_the_first(teamspace: RealTeamspace) -> None:
    """A laptop that changed networks comes back before the old connection is known to be dead."""
    device = teamspace.authorities.device()
    first = await teamspace.connect(device)
    replaced = await teamspace.coordinate(first)
    second = await teamspace.connect(device, session=first.session)

    with pytest.raises(CodezeroError):
        await asyncio.wait_for(replaced.hear(), 10)
    cause = await asyncio.wait_for(asyncio.shield(first.closed), 10)
    assert "took over" in cause.detail
    assert second.session == first.session
    picture = await teamspace.coordinate(second)
    await picture.until(lambda it: first.session in it.presences)
    assert picture.presences[first.session].state is PresenceState.ONLINE
    second.abandon()


async def test_the_orchestrator_comes_back_with_everything(tmp_path: Path) -> None:
    """It keeps nothing: the System reports again, laptops assert again, and nobody sees an empty catalog in between."""
    teamspace = RealTeamspace(tmp_path)
    teamspace.offer("orders", 8080)
    async with teamspace.system():
        device = teamspace.authorities.device()
        tunnel = await teamspace.connect(device)
        async with teamspace.orchestrator():
            picture = await coordinate_soon(teamspace, tunnel)
            await picture.until(lambda it: "shop/orders" in it.catalog)
            before = picture.welcome
        with pytest.raises(EOFError):
            await asyncio.wait_for(picture.hear(), 10)
        async with teamspace.orchestrator():
            again = await coordinate_soon(teamspace, tunnel, resume=picture)
            await again.stream.send(ConsumeAssertion(1, (ORDERS,)))
            await again.until(lambda it: it.known and it.decisions)

            assert before is not None
            assert again.welcome is not None
            assert again.welcome.epoch != before.epoch
            assert set(again.catalog) == {"shop/orders"}
        tunnel.abandon()


async def coordinate_soon(
    teamspace: RealTeamspace, tunnel: ClientTunnel, *, resume: Coordination | None = None
) -> Coordination:
    """As a Daemon does: try until the Orchestrator is there."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await teamspace.coordinate(tunnel, resume=resume)
            except (EOFError, CodezeroError):
                await asyncio.sleep(0.05)


async def test_without_the_orchestrator_streams_go_on(tmp_path: Path) -> None:
    """The byte path needs nobody but the System."""
    teamspace = RealTeamspace(tmp_path)
    async with teamspace.system(), echo_server() as port:
        teamspace.offer("orders", port)
        tunnel = await teamspace.connect(teamspace.authorities.device())

        assert await consume(tunnel, "shop/orders:80", b"still here") == b"still here"
        assert (await refused(tunnel, "", StreamKind.ORCHESTRATOR)).problem is problems.UNREACHABLE
        tunnel.abandon()


async def test_without_a_system_the_catalog_is_stale(tmp_path: Path) -> None:
    """A second laptop is on another System; what the first one knew stands, marked as old."""
    teamspace = RealTeamspace(tmp_path / "one")
    other = RealTeamspace(
        tmp_path / "two", authorities=teamspace.authorities, orchestrator_port=teamspace.orchestrator_port
    )
    other.inventory._sources.clear()
    async with teamspace.orchestrator(), other.system():
        tunnel = await other.connect(teamspace.authorities.device())
        async with teamspace.system():
            teamspace.offer("orders", 8080)
            picture = await coordinate_soon(other, tunnel)
            await picture.until(lambda it: "shop/orders" in it.catalog)
            assert picture.stale_since is None

        await picture.until(lambda it: it.stale_since is not None)
        assert "shop/orders" in picture.catalog
        tunnel.abandon()


async def test_the_cluster_out_of_sight_is_told(teamspace: RealTeamspace) -> None:
    """R12: served as stale with its age, and current again without anything new."""
    teamspace.offer("orders", 8080)
    tunnel = await teamspace.connect(teamspace.authorities.device())
    picture = await teamspace.coordinate(tunnel)
    await picture.until(lambda it: "shop/orders" in it.catalog)

    teamspace.inventory.synced(stale_since=1234.5)
    await picture.until(lambda it: it.stale_since == 1234.5)
    teamspace.inventory.synced()
    await picture.until(lambda it: it.stale_since is None)
    tunnel.abandon()


def only(organization: str, *services: str) -> Policy:
    return Policy(organization, (PolicyRule(Effect.ALLOW, (Operation.CONSUME,), services=services, name="some"),))


async def test_a_new_policy_changes_what_is_seen_decided_and_running(teamspace: RealTeamspace) -> None:
    """T38, T41: catalog, decisions and open streams, within seconds and without a reconnect."""
    async with echo_server() as port:
        teamspace.offer("orders", port)
        teamspace.offer("cart", port)
        tunnel = await teamspace.connect(teamspace.authorities.device())
        picture = await teamspace.coordinate(tunnel)
        await picture.stream.send(ConsumeAssertion(7, (ORDERS, CART)))
        await picture.until(lambda it: it.decisions and set(it.catalog) == {"shop/orders", "shop/cart"})
        running = {name: Recorder() for name in ("orders", "cart")}
        for name, owner in running.items():
            tunnel.open(OpenHeader(StreamKind.CONSUME, f"shop/{name}:80"), owner).write(name.encode())
        await until(lambda: all(bytes(owner.data) == name.encode() for name, owner in running.items()))

        teamspace.write_policy(only(teamspace.authorities.organization, "cart"))
        await picture.until(lambda it: set(it.catalog) == {"shop/cart"} and len(it.decisions) > 1)
        ended = await asyncio.wait_for(running["orders"].lost, 10)

        assert isinstance(ended, CodezeroError)
        assert ended.problem is problems.FORBIDDEN
        assert not running["cart"].lost.done()
        assert picture.decisions[-1].number == 7
        assert [ref for ref, _ in picture.decisions[-1].refused] == [ORDERS]
        assert (await refused(tunnel, "shop/orders:80")).problem is problems.FORBIDDEN
        await picture.until(lambda it: it.presences[tunnel.session].consumes == (CART,))

        teamspace.write_policy(b"{ broken")
        await picture.until(lambda it: it.catalog == {})
        await asyncio.wait_for(running["cart"].lost, 10)
        assert (await refused(tunnel, "shop/cart:80")).problem is problems.NO_POLICY

        teamspace.write_policy(allow_all(teamspace.authorities.organization))
        await picture.until(lambda it: set(it.catalog) == {"shop/orders", "shop/cart"})
        assert await consume_soon(tunnel, "shop/cart:80") == b"again"
        tunnel.abandon()


async def consume_soon(tunnel: ClientTunnel, target: str) -> bytes:
    async with asyncio.timeout(10):
        while True:
            try:
                return await consume(tunnel, target, b"again")
            except CodezeroError:
                await asyncio.sleep(0.05)


async def test_laptops_see_what_they_may_consume_and_no_more(tmp_path: Path) -> None:
    """T38: the other services leave no trace in catalog, presence and activity."""
    teamspace = RealTeamspace(tmp_path)
    seeing, blind = teamspace.authorities.device(), teamspace.authorities.device()
    organization = teamspace.authorities.organization
    teamspace.write_policy(
        Policy(
            organization,
            (
                PolicyRule(Effect.ALLOW, (Operation.CONSUME,), users=(seeing.user,)),
                PolicyRule(Effect.ALLOW, (Operation.CONSUME,), services=("cart",)),
            ),
        )
    )
    teamspace.offer("orders", 8080)
    teamspace.offer("cart", 8080)
    async with teamspace.running():
        first, second = await teamspace.connect(seeing), await teamspace.connect(blind)
        all_seen, some_seen = await teamspace.coordinate(first), await teamspace.coordinate(second)
        await all_seen.until(lambda it: set(it.catalog) == {"shop/orders", "shop/cart"})
        await all_seen.stream.send(ConsumeAssertion(1, (ORDERS, CART)))

        await some_seen.until(
            lambda it: it.presences.get(first.session) is not None and it.presences[first.session].consumes == (CART,)
        )
        await some_seen.until(lambda it: set(it.catalog) == {"shop/cart"})
        assert {it.service for it in some_seen.activities} <= {None, CART}
        first.abandon()
        second.abandon()


async def test_laptops_of_another_organization_get_nothing(teamspace: RealTeamspace) -> None:
    """Signed by the same Hub, and yet strangers here."""
    teamspace.offer("orders", 8080)
    member = await teamspace.connect(teamspace.authorities.device())
    own = await teamspace.coordinate(member)
    stranger = await teamspace.connect(teamspace.authorities.device(organization=new_ulid()))
    theirs = await teamspace.coordinate(stranger)
    await theirs.until(lambda it: it.known and stranger.session in it.presences)
    await own.until(lambda it: "shop/orders" in it.catalog)

    assert theirs.catalog == {}
    assert list(theirs.presences) == [stranger.session]
    assert stranger.session not in own.presences
    assert (await refused(stranger, "shop/orders:80")).problem is problems.FORBIDDEN
    member.abandon()
    stranger.abandon()


async def test_a_refused_stream_is_told_to_the_team(tmp_path: Path) -> None:
    """Somebody who tries what is not allowed shows in the activity; a flood of it does not flood the list."""
    teamspace = RealTeamspace(tmp_path)
    teamspace.write_policy(only(teamspace.authorities.organization, "cart"))
    async with teamspace.running():
        tunnel = await teamspace.connect(teamspace.authorities.device())
        picture = await teamspace.coordinate(tunnel)
        for _ in range(100):
            assert (await refused(tunnel, "shop/orders:80")).problem is problems.FORBIDDEN
        await picture.until(lambda it: any(each.kind is ActivityKind.REFUSED for each in it.activities))
        await picture.stream.send(ConsumeAssertion(1, (CART,)))
        await picture.until(lambda it: any(each.kind is ActivityKind.CONSUMED for each in it.activities))
        tunnel.abandon()

    told = [each for each in picture.activities if each.kind is ActivityKind.REFUSED]
    assert told[0].service == ORDERS
    assert problems.FORBIDDEN.code in told[0].detail
    assert len(told) < 40


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("shop/nothing:80", problems.SERVICE_UNKNOWN),
        ("nowhere/orders:80", problems.SERVICE_UNKNOWN),
        ("shop/orders:81", problems.SERVICE_UNKNOWN),
        ("shop/unready:80", problems.NO_ENDPOINT),
        ("shop/silent:80", problems.DIAL_FAILED),
        ("shop/node:80", problems.ADDRESS_REFUSED),
        ("shop/metadata:80", problems.ADDRESS_REFUSED),
        ("127.0.0.1:80", problems.BAD_REQUEST),
        ("", problems.BAD_REQUEST),
        ("shop/orders:80/../../x", problems.BAD_REQUEST),
        ("x" * 300, problems.BAD_REQUEST),
    ],
)
async def test_streams_that_lead_nowhere_say_why(
    teamspace: RealTeamspace, target: str, problem: problems.Problem
) -> None:
    """T17: a laptop names services, and is told what is wrong with its name; nothing else is dialled."""
    teamspace.offer("orders", 8080)
    teamspace.offer("unready", 8080, ready=False)
    teamspace.offer("silent", free_port())
    teamspace.offer("node", 80, address="192.0.2.10")
    teamspace.offer("metadata", 80, address="169.254.169.254")
    tunnel = await teamspace.connect(teamspace.authorities.device())

    assert (await refused(tunnel, target)).problem is problem
    tunnel.abandon()


@pytest.mark.parametrize("kind", [StreamKind.SERVE, StreamKind.CONTROL])
async def test_other_kinds_of_streams_are_refused(teamspace: RealTeamspace, kind: StreamKind) -> None:
    """A laptop may not play the System's part."""
    tunnel = await teamspace.connect(teamspace.authorities.device())

    assert (await refused(tunnel, "x", kind)).problem is problems.STREAM_KIND_UNKNOWN
    tunnel.abandon()


async def test_datagrams_come_and_go(teamspace: RealTeamspace) -> None:
    """UDP through a stream of its own, whole datagrams, the first ones before the socket is there."""

    class EchoDatagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.transport.sendto(data, addr)  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
    teamspace.offer("names", transport.get_extra_info("sockname")[1], protocol="UDP")
    tunnel = await teamspace.connect(teamspace.authorities.device())
    owner = Recorder()
    stream = tunnel.open(OpenHeader(StreamKind.DATAGRAMS, "shop/names:80"), owner)
    datagrams = [bytes([number]) * size for number, size in enumerate((1, 1200, 9000))]
    framed = b"".join(len(each).to_bytes(2, "big") + each for each in datagrams)
    stream.write(framed)

    await until(lambda: len(owner.data) >= len(framed))
    assert bytes(owner.data) == framed
    assert (await refused(tunnel, "shop/names:80")).problem is problems.SERVICE_UNKNOWN
    stream.close()
    transport.close()
    tunnel.abandon()


async def test_an_endpoint_that_does_not_answer_is_passed_over(teamspace: RealTeamspace) -> None:
    """A pod that died a moment ago costs a try, not an error."""
    async with echo_server() as port:
        teamspace.offer("orders", port)
        dead = socket.create_server(("127.0.0.2", 0))
        dead.close()
        teamspace.inventory.put(
            slice_json(
                "orders",
                endpoints=[endpoint_json("127.0.0.2"), endpoint_json("127.0.0.1")],
                ports=({"name": "", "port": port, "protocol": "TCP"},),
            )
        )
        tunnel = await teamspace.connect(teamspace.authorities.device())

        for _ in range(4):
            assert await consume(tunnel, "shop/orders:80", b"x") == b"x"
        tunnel.abandon()


async def test_a_reset_of_the_pod_is_a_reset_for_the_laptop(teamspace: RealTeamspace) -> None:
    """Not an orderly end, which would look like a complete answer."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half of")
        await reader.readexactly(1)
        handle = writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    teamspace.offer("orders", server.sockets[0].getsockname()[1])
    tunnel = await teamspace.connect(teamspace.authorities.device())
    owner = Recorder()
    stream = tunnel.open(OpenHeader(StreamKind.CONSUME, "shop/orders:80"), owner)
    await until(lambda: bytes(owner.data) == b"half of")
    stream.write(b"x")

    assert isinstance(await asyncio.wait_for(owner.lost, 10), ConnectionResetError)
    server.close()
    tunnel.abandon()


async def test_a_stopping_system_sends_laptops_away_to_come_back(tmp_path: Path) -> None:
    """A rolling update is no failure."""
    teamspace = RealTeamspace(tmp_path)
    device = teamspace.authorities.device()
    async with teamspace.system():
        tunnel = await teamspace.connect(device)
    await asyncio.wait_for(asyncio.shield(tunnel.closed), 10)

    assert tunnel.farewell is not None
    assert tunnel.farewell.retry
    async with teamspace.system():
        again = await teamspace.connect(device, session=tunnel.session)
        assert again.session == tunnel.session
        again.abandon()


async def test_a_tunnel_ends_with_its_certificate(teamspace: RealTeamspace) -> None:
    """A laptop whose certificate is not renewed must not stay for ever."""
    device = teamspace.authorities.device()
    short = teamspace.authorities.laptop(device, lifetime=timedelta(seconds=2))
    tunnel = await teamspace.connect(device, credentials=short)

    cause = await asyncio.wait_for(asyncio.shield(tunnel.closed), 20)
    assert "expired" in cause.detail
    with pytest.raises(CodezeroError):
        await teamspace.connect(device, credentials=short)


async def test_certificates_change_while_everything_runs(teamspace: RealTeamspace) -> None:
    """R26: the leaves of the parts last an hour; nobody may notice that they are replaced."""
    teamspace.offer("orders", 8080)
    device = teamspace.authorities.device()
    tunnel = await teamspace.connect(device)
    picture = await teamspace.coordinate(tunnel)
    before = tunnel.peer.certificate
    for role in ("system", "orchestrator"):
        teamspace.authorities.write(teamspace.folder / role, role)

    async with asyncio.timeout(15):
        while True:
            other = await teamspace.connect(teamspace.authorities.device())
            changed = other.peer.certificate != before
            if changed:
                break
            other.abandon()
            await asyncio.sleep(0.1)
    second = await teamspace.coordinate(other)
    await second.until(lambda it: tunnel.session in it.presences)
    teamspace.offer("cart", 8081)
    await picture.until(lambda it: "shop/cart" in it.catalog)

    assert not tunnel.is_closed
    tunnel.abandon()
    other.abandon()


@pytest.mark.parametrize("uris", [[], ["spiffe://hub.test/org/x"], ["two"], ["spiffe://x.codezero/system"]])
async def test_certificates_that_name_no_laptop_are_sent_away(teamspace: RealTeamspace, uris: list[str]) -> None:
    """Also when the right authority signed them."""
    authorities = teamspace.authorities
    names = [str(authorities.device()), str(authorities.device())] if uris == ["two"] else uris
    strange = authorities.devices.issue("laptop", uris=names, client=True)
    with pytest.raises(CodezeroError) as caught:
        await teamspace.connect(authorities.device(), credentials=strange)

    assert caught.value.problem is problems.BAD_IDENTITY


async def test_parts_of_the_teamspace_are_no_laptops(teamspace: RealTeamspace) -> None:
    """Their authority is not the laptops'."""
    with pytest.raises(CodezeroError):
        await teamspace.connect(teamspace.authorities.device(), credentials=teamspace.authorities.part("system"))


async def test_a_device_cannot_fill_the_teamspace(teamspace: RealTeamspace) -> None:
    """One laptop's key on many machines: some tunnels and sessions, and no more."""
    device = teamspace.authorities.device()
    tunnels = [await teamspace.connect(device) for _ in range(20)]
    await until(lambda: sum(not tunnel.is_closed for tunnel in tunnels) == 16)
    standing = [tunnel for tunnel in tunnels if not tunnel.is_closed]
    pictures = [await teamspace.coordinate(tunnel) for tunnel in standing]
    last = pictures[-1]
    await last.until(
        lambda it: (
            standing[-1].session in it.presences
            and sum(presence.state is PresenceState.ONLINE for presence in it.presences.values()) == 8
        )
    )
    for tunnel in tunnels:
        tunnel.abandon()
