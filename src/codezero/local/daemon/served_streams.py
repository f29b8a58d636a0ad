"""The laptop's end of served connections: streams that the System opens go to what was declared when serving began, and nowhere else (T18).

A stream names a variant and a port of its service; host and port on this side are the Daemon's own, so whoever holds the System cannot reach
around on this machine or its network. One byte tells the System that the local process has taken the connection; where it has not, the stream is
reset at once, and the team's pods answer the request instead. Streams of a mirror, which answers nothing, are handled by `mirroring`.
"""

import asyncio
import errno
import functools
import ipaddress
import os
import re
import socket
from collections.abc import Callable

from codezero.kit import logs
from codezero.kit.tasks import Tasks
from codezero.local.daemon.mirroring import Inbox, Local, Mirroring
from codezero.local.daemon.serving import Held, Serving
from codezero.local.daemon.traces import Traces
from codezero.model import problems
from codezero.model.addresses import NETWORK
from codezero.model.problems import CodezeroError
from codezero.model.variants import PortPair
from codezero.transport.splice import SocketSide, StreamSide
from codezero.transport.tunnel import TunnelStream
from codezero.wire.open_header import OpenHeader, StreamKind
from codezero.wire.router import CONNECTED

# Half of what a tunnel carries by default: a storm of served requests leaves room for consumed ones.
MAX_STREAMS = 500
# Mirrors leave room for those who answer, and one port of one mirror for others. A Router has 64 copies under way at once.
MAX_MIRRORED = 250
MAX_MIRRORED_TO_PORT = 100
DIAL_SECONDS = 2.0
PATIENCE_SECONDS = 0.3
# For requests under way when a variant ends.
DRAIN_SECONDS = 5.0
# Not tried one after the other for long: the System waits for well under a second.
MAX_ADDRESSES = 4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 1123 and what people call their containers; never a path or an option.
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
# Where clouds tell secrets to whoever asks from this machine, besides link-local addresses.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_ENDED = CodezeroError(problems.SERVE_UNKNOWN, "the variant has ended on this laptop")
_log = logs.get_logger("serving")


def check_ports(ports: tuple[PortPair, ...]) -> None:
    """Raises `CodezeroError` for ports and hosts that cannot be served."""
    seen: set[int] = set()
    for pair in ports:
        if not 0 < pair.remote < 65536 or not 0 < pair.local < 65536:
            raise _bad(f"ports are from 1 to 65535, got {pair.local}:{pair.remote}")
        if pair.remote in seen:
            raise _bad(f"port {pair.remote} of the service is given twice")
        seen.add(pair.remote)
        if pair.host is None:
            continue
        address = _literal(pair.host)
        if address is not None:
            _check_address(address)
        elif _HOST_NAME.fullmatch(pair.host) is None:
            raise _bad(f"{pair.host[:100]!r} is neither an address nor the name of a host")


class ServedStreams:
    """Takes the System's streams for the variants of `serving`; `changed` is told when the local process of one comes or goes.

    Readers of `traces` are told how answers to mirrored requests differ.
    """

    def __init__(
        self,
        serving: Serving,
        tasks: Tasks,
        *,
        changed: Callable[[], None] = lambda: None,
        traces: Traces | None = None,
    ) -> None:
        self.mirroring = Mirroring(traces or Traces())
        self._serving = serving
        self._tasks = tasks
        self._changed = changed
        self._open: dict[str, set[_Served]] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._count

    def accept(self, header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        """The owner of a stream that the System opened; raises `CodezeroError` to refuse it."""
        if header.kind is not StreamKind.SERVE:
            raise CodezeroError(problems.STREAM_KIND_UNKNOWN, f"this laptop takes no streams of kind {header.kind}")
        held, pair = self._serving.destination(header.target)
        if self._count >= MAX_STREAMS:
            raise CodezeroError(problems.TOO_MANY_STREAMS, f"this laptop takes {MAX_STREAMS} served streams at a time")
        if held.variant.mirror is not None:
            self._make_sure_of_room(held, pair)
        held.requests += 1
        kind = _Served if held.variant.mirror is None else _Mirrored
        return kind(self, held, pair, self._tasks)

    def end(self, variant_id: str) -> None:
        """The variant has ended: what it is answering gets a moment, then its streams are reset."""
        if self._open.get(variant_id):
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._reset, variant_id)

    # --- Called by streams --------------------------------------------------------------------------------------------------------------

    def began(self, stream: "_Served", variant_id: str) -> None:
        """A stream is open."""
        self._count += 1
        self._open.setdefault(variant_id, set()).add(stream)

    def ended(self, stream: "_Served", variant_id: str) -> None:
        """A stream is over."""
        streams = self._open.get(variant_id)
        if streams is not None and stream in streams:
            self._count -= 1
            streams.discard(stream)
            if not streams:
                del self._open[variant_id]

    async def reach(self, held: Held, pair: PortPair) -> socket.socket:
        """A connection to the local process; raises `CodezeroError` when there is none. How it went is told."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                connection = await _dial(pair)
        except asyncio.CancelledError:
            # The System does not wait as long as we do; a tunnel that is lost says nothing about the local process.
            if asyncio.get_running_loop().time() - began > PATIENCE_SECONDS:
                self.tell(held, pair, f"{_place(pair)} does not answer")
            raise
        except TimeoutError:
            trouble = f"no answer from {_place(pair)} within {DIAL_SECONDS:g} s"
        except OSError as error:
            trouble = f"{_place(pair)} cannot be reached: {_said(error)}"
        except CodezeroError as error:
            trouble = error.detail
        else:
            self.tell(held, pair, None)
            return connection
        self.tell(held, pair, trouble)
        raise CodezeroError(problems.DIAL_FAILED, trouble)

    def not_compared(self, held: Held, pair: PortPair) -> None:
        """A mirror gets copies of another protocol than HTTP/1.1."""
        if pair.remote not in held.not_compared:
            held.not_compared.add(pair.remote)
            _log.warning("answers to requests by HTTP/2 are not compared", service=str(held.service), port=pair.remote)
            self._changed()

    def tell(self, held: Held, pair: PortPair, trouble: str | None) -> None:
        """The local process was reached, or why it was not."""
        if trouble is not None:
            held.failed += 1
        if held.troubles.get(pair.remote) == trouble:
            return
        if trouble is None:
            del held.troubles[pair.remote]
            _log.info("the local process answers again", service=str(held.service), port=pair.remote)
        else:
            held.troubles[pair.remote] = trouble
            _log.info("the local process does not answer", service=str(held.service), port=pair.remote, reason=trouble)
        self._changed()

    def _make_sure_of_room(self, held: Held, pair: PortPair) -> None:
        mirrored = [one for several in self._open.values() for one in several if isinstance(one, _Mirrored)]
        if len(mirrored) >= MAX_MIRRORED or sum(one.is_for(held, pair) for one in mirrored) >= MAX_MIRRORED_TO_PORT:
            raise CodezeroError(problems.TOO_MANY_STREAMS, "this laptop takes no more copies at a time")

    def _reset(self, variant_id: str) -> None:
        if variant_id not in self._serving.held:
            for stream in tuple(self._open.get(variant_id, ())):
                stream.reset(_ENDED)


class _Served(StreamSide):
    """A served stream, whose socket is not there yet at first."""

    def __init__(self, streams: ServedStreams, held: Held, pair: PortPair, tasks: Tasks) -> None:
        super().__init__()
        self._streams = streams
        self._held = held
        self._pair = pair
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        super().connection_made(transport)
        assert self._stream is not None
        if not self._tasks.is_open:
            self._stream.reset(CodezeroError(problems.TUNNEL_DOWN, "this laptop is being stopped"))
            return
        self._streams.began(self, self._held.variant.variant_id)
        self._stream.pause_reading()
        self._task = self._tasks.start(f"serve-{self._stream.stream_id}", self._connect(self._stream))

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended."""
        self._streams.ended(self, self._held.variant.variant_id)
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    def reset(self, cause: CodezeroError) -> None:
        """Break the stream off."""
        if self._stream is not None:
            self._stream.reset(cause)

    async def _connect(self, stream: TunnelStream) -> None:
        try:
            connection = await self._streams.reach(self._held, self._pair)
            await self._use(stream, connection)
        except CodezeroError as error:
            stream.reset(error)
        finally:
            self._task = None

    async def _use(self, stream: TunnelStream, connection: socket.socket) -> None:
        """Let the stream have the connection; raises `CodezeroError` to end the stream."""
        await self._splice(connection)

    async def _splice(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: SocketSide(self._attach), sock=connection)
        except OSError as error:
            trouble = f"the connection to {_place(self._pair)} was lost: {_said(error)}"
            self._streams.tell(self._held, self._pair, trouble)
            raise CodezeroError(problems.DIAL_FAILED, trouble) from None

    def _attach(self, _transport: asyncio.Transport, side: SocketSide) -> TunnelStream | None:
        stream = self._stream
        if stream is None or stream.is_closing():
            return None
        self.join(side)
        # Ahead of all that the local process says.
        stream.write(CONNECTED)
        stream.resume_reading()
        return stream


class _Mirrored(_Served):
    """A stream by which copies come: they are read here, unless it is HTTP/2."""

    def __init__(self, streams: ServedStreams, held: Held, pair: PortPair, tasks: Tasks) -> None:
        super().__init__(streams, held, pair, tasks)
        self._inbox: Inbox | None = Inbox()
        self._first = b""

    def is_for(self, held: Held, pair: PortPair) -> bool:
        """Whether it brings copies of requests to that port of that variant."""
        return (self._held, self._pair.remote) == (held, pair.remote)

    def data_received(self, data: bytes) -> None:
        """Bytes from the tunnel."""
        if self._inbox is None:
            super().data_received(data)
        elif self._stream is not None:
            self._inbox.put(data, self._stream)

    def eof_received(self) -> bool:
        """The tunnel's side sends no more."""
        if self._inbox is None:
            return super().eof_received()
        self._inbox.end()
        return True

    async def _use(self, stream: TunnelStream, connection: socket.socket) -> None:
        inbox = self._inbox
        assert inbox is not None
        reach = functools.partial(self._streams.reach, self._held, self._pair)
        local = Local(connection, reach)
        try:
            stream.write(CONNECTED)
            stream.resume_reading()
            is_http2, self._first = await inbox.protocol()
            if is_http2:
                self._streams.not_compared(self._held, self._pair)
                await self._splice(local.release())
                return
            await self._streams.mirroring.talk(
                self._held, self._pair, inbox, self._first, send=stream.write, local=local
            )
            stream.close()
        except CodezeroError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of a stream: a copy is never worth the Daemon
            _log.error("a copy could not be handled", service=str(self._held.service), exc_info=error)
            raise CodezeroError(problems.INTERNAL, "a copy could not be handled") from None
        finally:
            local.close()

    def _attach(self, _transport: asyncio.Transport, side: SocketSide) -> TunnelStream | None:
        stream, inbox = self._stream, self._inbox
        if stream is None or stream.is_closing() or inbox is None:
            return None
        self.join(side)
        self._inbox = None
        side.write(self._first + inbox.take())
        if inbox.is_ended:
            side.write_eof()
        return stream


async def _dial(pair: PortPair) -> socket.socket:
    """A connection to the declared place; raises `OSError` with the first failure, and `CodezeroError` where nothing may be dialled."""
    failure: OSError | None = None
    for address in await _addresses(pair):
        try:
            return await _connected(address, pair.local)
        except OSError as error:
            failure = failure or error
    raise failure or OSError(f"{pair.host} has no address")


async def _addresses(pair: PortPair) -> list[Address]:
    if pair.host is None:
        # Development servers listen on the one or on the other.
        return [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    literal = _literal(pair.host)
    addresses = [literal] if literal is not None else await _resolved(pair.host)
    for address in addresses:
        _check_address(address)
    return addresses


async def _resolved(host: str) -> list[Address]:
    # By the machine's resolver, in a thread: hosts file, VPN and search domains count as for any program.
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(f"{host} is no name of a host") from None
    # Connected to by the address that was checked, not by the name: it may resolve to another one next time.
    unique = dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found)
    return list(unique)[:MAX_ADDRESSES]


async def _connected(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        # Where nobody listens, a port of the range that clients get may connect to itself, and then keeps the real server out.
        if connection.getsockname()[:2] == connection.getpeername()[:2]:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "it would connect to itself")
    except BaseException:
        connection.close()
        raise
    return connection


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_address(address: Address) -> None:
    """Refuse what no developer's process is at, and what would lead in circles."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    plain = mapped or address
    if plain.is_link_local or plain in _METADATA or plain.is_unspecified or plain.is_multicast:
        raise _bad(f"{plain} cannot be served: link-local, metadata and multicast addresses are never dialled")
    if plain in NETWORK:
        raise _bad(f"{plain} is a service of the Teamspace, which cannot be served as another one")


def _said(error: OSError) -> str:
    # The event loops put texts of their own around it.
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


def _place(pair: PortPair) -> str:
    if pair.host is None:
        return f"port {pair.local} of this laptop"
    return f"[{pair.host}]:{pair.local}" if ":" in pair.host else f"{pair.host}:{pair.local}"


def _bad(reason: str) -> CodezeroError:
    return CodezeroError(problems.BAD_SERVE, reason, fix="see czctl serve --help")
