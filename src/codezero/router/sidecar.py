"""`czrouter sidecar`: writes the files Envoy watches, first from its own settings, then as the System tells it."""

import asyncio

from codezero import __version__
from codezero.kit import logs
from codezero.kit.probes import Probes
from codezero.kit.tasks import task_group
from codezero.model.ids import Workload
from codezero.router import metrics
from codezero.router.admin import Admin
from codezero.router.applying import Applier
from codezero.router.connecting import SystemAddress
from codezero.router.folder import RouterFolder
from codezero.router.following import RouteStream
from codezero.router.identity import Proven, RouterIdentity
from codezero.router.readiness import Readiness
from codezero.router.records import AccessLog
from codezero.router.settings import SidecarSettings
from codezero.routing import envoy
from codezero.wire.access_log import trace_record

_log = logs.get_logger("router")


async def run(wanted: SidecarSettings, *, stop: asyncio.Event) -> None:
    """Run the sidecar until `stop` is set. Raises OSError when the folder cannot be written or the probes' port cannot be had."""
    folder = RouterFolder(wanted.folder)
    admin = Admin(folder.admin_socket)
    applier = Applier(folder, admin, first=wanted.plan, bind=wanted.bind)
    # Before anything else: Envoy has to serve the team whatever becomes of the rest.
    applier.begin(node=wanted.pod)
    system = SystemAddress(*wanted.system, wanted.teamspace)

    def write(proven: Proven) -> None:
        secrets = envoy.secrets(
            certificate=proven.credentials.certificate_pem,
            key=proven.credentials.key_pem,
            authorities=proven.authority,
            system_id=system.identity,
        )
        folder.put(secrets, secret=True)

    identity = RouterIdentity(
        system,
        own=Workload(wanted.teamspace, "router", str(wanted.plan.service)),
        authority=wanted.authority,
        token_file=wanted.token_file,
        write=write,
    )
    access_log = AccessLog(plan=lambda: applier.plan, read=trace_record)
    routes = RouteStream(system, identity, applier, access_log, pod=wanted.pod)
    readiness = Readiness(admin, listeners=applier.listeners)
    probes = await Probes(
        unready=lambda: readiness.reason,
        metrics=lambda: metrics.page(
            identity=identity, applier=applier, routes=routes, access_log=access_log, readiness=readiness
        ),
    ).listen(*wanted.probes)
    try:
        receiving = access_log.listen(folder.access_socket)
        try:
            async with task_group("router") as tasks:
                tasks.start_service("readiness", readiness.run())
                tasks.start_service("identity", identity.run())
                tasks.start_service("routes", routes.run())
                _log.info("Router runs", release=__version__, service=str(wanted.plan.service), system=str(system))
                await stop.wait()
        finally:
            receiving.close()
    finally:
        probes.close()
    _log.info("Router ends")
