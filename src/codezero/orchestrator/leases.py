"""Sessions that end when nobody holds them any longer: online, then away, then gone. Time is a value: seconds of a steady clock.

A laptop holds its session by its coordination stream, which runs inside the tunnel and ends with it. The System ends a silent tunnel after
`DEAD_SECONDS`, so that a lost laptop is away at most `AWAY_SECONDS` after its last byte.
"""

from dataclasses import dataclass
from typing import Final

from codezero.model.ids import SessionId
from codezero.model.sessions import PresenceState
from codezero.wire.control import AWAY_SECONDS, DEAD_SECONDS

GRACE_SECONDS: Final = AWAY_SECONDS - DEAD_SECONDS
DEFAULT_TTL_SECONDS: Final = 8 * 3600.0


@dataclass(frozen=True, slots=True)
class Lapse:
    """A session that fell to a lower state because nobody held it for long enough."""

    session: SessionId
    state: PresenceState


@dataclass(slots=True)
class _Lease:
    state: PresenceState
    lost: float | None = None


class Leases:
    """Who holds a session now; `expire` tells what lapsed."""

    def __init__(self, *, grace: float = GRACE_SECONDS, ttl: float = DEFAULT_TTL_SECONDS) -> None:
        self._grace = grace
        self._ttl = ttl
        self._leases: dict[SessionId, _Lease] = {}
        # Only those that nobody holds: looking for lapses costs nothing while everybody is there.
        self._lost: set[SessionId] = set()

    def __len__(self) -> int:
        return len(self._leases)

    def state(self, session: SessionId) -> PresenceState:
        """How the session is; `gone` when there is none."""
        lease = self._leases.get(session)
        return PresenceState.GONE if lease is None else lease.state

    def is_held(self, session: SessionId) -> bool:
        """Whether a laptop holds the session at this moment: nothing may be sent its way otherwise."""
        return session in self._leases and session not in self._lost

    def hold(self, session: SessionId) -> PresenceState:
        """The laptop is there (again); tells how the session was before."""
        before = self.state(session)
        self._leases[session] = _Lease(PresenceState.ONLINE)
        self._lost.discard(session)
        return before

    def lose(self, session: SessionId, now: float) -> None:
        """The laptop is not heard any longer; it may come back. The first loss counts."""
        lease = self._leases.get(session)
        if lease is not None and lease.lost is None:
            lease.lost = now
            self._lost.add(session)

    def end(self, session: SessionId) -> None:
        """The session is over."""
        self._leases.pop(session, None)
        self._lost.discard(session)

    def expire(self, now: float) -> tuple[Lapse, ...]:
        """What lapsed up to `now`, each once."""
        lapses: list[Lapse] = []
        for session in sorted(self._lost):
            lease = self._leases[session]
            silent = now - (lease.lost or 0.0)
            if silent >= self._ttl:
                lapses.append(Lapse(session, PresenceState.GONE))
                self.end(session)
            elif silent >= self._grace and lease.state is PresenceState.ONLINE:
                lease.state = PresenceState.AWAY
                lapses.append(Lapse(session, PresenceState.AWAY))
        return tuple(lapses)
