"""Where Routers bring requests for variants: the server name says which variant and port, the laptop says whether it takes them.

The handshake is held until the laptop has connected to the local process (`tls.Gate`), so that a Router which cannot have the variant has no
connection either, and asks the origin instead within the same request. Who the Router is shows at the end of the handshake, and no byte passes
before. Everything is asked again at each connection: the Serve object and its seal, the session's tunnel, the policy (T18, T20, T25).
"""

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from codezero.kit.logs import get_logger
from codezero.model import access, problems
from codezero.model.access import Act
from codezero.model.ids import SessionId, TeamspaceId, Workload
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system.grants import Grant, Grants
from codezero.system.serving.serves import Serves
from codezero.system.tunnel_port import TunnelPort
from codezero.transport import identity, splice
from codezero.transport.tls import TlsConnection
from codezero.transport.tunnel import TunnelStream
from codezero.wire.router import CONNECTED

# What a laptop has beyond the round trip to it; Routers give up after 0.5 s.
ANSWER_SECONDS: Final = 0.4
# Handshakes held at once. A laptop's tunnel carries 1,000 streams.
MAX_HELD: Final = 1536
MAX_HELD_OF_A_VARIANT: Final = 1024
# Connections at once of one Router, to one variant and to all. What is too much is refused here, where a Router still asks the origin in the same
# request: its own limits would answer 503. Each may hold some MiB in the Router (`routing.envoy`), through which the team's requests go too.
MAX_OF_A_ROUTER: Final = 160
MAX_OF_A_ROUTER_TO_A_VARIANT: Final = 128
# For requests under way when a variant ends. A policy that changes ends them at once.
DRAIN_SECONDS: Final = 5.0

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_NAME: Final = re.compile(r"([1-9][0-9]{0,4})\.([0-7][0-9a-hjkmnp-tv-z]{25})\.variant\.codezero")

_log = get_logger("variants")

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Destination:
    """One port of a variant, and the laptop it is on."""

    service: ServiceRef
    variant_id: str
    port: int
    session: SessionId
    device: str
    acts: tuple[Act, ...]

    def __str__(self) -> str:
        return f"{self.variant_id}:{self.port}"


class VariantPort:
    """A gate (`tls.Gate`) for the port of Routers, and the connections that it let through."""

    def __init__(
        self, *, tunnels: TunnelPort, serves: Serves, grants: Grants, teamspace: Callable[[], TeamspaceId]
    ) -> None:
        self.refused: Counter[str] = Counter()
        self._tunnels = tunnels
        self._serves = serves
        self._grants = grants
        self._teamspace = teamspace
        self._held: dict[_Visit, None] = {}
        self._held_of: Counter[str] = Counter()
        # By the address of a Router, and by address and variant.
        self._open_of: Counter[tuple[str, ...]] = Counter()
        self._open_to: Counter[SessionId] = Counter()
        self._visits: dict[ServiceRef, set[_Visit]] = {}

    @property
    def held(self) -> int:
        """How many handshakes wait for their laptops."""
        return len(self._held)

    @property
    def connections(self) -> int:
        """How many connections lead to variants."""
        return sum(map(len, self._visits.values()))

    def leads_to(self, session: SessionId) -> bool:
        """Whether a connection leads to the laptop of that session, or waits for it."""
        return session in self._open_to

    async def run(self) -> None:
        """End the connections of variants that are gone, until cancelled; then all."""
        try:
            with self._serves.subscribe() as changes:
                while True:
                    for service in await changes.next():
                        self._end_gone(service)
        finally:
            for visit in [*self._held, *(one for visits in self._visits.values() for one in visits)]:
                visit.end(CodezeroError(problems.TUNNEL_DOWN, "the System is being stopped"))

    # --- The gate -----------------------------------------------------------------------------------------------------------------------

    def knows(self, server_name: str | None) -> bool:
        """Whether it is this System's own name, or that of a variant whose laptop can be asked now."""
        if server_name == f"{self._teamspace().lower()}.spaces.codezero.io":
            return True
        try:
            self._find(server_name or "")
        except CodezeroError as error:
            self._note_refused(error, server_name)
            return False
        return True

    def hold(self, connection: TlsConnection) -> asyncio.Protocol | None:
        """Ask the laptop, if the connection is for a variant."""
        name = connection.server_name or ""
        if _NAME.fullmatch(name) is None:
            return None
        visit = _Visit(self, connection)
        try:
            destination = self._find(name)
            self._count(destination, connection.peer.address)
            visit.begin(self._tunnels, destination)
        except CodezeroError as error:
            self._note_refused(error, name)
            connection.abort()
        else:
            self._held[visit] = None
            self._held_of[destination.variant_id] += 1
            self._open_of.update(_counted(connection.peer.address, destination))
            self._open_to[destination.session] += 1
        return visit

    def _find(self, name: str) -> Destination:
        """Where a server name leads now; raises `CodezeroError`."""
        match = _NAME.fullmatch(name)
        found = None if match is None else self._serves.variant(match[2].upper())
        if match is None or found is None:
            raise CodezeroError(problems.SERVE_UNKNOWN, "no variant has that name")
        service, route, _ = found
        port = int(match[1])
        if not any(one.remote_port == port for one in route.ports):
            raise CodezeroError(problems.PORT_NOT_SERVED, f"the variant does not serve port {port}")
        acts = access.serve_acts(
            route.parts, tuple(one.remote_port for one in route.ports), mirror=route.mirror is not None
        )
        destination = Destination(service, route.id, port, SessionId(route.session), route.device, acts)
        self._require(destination)
        return destination

    def _require(self, destination: Destination) -> None:
        device = self._tunnels.device_of(destination.session)
        if device is None or str(device) != destination.device:
            raise CodezeroError(problems.TUNNEL_DOWN, "this System does not hold the laptop's tunnel")
        self._grants.require(device, destination.service, destination.acts)

    def _count(self, destination: Destination, address: str) -> None:
        held = self._held_of
        if len(self._held) >= MAX_HELD or held[destination.variant_id] >= MAX_HELD_OF_A_VARIANT:
            raise CodezeroError(problems.TOO_MANY_STREAMS, "too many connections wait for laptops already")
        router, to_variant = _counted(address, destination)
        if self._open_of[router] >= MAX_OF_A_ROUTER or self._open_of[to_variant] >= MAX_OF_A_ROUTER_TO_A_VARIANT:
            raise CodezeroError(problems.TOO_MANY_STREAMS, "this Router has as many connections as it may have")

    def _note_refused(self, error: CodezeroError, name: str | None) -> None:
        self.refused[error.problem.code] += 1
        _log.debug("connection refused", name=(name or "")[:100], code=error.problem.code, reason=error.detail)

    # --- Called by visits ---------------------------------------------------------------------------------------------------------------

    def admit(self, visit: "_Visit", connection: TlsConnection, destination: Destination) -> None:
        """Let bytes pass: the peer has proven itself. Raises `CodezeroError` unless it is the Router of exactly that service."""
        certificate = connection.peer.certificate
        if certificate is None or connection.application_protocol is not None:
            raise CodezeroError(problems.BAD_IDENTITY, "a variant is for Routers, which show a certificate")
        if identity.workload_of(certificate) != Workload(self._teamspace(), "router", str(destination.service)):
            raise CodezeroError(problems.BAD_IDENTITY, f"the peer is not the Router of {destination.service}")
        # While the laptop was asked the policy may have changed, which has not seen this stream yet.
        self._require(destination)
        device = self._tunnels.device_of(destination.session)
        assert device is not None
        self._grants.note(Grant(device, destination.service, visit.is_over, visit.end, destination.acts))
        self._release_hold(visit, destination)
        self._visits.setdefault(destination.service, set()).add(visit)
        if not self._leads_to(destination):
            # The Router sent its request already: it finishes as all do that are under way when a variant ends.
            visit.end_later(self._leads_to)

    def leave(
        self, visit: "_Visit", address: str, destination: Destination | None, cause: CodezeroError | None
    ) -> None:
        """A visit is over; `cause` is why it never began, where that is so."""
        if destination is None:
            return
        if cause is not None:
            self._note_refused(cause, str(destination))
        self._release_hold(visit, destination)
        for key in _counted(address, destination):
            _decrease(self._open_of, key)
        _decrease(self._open_to, destination.session)
        visits = self._visits.get(destination.service)
        if visits is not None:
            visits.discard(visit)
            if not visits:
                del self._visits[destination.service]

    def _release_hold(self, visit: "_Visit", destination: Destination) -> None:
        if visit in self._held:
            del self._held[visit]
            _decrease(self._held_of, destination.variant_id)

    def _leads_to(self, destination: Destination) -> bool:
        found = self._serves.variant(destination.variant_id)
        return (
            found is not None
            and found[0] == destination.service
            and found[1].device == destination.device
            and any(one.remote_port == destination.port for one in found[1].ports)
        )

    def _end_gone(self, service: ServiceRef) -> None:
        for visit in self._visits.get(service, ()):
            if visit.destination is not None and not self._leads_to(visit.destination):
                visit.end_later(self._leads_to)


def _counted(address: str, destination: Destination) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (address,), (address, destination.variant_id)


def _decrease(counts: Counter[_Key], key: _Key) -> None:
    """One less; what is at nothing is forgotten."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class _Visit(asyncio.Protocol):
    """Owner of a Router's connection to a variant, from the held handshake to the end. `_Answer` owns its stream until both are joined, then a `_Side` each."""

    def __init__(self, port: VariantPort, connection: TlsConnection) -> None:
        self.destination: Destination | None = None
        self._port = port
        self._connection = connection
        self._stream: TunnelStream | None = None
        self._answer: _Answer | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._joined = False
        self._over = False
        self._cause: CodezeroError | None = None

    def begin(self, tunnels: TunnelPort, destination: Destination) -> None:
        """Ask the laptop; raises `CodezeroError` where it cannot be asked."""
        self._answer = _Answer(self)
        self._stream = tunnels.open_serve(
            destination.session, destination.device, target=str(destination), protocol=self._answer
        )
        self.destination = destination
        patience = ANSWER_SECONDS + tunnels.round_trip(destination.session)
        self._deadline = asyncio.get_running_loop().call_later(patience, self._too_late)

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._over

    def end(self, error: CodezeroError) -> None:
        """End both sides at once; the laptop is told why, the Router sees a reset."""
        if self._stream is not None:
            self._stream.reset(error)
        self._refuse(error)

    def end_later(self, leads_to: Callable[[Destination], bool]) -> None:
        """End after a moment in which requests under way finish, unless the variant is back by then."""

        def end() -> None:
            self._deadline = None
            if self.destination is not None and not leads_to(self.destination):
                self.end(CodezeroError(problems.SERVE_UNKNOWN, "the variant has ended"))

        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(DRAIN_SECONDS, end)

    # --- The stream's side, before both are joined ----------------------------------------------------------------------------------------

    def answered(self) -> None:
        """The laptop has connected to the local process."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._connection.let_through()

    def stream_lost(self, exc: Exception | None) -> None:
        """The stream has ended: in order, or by a reset that the other side is to see."""
        if self._over:
            return
        if not self._joined:
            self._refuse(
                exc
                if isinstance(exc, CodezeroError)
                else CodezeroError(problems.DIAL_FAILED, "the laptop ended the stream")
            )
        elif exc is None:
            self._connection.close()
        else:
            splice.reset_socket(self._connection)

    def _too_late(self) -> None:
        self.end(CodezeroError(problems.TIMED_OUT, "the laptop did not answer in time"))

    def _refuse(self, error: CodezeroError) -> None:
        self._cause = self._cause or error
        if self._joined:
            splice.reset_socket(self._connection)
        else:
            self._connection.abort()

    # --- The connection's owner -----------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done: see who it is, then join both sides."""
        stream, answer, destination = self._stream, self._answer, self.destination
        assert stream is not None
        assert answer is not None
        assert destination is not None
        self._connection.accept()
        try:
            self._port.admit(self, self._connection, destination)
        except CodezeroError as error:
            _log.warning(
                "Router refused", peer=self._connection.peer.address, code=error.problem.code, why=error.detail
            )
            self.end(error)
            return
        self._joined = True
        _expect_life(self._connection)
        self._connection.allow_half_close()
        stream.set_protocol(_Side(self._connection, self.stream_lost))
        self._connection.set_protocol(_Side(stream, self.connection_lost))
        if answer.early:
            self._connection.write(answer.early)
        stream.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The Router is gone: after both sides ended in order what it said still reaches the laptop, else the stream is reset."""
        self._over = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._stream is not None:
            if exc is None and self._joined:
                self._stream.close()
            else:
                self._stream.abort()
        cause = None
        if not self._joined:
            lost = (
                CodezeroError(problems.BAD_IDENTITY, f"the handshake failed: {exc.reason}")
                if isinstance(exc, ssl.SSLError)
                else CodezeroError(problems.TIMED_OUT, "the Router gave up")
            )
            cause = self._cause or lost
        self._port.leave(self, self._connection.peer.address, self.destination, cause)


def _expect_life(connection: TlsConnection) -> None:
    """Let a Router whose node is gone without a word be noticed within half a minute, or its streams would be kept for nobody."""
    handle = connection.get_extra_info("socket")
    if handle is not None:
        for level, option, value in _KEEPALIVE:
            handle.setsockopt(level, option, value)


class _Answer(asyncio.Protocol):
    """Owner of the stream until both sides are joined: the laptop's yes, and what comes with it (`early`)."""

    def __init__(self, visit: _Visit) -> None:
        self.early = b""
        self._visit = visit
        self._stream: TunnelStream | None = None
        self._said_yes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        self._stream = cast("TunnelStream", transport)

    def data_received(self, data: bytes) -> None:
        """The yes, and what a server says that speaks first; all else waits in the stream until there is somebody to tell."""
        if self._said_yes or data[:1] != CONNECTED:
            self._visit.end(CodezeroError(problems.PROTOCOL, "the laptop's answer is no answer"))
            return
        self._said_yes = True
        self.early = data[1:]
        cast("TunnelStream", self._stream).pause_reading()
        self._visit.answered()

    def eof_received(self) -> bool:
        """The laptop says no by ending; an end behind its yes waits in the stream, as bytes do."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is gone."""
        self._visit.stream_lost(exc)


class _Side(asyncio.Protocol):
    """Owner of one of both ends, once they are joined: what comes from it goes to the other; each direction ends on its own."""

    def __init__(self, other: asyncio.Transport, lost: Callable[[Exception | None], None]) -> None:
        self._other = other
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        """Bytes for the other side."""
        self._other.write(data)

    def eof_received(self) -> bool:
        """This side sends no more, and still listens."""
        self._other.write_eof()
        return True

    def pause_writing(self) -> None:
        """This side takes no more for now."""
        self._other.pause_reading()

    def resume_writing(self) -> None:
        """This side takes bytes again."""
        self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """This side is gone."""
        self._lost(exc)
