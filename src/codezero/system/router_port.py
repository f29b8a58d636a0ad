"""What Routers say on the System's port 8801 beside variants' bytes: how they join, and the stream by which they get their plans.

A Router proves itself by its ServiceAccount's token once an hour (`join`), and by the certificate it got for that from then on (`routes`). A
plan is that of the service in the certificate, whatever else the Router says.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography import x509

from codezero import __version__
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import Workload
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system import signing
from codezero.system.serving.serves import Serves
from codezero.system.signing import Reviewer
from codezero.system.status_writer import StatusWriter
from codezero.transport import identity
from codezero.transport.identity import Identity
from codezero.transport.messages import MessageStream
from codezero.transport.tls import TlsConnection
from codezero.wire.route_plan import to_wire
from codezero.wire.router import (
    MAX_MESSAGE,
    PING_SECONDS,
    PROTOCOL_VERSIONS,
    SILENT_SECONDS,
    AccessRecords,
    FromRouter,
    Join,
    PlanApplied,
    PlanSent,
    Refusal,
    RouterHello,
    RouterPing,
    RouterWelcome,
    ToRouter,
)
from codezero.wire.tracing import Direction, TraceRecord

HELLO_SECONDS: Final = 5.0
# A token and a certificate request.
JOIN_SIZE: Final = 40 * 1024
# Each is a question to the API server. A Router joins once an hour; one that is started again and again at its start.
JOIN_BURST: Final = 20
JOINS_PER_SECOND: Final = 1.0
JOINS_AT_ONCE: Final = 32
REMEMBERED_ADDRESSES: Final = 4096
# A service has a few Router pods; while a Deployment is rolled out twice as many.
MAX_STREAMS: Final = 4000
MAX_STREAMS_OF_A_SERVICE: Final = 64
REFUSAL_SECONDS: Final = 2.0
REFUSAL_READS: Final = 64

Stream = MessageStream[ToRouter, FromRouter]
Records = Callable[[ServiceRef, AccessRecords], None]

_DECODER: Final[msgspec.msgpack.Decoder[FromRouter]] = msgspec.msgpack.Decoder(FromRouter)

_log = get_logger("routers")


@dataclass(eq=False, slots=True)
class _Router:
    """A Router whose stream of routes stands, and the newest revision it routes by."""

    service: ServiceRef
    pod: str
    applied: int | None = None


class RouterPort:
    """Lets Routers join and keeps them informed. `reviewer` None: nobody can join. `records` hears what they tell about requests."""

    def __init__(
        self,
        *,
        serves: Serves,
        identities: Watched[Identity | None],
        reviewer: Reviewer | None,
        records: Records,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.joined = 0
        self.refused: Counter[str] = Counter()
        self._serves = serves
        self._identities = identities
        self._reviewer = reviewer
        self._records = records
        self._clock = clock
        self._steady = steady
        self._allowance: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._joining = 0
        self._routers: dict[ServiceRef, set[_Router]] = {}
        self._reported: dict[ServiceRef, int] = {}
        self._writer = StatusWriter("routers", self._write_applied)
        self._tasks: Tasks | None = None

    @property
    def routers(self) -> int:
        """How many Routers get their plans from here."""
        return sum(map(len, self._routers.values()))

    async def run(self) -> None:
        """Keep connections going until cancelled."""
        async with task_group("routers") as tasks:
            self._tasks = tasks
            tasks.start_service("applied", self._writer.run())
            await asyncio.get_running_loop().create_future()

    def join(self, connection: TlsConnection) -> asyncio.BaseProtocol:
        """The owner of a connection that wants to join."""
        return self._owner(connection, self._join)

    def routes(self, connection: TlsConnection) -> asyncio.BaseProtocol:
        """The owner of a connection that wants routes."""
        return self._owner(connection, self._routes)

    def _owner(self, connection: TlsConnection, converse: Callable[[TlsConnection, Stream], Any]) -> asyncio.Protocol:
        reader = asyncio.StreamReader()

        def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._tasks is None or not self._tasks.is_open:
                connection.abort()
                return
            stream: Stream = MessageStream(reader, writer, _DECODER, limit=JOIN_SIZE)
            self._tasks.start("connection", self._guard(connection, stream, converse))

        return asyncio.StreamReaderProtocol(reader, start)

    async def _guard(
        self, connection: TlsConnection, stream: Stream, converse: Callable[[TlsConnection, Stream], Any]
    ) -> None:
        try:
            await converse(connection, stream)
        except CodezeroError as error:
            self.refused[error.problem.code] += 1
            _log.info("Router sent away", peer=connection.peer.address, code=error.problem.code, reason=error.detail)
            await _refuse(stream, error)
        except EOFError:
            pass  # it left
        except Exception:  # noqa: BLE001 - the edge of one connection
            # A defect in handling one peer's messages must not end everybody's connection.
            _log.exception("Router's connection failed", peer=connection.peer.address)
        finally:
            stream.close()

    def _own(self) -> Identity:
        own = self._identities.value
        if own is None:
            raise CodezeroError(problems.TUNNEL_DOWN, "this System has no identity yet")
        return own

    # --- joining ------------------------------------------------------------------------------------------------------------------------

    async def _join(self, connection: TlsConnection, stream: Stream) -> None:
        message = await stream.receive(within=HELLO_SECONDS)
        if not isinstance(message, Join):
            raise CodezeroError(problems.PROTOCOL, f"{type(message).__name__} came instead of Join")
        self._require_allowance(connection.peer.address)
        if self._reviewer is None:
            raise CodezeroError(problems.UNREACHABLE, "this System has no cluster to ask about tokens")
        self._joining += 1
        try:
            namespace, account = await signing.account_of(self._reviewer, message.token)
        finally:
            self._joining -= 1
        service = self._serves.by_router(namespace, account)
        if service is None:
            raise CodezeroError(problems.BAD_IDENTITY, f"{namespace}/{account} is the account of no Router")
        joined = signing.sign(self._own(), service, message.request)
        connection.accept()
        self.joined += 1
        _log.info("Router joined", service=str(service), peer=connection.peer.address)
        await stream.send(joined, within=HELLO_SECONDS)

    def _require_allowance(self, address: str) -> None:
        now = self._steady()
        tokens, since = self._allowance.pop(address, (float(JOIN_BURST), now))
        tokens = min(JOIN_BURST, tokens + (now - since) * JOINS_PER_SECOND)
        allowed = tokens >= 1 and self._joining < JOINS_AT_ONCE
        self._allowance[address] = (tokens - allowed, now)
        if len(self._allowance) > REMEMBERED_ADDRESSES:
            self._allowance.popitem(last=False)
        if not allowed:
            raise CodezeroError(problems.TOO_MANY_STREAMS, "too many Routers join at once; try again in a moment")

    # --- routes -------------------------------------------------------------------------------------------------------------------------

    async def _routes(self, connection: TlsConnection, stream: Stream) -> None:
        service, expires = self._prove(connection)
        hello = await stream.receive(within=HELLO_SECONDS)
        if not isinstance(hello, RouterHello):
            raise CodezeroError(problems.PROTOCOL, f"{type(hello).__name__} came instead of RouterHello")
        common = set(hello.versions) & set(PROTOCOL_VERSIONS)
        if not common:
            raise CodezeroError(problems.VERSIONS, f"the System speaks versions {list(PROTOCOL_VERSIONS)} only")
        router = _Router(service, hello.pod[:253])
        self._enter(router)
        connection.accept()
        stream.limit = MAX_MESSAGE
        _log.info("Router connected", service=str(service), pod=router.pod, release=hello.release)
        try:
            await stream.send(RouterWelcome(max(common), __version__), within=HELLO_SECONDS)
            async with asyncio.timeout(expires - self._clock()):
                await self._exchange(router, stream)
        except TimeoutError:
            raise CodezeroError(problems.BAD_IDENTITY, "the Router's certificate has expired") from None
        finally:
            self._leave(router)
            _log.info("Router gone", service=str(service), pod=router.pod)

    def _prove(self, connection: TlsConnection) -> tuple[ServiceRef, float]:
        """Whose Router it is, and until when (UNIX time); raises `CodezeroError` (BAD_IDENTITY)."""
        certificate = connection.peer.certificate
        if certificate is None:
            raise CodezeroError(problems.BAD_IDENTITY, "the Router showed no certificate")
        workload = identity.workload_of(certificate)
        if workload != Workload(self._own().teamspace, "router", workload.service) or workload.service is None:
            raise CodezeroError(problems.BAD_IDENTITY, "the peer is no Router of this Teamspace")
        expires = x509.load_der_x509_certificate(certificate).not_valid_after_utc.timestamp()
        return ServiceRef.parse(workload.service), expires

    def _enter(self, router: _Router) -> None:
        same = self._routers.get(router.service, set[_Router]())
        if len(same) >= MAX_STREAMS_OF_A_SERVICE or self.routers >= MAX_STREAMS:
            raise CodezeroError(problems.TOO_MANY_STREAMS, "too many Routers are connected already")
        self._routers.setdefault(router.service, same).add(router)

    def _leave(self, router: _Router) -> None:
        same = self._routers[router.service]
        same.discard(router)
        if same:
            self._note_applied(router.service)
        else:
            del self._routers[router.service]
            self._reported.pop(router.service, None)

    async def _exchange(self, router: _Router, stream: Stream) -> None:
        async def send() -> None:
            # A failure to send shows the receiver the end; it alone says what went wrong.
            try:
                async with task_group("router") as senders:
                    senders.start_service("plans", self._send_plans(router.service, stream))
                    await _ping(stream)
            except* (CodezeroError, EOFError) as errors:
                _log.debug("sending ended", reason=str(errors.exceptions[0]))
                stream.abort()

        async with task_group("routes") as tasks:
            sending = tasks.start("send", send())
            try:
                while True:
                    self._hear(router, await stream.receive(within=SILENT_SECONDS))
            finally:
                sending.cancel()

    async def _send_plans(self, service: ServiceRef, stream: Stream) -> None:
        sent: object = None
        with self._serves.subscribe(service) as changes:
            while True:
                # The newest alone: what changes while one is sent is seen as one afterwards.
                plan = self._serves.plan(service)
                if plan is not None and plan != sent:
                    await stream.send(PlanSent(plan[0], to_wire(plan[1])), within=SILENT_SECONDS)
                    sent = plan
                await changes.next()

    def _hear(self, router: _Router, message: FromRouter) -> None:
        match message:
            case RouterPing():
                pass
            case PlanApplied(problem=""):
                router.applied = message.revision
                self._note_applied(router.service)
            case PlanApplied():
                _log.warning("plan not applied", service=str(router.service), pod=router.pod, why=message.problem)
            case AccessRecords():
                self._records(router.service, self._checked(router.service, message))
            case Join() | RouterHello():
                raise CodezeroError(problems.PROTOCOL, f"{type(message).__name__} has no place in a stream of routes")

    # --- what Routers say ---------------------------------------------------------------------------------------------------------------

    def _checked(self, service: ServiceRef, told: AccessRecords) -> AccessRecords:
        """The records about variants of the Router's own service, under the names of their owners; the others count as dropped."""
        kept = tuple(one for record in told.records if (one := self._owned(service, record)) is not None)
        return AccessRecords(kept, max(0, told.dropped) + len(told.records) - len(kept))

    def _owned(self, service: ServiceRef, record: TraceRecord) -> TraceRecord | None:
        found = self._serves.variant(record.variant)
        if found is None or found[0] != service or record.service != service or record.direction != Direction.SERVE:
            return None
        return msgspec.structs.replace(record, user=found[1].user)

    def _note_applied(self, service: ServiceRef) -> None:
        lowest = self._lowest(service)
        if lowest is not None and lowest != self._reported.get(service):
            self._writer.mark(service)

    def _lowest(self, service: ServiceRef) -> int | None:
        """The revision that all Routers of a service here have applied; None while one has applied none."""
        applied = [router.applied for router in self._routers.get(service, ())]
        known = [one for one in applied if one is not None]
        return min(known) if known and len(known) == len(applied) else None

    async def _write_applied(self, service: ServiceRef) -> None:
        lowest = self._lowest(service)
        if lowest is None or lowest == self._reported.get(service):
            return
        await self._serves.routers_applied(service, lowest)
        if service in self._routers:
            self._reported[service] = lowest


async def _ping(stream: Stream) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await stream.send(RouterPing(), within=PING_SECONDS)


async def _refuse(stream: Stream, error: CodezeroError) -> None:
    # What does not get better by coming back as one is.
    retry = error.problem not in (problems.VERSIONS, problems.PROTOCOL, problems.BAD_REQUEST)
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            await stream.send(Refusal(error.problem.code, error.detail[:1000], retry))
            # Closing on bytes that nobody has read would reset the connection, and the peer would never see why.
            for _ in range(REFUSAL_READS):
                if not await stream.reader.read(64 * 1024):
                    break
    except (CodezeroError, EOFError, TimeoutError, OSError):
        pass  # it did not want to hear it
