"""Access that is taken away, while bytes flow: consumed, through the CONNECT door, and served; by each way it can be taken (T41)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from codezero.kit import certificates
from codezero.model import problems
from codezero.model.access import Bundle
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.services import ServiceRef
from codezero.system import grants
from codezero.testing.bundles import attribute, bundle, equals, policy, scope
from codezero.testing.serves import route
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.testing.tunnels import Echo, Recorder, until
from codezero.transport import tls
from codezero.transport.tunnel import ClientTunnel, TunnelStream
from codezero.wire import policy_file
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED

ORDERS = ServiceRef("shop", "orders")
KINDS = ("consumed", "connected", "served")


class Served(Echo):
    """A local process, and why its stream ended."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.stream.write(CONNECTED)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@dataclass
class Laptop:
    """A laptop of a Hub's Teamspace with one stream of each kind, all of them carrying bytes."""

    teamspace: RealTeamspace
    device: Device
    other: Device
    tunnel: ClientTunnel
    consumed: Recorder
    consuming: TunnelStream
    door: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    router: Recorder
    routed: tls.TlsConnection
    served: Served

    async def flows(self, kind: str) -> None:
        """Bytes go round."""
        match kind:
            case "consumed":
                before = len(self.consumed.data)
                self.consuming.write(b"ping")
                await until(lambda: len(self.consumed.data) >= before + 4)
            case "connected":
                reader, writer = self.door
                writer.write(b"ping")
                assert await asyncio.wait_for(reader.readexactly(4), 10) == b"ping"
            case _:
                before = len(self.router.data)
                self.routed.write(b"ping")
                await until(lambda: len(self.router.data) >= before + 4)

    async def ends(self, kind: str) -> Problem | None:
        """Why a stream has ended, where its protocol can say so."""
        async with asyncio.timeout(10):
            match kind:
                case "consumed":
                    return cast("CodezeroError", await self.consumed.lost).problem
                case "connected":
                    try:
                        assert await self.door[0].read() == b""
                    except ConnectionError:
                        pass
                    return None
                case _:
                    assert await self.router.lost is not None
                    return cast("CodezeroError", await self.served.lost).problem


def opened(device: Device, other: Device, **changes: Any) -> Bundle:
    return bundle([device, other], serial=1, **changes)


async def connected(teamspace: RealTeamspace, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    context = certificates.client_context(roots=teamspace.authorities.parts.certificate_pem, protocols=("http/1.1",))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", teamspace.port, ssl=context, server_hostname=teamspace.authorities.server_name
    )
    writer.write(f"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {token}\r\n\r\n".encode())
    return reader, writer, await asyncio.wait_for(reader.readline(), 10)


@pytest.fixture
async def laptop(tmp_path: Path) -> AsyncIterator[Laptop]:
    teamspace = RealTeamspace(tmp_path)
    device, other = teamspace.authorities.device(), teamspace.authorities.device()
    teamspace.write_policy(opened(device, other))
    async with teamspace.system_alone(), echo_server() as port:
        teamspace.offer("orders", port)
        owners: list[Served] = []

        def accept(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
            owners.append(Served())
            return owners[-1]

        tunnel = await teamspace.connect(device, acceptor=accept)
        served = route(device, tunnel.session)
        teamspace.store.put(ORDERS, served)
        consumed, router = Recorder(), Recorder()
        consuming = tunnel.open(OpenHeader(StreamKind.CONSUME, "shop/orders:80"), consumed)
        routed = await tls.connect(
            "127.0.0.1",
            teamspace.routers_port,
            context=teamspace.router.context(teamspace.router.credentials(str(ORDERS))),
            server_name=f"80.{served.id.lower()}.variant.codezero",
            factory=lambda _: router,
        )
        reader, writer, answer = await connected(teamspace, teamspace.authorities.token(device))
        assert b" 200 " in answer
        assert await asyncio.wait_for(reader.readline(), 10) == b"\r\n"
        made = Laptop(
            teamspace, device, other, tunnel, consumed, consuming, (reader, writer), router, routed, owners[0]
        )
        for kind in KINDS:
            await made.flows(kind)
        try:
            yield made
        finally:
            writer.close()
            routed.close()
            tunnel.abandon()


Change = Callable[[Laptop], Bundle]


def of(laptop: Laptop, *devices: Device, policies: Any = None, **changes: Any) -> Bundle:
    known = devices or (laptop.device, laptop.other)
    return bundle(known, {"everything": policy()} if policies is None else policies, serial=2, **changes)


TAKEN: dict[str, tuple[Change, Problem]] = {
    "device": (lambda it: of(it, revoked=[it.device.device]), problems.ACCESS_ENDED),
    "user": (lambda it: of(it, it.other), problems.ACCESS_ENDED),
    "role": (
        lambda it: of(it, policies={"a": policy(principal=scope("Role", "developer", within=True))}, role="auditor"),
        problems.FORBIDDEN,
    ),
    "policy": (lambda it: of(it, policies={"freeze": policy("forbid")}), problems.FORBIDDEN),
    "Teamspace suspended": (lambda it: of(it, suspended=True), problems.NO_POLICY),
    "Hub away for too long": (lambda it: of(it, expires_at=time.time() - 1), problems.NO_POLICY),
}


@pytest.mark.parametrize("how", TAKEN)
async def test_what_flows_ends_with_its_reason(laptop: Laptop, how: str) -> None:
    """Every kind of stream, and nothing new begins; whose access stays notices nothing."""
    change, problem = TAKEN[how]
    laptop.teamspace.write_policy(change(laptop))

    assert [await laptop.ends(kind) for kind in KINDS] == [problem, None, problem]
    _, writer, answer = await connected(laptop.teamspace, laptop.teamspace.authorities.token(laptop.device))
    assert (b" 407 " if problem is problems.ACCESS_ENDED else b" 403 ") in answer
    writer.close()


async def test_nobody_comes_in_by_the_policy_of_another_teamspace(tmp_path: Path) -> None:
    """Of the same Hub, and the same organization."""
    teamspace = RealTeamspace(tmp_path)
    device = teamspace.authorities.device()
    teamspace.write_policy(policy_file.encode(bundle([device], space=new_ulid(), serial=9)))
    async with teamspace.system_alone(), echo_server() as port:
        teamspace.offer("orders", port)
        _, writer, answer = await connected(teamspace, teamspace.authorities.token(device))
        writer.close()
        assert b" 403 " in answer
        teamspace.write_policy(bundle([device]))
        async with asyncio.timeout(20):
            while b" 200 " not in answer:
                await asyncio.sleep(0.05)
                _, writer, answer = await connected(teamspace, teamspace.authorities.token(device))
                writer.close()


@pytest.mark.parametrize("how", ["device", "user"])
async def test_a_laptop_that_lost_everything_is_sent_away(laptop: Laptop, how: str) -> None:
    """Its tunnel ends and no new one comes, so it is not shown as present; both times it is told why."""
    laptop.teamspace.write_policy(TAKEN[how][0](laptop))
    reason = await asyncio.wait_for(laptop.tunnel.closed, 10)
    assert (reason.problem, "revoked" in reason.detail) == (problems.ACCESS_ENDED, how == "device")
    with pytest.raises(CodezeroError) as caught:
        await laptop.teamspace.connect(laptop.device)
    assert caught.value.problem is problems.ACCESS_ENDED

    # Given back, it comes back.
    laptop.teamspace.write_policy(replace(of(laptop), serial=3))
    async with asyncio.timeout(10):
        while True:
            try:
                again = await laptop.teamspace.connect(laptop.device)
            except CodezeroError:
                await asyncio.sleep(0.02)
            else:
                break
    again.abandon()


@pytest.mark.parametrize(
    ("operation", "kinds"), [("consume", ("consumed", "connected")), ("serve-header", ("served",))]
)
async def test_one_permission_is_taken_without_the_others(
    laptop: Laptop, operation: str, kinds: tuple[str, ...]
) -> None:
    """T19: each is a permission of its own, while streams run, too."""
    no_more = policy("forbid", action=scope("Action", operation), resource=scope("Service", "shop/orders"))
    laptop.teamspace.write_policy(of(laptop, policies={"all": policy(), "no more": no_more}))
    for kind in kinds:
        assert await laptop.ends(kind) in (problems.FORBIDDEN, None)

    for kind in set(KINDS) - set(kinds):
        await laptop.flows(kind)


async def test_what_stays_allowed_flows_on(laptop: Laptop) -> None:
    """A change that is about somebody else ends nobody's stream."""
    mail = equals(attribute("principal", "email"), "user1@example.com")
    laptop.teamspace.write_policy(
        of(laptop, policies={"all": policy(), "not ben": policy("forbid", when=mail)}, revoked=[laptop.other.device])
    )
    async with asyncio.timeout(10):
        while True:
            _, writer, answer = await connected(laptop.teamspace, laptop.teamspace.authorities.token(laptop.other))
            writer.close()
            if b" 407 " in answer:
                break

    for kind in KINDS:
        await laptop.flows(kind)


async def test_time_ends_what_the_hub_has_not_confirmed(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """R05: by the clock, without any news."""
    monkeypatch.setattr(grants, "EXPIRY_LOOK_SECONDS", 0.02)
    laptop.teamspace.write_policy(of(laptop, expires_at=time.time() + 1.5))

    assert [await laptop.ends(kind) for kind in KINDS] == [problems.NO_POLICY, None, problems.NO_POLICY]


async def test_an_older_bundle_gives_nothing_back(laptop: Laptop) -> None:
    """The mounted file may be a minute behind."""
    laptop.teamspace.write_policy(of(laptop, revoked=[laptop.device.device]))
    await laptop.ends("consumed")
    laptop.teamspace.write_policy(opened(laptop.device, laptop.other, policies={"all": policy()}))
    # A later one tells when the older one must have been looked at.
    stranger = Device("hub", laptop.device.organization, new_ulid(), new_ulid())
    laptop.teamspace.write_policy(
        replace(of(laptop, laptop.device, laptop.other, stranger, revoked=[laptop.device.device]), serial=3)
    )
    for _ in range(3):
        with pytest.raises(CodezeroError) as caught:
            await laptop.teamspace.connect(laptop.device)
        assert caught.value.problem is problems.ACCESS_ENDED
