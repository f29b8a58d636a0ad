"""A database session with PostgreSQL's own client, against the sample project's database.

The password comes from SP_DATABASE_PASSWORD, for server and client alike.
"""

import argparse
import os
import secrets
import subprocess

from codezero.sandbox.sample import database, postgres
from codezero.testing.peers.verdict import BrokenError, Facts, Options, endpoint, main, must_equal

ROWS = 5000


def serve(options: Options) -> None:
    """Run the sample project's database."""
    os.environ.update(SP_ADDRESS=options.address, SP_PORT=str(options.port))
    database.main()


def check(options: Options) -> Facts:
    """Create a table, fill it in a transaction, undo another, read it all back, and remove it."""
    host, port = endpoint(options.target)
    table = f"peer_{secrets.token_hex(6)}"
    script = f"""
        CREATE TABLE {table} (number integer PRIMARY KEY, text text NOT NULL);
        BEGIN; INSERT INTO {table} SELECT n, repeat('x', 200) FROM generate_series(1, {ROWS}) AS n; COMMIT;
        BEGIN; DELETE FROM {table}; ROLLBACK;
        SELECT count(*), sum(number), sum(length(text)) FROM {table};
        SELECT text FROM greetings WHERE language = 'en';
        COPY {table} TO STDOUT;
        DROP TABLE {table};
    """
    client = [str(postgres.program("psql")), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    ended = subprocess.run(
        [*client, "-h", host, "-p", str(port), "-U", options.user, "-d", options.database, "-w"],
        input=script,
        env={**os.environ, "PGPASSWORD": os.environ.get("SP_DATABASE_PASSWORD", ""), "PGCONNECT_TIMEOUT": "10"},
        capture_output=True,
        check=False,
        text=True,
        timeout=options.timeout,
    )
    if ended.returncode != 0:
        raise BrokenError(ended.stderr.strip() or f"psql ended with {ended.returncode}")
    totals, greeting, *copied = ended.stdout.splitlines()
    must_equal("totals", totals, f"{ROWS}|{ROWS * (ROWS + 1) // 2}|{ROWS * 200}")
    must_equal("rows copied out", len(copied), ROWS)
    return {"rows": ROWS, "greeting": greeting}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", default=postgres.ROLE)
    parser.add_argument("--database", default=postgres.DATABASE)


if __name__ == "__main__":
    main("psql", serve=serve, check=check, client_options=_client_options)
