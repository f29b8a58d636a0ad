"""`database`: a real PostgreSQL server with a few rows, made anew at every start in a temporary folder.

It listens only once role, database and rows exist: milliseconds later it takes sessions, so a probe need only connect. It takes the role `sample` with the password of
SP_DATABASE_PASSWORD, and nothing else.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import NoReturn

from codezero.kit.logs import configure, get_logger
from codezero.model.problems import CodezeroError
from codezero.sandbox.sample import postgres
from codezero.sandbox.sample.settings import Settings, read

STOP_PATIENCE = 8.0
"""How long, in seconds, the server may take to stop before its clients are cut off."""


def main() -> None:
    """Run the database until SIGTERM or SIGINT; the folder is gone afterwards."""
    configure(level="info")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        settings = read("database", os.environ)
        with tempfile.TemporaryDirectory(prefix="sample-project-database-", ignore_cleanup_errors=True) as folder:
            ended = _run(settings, Path(folder))
    except CodezeroError as failure:
        get_logger("database").error("could not start", reason=str(failure), fix=failure.fix)
        sys.exit(1)
    sys.exit(ended)


def _run(settings: Settings, folder: Path) -> int:
    assert settings.database_password is not None, "checked with the settings"
    cluster = postgres.prepare(folder, password=settings.database_password)
    server = subprocess.Popen(postgres.server_command(cluster, address=settings.address, port=settings.port))
    try:
        return server.wait()
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: a second signal must not interrupt the cleaning up.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main()
