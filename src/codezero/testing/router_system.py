"""The System's end for Routers, small but real: TLS, joining by token, streams of routes, variants by server name. Refuses what it should.

Knows no cluster: tokens and plans are told by the test. Variants answer by themselves, with their name.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from codezero.kit import certificates
from codezero.kit.certificates import Credentials
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import Workload
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.routing.plan import RoutePlan
from codezero.testing.teamspace import Authorities, free_port
from codezero.transport import tls
from codezero.transport.messages import MessageStream
from codezero.transport.tls import TlsConnection
from codezero.wire import route_plan
from codezero.wire.router import (
    JOIN_ALPN,
    MAX_MESSAGE,
    PROTOCOL_VERSIONS,
    ROUTES_ALPN,
    AccessRecords,
    FromRouter,
    Join,
    Joined,
    PlanApplied,
    PlanSent,
    Refusal,
    RouterHello,
    RouterPing,
    RouterWelcome,
    ToRouter,
)
from codezero.wire.tracing import TraceRecord

TOKEN = "a-token"

_FROM_ROUTER: msgspec.msgpack.Decoder[FromRouter] = msgspec.msgpack.Decoder(FromRouter)
_Stream = MessageStream[ToRouter, FromRouter]


@dataclass
class Heard:
    """What Routers told: joins, hellos, acknowledgements and records, in their order."""

    joins: list[Join] = field(default_factory=list[Join])
    certificates: list[x509.Certificate] = field(default_factory=list[x509.Certificate])
    hellos: list[RouterHello] = field(default_factory=list[RouterHello])
    applied: list[PlanApplied] = field(default_factory=list[PlanApplied])
    records: list[TraceRecord] = field(default_factory=list[TraceRecord])
    dropped: int = 0
    variant_requests: list[str] = field(default_factory=list[str])

    def taken(self, revision: int) -> bool:
        """Whether a Router routes by the plan of that revision."""
        return PlanApplied(revision) in self.applied


class RouterSystem:
    """Serves Routers of `service` on `port` of loopback while in `running`.

    `credentials` are its own; `tokens` those it takes; `plan` with its `revision` is sent to whoever listens; `lifetime` is that of
    certificates it signs; `server_names` are the variants that answer.
    """

    def __init__(self, authorities: Authorities, service: ServiceRef) -> None:
        self.authorities = authorities
        self.service = service
        self.port = free_port()
        self.credentials: Credentials = authorities.part("system")
        self.tokens = {TOKEN}
        self.lifetime = timedelta(hours=1)
        self.server_names: set[str] = set()
        self.heard = Heard()
        self._plan: PlanSent | None = None
        self._changes: Watched[int] = Watched(0)
        self._streams: set[_Stream] = set()
        self._connections: set[TlsConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def streams(self) -> int:
        """How many Routers follow."""
        return len(self._streams)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["RouterSystem"]:
        """Listen; at the end all connections are dropped, as when it is killed."""
        context = certificates.server_context(
            self.credentials, client_roots=self.authorities.parts.certificate_pem, require_client=False
        )
        context.sni_callback = self._choose
        handlers = {JOIN_ALPN: self._owner(self._join), ROUTES_ALPN: self._owner(self._routes)}
        listener = await tls.listen(
            "127.0.0.1", self.port, context, handlers={**handlers, "": self._owner(self._variant)}
        )
        try:
            yield self
        finally:
            listener.close()
            for connection in tuple(self._connections):
                connection.abort()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def send(self, plan: RoutePlan, *, revision: int) -> None:
        """Send the plan to all that listen, and to those that come."""
        self._plan = PlanSent(revision, route_plan.to_wire(plan))
        for stream in tuple(self._streams):
            await stream.send(self._plan)

    async def until(self, holds: Callable[[Heard], object], *, within: float = 60.0) -> None:
        """Wait until `holds(heard)`; raises TimeoutError after `within` seconds, which only bounds a failing test."""
        async with asyncio.timeout(within):
            async for _ in self._changes.changes():
                if holds(self.heard):
                    return

    def _choose(self, _end: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name == self.authorities.server_name or name in self.server_names:
            return None
        return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)

    def _owner(self, converse: Callable[[TlsConnection, _Stream], Any]) -> Callable[[TlsConnection], asyncio.Protocol]:
        async def guarded(connection: TlsConnection, stream: _Stream) -> None:
            try:
                await converse(connection, stream)
            except CodezeroError as error:
                if not stream.writer.is_closing():
                    stream.send_nowait(Refusal(error.problem.code, error.detail, retry=True))
            except (EOFError, OSError):
                pass  # it left
            finally:
                self._streams.discard(stream)
                self._connections.discard(connection)
                stream.close()
                self._changes.touch()

        def made(connection: TlsConnection) -> asyncio.Protocol:
            reader = asyncio.StreamReader()
            self._connections.add(connection)

            def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                stream: _Stream = MessageStream(reader, writer, _FROM_ROUTER, limit=MAX_MESSAGE)
                task = asyncio.get_running_loop().create_task(guarded(connection, stream))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            return asyncio.StreamReaderProtocol(reader, start)

        return made

    async def _join(self, connection: TlsConnection, stream: _Stream) -> None:
        join = await stream.receive(within=5)
        if not isinstance(join, Join):
            raise CodezeroError(problems.PROTOCOL, f"{type(join).__name__} came instead of Join")
        connection.accept()
        self.heard.joins.append(join)
        if join.token not in self.tokens:
            raise CodezeroError(problems.TOKEN_REFUSED, "the API server does not know the token")
        request = x509.load_pem_x509_csr(join.request.encode())
        key = request.public_key()
        if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise CodezeroError(problems.BAD_IDENTITY, "the request is not signed by its P-256 key")
        workload = Workload(self.authorities.teamspace, "router", str(self.service))
        leaf = self.authorities.parts.sign(key, "router", uris=[str(workload)], lifetime=self.lifetime, client=True)
        self.heard.certificates.append(leaf)
        certificate = leaf.public_bytes(serialization.Encoding.PEM).decode()
        await stream.send(Joined(certificate, self.authorities.parts.certificate_pem))

    async def _routes(self, connection: TlsConnection, stream: _Stream) -> None:
        self._prove(connection)
        hello = await stream.receive(within=5)
        if not isinstance(hello, RouterHello):
            raise CodezeroError(problems.PROTOCOL, f"{type(hello).__name__} came instead of RouterHello")
        connection.accept()
        self.heard.hellos.append(hello)
        await stream.send(RouterWelcome(PROTOCOL_VERSIONS[0], "test"))
        self._streams.add(stream)
        if self._plan is not None:
            await stream.send(self._plan)
        while True:
            self._changes.touch()
            match await stream.receive():
                case PlanApplied() as applied:
                    self.heard.applied.append(applied)
                case AccessRecords() as told:
                    self.heard.records += told.records
                    self.heard.dropped += told.dropped
                case RouterPing():
                    await stream.send(RouterPing())
                case other:
                    raise CodezeroError(problems.PROTOCOL, f"{type(other).__name__} came on a stream of routes")

    async def _variant(self, connection: TlsConnection, stream: _Stream) -> None:
        self._prove(connection)
        connection.accept()
        while head := await _head(stream.reader):
            self.heard.variant_requests.append(head.split("\r\n")[0])
            stream.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nvariant\n")
            await stream.writer.drain()

    def _prove(self, connection: TlsConnection) -> None:
        if connection.peer.uris != (str(Workload(self.authorities.teamspace, "router", str(self.service))),):
            raise CodezeroError(problems.BAD_IDENTITY, "this is not the Router of the service")


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return ""
