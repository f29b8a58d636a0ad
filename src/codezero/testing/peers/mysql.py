"""A database session by MySQL's protocol, in which the server speaks first, with a real server and its real client (MariaDB)."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from codezero.testing.peers.verdict import Facts, Options, endpoint, main, must_equal

_STATEMENTS = "create table t (n int, s text); insert into t values (1, 'Grüße'), (2, repeat('x', 60000)); "
_QUESTION = "select @@hostname, count(*), sum(n), max(length(s)) from t;"


def serve(options: Options) -> None:
    """A fresh server that lets everybody in; it lives until it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="mysql-"))
    user = ["--user=root"] if os.getuid() == 0 else []
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--skip-test-db", *user],
        check=True,
        stdout=sys.stderr,
    )
    command = ["mariadbd", "--no-defaults", f"--datadir={folder}/data", f"--socket={folder}/socket", *user]
    command += [
        f"--bind-address={options.address}",
        f"--port={options.port}",
        "--skip-grant-tables",
        "--skip-name-resolve",
    ]
    os.execvp(
        command[0], [*command, "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--skip-networking=0"]
    )


def check(options: Options) -> Facts:
    """A table is made, filled and read over one connection."""
    host, port = endpoint(options.target)
    statements = f"create database d{os.getpid()}; use d{os.getpid()}; {_STATEMENTS}{_QUESTION}"
    client = ["mariadb", "--no-defaults", "--protocol=tcp", f"--host={host}", f"--port={port}", "--user=root"]
    ended = subprocess.run(
        [*client, "--skip-ssl", "--batch", "--skip-column-names", f"--execute={statements}"],
        capture_output=True,
        text=True,
        timeout=options.timeout,
        check=False,
    )
    must_equal("exit code", (ended.returncode, ended.stderr.strip()), (0, ""))
    where, *counted = ended.stdout.split()
    must_equal("what was counted", counted, ["2", "3", "60000"])
    return {"where": where}


if __name__ == "__main__":
    main("mysql", serve=serve, check=check)
