"""A Router with a real Envoy between an origin and the System: whatever dies, the team is served."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from codezero.kit.certificates import Authority
from codezero.model.ids import Workload, new_ulid
from codezero.model.serve import parse_condition
from codezero.model.services import ServiceRef
from codezero.router.admin import Admin
from codezero.router.envoy_process import program
from codezero.router.folder import RouterFolder
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule
from codezero.testing.router_system import TOKEN, RouterSystem
from codezero.testing.teamspace import Authorities, free_port
from codezero.wire.route_plan import to_wire
from codezero.wire.tracing import Direction

SERVICE = ServiceRef("shop", "orders")
VARIANT = "01JV0000000000000000000001"
BLUE = {"x-team": "blue"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


async def until(holds: Callable[[], Any], *, within: float = 60.0) -> Any:
    """Ask until the answer is truthy; the deadline only bounds a failing test."""
    async with asyncio.timeout(within):
        while True:
            answer = holds()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.02)


async def ask(port: int, path: str = "/", headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own; raises OSError and EOFError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write(
            "\r\n".join([f"GET {path} HTTP/1.1", "host: orders.shop", *lines, "connection: close", "", ""]).encode()
        )
        async with asyncio.timeout(30):
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    finally:
        writer.close()
    if not head:
        raise EOFError("no answer")
    first, *rest = head.split("\r\n")
    return Answer(
        int(first.split()[1]), {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in rest)}, body
    )


async def answers(port: int, headers: dict[str, str] | None = None) -> Answer | None:
    """The answer, None while there is none."""
    with suppress(OSError, EOFError):
        return await ask(port, headers=headers)
    return None


@dataclass
class Process:
    """A started process and what it logs."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text()

    def says(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log with that message."""
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in lines if event in line["event"]]

    async def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()


@dataclass
class Pod:
    """A Router's pod, and the origin behind it."""

    folder: Path
    authorities: Authorities
    system: RouterSystem
    origin: Address
    port: int = field(default_factory=free_port)
    probes: int = field(default_factory=free_port)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    started: int = 0

    def plan(self, *rules: Rule, extra: tuple[PortPlan, ...] = ()) -> RoutePlan:
        return RoutePlan(SERVICE, (PortPlan(self.port, PortKind.HTTP, self.origin, rules), *extra))

    def variant(self, *, holder: bool = True, value: str = "blue") -> Rule:
        address = Address("127.0.0.1", self.system.port) if holder else None
        rule = Rule(VARIANT, 80, parse_condition([("header", f"x-team:{value}")]), address)
        self.system.server_names.add(rule.server_name)
        return rule

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "CODEZERO_PLAN": msgspec.json.encode(to_wire(self.plan())).decode(),
            "CODEZERO_ROUTER_FOLDER": str(self.folder / "router"),
            "CODEZERO_BIND": "127.0.0.1",
            "CODEZERO_SYSTEM": f"127.0.0.1:{self.system.port}",
            "CODEZERO_AUTHORITY": self.authorities.parts.certificate_pem,
            "CODEZERO_TEAMSPACE": self.authorities.teamspace,
            "CODEZERO_TOKEN_FILE": str(self.folder / "token"),
            "CODEZERO_POD": "router-1",
            "CODEZERO_PROBES": f"127.0.0.1:{self.probes}",
            "CODEZERO_ENVOY_THREADS": "1",
            "CODEZERO_DRAIN_SECONDS": "1",
            "CODEZERO_LOG_FORMAT": "json",
        }

    async def start(self, **changes: str) -> Process:
        """The container's first process."""
        self.started += 1
        log = self.folder / f"router-{self.started}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "codezero.router.main", "run"),
                env={**self.environment(), **changes},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        started = Process(process, log)
        self.stack.push_async_callback(started.end, signal.SIGKILL)
        return started

    async def serving(self) -> Process:
        """It runs, and the origin is served."""
        router = await self.start()
        await until(lambda: answers(self.port))
        return router

    async def with_variant(self) -> Process:
        """It runs, and requests of the blue team go to a variant."""
        router = await self.serving()
        await self.system.send(self.plan(self.variant()), revision=1)
        await self.system.until(lambda heard: heard.taken(1))
        return router

    async def probe(self, path: str = "/readyz") -> int | None:
        """The status that a kubelet sees, None when nobody answers."""
        with suppress(OSError, EOFError):
            return (await ask(self.probes, path)).status
        return None

    async def is_ready(self) -> bool:
        return await self.probe() == 200

    async def body(self, headers: dict[str, str] | None = None) -> str:
        return (await ask(self.port, headers=headers)).body


def follower_of(router: Process) -> psutil.Process | None:
    return next((child for child in _children(router) if "follow" in _said_by(child, child.cmdline)), None)


def envoy_of(router: Process) -> psutil.Process | None:
    return next((child for child in _children(router) if "envoy" in _said_by(child, child.name)), None)


def _said_by(child: psutil.Process, question: Callable[[], Any]) -> Any:
    try:
        return question()
    except psutil.NoSuchProcess:
        return ""


def _children(router: Process) -> list[psutil.Process]:
    # One that has just died, or just begun, says little about itself.
    children = psutil.Process(router.process.pid).children()
    return [child for child in children if _said_by(child, child.status) not in ("", psutil.STATUS_ZOMBIE)]


def kill(child: psutil.Process | None) -> psutil.Process:
    assert child is not None
    child.kill()
    return child


@asynccontextmanager
async def asked_all_the_time(work: Callable[[], Awaitable[str | None]]) -> AsyncIterator[None]:
    """`work` is done again and again meanwhile, before and behind it too; it says what was wrong, and nothing may be."""
    wrong: list[str] = []
    stop = asyncio.Event()

    async def keep_asking() -> None:
        while True:
            last = stop.is_set()
            if (problem := await work()) is not None:
                wrong.append(problem)
            if last:
                return

    assert await work() is None
    asking = [asyncio.create_task(keep_asking()) for _ in range(3)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*asking)
    assert not wrong


class Origin(asyncio.Protocol):
    """Answers each request on a connection."""

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._connections = connections
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for _ in requests:
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\norigin\n")


@asynccontextmanager
async def origin_server() -> AsyncIterator[Address]:
    connections: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Origin(connections), "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for connection in tuple(connections):
            connection.abort()


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    # Sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="czr-"))
    authorities = Authorities()
    try:
        async with origin_server() as origin:
            pod = Pod(folder, authorities, RouterSystem(authorities, SERVICE), origin)
            (folder / "token").write_text(TOKEN + "\n")
            async with pod.stack:
                yield pod
    finally:
        shutil.rmtree(folder)


async def test_the_team_is_served_with_no_system_there(pod: Pod) -> None:
    """The first plan leads to the origin, so a Router that never hears of a System changes nothing for anybody."""
    await pod.serving()

    answer = await ask(pod.port, headers=BLUE)

    assert (answer.status, answer.body) == (200, "origin\n")
    assert "x-codezero-fallback" not in answer.headers


async def test_requests_move_to_a_variant_when_its_plan_comes_and_back_when_it_goes(pod: Pod) -> None:
    async with pod.system.running():
        await pod.with_variant()
        assert await pod.body(BLUE) == "variant\n"
        assert await pod.body() == "origin\n"

        await pod.system.send(pod.plan(), revision=2)
        await pod.system.until(lambda heard: heard.taken(2))

        assert await pod.body(BLUE) == "origin\n"
        assert pod.system.heard.hellos[0].pod == "router-1"


async def test_a_plan_is_acknowledged_once_requests_follow_it(pod: Pod) -> None:
    """Whoever serves is told that it stands when it does: the very next request has to go there."""
    async with pod.system.running():
        await pod.serving()
        for revision in range(1, 21):
            rules = (pod.variant(value=f"team-{revision}"),)
            await pod.system.send(pod.plan(*rules), revision=revision)
            await pod.system.until(lambda heard, revision=revision: heard.taken(revision))

            assert await pod.body({"x-team": f"team-{revision}"}) == "variant\n"
            assert await pod.body({"x-team": f"team-{revision - 1}"}) == "origin\n"


async def test_no_request_fails_while_plans_come_and_go(pod: Pod) -> None:
    """A route must not name a cluster that is not there yet, nor one that has gone."""
    async with pod.system.running():
        await pod.serving()
        async with asked_all_the_time(lambda: trouble(pod, BLUE)):
            for revision in range(1, 31):
                await pod.system.send(pod.plan(*([pod.variant()] if revision % 2 else [])), revision=revision)
                await pod.system.until(lambda heard, revision=revision: heard.taken(revision))


async def trouble(pod: Pod, headers: dict[str, str] | None = None, *, body: str | None = None) -> str | None:
    """What a caller would have to complain about."""
    try:
        answer = await ask(pod.port, headers=headers)
    except (OSError, EOFError) as error:
        return repr(error)
    return None if answer.status == 200 and body in (None, answer.body) else repr(answer)


async def test_a_plan_that_envoy_refuses_changes_nothing(pod: Pod) -> None:
    async with pod.system.running():
        await pod.with_variant()
        twice = pod.variant(value="green")

        await pod.system.send(pod.plan(twice, twice), revision=2)
        await pod.system.until(lambda heard: len(heard.applied) > 1)

        assert pod.system.heard.applied[-1].revision == 2
        assert "Envoy refuses" in pod.system.heard.applied[-1].problem
        assert await pod.body(BLUE) == "variant\n"
        assert await pod.body({"x-team": "green"}) == "origin\n"

        await pod.system.send(pod.plan(pod.variant(value="red")), revision=3)
        await pod.system.until(lambda heard: heard.taken(3))

        assert await pod.body({"x-team": "red"}) == "variant\n"


async def test_a_port_that_cannot_be_had_is_told_and_the_others_go_on(pod: Pod) -> None:
    taken = PortPlan(pod.origin.port, PortKind.HTTP, pod.origin)
    async with pod.system.running():
        await pod.with_variant()

        await pod.system.send(pod.plan(pod.variant(), extra=(taken,)), revision=2)
        await pod.system.until(lambda heard: len(heard.applied) > 1)

        assert "Envoy refuses" in pod.system.heard.applied[-1].problem
        assert await pod.body(BLUE) == "variant\n"


async def test_a_plan_of_another_service_is_refused(pod: Pod) -> None:
    other = RoutePlan(ServiceRef("shop", "payments"), pod.plan(pod.variant()).ports)
    async with pod.system.running():
        router = await pod.serving()

        await pod.system.send(other, revision=1)
        await pod.system.until(lambda heard: heard.applied)

        assert "shop/payments" in pod.system.heard.applied[0].problem
        assert await pod.body(BLUE) == "origin\n"
        assert router.says("a plan is refused")


async def test_a_new_port_is_served_without_a_new_pod(pod: Pod) -> None:
    more = free_port()
    async with pod.system.running():
        await pod.serving()

        await pod.system.send(pod.plan(extra=(PortPlan(more, PortKind.UNKNOWN, pod.origin),)), revision=1)
        await pod.system.until(lambda heard: heard.taken(1))

        assert (await until(lambda: answers(more))).body == "origin\n"


async def test_a_killed_envoy_is_started_again_by_the_same_routes(pod: Pod) -> None:
    async with pod.system.running():
        router = await pod.with_variant()

        killed = kill(envoy_of(router))
        await until(lambda: answers(pod.port))

        assert await pod.body(BLUE) == "variant\n"
        assert envoy_of(router) != killed
        assert router.says("child died")


async def test_a_pod_whose_envoy_is_killed_stays_ready(pod: Pod) -> None:
    """Out of the endpoints it would be for seconds, and Envoy is back within a fraction of one."""
    router = await pod.serving()
    await until(pod.is_ready)

    async def not_ready() -> str | None:
        status = await pod.probe()
        return None if status == 200 else f"readiness answered {status}"

    async with asked_all_the_time(not_ready):
        for _ in range(3):
            killed = kill(envoy_of(router))
            await until(lambda killed=killed: envoy_of(router) not in (None, killed))
            await until(lambda: answers(pod.port))


async def test_nothing_outlives_the_first_process(pod: Pod) -> None:
    """Two Envoys would share the port, and one of them would be out of date for ever."""
    router = await pod.serving()
    children = [envoy_of(router), follower_of(router)]
    assert None not in children

    await router.end(signal.SIGKILL)

    await until(lambda: not any(child is not None and child.is_running() for child in children))


async def test_a_container_that_is_started_again_goes_on_with_the_last_routes(pod: Pod) -> None:
    async with pod.system.running():
        router = await pod.with_variant()
    await router.end(signal.SIGKILL)

    await pod.serving()

    assert (await ask(pod.port, headers=BLUE)).headers["x-codezero-fallback"] == "unreachable"


async def test_a_killed_follower_costs_nobody_a_request_and_follows_again(pod: Pod) -> None:
    async def not_served() -> str | None:
        if not await pod.is_ready():
            return "the pod is not ready"
        return await trouble(pod) or await trouble(pod, BLUE, body="variant\n")

    async with pod.system.running():
        router = await pod.with_variant()
        await until(pod.is_ready)
        async with asked_all_the_time(not_served):
            for count in range(1, 4):
                killed = kill(follower_of(router))
                await until(lambda killed=killed: follower_of(router) not in (None, killed))
                await pod.system.until(lambda heard, count=count: len(heard.hellos) > count)

        await pod.system.send(pod.plan(pod.variant(value="red")), revision=2)
        await pod.system.until(lambda heard: heard.taken(2))
        assert await pod.body({"x-team": "red"}) == "variant\n"
        assert await pod.body(BLUE) == "origin\n"


async def test_a_follower_that_finds_no_system_goes_on_with_the_last_routes(pod: Pod) -> None:
    """Serves must not end because two parts of ours died in an unlucky order."""
    async with pod.system.running():
        router = await pod.with_variant()
    follows = len(router.says("following the System"))
    kill(follower_of(router))
    await until(lambda: len(router.says("following the System")) > follows)
    kill(envoy_of(router))
    await until(lambda: answers(pod.port))

    assert (await ask(pod.port, headers=BLUE)).headers["x-codezero-fallback"] == "unreachable"


async def test_without_the_system_the_last_routes_stay_and_variants_fall_back(pod: Pod) -> None:
    async with pod.system.running():
        router = await pod.with_variant()
    await until(lambda: router.says("no routes from the System"))

    answer = await ask(pod.port, headers=BLUE)

    assert (answer.body, answer.headers["x-codezero-fallback"]) == ("origin\n", "unreachable")
    assert await pod.body() == "origin\n"

    async with pod.system.running():
        assert (await until(lambda: _variant(pod))).body == "variant\n"


async def _variant(pod: Pod) -> Answer | None:
    answer = await answers(pod.port, BLUE)
    return answer if answer is not None and answer.body == "variant\n" else None


async def test_what_a_variant_answered_is_told(pod: Pod) -> None:
    async with pod.system.running():
        await pod.with_variant()
        await ask(pod.port, "/baskets/7?secret=1", BLUE)
        await ask(pod.port, "/untold")

        await pod.system.until(lambda heard: heard.records)

        record = pod.system.heard.records[0]
        assert (record.direction, record.service, record.port) == (Direction.SERVE, SERVICE, 80)
        assert (record.variant, record.path, record.status) == (VARIANT, "/baskets/7", 200)
        assert "untold" not in str(pod.system.heard.records)
        assert "secret" not in str(pod.system.heard.records)


async def test_a_certificate_is_renewed_with_a_fresh_key_before_it_ends(pod: Pod) -> None:
    """An hour after the start the Router must still be let in, by Envoy's new connections too."""
    pod.system.lifetime = timedelta(seconds=3)
    async with pod.system.running():
        await pod.with_variant()
        await pod.system.until(lambda heard: len(heard.certificates) >= 3)
        first, second, *_ = pod.system.heard.certificates
        assert first.public_key() != second.public_key()
        assert second.not_valid_before_utc < first.not_valid_after_utc

        # The System ends a stream with its certificate, so routes are followed by the new one before.
        await pod.system.until(lambda heard: len(heard.hellos) >= 3)
        # The first has ended by now, and a Router whose Envoy went on by it would be refused.
        await until(lambda: _variant(pod))


async def test_a_token_that_is_missing_or_refused_is_told_and_costs_the_team_nothing(pod: Pod) -> None:
    (pod.folder / "token").unlink()
    async with pod.system.running():
        router = await pod.serving()
        failed = await until(lambda: router.says("no identity from the System"))
        assert "token" in failed[0]["reason"]
        assert failed[0]["code"] == "CZ-ACCESS-004"

        (pod.folder / "token").write_text("another-token")
        await until(lambda: "the API server does not know the token" in router.text)
        assert await pod.body(BLUE) == "origin\n"
        assert "another-token" not in router.text

        # Kubernetes replaces the file, and it is read each time.
        (pod.folder / "token").write_text(TOKEN)
        await pod.system.until(lambda heard: heard.hellos)


@pytest.mark.parametrize("forgery", ["another authority", "another teamspace", "another part", "another name"])
async def test_a_forged_system_gets_neither_token_nor_routes(pod: Pod, forgery: str) -> None:
    own = pod.authorities
    identity, name = str(Workload(own.teamspace, "system")), own.server_name
    authority = own.parts
    match forgery:
        case "another authority":
            authority = Authority.create("parts")
        case "another teamspace":
            identity = str(Workload(Authorities().teamspace, "system"))
        case "another part":
            identity = str(Workload(own.teamspace, "orchestrator"))
        case _:
            name = f"{new_ulid().lower()}.spaces.codezero.io"
    pod.system.credentials = authority.issue("system", uris=[identity], dns=[name], server=True)
    async with pod.system.running():
        router = await pod.serving()

        await until(lambda: "is not the System of this Teamspace" in router.text)

        assert not pod.system.heard.joins
        assert await pod.body(BLUE) == "origin\n"


async def test_secrets_are_for_this_user_alone(pod: Pod) -> None:
    async with pod.system.running():
        await pod.with_variant()

        secrets = list((pod.folder / "router").glob("sds-*.json"))

        assert len(secrets) == 2
        assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


async def test_it_is_not_ready_before_envoy_listens(pod: Pod) -> None:
    gate = pod.folder / "gate"
    gate.write_text(f'#!/bin/sh\nwhile [ ! -e {pod.folder}/open ]; do sleep 0.05; done\nexec {program()} "$@"\n')
    gate.chmod(0o700)
    await pod.start(CODEZERO_ENVOY=str(gate))
    await until(lambda: pod.probe("/healthz"))
    assert await pod.probe() == 503
    assert await pod.probe("/healthz") == 200

    (pod.folder / "open").touch()
    await until(pod.is_ready)
    assert (await pod.body()) == "origin\n"


async def test_numbers_of_both_processes_are_on_one_page(pod: Pod) -> None:
    async def page() -> str:
        return (await ask(pod.probes, "/metrics")).body

    async def has(line: str) -> bool:
        return line in await page()

    async with pod.system.running():
        router = await pod.with_variant()
        await until(lambda: has("codezero_router_ready 1.0"))
        await until(lambda: has("codezero_router_system_connected 1.0"))
        kill(envoy_of(router))
        kill(follower_of(router))

        await until(lambda: has('codezero_router_restarts_total{child="envoy"} 1.0'))
        await until(lambda: has('codezero_router_restarts_total{child="follower"} 1.0'))


async def test_a_router_that_is_told_to_end_lets_requests_finish(pod: Pod) -> None:
    """A pod that goes away has callers that do not know yet."""
    router = await pod.serving()
    children = [envoy_of(router), follower_of(router)]
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    router.process.terminate()
    await until(lambda: router.says("Envoy drains"))

    writer.write(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()

    assert answer.endswith("origin\n")
    assert "connection: close" in answer.lower()
    assert await router.end() == 0
    assert not any(child is None or child.is_running() for child in children)


async def test_connections_are_counted_where_those_who_drain_look(pod: Pod) -> None:
    """Envoy keeps few of its statistics; without this one a Router would go while callers are connected."""
    await pod.serving()
    admin = Admin(RouterFolder(pod.folder / "router").admin_socket)
    before = await admin.connections()
    _, writer = await asyncio.open_connection("127.0.0.1", pod.port)

    async def is_counted() -> bool:
        return await admin.connections() == before + 1

    await until(is_counted)
    writer.close()


async def test_mistakes_in_settings_are_told_at_once(pod: Pod) -> None:
    router = await pod.start(CODEZERO_PLAN="{}", CODEZERO_TEAMSPACE="nobody", CODEZERO_AUTHORITY="x")

    assert await router.process.wait() == 2
    assert all(name in router.text for name in ("CODEZERO_PLAN", "CODEZERO_TEAMSPACE", "CODEZERO_AUTHORITY"))
