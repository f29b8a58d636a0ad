"""Measures the consume path in a sandbox of its own and prints a table: `make bench`. Numbers hold for this machine, as busy as it was."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import CORE_URL, SAMPLE, Laptop
from codezero.testing.waiting import eventually

PEERS = Path(__file__).parent.parent / "tests" / "lab" / "manifests" / "peers.yaml"
ROUNDS = 5
DAEMON = "m codezero.local.daemon.main"


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    return statistics.median(seconds(work) for _ in range(rounds))


def inside(laptop: Laptop, command: str, rounds: int = 11) -> float:
    """Median seconds of a command, measured on the laptop, so that stepping into the sandbox does not count."""
    script = (
        "import statistics, subprocess, sys, time\n"
        "def once():\n"
        "    begun = time.perf_counter(); subprocess.run(sys.argv[1], shell=True, check=True, capture_output=True)\n"
        "    return time.perf_counter() - begun\n"
        f"print(statistics.median(once() for _ in range({rounds})))"
    )
    return float(laptop.run("python", "-c", script, command, timeout=120).stdout)


def start(laptop: Laptop) -> None:
    laptop.start()
    laptop.consume("*.sample-project", "*.peers", primary_namespace=SAMPLE)
    eventually(laptop.core_answers, pause=0.02)


def bulk(laptop: Laptop, direction: str) -> float:
    """Megabytes a second of one stream, as the client saw it."""
    command = (
        "python",
        "-m",
        "codezero.testing.peers.bulk",
        "client",
        "bulk.peers:8084",
        "--size",
        "1G",
        "--direction",
        direction,
    )
    return 1024 / json.loads(laptop.run(*command, timeout=300).stdout)["seconds"]


def told_after_cut(laptop: Laptop) -> float:
    laptop.sandbox.cut()
    try:
        return seconds(lambda: eventually(lambda: laptop.status()["tunnel"]["state"] == "connecting", pause=0.02))
    finally:
        laptop.sandbox.mend()
        eventually(laptop.core_answers)


def foreign_name_while_ours_hangs(laptop: Laptop) -> float:
    laptop.kill(DAEMON, signal="STOP")
    try:
        return inside(laptop, "getent ahostsv4 www.example", rounds=3)
    finally:
        laptop.kill(DAEMON, signal="CONT")
        eventually(laptop.core_answers)


def memory(laptop: Laptop, program: str) -> float:
    """Resident MB of the largest process of a program."""
    sizes = [laptop.run("cat", f"/proc/{each}/status").stdout for each in laptop.processes(program)]
    return max(int(line.split()[1]) for text in sizes for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def rows(laptop: Laptop) -> Iterator[tuple[str, str]]:
    yield "`czctl start` to first answer, rules given", f"{seconds(lambda: start(laptop)):.2f} s"
    yield "`czctl status`", f"{inside(laptop, 'czctl status') * 1000:.0f} ms"
    yield "name of ours, by getent", f"{inside(laptop, 'getent ahostsv4 sample-project-leaf') * 1000:.1f} ms"
    yield "foreign name, by getent", f"{inside(laptop, 'getent ahostsv4 www.example') * 1000:.1f} ms"
    yield "foreign name while our resolver hangs", f"{foreign_name_while_ours_hangs(laptop):.2f} s"
    yield "curl by name, one request to core", f"{inside(laptop, f'curl -s {CORE_URL}') * 1000:.0f} ms"
    eventually(lambda: laptop.consumed()["peers/bulk"]["state"] == "enabled")
    for direction in ("up", "down"):
        yield (
            f"bulk, one stream, {direction}",
            f"{statistics.median(bulk(laptop, direction) for _ in range(3)):.0f} MB/s",
        )
    yield "silent cut until status tells", f"{told_after_cut(laptop):.1f} s"
    yield "Daemon, resident", f"{memory(laptop, DAEMON):.0f} MB"
    yield "System, resident", f"{memory(laptop, 'czsystem'):.0f} MB"


def main() -> None:
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}\n"
    )
    with Sandbox.up(name=f"bench-{os.getpid()}", tied=True) as sandbox:
        sandbox.run("cluster", ["kubectl", "apply", "-f", "-"], input=PEERS.read_text())
        eventually(lambda: any(pod.name.startswith("bulk") and pod.ready for pod in sandbox.status().pods), within=60)
        print("| What | Median |\n|---|---|")
        for what, value in rows(Laptop(sandbox)):
            print(f"| {what} | {value} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
