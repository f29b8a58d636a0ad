import asyncio
from collections.abc import AsyncIterator

import pytest

from codezero.sandbox import probes
from codezero.sandbox.api import JsonObject


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """Answers the path's number as the status; says nothing to /silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = (await reader.readline()).decode()
            if "/silent" in line:
                await reader.read()
            elif line:
                writer.write(f"HTTP/1.1 {line.split()[1].strip('/')} What\r\n\r\n".encode())
                await writer.drain()
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


async def inside(command: list[str]) -> tuple[int, str]:
    return (0, "") if command == ["true"] else (2, "no good")


def probe(spec: JsonObject, port: int = 1) -> probes.Probing:
    container = {"readinessProbe": spec, "ports": [{"name": "web", "containerPort": port}]}
    found = probes.probing("readiness", container, "127.0.0.1", inside)
    assert found is not None
    return found


@pytest.mark.parametrize(("status", "well"), [(200, True), (302, True), (404, False), (500, False)])
async def test_http(server: int, status: int, well: bool) -> None:
    wrong = await probe({"httpGet": {"path": f"/{status}", "port": "web"}}, server).attempt()

    assert (wrong is None) == well
    assert well or str(status) in (wrong or "")


async def test_silence_is_a_failure(server: int) -> None:
    spec = {"httpGet": {"path": "/silent", "port": server}, "timeoutSeconds": 0.05}
    assert "no answer" in (await probe(spec).attempt() or "")


async def test_tcp(server: int) -> None:
    assert await probe({"tcpSocket": {"port": server}}).attempt() is None
    assert await probe({"tcpSocket": {"port": 1}}).attempt() is not None


async def test_commands() -> None:
    assert await probe({"exec": {"command": ["true"]}}).attempt() is None
    assert await probe({"exec": {"command": ["false"]}}).attempt() == "exit code 2: no good"


async def test_a_port_name_that_does_not_exist_is_a_failure_in_words() -> None:
    assert await probe({"tcpSocket": {"port": "none"}}).attempt() == "the container has no port named none"


async def test_kinds_that_are_not_known_are_named() -> None:
    assert "httpGet, tcpSocket and exec" in (await probe({"grpc": {"port": 1}}).attempt() or "")


async def test_what_comes_up_is_found_before_its_period_is_over() -> None:
    """A pod that is ready after half a second must not wait for a probe of ten."""
    up = asyncio.Event()
    started = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = started.sockets[0].getsockname()[1]
    started.close()
    await started.wait_closed()
    told: list[bool] = []

    def tell(well: bool, _reason: str) -> None:
        told.append(well)
        up.set()

    found = probe({"tcpSocket": {"port": port}, "periodSeconds": 3600, "failureThreshold": 2})
    following = asyncio.ensure_future(probes.follow(found, tell))
    await asyncio.sleep(0)
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with asyncio.timeout(10):
        await up.wait()
    following.cancel()
    listening.close()

    assert told == [True]


async def test_thresholds_count_in_a_row() -> None:
    answers = [1, 0, 1, 1, 0, 0]
    told: list[bool] = []
    done = asyncio.Event()

    async def answer(_: list[str]) -> tuple[int, str]:
        if not answers:
            done.set()
            await asyncio.Event().wait()
        return answers.pop(0), ""

    spec = {"exec": {"command": ["x"]}, "periodSeconds": 0, "failureThreshold": 2, "successThreshold": 2}
    found = probes.probing("liveness", {"livenessProbe": spec}, "127.0.0.1", answer)
    assert found is not None
    following = asyncio.ensure_future(probes.follow(found, lambda well, _: told.append(well)))
    await done.wait()
    following.cancel()

    assert told == [False, True]
