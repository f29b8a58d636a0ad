"""Asks a web server many times and tells who answered: `python -m codezero.testing.load http://10.96.0.9:80/ --rate 200 --seconds 10`.

Speaks HTTP/1.1 over kept-alive connections by hand, so that a connection that breaks, an answer cut short or a wrong one is seen and not retried.
Prints one line of JSON: how many answers came from the origin, from which variants, how many fell back and why, and what failed.

With `--until-told` it prints `BEGUN` once each connection was used, and goes on until it is told to end and `--at-least` requests were made:
what happens in between happens under load, and how long that takes says nothing about how much was asked.

Headers (`--header NAME:VALUE`) go with every request; with `--alternate NAME:VALUE` several times, the requests of each connection take one of
them in turn, and `--expect` says for each of them, in the same order, who has to answer: a variant's id, or `origin`.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from codezero.kit.tasks import task_group

ORIGIN = "origin"
BEGUN = "begun"
_TOLD = 5
# One that takes longer has failed.
_ANSWER_SECONDS = 5.0


@dataclass
class Tally:
    """What came of the requests."""

    answers: Counter[str] = field(default_factory=Counter[str])
    fallbacks: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    # Longest time without a good answer, in seconds, and the times (UNIX seconds) of the first and last fallback.
    longest_silence: float = 0.0
    durations: list[float] = field(default_factory=list[float])
    first_fallback: float | None = None
    last_fallback: float | None = None
    last_good: float = field(default_factory=time.monotonic)

    def note(self, headers: dict[str, str], *, expected: str | None) -> None:
        """A good answer came."""
        now = time.monotonic()
        self.longest_silence = max(self.longest_silence, now - self.last_good)
        self.last_good = now
        who = headers.get("x-codezero-variant", ORIGIN)
        self.answers[who] += 1
        if reason := headers.get("x-codezero-fallback"):
            self.fallbacks[reason] += 1
            self.first_fallback = self.first_fallback or time.time()
            self.last_fallback = time.time()
        if expected is not None and who != expected:
            self.wrong.append(f"{who} instead of {expected}")

    @property
    def requests(self) -> int:
        """How many came to an end, good or bad."""
        return self.answers.total() + len(self.failures)

    def report(self) -> dict[str, Any]:
        """The line."""
        return {
            "requests": self.requests,
            "answers": self.answers,
            "fallbacks": self.fallbacks,
            "failed": len(self.failures),
            "failures": self.failures[:_TOLD],
            "wrong": len(self.wrong),
            "wrongs": self.wrong[:_TOLD],
            "longest_silence": round(self.longest_silence, 3),
            "median": statistics.median(self.durations) if self.durations else None,
            "first_fallback": self.first_fallback,
            "last_fallback": self.last_fallback,
        }


@dataclass(frozen=True)
class Wanted:
    """What to ask, how often."""

    host: str
    port: int
    path: str
    headers: tuple[str, ...]
    alternate: tuple[str, ...]
    expect: tuple[str, ...]
    requests: int | None
    seconds: float
    rate: float
    connections: int
    until_told: bool
    at_least: int


async def ask(wanted: Wanted) -> Tally:
    """Ask until it is enough: so many requests of each connection, so many seconds, or a line (or the end) of stdin and `at_least` requests."""
    tally = Tally()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    ends = loop.time() + wanted.seconds
    begun = 0

    def tell() -> None:
        # Its end can be read for ever.
        loop.remove_reader(sys.stdin)
        told.set()

    def enough() -> bool:
        return loop.time() >= ends or (told.is_set() and tally.requests >= wanted.at_least)

    def begins() -> None:
        nonlocal begun
        begun += 1
        if wanted.until_told and begun == wanted.connections:
            print(BEGUN, flush=True)

    if wanted.until_told:
        loop.add_reader(sys.stdin, tell)
    async with task_group("load") as tasks:
        for number in range(wanted.connections):
            tasks.start(f"connection-{number}", _worker(wanted, tally, number, enough, begins))
    tally.longest_silence = max(tally.longest_silence, time.monotonic() - tally.last_good)
    return tally


async def _worker(
    wanted: Wanted, tally: Tally, number: int, enough: Callable[[], bool], begins: Callable[[], None]
) -> None:
    pause = wanted.connections / wanted.rate if wanted.rate else 0.0
    due = time.monotonic() + pause * number / wanted.connections
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    count = 0
    while (wanted.requests is None or count < wanted.requests) and not enough():
        if pause:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pause, time.monotonic() - pause)
        turn = count % len(wanted.alternate) if wanted.alternate else None
        count += 1
        try:
            begun = time.perf_counter()
            async with asyncio.timeout(_ANSWER_SECONDS):
                if connection is None:
                    connection = await asyncio.open_connection(wanted.host, wanted.port)
                headers = await _exchange(wanted, connection, turn)
            tally.durations.append(time.perf_counter() - begun)
            tally.note(headers, expected=wanted.expect[turn] if turn is not None and wanted.expect else None)
            if headers.get("connection", "").lower() == "close":
                # As any client does: whoever answers goes, and says so.
                connection[1].close()
                connection = None
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            tally.failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}"[:200])
            if connection is not None:
                connection[1].transport.abort()
                connection = None
            await asyncio.sleep(0.05)
        if count == 1:
            begins()
    if connection is not None:
        connection[1].close()


async def _exchange(
    wanted: Wanted, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], turn: int | None
) -> dict[str, str]:
    reader, writer = connection
    lines = [f"GET {wanted.path} HTTP/1.1", f"host: {wanted.host}:{wanted.port}", *wanted.headers]
    if turn is not None and wanted.alternate[turn]:
        lines.append(wanted.alternate[turn])
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *fields = head[:-4].split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        await _read_chunks(reader)
    else:
        raise ValueError(f"an answer of unknown length: {status}")
    if status.split(" ")[1] != "200":
        raise ValueError(status)
    return headers


async def _read_chunks(reader: asyncio.StreamReader) -> None:
    while size := int((await reader.readline()).partition(b";")[0], 16):
        await reader.readexactly(size + 2)
    while (await reader.readline()) not in (b"\r\n", b""):
        pass


def main() -> None:
    """Ask, then tell."""
    parser = argparse.ArgumentParser(prog="python -m codezero.testing.load")
    parser.add_argument("url")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("--alternate", action="append", default=[], metavar="NAME:VALUE", help="empty for none")
    parser.add_argument("--expect", action="append", default=[], metavar="VARIANT")
    parser.add_argument("--requests", type=int, help="of each connection")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument(
        "--rate", type=float, default=0.0, help="requests a second of all connections; 0: as fast as they are answered"
    )
    parser.add_argument("--until-told", action="store_true", help="end at a line or the end of stdin")
    parser.add_argument("--at-least", type=int, default=0, help="with --until-told: go on until so many were asked")
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    parts = urlsplit(str(options.url))
    wanted = Wanted(
        parts.hostname or "",
        parts.port or 80,
        (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        tuple(options.header),
        tuple(options.alternate),
        tuple(options.expect),
        options.requests,
        options.seconds,
        options.rate,
        options.connections,
        options.until_told,
        options.at_least,
    )
    print(json.dumps(asyncio.run(ask(wanted)).report()), flush=True)


if __name__ == "__main__":
    main()
