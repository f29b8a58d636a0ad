"""A Router's stream of routes: plans come from the System, are brought to Envoy, and are acknowledged; access records go up.

When the System is lost, Envoy goes on by the last plan: requests for variants fall back by themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from codezero import __version__
from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.router.applying import TAKEN_SECONDS, Applier, Outcome
from codezero.router.connecting import Stream, SystemAddress, connect
from codezero.router.identity import Proven, RouterIdentity, refused
from codezero.router.records import BATCH_SECONDS, AccessLog
from codezero.wire import route_plan
from codezero.wire.router import (
    PING_SECONDS,
    PROTOCOL_VERSIONS,
    ROUTES_ALPN,
    SILENT_SECONDS,
    FromRouter,
    PlanApplied,
    PlanSent,
    Refusal,
    RouterHello,
    RouterPing,
    RouterWelcome,
)

HELLO_SECONDS: Final = 8.0
_PENDING_PAUSE: Final = 0.05
_LONGEST_PROBLEM: Final = 1000
# A certificate that the System never welcomes is worth no fourth attempt.
_ATTEMPTS: Final = 3

_log = get_logger("router-routes")


class _RenewedError(Exception):
    """The stream is to be begun anew, with the certificate that came."""


class RouteStream:
    """Follows the System. `connected` says how it is; `revision` is that of the plan Envoy works by, None before the first."""

    def __init__(
        self,
        system: SystemAddress,
        identity: RouterIdentity,
        applier: Applier,
        access_log: AccessLog,
        *,
        pod: str,
        backoff: Backoff | None = None,
    ) -> None:
        self.revision: int | None = None
        self._system = system
        self._identity = identity
        self._applier = applier
        self._access_log = access_log
        self._pod = pod
        self._backoff = backoff or Backoff(first=0.1, most=10.0)
        self._stream: Stream | None = None
        self._sent: PlanSent | None = None
        self._came = asyncio.Event()
        self._unwelcome = 0

    @property
    def connected(self) -> bool:
        """Whether the System tells this Router its plans."""
        return self._stream is not None

    async def run(self) -> None:
        """Until cancelled. Raises OSError when Envoy's files cannot be written."""
        async with task_group("routes") as tasks:
            tasks.start_service("apply", self._apply())
            await self._follow_always()

    async def _follow_always(self) -> None:
        async for proven in self._identity.current.changes():
            if proven is not None:
                break
        while True:
            proven = self._identity.current.value
            assert proven is not None
            try:
                await self._follow(proven)
            except _RenewedError:
                continue
            except CodezeroError as error:
                _log.warning("no routes from the System", code=error.problem.code, reason=error.detail)
            except EOFError as error:
                _log.warning("no routes from the System", reason=str(error))
            if self._unwelcome >= _ATTEMPTS:
                self._unwelcome = 0
                self._identity.doubt()
            await asyncio.sleep(self._backoff.next())

    async def _follow(self, proven: Proven) -> None:
        stream = await connect(
            self._system, protocol=ROUTES_ALPN, authority=proven.authority, credentials=proven.credentials
        )
        try:
            await self._greet(stream)
            self._backoff.reset()
            self._stream = stream
            await self._exchange(stream, proven)
        finally:
            self._stream = None
            stream.abort()

    async def _greet(self, stream: Stream) -> None:
        self._unwelcome += 1
        await stream.send(RouterHello(PROTOCOL_VERSIONS, __version__, self._pod), within=HELLO_SECONDS)
        welcome = await stream.receive(within=HELLO_SECONDS)
        if isinstance(welcome, Refusal):
            self._identity.doubt()
            raise refused(welcome)
        if not isinstance(welcome, RouterWelcome):
            raise CodezeroError(problems.PROTOCOL, f"{type(welcome).__name__} came instead of RouterWelcome")
        if welcome.version not in PROTOCOL_VERSIONS:
            raise CodezeroError(problems.VERSIONS, f"the System wants to speak version {welcome.version}")
        self._unwelcome = 0
        _log.info("the System tells the routes", release=welcome.release)

    async def _exchange(self, stream: Stream, proven: Proven) -> None:
        async with task_group("router-stream") as tasks:
            sending = [
                tasks.start(name, _until_lost(stream, work))
                for name, work in (("pings", self._ping), ("records", self._tell_records))
            ]
            sending.append(tasks.start("renewal", self._renewed(proven)))
            try:
                while True:
                    match await stream.receive(within=SILENT_SECONDS):
                        case PlanSent() as sent:
                            self._sent = sent
                            self._came.set()
                        case Refusal() as refusal:
                            raise refused(refusal)
                        case _:
                            pass
            finally:
                for task in sending:
                    task.cancel()

    async def _renewed(self, proven: Proven) -> None:
        """Raises `_RenewedError` once there is a newer certificate: the System ends a stream with the one it was begun with."""
        async for current in self._identity.current.changes():
            if current is not proven:
                raise _RenewedError

    async def _ping(self, stream: Stream) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            await stream.send(RouterPing(), within=PING_SECONDS)

    async def _tell_records(self, stream: Stream) -> None:
        while True:
            batch = await self._access_log.batch()
            try:
                await stream.send(batch, within=SILENT_SECONDS)
            except BaseException:
                self._access_log.give_back(batch)
                raise
            await asyncio.sleep(BATCH_SECONDS)

    async def _apply(self) -> None:
        """Bring Envoy to the newest plan, whatever becomes of the stream meanwhile: half a change is none."""
        while True:
            await self._came.wait()
            self._came.clear()
            sent = self._sent
            assert sent is not None
            try:
                await self._bring(sent)
            except CodezeroError as error:
                _log.error("a plan is refused", revision=sent.revision, code=error.problem.code, reason=error.detail)
                self._answer(PlanApplied(sent.revision, str(error)[:_LONGEST_PROBLEM]))

    async def _bring(self, sent: PlanSent) -> None:
        outcome = await self._applier.apply(route_plan.from_wire(sent.plan))
        until = asyncio.get_running_loop().time() + TAKEN_SECONDS
        is_told = False
        while outcome is Outcome.PENDING and not self._came.is_set():
            if not is_told and asyncio.get_running_loop().time() > until:
                is_told = True
                _log.warning("Envoy does not take the plan yet", revision=sent.revision)
                self._answer(PlanApplied(sent.revision, "Envoy has not taken the plan yet"))
            await asyncio.sleep(_PENDING_PAUSE)
            outcome = await self._applier.settle()
        match outcome:
            case Outcome.TAKEN:
                self.revision = sent.revision
                _log.info("Envoy routes by the plan", revision=sent.revision)
                self._answer(PlanApplied(sent.revision))
            case Outcome.REFUSED:
                self._answer(PlanApplied(sent.revision, "Envoy refuses the plan and keeps the one before"))
            case Outcome.PENDING:
                pass  # a newer one has come

    def _answer(self, message: FromRouter) -> None:
        """Tell the System where it listens; one that comes back sends its plan again."""
        if self._stream is None:
            return
        try:
            self._stream.send_nowait(message)
        except (CodezeroError, EOFError, OSError):
            self._stream.abort()


async def _until_lost(stream: Stream, work: Callable[[Stream], Awaitable[None]]) -> None:
    """A failure to send shows the receiver the end; it alone says what went wrong."""
    try:
        await work(stream)
    except (CodezeroError, EOFError) as error:
        _log.debug("sending ended", reason=str(error))
        stream.abort()
