"""Questions and answers between replicas of the Hub on one PostgreSQL: the page is at one of them, its machine at another.

Each replica has a mailbox, a table's rows, and is woken by the database when something comes (`signals.mail`). Of each answer one piece is on its way;
whoever falls silent is forgotten by the others, with all that was its own. What is here whole is passed on; what is not is cut, never ended.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from sqlalchemy import ColumnElement, Select, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import signals
from codezero.hub.context import Hub
from codezero.hub.relay.answers import Answer, away
from codezero.hub.relay.connections import Connection, Question
from codezero.hub.storage.tables import RelayMachine, RelayPost, RelayReplica
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.wire.paired import Ask, Head, More, Piece, Stop

# How often each says that it is there, and after what silence it is there no more.
SEEN_SECONDS: Final = 3.0
GONE_SECONDS: Final = 15.0
# Also where nobody was woken.
LOOK_SECONDS: Final = 5.0
# What nobody has taken by then is for nobody.
KEPT_SECONDS: Final = 60.0
_AT_ONCE: Final = 8
_MOST_POSTING: Final = 4
_PAUSE_SECONDS: Final = 0.3
_FAREWELL_SECONDS: Final = 2.0

_log = get_logger("relay")


class _Away(msgspec.Struct, frozen=True, tag="away"):
    """The answer to `id` does not come, or not whole."""

    id: int
    code: str
    detail: str
    fix: str | None = None


class _Displaced(msgspec.Struct, frozen=True, tag="displaced"):
    """The machine is connected elsewhere by now."""


class _Post(msgspec.Struct, frozen=True, array_like=True):
    """What one replica has for another: about `connection` of a machine, from `sender`, whose questions have numbers of its own."""

    sender: str
    connection: Annotated[str, msgspec.Meta(max_length=26)]
    word: Ask | More | Stop | Head | Piece | _Away | _Displaced


_DECODER: Final = msgspec.msgpack.Decoder(_Post)
_ENCODER: Final = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Connected:
    """A machine that can be asked."""

    machine: str
    name: str
    connected_at: datetime


@dataclass(slots=True)
class _Awaited:
    """An answer that comes from another replica."""

    answer: Answer
    replica: str


@dataclass(slots=True)
class _Carried:
    """An answer of a machine here, which goes to another replica."""

    task: "asyncio.Task[None]"
    more: asyncio.Event = field(default_factory=asyncio.Event)


class Replicas:
    """This replica among the others. `here` are the machines that are connected to it, by user and machine."""

    def __init__(self, hub: Hub, here: Mapping[tuple[str, str], Connection]) -> None:
        self.id = new_ulid()
        self._hub = hub
        self._here = here
        self._awaited: dict[int, _Awaited] = {}
        self._carried: dict[tuple[str, int], _Carried] = {}
        self._asked = 0
        # Connections that ended while the database did not answer.
        self._left: set[str] = set()
        self._seen_at: float | None = None
        self._tasks: Tasks | None = None
        # Other parts of the Hub need the database, too.
        self._posting = asyncio.Semaphore(_MOST_POSTING)

    async def run(self) -> None:
        """Take what others have for this one, and say that it is there, for as long as the Hub runs."""
        try:
            async with task_group("replicas") as tasks:
                self._tasks = tasks
                tasks.start_service("mail", self._take_mail())
                tasks.start_service("seen", self._stay_seen())
                await asyncio.Event().wait()
        finally:
            self._tasks = None
            await self._say_goodbye()

    def end(self) -> None:
        """Wait for no other replica's answers any more."""
        for awaited in self._awaited.values():
            awaited.answer.fail(away())

    # --- machines --------------------------------------------------------------------------------------------------------------------------

    async def announce(self, connection: Connection) -> None:
        """Let the others know that the machine is here now, and the one who had it before, that it is there no more."""
        values = {
            "user_id": connection.user,
            "machine": connection.machine,
            "replica_id": self.id,
            "connection_id": connection.id,
            "name": connection.name,
            "connected_at": connection.connected_at,
        }
        key = " ".join(connection.key)
        async with self._hub.database.passing() as session:
            # Of two connections of one machine at once, each at its replica, one is the newer one.
            await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
            before = await session.scalar(_machine(*connection.key))
            await self._be_seen(session)
            row = postgresql.insert(RelayMachine).values(values)
            await session.execute(row.on_conflict_do_update(index_elements=["user_id", "machine"], set_=values))
            if before is not None and before.replica_id != self.id:
                await self._put(session, before.replica_id, _Post(self.id, before.connection_id, _Displaced()))

    async def withdraw(self, connection: Connection) -> None:
        """The machine's connection has ended."""
        self._left.add(connection.id)
        try:
            async with self._hub.database.passing() as session:
                await session.execute(delete(RelayMachine).where(RelayMachine.connection_id == connection.id))
        except (CodezeroError, SQLAlchemyError, OSError) as error:
            _log.warning("the end of a connection is noted later", error=type(error).__name__)
        else:
            self._left.discard(connection.id)

    async def machines(self, user: str) -> Sequence[Connected]:
        """The machines of `user` at other replicas."""
        rows = (
            select(RelayMachine)
            .join(RelayReplica, RelayReplica.id == RelayMachine.replica_id)
            .where(RelayMachine.user_id == user, RelayMachine.replica_id != self.id, _is_alive())
        )
        async with self._hub.database.passing() as session:
            return [Connected(row.machine, row.name, row.connected_at) for row in await session.scalars(rows)]

    @asynccontextmanager
    async def asked(self, user: str, machine: str, question: Question) -> AsyncGenerator[Answer]:
        """The answer of a machine at another replica; leaving the block ends it. Raises `CodezeroError` (MACHINE_AWAY, DATABASE_BUSY)."""
        alive = _machine(user, machine).join(RelayReplica, RelayReplica.id == RelayMachine.replica_id)
        async with self._hub.database.passing() as session:
            row = await session.scalar(alive.where(RelayMachine.replica_id != self.id, _is_alive()))
        if row is None:
            raise away()
        replica, connection = row.replica_id, row.connection_id

        async def say(word: Ask | More | Stop) -> None:
            await self._send(replica, _Post(self.id, connection, word))

        self._asked += 1
        number = self._asked
        answer = Answer(number, say)
        self._awaited[number] = _Awaited(answer, replica)
        try:
            try:
                await say(Ask(number, question.method, question.target, question.proof, question.body))
            except EOFError:
                raise CodezeroError(problems.DATABASE_BUSY, "the Hub's database does not answer") from None
            yield answer
        finally:
            del self._awaited[number]
            await answer.leave()

    # --- mail ------------------------------------------------------------------------------------------------------------------------------

    async def _send(self, replica: str, post: _Post) -> None:
        """Put it into another's mailbox; raises EOFError where the database does not answer until that one counts as gone."""
        give_up = asyncio.get_running_loop().time() + GONE_SECONDS
        while True:
            try:
                async with self._posting, self._hub.database.passing() as session:
                    await self._put(session, replica, post)
            except (CodezeroError, SQLAlchemyError, OSError) as error:
                if asyncio.get_running_loop().time() >= give_up:
                    raise EOFError("the database does not answer") from error
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _put(self, session: AsyncSession, replica: str, post: _Post) -> None:
        sealed = self._hub.sealer.seal(_ENCODER.encode(post), purpose=_purpose(replica))
        row = {"replica_id": replica, "sealed": sealed, "created_at": func.now()}
        await session.execute(insert(RelayPost).values(row))
        self._hub.signals.tell(session, signals.mail(replica))

    async def _take_mail(self) -> None:
        # Listened to before anything is read: what comes in between wakes it again.
        changes = self._hub.signals.mail(self.id)
        while True:
            try:
                while (posts := await self._taken()) is not None:
                    for post in posts:
                        self._deliver(post)
            except (CodezeroError, SQLAlchemyError, OSError) as error:
                _log.warning("what others pass on has to wait", error=type(error).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await anext(changes)

    async def _taken(self) -> Sequence[_Post] | None:
        """The oldest words for this replica, which are in the mailbox no more; None where there are none."""
        oldest = select(RelayPost.number).where(RelayPost.replica_id == self.id).order_by(RelayPost.number)
        taking = (
            delete(RelayPost)
            .where(RelayPost.number.in_(oldest.limit(_AT_ONCE)))
            .returning(RelayPost.number, RelayPost.sealed)
            .execution_options(synchronize_session=False)
        )
        async with self._hub.database.passing() as session:
            rows = sorted((number, sealed) for number, sealed in await session.execute(taking))
        if not rows:
            return None
        return [post for _, sealed in rows if (post := self._opened(sealed)) is not None]

    def _opened(self, sealed: bytes) -> _Post | None:
        """A word of another replica; None for what only a newer release understands."""
        try:
            return _DECODER.decode(self._hub.sealer.unseal(sealed, purpose=_purpose(self.id)))
        except (CodezeroError, msgspec.DecodeError, ValueError) as error:
            _log.warning("a word of another replica cannot be read", error=type(error).__name__)
            return None

    def _deliver(self, post: _Post) -> None:
        match post.word:
            case Ask() as asking:
                self._carry(post.sender, post.connection, asking)
            case More(id=number):
                if (carried := self._carried.get((post.sender, number))) is not None:
                    carried.more.set()
            case Stop(id=number):
                if (carried := self._carried.get((post.sender, number))) is not None:
                    carried.task.cancel()
            case _Displaced():
                for connection in self._here.values():
                    if connection.id == post.connection:
                        connection.end(displaced())
            case (Head() | Piece() | _Away()) as word:
                awaited = self._awaited.get(word.id)
                # What is on its way when the page leaves comes to nobody.
                if awaited is not None and awaited.replica == post.sender:
                    _tell(awaited.answer, word)

    def _carry(self, sender: str, connection: str, asking: Ask) -> None:
        assert self._tasks is not None
        more = asyncio.Event()
        task = self._tasks.start("carry", self._carried_to(sender, connection, asking, more))
        key = (sender, asking.id)
        self._carried[key] = _Carried(task, more)
        task.add_done_callback(lambda _: self._carried.pop(key, None))

    async def _carried_to(self, sender: str, connection: str, asking: Ask, more: asyncio.Event) -> None:
        """Ask a machine here for another replica, and send the answer there."""

        async def say(word: Head | Piece | _Away) -> None:
            await self._send(sender, _Post(self.id, connection, word))

        number = asking.id
        found = next((one for one in self._here.values() if one.id == connection), None)
        try:
            try:
                if found is None:
                    raise away()
                question = Question(asking.method, asking.target, asking.proof, asking.body)
                async with found.asked(question) as answer:
                    head = await answer.head()
                    await say(Head(number, head.status, head.kind))
                    while True:
                        piece = await answer.piece()
                        await say(Piece(number, piece.content, piece.is_last))
                        if piece.is_last:
                            return
                        await more.wait()
                        more.clear()
                        await answer.more()
            except CodezeroError as error:
                await say(_Away(number, error.problem.code, error.detail, error.fix))
        except EOFError:
            # Whoever waits for it hears as little from the database, and ends it by themselves.
            _log.warning("an answer was not passed on, the database does not answer")

    # --- being there -----------------------------------------------------------------------------------------------------------------------

    async def _stay_seen(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._look_around()
                self._seen_at = loop.time()
            except (CodezeroError, SQLAlchemyError, OSError) as error:
                _log.warning("other replicas are not seen", error=type(error).__name__)
                if self._seen_at is not None and loop.time() - self._seen_at > GONE_SECONDS:
                    self._cut(present=frozenset())
            await asyncio.sleep(SEEN_SECONDS)

    async def _look_around(self) -> None:
        """Be seen, see who else is there, and clear away what was of those who are not."""
        left = tuple(self._left)
        async with self._hub.database.passing() as session:
            was_known = await self._be_seen(session)
            await session.execute(delete(RelayReplica).where(~_is_alive()).execution_options(synchronize_session=False))
            present = frozenset(await session.scalars(select(RelayReplica.id)))
            for table in (RelayMachine, RelayPost):
                of_nobody = delete(table).where(table.replica_id.not_in(select(RelayReplica.id)))
                await session.execute(of_nobody.execution_options(synchronize_session=False))
            old = RelayPost.created_at < func.now() - timedelta(seconds=KEPT_SECONDS)
            await session.execute(delete(RelayPost).where(old).execution_options(synchronize_session=False))
            if left:
                await session.execute(delete(RelayMachine).where(RelayMachine.connection_id.in_(left)))
        self._left.difference_update(left)
        if not was_known and self._seen_at is not None:
            _log.warning("this replica counted as gone")
            self._cut(present=frozenset())
            # Machines come again, here or elsewhere; those that are elsewhere already are so.
            for connection in tuple(self._here.values()):
                connection.end(CodezeroError(problems.MACHINE_AWAY, "this replica of the Hub was away"))
        else:
            self._cut(present=present)

    async def _be_seen(self, session: AsyncSession) -> bool:
        """Say that this replica is there; whether it was known."""
        seen = update(RelayReplica).where(RelayReplica.id == self.id).values(seen_at=func.now())
        known = await session.scalar(seen.returning(RelayReplica.id).execution_options(synchronize_session=False))
        if known is None:
            row = postgresql.insert(RelayReplica).values(id=self.id, seen_at=func.now())
            await session.execute(row.on_conflict_do_nothing())
        return known is not None

    def _cut(self, *, present: frozenset[str]) -> None:
        """End what comes from and goes to replicas that are not `present`."""
        for awaited in self._awaited.values():
            if awaited.replica not in present:
                awaited.answer.fail(away())
        for (sender, _), carried in self._carried.items():
            if sender not in present:
                carried.task.cancel()

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS), self._hub.database.passing() as session:
                await session.execute(delete(RelayReplica).where(RelayReplica.id == self.id))
                for table in (RelayMachine, RelayPost):
                    await session.execute(delete(table).where(table.replica_id == self.id))
        except (CodezeroError, SQLAlchemyError, OSError) as error:
            _log.info("others will find out by themselves that this replica has gone", error=type(error).__name__)


def displaced() -> CodezeroError:
    """What a connection is told in whose place a newer one came."""
    return CodezeroError(problems.ALREADY_THERE, "a newer connection of this machine took the place of this one")


def _tell(answer: Answer, word: Head | Piece | _Away) -> None:
    try:
        if isinstance(word, _Away):
            problem = problems.ALL.get(word.code, problems.MACHINE_AWAY)
            answer.fail(CodezeroError(problem, word.detail, fix=word.fix))
        else:
            answer.tell(word)
    except CodezeroError as error:
        answer.fail(error)


def _machine(user: str, machine: str) -> Select[RelayMachine]:
    return select(RelayMachine).where(RelayMachine.user_id == user, RelayMachine.machine == machine)


def _is_alive() -> ColumnElement[bool]:
    return RelayReplica.seen_at > func.now() - timedelta(seconds=GONE_SECONDS)


def _purpose(replica: str) -> str:
    return f"relay {replica}"
