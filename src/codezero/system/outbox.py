"""What the System has to tell the Orchestrator about laptops and variants, bounded.

The newest state of each tunnel, some refusals a second, the ends of variants, and traces of requests while they are wanted.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from codezero.model.ids import Device, SessionId
from codezero.model.services import ServiceRef
from codezero.model.variants import VariantView
from codezero.wire.coordination import StreamRefused, TraceReport, TunnelReport, VariantEnded
from codezero.wire.tracing import TraceRecord

Report = TunnelReport | StreamRefused | VariantEnded | TraceReport

KEPT_REFUSALS: Final = 256
# Ends are for the list of activities too; the catalog is what counts.
KEPT_ENDS: Final = 1000
KEPT_RECORDS: Final = 2000
RECORDS_IN_A_REPORT: Final = 200
# Of one laptop: so many at once, and then one each second. The list is for people.
REFUSAL_BURST: Final = 10
REFUSALS_PER_SECOND: Final = 1.0
# Variants whose requests are counted at a time.
MAX_COUNTED: Final = 10_000


class Outbox:
    """Collects reports while the Orchestrator is away or slow; `steady` is a clock that never jumps, in seconds."""

    def __init__(self, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._up: dict[SessionId, Device] = {}
        self._tunnels: dict[SessionId, TunnelReport] = {}
        self._refusals: deque[StreamRefused] = deque(maxlen=KEPT_REFUSALS)
        self._allowance: dict[SessionId, tuple[float, float]] = {}
        self._ends: deque[VariantEnded] = deque(maxlen=KEPT_ENDS)
        self._records: deque[TraceRecord] = deque()
        self._dropped = 0
        self._traces_wanted = False
        self._counts: Counter[str] = Counter()
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

    def variant_ended(self, service: ServiceRef, variant: VariantView, reason: str) -> None:
        """A variant ended without an order."""
        self._ends.append(VariantEnded(service, variant, reason[:1000]))
        self._wake.set()

    def want_traces(self, on: bool) -> None:
        """Whether requests to variants are to be told from now on."""
        self._traces_wanted = on
        if not on:
            self._records.clear()
            self._dropped = 0

    def traced(self, records: Sequence[TraceRecord], dropped: int) -> None:
        """Requests to variants, and how many more nobody can tell about. Nothing is kept while nobody wants to know."""
        if not self._traces_wanted or not (records or dropped):
            return
        room = max(0, KEPT_RECORDS - len(self._records))
        self._records.extend(records[:room])
        self._dropped += dropped + max(0, len(records) - room)
        self._wake.set()

    def count(self, records: Sequence[TraceRecord]) -> None:
        """Count the requests that variants have answered."""
        for record in records:
            if not record.fallback and (record.variant in self._counts or len(self._counts) < MAX_COUNTED):
                self._counts[record.variant] += 1

    def take_counts(self) -> tuple[tuple[str, int], ...]:
        """How many requests each variant has answered since the last time."""
        taken = tuple(self._counts.items())
        self._counts.clear()
        return taken

    def begin(self) -> None:
        """A new connection to the Orchestrator, which knows nothing and has not asked for traces: tell it about all tunnels."""
        self.want_traces(on=False)
        self._tunnels = {session: TunnelReport(session, str(device), True) for session, device in self._up.items()}
        self._wake.set()

    async def take(self) -> list[Report]:
        """What is to be told, at least one report; they are gone from here then."""
        while not (self._tunnels or self._refusals or self._ends or self._records or self._dropped):
            self._wake.clear()
            await self._wake.wait()
        taken: list[Report] = [*self._tunnels.values(), *self._refusals, *self._ends, *self._traces()]
        self._tunnels.clear()
        self._refusals.clear()
        self._ends.clear()
        return taken

    def _traces(self) -> Iterator[TraceReport]:
        while self._records or self._dropped:
            part = [self._records.popleft() for _ in range(min(RECORDS_IN_A_REPORT, len(self._records)))]
            dropped, self._dropped = self._dropped, 0
            yield TraceReport(tuple(part), dropped)

    def _report(self, report: TunnelReport) -> None:
        self._tunnels[report.session] = report
        self._wake.set()
