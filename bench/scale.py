"""Where it breaks first: measures what each unit costs, and works out 1,000 laptops and 100 Teamspaces from that.

Measured, with the processes of `bench.catalog` in a cluster of 1,000 services: 1,000 real tunnels to one System and their share of its CPU and memory
while nothing happens but heartbeats and pings; the CPU of arriving; the CPU of each change told to each laptop; and all laptops coming back at
once after their tunnels were cut. Worked out: how many laptops a core of System and Orchestrator carries at a given rate of changes; and, by a
simulation of what the Daemon does (`kit.backoff`) and the System allows (the limits on strangers), how long a restart of a System takes until all
laptops are back. One core of System is the resource that is simulated.

It runs for about two minutes: `python -m bench.scale`.
"""

import asyncio
import heapq
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import uvloop
from bench import processes
from bench.catalog import (
    CHANGES,
    PROCESSES,
    ROOT,
    Part,
    changes,
    connected,
    quiet,
    teamspace,
)
from bench.results import Result, quantile

from codezero.kit.backoff import Backoff
from codezero.local.daemon.consumption import Consumption
from codezero.local.daemon.link import MOST_DELAY
from codezero.local.daemon.names import NameTable
from codezero.model.addresses import AddressPlan
from codezero.model.consume import parse_rules
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.transport.tls import UnprovenLimits

SERVICES = 1_000
LAPTOPS = 1_000
MANY_SERVICES = 10_000
IDLE_SECONDS = 12.0
# The rate of changes that "how many laptops" is worked out for: a cluster in which somebody rolls something out all the time.
CHANGES_PER_SECOND = 1.0
UNPROVEN = UnprovenLimits()
# For how long a System that was killed is missed until another one takes connections.
RESTART_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU in milliseconds and memory in KB (1,000 bytes), of the System and of the Orchestrator."""

    system_join: float
    system_idle: float  # of each second
    system_change: float
    system_memory: float
    orchestrator_join: float
    orchestrator_idle: float
    orchestrator_change: float
    orchestrator_memory: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen with `LAPTOPS` laptops."""

    costs: Costs
    idle_system: float
    idle_orchestrator: float
    join_seconds: float
    return_seconds: float
    return_attempts: float
    return_system: float
    change_p99: float
    system: float
    orchestrator: float


# --- measured -------------------------------------------------------------------------------------------------------------------------------


class Watched:
    """CPU seconds and MB of a process since this was made or last asked."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._busy, self._resident = part.busy, part.resident

    def since(self) -> tuple[float, float]:
        """CPU seconds used and MB grown since last time."""
        before = self._busy, self._resident
        self._busy, self._resident = self._part.busy, self._part.resident
        return self._busy - before[0], self._resident - before[1]


async def measured() -> Measured:
    """Connect them all, watch them idle, change a service, cut them all off."""
    async with teamspace() as place:
        cluster = await place.cluster(SERVICES)
        orchestrator, system = await place.run("orchestrator"), await place.run("system")
        crowds = [await place.laptops(LAPTOPS // PROCESSES, number) for number in range(PROCESSES)]
        await asyncio.sleep(1)
        at_system, at_orchestrator = Watched(system), Watched(orchestrator)
        join_seconds = await connected(crowds, LAPTOPS // PROCESSES)
        await quiet([system, orchestrator])
        joins = at_system.since(), at_orchestrator.since()

        begun = time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        idle = at_system.since()[0], at_orchestrator.since()[0]
        idle = idle[0] / (time.monotonic() - begun), idle[1] / (time.monotonic() - begun)

        begun = time.monotonic()
        waits = [wait for change in await changes(cluster, crowds, 0) for wait in change]
        lasted = time.monotonic() - begun
        change = [
            (watched.since()[0] - share * lasted) / CHANGES
            for watched, share in zip((at_system, at_orchestrator), idle, strict=True)
        ]
        memory = system.resident, orchestrator.resident

        back = await asyncio.gather(*(crowd.ask({"cut": True}) for crowd in crowds))
        return_system = at_system.since()[0]
        each = 1000 / LAPTOPS
        return Measured(
            Costs(
                system_join=joins[0][0] * each,
                system_idle=idle[0] * each,
                system_change=change[0] * each,
                system_memory=joins[0][1] * 1000 / LAPTOPS,
                orchestrator_join=joins[1][0] * each,
                orchestrator_idle=idle[1] * each,
                orchestrator_change=change[1] * each,
                orchestrator_memory=joins[1][1] * 1000 / LAPTOPS,
            ),
            idle_system=100 * idle[0],
            idle_orchestrator=100 * idle[1],
            join_seconds=join_seconds,
            return_seconds=max(answer["seconds"] for answer in back),
            return_attempts=sum(answer["attempts"] for answer in back) / LAPTOPS,
            return_system=return_system,
            change_p99=quantile(waits, 99),
            system=memory[0],
            orchestrator=memory[1],
        )


def be_daemon() -> None:
    """Be the part of a Daemon that grows with the catalog, and print its memory: before it, with it, with all of it consumed."""
    sizes = [_resident()]
    refs = [ServiceRef(f"team-{number % 100}", f"service-{number}") for number in range(MANY_SERVICES)]
    ports = [(ServicePort(80, name="http"),) for _ in refs]
    consumption = Consumption(AddressPlan("bench"))
    services = [Service(ref, ServiceKind.CLUSTER_IP, own, 3, 3) for ref, own in zip(refs, ports, strict=True)]
    consumption.change_catalog(services, ())
    sizes.append(_resident())
    consumption.replace_rules(parse_rules(["*"]), primary_namespace=None)
    consumption.decide(refs, {})
    table = NameTable()
    table.add(consumption.take_change().add_names)
    sizes.append(_resident())
    assert len(table) == 3 * MANY_SERVICES
    print(json.dumps(sizes))


def daemon_growth() -> tuple[float, float]:
    """MB by which a Daemon grows with a catalog of `MANY_SERVICES`, and then by consuming all of them; in a process of its own."""
    command = [sys.executable, "-m", "bench.scale", "daemon"]
    before, known, consumed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return known - before, consumed - known


def _resident() -> float:
    return processes.megabytes([os.getpid()])


# --- worked out -----------------------------------------------------------------------------------------------------------------------------


def laptops_of_a_core(idle: float, change: float) -> float:
    """How many laptops fill a core, by the milliseconds that each costs in each second and for each change."""
    return 1000 / (idle + CHANGES_PER_SECOND * change)


class _Kind(Enum):
    """What happens next in the simulation."""

    TRY = "try"
    GIVE_UP = "give up"
    DONE = "done"


@dataclass(slots=True)
class _System:
    """One core that proves laptops in the order in which they came. `waiting` says in which of its attempts each one waits."""

    listens_from: float
    waiting: OrderedDict[int, int] = field(default_factory=OrderedDict[int, int])
    is_busy: bool = False


class Restart:
    """All laptops are cut off at 0 and come back as the Daemon does; `run` gives the time at which the last one has its tunnel again.

    A System spends `cost` seconds on each and drops who has waited for too long, and the oldest of those that are too many. One of the `replicas` is
    the one that ended, and missing for `RESTART_SECONDS`. Without `jitter` all laptops try again in step, each 0.2 s after it failed.
    """

    def __init__(self, *, cost: float, replicas: int, jitter: bool, most_waiting: int, seed: int) -> None:
        self._cost = cost
        self._jitter = jitter
        self._most_waiting = most_waiting
        self._random = random.Random(seed)
        self._backoffs = [Backoff(most=MOST_DELAY, source=self._random) for _ in range(LAPTOPS)]
        self._systems = [_System(0.0 if number else RESTART_SECONDS) for number in range(replicas)]
        self._events: list[tuple[float, int, _Kind, int, int, int]] = []
        self._order = itertools.count()
        self.attempts = 0

    def run(self) -> float:
        """Until all are back."""
        for laptop in range(LAPTOPS):
            self._fail(0.0, laptop)
        last = now = 0.0
        while self._events:
            now, _, kind, number, laptop, attempt = heapq.heappop(self._events)
            system = self._systems[number]
            match kind:
                case _Kind.TRY:
                    self._try(now, laptop)
                case _Kind.GIVE_UP:
                    if system.waiting.get(laptop) == attempt:  # else it was served or dropped since, and may wait anew
                        del system.waiting[laptop]
                        self._fail(now, laptop)
                case _Kind.DONE:
                    last = now
                    system.is_busy = False
                    self._next(now, number)
        return last

    def _try(self, now: float, laptop: int) -> None:
        self.attempts += 1
        listening = [number for number, system in enumerate(self._systems) if system.listens_from <= now]
        if not listening:
            self._fail(now, laptop)
            return
        number = self._random.choice(listening)
        waiting = self._systems[number].waiting
        waiting[laptop] = self.attempts
        self._happens(now + UNPROVEN.seconds, _Kind.GIVE_UP, number, laptop, self.attempts)
        if len(waiting) > self._most_waiting:
            self._fail(now, waiting.popitem(last=False)[0])
        self._next(now, number)

    def _next(self, now: float, number: int) -> None:
        system = self._systems[number]
        if system.waiting and not system.is_busy:
            system.is_busy = True
            laptop, _ = system.waiting.popitem(last=False)
            self._happens(now + self._cost, _Kind.DONE, number, laptop)

    def _fail(self, now: float, laptop: int) -> None:
        pause = self._backoffs[laptop].next() if self._jitter else 0.2
        self._happens(now + pause, _Kind.TRY, 0, laptop)

    def _happens(self, at: float, kind: _Kind, number: int, laptop: int, attempt: int = 0) -> None:
        heapq.heappush(self._events, (at, next(self._order), kind, number, laptop, attempt))


# --- results --------------------------------------------------------------------------------------------------------------------------------


def measure(rounds: int) -> Iterator[Result]:
    """Each figure once: costs are sums over 1,000 laptops already. `rounds` are for the simulation, which has dice in it."""
    processes.allow_many_files()
    seen = uvloop.run(measured())
    costs = seen.costs
    yield from (
        _result("System, CPU of a laptop that arrives", "ms", costs.system_join),
        _result("Orchestrator, CPU of a laptop that arrives", "ms", costs.orchestrator_join),
        _result("System, CPU of an idle tunnel", "ms/s", costs.system_idle),
        _result("Orchestrator, CPU of an idle laptop", "ms/s", costs.orchestrator_idle),
        _result("System, CPU of a change for each laptop", "ms", costs.system_change),
        _result("Orchestrator, CPU of a change for each laptop", "ms", costs.orchestrator_change),
        _result("System, memory of a tunnel", "KB", costs.system_memory),
        _result("Orchestrator, memory of a laptop", "KB", costs.orchestrator_memory),
        _result("System, CPU with 1,000 idle laptops", "% of a core", seen.idle_system),
        _result("Orchestrator, CPU with 1,000 idle laptops", "% of a core", seen.idle_orchestrator),
        _result("System, 1,000 services and 1,000 laptops", "MB", seen.system),
        _result("Orchestrator, 1,000 services and 1,000 laptops", "MB", seen.orchestrator),
        _result("change to 1,000 laptops p99", "s", seen.change_p99),
        _result("1,000 laptops arrive", "s", seen.join_seconds),
        _result("1,000 laptops cut off at once are back", "s", seen.return_seconds),
        _result("1,000 laptops cut off at once: attempts of a laptop", "attempts", seen.return_attempts),
        _result("System, CPU of 1,000 laptops that come back", "s", seen.return_system),
        _result(
            "laptops of one core of System, a change a second",
            "laptops",
            laptops_of_a_core(costs.system_idle, costs.system_change),
        ),
        _result(
            "laptops of one core of Orchestrator, a change a second",
            "laptops",
            laptops_of_a_core(costs.orchestrator_idle, costs.orchestrator_change),
        ),
    )
    known, consumed = daemon_growth()
    yield _result("Daemon, more by a catalog of 10,000 services", "MB", known)
    yield _result("Daemon, more by consuming all of them", "MB", consumed)
    cost = seen.return_system / LAPTOPS
    for what, replicas, jitter, most_waiting in (
        ("simulated restart of the only System, 1,000 laptops", 1, True, UNPROVEN.in_all),
        ("simulated restart of the only System, 1,000 laptops of one address", 1, True, UNPROVEN.per_address),
        ("simulated restart of the only System, 1,000 laptops in step", 1, False, UNPROVEN.in_all),
        ("simulated restart of the only System, 1,000 laptops in step, of one address", 1, False, UNPROVEN.per_address),
        ("simulated restart of one of 3 Systems, 1,000 laptops", 3, True, UNPROVEN.in_all),
    ):
        runs = [
            Restart(cost=cost, replicas=replicas, jitter=jitter, most_waiting=most_waiting, seed=seed)
            for seed in range(rounds)
        ]
        yield _result(what, "s", *(run.run() for run in runs))
        yield _result(f"{what}: attempts of a laptop", "attempts", *(run.attempts / LAPTOPS for run in runs))


def _result(measure: str, unit: str, *values: float) -> Result:
    return Result(part="scale", subject="codezero", measure=measure, unit=unit, rounds=values)


def main() -> None:
    """The part alone, as a table; or its Daemon."""
    if sys.argv[1:] == ["daemon"]:
        be_daemon()
        return
    for each in measure(5):
        print(f"{each.measure}: {each.median:.3f} {each.unit}", flush=True)


if __name__ == "__main__":
    main()
