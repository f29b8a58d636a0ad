"""`czorchestrator`: the live picture of a Teamspace, inside the cluster. Keeps nothing on disk; what it knows it is told again."""

import asyncio
import sys

from codezero import __version__
from codezero.kit import certificates, logs, memory, process
from codezero.kit.mounted import MountedFiles
from codezero.kit.probes import Probes
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.orchestrator import metrics, settings
from codezero.orchestrator.events import Events
from codezero.orchestrator.hub_link import HubLink
from codezero.orchestrator.server import Coordinator
from codezero.orchestrator.settings import OrchestratorSettings
from codezero.transport import identity, listening
from codezero.transport.identity import Identity
from codezero.transport.opinion import Opinion
from codezero.transport.tls import UnprovenLimits
from codezero.wire.forwarding import ALPN

# All laptops come from the few addresses of the Systems, at once after a restart.
_UNPROVEN = UnprovenLimits(per_address=4096, in_all=4096)
_POLICY = "policy.json"

_log = logs.get_logger("orchestrator")


async def run(wanted: OrchestratorSettings, *, stop: asyncio.Event) -> None:
    """Run the Orchestrator until `stop` is set. Raises OSError when a port cannot be had."""
    events = Events()
    coordinator = Coordinator(
        session_seconds=wanted.session_seconds,
        # Without a Hub nobody would ever take them.
        told=None if wanted.hub is None else events.happened,
        counted=events.counted,
        opinion=Opinion(wanted.opa_url),
    )
    identities: Watched[Identity | None] = Watched(None)
    link = None if wanted.hub is None else HubLink(wanted.hub, coordinator, identities, events)

    async def follow_identity() -> None:
        async for found in identity.follow(wanted.identity_folder, role="orchestrator"):
            changed = coordinator.belongs_to(found.teamspace)
            identities.set(found)
            if changed:
                await coordinator.decide_again()

    async def follow_policy() -> None:
        async for content in MountedFiles(wanted.policy_folder, (_POLICY,)).changes():
            if coordinator.policy_read(content.get(_POLICY)):
                _log.info("policy read", refuses_all_because=coordinator.admission.reason)
                await coordinator.decide_again()

    def unready() -> str | None:
        if stop.is_set():
            return "being stopped"
        return "waiting for an identity" if identities.value is None else None

    probes = await Probes(unready=unready, metrics=lambda: metrics.page(coordinator, link, events)).listen(
        *wanted.probes
    )
    async with task_group("orchestrator") as tasks:
        try:
            sock = listening.bind(*wanted.listen)
            tasks.start_service("identity", follow_identity())
            tasks.start_service("policy", follow_policy())
            tasks.start_service("memory", memory.give_back())
            tasks.start_service("coordinator", coordinator.run())
            if link is not None:
                tasks.start_service("hub", link.run())
            async with listening.serving(
                sock,
                identities,
                context=lambda found: certificates.server_context(found.credentials, client_roots=found.authority),
                handlers={ALPN: coordinator.connection},
                limits=_UNPROVEN,
            ):
                _log.info("Orchestrator runs", release=__version__, port=sock.getsockname()[1], epoch=coordinator.epoch)
                await stop.wait()
            # Systems that know another one have left by now: a pod that ends leaves the endpoints before it is told to.
            _log.info("Orchestrator ends", systems=coordinator.systems, laptops=coordinator.laptops)
            coordinator.send_away()
            if link is not None:
                await link.tell_all()
        finally:
            probes.close()


def main() -> None:
    """Entry point of `czorchestrator`."""
    wanted = process.begin("czorchestrator", settings.from_environment)
    try:
        memory.settle()
        process.run(lambda stop: run(wanted, stop=stop))
    except OSError as error:
        print(f"czorchestrator: a port cannot be had: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
