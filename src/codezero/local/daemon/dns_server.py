"""Split DNS, the listening half: UDP and TCP on one port, for programs of this machine only."""

import asyncio
import contextlib
import functools
import socket
from collections import deque
from collections.abc import AsyncGenerator
from typing import cast

import dns.rcode

from codezero.kit import logs
from codezero.kit.tasks import Tasks
from codezero.local.daemon.forwarding import Deliver, Forwarder
from codezero.local.daemon.names import LOOP_DOMAIN, Foreign, Responder, failure, read_question
from codezero.local.daemon.own_ports import at_own_port
from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_CONNECTIONS = 64
MAX_PENDING = 16  # queries in flight on one TCP connection
IDLE_SECONDS = 10.0
MAX_QUERY = 4096
READ_AT_ONCE = 256  # datagrams in one turn of the loop
FORWARD_AT_ONCE = 8
MAX_WAITING = 4096  # foreign queries that nobody has been asked yet; more are answered with SERVFAIL
RECEIVE_BUFFER = 1024 * 1024  # or what the kernel allows

Address = tuple[str, int]
_log = logs.get_logger("names")


class NameService:
    """Answers queries of this machine: ours from the `Responder`, others through the `Forwarder`."""

    def __init__(self, responder: Responder, forwarder: Forwarder, tasks: Tasks) -> None:
        self._responder = responder
        self._forwarder = forwarder
        self._tasks = tasks
        self.connections = 0

    def answer(self, query: bytes) -> bytes | Foreign | None:
        """As `Responder.answer`; a question that only comes back to us over a loop is reported."""
        answer = self._responder.answer(query)
        # Rare, so it is looked for only where an answer is a denial of ours; the packed bytes hold the domain's first label in any case.
        if isinstance(answer, bytes) and b"\x0aloop-check" in query:
            question = read_question(query)
            if question is not None and question.name is not None and question.name.endswith("." + LOOP_DOMAIN):
                self._forwarder.saw_probe(question.name)
        return answer

    def forward(self, query: bytes, foreign: Foreign, deliver: Deliver) -> None:
        """Ask others on behalf of a UDP client; `deliver` sends it the answer."""
        self._forwarder.forward(query, foreign.question, deliver)

    def forward_stream(self, query: bytes, foreign: Foreign, connection: "_StreamProtocol") -> None:
        """Ask others on behalf of a TCP client."""
        if self._tasks.is_open:
            self._tasks.start("forwarding", self._forward_stream(query, foreign, connection))

    async def _forward_stream(self, query: bytes, foreign: Foreign, connection: "_StreamProtocol") -> None:
        connection.send(await self._forwarder.forward_stream(query, foreign.question))


def _is_of_this_machine(client: Address) -> bool:
    """Whether the sender is a loopback address: our listener is bound to one, so only a forged or re-routed packet is not (T14)."""
    return client[0].startswith("127.")  # the listener is IPv4, and the kernel spells it


class _Datagrams:
    """DNS over UDP, on a bound socket that does not block.

    All that has come is read at once and ours is answered; what others are to be asked waits here. The kernel's own buffer holds a few hundred
    datagrams only, and to ask takes many times as long as to read: a program that resolves a thousand names at once would lose most of them.
    """

    def __init__(self, service: NameService, own: socket.socket) -> None:
        self._service = service
        self._socket = own
        self._foreign: deque[tuple[bytes, Foreign, Address]] = deque()
        self._is_asking = False  # whether the loop will come to it
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(own, self._read)

    def close(self) -> None:
        """Answer no more."""
        self._loop.remove_reader(self._socket)
        self._foreign.clear()
        self._socket.close()

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                query, client = self._socket.recvfrom(MAX_QUERY)
            except OSError:
                break  # nothing more, or news that a client did not take its answer
            if _is_of_this_machine(client):
                try:
                    self._take(query, client)
                except Exception as error:  # noqa: BLE001 - a defect loses one answer, not all names
                    _log.error("a query could not be answered", exc_info=error)
        self._go_on()

    def _take(self, query: bytes, client: Address) -> None:
        answer = self._service.answer(query)
        if isinstance(answer, Foreign):
            if len(self._foreign) < MAX_WAITING:
                self._foreign.append((query, answer, client))
            else:
                self._send(client, failure(query, dns.rcode.SERVFAIL, answer.question))
        elif answer is not None:
            self._send(client, answer)

    def _go_on(self) -> None:
        if self._foreign and not self._is_asking:
            self._is_asking = True
            self._loop.call_soon(self._ask_others)

    def _ask_others(self) -> None:
        self._is_asking = False
        for _ in range(min(FORWARD_AT_ONCE, len(self._foreign))):
            query, foreign, client = self._foreign.popleft()
            try:
                self._service.forward(query, foreign, functools.partial(self._send, client))
            except Exception as error:  # noqa: BLE001 - a defect loses one answer, not all names
                _log.error("a query could not be passed on", exc_info=error)
        self._go_on()

    def _send(self, client: Address, answer: bytes) -> None:
        try:
            self._socket.sendto(answer, client)
        except OSError as error:  # also after our end
            _log.debug("a client did not take its answer", error=str(error))


class _StreamProtocol(asyncio.Protocol):
    """DNS over TCP: each message prefixed by its 16-bit length; several may be in flight (RFC 7766)."""

    def __init__(self, service: NameService) -> None:
        self._service = service
        self._received = bytearray()
        self._pending = 0
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._service.connections += 1
        if self._service.connections > MAX_CONNECTIONS or not _is_of_this_machine(transport.get_extra_info("peername")):
            self._transport.abort()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.connections -= 1
        if self._idle is not None:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._wait()
        self._take_messages()

    def send(self, answer: bytes) -> None:
        """The answer to a query that was forwarded."""
        self._pending -= 1
        if not self._transport.is_closing():
            self._write(answer)
            self._transport.resume_reading()
            self._take_messages()

    def _take_messages(self) -> None:
        while len(self._received) >= 2 and not self._transport.is_closing():
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                return
            if self._pending >= MAX_PENDING:
                self._transport.pause_reading()
                return
            query = bytes(self._received[2:end])
            del self._received[:end]
            self._take(query)

    def _take(self, query: bytes) -> None:
        answer = self._service.answer(query)
        if isinstance(answer, Foreign):
            self._pending += 1
            self._service.forward_stream(query, answer, self)
        elif answer is None:
            self._transport.abort()
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        self._transport.write(len(answer).to_bytes(2, "big") + answer)
        # A client that asks and never reads is not waited for.
        if self._transport.get_write_buffer_size() > 256 * 1024:
            self._transport.abort()

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._transport.abort)


@contextlib.asynccontextmanager
async def listen(service: NameService, address: str, port: int = 0) -> AsyncGenerator[int, None]:
    """Answer DNS at `address` over UDP and TCP, at `port` or at a privileged one of ours (0); gives the port. Raises `CodezeroError` when it is taken."""
    datagrams, streams = _bind(address, port)
    bound_port: int = streams.getsockname()[1]
    loop = asyncio.get_running_loop()
    udp = _Datagrams(service, datagrams)
    try:
        server = await loop.create_server(lambda: _StreamProtocol(service), sock=streams)
        try:
            yield bound_port
        finally:
            server.close()
    finally:
        udp.close()


def _bind(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port."""
    try:
        return at_own_port(lambda own: _bind_both(address, own)) if port == 0 else _bind_both(address, port)
    except OSError as error:
        raise CodezeroError(
            problems.HOST_CHANGE_FAILED,
            f"the DNS server cannot listen at {address}:{port}: {error.strerror}",
            fix=f"see who holds it: `ss -lunpt sport = :{port}`",
        ) from None


def _bind_both(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # After a restart old connections in TIME_WAIT must not keep us from the port; for UDP the option would allow a squatter.
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        streams.bind((address, port))
        datagrams.bind((address, streams.getsockname()[1]))
    except OSError:
        streams.close()
        datagrams.close()
        raise
    return datagrams, streams
