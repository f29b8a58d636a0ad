"""Port 8801, where Routers come: variants' bytes, joining and routes on one TLS listener, and who holds which laptop in the Serve objects."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from codezero.kit import certificates
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import SessionId, TeamspaceId
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, ServiceRef
from codezero.routing.plan import Address
from codezero.system.grants import Grants
from codezero.system.holders import Holders
from codezero.system.inventory import Inventory
from codezero.system.router_port import Records, RouterPort
from codezero.system.serving.serves import Serves
from codezero.system.signing import Reviewer
from codezero.system.tunnel_port import TunnelPort
from codezero.system.variant_port import VariantPort
from codezero.transport import listening
from codezero.transport.identity import Identity
from codezero.transport.tls import TlsConnection, UnprovenLimits
from codezero.wire.router import JOIN_ALPN, ROUTES_ALPN

# Only pods of the cluster come here, and each held handshake counts as unproven. One that waits costs 50 KiB besides what it has sent, and pods
# that mean no good are many: all of them together get less than half of this System's memory.
LIMITS: Final = UnprovenLimits(per_address=512, in_all=2048)
FAREWELL_SECONDS: Final = 3.0

_log = get_logger("routers")


class Routers:
    """The System's end for Routers. `address` is where they find this replica; None: nobody is told, so the service's own pods answer.

    `replicas` are the hosts of all replicas, empty where that is not known.
    """

    def __init__(
        self,
        *,
        tunnels: TunnelPort,
        serves: Serves,
        grants: Grants,
        identities: Watched[Identity | None],
        reviewer: Reviewer | None,
        records: Records,
        address: Address | None,
        replicas: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._identities = identities
        self._serves = serves
        self.variants = VariantPort(tunnels=tunnels, serves=serves, grants=grants, teamspace=self._teamspace)
        self.port = RouterPort(serves=serves, identities=identities, reviewer=reviewer, records=records)
        self._holders = None if address is None else Holders(tunnels, serves, address=str(address), replicas=replicas)
        if address is None:
            _log.warning("no Router can find this System: CODEZERO_POD_IP is missing")

    @asynccontextmanager
    async def serving(self, where: tuple[str, int], tasks: Tasks) -> AsyncGenerator[None]:
        """Listen at `where` while in the block, and keep what was begun going for as long as the group lives. Raises OSError."""
        sock = listening.bind(*where)
        handlers = {JOIN_ALPN: self.port.join, ROUTES_ALPN: self.port.routes, "": _refuse}
        async with listening.serving(
            sock, self._identities, context=_context, handlers=handlers, limits=LIMITS, gate=self.variants
        ):
            self._start(tasks)
            yield

    def _start(self, tasks: Tasks) -> None:
        tasks.start_service("variants", self.variants.run())
        tasks.start_service("routers", self.port.run())
        if self._holders is not None:
            tasks.start_service("holders", self._holders.run())

    def serves(self, session: SessionId) -> bool:
        """Whether variants are on the laptop of a session."""
        return bool(self._serves.routes_of_session(session))

    def withdraw(self, session: SessionId) -> None:
        """Tell Routers that the laptop of a session is here no longer; requests under way may finish."""
        if self._holders is not None:
            self._holders.withdraw(session)

    async def settle(self) -> None:
        """Give what is known about the last tunnels a moment to be written."""
        if self._holders is not None:
            try:
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._holders.settled()
            except TimeoutError:
                _log.warning("holders not written in time")

    def _teamspace(self) -> TeamspaceId:
        own = self._identities.value
        if own is None:
            raise CodezeroError(problems.TUNNEL_DOWN, "this System has no identity yet")
        return own.teamspace


def replicas_behind(inventory: Inventory, system: str) -> frozenset[str]:
    """The hosts of the pods behind the address by which Routers find the System (`name.namespace.svc:port`); empty where that is not known."""
    host, _, port = system.rpartition(":")
    name, _, namespace = host.partition(".")
    service = ServiceRef(namespace.partition(".")[0], name)
    if not port.isdecimal():
        return frozenset()
    return frozenset(one.address for one in inventory.backends(service, int(port), Protocol.TCP))


def _context(own: Identity) -> ssl.SSLContext:
    # Who joins has no certificate yet; all others have to show theirs to whoever owns the connection.
    return certificates.server_context(own.credentials, client_roots=own.authority, require_client=False)


def _refuse(connection: TlsConnection) -> asyncio.Protocol:
    # The System's own name without a protocol: variants have names of their own, and the gate gives them their owners.
    connection.abort()
    return asyncio.Protocol()
