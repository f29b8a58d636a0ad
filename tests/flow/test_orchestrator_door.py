"""The Orchestrator's port: who is let in, and what bad peers get."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.model import problems
from codezero.model.ids import SessionId, TeamspaceId, new_ulid
from codezero.model.problems import Problem
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.orchestrator import server
from codezero.testing.scripted_system import peers_of
from codezero.testing.teamspace import Coordination, RealTeamspace
from codezero.transport import messages
from codezero.transport.messages import MessageStream
from codezero.wire.coordination import (
    CatalogReport,
    ConsumeAssertion,
    DaemonHello,
    Goodbye,
    Ping,
    SystemHello,
    ToDaemon,
    TunnelReport,
    Welcome,
)
from codezero.wire.forwarding import ALPN, Forwarded

TO_DAEMON: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)
Stream = MessageStream[Any, ToDaemon]


@pytest.fixture
async def teamspace(tmp_path: Path) -> AsyncIterator[RealTeamspace]:
    running = RealTeamspace(tmp_path)
    async with peers_of(running):
        yield running


async def connect(
    teamspace: RealTeamspace,
    credentials: Credentials | None,
    *,
    protocols: tuple[str, ...] = (ALPN,),
    receive_buffer: int | None = None,
) -> Stream:
    context = certificates.client_context(
        roots=teamspace.authorities.parts.certificate_pem, credentials=credentials, protocols=protocols
    )
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", teamspace.orchestrator_port))
    reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="orchestrator.codezero")
    return MessageStream(reader, writer, TO_DAEMON)


async def as_system(teamspace: RealTeamspace, *, receive_buffer: int | None = None) -> Stream:
    return await connect(teamspace, teamspace.authorities.part("system"), receive_buffer=receive_buffer)


async def goodbye(stream: Stream, *data: bytes, last_of_greeting: int | None = None) -> Goodbye | None:
    """What the Orchestrator says to `data` before it ends the connection; None when it ends without a word."""
    try:
        for number, each in enumerate(data):
            await stream.send_frames((each,), within=10)
            if number == last_of_greeting and number < len(data) - 1:
                # Before the welcome a stranger's bytes are counted.
                assert isinstance(await stream.receive(within=10), Welcome)
        async with asyncio.timeout(20):
            while not isinstance(message := await stream.receive(), Goodbye):
                pass
            return message
    except EOFError:
        return None
    finally:
        stream.abort()


def frames(*items: object) -> list[bytes]:
    return [item if isinstance(item, bytes) else messages.frame(item) for item in items]


SYSTEM_HELLO = SystemHello((1,), "test", "one")
DAEMON_HELLO = DaemonHello((1,), "test", "laptop")


async def test_only_systems_of_this_teamspace_are_let_in(teamspace: RealTeamspace) -> None:
    """They say who the laptops are, so nobody else may."""
    authorities = teamspace.authorities
    elsewhere = TeamspaceId(new_ulid())
    for credentials in (
        authorities.part("orchestrator"),
        authorities.part("router"),
        authorities.part("system", teamspace=elsewhere),
        authorities.parts.issue("none", client=True),
        authorities.parts.issue("laptop", uris=[str(authorities.device())], client=True),
        authorities.parts.issue(
            "both",
            uris=[f"spiffe://{authorities.teamspace.lower()}.codezero/{role}" for role in ("system", "orchestrator")],
            client=True,
        ),
    ):
        stream = await connect(teamspace, credentials)
        said = await goodbye(stream, *frames(SYSTEM_HELLO))
        assert said is not None
        assert (said.code, said.retry) == (problems.BAD_IDENTITY.code, False)


async def test_strangers_do_not_get_through_tls(teamspace: RealTeamspace) -> None:
    """No certificate, a laptop's, one of another authority, one that may not be a client, another protocol."""
    authorities = teamspace.authorities
    uri = f"spiffe://{authorities.teamspace.lower()}.codezero/system"
    for credentials, protocols in (
        (None, (ALPN,)),
        (authorities.laptop(authorities.device()), (ALPN,)),
        (Authority.create("other").issue("system", uris=[uri], client=True), (ALPN,)),
        (authorities.parts.issue("system", uris=[uri], server=True), (ALPN,)),
        (authorities.part("system"), ("http/1.1",)),
        (authorities.part("system"), ()),
    ):
        try:
            stream = await connect(teamspace, credentials, protocols=protocols)
            assert await goodbye(stream, *frames(SYSTEM_HELLO)) is None
        except (ssl.SSLError, ConnectionError):
            pass


def forwarded(teamspace: RealTeamspace, **changes: Any) -> Forwarded:
    device = str(teamspace.authorities.device())
    return Forwarded(**{"device": device, "session": SessionId(new_ulid()), **changes})


HOSTILE: dict[str, tuple[list[object], Problem]] = {
    "nothing of ours": ([b"GET / HTTP/1.1\r\n\r\n"], problems.PROTOCOL),
    "zeros": ([bytes(64)], problems.PROTOCOL),
    "a huge length": ([b"\xff\xff\xff\xff"], problems.PROTOCOL),
    "more than strangers may": ([(1024 * 1024).to_bytes(4, "big") + bytes(1000)], problems.PROTOCOL),
    "an unknown message": ([messages.frame({"is": "Shutdown"})], problems.PROTOCOL),
    "a list": ([messages.frame([1, 2])], problems.PROTOCOL),
    "no hello": ([Ping()], problems.PROTOCOL),
    "a report without a hello": ([CatalogReport(reset=True)], problems.PROTOCOL),
    "no common version": ([SystemHello((2, 99), "test", "one")], problems.VERSIONS),
    "no version": ([SystemHello((), "test", "one")], problems.VERSIONS),
    "two hellos": ([SYSTEM_HELLO, SYSTEM_HELLO], problems.PROTOCOL),
    "a laptop's message from a System": ([SYSTEM_HELLO, ConsumeAssertion(1, ())], problems.PROTOCOL),
    "a service without a kind": (
        [SYSTEM_HELLO, messages.frame({"is": "CatalogReport", "upserts": [{"ref": {"namespace": "a", "name": "b"}}]})],
        problems.PROTOCOL,
    ),
}


@pytest.mark.parametrize("form", HOSTILE)
async def test_bad_messages_of_a_system_end_its_connection(teamspace: RealTeamspace, form: str) -> None:
    """With the reason, and without harm to others."""
    said, problem = HOSTILE[form]
    stream = await as_system(teamspace)
    answer = await goodbye(stream, *frames(*said), last_of_greeting=0 if said[0] is SYSTEM_HELLO else None)

    assert answer is not None
    assert answer.code == problem.code
    await works(teamspace)


LAPTOPS: dict[str, tuple[dict[str, Any], list[object], Problem]] = {
    "no device": ({"device": "laptop"}, [], problems.BAD_IDENTITY),
    "a workload": ({"device": "spiffe://x.codezero/system"}, [], problems.BAD_IDENTITY),
    "a session that is none": ({"session": SessionId("../../etc")}, [], problems.PROTOCOL),
    "an empty session": ({"session": SessionId("")}, [], problems.PROTOCOL),
    "no hello": ({}, [Ping()], problems.PROTOCOL),
    "an assertion first": ({}, [ConsumeAssertion(1, ())], problems.PROTOCOL),
    "no common version": ({}, [DaemonHello((7,), "test", "laptop")], problems.VERSIONS),
    "two hellos": ({}, [DAEMON_HELLO, DAEMON_HELLO], problems.PROTOCOL),
    "a System's report": ({}, [DAEMON_HELLO, CatalogReport(reset=True)], problems.PROTOCOL),
    "another's tunnel": ({}, [DAEMON_HELLO, TunnelReport(SessionId("x"), "y", False)], problems.PROTOCOL),
    "a name no service has": (
        {},
        [DAEMON_HELLO, ConsumeAssertion(1, (ServiceRef("shop", "orders\x1b[31m"),))],
        problems.PROTOCOL,
    ),
    "an empty name": ({}, [DAEMON_HELLO, ConsumeAssertion(1, (ServiceRef("", ""),))], problems.PROTOCOL),
    "a long name": ({}, [DAEMON_HELLO, ConsumeAssertion(1, (ServiceRef("a" * 10_000, "b"),))], problems.PROTOCOL),
    "too many services": (
        {},
        [DAEMON_HELLO, ConsumeAssertion(1, (ServiceRef("a", "b"),) * (server.MAX_CONSUMED + 1))],
        problems.TOO_LARGE,
    ),
    "too much at once": ({}, [DAEMON_HELLO, (4 * 1024 * 1024).to_bytes(4, "big")], problems.PROTOCOL),
    "a hello too long": ({}, [messages.frame({"is": "DaemonHello", "x": "x" * 30_000})], problems.PROTOCOL),
}


@pytest.mark.parametrize("form", LAPTOPS)
async def test_bad_messages_of_a_laptop_end_its_connection(teamspace: RealTeamspace, form: str) -> None:
    """A laptop is a stranger with a certificate; its System passes on whatever it says."""
    changes, said, problem = LAPTOPS[form]
    stream = await as_system(teamspace)
    greets = bool(said) and said[0] is DAEMON_HELLO
    answer = await goodbye(
        stream, *frames(forwarded(teamspace, **changes), *said), last_of_greeting=1 if greets else None
    )

    assert answer is not None
    assert answer.code == problem.code
    await works(teamspace)


async def works(teamspace: RealTeamspace) -> None:
    """Another laptop is welcome."""
    stream = await as_system(teamspace)
    await stream.send_frames(frames(forwarded(teamspace), DAEMON_HELLO))
    picture = Coordination(stream)
    await picture.until(lambda it: it.welcome is not None and it.presences)
    stream.abort()


async def test_one_who_says_nothing_is_dropped(teamspace: RealTeamspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """T16: also a System, and also between its hellos."""
    monkeypatch.setattr(server, "HELLO_SECONDS", 0.2)
    silent = await goodbye(await as_system(teamspace))
    half = await goodbye(await as_system(teamspace), *frames(forwarded(teamspace)))

    for said in (silent, half):
        assert said is not None
        assert (said.code, said.retry) == (problems.TIMED_OUT.code, True)


async def test_a_silent_system_does_not_count(teamspace: RealTeamspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A System whose node is gone sends no end; its catalog is stale then."""
    monkeypatch.setattr(server, "SYSTEM_SILENT_SECONDS", 0.5)
    system = await as_system(teamspace)
    orders = Service(ServiceRef("shop", "orders"), ServiceKind.CLUSTER_IP, (ServicePort(80),))
    await system.send_frames(frames(SYSTEM_HELLO, CatalogReport(upserts=(orders,), reset=True)))
    laptop = await as_system(teamspace)
    await laptop.send_frames(frames(forwarded(teamspace), DAEMON_HELLO))
    picture = Coordination(laptop)
    await picture.until(lambda it: it.known)

    await picture.until(lambda it: it.stale_since is not None)
    assert "shop/orders" in picture.catalog
    laptop.abort()
    system.abort()


async def test_a_session_of_another_device_is_refused(teamspace: RealTeamspace) -> None:
    """Whatever a restarted System believes."""
    first = forwarded(teamspace)
    laptop = await as_system(teamspace)
    await laptop.send_frames(frames(first, DAEMON_HELLO))
    assert isinstance(await laptop.receive(within=10), Welcome)

    said = await goodbye(await as_system(teamspace), *frames(forwarded(teamspace, session=first.session), DAEMON_HELLO))
    assert said is not None
    assert said.code == problems.BAD_IDENTITY.code
    laptop.abort()


async def test_many_connections_of_one_session_leave_one(teamspace: RealTeamspace) -> None:
    """A laptop that comes back again and again, faster than its old connections end."""
    first = forwarded(teamspace)
    streams = [await as_system(teamspace) for _ in range(8)]
    await asyncio.gather(*(stream.send_frames(frames(first, DAEMON_HELLO)) for stream in streams))

    async def lasts(stream: Stream) -> bool:
        try:
            async with asyncio.timeout(3):
                while True:
                    await stream.receive()
        except TimeoutError:
            return True
        except EOFError:
            return False

    assert sorted(await asyncio.gather(*(lasts(stream) for stream in streams))) == [False] * 7 + [True]
    for stream in streams:
        stream.abort()


async def test_a_laptop_that_does_not_read_gets_the_newest_picture_when_it_does(teamspace: RealTeamspace) -> None:
    """R25: what it missed is worked out, not kept; the others do not wait for it."""
    system = await as_system(teamspace)
    services = {
        number: Service(ServiceRef("shop", f"s{number}"), ServiceKind.CLUSTER_IP, (ServicePort(80),))
        for number in range(3000)
    }
    await system.send(SYSTEM_HELLO)
    assert isinstance(await system.receive(within=10), Welcome)
    await system.send(CatalogReport(upserts=tuple(services.values()), reset=True))
    # A small buffer in the kernel, so that little is on its way to one who does not read.
    slow, quick = await as_system(teamspace, receive_buffer=16 * 1024), await as_system(teamspace)
    for stream in (slow, quick):
        await stream.send_frames(frames(forwarded(teamspace), DAEMON_HELLO))
    watching = Coordination(quick)
    await watching.until(lambda it: it.known)
    for round_ in range(1, 31):
        changed = tuple(_ready(each, round_) for each in services.values())
        await system.send(CatalogReport(upserts=changed))
        await watching.until(lambda it, wanted=round_: it.catalog["shop/s2999"].ready == wanted)

    late = Coordination(slow)
    await late.until(lambda it: it.known and all(each.ready == 30 for each in it.catalog.values()))
    assert len(late.catalog) == 3000
    assert late.heard["CatalogSnapshot"] + late.heard.get("CatalogDelta", 0) < 300
    for stream in (system, slow, quick):
        stream.abort()


def _ready(service: Service, ready: int) -> Service:
    return Service(service.ref, service.kind, service.ports, ready, ready)
