"""A small DNS server over UDP and TCP around a function that answers; the sandbox's internet and cluster have one each."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode

from codezero.kit import logs
from codezero.kit.tasks import Tasks, task_group

# Gives the answer to a query with exactly one question.
Answer = Callable[[dns.message.Message], Awaitable[dns.message.Message]]

_PLAIN_LIMIT = 512
_MOST_QUERIES = 512
_TCP_DEADLINE = 10.0
_log = logs.get_logger("name-server")


@asynccontextmanager
async def serving(answer: Answer, *, datagrams: socket.socket, listener: socket.socket) -> AsyncGenerator[None, None]:
    """Answer queries on the two bound sockets while the block lasts; they are closed with it."""
    loop = asyncio.get_running_loop()
    async with task_group("name-server") as tasks:
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(answer, tasks), sock=datagrams)
        server = await asyncio.start_server(lambda reader, writer: _serve_stream(answer, reader, writer), sock=listener)
        try:
            yield
        finally:
            transport.close()
            server.close()


def bound_sockets(address: str, port: int = 53) -> tuple[socket.socket, socket.socket]:
    """A UDP and a listening TCP socket of the current network namespace."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for each in (datagrams, listener):
        each.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    datagrams.bind((address, port))
    listener.bind((address, port))
    listener.listen(128)
    return datagrams, listener


async def answered(answer: Answer, content: bytes, *, stream: bool) -> bytes | None:
    """The answer to the bytes of a query; `None` for bytes that deserve none."""
    try:
        query = dns.message.from_wire(content)
    except dns.exception.DNSException:
        return None
    if query.flags & dns.flags.QR or len(query.question) != 1 or query.opcode() != dns.opcode.QUERY:
        return None
    try:
        reply = await answer(query)
    except (dns.exception.DNSException, OSError, TimeoutError) as error:
        _log.warning("query failed", name=str(query.question[0].name), error=str(error))
        reply = dns.message.make_response(query, recursion_available=True)
        reply.set_rcode(dns.rcode.SERVFAIL)
    limit = 65535 if stream else max(_PLAIN_LIMIT, query.payload)
    try:
        return reply.to_wire(max_size=limit)
    except dns.exception.TooBig:
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer, tasks: Tasks) -> None:
        self._answer = answer
        self._tasks = tasks
        self._waiting = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        # Too many at once are lost, as on any busy server.
        if self._waiting < _MOST_QUERIES and self._tasks.is_open:
            self._waiting += 1
            self._tasks.start("query", self._reply(data, addr))

    async def _reply(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            reply = await answered(self._answer, data, stream=False)
        finally:
            self._waiting -= 1
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, address)


async def _serve_stream(answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            async with asyncio.timeout(_TCP_DEADLINE):
                size = int.from_bytes(await reader.readexactly(2))
                reply = await answered(answer, await reader.readexactly(size), stream=True)
            if reply is None:
                return
            writer.write(len(reply).to_bytes(2) + reply)
            await writer.drain()
    except (OSError, EOFError, TimeoutError):
        return  # the client left or fell asleep
    finally:
        writer.close()
