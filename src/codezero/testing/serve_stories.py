"""What the serve stories share: local applications on the laptops, a service to serve, and ways to ask it from inside and outside."""

import json
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.load import BEGUN
from codezero.testing.waiting import eventually

USER_HEADER = "x-c6o-userid"
VARIANT = "x-codezero-variant"
FALLBACK = "x-codezero-fallback"
# So many requests have to go well before nobody is said to have noticed.
ENOUGH = 100


@dataclass(frozen=True)
class Answer:
    """An answer as curl saw it: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def where(self) -> str:
        """The machine that the answering application ran on."""
        return str(json.loads(self.body)["where"])

    @property
    def variant(self) -> str | None:
        """The variant that says it answered."""
        return self.headers.get(VARIANT)

    @property
    def fallback(self) -> str | None:
        """Why the service's own pods answered although a condition was met."""
        return self.headers.get(FALLBACK)


@contextmanager
def application(
    laptop: Laptop, name: str, port: int, *, address: str = "127.0.0.1", env: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[Any]]:
    """A peer's server on the laptop, listening when the block begins."""
    command = ("python", "-m", f"codezero.testing.peers.{name}", "server", "--address", address, "--port", str(port))
    running = laptop.popen(*command, env=env)
    try:
        eventually(lambda: running.poll() is not None or listens(laptop, port))
        assert running.poll() is None
        yield running
    finally:
        running.terminate()
        running.wait()


def listens(laptop: Laptop, port: int) -> bool:
    """Whether something listens on the port of the laptop."""
    return bool(laptop.run("ss", "-Htln", f"sport = :{port}").stdout.strip())


def address_of(sandbox: Sandbox, service: str, namespace: str = "peers") -> str:
    """A service's address in the cluster."""
    return kubectl(sandbox, "get", "service", service, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")


def kubectl(sandbox: Sandbox, *arguments: str, check: bool = True, **options: Any) -> str:
    """Run kubectl in the cluster; what it printed."""
    ended = sandbox.run("cluster", ["kubectl", *arguments], check=False, **options)
    assert not check or ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
    return ended.stdout


def ask(sandbox: Sandbox, url: str, *options: str, place: str = "cluster") -> Answer:
    """Ask by curl, bounded in time; raises AssertionError without an answer."""
    ended = sandbox.run(place, ["curl", "-sS", "-i", "--max-time", "10", *options, url], check=False)
    assert ended.returncode == 0, (url, ended.stderr)
    text = ended.stdout.replace("\r\n", "\n")
    while text.startswith("HTTP/1.1 100"):
        text = text.partition("\n\n")[2]
    head, _, body = text.partition("\n\n")
    status, *lines = head.split("\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status.split()[1]), headers, body)


@contextmanager
def load(sandbox: Sandbox, url: str, *options: str, place: str = "cluster") -> Generator[dict[str, Any]]:
    """200 requests a second for as long as the block lasts; afterwards the yielded dictionary is the report of `codezero.testing.load`.

    The block begins when all connections are under way, and the load goes on behind it until there were `ENOUGH`: however quick the block, or slow
    the machine, a report without failures says something.
    """
    command = ["python", "-m", "codezero.testing.load", url, "--rate", "200", "--until-told"]
    report: dict[str, Any] = {}
    running = sandbox.popen(
        place, [*command, "--at-least", str(ENOUGH), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == BEGUN
        yield report
    finally:
        output, _ = running.communicate("\n", timeout=120)
        report.update(json.loads(output) if output else {"requests": 0, "failed": -1})


@contextmanager
def asked_all_the_time(sandbox: Sandbox, url: str, *options: str, place: str = "cluster") -> Generator[None]:
    """A few requests a second for as long as the block lasts: a copy may be lost, and a reader of traces comes some time."""
    command = (
        "while :; do " + f"curl -s -o /dev/null --max-time 5 {' '.join(map(repr, options))} '{url}'; sleep 0.2; done"
    )
    running = sandbox.popen(place, ["sh", "-c", command])
    try:
        yield
    finally:
        running.terminate()
        running.wait()


@contextmanager
def nobody_notices(sandbox: Sandbox, url: str) -> Generator[None]:
    """Requests without a condition, 200 a second: none fails, and none is answered by anybody but the service's own pods."""
    with load(sandbox, url) as report:
        yield
    assert report["failed"] == 0, report
    assert report["fallbacks"] == {}
    assert list(report["answers"]) == ["origin"]


def selector(sandbox: Sandbox, service: str, namespace: str = "peers") -> dict[str, str]:
    """What a Service selects at this moment."""
    return json.loads(kubectl(sandbox, "get", "service", service, "-n", namespace, "-o", "json"))["spec"]["selector"]


def replicas_of(sandbox: Sandbox, deployment: str, namespace: str = "codezero") -> int:
    """How many pods a Deployment asks for."""
    return int(kubectl(sandbox, "get", "deployment", deployment, "-n", namespace, "-o", "jsonpath={.spec.replicas}"))


def serve_objects(sandbox: Sandbox) -> list[str]:
    """The Serve objects of the cluster, as `namespace/name`."""
    items = json.loads(kubectl(sandbox, "get", "serves", "-A", "-o", "json"))["items"]
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]


def put_back(sandbox: Sandbox, service: str, namespace: str = "peers") -> None:
    """End all serves of a service and take its Router away; returns when its selector is its team's again."""
    kubectl(sandbox, "delete", "serve", service, "-n", namespace, "--ignore-not-found", "--timeout=60s")
