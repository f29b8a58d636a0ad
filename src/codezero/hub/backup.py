"""Backup and restore of a Hub on SQLite: one file, consistent although the Hub goes on working, and without the master key.

Whoever finds a backup finds names, e-mail addresses and audit, and no key, token or password that works: those are hashes, or sealed under the
master key, which is copied once, to another place. PostgreSQL has its own tools for this, and they are better.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

from sqlalchemy.engine import make_url

from codezero.hub import master_key, opening
from codezero.hub.authorities import Authorities
from codezero.hub.sealing import Sealer
from codezero.hub.settings import HubSettings
from codezero.hub.storage.database import Database
from codezero.model import problems
from codezero.model.problems import CodezeroError

# What SQLite keeps beside a database; what a Hub that was killed has left there, it would write into another one.
_BESIDE = ("", "-wal", "-shm")


def back_up(settings: HubSettings, target: Path) -> None:
    """Copy the database into the new file `target`. Raises `CodezeroError`."""
    source = _sqlite_file(settings, doing="backed up", tool="pg_dump --format=custom --file=FILE")
    if not source.is_file():
        raise CodezeroError(problems.NOT_FOUND, f"there is no database {source}", fix="czhub check")
    if target.exists():
        raise _exists(target)
    beside = target.with_name(f".{target.name}.part")
    try:
        beside.unlink(missing_ok=True)
        # Closed to others before the first byte is in it.
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with (
                contextlib.closing(sqlite3.connect(source)) as used,
                contextlib.closing(sqlite3.connect(beside)) as copy,
            ):
                # All at once: a copy in parts begins anew whenever somebody writes, and need never end. A reader keeps nobody from writing.
                used.backup(copy, pages=-1)
                # One file that stands alone, without a log beside it.
                copy.execute("PRAGMA journal_mode=DELETE")
            _check(beside)
            _sync(beside)
            target.hardlink_to(beside)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(target) from None
    except (OSError, sqlite3.Error) as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{target} could not be written: {error}") from None


async def restore(settings: HubSettings, source: Path) -> None:
    """Make the database of `settings` out of the backup `source`. Raises `CodezeroError`; a database that is there is left as it is."""
    database = _sqlite_file(settings, doing="restored", tool="pg_restore --dbname=URL FILE")
    if not source.is_file():  # noqa: ASYNC240 - a command; nobody else waits
        raise CodezeroError(problems.NOT_FOUND, f"there is no file {source}", fix="czhub restore FILE")
    key = master_key.read(settings.master_key_file)
    if key is None:
        raise CodezeroError(
            problems.BAD_MASTER_KEY,
            f"the master key {settings.master_key_file} is missing; backups do not hold it",
            fix="put the file that belongs to the backup there first, with mode 600",
        )
    if there := [file for file in _files_of(database) if file.exists()]:
        raise _exists(*there)
    _check(source)
    beside = database.with_name(f".{database.name}.part")
    try:
        for file in _files_of(beside):
            file.unlink(missing_ok=True)
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with (
                contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as backup,
                contextlib.closing(sqlite3.connect(beside)) as copy,
            ):
                backup.backup(copy, pages=-1)
            await _unseal(beside, key)
            _sync(beside)
            database.hardlink_to(beside)
        finally:
            for file in _files_of(beside):
                file.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(database) from None
    except (OSError, sqlite3.Error) as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{database} could not be written: {error}") from None


async def _unseal(file: Path, key: bytes) -> None:
    """Raise `CodezeroError` (BAD_MASTER_KEY) where the key is not the one that the database was made with."""
    database = Database.open(f"sqlite:///{file}")
    try:
        await Authorities.load(database, Sealer(key), opening.now)
    finally:
        await database.close()
    # What the look has left in the log beside the file belongs into it.
    with contextlib.closing(sqlite3.connect(file)) as opened:
        opened.execute("PRAGMA journal_mode=DELETE")


def _check(file: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as opened:
            (verdict,) = opened.execute("PRAGMA integrity_check").fetchone()
            installs = opened.execute("SELECT count(*) FROM install").fetchone()[0]
    except sqlite3.Error as error:
        raise CodezeroError(problems.BAD_REQUEST, f"{file} is no backup of a Hub: {error}") from None
    if verdict != "ok" or installs != 1:
        raise CodezeroError(problems.BAD_REQUEST, f"{file} is damaged: {verdict}, {installs} Hubs")


def _sqlite_file(settings: HubSettings, *, doing: str, tool: str) -> Path:
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise CodezeroError(
            problems.BAD_DATABASE,
            f"a Hub on PostgreSQL is {doing} by PostgreSQL's own tools",
            fix=f"{tool}; docs/how-to/run-a-hub.md",
        )
    return Path(url.database)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_of(database: Path) -> list[Path]:
    return [database.with_name(database.name + end) for end in _BESIDE]


def _exists(*files: Path) -> CodezeroError:
    names = ", ".join(map(str, files))
    if len(files) == 1:
        return CodezeroError(
            problems.FILE_EXISTS, f"{names} is there already", fix="name another file, or move that one away first"
        )
    return CodezeroError(
        problems.FILE_EXISTS, f"{names} are there already", fix="move them away together: they are one database"
    )
