"""From settings to a Hub: the master key's file, the database with its tables as this release wants them, what signs, and what tells of changes."""

import fcntl
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from codezero.hub import master_key, signals
from codezero.hub.authorities import Authorities
from codezero.hub.context import Hub
from codezero.hub.sealing import Sealer
from codezero.hub.settings import HubSettings
from codezero.hub.signin import providers
from codezero.hub.storage import migrations
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import Install
from codezero.model import problems
from codezero.model.problems import CodezeroError

_LOCK = "czhub.lock"


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@asynccontextmanager
async def opened(settings: HubSettings, *, clock: Callable[[], datetime] = now) -> AsyncGenerator[Hub]:
    """The Hub of these settings, ready for use, made where there was none. Raises `CodezeroError` (BAD_DATABASE, BAD_MASTER_KEY, BAD_REQUEST)."""
    known = providers.read(settings.providers_file) if settings.providers_file is not None else ()
    make_folder(settings.data_folder)
    database = Database.open(settings.database_url)
    try:
        key = _master_key(settings.master_key_file, database_is_used=await is_used(database))
        await migrations.upgrade(database)
        sealer = Sealer(key)
        yield Hub(
            database=database,
            sealer=sealer,
            signals=signals.of(database),
            authorities=await Authorities.load(database, sealer, clock),
            public_url=settings.public_url,
            clock=clock,
            providers=known,
            has_relay=settings.has_relay,
        )
    finally:
        await database.close()


@contextmanager
def sole(settings: HubSettings) -> Generator[None, None, None]:
    """Be the only `czhub serve` of a data folder: with SQLite, changes are told within one process. Raises `CodezeroError` (BAD_DATABASE)."""
    make_folder(settings.data_folder)
    descriptor = os.open(settings.data_folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CodezeroError(
                problems.BAD_DATABASE,
                f"another czhub runs with the data folder {settings.data_folder}",
                fix="end it first, or give this one a data folder of its own and both of them one PostgreSQL",
            ) from None
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make the data folder, for its owner's eyes alone. Raises `CodezeroError` (BAD_DATABASE)."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
    except OSError as error:
        raise CodezeroError(
            problems.BAD_DATABASE,
            f"the data folder {folder} cannot be used: {error.strerror}",
            fix="set CODEZERO_HUB_DATA_FOLDER to a folder of yours",
        ) from None


async def is_used(database: Database) -> bool:
    """Whether a Hub has used it already. Raises `CodezeroError` (BAD_DATABASE) where it does not answer."""
    try:
        async with database.engine.connect() as connection:
            if not await connection.run_sync(_has_tables):
                return False
            return (await connection.execute(select(Install.id))).first() is not None
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        where = database.engine.url.render_as_string(hide_password=True)
        raise CodezeroError(
            problems.BAD_DATABASE,
            f"the database {where} does not answer: {cause}",
            fix="see whether it runs and whether CODEZERO_HUB_DATABASE_URL is right",
        ) from None


def key_is_missing(path: Path) -> CodezeroError:
    """What to say where a database is in use and its key is not there."""
    return CodezeroError(
        problems.BAD_MASTER_KEY,
        f"the master key {path} is missing, and the database is in use already",
        fix="bring back the file that was made with the database; it is in no backup of the database",
    )


def _has_tables(connection: Connection) -> bool:
    return inspect(connection).has_table(Install.__tablename__)


def _master_key(path: Path, *, database_is_used: bool) -> bytes:
    key = master_key.read(path)
    if key is not None:
        return key
    if database_is_used:
        raise key_is_missing(path)
    return master_key.create(path)
