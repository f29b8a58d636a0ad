"""Keeps the tunnel to the selected Teamspace: connects, comes back after a loss with the same session, and always knows how it stands."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives.serialization import Encoding

from codezero import __version__
from codezero.kit import certificates, logs
from codezero.kit.backoff import Backoff
from codezero.kit.certificates import CertificateError, Credentials
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import Device, SessionId
from codezero.model.problems import CodezeroError
from codezero.transport.tunnel import Acceptor, ClientTunnel, Timing, TunnelStream, connect_tunnel
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.control import Farewell
from codezero.wire.local_api import TunnelState, TunnelView
from codezero.wire.open_header import OpenHeader

MOST_DELAY = 5.0
# A tunnel that lasted this long was good: the next loss is answered at once.
GOOD_SECONDS = 10.0
# Somebody else's refusal (identity, policy, versions) does not pass by itself; still asked now and then, as it may be repaired there.
REFUSED_DELAY = 30.0
# How often to look whether a tunnel by an older certificate is idle: there are hours until that one runs out, and the Teamspace ends it.
EXCHANGE_LOOK_SECONDS = 20.0
# Exit codes of problems that say: sign in, or not allowed.
_REFUSALS = frozenset({4, 5})

_log = logs.get_logger("link")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Where the link stands while there is no tunnel: why, and when (of the loop's clock) it is tried again."""

    cause: CodezeroError | None = None
    next_at: float | None = None


def check(access: TeamspaceAccess) -> ssl.SSLContext:
    """The TLS context for a Teamspace; raises `CodezeroError` when certificate, key or roots cannot be used."""
    try:
        credentials = Credentials.from_pem(access.certificate, access.key)
        return certificates.client_context(roots=access.roots, credentials=credentials)
    except (CertificateError, ssl.SSLError, ValueError, TypeError) as error:
        # `ssl` says TypeError of text that is not ASCII.
        fix = "download the access file again" if access.hub is None else "czctl start"
        raise CodezeroError(
            problems.BAD_IDENTITY, f"the access to Teamspace {access.name!r} cannot be used: {error}", fix=fix
        ) from None


def device_of(access: TeamspaceAccess) -> Device | None:
    """Who the access file says we are, by its certificate; None where it names no device, which no Teamspace accepts."""
    try:
        leaf = Credentials.from_pem(access.certificate, access.key).chain[0]
        (uri,) = certificates.uris_of(leaf.public_bytes(Encoding.DER))
        return Device.parse(uri)
    except (ValueError, CodezeroError):
        return None


def is_refusal(cause: CodezeroError) -> bool:
    """Whether the Teamspace has said that it does not want us, which does not pass by itself."""
    return cause.problem is problems.VERSIONS or cause.problem.exit_code in _REFUSALS


def refuse_stream(header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
    """The acceptor of a laptop that serves nothing."""
    raise CodezeroError(problems.STREAM_KIND_UNKNOWN, f"this laptop takes no streams of kind {header.kind}")


class Link:
    """The tunnel to one Teamspace, or the attempts to have one. `tunnel` is None while there is none; watch it to learn of changes.

    `save_session` is told the session whenever it changes. `acceptor` takes the streams that the System opens.
    """

    def __init__(
        self,
        access: TeamspaceAccess,
        *,
        session: SessionId | None = None,
        save_session: Callable[[SessionId], None] = lambda _: None,
        acceptor: Acceptor = refuse_stream,
        timing: Timing | None = None,
    ) -> None:
        """Raises `CodezeroError` as `check`."""
        self.access = access
        self.tunnel: Watched[ClientTunnel | None] = Watched(None)
        self.attempt: Watched[Attempt] = Watched(Attempt())
        self._context = check(access)
        self._session = session
        self._save_session = save_session
        self._acceptor = acceptor
        self._timing = timing
        self._hurry = asyncio.Event()
        self._since: float | None = None
        self._tunnels = 0

    async def keep(self) -> None:
        """Have a tunnel for as long as this runs; cancelled, it says goodbye and ends it."""
        backoff = Backoff(most=MOST_DELAY)
        while True:
            tried = self.access
            try:
                async with self._connected() as tunnel:
                    connected_at = asyncio.get_running_loop().time()
                    cause = await self._end_of(tunnel, tried)
                if cause is None:
                    _log.info("the tunnel is made anew, by the renewed certificate")
                    continue
                refused = tunnel.farewell is not None and not tunnel.farewell.retry
                if asyncio.get_running_loop().time() - connected_at > GOOD_SECONDS:
                    backoff.reset()
                _log.warning("tunnel lost", reason=cause.detail)
            except CodezeroError as error:
                cause = error
                refused = is_refusal(error)
                _log.warning("no tunnel", reason=error.detail)
            # A refusal was not about the access that came meanwhile.
            refused = refused and self.access is tried
            await self._wait(cause, REFUSED_DELAY if refused else backoff.next())

    async def _end_of(self, tunnel: ClientTunnel, made_by: TeamspaceAccess) -> CodezeroError | None:
        """Why the tunnel ended. None where it is better ended now: it was made by a certificate that runs out, and nobody would notice."""
        while True:
            ended, _ = await asyncio.wait((tunnel.closed,), timeout=EXCHANGE_LOOK_SECONDS)
            if ended:
                return tunnel.closed.result()
            # One is that of the live picture.
            if self.access is not made_by and tunnel.streams <= 1:
                return None

    def use(self, access: TeamspaceAccess) -> None:
        """Take a renewed certificate, or another address, for the next connection. Raises `CodezeroError` as `check`.

        A tunnel that stands is left alone for as long as anything goes through it.
        """
        self._context = check(access)
        self.access = access

    def hurry(self) -> None:
        """Try again now if an attempt is being waited for."""
        self._hurry.set()

    def view(self) -> TunnelView:
        """How it stands now."""
        now = asyncio.get_running_loop().time()
        tunnel = self.tunnel.value
        attempt = self.attempt.value
        if tunnel is None or tunnel.is_closed:
            cause = tunnel.closed.result() if tunnel is not None else attempt.cause
            return TunnelView(
                TunnelState.CONNECTING,
                session=self._session,
                since=self._since,
                reconnects=max(0, self._tunnels - 1),
                cause=cause.detail if cause is not None else None,
                next_attempt_in=max(0.0, attempt.next_at - now) if attempt.next_at is not None else None,
            )
        return TunnelView(
            TunnelState.CONNECTED,
            session=tunnel.session,
            since=self._since,
            silent_for=max(0.0, now - tunnel.last_heard),
            streams=tunnel.streams,
            bytes_sent=tunnel.bytes_sent,
            bytes_received=tunnel.bytes_received,
            reconnects=max(0, self._tunnels - 1),
        )

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[ClientTunnel, None]:
        access = self.access
        self.attempt.set(Attempt(self.attempt.value.cause))
        tunnel = await connect_tunnel(
            access.host,
            access.port,
            context=self._context,
            server_name=access.server_name,
            release=__version__,
            session=self._session,
            acceptor=self._acceptor,
            timing=self._timing,
        )
        self._tunnels += 1
        if tunnel.session != self._session:
            self._session = tunnel.session
            self._save_session(tunnel.session)
        self._since = time.time()
        self.attempt.set(Attempt())
        self.tunnel.set(tunnel)
        _log.info("tunnel stands", teamspace=access.name, address=f"{access.host}:{access.port}")
        try:
            yield tunnel
        finally:
            self.tunnel.set(None)
            self._since = time.time()
            if not tunnel.is_closed:
                await tunnel.close(Farewell(problems.TUNNEL_DOWN.code, "the laptop ends the tunnel", retry=False))

    async def _wait(self, cause: CodezeroError, seconds: float) -> None:
        self._hurry.clear()
        self.attempt.set(Attempt(cause, asyncio.get_running_loop().time() + seconds))
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass
