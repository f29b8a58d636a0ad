"""The database, opened the one safe way: whatever a transaction reads, nobody changes before it is committed.

SQLite's own default loses updates of concurrent transactions (382 of 800 in an experiment, which is a test here): so each transaction begins by
taking the write lock. PostgreSQL runs them serializable, and those that collide are done again. Both need transactions to be short: no network inside.

What only reads sees one state of the database, and waits for nobody.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from codezero.model import problems
from codezero.model.problems import CodezeroError

T = TypeVar("T")

BUSY_SECONDS: Final = 5.0
# How long one waits for one's turn among those of the same process.
TURN_SECONDS: Final = 30.0
# How long something is done again that collides with others. Time and not attempts: on a machine that is busy, collisions are many and short.
PATIENCE_SECONDS: Final = 20.0
_LONGEST_PAUSE: Final = 0.5
# Serialization failure, deadlock: nothing was done, and the same again will do.
_AGAIN: Final = {"40001", "40P01"}
_READING: Final = "codezero_reading"
# The task that is in a transaction: a second one inside would wait for the first, and so for itself.
_in_transaction: ContextVar[asyncio.Task[Any] | None] = ContextVar("in_transaction", default=None)


class Database:
    """Transactions on one database. `is_postgresql` tells which of the two kinds it is."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        reading = (
            {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            if engine.dialect.name == "postgresql"
            else {_READING: True}
        )
        self._reading = async_sessionmaker(engine.execution_options(**reading), expire_on_commit=False)
        self._passing = async_sessionmaker(
            engine.execution_options(isolation_level="READ COMMITTED") if self.is_postgresql else engine,
            expire_on_commit=False,
        )
        # SQLite lets those who wait for its write lock try again and again, and the unlucky one never gets it; here they stand in line.
        self._turn = asyncio.Lock()

    @staticmethod
    def open(url: str) -> "Database":
        """The database of `url`: `sqlite:///path` or `postgresql://...`; raises `CodezeroError` (BAD_DATABASE) for any other. Connects when it is used."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise _not_one() from None
        match parsed.get_backend_name():
            case "sqlite" if parsed.database and parsed.database != ":memory:":
                return Database(_sqlite(Path(parsed.database)))
            case "postgresql":
                # libpq's name, which people know, and asyncpg's.
                query = {("ssl" if name == "sslmode" else name): value for name, value in parsed.query.items()}
                return Database(
                    create_async_engine(
                        parsed.set(drivername="postgresql+asyncpg", query=query),
                        isolation_level="SERIALIZABLE",
                        # Errors go into logs, and what was to be written may be hashes and names.
                        hide_parameters=True,
                        pool_pre_ping=True,
                        pool_size=8,
                        max_overflow=8,
                        pool_timeout=TURN_SECONDS,
                    )
                )
            case _:
                raise _not_one()

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL, hence possibly shared with other replicas."""
        return self.engine.dialect.name == "postgresql"

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession, None]:
        """A transaction, committed at the end and undone by any exception. A collision is raised; `run` is what does it again."""
        async with self._transaction(in_turn=not self.is_postgresql) as session:
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncSession, None]:
        """A transaction that only reads: one state of the database, without waiting for those who write. What it would write is refused."""
        try:
            async with self._reading() as session, session.begin():
                yield session
        except NoConnectionError:
            raise _busy() from None

    @asynccontextmanager
    async def passing(self) -> AsyncGenerator[AsyncSession, None]:
        """A transaction for rows of the moment, which are many and depend on no others: it collides with none, and keeps nothing as it was read (PostgreSQL)."""
        assert self.is_postgresql, "with SQLite nobody else is there to pass anything to"
        try:
            async with self._passing() as session, session.begin():
                yield session
        except NoConnectionError:
            raise _busy() from None

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Do `work` in a transaction, again from the start where it collided with another. Raises `CodezeroError` (DATABASE_BUSY) when it keeps colliding."""
        give_up = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        for attempt in itertools.count():
            try:
                # Those of this process that have collided do not collide with each other again.
                async with self._transaction(in_turn=attempt > 0 or not self.is_postgresql) as session:
                    return await work(session)
            except DBAPIError as error:
                if not _is_collision(error):
                    raise
            if asyncio.get_running_loop().time() >= give_up:
                break
            pause = min(_LONGEST_PAUSE, 0.01 * 2 ** min(attempt, 10))
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - to come at different times
        raise _busy()

    async def check(self) -> None:
        """Raise where the database does not answer."""
        async with self.reading() as session:
            await session.execute(text("select 1"))

    async def close(self) -> None:
        """Let go of all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def _transaction(self, *, in_turn: bool) -> AsyncGenerator[AsyncSession, None]:
        task = asyncio.current_task()
        if task is not None and _in_transaction.get() is task:
            raise RuntimeError("a transaction inside a transaction: hand the session on instead")
        before = _in_transaction.set(task)
        try:
            async with self._own_turn() if in_turn else nullcontext(), self._sessions() as session, session.begin():
                yield session
        except NoConnectionError:
            raise _busy() from None
        finally:
            _in_transaction.reset(before)

    @asynccontextmanager
    async def _own_turn(self) -> AsyncGenerator[None, None]:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        finally:
            self._turn.release()


def _sqlite(file: Path) -> AsyncEngine:
    # `timeout` is how long one waits for another's transaction.
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file}",
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:  # noqa: ANN401 # pyright: ignore[reportUnusedFunction]
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:  # noqa: ANN401 # pyright: ignore[reportUnusedFunction]
        reads = connection.get_execution_options().get(_READING, False)
        connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _is_collision(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return state in _AGAIN or (isinstance(error, OperationalError) and "database is locked" in str(error.orig))


def _busy() -> CodezeroError:
    return CodezeroError(
        problems.DATABASE_BUSY, "the database is too busy at the moment", fix="try again in a few seconds"
    )


def _not_one() -> CodezeroError:
    # The URL may hold a password, so it is not quoted.
    return CodezeroError(
        problems.BAD_DATABASE,
        "the database URL is neither sqlite:///PATH nor postgresql://USER@HOST/NAME",
        fix="set CODEZERO_HUB_DATABASE_URL, or leave it out for SQLite in the data folder",
    )
