"""Measures how fast a change of the cluster reaches 2,000 laptops, in a cluster of 10,000 services, and the memory that this takes.

Real are: a Kubernetes API over TLS (the sandbox's) with 10,000 Services and their EndpointSlices, the System and the Orchestrator in processes of their
own, and 2,000 tunnels of 2,000 devices to the System, each with its coordination stream, which the System passes on to the Orchestrator over a
TLS connection of its own. Light is what is behind the tunnels: a thousand laptops share a process, and what each of them is told is looked through for
the change instead of being turned into names. The first laptop gets the whole catalog; the others come with its revision, like laptops that come back, or
they would get 4 GB before the first change.

A change is a new port of one Service, written at a steady pace. It counts from the moment that the API server has it until each laptop does; all
laptops, System, Orchestrator and API server share the machine's cores. "System, 10,000 services" is read before the first laptop comes.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import random
import sys
import tempfile
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import uvloop
import yaml
from bench import processes
from bench.results import Result, of_part, quantile

from codezero import __version__
from codezero.kit import certificates
from codezero.kit.backoff import Backoff
from codezero.kit.certificates import Authority, Credentials
from codezero.local.daemon.link import MOST_DELAY
from codezero.model.ids import Device, SessionId
from codezero.model.problems import CodezeroError
from codezero.sandbox.api import MASTERS, ApiServer, Store, User, bootstrap
from codezero.testing.teamspace import RealTeamspace
from codezero.transport import messages, tunnel
from codezero.transport.tunnel import ClientTunnel, TunnelStream
from codezero.wire.coordination import (
    PROTOCOL_VERSIONS,
    CatalogDelta,
    CatalogSnapshot,
    DaemonHello,
    Goodbye,
    ToDaemon,
    Welcome,
)
from codezero.wire.open_header import OpenHeader, StreamKind

ROOT = Path(__file__).parent.parent
SERVICES = 10_000
NAMESPACES = 100
PODS = 3
LAPTOPS = 2_000
PROCESSES = 2
CHANGES = 8  # of each round
PACE_SECONDS = 0.6
# A laptop that has not heard of a change after so long counts as one that waited so long.
PATIENCE_SECONDS = 5.0
# Laptops of one process that connect at the same time.
AT_ONCE = 24
# What is larger tells of many laptops that came, and is not looked into.
MOST_OF_A_CHANGE = 2000
CHANGED = ("team-0", "service-0")
FIRST_PORT = 10_000

Json = dict[str, Any]


# --- the cluster ----------------------------------------------------------------------------------------------------------------------------


def filled_store(services: int) -> Store:
    """A cluster of so many services with three pods each."""
    store = Store()
    bootstrap(store)
    for number in range(NAMESPACES):
        store.create("namespaces", "", {"metadata": {"name": f"team-{number}"}})
    for number in range(50):
        status = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number + 1}"}]}
        store.create("nodes", "", {"metadata": {"name": f"node-{number}"}, "status": status})
    for number in range(services):
        namespace, name = f"team-{number % NAMESPACES}", f"service-{number}"
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": namespace, "team": namespace}
        spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        store.create("services", namespace, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        store.create("endpointslices.discovery.k8s.io", namespace, endpoints(namespace, name, number))
    return store


def endpoints(namespace: str, name: str, number: int) -> Json:
    """The EndpointSlice of a service, as a controller writes it."""
    pods = [
        {
            "addresses": [f"10.{number // 60 % 250}.{number % 60}.{pod + 1}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{(number + pod) % 50}",
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{name}-6d5f8c9b7-{pod:05}"},
        }
        for pod in range(PODS)
    ]
    return {
        "metadata": {"name": f"{name}-x7k2p", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": pods,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


async def be_cluster(folder: Path, services: int) -> None:
    """Serve the API and change the port of one service on demand, to the number that is asked for."""
    store = filled_store(services)
    authority = Authority.create("cluster")
    leaf = authority.issue("api", addresses=["127.0.0.1"], server=True)
    tls = certificates.server_context(leaf, client_roots=authority.certificate_pem, require_client=False)
    user = User("system:serviceaccount:codezero:system", frozenset({MASTERS}))
    gc.freeze()
    async with ApiServer(store, tls=tls, tokens={"bench": user}).listening("127.0.0.1", 0) as port:
        roots = b64encode(authority.certificate_pem.encode()).decode()
        kubeconfig = {
            "clusters": [
                {"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": roots}}
            ],
            "users": [{"name": "u", "user": {"token": "bench"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        say({})
        async for order in orders():
            ports = [{"name": "http", "port": order["port"], "targetPort": 8080, "protocol": "TCP"}]
            at = time.monotonic()
            store.patch("services", *CHANGED, {"spec": {"ports": ports}})
            say({"at": at})


# --- the laptops ----------------------------------------------------------------------------------------------------------------------------


class Laptop(asyncio.Protocol):
    """A laptop's coordination stream, looked through for the changed service. `heard` is when each port of it came, in seconds of the monotonic clock."""

    _decoder: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)
    # What is the same for all is decoded once: each real laptop has a machine of its own for it.
    _ports: ClassVar[dict[bytes, int]] = {}

    def __init__(self, resumed: str | None) -> None:
        self._resumed = resumed
        self.heard: dict[int, float] = {}
        self.epoch: str | None = None
        self.revision = 0
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_catalog: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        """A part of the messages."""
        received = self._received
        received += data
        while len(received) >= 4 and len(received) >= (end := 4 + int.from_bytes(received[:4], "big")):
            body = bytes(received[4:end])
            del received[:end]
            self._take(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is gone."""
        for waited in (self.welcomed, self.has_catalog):
            if not waited.done():
                waited.set_exception(exc or EOFError("the coordination stream ended"))
                waited.exception()

    def _take(self, body: bytes) -> None:
        port = self._ports.get(body)
        if port is None and not (self.has_catalog.done() and len(body) > MOST_OF_A_CHANGE):
            port = self._look(self._decoder.decode(body))
            if port is not None:
                self._ports[body] = port
        if port is not None:
            self.heard.setdefault(port, time.monotonic())

    def _look(self, message: ToDaemon) -> int | None:
        match message:
            case Welcome():
                if message.epoch == self._resumed:
                    self.has_catalog.set_result(None)
                self.epoch = message.epoch
                self.welcomed.set_result(None)
            case CatalogSnapshot(last=True) if not self.has_catalog.done():
                self.revision = message.revision
                self.has_catalog.set_result(None)
            case CatalogDelta():
                for service in message.upserts:
                    if (service.ref.namespace, service.ref.name) == CHANGED:
                        return service.ports[0].port
            case Goodbye():
                raise SystemExit(f"a laptop was sent away: {message.detail}")
            case _:
                pass
        return None


Connected = tuple[Json, ClientTunnel, Laptop]


async def be_laptops(own: Path) -> None:
    """Connect the laptops listed in the file `own`, tell on demand what they have heard, or let all lose their tunnels and come back."""
    listed = msgspec.json.decode(own.read_bytes(), type=Json)
    everybody: list[Connected] = []
    known: tuple[str | None, int] = (None, 0)
    slots = asyncio.Semaphore(AT_ONCE)

    async def connect(laptop: Json, epoch: str | None, revision: int, session: SessionId | None = None) -> Connected:
        credentials = Credentials.from_pem(laptop["certificate"], laptop["key"])
        context = certificates.client_context(roots=listed["roots"], credentials=credentials)
        made = await tunnel.connect_tunnel(
            "127.0.0.1",
            listed["port"],
            context=context,
            server_name=listed["server_name"],
            release=__version__,
            acceptor=_refuse,
            session=session,
        )
        follower = Laptop(epoch)
        stream = made.open(OpenHeader(StreamKind.ORCHESTRATOR), follower)
        stream.write(messages.frame(DaemonHello(PROTOCOL_VERSIONS, __version__, "laptop", epoch, revision)))
        try:
            await asyncio.wait_for(follower.welcomed, 30)
        except BaseException:
            made.abandon()
            raise
        return laptop, made, follower

    async def arrive(laptop: Json, epoch: str | None, revision: int) -> None:
        async with slots:
            everybody.append(await connect(laptop, epoch, revision))

    async def come_back(cut: Connected) -> int:
        """As the Daemon does; gives how many attempts it took."""
        laptop, before, follower = cut
        backoff = Backoff(most=MOST_DELAY)
        for attempt in itertools.count(1):
            await asyncio.sleep(backoff.next())
            try:
                everybody.append(await connect(laptop, follower.epoch, known[1], before.session))
            except (CodezeroError, EOFError, TimeoutError):
                continue
            return attempt
        raise AssertionError("it tries for ever")

    say({})
    async for order in orders():
        begun = time.monotonic()
        if "connect" in order:
            known = order.get("epoch"), order.get("revision", 0)
            wanted = listed["laptops"][len(everybody) : order["connect"]]
            await asyncio.gather(*(arrive(laptop, *known) for laptop in wanted))
            follower = everybody[0][2]
            await asyncio.wait_for(follower.has_catalog, 60)
            say({"epoch": follower.epoch, "revision": follower.revision})
            gc.collect()
            gc.freeze()
        elif "cut" in order:
            cut, everybody = everybody, []
            for _, made, _ in cut:
                made.abandon()
            attempts = await asyncio.gather(*map(come_back, cut))
            say({"seconds": time.monotonic() - begun, "attempts": sum(attempts)})
        else:
            say({"heard": [[follower.heard.get(port) for _, _, follower in everybody] for port in order["ports"]]})
    for _, made, _ in everybody:
        made.abandon()


def _refuse(_header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
    raise AssertionError("nobody serves here")


# --- between processes ----------------------------------------------------------------------------------------------------------------------


def say(answer: Json) -> None:
    """Answer the process that asked."""
    print(json.dumps(answer), flush=True)


async def orders() -> AsyncGenerator[Json]:
    """What this process is asked for, until its standard input ends, as it does with the bench."""
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


class Part:
    """A process that the bench runs."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._running = running

    async def ask(self, order: Json | None = None) -> Json:
        """Its answer to an order; without one what it says by itself."""
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        if order is not None:
            self._running.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._running.stdout.readline()
        if not line:
            raise RuntimeError("a process of the bench has failed")
        return json.loads(line)

    @property
    def resident(self) -> float:
        """Its resident memory in MB."""
        return processes.megabytes([self._running.pid])

    @property
    def busy(self) -> float:
        """The seconds of CPU that it has used."""
        return processes.seconds([self._running.pid])

    async def end(self) -> None:
        """End it at once."""
        if self._running.returncode is None:
            self._running.kill()
        await self._running.wait()


class Teamspace:
    """A Teamspace of processes: API server, System, Orchestrator and laptops. Everything ends with the stack it was made on."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.real = RealTeamspace(folder)
        self._stack = stack

    async def start(self, *command: str, **environment: str) -> Part:
        """Run a command of Python."""
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 26,
        )
        part = Part(running)
        self._stack.push_async_callback(part.end)
        return part

    async def cluster(self, services: int) -> Part:
        """The API server, with so many services."""
        part = await self.start("-m", "bench.catalog", "cluster", str(self.real.folder), str(services))
        await part.ask()
        return part

    async def run(self, role: str) -> Part:
        """`system` or `orchestrator`, when it is ready."""
        environment = {
            **self.real.environment(role),
            "CODEZERO_KUBECONFIG": str(self.real.folder / "kubeconfig"),
            "CODEZERO_LOG_LEVEL": "warning",
        }
        part = await self.start("-m", f"codezero.{role}.main", **environment)
        async with asyncio.timeout(60):
            while not await self._is_ready(role):
                await asyncio.sleep(0.05)
        return part

    async def _is_ready(self, role: str) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.real.probes[role])
        except OSError:
            return False
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: pod\r\n\r\n")
        try:
            return b"200 OK" in await reader.read()
        finally:
            writer.close()

    async def laptops(self, count: int, number: int) -> Part:
        """A process for so many laptops; they connect when it is asked to."""
        authorities = self.real.authorities
        own = self.real.folder / f"laptops-{number}.json"
        content = {
            "roots": authorities.parts.certificate_pem,
            "port": self.real.port,
            "server_name": authorities.server_name,
            "laptops": [self._laptop(authorities.device()) for _ in range(count)],
        }
        own.touch(mode=0o600)
        own.write_text(json.dumps(content))
        part = await self.start("-m", "bench.catalog", "laptops", str(own))
        await part.ask()
        return part

    def _laptop(self, device: Device) -> Json:
        credentials = self.real.authorities.laptop(device)
        return {"certificate": credentials.certificate_pem, "key": credentials.key_pem}


@asynccontextmanager
async def teamspace() -> AsyncGenerator[Teamspace]:
    """A Teamspace without processes yet, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="codezero-bench-") as folder:
        async with AsyncExitStack() as stack:
            yield Teamspace(Path(folder), stack)


# --- the measurement ------------------------------------------------------------------------------------------------------------------------


async def connected(crowds: Sequence[Part], each: int) -> float:
    """Let all laptops connect; seconds from the second on."""
    first = await crowds[0].ask({"connect": 1})
    known = {"connect": each, "epoch": first["epoch"], "revision": first["revision"]}
    begun = time.monotonic()
    await asyncio.gather(*(crowd.ask(known) for crowd in crowds))
    return time.monotonic() - begun


async def quiet(parts: Sequence[Part]) -> None:
    """Wait until everybody has been told of everybody's arrival: the parts use less than 0.6 of a core."""
    async with asyncio.timeout(60):
        while True:
            before = sum(part.busy for part in parts)
            await asyncio.sleep(1)
            if sum(part.busy for part in parts) - before < 0.6:
                return


async def changes(cluster: Part, crowds: Sequence[Part], first: int) -> list[list[float]]:
    """The seconds until each laptop knew of each change of a round."""
    written: list[float] = []
    for number in range(first, first + CHANGES):
        written.append((await cluster.ask({"port": FIRST_PORT + number}))["at"])
        await asyncio.sleep(PACE_SECONDS * random.uniform(0.9, 1.1))
    await asyncio.sleep(1)
    ports = [FIRST_PORT + number for number in range(first, first + CHANGES)]
    told = [await crowd.ask({"ports": ports}) for crowd in crowds]
    return [
        [PATIENCE_SECONDS if at is None else at - written[number] for crowd in told for at in crowd["heard"][number]]
        for number in range(CHANGES)
    ]


async def figures(rounds: int, found: dict[tuple[str, str, str], list[float]]) -> None:
    """Everything this part measures, put into `found` as it comes."""

    def add(what: str, unit: str, value: float) -> None:
        found["codezero", what, unit].append(value)

    async with teamspace() as place:
        cluster = await place.cluster(SERVICES)
        orchestrator = await place.run("orchestrator")
        system = await place.run("system")
        crowds = [await place.laptops(LAPTOPS // PROCESSES, number) for number in range(PROCESSES)]
        # Ready is when the cluster is known; the Orchestrator is told a moment later.
        await asyncio.sleep(2)
        add("System, 10,000 services", "MB", system.resident)
        add("2,000 laptops connect", "s", await connected(crowds, LAPTOPS // PROCESSES))
        await quiet([system, orchestrator])
        for number in range(rounds):
            each = await changes(cluster, crowds, number * CHANGES)
            waits = [wait for change in each for wait in change]
            add("change to 2,000 clients p50", "s", quantile(waits, 50))
            add("change to 2,000 clients p99", "s", quantile(waits, 99))
        add("System, 10,000 services and 2,000 tunnels", "MB", system.resident)
        add("Orchestrator, 10,000 services and 2,000 clients", "MB", orchestrator.resident)


def measure(rounds: int) -> Iterator[Result]:
    """Changes once a round; memory and the time to connect once."""
    processes.allow_many_files()
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    try:
        uvloop.run(figures(rounds, found))
    finally:  # what was found before a failure counts
        yield from of_part("catalog", found)


def main() -> None:
    """A process of the bench, or without arguments the whole part alone."""
    processes.allow_many_files()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=("cluster", "laptops"))
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("services", nargs="?", type=int, default=SERVICES)
    arguments = parser.parse_args()
    if arguments.role == "cluster":
        uvloop.run(be_cluster(arguments.path, arguments.services))
    elif arguments.role == "laptops":
        uvloop.run(be_laptops(arguments.path))
    else:
        for each in measure(3):
            print(f"{each.measure}: {each.median:.3f} {each.unit}  {[round(value, 3) for value in each.rounds]}")


if __name__ == "__main__":
    main()
