"""From settings to a Hub: the first start makes what is missing, and later ones refuse what does not fit."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Select, select

from codezero.hub import backup, master_key, opening, settings
from codezero.hub.settings import HubSettings
from codezero.hub.storage.tables import Organization
from codezero.model import problems
from codezero.model.problems import CodezeroError, Problem
from codezero.transport import listening

# Writes until it is killed, and says when it has begun.
WRITING = """
import itertools, sqlite3
used = sqlite3.connect({file!r}, isolation_level=None, timeout=60)
for number in itertools.count():
    used.execute("INSERT INTO much VALUES ('more')")
    if number == 0:
        print("begun", flush=True)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def wanted(data: Path, empty_database_url: str) -> HubSettings:
    return _settings(data, CODEZERO_HUB_DATABASE_URL=empty_database_url)


def _settings(data: Path, **variables: str) -> HubSettings:
    return settings.from_environment({"CODEZERO_HUB_DATA_FOLDER": str(data), **variables})


async def refused(wanted: HubSettings, problem: Problem) -> CodezeroError:
    with pytest.raises(CodezeroError) as raised:
        async with opening.opened(wanted):
            pass
    assert raised.value.problem is problem
    return raised.value


async def test_the_first_start_makes_everything_and_the_next_finds_it(wanted: HubSettings, data: Path) -> None:
    async with opening.opened(wanted) as hub:
        root = hub.authorities.root_pem
    async with opening.opened(wanted) as again:
        assert again.authorities.root_pem == root

    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / "master.key").stat().st_mode & 0o777 == 0o600


async def test_a_used_database_is_not_opened_without_its_master_key(wanted: HubSettings, data: Path) -> None:
    """A new key would seal new authorities beside the old ones, and nothing signed before would be believed."""
    async with opening.opened(wanted):
        pass
    (data / "master.key").unlink()

    told = await refused(wanted, problems.BAD_MASTER_KEY)

    assert "in use already" in told.detail
    assert not (data / "master.key").exists()


async def test_another_master_key_is_refused(wanted: HubSettings, data: Path) -> None:
    async with opening.opened(wanted):
        pass
    (data / "master.key").unlink()
    master_key.create(data / "master.key")

    await refused(wanted, problems.BAD_MASTER_KEY)


async def test_a_database_that_is_not_there_is_told_without_its_password(data: Path) -> None:
    with listening.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    nowhere = _settings(data, CODEZERO_HUB_DATABASE_URL=f"postgresql://hub:s3cret@127.0.0.1:{port}/hub")

    told = await refused(nowhere, problems.BAD_DATABASE)

    assert f"127.0.0.1:{port}" in told.detail
    assert "s3cret" not in f"{told.detail} {told.fix}"


async def test_a_data_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    await refused(_settings(tmp_path / "file" / "data"), problems.BAD_DATABASE)


def test_one_data_folder_has_one_hub(data: Path) -> None:
    """On SQLite the second would hear nothing of what the first changes."""
    with opening.sole(_settings(data)), pytest.raises(CodezeroError) as raised, opening.sole(_settings(data)):
        pass

    assert "another czhub runs" in raised.value.detail
    with opening.sole(_settings(data)):
        pass


class TestBackup:
    """One file, without the key: consistent, and of no use to whoever finds it alone."""

    @pytest.fixture
    async def used(self, data: Path) -> AsyncIterator[HubSettings]:
        wanted = _settings(data)
        async with opening.opened(wanted) as hub:
            async with hub.database.transaction() as session:
                session.add(Organization(name="Shop", created_at=hub.clock()))
            # While the Hub runs.
            yield wanted

    async def test_what_was_backed_up_is_restored(self, used: HubSettings, data: Path, tmp_path: Path) -> None:
        file = tmp_path / "hub.backup"
        backup.back_up(used, file)
        other = _settings(tmp_path / "other")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "master.key").write_bytes((data / "master.key").read_bytes())
        (tmp_path / "other" / "master.key").chmod(0o600)

        await backup.restore(other, file)

        assert file.stat().st_mode & 0o777 == 0o600
        assert sorted(entry.name for entry in (tmp_path / "other").iterdir()) == ["hub.db", "master.key"]
        async with opening.opened(other) as hub, hub.database.transaction() as session:
            assert [row.name for row in await session.scalars(_organizations())] == ["Shop"]

    async def test_the_key_is_no_part_of_it(self, used: HubSettings, data: Path, tmp_path: Path) -> None:
        file = tmp_path / "hub.backup"
        backup.back_up(used, file)
        key = (data / "master.key").read_text().strip()
        content = file.read_bytes()

        assert key.encode() not in content
        assert bytes.fromhex(key) not in content
        assert b"PRIVATE KEY" not in content

    async def test_nothing_is_overwritten(self, used: HubSettings, tmp_path: Path) -> None:
        file = tmp_path / "hub.backup"
        file.write_text("mine")
        with pytest.raises(CodezeroError) as raised:
            backup.back_up(used, file)
        assert raised.value.problem is problems.FILE_EXISTS
        assert file.read_text() == "mine"

        backup.back_up(used, tmp_path / "second")
        before = Path(used.database_url.removeprefix("sqlite:///")).read_bytes()
        with pytest.raises(CodezeroError) as kept:
            await backup.restore(used, tmp_path / "second")
        assert kept.value.problem is problems.FILE_EXISTS
        assert Path(used.database_url.removeprefix("sqlite:///")).read_bytes() == before

    @pytest.mark.parametrize("left", [["hub.db-wal"], ["hub.db-shm"], ["hub.db-wal", "hub.db-shm"]])
    async def test_a_log_that_a_killed_hub_left_is_not_replayed_into_what_is_restored(
        self, used: HubSettings, data: Path, tmp_path: Path, left: list[str]
    ) -> None:
        backup.back_up(used, tmp_path / "hub.backup")
        other = tmp_path / "other"
        other.mkdir(mode=0o700)
        for name in ("master.key", *left):
            (other / name).write_bytes((data / name).read_bytes())
            (other / name).chmod(0o600)

        with pytest.raises(CodezeroError) as raised:
            await backup.restore(_settings(other), tmp_path / "hub.backup")

        assert raised.value.problem is problems.FILE_EXISTS
        assert all(str(other / name) in raised.value.detail for name in left)
        assert {entry.name for entry in other.iterdir()} == {"master.key", *left}

    async def test_a_backup_ends_although_somebody_writes_all_the_time(self, used: HubSettings, tmp_path: Path) -> None:
        file = Path(used.database_url.removeprefix("sqlite:///"))
        with contextlib.closing(sqlite3.connect(file)) as filled:
            filled.execute("CREATE TABLE much (content BLOB)")
            filled.executemany("INSERT INTO much VALUES (?)", [(bytes(4000),)] * 5000)
            filled.commit()
        writing = WRITING.format(file=str(file))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", writing, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            await process.stdout.readline()
            async with asyncio.timeout(60):
                await asyncio.to_thread(backup.back_up, used, tmp_path / "hub.backup")
            assert process.returncode is None
        finally:
            process.kill()
            await process.wait()

        with contextlib.closing(sqlite3.connect(tmp_path / "hub.backup")) as copied:
            assert copied.execute("SELECT count(*) FROM much").fetchone()[0] > 5000

    async def test_without_the_key_or_with_another_it_is_not_restored(self, used: HubSettings, tmp_path: Path) -> None:
        file = tmp_path / "hub.backup"
        backup.back_up(used, file)
        other = _settings(tmp_path / "other")
        with pytest.raises(CodezeroError) as missing:
            await backup.restore(other, file)
        master_key.create(tmp_path / "other" / "master.key")
        with pytest.raises(CodezeroError) as wrong:
            await backup.restore(other, file)

        assert (missing.value.problem, wrong.value.problem) == (problems.BAD_MASTER_KEY, problems.BAD_MASTER_KEY)
        assert [entry.name for entry in (tmp_path / "other").iterdir()] == ["master.key"]

    @pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(4096)])
    async def test_what_is_no_backup_is_refused(self, used: HubSettings, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "hub.backup"
        file.write_bytes(content)
        other = _settings(tmp_path / "other")
        master_key.create(tmp_path / "other" / "master.key")

        with pytest.raises(CodezeroError) as raised:
            await backup.restore(other, file)

        assert raised.value.problem is problems.BAD_REQUEST
        assert [entry.name for entry in (tmp_path / "other").iterdir()] == ["master.key"]

    def test_postgresql_has_tools_of_its_own(self, data: Path, tmp_path: Path) -> None:
        with pytest.raises(CodezeroError) as raised:
            backup.back_up(_settings(data, CODEZERO_HUB_DATABASE_URL="postgresql://hub@db/hub"), tmp_path / "file")

        assert raised.value.fix is not None
        assert "pg_dump" in raised.value.fix


def _organizations() -> Select[tuple[Organization]]:

    return select(Organization)
