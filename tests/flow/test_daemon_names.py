"""The DNS server between real sockets: our names, and foreign ones by way of the machine's servers, good and bad."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from codezero.kit.tasks import task_group
from codezero.local.daemon import dns_server, forwarding
from codezero.local.daemon.forwarding import Forwarder, Upstream
from codezero.local.daemon.names import NameTable, Responder

BURST = 1500

Behaviour = Callable[[bytes], list[bytes]]


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """A name server of the machine that behaves as told; UDP and TCP."""

    behaviour: Behaviour
    asked: list[bytes] = field(default_factory=list)
    sources: set[tuple[str, int]] = field(default_factory=set)
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1#{self.port}"

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.append(data)
        self.sources.add(addr)
        for answer in self.behaviour(data):
            self.transport.sendto(answer, addr)

    async def serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                for answer in self.behaviour(query):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def good(address: str = "192.0.2.1") -> Behaviour:
    def answer(query: bytes) -> list[bytes]:
        message = dns.message.from_wire(query)
        response = dns.message.make_response(message)
        response.answer.append(dns.rrset.from_text(message.question[0].name, 300, "IN", "A", address))
        return [response.to_wire()]

    return answer


def fails(code: dns.rcode.Rcode) -> Behaviour:
    def answer(query: bytes) -> list[bytes]:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.set_rcode(code)
        return [response.to_wire()]

    return answer


def silent(_query: bytes) -> list[bytes]:
    return []


@asynccontextmanager
async def name_server(behaviour: Behaviour) -> AsyncGenerator[NameServer, None]:
    server = NameServer(behaviour)
    transport, streams = await _on_one_port(server)
    try:
        yield server
    finally:
        streams.close()
        transport.close()


async def _on_one_port(server: NameServer) -> tuple[asyncio.DatagramTransport, asyncio.Server]:
    """UDP and TCP on one port, which for TCP may happen to be some connection's own: then the next one."""
    loop = asyncio.get_running_loop()
    for attempt in range(20):
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
        server.port = transport.get_extra_info("sockname")[1]
        try:
            return transport, await asyncio.start_server(server.serve_stream, "127.0.0.1", server.port)
        except OSError:
            transport.close()
            if attempt == 19:
                raise
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    """A client that does not wait for answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        yield client


async def taken(client: socket.socket) -> bytes:
    """The next answer."""
    async with asyncio.timeout(20):
        return await asyncio.get_running_loop().sock_recv(client, 4096)


@dataclass
class OurServer:
    forwarder: Forwarder
    table: NameTable
    port: int
    loops: list[Upstream]

    async def ask(self, name: str, kind: str = "A", *, over: str = "udp", **options: object) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        how = dns.asyncquery.udp if over == "udp" else dns.asyncquery.tcp
        return await how(query, "127.0.0.1", port=self.port, timeout=10)


@pytest.fixture
async def ours() -> AsyncGenerator[OurServer, None]:
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(task_group("test"))
        table = NameTable()
        table.add({"orders.shop": "127.73.1.2"})
        loops: list[Upstream] = []
        forwarder = Forwarder(on_loop=loops.append)
        service = dns_server.NameService(Responder(table), forwarder, tasks)
        port = await stack.enter_async_context(dns_server.listen(service, "127.0.0.1"))
        stack.callback(forwarder.close)
        yield OurServer(forwarder, table, port, loops)


@pytest.mark.parametrize("over", ["udp", "tcp"])
async def test_our_names_and_foreign_names(ours: OurServer, over: str) -> None:
    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])

        assert (await ours.ask("orders.shop", over=over)).answer[0][0].to_text() == "127.73.1.2"
        assert (await ours.ask("example.com", over=over)).answer[0][0].to_text() == "192.0.2.1"


async def test_foreign_queries_travel_unchanged_but_for_the_id(ours: OurServer) -> None:
    """EDNS options, flags and spelling are the client's business."""
    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        upstream.asked.clear()

        query = dns.message.make_query(
            "ExAmple.com", "A", use_edns=0, payload=1400, want_dnssec=True, flags=dns.flags.RD | dns.flags.CD
        )
        response = await dns.asyncquery.udp(query, "127.0.0.1", port=ours.port, timeout=10)

        assert response.id == query.id
        assert query.to_wire()[2:] in [asked[2:] for asked in upstream.asked]


async def test_ports_and_ids_upstream_are_fresh_each_time(ours: OurServer) -> None:
    """One who cannot see the query must guess 32 bits to forge the answer (T14)."""
    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        for number in range(20):
            await ours.ask(f"n{number}.example.com", id=7)

        assert len(upstream.sources) >= 15
        assert len({asked[:2] for asked in upstream.asked}) >= 15


async def test_forged_answers_are_not_believed(ours: OurServer) -> None:
    """Wrong id, wrong question, or not even an answer: the true one that comes later counts."""

    def forging(query: bytes) -> list[bytes]:
        forged = good("203.0.113.66")(query)[0]
        other = good("203.0.113.66")(query[:12] + b"\5other\3org\0\0\1\0\1")[0]
        return [bytes([query[0] ^ 1]) + forged[1:], other, query, forged[:11], b"", *good()(query)]

    async with name_server(forging) as upstream:
        ours.forwarder.set_upstreams([upstream.address])

        assert (await ours.ask("example.com", use_edns=False)).answer[0][0].to_text() == "192.0.2.1"


async def test_second_server_helps_when_the_first_is_silent(ours: OurServer) -> None:
    async with name_server(silent) as first, name_server(good()) as second:
        ours.forwarder.set_upstreams([first.address, second.address])

        assert (await ours.ask("example.com")).answer


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_second_server_helps_when_the_first_fails(ours: OurServer, code: dns.rcode.Rcode) -> None:
    async with name_server(fails(code)) as first, name_server(good()) as second:
        ours.forwarder.set_upstreams([first.address, second.address])

        assert (await ours.ask("example.com")).answer


async def test_denial_of_the_first_server_counts(ours: OurServer) -> None:
    """Asking on after NXDOMAIN would make every typo ask every server."""
    async with name_server(fails(dns.rcode.NXDOMAIN)) as first, name_server(good()) as second:
        ours.forwarder.set_upstreams([first.address, second.address])

        assert (await ours.ask("example.com")).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("over", ["udp", "tcp"])
async def test_nobody_there_is_a_quick_failure(ours: OurServer, over: str) -> None:
    """A refused port is known at once; the program's next step should not wait (R20)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    ours.forwarder.set_upstreams([f"127.0.0.1#{port}"])

    assert (await ours.ask("example.com", over=over)).rcode() == dns.rcode.SERVFAIL


async def test_silence_ends_in_a_failure(ours: OurServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 0.2)
    async with name_server(silent) as upstream:
        ours.forwarder.set_upstreams([upstream.address])

        assert (await ours.ask("example.com")).rcode() == dns.rcode.SERVFAIL
        assert ours.forwarder.in_flight <= 1


async def test_lost_datagram_is_sent_again(ours: OurServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "REPEAT_SECONDS", 0.05)
    seen: set[bytes] = set()

    def loses_first(query: bytes) -> list[bytes]:
        if query in seen:
            return good()(query)
        seen.add(query)
        return []

    async with name_server(loses_first) as upstream:
        ours.forwarder.set_upstreams([upstream.address])

        assert (await ours.ask("example.com")).answer


async def test_server_that_asks_us_is_left_out_and_named(ours: OurServer) -> None:
    """A cluster or cache on the same machine that forwards to us must not make a loop (T14, R18)."""
    loop = asyncio.get_running_loop()

    def asks_us(query: bytes) -> list[bytes]:
        server.transport.sendto(query, ("127.0.0.1", ours.port))
        return []

    async with name_server(asks_us) as server, name_server(good()) as other:
        ours.forwarder.set_upstreams([server.address, other.address])
        deadline = loop.time() + 5
        while not ours.loops and loop.time() < deadline:
            await asyncio.sleep(0.01)

        assert [str(found) for found in ours.loops] == [server.address]
        assert [str(found) for found in ours.forwarder.upstreams] == [other.address]


async def test_loop_does_not_multiply_queries(ours: OurServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a loop that is not recognised costs one query, not a storm."""
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 0.3)

    def asks_us(query: bytes) -> list[bytes]:
        for _ in range(3):
            server.transport.sendto(query, ("127.0.0.1", ours.port))
        return []

    async with name_server(asks_us) as server:
        ours.forwarder.set_upstreams([server.address])
        ours.forwarder._probes.clear()
        await ours.ask("example.com")

        assert len([asked for asked in server.asked if b"example" in asked and not asked[2] & 0x80]) <= 2


async def test_ourselves_are_never_asked(ours: OurServer) -> None:
    ours.forwarder.set_upstreams(
        ["127.72.0.53", f"127.0.0.1#{ours.port}", "rubbish", "1.2.3.4#x", "::1#99999"], own_ports=[ours.port]
    )

    assert ours.forwarder.upstreams == ()
    assert (await ours.ask("example.com")).rcode() == dns.rcode.SERVFAIL


async def test_equal_questions_share_one_exchange(ours: OurServer) -> None:
    async with name_server(silent) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        query = dns.message.make_query("example.com", "A", id=1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", ours.port))
            for _ in range(200):
                client.send(query.to_wire())
            await ours.ask("orders.shop")

        assert len([asked for asked in upstream.asked if b"example" in asked]) <= 2


async def test_queries_in_flight_are_bounded(ours: OurServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MAX_IN_FLIGHT", 10)
    async with name_server(silent) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        with asking(ours.port) as client:
            for number in range(100):
                client.send(dns.message.make_query(f"n{number}.example.com", "A").to_wire())
            refused = [await taken(client) for _ in range(91)]  # with the probe for loops ten are under way

        assert {dns.message.from_wire(answer).rcode() for answer in refused} == {dns.rcode.SERVFAIL}
        assert ours.forwarder.in_flight == 10


async def test_a_burst_of_foreign_queries_is_answered(ours: OurServer) -> None:
    """A crawler, a browser with all its tabs, a build: far more at once than the kernel keeps for us."""

    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        with asking(ours.port) as client:
            for number in range(BURST):
                client.send(dns.message.make_query(f"n{number}.example.com", "A", id=number).to_wire())
                if number % 100 == 99:
                    await asyncio.sleep(0)  # the server is in this process
            answers = [dns.message.from_wire(await taken(client)) for _ in range(BURST)]

        assert {answer.id for answer in answers} == set(range(BURST))


async def test_a_query_that_fails_within_us_is_the_only_one(ours: OurServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect may lose an answer; it must not lose the machine its names."""
    forward, failed = ours.forwarder.forward, list[bytes]()

    def fail_once(query: bytes, *rest: Any) -> None:
        if not failed:
            failed.append(query)
            raise RuntimeError("a defect")
        forward(query, *rest)

    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        monkeypatch.setattr(ours.forwarder, "forward", fail_once)
        with asking(ours.port) as client:
            for number in range(20):
                client.send(dns.message.make_query(f"n{number}.example.com", "A", id=number).to_wire())
            answers = {dns.message.from_wire(await taken(client)).id for _ in range(19)}

        assert len(answers) == 19


async def test_queries_beyond_the_queue_are_failed_at_once(ours: OurServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is told can ask again; one that is not waits."""
    monkeypatch.setattr(dns_server, "MAX_WAITING", 10)
    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        with asking(ours.port) as client:
            for number in range(100):
                client.send(dns.message.make_query(f"n{number}.example.com", "A", id=number).to_wire())
            answers = [dns.message.from_wire(await taken(client)) for _ in range(100)]

        codes = Counter(answer.rcode() for answer in answers)
        assert codes[dns.rcode.SERVFAIL] >= 50
        assert codes[dns.rcode.NOERROR] >= 10


async def test_our_names_do_not_wait_behind_foreign_ones(ours: OurServer) -> None:
    """What we know is answered while others have yet to be asked."""
    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        with asking(ours.port) as client:
            for number in range(100):
                client.send(dns.message.make_query(f"n{number}.example.com", "A", id=number).to_wire())
            client.send(dns.message.make_query("orders.shop", "A", id=BURST).to_wire())

            assert dns.message.from_wire(await taken(client)).id == BURST


async def test_tcp_clients_that_say_nonsense_are_dropped(ours: OurServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ours.port)
    writer.write(b"\0\5GET /")

    assert await reader.read() == b""
    writer.close()


async def test_many_queries_on_one_tcp_connection(ours: OurServer) -> None:
    """Answers may come in any order; none is lost."""
    async with name_server(good()) as upstream:
        ours.forwarder.set_upstreams([upstream.address])
        reader, writer = await asyncio.open_connection("127.0.0.1", ours.port)
        for number in range(40):
            query = dns.message.make_query("example.com" if number % 2 else "orders.shop", "A", id=number).to_wire()
            writer.write(len(query).to_bytes(2, "big") + query)
        ids: set[int] = set()
        while len(ids) < 40:
            answer = await asyncio.wait_for(reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")), 10)
            ids.add(dns.message.from_wire(answer).id)
        writer.close()

        assert ids == set(range(40))
