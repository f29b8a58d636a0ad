"""Connects to an endpoint of a service: the first of the candidates that answers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, Protocol
from codezero.system.endpoints import Endpoint, EndpointChooser

# A pod that is gone does not answer at all; the next candidate must still fit into the time a client waits.
CANDIDATE_SECONDS: Final = 3.0

SocketFactory = Callable[[], asyncio.BaseProtocol]

_log = get_logger("dialling")


class Dialler:
    """Turns catalog ids into connected sockets."""

    def __init__(self, chooser: EndpointChooser, *, candidate_seconds: float = CANDIDATE_SECONDS) -> None:
        self._chooser = chooser
        self._candidate_seconds = candidate_seconds

    async def dial(self, wanted: CatalogId, factory: SocketFactory, *, client: str | None = None) -> None:
        """Connect by TCP and give the socket the protocol that `factory` makes.

        Raises `CodezeroError`: SERVICE_UNKNOWN, NO_ENDPOINT, ADDRESS_REFUSED, DIAL_FAILED.
        """
        candidates = await self._chooser.choose(wanted, client=client)
        loop = asyncio.get_running_loop()
        for endpoint in candidates:
            try:
                async with asyncio.timeout(self._candidate_seconds):
                    await loop.create_connection(factory, endpoint.address, endpoint.port)
            except OSError as error:  # TimeoutError is one
                _log.debug("endpoint did not answer", wanted=str(wanted), endpoint=str(endpoint), reason=str(error))
            else:
                return
        raise _nobody_answered(wanted, candidates)

    async def dial_datagrams(
        self, wanted: CatalogId, factory: Callable[[], asyncio.DatagramProtocol], *, client: str | None = None
    ) -> asyncio.DatagramTransport:
        """A UDP socket connected to an endpoint; raises as `dial`."""
        candidates = await self._chooser.choose(wanted, protocol=Protocol.UDP, client=client)
        loop = asyncio.get_running_loop()
        for endpoint in candidates:
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    factory, remote_addr=(endpoint.address, endpoint.port)
                )
            except OSError as error:
                _log.debug("endpoint not reachable", wanted=str(wanted), endpoint=str(endpoint), reason=str(error))
            else:
                return transport
        raise _nobody_answered(wanted, candidates)


def _nobody_answered(wanted: CatalogId, candidates: Sequence[Endpoint]) -> CodezeroError:
    tried = "its endpoint" if len(candidates) == 1 else f"{len(candidates)} of its endpoints"
    return CodezeroError(
        problems.DIAL_FAILED,
        f"{wanted} did not answer: {tried} refused the connection or stayed silent",
        fix=f"check that the pods of {wanted.service} listen on that port",
    )
