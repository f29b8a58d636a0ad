"""Split DNS, the asking half: foreign queries go unchanged to the machine's own name servers, and their answers back.

Only the id is changed, to an unguessable one, and each attempt has a socket (so a source port) of its own; an answer counts only when it comes from
the server asked and repeats id and question (T14). Nothing is cached. Equal queries in flight share one exchange, which also ends any loop over
a name server that asks us: the query that comes back waits for itself instead of being asked again.
"""

import asyncio
import errno
import ipaddress
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import dns.message
import dns.rcode

from codezero.kit import logs
from codezero.local.daemon.names import HEADER, LOOP_DOMAIN, Question, failure, read_question
from codezero.model.addresses import NETWORK

DEADLINE_SECONDS = 2.5  # R20: an answer, if only SERVFAIL, within 3 s
STREAM_DEADLINE_SECONDS = 5.0
HEDGE_SECONDS = 0.4  # then the next server is asked too
REPEAT_SECONDS = 1.2  # then a lost datagram is sent again
MAX_IN_FLIGHT = 1000
MAX_WAITERS = 32
MAX_PER_QUESTION = 8
MAX_UPSTREAMS = 3  # as glibc
_PROBE_SECONDS = 60.0

Deliver = Callable[[bytes], None]
_log = logs.get_logger("names")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A name server of the machine."""

    family: socket.AddressFamily
    address: tuple[str, int] | tuple[str, int, int, int]

    def __str__(self) -> str:
        return f"{self.address[0]}#{self.address[1]}"

    @staticmethod
    def parse(text: str) -> "Upstream | None":
        """The server `address` or `address#port` names, IPv4 or IPv6 (with its zone); None when it is no address, or one of ours."""
        host, _, port_text = text.partition("#")
        try:
            port = int(port_text or 53)
            address = ipaddress.ip_address(host)
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        except (OSError, ValueError, OverflowError):
            return None
        if not 0 < port < 65536:  # which getaddrinfo would cut to size
            return None
        family, _, _, _, target = found[0]
        # The other forms of an address occur in Pythons built without IPv6 only.
        return None if address in NETWORK else Upstream(family, cast("tuple[str, int]", target))


class Forwarder:
    """Asks the machine's name servers. One event loop's own; `close` ends what is in flight."""

    def __init__(self, *, on_loop: Callable[[Upstream], None] = lambda _: None) -> None:
        """`on_loop` is told of a name server that turned out to ask us; it is left out from then on."""
        self._on_loop = on_loop
        self._upstreams: tuple[Upstream, ...] = ()
        self._exchanges: dict[bytes, _Exchange] = {}
        self._questions: Counter[tuple[str | None, int, int]] = Counter()
        self._probes: dict[str, Upstream] = {}
        self._probed_at = float("-inf")
        self._streams = 0

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The servers asked, in order."""
        return self._upstreams

    @property
    def in_flight(self) -> int:
        """How many exchanges wait for an answer."""
        return len(self._exchanges)

    def set_upstreams(self, servers: Sequence[str], *, own_ports: Sequence[int] = ()) -> None:
        """Ask these from now on, in this order; ourselves (our range, or loopback at one of `own_ports`) left out."""
        parsed = [upstream for text in servers if (upstream := Upstream.parse(text)) is not None]
        ours = {("127.0.0.1", port) for port in own_ports}
        self._upstreams = tuple(dict.fromkeys(one for one in parsed if one.address[:2] not in ours))[:MAX_UPSTREAMS]
        self._probes = {}
        self._probe()

    def forward(self, query: bytes, question: Question, deliver: Deliver) -> None:
        """Ask; `deliver` is called once, with the answer or with SERVFAIL, unless so much waits already that the query is dropped."""
        key = query[2:]
        exchange = self._exchanges.get(key)
        if exchange is not None:
            if len(exchange.waiters) < MAX_WAITERS:
                exchange.waiters.append((query[:2], deliver))
            if time.monotonic() - self._probed_at > _PROBE_SECONDS:
                self._probe()
            return
        asked = (question.name, question.kind, question.kind_class)
        busy = len(self._exchanges) >= MAX_IN_FLIGHT or self._questions[asked] >= MAX_PER_QUESTION
        if busy or not self._upstreams:
            deliver(failure(query, dns.rcode.SERVFAIL, question))
            return
        self._start(query, question, self._upstreams, deliver)

    async def forward_stream(self, query: bytes, question: Question) -> bytes:
        """Ask over TCP, each server in turn; SERVFAIL when none answers."""
        answer = failure(query, dns.rcode.SERVFAIL, question)
        if self._streams >= MAX_IN_FLIGHT // 10:
            return answer
        self._streams += 1
        try:
            for upstream in self._upstreams:
                try:
                    async with asyncio.timeout(STREAM_DEADLINE_SECONDS / len(self._upstreams)):
                        return await _ask_by_stream(query, question, upstream)
                except (OSError, EOFError, TimeoutError):
                    continue
            return answer
        finally:
            self._streams -= 1

    def saw_probe(self, name: str) -> None:
        """A query below `LOOP_DOMAIN` has reached us: the server it was sent to asks us, directly or not."""
        looping = self._probes.pop(name.removesuffix("." + LOOP_DOMAIN), None)
        if looping is not None and looping in self._upstreams:
            self._upstreams = tuple(one for one in self._upstreams if one != looping)
            _log.warning("a name server of this machine asks us, so it is not asked any more", server=str(looping))
            self._on_loop(looping)

    def close(self) -> None:
        """Answer everything in flight with SERVFAIL."""
        for exchange in tuple(self._exchanges.values()):
            exchange.fail()

    def _probe(self) -> None:
        self._probed_at = time.monotonic()
        for upstream in self._upstreams:
            token = secrets.token_hex(8)
            self._probes[token] = upstream
            query = dns.message.make_query(f"{token}.{LOOP_DOMAIN}.", "TXT").to_wire()
            question = read_question(query)
            assert question is not None
            self._start(query, question, (upstream,), lambda _: None)

    def _start(self, query: bytes, question: Question, upstreams: Sequence[Upstream], deliver: Deliver) -> None:
        self._questions[question.name, question.kind, question.kind_class] += 1
        exchange = _Exchange(query, question, upstreams, self._finished)
        exchange.waiters.append((query[:2], deliver))
        self._exchanges[query[2:]] = exchange
        exchange.begin()

    def _finished(self, exchange: "_Exchange") -> None:
        self._exchanges.pop(exchange.query[2:], None)
        question = exchange.question
        asked = (question.name, question.kind, question.kind_class)
        self._questions[asked] -= 1
        if self._questions[asked] <= 0:
            del self._questions[asked]


class _Exchange:
    """One query on its way: asks server after server until one answers well, the deadline passes, or all failed."""

    def __init__(
        self,
        query: bytes,
        question: Question,
        upstreams: Sequence[Upstream],
        finished: "Callable[[_Exchange], None]",
    ) -> None:
        self.query = query
        self.question = question
        self.waiters: list[tuple[bytes, Deliver]] = []
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._to_ask = [*upstreams]
        self._open: dict[socket.socket, bytes] = {}
        self._best: bytes | None = None
        self._repeats_left = 1
        self._is_done = False
        self._timers: list[asyncio.TimerHandle] = []

    def begin(self) -> None:
        """Ask the first server."""
        self._timers.append(self._loop.call_later(DEADLINE_SECONDS, self.fail))
        self._timers.append(self._loop.call_later(REPEAT_SECONDS, self._repeat))
        self._ask_next()

    def fail(self) -> None:
        """End it with the best there is: a server's refusal, or our SERVFAIL."""
        self._finish(self._best or failure(self.query, dns.rcode.SERVFAIL, self.question))

    def _ask_next(self) -> None:
        while self._to_ask and not self._is_done:
            if self._ask(self._to_ask.pop(0)):
                if self._to_ask:
                    self._timers.append(self._loop.call_later(HEDGE_SECONDS, self._ask_next))
                return
        if not self._open and not self._is_done:
            # Not from within `forward`, whose caller has not seen the exchange yet.
            self._loop.call_soon(self.fail)

    def _ask(self, upstream: Upstream) -> bool:
        try:
            sender = socket.socket(upstream.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            return False  # no file descriptor is left
        try:
            # Connected: the kernel drops what others send, and says when nobody listens there.
            sender.connect(upstream.address)
            identity = secrets.token_bytes(2)
            sender.send(identity + self.query[2:])
        except OSError:
            sender.close()
            return False
        self._open[sender] = identity
        self._loop.add_reader(sender, self._readable, sender)
        return True

    def _repeat(self) -> None:
        for sender, identity in tuple(self._open.items()):
            try:
                sender.send(identity + self.query[2:])
            except OSError:
                self._failed(sender)

    def _readable(self, sender: socket.socket) -> None:
        try:
            answer = sender.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            self._failed(sender)
            return
        if not _answers(answer, self._open[sender], self.query, self.question):
            return
        code = answer[3] & 0x0F
        if code in {dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR}:
            self._best = self._best or answer
            self._failed(sender)
        else:
            self._finish(answer)

    def _failed(self, sender: socket.socket) -> None:
        self._close(sender)
        if self._to_ask:
            self._ask_next()
        elif not self._open:
            self.fail()

    def _finish(self, answer: bytes) -> None:
        if self._is_done:
            return
        self._is_done = True
        for timer in self._timers:
            timer.cancel()
        for sender in tuple(self._open):
            self._close(sender)
        self._finished(self)
        for identity, deliver in self.waiters:
            deliver(identity + answer[2:])

    def _close(self, sender: socket.socket) -> None:
        if self._open.pop(sender, None) is not None:
            self._loop.remove_reader(sender)
            sender.close()


def _answers(answer: bytes, identity: bytes, query: bytes, question: Question) -> bool:
    """Whether `answer` is one to our query: id, the answer bit, and the question as asked (servers may change the case of letters)."""
    return (
        len(answer) >= HEADER
        and answer[:2] == identity
        and bool(answer[2] & 0x80)
        and answer[4:6] == b"\0\1"
        and answer[HEADER : question.end - 4].lower() == query[HEADER : question.end - 4].lower()
        and answer[question.end - 4 : question.end] == query[question.end - 4 : question.end]
    )


async def _ask_by_stream(query: bytes, question: Question, upstream: Upstream) -> bytes:
    host, port = upstream.address[:2]
    reader, writer = await asyncio.open_connection(str(host), int(port), family=upstream.family)
    try:
        identity = secrets.token_bytes(2)
        writer.write(len(query).to_bytes(2, "big") + identity + query[2:])
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = await reader.readexactly(length)
    finally:
        writer.close()
    if not _answers(answer, identity, query, question):
        raise OSError(errno.EBADMSG, "the answer is not one to the query")
    return query[:2] + answer[2:]
