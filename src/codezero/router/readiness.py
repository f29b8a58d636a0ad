"""Whether this Router can take its service's traffic: Envoy has the listeners it should have. Nothing else counts, the follower least of all."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from codezero.router.admin import Admin, EnvoyAbsentError

LOOK_SECONDS: Final = 0.5
# An Envoy that is started again listens long before; until then a pod that was taken out would leave its service with none.
GRACE_SECONDS: Final = 3.0
# A user waits for the first look that succeeds.
_IMPATIENT_SECONDS: Final = 0.05


class Readiness:
    """Looks at Envoy regularly: ready once it has all `listeners`, and for some seconds after it was last seen to have them."""

    def __init__(self, admin: Admin, *, listeners: frozenset[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self._listeners = listeners
        self._clock = clock
        self._trouble: str | None = "waiting for Envoy"
        self._seen_well: float | None = None

    @property
    def reason(self) -> str | None:
        """Why it is not ready, None when it is."""
        if self._seen_well is not None and self._clock() <= self._seen_well + GRACE_SECONDS:
            return None
        return self._trouble or "Envoy does not answer"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_IMPATIENT_SECONDS if self._trouble else LOOK_SECONDS)

    async def look(self) -> None:
        """Look at Envoy once."""
        self._trouble = await self._found()
        if self._trouble is None:
            self._seen_well = self._clock()

    async def _found(self) -> str | None:
        try:
            if not (await self._admin.state()).is_live:
                return "Envoy is starting"
            missing = self._listeners - await self._admin.listeners()
        except EnvoyAbsentError:
            return "Envoy does not answer"
        return f"Envoy does not listen on {', '.join(sorted(missing))} yet" if missing else None
