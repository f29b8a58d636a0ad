"""Runs the HTTP parts of the sample project: listens, answers probes, and ends cleanly on SIGTERM."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from codezero.kit.logs import configure, get_logger
from codezero.kit.tasks import task_group
from codezero.model.problems import CodezeroError
from codezero.sandbox.sample.settings import Part, Settings, read

MAX_MESSAGE = 64 * 1024
"""The largest WebSocket message, in bytes, that a part takes; a larger one closes that connection with 1009."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address and port, with TLS when a context is given."""

    address: str
    port: int
    tls: ssl.SSLContext | None = None


def main(part: Part, make: Callable[[Settings], tuple[Starlette, Sequence[Listener]]]) -> None:
    """Run the application that `make` builds from the environment until SIGTERM or SIGINT; exits the process when it cannot start."""
    configure(level="info")
    log = get_logger(part)
    try:
        app, listeners = make(read(part, os.environ))
        sockets = [_bind(listener) for listener in listeners]
    except (CodezeroError, OSError) as failure:
        log.error("could not start", reason=str(failure))
        sys.exit(1)
    for listener in listeners:
        log.info("listening", address=listener.address, port=listener.port, tls=listener.tls is not None)
    asyncio.run(_serve(app, listeners, sockets))
    log.info("stopped")


def health_routes() -> list[Route]:
    """`/healthz` and `/readyz`: a part is ready when it can answer; what it depends on shows in its answers, not in its readiness."""
    return [Route("/healthz", _fine), Route("/readyz", _fine)]


def plain_listener(settings: Settings) -> Listener:
    """The listener without TLS that every part has."""
    return Listener(settings.address, settings.port)


async def _fine(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((listener.address, listener.port))
        bound.listen(1024)
    except OSError as failure:
        bound.close()
        raise OSError(
            failure.errno, f"cannot listen on {listener.address} port {listener.port}: {failure.strerror}"
        ) from failure
    return bound


async def _serve(app: Starlette, listeners: Sequence[Listener], sockets: Sequence[socket.socket]) -> None:
    servers: list[_Server] = []
    for listener in listeners:
        config = uvicorn.Config(
            app,
            lifespan="off" if servers else "on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE,
        )
        config.load()
        config.ssl = listener.tls
        servers.append(_Server(config))

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    async with task_group("listeners") as tasks:
        for listener, server, bound in zip(listeners, servers, sockets, strict=True):
            tasks.start(str(listener.port), server.serve(sockets=[bound]))


class _Server(uvicorn.Server):
    """Leaves the signals to us: one handler stops all listeners, and the process ends with 0."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
