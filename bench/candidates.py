"""Who is measured on the byte path: ours, direct connections, and the baselines, each started in the lab until it answers."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import processes
from bench.lab import Lab
from bench.load import Load

from codezero.sandbox import layout

Processes = Callable[[], set[int]]

CONSUME = "codezero, consume"
SERVE = "codezero, serve"
DIRECT = "direct TCP"
DIRECT_TLS = "direct TLS 1.3"
NGINX = "nginx stream, mTLS"
HAPROXY = "HAProxy, mTLS"
ENVOY = "Envoy, HTTP/2 CONNECT"
SSH = "ssh -L"
SSHUTTLE = "sshuttle"


def _none() -> set[int]:
    return set()


@dataclass(frozen=True, slots=True)
class Candidate:
    """How the backend is reached through it, and which processes are its two ends; a direct connection has none."""

    load: Load
    http: str | None  # address and port of the web server through it
    place: str  # where the clients are
    laptop_end: Processes = _none
    cluster_end: Processes = _none
    daemon: Processes | None = None  # of the laptop's end of the product, the process that has the streams
    holds_streams: bool = False  # whether 1,000 idle streams of it are measured
    slow: bool = False  # many streams of it take seconds until every buffer on the way is empty again


Starting = Callable[[Lab], AbstractContextManager[Candidate]]


class NotInstalledError(Exception):
    """What a candidate needs is not there."""


@contextlib.contextmanager
def consume(lab: Lab) -> Generator[Candidate]:
    """The product: from a laptop, by the service's own name."""
    address = lab.consumed(layout.LAPTOP)
    yield Candidate(
        lab.load(layout.LAPTOP, f"{address}:7000"),
        f"{address}:8080",
        layout.LAPTOP,
        laptop_end=lab.agent(),
        cluster_end=lab.system(),
        daemon=lab.daemon(),
        holds_streams=True,
    )


@contextlib.contextmanager
def serve(lab: Lab) -> Generator[Candidate]:
    """The product: from the cluster through Router and System to processes of the laptop. Needs `consume`, which starts the agent."""
    system, routers = lab.system(), lab.routers()
    address = lab.address_of("served")
    lab.serve("7000", "8080")
    yield Candidate(
        lab.load(layout.CLUSTER, f"{address}:7000"),
        f"{address}:8080",
        layout.CLUSTER,
        laptop_end=lab.agent(),
        cluster_end=lambda: system() | routers(),
    )


@contextlib.contextmanager
def tunnel_from_laptop(lab: Lab) -> Generator[Candidate]:
    """The tunnel alone, streams opened by the laptop."""
    opened = ("--open", f"127.0.0.1:7140={lab.backend}:7000", "--open", f"127.0.0.1:7141={lab.backend}:8080")
    with (
        _end(lab, "gateway", "cluster", "0.0.0.0:7140") as cluster,
        _end(lab, layout.LAPTOP, "laptop", f"{layout.NODE_ADDRESS}:7140", *opened) as laptop,
    ):
        yield _pair(lab, 7140, laptop, cluster)


@contextlib.contextmanager
def tunnel_from_cluster(lab: Lab) -> Generator[Candidate]:
    """The tunnel alone, streams opened by the cluster to processes of the laptop."""
    opened = ("--open", "0.0.0.0:7151=127.0.0.1:7000", "--open", "0.0.0.0:7152=127.0.0.1:8080")
    with (
        _end(lab, "gateway", "cluster", "0.0.0.0:7150", *opened) as cluster,
        _end(lab, layout.LAPTOP, "laptop", f"{layout.NODE_ADDRESS}:7150") as laptop,
    ):
        yield Candidate(
            lab.load(layout.CLUSTER, f"{lab.gateway_address}:7151"),
            f"{lab.gateway_address}:7152",
            layout.CLUSTER,
            laptop_end=_below(laptop),
            cluster_end=_below(cluster),
        )


@contextlib.contextmanager
def direct(lab: Lab) -> Generator[Candidate]:
    """Nothing between: links and load alone."""
    yield Candidate(
        lab.load(layout.LAPTOP, f"{layout.NODE_ADDRESS}:7000"), f"{layout.NODE_ADDRESS}:8080", layout.LAPTOP
    )


@contextlib.contextmanager
def direct_tls(lab: Lab) -> Generator[Candidate]:
    """TLS 1.3 from the load to the backend, both in C, with one thread each."""
    yield Candidate(lab.load(layout.LAPTOP, f"{layout.NODE_ADDRESS}:7002", tls=True), None, layout.LAPTOP)


@contextlib.contextmanager
def nginx(lab: Lab) -> Generator[Candidate]:
    """A TLS connection for each stream."""
    folder = str(_made(lab, "nginx"))
    with (
        _program(lab, "gateway", "nginx", "-p", folder, "-c", str(lab.filled("nginx-cluster.conf"))) as cluster,
        _program(lab, layout.LAPTOP, "nginx", "-p", folder, "-c", str(lab.filled("nginx-laptop.conf"))) as laptop,
    ):
        yield _pair(lab, 7100, laptop, cluster)


@contextlib.contextmanager
def haproxy(lab: Lab) -> Generator[Candidate]:
    """A TLS connection for each stream."""
    with (
        _program(lab, "gateway", "haproxy", "-f", str(lab.filled("haproxy-cluster.cfg"))) as cluster,
        _program(lab, layout.LAPTOP, "haproxy", "-f", str(lab.filled("haproxy-laptop.cfg"))) as laptop,
    ):
        yield _pair(lab, 7110, laptop, cluster)


@contextlib.contextmanager
def envoy(lab: Lab) -> Generator[Candidate]:
    """One connection, a stream of HTTP/2 for each connection; one worker, so that it is one connection."""
    own = (lab.words["ENVOY"], "--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart", "-l", "error")
    with (
        lab.running("gateway", *own, "-c", str(lab.filled("envoy-cluster.yaml"))) as cluster,
        lab.running(layout.LAPTOP, *own, "-c", str(lab.filled("envoy-laptop.yaml"))) as laptop,
    ):
        yield _pair(lab, 7120, laptop, cluster)


@contextlib.contextmanager
def ssh(lab: Lab) -> Generator[Candidate]:
    """OpenSSH's own forwarding of ports."""
    configuration = str(lab.filled("ssh.conf"))
    with (
        _sshd(lab, 7130) as cluster,
        _program(lab, layout.LAPTOP, "ssh", "-F", configuration, *lab.arguments("ssh-arguments")) as laptop,
    ):
        yield _pair(lab, 7130, laptop, cluster)


@contextlib.contextmanager
def sshuttle(lab: Lab) -> Generator[Candidate]:
    """A transparent proxy over ssh, which captures the backend's own address."""
    configuration = str(lab.filled("ssh.conf"))
    with (
        _sshd(lab, 7132) as cluster,
        lab.running(
            layout.LAPTOP, "sshuttle", "-e", f"ssh -F {configuration}", *lab.arguments("sshuttle-arguments")
        ) as laptop,
    ):
        yield Candidate(
            lab.load(layout.LAPTOP, f"{lab.backend}:7000"),
            f"{lab.backend}:8080",
            layout.LAPTOP,
            laptop_end=_below(laptop),
            cluster_end=_below(cluster),
            slow=True,
        )


ALL: dict[str, Starting] = {
    CONSUME: consume,
    SERVE: serve,
    "codezero tunnel alone, opened by the laptop": tunnel_from_laptop,
    "codezero tunnel alone, opened by the cluster": tunnel_from_cluster,
    DIRECT: direct,
    DIRECT_TLS: direct_tls,
    NGINX: nginx,
    HAPROXY: haproxy,
    ENVOY: envoy,
    SSH: ssh,
    SSHUTTLE: sshuttle,
}


def _pair(lab: Lab, port: int, laptop: "subprocess.Popen[Any]", cluster: "subprocess.Popen[Any]") -> Candidate:
    """A candidate that listens on the laptop: for bulk at `port`, for the web server at the one after it."""
    return Candidate(
        lab.load(layout.LAPTOP, f"127.0.0.1:{port}"),
        f"127.0.0.1:{port + 1}",
        layout.LAPTOP,
        laptop_end=_below(laptop),
        cluster_end=_below(cluster),
        holds_streams=True,
    )


def _below(running: "subprocess.Popen[Any]") -> Processes:
    """What runs in a place; not the program that enters it."""
    return lambda: processes.trees([running.pid]) - {running.pid}


def _program(lab: Lab, place: str, name: str, *arguments: str) -> AbstractContextManager["subprocess.Popen[Any]"]:
    path = shutil.which(name, path=":".join(layout.PROGRAM_FOLDERS))
    if path is None:
        raise NotInstalledError(f"{name} is not installed")
    return lab.running(place, path, *arguments)


def _end(lab: Lab, place: str, name: str, where: str, *more: str) -> AbstractContextManager["subprocess.Popen[Any]"]:
    return lab.running(place, "python", "-m", "bench.ends", name, where, str(lab.folder), *more)


@contextlib.contextmanager
def _sshd(lab: Lab, port: int) -> Generator["subprocess.Popen[Any]"]:
    lab.sandbox.run(layout.CLUSTER, ["mkdir", "-p", "/run/sshd"])
    configuration = str(lab.filled("sshd.conf", PORT=str(port)))
    with _program(lab, "gateway", "sshd", "-D", "-e", "-f", configuration) as running:
        waiting = ["sh", "-c", f"until ss -Htln sport = :{port} | grep -q .; do sleep 0.1; done"]
        lab.sandbox.run(layout.CLUSTER, ["ip", "netns", "exec", lab.gateway, *waiting], timeout=10)
        yield running


def _made(lab: Lab, name: str) -> Path:
    folder = lab.folder / name
    folder.mkdir(exist_ok=True)
    return folder
