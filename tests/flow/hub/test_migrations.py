"""Revisions lead to the tables that the code knows, there and back, also when several start at once."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from codezero.hub.storage import migrations
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import Base
from codezero.model import problems
from codezero.model.problems import CodezeroError

REVISIONS = [
    script.revision
    for script in reversed(list(ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions()))
]


def differences(connection: Connection) -> list[Any]:
    return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


async def test_the_revisions_lead_to_the_tables(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(tables) == set(Base.metadata.tables)


@pytest.mark.parametrize("revision", REVISIONS)
async def test_each_revision_goes_up_down_and_up_again(empty_database_url: str, revision: str) -> None:
    database = Database.open(empty_database_url)
    before = REVISIONS[REVISIONS.index(revision) - 1] if revision != REVISIONS[0] else "base"
    await migrations.upgrade(database, revision)
    async with database.engine.connect() as connection:
        up = await connection.run_sync(tables)
    await migrations.downgrade(database, before)
    async with database.engine.connect() as connection:
        assert before != "base" or await connection.run_sync(tables) == set()
    await migrations.upgrade(database, revision)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == up
    await database.close()


async def test_an_upgrade_to_where_one_is_changes_nothing(database: Database) -> None:
    await migrations.upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_what_a_newer_release_has_changed_is_left_alone(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    for change in (migrations.upgrade(database), migrations.downgrade(database, "base")):
        with pytest.raises(CodezeroError, match="newer release") as raised:
            await change
        assert raised.value.problem is problems.BAD_DATABASE
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_revision_that_fails_leaves_nothing(empty_database_url: str) -> None:
    database = Database.open(empty_database_url)
    # The revision comes to this table late.
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE refresh_tokens (id TEXT)"))

    with pytest.raises(DBAPIError):
        await migrations.upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == {"refresh_tokens"}
    await database.close()


async def test_two_processes_that_start_at_once_both_find_the_tables(empty_database_url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from codezero.hub.storage import migrations\n"
        "from codezero.hub.storage.database import Database\n"
        "async def main():\n"
        "    database = Database.open(sys.argv[1])\n"
        "    await asyncio.gather(*(migrations.upgrade(database) for _ in range(2)))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty_database_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in started:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    database = Database.open(empty_database_url)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()
