"""Databases for tests of the Hub: an SQLite file or a database of a real PostgreSQL, fresh for each test, and a Hub upon it.

One PostgreSQL server per run, by the programs of a wheel and without rights; started when the first test asks for it.
"""

import asyncio
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from codezero.hub.context import Hub
    from codezero.hub.sealing import Sealer
    from codezero.hub.storage.database import Database


@dataclass
class HubClock:
    """The Hub's time: goes on by itself, and further when told to."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, by: timedelta) -> None:
        self.ahead += by


@dataclass(frozen=True)
class PostgresServer:
    """A server on loopback. `template` is a database with the Hub's tables, from which others are copied."""

    run_sql: Callable[[str, str], str]
    url: Callable[[str], str]
    template: str = "hub"

    def new_database(self, *, empty: bool = False) -> str:
        """The name of a fresh database, with the Hub's tables or without."""
        name = f"hub_{secrets.token_hex(6)}"
        self.run_sql("postgres", f'CREATE DATABASE "{name}" TEMPLATE "{"template0" if empty else self.template}"')
        return name

    def drop(self, name: str) -> None:
        self.run_sql("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    from codezero.sandbox.sample import postgres
    from codezero.testing.teamspace import free_port
    from codezero.testing.waiting import eventually

    # Not in pytest's folder: where we are root the server is somebody else, who would not get there.
    folder = Path(tempfile.mkdtemp(prefix="codezero-postgres-"))
    try:
        cluster = postgres.initialize(folder)
        (folder / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        port = free_port()
        # Nobody pulls the plug of this server, so it need not wait for disks.
        settings = ("max_connections=200", "fsync=off", "synchronous_commit=off", "full_page_writes=off")
        command = [*postgres.server_command(cluster, address="127.0.0.1", port=port)]
        command += [part for setting in settings for part in ("-c", setting)]
        log = folder / "log"
        with log.open("wb") as output:
            server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

        def run_sql(database: str, sql: str) -> str:
            psql = [str(postgres.program("psql")), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
            done = subprocess.run(
                [*psql, "-p", str(port), "-U", "postgres", database],
                input=sql,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr + log.read_text()[-2000:]
            return done.stdout.strip()

        try:
            eventually(lambda: run_sql("postgres", "SELECT 1"))
            made = PostgresServer(run_sql, lambda name: f"postgresql://postgres@127.0.0.1:{port}/{name}")
            run_sql("postgres", f'CREATE DATABASE "{made.template}" TEMPLATE template0')
            _make_tables(made.url(made.template))
            yield made
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "hub.db"
    _make_tables(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'hub.db'}"
        return
    yield from _postgres_database(request, empty=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with the Hub's tables and nothing in them."""
    if request.param == "sqlite":
        file = tmp_path / "hub.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        yield f"sqlite:///{file}"
        return
    yield from _postgres_database(request, empty=False)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator["Database"]:
    from codezero.hub.storage.database import Database

    opened = Database.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def sealer() -> "Sealer":
    from codezero.hub.sealing import Sealer

    return Sealer(Sealer.new_master_key())


@pytest.fixture
def hub_clock() -> HubClock:
    return HubClock()


@pytest.fixture
async def hub(database: "Database", sealer: "Sealer", hub_clock: HubClock) -> AsyncIterator["Hub"]:
    """A complete Hub without its API, on each kind of database; it hears of changes for as long as the test runs."""
    async with running_hub(database, sealer, hub_clock) as made:
        yield made


@asynccontextmanager
async def running_hub(database: "Database", sealer: "Sealer", clock: HubClock) -> AsyncGenerator["Hub", None]:
    """A Hub that hears of changes inside the block; several on one database are replicas."""
    from codezero.hub import signals
    from codezero.hub.authorities import Authorities
    from codezero.hub.context import Hub
    from codezero.kit.tasks import task_group

    made = Hub(
        database=database,
        sealer=sealer,
        signals=signals.of(database),
        authorities=await Authorities.load(database, sealer, clock),
        public_url="https://hub.test",
        clock=clock,
    )
    async with task_group("hub") as tasks:
        heard = made.signals.changes()
        tasks.start_service("signals", made.signals.run())
        tasks.start_service("authorities", made.authorities.run(made.signals))
        if database.is_postgresql:
            # What it says once it listens.
            assert await anext(heard) is None
        yield made


def _postgres_database(request: pytest.FixtureRequest, *, empty: bool) -> Iterator[str]:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.new_database(empty=empty)
    yield server.url(name)
    server.drop(name)


def _make_tables(url: str) -> None:
    from codezero.hub.storage import migrations
    from codezero.hub.storage.database import Database

    async def make() -> None:
        database = Database.open(url)
        await migrations.upgrade(database)
        await database.close()

    asyncio.run(make())
