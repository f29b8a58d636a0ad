"""Measures split DNS: the Daemon's resolver in a process of its own on loopback, with 10,000 services, and a name server behind it that the bench runs.

Latency is measured at a steady rate that no answer slows down (1,000 questions a second, due whether the last was answered or not), over all names, so
that most answers are made anew; the rate as fast as answers come, 32 under way, over all 30,000 names in turn, so that every answer is made anew, and
again over a thousand of them, whose answers are kept. The burst is of different foreign names, sent without a pause.
"""

import argparse
import asyncio
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.message
import uvloop
from bench.results import Result, quantile

from codezero.kit.tasks import task_group
from codezero.local.daemon import dns_server
from codezero.local.daemon.forwarding import Forwarder
from codezero.local.daemon.names import NameTable, Responder
from codezero.local.daemon.naming import names_of
from codezero.model.addresses import AddressPlan
from codezero.model.services import ServiceRef

ROOT = Path(__file__).parent.parent
SERVICES = 10_000
PER_SECOND = 1_000
QUESTIONS = 4_000
FOREIGN_PER_SECOND = 300
FOREIGN_QUESTIONS = 900
UNDER_WAY = 32
REPEATED = 1_000
CLOSED_SECONDS = 2.0
BURST = 1_500
BURST_SECONDS = 3.0  # by when every question has its answer, if only SERVFAIL


def services() -> Iterator[ServiceRef]:
    """The services whose names are ours."""
    return (ServiceRef(f"team-{number % 100}", f"service-{number}") for number in range(SERVICES))


# --- processes ------------------------------------------------------------------------------------------------------------------------------


async def resolve(upstream: str) -> None:
    """Be the Daemon's resolver until standard input ends; prints the port."""
    table, plan = NameTable(), AddressPlan("bench")
    for ref in services():
        table.add(dict.fromkeys(names_of(ref), plan.address_of(ref)))
    table.is_complete = True
    async with task_group("names") as tasks:
        forwarder = Forwarder()
        service = dns_server.NameService(Responder(table), forwarder, tasks)
        async with dns_server.listen(service, "127.0.0.1") as port:
            forwarder.set_upstreams([upstream], own_ports=[port])
            print(port, flush=True)
            await asyncio.to_thread(sys.stdin.read)
        forwarder.close()


def answer_foreign() -> None:
    """Be the name server of a network until standard input ends: each name has the same address."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        # It is not the one that is measured, so it must not be the one that drops.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        server.bind(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\xc0\0\2\1"
        while True:
            query, client = server.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            server.sendto(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + record, client)


@contextmanager
def process(*arguments: str) -> Generator[int]:
    """A process of this module; gives the port that it prints. It ends with its standard input, so also with ours."""
    command = [sys.executable, "-m", "bench.names", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stdout is not None
        try:
            yield int(running.stdout.readline())
        finally:
            running.kill()


# --- questions ------------------------------------------------------------------------------------------------------------------------------


def questions(names: Sequence[str]) -> list[bytes]:
    """A query for the address of each name, without its id."""
    return [dns.message.make_query(f"{name}.", "A").to_wire()[2:] for name in names]


def our_names(count: int, seed: int) -> list[str]:
    """Names of ours, each service in one of its spellings."""
    source = random.Random(seed)
    refs = list(services())
    return [source.choice(names_of(source.choice(refs))) for _ in range(count)]


def all_names() -> list[str]:
    """All names of ours in one order that has no pattern: three for each service, so that the resolver, which keeps 4,096 answers, has none of them
    still when its question comes again."""
    names = [name for ref in services() for name in names_of(ref)]
    random.Random(1).shuffle(names)
    return names


def foreign_names(count: int, seed: int) -> list[str]:
    """Names of the world, no two alike: equal questions would share an answer."""
    return [f"host-{seed}-{number}.example.com" for number in range(count)]


@contextmanager
def asking(port: int) -> Generator[socket.socket]:
    """A socket to ask the server at `port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        yield client


def answers(client: socket.socket, within: float) -> Iterator[int]:
    """The ids of what has come, after waiting for it up to `within` seconds."""
    if not select.select([client], [], [], max(0.0, within))[0]:
        return
    while True:
        try:
            answer = client.recv(4096)
        except BlockingIOError:
            return
        if answer[3] & 0x0F == 0:
            yield int.from_bytes(answer[:2], "big")


def latencies(port: int, asked: Sequence[bytes], per_second: float) -> list[float]:
    """Milliseconds from the moment that each question was due until its answer; one that never comes counts as the whole wait."""
    found: dict[int, float] = {}
    with asking(port) as client:
        begun = time.perf_counter() + 0.05
        due = [begun + number / per_second for number in range(len(asked))]
        sent = 0
        while len(found) < len(asked):
            now = time.perf_counter()
            while sent < len(asked) and due[sent] <= now:
                client.send(sent.to_bytes(2, "big") + asked[sent])
                sent += 1
            if sent == len(asked) and now > due[-1] + BURST_SECONDS:
                break
            for number in answers(client, due[sent] - time.perf_counter() if sent < len(asked) else 0.1):
                found[number] = time.perf_counter()
    missed = due[-1] + BURST_SECONDS
    return [(found.get(number, missed) - moment) * 1000 for number, moment in enumerate(due)]


def rate(port: int, asked: Sequence[bytes]) -> float:
    """Answers a second, with `UNDER_WAY` questions open all the time."""
    with asking(port) as client:
        begun = now = time.perf_counter()
        answered = 0
        for sent in range(UNDER_WAY):
            client.send(sent.to_bytes(2, "big") + asked[sent])
        sent = UNDER_WAY
        while now < begun + CLOSED_SECONDS:
            came = sum(1 for _ in answers(client, 0.1))
            for _ in range(came):
                client.send((sent & 0xFFFF).to_bytes(2, "big") + asked[sent % len(asked)])
                sent += 1
            answered += came
            now = time.perf_counter()
    return answered / (now - begun)


def burst(port: int, asked: Sequence[bytes]) -> float:
    """The share of questions, all sent at once, that are answered in time."""
    with asking(port) as client:
        for number, question in enumerate(asked):
            client.send(number.to_bytes(2, "big") + question)
        found: set[int] = set()
        until = time.perf_counter() + BURST_SECONDS
        while len(found) < len(asked) and time.perf_counter() < until:
            found.update(answers(client, until - time.perf_counter()))
    return len(found) / len(asked)


def measure(rounds: int) -> Iterator[Result]:
    """Each figure once a round, against one resolver that has answered before."""
    with process("upstream") as upstream, process("resolver", f"127.0.0.1#{upstream}") as port:
        ours = [latencies(port, questions(our_names(QUESTIONS, seed)), PER_SECOND) for seed in range(rounds + 1)][1:]
        yield result("DNS answer p50", "ms", (quantile(each, 50) for each in ours))
        yield result("DNS answer p99", "ms", (quantile(each, 99) for each in ours))
        everything = questions(all_names())
        yield result("DNS answers/s", "1/s", (rate(port, everything) for _ in range(rounds)))
        few = everything[:REPEATED]
        yield result("DNS answers/s, repeated questions", "1/s", (rate(port, few) for _ in range(rounds)))
        foreign = [
            latencies(port, questions(foreign_names(FOREIGN_QUESTIONS, seed)), FOREIGN_PER_SECOND)
            for seed in range(rounds)
        ]
        yield result("foreign DNS answer p50", "ms", (quantile(each, 50) for each in foreign))
        yield result("foreign DNS answer p99", "ms", (quantile(each, 99) for each in foreign))
        bursts = [questions(foreign_names(BURST, rounds + seed)) for seed in range(rounds)]
        what = f"of a burst of {BURST:,} foreign questions answered"
        yield result(what, "%", (100 * burst(port, each) for each in bursts))


def result(what: str, unit: str, values: Iterable[float]) -> Result:
    """A figure of the resolver."""
    return Result(part="names", subject="codezero", measure=what, unit=unit, rounds=tuple(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=("upstream", "resolver"))
    parser.add_argument("upstream", nargs="?", default="")
    arguments = parser.parse_args()
    if arguments.role == "upstream":
        answer_foreign()
    elif arguments.role == "resolver":
        uvloop.run(resolve(arguments.upstream))
    else:
        for each in measure(3):
            print(
                f"{each.measure}: {each.median:.3f} {each.unit}  {[round(value, 3) for value in each.rounds]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
