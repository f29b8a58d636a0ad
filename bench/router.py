"""What a served service costs those who meet no condition: their requests go through the Router's Envoy to the team's pods.

Within each round the same pods are asked by their Service directly, by a Service that is served under a condition, and by a plain Envoy in front of
them, which tells what any proxy of this kind costs. By `wrk`: 64 connections as fast as they are answered, and one alone for the times.

The pods are those of a small application in Python (Starlette under uvicorn, a fifth of a millisecond of work for each request, which is little for
one). That is the row to go by, since what a team serves works for its answers; two pods, so that the application alone keeps both cores busy and
the Router's work is taken from it, not hidden on a core that has nothing to do. The rows "..., static answer" have nginx with a constant in its
place: nothing dearer can be made of a proxy, because the proxy does more for a request than everybody else together, and no proxy comes near to
direct then.
"""

import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import load
from bench.results import Result, of_part, rotated

from codezero.router import envoy_process
from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask
from codezero.testing.waiting import eventually

HERE = Path(__file__).parent
BASELINES = HERE / "baselines"
# By namespace: how its rows are called, and the server in its pods.
BACKENDS = {
    "application": ("", ["python", "-m", "codezero.testing.peers.http", "server", "--port", "8080"]),
    "static": (", static answer", ["nginx", "-p", "/run/scratch", "-c", str(BASELINES / "nginx-static.conf")]),
}
# By Service: who answers through it.
SUBJECTS = {
    "direct": "direct",
    "served": "codezero, Router, no condition met",
    "envoy": "plain Envoy HTTP proxy",
}
AT_LAPTOP = "codezero, Router, answered by the laptop"
HEADER, CONDITION = "x-team: blue", ("--condition-type", "header", "--condition", "x-team:blue")
LAPTOP_PORT = 9001


def measure(rounds: int) -> Iterator[Result]:
    """In a sandbox of its own."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    try:
        with Sandbox.up(name=f"bench-router-{os.getpid()}", tied=True) as sandbox:
            laptop = Laptop(sandbox)
            laptop.start()
            with application(laptop, "http", LAPTOP_PORT):
                urls = {
                    (backend, service): url for backend in BACKENDS for service, url in _urls(sandbox, laptop, backend)
                }
                for number in range(rounds):
                    for (backend, service), url in rotated(list(urls.items()), number):
                        for what, unit, value in _load(sandbox, url):
                            found[SUBJECTS[service], what + BACKENDS[backend][0], unit].append(value)
                    for what, unit, value in _load(sandbox, urls["application", "served"], "-H", HEADER):
                        found[AT_LAPTOP, what, unit].append(value)
    finally:  # what was found before a failure counts
        yield from of_part("router", found)


def _urls(sandbox: Sandbox, laptop: Laptop, backend: str) -> Iterator[tuple[str, str]]:
    """The Services of a backend, all answering."""
    words = {
        "NAMESPACE": f"bench-{backend}",
        "COMMAND": json.dumps(BACKENDS[backend][1]),
        "BASELINES": str(BASELINES),
        "ENVOY": str(envoy_process.program()),
    }
    manifests = (HERE / "router.yaml").read_text()
    for word, value in words.items():
        manifests = re.sub(rf"\b{word}\b", lambda _, value=value: value, manifests)
    sandbox.run("cluster", ["kubectl", "apply", "-f", "-"], input=manifests)
    namespace = words["NAMESPACE"]
    for service in SUBJECTS:
        url = f"http://{address_of(sandbox, service, namespace)}:8080/hello"
        eventually(lambda url=url: ask(sandbox, url).status == 200, within=60)
        if service == "served":
            laptop.serve(f"{namespace}/{service}", f"{LAPTOP_PORT}:8080", *CONDITION)
            eventually(lambda url=url: ask(sandbox, url, "-H", HEADER).variant is not None, within=60)
        yield service, url


def _load(sandbox: Sandbox, url: str, *options: str) -> Iterator[tuple[str, str, float]]:
    def start(command: Sequence[str]) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return sandbox.popen("cluster", command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    one = load.requests(start, url, clients=1, options=options)
    yield "request p50", "ms", one.p50
    yield "request p99", "ms", one.p99
    yield "requests/s", "1/s", load.requests(start, url, clients=64, options=options).a_second
