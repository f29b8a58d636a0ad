"""The laptop's copy of the live picture: catalog, presence and activity, followed over the tunnel; and what goes back: consume assertions and
orders to serve.

The copy outlives connections: after a loss it is marked stale, and the next connection goes on from the revision it has.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from codezero import __version__
from codezero.kit import logs
from codezero.kit.backoff import Backoff
from codezero.kit.tasks import task_group
from codezero.local.daemon.consumption import Consumption
from codezero.model import problems
from codezero.model.ids import SessionId
from codezero.model.problems import CodezeroError, Problem
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Activity, Presence, PresenceState
from codezero.transport.messages import MessageStream
from codezero.transport.tunnel import Tunnel
from codezero.wire.coordination import (
    PROTOCOL_VERSIONS,
    ActivityHappened,
    CatalogDelta,
    CatalogSnapshot,
    ConsumeAssertion,
    ConsumeDecisions,
    DaemonHello,
    FromDaemon,
    Goodbye,
    Leave,
    Ping,
    PresenceChanged,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    ToDaemon,
    Traced,
    TraceWanted,
    Welcome,
)
from codezero.wire.local_api import OrchestratorView
from codezero.wire.open_header import OpenHeader, StreamKind

MOST_ACTIVITIES = 1000
MOST_DELAY = 10.0
REFUSED_DELAY = 30.0
ANSWER_SECONDS = 10.0
# The Orchestrator shows each few seconds that it lives.
SILENT_SECONDS = 20.0
DECISION_SECONDS = 30.0
ORDER_SECONDS = 12.0
# In so long a tunnel that was lost is back where its Teamspace is well.
RESUME_SECONDS = 5.0

Changed = Callable[[str], None]
"""Told what changed: `services`, `consume`, `presence`, `activity` or `status`."""

CatalogChanged = Callable[[Iterable[Service], Iterable[ServiceRef]], None]
"""Told services that came or changed, and services that went."""

_decoder: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)
_UNANSWERED = CodezeroError(
    problems.TUNNEL_DOWN,
    "the connection to the Teamspace was lost before it answered; what was asked for may still be done",
    fix="czctl serve list",
)
_log = logs.get_logger("picture")


class Picture:
    """What a Teamspace looks like from this laptop. `consumption` gets catalog and decisions; `follow` keeps it current.

    `cause` is why there is no connection to the Orchestrator, `connected_at` since when there is one (UNIX seconds), `closed` why nothing may be
    seen or consumed.
    """

    def __init__(
        self,
        consumption: Consumption,
        *,
        name: str,
        changed: Changed,
        user_name: str = "",
        happened: Callable[[Activity], None] = lambda _: None,
        catalog_changed: CatalogChanged = lambda _upserts, _removes: None,
        traced: Callable[[Traced], None] = lambda _: None,
    ) -> None:
        """`name` and `user_name` are what the team sees of this laptop and its user.

        `happened` is told of new activity, `catalog_changed` of changes before `changed` is, `traced` of requests to own variants.
        """
        self.activities: deque[Activity] = deque(maxlen=MOST_ACTIVITIES)
        self.presences: dict[SessionId, Presence] = {}
        self.is_complete = False
        self.is_connected = False
        self.cause: CodezeroError | None = None
        self.closed: str | None = None
        self._consumption = consumption
        self._name = name
        self._changed = changed
        self._user_name = user_name
        self._happened = happened
        self._catalog_noted = catalog_changed
        self._traced = traced
        self._traces_wanted = False
        self._order = 0
        self._answers: dict[int, asyncio.Future[ServeAnswer | CodezeroError]] = {}
        self._epoch: str | None = None
        self._revision = 0
        self.connected_at = 0.0
        self._lost_at: float | None = time.time()
        self._stale_since: float | None = None
        self._parts: dict[ServiceRef, Service] | None = None
        self._number = 0
        self._asked: tuple[ServiceRef, ...] = ()
        self._decided = asyncio.Event()
        self._to_ask = asyncio.Event()
        self._stream: MessageStream[FromDaemon, ToDaemon] | None = None
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def stale_since(self) -> float | None:
        """Since when (UNIX seconds) the catalog may be old: because the System cannot see the cluster, or we cannot see the Orchestrator."""
        return self._stale_since if self.is_connected else (self._stale_since or self._lost_at)

    @property
    def is_current(self) -> bool:
        """Whether the catalog is whole and as new as the System's."""
        return self.is_connected and self.is_complete and self._stale_since is None

    def view(self) -> OrchestratorView:
        """How the picture stands."""
        return OrchestratorView(
            self.is_connected, self._epoch, self._revision, len(self._consumption.catalog), self.stale_since
        )

    def wanted_changed(self) -> None:
        """The rules let in other services: ask for them."""
        self._to_ask.set()

    async def order(self, order: ServeWanted | ServeEnding) -> ServeAnswer:
        """Send an order, under a number of its own, and wait for the answer.

        Raises `CodezeroError`: what the Teamspace refused it with; TUNNEL_DOWN without a connection, or when it is lost; TIMED_OUT.
        """
        stream = self._connected()
        self._order += 1
        number = self._order
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                await stream.send(msgspec.structs.replace(order, number=number))
                answer = await future
        except TimeoutError:
            raise CodezeroError(
                problems.TIMED_OUT,
                f"the Teamspace did not answer within {ORDER_SECONDS:g} s; what was asked for may still be done",
                fix="czctl serve list",
            ) from None
        except EOFError as error:
            raise _lost(error) from None
        finally:
            del self._answers[number]
        if isinstance(answer, CodezeroError):
            raise answer
        if answer.code:
            raise _problem(answer.code, answer.detail, fix=answer.fix)
        return answer

    async def until_connected(self) -> None:
        """Return when there is a connection; one that was just lost is waited for, because a tunnel that is handed over is back in a moment.

        Raises `CodezeroError` (TUNNEL_DOWN) when there is none.
        """
        if self._stream is None and self._lost_at is not None and self.connected_at:
            left = RESUME_SECONDS - abs(time.time() - self._lost_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._begun.wait()
        self._connected()

    def _connected(self) -> MessageStream[FromDaemon, ToDaemon]:
        if self._stream is None:
            raise CodezeroError(
                problems.TUNNEL_DOWN,
                "the Teamspace is not connected, so nothing can be served or ended",
                fix="czctl status",
            )
        return self._stream

    def want_traces(self, wanted: bool) -> None:
        """Whether requests to own variants are to be told; goes on over lost connections."""
        self._traces_wanted = wanted
        if self._stream is not None:
            self._ask_for_traces(self._stream)

    async def follow(self, tunnel: Tunnel) -> None:
        """Keep the picture current for as long as `tunnel` stands."""
        backoff = Backoff(most=MOST_DELAY)
        while not tunnel.is_closed:
            delay = 0.0
            try:
                await self._converse(tunnel, backoff)
            except (CodezeroError, EOFError) as error:
                self.cause = error if isinstance(error, CodezeroError) else _lost(error)
                refused = self.cause.problem in {problems.VERSIONS, problems.BAD_IDENTITY}
                delay = REFUSED_DELAY if refused else backoff.next()
                _log.info("live picture interrupted", reason=self.cause.detail, again_in=round(delay, 1))
            await asyncio.wait((tunnel.closed,), timeout=delay)

    async def leave(self) -> None:
        """End the session on purpose; returns when the Orchestrator knows, or after a second."""
        stream = self._stream
        if stream is None:
            return
        try:
            async with asyncio.timeout(1):
                await stream.send(Leave())
                await self._ended.wait()
        except (CodezeroError, EOFError, TimeoutError):
            pass  # it will notice the tunnel's end

    async def _converse(self, tunnel: Tunnel, backoff: Backoff) -> None:
        reader, writer = await tunnel.open_stream(OpenHeader(StreamKind.ORCHESTRATOR))
        stream: MessageStream[FromDaemon, ToDaemon] = MessageStream(reader, writer, _decoder)
        try:
            await self._greet(stream)
            backoff.reset()
            self._begin(stream)
            async with task_group("picture") as tasks:
                asserting = tasks.start("asserting", self._assert_while_it_lasts(stream))
                try:
                    while True:
                        self._receive(await stream.receive(within=SILENT_SECONDS))
                finally:
                    asserting.cancel()
        finally:
            self._interrupt()
            stream.abort()

    async def _greet(self, stream: MessageStream[FromDaemon, ToDaemon]) -> None:
        hello = DaemonHello(
            PROTOCOL_VERSIONS, __version__, self._name, self._epoch, self._revision, user_name=self._user_name
        )
        await stream.send(hello, within=ANSWER_SECONDS)
        answer = await stream.receive(within=ANSWER_SECONDS)
        if isinstance(answer, Goodbye):
            raise _refused(answer)
        if not isinstance(answer, Welcome):
            raise CodezeroError(problems.PROTOCOL, f"the Orchestrator began with {type(answer).__name__}")
        if answer.version not in PROTOCOL_VERSIONS:
            raise CodezeroError(problems.VERSIONS, f"the Orchestrator answers in version {answer.version}")
        if answer.epoch != self._epoch:
            self._epoch = answer.epoch
            self._revision = 0

    def _begin(self, stream: MessageStream[FromDaemon, ToDaemon]) -> None:
        self._stream = stream
        self._begun.set()
        self._ended.clear()
        self.is_connected = True
        self.connected_at = time.time()
        self.cause = None
        self._lost_at = None
        if self._traces_wanted:
            self._ask_for_traces(stream)
        self._changed("status")

    def _ask_for_traces(self, stream: MessageStream[FromDaemon, ToDaemon]) -> None:
        # A connection that takes no more is about to be lost, and the next one is told.
        with contextlib.suppress(CodezeroError, EOFError):
            stream.send_nowait(TraceWanted(self._traces_wanted))

    def _interrupt(self) -> None:
        self._parts = None
        self._stream = None
        self._begun.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(_UNANSWERED)
        self._ended.set()
        if self.is_connected:
            self.is_connected = False
            self._lost_at = time.time()
            self._changed("status")

    def _receive(self, message: ToDaemon) -> None:
        match message:
            case CatalogSnapshot():
                self._snapshot(message)
            case CatalogDelta():
                self._stale_since = message.stale_since
                self._revision = message.revision
                self._catalog_changed(message.upserts, message.removes)
            case ConsumeDecisions():
                self._decisions(message)
            case PresenceChanged():
                self._presence(message)
            case ActivityHappened():
                self.activities.extend(message.activities)
                for activity in message.activities:
                    self._happened(activity)
            case Goodbye():
                raise _refused(message)
            case ServeAnswer():
                answer = self._answers.get(message.number)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case Traced():
                self._traced(message)
            case Ping():
                pass
            case Welcome():
                raise CodezeroError(problems.PROTOCOL, "a second Welcome")

    def _snapshot(self, message: CatalogSnapshot) -> None:
        if message.part == 0:
            self._parts = {}
        if self._parts is None:
            raise CodezeroError(problems.PROTOCOL, "a snapshot without its beginning")
        self._parts.update((service.ref, service) for service in message.services)
        if not message.last:
            return
        whole, self._parts = self._parts, None
        self._revision = message.revision
        self._stale_since = message.stale_since
        if message.closed != self.closed:
            self.closed = message.closed
            self._changed("status")
        self.is_complete = True
        # Only the difference: what stayed keeps its connections.
        gone = [ref for ref in self._consumption.catalog if ref not in whole]
        self._catalog_changed(tuple(whole.values()), gone)

    def _catalog_changed(
        self, upserts: tuple[Service, ...], removes: tuple[ServiceRef, ...] | list[ServiceRef]
    ) -> None:
        self._consumption.change_catalog(upserts, removes)
        self._catalog_noted(upserts, removes)
        self._to_ask.set()
        self._changed("services")
        self._changed("consume")

    def _decisions(self, message: ConsumeDecisions) -> None:
        # An earlier number answers a question that no longer stands; the same number again is a changed policy.
        if message.number == self._number:
            self._consumption.decide(self._asked, dict(message.refused))
            self._decided.set()
            self._changed("consume")

    def _presence(self, message: PresenceChanged) -> None:
        if message.reset:
            self.presences.clear()
        for presence in message.presences:
            if presence.state is PresenceState.GONE:
                self.presences.pop(presence.session, None)
            else:
                self.presences[presence.session] = presence
        self._changed("presence")

    async def _assert_while_it_lasts(self, stream: MessageStream[FromDaemon, ToDaemon]) -> None:
        try:
            await self._keep_asserting(stream)
        except (CodezeroError, EOFError, TimeoutError) as error:
            _log.info("consume assertion failed", reason=str(error) or "no decision in time")
            stream.abort()  # which the receiver notices

    async def _keep_asserting(self, stream: MessageStream[FromDaemon, ToDaemon]) -> None:
        """One question at a time: what changes while one is open goes into the next, so a burst of changes costs few messages."""
        asserted: int | None = None
        while True:
            self._to_ask.clear()
            version = self._consumption.wanted_version
            # Before the first picture "nothing" would only say that we know nothing yet.
            if self.is_complete and version != asserted:
                self._number += 1
                self._asked = self._consumption.wanted()
                self._decided.clear()
                await stream.send(ConsumeAssertion(self._number, self._asked), within=ANSWER_SECONDS)
                async with asyncio.timeout(DECISION_SECONDS):
                    await self._decided.wait()
                asserted = version
            else:
                await self._to_ask.wait()


def _refused(goodbye: Goodbye) -> CodezeroError:
    return _problem(goodbye.code, goodbye.detail)


def _problem(code: str, detail: str, *, fix: str | None = None) -> CodezeroError:
    problem = problems.ALL.get(code) or Problem(code, "Refused by the Orchestrator", detail)
    return CodezeroError(problem, detail, fix=fix)


def _lost(error: EOFError) -> CodezeroError:
    return CodezeroError(problems.TUNNEL_DOWN, f"the connection to the Orchestrator was lost: {error}")


def presences_of(presences: Mapping[SessionId, Presence]) -> tuple[Presence, ...]:
    """The laptops, those longest there first."""
    return tuple(sorted(presences.values(), key=lambda one: (one.since, one.session)))
