"""What the System has to tell the Orchestrator about laptops, bounded: the newest state of each tunnel, and some refusals a second."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from codezero.model.ids import Device, SessionId
from codezero.model.services import ServiceRef
from codezero.wire.coordination import StreamRefused, TunnelReport

KEPT_REFUSALS: Final = 256
# Of one laptop: so many at once, and then one each second. The list is for people.
REFUSAL_BURST: Final = 10
REFUSALS_PER_SECOND: Final = 1.0


class Outbox:
    """Collects reports while the Orchestrator is away or slow; `steady` is a clock that never jumps, in seconds."""

    def __init__(self, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._up: dict[SessionId, Device] = {}
        self._tunnels: dict[SessionId, TunnelReport] = {}
        self._refusals: deque[StreamRefused] = deque(maxlen=KEPT_REFUSALS)
        self._allowance: dict[SessionId, tuple[float, float]] = {}
        self._wake = asyncio.Event()

    def tunnel_up(self, session: SessionId, device: Device) -> None:
        """A laptop's tunnel stands."""
        self._up[session] = device
        self._report(TunnelReport(session, str(device), True))

    def tunnel_down(self, session: SessionId) -> None:
        """A session has no tunnel any more."""
        device = self._up.pop(session, None)
        self._allowance.pop(session, None)
        if device is not None:
            self._report(TunnelReport(session, str(device), False))

    def stream_refused(self, session: SessionId, service: ServiceRef | None, code: str, detail: str) -> None:
        """A stream was refused; a laptop that is refused all the time is told about only now and then."""
        now = self._steady()
        tokens, since = self._allowance.get(session, (float(REFUSAL_BURST), now))
        tokens = min(REFUSAL_BURST, tokens + (now - since) * REFUSALS_PER_SECOND)
        if tokens >= 1:
            tokens -= 1
            self._refusals.append(StreamRefused(session, service, code, detail[:1000]))
            self._wake.set()
        if session in self._up:
            self._allowance[session] = tokens, now

    def begin(self) -> None:
        """A new connection to the Orchestrator, which knows nothing: tell it about all tunnels."""
        self._tunnels = {session: TunnelReport(session, str(device), True) for session, device in self._up.items()}
        self._wake.set()

    async def take(self) -> list[TunnelReport | StreamRefused]:
        """What is to be told, at least one report; they are gone from here then."""
        while not (self._tunnels or self._refusals):
            self._wake.clear()
            await self._wake.wait()
        taken: list[TunnelReport | StreamRefused] = [*self._tunnels.values(), *self._refusals]
        self._tunnels.clear()
        self._refusals.clear()
        return taken

    def _report(self, report: TunnelReport) -> None:
        self._tunnels[report.session] = report
        self._wake.set()
