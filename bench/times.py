"""How long a person waits: for commands, for names, for the first answer, and until traffic finds its way after each thing that can break.

What is measured on the laptop is timed there, so that stepping into the sandbox does not count. What is told apart from outside is asked again 20 ms after
each answer: a value of this kind ends with the first answer that says so, and so has up to 20 ms and the time of one question in it, which is a step
into the sandbox and a curl or `czctl`.
"""

import itertools
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import processes
from bench.results import Result, of_part

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import CORE_URL, SAMPLE, Laptop
from codezero.testing.serve_stories import address_of, application, ask, put_back
from codezero.testing.waiting import eventually

PEERS = Path(__file__).parent.parent / "tests" / "lab" / "manifests" / "peers.yaml"
DAEMON, SYSTEM = "m codezero.local.daemon.main", "czsystem"
SERVICE, LOCAL_PORT = "peers/http", 9001
CONDITION, BLUE = ("--condition-type", "header", "--condition", "x-team:blue"), "x-team: blue"

# What somebody types who wants an answer from a service; given up after a while, by its exit code.
_FIRST_ANSWER = f"""\
czctl start --teamspace "$0" >&2 &&
echo '*.{SAMPLE}' | czctl consume apply --primary-namespace {SAMPLE} >&2 &&
timeout 30 sh -c 'until curl -sf -o /dev/null --max-time 4 {CORE_URL}; do sleep 0.01; done'
"""
_TIMED = """\
import json, subprocess, sys, time
times = []
for _ in range(int(sys.argv[1])):
    begun = time.perf_counter()
    subprocess.run(["sh", "-c", *sys.argv[2:]], check=True, stdout=subprocess.DEVNULL)
    times.append(time.perf_counter() - begun)
print(json.dumps(sorted(times)[len(times) // 2]))
"""


def measure(rounds: int) -> Iterator[Result]:
    """In a sandbox of its own."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    try:
        with Sandbox.up(name=f"bench-times-{os.getpid()}", tied=True) as sandbox:
            sandbox.run("cluster", ["kubectl", "apply", "-f", "-"], input=PEERS.read_text())
            eventually(
                lambda: any(pod.name.startswith("http-") and pod.ready for pod in sandbox.status().pods), within=60
            )
            laptop = Laptop(sandbox)
            for _ in range(rounds):
                for what, value, unit in itertools.chain(_consuming(laptop), _serving(sandbox, laptop)):
                    found["codezero", what, unit].append(value)
                laptop.stop()
    finally:  # what was found before a failure counts
        yield from of_part("times", found)


def _consuming(laptop: Laptop) -> Iterator[tuple[str, float, str]]:
    access = laptop.sandbox.access_file(laptop.user)
    yield "`czctl start`, rules given, to first answer", _timed(laptop, _FIRST_ANSWER, access), "s"
    eventually(laptop.is_connected)
    yield "`czctl status`", _timed(laptop, "czctl status", times=11) * 1000, "ms"
    yield "name of ours, by getent", _timed(laptop, "getent ahostsv4 sample-project-leaf", times=11) * 1000, "ms"
    yield "foreign name, by getent", _timed(laptop, "getent ahostsv4 www.example", times=11) * 1000, "ms"
    yield "curl by name, one request", _timed(laptop, f"curl -s {CORE_URL}", times=11) * 1000, "ms"
    laptop.kill(DAEMON, signal="STOP")
    try:
        yield "foreign name while our resolver hangs", _timed(laptop, "getent ahostsv4 www.example"), "s"
    finally:
        laptop.kill(DAEMON, signal="CONT")
    eventually(laptop.core_answers)
    laptop.sandbox.cut()
    try:
        yield "silent cut until `czctl status` tells", _seconds(lambda: _until_told(laptop)), "s"
    finally:
        laptop.sandbox.mend()
    eventually(laptop.core_answers)
    yield "Daemon, resident", _memory(laptop, DAEMON), "MB"
    yield "System, resident", _memory(laptop, SYSTEM), "MB"


def _serving(sandbox: Sandbox, laptop: Laptop) -> Iterator[tuple[str, float, str]]:
    url = f"http://{address_of(sandbox, 'http')}:8080/hello"
    eventually(laptop.is_connected)

    def serve() -> None:
        laptop.serve(SERVICE, f"{LOCAL_PORT}:8080", *CONDITION)
        answered_by("laptop")

    def answered_by(where: str) -> None:
        eventually(lambda: _who_answers(sandbox, url).startswith(where), within=60, pause=0.02)

    with application(laptop, "http", LOCAL_PORT) as running:
        yield "first serve of a service until the laptop answers", _seconds(serve), "s"
        laptop.czctl("serve", "end", SERVICE)
        yield "the next one, the Router still there", _seconds(serve), "s"
        sandbox.cut("laptop")
        yield "served: silent cut until the pods answer", _seconds(lambda: answered_by("http-")), "s"
        sandbox.mend("laptop")
        yield "served: network back until the laptop answers", _seconds(lambda: answered_by("laptop")), "s"
        for what, program in (("Daemon", DAEMON), ("System", SYSTEM)):
            laptop.kill(program)
            yield f"served: {what} killed until the laptop answers", _seconds(lambda: answered_by("laptop")), "s"
        running.terminate()
        yield "served: local process gone until the pods answer", _seconds(lambda: answered_by("http-")), "s"
    end = _seconds(lambda: put_back(sandbox, "http"))
    yield "end of the Serve object until the Service is its team's", end, "s"


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _timed(laptop: Laptop, command: str, *arguments: str, times: int = 1) -> float:
    """Median seconds of a shell's command on the laptop."""
    printed = laptop.run("python", "-c", _TIMED, str(times), command, *arguments, timeout=120).stdout
    return float(json.loads(printed))


def _until_told(laptop: Laptop) -> None:
    eventually(lambda: laptop.status()["tunnel"]["state"] == "connecting", pause=0.02)


def _who_answers(sandbox: Sandbox, url: str) -> str:
    """Where a request with the header was answered; empty where it was not."""
    try:
        return ask(sandbox, url, "-H", BLUE).where
    except (
        AssertionError,
        ValueError,
    ):  # no answer at all, or one of a proxy that says in plain words that nobody is there
        return ""


def _memory(laptop: Laptop, program: str) -> float:
    """Resident MB of the largest process of a program."""
    return max(processes.megabytes([each]) for each in processes.named(laptop.sandbox.keeper, program))
