"""The laptop's end of consumed connections: what arrives for a virtual address goes through the tunnel to the service that has it.

With nftables one listener takes every captured connection and asks the kernel where it was going; without, each virtual address and port has a
listener of its own. UDP ports have a socket each in both cases. What cannot be carried is reset, so programs see a refused connection at once.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import cast

from codezero.kit import logs
from codezero.local.daemon.consumption import Endpoint
from codezero.local.daemon.holders import holder_of
from codezero.local.daemon.own_ports import at_own_port
from codezero.local.daemon.traces import Traces
from codezero.local.host.capture import original_destination
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, ServiceRef
from codezero.transport.splice import DatagramStream, SocketSide, StreamSide
from codezero.transport.tunnel import Tunnel, TunnelStream
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.tracing import Direction, TraceRecord

BACKLOG = 1024
MAX_FLOWS = 256  # UDP clients of one port
FLOW_SECONDS = 60.0
MOST_ERROR = 300
TOLD_SECONDS = 10.0  # at most one log line per service in this time

Client = tuple[str, int]
_log = logs.get_logger("capture")


class Capture:
    """All consumed connections of this laptop; `tunnel` gives the tunnel of the moment, `traces` is told of those that began while it was read.

    Where connections may go follows `add` and `remove`; those that are open already end only by `release`.
    """

    def __init__(self, tunnel: Callable[[], Tunnel | None], *, traces: Traces | None = None) -> None:
        self.traces = traces or Traces()
        self._tunnel = tunnel
        self._targets: dict[Endpoint, CatalogId] = {}
        self._listeners: dict[Endpoint, asyncio.Server] = {}
        self._datagrams: dict[Endpoint, _DatagramPort] = {}
        self._connections: dict[ServiceRef, set[_Captured]] = {}
        self._told: dict[ServiceRef, float] = {}

    @property
    def captured_ports(self) -> int:
        """How many (virtual address, port) pairs lead somewhere."""
        return len(self._targets) + len(self._datagrams)

    def sessions(self, service: ServiceRef) -> int:
        """How many connections of that service are open."""
        return len(self._connections.get(service, ()))

    @contextlib.asynccontextmanager
    async def listen_for_captured(self) -> AsyncGenerator[int, None]:
        """Take what nftables sends to a privileged port of 127.0.0.1, for as long as the block lasts; gives the port."""
        listener = at_own_port(lambda port: _bound("127.0.0.1", port, socket.SOCK_STREAM))
        port: int = listener.getsockname()[1]
        server = await self._server(listener)
        try:
            await server.start_serving()
            yield port
        finally:
            server.close()

    def add(self, targets: Mapping[Endpoint, CatalogId]) -> None:
        """Connections to these endpoints go to these services from now on."""
        self._targets.update(targets)

    def remove(self, endpoints: Iterable[Endpoint]) -> None:
        """Connections to these endpoints are refused from now on."""
        for endpoint in endpoints:
            self._targets.pop(endpoint, None)

    async def bind(self, endpoint: Endpoint) -> str | None:
        """Listen at the endpoint itself; None, or a line that says who holds the port instead."""
        if endpoint in self._listeners:
            return None
        try:
            listener = _bound(*endpoint, socket.SOCK_STREAM)
        except OSError as error:
            return _conflict(endpoint, error)
        # Known before it serves: being cancelled in between must not leave a listener that nobody closes.
        self._listeners[endpoint] = server = await self._server(listener)
        await server.start_serving()
        return None

    def unbind(self, endpoint: Endpoint) -> None:
        """Listen there no longer."""
        server = self._listeners.pop(endpoint, None)
        if server is not None:
            server.close()

    async def bind_datagrams(self, endpoint: Endpoint, target: CatalogId) -> str | None:
        """Carry UDP from the endpoint to `target`; None, or a line that says who holds the port instead."""
        bound = self._datagrams.get(endpoint)
        if bound is not None:
            bound.target = target
            return None
        try:
            receiver = _bound(*endpoint, socket.SOCK_DGRAM)
        except OSError as error:
            return _conflict(endpoint, error, datagrams=True)
        port = self._datagrams[endpoint] = _DatagramPort(self, target)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: port, sock=receiver)
        return None

    def unbind_datagrams(self, endpoint: Endpoint) -> None:
        """Carry UDP there no longer."""
        port = self._datagrams.pop(endpoint, None)
        if port is not None:
            port.close()

    def release(self, services: Iterable[ServiceRef], cause: CodezeroError) -> None:
        """End the connections of services that are no longer consumed."""
        for service in services:
            for connection in tuple(self._connections.get(service, ())):
                connection.end(cause)

    def release_all(self, cause: CodezeroError) -> None:
        """End all connections."""
        self.release(tuple(self._connections), cause)

    def close(self, cause: CodezeroError) -> None:
        """End everything."""
        self._targets.clear()
        for endpoint in tuple(self._listeners):
            self.unbind(endpoint)
        for endpoint in tuple(self._datagrams):
            self.unbind_datagrams(endpoint)
        self.release_all(cause)

    # --- Called by connections ----------------------------------------------------------------------------------------------------------

    def open_stream(
        self, target: CatalogId, protocol: asyncio.Protocol, *, kind: StreamKind = StreamKind.CONSUME
    ) -> TunnelStream:
        """A stream to the service; raises `CodezeroError` when there is none to be had."""
        tunnel = self._tunnel()
        if tunnel is None:
            raise CodezeroError(problems.TUNNEL_DOWN, "there is no tunnel to the Teamspace at the moment")
        return tunnel.open(OpenHeader(kind, str(target), secrets.token_hex(8)), protocol)

    def target_of(self, endpoint: Endpoint) -> CatalogId:
        """Where a connection to the endpoint goes; raises `CodezeroError` when it goes nowhere."""
        target = self._targets.get(endpoint)
        if target is None:
            raise CodezeroError(problems.SERVICE_UNKNOWN, f"nothing is consumed at {endpoint[0]}:{endpoint[1]}")
        return target

    def began(self, connection: "_Captured", service: ServiceRef) -> None:
        """A connection is open."""
        self._connections.setdefault(service, set()).add(connection)

    def ended(self, connection: "_Captured", service: ServiceRef) -> None:
        """A connection is over."""
        connections = self._connections.get(service)
        if connections is not None:
            connections.discard(connection)
            if not connections:
                del self._connections[service]

    def tell(self, service: ServiceRef, error: CodezeroError) -> None:
        """Log why a connection failed; not each one of a program that tries in a loop."""
        now = asyncio.get_running_loop().time()
        if now - self._told.get(service, -TOLD_SECONDS) >= TOLD_SECONDS:
            if len(self._told) > 1000:
                self._told.clear()
            self._told[service] = now
            _log.info("connection failed", service=str(service), reason=error.detail, code=error.problem.code)

    async def _server(self, listener: socket.socket) -> asyncio.Server:
        """A server that does not serve yet."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._captured, sock=listener, backlog=BACKLOG, start_serving=False)

    def _captured(self) -> "_Captured":
        # Bytes are counted for somebody only.
        return _TracedConnection(self) if self.traces.are_wanted else _Captured(self)


class _Captured(SocketSide):
    """A program's connection to a consumed service."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(self._open)
        self._capture = capture
        self._service: ServiceRef | None = None
        self._tunnel_stream: TunnelStream | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The program's socket is gone."""
        super().connection_lost(exc)
        self._tunnel_stream = None
        if self._service is not None:
            self._capture.ended(self, self._service)

    def stream_ended(self, exc: Exception | None) -> None:
        """The stream is gone."""
        super().stream_ended(exc)
        if self._service is not None and isinstance(exc, CodezeroError):
            self._capture.tell(self._service, exc)

    def end(self, cause: CodezeroError) -> None:
        """Break the connection off."""
        if self._tunnel_stream is not None:
            self._tunnel_stream.reset(cause)

    def _open(self, transport: asyncio.Transport, _side: SocketSide) -> TunnelStream | None:
        try:
            target = self._capture.target_of(original_destination(transport.get_extra_info("socket")))
        except (CodezeroError, OSError) as error:
            _log.debug("connection to nothing", reason=str(error))
            return None
        stream_side = StreamSide()
        stream_side.join(self)
        try:
            self._tunnel_stream = self._capture.open_stream(target, stream_side)
        except CodezeroError as error:
            self._capture.tell(target.service, error)
            self.refused(target, error)
            return None
        self._service = target.service
        self.opened(target)
        self._capture.began(self, target.service)
        return self._tunnel_stream

    def opened(self, target: CatalogId) -> None:
        """It leads to that service."""

    def refused(self, target: CatalogId, error: CodezeroError) -> None:
        """It would lead to that service, and cannot."""


class _Trace:
    """What is counted of one connection or flow, for its record."""

    def __init__(self, target: CatalogId, protocol: str) -> None:
        self.sent = 0
        self.received = 0
        self._target = target
        self._protocol = protocol
        self._at = time.time()
        self._began = time.monotonic()

    def record(self, error: Exception | None) -> TraceRecord:
        """The record, at the end."""
        text = (error.detail if isinstance(error, CodezeroError) else str(error)) if error is not None else ""
        return TraceRecord(
            self._at,
            Direction.CONSUME,
            self._target.service,
            self._target.port,
            self._protocol,
            sent=self.sent,
            received=self.received,
            milliseconds=round((time.monotonic() - self._began) * 1000, 3),
            error=text[:MOST_ERROR],
        )


class _TracedConnection(_Captured):
    """A connection that somebody wants to be told about."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(capture)
        self._trace: _Trace | None = None
        self._error: Exception | None = None

    def opened(self, target: CatalogId) -> None:
        """It leads to that service."""
        self._trace = _Trace(target, "tcp")

    def refused(self, target: CatalogId, error: CodezeroError) -> None:
        """It would lead to that service, and cannot."""
        self._capture.traces.put((_Trace(target, "tcp").record(error),))

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes from the program."""
        if self._trace is not None:
            self._trace.sent += nbytes
        super().buffer_updated(nbytes)

    def write(self, data: bytes) -> None:
        """Bytes to the program."""
        if self._trace is not None:
            self._trace.received += len(data)
        super().write(data)

    def stream_ended(self, exc: Exception | None) -> None:
        """The stream is gone."""
        self._error = exc
        super().stream_ended(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """The program's socket is gone."""
        super().connection_lost(exc)
        trace, self._trace = self._trace, None
        if trace is not None:
            self._capture.traces.put((trace.record(exc or self._error),))


class _DatagramPort(asyncio.DatagramProtocol):
    """A consumed UDP port: one stream per client, ended when nothing came or went for a while."""

    def __init__(self, capture: Capture, target: CatalogId) -> None:
        self.target = target
        self._capture = capture
        self._flows: dict[Client, DatagramStream] = {}
        self._used: dict[Client, float] = {}
        self._traces: dict[Client, _Trace] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is bound."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Client) -> None:
        """A datagram of a program."""
        flow = self._flows.get(addr) or self._open(addr)
        if flow is not None:
            self._used[addr] = self._loop.time()
            if self._traces and (trace := self._traces.get(addr)) is not None:
                trace.sent += len(data)
            flow.send(data)

    def error_received(self, exc: Exception) -> None:
        """A client did not take its answer: it has gone."""
        _log.debug("a client does not take datagrams", service=str(self.target), reason=str(exc))

    def close(self) -> None:
        """End the port and its flows."""
        if self._sweep is not None:
            self._sweep.cancel()
        for client, flow in tuple(self._flows.items()):
            flow.close()
            self._traced(client, None)
        if self._transport is not None:
            self._transport.close()

    def _open(self, client: Client) -> DatagramStream | None:
        if len(self._flows) >= MAX_FLOWS:
            self._end(min(self._used, key=self._used.__getitem__))
        flow = DatagramStream(lambda answer: self._answer(client, answer), lambda why: self._lost(client, flow, why))
        try:
            self._capture.open_stream(self.target, flow, kind=StreamKind.DATAGRAMS)
        except CodezeroError as error:
            self._capture.tell(self.target.service, error)
            if self._capture.traces.are_wanted:
                self._capture.traces.put((_Trace(self.target, "udp").record(error),))
            return None
        self._flows[client] = flow
        if self._capture.traces.are_wanted:
            self._traces[client] = _Trace(self.target, "udp")
        if self._sweep is None:
            self._sweep = self._loop.call_later(FLOW_SECONDS / 2, self._end_unused)
        return flow

    def _answer(self, client: Client, answer: bytes) -> None:
        if client in self._flows and self._transport is not None and not self._transport.is_closing():
            self._used[client] = self._loop.time()
            if self._traces and (trace := self._traces.get(client)) is not None:
                trace.received += len(answer)
            self._transport.sendto(answer, client)

    def _lost(self, client: Client, flow: DatagramStream, why: Exception | None) -> None:
        if self._flows.get(client) is flow:
            del self._flows[client]
            self._used.pop(client, None)
            self._traced(client, why)
        if isinstance(why, CodezeroError):
            self._capture.tell(self.target.service, why)

    def _end(self, client: Client) -> None:
        self._used.pop(client, None)
        flow = self._flows.pop(client, None)
        if flow is not None:
            flow.close()
            self._traced(client, None)

    def _traced(self, client: Client, why: Exception | None) -> None:
        trace = self._traces.pop(client, None)
        if trace is not None:
            self._capture.traces.put((trace.record(why),))

    def _end_unused(self) -> None:
        now = self._loop.time()
        for client, used in tuple(self._used.items()):
            if now - used >= FLOW_SECONDS:
                self._end(client)
        self._sweep = self._loop.call_later(FLOW_SECONDS / 2, self._end_unused) if self._flows else None


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if kind is socket.SOCK_STREAM:
            # Old connections in TIME_WAIT must not keep us from it; for UDP the option would let two share the port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        if kind is socket.SOCK_STREAM:
            # Not left to the event loop: only here it is known who is in the way when the port is taken.
            bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _conflict(endpoint: Endpoint, error: OSError, *, datagrams: bool = False) -> str:
    address, port = endpoint
    if error.errno != errno.EADDRINUSE:
        return f"port {port} cannot be taken: {error.strerror}"
    holder = holder_of(address, port, datagrams=datagrams)
    return f"{'UDP port' if datagrams else 'port'} {port} is held by {holder}"
