"""Joins connections that are not plain sockets, and forwards laptops' coordination streams to the Orchestrator.

The Orchestrator believes what `Forwarded` says about the laptop because this connection proves that a System of the Teamspace says it.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from codezero.kit import certificates
from codezero.kit.tasks import Tasks
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import Device, SessionId, Workload
from codezero.model.problems import CodezeroError
from codezero.system.orchestrators import Place
from codezero.transport import identity, messages, tls
from codezero.transport.identity import Identity
from codezero.transport.tls import TlsConnection
from codezero.transport.tunnel import TunnelStream
from codezero.wire.forwarding import ALPN, Forwarded

SERVER_NAME: Final = "orchestrator.codezero"
CONNECT_SECONDS: Final = 5.0
# At the start, and while the link moves to another Orchestrator.
STANDING_SECONDS: Final = 3.0


class Side(asyncio.Protocol):
    """Owner of one of two joined connections: its bytes, pauses and end go to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._other: Side | None = None

    def join(self, other: "Side") -> None:
        """Join two sides, both connected."""
        self._other, other._other = other, self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        # uvloop's transports do not derive from asyncio's.
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]

    def data_received(self, data: bytes) -> None:
        """Bytes for the other side."""
        if self._other is not None and self._other.transport is not None:
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        """This side sends no more; where the other cannot end one direction alone, it ends."""
        target = self._other.transport if self._other is not None else None
        if target is None or not target.can_write_eof():
            return False
        if not target.is_closing():
            target.write_eof()
        return True

    def pause_writing(self) -> None:
        """This side takes no more for now."""
        if self._other is not None and self._other.transport is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side takes bytes again."""
        if self._other is not None and self._other.transport is not None:
            self._other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """This side is gone, so the other ends: in order, or at once after a failure."""
        self.transport = None
        if self._other is not None and self._other.transport is not None:
            if exc is None:
                self._other.transport.close()
            else:
                self._other.transport.abort()


class Orchestrator:
    """The active Orchestrator, and how to prove ourselves to it.

    `active` is where it is by the cluster's word, None while nobody is known to be it. `standing` is where our own link stands: laptops are
    forwarded there and nowhere else, so that what they say and what we report never meet different Orchestrators for long.
    """

    def __init__(self, active: Watched[Place | None], identities: Watched[Identity | None]) -> None:
        self.active = active
        self.standing: Watched[Place | None] = Watched(None)
        self._identities = identities
        self._made: tuple[Identity, ssl.SSLContext] | None = None
        self._streams: dict[ForwardedStream, Place] = {}

    def stands(self, place: Place) -> None:
        """Our link stands at this Orchestrator from now on; laptops at another one are to come back."""
        self.standing.set(place)
        for stream in [stream for stream, other in self._streams.items() if other != place]:
            stream.reset(CodezeroError(problems.TUNNEL_DOWN, "another Orchestrator is the active one now"))

    def is_lost(self) -> None:
        """Our link stands nowhere; laptops stay where they are for as long as that Orchestrator has them."""
        self.standing.set(None)

    async def place(self) -> Place:
        """Where laptops are forwarded to, after a moment where our link does not stand yet; raises `CodezeroError` (UNREACHABLE)."""
        try:
            async with asyncio.timeout(STANDING_SECONDS):
                async for place in self.standing.changes():
                    if place is not None:
                        return place
        except TimeoutError:
            pass
        raise CodezeroError(problems.UNREACHABLE, "the System has no connection to the Orchestrator at the moment")

    def enter(self, stream: "ForwardedStream", place: Place) -> None:
        """A laptop's stream leads to that Orchestrator."""
        self._streams[stream] = place

    def leave(self, stream: "ForwardedStream") -> None:
        """A laptop's stream has ended."""
        self._streams.pop(stream, None)

    async def connect(self, place: Place, factory: Callable[[TlsConnection], asyncio.Protocol]) -> TlsConnection:
        """A connection to the Orchestrator there; `factory` makes its owner. Raises `CodezeroError` (UNREACHABLE, BAD_IDENTITY)."""
        own = self._identities.value
        if own is None:
            raise CodezeroError(problems.BAD_IDENTITY, "this System has no identity yet")

        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await tls.connect(
                    *place, context=self._context(own), server_name=SERVER_NAME, factory=factory
                )
        except TimeoutError:
            raise CodezeroError(problems.UNREACHABLE, "the Orchestrator does not answer") from None
        except ssl.SSLError as error:
            why = f"the Orchestrator and this System do not accept each other: {error.reason or error}"
            raise CodezeroError(problems.BAD_IDENTITY, why) from None
        except OSError as error:
            raise CodezeroError(problems.UNREACHABLE, f"the Orchestrator cannot be reached: {error}") from None
        try:
            _check_peer(connection, own)
        except CodezeroError:
            connection.abort()
            raise
        return connection

    def _context(self, own: Identity) -> ssl.SSLContext:
        if self._made is None or self._made[0] is not own:
            context = certificates.client_context(roots=own.authority, credentials=own.credentials, protocols=(ALPN,))
            self._made = own, context
        return self._made[1]


def _check_peer(connection: TlsConnection, own: Identity) -> None:
    wanted = Workload(own.teamspace, "orchestrator")
    if connection.peer.certificate is None or identity.workload_of(connection.peer.certificate) != wanted:
        raise CodezeroError(problems.BAD_IDENTITY, "what answers at the Orchestrator's address is another part")
    if connection.application_protocol != ALPN:
        raise CodezeroError(problems.VERSIONS, f"the Orchestrator does not speak {ALPN}")


class ForwardedStream(Side):
    """Owner of a laptop's `orchestrator` stream, for an acceptor to return."""

    def __init__(self, orchestrator: Orchestrator, *, device: Device, session: SessionId, tasks: Tasks) -> None:
        super().__init__()
        self._orchestrator = orchestrator
        self._first = messages.frame(Forwarded(str(device), session))
        self._tasks = tasks
        self._stream: TunnelStream | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open; its bytes wait until the Orchestrator is there too."""
        super().connection_made(transport)
        assert isinstance(transport, TunnelStream)
        if not self._tasks.is_open:
            transport.reset(CodezeroError(problems.TUNNEL_DOWN, "the System is being stopped"))
            return
        transport.pause_reading()
        self._stream = transport
        self._task = self._tasks.start("forward", self._connect(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is gone."""
        self._orchestrator.leave(self)
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    def reset(self, why: CodezeroError) -> None:
        """End the stream at once; the laptop is told why, and may come back."""
        if self._stream is not None:
            self._stream.reset(why)

    async def _connect(self, stream: TunnelStream) -> None:
        far = Side()
        try:
            place = await self._orchestrator.place()
            self._orchestrator.enter(self, place)
            connection = await self._orchestrator.connect(place, lambda _: far)
        except CodezeroError as error:
            stream.reset(error)
            return
        finally:
            self._task = None
        if stream.is_closing():
            connection.abort()
            return
        if far.transport is None:
            stream.reset(CodezeroError(problems.UNREACHABLE, "the Orchestrator closed the connection"))
            return
        far.join(self)
        connection.write(self._first)
        stream.resume_reading()
