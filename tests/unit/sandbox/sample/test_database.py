import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest

from codezero.testing.sample_parts import PASSWORD, RunningPart, SampleParts, is_open
from codezero.testing.waiting import eventually

NAMESPACE = ("unshare", "--user", "--map-root-user")


async def rows(database: RunningPart, *, user: str = "sample", password: str = PASSWORD) -> int:
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=database.port,
        user=user,
        password=password,
        database="sample",
        passfile="/dev/null",
        timeout=15,
    )
    try:
        return await connection.fetchval("SELECT count(*) FROM greetings")
    finally:
        await connection.close()


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("sample-project-database-*"))


async def test_the_database_has_its_rows_from_the_start(parts: SampleParts) -> None:
    """Its readiness probe only connects, so nothing may be missing by then."""
    assert await rows(parts.database()) == 3


async def test_nobody_else_is_let_in(parts: SampleParts) -> None:
    """It listens for the whole cluster; the superuser cannot come in at all."""
    database = parts.database()

    for user, password in [
        ("sample", "wrong"),
        ("sample", ""),
        ("postgres", ""),
        ("postgres", PASSWORD),
        ("nobody", PASSWORD),
    ]:
        with pytest.raises(asyncpg.PostgresError, match="password"):
            await rows(database, user=user, password=password)


async def test_a_client_that_stays_does_not_delay_the_end(parts: SampleParts) -> None:
    """A rollout must not wait for the pool of core; and nothing is left behind."""
    before = folders()
    database = parts.database()
    connection = await asyncpg.connect(
        host="127.0.0.1", port=database.port, user="sample", password=PASSWORD, database="sample"
    )

    code = database.stop()

    assert code == 0
    assert not is_open(database.port)
    assert folders() == before
    connection.terminate()


def test_the_server_does_not_outlive_its_process(parts: SampleParts) -> None:
    """After `kill -9` of a pod its port must be free for the next."""
    before = folders()
    database = parts.database()

    database.stop(signal.SIGKILL)

    eventually(lambda: not is_open(database.port))
    for folder in folders() - before:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.netns
async def test_root_of_a_user_namespace_can_run_it(parts: SampleParts) -> None:
    """An ordinary user's sandbox has no other user to run it as, and PostgreSQL refuses root."""
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("user namespaces are not allowed here")

    database = parts.database(prefix=NAMESPACE)

    assert await rows(database) == 3


def test_the_password_is_in_no_argument(parts: SampleParts) -> None:
    """Arguments are readable by every user of the machine."""
    parts.database()

    arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]

    assert not any(PASSWORD.encode() in line for line in arguments)


def test_without_a_password_it_does_not_start(parts: SampleParts) -> None:
    """A database without a password must not be what one gets by forgetting something."""
    database = parts.start("database", wait=False)

    assert database.process.wait(30) == 1
    assert "SP_DATABASE_PASSWORD" in database.log.read_text()


def test_it_says_why_postgresql_cannot_run(tmp_path: Path) -> None:
    """A full disk or a missing program must be told apart."""
    script = "from pathlib import Path; from codezero.sandbox.sample import postgres; postgres.prepare(Path('/proc/self/fdinfo'), password='x')"

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True, cwd=tmp_path)

    assert ended.returncode == 1
    assert "PostgreSQL cannot be run here: " in ended.stderr
