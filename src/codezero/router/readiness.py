"""Whether this Router can take its service's traffic: Envoy lives and has the listeners it should have."""

import asyncio
from collections.abc import Callable
from typing import Final

from codezero.router.admin import Admin, EnvoyAbsentError

LOOK_SECONDS: Final = 0.5
# A user waits for the first look that succeeds.
_IMPATIENT_SECONDS: Final = 0.05


class Readiness:
    """Looks at Envoy regularly; `reason` is why it is not ready, None when it is."""

    def __init__(self, admin: Admin, *, listeners: Callable[[], frozenset[str]]) -> None:
        self.reason: str | None = "waiting for Envoy"
        self._admin = admin
        self._listeners = listeners

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.reason = await self._look()
            await asyncio.sleep(LOOK_SECONDS if self.reason is None else _IMPATIENT_SECONDS)

    async def _look(self) -> str | None:
        try:
            state = await self._admin.state()
            if not state.is_live:
                return "Envoy is starting or draining"
            missing = self._listeners() - await self._admin.listeners()
        except EnvoyAbsentError:
            return "Envoy does not answer"
        return f"Envoy does not listen on {', '.join(sorted(missing))} yet" if missing else None
