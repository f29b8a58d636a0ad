"""The active Orchestrator's channel to the Hub: one outbound WebSocket. Policy, keys and decisions of administrators come down, the picture of the
Teamspace and what belongs into the audit go up.

Nothing of the Teamspace waits for it: without a Hub all goes on by the policy that came last, events wait, and what was missed comes with the next
connection. Of the picture only the newest state is sent, so a slow Hub gets less and never a backlog.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, WebSocketException

from codezero import __version__
from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.access import Bundle
from codezero.model.ids import SessionId, TeamspaceId
from codezero.model.problems import CodezeroError
from codezero.orchestrator.board import Board, parts_of, presence_weight, service_weight
from codezero.orchestrator.events import Events
from codezero.orchestrator.server import Coordinator
from codezero.transport import hub_messages
from codezero.transport.hub import HubAddress, proof_of_part
from codezero.transport.hub_messages import Connect, HubMessages
from codezero.transport.identity import Identity
from codezero.wire import policy_file, problem_json
from codezero.wire.coordination import FromHub, HubLinkTold, KeysTold, PolicyTold, RotationWanted
from codezero.wire.hub_channel import (
    HELLO_SECONDS,
    MAX_MESSAGE,
    PING_SECONDS,
    PROTOCOL_VERSIONS,
    SILENT_SECONDS,
    Acknowledged,
    CatalogTold,
    EndSession,
    EndVariant,
    EntryMoved,
    Farewell,
    FromTeamspace,
    Hello,
    KeysPush,
    Ping,
    PolicyPush,
    PresenceTold,
    Rotate,
    ToTeamspace,
    Welcome,
    channel_path,
)
from codezero.wire.hub_channel import Events as EventsTold

CONNECT_SECONDS: Final = 15.0
# What changes in between is told together.
PICTURE_SECONDS: Final = 0.5
# Systems come and go for a moment while they are replaced.
INACTIVE_SECONDS: Final = 5.0
# For what happened last, before a channel is given up.
LAST_WORDS_SECONDS: Final = 2.0
MOST_DELAY: Final = 30.0
# A channel that stood for so long was good: after its loss the next attempt comes soon.
GOOD_SECONDS: Final = 10.0
# Between the Hub's clock and this one.
MOST_SKEW_SECONDS: Final = 300.0
_ITEMS_IN_A_PART: Final = 1000

T = TypeVar("T")

_DECODER: Final[msgspec.msgpack.Decoder[ToTeamspace]] = msgspec.msgpack.Decoder(ToTeamspace)

_Messages = HubMessages[FromTeamspace, ToTeamspace]

_log = get_logger("hub")


class HubLink:
    """Keeps the channel for as long as this Orchestrator is the active one. `connected` says how it is, `reason` why not."""

    def __init__(
        self,
        hub: HubAddress,
        coordinator: Coordinator,
        identities: Watched[Identity | None],
        events: Events,
        *,
        clock: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        """`clock` gives UNIX time."""
        self.connected = False
        self.reason: str = "this Orchestrator is not the active one"
        self._hub = hub
        self._coordinator = coordinator
        self._identities = identities
        self._events = events
        self._clock = clock
        self._backoff = backoff or Backoff(first=0.5, most=MOST_DELAY)
        # What the present channel has said, by kind, as long as it stands.
        self._words: dict[type[FromHub], FromHub] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await _until(self._coordinator.activity, lambda active: active)
            await _until(self._identities, lambda own: own is not None)
            began = time.monotonic()
            try:
                await self._stay()
            except CodezeroError as error:
                self._is_away(error.detail)
            except Exception as error:  # noqa: BLE001 - the edge of one channel
                # A defect in handling what a Hub sends must not end everybody's Orchestrator.
                _log.exception("the channel to the Hub failed", hub=self._hub.url)
                self._is_away(f"the channel failed: {type(error).__name__}")
            if not self._coordinator.activity.value:
                continue
            if time.monotonic() - began > GOOD_SECONDS:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next())

    def _is_away(self, reason: str) -> None:
        if self.connected or reason != self.reason:
            _log.warning("no channel to the Hub", hub=self._hub.url, reason=reason)
        self.connected, self.reason = False, reason
        self._coordinator.pass_on(HubLinkTold(False, reason[:1000]))

    async def _stay(self) -> None:
        """Have a channel until it ends, with the reason as `CodezeroError`, or until another Orchestrator is active."""
        own = self._identities.value
        assert own is not None
        socket = await self._connected(own)
        messages: _Messages = HubMessages(socket, _DECODER, silent_seconds=SILENT_SECONDS)
        self._words = {HubLinkTold: HubLinkTold(True)}
        try:
            with hub_messages.failures():
                entry = self._coordinator.entry.value
                await messages.send(self._hello(entry))
                await _welcomed(messages)
                self.connected, self.reason = True, ""
                _log.info("channel to the Hub stands", hub=self._hub.url)
                self._events.begin()
                await self._converse(messages, own.teamspace, entry)
            raise CodezeroError(problems.SPACE_AWAY, "this Orchestrator is not the active one")
        finally:
            await socket.close()

    async def _converse(self, messages: _Messages, teamspace: TeamspaceId, entry: tuple[str, int] | None) -> None:
        async with task_group("hub-link") as tasks:
            beside = [
                tasks.start("words", self._say_again()),
                tasks.start("receive", self._receive(messages, teamspace)),
                tasks.start("picture", self._picture(messages)),
                tasks.start("events", self._send_events(messages)),
                tasks.start("entry", self._entry(messages, entry)),
                tasks.start("ping", _ping(messages)),
            ]
            try:
                await self._until_inactive()
                await self.tell_all()
            finally:
                for task in beside:
                    task.cancel()

    # --- beginning ---------------------------------------------------------------------------------------------------------------------

    async def _connected(self, own: Identity) -> ClientConnection:
        proof = proof_of_part(own.credentials, own.workload, self._hub.url, clock=self._clock)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await Connect(
                    self._hub.channel(channel_path(own.teamspace)),
                    ssl=self._hub.context(),
                    additional_headers={"Authorization": proof},
                    user_agent_header=f"codezero/{__version__}",
                    max_size=MAX_MESSAGE,
                    max_queue=16,
                    compression=None,
                    proxy=None,
                    ping_interval=None,
                    close_timeout=2.0,
                )
        except InvalidStatus as error:
            response = error.response
            raise _refused(bytes(response.body or b""), response.status_code) from None
        except TimeoutError:
            raise CodezeroError(problems.HUB_UNREACHABLE, f"{self._hub.url} does not answer") from None
        except ssl.SSLError as error:
            why = f"{self._hub.url} is not believed: {error.reason or error}"
            raise CodezeroError(problems.HUB_UNREACHABLE, why) from None
        except (OSError, WebSocketException) as error:
            raise CodezeroError(problems.HUB_UNREACHABLE, f"{self._hub.url} cannot be reached: {error}") from None

    def _hello(self, entry: tuple[str, int] | None) -> Hello:
        policy = self._coordinator.admission.policy
        return Hello(
            PROTOCOL_VERSIONS,
            __version__,
            self._events.epoch,
            policy.serial if isinstance(policy, Bundle) else None,
            None if entry is None else entry[0],
            None if entry is None else entry[1],
        )

    async def _until_inactive(self) -> None:
        while True:
            await _until(self._coordinator.activity, lambda active: not active)
            await asyncio.sleep(INACTIVE_SECONDS)
            if not self._coordinator.activity.value:
                return

    async def _say_again(self) -> None:
        """Tell what holds at the beginning, and to Systems that come what was forgotten with those that left: the channel stands as before."""
        async for active in self._coordinator.activity.changes():
            if active:
                for word in self._words.values():
                    self._coordinator.pass_on(word)

    def _pass_on(self, word: FromHub) -> None:
        self._words[type(word)] = word
        self._coordinator.pass_on(word)

    async def tell_all(self) -> None:
        """What the Hub has not heard yet, before an end that was planned: it gets a moment to take it, where there is a channel."""
        if not self.connected:
            return
        self._events.tell_counted()
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._events.all_taken()
        except TimeoutError:
            _log.warning("the Hub has not taken all that happened", events=len(self._events))

    # --- down --------------------------------------------------------------------------------------------------------------------------

    async def _receive(self, messages: _Messages, teamspace: TeamspaceId) -> None:
        while True:
            await self._hear(await messages.receive(), teamspace)

    async def _hear(self, message: ToTeamspace, teamspace: TeamspaceId) -> None:
        match message:
            case PolicyPush(content=content):
                await self._take_policy(content, teamspace)
            case KeysPush(jwks=jwks, device_issuers=device_issuers):
                self._pass_on(KeysTold(jwks, device_issuers))
            case EndSession(session=session, reason=reason):
                was_there = self._coordinator.end_session(SessionId(session), reason or "an administrator ended it")
                _log.info("session ended by the Hub", session=session, was_there=was_there)
            case EndVariant(variant=variant, reason=reason):
                self._end_variant(variant, reason or "an administrator ended it")
            case Rotate(since=since):
                self._pass_on(RotationWanted(since))
            case Acknowledged(upto=upto):
                self._events.acknowledged(upto)
            case Farewell():
                raise _sent_away(message)
            case Ping():
                pass
            case Welcome():
                raise CodezeroError(problems.PROTOCOL, "a second Welcome came from the Hub")

    async def _take_policy(self, content: bytes, teamspace: TeamspaceId) -> None:
        """Decide by it from now on; one that cannot be used is left aside, for the one in force is better than none."""
        try:
            policy = policy_file.read(content)
            if not isinstance(policy, Bundle) or policy.space != teamspace:
                _log.error("the Hub's policy is for another Teamspace, that of before stays")
                return
            policy, content = self._dated(policy, content)
        except (CodezeroError, ValueError, OverflowError) as error:
            # The latter of times that do not exist by this clock.
            _log.error("the Hub's policy cannot be used, that of before stays", reason=str(error))
            return
        if self._coordinator.policy_read(content):
            _log.info("policy came from the Hub", serial=policy.serial)
            await self._coordinator.decide_again()
        self._coordinator.pass_on(PolicyTold(content))

    def _dated(self, policy: Bundle, content: bytes) -> tuple[Bundle, bytes]:
        """The policy by this clock. It comes fresh from the Hub, so only clocks can make it old or of tomorrow: that ends nothing, and what it takes away counts (T48)."""
        now = self._clock()
        ahead = policy.issued_at - now
        if abs(ahead) <= MOST_SKEW_SECONDS:
            return policy, content
        _log.warning("the clocks of Hub and Teamspace differ", hub_is_ahead_seconds=round(ahead))
        dated = replace(policy, issued_at=now, expires_at=policy.expires_at - ahead)
        return dated, policy_file.encode(dated)

    def _end_variant(self, variant: str, reason: str) -> None:
        try:
            was_there = self._coordinator.end_variant(variant, reason)
        except CodezeroError as error:
            _log.warning("variant not ended", variant=variant, reason=error.detail)
        else:
            _log.info("variant ended by the Hub", variant=variant, was_there=was_there)

    # --- up ----------------------------------------------------------------------------------------------------------------------------

    async def _picture(self, messages: _Messages) -> None:
        board: Board = self._coordinator.board
        catalog: int | None = None
        presence: int | None = None
        stale: float | None = None
        while True:
            if board is not self._coordinator.board:
                board, catalog, presence = self._coordinator.board, None, None
            if board.catalog_known and (catalog != board.catalog_revision or stale != board.stale_since):
                told = _catalog(board, catalog)
                catalog, stale = board.catalog_revision, board.stale_since
                for one in told:
                    await messages.send(one)
            if presence != board.presence_revision:
                told = _presence(board, presence)
                presence = board.presence_revision
                for one in told:
                    await messages.send(one)
            await asyncio.sleep(PICTURE_SECONDS)

    async def _send_events(self, messages: _Messages) -> None:
        while True:
            while part := self._events.due():
                await messages.send(EventsTold(tuple(part)))
            await self._events.wait(PING_SECONDS)

    async def _entry(self, messages: _Messages, told: tuple[str, int] | None) -> None:
        """Tell of each address but the one that was told in the beginning."""
        async for entry in self._coordinator.entry.changes():
            if entry is not None and entry != told:
                await messages.send(EntryMoved(*entry))
            told = entry


def _catalog(board: Board, revision: int | None) -> Sequence[CatalogTold]:
    changes = board.catalog_since(revision)
    parts = list(parts_of(changes.upserts, weight=service_weight, most=_ITEMS_IN_A_PART)) or [()]
    return [
        CatalogTold(
            part,
            changes.removes if number == 0 else (),
            reset=changes.reset and number == 0,
            last=number == len(parts) - 1,
            stale_since=board.stale_since,
        )
        for number, part in enumerate(parts)
    ]


def _presence(board: Board, revision: int | None) -> Sequence[PresenceTold]:
    changes = board.presence_since(revision)
    parts = list(parts_of(changes.upserts, weight=presence_weight, most=_ITEMS_IN_A_PART)) or [()]
    return [
        PresenceTold(
            part,
            changes.removes if number == 0 else (),
            reset=changes.reset and number == 0,
            last=number == len(parts) - 1,
        )
        for number, part in enumerate(parts)
    ]


async def _welcomed(messages: _Messages) -> None:
    answer = await messages.receive(within=HELLO_SECONDS)
    if isinstance(answer, Farewell):
        raise _sent_away(answer)
    if not isinstance(answer, Welcome):
        raise CodezeroError(problems.PROTOCOL, f"{type(answer).__name__} came from the Hub instead of Welcome")


async def _ping(messages: _Messages) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await messages.send(Ping())


def _sent_away(farewell: Farewell) -> CodezeroError:
    problem = problems.ALL.get(farewell.code, problems.HUB_UNREACHABLE)
    return CodezeroError(problem, f"the Hub ended the channel: {farewell.detail}")


def _refused(body: bytes, status: int) -> CodezeroError:
    error = problem_json.decode(body, status=status)
    return CodezeroError(error.problem, f"the Hub refuses this Teamspace: {error.detail}", fix=error.fix)


async def _until(watched: Watched[T], holds: Callable[[T], bool]) -> None:
    async for value in watched.changes():
        if holds(value):
            return
