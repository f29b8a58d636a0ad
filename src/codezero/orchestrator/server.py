"""The Orchestrator's port 8900: Systems report here, and bring the laptops' messages. Only Systems of this Teamspace are let in.

Who a laptop is, the System says in `Forwarded`, from the certificate that the tunnel has proven.

Of several Orchestrators one is active: the one to which the Systems report (ADR 12). The others wait: they take no laptops, and what they knew when
they were active themselves they forget, for it is somebody else's to say by then which sessions are over.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from codezero import __version__
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.kit.watched import Watched
from codezero.model import access, problems
from codezero.model.ids import Device, SessionId, TeamspaceId, is_ulid, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import condition_from_parts, condition_parts
from codezero.model.services import ServiceRef, is_label
from codezero.model.sessions import PresenceState
from codezero.orchestrator.admission import Admission
from codezero.orchestrator.board import Board, Placed, Told
from codezero.orchestrator.fanout import PING_SECONDS, Fanout, Subscriber
from codezero.orchestrator.leases import DEFAULT_TTL_SECONDS, Leases
from codezero.orchestrator.links import SystemLink
from codezero.orchestrator.orders import Asker
from codezero.orchestrator.printable import printable
from codezero.orchestrator.serving import MAX_PARTS, MAX_PORTS, Owner
from codezero.orchestrator.traces import Traces
from codezero.orchestrator.variants import Variants
from codezero.transport import identity
from codezero.transport.messages import MessageStream
from codezero.transport.opinion import Opinion
from codezero.transport.tls import TlsConnection
from codezero.wire.control import AWAY_SECONDS
from codezero.wire.coordination import (
    PROTOCOL_VERSIONS,
    CatalogReport,
    ConsumeAssertion,
    ConsumeDecisions,
    DaemonHello,
    EntryReport,
    FromDaemon,
    FromHub,
    FromSystem,
    Goodbye,
    Leave,
    OrderDone,
    Ping,
    PolicyTold,
    RequestsCounted,
    ServeEnding,
    ServeWanted,
    SessionEnded,
    StreamRefused,
    SystemHello,
    ToDaemon,
    ToSystem,
    TraceReport,
    TraceWanted,
    TunnelReport,
    VariantEnded,
    Welcome,
)
from codezero.wire.forwarding import FirstMessage, Forwarded

HELLO_SECONDS: Final = 5.0
HELLO_SIZE: Final = 16 * 1024
SYSTEM_SILENT_SECONDS: Final = 3 * PING_SECONDS
LEASE_LOOK_SECONDS: Final = 1.0
# How often another's opinion is asked about what is served.
OPINION_SECONDS: Final = 30.0
# A laptop may be faster than the System that brings it.
ACTIVE_WITHIN_SECONDS: Final = 3.0
# Without Systems and laptops for so long; a System that is started anew is back earlier.
FORGET_SECONDS: Final = AWAY_SECONDS
GOODBYE_SECONDS: Final = 2.0
GOODBYE_READS: Final = 256
MAX_SESSIONS: Final = 10_000
MAX_SESSIONS_OF_A_DEVICE: Final = 8
MAX_CONSUMED: Final = 20_000
# Deciding about 20,000 services takes a tenth of a second of everybody's time, so a laptop may ask that once a second.
ASSERTED_A_SECOND: Final = 20_000
# Each costs a decision and perhaps a write in the cluster; people and scripts need fewer.
SERVES_A_SECOND: Final = 50

# A message of a Daemon may be an assertion of `MAX_CONSUMED` services.
_DAEMON_LIMIT: Final = 3 * 1024 * 1024

_FIRST: Final[msgspec.msgpack.Decoder[FirstMessage]] = msgspec.msgpack.Decoder(FirstMessage)
_FROM_SYSTEM: Final[msgspec.msgpack.Decoder[FromSystem]] = msgspec.msgpack.Decoder(FromSystem)
_FROM_DAEMON: Final[msgspec.msgpack.Decoder[FromDaemon]] = msgspec.msgpack.Decoder(FromDaemon)

_log = get_logger("orchestrator")


@dataclass(slots=True)
class _Attached:
    """A laptop's coordination stream, the only one of its session, and what the laptop asserted last."""

    subscriber: Subscriber
    stream: MessageStream[ToDaemon, FromDaemon]
    ended: asyncio.Event
    owner: Owner
    assertion: ConsumeAssertion | None = None


class Coordinator:
    """Holds the picture of one Teamspace and speaks with everybody about it. `clock` gives UNIX time, `steady` a time that never jumps."""

    def __init__(
        self,
        *,
        session_seconds: float = DEFAULT_TTL_SECONDS,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        told: Told | None = None,
        counted: Callable[[str, int, Placed | None], None] = lambda _variant, _requests, _placed: None,
        opinion: Opinion | None = None,
    ) -> None:
        """`opinion` is asked about serves that the policy allows. `told` hears what happens, as `Board` tells it; `counted` how many more requests a variant has answered, and what is known of it."""
        self.epoch = new_ulid()
        self.board = Board(told)
        self.admission = Admission(clock=clock)
        self._opinion = opinion or Opinion()
        self.fanout = Fanout(self.board)
        self.leases = Leases(ttl=session_seconds)
        # Whether Systems report here, and where laptops connect to as these say; for the channel to a Hub.
        self.activity: Watched[bool] = Watched(False)
        self.entry: Watched[tuple[str, int] | None] = Watched(None)
        self._told = told
        self._counted = counted
        # The newest of each kind, for Systems that connect later.
        self._from_hub: dict[type[FromHub], FromHub] = {}
        self._session_seconds = session_seconds
        self._clock = clock
        self._steady = steady
        self._teamspace: TeamspaceId | None = None
        self._attached: dict[SessionId, _Attached] = {}
        # Which System spoke last for a session's tunnel: only that one may say that it is down.
        self._speaker: dict[SessionId, int] = {}
        # How far a session had got in the activities when it left, to go on from there.
        self._activity_seen: dict[SessionId, int] = {}
        self._link_numbers = itertools.count()
        self._links: dict[int, SystemLink] = {}
        self.variants = Variants(self.board, self.admission, clock=clock, steady=steady)
        self.traces = Traces(self.variants.placed)
        self._active = asyncio.Event()
        # Whether no System ever reported since the picture began, and since when nobody is here any longer.
        self._is_blank = True
        self._alone_since: float | None = None
        self._streams: set[MessageStream[Any, Any]] = set()
        self._tasks: Tasks | None = None

    async def run(self) -> None:
        """Keep everything going until cancelled; connections live inside."""
        async with task_group("orchestrator") as tasks:
            self._tasks = tasks
            tasks.start_service("fan-out", self.fanout.run())
            tasks.start_service("opinions", self._keep_opinions())
            await self._watch_leases()

    def belongs_to(self, teamspace: TeamspaceId) -> bool:
        """Serve that Teamspace alone; tells whether its policy changes by that. Follow with `decide_again`."""
        self._teamspace = teamspace
        return self.admission.belongs_to(teamspace)

    def policy_read(self, content: bytes | None) -> bool:
        """Decide by this policy file from now on (None: there is none); tells whether something changed. Follow with `decide_again`."""
        return self.admission.read(content)

    async def decide_again(self) -> None:
        """Decide anew about everything asserted, and show everybody what they may see now."""
        for attached in list(self._attached.values()):
            self._show_view(attached.subscriber)
            if attached.assertion is not None:
                self._decide(attached, attached.assertion)
            # 2,000 laptops with thousands of services each: others want the loop in between.
            await asyncio.sleep(0)
        self.variants.look()
        self.fanout.changed()

    @property
    def systems(self) -> int:
        """How many Systems report."""
        return len(self._links)

    @property
    def laptops(self) -> int:
        """How many laptops are connected."""
        return len(self._attached)

    @property
    def is_active(self) -> bool:
        """Whether Systems report here, and not to another Orchestrator."""
        return bool(self._links)

    # --- the Hub ----------------------------------------------------------------------------------------------------------------------

    def pass_on(self, word: FromHub) -> None:
        """Tell all Systems what the Hub says, also those that connect later, for as long as this Orchestrator is active."""
        # A policy also while nobody is here to keep it: the Hub says the same one no second time.
        if isinstance(word, PolicyTold) or (self.activity.value and not isinstance(word, SessionEnded)):
            self._from_hub[type(word)] = word
        for link in self._links.values():
            link.pass_on(word)

    def end_session(self, session: SessionId, reason: str) -> bool:
        """End a laptop's session, its variants and its tunnel; whether there was one."""
        if self.board.device_of(session) is None:
            return False
        self._end(session, reason)
        self.pass_on(SessionEnded(session, reason))
        return True

    def end_variant(self, variant: str, reason: str) -> bool:
        """End a variant, whoever it belongs to; whether there was one."""
        is_there = self.variants.terminate(variant, reason)
        self.fanout.changed()
        return is_there

    def send_away(self) -> None:
        """Tell everybody who is still here to come back, which leads them to whoever is active then; this one ends."""
        error = CodezeroError(problems.TUNNEL_DOWN, "the Orchestrator is being stopped or replaced")
        for stream in tuple(self._streams):
            with contextlib.suppress(CodezeroError, EOFError):
                stream.send_nowait(_goodbye(error, retry=True))
            stream.close()

    # --- connections ----------------------------------------------------------------------------------------------------------------

    def connection(self, connection: TlsConnection) -> asyncio.Protocol:
        """The owner of a new connection to 8900."""
        reader = asyncio.StreamReader()

        def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._tasks is None or not self._tasks.is_open:
                connection.abort()
            else:
                self._tasks.start("connection", self._converse(connection, reader, writer))

        return asyncio.StreamReaderProtocol(reader, start)

    async def _converse(
        self, connection: TlsConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        stream: MessageStream[Any, FirstMessage] = MessageStream(reader, writer, _FIRST, limit=HELLO_SIZE)
        _expect_answers(connection)
        self._streams.add(stream)
        try:
            self._check_system(connection)
            first = await stream.receive(within=HELLO_SECONDS)
            connection.accept()
            match first:
                case SystemHello():
                    await self._system(first, MessageStream(reader, writer, _FROM_SYSTEM))
                case Forwarded():
                    await self._laptop(first, MessageStream(reader, writer, _FROM_DAEMON, limit=HELLO_SIZE))
                case _:
                    raise CodezeroError(problems.PROTOCOL, f"{type(first).__name__} is no first message")
        except CodezeroError as error:
            _log.info("connection refused", peer=connection.peer.address, code=error.problem.code, reason=error.detail)
            await _say_goodbye(stream, error)
        except EOFError:
            pass  # the peer left; whoever was waiting for it has cleaned up
        except Exception:  # noqa: BLE001 - the edge of one connection
            # A defect in handling one peer's messages must not end everybody's connection.
            _log.exception("connection failed", peer=connection.peer.address)
        finally:
            self._streams.discard(stream)
            writer.close()

    def _check_system(self, connection: TlsConnection) -> None:
        certificate = connection.peer.certificate
        if certificate is None:
            raise CodezeroError(problems.BAD_IDENTITY, "the peer showed no certificate")
        workload = identity.workload_of(certificate)
        if workload.teamspace != self._teamspace:
            raise CodezeroError(problems.BAD_IDENTITY, "the peer is a part of another Teamspace")
        if workload.role != "system":
            raise CodezeroError(problems.BAD_IDENTITY, f"the peer is the {workload.role}; only Systems may connect")

    # --- Systems --------------------------------------------------------------------------------------------------------------------

    async def _system(self, hello: SystemHello, stream: MessageStream[ToSystem, FromSystem]) -> None:
        version = _agree(hello.versions)
        number = next(self._link_numbers)
        await stream.send(Welcome(version, __version__, SessionId(hello.incarnation), self.epoch), within=HELLO_SECONDS)
        _log.info("System connected", link=number, release=hello.release, incarnation=hello.incarnation)
        link = self._links[number] = SystemLink(number, traced=self.traces.are_wanted)
        self._is_blank = False
        self.board.system_joined(number)
        self.variants.link_joined(link)
        for word in self._from_hub.values():
            link.pass_on(word)
        self._active.set()
        self.activity.set(True)
        try:
            async with _beside("orders", lambda: link.feed(stream), stream):
                while True:
                    self._hear_system(number, await stream.receive(within=SYSTEM_SILENT_SECONDS))
        finally:
            del self._links[number]
            if not self._links:
                self._active.clear()
                self.activity.set(False)
                # The Hub may say other things before this one is active again; the policy alone is known by its serial to be the newer one.
                self._from_hub = {kind: word for kind, word in self._from_hub.items() if isinstance(word, PolicyTold)}
            self.board.system_left(number, at=self._clock())
            self.variants.link_left(number)
            for session in [session for session, speaker in self._speaker.items() if speaker == number]:
                del self._speaker[session]
            self.fanout.changed()
            _log.info("System gone", link=number)

    def _hear_system(self, link: int, message: FromSystem) -> None:
        match message:
            case CatalogReport():
                self.board.catalog_reported(link, message, at=self._clock())
                self.fanout.changed()
            case TunnelReport(session=session, up=True):
                self._speaker[session] = link
            case TunnelReport(session=session):
                if self._speaker.get(session) == link:
                    del self._speaker[session]
                    self.leases.lose(session, self._steady())
            case StreamRefused():
                detail = f"{message.detail} [{message.code}]"
                self.board.refused(message.session, message.service, detail, at=self._clock())
                self.fanout.changed()
            case OrderDone():
                self.variants.done(link, message)
                self.fanout.changed()
            case VariantEnded():
                self.variants.ended(message)
                self.fanout.changed()
            case TraceReport():
                self.traces.reported(message)
            case EntryReport(host=host, port=port):
                self.entry.set((host, port))
            case RequestsCounted(counts=counts):
                for variant, requests in counts:
                    self._counted(variant, requests, self.variants.placed(variant))
            case Ping():
                pass
            case SystemHello():
                raise CodezeroError(problems.PROTOCOL, "a second SystemHello")

    # --- laptops --------------------------------------------------------------------------------------------------------------------

    async def _laptop(self, forwarded: Forwarded, stream: MessageStream[ToDaemon, FromDaemon]) -> None:
        device, session = Device.parse(forwarded.device), forwarded.session
        if not is_ulid(session):
            raise CodezeroError(problems.PROTOCOL, "the session is not a ULID")
        hello = await stream.receive(within=HELLO_SECONDS)
        if not isinstance(hello, DaemonHello):
            raise CodezeroError(problems.PROTOCOL, f"{type(hello).__name__} came instead of DaemonHello")
        version = _agree(hello.versions)
        await self._until_active()
        self._make_room(session, device)
        stream.limit = _DAEMON_LIMIT
        attached = await self._attach(session, device, hello, stream)
        left = False
        try:
            welcome = Welcome(version, __version__, session, self.epoch)
            await stream.send(welcome, within=HELLO_SECONDS)
            async with _beside("feed", lambda: self.fanout.feed(attached.subscriber, stream), stream):
                while not left:
                    message = await stream.receive()
                    if not isinstance(message, ServeWanted) or not await self._is_refused_elsewhere(attached, message):
                        left = self._hear_laptop(attached, message)
                    if isinstance(message, ConsumeAssertion):
                        await asyncio.sleep(len(message.services) / ASSERTED_A_SECOND)
                    elif isinstance(message, ServeWanted | ServeEnding | TraceWanted):
                        await asyncio.sleep(1 / SERVES_A_SECOND)
                        await attached.subscriber.room()
        finally:
            self._detach(attached, left=left)

    async def _until_active(self) -> None:
        try:
            async with asyncio.timeout(ACTIVE_WITHIN_SECONDS):
                await self._active.wait()
        except TimeoutError:
            raise CodezeroError(
                problems.TUNNEL_DOWN, "this Orchestrator is not the active one: no System reports to it"
            ) from None

    def _make_room(self, session: SessionId, device: Device) -> None:
        owner = self.board.device_of(session)
        if owner is not None and owner != device:
            raise CodezeroError(problems.BAD_IDENTITY, "the session belongs to another device")
        if owner is None:
            for oldest in self.board.sessions_of(device)[: -MAX_SESSIONS_OF_A_DEVICE + 1]:
                self._end(oldest, "newer sessions of the same laptop took its place")
            if self.board.sessions >= MAX_SESSIONS:
                raise CodezeroError(problems.TUNNEL_DOWN, f"the Teamspace has {MAX_SESSIONS} sessions already")

    async def _attach(
        self, session: SessionId, device: Device, hello: DaemonHello, stream: MessageStream[ToDaemon, FromDaemon]
    ) -> _Attached:
        while before := self._attached.get(session):
            before.stream.abort()
            await before.ended.wait()
        resumes = hello.epoch == self.epoch
        subscriber = Subscriber(
            session,
            device,
            self.board.join_view(self.admission.viewer(device)),
            catalog=hello.revision if resumes else None,
            activity=self._activity_seen.pop(session, 0) if resumes else 0,
        )
        name, user_name = printable(hello.name) or "laptop", printable(hello.user_name)
        owner = Owner(device, session, user_name or name)
        attached = self._attached[session] = _Attached(subscriber, stream, asyncio.Event(), owner)
        self.leases.hold(session)
        self.variants.session_stands(session)
        # After a restart of ours everybody comes back; nobody has joined.
        again = hello.epoch is not None and not resumes
        self.board.arrived(session, device, name, user_name=user_name, at=self._clock(), again=again)
        self.fanout.changed()
        return attached

    def _detach(self, attached: _Attached, *, left: bool) -> None:
        session = attached.subscriber.session
        self.board.leave_view(attached.subscriber.view)
        attached.subscriber.end()
        self._want_traces(attached.subscriber, on=False)
        if self._attached.get(session) is attached:
            del self._attached[session]
        if left:
            self._end(session, "its laptop has left")
        elif self.leases.state(session) is not PresenceState.GONE:
            self._activity_seen[session] = attached.subscriber.activity
            self.leases.lose(session, self._steady())
        attached.ended.set()

    def _end(self, session: SessionId, reason: str) -> None:
        self.leases.end(session)
        self.board.left(session, at=self._clock())
        self.variants.session_over(session, reason)
        self._activity_seen.pop(session, None)
        attached = self._attached.get(session)
        if attached is not None:
            attached.stream.abort()
        self.fanout.changed()

    def _hear_laptop(self, attached: _Attached, message: FromDaemon) -> bool:
        """Handle a message; whether the laptop leaves."""
        session = attached.subscriber.session
        if self.leases.state(session) is PresenceState.GONE:
            return True  # the session was ended in between
        if not self.leases.is_held(session):
            # Its tunnel was reported down, and yet it speaks.
            self.leases.hold(session)
            self.board.is_heard(session, at=self._clock())
        match message:
            case ConsumeAssertion():
                _check_assertion(message)
                attached.assertion = message
                self._decide(attached, message)
            case Leave():
                return True
            case ServeWanted(number=number):
                _check_service(message.service)
                self.variants.serve(Asker(attached.subscriber, number), attached.owner, message)
            case ServeEnding(number=number):
                _check_service(message.service)
                self.variants.end(Asker(attached.subscriber, number), attached.owner, message)
            case TraceWanted(on=on):
                self._want_traces(attached.subscriber, on=on)
            case Ping():
                pass
            case DaemonHello():
                raise CodezeroError(problems.PROTOCOL, "a second DaemonHello")
        return False

    def _forget_in_time(self, now: float) -> None:
        if self._links or self._attached:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif not self._is_blank and now >= self._alone_since + FORGET_SECONDS:
            self._forget()

    def _forget(self) -> None:
        """Know nothing, as after the start: what was so while this one was active must not be acted on when it is again."""
        _log.info("another Orchestrator is active, or none; what was known is forgotten", epoch=self.epoch)
        self.epoch = new_ulid()
        self.board = Board(self._told)
        self.fanout.show(self.board)
        self.leases = Leases(ttl=self._session_seconds)
        self.variants = Variants(self.board, self.admission, clock=self._clock, steady=self._steady)
        self.traces = Traces(self.variants.placed)
        self._speaker.clear()
        self._activity_seen.clear()
        self._is_blank = True

    def _decide(self, attached: _Attached, assertion: ConsumeAssertion) -> None:
        subscriber = attached.subscriber
        refused = self.admission.refused(subscriber.device, assertion.services)
        most = 200 if len(refused) <= 5000 else 60  # the answer has to fit in a message
        subscriber.answer(
            ConsumeDecisions(assertion.number, tuple((service, reason[:most]) for service, reason in refused))
        )
        without = {service for service, _ in refused}
        admitted = [service for service in assertion.services if service not in without]
        self.board.consumes(subscriber.session, admitted, at=self._clock())
        self.fanout.changed()

    def _want_traces(self, subscriber: Subscriber, *, on: bool) -> None:
        before = self.traces.are_wanted
        self.traces.want(subscriber, on=on)
        if self.traces.are_wanted != before:
            for link in self._links.values():
                link.want_traces(not before)

    def _show_view(self, subscriber: Subscriber) -> None:
        viewer = self.admission.viewer(subscriber.device)
        if viewer != subscriber.view.viewer:
            before, subscriber.view = subscriber.view, self.board.join_view(viewer)
            self.board.leave_view(before)
            subscriber.presence = None

    async def _is_refused_elsewhere(self, attached: _Attached, wanted: ServeWanted) -> bool:
        """Whether another's opinion is asked for and against it; what our own policy refuses, it refuses itself."""
        _check_service(wanted.service)
        policy, device = self.admission.policy, attached.owner.device
        if not self._opinion.is_wanted(policy) or len(wanted.condition) > MAX_PARTS or len(wanted.ports) > MAX_PORTS:
            return False
        try:
            condition = condition_parts(condition_from_parts(wanted.condition))
        except CodezeroError:
            return False
        ports = tuple(pair.remote for pair in wanted.ports)
        acts = access.serve_acts(condition, ports, mirror=wanted.mirror is not None)
        if not self.admission.decide_all(device, acts, wanted.service).allowed:
            return False
        try:
            await self._opinion.require(policy, device, wanted.service, acts)
        except CodezeroError as error:
            self.variants.refuse(Asker(attached.subscriber, wanted.number), error)
            return True
        return False

    async def _keep_opinions(self) -> None:
        while True:
            await asyncio.sleep(OPINION_SECONDS)
            for placed in list(self.board.variants.values()):
                await self._ask_again(placed)

    async def _ask_again(self, placed: Placed) -> None:
        try:
            device = Device.parse(placed.view.device)
        except CodezeroError:
            return  # made by hand
        verdict = await self._opinion.ask(self.admission.policy, device, placed.service, access.acts_of(placed.view))
        # Who does not answer takes nothing away that runs; nothing new begins meanwhile.
        if verdict.is_answer and not verdict.allowed:
            with contextlib.suppress(CodezeroError):  # no System at the moment; asked again anyhow
                self.variants.terminate(placed.view.variant_id, verdict.reason)

    async def _watch_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_LOOK_SECONDS)
            if self.admission.look():
                _log.warning("what is allowed has changed with time", refuses_all_because=self.admission.reason)
                await self.decide_again()
            self.expire()

    def expire(self) -> None:
        """Move sessions that nobody holds to away and, in the end, out; forget them all where nobody is here any longer."""
        self._forget_in_time(self._steady())
        for lapse in self.leases.expire(self._steady()):
            if lapse.state is PresenceState.GONE:
                self._end(lapse.session, "its laptop has not come back")
            elif self.board.device_of(lapse.session) is not None:
                self.board.went_away(lapse.session, at=self._clock())
                self.fanout.changed()
        self.variants.look()


@asynccontextmanager
async def _beside(
    name: str, sending: Callable[[], Coroutine[Any, Any, None]], stream: MessageStream[Any, Any]
) -> AsyncGenerator[None]:
    """Run `sending` while in the block; when it fails, the connection ends, which the receiver in the block notices."""

    async def send() -> None:
        try:
            await sending()
        except (CodezeroError, EOFError) as error:
            _log.debug("sending ended", reason=str(error))
            stream.abort()

    async with task_group(name) as tasks:
        task = tasks.start(name, send())
        try:
            yield
        finally:
            task.cancel()


async def _say_goodbye(stream: MessageStream[Any, Any], error: CodezeroError) -> None:
    # What cannot get better by coming back: versions, identity, a peer that does not speak the protocol.
    retry = error.problem not in (problems.VERSIONS, problems.BAD_IDENTITY, problems.PROTOCOL)
    try:
        async with asyncio.timeout(GOODBYE_SECONDS):
            await stream.send(_goodbye(error, retry=retry))
            # Closing on bytes that nobody has read would reset the connection, and the peer would never see why.
            for _ in range(GOODBYE_READS):
                if not await stream.reader.read(64 * 1024):
                    break
    except (CodezeroError, EOFError, TimeoutError, OSError):
        pass  # it did not want to hear it


def _goodbye(error: CodezeroError, *, retry: bool) -> Goodbye:
    return Goodbye(error.problem.code, error.detail[:1000], retry=retry)


def _expect_answers(connection: TlsConnection) -> None:
    """Let pings that nobody acknowledges end the connection: a node that is gone sends no end."""
    handle = connection.get_extra_info("socket")
    if handle is not None:
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SYSTEM_SILENT_SECONDS * 1000))


def _agree(offered: tuple[int, ...]) -> int:
    common = set(offered) & set(PROTOCOL_VERSIONS)
    if not common:
        raise CodezeroError(
            problems.VERSIONS,
            f"the peer speaks versions {list(offered)[:10]}, this Orchestrator {list(PROTOCOL_VERSIONS)}",
        )
    return max(common)


def _check_assertion(assertion: ConsumeAssertion) -> None:
    if len(assertion.services) > MAX_CONSUMED:
        raise CodezeroError(
            problems.TOO_LARGE, f"{len(assertion.services)} services are asserted; at most {MAX_CONSUMED} can be"
        )
    if not all(_is_service(service) for service in assertion.services):
        raise CodezeroError(problems.PROTOCOL, "a service in the assertion has a name that no service can have")


def _check_service(service: ServiceRef) -> None:
    if not _is_service(service):
        raise CodezeroError(problems.PROTOCOL, "the service has a name that no service can have")


def _is_service(service: ServiceRef) -> bool:
    return is_label(service.namespace) and is_label(service.name)
