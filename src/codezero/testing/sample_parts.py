"""Parts of the sample project as real processes on loopback, for tests."""

import os
import signal
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from codezero.testing.waiting import eventually

PASSWORD = "only'for;tests"


def free_port() -> int:
    """A port of loopback nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def is_open(port: int) -> bool:
    """Whether somebody listens on `port` of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class RunningPart:
    """One part that was started, its port, and where it writes its log."""

    name: str
    port: int
    log: Path
    process: "subprocess.Popen[bytes]"

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """The answer to a GET of `path`."""
        # A context of our own: reading the machine's certificates takes longer than the request.
        with httpx2.Client(trust_env=False, timeout=15, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}", **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the part by a signal; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


class SampleParts:
    """Starts parts with nothing of this environment but the search path; `stop` ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[RunningPart] = []

    def start(
        self,
        name: str,
        *,
        port: int | None = None,
        prefix: tuple[str, ...] = (),
        wait: bool = True,
        **environment: str,
    ) -> RunningPart:
        """Start part `name` (with `prefix` before its command), and wait until it listens unless told not to."""
        port = port or free_port()
        log = self._folder / f"{name}-{len(self._started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", f"codezero.sandbox.sample.{name}"],
                env={"PATH": os.environ["PATH"], "SP_PORT": str(port), "HOSTNAME": f"{name}-pod", **environment},
                cwd=self._folder,
                stdout=output,
                stderr=output,
            )
        part = RunningPart(name, port, log, process)
        self._started.append(part)
        if wait:
            eventually(lambda: process.poll() is not None or is_open(port), within=60)
            assert process.poll() is None, log.read_text()
        return part

    def database(self, **options: Any) -> RunningPart:
        """Start the database, and wait until it takes sessions, which is a moment after it listens."""
        options.setdefault("SP_DATABASE_PASSWORD", PASSWORD)
        database = self.start("database", **options)
        eventually(lambda: "ready to accept connections" in database.log.read_text())
        return database

    def core(
        self, *, leaf: RunningPart | None = None, database: RunningPart | None = None, **options: Any
    ) -> RunningPart:
        """Start core with the given parts around it; one not given is a port where nobody listens."""
        leaf_port = leaf.port if leaf else free_port()
        database_port = database.port if database else free_port()
        defaults: dict[str, Any] = {
            "SP_LEAF_URL": f"http://127.0.0.1:{leaf_port}",
            "SP_DATABASE_URL": f"postgresql://sample@127.0.0.1:{database_port}/sample",
            "SP_DATABASE_PASSWORD": PASSWORD,
        }
        return self.start("core", **{**defaults, **options})

    def stop(self) -> None:
        """End all parts that still run."""
        for part in self._started:
            part.stop()
