"""The System's own connection to the active Orchestrator: catalog, tunnels and ends of variants up, orders down, for as long as both live.

When another one becomes active the connection moves there: orders under way are finished first, as far as that takes no longer than a moment.

Orders are carried out side by side, a bounded number at once; more of them wait in the connection. Each is answered over the connection it came by.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from codezero import __version__
from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.system.forward import Orchestrator
from codezero.system.inventory import Inventory
from codezero.system.orchestrators import Place
from codezero.system.outbox import Outbox
from codezero.system.report import report_catalog
from codezero.system.serving.orders import Orders
from codezero.transport.messages import MessageStream
from codezero.transport.tls import TlsConnection
from codezero.wire.coordination import (
    PROTOCOL_VERSIONS,
    EndVariants,
    EntryReport,
    FromHub,
    FromSystem,
    Goodbye,
    OrderDone,
    Ping,
    PutVariant,
    RequestsCounted,
    SystemHello,
    ToSystem,
    TraceWanted,
    Welcome,
)

PING_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 15.0
HELLO_SECONDS: Final = 5.0
ORDERS_AT_ONCE: Final = 16
# Those under way when the connection moves or the System ends.
ORDERS_FINISH_SECONDS: Final = 3.0
COUNTS_SECONDS: Final = 10.0
COUNTS_IN_A_REPORT: Final = 1000

Stream = MessageStream[FromSystem, ToSystem]

_DECODER: Final[msgspec.msgpack.Decoder[ToSystem]] = msgspec.msgpack.Decoder(ToSystem)

_log = get_logger("coordination")


class OrchestratorLink:
    """Keeps the Orchestrator informed and does what it orders, and comes back after every loss. `connected` says how it is."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        inventory: Inventory,
        outbox: Outbox,
        orders: Orders | None = None,
        *,
        hub: Callable[[FromHub], None] | None = None,
        entry: Watched[tuple[str, int] | None] | None = None,
    ) -> None:
        """Without `orders` every order is refused. `hub` hears what the Hub says; `entry` is where laptops connect to, for the Hub."""
        self.connected = False
        self._orchestrator = orchestrator
        self._inventory = inventory
        self._outbox = outbox
        self._orders = orders
        self._hub = hub
        self._entry = entry
        self._incarnation = new_ulid()
        self._is_retired = False
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(first=0.2, most=10.0)
        async for place in self._orchestrator.active.changes():
            if place is not None:
                await self._stay(place, backoff)

    async def retire(self) -> None:
        """Take no more orders, finish those under way, and be connected to nobody from then on."""
        self._is_retired = True
        self._orchestrator.active.touch()
        if self.connected:
            await self._ended.wait()

    async def _stay(self, place: Place, backoff: Backoff) -> None:
        """Be connected to that Orchestrator until another one is active."""
        while not self._is_over(place):
            try:
                await self._report(place, backoff)
            except CodezeroError as error:
                _log.warning("Orchestrator lost", code=error.problem.code, reason=error.detail)
            except EOFError as error:
                _log.warning("Orchestrator lost", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next()):
                    await self._until_over(place)

    def _is_over(self, place: Place) -> bool:
        # While nobody is known to be active, the one that was may still answer.
        return self._is_retired or self._orchestrator.active.value not in (place, None)

    async def _until_over(self, place: Place) -> None:
        async for _ in self._orchestrator.active.changes():
            if self._is_over(place):
                return

    async def _report(self, place: Place, backoff: Backoff) -> None:
        stream = await self._connect(place)
        try:
            await stream.send(SystemHello(PROTOCOL_VERSIONS, __version__, self._incarnation), within=HELLO_SECONDS)
            welcome = await stream.receive(within=HELLO_SECONDS)
            _refuse_goodbye(welcome)
            if not isinstance(welcome, Welcome):
                raise CodezeroError(problems.PROTOCOL, f"{type(welcome).__name__} came instead of Welcome")
            backoff.reset()
            self.connected = True
            self._ended.clear()
            self._outbox.begin()
            self._orchestrator.stands(place)
            _log.info(
                "Orchestrator found", place=f"{place[0]}:{place[1]}", release=welcome.release, epoch=welcome.epoch
            )
            await self._exchange(place, stream)
        finally:
            self.connected = False
            self._orchestrator.is_lost()
            stream.close()
            self._ended.set()

    async def _connect(self, place: Place) -> Stream:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        connection: TlsConnection = await self._orchestrator.connect(place, lambda _: protocol)
        writer = asyncio.StreamWriter(connection, protocol, reader, asyncio.get_running_loop())
        return MessageStream(reader, writer, _DECODER)

    async def _exchange(self, place: Place, stream: Stream) -> None:
        async def send() -> None:
            # A failure to send shows the receiver the end; it alone says what went wrong.
            try:
                async with task_group("reports") as senders:
                    senders.start_service("catalog", report_catalog(self._inventory, cast("Any", stream)))
                    senders.start_service("tunnels", self._send_outbox(stream))
                    if self._hub is not None:
                        senders.start_service("counts", self._send_counts(stream))
                    if self._entry is not None:
                        senders.start_service("entry", _send_entry(stream, self._entry))
                    await _ping(stream)
            except* (CodezeroError, EOFError) as errors:
                _log.debug("sending ended", reason=str(errors.exceptions[0]))
                stream.abort()

        orders: set[asyncio.Task[None]] = set()
        async with task_group("orchestrator-link") as tasks:
            beside = tasks.start("send", send()), tasks.start("receive", self._receive(stream, tasks, orders))
            try:
                await self._until_over(place)
                _log.info("Orchestrator left", place=f"{place[0]}:{place[1]}", orders=len(orders))
                beside[1].cancel()
                if orders:
                    await asyncio.wait(orders, timeout=ORDERS_FINISH_SECONDS)
            finally:
                for task in (*beside, *orders):
                    task.cancel()

    async def _receive(self, stream: Stream, tasks: Tasks, orders: set[asyncio.Task[None]]) -> None:
        slots = asyncio.Semaphore(ORDERS_AT_ONCE)
        while True:
            message = await stream.receive(within=SILENT_SECONDS)
            _refuse_goodbye(message)
            if isinstance(message, TraceWanted):
                self._outbox.want_traces(message.on)
            elif isinstance(message, FromHub):
                if self._hub is not None:
                    self._hub(message)
            elif isinstance(message, PutVariant | EndVariants):
                await slots.acquire()
                order = tasks.start(f"order-{message.order}", self._carry_out(message, stream, slots))
                orders.add(order)
                order.add_done_callback(orders.discard)

    async def _carry_out(self, order: PutVariant | EndVariants, stream: Stream, slots: asyncio.Semaphore) -> None:
        try:
            done = _no_orders(order) if self._orders is None else await self._orders.execute(order)
            await stream.send(done, within=SILENT_SECONDS)
        except (CodezeroError, EOFError) as error:
            _log.debug("answer not sent", order=order.order, reason=str(error))
            stream.abort()
        finally:
            slots.release()

    async def _send_outbox(self, stream: Stream) -> None:
        while True:
            for report in await self._outbox.take():
                await stream.send(report, within=SILENT_SECONDS)

    async def _send_counts(self, stream: Stream) -> None:
        while True:
            await asyncio.sleep(COUNTS_SECONDS)
            counts = self._outbox.take_counts()
            for first in range(0, len(counts), COUNTS_IN_A_REPORT):
                part = RequestsCounted(counts[first : first + COUNTS_IN_A_REPORT])
                await stream.send(part, within=SILENT_SECONDS)


async def _send_entry(stream: Stream, entry: Watched[tuple[str, int] | None]) -> None:
    async for place in entry.changes():
        if place is not None:
            await stream.send(EntryReport(*place), within=SILENT_SECONDS)


async def _ping(stream: Stream) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await stream.send(Ping(), within=PING_SECONDS)


def _no_orders(order: PutVariant | EndVariants) -> OrderDone:
    return OrderDone(order.order, problems.SERVE_FAILED.code, "this System sees no cluster it could change")


def _refuse_goodbye(message: ToSystem) -> None:
    if isinstance(message, Goodbye):
        problem = problems.ALL.get(message.code, problems.UNREACHABLE)
        raise CodezeroError(problem, f"the Orchestrator sent this System away: {message.detail}")
