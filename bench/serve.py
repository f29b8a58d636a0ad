"""Measures the serve path in a sandbox of its own and prints a table: `make bench`. Numbers hold for this machine, as busy as it was."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, put_back
from codezero.testing.waiting import eventually

PEERS = Path(__file__).parent.parent / "tests" / "lab" / "manifests" / "peers.yaml"
SERVICE = "peers/http"
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")
BLUE = "x-team: blue"
DAEMON = "codezero.local.daemon.main"


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def who_answers(sandbox: Sandbox, url: str) -> str:
    """Where a request with the header was answered; empty where it was not."""
    try:
        return ask(sandbox, url, "-H", BLUE).where
    except AssertionError:
        return ""


def until_answered_by(sandbox: Sandbox, url: str, where: str) -> None:
    eventually(lambda: who_answers(sandbox, url).startswith(where), within=60, pause=0.02)


def rate(sandbox: Sandbox, url: str, *options: str) -> dict[str, float]:
    """Requests a second over 8 connections, as fast as they are answered, and the median of one over one connection."""
    load = ["python", "-m", "codezero.testing.load", url, *options]
    many = seconds(lambda: sandbox.run("cluster", [*load, "--connections", "8", "--requests", "1000"], timeout=120))
    one = sandbox.run("cluster", [*load, "--connections", "1", "--requests", "2000"], timeout=120)
    return {"rate": 8000 / many, "one": json.loads(one.stdout)["median"]}


def rows(sandbox: Sandbox, laptop: Laptop) -> Iterator[tuple[str, str]]:
    url = f"http://{address_of(sandbox, 'http')}:8080/hello"
    direct = rate(sandbox, url)
    put_back(sandbox, "http")

    def first_serve() -> None:
        laptop.serve(SERVICE, "9001:8080", *CONDITION)
        until_answered_by(sandbox, url, "laptop")

    with application(laptop, "http", 9001) as running:
        yield "first serve of a service until the laptop answers", f"{seconds(first_serve):.2f} s"
        laptop.czctl("serve", "end", SERVICE)
        yield "the next one, the Router still there", f"{seconds(first_serve):.2f} s"
        through, variant = rate(sandbox, url), rate(sandbox, url, "--header", BLUE)
        for what, found in (
            ("no condition met, before", direct),
            ("... while served", through),
            ("answered by the laptop", variant),
        ):
            yield f"requests/s, 8 connections: {what}", f"{found['rate']:.0f}"
            yield f"one request: {what}", f"{found['one'] * 1000:.2f} ms"
        sandbox.cut("laptop")
        yield "silent cut until the pods answer", f"{seconds(lambda: until_answered_by(sandbox, url, 'http-')):.1f} s"
        sandbox.mend("laptop")
        yield (
            "network back until the laptop answers",
            f"{seconds(lambda: until_answered_by(sandbox, url, 'laptop')):.1f} s",
        )
        laptop.kill(DAEMON)
        yield (
            "Daemon killed until the laptop answers",
            f"{seconds(lambda: until_answered_by(sandbox, url, 'laptop')):.1f} s",
        )
        laptop.kill("czsystem")
        yield (
            "System killed until the laptop answers",
            f"{seconds(lambda: until_answered_by(sandbox, url, 'laptop')):.1f} s",
        )
        running.terminate()
        yield (
            "local process gone until the pods answer",
            f"{seconds(lambda: until_answered_by(sandbox, url, 'http-')):.2f} s",
        )
    yield (
        "end of the Serve object until the Service is its team's",
        f"{seconds(lambda: put_back(sandbox, 'http')):.1f} s",
    )


def main() -> None:
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"{platform.platform()}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}\n")
    with Sandbox.up(name=f"bench-{os.getpid()}", tied=True) as sandbox:
        sandbox.run("cluster", ["kubectl", "apply", "-f", "-"], input=PEERS.read_text())
        eventually(lambda: any(pod.name.startswith("http-") and pod.ready for pod in sandbox.status().pods), within=60)
        laptop = Laptop(sandbox)
        laptop.start()
        print("| What | |\n|---|---|")
        for what, value in rows(sandbox, laptop):
            print(f"| {what} | {value} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
