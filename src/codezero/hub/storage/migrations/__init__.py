"""How the tables came to be what they are: revisions, applied one after the other when a Hub starts.

A revision is never changed once it was released. It only adds to what the release before reads and writes (expand; what nobody uses any more goes a
release later), because two replicas may be of different releases for a while.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from codezero.hub.storage.database import Database
from codezero.model import problems
from codezero.model.problems import CodezeroError

HEAD: Final = "head"
# Any number, the same in all replicas.
_LOCK: Final = 0x637A687562


async def upgrade(database: Database, revision: str = HEAD) -> None:
    """Bring the tables to `revision`; of several processes at once, one does it and the others wait.

    Raises `CodezeroError` (BAD_DATABASE) where a newer release has changed them already.
    """
    await _migrate(database, lambda config: command.upgrade(config, revision))


async def downgrade(database: Database, revision: str) -> None:
    """Take the tables back to `revision`; what later ones have added is lost."""
    await _migrate(database, lambda config: command.downgrade(config, revision))


async def _migrate(database: Database, work: Callable[[Config], None]) -> None:
    async with database.engine.connect() as connection:
        if database.is_postgresql:
            # After having waited for the lock it has to see what whoever had it has done.
            await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            if database.is_postgresql:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_migrated, work)


def _migrated(connection: Connection, work: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for present in MigrationContext.configure(connection).get_current_heads():
        if present not in known:
            raise CodezeroError(
                problems.BAD_DATABASE,
                f"the database was changed by a newer release of czhub (its revision {present} is not known here)",
                fix="run that release or a newer one, or restore a backup from before",
            )
    work(config)
