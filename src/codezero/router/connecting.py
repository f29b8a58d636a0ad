"""Connections from a Router to the System's port 8801, to nobody else: its certificate must be the System's of this very Teamspace."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

import msgspec

from codezero.kit import certificates
from codezero.kit.certificates import CertificateError, Credentials
from codezero.model import problems
from codezero.model.ids import TeamspaceId, Workload
from codezero.model.problems import CodezeroError
from codezero.transport import tls
from codezero.transport.messages import MessageStream
from codezero.transport.tls import TlsConnection
from codezero.wire.router import MAX_MESSAGE, FromRouter, ToRouter

CONNECT_SECONDS: Final = 8.0

Stream = MessageStream[FromRouter, ToRouter]

_DECODER: Final[msgspec.msgpack.Decoder[ToRouter]] = msgspec.msgpack.Decoder(ToRouter)


@dataclass(frozen=True, slots=True)
class SystemAddress:
    """Where the System is, and who it has to be."""

    host: str
    port: int
    teamspace: TeamspaceId

    @property
    def server_name(self) -> str:
        """The TLS server name of the System."""
        return f"{self.teamspace.lower()}.spaces.codezero.io"

    @property
    def identity(self) -> str:
        """The only id that the System's certificate may carry."""
        return str(Workload(self.teamspace, "system"))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def connect(system: SystemAddress, *, protocol: str, authority: str, credentials: Credentials | None) -> Stream:
    """A stream of messages to the System by the application protocol `protocol`; the caller closes it.

    `authority` (PEM) is believed. Raises `CodezeroError` (UNREACHABLE, BAD_IDENTITY, VERSIONS).
    """
    reader = asyncio.StreamReader()
    owner = asyncio.StreamReaderProtocol(reader)
    connection = await _connected(system, _context(authority, credentials, protocol), owner)
    if connection.peer.uris != (system.identity,):
        connection.abort()
        raise CodezeroError(
            problems.BAD_IDENTITY, f"{system} is not the System of this Teamspace: its certificate is for others"
        )
    if connection.application_protocol != protocol:
        connection.abort()
        raise CodezeroError(problems.VERSIONS, f"{system} does not speak {protocol}")
    writer = asyncio.StreamWriter(connection, owner, reader, asyncio.get_running_loop())
    return MessageStream(reader, writer, _DECODER, limit=MAX_MESSAGE)


async def _connected(system: SystemAddress, context: ssl.SSLContext, owner: asyncio.BaseProtocol) -> TlsConnection:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await tls.connect(
                system.host, system.port, context=context, server_name=system.server_name, factory=lambda _: owner
            )
    except ssl.SSLCertVerificationError as error:
        raise CodezeroError(
            problems.BAD_IDENTITY, f"{system} is not the System of this Teamspace: {error.verify_message}"
        ) from None
    except TimeoutError:
        raise CodezeroError(problems.UNREACHABLE, f"the System at {system} does not answer") from None
    except OSError as error:
        raise CodezeroError(problems.UNREACHABLE, f"the System at {system} cannot be reached: {error}") from None


def _context(authority: str, credentials: Credentials | None, protocol: str) -> ssl.SSLContext:
    try:
        return certificates.client_context(roots=authority, credentials=credentials, protocols=[protocol])
    except CertificateError as error:
        raise CodezeroError(problems.BAD_IDENTITY, f"the Teamspace's authority cannot be used: {error}") from None
