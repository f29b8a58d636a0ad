"""`czrouter run`: the first process of a Router's container. Keeps Envoy and the follower running, and says whether the pod is ready.

Knows nothing of the System, and of plans only which ports the first one has: as little as possible, because Envoy ends with it.
"""

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

from codezero import __version__
from codezero.kit import logs
from codezero.kit.probes import Probes
from codezero.kit.tasks import task_group
from codezero.router import envoy_process, metrics
from codezero.router.admin import Admin
from codezero.router.children import Child
from codezero.router.folder import BOOTSTRAP, RouterFolder
from codezero.router.lines import LineForwarder, LinePipe
from codezero.router.metrics import FollowerPage
from codezero.router.readiness import Readiness
from codezero.router.settings import RouterSettings
from codezero.routing import envoy

_WAIT_SECONDS: Final = 0.02

_log = logs.get_logger("router")


async def run(wanted: RouterSettings, *, stop: asyncio.Event) -> None:
    """Run the Router until `stop` is set, and then until its connections have ended.

    Raises `CodezeroError` when there is no Envoy, and OSError when the probes' port cannot be had.
    """
    folder = RouterFolder(wanted.folder)
    admin = Admin(folder.admin_socket)
    readiness = Readiness(admin, listeners=envoy.listeners(wanted.plan))
    async with AsyncExitStack() as stack:
        forwarder = LineForwarder(folder.access_socket)
        stack.callback(forwarder.close)
        pipe = LinePipe(forwarder)
        stack.callback(pipe.close)
        follower = Child("follower", _follow())
        data_plane = Child("envoy", envoy_process.command(wanted), output=pipe.entrance, died=pipe.begin_anew)
        followers_page = FollowerPage(folder.metrics_socket)
        probes = await Probes(
            unready=lambda: readiness.reason,
            metrics=lambda: (
                metrics.of_keeper(
                    readiness=readiness,
                    deaths={"envoy": data_plane.deaths, "follower": follower.deaths},
                    lines=forwarder,
                )
                + followers_page.content
            ),
        ).listen(*wanted.probes)
        stack.callback(probes.close)
        async with task_group("router") as tasks:
            _log.info("Router runs", release=__version__, service=str(wanted.plan.service))
            tasks.start_service("follower", follower.keep())
            tasks.start_service("metrics", followers_page.run())
            tasks.start_service("readiness", readiness.run())
            await _first_files(folder.path, stop)
            if not stop.is_set():
                tasks.start_service("envoy", data_plane.keep())
                await stop.wait()
                await envoy_process.drained(admin, seconds=wanted.drain_seconds)
    _log.info("Router ends")


def _follow() -> list[str]:
    """The command of the follower: what runs this process, by the same interpreter."""
    return [sys.executable, "-P", sys.argv[0], "follow"]


async def _first_files(folder: Path, stop: asyncio.Event) -> None:
    while not (folder / BOOTSTRAP).exists() and not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await stop.wait()
