"""The way through the Hub: a WebSocket that this machine keeps, by which pages ask as they do directly (`wire.paired`).

The Hub is not believed. What it passes on is answered where it is signed by a page of that Hub's own origin; what is no message of the protocol ends
the connection, and nothing else.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.types import Message
from websockets.exceptions import ConnectionClosed

from codezero.cli import hub_socket
from codezero.cli.console import printable
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_client import connect as hub_client
from codezero.cli.loopback import requests
from codezero.cli.loopback.asking import Asked, LeftError
from codezero.cli.loopback.threads import Threads
from codezero.cli.paired import state
from codezero.cli.paired.desk import AUTHORIZATION, Desk
from codezero.cli.paired.state import Live
from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport import hub_messages
from codezero.transport.hub_http import HubEndpoint
from codezero.transport.hub_messages import HubMessages
from codezero.wire.paired import (
    ALIVE_SECONDS,
    HELLO_SECONDS,
    MAX_MESSAGE,
    MAX_PIECE,
    MOST_AT_ONCE,
    RELAY_PATH,
    RELAY_VERSIONS,
    SCHEME,
    SILENT_SECONDS,
    Alive,
    Ask,
    Broken,
    Farewell,
    FromMachine,
    Head,
    Hello,
    More,
    Piece,
    Stop,
    ToMachine,
    Welcome,
)

MOST_DELAY: Final = 30.0
# A connection that stood for so long was good: after its loss the next attempt comes soon.
GOOD_SECONDS: Final = 10.0
# Where the Hub says that another attempt is not worth it, until something changes on this machine.
NOT_WORTH_IT_SECONDS: Final = 600.0
# Pages sign what they ask; a Hub that passes on much else makes it up. So many at first, and so many a second.
_UNSIGNED: Final = 100
_UNSIGNED_A_SECOND: Final = 2.0
# Questions under way, with those that were stopped.
_MOST_AT_WORK: Final = 4 * MOST_AT_ONCE

_DECODER: Final[msgspec.msgpack.Decoder[ToMachine]] = msgspec.msgpack.Decoder(ToMachine)

_Messages = HubMessages[FromMachine, ToMachine]

_log = get_logger("relay")


class _NotWorthItError(CodezeroError):
    """The Hub has said goodbye, and that another attempt will end alike."""


class Relay:
    """Keeps the connection while a page of the Hub's is paired or waited for. `stands` says whether it does, `reason` why not."""

    def __init__(
        self,
        desk: Desk,
        live: Live,
        threads: Threads,
        *,
        changed: asyncio.Event,
        tell: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        """`changed` is set from outside when the state has changed; `tell` is called when it stands, and when it does not any more."""
        self.stands = False
        self.reason: str = "no page needs it"
        self._desk = desk
        self._live = live
        self._threads = threads
        self._changed = changed
        self._tell = tell
        self._backoff = backoff or Backoff(first=0.5, most=MOST_DELAY)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began, delay = time.monotonic(), NOT_WORTH_IT_SECONDS
            try:
                client, token = await self._threads.run(_signed_in)
                await self._keep(client.endpoint, token)
            except _NotWorthItError as error:
                self._is_away(error.detail)
            except CodezeroError as error:
                self._is_away(error.detail)
                if time.monotonic() - began > GOOD_SECONDS:
                    self._backoff.reset()
                delay = self._backoff.next()
            except Exception as error:  # noqa: BLE001 - the edge of one connection
                # A defect in handling what a Hub sends must not end the direct way.
                _log.exception("the connection to the Hub failed")
                self._is_away(f"the connection failed: {type(error).__name__}")
                delay = self._backoff.next()
            await self._wait(delay)

    def is_wanted(self, origin: str) -> bool:
        """Whether pages of that Hub may come by it."""
        try:
            present = self._live.now
        except CodezeroError:
            return False
        return present.relays and origin in present.origins

    def _is_away(self, reason: str) -> None:
        # It may be in the Hub's words, and people look at it in a terminal.
        reason = printable(reason)
        if self.stands or reason != self.reason:
            _log.info("no connection to the Hub", reason=reason)
        self.stands, self.reason = False, reason
        self._tell()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()

    async def _keep(self, endpoint: HubEndpoint, token: str) -> None:
        """Have a connection until it ends, or is not wanted, with the reason as `CodezeroError`."""
        if not self.is_wanted(endpoint.url):
            is_off = not self._live.now.relays
            raise _NotWorthItError(
                problems.RELAY_OFF,
                "switched off: czctl pair --relay" if is_off else f"no page of {endpoint.url} is paired",
            )
        socket = await hub_socket.connected(endpoint, RELAY_PATH, max_size=MAX_MESSAGE, max_queue=4, pings=False)
        messages: _Messages = HubMessages(socket, _DECODER, silent_seconds=SILENT_SECONDS)
        try:
            with hub_messages.failures():
                await messages.send(Hello(RELAY_VERSIONS, token, self._live.now.machine, state.machine_name()))
                await _welcomed(messages)
                self.stands, self.reason = True, ""
                self._tell()
                _log.info("connection to the Hub stands", hub=endpoint.url)
                async with task_group("relay") as tasks:
                    tasks.start_service("alive", _say_alive(messages))
                    tasks.start_service("wanted", self._until_unwanted(endpoint.url))
                    await _Conversation(messages, self._desk, endpoint.url, tasks).run()
        except CodezeroError as error:
            if error.problem is problems.PROTOCOL:
                # To what else it has said, nobody listens.
                socket.transport.abort()
            raise
        finally:
            await socket.close()

    async def _until_unwanted(self, origin: str) -> None:
        while self.is_wanted(origin):
            await self._changed.wait()
            self._changed.clear()
        raise CodezeroError(problems.RELAY_OFF, "it is not wanted any more")


class _Conversation:
    """What one connection says after the greeting."""

    def __init__(self, messages: _Messages, desk: Desk, origin: str, tasks: Tasks) -> None:
        self._messages = messages
        self._desk = desk
        self._origin = origin
        self._tasks = tasks
        self._answers: dict[int, _Answer] = {}
        # Of those that were stopped, some come to their end a moment later.
        self._at_work = 0
        self._last = -1
        self._unsigned = float(_UNSIGNED)
        self._at = time.monotonic()

    async def run(self) -> None:
        """Until it ends, which is an exception."""
        while True:
            self._hear(await self._messages.receive())

    def _hear(self, message: ToMachine) -> None:
        match message:
            case Ask():
                self._begin(message)
            case More(id=number):
                if (answer := self._known(number)) is not None:
                    answer.more.set()
            case Stop(id=number):
                if (answer := self._known(number)) is not None:
                    answer.stop()
            case Farewell():
                raise _sent_away(message)
            case Alive():
                pass
            case Welcome():
                raise _nonsense("a second Welcome")

    def _known(self, number: int) -> "_Answer | None":
        """The answer under way; None for one that has ended meanwhile."""
        if not 0 <= number <= self._last:
            raise _nonsense("a word about nothing that was asked")
        return self._answers.get(number)

    def _begin(self, ask: Ask) -> None:
        if ask.id <= self._last:
            raise _nonsense("a number that was used before")
        if len(self._answers) >= MOST_AT_ONCE:
            raise _nonsense(f"more than {MOST_AT_ONCE} questions at once")
        if self._at_work >= _MOST_AT_WORK:
            raise _nonsense("more than can be stopped")
        self._last = ask.id
        self._at_work += 1
        answer = _Answer(ask.id, self._messages, over=lambda: self._answers.pop(ask.id, None))
        self._answers[ask.id] = answer
        self._tasks.start(f"answer-{ask.id}", self._answer(ask, answer))

    async def _answer(self, ask: Ask, answer: "_Answer") -> None:
        sending = requests.Sending(answer.send)
        is_unsigned = False
        try:
            try:
                await self._desk.answer(_asked(ask, answer, sending), origin=self._origin)
            except CodezeroError as error:
                is_unsigned = error.problem in (problems.PAGE_NOT_PAIRED, problems.PAIRING_CLOSED)
                await sending.problem(error)
            except (LeftError, ConnectionClosed):
                raise
            except Exception:  # noqa: BLE001 - the edge of one request
                _log.exception("a request failed")
                await sending.problem(
                    CodezeroError(problems.INTERNAL, "the request failed; the machine's log says more")
                )
        except LeftError:
            pass
        except CodezeroError:
            # The answer had begun, and breaks off.
            await answer.break_off()
        finally:
            answer.over()
            self._at_work -= 1
        if is_unsigned:
            self._count_unsigned()

    def _count_unsigned(self) -> None:
        now = time.monotonic()
        self._unsigned = min(_UNSIGNED, self._unsigned + (now - self._at) * _UNSIGNED_A_SECOND) - 1
        self._at = now
        if self._unsigned < 0:
            raise _nonsense("much that no page has signed")


class _Answer:
    """ASGI's two ends for one question: pieces go when the page has taken those before, and none after it has left (`LeftError`)."""

    def __init__(self, number: int, messages: _Messages, *, over: Callable[[], object]) -> None:
        """`over` is called when nothing more comes, before that is said: the Hub may ask the next one at once."""
        self.over = over
        # Set where the page has taken what came before.
        self.more = asyncio.Event()
        self._stopped = asyncio.Event()
        self._number = number
        self._messages = messages
        self._is_first = True
        self._has_ended = False

    def stop(self) -> None:
        """The page does not wait any more."""
        self.over()
        self._stopped.set()
        self.more.set()

    async def receive(self) -> Message:
        """That the page has left, once it has."""
        await self._stopped.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        if self._stopped.is_set():
            raise LeftError
        if message["type"] == "http.response.start":
            kind = dict(message.get("headers", ())).get(b"content-type", b"").decode("latin-1")
            await self._messages.send(Head(self._number, message["status"], kind))
            return
        content: bytes = message.get("body", b"")
        is_last = not message.get("more_body", False)
        pieces = [content[at : at + MAX_PIECE] for at in range(0, len(content), MAX_PIECE)]
        if is_last and not pieces:
            pieces = [b""]
        for number, piece in enumerate(pieces, 1):
            await self._piece(piece, is_last=is_last and number == len(pieces))

    async def break_off(self) -> None:
        """Say that nothing more comes, and that it is not whole."""
        if not self._has_ended and not self._stopped.is_set():
            self.over()
            await self._messages.send(Broken(self._number))

    async def _piece(self, content: bytes, *, is_last: bool) -> None:
        if not self._is_first:
            await self.more.wait()
        if self._stopped.is_set():
            raise LeftError
        self._is_first = False
        self.more.clear()
        self._has_ended = is_last
        if is_last:
            self.over()
        await self._messages.send(Piece(self._number, content, is_last))


def _signed_in() -> tuple[HubClient, str]:
    client = hub_client()
    return client, client.authorization().removeprefix("Bearer ")


def _asked(ask: Ask, answer: _Answer, sending: requests.Sending) -> Asked:
    """The question in the form that comes directly, held against the same rules."""
    try:
        path, _, query = ask.target.encode("ascii").partition(b"?")
    except UnicodeEncodeError:
        raise CodezeroError(problems.BAD_REQUEST, "the target of the request is no path") from None
    requests.check_target(path, query)
    headers = {AUTHORIZATION: f"{SCHEME} {ask.proof}"}
    return Asked(ask.method, path.decode("ascii"), ask.target, headers, ask.body, answer.receive, sending.send)


async def _welcomed(messages: _Messages) -> None:
    answer = await messages.receive(within=HELLO_SECONDS)
    if isinstance(answer, Farewell):
        raise _sent_away(answer)
    if not isinstance(answer, Welcome) or answer.version not in RELAY_VERSIONS:
        raise _nonsense("no Welcome of a version that was offered")


async def _say_alive(messages: _Messages) -> None:
    while True:
        await asyncio.sleep(ALIVE_SECONDS)
        await messages.send(Alive())


def _sent_away(farewell: Farewell) -> CodezeroError:
    problem = problems.ALL.get(farewell.code, problems.HUB_UNREACHABLE)
    kind = CodezeroError if farewell.retry else _NotWorthItError
    return kind(problem, f"the Hub ended it: {farewell.detail}")


def _nonsense(what: str) -> CodezeroError:
    return CodezeroError(problems.PROTOCOL, f"{what} came from the Hub")
