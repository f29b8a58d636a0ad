"""Both ends of real tunnels in one process over loopback, with identities made for the occasion."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import cast

from codezero.kit import certificates
from codezero.kit.certificates import Authority
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport import tls, tunnel
from codezero.transport.tls import Peer, ProtocolFactory, TlsListener, UnprovenLimits
from codezero.transport.tunnel import Acceptor, ClientTunnel, ServerTunnel, Timing, TunnelStream
from codezero.wire.control import TunnelHello, TunnelWelcome
from codezero.wire.mux import Limits
from codezero.wire.open_header import OpenHeader

SERVER_NAME = "space.example.test"

Context = Callable[[], ssl.SSLContext]


@dataclass(frozen=True, slots=True)
class Identities:
    """TLS contexts of a Teamspace, of a laptop in it, and of those who do not belong. Each call makes a new one."""

    server: Context
    client: Context
    stranger: Context  # shows a certificate of another authority
    nobody: Context  # shows no certificate
    misled: Context  # believes another authority
    device: str


@cache
def identities() -> Identities:
    """Identities for this process."""
    root, other = Authority.create("root"), Authority.create("other")
    device = f"spiffe://install.test/org/{new_ulid()}/user/{new_ulid()}/device/{new_ulid()}"
    system = root.issue("system", dns=[SERVER_NAME], server=True)
    laptop = root.issue("laptop", uris=[device], client=True)
    forged = other.issue("laptop", uris=[device], client=True)
    roots = root.certificate_pem
    return Identities(
        server=lambda: certificates.server_context(system, client_roots=roots, require_client=False),
        client=lambda: certificates.client_context(roots=roots, credentials=laptop),
        stranger=lambda: certificates.client_context(roots=roots, credentials=forged),
        nobody=lambda: certificates.client_context(roots=roots),
        misled=lambda: certificates.client_context(roots=other.certificate_pem, credentials=laptop),
        device=device,
    )


class Echo(asyncio.Protocol):
    """Owner of a stream that sends back what comes, and the end after it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        self.stream = cast("TunnelStream", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes to send back."""
        self.stream.write(data)

    def eof_received(self) -> bool:
        """The end, to send back."""
        self.stream.write_eof()
        return True

    def pause_writing(self) -> None:
        """Read no faster than the peer does."""
        self.stream.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        self.stream.resume_reading()


class Recorder(asyncio.Protocol):
    """Owner of a stream that writes down what happens to it; `lost` is a future with the argument of `connection_lost`."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        self.stream = cast("TunnelStream", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes to keep."""
        assert type(data) is bytes, "transports keep what they are given: a view would change under them"
        assert not self.ended
        self.data += data

    def eof_received(self) -> bool:
        """The end of the peer's side."""
        assert not self.ended
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.lost.set_result(exc)


async def until(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Return once `condition` holds; raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - a condition of anything, not an event
            await asyncio.sleep(0.002)


def echo(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
    """An acceptor of echoes."""
    return Echo()


def refuse(header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
    """An acceptor that takes nothing."""
    raise CodezeroError(problems.SERVICE_UNKNOWN, f"nothing is called {header.target}")


class TunnelServer:
    """A listener on loopback that keeps the tunnels it gets. Attributes may be changed between connections."""

    def __init__(
        self,
        *,
        acceptor: Acceptor = echo,
        timing: Timing | None = None,
        limits: Limits | None = None,
        unproven: UnprovenLimits | None = None,
        handlers: Mapping[str, ProtocolFactory] | None = None,
    ) -> None:
        self.acceptor = acceptor
        self.timing = timing
        self.max_streams = 1000
        self.version = 1
        self.refusal: CodezeroError | None = None
        self.tunnels: list[ServerTunnel] = []
        self.hellos: list[tuple[TunnelHello, Peer]] = []
        self._limits = limits
        self._unproven = unproven
        self._handlers = {tunnel.ALPN: self._start, **(handlers or {})}
        self._listener: TlsListener | None = None

    @property
    def listener(self) -> TlsListener:
        """The listener, once started."""
        assert self._listener is not None
        return self._listener

    async def __aenter__(self) -> "TunnelServer":
        self._listener = await tls.listen(
            "127.0.0.1", 0, identities().server(), handlers=self._handlers, limits=self._unproven
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        for one in self.tunnels:
            one.abandon()
        for _turn in range(5):  # in which transports close
            await asyncio.sleep(0)

    async def connect(
        self,
        context: ssl.SSLContext | None = None,
        *,
        port: int | None = None,
        session: SessionId | None = None,
        acceptor: Acceptor = refuse,
        timing: Timing | None = None,
        server_name: str = SERVER_NAME,
    ) -> ClientTunnel:
        """A laptop's tunnel to this server, or to `port`."""
        return await tunnel.connect_tunnel(
            "127.0.0.1",
            port or self.listener.port,
            context=context or identities().client(),
            server_name=server_name,
            release="test",
            session=session,
            acceptor=acceptor,
            timing=timing,
        )

    @asynccontextmanager
    async def tunnel(
        self, *, acceptor: Acceptor = refuse, timing: Timing | None = None, port: int | None = None
    ) -> AsyncGenerator[tuple[ClientTunnel, ServerTunnel], None]:
        """Both ends of a tunnel, abandoned afterwards."""
        client = await self.connect(acceptor=acceptor, timing=timing, port=port)
        try:
            yield client, self.tunnels[-1]
        finally:
            client.abandon()

    def _start(self, connection: tls.TlsConnection) -> ServerTunnel:
        return ServerTunnel.start(
            connection,
            welcome=self._welcome,
            acceptor=self.acceptor,
            established=self.tunnels.append,
            timing=self.timing,
            limits=self._limits,
        )

    def _welcome(self, hello: TunnelHello, peer: Peer) -> TunnelWelcome:
        self.hellos.append((hello, peer))
        if self.refusal is not None:
            raise self.refusal
        session = hello.session or SessionId(new_ulid())
        return TunnelWelcome(version=self.version, release="test", session=session, max_streams=self.max_streams)
