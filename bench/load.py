"""The load program of the bench: built once for its source, and what it measures as values.

It is in C so that what is measured is the tunnel and not the load. It runs wherever the bench is told to, by a runner that puts it there.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes

SOURCE = Path(__file__).with_name("load.c")
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers")
_LIBRARIES = ("-lpthread", "-lssl", "-lcrypto")

PATIENCE_SECONDS = 90.0

Start = Callable[[Sequence[str]], "subprocess.Popen[str]"]
"""Starts a command where it belongs, with pipes for its input, its output and its errors."""


class LoadError(Exception):
    """The load program failed; says what it printed."""


@functools.cache
def program() -> str:
    """The load program, built where this source of it has not been built yet; one run uses one."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codezero" / "bench"
    built = folder / f"load-{hashlib.sha256(SOURCE.read_bytes() + repr(_FLAGS).encode()).hexdigest()[:16]}"
    if not built.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise LoadError("no C compiler: install gcc and the headers of OpenSSL (libssl-dev)")
        folder.mkdir(parents=True, exist_ok=True)
        fresh = built.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *_FLAGS, "-o", str(fresh), str(SOURCE), *_LIBRARIES], check=True)
        fresh.replace(built)
    return str(built)


def here(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a command on this machine."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Moved:
    """How fast bulk bytes went (10^6 bytes a second), and how many they were (10^9 bytes)."""

    rate: float
    gigabytes: float


@dataclass(frozen=True, slots=True)
class Requests:
    """How many were answered each second, and how long half and nearly all of them took, in milliseconds."""

    a_second: float
    p50: float
    p99: float


_RATE = re.compile(r"^Requests/sec: +([\d.]+)$", re.MULTILINE)
_PERCENTILE = re.compile(r"^ +(50|99)% +([\d.]+)(us|ms|s)$", re.MULTILINE)
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def requests(start: Start, url: str, *, clients: int, seconds: int = 2, options: Sequence[str] = ()) -> Requests:
    """By `wrk`, which knows whole seconds: HTTP/1.1 over connections that stay open, each asking again when it is answered."""
    command = ["wrk", "-t", "1", "-c", str(clients), "-d", f"{seconds}s", "--latency", *options, url]
    printed, complaints = _ended(start(command), within=seconds + 30)
    rate = _RATE.search(printed)
    times = {percent: float(value) * _MILLISECONDS[unit] for percent, value, unit in _PERCENTILE.findall(printed)}
    if rate is None or float(rate[1]) == 0 or len(times) < 2 or "Non-2xx" in printed or "Socket errors" in printed:
        raise LoadError(f"wrk at {url}: not every request was answered: {printed}{complaints}")
    return Requests(float(rate[1]), times["50"], times["99"])


def _ended(running: "subprocess.Popen[str]", *, within: float) -> tuple[str, str]:
    """What a command printed, and its complaints; killed where it does not end."""
    try:
        return running.communicate(timeout=within)
    except subprocess.TimeoutExpired as error:
        _kill(running)
        raise LoadError(f"it has not ended within {within:g} s") from error
    except BaseException:
        _kill(running)
        raise


def _kill(running: "subprocess.Popen[str]") -> None:
    """End a command that hangs, with what runs below it: the program that steps into a sandbox is not the one that measures."""
    for each in processes.trees([running.pid]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    running.wait()
    for pipe in (running.stdin, running.stdout, running.stderr):
        if pipe is not None:
            pipe.close()


@dataclass(frozen=True, slots=True)
class Load:
    """Measures what is reached at `address` (IPv4 and port). With `tls`, a folder with certificates, the load speaks TLS itself."""

    address: str
    start: Start = here
    tls: Path | None = None

    def until_answered(self, *, within: float = 30.0) -> None:
        """Return once the backend answers; raises `LoadError` where it does not."""
        deadline = time.monotonic() + within
        while True:
            try:
                self.ping(0)
            except LoadError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def bulk(self, direction: str, streams: int, seconds: float) -> Moved:
        """So many streams together; `direction` is `up` or `down`, as the client sees it."""
        found = self._measure("bulk", direction, streams, seconds)
        return Moved(found["rate"], found["bytes"] / 1e9)

    def ping(self, seconds: float) -> Latency:
        """How long 100 bytes take there and back, on one stream."""
        return self._latency("ping", seconds)

    def connect(self, seconds: float) -> Latency:
        """How long it takes to connect, to ask and to have 100 bytes of answer, one after the other."""
        return self._latency("connect", 1, seconds)

    def connections(self, seconds: float, *, clients: int = 16) -> float:
        """How many times a second so many clients together can do that."""
        return self._measure("connect", clients, seconds)["per_second"]

    def stalled(self, readers: int, seconds: float) -> tuple[float, float]:
        """Megabytes a second of one stream alone, then of one beside streams that nobody reads from."""
        found = self._measure("stalled", readers, seconds)
        return found["alone"], found["beside"]

    @contextmanager
    def idle(self, streams: int) -> Generator[None]:
        """So many streams are open, and silent, in the block."""
        running = self.start(self._command("idle", streams))
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            if not running.stdout.readline():
                raise LoadError(f"load idle {streams} at {self.address}: {_ended(running, within=30)[1].strip()}")
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):
                running.stdin.close()
            try:
                running.wait(timeout=30)
            except subprocess.TimeoutExpired:
                _kill(running)
                raise
            finally:
                for pipe in (running.stdout, running.stderr):
                    if pipe is not None:
                        pipe.close()

    def requests(self, address: str, seconds: int) -> float:
        """HTTP/1.1 requests a second over 64 connections that stay open, from where the load is to the web server at `address`."""
        return requests(self.start, f"http://{address}/", clients=64, seconds=seconds).a_second

    def _latency(self, what: str, *words: object) -> Latency:
        found = self._measure(what, *words)
        return Latency(found["p50"], found["p99"])

    def _measure(self, what: str, *words: object) -> dict[str, Any]:
        running = self.start(self._command(what, *words))
        printed, complaints = _ended(running, within=PATIENCE_SECONDS)
        if running.returncode != 0:
            raise LoadError(f"load {' '.join(map(str, (what, *words)))} at {self.address}: {complaints.strip()}")
        found: dict[str, Any] = json.loads(printed)
        if found.get("failed"):
            raise LoadError(f"load {' '.join(map(str, (what, *words)))} at {self.address}: {found['failed']} failed")
        return found

    def _command(self, what: str, *words: object) -> list[str]:
        tls = ("--tls", str(self.tls)) if self.tls is not None else ()
        return [program(), what, self.address, *map(str, words), *tls]
