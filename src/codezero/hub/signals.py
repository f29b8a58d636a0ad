"""What changed in the database, told to whoever waits for it: after the commit, never before, and to all replicas of the Hub.

A signal says that something is different and not what: whoever hears it reads the database. So one that is missed is made good by the next one,
and a listener that was away reads all.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from codezero.hub.storage.database import Database
from codezero.kit import logs
from codezero.kit.backoff import Backoff

_log = logs.get_logger("signals")

# Who does not listen for so many changes is told to read everything instead.
MOST_UNHEARD: Final = 256
_CHANNEL: Final = "codezero_hub"
_MAIL: Final = "mail"
# A connection that only listens does not notice that the other end is gone.
_PROBE_SECONDS: Final = 10.0


class Changed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something of `kind` of an organization changed.

    `mail` is for the one replica whose `id` it has, and heard by nobody else. The other kinds: `member`, `invitation`, `policy`, `space`, `device`, `apikey`, `user`, `organization`, `audit`, `picture`, `order`, and `authority` (of the Hub itself).
    """

    kind: str
    organization: str | None = None
    space: str | None = None
    id: str | None = None


def mail(replica: str) -> Changed:
    """There is something for `replica` (of the relay)."""
    return Changed(_MAIL, id=replica)


class Changes(AsyncIterator[Changed | None]):
    """What one listener has not heard yet. Equal changes are heard as one; after too many, as None."""

    def __init__(self) -> None:
        self._unheard: deque[Changed | None] = deque()
        self._news = asyncio.Event()

    def hear(self, changed: Changed | None) -> None:
        """Take note of a change, or with None that some may have been missed."""
        if changed in self._unheard or None in self._unheard:
            return
        if changed is None or len(self._unheard) >= MOST_UNHEARD:
            self._unheard.clear()
            changed = None
        self._unheard.append(changed)
        self._news.set()

    async def __anext__(self) -> Changed | None:
        while not self._unheard:
            self._news.clear()
            await self._news.wait()
        return self._unheard.popleft()


class Signals(Protocol):
    """How parts of the Hub hear of changes."""

    def tell(self, session: AsyncSession, changed: Changed) -> None:
        """Tell everybody when `session`'s transaction is committed; nobody where it is undone."""
        ...

    def changes(self) -> AsyncIterator[Changed | None]:
        """What changes from now on; None where some may have been missed, so that all is to be read again."""
        ...

    def mail(self, replica: str) -> AsyncIterator[Changed | None]:
        """That there is something for `replica`, or None where that may have been missed."""
        ...

    async def run(self) -> None:
        """Hear what other replicas change, for as long as the Hub runs."""
        ...


class LocalSignals:
    """Signals within this process: all there is with SQLite."""

    def __init__(self) -> None:
        # Whoever lets go of its changes listens no more.
        self._listeners: weakref.WeakSet[Changes] = weakref.WeakSet()
        # Words of the relay are many, and listeners too.
        self._of_mail: weakref.WeakValueDictionary[str, Changes] = weakref.WeakValueDictionary()

    def tell(self, session: AsyncSession, changed: Changed) -> None:
        """Tell everybody when `session`'s transaction is committed; nobody where it is undone."""

        def committed(session: Session) -> None:
            # The end of a savepoint is no commit.
            if not session.in_nested_transaction():
                self._spread(changed)

        event.listen(session.sync_session, "after_commit", committed)

    def changes(self) -> Changes:
        """What changes from now on; None where some may have been missed, so that all is to be read again."""
        listener = Changes()
        self._listeners.add(listener)
        return listener

    def mail(self, replica: str) -> Changes:
        """That there is something for `replica`, or None where that may have been missed."""
        listener = self._of_mail[replica] = Changes()
        return listener

    async def run(self) -> None:
        """There are no other replicas to hear."""
        await asyncio.Event().wait()

    def _spread(self, changed: Changed | None) -> None:
        if changed is not None and changed.kind == _MAIL:
            concerned = [self._of_mail.get(changed.id or "")]
        else:
            concerned = [*self._listeners, *(self._of_mail.values() if changed is None else ())]
        for listener in concerned:
            if listener is not None:
                listener.hear(changed)


class PostgresSignals(LocalSignals):
    """Signals to all that use the same PostgreSQL, this process among them, by its NOTIFY: which comes with the commit, or not at all."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._url = database.engine.url

    def tell(self, session: AsyncSession, changed: Changed) -> None:
        """Tell everybody when `session`'s transaction is committed; nobody where it is undone."""
        message = msgspec.json.encode(changed).decode()

        def committing(session: Session) -> None:
            if not session.in_nested_transaction():
                session.execute(text("SELECT pg_notify(:channel, :message)"), {"channel": _CHANNEL, "message": message})

        event.listen(session.sync_session, "before_commit", committing)

    async def run(self) -> None:
        """Hear what is told, and come back whenever the database went away; everybody then reads everything."""
        backoff = Backoff(first=0.2, most=5.0)
        while True:
            try:
                await self._listen(backoff)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning("changes of other replicas are not heard", error=type(error).__name__)
            await asyncio.sleep(backoff.next())

    async def _listen(self, backoff: Backoff) -> None:
        engine = create_async_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        ended = asyncio.Event()
        async with engine.connect() as connection:
            # SQLAlchemy knows no LISTEN: this is asyncpg's own connection.
            listening: Any = (await connection.get_raw_connection()).driver_connection
            listening.add_termination_listener(_setting(ended))
            await listening.add_listener(_CHANNEL, self._heard)
            self._spread(None)
            backoff.reset()
            while not ended.is_set():
                async with asyncio.timeout(_PROBE_SECONDS):
                    await connection.execute(text("SELECT 1"))
                try:
                    async with asyncio.timeout(_PROBE_SECONDS):
                        await ended.wait()
                except TimeoutError:
                    continue

    def _heard(self, _connection: object, _process: int, _channel: str, message: str) -> None:
        try:
            self._spread(msgspec.json.decode(message, type=Changed))
        except msgspec.DecodeError:
            # A newer Hub's kind of message.
            self._spread(None)


def _setting(ended: asyncio.Event) -> Callable[[object], None]:
    return lambda _connection: ended.set()


def of(database: Database) -> Signals:
    """The signals that fit `database`."""
    return PostgresSignals(database) if database.is_postgresql else LocalSignals()
