"""The Hub as a process: what runs for as long as it does, and how it ends."""

import asyncio
import socket
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import generate_latest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from codezero import __version__
from codezero.hub import opening
from codezero.hub.api import app
from codezero.hub.audit import retention
from codezero.hub.context import Hub
from codezero.hub.door import Counters, Door, Openness, Readiness
from codezero.hub.relay.relaying import Relay
from codezero.hub.serving import Port
from codezero.hub.settings import HubSettings
from codezero.hub.signin import first_owner, one_time, sign_ins
from codezero.kit import logs, process
from codezero.kit.probes import Probes
from codezero.kit.service_manager import ServiceManager
from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport import listening

_CHECK_SECONDS = 2.0
_TIDY_SECONDS = 3600.0

_log = logs.get_logger("hub")


async def run(settings: HubSettings, *, show_link: Callable[[str], None] | None) -> None:
    """Run until SIGTERM or SIGINT. `show_link` gets the link for the first owner, where there is nobody yet. Raises `CodezeroError`."""
    stop = process.told_to_end()
    manager = ServiceManager()
    readiness = Readiness()
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    openness = Openness(settings.trusted_proxies, settings.has_tls)
    with opening.sole(settings), _bound(settings.listen) as sock:
        async with opening.opened(settings) as hub, task_group("hub") as tasks:
            relay = Relay(hub)
            port = Port(
                Door(app.create(hub, relay=relay), openness=openness, readiness=readiness, counters=Counters(registry))
            )
            Gauge("codezero_hub_connections", "Connections that stand", registry=registry).set_function(
                lambda: port.connections
            )
            Gauge("codezero_hub_ready", "1 while it can answer", registry=registry).set_function(
                lambda: int(readiness.reason is None)
            )
            probes = Probes(unready=lambda: readiness.reason, metrics=lambda: generate_latest(registry))
            watching = await _listening(probes, settings.metrics_listen)
            try:
                _start(hub, relay, tasks)
                tasks.start_service("readiness", _keep_checked(hub, readiness))
                async with port.open(sock, certificate_file=settings.certificate_file, key_file=settings.key_file):
                    _log.info("the Hub runs", release=__version__, url=settings.public_url)
                    if show_link is not None and (link := await first_owner.link(hub)) is not None:
                        show_link(link)
                    manager.notify("READY=1")
                    await stop.wait()
                    manager.notify("STOPPING=1")
                    readiness.reason = "the Hub ends"
                    await relay.end()
                    _log.info("the Hub ends", connections=port.connections)
            finally:
                watching.close()


def _start(hub: Hub, relay: Relay, tasks: Tasks) -> None:
    """What the Hub does by itself."""
    tasks.start_service("signals", hub.signals.run())
    tasks.start_service("authorities", hub.authorities.run(hub.signals))
    tasks.start_service("relay", relay.run())
    tasks.start_service("retention", retention.keep_retained(hub))
    tasks.start_service("tidying", _keep_tidy(hub))


async def _keep_tidy(hub: Hub) -> None:
    """Forget what nobody can use any more."""

    async def work(session: AsyncSession) -> None:
        await one_time.tidy(session, hub)
        await sign_ins.tidy(session, hub)

    while True:
        try:
            await hub.database.run(work)
        except (CodezeroError, SQLAlchemyError, OSError) as error:
            _log.warning("what is over has to wait to be forgotten", error=type(error).__name__)
        await asyncio.sleep(_TIDY_SECONDS)


async def _keep_checked(hub: Hub, readiness: Readiness) -> None:
    while True:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await hub.database.check()
        except (CodezeroError, SQLAlchemyError, OSError, TimeoutError) as error:
            _become(readiness, "the database does not answer", error=type(error).__name__)
        else:
            _become(readiness, None)
        await asyncio.sleep(_CHECK_SECONDS)


def _become(readiness: Readiness, reason: str | None, **facts: str) -> None:
    if readiness.reason == reason:
        return
    readiness.reason = reason
    if reason is None:
        _log.info("the database answers")
    else:
        _log.warning("not ready", reason=reason, **facts)


def _bound(address: tuple[str, int]) -> socket.socket:
    try:
        return listening.bind(*address)
    except OSError as error:
        raise _taken(address, error) from None


async def _listening(probes: Probes, address: tuple[str, int]) -> asyncio.Server:
    try:
        return await probes.listen(*address)
    except OSError as error:
        raise _taken(address, error) from None


def _taken(address: tuple[str, int], error: OSError) -> CodezeroError:
    host, port = address
    return CodezeroError(
        problems.BAD_REQUEST,
        f"the Hub cannot listen on {host}:{port}: {error.strerror}",
        fix="set CODEZERO_HUB_LISTEN and CODEZERO_HUB_METRICS_LISTEN to addresses of this machine that are free",
    )
