"""The connection of one machine, for as long as it and its user's sign-in stand: questions go down, answers come up, each side says that it is there."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from codezero.hub.context import Hub
from codezero.hub.relay.answers import Answer, away, broken
from codezero.hub.signin import standing
from codezero.hub.signin.callers import Caller, Via
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport import messages
from codezero.wire.paired import (
    ALIVE_SECONDS,
    MAX_SAID,
    MOST_AT_ONCE,
    RELAY_VERSIONS,
    SILENT_SECONDS,
    Alive,
    Ask,
    Broken,
    Farewell,
    FromMachine,
    Head,
    Hello,
    Piece,
    ToMachine,
    Welcome,
)

# What one machine may say: pieces as fast as pages take them, and others' turns in between.
BYTES_A_SECOND: Final = 16e6
LEAST_PAUSE_SECONDS: Final = 0.0005
FAREWELL_SECONDS: Final = 2.0

# Another try would end the same way.
_FINAL: Final = frozenset(
    {problems.VERSIONS, problems.PROTOCOL, problems.RELAY_OFF, problems.ROLE_FORBIDS, problems.ALREADY_THERE}
)

_DECODER: Final[msgspec.msgpack.Decoder[FromMachine]] = msgspec.msgpack.Decoder(FromMachine)
_ENCODER: Final = msgspec.msgpack.Encoder()

_log = get_logger("relay")

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Question:
    """What a page asks; `method` and `target` are among those that are allowed."""

    method: str
    target: str
    proof: str
    body: bytes


class Connection:
    """A machine that has said who it is. `send` and `receive` carry whole messages and raise EOFError at the end.

    `id` tells it from those that the same machine had before.
    """

    def __init__(self, hub: Hub, caller: Caller, hello: Hello, *, send: Send, receive: Receive) -> None:
        """Raises `CodezeroError` (ROLE_FORBIDS, VERSIONS) for a machine that is not taken."""
        if caller.via is not Via.DEVICE:
            raise CodezeroError(
                problems.ROLE_FORBIDS,
                "a machine is relayed for the person who has signed in at it, not with an API key",
                fix="czctl auth login",
            )
        common = set(hello.versions) & set(RELAY_VERSIONS)
        if not common:
            raise CodezeroError(
                problems.VERSIONS,
                f"the machine speaks versions {list(hello.versions)[:10]} of the relay, this Hub {list(RELAY_VERSIONS)}",
            )
        self.id = new_ulid()
        self.user = caller.user
        self.machine = hello.machine
        self.name = hello.name
        self.connected_at: datetime = hub.clock()
        self._version = max(common)
        self._hub = hub
        self._caller = caller
        self._send_bytes = send
        self._receive_bytes = receive
        self._answers: dict[int, Answer] = {}
        self._asked = 0
        self._ended: asyncio.Future[CodezeroError] = asyncio.get_running_loop().create_future()
        self._is_welcome = asyncio.Event()
        # Set once the machine was told why it ended.
        self.gone = asyncio.Event()
        self._sending = asyncio.Lock()

    @property
    def key(self) -> tuple[str, str]:
        """Whose it is, and which: the machine of another user is another one, whatever it calls itself."""
        return self.user, self.machine

    async def welcome(self) -> None:
        """Say that it is taken."""
        await self._send(Welcome(self._version))
        self._is_welcome.set()

    async def run(self) -> None:
        """Until it ends, for whatever reason; the machine is told why."""
        try:
            async with task_group("relay") as tasks:
                beside = [
                    tasks.start("alive", self._show_life()),
                    tasks.start("sign-in", self._while_signed_in()),
                    tasks.start("end", self._until_ended()),
                ]
                try:
                    await self._receive()
                finally:
                    for task in beside:
                        task.cancel()
        except* EOFError:
            _log.info("machine gone", user=self.user, machine=self.machine)
        except* TimeoutError:
            _log.info("machine silent", user=self.user, machine=self.machine)
        except* (SQLAlchemyError, OSError) as errors:
            _log.warning("the database does not answer", error=type(errors.exceptions[0]).__name__)
            await self._part(CodezeroError(problems.DATABASE_BUSY, "the Hub's database does not answer"))
        except* CodezeroError as errors:
            await self._part(cast("CodezeroError", errors.exceptions[0]))
        finally:
            self._fail_all()

    def end(self, error: CodezeroError) -> None:
        """Let `run` end because of `error`, or not begin."""
        self._is_welcome.set()
        if not self._ended.done():
            self._ended.set_result(error)

    @asynccontextmanager
    async def asked(self, question: Question) -> AsyncGenerator[Answer]:
        """The answer to `question`; leaving the block ends it. Raises `CodezeroError` (MACHINE_AWAY, TOO_MANY_REQUESTS)."""
        # Known to others a moment before: nothing comes to it before its welcome.
        await self._is_welcome.wait()
        if self._ended.done():
            raise away()
        if len(self._answers) >= MOST_AT_ONCE:
            raise CodezeroError(
                problems.TOO_MANY_REQUESTS,
                f"the machine has {MOST_AT_ONCE} questions to answer already",
                fix="close some of its pages",
            )
        answer = await self._begun(question)
        try:
            yield answer
        finally:
            # Told before its place is free: the machine counts as well.
            try:
                await answer.leave()
            finally:
                self._answers.pop(answer.number, None)

    async def _begun(self, question: Question) -> Answer:
        # Numbers go out in their order.
        async with self._sending:
            self._asked += 1
            number = self._asked
            answer = self._answers[number] = Answer(number, self._send)
            asking = Ask(number, question.method, question.target, question.proof, question.body)
            try:
                await self._send_bytes(_ENCODER.encode(asking))
            except BaseException as error:
                # The machine has not heard of it, so there is nothing to stop.
                self._answers.pop(number, None)
                if isinstance(error, EOFError):
                    raise away() from None
                raise
            return answer

    # --- up ----------------------------------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            async with asyncio.timeout(SILENT_SECONDS):
                content = await self._receive_bytes()
            match decoded(content):
                case Hello():
                    raise CodezeroError(problems.PROTOCOL, "a second Hello")
                case (Head() | Piece() | Broken()) as message:
                    self._take(message)
                case Alive():
                    pass
            await asyncio.sleep(LEAST_PAUSE_SECONDS + len(content) / BYTES_A_SECOND)

    def _take(self, message: Head | Piece | Broken) -> None:
        answer = self._answers.get(message.id)
        if answer is None or answer.is_over:
            if not 0 < message.id <= self._asked:
                raise CodezeroError(problems.PROTOCOL, "an answer to what nobody has asked")
            # It was on its way when the page left.
            return
        if isinstance(message, Broken):
            answer.fail(broken())
        else:
            answer.tell(message)
        if answer.is_over:
            del self._answers[answer.number]

    # --- beside ------------------------------------------------------------------------------------------------------------------------

    async def _show_life(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            await self._send(Alive())

    async def _while_signed_in(self) -> None:
        await standing.until_ended(self._hub, self._caller)
        raise CodezeroError(problems.NOT_SIGNED_IN, "the sign-in of this machine has ended", fix="czctl auth login")

    async def _until_ended(self) -> None:
        raise await self._ended

    async def _send(self, message: ToMachine) -> None:
        async with self._sending:
            await self._send_bytes(_ENCODER.encode(message))

    async def _part(self, error: CodezeroError) -> None:
        _log.info("machine let go", user=self.user, machine=self.machine, code=error.problem.code, reason=error.detail)
        await part(self._send_bytes, error)

    def _fail_all(self) -> None:
        self.end(away())
        self.gone.set()
        for answer in self._answers.values():
            answer.fail(away())
        self._answers.clear()


async def part(send: Send, error: CodezeroError) -> None:
    """Tell the other side why this ends, and whether to come again."""
    farewell = Farewell(error.problem.code, error.detail[:1000], error.problem not in _FINAL)
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await send(_ENCODER.encode(farewell))
    except (EOFError, TimeoutError):
        pass  # it is gone already


def decoded(content: bytes) -> FromMachine:
    """What a machine says; raises `CodezeroError` (PROTOCOL)."""
    return messages.decoded(content, _DECODER, limit=MAX_SAID)
