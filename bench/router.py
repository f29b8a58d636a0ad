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
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench.results import Result

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
UNITS = {"request p50": "ms", "request p99": "ms", "requests/s": "1/s"}
SECONDS = 1

_PERCENTILE = re.compile(r"^ +(50|99)% +([\d.]+)(us|ms|s)$", re.MULTILINE)
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def measure(rounds: int) -> Iterator[Result]:
    """In a sandbox of its own."""
    with Sandbox.up(name=f"bench-router-{os.getpid()}", tied=True) as sandbox:
        laptop = Laptop(sandbox)
        laptop.start()
        with application(laptop, "http", LAPTOP_PORT):
            urls = {(backend, service): url for backend in BACKENDS for service, url in _urls(sandbox, laptop, backend)}
            found: dict[tuple[str, str], list[float]] = defaultdict(list)
            for _ in range(rounds):
                for (backend, service), url in urls.items():
                    for what, value in _load(sandbox, url).items():
                        found[SUBJECTS[service], what + BACKENDS[backend][0]].append(value)
                for what, value in _load(sandbox, urls["application", "served"], "-H", HEADER).items():
                    found[AT_LAPTOP, what].append(value)
    for (subject, what), values in found.items():
        unit = UNITS[what.partition(",")[0]]
        yield Result(part="router", subject=subject, measure=what, unit=unit, rounds=tuple(values))


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


def _load(sandbox: Sandbox, url: str, *options: str) -> dict[str, float]:
    one = _wrk(sandbox, url, "-c", "1", *options)
    many = _wrk(sandbox, url, "-c", "64", *options)
    times = {percent: float(value) * _MILLISECONDS[unit] for percent, value, unit in _PERCENTILE.findall(one)}
    rate = float(many.partition("Requests/sec:")[2].split()[0])
    return {"request p50": times["50"], "request p99": times["99"], "requests/s": rate}


def _wrk(sandbox: Sandbox, url: str, *options: str) -> str:
    printed = sandbox.run("cluster", ["wrk", "-t", "1", "-d", f"{SECONDS}s", "--latency", *options, url]).stdout
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(f"not every request was answered:\n{printed}")
    return printed
