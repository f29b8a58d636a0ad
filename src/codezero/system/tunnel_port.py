"""The in-cluster end of the laptops' tunnels: who a laptop is, its session, and what its streams lead to.

A stream names a catalog id. The policy is asked at each stream, then the inventory for ready endpoints; the laptop never names an address.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509

from codezero import __version__
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.access import CONSUME
from codezero.model.ids import Device, SessionId, is_ulid, new_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.services import CatalogId, ServiceRef
from codezero.system.dialling import Dialler
from codezero.system.forward import ForwardedStream, Orchestrator
from codezero.system.grants import Grant, Grants
from codezero.system.outbox import Outbox
from codezero.transport import splice
from codezero.transport.opinion import Opinion
from codezero.transport.splice import DatagramStream, SocketFactory
from codezero.transport.tls import Peer, TlsConnection
from codezero.transport.tunnel import ServerTunnel, Timing, TunnelStream
from codezero.wire.control import TUNNEL_VERSIONS, Farewell, TunnelHello, TunnelWelcome
from codezero.wire.mux import Limits
from codezero.wire.open_header import OpenHeader, StreamKind

MAX_STREAMS: Final = Limits().streams
MAX_TUNNELS: Final = 4000
MAX_TUNNELS_OF_A_DEVICE: Final = 16
# Each is a TLS connection to the Orchestrator; a laptop needs one, and a second for a moment when it comes back.
MAX_COORDINATIONS: Final = 4
# Sessions whose laptops may come back are kept for them; a Teamspace has 10,000 at most.
REMEMBERED_OWNERS: Final = 20_000
EXPIRY_LOOK_SECONDS: Final = 5.0
DRAIN_SECONDS: Final = 5.0
EARLY_DATAGRAMS: Final = 32

# What is told as "refused" to the team; the rest are failures that the laptop alone hears of.
_REFUSALS: Final[tuple[Problem, ...]] = (
    problems.FORBIDDEN,
    problems.NO_POLICY,
    problems.ACCESS_ENDED,
    problems.ADDRESS_REFUSED,
    problems.SERVICE_UNKNOWN,
    problems.BAD_REQUEST,
)

_STOPPING: Final = Farewell(problems.TUNNEL_DOWN.code, "the System is being stopped or replaced", retry=True)

_log = get_logger("tunnels")


@dataclass(eq=False, slots=True)
class _Laptop:
    """A tunnel that stands."""

    device: Device
    tunnel: ServerTunnel
    expires: float
    coordinations: list[TunnelStream] = field(default_factory=list[TunnelStream])


class TunnelPort:
    """Takes tunnels of laptops whose certificates the device issuer signed. `clock` gives UNIX time."""

    def __init__(
        self,
        *,
        grants: Grants,
        dialler: Dialler,
        orchestrator: Orchestrator,
        outbox: Outbox,
        clock: Callable[[], float] = time.time,
        timing: Timing | None = None,
        opinion: Opinion | None = None,
    ) -> None:
        self._grants = grants
        self._opinion = opinion or Opinion()
        self._dialler = dialler
        self._orchestrator = orchestrator
        self._outbox = outbox
        self._clock = clock
        self._timing = timing
        self._laptops: dict[SessionId, _Laptop] = {}
        self._tunnels_of: Counter[Device] = Counter()
        self._owners: OrderedDict[SessionId, Device] = OrderedDict()
        self._followers: list[Callable[[SessionId], None]] = []
        self._tasks: Tasks | None = None
        grants.follow(self._end_refused)

    @property
    def tunnels(self) -> int:
        """How many tunnels stand."""
        return len(self._laptops)

    @property
    def streams(self) -> int:
        """How many streams they carry."""
        return sum(laptop.tunnel.streams for laptop in self._laptops.values())

    @property
    def sessions(self) -> frozenset[SessionId]:
        """The sessions whose tunnels stand here."""
        return frozenset(self._laptops)

    def device_of(self, session: SessionId) -> Device | None:
        """The laptop at the end of a session's tunnel; None where there is no such tunnel here."""
        laptop = self._laptops.get(session)
        return None if laptop is None else laptop.device

    def round_trip(self, session: SessionId) -> float:
        """Seconds to the laptop of a session and back, as measured last; 0 where nothing is known."""
        laptop = self._laptops.get(session)
        return 0.0 if laptop is None else laptop.tunnel.round_trip or 0.0

    def follow(self, told: Callable[[SessionId], None]) -> None:
        """Call `told` with each session whose tunnel comes or goes, right after it did."""
        self._followers.append(told)

    def open_serve(
        self, session: SessionId, device: str, *, target: str, protocol: asyncio.Protocol, trace: str = ""
    ) -> TunnelStream:
        """A stream to the laptop of a session for `target`, a variant and a port of it. The policy is the caller's to ask.

        Raises `CodezeroError`: TUNNEL_DOWN where this System does not hold the session's tunnel, or another device does; TOO_MANY_STREAMS.
        """
        laptop = self._laptops.get(session)
        if laptop is None or str(laptop.device) != device:
            raise CodezeroError(problems.TUNNEL_DOWN, "this System does not hold the laptop's tunnel")
        return laptop.tunnel.open(OpenHeader(StreamKind.SERVE, target, trace), protocol)

    async def run(self) -> None:
        """Keep tunnels and their streams going until cancelled."""
        async with task_group("tunnels") as tasks:
            self._tasks = tasks
            await self._watch_expiry()

    def consumes(self, session: SessionId) -> bool:
        """Whether a session's tunnel carries a consumed connection at this moment."""
        laptop = self._laptops.get(session)
        return laptop is not None and laptop.tunnel.carries(StreamKind.CONSUME)

    async def send_away(self, session: SessionId) -> None:
        """Let the laptop of a session come back at once, to another System or to this one's successor."""
        laptop = self._laptops.get(session)
        if laptop is not None:
            await _close(laptop.tunnel, _STOPPING)

    def end(self, session: SessionId, reason: str) -> None:
        """End a session's tunnel by somebody's decision; its laptop does not come back at once."""
        laptop = self._laptops.get(session)
        if laptop is not None:
            self._start_closing(laptop.tunnel, Farewell(problems.SESSION_ENDED.code, reason[:1000], retry=False))

    async def drain(self) -> None:
        """Send all laptops away."""
        async with task_group("drain") as tasks:
            for session in tuple(self._laptops):
                tasks.start("farewell", self.send_away(session))

    def connection(self, connection: TlsConnection) -> asyncio.BaseProtocol:
        """The owner of a new connection of a laptop."""
        laptop: list[_Laptop] = []

        def welcome(hello: TunnelHello, peer: Peer) -> TunnelWelcome:
            device, expires = _prove(peer)
            self._grants.require_device(device)
            laptop.append(_Laptop(device, tunnel, expires))
            return TunnelWelcome(
                max(set(hello.versions) & set(TUNNEL_VERSIONS)),
                __version__,
                self._session_for(device, hello.session),
                MAX_STREAMS,
            )

        def accept(header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
            return self._accept(laptop[0], header, stream)

        tunnel = ServerTunnel.start(
            connection,
            welcome=welcome,
            acceptor=accept,
            established=lambda _: self._established(laptop[0]),
            timing=self._timing,
        )
        return tunnel

    # --- sessions -------------------------------------------------------------------------------------------------------------------

    def _session_for(self, device: Device, claimed: SessionId | None) -> SessionId:
        """The session a laptop claims, unless another laptop has or had it; else a new one."""
        # Teammates see each other's sessions, so knowing one proves nothing.
        if claimed is not None and is_ulid(claimed) and self._owners.get(claimed, device) == device:
            # One that stands is known even when so many came later that its owner is forgotten.
            standing = self._laptops.get(claimed)
            if standing is None or standing.device == device:
                return claimed
        return SessionId(new_ulid())

    def _established(self, laptop: _Laptop) -> None:
        tunnel, device = laptop.tunnel, laptop.device
        session = tunnel.session
        before = self._laptops.get(session)
        if before is None and (reason := self._no_room_for(device)) is not None:
            self._start_closing(tunnel, Farewell(problems.TUNNEL_DOWN.code, reason, retry=True))
            return
        if before is None:
            self._tunnels_of[device] += 1
        self._laptops[session] = laptop
        self._owners[session] = device
        self._owners.move_to_end(session)
        if len(self._owners) > REMEMBERED_OWNERS:
            self._owners.popitem(last=False)
        if before is not None:
            self._start_closing(
                before.tunnel,
                Farewell(problems.TUNNEL_DOWN.code, "a newer connection of this session took over", retry=False),
            )
        self._outbox.tunnel_up(session, device)
        tunnel.closed.add_done_callback(lambda _: self._ended(laptop))
        self._tell(session)
        _log.info(
            "tunnel up", session=session, device=str(device), peer=tunnel.peer.address, resumed=before is not None
        )

    def _no_room_for(self, device: Device) -> str | None:
        if len(self._laptops) >= MAX_TUNNELS:
            return f"this System has {MAX_TUNNELS} tunnels already"
        own = self._tunnels_of[device]
        if own >= MAX_TUNNELS_OF_A_DEVICE:
            return f"this device has {own} tunnels already"
        return None

    def _ended(self, laptop: _Laptop) -> None:
        session = laptop.tunnel.session
        if self._laptops.get(session) is laptop:
            del self._laptops[session]
            self._tunnels_of[laptop.device] -= 1
            if not self._tunnels_of[laptop.device]:
                del self._tunnels_of[laptop.device]
            self._outbox.tunnel_down(session)
            self._tell(session)
        _log.info("tunnel down", session=session, cause=laptop.tunnel.closed.result().detail)

    def _tell(self, session: SessionId) -> None:
        for told in self._followers:
            told(session)

    def _start_closing(self, tunnel: ServerTunnel, farewell: Farewell) -> None:
        if self._tasks is not None and self._tasks.is_open:
            self._tasks.start("farewell", _close(tunnel, farewell))
        else:
            tunnel.abandon()

    async def _watch_expiry(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_LOOK_SECONDS)
            self.end_expired()

    def end_expired(self) -> None:
        """End the tunnels whose laptops' certificates have expired."""
        now = self._clock()
        for laptop in list(self._laptops.values()):
            if laptop.expires <= now:
                detail = "the laptop's certificate has expired"
                self._start_closing(laptop.tunnel, Farewell(problems.BAD_IDENTITY.code, detail, retry=True))

    def _end_refused(self) -> None:
        """End the tunnels of devices that have lost all access: their streams are ended already, their presence ends with the tunnel."""
        for laptop in list(self._laptops.values()):
            try:
                self._grants.require_device(laptop.device)
            except CodezeroError as error:
                _log.info("tunnel ended by the policy", session=laptop.tunnel.session, device=str(laptop.device))
                self._start_closing(laptop.tunnel, Farewell(error.problem.code, error.detail, retry=True))

    # --- streams --------------------------------------------------------------------------------------------------------------------

    def _accept(self, laptop: _Laptop, header: OpenHeader, stream: TunnelStream) -> asyncio.Protocol:
        if self._tasks is None:
            raise CodezeroError(problems.TUNNEL_DOWN, "the System is being started")
        match header.kind:
            case StreamKind.CONSUME:
                wanted = self._admit(laptop, header, stream)
                return splice.dialled(self._dialling(laptop, wanted), tasks=self._tasks)
            case StreamKind.DATAGRAMS:
                wanted = self._admit(laptop, header, stream)
                return _Datagrams(lambda factory: self._dial_datagrams(laptop, wanted, factory), tasks=self._tasks)
            case StreamKind.ORCHESTRATOR:
                _count_coordination(laptop, stream)
                return ForwardedStream(
                    self._orchestrator, device=laptop.device, session=laptop.tunnel.session, tasks=self._tasks
                )
            case _:
                raise CodezeroError(
                    problems.STREAM_KIND_UNKNOWN, f"a System takes no streams of kind {header.kind} from a laptop"
                )

    def _admit(self, laptop: _Laptop, header: OpenHeader, stream: TunnelStream) -> CatalogId:
        service: ServiceRef | None = None
        try:
            wanted = CatalogId.parse(header.target)
            service = wanted.service
            self._grants.require(laptop.device, service)
        except CodezeroError as error:
            self._tell_refused(laptop, service, error)
            raise
        self._grants.note(Grant(laptop.device, service, stream.is_closing, stream.reset))
        return wanted

    def _dialling(self, laptop: _Laptop, wanted: CatalogId) -> Callable[[SocketFactory], Awaitable[Any]]:
        async def dial(factory: SocketFactory) -> None:
            try:
                await self._opinion.require(self._grants.policy, laptop.device, wanted.service, (CONSUME,))
                await self._dialler.dial(wanted, factory, client=laptop.device.device)
            except CodezeroError as error:
                self._tell_refused(laptop, wanted.service, error)
                raise

        return dial

    async def _dial_datagrams(
        self, laptop: _Laptop, wanted: CatalogId, factory: Callable[[], asyncio.DatagramProtocol]
    ) -> asyncio.DatagramTransport:
        try:
            await self._opinion.require(self._grants.policy, laptop.device, wanted.service, (CONSUME,))
            return await self._dialler.dial_datagrams(wanted, factory, client=laptop.device.device)
        except CodezeroError as error:
            self._tell_refused(laptop, wanted.service, error)
            raise

    def _tell_refused(self, laptop: _Laptop, service: ServiceRef | None, error: CodezeroError) -> None:
        if error.problem in _REFUSALS:
            self._outbox.stream_refused(laptop.tunnel.session, service, error.problem.code, error.detail)


class _Datagrams(DatagramStream):
    """Owner of a laptop's UDP stream: a socket of its own towards one endpoint."""

    def __init__(
        self,
        dial: Callable[[Callable[[], asyncio.DatagramProtocol]], Awaitable[asyncio.DatagramTransport]],
        *,
        tasks: Tasks,
    ) -> None:
        super().__init__(self._from_laptop, self._stream_ended)
        self._dial = dial
        self._tasks = tasks
        self._early: list[bytes] = []
        self._socket: asyncio.DatagramTransport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, TunnelStream)
        if not self._tasks.is_open:
            transport.reset(CodezeroError(problems.TUNNEL_DOWN, "the System is being stopped"))
            return
        self._task = self._tasks.start("dial datagrams", self._connect(transport))

    async def _connect(self, stream: TunnelStream) -> None:
        try:
            async with asyncio.timeout(10):
                connected = await self._dial(lambda: _DatagramSocket(self.send))
        except TimeoutError:
            stream.reset(CodezeroError(problems.DIAL_FAILED, "no answer within 10 s"))
            return
        except CodezeroError as error:
            stream.reset(error)
            return
        finally:
            self._task = None
        if stream.is_closing():
            connected.close()
            return
        self._socket = connected
        for datagram in self._early:
            connected.sendto(datagram)
        self._early.clear()

    def _from_laptop(self, datagram: bytes) -> None:
        if self._socket is not None:
            self._socket.sendto(datagram)
        elif len(self._early) < EARLY_DATAGRAMS:
            self._early.append(datagram)

    def _stream_ended(self, _cause: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _DatagramSocket(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._received(data)

    def error_received(self, exc: Exception) -> None:
        """The endpoint's port is closed at the moment: datagrams get lost, which their senders have to bear anyway."""


def _count_coordination(laptop: _Laptop, stream: TunnelStream) -> None:
    laptop.coordinations = [other for other in laptop.coordinations if not other.is_closing()]
    if len(laptop.coordinations) >= MAX_COORDINATIONS:
        raise CodezeroError(
            problems.TOO_MANY_STREAMS, f"{MAX_COORDINATIONS} streams of this tunnel lead to the Orchestrator already"
        )
    laptop.coordinations.append(stream)


async def _close(tunnel: ServerTunnel, farewell: Farewell) -> None:
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await tunnel.close(farewell)
    except TimeoutError:
        tunnel.abandon()


def _prove(peer: Peer) -> tuple[Device, float]:
    """Whose certificate it is, and until when (UNIX time); raises `CodezeroError` (BAD_IDENTITY)."""
    if peer.certificate is None:
        raise CodezeroError(problems.BAD_IDENTITY, "the laptop showed no certificate")
    if len(peer.uris) != 1:
        raise CodezeroError(problems.BAD_IDENTITY, f"the laptop's certificate has {len(peer.uris)} URIs instead of one")
    device = Device.parse(peer.uris[0])
    return device, x509.load_der_x509_certificate(peer.certificate).not_valid_after_utc.timestamp()
