"""`czsystem`: follows the cluster, tells the Orchestrator, and carries the laptops' streams; all through port 8800."""

import asyncio
import ssl
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final

from codezero import __version__
from codezero.kit import certificates, logs, memory, process
from codezero.kit.mounted import MountedFiles
from codezero.kit.probes import Probes
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import TeamspaceId
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.routing.plan import Address
from codezero.system import connect_door, metrics, settings
from codezero.system.cluster import ClusterFollower
from codezero.system.connect_door import ConnectDoor
from codezero.system.coordination import OrchestratorLink
from codezero.system.departure import Departure
from codezero.system.dialling import Dialler
from codezero.system.endpoints import EndpointChooser
from codezero.system.entry import EntryFollower
from codezero.system.forward import Orchestrator
from codezero.system.grants import Grants
from codezero.system.inventory import Inventory
from codezero.system.joining import Membership
from codezero.system.kubernetes import client
from codezero.system.kubernetes.client import ApiClient
from codezero.system.kubernetes.reflector import Reflector
from codezero.system.orchestrators import Whereabouts
from codezero.system.outbox import Outbox
from codezero.system.renewing import Renewal
from codezero.system.routers import Routers, replicas_behind
from codezero.system.serving.leadership import Leadership
from codezero.system.serving.manifests import Trust
from codezero.system.serving.orders import Orders
from codezero.system.serving.reconciler import Reconciler
from codezero.system.serving.serves import Serves, read_key
from codezero.system.settings import SystemSettings
from codezero.system.signing import Reviewer
from codezero.system.tokens import TokenVerifier
from codezero.system.tunnel_port import TunnelPort
from codezero.transport import identity, listening, tunnel
from codezero.transport.identity import Identity
from codezero.transport.opinion import Opinion
from codezero.wire.coordination import FromHub, KeysTold, PolicyTold, SessionEnded
from codezero.wire.router import AccessRecords

_POLICY: Final = "policy.json"
_KEYS: Final = "jwks.json"
_SEAL_KEY: Final = "seal.key"

_log = logs.get_logger("system")


async def run(wanted: SystemSettings, *, stop: asyncio.Event) -> None:
    """Run the System until `stop` is set. Raises OSError when a port cannot be had, `CodezeroError` when there is no cluster to follow."""
    api = client.in_cluster() if wanted.kubeconfig is None else client.from_kubeconfig(wanted.kubeconfig)
    try:
        inventory = Inventory()
        serves = Serves(inventory, api)
        follower = ClusterFollower(api, inventory, serves=serves)
        # The API server is no service of the cluster's, whatever an EndpointSlice says.
        addresses = replace(wanted.addresses, api_hosts=wanted.addresses.api_hosts | {api.host})
        async with task_group("system") as tasks:
            tasks.start_service("cluster", follower.run())
            await serve(
                replace(wanted, addresses=addresses),
                inventory,
                stop=stop,
                serves=serves,
                reviewer=api,
                api=api,
                reflectors=follower.reflectors,
            )
    finally:
        await api.close()


async def serve(
    wanted: SystemSettings,
    inventory: Inventory,
    *,
    stop: asyncio.Event,
    serves: Serves | None = None,
    reviewer: Reviewer | None = None,
    api: ApiClient | None = None,
    reflectors: Sequence[Reflector[Any]] = (),
) -> None:
    """Serve laptops by an inventory that somebody else keeps, until `stop` is set; laptops are sent away then.

    With `serves` Routers are served too; `reviewer` says whose tokens they show. With `api` orders to serve are carried out, and this System leads
    where no other does.
    """
    identities: Watched[Identity | None] = Watched(None)
    grants, outbox = Grants(), Outbox()
    tokens = TokenVerifier(issuer=wanted.token_issuer)
    dialler = Dialler(EndpointChooser(inventory, wanted.addresses))
    orchestrator = Orchestrator(Whereabouts(wanted.orchestrator, inventory).active, identities)
    orders = None
    if serves is not None and api is not None:
        orders = Orders(api, serves, namespace=wanted.namespace, enabled=wanted.serve_namespaces)
    opinion = Opinion(wanted.opa_url)
    port = TunnelPort(grants=grants, dialler=dialler, orchestrator=orchestrator, outbox=outbox, opinion=opinion)
    membership = entry = None
    if wanted.hub is not None and api is not None:
        membership = Membership(api, wanted.hub, namespace=wanted.namespace)
        entry = EntryFollower(api, namespace=wanted.namespace)

    def heard(word: FromHub) -> None:
        # Mounts follow within two minutes, which is too long for who is to be kept out.
        match word:
            case PolicyTold(content=content):
                if grants.read(content):
                    _log.info("policy came from the Hub", refuses_all_because=grants.reason)
            case KeysTold(jwks=jwks):
                _read_keys(tokens, jwks.encode())
            case SessionEnded(session=session, reason=reason):
                port.end(session, reason)
            case _:
                pass
        if membership is not None:
            membership.heard(word)

    link = OrchestratorLink(
        orchestrator,
        inventory,
        outbox,
        orders,
        hub=None if wanted.hub is None else heard,
        entry=None if entry is None else entry.value,
    )

    def routed(_: ServiceRef, told: AccessRecords) -> None:
        outbox.traced(told.records, told.dropped)
        if wanted.hub is not None:
            outbox.count(told.records)

    def unready() -> str | None:
        if stop.is_set():
            return "being stopped"
        if identities.value is None:
            waiting = "" if membership is None else membership.waiting
            return f"waiting for an identity{f': {waiting}' if waiting else ''}"
        return None if inventory.is_synced else "waiting for the cluster's services"

    def teamspace() -> TeamspaceId:
        own = identities.value
        if own is None:
            raise CodezeroError(problems.TUNNEL_DOWN, "this System has no identity yet")
        return own.teamspace

    door = ConnectDoor(
        tokens=tokens, teamspace=teamspace, grants=grants, dialler=dialler, unready=unready, opinion=opinion
    )
    routers = None
    if serves is not None:
        routers = Routers(
            tunnels=port,
            serves=serves,
            grants=grants,
            identities=identities,
            reviewer=reviewer,
            records=routed,
            address=None if wanted.pod_address is None else Address(wanted.pod_address, wanted.routers_listen[1]),
            replicas=lambda: replicas_behind(inventory, wanted.router.system),
        )
    departure = Departure(
        port=port, door=door, link=link, routers=routers, elsewhere=lambda: _is_elsewhere(wanted, inventory)
    )
    probes = await Probes(
        unready=unready,
        metrics=lambda: metrics.page(
            port=port,
            door=door,
            link=link,
            grants=grants,
            inventory=inventory,
            reflectors=reflectors,
            routers=routers,
        ),
    ).listen(*wanted.probes)
    try:
        sock = listening.bind(*wanted.listen)
        async with task_group("serving") as tasks:
            tasks.start_service("identity", _follow_identity(wanted, identities, grants))
            tasks.start_service("policy", _follow_policy(wanted, grants))
            tasks.start_service("expiry of the policy", grants.watch())
            tasks.start_service("keys", _follow_keys(wanted, tokens))
            if serves is not None:
                tasks.start_service("seal", _follow_seal_key(wanted, serves))
            tasks.start_service("memory", memory.give_back())
            tasks.start_service("tunnels", port.run())
            tasks.start_service("door", door.run())
            tasks.start_service("orchestrator", link.run())
            if entry is not None:
                tasks.start_service("entry", entry.run())
            if serves is not None and api is not None:
                leadership = Leadership(api, namespace=wanted.namespace, identity=wanted.pod)
                reconciler = Reconciler(
                    api,
                    inventory,
                    serves,
                    settings=wanted.router,
                    namespace=wanted.namespace,
                    enabled=wanted.serve_namespaces,
                    trust=lambda: _trust(identities.value),
                    ended=outbox.variant_ended,
                    leads=lambda: leadership.is_sure,
                )
                renewal = Renewal(api, namespace=wanted.namespace, identities=identities, membership=membership)
                tasks.start_service("leadership", leadership.run(lambda: _lead(reconciler, renewal)))
            async with (
                listening.serving(
                    sock,
                    identities,
                    context=_context,
                    handlers={tunnel.ALPN: port.connection, connect_door.ALPN: door.connection, "": door.connection},
                ),
                nullcontext() if routers is None else routers.serving(wanted.routers_listen, tasks),
            ):
                _log.info("System runs", release=__version__, port=sock.getsockname()[1])
                await stop.wait()
                _log.info("System ends", tunnels=port.tunnels)
                await departure.hand_over()
            await departure.finish()
    finally:
        probes.close()


async def _lead(reconciler: Reconciler, renewal: Renewal) -> None:
    async with task_group("leading") as tasks:
        tasks.start_service("serves", reconciler.run())
        tasks.start_service("certificates", renewal.run())
        await asyncio.Event().wait()


def _is_elsewhere(wanted: SystemSettings, inventory: Inventory) -> bool | None:
    """Whether another replica is ready; None where replicas are not known."""
    replicas = replicas_behind(inventory, wanted.router.system)
    return bool(replicas - {wanted.pod_address}) if replicas else None


def _context(own: Identity) -> ssl.SSLContext:
    # Without the devices' issuer nobody can prove to be a laptop, and the door still works.
    return certificates.server_context(own.credentials, client_roots=own.device_issuer, require_client=False)


def _trust(own: Identity | None) -> Trust | None:
    return None if own is None else Trust(own.teamspace, own.lasting)


async def _follow_identity(wanted: SystemSettings, identities: Watched[Identity | None], grants: Grants) -> None:
    async for found in identity.follow(wanted.identity_folder, role="system"):
        grants.belongs_to(found.teamspace)
        if found.device_issuer is None:
            _log.warning("no laptop can connect: device-issuer.crt is missing")
        identities.set(found)


async def _follow_policy(wanted: SystemSettings, grants: Grants) -> None:
    async for content in MountedFiles(wanted.policy_folder, (_POLICY,)).changes():
        if grants.read(content.get(_POLICY)):
            _log.info("policy read", refuses_all_because=grants.reason)


async def _follow_keys(wanted: SystemSettings, tokens: TokenVerifier) -> None:
    async for content in MountedFiles(wanted.identity_folder, (_KEYS,)).changes():
        _read_keys(tokens, content.get(_KEYS))


def _read_keys(tokens: TokenVerifier, content: bytes | None) -> None:
    try:
        _log.info("key set read", keys=tokens.read_keys(content))
    except CodezeroError as error:
        _log.warning("key set not usable", reason=error.detail)


async def _follow_seal_key(wanted: SystemSettings, serves: Serves) -> None:
    async for content in MountedFiles(wanted.identity_folder, (_SEAL_KEY,)).changes():
        key = read_key(content.get(_SEAL_KEY))
        if key is not None:
            serves.set_key(key)
            continue
        # One that was good stays in use: without it every route would look forged.
        _log.warning("seal.key is missing or not 32 bytes in hexadecimal digits", can_serve=serves.key is not None)


def main() -> None:
    """Entry point of `czsystem`."""
    wanted = process.begin("czsystem", settings.from_environment)
    try:
        memory.settle()
        process.run(lambda stop: run(wanted, stop=stop))
    except CodezeroError as error:
        print(f"czsystem: {error}", *([f"fix: {error.fix}"] if error.fix else []), sep="\n", file=sys.stderr)
        raise SystemExit(error.problem.exit_code) from None
    except OSError as error:
        print(f"czsystem: a port cannot be had: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
