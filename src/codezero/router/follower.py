"""`czrouter follow`: writes the files Envoy watches, first from its own settings, then as the System tells it."""

import asyncio
from contextlib import AsyncExitStack

from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.model.ids import Workload
from codezero.router import metrics
from codezero.router.admin import Admin
from codezero.router.applying import Applier
from codezero.router.connecting import SystemAddress
from codezero.router.folder import RouterFolder
from codezero.router.following import RouteStream
from codezero.router.identity import Proven, RouterIdentity
from codezero.router.records import AccessLog
from codezero.router.settings import RouterSettings
from codezero.routing import envoy
from codezero.wire.access_log import trace_record

_log = logs.get_logger("router")


async def run(wanted: RouterSettings, *, stop: asyncio.Event) -> None:
    """Follow the System until `stop` is set. Raises OSError when the folder cannot be written."""
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
    async with AsyncExitStack() as stack:
        page = await metrics.tell(
            folder.metrics_socket,
            lambda: metrics.of_follower(identity=identity, applier=applier, routes=routes, access_log=access_log),
        )
        stack.callback(page.close)
        stack.callback(access_log.listen(folder.access_socket).close)
        async with task_group("follower") as tasks:
            tasks.start_service("identity", identity.run())
            tasks.start_service("routes", routes.run())
            _log.info("following the System", service=str(wanted.plan.service), system=str(system))
            await stop.wait()
