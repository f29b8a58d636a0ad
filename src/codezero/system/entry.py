"""Where laptops connect to, for the Hub: looked for until there is an answer, and again and again, for load balancers come late and nodes go."""

import asyncio
from typing import Final

from codezero.kit.logs import get_logger
from codezero.kit.watched import Watched
from codezero.system.installing.looking import entry_of
from codezero.system.kubernetes.client import ApiClient, ApiError

SOON_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 30.0

_log = get_logger("entry")


class EntryFollower:
    """Keeps `value`, host and port, current; None while nobody can say."""

    def __init__(self, api: ApiClient, *, namespace: str, soon: float = SOON_SECONDS) -> None:
        self.value: Watched[tuple[str, int] | None] = Watched(None)
        self._api = api
        self._namespace = namespace
        self._soon = soon

    async def run(self) -> None:
        """Until cancelled."""
        reason = ""
        while True:
            try:
                entry, missing = await entry_of(self._api, self._namespace)
            except ApiError as error:
                entry, missing = None, str(error)
            if entry is not None:
                self.value.set((entry.host, entry.port))
            elif missing and missing != reason:
                _log.info("laptops have no way in yet", reason=missing)
            reason = missing
            await asyncio.sleep(LOOK_SECONDS if entry is not None else self._soon)
